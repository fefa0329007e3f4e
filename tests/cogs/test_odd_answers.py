"""What Discord says that nobody expected: a finished image is shown all the same, and nothing stays in limbo."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from datetime import timedelta
from typing import Any

import pytest
import stamina
from aiohttp import ClientSession, TraceConfig, web

from bot.domain.jobs import Delivery, FailureReason, JobStatus
from bot.service.execution import reply_runner
from cogs.generate.delivery import last_edit
from cogs.text import job_card
from cogs.ui import card as cards
from cogs.ui import components
from cogs.ui.discord_api import request_pace
from cogs.ui.discord_api.request_pace import REQUESTS_PER_MINUTE, RequestPace
from cogs.ui.initial_response import InitialResponse
from tests.cogs.test_reply_updater import delivery, waiting
from tests.support.discord_stage import Stage
from tests.support.image_samples import encode, noise
from tests.support.transport_double import IN_CHANNEL, ORIGINAL, POSTED, TransportDouble, refused


@pytest.fixture
def transport(stage: Stage) -> TransportDouble:
    return TransportDouble(stage.core.bot)


@pytest.fixture
def _hurried() -> Generator[None]:
    """Remove the pauses between attempts."""
    with stamina.set_testing(True, attempts=30):
        yield


ODD = [
    pytest.param(refused(403, 40333), id="403/40333"),
    pytest.param(refused(403), id="a page of the edge"),
    pytest.param(refused(400), id="400 without a code, a page of the edge"),
    pytest.param(refused(400, 30046), id="too many edits of an old message"),
    pytest.param(refused(401), id="401 without a code"),
    pytest.param(refused(404), id="404 without a code"),
    pytest.param(refused(403, 20001), id="a code nobody listed"),
    pytest.param(KeyError("retry_after"), id="429 without its numbers"),
    pytest.param(TypeError("string indices must be integers"), id="200 with HTML"),
    pytest.param(RuntimeError("session is closed"), id="an exception nobody listed"),
]


# -- the last edit ------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-21")
@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("trouble", ODD)
async def test_an_odd_answer_to_the_last_edit_is_not_final(
    stage: Stage, transport: TransportDouble, trouble: Exception
) -> None:
    card = await waiting(stage)
    troubles = [trouble] * 3

    async def answer_oddly(method: str, path: str, files: bool) -> None:
        if files and troubles:
            raise troubles.pop()

    transport.on_call = answer_oddly
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    assert await delivery(stage) is Delivery.DELIVERED
    assert (len(card.files), len(stage.cards())) == (1, 1)
    assert stage.cards(stage.ada.user.dm_channel) == []
    assert (await stage.balance()).spent_usd_micros == 80_000


@pytest.mark.hostile("G-21")
async def test_one_reply_sends_discord_at_most_six_requests_a_minute_over_all_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, pauses = list[float](), list[float]()
    loop = asyncio.get_running_loop()
    sleep, passed = asyncio.sleep, 0.0

    async def pass_quickly(seconds: float) -> None:
        nonlocal passed
        pauses.append(seconds)
        passed += seconds
        await sleep(0)

    monkeypatch.setattr(request_pace.asyncio, "sleep", pass_quickly)
    real_time = loop.time
    monkeypatch.setattr(loop, "time", lambda: real_time() + passed)

    async def answer(request: web.Request) -> web.Response:
        begun.append(loop.time())
        return web.Response(status=500)

    app = web.Application()
    app.add_routes([web.patch("/", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    trace = TraceConfig()
    request_pace.attach(trace)
    try:
        async with ClientSession(trace_configs=[trace]) as session:
            with RequestPace().applied():
                for _ in range(REQUESTS_PER_MINUTE + 2):
                    async with session.patch(f"http://127.0.0.1:{runner.addresses[0][1]}/"):
                        pass
            assert pauses, "the seventh request waits"
            async with session.patch(f"http://127.0.0.1:{runner.addresses[0][1]}/"):
                pass  # outside, nothing waits
    finally:
        await runner.cleanup()
    assert all(later - earlier >= 59 for earlier, later in zip(begun, begun[REQUESTS_PER_MINUTE:-1], strict=False))
    assert len([pause for pause in pauses if pause > 0]) <= 2


@pytest.mark.hostile("G-21")
@pytest.mark.hostile("G-28")
async def test_when_every_way_is_closed_it_is_recorded_and_history_has_the_image(
    stage: Stage, transport: TransportDouble
) -> None:
    await waiting(stage)

    async def closed(method: str, path: str, files: bool) -> None:
        if files:
            raise refused(403, 50007) if (method, path) == ("POST", POSTED) else refused(400, 50083)

    transport.on_call = closed
    stage.core.krea.finishes()
    assert await delivery(stage) is Delivery.IMPOSSIBLE
    assert [call[:2] for call in transport.calls if call[2]] == [
        ("PATCH", ORIGINAL),
        ("PATCH", IN_CHANNEL),
        ("POST", POSTED),
    ]
    assert await stage.core.store.sha256_in_use()


@pytest.mark.hostile("G-28")
@pytest.mark.parametrize(("status", "code"), [(400, 50083), (404, 10003), (404, 10008), (403, 50001)])
async def test_an_image_whose_place_is_gone_goes_to_its_requester(
    stage: Stage, transport: TransportDouble, status: int, code: int
) -> None:
    await waiting(stage)

    async def gone(method: str, path: str, files: bool) -> None:
        if path in (ORIGINAL, IN_CHANNEL) and files:
            raise refused(status, code)

    transport.on_call = gone
    stage.core.krea.finishes()
    assert await delivery(stage) is Delivery.DELIVERED
    (message,) = stage.cards(stage.ada.user.dm_channel)
    assert len(message.files) == 1


# -- a card always fits ----------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-23")
@pytest.mark.parametrize("refusals", [1, 2, 3])
async def test_a_card_that_discord_refuses_as_malformed_is_shown_with_less(
    stage: Stage, transport: TransportDouble, refusals: int
) -> None:
    card = await waiting(stage)
    troubles = [refused(400, 50035)] * refusals

    async def refuse(method: str, path: str, files: bool) -> None:
        if path == ORIGINAL and troubles:
            raise troubles.pop()

    transport.on_call = refuse
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed", "$0.08")
    assert await delivery(stage) is Delivery.DELIVERED
    assert "red fox" not in card.text
    if refusals < 3:
        assert len(card.files) == len(card.gallery) == 1
    else:
        assert job_card.IN_HISTORY(1) in card.text


@pytest.mark.hostile("G-23")
async def test_links_to_originals_take_no_more_room_than_a_message_has(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_edit, "DEFAULT_FILE_LIMIT_BYTES", 100_000)
    monkeypatch.setattr(last_edit.LastEdit, "_token_is_usable", lambda self: False)
    stage.core.krea.waits = True
    card = await stage.imagine(prompt="𝕒 " * 900, count=4)
    await stage.until(lambda: stage.core.krea.accepted == 4)
    large = encode(noise(300, 200), "PNG")
    for number in range(4):
        url = stage.core.server.keep(f"large-{number}.png", large)
        stage.core.krea.finishes(f"{url}?{'signature' * 145}", number=number)
    text = await stage.until_says(card, "Completed", "Shown smaller")
    assert await delivery(stage) is Delivery.DELIVERED
    assert len(card.files) == 4
    assert components.text_length(card.stored.components) <= cards.MAX_TEXT_CHARACTERS
    assert len(card.components) <= 40
    assert text.count("signature" * 145) == 1


# -- words that the platform refuses -----------------------------------------------------------------------------------


@pytest.mark.hostile("G-29")
async def test_the_copy_without_the_prompt_has_its_words_nowhere(stage: Stage, transport: TransportDouble) -> None:
    log = stage.guild.create_text_channel("log")
    await stage.settings("log-channel", channel=log)
    card = await waiting(stage, prompt="a naughty fox")
    blocked = [refused(400, 200000)]

    async def block_once(method: str, path: str, files: bool) -> None:
        if files and blocked:
            raise blocked.pop()

    transport.on_call = block_once
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed", job_card.PROMPT_HIDDEN())
    await stage.quiet()
    (entry,) = [card for card in stage.cards(log) if "Completed" in card.text]
    for shown in (card, entry):
        assert len(shown.files) == 1
        everything = str(shown.components) + str(shown.files)
        assert "naughty" not in everything
        assert "fox" not in everything


# -- nothing stays in limbo ------------------------------------------------------------------------------------------


@pytest.fixture
def watch(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that starts the search for replies in limbo, with no time between its rounds."""
    monkeypatch.setattr(reply_runner, "LIMBO_SCAN_SECONDS", 0.02)
    monkeypatch.setattr(reply_runner, "LIMBO_AFTER", timedelta())

    def start() -> None:
        stage.core.supervisor.start_forever("limbo", stage.core.parts.reply_runner.watch_for_limbo)

    return start


@pytest.mark.hostile("G-22")
async def test_an_image_whose_editor_met_a_defect_is_shown_without_a_restart(
    stage: Stage, watch: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await waiting(stage)
    view, defects = stage.core.service.view, [KeyError("a defect")] * 2

    async def broken_at_first(reply_id: str) -> Any:
        if defects:
            raise defects.pop()
        return await view(reply_id)

    monkeypatch.setattr(stage.core.service, "view", broken_at_first)
    stage.core.krea.finishes()
    await stage.until(lambda: len(defects) < 2)
    watch()
    await stage.until_says(card, "Completed")
    assert len(card.files) == 1
    assert len(stage.core.krea.orders) == 1


@pytest.mark.hostile("G-22")
@pytest.mark.parametrize("is_visible", [True, False], ids=["Discord took the card", "Discord has no card"])
async def test_a_first_answer_lost_to_a_defect_of_our_own_needs_no_restart(
    stage: Stage, watch: Callable[[], None], monkeypatch: pytest.MonkeyPatch, is_visible: bool
) -> None:
    async def lost(self: InitialResponse, view: Any) -> Any:
        if is_visible:
            await show(self, view)
        raise asyncio.CancelledError

    show = InitialResponse.show
    monkeypatch.setattr(InitialResponse, "show", lost)
    await stage.ada.slash(stage.channel, "imagine", prompt="a red fox")
    watch()
    job = (await stage.jobs())[0]
    await stage.until(lambda: bool(stage.core.krea.orders) is is_visible)
    if is_visible:
        (card,) = stage.cards()
        await stage.until_says(card, "Completed")
        assert len(stage.core.krea.orders) == 1
    else:
        while not job.status.is_final:
            await asyncio.sleep(0.01)
            job = (await stage.jobs())[0]
        assert job.status is JobStatus.FAILED
        assert job.failure is not None
        assert job.failure.reason is FailureReason.NOT_SHOWN
        assert (await stage.balance()).set_aside_usd_micros == 0
