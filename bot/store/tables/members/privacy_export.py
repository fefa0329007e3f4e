"""The export of what is kept about a member: small facts at one moment, then orders and entries in parts.

Synchronous functions inside the caller's transaction, each short: other members' reads wait behind it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bot.domain.money.quota import Wallet, format_usd
from bot.store.core.columns import to_moment_or_none
from bot.store.core.connection import Connection, DialectSql, Row
from bot.store.tables.job_lists import NOT_SHOWN_YET, REPLIES_OF_MEMBER
from bot.store.tables.money import balances, wallets
from bot.store.tables.shared import catalogue

EXPORT_ORDERS = 200
"""Orders read in one transaction of an export: few, because other members' reads wait behind it."""

EXPORT_SPAN = 5_000
"""Rows of the ledger, or of the record of changes, looked at in one transaction of an export."""

_ORDER_IDS = f"""
SELECT id, created_at FROM replies WHERE user_id = :user_id AND delivery <> 'pending'
UNION ALL
SELECT id, created_at FROM replies WHERE user_id = :user_id AND {NOT_SHOWN_YET}
ORDER BY created_at, id
"""  # noqa: S608
_ORDERS_UNDER_WAY = f"""
SELECT id FROM replies WHERE user_id = :user_id AND {NOT_SHOWN_YET}
UNION SELECT reply_id FROM jobs WHERE user_id = :user_id AND finished_at IS NULL
UNION SELECT reply_id FROM jobs WHERE user_id = :user_id AND follow_until_at IS NOT NULL
"""  # noqa: S608
_LAST_IDS = """
SELECT coalesce((SELECT max(id) FROM ledger), 0) AS ledger,
    coalesce((SELECT max(id) FROM wallet_ledger), 0) AS wallet_entries,
    coalesce((SELECT max(id) FROM audit), 0) AS changes_by_or_about_you
"""
_REPLIES = DialectSql.with_lists(
    "SELECT * FROM replies WHERE user_id = :user_id AND id IN (:ids) ORDER BY created_at, id"
)
_JOBS = DialectSql.with_lists("""
SELECT jobs.*, coalesce(house.amount_usd_micros, 0) + coalesce(refunds.usd_micros, 0) AS house_usd_micros,
    reservations.channel_id, reservations.category_id,
    wallet_settled_usd_micros - coalesce(refunds.wallet_usd_micros, 0) AS wallet_settled_usd_micros
FROM jobs LEFT JOIN reservations ON reservations.job_id = jobs.id
    LEFT JOIN ledger house ON house.job_id = jobs.id AND house.kind = 'house'
    LEFT JOIN refunds ON refunds.job_id = jobs.id
WHERE reply_id IN (:ids) ORDER BY reply_id, ordinal
""")
_INPUTS = DialectSql.with_lists("SELECT * FROM inputs WHERE job_id IN (:ids) ORDER BY job_id, ordinal")
_CALLBACKS = "SELECT * FROM callbacks WHERE job_id = ? ORDER BY received_at, remote_id"
_UPLOADS = "SELECT provider, url FROM uploads WHERE provider = ? AND sha256 = ?"
_PICTURES = DialectSql.with_lists("SELECT * FROM pictures WHERE job_id IN (:ids) ORDER BY job_id, ordinal")
_LEDGER = """
SELECT ledger.*, accounts.guild_id FROM ledger JOIN accounts ON accounts.id = account_id
WHERE ledger.id > :after AND ledger.id <= :through AND accounts.kind = 'member' AND accounts.user_id = :user_id
ORDER BY ledger.id
"""
_WALLET_ENTRIES = """
SELECT wallet_ledger.* FROM wallet_ledger JOIN wallets ON wallets.id = wallet_id
WHERE wallet_ledger.id > :after AND wallet_ledger.id <= :through AND user_id = :user_id ORDER BY wallet_ledger.id
"""
_ADJUSTMENTS = """
SELECT adjustments.*, guild_id FROM adjustments JOIN accounts ON accounts.id = account_id
WHERE accounts.kind = 'member' AND accounts.user_id = :user_id ORDER BY adjustments.id
"""
_ACCOUNTS = "SELECT * FROM accounts WHERE kind = 'member' AND user_id = :user_id ORDER BY id"
_LIMITS = "SELECT * FROM limits WHERE subject = 'member' AND subject_id = :user_id ORDER BY guild_id"
_BLOCKS = "SELECT * FROM blocks WHERE user_id = :user_id ORDER BY guild_id"
_PRESETS = "SELECT * FROM presets WHERE user_id = :user_id ORDER BY name_key"
_DEFAULTS = "SELECT * FROM member_defaults WHERE user_id = :user_id ORDER BY guild_id"
_VOTES = """
SELECT votes.job_id, model_id, guild_id FROM votes JOIN jobs ON jobs.id = job_id
WHERE votes.user_id = :user_id ORDER BY votes.job_id
"""
_FAVOURITES = f"SELECT reply_id FROM favourites WHERE reply_id IN ({REPLIES_OF_MEMBER}) ORDER BY reply_id"  # noqa: S608
_SHARED = f"""
SELECT * FROM shared_images WHERE reply_id IN ({REPLIES_OF_MEMBER}) ORDER BY job_id
"""  # noqa: S608
_REVIEWS = f"SELECT * FROM reviews WHERE reply_id IN ({REPLIES_OF_MEMBER}) ORDER BY reply_id"  # noqa: S608
_AUDIT = """
SELECT * FROM audit WHERE id > :after AND id <= :through
    AND (actor_id = :user_id OR (subject = 'member' AND subject_id = :user_id))
ORDER BY id
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportStart:
    """An export at the moment that it speaks of: what is small or may still change, and where to read the rest."""

    order_ids: Sequence[str]
    under_way: Mapping[str, dict[str, Any]]
    """Orders that were not finished then, as they were, by id; the others change no more."""
    facts: Mapping[str, list[dict[str, Any]]]
    """What is small, by the name of its list."""
    last_ids: Mapping[str, int]
    """The names of the lists that may be long, each with the highest id to look at."""


def export_start(connection: Connection, user_id: int) -> ExportStart:
    """Begin an export of everything kept about a member, and nothing about other members: no ids, no credentials.

    Plain values for JSON. Ids are strings because JavaScript rounds numbers of their size.
    """
    who = {"user_id": user_id}
    under_way = [row[0] for row in connection.execute(_ORDERS_UNDER_WAY, who)]
    purchases = wallets.purchases_of(connection, user_id)
    facts = {
        "accounts": [
            {
                "server_id": str(row["guild_id"]),
                "closed_by_your_deletion_at": _iso(row["closed_at"]),
                "told_of_what_is_left_until": _iso(row["warned_until_at"]),
            }
            for row in connection.execute(_ACCOUNTS, who)
        ],
        "own_limits": [
            {"server_id": str(row["guild_id"]), "period": row["period"], **_amount("limit", row["amount_usd_micros"])}
            for row in connection.execute(_LIMITS, who)
        ],
        "catalogue_decisions": [
            {
                "change": change.id,
                "model": change.model_id,
                "decision": str(change.state),
                "at": None if change.decided_at is None else change.decided_at.isoformat(),
            }
            for change in catalogue.decisions_of(connection, user_id)
        ],
        "blocks": [
            {"server_id": str(row["guild_id"]), "since": _iso(row["created_at"])}
            for row in connection.execute(_BLOCKS, who)
        ],
        "own_presets": [
            {
                "name": row["name"],
                "model": row["model_id"],
                "options": row["more"],
                "words_before": row["words_before"],
                "words_after": row["words_after"],
                "reference_sha256": row["reference_sha256"],
                "reference_content_type": row["reference_content_type"],
                "reference_width": row["reference_width"],
                "reference_height": row["reference_height"],
                "at": _iso(row["created_at"]),
            }
            for row in connection.execute(_PRESETS, who)
        ],
        "own_defaults": [
            {
                "server_id": str(row["guild_id"]),
                "model": row["model_id"],
                "aspect_ratio": row["aspect_ratio"],
                "resolution": row["resolution"],
                "private": None if row["private"] is None else bool(row["private"]),
                "preset": row["preset_name"],
            }
            for row in connection.execute(_DEFAULTS, who)
        ],
        "votes": [
            {"server_id": str(row["guild_id"]), "job_id": row["job_id"], "model": row["model_id"]}
            for row in connection.execute(_VOTES, who)
        ],
        "favourite_commands": [{"id": row["reply_id"]} for row in connection.execute(_FAVOURITES, who)],
        "shared_images": [
            {
                "command_id": row["reply_id"],
                "job_id": row["job_id"],
                "channel_id": str(row["channel_id"]),
                "message_id": None if row["message_id"] is None else str(row["message_id"]),
                "at": _iso(row["first_claimed_at"]),
                "taken_back_at": _iso(row["removed_at"]),
            }
            for row in connection.execute(_SHARED, who)
        ],
        "questions_to_moderators": [
            {
                "command_id": row["reply_id"],
                "channel_id": str(row["channel_id"]),
                "message_id": None if row["message_id"] is None else str(row["message_id"]),
                "at": _iso(row["first_claimed_at"]),
            }
            for row in connection.execute(_REVIEWS, who)
        ],
        "grants_and_resets": [
            {
                "server_id": str(row["guild_id"]),
                "what": row["kind"],
                **_amount("amount", row["amount_usd_micros"]),
                "window_start": _iso(row["window_start_at"]),
                "window_end": _iso(row["window_end_at"]),
                "at": _iso(row["created_at"]),
            }
            for row in connection.execute(_ADJUSTMENTS, who)
        ],
        "wallet": _wallet(balances.wallet_of(connection, user_id)) if purchases else [],
        "purchases": [
            {
                "entitlement_id": str(purchase.entitlement_id),
                "sku_id": str(purchase.sku_id),
                **_amount("paid_in", purchase.amount_usd_micros),
                **_amount("taken_back", purchase.taken_back_usd_micros),
                "paid_in_at": purchase.credited_at.isoformat(),
                "consumed_at": None if purchase.consumed_at is None else purchase.consumed_at.isoformat(),
                "refunded_or_deleted_at": None if purchase.ended_at is None else purchase.ended_at.isoformat(),
            }
            for purchase in purchases
        ],
    }
    return ExportStart(
        order_ids=[row[0] for row in connection.execute(_ORDER_IDS, who)],
        under_way=exported_orders(connection, user_id, under_way),
        facts=facts,
        last_ids=dict(connection.execute(_LAST_IDS).fetchone()),
    )


def _wallet(wallet: Wallet) -> list[dict[str, Any]]:
    available, set_aside = wallet.available_usd_micros, wallet.set_aside_usd_micros
    return [{**_amount("available", available), **_amount("set_aside", set_aside)}]


def exported_orders(connection: Connection, user_id: int, order_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return those of the orders that are still the member's, by id, each with its jobs and their images."""
    which = {"user_id": user_id, "ids": json.dumps(list(order_ids))}
    replies = connection.execute(_REPLIES.on(connection), which).fetchall()
    found = {"ids": json.dumps([row["id"] for row in replies])}
    jobs = connection.execute(_JOBS.on(connection), found).fetchall()
    providers = {row["id"]: row["provider"] for row in jobs}
    of_jobs = {"ids": json.dumps(list(providers))}
    inputs: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(_INPUTS.on(connection), of_jobs).fetchall():
        uploads = connection.execute(_UPLOADS, (providers[row["job_id"]], row["sha256"])).fetchall()
        inputs.setdefault(row["job_id"], []).append(_input(row, uploads))
    images: dict[str, list[dict[str, Any]]] = {}
    for row in connection.execute(_PICTURES.on(connection), of_jobs):
        images.setdefault(row["job_id"], []).append(_picture(row))
    jobs_of: dict[str, list[dict[str, Any]]] = {}
    for row in jobs:
        job = {
            **_job(row),
            "input_pictures": inputs.get(row["id"], []),
            "pictures": images.get(row["id"], []),
            "calls_of_the_provider": [_callback(call) for call in connection.execute(_CALLBACKS, (row["id"],))],
        }
        jobs_of.setdefault(row["reply_id"], []).append(job)
    return {row["id"]: {**_command(row), "jobs": jobs_of.get(row["id"], [])} for row in replies}


def exported_span(connection: Connection, user_id: int, name: str, *, after: int, through: int) -> list[dict[str, Any]]:
    """Return what is the member's, of a list that may be long, with an id above `after` and up to `through`."""
    query, item = _LONG_LISTS[name]
    which = {"user_id": user_id, "after": after, "through": through}
    return [item(row, user_id) for row in connection.execute(query, which)]


def _command(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "at": _iso(row["created_at"]),
        "server_id": str(row["guild_id"]),
        "channel_id": str(row["channel_id"]),
        "message_id": None if row["message_id"] is None else str(row["message_id"]),
        "command_event_id": str(row["interaction_id"]),
        "private": bool(row["private"]),
        "your_role_ids": [str(role_id) for role_id in json.loads(row["role_ids"])],
        "your_language": row["locale"],
        "language_of_the_reply": row["language"],
        "your_file_limit_bytes": row["file_limit_bytes"],
        "delivery": row["delivery"],
        "cancelled_by_a_moderator_because": row["cancel_reason"],
        "deleted_at": _iso(row["deleted_at"]),
        "preset": row["preset_name"],
        "review": row["review"],
        "refused_by_a_moderator_because": row["review_reason"],
        "review_channel_id": None if row["review_channel_id"] is None else str(row["review_channel_id"]),
        "spoiler": bool(row["spoiler"]),
    }


def _job(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "kind": row["kind"],
        "model": row["model_id"],
        "prompt": row["prompt"],
        "options": json.loads(row["options"]),
        "seed": row["seed"],
        "state": row["status"],
        "failure": row["failure_reason"],
        "failure_hint": row["failure_hint"],
        "provider": row["provider"],
        "provider_address": row["path"],
        "provider_job_id": row["remote_id"],
        "sent_to_provider": json.loads(row["body"]),
        **_amount("price", row["reserved_usd_micros"]),
        **_amount("charged", row["charged_usd_micros"] or 0),
        **_amount("charged_to_your_wallet", row["wallet_settled_usd_micros"] or 0),
        **_amount("paid_by_the_operator", row["house_usd_micros"] or 0),
        "counts_for_channel_id": None if row["channel_id"] is None else str(row["channel_id"]),
        "counts_for_category_id": None if row["category_id"] is None else str(row["category_id"]),
        "ordered_at": _iso(row["created_at"]),
        "submitted_at": _iso(row["submitted_at"]),
        "deadline_at": _iso(row["deadline_at"]),
        "finished_at": _iso(row["finished_at"]),
        "looked_for_until": _iso(row["follow_until_at"]),
        "image_came_late_at": _iso(row["late_at"]),
        "images_that_could_not_be_fetched": row["lost_images"],
        "provider_worked_for_micros": row["took_micros"],
        "prompt_erased_at": _iso(row["erased_at"]),
    }


def _input(row: Row, uploads: Iterable[Row]) -> dict[str, Any]:
    return {
        "sha256": row["sha256"],
        "role": row["role"],
        "content_type": row["content_type"],
        "width": row["width"],
        "height": row["height"],
        "attachment_address": row["public_url"],
        "uploaded_to": [f"{upload['provider']} {upload['url']}" for upload in uploads],
        "at": _iso(row["created_at"]),
    }


def _callback(row: Row) -> dict[str, Any]:
    return {"provider_job_id": row["remote_id"], "at": _iso(row["received_at"])}


def _picture(row: Row) -> dict[str, Any]:
    return {
        "sha256": row["sha256"],
        "content_type": row["content_type"],
        "width": row["width"],
        "height": row["height"],
        "size_bytes": row["size_bytes"],
        "address_at_provider": row["source_url"],
        "attachment_id": None if row["attachment_id"] is None else str(row["attachment_id"]),
    }


def _ledger_entry(row: Row, _: int) -> dict[str, Any]:
    return {
        "server_id": str(row["guild_id"]),
        "job_id": row["job_id"],
        "what": row["kind"],
        **_amount("amount", row["amount_usd_micros"]),
        "at": _iso(row["created_at"]),
    }


def _wallet_entry(row: Row, _: int) -> dict[str, Any]:
    return {
        "what": row["kind"],
        **_amount("amount", row["amount_usd_micros"]),
        "job_id": row["job_id"],
        "entitlement_id": None if row["entitlement_id"] is None else str(row["entitlement_id"]),
        "at": _iso(row["created_at"]),
    }


def _change(row: Row, user_id: int) -> dict[str, Any]:
    """Return an entry of the record of changes without the ids of other members."""
    about = row["subject"]
    if about == "member":
        about = "you" if row["subject_id"] == user_id else "another member"
    return {
        "server_id": str(row["guild_id"]),
        "by": "you" if row["actor_id"] == user_id else "a moderator",
        "what": row["action"],
        "about": about,
        "role_id": str(row["subject_id"]) if row["subject"] == "role" else None,
        "which": _facts(row["topic"]),
        "old_value": _facts(row["old_value"]),
        "new_value": _facts(row["new_value"]),
        "reason": row["reason"],
        "at": _iso(row["created_at"]),
    }


_LONG_LISTS: Mapping[str, tuple[str, Callable[[Row, int], dict[str, Any]]]] = {
    "ledger": (_LEDGER, _ledger_entry),
    "wallet_entries": (_WALLET_ENTRIES, _wallet_entry),
    "changes_by_or_about_you": (_AUDIT, _change),
}


def _facts(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _amount(name: str, micros: int | None) -> dict[str, Any]:
    """Return an amount in micro-dollars and in dollars. None is unlimited."""
    return {f"{name}_usd_micros": micros, f"{name}_usd": "unlimited" if micros is None else format_usd(micros)}


def _iso(micros: int | None) -> str | None:
    moment = to_moment_or_none(micros)
    return None if moment is None else moment.isoformat()
