"""A real bot on a simulated Discord, for every test of what users see and click."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import simcord
from discord.webhook.async_ import AsyncWebhookAdapter
from simcord.backend import cdn
from simcord.backend.models.interaction import Interaction
from simcord.http.client import FakeWebhookAdapter

from bot.app import Bot
from bot.media.image_pool import ImagePool
from bot.store.admin.verify import verify_location
from cogs.alerts import spending_alerts
from cogs.generate.delivery import reply_updater
from cogs.generate.ordering import order_flow
from cogs.ui import initial_response
from tests.support.discord_core import Core, opened_core
from tests.support.discord_stage import RunningClock, Stage
from tests.support.fakes import until
from tests.support.kept_processes import KeepingImagePool

SETTLE_SECONDS = 60.0
"""On a busy machine a bot, or the process that draws charts, starts slowly."""


@pytest.fixture
async def image_pool() -> AsyncGenerator[ImagePool]:
    """Provide a pool for this test's event loop; it starts a process only when one is needed and none was kept."""
    image_pool = KeepingImagePool()
    yield image_pool
    await image_pool.close()


@pytest.fixture
def slots() -> int:
    """Jobs that a provider works on at a time; a test may ask for fewer."""
    return 8


_registered: list[dict[str, Any]] = []
"""The commands as the first bot of this process registered them. A bot translates thousands of texts to do it."""


@pytest.fixture
def direct_quota_usd_micros() -> int:
    """Return what people may spend outside servers; a test may let them."""
    return 0


@pytest.fixture
def registers_commands(direct_quota_usd_micros: int) -> bool:
    """Whether the bot registers its commands; a test may ask for it."""
    return not _registered or bool(direct_quota_usd_micros)


@pytest.fixture
async def core(
    tmp_path: Path, image_pool: ImagePool, slots: int, registers_commands: bool, direct_quota_usd_micros: int
) -> AsyncGenerator[Core]:
    async with opened_core(
        tmp_path,
        image_pool,
        slots=slots,
        registers_commands=registers_commands,
        direct_quota_usd_micros=direct_quota_usd_micros,
    ) as core:
        yield core
    assert verify_location(core.settings.database_url) == []


@pytest.fixture(autouse=True)
def _patient_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    settle = simcord.Env._settle_internal

    async def settle_soon(self: simcord.Env, **options: Any) -> None:
        if options.get("timeout") is not None:  # the start of a bot has 5 seconds, whatever the environment says
            options["timeout"] = max(options["timeout"], SETTLE_SECONDS)
        await settle(self, **{"idle": 0.005, **options})

    # A look at what still runs every 5 ms instead of every 50 ms, of which each command waits for one.
    monkeypatch.setattr(simcord.Env, "_settle_internal", settle_soon)


@pytest.fixture
def simcord_bot(core: Core) -> Bot:
    return core.bot


@pytest.fixture
async def stage(
    core: Core, simcord_env: simcord.Env, registers_commands: bool, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Stage]:
    clock = RunningClock()
    monkeypatch.setattr(simcord_env.backend, "clock", clock)
    simcord_env.settle_timeout = SETTLE_SECONDS
    # And a command's first answer may take longer than Discord's 3 seconds, which are tested over sockets.
    new_interaction = simcord_env.backend.new_interaction

    def patient_interaction(*arguments: Any, **options: Any) -> Interaction:
        interaction = new_interaction(*arguments, **options)
        interaction.initial_response_deadline = simcord_env.backend.iso_after(simcord_env.settle_timeout)
        return interaction

    monkeypatch.setattr(simcord_env.backend, "new_interaction", patient_interaction)
    # Attachments get URLs that can be fetched over HTTP.
    monkeypatch.setattr(cdn, "CDN_BASE", core.server.base)
    core.server.attachments = simcord_env.backend.cdn.get
    # Background tasks of the bot reach the simulated Discord through webhooks too.
    webhooks = FakeWebhookAdapter(simcord_env.backend)

    async def request(self: Any, route: Any, session: Any, **more: Any) -> Any:
        return await webhooks.request(route, session, **more)

    monkeypatch.setattr(AsyncWebhookAdapter, "request", request)
    monkeypatch.setattr(FakeWebhookAdapter, "request", FakeWebhookAdapter.request)  # a TransportDouble may replace it
    # No pause between status edits, which is for Discord's rate limits; tests of the pause set it.
    monkeypatch.setattr(reply_updater, "EDIT_INTERVAL_SECONDS", 0.01)
    # Nor between attempts to give a command its first answer, or to read its attachments.
    monkeypatch.setattr(initial_response, "RESPONSE_PAUSE_SECONDS", 0)
    monkeypatch.setattr(order_flow, "DOWNLOAD_PAUSES_SECONDS", (0, 0))
    # The same for the delay before a check of the operator's cap.
    monkeypatch.setattr(spending_alerts, "OPERATOR_CHECK_DELAY_SECONDS", 0.01)
    if registers_commands:  # beside the connection
        await until(lambda: simcord_env.backend.commands.get(None))
        if core.service.limits.direct_quota is None:  # else they are offered elsewhere too
            _remember_commands(simcord_env)
    else:
        simcord_env.backend.register_commands(None, _registered)
    stage = Stage(core, simcord_env)
    yield stage
    for path, body in stage.outgoing():
        assert body["allowed_mentions"]["parse"] == [], f"a message that may notify anybody went to {path}"


def _remember_commands(env: simcord.Env) -> None:
    generated = {"id", "application_id"}
    _registered[:] = [
        {name: value for name, value in command.items() if name not in generated}
        for command in env.backend.commands[None].values()
    ]
