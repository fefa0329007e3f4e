"""Limits: what moderators decide about spending, and the record of every change they make.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from bot.quota import AuditEntry, LimitSubject, Member, Period, Quota, QuotaSource, effective_quota, format_usd
from bot.store.columns import to_micros, to_moment

_UTC = ZoneInfo("UTC")

_STANDING = """
SELECT
    EXISTS (SELECT 1 FROM blocks WHERE guild_id = :guild_id AND user_id = :user_id) AS blocked,
    (SELECT time_zone FROM server_settings WHERE guild_id = :guild_id) AS time_zone
"""
_LIMITS_FOR_MEMBER = """
SELECT subject, subject_id, amount_usd_micros, period FROM limits
WHERE guild_id = :guild_id AND subject IN ('default', 'role', 'server')
UNION ALL
SELECT subject, subject_id, amount_usd_micros, period FROM limits
WHERE guild_id = :guild_id AND subject = 'member' AND subject_id = :user_id
"""
_LIMITS_OF_SERVER = """
SELECT subject, subject_id, amount_usd_micros, period FROM limits WHERE guild_id = ? ORDER BY subject, subject_id
"""
_LIMIT = """
SELECT subject, subject_id, amount_usd_micros, period FROM limits
WHERE guild_id = ? AND subject = ? AND subject_id = ?
"""
_SET_LIMIT = """
INSERT INTO limits (guild_id, subject, subject_id, amount_usd_micros, period) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET amount_usd_micros = excluded.amount_usd_micros, period = excluded.period
"""
_REMOVE_LIMIT = "DELETE FROM limits WHERE guild_id = ? AND subject = ? AND subject_id = ?"
_BLOCK = "INSERT INTO blocks (guild_id, user_id, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_UNBLOCK = "DELETE FROM blocks WHERE guild_id = ? AND user_id = ?"
_IS_BLOCKED = "SELECT EXISTS (SELECT 1 FROM blocks WHERE guild_id = ? AND user_id = ?)"
_TIME_ZONE = "SELECT time_zone FROM server_settings WHERE guild_id = ?"
_SET_TIME_ZONE = """
INSERT INTO server_settings (guild_id, time_zone) VALUES (?, ?)
ON CONFLICT DO UPDATE SET time_zone = excluded.time_zone
"""
_RECORD = """
INSERT INTO audit (guild_id, actor_id, action, subject, subject_id, old_value, new_value, reason, created_at)
VALUES (:guild_id, :actor_id, :action, :subject, :subject_id, :old_value, :new_value, :reason, :created_at)
"""
_AUDIT = """
SELECT * FROM audit WHERE guild_id = :guild_id AND id < :before_id ORDER BY id DESC LIMIT :limit
"""
_AUDIT_OF_MEMBER = """
SELECT * FROM audit WHERE guild_id = :guild_id AND subject = 'member' AND subject_id = :user_id AND id < :before_id
ORDER BY id DESC LIMIT :limit
"""
_NEWEST = 2**63 - 1

_SOURCES = {
    LimitSubject.MEMBER: QuotaSource.MEMBER,
    LimitSubject.ROLE: QuotaSource.ROLE,
    LimitSubject.DEFAULT: QuotaSource.DEFAULT,
    LimitSubject.SERVER: QuotaSource.DEFAULT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What the moderators' decisions come to for one member: quota, server cap, and whether they may at all."""

    quota: Quota
    server_cap: Quota | None
    time_zone: ZoneInfo
    blocked: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Who changes something, why and when: recorded with every change."""

    actor_id: int
    reason: str | None
    now: datetime


def terms_for(connection: sqlite3.Connection, member: Member, *, default: Quota) -> Terms:
    """`default` is the operator's; it counts where the server's moderators have set none."""
    who = {"guild_id": member.guild_id, "user_id": member.user_id}
    standing = connection.execute(_STANDING, who).fetchone()
    own = server_cap = None
    roles: list[Quota] = []
    for row in connection.execute(_LIMITS_FOR_MEMBER, who):
        quota = _quota(row)
        match LimitSubject(row["subject"]):
            case LimitSubject.MEMBER:
                own = quota
            case LimitSubject.ROLE if row["subject_id"] in member.role_ids:
                roles.append(quota)
            case LimitSubject.ROLE:
                pass
            case LimitSubject.DEFAULT:
                default = quota
            case LimitSubject.SERVER:
                server_cap = quota
    return Terms(
        quota=effective_quota(own=own, roles=roles, default=default),
        server_cap=server_cap,
        time_zone=_UTC if standing["time_zone"] is None else ZoneInfo(standing["time_zone"]),
        blocked=bool(standing["blocked"]),
    )


def limit(connection: sqlite3.Connection, guild_id: int, subject: LimitSubject, subject_id: int | None) -> Quota | None:
    """The limit set for exactly this subject."""
    row = connection.execute(_LIMIT, (guild_id, subject, subject_id or 0)).fetchone()
    return None if row is None else _quota(row)


def limits_of(connection: sqlite3.Connection, guild_id: int) -> list[tuple[LimitSubject, int | None, Quota]]:
    """Every limit the server's moderators have set."""
    rows = connection.execute(_LIMITS_OF_SERVER, (guild_id,))
    return [(LimitSubject(row["subject"]), row["subject_id"] or None, _quota(row)) for row in rows]


def set_limit(
    connection: sqlite3.Connection,
    guild_id: int,
    subject: LimitSubject,
    subject_id: int | None,
    quota: Quota | None,
    change: Change,
) -> Quota | None:
    """Set or (None) remove a limit, and record it. Returns the old one; None also when there was none to remove."""
    old = limit(connection, guild_id, subject, subject_id)
    if old is None and quota is None:
        return None
    if quota is None:
        connection.execute(_REMOVE_LIMIT, (guild_id, subject, subject_id or 0))
    else:
        row = (guild_id, subject, subject_id or 0, quota.amount_usd_micros, quota.period)
        connection.execute(_SET_LIMIT, row)
    record(
        connection,
        guild_id,
        "clear" if quota is None else "set",
        subject,
        subject_id,
        old=limit_in_words(old),
        new=limit_in_words(quota),
        change=change,
    )
    return old


def set_blocked(connection: sqlite3.Connection, guild_id: int, user_id: int, blocked: bool, change: Change) -> bool:
    """Returns whether that changed anything; only then there is something to record."""
    if blocked:
        changed = connection.execute(_BLOCK, (guild_id, user_id, to_micros(change.now))).rowcount > 0
    else:
        changed = connection.execute(_UNBLOCK, (guild_id, user_id)).rowcount > 0
    if changed:
        old, new = ("not blocked", "blocked") if blocked else ("blocked", "not blocked")
        action = "block" if blocked else "unblock"
        record(connection, guild_id, action, LimitSubject.MEMBER, user_id, old=old, new=new, change=change)
    return changed


def is_blocked(connection: sqlite3.Connection, guild_id: int, user_id: int) -> bool:
    return bool(connection.execute(_IS_BLOCKED, (guild_id, user_id)).fetchone()[0])


def time_zone(connection: sqlite3.Connection, guild_id: int) -> ZoneInfo:
    """UTC until a moderator sets another."""
    row = connection.execute(_TIME_ZONE, (guild_id,)).fetchone()
    return _UTC if row is None else ZoneInfo(row["time_zone"])


def set_time_zone(connection: sqlite3.Connection, guild_id: int, zone: ZoneInfo, change: Change) -> None:
    """Periods are this zone's calendar periods from now on; what was spent keeps its instant."""
    old = time_zone(connection, guild_id)
    connection.execute(_SET_TIME_ZONE, (guild_id, zone.key))
    record(connection, guild_id, "time_zone", LimitSubject.SERVER, None, old=old.key, new=zone.key, change=change)


def record(
    connection: sqlite3.Connection,
    guild_id: int,
    action: str,
    subject: LimitSubject,
    subject_id: int | None,
    *,
    old: str | None,
    new: str | None,
    change: Change,
) -> None:
    """Add a line to the record of changes, in the transaction that makes the change."""
    row: dict[str, Any] = {
        "guild_id": guild_id,
        "actor_id": change.actor_id,
        "action": action,
        "subject": subject,
        "subject_id": subject_id,
        "old_value": old,
        "new_value": new,
        "reason": change.reason,
        "created_at": to_micros(change.now),
    }
    connection.execute(_RECORD, row)


def audit(
    connection: sqlite3.Connection, guild_id: int, *, user_id: int | None, limit: int, before_id: int | None
) -> list[AuditEntry]:
    """The record of changes, newest first; about one member when `user_id` is given."""
    query = _AUDIT if user_id is None else _AUDIT_OF_MEMBER
    before = _NEWEST if before_id is None else before_id
    page = {"guild_id": guild_id, "user_id": user_id, "before_id": before, "limit": limit}
    return [_audit_entry(row) for row in connection.execute(query, page)]


def _audit_entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        guild_id=row["guild_id"],
        actor_id=row["actor_id"],
        action=row["action"],
        subject=row["subject"],
        subject_id=row["subject_id"],
        old_value=row["old_value"],
        new_value=row["new_value"],
        reason=row["reason"],
        created_at=to_moment(row["created_at"]),
    )


def limit_in_words(quota: Quota | None) -> str:
    """As the record of changes has it: `$5.00 per day`, `unlimited`, `not set`."""
    if quota is None:
        return "not set"
    if quota.amount_usd_micros is None:
        return "unlimited"
    return f"{format_usd(quota.amount_usd_micros)} per {quota.period}"


def _quota(row: sqlite3.Row) -> Quota:
    subject = LimitSubject(row["subject"])
    return Quota(
        amount_usd_micros=row["amount_usd_micros"],
        period=Period(row["period"]),
        source=_SOURCES[subject],
        role_id=row["subject_id"] if subject is LimitSubject.ROLE else None,
    )
