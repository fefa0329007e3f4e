"""Weekly reports in the database: one claim at a time, and none once a week is done."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from bot.domain.deployment.database_url import Location
from bot.store.store import Store
from bot.store.tables.money.weekly_reports import CLAIM
from tests.support.databases import rows
from tests.support.store_samples import NOON

WEEK = "2026-11-16"


async def test_of_many_attempts_one_gets_the_week_and_a_crash_frees_it_later(location: Location) -> None:
    async with await Store.open(location) as store:
        claims = await asyncio.gather(*(store.claim_weekly_report(1, WEEK, now=NOON) for _ in range(8)))
        assert [claim.is_first for claim in claims if claim is not None] == [True]
        assert await store.claim_weekly_report(1, WEEK, now=NOON + CLAIM - timedelta(seconds=1)) is None
        later = await store.claim_weekly_report(1, WEEK, now=NOON + CLAIM)
        assert later is not None
        assert (later.is_first, later.first_claimed_at) == (False, NOON)
        await store.finish_weekly_report(1, WEEK, now=NOON)
        assert await store.is_weekly_report_done(1, WEEK)
        assert await store.claim_weekly_report(1, WEEK, now=NOON + timedelta(days=2)) is None
        assert await store.claim_weekly_report(2, WEEK, now=NOON) is not None


async def test_a_week_before_one_that_is_done_is_not_reported(location: Location) -> None:
    async with await Store.open(location) as store:
        await store.finish_weekly_report(1, WEEK, now=NOON)
        assert await store.is_weekly_report_done(1, "2026-11-09"), "where it is Sunday still, this was the last week"
        assert not await store.is_weekly_report_done(1, "2026-11-23")
        assert not await store.is_weekly_report_done(2, "2026-11-09")


async def test_weeks_of_more_than_a_year_ago_are_deleted(location: Location) -> None:
    async with await Store.open(location) as store:
        for guild_id, week in ((1, "2025-11-10"), (2, "2025-11-10"), (1, "2025-11-17"), (1, WEEK)):
            await store.finish_weekly_report(guild_id, week, now=NOON)
        assert await store.is_weekly_report_done(1, "2025-11-10")
    kept = rows(location, "SELECT guild_id, week FROM weekly_reports ORDER BY guild_id, week")
    assert [tuple(row) for row in kept] == [(1, "2025-11-17"), (1, WEEK), (2, "2025-11-10")]
