"""The gallery: a member's own images in one server, one command per page, newest first.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from bot.domain.jobs import GalleryPage
from bot.store.core.connection import Connection
from bot.store.tables import jobs

_COMMANDS_WITH_PICTURES = f"""
SELECT id FROM replies WHERE id IN ({jobs.REPLIES_OF_MEMBER}) AND guild_id = :guild_id AND EXISTS (
    SELECT 1 FROM jobs JOIN pictures ON pictures.job_id = jobs.id
    WHERE jobs.reply_id = replies.id AND (CAST(:model_id AS TEXT) IS NULL OR jobs.model_id = :model_id)
)
ORDER BY created_at DESC, id DESC
"""  # noqa: S608 - our own words


def gallery_page(
    connection: Connection, guild_id: int, user_id: int, *, model_id: str | None = None, reply_id: str | None = None
) -> GalleryPage | None:
    """Return the page of a member's images (of one model, or all) with `reply_id`, or the newest; None if empty."""
    who = {"guild_id": guild_id, "user_id": user_id, "model_id": model_id}
    # All of them: a few thousand at most, and the page number needs them anyway.
    reply_ids = [row[0] for row in connection.execute(_COMMANDS_WITH_PICTURES, who)]
    if not reply_ids or (reply_id is not None and reply_id not in reply_ids):
        return None
    index = 0 if reply_id is None else reply_ids.index(reply_id)
    reply = jobs.reply(connection, reply_ids[index])
    assert reply is not None, "its id was just read"
    return GalleryPage(
        reply=reply,
        number=index + 1,
        total=len(reply_ids),
        newer_id=reply_ids[index - 1] if index > 0 else None,
        older_id=reply_ids[index + 1] if index + 1 < len(reply_ids) else None,
    )
