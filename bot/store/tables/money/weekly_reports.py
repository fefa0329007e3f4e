"""Weekly reports: claims, so that each week of a server is reported once, whatever ends or how many processes run.

Synchronous functions inside the caller's transaction. A week is named by the date on which it began.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from bot.store.core.columns import to_micros, to_moment
from bot.store.core.connection import Connection

CLAIM = timedelta(minutes=2)
"""How long one attempt may take. Discord refuses a message with the same nonce for longer than that."""

WEEKS_KEPT = timedelta(days=365)

_CLAIM = """
INSERT INTO weekly_reports (guild_id, week, first_claimed_at, claimed_until_at) VALUES (:guild_id, :week, :now, :until)
ON CONFLICT (guild_id, week) DO UPDATE SET claimed_until_at = excluded.claimed_until_at
WHERE weekly_reports.done_at IS NULL AND weekly_reports.claimed_until_at <= :now
RETURNING first_claimed_at
"""
_FINISH = """
INSERT INTO weekly_reports (guild_id, week, first_claimed_at, claimed_until_at, done_at)
VALUES (:guild_id, :week, :now, :now, :now)
ON CONFLICT (guild_id, week) DO UPDATE SET done_at = coalesce(weekly_reports.done_at, excluded.done_at)
"""
_FORGET_OLD = "DELETE FROM weekly_reports WHERE guild_id = ? AND week < ?"
_IS_DONE = "SELECT EXISTS (SELECT 1 FROM weekly_reports WHERE guild_id = ? AND week >= ? AND done_at IS NOT NULL)"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportClaim:
    """The right to post a report for a while. `is_first` is False if an earlier attempt may have posted it."""

    is_first: bool
    first_claimed_at: datetime


def claim_weekly_report(connection: Connection, guild_id: int, week: str, *, now: datetime) -> ReportClaim | None:
    """Claim the report of a week; None if it is done, or another process is at it."""
    row = {"guild_id": guild_id, "week": week, "now": to_micros(now), "until": to_micros(now + CLAIM)}
    found = connection.execute(_CLAIM, row).fetchone()
    if found is None:
        return None
    first = found["first_claimed_at"]
    return ReportClaim(is_first=first == row["now"], first_claimed_at=to_moment(first))


def finish_weekly_report(connection: Connection, guild_id: int, week: str, *, now: datetime) -> None:
    """Record that a week was reported, or that it will not be. It stands for all earlier ones: old ones are deleted."""
    connection.execute(_FINISH, {"guild_id": guild_id, "week": week, "now": to_micros(now)})
    connection.execute(_FORGET_OLD, (guild_id, f"{date.fromisoformat(week) - WEEKS_KEPT}"))


def is_weekly_report_done(connection: Connection, guild_id: int, week: str) -> bool:
    """Return whether a week or a later one was reported: another time zone can bring an earlier week back."""
    return bool(connection.execute(_IS_DONE, (guild_id, week)).fetchone()[0])
