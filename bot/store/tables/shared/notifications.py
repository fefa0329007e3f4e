"""Notifications to the other processes on the same database, sent by the commit of what they are about.

A file has one process, so nothing is sent there. A process that was disconnected reads afterwards what it missed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum

from bot.domain.jobs import Job
from bot.store.core.connection import Connection

CHANNEL = "image_bot"


class Topic(StrEnum):
    """What a notification is about, and what its subject is."""

    POLICY = "policy"
    """A server: its moderators changed what is allowed."""
    REPLY = "reply"
    """A reply: another process than the one that runs it changed it, or wants it shown."""
    QUEUE = "queue"
    """Nothing in particular: a worker may claim a reply."""
    SLOT = "place"
    """A provider: a slot became free there."""
    BREAKERS = "closings"
    """A provider takes no new jobs, or takes them again."""
    CATALOGUE = "catalogue"
    """A model, or nothing in particular: what can be ordered changed."""
    SHARDS = "shards"
    """Shards: what a gateway says about them; `detail` is what, and which gateway."""
    WEBHOOK = "called"
    """A job: its provider called; `detail` is the remote id that the call named, if any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notification:
    """What changed, and the id of what it concerns."""

    topic: Topic
    subject: str
    detail: str | None = None


def notify(connection: Connection, topic: Topic, subject: str | int, detail: str | None = None) -> None:
    """Send a notification when the caller's transaction commits, if it does. On SQLite nothing is sent."""
    connection.notify(CHANNEL, json.dumps([topic, str(subject), detail]))


def notify_poll(connection: Connection, job_id: str, remote_id: str) -> None:
    """Ask the process that runs the job to poll its provider now."""
    notify(connection, Topic.WEBHOOK, job_id, remote_id)


def notify_shards(connection: Connection, shards: str, said: str) -> None:
    """Tell the other gateways something about shards."""
    notify(connection, Topic.SHARDS, shards, said)


def notify_slot_free(connection: Connection, job: Job | None) -> Job | None:
    """Announce a free slot if the job has left its provider (not None). Return `job` unchanged."""
    if job is not None:
        notify(connection, Topic.SLOT, job.provider)
    return job


def read(payload: str) -> Notification | None:
    """Parse a notification; None for a topic that only a newer version knows."""
    try:
        topic, subject, detail = json.loads(payload)
        return Notification(topic=Topic(topic), subject=subject, detail=detail)
    except (ValueError, TypeError):
        return None
