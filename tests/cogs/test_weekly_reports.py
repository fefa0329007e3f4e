"""/settings weekly-report and /settings welcome: each week is reported once, and the bot introduces itself once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cogs.text import member_pages, moderation, spending_report
from tests.support.discord_stage import Card, Stage


async def wants_reports(stage: Stage) -> Any:
    news = stage.guild.create_text_channel("news")
    said = await stage.settings("weekly-report", channel=news, reason="budget")
    assert moderation.WEEKLY_IS(channel=f"<#{news.id}>") in said.text
    return news


def reports(stage: Stage, channel: Any) -> list[Card]:
    return [card for card in stage.cards(channel) if "Spending in the week from" in card.text]


async def test_a_week_is_reported_once_when_it_ends_with_chart_and_tables(stage: Stage) -> None:
    news = await wants_reports(stage)
    await stage.until_says(await stage.imagine(), "Completed")
    weekly, now = stage.core.bot.weekly_reports, datetime.now(UTC)
    await weekly.post_due(now)
    assert reports(stage, news) == []  # the last week ended before a moderator asked for reports
    next_week = now + timedelta(days=7)
    await asyncio.gather(*(weekly.post_due(next_week) for _ in range(3)))
    await stage.restart()
    await stage.core.bot.weekly_reports.post_due(next_week + timedelta(hours=1))
    [report] = reports(stage, news)
    assert "**$0.08** for 1 image" in report.text
    assert {file["filename"] for file in report.files} == {"spending.png", "spending.csv", "spending-by-day.csv"}
    assert "changed where the weekly report is posted: not set → <#" in (await stage.quota("audit")).text


async def test_a_report_that_is_due_is_posted_in_the_channel_that_is_chosen_meanwhile(stage: Stage) -> None:
    old = await wants_reports(stage)
    await stage.until_says(await stage.imagine(), "Completed")
    next_week = datetime.now(UTC) + timedelta(days=7)
    stage.core.service.now = lambda: next_week
    new = stage.guild.create_text_channel("reports")
    await stage.settings("weekly-report", channel=new)
    await stage.core.bot.weekly_reports.post_due(next_week)
    assert reports(stage, old) == []
    assert len(reports(stage, new)) == 1


class Killed(BaseException):
    """The end of the process at this moment."""


async def test_a_process_killed_after_posting_leaves_one_report(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    news = await wants_reports(stage)
    next_week = datetime.now(UTC) + timedelta(days=7)
    stage.env.backend.clock.advance(timedelta(days=7).total_seconds())  # Discord's ids tell when a message was posted

    async def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(stage.core.store, "finish_weekly_report", dies)
        with pytest.raises(Killed):
            await stage.core.bot.weekly_reports.post_due(next_week)
    await stage.restart()
    for minutes in (1, 3, 60):
        await stage.core.bot.weekly_reports.post_due(next_week + timedelta(minutes=minutes))
    [report] = reports(stage, news)
    assert spending_report.REPORT_EMPTY() in report.text


async def test_a_process_killed_before_posting_leaves_it_to_the_next(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    news = await wants_reports(stage)
    next_week = datetime.now(UTC) + timedelta(days=7)

    async def dies(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as context:
        context.setattr(stage.core.bot.messages, "post", dies)
        with pytest.raises(Killed):
            await stage.core.bot.weekly_reports.post_due(next_week)
    await stage.restart()
    await stage.core.bot.weekly_reports.post_due(next_week + timedelta(minutes=1))
    assert reports(stage, news) == []  # the claim of the dead process still stands
    await stage.core.bot.weekly_reports.post_due(next_week + timedelta(minutes=3))
    assert len(reports(stage, news)) == 1


async def test_a_new_server_is_greeted_once_with_what_to_decide_first(stage: Stage) -> None:
    hall = stage.guild.create_text_channel("hall")
    guild = stage.core.bot.get_guild(stage.guild.id)
    assert guild is not None
    guild._system_channel_id = hall.id
    assert "introduce myself once" in (await stage.settings("welcome")).text
    await stage.settings("welcome", on=False)
    await stage.core.bot.on_guild_join(guild)
    assert stage.cards(hall) == []
    await stage.settings("welcome", on=True)
    for _ in range(2):
        await stage.core.bot.on_guild_join(guild)
    [hello] = stage.cards(hall)
    for words in ("Hello, I make images", "Who pays", "`/quota default`", "`/settings welcome`"):
        assert words in hello.text


async def test_help_fits_the_reader(stage: Stage) -> None:
    for_moderators = stage.said(await stage.mo.slash(stage.channel, "help")).text
    assert member_pages.HELP_BOOSTERS() in for_moderators
    for_members = stage.said(await stage.ada.slash(stage.channel, "help")).text
    assert member_pages.HELP_BOOSTERS() not in for_members
    assert "/quota" not in for_members
