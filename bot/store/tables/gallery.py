"""The gallery: a member's own images in one server, one command per page, newest first.

Synchronous functions inside the caller's transaction. A page reads the orders beside it and counts those around it up
to a bound, so that it takes no longer with a long history.
"""

from __future__ import annotations

from typing import Any

from bot.domain.jobs import GalleryPage
from bot.store.core.connection import Connection
from bot.store.tables import jobs

MAX_COUNTED = 500
"""Pages counted on either side of the one shown."""

_HAS_IMAGES = """
EXISTS (
    SELECT 1 FROM jobs JOIN pictures ON pictures.job_id = jobs.id
    WHERE jobs.reply_id = replies.id AND (CAST(:model_id AS TEXT) IS NULL OR jobs.model_id = :model_id)
)
"""
_PAGE = f"""
SELECT id, created_at FROM replies
WHERE id = :reply_id AND user_id = :user_id AND guild_id = :guild_id AND {_HAS_IMAGES}
"""  # noqa: S608 - our own words


def _beside(comparison: str, direction: str) -> str:
    """Return the query for the orders next to one; in two parts, because two indexes hold a member's orders."""
    part = f"""
        SELECT id, created_at FROM replies
        WHERE user_id = :user_id AND guild_id = :guild_id AND created_at {comparison}= :created_at
            AND (created_at {comparison} :created_at OR id {comparison} :reply_id) AND {_HAS_IMAGES}
    """  # noqa: S608
    order = f"ORDER BY created_at {direction}, id {direction} LIMIT :limit"
    return f"""
    SELECT id FROM (
        SELECT * FROM ({part} AND delivery <> 'pending' {order}) AS shown
        UNION ALL
        SELECT * FROM ({part} AND delivery <> 'delivered' AND delivery = 'pending' {order}) AS not_shown_yet
    ) AS found {order}
    """  # noqa: S608


_NEWER = _beside(">", "ASC")
_OLDER = _beside("<", "DESC")
_BEYOND_ALL: dict[str, Any] = {"created_at": 2**63 - 1, "reply_id": ""}


def gallery_page(
    connection: Connection, guild_id: int, user_id: int, *, model_id: str | None = None, reply_id: str | None = None
) -> GalleryPage | None:
    """Return the page of a member's images (of one model, or all) with `reply_id`, or the newest; None if empty."""
    who = {"guild_id": guild_id, "user_id": user_id, "model_id": model_id}
    if reply_id is None:
        newest = connection.execute(_OLDER, {**who, **_BEYOND_ALL, "limit": 1}).fetchone()
        if newest is None:
            return None
        reply_id = str(newest[0])
    here = connection.execute(_PAGE, {**who, "reply_id": reply_id}).fetchone()
    if here is None:
        return None
    beside = {**who, "reply_id": reply_id, "created_at": here["created_at"], "limit": MAX_COUNTED}
    newer = [row[0] for row in connection.execute(_NEWER, beside)]
    older = [row[0] for row in connection.execute(_OLDER, beside)]
    reply = jobs.reply(connection, reply_id)
    assert reply is not None, "its id was just read"
    number = len(newer) + 1 if len(newer) < MAX_COUNTED else None
    return GalleryPage(
        reply=reply,
        number=number,
        total=None if number is None or len(older) == MAX_COUNTED else number + len(older),
        newer_id=newer[0] if newer else None,
        older_id=older[0] if older else None,
    )
