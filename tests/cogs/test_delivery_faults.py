"""Rows of the fault matrix about Discord: when a token dies, what Discord refuses, the last byte, whom it notifies."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from datetime import timedelta
from typing import Any

import pytest
import stamina
import time_machine
from simcord import interactions

from bot.domain.errors import ProviderDenied
from bot.domain.jobs import Delivery, FailureReason, JobStatus, Progress
from cogs.text import job_card
from tests.cogs.test_history import history
from tests.cogs.test_jobs import cancel, jobs
from tests.cogs.test_reply_updater import delivery, waiting
from tests.cogs.test_usage import amounts, usage
from tests.support.catalogue_samples import FLUX
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import encode, noise
from tests.support.transport_double import IN_CHANNEL, ORIGINAL, POSTED, TransportDouble, refused

PRICE = 80_000


@pytest.fixture
def transport(stage: Stage) -> TransportDouble:
    return TransportDouble(stage.core.bot)


@pytest.fixture
def _hurried() -> Generator[None]:
    """Remove the pauses between attempts."""
    with stamina.set_testing(True, attempts=30):
        yield


# -- F-07, F-08: twice, or more often ---------------------------------------------------------------------------


async def test_f07_the_same_last_news_again_and_again_is_one_charge_and_one_last_edit(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)
    reply_id = (await stage.jobs())[0].reply_id
    reply = await stage.core.store.reply(reply_id)
    assert reply is not None
    stage.core.krea.finishes()
    presenter: Any = stage.core.service.presenter.current
    for _ in range(20):
        stage.core.krea.finishes(stage.core.krea._jobs[stage.core.krea.remote_id()].result_urls[0])
        presenter.reply_changed(reply_id)
    await stage.until_says(card, "Completed")
    for _ in range(5):
        presenter.reply_changed(reply_id)
    await stage.quiet()
    assert sum(files for _, _, files in transport.calls) == 1
    assert (await stage.balance()).spent_usd_micros == PRICE
    assert len(card.files) == 1


class Echo:
    """A gateway that delivers every interaction `times` times, as after a resume."""

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 1
        self.heard: list[dict[str, Any]] = []
        self._emit: Callable[[str, dict[str, Any]], Any] = stage.env.backend.emit
        monkeypatch.setattr(stage.env.backend, "emit", self._again)

    def _again(self, event: str, payload: dict[str, Any]) -> Any:
        if event == "INTERACTION_CREATE":
            self.heard.append(payload)
            for _ in range(self.times - 1):
                self._emit(event, payload)
        return self._emit(event, payload)

    def repeat(self, number: int = -1) -> None:
        """Deliver an earlier one once more."""
        self._emit("INTERACTION_CREATE", self.heard[number])


@pytest.mark.parametrize("times", [2, 3, 4, 5])
async def test_f08_a_command_delivered_several_times_is_one_job_one_reservation_and_one_reply(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    echo = Echo(stage, monkeypatch)
    echo.times = times
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    echo.repeat()
    await stage.env.settle()
    await stage.restart()
    echo.repeat()
    await stage.env.settle()
    await stage.quiet()
    assert len(await stage.jobs()) == len(stage.core.krea.orders) == len(stage.cards()) == 1
    balance = await stage.balance()
    assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (PRICE, 0)


@pytest.mark.parametrize("times", [2, 5])
async def test_f08_a_press_on_again_delivered_several_times_orders_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    echo = Echo(stage, monkeypatch)
    echo.times = times
    again = stage.said(await stage.press(stage.ada, card, "Again"))
    await stage.until_says(again, "Completed")
    await stage.quiet()
    assert len(await stage.jobs()) == len(stage.core.krea.orders) == len(stage.cards()) == 2
    assert (await stage.balance()).spent_usd_micros == 2 * PRICE


# -- F-11: what members read of a lowered quota -------------------------------------------------------------------


async def test_f11_below_what_is_spent_nothing_is_left_and_never_less_than_nothing(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    running = await waiting(stage)
    assert "**$0.01 per day**" in (await stage.quota("set", member=stage.ada, amount="0.01")).text
    assert amounts(await usage(stage)) == (PRICE, PRICE, 0)
    refusal = await stage.imagine()
    assert "you have $0.00 left" in refusal.text
    assert refusal.private
    stage.core.krea.finishes()
    await stage.until_says(running, "Completed", "$0.00 left")
    assert amounts(await usage(stage)) == (2 * PRICE, 0, 0)


# -- F-45: the hour at which the token dies ------------------------------------------------------------------------


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
@pytest.mark.parametrize("minutes", [1, 14, 15, 16, 120])
async def test_f45_the_result_arrives_however_late(
    stage: Stage, transport: TransportDouble, minutes: int, private: bool
) -> None:
    card = await waiting(stage, private=private)
    with time_machine.travel(stage.env.now() + timedelta(minutes=minutes)):
        stage.core.krea.finishes()
        assert await delivery(stage) is Delivery.DELIVERED
        direct = stage.cards(stage.ada.user.dm_channel) if private and minutes > 1 else []
    if direct:
        (message,) = direct
        assert f"{stage.ada.mention} your image is ready." in message.text
        (body,) = [body for path, body in stage.outgoing() if path.startswith("/channels/")]
        assert body["allowed_mentions"] == {"parse": [], "users": [stage.ada.id]}
    else:
        message = card
        assert len(stage.cards()) == (0 if private else 1)
        assert transport.count("POST", POSTED) == 0
    assert "Completed" in message.text
    assert len(message.files) == 1
    assert (await stage.balance()).spent_usd_micros == PRICE


# -- F-46: nowhere to show it ------------------------------------------------------------------------------------------

REFUSALS = [
    pytest.param(404, 10003, id="unknown channel"),
    pytest.param(404, 10004, id="unknown server"),
    pytest.param(404, 10008, id="unknown message"),
    pytest.param(404, 10015, id="unknown webhook"),
    pytest.param(404, 10062, id="unknown interaction"),
    pytest.param(403, 50001, id="missing access"),
    pytest.param(403, 50005, id="another author's message"),
    pytest.param(403, 50013, id="missing permissions"),
    pytest.param(401, 50027, id="dead token"),
    pytest.param(400, 50083, id="archived thread"),
]


@pytest.mark.parametrize("minutes", [1, 16], ids=["by token", "as the bot"])
@pytest.mark.parametrize(("status", "code"), REFUSALS)
async def test_f46_what_can_be_shown_nowhere_is_settled_given_up_and_kept_for_history(
    stage: Stage, transport: TransportDouble, status: int, code: int, minutes: int
) -> None:
    card = await waiting(stage)

    async def refuse(method: str, path: str, files: bool) -> None:
        if files:
            raise refused(status, code)

    transport.on_call = refuse
    with time_machine.travel(stage.env.now() + timedelta(minutes=minutes)):
        stage.core.krea.finishes()
        assert await delivery(stage) is Delivery.IMPOSSIBLE
    (job,) = await stage.jobs()
    assert job.status is JobStatus.SUCCEEDED
    assert sum(files for _, _, files in transport.calls) <= 3, "it is not tried for ever"
    balance = await stage.balance()
    assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (PRICE, 0)
    transport.on_call = TransportDouble(stage.core.bot).on_call
    stage.env.backend.delete_message(stage.channel.id, card.message.id)
    page = await history(stage)
    assert len(page.files) == 1
    assert page.private


# -- F-47: a refusal that passes ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("minutes", [1, 16], ids=["by token", "as the bot"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_f47_the_last_edit_is_repeated_until_taken_in_the_same_message_with_the_same_contents(
    stage: Stage, transport: TransportDouble, status: int, minutes: int
) -> None:
    card = await waiting(stage)
    troubles = [refused(status)] * 3

    async def refuse_at_first(method: str, path: str, files: bool) -> None:
        if files and troubles:
            raise troubles.pop()

    transport.on_call = refuse_at_first
    with time_machine.travel(stage.env.now() + timedelta(minutes=minutes)):
        stage.core.krea.finishes()
        assert await delivery(stage) is Delivery.DELIVERED
    assert sum(files for _, _, files in transport.calls) == 4
    assert transport.count("PATCH", ORIGINAL if minutes == 1 else IN_CHANNEL) >= 4
    assert len(stage.cards()) == 1
    assert len(card.files) == len(card.gallery) == 1
    assert "Completed" in card.text
    assert transport.count("POST", POSTED) == 0


# -- F-48: the last byte -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spare_bytes", "shrunk"), [(1, False), (0, False), (-1, True)])
async def test_f48_an_image_may_have_as_many_bytes_as_discord_takes_and_not_one_more(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, spare_bytes: int, shrunk: bool
) -> None:
    original = encode(noise(300, 200), "PNG")
    build = interactions.base_payload

    def with_a_low_limit(*args: Any, **more: Any) -> Any:
        record, payload = build(*args, **more)
        return record, payload | {"attachment_size_limit": len(original) + spare_bytes}

    monkeypatch.setattr(interactions, "base_payload", with_a_low_limit)
    card = await waiting(stage)
    url = stage.core.server.keep("large.png", original)
    stage.core.krea.finishes(url)
    text = await stage.until_says(card, "Completed")
    await stage.quiet()
    assert (card.file() == original) is not shrunk
    assert len(card.file()) <= len(original) + spare_bytes
    assert ("Shown smaller than it was made" in text) is shrunk
    assert (f"[{job_card.ORIGINAL()}]({url})" in text) is shrunk


# -- F-49: no one is notified -----------------------------------------------------------------------------------------


def messages_sent(stage: Stage) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return every body that Discord parses for mentions."""
    for request in stage.env.http_requests:
        body = request.json
        if request.method not in ("POST", "PATCH") or not isinstance(body, dict):
            continue
        if request.path.endswith("/callback"):
            body = body.get("data") or {}
            if "title" in body or "choices" in body:  # a form, or suggestions
                continue
        if body.keys() & {"content", "components", "embeds"}:
            yield request.path, body


@pytest.mark.parametrize("spelling", ["@everyone", "@here", "<@{ada}> <@!{ada}>", "<@&{role}>"])
async def test_f49_text_of_a_member_notifies_no_one_wherever_it_is_shown(stage: Stage, spelling: str) -> None:
    bad = spelling.format(ada=stage.mo.id, role=stage.artists.id)
    krea = stage.core.krea
    log = stage.guild.create_text_channel("log")
    await stage.settings("log-channel", channel=log)
    # in a card, its edits, the log of the server, the recipe and the history
    card = await stage.imagine(prompt=bad, model=FLUX)
    await stage.until_says(card, "Completed")
    await stage.press(stage.ada, card, "Recipe")
    await history(stage)
    await usage(stage)
    # in what fails, with a hint of the provider's that repeats it, and in what is cancelled with such a reason
    krea.waits = True
    failing = await stage.imagine(prompt=bad)
    await stage.until(lambda: krea.accepted == 2)
    krea.goes_on(Progress.SAMPLING)
    krea.fails(FailureReason.REJECTED, hint=bad)
    await stage.until_says(failing, "Failed")
    stopped = await stage.imagine(prompt=bad)
    await stage.until_says(stopped, "Processing")
    await cancel(stage, await jobs(stage), reason=bad)
    await stage.until_says(stopped, "Cancelled")
    # in refusals: a model, a file, an amount, a reason that are none
    krea.waits = False
    for option in ("model", "aspect_ratio", "style", "moodboard", "creativity"):
        wrong: dict[str, Any] = {option: bad}
        assert (await stage.imagine(**wrong)).private
    await stage.edit(prompt=bad, image=(f"{re.sub('[^@a-z]', '', bad)}.png", b"no picture"))
    await stage.quota("set", member=stage.ada, amount=bad)
    await stage.quota("set", member=stage.ada, amount="5", reason=bad)
    await stage.quota("audit")
    await stage.settings("time-zone", zone=bad)
    # in a direct message to the operator, and in one to the member whose token has died
    krea.troubles.append(ProviderDenied(bad, status=401))
    await stage.until_says(await stage.imagine(stage.bob), "Failed")
    stage.core.pixazo.waits = True
    late: Card = await stage.imagine(prompt=f"late {bad}", private=True, model="pixazo/krea-2-large")
    await stage.until_says(late, "Processing")
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.pixazo.finishes()
        await stage.quiet()
    await stage.settings("words", action="add", words=bad)
    assert (await stage.imagine(prompt=bad)).private
    sent = list(messages_sent(stage))
    assert len(sent) > 25
    owner = stage.core.bot.application.owner.id if stage.core.bot.application else None
    for path, body in sent:
        mentions = body.get("allowed_mentions")
        assert mentions is not None, f"{path} leaves it to Discord who is notified: {body}"
        assert mentions["parse"] == [], path
        assert not mentions.get("roles"), path
        assert set(mentions.get("users", [])) <= {stage.ada.id, owner}, path
        assert not mentions.get("users") or path.startswith("/channels/"), path
