"""Marks that people put on finished orders: votes in comparisons, stars for the showcase, and favourites.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from bot.store.core.connection import Connection

# Only for an image of the comparison that can still be seen.
_VOTE = """
INSERT INTO votes (reply_id, user_id, job_id)
SELECT replies.id, :user_id, jobs.id FROM replies JOIN jobs ON jobs.reply_id = replies.id
WHERE jobs.id = :job_id AND jobs.status = 'succeeded' AND replies.deleted_at IS NULL AND replies.user_id IS NOT NULL
ON CONFLICT (reply_id, user_id) DO UPDATE SET job_id = excluded.job_id WHERE votes.job_id <> excluded.job_id
"""
_WITHDRAW = "DELETE FROM votes WHERE job_id = :job_id AND user_id = :user_id"
_STARS = "SELECT count(*) FROM votes WHERE job_id = ?"
_VOTES = "SELECT job_id, count(*) AS votes FROM votes WHERE reply_id = ? GROUP BY job_id"
_SET_FAVOURITE = """
INSERT INTO favourites (reply_id)
SELECT id FROM replies WHERE id = :reply_id AND user_id = :user_id AND deleted_at IS NULL
ON CONFLICT DO NOTHING
"""
_REMOVE_FAVOURITE = "DELETE FROM favourites WHERE reply_id = :reply_id"
_IS_FAVOURITE = "SELECT EXISTS (SELECT 1 FROM favourites WHERE reply_id = ?)"


def vote(connection: Connection, job_id: str, *, user_id: int) -> bool:
    """Count a member's one vote in a comparison for the image of this job; a second one for it takes it back.

    Returns whether the member's vote is for it now.
    """
    row = {"job_id": job_id, "user_id": user_id}
    if connection.execute(_WITHDRAW, row).rowcount:
        return False
    return connection.execute(_VOTE, row).rowcount == 1


def star(connection: Connection, job_id: str, *, user_id: int) -> int:
    """Count a member's one star in an order for the image of this job, like a vote; return how many it has."""
    connection.execute(_VOTE, {"job_id": job_id, "user_id": user_id})
    return int(connection.execute(_STARS, (job_id,)).fetchone()[0])


def votes(connection: Connection, reply_id: str) -> Mapping[str, int]:
    """Count the votes for each job of a comparison."""
    return Counter({row["job_id"]: row["votes"] for row in connection.execute(_VOTES, (reply_id,))})


def set_favourite(connection: Connection, reply_id: str, *, user_id: int, is_favourite: bool) -> None:
    """Mark an order of this member as a favourite, or remove the mark."""
    row = {"reply_id": reply_id, "user_id": user_id}
    connection.execute(_SET_FAVOURITE if is_favourite else _REMOVE_FAVOURITE, row)


def is_favourite(connection: Connection, reply_id: str) -> bool:
    """Return whether its member marked the order."""
    return bool(connection.execute(_IS_FAVOURITE, (reply_id,)).fetchone()[0])
