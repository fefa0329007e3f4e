"""Posted messages: which messages besides its card show an order, and which messages Discord has yet to delete.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from bot.domain.deletion import MessageDeletion, MessageKind, OrderMessage
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables.job_lists import REPLIES_OF_MEMBER

_IS_ERASED = """
SELECT NOT EXISTS (SELECT 1 FROM replies WHERE id = ? AND deleted_at IS NULL AND user_id IS NOT NULL)
"""
_REMEMBER = """
INSERT INTO reply_copies (channel_id, message_id, reply_id, kind) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_COPIES_OF_REPLY = """
SELECT channel_id, message_id, kind FROM reply_copies WHERE reply_id = ? ORDER BY channel_id, message_id
"""
_SHARED_OF_REPLY = """
SELECT channel_id, message_id FROM shared_images
WHERE reply_id = ? AND message_id IS NOT NULL AND removed_at IS NULL ORDER BY job_id
"""
_REVIEW_OF_REPLY = "SELECT channel_id, message_id FROM reviews WHERE reply_id = ? AND message_id IS NOT NULL"
_FORGET_OF_REPLY = (
    "DELETE FROM reviews WHERE reply_id = ?",
    "DELETE FROM reply_copies WHERE reply_id = ?",
    "DELETE FROM shared_images WHERE reply_id = ?",
)
_COPIES_OF_MEMBER = f"""
SELECT channel_id, message_id FROM reply_copies WHERE kind = 'log' AND reply_id IN ({REPLIES_OF_MEMBER})
UNION ALL
SELECT channel_id, message_id FROM shared_images
WHERE message_id IS NOT NULL AND removed_at IS NULL AND reply_id IN ({REPLIES_OF_MEMBER})
UNION ALL
SELECT channel_id, message_id FROM reviews WHERE message_id IS NOT NULL AND reply_id IN ({REPLIES_OF_MEMBER})
UNION ALL
-- Nobody can decide any more what a card waits for.
SELECT channel_id, message_id FROM replies
WHERE review = 'waiting' AND message_id IS NOT NULL AND channel_id <> 0 AND NOT private AND id IN ({REPLIES_OF_MEMBER})
"""  # noqa: S608 - our own words
_FORGET_OF_MEMBER = (
    f"DELETE FROM reviews WHERE reply_id IN ({REPLIES_OF_MEMBER})",  # noqa: S608
    f"DELETE FROM reply_copies WHERE reply_id IN ({REPLIES_OF_MEMBER})",  # noqa: S608
    f"DELETE FROM shared_images WHERE reply_id IN ({REPLIES_OF_MEMBER})",  # noqa: S608
)
_SCHEDULE = """
INSERT INTO message_deletions (channel_id, message_id, next_attempt_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING
"""
_DUE = """
SELECT channel_id, message_id, attempts FROM message_deletions WHERE next_attempt_at <= ?
ORDER BY next_attempt_at LIMIT ?
"""
_DONE = "DELETE FROM message_deletions WHERE channel_id = ? AND message_id = ?"
_POSTPONE = """
UPDATE message_deletions SET attempts = attempts + 1, next_attempt_at = ?
WHERE channel_id = ? AND message_id = ? AND attempts = ?
"""


def record_copy(
    connection: Connection, reply_id: str, *, kind: MessageKind, channel_id: int, message_id: int, now: datetime
) -> None:
    """Record a message that shows an order; if the order was deleted meanwhile, have the message deleted."""
    if connection.execute(_IS_ERASED, (reply_id,)).fetchone()[0]:
        schedule(connection, [(channel_id, message_id)], at=now)
    else:
        connection.execute(_REMEMBER, (channel_id, message_id, reply_id, kind))


def take_copies(connection: Connection, reply_id: str) -> list[OrderMessage]:
    """Return the other messages that show an order, and forget that they are its."""
    found = [
        OrderMessage(channel_id=row["channel_id"], message_id=row["message_id"], kind=MessageKind(row["kind"]))
        for row in connection.execute(_COPIES_OF_REPLY, (reply_id,)).fetchall()
    ]
    found += [
        OrderMessage(channel_id=row["channel_id"], message_id=row["message_id"], kind=MessageKind.SHARED)
        for row in connection.execute(_SHARED_OF_REPLY, (reply_id,)).fetchall()
    ]
    found += [
        OrderMessage(channel_id=row["channel_id"], message_id=row["message_id"], kind=MessageKind.REVIEW)
        for row in connection.execute(_REVIEW_OF_REPLY, (reply_id,)).fetchall()
    ]
    for statement in _FORGET_OF_REPLY:
        connection.execute(statement, (reply_id,))
    return found


def delete_copies_of(connection: Connection, user_id: int, *, now: datetime) -> None:
    """Have the copies of a member's orders in other channels deleted, and forget which messages they are."""
    who = {"user_id": user_id}
    found = [(row[0], row[1]) for row in connection.execute(_COPIES_OF_MEMBER, who).fetchall()]
    schedule(connection, found, at=now)
    for statement in _FORGET_OF_MEMBER:
        connection.execute(statement, who)


def schedule(connection: Connection, messages: Iterable[tuple[int, int]], *, at: datetime) -> None:
    """Have messages, given as channel and message id, deleted at this time or soon after it."""
    for channel_id, message_id in messages:
        connection.execute(_SCHEDULE, (channel_id, message_id, to_micros(at)))


def due_deletions(connection: Connection, *, now: datetime, limit: int) -> list[MessageDeletion]:
    """Return messages that are to be deleted now."""
    return [MessageDeletion(**dict(row)) for row in connection.execute(_DUE, (to_micros(now), limit)).fetchall()]


def finish_deletion(connection: Connection, channel_id: int, message_id: int) -> None:
    """Record that a message is gone, or that it is not tried any more."""
    connection.execute(_DONE, (channel_id, message_id))


def postpone_deletion(connection: Connection, deletion: MessageDeletion, *, until: datetime) -> None:
    """Record an attempt that failed, and when the next one is due. Changes nothing if another process was first."""
    row = (to_micros(until), deletion.channel_id, deletion.message_id, deletion.attempts)
    connection.execute(_POSTPONE, row)
