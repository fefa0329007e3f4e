"""Shared images: claims, so that each image is posted in a showcase channel once, whatever ends or who else clicks.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bot.domain.visibility import ShareClaim, SharedImage
from bot.store.core.columns import to_micros, to_moment
from bot.store.core.connection import Connection
from bot.store.tables.members import posted_messages

CLAIM = timedelta(minutes=2)
"""How long one attempt may take."""

_FIND = "SELECT channel_id, message_id, removed_at IS NOT NULL AS is_removed FROM shared_images WHERE job_id = ?"
_CLAIM = """
INSERT INTO shared_images (job_id, reply_id, channel_id, first_claimed_at, claimed_until_at)
SELECT jobs.id, replies.id, :channel_id, :now, :until FROM jobs JOIN replies ON replies.id = reply_id
WHERE jobs.id = :job_id AND status = 'succeeded' AND deleted_at IS NULL AND replies.user_id IS NOT NULL
    AND coalesce(review, 'approved') = 'approved'
ON CONFLICT (job_id) DO UPDATE SET claimed_until_at = excluded.claimed_until_at
WHERE shared_images.message_id IS NULL AND shared_images.removed_at IS NULL AND shared_images.claimed_until_at <= :now
RETURNING channel_id, first_claimed_at
"""
_RECORD = """
UPDATE shared_images SET message_id = :message_id
WHERE job_id = :job_id AND removed_at IS NULL AND coalesce(message_id, :message_id) = :message_id
RETURNING job_id
"""
_RELEASE = "DELETE FROM shared_images WHERE job_id = ? AND message_id IS NULL AND removed_at IS NULL"
_REMOVE = "UPDATE shared_images SET removed_at = coalesce(removed_at, ?) WHERE job_id = ?"


def shared_image(connection: Connection, job_id: str) -> SharedImage | None:
    """Return what became of sharing the image of a job; None if nobody shared it."""
    row = connection.execute(_FIND, (job_id,)).fetchone()
    if row is None:
        return None
    return SharedImage(channel_id=row["channel_id"], message_id=row["message_id"], is_removed=bool(row["is_removed"]))


def claim_share(connection: Connection, job_id: str, *, channel_id: int, now: datetime) -> ShareClaim | None:
    """Claim the posting of an image; None if it was posted, another click is at it, or its order was deleted.

    A later attempt gets the channel of the first one.
    """
    row = {"job_id": job_id, "channel_id": channel_id, "now": to_micros(now), "until": to_micros(now + CLAIM)}
    found = connection.execute(_CLAIM, row).fetchone()
    if found is None:
        return None
    first = found["first_claimed_at"]
    return ShareClaim(channel_id=found["channel_id"], is_first=first == row["now"], first_claimed_at=to_moment(first))


def record_share(connection: Connection, job_id: str, *, channel_id: int, message_id: int, now: datetime) -> None:
    """Record where an image was posted; if its order was deleted meanwhile, have the message deleted."""
    if connection.execute(_RECORD, {"job_id": job_id, "message_id": message_id}).fetchone() is None:
        posted_messages.schedule(connection, [(channel_id, message_id)], at=now)


def release_share(connection: Connection, job_id: str) -> None:
    """Give up a claim whose image was surely not posted."""
    connection.execute(_RELEASE, (job_id,))


def remove_share(connection: Connection, job_id: str, *, channel_id: int, message_id: int, at: datetime) -> None:
    """Take a shared image back for good: its message is scheduled for deletion, so that it goes after a crash too."""
    connection.execute(_REMOVE, (to_micros(at), job_id))
    posted_messages.schedule(connection, [(channel_id, message_id)], at=at)
