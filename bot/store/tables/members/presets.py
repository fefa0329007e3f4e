"""Presets and defaults of orders in their tables.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bot.domain.audit import Name, Standing
from bot.domain.errors import ListFull
from bot.domain.jobs import ImageInput, ImageRole
from bot.domain.money.quota import LimitSubject
from bot.domain.presets import MAX_PER_MEMBER, MAX_PER_SERVER, MemberDefaults, MemberProfile, Preset, name_key
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection, Row
from bot.store.tables.audit_log import Change, record

_COUNT = """
SELECT count(*) FROM presets WHERE guild_id = :guild_id OR user_id = :user_id
"""
_DELETE = """
DELETE FROM presets WHERE (guild_id = :guild_id OR user_id = :user_id) AND name_key = :name_key RETURNING id
"""
_INSERT = """
INSERT INTO presets
    (id, guild_id, user_id, name, name_key, model_id, more, words_before, words_after, created_at,
    reference_sha256, reference_content_type, reference_width, reference_height)
VALUES
    (:id, :guild_id, :user_id, :name, :name_key, :model_id, :more, :words_before, :words_after, :created_at,
    :reference_hash, :reference_content_type, :reference_width, :reference_height)
"""
_PRESETS = """
SELECT * FROM presets WHERE guild_id = :guild_id OR user_id = :user_id
ORDER BY CASE WHEN user_id IS NULL THEN 1 ELSE 0 END, name_key
"""
_DEFAULTS = "SELECT * FROM member_defaults WHERE guild_id = ? AND user_id = ?"
# One row, whether or not the member has defaults.
_PROFILE = """
SELECT member_defaults.*,
    EXISTS (SELECT 1 FROM blocks WHERE guild_id = :guild_id AND user_id = :user_id) AS is_blocked
FROM (SELECT 1 AS one) AS always
    LEFT JOIN member_defaults ON member_defaults.guild_id = :guild_id AND member_defaults.user_id = :user_id
"""
_SET_DEFAULTS = """
INSERT INTO member_defaults (guild_id, user_id, model_id, aspect_ratio, resolution, private, preset_name)
VALUES (:guild_id, :user_id, :model_id, :aspect_ratio, :resolution, :private, :preset_name)
ON CONFLICT (guild_id, user_id) DO UPDATE SET model_id = excluded.model_id, aspect_ratio = excluded.aspect_ratio,
    resolution = excluded.resolution, private = excluded.private, preset_name = excluded.preset_name
"""
_CLEAR_DEFAULTS = "DELETE FROM member_defaults WHERE guild_id = ? AND user_id = ?"


def presets(connection: Connection, *, guild_id: int, user_id: int) -> list[Preset]:
    """Return the presets that a member can use in a server: their own, then the server's, each by name."""
    rows = connection.execute(_PRESETS, {"guild_id": guild_id, "user_id": user_id})
    return [_preset(row) for row in rows]


def set_preset(connection: Connection, preset: Preset, *, actor_id: int, now: datetime) -> bool:
    """Store a preset in place of the one of its owner and name. Returns whether there was one. Raises ListFull.

    A change of a server's preset is recorded.
    """
    reference = preset.reference
    row: dict[str, Any] = {
        "id": preset.id,
        "guild_id": preset.guild_id,
        "user_id": preset.user_id,
        "name": preset.name,
        "name_key": name_key(preset.name),
        "model_id": preset.model_id,
        "more": preset.more,
        "words_before": preset.words_before,
        "words_after": preset.words_after,
        "created_at": to_micros(now),
        "reference_hash": reference and reference.sha256,
        "reference_content_type": reference and reference.content_type,
        "reference_width": reference and reference.width,
        "reference_height": reference and reference.height,
    }
    owner = {"guild_id": preset.guild_id, "user_id": preset.user_id}
    replaced = connection.execute(_DELETE, {**owner, "name_key": row["name_key"]}).fetchone() is not None
    limit = MAX_PER_MEMBER if preset.is_own else MAX_PER_SERVER
    if connection.execute(_COUNT, owner).fetchone()[0] >= limit:
        raise ListFull(limit)
    connection.execute(_INSERT, row)
    if preset.guild_id is not None:
        old = Standing.LISTED if replaced else Standing.NOT_LISTED
        _record(connection, preset.guild_id, preset.name, old, Standing.LISTED, actor_id=actor_id, now=now)
    return replaced


def remove_preset(
    connection: Connection, name: str, *, guild_id: int | None, user_id: int | None, actor_id: int, now: datetime
) -> bool:
    """Remove the preset of that owner and name; False if there is none. A change of a server's preset is recorded."""
    owner = {"guild_id": guild_id, "user_id": user_id}
    removed = connection.execute(_DELETE, {**owner, "name_key": name_key(name)}).fetchone() is not None
    if removed and guild_id is not None:
        _record(connection, guild_id, name, Standing.LISTED, Standing.NOT_LISTED, actor_id=actor_id, now=now)
    return removed


def _record(
    connection: Connection, guild_id: int, name: str, old: Standing, new: Standing, *, actor_id: int, now: datetime
) -> None:
    record(
        connection,
        guild_id,
        "presets",
        LimitSubject.SERVER,
        None,
        topic=Name(name=name),
        old=old,
        new=new,
        change=Change(actor_id=actor_id, reason=None, now=now),
    )


def member_defaults(connection: Connection, *, guild_id: int, user_id: int) -> MemberDefaults:
    """Return what a member's orders in a server begin with."""
    row = connection.execute(_DEFAULTS, (guild_id, user_id)).fetchone()
    return MemberDefaults() if row is None else _defaults(row)


def member_profile(connection: Connection, *, guild_id: int, user_id: int) -> MemberProfile:
    """Return what is read of a member before an order of theirs is answered."""
    row = connection.execute(_PROFILE, {"guild_id": guild_id, "user_id": user_id}).fetchone()
    return MemberProfile(is_blocked=bool(row["is_blocked"]), defaults=_defaults(row))


def _defaults(row: Row) -> MemberDefaults:
    return MemberDefaults(
        model_id=row["model_id"],
        aspect_ratio=row["aspect_ratio"],
        resolution=row["resolution"],
        private=None if row["private"] is None else bool(row["private"]),
        preset_name=row["preset_name"],
    )


def set_member_defaults(connection: Connection, defaults: MemberDefaults, *, guild_id: int, user_id: int) -> None:
    """Replace what a member's orders in a server begin with; nothing is kept where nothing is set."""
    if defaults == MemberDefaults():
        connection.execute(_CLEAR_DEFAULTS, (guild_id, user_id))
        return
    row: dict[str, Any] = {
        "guild_id": guild_id,
        "user_id": user_id,
        "model_id": defaults.model_id,
        "aspect_ratio": defaults.aspect_ratio,
        "resolution": defaults.resolution,
        "private": defaults.private,
        "preset_name": defaults.preset_name,
    }
    connection.execute(_SET_DEFAULTS, row)


def _preset(row: Row) -> Preset:
    return Preset(
        id=row["id"],
        guild_id=row["guild_id"],
        user_id=row["user_id"],
        name=row["name"],
        model_id=row["model_id"],
        more=row["more"],
        words_before=row["words_before"],
        words_after=row["words_after"],
        reference=None if row["reference_sha256"] is None else _reference(row),
    )


def _reference(row: Row) -> ImageInput:
    return ImageInput(
        sha256=row["reference_sha256"],
        role=ImageRole.REFERENCE,
        content_type=row["reference_content_type"],
        width=row["reference_width"],
        height=row["reference_height"],
    )
