"""Limits: what moderators allow members to spend, each change recorded.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from bot.domain.audit import Name, Standing, as_limit
from bot.domain.money.quota import LimitSubject, Member, Period, Quota, QuotaSource, effective_quota
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection, Row
from bot.store.tables.audit_log import Change, record

UTC_ZONE = ZoneInfo("UTC")

# At least one row, whose limit is NULL where none was set.
_TERMS = """
SELECT standing.blocked, standing.time_zone, chosen.subject, chosen.subject_id, chosen.amount_usd_micros, chosen.period
FROM (
    SELECT
        EXISTS (SELECT 1 FROM blocks WHERE guild_id = :guild_id AND user_id = :user_id) AS blocked,
        (SELECT time_zone FROM server_settings WHERE guild_id = :guild_id) AS time_zone
) AS standing LEFT JOIN (
    SELECT subject, subject_id, amount_usd_micros, period FROM limits
    WHERE guild_id = :guild_id AND subject IN ('default', 'role', 'server')
    UNION ALL
    SELECT subject, subject_id, amount_usd_micros, period FROM limits
    WHERE guild_id = :guild_id AND subject = 'member' AND subject_id = :user_id
    UNION ALL
    SELECT subject, subject_id, amount_usd_micros, period FROM limits
    WHERE guild_id = :guild_id AND subject = 'channel' AND subject_id IN (:channel_id, :category_id)
) AS chosen ON TRUE
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
ON CONFLICT (guild_id, subject, subject_id)
DO UPDATE SET amount_usd_micros = excluded.amount_usd_micros, period = excluded.period
"""
_REMOVE_LIMIT = "DELETE FROM limits WHERE guild_id = ? AND subject = ? AND subject_id = ?"
_BLOCK = "INSERT INTO blocks (guild_id, user_id, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_UNBLOCK = "DELETE FROM blocks WHERE guild_id = ? AND user_id = ?"
_IS_BLOCKED = "SELECT EXISTS (SELECT 1 FROM blocks WHERE guild_id = ? AND user_id = ?)"
_TIME_ZONE = "SELECT time_zone FROM server_settings WHERE guild_id = ?"
_SET_TIME_ZONE = """
INSERT INTO server_settings (guild_id, time_zone) VALUES (?, ?)
ON CONFLICT (guild_id) DO UPDATE SET time_zone = excluded.time_zone
"""

_SOURCES = {
    LimitSubject.MEMBER: QuotaSource.MEMBER,
    LimitSubject.ROLE: QuotaSource.ROLE,
    LimitSubject.DEFAULT: QuotaSource.DEFAULT,
    LimitSubject.CHANNEL: QuotaSource.DEFAULT,
    LimitSubject.SERVER: QuotaSource.DEFAULT,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """What applies to one member in one channel: quota, caps, and whether the member is blocked."""

    quota: Quota
    channel_cap: Quota | None
    category_cap: Quota | None
    server_cap: Quota | None
    time_zone: ZoneInfo
    blocked: bool


def terms_for(connection: Connection, member: Member, *, default: Quota) -> Terms:
    """`default` is the operator's; it counts where the server's moderators have set none."""
    place = member.place
    question = {
        "guild_id": member.guild_id,
        "user_id": member.user_id,
        "channel_id": place.channel_id if place else None,
        "category_id": place.category_id if place else None,
    }
    rows = connection.execute(_TERMS, question).fetchall()
    own = server_cap = channel_cap = category_cap = None
    roles: list[Quota] = []
    for row in rows:
        if row["subject"] is None:
            continue
        quota = _quota(row)
        match LimitSubject(row["subject"]):
            case LimitSubject.MEMBER:
                own = quota
            case LimitSubject.ROLE if row["subject_id"] in member.role_ids:
                roles.append(quota)
            case LimitSubject.ROLE:
                pass
            case LimitSubject.CHANNEL if row["subject_id"] == question["channel_id"]:
                channel_cap = quota
            case LimitSubject.CHANNEL:
                category_cap = quota
            case LimitSubject.DEFAULT:
                default = quota
            case LimitSubject.SERVER:
                server_cap = quota
    time_zone = rows[0]["time_zone"]
    return Terms(
        quota=effective_quota(own=own, roles=roles, default=default),
        channel_cap=channel_cap,
        category_cap=category_cap,
        server_cap=server_cap,
        time_zone=UTC_ZONE if time_zone is None else ZoneInfo(time_zone),
        blocked=bool(rows[0]["blocked"]),
    )


def limit(connection: Connection, guild_id: int, subject: LimitSubject, subject_id: int | None) -> Quota | None:
    """Return the limit set for a member, role, channel, the default or the server, or None where none is set."""
    row = connection.execute(_LIMIT, (guild_id, subject, subject_id or 0)).fetchone()
    return None if row is None else _quota(row)


def limits_of(connection: Connection, guild_id: int) -> list[tuple[LimitSubject, int | None, Quota]]:
    """Return every limit that the server's moderators have set."""
    rows = connection.execute(_LIMITS_OF_SERVER, (guild_id,))
    return [(LimitSubject(row["subject"]), row["subject_id"] or None, _quota(row)) for row in rows]


def set_limit(
    connection: Connection,
    guild_id: int,
    subject: LimitSubject,
    subject_id: int | None,
    quota: Quota | None,
    *,
    actor_id: int,
    reason: str | None,
    now: datetime,
) -> Quota | None:
    """Set or (None) remove a limit, and record it. Returns the old one; None also when there was none to remove.

    The same limit again is no change, and not recorded.
    A server or a channel has no cap until one is set.
    """
    change = Change(actor_id=actor_id, reason=reason, now=now)
    old = limit(connection, guild_id, subject, subject_id)
    if old is None and quota is None:
        return None
    if old is not None and quota is not None and old.allows_the_same_as(quota):
        return old
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
        old=as_limit(old),
        new=as_limit(quota),
        change=change,
    )
    return old


def set_blocked(
    connection: Connection,
    guild_id: int,
    user_id: int,
    blocked: bool,
    *,
    actor_id: int,
    reason: str | None,
    now: datetime,
) -> bool:
    """Block or unblock a member, and record it. Returns whether that changed anything."""
    change = Change(actor_id=actor_id, reason=reason, now=now)
    if blocked:
        changed = connection.execute(_BLOCK, (guild_id, user_id, to_micros(now))).rowcount > 0
    else:
        changed = connection.execute(_UNBLOCK, (guild_id, user_id)).rowcount > 0
    if changed:
        action, old, new = "block", Standing.NOT_BLOCKED, Standing.BLOCKED
        if not blocked:
            action, old, new = "unblock", new, old
        record(connection, guild_id, action, LimitSubject.MEMBER, user_id, old=old, new=new, change=change)
    return changed


def is_blocked(connection: Connection, guild_id: int, user_id: int) -> bool:
    """Return whether the server's moderators have blocked this member."""
    return bool(connection.execute(_IS_BLOCKED, (guild_id, user_id)).fetchone()[0])


def time_zone(connection: Connection, guild_id: int) -> ZoneInfo:
    """Return the server's time zone; UTC until a moderator sets another."""
    row = connection.execute(_TIME_ZONE, (guild_id,)).fetchone()
    return UTC_ZONE if row is None else ZoneInfo(row["time_zone"])


def set_time_zone(
    connection: Connection, guild_id: int, zone: ZoneInfo, *, actor_id: int, reason: str | None, now: datetime
) -> None:
    """Make periods this zone's calendar periods from now on, and record it; what was spent keeps its instant."""
    change = Change(actor_id=actor_id, reason=reason, now=now)
    old, new = Name(name=time_zone(connection, guild_id).key), Name(name=zone.key)
    connection.execute(_SET_TIME_ZONE, (guild_id, zone.key))
    record(connection, guild_id, "time_zone", LimitSubject.SERVER, None, old=old, new=new, change=change)


def _quota(row: Row) -> Quota:
    subject = LimitSubject(row["subject"])
    return Quota(
        amount_usd_micros=row["amount_usd_micros"],
        period=Period(row["period"]),
        source=_SOURCES[subject],
        role_id=row["subject_id"] if subject is LimitSubject.ROLE else None,
    )
