"""The record of changes in its table: each fact is a small JSON object, `{"channel": "11"}`, that says what it is.

Synchronous functions inside the caller's transaction. Ids are strings in there: many readers of JSON round numbers of
their size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from bot.domain.audit import Amount, AuditEntry, Channel, Fact, Language, Limit, Models, Name, Role, Standing, Topic
from bot.domain.errors import DatabaseUnusable
from bot.domain.jobs import Reply
from bot.domain.money.quota import LimitSubject, Period
from bot.domain.texts import visible_or_none
from bot.store.core.columns import to_json, to_micros, to_moment
from bot.store.core.connection import Connection, Row

_RECORD = """
INSERT INTO audit (guild_id, actor_id, action, subject, subject_id, topic, old_value, new_value, reason, created_at)
VALUES (:guild_id, :actor_id, :action, :subject, :subject_id, :topic, :old_value, :new_value, :reason, :created_at)
"""
_ENTRIES = """
SELECT * FROM audit WHERE guild_id = :guild_id AND id < :before_id ORDER BY id DESC LIMIT :limit
"""
_ENTRIES_OF_MEMBER = """
SELECT * FROM audit WHERE guild_id = :guild_id AND subject = 'member' AND subject_id = :user_id AND id < :before_id
ORDER BY id DESC LIMIT :limit
"""
_NEWEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """Who changes something, why and when: recorded with every change."""

    actor_id: int
    reason: str | None
    now: datetime


def record(
    connection: Connection,
    guild_id: int,
    action: str,
    subject: LimitSubject,
    subject_id: int | None,
    *,
    old: Fact | None,
    new: Fact,
    change: Change,
    topic: Topic | None = None,
) -> None:
    """Add a line to the record of changes, in the transaction that makes the change.

    A reason in which nothing can be seen is none.
    """
    row: dict[str, Any] = {
        "guild_id": guild_id,
        "actor_id": change.actor_id,
        "action": action,
        "subject": subject,
        "subject_id": subject_id,
        "topic": None if topic is None else to_json(_plain(topic)),
        "old_value": None if old is None else to_json(_plain(old)),
        "new_value": to_json(_plain(new)),
        "reason": visible_or_none(change.reason),
        "created_at": to_micros(change.now),
    }
    connection.execute(_RECORD, row)


def record_about_order(connection: Connection, reply: Reply, action: str, change: Change) -> None:
    """Add a line about what a moderator did with a member's order, which is named by its models."""
    models = Name(name=", ".join(dict.fromkeys(job.request.model_id for job in reply.jobs)))
    guild_id, user_id = reply.address.guild_id, reply.user_id
    record(connection, guild_id, action, LimitSubject.MEMBER, user_id, old=None, new=models, change=change)


def entries(
    connection: Connection, guild_id: int, *, user_id: int | None = None, limit: int = 10, before_id: int | None = None
) -> list[AuditEntry]:
    """Return the record of changes, newest first; only about one member when `user_id` is given."""
    query = _ENTRIES if user_id is None else _ENTRIES_OF_MEMBER
    before = _NEWEST if before_id is None else before_id
    page = {"guild_id": guild_id, "user_id": user_id, "before_id": before, "limit": limit}
    return [_entry(row) for row in connection.execute(query, page)]


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        id=row["id"],
        guild_id=row["guild_id"],
        actor_id=row["actor_id"],
        action=row["action"],
        subject=row["subject"],
        subject_id=row["subject_id"],
        topic=None if row["topic"] is None else cast("Topic", _fact(row["topic"])),
        old_value=None if row["old_value"] is None else _fact(row["old_value"]),
        new_value=_fact(row["new_value"]),
        reason=row["reason"],
        created_at=to_moment(row["created_at"]),
    )


def _plain(fact: Fact) -> dict[str, Any]:
    match fact:
        case Standing():
            return {"is": fact.value}
        case Limit(amount_usd_micros=amount, period=period):
            return {"limit_usd_micros": amount, "period": period}
        case Amount(amount_usd_micros=amount):
            return {"usd_micros": amount}
        case Channel(channel_id=channel_id):
            return {"channel": str(channel_id)}
        case Role(role_id=role_id):
            return {"only_role": str(role_id)}
        case Models(pattern=pattern, role_id=role_id):
            return {"models": pattern} if role_id is None else {"models": pattern, "role": str(role_id)}
        case Name(name=name):
            return {"name": name}
        case Language(tag=tag):
            return {"language": tag}


def _fact(text: str) -> Fact:
    match json.loads(text):
        case {"is": str(standing)}:
            return Standing(standing)
        case {"limit_usd_micros": int() | None as amount, "period": str(period)}:
            return Limit(amount_usd_micros=amount, period=Period(period))
        case {"usd_micros": int(amount)}:
            return Amount(amount_usd_micros=amount)
        case {"channel": str(channel_id)}:
            return Channel(channel_id=int(channel_id))
        case {"only_role": str(role_id)}:
            return Role(role_id=int(role_id))
        case {"models": str(pattern), "role": str(role_id)}:
            return Models(pattern=pattern, role_id=int(role_id))
        case {"models": str(pattern)}:
            return Models(pattern=pattern)
        case {"name": str(name)}:
            return Name(name=name)
        case {"language": str(tag)}:
            return Language(tag=tag)
        case unknown:
            raise DatabaseUnusable(f"the record of changes holds {unknown!r}, which this program does not know")
