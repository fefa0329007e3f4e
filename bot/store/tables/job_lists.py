"""Lists of replies and jobs: unfinished ones, orders whose answer was lost, what members and servers ordered lately.

Synchronous functions inside the caller's transaction. Single ones are read in `jobs.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from bot.domain.jobs import Job, Reply
from bot.store.core.columns import to_json, to_micros
from bot.store.core.connection import Connection
from bot.store.tables.jobs import job_of_row, reply_of_row

NOT_SHOWN_YET = "delivery <> 'delivered' AND delivery = 'pending'"
"""The condition of replies whose final state is yet to be shown. The first half says nothing new, but SQLite takes the
index of replies that are not delivered only for a statement that contains the condition of that index."""

REPLIES_OF_MEMBER = f"""
SELECT id FROM replies WHERE user_id = :user_id AND delivery <> 'pending'
UNION ALL SELECT id FROM replies WHERE user_id = :user_id AND {NOT_SHOWN_YET}
"""  # noqa: S608
"""Every reply of a member, for a subquery. In two parts, because an admission enters its reply only into the index of
those that are not delivered; the member's own history takes it when its final state was shown."""

_RECENT_OF_MEMBER = f"""
SELECT jobs.* FROM (
    SELECT id, created_at FROM replies
    WHERE user_id = :user_id AND guild_id = :guild_id AND created_at < :before AND delivery <> 'pending'
    UNION ALL
    SELECT id, created_at FROM replies
    WHERE user_id = :user_id AND guild_id = :guild_id AND created_at < :before
        AND {NOT_SHOWN_YET}
    ORDER BY created_at DESC LIMIT :limit
) AS latest JOIN jobs ON jobs.reply_id = latest.id
ORDER BY latest.created_at DESC, jobs.id DESC LIMIT :limit
"""  # noqa: S608
# A reply is created together with its first job, so the index by server and time serves for both.
_FINISHED_OF_SERVER = """
SELECT replies.* FROM jobs JOIN replies ON replies.id = reply_id
WHERE jobs.guild_id = :guild_id AND jobs.ordinal = 0 AND jobs.created_at < :before AND NOT EXISTS (
    SELECT 1 FROM jobs other WHERE other.reply_id = replies.id AND other.finished_at IS NULL
)
ORDER BY jobs.created_at DESC, jobs.id DESC LIMIT :limit
"""
_RUNNING_OF_SERVER = """
SELECT * FROM replies WHERE guild_id = :guild_id AND created_at < :before
    AND id IN (SELECT reply_id FROM jobs WHERE finished_at IS NULL)
ORDER BY created_at DESC, id DESC LIMIT :limit
"""
_UNFINISHED_REPLIES = f"""
SELECT * FROM replies WHERE id IN (
    SELECT reply_id FROM jobs WHERE finished_at IS NULL
    UNION SELECT reply_id FROM jobs WHERE follow_until_at IS NOT NULL
    UNION SELECT id FROM replies WHERE {NOT_SHOWN_YET}
) ORDER BY created_at, id
"""  # noqa: S608
_IN_LIMBO = f"""
SELECT * FROM replies WHERE {NOT_SHOWN_YET} AND created_at < :before AND (
    NOT accepted
    OR NOT EXISTS (SELECT 1 FROM jobs WHERE reply_id = replies.id AND (finished_at IS NULL OR finished_at >= :before))
) ORDER BY created_at, id LIMIT 1000
"""  # noqa: S608
_KNOWN_REMOTE_ID = "SELECT EXISTS (SELECT 1 FROM jobs WHERE provider = ? AND remote_id = ? AND remote_id IS NOT NULL)"
# An order whose request body was erased may have been the same.
_IS_SAME_ORDER = "id <> :id AND path = :path AND (body = :body OR erased_at IS NOT NULL)"
_IS_ANOTHER_LEAVING = f"""
SELECT EXISTS (
    SELECT 1 FROM jobs
    WHERE provider = :provider AND status IN ('submitting', 'running') AND status = 'submitting' AND {_IS_SAME_ORDER}
)
"""  # noqa: S608 - our own words
# The condition in brackets is that of the index jobs_lost, word for word.
_OTHER_LOST_ORDERS = f"""
SELECT id FROM jobs WHERE provider = :provider AND submitted_at BETWEEN :earliest AND :latest AND remote_id IS NULL
    AND (status = 'uncertain' OR failure_reason IN ('outcome_unknown', 'internal')) AND {_IS_SAME_ORDER}
"""  # noqa: S608
# Backwards from the newest row, so a few rows are read from a table of any size.
# The number of rows read is limited even when few have a duration, so a start never reads all jobs. Ids grow with time.
_RECENT_DURATIONS = """
SELECT model_id, took_micros FROM (
    SELECT id, model_id, took_micros FROM jobs ORDER BY id DESC LIMIT ?
) AS newest
WHERE took_micros IS NOT NULL ORDER BY id DESC
"""
DURATIONS_LOOKED_AT = 4000
_FOR_EVER = 2**63 - 1


def unfinished(connection: Connection) -> list[Reply]:
    """Return the replies with a job that is unfinished or followed, or whose final state was never shown.

    Oldest first.
    """
    return [reply_of_row(connection, row) for row in connection.execute(_UNFINISHED_REPLIES).fetchall()]


def in_limbo(connection: Connection, *, before: datetime) -> list[Reply]:
    """Return the replies created before then that Discord never confirmed, or that ended before then and are not shown.

    The 1,000 oldest.
    """
    return [
        reply_of_row(connection, row) for row in connection.execute(_IN_LIMBO, {"before": to_micros(before)}).fetchall()
    ]


def known_remote_ids(connection: Connection, provider: str, remote_ids: Sequence[str]) -> set[str]:
    """Return those of `remote_ids` that already belong to a job of ours."""
    return {
        remote_id
        for remote_id in remote_ids
        if connection.execute(_KNOWN_REMOTE_ID, (provider, remote_id)).fetchone()[0]
    }


def others_lost(connection: Connection, job: Job, *, earliest: datetime, latest: datetime) -> list[str]:
    """Return the ids of other orders like this one that were sent in that span and whose answers were lost.

    They count without a time limit: a remote job may belong to one even after the search for it has ended.
    """
    row = {**_same_order(job), "earliest": to_micros(earliest), "latest": to_micros(latest)}
    return [found[0] for found in connection.execute(_OTHER_LOST_ORDERS, row).fetchall()]


def is_another_leaving(connection: Connection, job: Job) -> bool:
    """Return whether any process is sending another order like this one."""
    return bool(connection.execute(_IS_ANOTHER_LEAVING, _same_order(job)).fetchone()[0])


def _same_order(job: Job) -> dict[str, Any]:
    return {"provider": job.provider, "id": job.id, "path": job.path, "body": to_json(job.body)}


def recent_jobs(
    connection: Connection, *, guild_id: int, user_id: int, limit: int, before: datetime | None = None
) -> list[Job]:
    """Return the jobs of one member in one server, newest first."""
    page = {
        "guild_id": guild_id,
        "user_id": user_id,
        "limit": limit,
        "before": _FOR_EVER if before is None else to_micros(before),
    }
    return [job_of_row(connection, row) for row in connection.execute(_RECENT_OF_MEMBER, page).fetchall()]


def replies_of_server(
    connection: Connection, guild_id: int, *, finished: bool, limit: int, before: datetime | None = None
) -> list[Reply]:
    """Return the commands of all members with an unfinished job, or those without one. Newest first."""
    page = {"guild_id": guild_id, "limit": limit, "before": _FOR_EVER if before is None else to_micros(before)}
    query = _FINISHED_OF_SERVER if finished else _RUNNING_OF_SERVER
    return [reply_of_row(connection, row) for row in connection.execute(query, page).fetchall()]


def recent_durations(connection: Connection, per_model: int) -> list[tuple[str, float]]:
    """Seconds that the provider worked on each of up to `per_model` jobs of each model used lately, oldest first."""
    rows = connection.execute(_RECENT_DURATIONS, (DURATIONS_LOOKED_AT,)).fetchall()
    seen: Counter[str] = Counter()
    newest: list[tuple[str, float]] = []
    for row in rows:
        seen[row["model_id"]] += 1
        if seen[row["model_id"]] <= per_model:
            newest.append((row["model_id"], row["took_micros"] / 1_000_000))
    return newest[::-1]
