"""Privacy: what is kept about a member in one readable value, and how it is forgotten, on request and by age.

Synchronous functions inside the caller's transaction. Amounts, times and models stay: the ledger must balance. What a
member spent keeps its name until every window that counts it has ended, so that erasing data resets no quota.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from bot.domain.errors import StillUnderWay
from bot.domain.money.quota import Period, Wallet, Window, format_usd
from bot.store.core.columns import to_micros, to_moment, to_moment_or_none
from bot.store.core.connection import Connection, DialectSql, Row
from bot.store.tables import callbacks
from bot.store.tables.jobs import REPLIES_OF_MEMBER
from bot.store.tables.members import posted_messages
from bot.store.tables.members.deletion import not_in_use
from bot.store.tables.money import ledger, limits, wallets
from bot.store.tables.shared import catalogue

RETENTION = timedelta(days=30)
"""How long prompts, options and stored images are kept for their members."""

ACTS_KEPT = timedelta(days=90)
"""How long the record of changes says who changed something, about whom and why, whatever they have erased."""

TOKEN_DEAD_AFTER = timedelta(minutes=15)
"""Time after which an expired interaction token is erased; nothing uses it any more by then."""

REMOTE_ID_KEPT = timedelta(days=1)
"""A provider's name for a job is needed this long to tell an order that was lost from those that were not."""

BATCH_JOBS = 200
"""Jobs forgotten in one transaction: few, because admissions wait behind it."""

# -- on request -------------------------------------------------------------------------------------------

_UNDER_WAY = f"""
SELECT count(*) AS commands,
    max((
        SELECT max(coalesce(follow_until_at, deadline_at)) FROM jobs
        WHERE reply_id = replies.id AND (status = 'uncertain' OR follow_until_at IS NOT NULL)
    )) AS checked_until
FROM replies WHERE id IN ({REPLIES_OF_MEMBER}) AND (delivery = 'pending' OR EXISTS (
    SELECT 1 FROM jobs WHERE reply_id = replies.id AND (finished_at IS NULL OR follow_until_at IS NOT NULL)
))
"""  # noqa: S608 - our own words
_COUNTS = f"""
SELECT count(DISTINCT replies.id) AS commands, count(DISTINCT nullif(replies.guild_id, 0)) AS servers,
    count(pictures.job_id) AS images
FROM replies JOIN jobs ON jobs.reply_id = replies.id LEFT JOIN pictures ON pictures.job_id = jobs.id
WHERE replies.id IN ({REPLIES_OF_MEMBER})
"""  # noqa: S608
_JOBS_OF_MEMBER = f"SELECT id FROM jobs WHERE reply_id IN ({REPLIES_OF_MEMBER})"  # noqa: S608
_CONTENTS_OF_MEMBER = f"""
SELECT sha256 FROM inputs WHERE job_id IN ({_JOBS_OF_MEMBER})
UNION SELECT sha256 FROM pictures WHERE job_id IN ({_JOBS_OF_MEMBER})
UNION SELECT reference_sha256 FROM presets WHERE user_id = :user_id AND reference_sha256 IS NOT NULL
"""  # noqa: S608
_FORGET_INPUTS = f"DELETE FROM inputs WHERE job_id IN ({_JOBS_OF_MEMBER})"  # noqa: S608
_FORGET_PICTURES = f"DELETE FROM pictures WHERE job_id IN ({_JOBS_OF_MEMBER})"  # noqa: S608
_FORGET_JOBS = f"""
UPDATE jobs SET user_id = NULL, prompt = '', options = '{{}}', body = '{{}}', seed = NULL, failure_hint = '',
    webhook_token = NULL, erased_at = coalesce(erased_at, :now)
WHERE id IN ({_JOBS_OF_MEMBER})
"""  # noqa: S608
_FORGET_REPLIES = f"""
UPDATE replies SET user_id = NULL, role_ids = '[]', token = NULL, channel_id = 0, message_id = NULL, locale = '',
    language = 'en', cancel_reason = NULL, preset_name = NULL, review = NULL, review_reason = NULL,
    review_channel_id = NULL, spoiler = FALSE
WHERE id IN ({REPLIES_OF_MEMBER})
"""  # noqa: S608
# Before the replies lose their member: votes of others for the member's comparisons go as well.
_FORGET_MARKS = (
    f"DELETE FROM votes WHERE user_id = :user_id OR reply_id IN ({REPLIES_OF_MEMBER})",  # noqa: S608
    f"DELETE FROM favourites WHERE reply_id IN ({REPLIES_OF_MEMBER})",  # noqa: S608
    "DELETE FROM presets WHERE user_id = :user_id",
    "DELETE FROM member_defaults WHERE user_id = :user_id",
)
_CLOSE_ACCOUNTS = """
UPDATE accounts SET closed_at = :now WHERE kind = 'member' AND user_id = :user_id AND closed_at IS NULL
"""
_FORGET_UPLOADS = "DELETE FROM uploads WHERE sha256 NOT IN (SELECT sha256 FROM inputs)"

# -- by age -----------------------------------------------------------------------------------------------

_OLD_JOBS = """
SELECT jobs.id FROM jobs JOIN replies ON replies.id = reply_id
WHERE erased_at IS NULL AND jobs.created_at < :before AND finished_at IS NOT NULL AND delivery <> 'pending'
    AND follow_until_at IS NULL AND (coalesce(review, '') <> 'waiting' OR status <> 'succeeded')
ORDER BY jobs.created_at LIMIT :limit
"""
_FORGET_OLD_INPUTS = "DELETE FROM inputs WHERE job_id = ?"
_FORGET_OLD_SOURCES = "UPDATE pictures SET source_url = '' WHERE job_id = ?"
_FORGET_OLD_JOB = """
UPDATE jobs SET prompt = '', options = '{}', body = '{}', seed = NULL, failure_hint = '', webhook_token = NULL,
    erased_at = ?
WHERE id = ?
"""
_FORGET_NAMES_ON_RECORD = """
UPDATE audit SET actor_id = NULL, reason = NULL, subject_id = CASE subject WHEN 'member' THEN NULL ELSE subject_id END
WHERE id IN (
    SELECT id FROM audit WHERE created_at < :acted_before
        AND (actor_id IS NOT NULL OR reason IS NOT NULL OR (subject = 'member' AND subject_id IS NOT NULL))
    ORDER BY created_at LIMIT :limit
)
"""
_FORGET_TOKENS = "UPDATE replies SET token = NULL WHERE token IS NOT NULL AND token_expires_at < :dead_before"
# The name of a command event only serves to accept it once; any other unused number does as well. A member who was
# erased had nothing pending; stated here, the index by member answers this, and not all replies there ever were.
_FORGET_EVENTS = DialectSql(
    sqlite="""
UPDATE replies SET interaction_id = -1 - (random() & 0x3fffffffffffffff)
WHERE user_id IS NULL AND delivery <> 'pending' AND interaction_id > 0 AND token_expires_at < :dead_before
""",
    postgresql="""
UPDATE replies SET
    interaction_id = -1 - (hashtextextended(CAST(gen_random_uuid() AS TEXT), 0) & 4611686018427387903)
WHERE user_id IS NULL AND delivery <> 'pending' AND interaction_id > 0 AND token_expires_at < :dead_before
""",
)
_FORGET_REMOTE_IDS = """
UPDATE jobs SET remote_id = 'erased ' || id
WHERE user_id IS NULL AND remote_id NOT LIKE 'erased %' AND finished_at < :finished_before
"""
# The same for orders that were deleted one by one, whose member is still known.
_FORGET_REMOTE_IDS_OF_DELETED = """
UPDATE jobs SET remote_id = 'erased ' || id WHERE remote_id NOT LIKE 'erased %' AND reply_id IN (
    SELECT id FROM replies WHERE deleted_at IS NOT NULL AND interaction_id > 0 AND deleted_at < :deleted_before
)
"""
_FORGET_EVENTS_OF_DELETED = DialectSql(
    sqlite="""
UPDATE replies SET interaction_id = -1 - (random() & 0x3fffffffffffffff)
WHERE deleted_at IS NOT NULL AND interaction_id > 0 AND deleted_at < :deleted_before
""",
    postgresql="""
UPDATE replies SET
    interaction_id = -1 - (hashtextextended(CAST(gen_random_uuid() AS TEXT), 0) & 4611686018427387903)
WHERE deleted_at IS NOT NULL AND interaction_id > 0 AND deleted_at < :deleted_before
""",
)
_CLOSED_ACCOUNTS = """
SELECT id, guild_id, closed_at FROM accounts WHERE kind = 'member' AND user_id IS NOT NULL AND closed_at IS NOT NULL
"""
_FORGET_HOLDER = "UPDATE accounts SET user_id = NULL WHERE id = ?"

# -- the export -------------------------------------------------------------------------------------------

EXPORT_ORDERS = 200
"""Orders read in one transaction of an export: few, because other members' reads wait behind it."""

EXPORT_SPAN = 5_000
"""Rows of the ledger, or of the record of changes, looked at in one transaction of an export."""

_ORDER_IDS = """
SELECT id, created_at FROM replies WHERE user_id = :user_id AND delivery <> 'pending'
UNION ALL
SELECT id, created_at FROM replies WHERE user_id = :user_id AND delivery <> 'delivered' AND delivery = 'pending'
ORDER BY created_at, id
"""
_ORDERS_UNDER_WAY = """
SELECT id FROM replies WHERE user_id = :user_id AND delivery <> 'delivered' AND delivery = 'pending'
UNION SELECT reply_id FROM jobs WHERE user_id = :user_id AND finished_at IS NULL
UNION SELECT reply_id FROM jobs WHERE user_id = :user_id AND follow_until_at IS NOT NULL
"""
_HIGHEST_IDS = """
SELECT coalesce((SELECT max(id) FROM ledger), 0) AS ledger, coalesce((SELECT max(id) FROM audit), 0) AS changes,
    coalesce((SELECT max(id) FROM wallet_ledger), 0) AS wallet_entries
"""
_REPLIES = DialectSql(
    sqlite="""
SELECT * FROM replies WHERE user_id = :user_id AND id IN (SELECT value FROM json_each(:ids)) ORDER BY created_at, id
""",
    postgresql="""
SELECT * FROM replies WHERE user_id = :user_id AND id IN (SELECT json_array_elements_text(CAST(:ids AS JSON)))
ORDER BY created_at, id
""",
)
_JOBS = DialectSql(
    sqlite="""
SELECT jobs.*, house.amount_usd_micros AS house_usd_micros, reservations.channel_id, reservations.category_id,
    wallet_settled_usd_micros
FROM jobs LEFT JOIN reservations ON reservations.job_id = jobs.id
    LEFT JOIN ledger house ON house.job_id = jobs.id AND house.kind = 'house'
WHERE reply_id IN (SELECT value FROM json_each(:ids)) ORDER BY reply_id, ordinal
""",
    postgresql="""
SELECT jobs.*, house.amount_usd_micros AS house_usd_micros, reservations.channel_id, reservations.category_id,
    wallet_settled_usd_micros
FROM jobs LEFT JOIN reservations ON reservations.job_id = jobs.id
    LEFT JOIN ledger house ON house.job_id = jobs.id AND house.kind = 'house'
WHERE reply_id IN (SELECT json_array_elements_text(CAST(:ids AS JSON))) ORDER BY reply_id, ordinal
""",
)
_INPUTS = DialectSql(
    sqlite="SELECT * FROM inputs WHERE job_id IN (SELECT value FROM json_each(:ids)) ORDER BY job_id, ordinal",
    postgresql="""
SELECT * FROM inputs WHERE job_id IN (SELECT json_array_elements_text(CAST(:ids AS JSON))) ORDER BY job_id, ordinal
""",
)
_CALLBACKS = "SELECT * FROM callbacks WHERE job_id = ? ORDER BY received_at, remote_id"
_UPLOADS = "SELECT provider, url FROM uploads WHERE provider = ? AND sha256 = ?"
_PICTURES = DialectSql(
    sqlite="SELECT * FROM pictures WHERE job_id IN (SELECT value FROM json_each(:ids)) ORDER BY job_id, ordinal",
    postgresql="""
SELECT * FROM pictures WHERE job_id IN (SELECT json_array_elements_text(CAST(:ids AS JSON))) ORDER BY job_id, ordinal
""",
)
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
# From the few rows that are open, by their partial indexes, to the many: SQLite keeps that order with CROSS JOIN.
_SHA256_IN_USE = DialectSql(
    sqlite="""
SELECT sha256 FROM inputs WHERE created_at >= :kept_since
UNION SELECT reference_sha256 FROM presets WHERE reference_sha256 IS NOT NULL
UNION SELECT sha256 FROM jobs CROSS JOIN inputs ON inputs.job_id = jobs.id WHERE jobs.finished_at IS NULL
-- The card is shown again, with all its images, when the image of a job comes late.
UNION SELECT sha256 FROM jobs followed CROSS JOIN jobs ON jobs.reply_id = followed.reply_id
    CROSS JOIN pictures ON pictures.job_id = jobs.id
    WHERE followed.follow_until_at IS NOT NULL
UNION SELECT sha256 FROM replies CROSS JOIN jobs ON jobs.reply_id = replies.id
    CROSS JOIN pictures ON pictures.job_id = jobs.id
    WHERE replies.delivery <> 'delivered' AND (replies.delivery = 'pending' OR replies.created_at >= :kept_since)
-- Discord drops the files of a private answer after a while, and those in a channel without access cannot be read, so
-- ours are all there is.
UNION SELECT sha256 FROM replies CROSS JOIN jobs ON jobs.reply_id = replies.id
    CROSS JOIN pictures ON pictures.job_id = jobs.id
    WHERE (replies.private = 1 OR replies.channel_id = 0) AND replies.created_at >= :kept_since
-- Shown only once a moderator approves them, and those refused only to their member.
UNION SELECT sha256 FROM replies CROSS JOIN jobs ON jobs.reply_id = replies.id
    CROSS JOIN pictures ON pictures.job_id = jobs.id
    WHERE replies.review IN ('waiting', 'refused')
        AND (replies.review = 'waiting' OR replies.created_at >= :kept_since)
""",
    postgresql="""
SELECT sha256 FROM inputs WHERE created_at >= :kept_since
UNION SELECT reference_sha256 FROM presets WHERE reference_sha256 IS NOT NULL
UNION SELECT sha256 FROM jobs JOIN inputs ON inputs.job_id = jobs.id WHERE jobs.finished_at IS NULL
-- The card is shown again, with all its images, when the image of a job comes late.
UNION SELECT sha256 FROM jobs followed JOIN jobs ON jobs.reply_id = followed.reply_id
    JOIN pictures ON pictures.job_id = jobs.id
    WHERE followed.follow_until_at IS NOT NULL
UNION SELECT sha256 FROM replies JOIN jobs ON jobs.reply_id = replies.id
    JOIN pictures ON pictures.job_id = jobs.id
    WHERE replies.delivery <> 'delivered' AND (replies.delivery = 'pending' OR replies.created_at >= :kept_since)
-- Discord drops the files of a private answer after a while, and those in a channel without access cannot be read, so
-- ours are all there is.
UNION SELECT sha256 FROM replies JOIN jobs ON jobs.reply_id = replies.id
    JOIN pictures ON pictures.job_id = jobs.id
    WHERE (replies.private OR replies.channel_id = 0) AND replies.created_at >= :kept_since
-- Shown only once a moderator approves them, and those refused only to their member.
UNION SELECT sha256 FROM replies JOIN jobs ON jobs.reply_id = replies.id
    JOIN pictures ON pictures.job_id = jobs.id
    WHERE replies.review IN ('waiting', 'refused')
        AND (replies.review = 'waiting' OR replies.created_at >= :kept_since)
""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Footprint:
    """The amount of data kept about a member, over all servers."""

    commands: int
    servers: int
    images: int
    under_way: StillUnderWay | None
    """Why nothing can be erased now."""


def footprint(connection: Connection, user_id: int) -> Footprint:
    """Count what is kept about a member, over all servers."""
    counts = connection.execute(_COUNTS, {"user_id": user_id}).fetchone()
    return Footprint(**dict(counts), under_way=_under_way(connection, user_id))


def _under_way(connection: Connection, user_id: int) -> StillUnderWay | None:
    row = connection.execute(_UNDER_WAY, {"user_id": user_id}).fetchone()
    if not row["commands"]:
        return None
    return StillUnderWay(commands=row["commands"], checked_until=to_moment_or_none(row["checked_until"]))


def forget_member(connection: Connection, user_id: int, *, now: datetime) -> set[str]:
    """Erase what a member asked for and got, and their name; returns the sha256 of the images that nothing needs now.

    Limits and blocks stay: they are decisions of a server's moderators, who alone can lift them. So does the record of
    changes, for ACTS_KEPT: a moderator must not be able to erase their own traces. A wallet with money in it stays as
    well, with its entries: it is the member's. Raises StillUnderWay.
    """
    who = {"user_id": user_id, "now": to_micros(now)}
    if (under_way := _under_way(connection, user_id)) is not None:
        raise under_way
    contents = {row[0] for row in connection.execute(_CONTENTS_OF_MEMBER, who)}
    posted_messages.delete_copies_of(connection, user_id, now=now)
    callbacks.forget_old(connection)
    for statement in (*_FORGET_MARKS, _FORGET_INPUTS, _FORGET_PICTURES, _FORGET_UPLOADS, _FORGET_JOBS, _FORGET_REPLIES):
        connection.execute(statement, who)
    connection.execute(_CLOSE_ACCOUNTS, who)
    wallets.forget_empty(connection, user_id)
    catalogue.forget_person(connection, user_id)
    _forget_names(connection, now)
    return not_in_use(connection, contents)


def forget_old(connection: Connection, *, now: datetime) -> int:
    """Forget up to `BATCH_JOBS` prompts that have reached their age, dead tokens, and holders of closed accounts.

    Returns how many jobs it was; when that is `BATCH_JOBS` there may be more.
    """
    old = {"before": to_micros(now - RETENTION), "limit": BATCH_JOBS}
    job_ids = [row[0] for row in connection.execute(_OLD_JOBS, old)]
    for job_id in job_ids:
        connection.execute(_FORGET_OLD_INPUTS, (job_id,))
        connection.execute(_FORGET_OLD_SOURCES, (job_id,))
        connection.execute(_FORGET_OLD_JOB, (to_micros(now), job_id))
    if job_ids:
        connection.execute(_FORGET_UPLOADS)
    callbacks.forget_old(connection)
    _forget_names(connection, now)
    for account in connection.execute(_CLOSED_ACCOUNTS).fetchall():
        if to_moment(account["closed_at"]) < _earliest_start(connection, account["guild_id"], now):
            connection.execute(_FORGET_HOLDER, (account["id"],))
    return len(job_ids)


def forget_names_on_record(connection: Connection, *, now: datetime) -> int:
    """Forget who changed what about whom and why where that is older than ACTS_KEPT, up to `BATCH_JOBS` entries.

    What was changed stays, without names. Returns how many entries it was.
    """
    old = {"acted_before": to_micros(now - ACTS_KEPT), "limit": BATCH_JOBS}
    return connection.execute(_FORGET_NAMES_ON_RECORD, old).rowcount


def _forget_names(connection: Connection, now: datetime) -> None:
    """Erase expired tokens, and the ids by which Discord and the provider know an erased command."""
    dead = {"dead_before": to_micros(now - TOKEN_DEAD_AFTER)}
    connection.execute(_FORGET_TOKENS, dead)
    connection.execute(_FORGET_EVENTS.on(connection), dead)
    connection.execute(_FORGET_REMOTE_IDS, {"finished_before": to_micros(now - REMOTE_ID_KEPT)})
    deleted = {"deleted_before": to_micros(now - REMOTE_ID_KEPT)}
    connection.execute(_FORGET_REMOTE_IDS_OF_DELETED, deleted)
    connection.execute(_FORGET_EVENTS_OF_DELETED.on(connection), deleted)


def _earliest_start(connection: Connection, guild_id: int, now: datetime) -> datetime:
    """Return when the earliest of the current windows begins: a week may begin before its month does."""
    zone = limits.time_zone(connection, guild_id)
    today_in_utc = Window.containing(now, Period.DAY, ZoneInfo("UTC"))  # in which costs to the operator are limited
    return min(today_in_utc.start, *(Window.containing(now, period, zone).start for period in Period))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportStart:
    """An export at the moment that it speaks of: what is small or may still change, and where to read the rest."""

    order_ids: Sequence[str]
    under_way: Mapping[str, dict[str, Any]]
    """Orders that were not finished then, as they were, by id; the others change no more."""
    accounts: list[dict[str, Any]]
    own_limits: list[dict[str, Any]]
    catalogue_decisions: list[dict[str, Any]]
    blocks: list[dict[str, Any]]
    grants_and_resets: list[dict[str, Any]]
    wallet: list[dict[str, Any]]
    purchases: list[dict[str, Any]]
    own_presets: list[dict[str, Any]]
    own_defaults: list[dict[str, Any]]
    votes: list[dict[str, Any]]
    favourite_commands: list[dict[str, Any]]
    shared_images: list[dict[str, Any]]
    reviews: list[dict[str, Any]]
    last_ledger_id: int
    last_wallet_entry_id: int
    last_change_id: int


def export_start(connection: Connection, user_id: int) -> ExportStart:
    """Begin an export of everything kept about a member, and nothing about other members: no ids, no credentials.

    Plain values for JSON. Ids are strings because JavaScript rounds numbers of their size.
    """
    who = {"user_id": user_id}
    highest = connection.execute(_HIGHEST_IDS).fetchone()
    under_way = [row[0] for row in connection.execute(_ORDERS_UNDER_WAY, who)]
    purchases = wallets.purchases_of(connection, user_id)
    return ExportStart(
        order_ids=[row[0] for row in connection.execute(_ORDER_IDS, who)],
        under_way=exported_orders(connection, user_id, under_way),
        accounts=[
            {
                "server_id": str(row["guild_id"]),
                "closed_by_your_deletion_at": _iso(row["closed_at"]),
                "told_of_what_is_left_until": _iso(row["warned_until_at"]),
            }
            for row in connection.execute(_ACCOUNTS, who)
        ],
        own_limits=[
            {"server_id": str(row["guild_id"]), "period": row["period"], **_amount("limit", row["amount_usd_micros"])}
            for row in connection.execute(_LIMITS, who)
        ],
        catalogue_decisions=[
            {
                "change": change.id,
                "model": change.model_id,
                "decision": str(change.state),
                "at": None if change.decided_at is None else change.decided_at.isoformat(),
            }
            for change in catalogue.decisions_of(connection, user_id)
        ],
        blocks=[
            {"server_id": str(row["guild_id"]), "since": _iso(row["created_at"])}
            for row in connection.execute(_BLOCKS, who)
        ],
        grants_and_resets=[
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
        wallet=_wallet(ledger.wallet_of(connection, user_id)) if purchases else [],
        purchases=[
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
        own_presets=[
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
        own_defaults=[
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
        votes=[
            {"server_id": str(row["guild_id"]), "job_id": row["job_id"], "model": row["model_id"]}
            for row in connection.execute(_VOTES, who)
        ],
        favourite_commands=[{"id": row["reply_id"]} for row in connection.execute(_FAVOURITES, who)],
        shared_images=[
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
        reviews=[
            {
                "command_id": row["reply_id"],
                "channel_id": str(row["channel_id"]),
                "message_id": None if row["message_id"] is None else str(row["message_id"]),
                "at": _iso(row["first_claimed_at"]),
            }
            for row in connection.execute(_REVIEWS, who)
        ],
        last_ledger_id=highest["ledger"],
        last_wallet_entry_id=highest["wallet_entries"],
        last_change_id=highest["changes"],
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


def exported_ledger(connection: Connection, user_id: int, *, after: int, through: int) -> list[dict[str, Any]]:
    """Return the member's entries among those of the ledger with an id above `after` and up to `through`."""
    which = {"user_id": user_id, "after": after, "through": through}
    return [
        {
            "server_id": str(row["guild_id"]),
            "job_id": row["job_id"],
            "what": row["kind"],
            **_amount("amount", row["amount_usd_micros"]),
            "at": _iso(row["created_at"]),
        }
        for row in connection.execute(_LEDGER, which)
    ]


def exported_wallet_entries(connection: Connection, user_id: int, *, after: int, through: int) -> list[dict[str, Any]]:
    """Return the entries of the member's wallet with an id above `after` and up to `through`."""
    which = {"user_id": user_id, "after": after, "through": through}
    return [
        {
            "what": row["kind"],
            **_amount("amount", row["amount_usd_micros"]),
            "job_id": row["job_id"],
            "entitlement_id": None if row["entitlement_id"] is None else str(row["entitlement_id"]),
            "at": _iso(row["created_at"]),
        }
        for row in connection.execute(_WALLET_ENTRIES, which)
    ]


def exported_changes(connection: Connection, user_id: int, *, after: int, through: int) -> list[dict[str, Any]]:
    """Return the changes by or about the member among those with an id above `after` and up to `through`."""
    which = {"user_id": user_id, "after": after, "through": through}
    return [_change(row, user_id) for row in connection.execute(_AUDIT, which)]


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
        **_amount("paid_by_the_house", row["house_usd_micros"] or 0),
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


def _facts(text: str | None) -> dict[str, Any] | None:
    return None if text is None else json.loads(text)


def _amount(name: str, micros: int | None) -> dict[str, Any]:
    """Return an amount in micro-dollars and in dollars. None is unlimited."""
    return {f"{name}_usd_micros": micros, f"{name}_usd": "unlimited" if micros is None else format_usd(micros)}


def _iso(micros: int | None) -> str | None:
    moment = to_moment_or_none(micros)
    return None if moment is None else moment.isoformat()


def sha256_in_use(connection: Connection, *, now: datetime | None = None) -> set[str]:
    """Images that must stay in the blob store.

    Results not yet delivered or not yet reviewed, inputs of unfinished jobs, references of presets; for RETENTION also
    the inputs of all jobs, and the results that could not be shown, were shown privately or were refused.
    """
    kept_since = (now or datetime.now(UTC)) - RETENTION
    return {row[0] for row in connection.execute(_SHA256_IN_USE.on(connection), {"kept_since": to_micros(kept_since)})}
