"""Privacy: how what is kept about a member is forgotten, on request and by age.

Synchronous functions inside the caller's transaction. Amounts, times and models stay: the ledger must balance. What a
member spent keeps its name until every window that counts it has ended, so that erasing data resets no quota.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bot.domain.errors import StillUnderWay
from bot.domain.money.quota import Period, Window
from bot.store.core.columns import to_micros, to_moment, to_moment_or_none
from bot.store.core.connection import Connection, DialectSql
from bot.store.tables import callbacks
from bot.store.tables.job_lists import REPLIES_OF_MEMBER
from bot.store.tables.members import posted_messages
from bot.store.tables.members.deletion import not_in_use
from bot.store.tables.money import limits, wallets
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

# From the few rows that are open, by their partial indexes, to the many: SQLite keeps that order with CROSS JOIN.
_SHA256_IN_USE_SQLITE = """
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
"""
_SHA256_IN_USE = DialectSql(
    sqlite=_SHA256_IN_USE_SQLITE,
    postgresql=_SHA256_IN_USE_SQLITE.replace("CROSS JOIN", "JOIN").replace("private = 1", "private"),
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
    today_in_utc = Window.containing(now, Period.DAY, limits.UTC_ZONE)  # in which costs to the operator are limited
    return min(today_in_utc.start, *(Window.containing(now, period, zone).start for period in Period))


def sha256_in_use(connection: Connection, *, now: datetime | None = None) -> set[str]:
    """Images that must stay in the blob store.

    Results not yet delivered or not yet reviewed, inputs of unfinished jobs, references of presets; for RETENTION also
    the inputs of all jobs, and the results that could not be shown, were shown privately or were refused.
    """
    kept_since = (now or datetime.now(UTC)) - RETENTION
    return {row[0] for row in connection.execute(_SHA256_IN_USE.on(connection), {"kept_since": to_micros(kept_since)})}
