"""The gallery: a member's own images in one server, one command per page, newest first.

Synchronous functions inside the caller's transaction. A page reads the orders beside it and counts those around it up
to a bound, so that it takes no longer with a long history.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from string import ascii_lowercase
from typing import Any

from bot.domain.jobs import GalleryFilter, GalleryPage
from bot.store.core.connection import Connection
from bot.store.tables import job_lists, jobs
from bot.store.tables.members import marks

MAX_COUNTED = 500
"""Pages counted on either side of the one shown."""

_MATCHES = """
EXISTS (
    SELECT 1 FROM jobs JOIN pictures ON pictures.job_id = jobs.id
    WHERE jobs.reply_id = replies.id AND (CAST(:model_id AS TEXT) IS NULL OR jobs.model_id = :model_id){words}
)
"""
_AND_IS_FAVOURITE = " AND EXISTS (SELECT 1 FROM favourites WHERE favourites.reply_id = replies.id)"
# SQLite lowers ASCII letters only, so a word is also looked for with a capital letter.
_AND_HAS_WORD = " AND (lower(jobs.prompt) LIKE :lower_{n} ESCAPE '!' OR jobs.prompt LIKE :capital_{n} ESCAPE '!')"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Queries:
    page: str
    newer: str
    older: str


@cache
def _queries(words: int, favourites: bool) -> _Queries:
    """Return the queries for orders with images whose prompt has that many given words."""
    matches = _MATCHES.format(words="".join(_AND_HAS_WORD.format(n=letter) for letter in ascii_lowercase[:words]))
    if favourites:
        matches += _AND_IS_FAVOURITE
    page = f"""
    SELECT id, created_at FROM replies
    WHERE id = :reply_id AND user_id = :user_id AND guild_id = :guild_id AND {matches}
    """  # noqa: S608 - our own words
    return _Queries(page=page, newer=_beside(">", "ASC", matches), older=_beside("<", "DESC", matches))


def _beside(comparison: str, direction: str, matches: str) -> str:
    """Return the query for the orders next to one; in two parts, because two indexes hold a member's orders."""
    part = f"""
        SELECT id, created_at FROM replies
        WHERE user_id = :user_id AND guild_id = :guild_id AND created_at {comparison}= :created_at
            AND (created_at {comparison} :created_at OR id {comparison} :reply_id) AND {matches}
    """  # noqa: S608
    order = f"ORDER BY created_at {direction}, id {direction} LIMIT :limit"
    return f"""
    SELECT id FROM (
        SELECT * FROM ({part} AND delivery <> 'pending' {order}) AS shown
        UNION ALL
        SELECT * FROM ({part} AND {job_lists.NOT_SHOWN_YET} {order}) AS not_shown_yet
    ) AS found {order}
    """  # noqa: S608


_BEYOND_ALL: dict[str, Any] = {"created_at": 2**63 - 1, "reply_id": ""}


_EVERYTHING = GalleryFilter()


def gallery_page(
    connection: Connection,
    guild_id: int,
    user_id: int,
    *,
    chosen: GalleryFilter = _EVERYTHING,
    reply_id: str | None = None,
) -> GalleryPage | None:
    """Return the page of those of a member's images that are chosen with `reply_id`, or the newest; None if empty."""
    queries = _queries(len(chosen.each_word), chosen.favourites)
    who: dict[str, Any] = {"guild_id": guild_id, "user_id": user_id, "model_id": chosen.model_id}
    for letter, word in zip(ascii_lowercase, chosen.each_word, strict=False):
        who |= {f"lower_{letter}": _pattern(word.lower()), f"capital_{letter}": _pattern(word.capitalize())}
    if reply_id is None:
        newest = connection.execute(queries.older, {**who, **_BEYOND_ALL, "limit": 1}).fetchone()
        if newest is None:
            return None
        reply_id = str(newest[0])
    here = connection.execute(queries.page, {**who, "reply_id": reply_id}).fetchone()
    if here is None:
        return None
    beside = {**who, "reply_id": reply_id, "created_at": here["created_at"], "limit": MAX_COUNTED}
    newer = [row[0] for row in connection.execute(queries.newer, beside)]
    older = [row[0] for row in connection.execute(queries.older, beside)]
    reply = jobs.reply(connection, reply_id)
    assert reply is not None, "its id was just read"
    number = len(newer) + 1 if len(newer) < MAX_COUNTED else None
    return GalleryPage(
        reply=reply,
        number=number,
        total=None if number is None or len(older) == MAX_COUNTED else number + len(older),
        newer_id=newer[0] if newer else None,
        older_id=older[0] if older else None,
        is_favourite=marks.is_favourite(connection, reply_id),
    )


def _pattern(word: str) -> str:
    """Return the LIKE pattern for texts that contain the word."""
    return "%" + "".join(f"!{character}" if character in "!%_" else character for character in word) + "%"
