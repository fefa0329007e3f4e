"""The queue of replies between gateways and workers: one row for each reply that a worker runs or has to run.

Synchronous functions inside the caller's transaction, on PostgreSQL alone. A reply is in the queue once at most, from
its acceptance until it is finished. A worker that claims it has a lease, which it renews; when that has expired,
another worker claims the reply. All times are those of the server.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables.job_lists import NOT_SHOWN_YET
from bot.store.tables.shared.notifications import Topic, notify

ORPHANED_AFTER = timedelta(seconds=20)
"""Age at which a reply that no process runs was admitted by a process that died, or lost its queue entry."""

_ENQUEUE = "INSERT INTO reply_queue (reply_id) SELECT unnest(CAST(? AS TEXT[])) ON CONFLICT DO NOTHING"
# The jobs that `ReplyRunner` would bring to their end.
_CLAIM = """
WITH claimed AS MATERIALIZED (
    SELECT reply_id FROM reply_queue WHERE claimable_at <= now() AND (
        worker IS NULL OR now() < CAST(:takes_over_until AS TIMESTAMPTZ)
    ) AND NOT EXISTS (
        SELECT 1 FROM jobs WHERE jobs.reply_id = reply_queue.reply_id
            AND (finished_at IS NULL OR follow_until_at IS NOT NULL) AND provider <> ALL(CAST(:providers AS TEXT[]))
    ) ORDER BY claimable_at LIMIT :limit FOR UPDATE SKIP LOCKED
)
UPDATE reply_queue SET worker = :worker, claimable_at = now() + :lease
FROM claimed WHERE reply_queue.reply_id = claimed.reply_id RETURNING reply_queue.reply_id
"""
_RENEW = """
WITH renewed AS (
    UPDATE reply_queue SET claimable_at = now() + :lease WHERE worker = :worker AND reply_id = ANY(:reply_ids)
)
SELECT now()
"""
_REMOVE = "DELETE FROM reply_queue WHERE worker = ? AND reply_id = ANY(?)"
_LEAVE = """
UPDATE reply_queue SET worker = NULL, claimable_at = now()
WHERE worker = :worker AND reply_id = ANY(:reply_ids) AND EXISTS (
    SELECT 1 FROM jobs WHERE jobs.reply_id = reply_queue.reply_id
        AND (finished_at IS NULL OR follow_until_at IS NOT NULL) AND provider = ANY(:providers)
) AND NOT EXISTS (
    SELECT 1 FROM jobs WHERE jobs.reply_id = reply_queue.reply_id AND status = 'submitting'
)
RETURNING reply_id
"""
_GIVE_BACK = "UPDATE reply_queue SET worker = NULL, claimable_at = now() WHERE worker = ? AND reply_id = ANY(?)"
# As in jobs.py, without the replies that are in the queue.
_ORPHANED = f"""
SELECT id FROM replies WHERE created_at < ? AND id IN (
    SELECT reply_id FROM jobs WHERE finished_at IS NULL
    UNION SELECT reply_id FROM jobs WHERE follow_until_at IS NOT NULL
    UNION SELECT id FROM replies WHERE {NOT_SHOWN_YET}
) AND NOT EXISTS (SELECT 1 FROM reply_queue WHERE reply_id = replies.id)
ORDER BY created_at, id LIMIT 1000
"""  # noqa: S608


def enqueue(connection: Connection, reply_ids: Sequence[str]) -> None:
    """Have a worker run these replies, if the transaction commits. Those already in the queue stay where they are."""
    connection.execute(_ENQUEUE, (list(reply_ids),))
    notify(connection, Topic.QUEUE, "")


def claim(
    connection: Connection,
    worker: str,
    *,
    lease: timedelta,
    limit: int,
    providers: Collection[str],
    takes_over_until: datetime | None,
) -> list[str]:
    """Lease the replies that have waited longest to this worker, and return them; oldest first.

    Replies with unfinished jobs of other `providers` are left to others. The replies of workers whose lease has expired
    are included until then, by the server's clock: a server that was silent carries the statement out much later, when
    every lease has expired.
    """
    row = {
        "worker": worker,
        "lease": lease,
        "limit": limit,
        "providers": list(providers),
        "takes_over_until": takes_over_until,
    }
    return sorted(found[0] for found in connection.execute(_CLAIM, row).fetchall())


def renew(connection: Connection, worker: str, reply_ids: Collection[str], *, lease: timedelta) -> datetime:
    """Renew the leases of this worker on these replies; return the server's time.

    A reply that another worker has taken over is left to it.
    """
    row = {"worker": worker, "reply_ids": list(reply_ids), "lease": lease}
    return connection.execute(_RENEW, row).fetchone()[0]


def remove(connection: Connection, worker: str, reply_ids: Collection[str]) -> None:
    """Remove replies that this worker has finished."""
    connection.execute(_REMOVE, (worker, list(reply_ids)))


def give_back(connection: Connection, worker: str, reply_ids: Collection[str]) -> None:
    """Return replies that this worker has not finished, for any worker to claim."""
    connection.execute(_GIVE_BACK, (worker, list(reply_ids)))
    notify(connection, Topic.QUEUE, "")


def leave(connection: Connection, worker: str, reply_ids: Collection[str], *, providers: Collection[str]) -> list[str]:
    """Return replies with unfinished jobs of these providers, for other workers to claim; return their ids.

    Not while a job of theirs is being sent: its worker records first what comes of that.
    """
    row = {"worker": worker, "reply_ids": list(reply_ids), "providers": list(providers)}
    left = [found[0] for found in connection.execute(_LEAVE, row).fetchall()]
    if left:
        notify(connection, Topic.QUEUE, "")
    return left


def orphaned(connection: Connection, *, now: datetime) -> list[str]:
    """Return the replies that are unfinished, not new and in no queue; the 1,000 oldest."""
    return [row[0] for row in connection.execute(_ORPHANED, (to_micros(now - ORPHANED_AFTER),)).fetchall()]
