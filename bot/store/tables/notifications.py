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


class Topic(StrEnum):
    """What a notice is about, and what its subject is."""

    POLICY = "policy"
    """A server: its moderators changed what is allowed."""
    REPLY = "reply"
    """A reply: somebody else than its follower changed it, or wants it shown."""
    SLOT = "place"
    """A provider: a place became free there."""
    BREAKERS = "closings"
    """A provider takes no new jobs, or takes them again."""
    WEBHOOK = "called"
    """A job: its provider called; `detail` is the remote id that the call named, if any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notification:
    """What happened, and to whom."""

    topic: Topic
    subject: str
    detail: str | None = None


def notify(connection: Connection, matter: Topic, subject: str | int, detail: str | None = None) -> None:
    """Send a notice when the caller's transaction commits, if it does."""
    if isinstance(connection, PostgresConnection):
        payload = json.dumps([matter, str(subject), detail])
        connection.execute("SELECT pg_notify(?, ?)", (CHANNEL, payload))


def notify_slot_free(connection: Connection, job: Job | None) -> Job | None:
    """The job has left its provider, or (None) has not; returned as it came."""
    if job is not None:
        notify(connection, Topic.SLOT, job.provider)
    return job


def read(payload: str) -> Notification | None:
    """A notice as it arrives; None for what a newer version may say and we do not know."""
    try:
        matter, subject, detail = json.loads(payload)
        return Notification(topic=Topic(matter), subject=subject, detail=detail)
    except (ValueError, TypeError):
        return None
