"""Reviews: orders whose images moderators see first, the message that asks them, and what they decided.

Synchronous functions inside the caller's transaction. A question is posted by claims, as shared images are; it has no
end of its own: an order waits until a moderator decides or its member deletes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.domain.jobs import Reply, ReviewState
from bot.store.core.columns import to_micros, to_moment
from bot.store.core.connection import Connection
from bot.store.tables import audit_log, jobs
from bot.store.tables.members import posted_messages

CLAIM = timedelta(minutes=2)
"""How long one attempt may take."""

_IS_WAITING = """
review = 'waiting' AND deleted_at IS NULL AND user_id IS NOT NULL AND delivery <> 'pending'
    AND EXISTS (SELECT 1 FROM jobs WHERE reply_id = replies.id AND status = 'succeeded')
"""
_NOT_ASKED = f"""
SELECT id FROM replies WHERE {_IS_WAITING} AND NOT EXISTS (
    SELECT 1 FROM reviews WHERE reply_id = replies.id AND (message_id IS NOT NULL OR claimed_until_at > :now)
) ORDER BY id LIMIT :limit
"""  # noqa: S608 - our own words
_COUNT = f"SELECT count(*) FROM replies WHERE guild_id = ? AND {_IS_WAITING}"  # noqa: S608
_CLAIM = f"""
INSERT INTO reviews (reply_id, channel_id, first_claimed_at, claimed_until_at)
SELECT id, :channel_id, :now, :until FROM replies WHERE id = :reply_id AND {_IS_WAITING}
ON CONFLICT (reply_id) DO UPDATE SET channel_id = excluded.channel_id, claimed_until_at = excluded.claimed_until_at
WHERE reviews.message_id IS NULL AND reviews.claimed_until_at <= :now
RETURNING first_claimed_at
"""  # noqa: S608
_RECORD = """
UPDATE reviews SET channel_id = :channel_id, message_id = :message_id
WHERE reply_id = :reply_id AND coalesce(message_id, :message_id) = :message_id
RETURNING reply_id
"""
_POSTPONE = "UPDATE reviews SET claimed_until_at = ? WHERE reply_id = ? AND message_id IS NULL"
_DECIDE = f"""
UPDATE replies SET review = :review, review_reason = :reason
WHERE id = :reply_id AND guild_id = :guild_id AND {_IS_WAITING} AND EXISTS (
    SELECT 1 FROM reviews WHERE reply_id = replies.id AND coalesce(message_id, :message_id) = :message_id
)
"""  # noqa: S608
_ASK_AGAIN = "UPDATE replies SET review = 'waiting' WHERE id = ? AND review IN ('waiting', 'approved')"
_QUESTION = "SELECT channel_id, message_id FROM reviews WHERE reply_id = ? AND message_id IS NOT NULL"
_ASKED_ELSEWHERE = f"""
SELECT reply_id, reviews.channel_id, reviews.message_id FROM reviews JOIN replies ON replies.id = reply_id
WHERE guild_id = ? AND reviews.channel_id <> ? AND reviews.message_id IS NOT NULL AND {_IS_WAITING}
"""  # noqa: S608
_FORGET_QUESTION = "DELETE FROM reviews WHERE reply_id = ?"


@dataclass(frozen=True, kw_only=True, slots=True)
class ReviewClaim:
    """The right to ask moderators for a while. `is_first` is False if an earlier attempt may have asked them."""

    is_first: bool
    first_claimed_at: datetime


def reviews_to_ask(connection: Connection, *, now: datetime, limit: int) -> list[str]:
    """Return orders with images about which moderators have not been asked yet."""
    return [row[0] for row in connection.execute(_NOT_ASKED, {"now": to_micros(now), "limit": limit}).fetchall()]


def waiting_reviews(connection: Connection, guild_id: int) -> int:
    """Count the orders of a server that wait for a moderator's decision."""
    return int(connection.execute(_COUNT, (guild_id,)).fetchone()[0])


def claim_review(connection: Connection, reply_id: str, *, channel_id: int, now: datetime) -> ReviewClaim | None:
    """Claim the posting of the question; None if it was posted, another process is at it, or nothing waits."""
    row = {"reply_id": reply_id, "channel_id": channel_id, "now": to_micros(now), "until": to_micros(now + CLAIM)}
    found = connection.execute(_CLAIM, row).fetchone()
    if found is None:
        return None
    first = found["first_claimed_at"]
    return ReviewClaim(is_first=first == row["now"], first_claimed_at=to_moment(first))


def record_review(connection: Connection, reply_id: str, *, channel_id: int, message_id: int, now: datetime) -> None:
    """Record the question; if its order was deleted or changed meanwhile, have the message deleted."""
    row = {"reply_id": reply_id, "channel_id": channel_id, "message_id": message_id}
    if connection.execute(_RECORD, row).fetchone() is None:
        posted_messages.schedule(connection, [(channel_id, message_id)], at=now)


def postpone_review(connection: Connection, reply_id: str, *, until: datetime) -> None:
    """Put off the next attempt to ask: Discord refused this one."""
    connection.execute(_POSTPONE, (to_micros(until), reply_id))


def decide_review(
    connection: Connection,
    reply_id: str,
    *,
    guild_id: int,
    message_id: int,
    approves: bool,
    actor_id: int,
    reason: str | None,
    now: datetime,
) -> Reply | None:
    """Approve or refuse the images of an order, on record, and have its card shown again.

    None if nothing was to be decided by this message, because another moderator or a deletion was first.
    """
    row = {
        "reply_id": reply_id,
        "guild_id": guild_id,
        "message_id": message_id,
        "review": ReviewState.APPROVED if approves else ReviewState.REFUSED,
        "reason": reason,
    }
    if connection.execute(_DECIDE, row).rowcount != 1:
        return None
    jobs.show_again(connection, reply_id)
    reply = jobs.reply(connection, reply_id)
    assert reply is not None, "it was just changed"
    change = audit_log.Change(actor_id=actor_id, reason=reason, now=now)
    audit_log.record_about_order(connection, reply, "approve" if approves else "refuse", change)
    return reply


def ask_again(connection: Connection, reply_id: str, *, now: datetime) -> None:
    """Have an order reviewed once more, with an image that came late. What was refused stays refused."""
    if connection.execute(_ASK_AGAIN, (reply_id,)).rowcount != 1:
        return
    asked = [(row[0], row[1]) for row in connection.execute(_QUESTION, (reply_id,)).fetchall()]
    posted_messages.schedule(connection, asked, at=now)
    connection.execute(_FORGET_QUESTION, (reply_id,))


def move_questions(connection: Connection, guild_id: int, *, channel_id: int, now: datetime) -> None:
    """Have moderators asked in this channel about all orders of a server that wait, instead of where they were asked.

    Their former channel may be deleted, or none of theirs any more.
    """
    asked = connection.execute(_ASKED_ELSEWHERE, (guild_id, channel_id)).fetchall()
    posted_messages.schedule(connection, [(row["channel_id"], row["message_id"]) for row in asked], at=now)
    for row in asked:
        connection.execute(_FORGET_QUESTION, (row["reply_id"],))
