"""Erasures with the mark that tells whether this database knows them, or is an older backup that was restored.

On a server that was restored, or that took over, the log has another number: `newest_order_if_restored`.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

import json
from datetime import datetime

from bot.domain.deletion import DeletedOrder
from bot.domain.errors import StillUnderWay
from bot.store.core.columns import to_moment_or_none
from bot.store.core.connection import Connection, Dialect
from bot.store.core.erasure_list import Erasure
from bot.store.tables import jobs
from bot.store.tables.members import deletion, privacy
from bot.store.tables.shared import notes

_LAST_ERASURE = "last erasure"
_WAITING_ERASURES = "waiting erasures"
_ORIGIN_KEY = "server origin"
# The database's own number changes with pg_restore, the log's with a point-in-time recovery and a failover.
_ORIGIN = """
SELECT oid || '/' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)
FROM pg_database WHERE datname = current_database()
"""
_NEWEST_ORDER = "SELECT max(created_at) FROM replies"


def forget_member(connection: Connection, user_id: int, *, erasure: Erasure | None, now: datetime) -> set[str]:
    """Do as `privacy.forget_member`, and remember that the erasure of the list is done."""
    unneeded = privacy.forget_member(connection, user_id, now=now)
    _mark(connection, erasure)
    return unneeded


def delete_reply(
    connection: Connection, reply_id: str, *, erasure: Erasure | None, actor_id: int, now: datetime
) -> DeletedOrder | None:
    """Do as `deletion.delete_reply`, and remember that the erasure of the list is done."""
    deleted = deletion.delete_reply(connection, reply_id, actor_id=actor_id, now=now)
    if deleted is not None:
        _mark(connection, erasure)
    return deleted


def repeat(connection: Connection, erasure: Erasure, *, now: datetime) -> bool:
    """Erase again what a restored backup brought back; False, and remember to do it later, while something runs."""
    is_done = _erase_again(connection, erasure, now=now)
    waiting = waiting_erasures(connection) - {erasure.at}
    if not is_done:
        waiting |= {erasure.at}
    notes.set_(connection, _WAITING_ERASURES, json.dumps([at.isoformat() for at in sorted(waiting)]))
    _mark(connection, erasure)
    return is_done


def _erase_again(connection: Connection, erasure: Erasure, *, now: datetime) -> bool:
    if erasure.user_id is not None:
        try:
            privacy.forget_member(connection, erasure.user_id, now=now)
        except StillUnderWay:
            return False
    if erasure.reply_id is not None:
        reply = jobs.reply(connection, erasure.reply_id)
        if reply is not None:
            deletion.delete_reply(connection, reply.id, actor_id=reply.user_id, now=now)
            return reply.is_over
    return True


def last_erasure_at(connection: Connection) -> datetime | None:
    """Return the time of the newest erasure of the list that this database knows."""
    found = notes.get(connection, _LAST_ERASURE)
    return None if found is None else datetime.fromisoformat(found)


def waiting_erasures(connection: Connection) -> frozenset[datetime]:
    """Return the times of earlier erasures of the list that could not be repeated yet."""
    found = notes.get(connection, _WAITING_ERASURES)
    return frozenset(datetime.fromisoformat(at) for at in json.loads(found or "[]"))


def _mark(connection: Connection, erasure: Erasure | None) -> None:
    known_until = last_erasure_at(connection)
    if erasure is not None and (known_until is None or erasure.at > known_until):
        notes.set_(connection, _LAST_ERASURE, erasure.at.isoformat())


def newest_order_if_restored(connection: Connection) -> datetime | None:
    """Return the time of the newest order if the server began to write a new log since the last call, else None."""
    if connection.dialect is not Dialect.POSTGRESQL:
        return None
    origin = connection.execute(_ORIGIN).fetchone()[0]
    before = notes.get(connection, _ORIGIN_KEY)
    if origin == before:
        return None
    notes.set_(connection, _ORIGIN_KEY, origin)
    return None if before is None else to_moment_or_none(connection.execute(_NEWEST_ORDER).fetchone()[0])
