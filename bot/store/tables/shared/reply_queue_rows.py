"""The queue of replies between gateways and workers: the tables of the library pgqueuer, in the bot's database.

Synchronous functions inside the caller's transaction, on PostgreSQL alone. A reply is in the queue once at most, from
its acceptance until it is finished (see reply_queue.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables.jobs import NOT_SHOWN_YET

ENTRYPOINT = "reply"
QUEUE_CHANNEL = "ch_pgqueuer"
"""The channel on which the library is notified that there is something to claim."""

ORPHANED_AFTER = timedelta(seconds=20)
"""Age at which a reply that no process runs was admitted by a process that died, or lost its queue entry."""

# As in jobs.py, without the replies that are in the queue.
_ORPHANED = f"""
SELECT id FROM replies WHERE created_at < ? AND id IN (
    SELECT reply_id FROM jobs WHERE finished_at IS NULL
    UNION SELECT reply_id FROM jobs WHERE follow_until_at IS NOT NULL
    UNION SELECT id FROM replies WHERE {NOT_SHOWN_YET}
) AND NOT EXISTS (SELECT 1 FROM pgqueuer WHERE dedupe_key = replies.id AND status IN ('queued', 'picked'))
ORDER BY created_at, id LIMIT 1000
"""  # noqa: S608
# A hand-over takes at most the time of a heartbeat, so older entries have no use.
_TRIM_LOG = "DELETE FROM pgqueuer_log WHERE aggregated AND created < now() - INTERVAL '1 day'"
_TRIM_STATISTICS = "DELETE FROM pgqueuer_statistics WHERE created < now() - INTERVAL '7 days'"


def enqueue(connection: Connection, reply_ids: Sequence[str]) -> None:
    """Have a worker run these replies, if the transaction commits. Those already in the queue stay where they are."""
    if reply_ids:
        connection.enqueue(ENTRYPOINT, reply_ids)


def orphaned(connection: Connection, *, now: datetime) -> list[str]:
    """Return the replies that are unfinished, not new and in no queue; the 1,000 oldest."""
    return [row[0] for row in connection.execute(_ORPHANED, (to_micros(now - ORPHANED_AFTER),)).fetchall()]


def trim_log(connection: Connection) -> None:
    """Delete old entries of the log, which the library keeps without a limit."""
    connection.execute(_TRIM_LOG)
    connection.execute(_TRIM_STATISTICS)
