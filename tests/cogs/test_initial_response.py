"""The initial response: immediate or deferred, and nothing is ordered unless Discord accepts it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import discord
import pytest
from simcord.http.client import FakeWebhookAdapter
from simcord.results import InteractionResult

from bot.domain.errors import DuplicateCommand
from bot.domain.jobs import Delivery, FailureReason, JobStatus
from cogs.text import job_card
from cogs.ui import initial_response
from tests.support.discord_stage import Stage
from tests.support.image_samples import image
from tests.support.transport_double import IN_CHANNEL, ORIGINAL, POSTED, TransportDouble, refused

PNG = image("PNG")

Hook = Callable[[str], Awaitable[None]]


async def nothing(_: str) -> None:
    return


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets hooks to run before or after Discord handles a response to an interaction."""
    through = FakeWebhookAdapter.request

    def install(*, before: Hook = nothing, after: Hook = nothing) -> None:
        async def request(self: Any, route: Any, session: Any, **more: Any) -> Any:
            await before(route.path)
            result = await through(self, route, session, **more)
            await after(route.path)
            return result

        monkeypatch.setattr(FakeWebhookAdapter, "request", request)

    return install


def raising(error: Exception, *, at: str = "/callback", times: int = 1) -> Hook:
    left = [error] * times

    async def hook(path: str) -> None:
        if at in path and left:
            raise left.pop()

    return hook


async def assert_given_up(stage: Stage) -> None:
    """Check that the reservation was released and nothing was ordered."""
    await stage.quiet()
    (job,) = await stage.jobs()
    assert job.status is JobStatus.FAILED
    assert job.failure is not None
    assert job.failure.reason is FailureReason.NOT_SHOWN
    assert stage.core.krea.orders == []
    assert (await stage.balance()).available_usd_micros == 1_000_000


# -- Discord does not take the answer -------------------------------------------------------------------------


@pytest.mark.f44
@pytest.mark.parametrize(("status", "code"), [(404, 10062), (403, 50001), (404, 10003)])
async def test_what_discord_surely_did_not_show_is_given_back_and_never_mentioned_in_public(
    stage: Stage, status: int, code: int
) -> None:
    transport = TransportDouble(stage.core.bot)
    stage.env.inject_error("POST", "/interactions/*/callback", status=status, code=code)
    await stage.ada.slash(stage.channel, "imagine", prompt="a red fox")
    await assert_given_up(stage)
    reply = await stage.core.store.reply((await stage.jobs())[0].reply_id)
    assert reply is not None
    assert reply.delivery is Delivery.IMPOSSIBLE
    assert transport.calls == []
    assert stage.cards() == []


@pytest.mark.parametrize("trouble", [refused(500), aiohttp.ServerDisconnectedError(), TimeoutError()], ids=repr)
async def test_an_answer_that_arrived_although_the_line_broke_is_found_and_its_job_goes_on(
    stage: Stage, answers: Callable[..., None], trouble: Exception
) -> None:
    answers(after=raising(trouble))
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == 1


async def test_an_answer_that_was_taken_twice_counts_once(stage: Stage, answers: Callable[..., None]) -> None:
    answers(after=raising(refused(400, 40060)))
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == 1


async def test_an_answer_whose_connection_broke_is_given_once_more(stage: Stage, answers: Callable[..., None]) -> None:
    answers(before=raising(aiohttp.ServerDisconnectedError()))
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == 1


@pytest.mark.f44
@pytest.mark.hostile("G-22")
@pytest.mark.parametrize(
    "trouble", [refused(500), refused(403), refused(403, 40333), refused(401), KeyError("retry_after")], ids=repr
)
async def test_an_answer_that_failed_and_is_not_there_is_given_up_at_once_and_the_member_reads_so(
    stage: Stage, answers: Callable[..., None], trouble: Exception
) -> None:
    answers(before=raising(trouble, times=3))
    told = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await assert_given_up(stage)
    assert stage.cards() == []
    assert told.private
    assert job_card.FAILURES[FailureReason.NOT_SHOWN]() in told.text


@pytest.mark.hostile("G-22")
@pytest.mark.parametrize("is_taken", [False, True], ids=["not taken", "taken"])
@pytest.mark.parametrize(
    "trouble", [refused(403), refused(401), refused(403, 40333), refused(429), KeyError("retry_after")], ids=repr
)
async def test_after_an_odd_answer_the_order_goes_on_with_one_card(
    stage: Stage, answers: Callable[..., None], trouble: Exception, is_taken: bool
) -> None:
    hook = raising(trouble)
    answers(after=hook) if is_taken else answers(before=hook)
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == len(stage.core.krea.orders) == 1


@pytest.mark.hostile("G-22")
@pytest.mark.parametrize("is_taken", [False, True], ids=["not taken", "taken"])
async def test_a_page_instead_of_the_first_answer_is_not_taken_for_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, is_taken: bool
) -> None:
    through, left = FakeWebhookAdapter.request, [1]

    async def request(self: Any, route: Any, session: Any, **more: Any) -> Any:
        if "/callback" not in route.path or not left:
            return await through(self, route, session, **more)
        left.pop()
        if is_taken:
            await through(self, route, session, **more)
        return "<html>200</html>"

    monkeypatch.setattr(FakeWebhookAdapter, "request", request)
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == len(stage.core.krea.orders) == 1


@pytest.mark.hostile("G-23")
async def test_a_first_card_that_discord_refuses_as_malformed_is_shown_with_less(
    stage: Stage, answers: Callable[..., None]
) -> None:
    answers(before=raising(refused(400, 50035)))
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == len(stage.core.krea.orders) == 1


@pytest.mark.f44
@pytest.mark.parametrize("trouble", [refused(503), aiohttp.ServerDisconnectedError()], ids=repr)
@pytest.mark.f44
async def test_a_card_that_may_be_visible_after_all_is_corrected(
    stage: Stage, answers: Callable[..., None], trouble: Exception
) -> None:
    transport = TransportDouble(stage.core.bot)
    answers(before=raising(trouble, at="@original", times=3), after=raising(refused(500)))
    card = stage.said(await stage.ada.slash(stage.channel, "imagine", prompt="a red fox"))
    await assert_given_up(stage)
    assert job_card.FAILURES[FailureReason.NOT_SHOWN]() in card.text
    assert "not charged" in card.text
    assert transport.count("POST", POSTED) == transport.count("PATCH", IN_CHANNEL) == 0


async def test_an_answer_without_a_message_id_is_looked_up(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    send = discord.InteractionResponse.send_message

    async def send_without_id(self: Any, *args: Any, **more: Any) -> Any:
        response: Any = await send(self, *args, **more)
        response.message_id = None
        return response

    monkeypatch.setattr(discord.InteractionResponse, "send_message", send_without_id)
    card = await stage.imagine()
    await stage.until_says(card, "Completed")


async def test_the_same_command_delivered_twice_is_taken_once_and_in_silence(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*args: Any, **more: Any) -> None:
        raise DuplicateCommand

    monkeypatch.setattr(stage.core.service, "admit", taken)
    result = await stage.ada.slash(stage.channel, "imagine", prompt="a red fox")
    assert not result.acknowledged
    assert list(stage.outgoing()) == []


async def test_a_refusal_that_discord_does_not_take_breaks_nothing(stage: Stage) -> None:
    stage.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062)
    result = await stage.ada.slash(stage.channel, "imagine", prompt="a red fox", resolution="9K")
    assert not result.acknowledged
    await stage.assert_nothing_reserved()


async def test_a_failure_that_cannot_be_told_breaks_nothing(stage: Stage) -> None:
    stage.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062)
    result = await stage.ada.slash(stage.channel, "models", model="no such model")
    assert not result.acknowledged
    assert len(stage.env.errors) == 1


# -- when it takes long -----------------------------------------------------------------------------------


class SlowCommand:
    """An /edit whose image arrives only after the response is deferred."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stage = stage
        self._arrived = asyncio.Event()
        downloader = stage.core.service.attachment_downloader
        download = downloader.download

        async def slowly(*args: Any, **more: Any) -> bytes:
            if not self._arrived.is_set():
                await stage.env.external_wait(self._arrived.wait(), reason="a slow download")
            return await download(*args, **more)

        monkeypatch.setattr(downloader, "download", slowly)
        monkeypatch.setattr(initial_response, "DEFER_AFTER_SECONDS", 0.05)

    async def run(self, data: bytes = PNG, *, private: bool = False) -> InteractionResult:
        options = {"prompt": "blue", "image": ("fox.png", data), "private": private}
        result = await self._stage.ada.slash(self._stage.channel, "edit", **options)
        self._arrived.set()
        await self._stage.env.settle()
        return result


@pytest.fixture
def slow_command(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> SlowCommand:
    return SlowCommand(stage, monkeypatch)


async def test_a_command_is_deferred_well_before_discord_gives_up_on_it() -> None:
    assert initial_response.DEFER_AFTER_SECONDS <= 1.0


def callbacks(stage: Stage) -> list[int]:
    return [request.json["type"] for request in stage.env.http_requests if request.json and "type" in request.json]


@pytest.mark.f42
@pytest.mark.parametrize("private", [False, True])
async def test_a_slow_answer_is_deferred_and_becomes_the_card(
    stage: Stage, slow_command: SlowCommand, private: bool
) -> None:
    card = stage.said(await slow_command.run(private=private))
    assert callbacks(stage) == [5]
    assert card.private is private
    await stage.until_says(card, "Completed")
    assert len(stage.cards()) == (0 if private else 1)


@pytest.mark.parametrize("private", [False, True])
async def test_a_refusal_is_private_also_after_a_public_deferral(
    stage: Stage, slow_command: SlowCommand, private: bool
) -> None:
    card = stage.said(await slow_command.run(b"no picture", private=private))
    assert callbacks(stage) == [5]
    assert card.private
    assert "`fox.png` is not an image" in card.text
    assert stage.cards() == []
    await stage.assert_nothing_reserved()


@pytest.mark.parametrize("private", [False, True])
async def test_a_command_that_a_stop_cannot_wait_for_says_so_and_orders_nothing(
    stage: Stage, slow_command: SlowCommand, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    flow = stage.core.bot.order_flow

    async def stop() -> None:
        await stage.until(lambda: callbacks(stage) == [5])
        flow.close()
        await flow.refuse_unanswered()

    stopping = asyncio.create_task(stop())
    card = stage.said(await slow_command.run(private=private))
    await stopping
    assert card.private is private
    assert "I am restarting. Please try again in a minute." in card.text
    assert "blue" in card.text, "what was typed is given back"
    await flow.drain()
    await stage.assert_nothing_reserved()
    assert await stage.jobs() == []


@pytest.mark.parametrize("read", ["spendable", "reply_of_job"])
async def test_a_command_or_click_that_only_reads_says_that_the_bot_restarts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, read: str
) -> None:
    made = await stage.imagine()
    await stage.until_says(made, "Completed")
    flow = stage.core.bot.order_flow
    is_reading = asyncio.Event()

    async def silent(*args: Any, **more: Any) -> Any:
        is_reading.set()
        await stage.env.external_wait(asyncio.Event().wait(), reason="a silent database")

    monkeypatch.setattr(stage.core.service.store, read, silent)
    asked = stage.ada.slash(stage.channel, "usage") if read == "spendable" else stage.press(stage.ada, made, "Recipe")
    asking = asyncio.create_task(asked)
    await asyncio.wait_for(is_reading.wait(), 60)
    await flow.refuse_unanswered()
    card = stage.said(await asking)
    assert card.private
    assert "I am restarting" in card.text


async def test_a_deferral_that_fails_leaves_the_answer_to_come_by_itself(
    stage: Stage, slow_command: SlowCommand
) -> None:
    stage.env.inject_error("POST", "/interactions/*/callback", status=500)
    card = stage.said(await slow_command.run())
    assert callbacks(stage) == [5, 4]
    await stage.until_says(card, "Completed")


@pytest.mark.f44
@pytest.mark.parametrize(
    ("trouble", "shown"),
    [
        (refused(404, 10008), Delivery.IMPOSSIBLE),
        (refused(503), Delivery.DELIVERED),
        (aiohttp.ServerDisconnectedError(), Delivery.DELIVERED),
    ],
    ids=repr,
)
async def test_a_deferred_card_that_discord_does_not_take_is_given_up(
    stage: Stage, slow_command: SlowCommand, trouble: Exception, shown: Delivery
) -> None:
    transport = TransportDouble(stage.core.bot)
    left = [trouble] * 3

    async def refuse_at_first(method: str, path: str, files: bool) -> None:
        if (method, path) == ("PATCH", ORIGINAL) and left:
            raise left.pop()

    transport.on_call = refuse_at_first
    await slow_command.run()
    await assert_given_up(stage)
    reply = await stage.core.store.reply((await stage.jobs())[0].reply_id)
    assert reply is not None
    assert reply.delivery is shown
