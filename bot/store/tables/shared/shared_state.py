"""What processes on one database share beside jobs and money: slots at providers, open breakers, turns.

Synchronous functions inside the caller's transaction. Open breakers and turns are there on PostgreSQL alone. The table
of breakers speaks of providers instead: one whose breaker is open is closed to new jobs, which is a row in `closings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.domain.requester import Requester
from bot.store.core.columns import SERVER_NOW, to_micros, to_moment
from bot.store.core.connection import Connection
from bot.store.tables import callbacks
from bot.store.tables.shared.notifications import Topic, notify

_AT_PROVIDER = """
SELECT count(*) FROM jobs
WHERE provider = ? AND status IN ('submitting', 'running') AND unfetched_since_at IS NULL
"""
# The index of unfinished jobs serves: those at a provider are few beside those that wait.
_WAITING = """
SELECT jobs.id, jobs.guild_id, jobs.user_id FROM jobs JOIN replies ON replies.id = reply_id
WHERE finished_at IS NULL AND status = 'queued' AND provider = ? AND accepted ORDER BY jobs.created_at, jobs.id
"""
_JOB_OF_HOOK = "SELECT id FROM jobs WHERE webhook_token = ?"
_OPEN_BREAKER = """
INSERT INTO closings (provider, reason, closed_at) VALUES (?, ?, ?)
ON CONFLICT (provider) DO UPDATE SET reason = excluded.reason
WHERE closings.reason <> excluded.reason AND closings.reason <> 'denied'
"""
_CLOSE_BREAKER = "DELETE FROM closings WHERE provider = ?"
# The claims of this connection: the other locks of the program have two numbers, and `objsubid` 2.
_RELEASE_CLAIMS = """
SELECT pg_advisory_unlock(interaction_id) FROM (
    SELECT (CAST(classid AS BIGINT) << 32) | CAST(objid AS BIGINT) AS interaction_id
    FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND pid = pg_backend_pid()
) AS claims WHERE interaction_id < ?
"""
_CLAIM_COMMAND = "SELECT pg_try_advisory_lock(?)"
_OPEN_BREAKERS = "SELECT provider, reason, closed_at FROM closings"
_ACQUIRE_TURN = f"""
INSERT INTO turns (name, free_at) VALUES (:name, {SERVER_NOW} + :pause)
ON CONFLICT (name) DO UPDATE SET free_at = greatest(turns.free_at, {SERVER_NOW}) + :pause
RETURNING greatest(0, free_at - :pause - {SERVER_NOW})
"""  # noqa: S608 - no values of others


CLAIM_KEPT = timedelta(seconds=10)
"""How long a command stays claimed. Discord drops one that was not answered within three seconds."""

_SNOWFLAKE_TIME_SHIFT = 22
"""The bits of an id of Discord before those that say in which millisecond it was made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenBreaker:
    """A provider that takes no new jobs: why, and since when."""

    provider: str
    reason: str
    opened_at: datetime


def slots_in_use(connection: Connection, provider: str) -> int:
    """Return how many jobs of all processes are being sent to the provider or are there."""
    return connection.execute(_AT_PROVIDER, (provider,)).fetchone()[0]


def queued_jobs(connection: Connection, provider: str) -> Sequence[tuple[str, Requester]]:
    """Return the ids of the jobs queued for a provider, each with its requester, oldest first."""
    rows = connection.execute(_WAITING, (provider,)).fetchall()
    return [(job_id, Requester.of(guild_id, user_id)) for job_id, guild_id, user_id in rows]


def forward_webhook(connection: Connection, token: str, remote_id: str | None, *, now: datetime) -> bool:
    """Keep a webhook call for the process that runs the job of this path, and tell it; False when no job has it."""
    row = connection.execute(_JOB_OF_HOOK, (token,)).fetchone()
    if row is not None:
        if remote_id is not None:
            callbacks.keep(connection, token, remote_id, now=now)
        notify(connection, Topic.WEBHOOK, row[0], remote_id)
    return row is not None


def open_breaker(connection: Connection, provider: str, reason: str, *, now: datetime) -> bool:
    """Keep every process from sending new jobs to the provider. False when that was recorded before."""
    changed = connection.execute(_OPEN_BREAKER, (provider, reason, to_micros(now))).rowcount == 1
    if changed:
        notify(connection, Topic.BREAKERS, provider)
    return changed


def close_breaker(connection: Connection, provider: str) -> None:
    """Mark the provider as available."""
    if connection.execute(_CLOSE_BREAKER, (provider,)).rowcount:
        notify(connection, Topic.BREAKERS, provider)


def open_breakers(connection: Connection) -> list[OpenBreaker]:
    """Return the providers that take no new jobs."""
    return [
        OpenBreaker(provider=row["provider"], reason=row["reason"], opened_at=to_moment(row["closed_at"]))
        for row in connection.execute(_OPEN_BREAKERS).fetchall()
    ]


def claim_command(connection: Connection, interaction_id: int) -> bool:
    """Return whether no other process claimed the command. The claim ends with the connection of the process.

    Older claims of the process end here: the server keeps all of them in a table of fixed size, which every lock needs.
    """
    oldest_id = interaction_id - (CLAIM_KEPT // timedelta(milliseconds=1) << _SNOWFLAKE_TIME_SHIFT)
    connection.execute(_RELEASE_CLAIMS, (oldest_id,))
    return connection.execute(_CLAIM_COMMAND, (interaction_id,)).fetchone()[0]


def acquire_turn(connection: Connection, name: str, *, pause: timedelta) -> timedelta:
    """Reserve a time for the caller to do `name`, and return how long it has to wait for it.

    No other process gets a time within `pause` after it. The clock is the server's: by that of a process which is an
    hour ahead, all others would wait for an hour.
    """
    parameters = {"name": name, "pause": pause // timedelta(microseconds=1)}
    return timedelta(microseconds=connection.execute(_ACQUIRE_TURN, parameters).fetchone()[0])
