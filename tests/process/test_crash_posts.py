"""Killed while a weekly report or a question to moderators is posted: it is there once, whatever ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cogs.text import spending_report
from sandbox.discord import Channel, Message
from tests.support.crash_scenarios import KILLED, decide, imagine
from tests.support.crashes import IMPATIENT, SIX_MINUTES, Nursery, World, audit, seen, world

A_WEEK = 7 * 24 * 3600.0
WHEN = ["before", "after"]


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nursery, tmp_path) as here:
        here.settings |= IMPATIENT
        yield here


async def killed(here: World, point: str, when: str) -> None:
    await here.start(CRASH_AT=point, CRASH_WHEN=when)
    assert await here.dead() == KILLED, here.last_words()
    here.pass_time(SIX_MINUTES)


def messages(channel: Channel) -> list[Message]:
    return list(channel.messages.values())


def text_of(channel: Channel) -> str:
    return "\n".join(message.text for message in messages(channel))


# -- the weekly report ----------------------------------------------------------------------------------------


def weeks_done(here: World) -> int:
    """Count the weeks that were reported; the one in which a moderator asked counts the one before as done."""
    return here.query("SELECT count(*) FROM weekly_reports WHERE done_at IS NOT NULL")[0][0]


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("point", ["store.claim_weekly_report", "messages.post", "store.finish_weekly_report"])
async def test_a_week_is_reported_once_whatever_restarts(here: World, point: str, when: str) -> None:
    news = here.discord.channel(here.server, "news")
    await here.start()
    order = await imagine(here, "a lighthouse")
    assert await seen(here, lambda: "Completed" in order.text)
    await decide(here, ("settings weekly-report", {"channel": news}))
    await here.settled()
    await here.stop(politely=True)
    assert messages(news) == []
    here.pass_time(A_WEEK)
    await killed(here, point, when)
    for _ in range(2):
        await here.start()
        assert await seen(here, lambda: weeks_done(here) == 2)
        await here.settled()
        assert await here.stop(politely=True) == 0
        here.pass_time(SIX_MINUTES)
    [report] = messages(news)
    assert "for 1 image" in report.text
    assert spending_report.REPORT_EMPTY() not in report.text
    assert {file.upload.filename for file in report.attachments} == {
        "spending.png",
        "spending.csv",
        "spending-by-day.csv",
    }


# -- review ---------------------------------------------------------------------------------------------------


async def is_reviewed(here: World) -> Channel:
    """Have the images of the channel reviewed; return where moderators decide."""
    desk = here.discord.channel(here.server, "desk")
    await here.start()
    await decide(here, ("settings review", {"action": "add", "channel": here.channel, "review_channel": desk}))
    assert await here.stop(politely=True) == 0
    return desk


async def asked(here: World, desk: Channel) -> Message:
    """Start the bot if it is dead, and wait until one question is posted and recorded."""
    if here.is_dead:
        await here.start()
    assert await seen(here, lambda: bool(here.query("SELECT 1 FROM reviews WHERE message_id IS NOT NULL")))
    [question] = messages(desk)
    return question


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("point", ["store.claim_review", "messages.post", "store.record_review"])
async def test_moderators_are_asked_once_and_the_image_waits(here: World, point: str, when: str) -> None:
    desk = await is_reviewed(here)
    await here.start(CRASH_AT=point, CRASH_WHEN=when)
    order = await imagine(here, "a lighthouse")
    assert await here.dead() == KILLED, here.last_words()
    here.pass_time(SIX_MINUTES)
    question = await asked(here, desk)
    assert "Waiting for review" in order.text
    assert order.reply is not None
    assert order.reply.attachments == []
    await here.discord.click(here.moderator, question, "Approve")
    assert await seen(here, lambda: "Completed" in order.text)
    await here.settled()
    assert await here.stop(politely=True) == 0
    assert len(messages(desk)) == 1
    assert len(order.reply.attachments) == 1
    assert audit(here).problems == []


@pytest.mark.parametrize("when", WHEN)
@pytest.mark.parametrize("point", ["store.decide_review", "messages.edit", "store.set_delivery"])
async def test_a_decision_counts_once_and_reaches_the_card(here: World, point: str, when: str) -> None:
    desk = await is_reviewed(here)
    await here.start()
    order = await imagine(here, "a lighthouse")
    question = await asked(here, desk)
    assert await here.stop() == KILLED
    here.pass_time(SIX_MINUTES)
    await here.start(CRASH_AT=point, CRASH_WHEN=when)
    await here.discord.click(here.moderator, question, "Approve")
    assert await here.dead() == KILLED, here.last_words()
    here.pass_time(SIX_MINUTES)
    await here.start()
    if point == "store.decide_review" and when == "before":
        assert "Waiting for review" in order.text
        await here.discord.click(here.moderator, question, "Approve")
    assert await seen(here, lambda: "Completed" in order.text)
    await here.settled()
    assert await here.stop(politely=True) == 0
    assert here.query("SELECT count(*) FROM audit WHERE action = 'approve'")[0][0] == 1
    assert len(messages(desk)) == 1
    assert audit(here).problems == []
