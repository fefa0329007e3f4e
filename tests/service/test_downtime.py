"""Downtime: what finished while the bot was away is delivered when it is back, by any route that still works."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox.discord import Interaction
from sandbox.plans import How, Plan, Trouble
from tests.support.crashes import IMPATIENT, Nursery, World, audit, seen, world

ONE_MINUTE, TWENTY_MINUTES, THREE_HOURS = 60.0, 1200.0, 10_800.0
DOWNTIMES = pytest.mark.parametrize(
    "down_seconds", [ONE_MINUTE, TWENTY_MINUTES, pytest.param(THREE_HOURS, marks=pytest.mark.torture)]
)
ANY_DOWNTIME = pytest.mark.parametrize("down_seconds", [ONE_MINUTE, TWENTY_MINUTES, THREE_HOURS])


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nursery, tmp_path) as here:
        here.settings |= IMPATIENT
        yield here


async def finished_while_away(
    here: World, down_seconds: float, *, politely: bool, private: bool = False
) -> Interaction:
    """Order, stop the bot while the provider works, wait for the provider, let time pass, start the bot again."""
    here.provider.next_order(Plan(seconds_factor=8))
    await here.start()
    order = await here.discord.slash(here.member, here.channel, "imagine", prompt="a lighthouse", private=private)
    assert await seen(here, lambda: "Processing" in order.text)
    assert await here.stop(politely=politely) == (0 if politely else -9)
    (job,) = here.provider.jobs.values()
    assert not job.is_final
    await seen_at_provider(here)
    here.pass_time(down_seconds)
    await here.start()
    await here.settled()
    await here.stop()
    assert audit(here).problems == []
    assert audit(here).outcomes == {"succeeded": 1}
    return order


async def seen_at_provider(here: World) -> None:
    """Wait until the provider has finished every job."""
    async with asyncio.timeout(20):
        while not all(job.is_final for job in here.provider.jobs.values()):
            await asyncio.sleep(0.02)


def calls(here: World, method: str, part: str) -> int:
    """Return the successful requests of the bot."""
    return sum(call.method == method and part in call.route and call.status < 300 for call in here.discord.rest.calls)


@ANY_DOWNTIME
@pytest.mark.parametrize("politely", [pytest.param(True, marks=pytest.mark.torture), False], ids=["stopped", "killed"])
async def test_f35_a_job_that_finished_while_the_bot_was_away_is_delivered_in_its_own_message(
    here: World, down_seconds: float, politely: bool
) -> None:
    order = await finished_while_away(here, down_seconds, politely=politely)
    assert order.reply is not None
    assert "Completed" in order.text
    assert len(order.reply.attachments) == 1
    # After 15 minutes the command's token is dead, and the bot edits its message like any other.
    by_channel = calls(here, "PATCH", "/channels/{channel}/messages/{message}")
    assert by_channel == (0 if down_seconds == ONE_MINUTE else 1)
    assert calls(here, "POST", "/channels/{channel}/messages") == 0


@DOWNTIMES
async def test_f35_a_private_result_comes_as_a_direct_message_once_its_token_is_dead(
    here: World, down_seconds: float
) -> None:
    order = await finished_while_away(here, down_seconds, politely=False, private=True)
    direct = list(here.discord.direct(here.member).messages.values())
    if down_seconds == ONE_MINUTE:
        assert "Completed" in order.text
        assert direct == []
        return
    (message,) = direct
    assert "Completed" in message.text
    assert len(message.attachments) == 1
    assert message.mentions == [here.member.user]
    assert "Completed" not in order.text


@DOWNTIMES
@pytest.mark.parametrize("listed", [True, False], ids=["accepted", "never arrived"])
async def test_f23_an_order_that_was_half_sent_when_the_bot_died_is_found_again_or_released(
    here: World, down_seconds: float, listed: bool
) -> None:
    here.provider.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=listed)))
    await here.start()
    order = await here.discord.slash(here.member, here.channel, "imagine", prompt="a wreck")
    assert await seen(here, lambda: bool(here.provider.orders and (here.provider.jobs or not listed)))
    await here.stop()
    await seen_at_provider(here)
    here.pass_time(down_seconds)
    await here.start()
    if down_seconds == ONE_MINUTE and not listed:
        # It may still be found: the reply says so, and the money stays reserved.
        assert await seen(here, lambda: "Checking" in order.text)
        await here.stop()
        here.pass_time(TWENTY_MINUTES)
        await here.start()
    await here.settled()
    await here.stop()
    found = audit(here)
    assert found.problems == []
    assert found.outcomes == ({"succeeded": 1} if listed else {"outcome_unknown": 1})
    assert found.operator_cost_usd_micros == 0
    assert len(here.provider.orders) == 1


@DOWNTIMES
async def test_a_card_whose_acceptance_was_never_recorded_is_found_again(here: World, down_seconds: float) -> None:
    await here.start(CRASH_AT="answer.show", CRASH_WHEN="after")
    order = await here.discord.slash(here.member, here.channel, "imagine", prompt="a pier")
    await here.dead()
    assert "Queued" in order.text
    assert here.provider.orders == []
    here.pass_time(down_seconds)
    await here.start()
    await here.settled()
    await here.stop()
    assert audit(here).problems == []
    assert "Completed" in order.text


@pytest.mark.f44
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_private_card_that_cannot_be_found_again_costs_nothing_and_its_member_is_told(
    here: World, when: str
) -> None:
    await here.start(CRASH_AT="answer.show", CRASH_WHEN=when)
    await here.discord.slash(here.member, here.channel, "imagine", prompt="a cave", private=True)
    await here.dead()
    here.pass_time(TWENTY_MINUTES)
    await here.start()
    await here.settled()
    await here.stop()
    assert here.provider.orders == []
    assert audit(here).outcomes == {"not_shown": 1}
    assert audit(here).problems == []
    (message,) = here.discord.direct(here.member).messages.values()
    assert "Failed" in message.text
    assert "not charged" in message.text


@pytest.mark.f28
@pytest.mark.f35
async def test_a_job_that_outlives_its_deadline_while_the_bot_is_away_ends_at_the_operators_cost(
    here: World,
) -> None:
    here.provider.next_order(Plan(words=(("processing", 10_000.0),)))
    await here.start()
    order = await here.discord.slash(here.member, here.channel, "imagine", prompt="a glacier")
    assert await seen(here, lambda: "Processing" in order.text)
    await here.stop()
    here.pass_time(THREE_HOURS)
    await here.start()
    await here.settled()
    await here.stop()
    found = audit(here)
    assert found.outcomes == {"timed_out": 1}
    assert found.charged_usd_micros == 0
    assert found.followed_usd_micros == 80_000, "it may still come, and cost something"
    assert found.stuck == []
    assert "not charged" in order.text


async def test_f34_a_stop_while_a_card_is_being_shown_records_that_it_was(here: World) -> None:
    await here.start()
    here.discord.world.feed.hooks.append(
        lambda kind, _: os.kill(here.pid, signal.SIGTERM) if kind == "answered" and here.pid else None
    )
    order = await here.discord.slash(here.member, here.channel, "imagine", prompt="a mole")
    assert await here.dead(timeout_seconds=10) == 0
    here.discord.world.feed.hooks.pop()
    assert [row[0] for row in here.query("SELECT accepted FROM replies")] == [1]
    await here.start()
    await here.settled()
    await here.stop()
    assert audit(here).problems == []
    assert "Completed" in order.text
