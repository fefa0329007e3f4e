"""Notices: a few words to the other processes on the same database, sent by the commit of what they are about.

A file has one process, so there nobody is told. What is missed while a process is cut off it looks up afterwards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from bot.domain.jobs import Job
from bot.store.core.connection import Connection
from bot.store.postgres.connection import PostgresConnection

CHANNEL = "image_bot"


class Matter(StrEnum):
    """What a notice is about, and what its subject is."""

    POLICY = "policy"
    """A server: its moderators changed what is allowed."""
    REPLY = "reply"
    """A reply: somebody else than its follower changed it, or wants it shown."""
    PLACE = "place"
    """A provider: a place became free there."""
    CLOSINGS = "closings"
    """A provider takes no new jobs, or takes them again."""
    CALLED = "called"
    """A job: its provider called; `detail` is the remote id that the call named, if any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """What happened, and to whom."""

    matter: Matter
    subject: str
    detail: str | None = None


def tell(connection: Connection, matter: Matter, subject: str | int, detail: str | None = None) -> None:
    """Send a notice when the caller's transaction commits, if it does."""
    if isinstance(connection, PostgresConnection):
        payload = json.dumps([matter, str(subject), detail])
        connection.execute("SELECT pg_notify(?, ?)", (CHANNEL, payload))


def tell_of_place(connection: Connection, job: Job | None) -> Job | None:
    """The job has left its provider, or (None) has not; returned as it came."""
    if job is not None:
        tell(connection, Matter.PLACE, job.provider)
    return job


def read(payload: str) -> Notice | None:
    """A notice as it arrives; None for what a newer version may say and we do not know."""
    try:
        matter, subject, detail = json.loads(payload)
        return Notice(matter=Matter(matter), subject=subject, detail=detail)
    except (ValueError, TypeError):
        return None
