"""Channel caps: what may be spent in a channel or category, what was, and when moderators were warned.

Synchronous functions inside the caller's transaction. An order counts for its channel and for that channel's category,
as they were when it was made.
"""

from __future__ import annotations

from datetime import datetime

from bot.domain.money.quota import Cap, LimitSubject, Quota, Window
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables.money.limits import limit, limits_of, time_zone
from bot.store.tables.money.totals import bounds, totals_of_channel

_SUMS = f"""
SELECT CAST(coalesce(sum(held_usd_micros), 0) AS BIGINT) AS held,
    CAST(coalesce(sum(settled_usd_micros), 0) AS BIGINT) AS spent
FROM {totals_of_channel(":channel_id", "window")}
"""  # noqa: S608 - our own words
_WARN_ONCE = """
UPDATE limits SET warned_until_at = :until
WHERE guild_id = :guild_id AND subject = 'channel' AND subject_id = :channel_id
    AND (warned_until_at IS NULL OR warned_until_at <> :until)
"""
_WAS_WARNED = """
SELECT EXISTS (
    SELECT 1 FROM limits
    WHERE guild_id = ? AND subject = 'channel' AND subject_id = ? AND warned_until_at = ?
)
"""


def channel_cap(connection: Connection, guild_id: int, channel_id: int, *, now: datetime) -> Cap | None:
    """Return the cap of a channel or category and what was used of it; None where no cap is set."""
    quota = limit(connection, guild_id, LimitSubject.CHANNEL, channel_id)
    if quota is None:
        return None
    window = Window.containing(now, quota.period, time_zone(connection, guild_id))
    return cap_in(connection, channel_id, quota, window)


def caps_of_channels(connection: Connection, guild_id: int, *, now: datetime) -> list[Cap]:
    """Return every cap of a channel or category of the server, and what was used of each."""
    zone = time_zone(connection, guild_id)
    return [
        cap_in(connection, channel_id, quota, Window.containing(now, quota.period, zone))
        for subject, channel_id, quota in limits_of(connection, guild_id)
        if subject is LimitSubject.CHANNEL and channel_id is not None
    ]


def cap_in(connection: Connection, channel_id: int, quota: Quota, window: Window) -> Cap:
    """Return a cap of a channel or category with what was spent and reserved there in the window."""
    row = connection.execute(_SUMS, {"channel_id": channel_id, **bounds("window", window)}).fetchone()
    return Cap(
        quota=quota,
        window=window,
        spent_usd_micros=row["spent"],
        set_aside_usd_micros=row["held"],
        channel_id=channel_id,
    )


def first_warning_of_channel(connection: Connection, guild_id: int, channel_id: int, *, window: Window) -> bool:
    """Record that moderators were told that little is left for a channel in `window`; False if they were before."""
    row = {"guild_id": guild_id, "channel_id": channel_id, "until": to_micros(window.end)}
    return connection.execute(_WARN_ONCE, row).rowcount == 1


def channel_was_warned(connection: Connection, guild_id: int, channel_id: int, *, window: Window) -> bool:
    """Return whether it is recorded that moderators were told that little is left for a channel in `window`."""
    return bool(connection.execute(_WAS_WARNED, (guild_id, channel_id, to_micros(window.end))).fetchone()[0])
