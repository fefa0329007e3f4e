"""Where the database continues from: a server that was restored, or that took over, writes a log of another number.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime

from bot.store.core.columns import to_moment_or_none
from bot.store.core.connection import Connection, Dialect
from bot.store.tables.shared import notes

_KEY = "server origin"
# The database's own number changes with pg_restore, the log's with a point-in-time recovery and a failover.
_ORIGIN = """
SELECT oid || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
FROM pg_database WHERE datname = current_database()
"""
_NEWEST_ORDER = "SELECT max(created_at) FROM replies"


def newest_order_if_restored(connection: Connection) -> datetime | None:
    """Return the time of the newest order if the server began to write a new log since the last call, else None."""
    if connection.dialect is not Dialect.POSTGRESQL:
        return None
    origin = connection.execute(_ORIGIN).fetchone()[0]
    before = notes.get(connection, _KEY)
    if origin == before:
        return None
    notes.set_(connection, _KEY, origin)
    return None if before is None else to_moment_or_none(connection.execute(_NEWEST_ORDER).fetchone()[0])
