"""The queue of replies between gateways and workers: the tables of the library pgqueuer, in the books' own database.

Synchronous functions inside the caller's transaction, on PostgreSQL alone. A reply is in the queue once at most, from
its acceptance until it was followed to its end (see reply_queue.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import psycopg

from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.postgres.connection import PostgresConnection

if TYPE_CHECKING:
    from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
    from pgqueuer.adapters.persistence.queries import SyncQueries

ENTRYPOINT = "reply"
QUEUE_CHANNEL = "ch_pgqueuer"
"""Where the library is told that there is something to claim."""

ORPHANED_AFTER = timedelta(seconds=20)
"""A reply this old that nobody follows was admitted by a process that died, or lost its place in the queue."""

# As in jobs.py, but for those whom some process follows or will.
_FORGOTTEN = """
SELECT id FROM replies WHERE created_at < ? AND id IN (
    SELECT reply_id FROM jobs WHERE finished_at IS NULL
    UNION SELECT id FROM replies WHERE delivery <> 'delivered' AND delivery = 'pending'
) AND NOT EXISTS (SELECT 1 FROM pgqueuer WHERE dedupe_key = replies.id AND status IN ('queued', 'picked'))
ORDER BY created_at, id LIMIT 1000
"""
# A hand-over takes at most the time of a heartbeat, so older entries tell nobody anything.
_FORGET_LOG = "DELETE FROM pgqueuer_log WHERE aggregated AND created < now() - INTERVAL '1 day'"
_FORGET_STATISTICS = "DELETE FROM pgqueuer_statistics WHERE created < now() - INTERVAL '7 days'"


def enqueue(connection: Connection, reply_ids: Sequence[str]) -> None:
    """Some worker will follow these, if the transaction commits. Those already in the queue stay where they are."""
    assert isinstance(connection, PostgresConnection), "a file has one process, which needs no queue"
    count = len(reply_ids)
    if count:
        payloads: list[bytes | None] = [reply_id.encode() for reply_id in reply_ids]
        library = _library()
        driver = library.driver(cast("psycopg.Connection[Any]", connection.raw))
        library.queries(driver).enqueue(
            [ENTRYPOINT] * count, payloads, [0] * count, dedupe_key=list(reply_ids), on_conflict="skip"
        )


class _Library(NamedTuple):
    driver: type[SyncPsycopgDriver]
    queries: type[SyncQueries]


@cache
def _library() -> _Library:
    """Imported when it is needed first: a process that is alone never does."""
    from pgqueuer.adapters.drivers.psycopg import SyncPsycopgDriver
    from pgqueuer.adapters.persistence.queries import SyncQueries

    return _Library(SyncPsycopgDriver, SyncQueries)


def get_ready() -> None:
    """So that the first order need not wait for an import."""
    _library()


def orphaned(connection: Connection, *, now: datetime) -> list[str]:
    """Replies that are not at their end, are not new, and are in no queue. Oldest first, so many at a time."""
    return [row[0] for row in connection.execute(_FORGOTTEN, (to_micros(now - ORPHANED_AFTER),)).fetchall()]


def trim_log(connection: Connection) -> None:
    """The library keeps what became of every entry, for ever."""
    connection.execute(_FORGET_LOG)
    connection.execute(_FORGET_STATISTICS)
