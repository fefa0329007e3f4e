"""Deletion: erase one finished order, except for what the ledger needs.

Synchronous functions inside the caller's transaction. The amounts, the model, the times and the member who paid stay,
so deleting an order frees no quota and changes no report.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timedelta

from bot.domain.deletion import DeletedOrder, MessageKind, OrderMessage
from bot.domain.jobs import NO_CHANNEL_ID, Reply
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection, DialectSql
from bot.store.tables import audit_log, jobs
from bot.store.tables.members import posted_messages

FIRST_RETRY_AFTER = timedelta(minutes=1)
"""When the sweep takes over messages that the click itself could not have deleted."""

_JOBS = "SELECT id FROM jobs WHERE reply_id = :reply_id"
_CONTENTS = f"""
SELECT sha256 FROM inputs WHERE job_id IN ({_JOBS}) UNION SELECT sha256 FROM pictures WHERE job_id IN ({_JOBS})
"""  # noqa: S608 - our own words
_ERASE = (
    "DELETE FROM votes WHERE reply_id = :reply_id",
    "DELETE FROM favourites WHERE reply_id = :reply_id",
    f"DELETE FROM inputs WHERE job_id IN ({_JOBS})",  # noqa: S608
    f"DELETE FROM pictures WHERE job_id IN ({_JOBS})",  # noqa: S608
    """
UPDATE jobs SET prompt = '', options = '{}', body = '{}', seed = NULL, failure_hint = '', webhook_token = NULL,
    erased_at = coalesce(erased_at, :now)
WHERE reply_id = :reply_id
""",
    """
UPDATE replies SET role_ids = '[]', token = NULL, channel_id = 0, message_id = NULL, locale = '', language = 'en',
    cancel_reason = NULL, preset_name = NULL, review = NULL, review_reason = NULL, review_channel_id = NULL,
    spoiler = FALSE, deleted_at = :now
WHERE id = :reply_id
""",
)
_IN_USE = DialectSql.with_lists("""
SELECT sha256 FROM inputs WHERE sha256 IN (:contents) UNION SELECT sha256 FROM pictures WHERE sha256 IN (:contents)
UNION SELECT reference_sha256 FROM presets WHERE reference_sha256 IN (:contents)
""")
_FORGET_UPLOADS = "DELETE FROM uploads WHERE sha256 = ? AND sha256 NOT IN (SELECT sha256 FROM inputs)"


def delete_reply(connection: Connection, reply_id: str, *, actor_id: int, now: datetime) -> DeletedOrder | None:
    """Erase an order whose final state was shown; None if there is none, or it was deleted before.

    Its messages are scheduled for deletion, so that they go even if this process ends at once. A deletion by a
    moderator, not by the member who ordered, is recorded.
    """
    reply = jobs.reply(connection, reply_id)
    if reply is None or reply.is_forgotten or reply.deleted_at is not None or not reply.is_over:
        return None
    row = {"reply_id": reply_id, "now": to_micros(now)}
    contents = {found[0] for found in connection.execute(_CONTENTS, row)}
    messages = [*_card_of(reply), *posted_messages.take_copies(connection, reply_id)]
    for statement in _ERASE:
        connection.execute(statement, row)
    for sha256 in contents:
        connection.execute(_FORGET_UPLOADS, (sha256,))
    posted_messages.schedule(connection, [message.place for message in messages], at=now + FIRST_RETRY_AFTER)
    if actor_id != reply.user_id:
        change = audit_log.Change(actor_id=actor_id, reason=None, now=now)
        audit_log.record_about_order(connection, reply, "delete", change)
    return DeletedOrder(unneeded_sha256=frozenset(not_in_use(connection, contents)), messages=tuple(messages))


def not_in_use(connection: Connection, contents: Collection[str]) -> set[str]:
    """Return those of `contents` that no order has as an input or a result, and no preset as its reference."""
    in_use = connection.execute(_IN_USE.on(connection), {"contents": json.dumps(sorted(contents))})
    return set(contents) - {row[0] for row in in_use}


def _card_of(reply: Reply) -> list[OrderMessage]:
    address = reply.address
    if address.message_id is None or address.channel_id == NO_CHANNEL_ID:
        return []
    return [OrderMessage(channel_id=address.channel_id, message_id=address.message_id, kind=MessageKind.CARD)]
