"""Rows of the fault matrix about operation, shown on the whole bot beside a local Discord and a provider over HTTP.

The bot runs in this process, so that its workers can be broken and its time limits shortened; every connection is real.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot import app
from bot.gateway import discord_client
from bot.runtime.supervisor import Supervisor
from bot.settings import Settings
from bot.store.admin.verify import verify_file
from cogs.text import job_card
from cogs.ui import initial_response
from sandbox import shelf
from sandbox.discord import Channel, Interaction, Limits, LocalDiscord, Member, Upload
from sandbox.plans import Ending, How, Plan, Trouble
from sandbox.provider import SandboxProvider
from tests.support.child_processes import STOP_TIMEOUT_SECONDS
from tests.support.core import small_image
from tests.support.crashes import IMPATIENT, Nursery, audit, world
from tests.support.fakes import until
from tests.support.image_samples import encode, noise

FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)
PATIENT_DISCORD = Limits(channel_requests=1_000, acknowledge_seconds=30)
"""Limits of a Discord that waits longer, because a machine may be busy."""
WORKERS = (
    "bill reconciliation",
    "catalogue",
    "catalogue questions",
    "catalogue refresh",
    "hourly sweep",
    "krea dispatcher",
    "krea probe",
    "message deletions",
    "models that are gone",
    "pixazo dispatcher",
    "pixazo probe",
    "queue positions",
    "refunds",
    "replies in limbo",
    "review requests",
    "styles",
    "top-ups",
    "weekly reports",
)


class Fragile(Supervisor):
    """Workers that a test can break, and that are restarted soon."""

    latest: Fragile

    def __init__(self) -> None:
        super().__init__(first_pause_seconds=0.3, steady_after_seconds=0.3)
        self.hammers: dict[str, asyncio.Event] = {}
        Fragile.latest = self

    def start_forever(self, name: str, factory: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        hammer = self.hammers[name] = asyncio.Event()

        async def breakable() -> None:
            work, blow = asyncio.ensure_future(factory()), asyncio.ensure_future(hammer.wait())
            try:
                await asyncio.wait({work, blow}, return_when=asyncio.FIRST_COMPLETED)
                if blow.done():
                    hammer.clear()
                    raise RuntimeError(f"{name} was broken by a test")
                return await work
            finally:
                work.cancel()
                blow.cancel()
                await asyncio.wait({work, blow})

        return super().start_forever(name, breakable)


@dataclass(kw_only=True)
class Scene:
    """The bot, the simulated Discord and provider, and members."""

    discord: LocalDiscord
    provider: SandboxProvider
    studio: Channel
    ada: Member
    ben: Member
    database: Path
    port: int
    client: asyncio.Task[None]

    async def ready(self) -> tuple[int, dict[str, str]]:
        """Return the answer of /readyz: its status and what is failing."""
        url = f"http://127.0.0.1:{self.port}/readyz"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return response.status, (await response.json())["failing"]

    async def until_ready(self, *, seconds: float = 60) -> None:
        async def is_ready() -> bool:
            return await self.ready() == (200, {})

        await until(is_ready, seconds=seconds, what=lambda: "ready")

    async def until_failing(self, part: str, *, seconds: float = 30) -> None:
        async def fails() -> bool:
            status, failing = await self.ready()
            return status == 503 and part in failing

        await until(fails, seconds=seconds, what=lambda: f"{part} is failing")

    async def imagine(self, who: Member | None = None, prompt: str = "a red fox") -> Interaction:
        return await self.discord.slash(who or self.ada, self.studio, "imagine", prompt=prompt)


@pytest.fixture
def limits() -> Limits:
    """Return the limits of the local Discord; a test may override them."""
    return Limits(channel_requests=1_000)


@pytest.fixture
async def scene(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int, limits: Limits
) -> AsyncIterator[Scene]:
    # `aim_at` and the client change the addresses of discord.py permanently; other tests need the old ones.
    monkeypatch.setattr(Route, "BASE", Route.BASE)
    monkeypatch.setattr(DiscordWebSocket, "DEFAULT_GATEWAY", DiscordWebSocket.DEFAULT_GATEWAY)
    monkeypatch.setattr(app, "Supervisor", Fragile)
    async with opened_scene(tmp_path, unused_tcp_port, limits) as scene:
        yield scene
    assert verify_file(scene.database) == []
    assert scene.discord.unknown_routes == scene.provider.violations == []


@pytest.fixture
def _small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the provider make images that take no time to draw."""
    monkeypatch.setattr(shelf, "_drawn", small_image)


@asynccontextmanager
async def opened_scene(directory: Path, port: int, limits: Limits) -> AsyncIterator[Scene]:
    async with SandboxProvider(seconds_scale=0.02) as provider, LocalDiscord(limits=limits) as discord:
        settings: Any = {
            "discord_token": discord.token,
            "discord_api_base": discord.api_base,
            "discord_cdn_hosts": discord.cdn_host,
            "krea_api_key": provider.krea_key,
            "krea_api_base": provider.krea_base,
            "krea_poll_seconds": 0.1,
            "pixazo_api_key": provider.pixazo_key,
            "pixazo_api_base": provider.pixazo_base,
            "database_url": f"sqlite:///{directory}/bot.sqlite3",
            "default_model": "krea/bfl/flux-1-dev",
            "default_quota_usd": "100",
            "http_port": port,
            "media_allow_private_addresses": True,
        }
        server = discord.server("Atelier")
        async with app.opened(Settings(**settings)) as bot:
            client = asyncio.create_task(app._connect(bot, discord.token), name="discord")
            try:
                await discord.bot_ready()
                yield Scene(
                    discord=discord,
                    provider=provider,
                    studio=discord.channel(server, "studio"),
                    ada=discord.member(server, "Ada"),
                    ben=discord.member(server, "Ben"),
                    database=directory / "bot.sqlite3",
                    port=port,
                    client=client,
                )
            finally:
                await app._close(bot, client)


# -- F-34: asked to stop under load --------------------------------------------------------------------------------


async def test_f34_told_to_stop_under_load_it_ends_within_ten_seconds_and_everything_goes_on(
    nursery: Nursery, tmp_path: Path
):
    async with world(nursery, tmp_path, seconds_scale=0.05) as here:
        here.settings |= IMPATIENT
        await here.start()
        people = [here.discord.member(here.server, f"Member {number}") for number in range(8)]
        here.provider.next_order(
            *[Plan(trouble=Trouble(how=How.HANG, accepted=True))] * 3
        )  # answers that must still arrive
        orders = [
            await here.discord.slash(who, here.channel, "imagine", prompt=f"{who.name} {number}")
            for number in range(3)
            for who in people
        ]
        await until(lambda: len(here.provider.orders) >= 3 and any(order.answer for order in orders))
        async with asyncio.timeout(STOP_TIMEOUT_SECONDS):  # see also what the program waits for in test_app.py
            assert await here.stop(politely=True) == 0
        ordered = len(here.provider.orders)
        await asyncio.sleep(0.3)
        assert len(here.provider.orders) == ordered, "it is really over"
        here.pass_time(400)
        await here.start()
        await here.settled()
        assert await here.stop(politely=True) == 0
        found = audit(here)
        assert found.problems == []
        assert found.commands == len(orders)


# -- F-41: every worker ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_small_images")
async def test_f41_every_worker_that_breaks_is_started_again_and_logged_once_while_jobs_go_on(
    scene: Scene, caplog: pytest.LogCaptureFixture
):
    await scene.until_ready()
    hammers = Fragile.latest.hammers
    assert set(hammers) == set(WORKERS), f"a new worker is broken here too: {sorted(hammers)}"
    for name, hammer in hammers.items():
        order = await scene.imagine(prompt=f"while the {name} is broken")
        hammer.set()
        await scene.until_failing("workers")
        assert name in (await scene.ready())[1].get("workers", name)
        await order.wait_for("Completed")
        await scene.until_ready()
        failures = [record for record in caplog.records if record.getMessage().startswith(f"{name} failed")]
        assert len(failures) == 1
        assert failures[0].exc_info is not None
    await (await scene.imagine(prompt="all is well")).wait_for("Completed")
    assert len(scene.provider.orders) == len(WORKERS) + 1


# -- F-42: slow pictures, slow disk ------------------------------------------------------------------------------


@pytest.mark.torture  # as many large images as this one checks need the whole machine
async def test_f42_while_large_pictures_are_checked_everybody_is_answered_at_once(scene: Scene):
    large = Upload(filename="large.png", data=encode(noise(1800, 1400), "PNG"))
    assert len(large.data) > 7_000_000
    await (await scene.imagine()).wait_for("Completed")
    edits = [
        await scene.discord.slash(scene.ada, scene.studio, "edit", prompt=f"blue {number}", image=large)
        for number in range(4)
    ]
    quick: list[Interaction] = []
    while not all(edit.answer is not None or edit.failed for edit in edits) or len(quick) < 10:
        command = await scene.discord.slash(scene.ben, scene.studio, "usage")
        quick.append(await command.wait())
        await asyncio.sleep(0.05)
    answered = [one.answered_after_seconds for one in (*edits, *quick)]
    assert all(seconds is not None and seconds < 3 for seconds in answered), answered
    assert not any(one.failed for one in (*edits, *quick))
    assert scene.discord.gateway.connected
    for edit in edits:  # three at a time is the limit, so one of four may have come too early
        await until(
            lambda edit=edit: "Completed" in edit.text or "images in progress" in edit.text,
            seconds=60,
            what=lambda: [edit.text for edit in edits],
        )


@pytest.mark.parametrize("limits", [PATIENT_DISCORD])
async def test_f42_a_disk_that_stands_still_for_four_seconds_costs_nobody_an_answer(scene: Scene):
    await scene.until_ready()
    with closing(sqlite3.connect(scene.database, isolation_level=None, timeout=5)) as slow:
        slow.execute("BEGIN IMMEDIATE")  # no other connection can write meanwhile
        orders = [await scene.imagine(who, "a slow fox") for who in (scene.ada, scene.ben) * 2]
        looked = [await scene.discord.slash(scene.ben, scene.studio, "usage") for _ in range(5)]
        for one in (*orders, *looked):
            await one.wait(timeout_seconds=PATIENT_DISCORD.acknowledge_seconds)
        answered = [one.answered_after_seconds for one in (*orders, *looked)]
        assert None not in answered, "answered without the disk"
        await asyncio.sleep(4 - max(one.answered_after_seconds or 0.0 for one in orders))
        assert scene.provider.orders == [], "nothing is bought before it is written down"
        slow.execute("ROLLBACK")
    for order in orders:
        await order.wait_for("Completed", timeout_seconds=60)
    assert initial_response.DEFER_AFTER_SECONDS < 2, "of the 3 seconds that Discord waits"
    assert scene.discord.gateway.connected


# -- F-43: each component in turn ------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [Limits(heartbeat_seconds=0.3)])
async def test_f43_a_gateway_that_falls_silent_is_noticed(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discord_client, "HEARTBEAT_LATE_SECONDS", 0.5)
    await scene.until_ready()
    scene.discord.gateway.is_silent = True
    await scene.until_failing("discord")
    scene.discord.gateway.is_silent = False
    await scene.until_ready()


def test_f43_with_discords_own_heartbeat_a_silent_gateway_is_noticed_within_a_minute():
    assert Limits().heartbeat_seconds + discord_client.HEARTBEAT_LATE_SECONDS < 60


async def test_f43_a_connection_that_cannot_be_made_again_is_noticed_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    await scene.until_ready()

    async def refuse(*args: Any, **more: Any) -> None:
        raise OSError("the gateway is gone")

    with monkeypatch.context() as patch:
        patch.setattr(DiscordWebSocket, "from_client", refuse)
        await scene.discord.gateway.disconnect()
        await scene.until_failing("discord")
        await asyncio.sleep(0.5)
        assert (await scene.ready())[0] == 503, "for as long as it lasts"
    await scene.until_ready()


async def test_f43_a_database_that_takes_no_writes_is_noticed_and_its_return_too(scene: Scene):
    await scene.until_ready()
    with closing(sqlite3.connect(scene.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await scene.until_failing("database")
        other.execute("ROLLBACK")
    await scene.until_ready()


@pytest.mark.parametrize("name", ["krea dispatcher", "hourly sweep"])
async def test_f43_a_worker_that_does_not_work_is_named(scene: Scene, name: str):
    await scene.until_ready()
    Fragile.latest.hammers[name].set()
    await scene.until_failing("workers")
    await scene.until_ready()


@pytest.mark.f43
async def test_a_closed_provider_is_named_and_only_without_any_other_the_bot_is_not_ready(scene: Scene):
    await scene.until_ready()
    denied = Trouble(status=401)
    scene.provider.next_answers("list", *[denied] * 10_000)
    for model, answer in (
        ("krea/bfl/flux-1-dev", (200, {"providers": "krea (denied)"})),
        ("pixazo/krea-2-large", (503, {"providers": "krea (denied), pixazo (denied)"})),
    ):
        scene.provider.next_order(Plan(trouble=denied))
        order = await scene.discord.slash(scene.ada, scene.studio, "imagine", prompt="a fox", model=model)
        await order.wait_for("Failed")
        assert await scene.ready() == answer


@pytest.mark.f43
async def test_a_token_that_is_refused_is_named_by_a_process_that_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """As in a worker after a reset of the token: it shows images by the tokens of interactions."""
    await scene.until_ready()
    monkeypatch.setattr(scene.discord.rest, "_token", "another")
    scene.provider.next_order(Plan(trouble=Trouble(status=401)))  # the operator is told, with the bot's token
    await (await scene.imagine()).wait_for("Failed")
    await scene.until_failing("discord")
    assert (await scene.ready())[1]["discord"] == "DISCORD_TOKEN is not accepted by Discord"
    assert "restart every process with it" in caplog.text


# -- F-58: a flood ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_small_images")
@pytest.mark.parametrize("limits", [PATIENT_DISCORD])
async def test_f58_a_member_who_floods_is_refused_and_others_get_their_images(scene: Scene):
    flood: list[Interaction] = []

    async def answered_after(prompt: str) -> float:
        order = await scene.imagine(scene.ben, prompt)
        await order.wait(timeout_seconds=PATIENT_DISCORD.acknowledge_seconds)
        assert order.answered_after_seconds is not None
        await order.wait_for("Completed")
        return order.answered_after_seconds

    async def flooding() -> None:
        while True:
            flood.append(await scene.imagine(scene.ada, f"greedy {len(flood)}"))
            await asyncio.sleep(0.01)

    scene.provider.next_order(*[FOREVER] * 3)
    first = [await scene.imagine(scene.ada, f"first {number}") for number in range(3)]
    for order in first:
        await order.wait_for("Processing")
    alone_seconds = max([await answered_after(f"alone {number}") for number in range(3)])
    greedy = asyncio.create_task(flooding())
    for number in range(8):
        assert await answered_after(f"modest {number}") < max(3, 10 * alone_seconds)
    greedy.cancel()
    await asyncio.wait({greedy})
    for order in flood:  # limited, each with a sentence: first by what runs, then by the pace of refused attempts
        await order.wait()
        assert "You have 3 images in progress" in order.text or "That was a lot in one minute" in order.text
    assert len(flood) > 30
    assert len(scene.provider.jobs) == 3 + 3 + 8
    assert job_card.FAILED() not in flood[-1].text
    for remote in scene.provider.jobs.values():
        if remote.plan is FOREVER:
            remote.word = "completed"
    for order in first:
        await order.wait_for("Completed")
