"""Callbacks: the provider's names for a job, from calls on its webhook path that came before its order was answered.

Synchronous functions inside the caller's transaction. Anybody may call a path, so what does not belong to a job that
waits for its name is not kept, and of one job only a few names are.
"""

from __future__ import annotations

from datetime import datetime

from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection

MAX_PER_JOB = 4

_KEEP = """
INSERT INTO callbacks (job_id, remote_id, received_at)
SELECT id, :remote_id, :now FROM jobs
WHERE webhook_token = :token AND remote_id IS NULL AND (finished_at IS NULL OR follow_until_at IS NOT NULL)
    AND (SELECT count(*) FROM callbacks WHERE job_id = jobs.id) < :max_per_job
ON CONFLICT (job_id, remote_id) DO NOTHING
"""
_OF_JOB = "SELECT remote_id FROM callbacks WHERE job_id = ? ORDER BY received_at, remote_id"
_FORGET = "DELETE FROM callbacks WHERE job_id = ?"
_FORGET_OLD = """
DELETE FROM callbacks WHERE job_id NOT IN (
    SELECT id FROM jobs WHERE finished_at IS NULL UNION ALL SELECT id FROM jobs WHERE follow_until_at IS NOT NULL
)
"""


def keep(connection: Connection, token: str, remote_id: str, *, now: datetime) -> None:
    """Keep what a call on the path of `token` names, while the job of that path has no name at its provider."""
    row = {"token": token, "remote_id": remote_id, "now": to_micros(now), "max_per_job": MAX_PER_JOB}
    connection.execute(_KEEP, row)


def of_job(connection: Connection, job_id: str) -> list[str]:
    """Return what calls on the path of this job named, first call first."""
    return [row[0] for row in connection.execute(_OF_JOB, (job_id,)).fetchall()]


def forget(connection: Connection, job_id: str) -> None:
    """Forget the calls about an order that the provider never accepted."""
    connection.execute(_FORGET, (job_id,))


def forget_old(connection: Connection) -> None:
    """Forget the calls about jobs that have ended."""
    connection.execute(_FORGET_OLD)
