"""Replies and jobs as rows: inserting them, moving them legally from state to state, and reading them back.

Synchronous functions inside the caller's transaction. A move that is not legal any more changes nothing. Several at a
time are read in `job_lists.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from bot.domain.errors import DuplicateCommand, StoreError
from bot.domain.jobs import (
    ERASED_USER_ID,
    LEGAL_MOVES,
    Delivery,
    Failure,
    FailureReason,
    ImageInput,
    ImageRole,
    Job,
    JobKind,
    JobRequest,
    JobStatus,
    Reply,
    ReplyAddress,
    ResultImage,
    ReviewState,
    Visibility,
)
from bot.store.core.columns import to_json, to_micros, to_moment, to_moment_or_none
from bot.store.core.connection import Connection, Row
from bot.store.tables import callbacks
from bot.store.tables.shared.notifications import notify_slot_free

_INSERT_REPLY = """
INSERT INTO replies (id, user_id, role_ids, application_id, interaction_id, token, token_expires_at, guild_id,
    channel_id, message_id, private, file_limit_bytes, locale, language, accepted, delivery, created_at, preset_name,
    review, review_channel_id, spoiler)
VALUES (:id, :user_id, :role_ids, :application_id, :interaction_id, :token, :token_expires_at, :guild_id, :channel_id,
    :message_id, :private, :file_limit_bytes, :locale, :language, :accepted, :delivery, :created_at,
    :preset_name, :review, :review_channel_id, :spoiler)
ON CONFLICT (interaction_id) DO NOTHING
"""
_INSERT_JOB = """
INSERT INTO jobs (id, reply_id, ordinal, guild_id, user_id, kind, model_id, prompt, options, provider, path, body, seed,
    reserved_usd_micros, status, created_at)
VALUES (:id, :reply_id, :ordinal, :guild_id, :user_id, :kind, :model_id, :prompt, :options, :provider, :path, :body,
    :seed, :reserved_usd_micros, :status, :created_at)
"""
_INSERT_INPUT = """
INSERT INTO inputs (job_id, ordinal, sha256, role, content_type, width, height, created_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_IMAGE = """
INSERT INTO pictures (job_id, ordinal, sha256, content_type, width, height, size_bytes, source_url, attachment_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_FORGET_IMAGES = "DELETE FROM pictures WHERE job_id = ?"
_AND_IS_UNSEEN = " AND EXISTS (SELECT 1 FROM replies WHERE replies.id = jobs.reply_id AND delivery = 'pending')"
_AND_IS_FOLLOWED = " AND follow_until_at IS NOT NULL"
_AND_IS_NOT_FOUND = " AND follow_until_at IS NOT NULL AND remote_id IS NULL"
_AND_IS_NOT_UNFETCHED = " AND unfetched_since_at IS NULL"
_AND_IS_ACCEPTED = " AND EXISTS (SELECT 1 FROM replies WHERE replies.id = jobs.reply_id AND accepted)"
# The condition on the state is that of the index jobs_at_provider, word for word.
_AND_HAS_PLACE = """ AND ? > (
    SELECT count(*) FROM jobs other WHERE other.provider = jobs.provider AND other.status IN ('submitting', 'running')
        AND other.unfetched_since_at IS NULL
)"""
_ACCEPT = "UPDATE replies SET accepted = TRUE, message_id = coalesce(?, message_id) WHERE id = ?"
_IS_ACCEPTED = "SELECT EXISTS (SELECT 1 FROM jobs JOIN replies ON replies.id = reply_id WHERE jobs.id = ? AND accepted)"
_SET_DELIVERY = """
UPDATE replies SET delivery = ?, message_id = coalesce(?, message_id), channel_id = coalesce(?, channel_id)
WHERE id = ? AND deleted_at IS NULL
"""
# A public card that was replaced by a message elsewhere stays where it is, with the prompt. In a channel where the bot
# has no access it cannot be deleted either.
_REMEMBER_REPLACED_CARD = """
INSERT INTO reply_copies (channel_id, message_id, reply_id, kind)
SELECT channel_id, message_id, id, 'card' FROM replies
WHERE id = ? AND message_id IS NOT NULL AND message_id <> ? AND NOT private AND channel_id <> 0
ON CONFLICT DO NOTHING
"""
_IS_DELETED = "SELECT EXISTS (SELECT 1 FROM replies WHERE id = ? AND deleted_at IS NOT NULL)"
_IF_PENDING = " AND delivery = 'pending'"
_SHOW_AGAIN = "UPDATE replies SET delivery = 'pending' WHERE id = ? AND deleted_at IS NULL"
_SET_ATTACHMENT = """
UPDATE pictures SET attachment_id = ? WHERE sha256 = ? AND job_id IN (SELECT id FROM jobs WHERE reply_id = ?)
"""
_SET_CANCEL_REASON = "UPDATE replies SET cancel_reason = ? WHERE id = ?"
_REPLY = "SELECT * FROM replies WHERE id = ?"
_REPLY_OF_JOB = "SELECT replies.* FROM replies JOIN jobs ON jobs.reply_id = replies.id WHERE jobs.id = ?"
_JOB = "SELECT * FROM jobs WHERE id = ?"
_JOBS_OF_REPLY = "SELECT * FROM jobs WHERE reply_id = ? ORDER BY ordinal"
_INPUTS = "SELECT * FROM inputs WHERE job_id = ? ORDER BY ordinal"
_PICTURES = "SELECT * FROM pictures WHERE job_id = ? ORDER BY ordinal"
_UPLOADED_URL = "SELECT url FROM uploads WHERE provider = ? AND sha256 = ?"
_SET_UPLOAD = """
INSERT INTO uploads (provider, sha256, url, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT (provider, sha256) DO UPDATE SET url = excluded.url, created_at = excluded.created_at
"""
_FORGET_UPLOAD = "DELETE FROM uploads WHERE provider = ? AND sha256 = ?"


def sources_of(status: JobStatus) -> tuple[JobStatus, ...]:
    """Return the states from which a job may move to `status`."""
    return tuple(source for source, targets in LEGAL_MOVES.items() if status in targets)


# -- writing ------------------------------------------------------------------------------------------


def insert_reply(connection: Connection, reply: Reply) -> None:
    """Insert the reply and its jobs. Raises DuplicateCommand when this command event was accepted before."""
    address = reply.address
    row: dict[str, Any] = {
        "id": reply.id,
        "user_id": reply.user_id,
        "role_ids": to_json(reply.role_ids),
        "application_id": address.application_id,
        "interaction_id": address.interaction_id,
        "token": address.token,
        "token_expires_at": to_micros(address.token_expires_at),
        "guild_id": address.guild_id,
        "channel_id": address.channel_id,
        "message_id": address.message_id,
        "private": address.private,
        "file_limit_bytes": address.file_limit_bytes,
        "locale": address.locale,
        "language": address.language,
        "accepted": reply.accepted,
        "delivery": reply.delivery,
        "created_at": to_micros(reply.created_at),
        "preset_name": reply.preset_name,
        "review": reply.review,
        "review_channel_id": reply.visibility.review_channel_id,
        "spoiler": reply.visibility.spoiler,
    }
    if connection.execute(_INSERT_REPLY, row).rowcount != 1:
        raise DuplicateCommand
    for job in reply.jobs:
        _insert_job(connection, job)


def _insert_job(connection: Connection, job: Job) -> None:
    request, created_at = job.request, to_micros(job.created_at)
    row: dict[str, Any] = {
        "id": job.id,
        "reply_id": job.reply_id,
        "ordinal": job.ordinal,
        "guild_id": request.guild_id,
        "user_id": request.user_id,
        "kind": request.kind,
        "model_id": request.model_id,
        "prompt": request.prompt,
        "options": to_json(request.options),
        "provider": job.provider,
        "path": job.path,
        "body": to_json(job.body),
        "seed": job.seed,
        "reserved_usd_micros": job.reserved_usd_micros,
        "status": job.status,
        "created_at": created_at,
    }
    connection.execute(_INSERT_JOB, row)
    for ordinal, image in enumerate(request.images):
        size = (image.width, image.height)
        connection.execute(
            _INSERT_INPUT,
            (job.id, ordinal, image.sha256, image.role, image.content_type, *size, created_at),
        )


def move(
    connection: Connection,
    job_id: str,
    sources: Iterable[JobStatus],
    changes: Mapping[str, Any],
    *,
    conditions: str = "",
    bounds: Sequence[int] = (),
) -> Job | None:
    """One conditional update of the job, from one of `sources`; the job as it is afterwards, None when in none of them.

    `conditions` is more SQL that must hold, with its parameters in `bounds`.
    """
    states = list(sources)
    assignments = ", ".join(f"{column} = ?" for column in changes)
    possible = ", ".join("?" * len(states))
    statement = f"UPDATE jobs SET {assignments} WHERE id = ? AND status IN ({possible}){conditions} RETURNING *"  # noqa: S608
    moved = connection.execute(statement, (*changes.values(), job_id, *states, *bounds)).fetchall()
    return job_of_row(connection, moved[0]) if moved else None


def begin_submission(
    connection: Connection,
    job_id: str,
    *,
    now: datetime,
    deadline_at: datetime,
    webhook_token: str | None,
    slots: int | None = None,
) -> Job | None:
    """queued → submitting, committed before the order leaves. None when the job is not queued any more.

    With `slots` only while fewer jobs than that are at the provider; else the job, still queued, is returned. Nothing
    is bought before Discord has shown the reply: raises StoreError while that is not recorded.
    """
    conditions, bounds = _AND_IS_ACCEPTED, list[int]()
    if slots is not None:
        conditions, bounds = conditions + _AND_HAS_PLACE, [slots]
    changes = {
        "status": JobStatus.SUBMITTING,
        "submitted_at": to_micros(now),
        "deadline_at": to_micros(deadline_at),
        "webhook_token": webhook_token,
    }
    if begun := move(connection, job_id, [JobStatus.QUEUED], changes, conditions=conditions, bounds=bounds):
        return begun
    still_queued = job(connection, job_id)
    if still_queued is None or still_queued.status is not JobStatus.QUEUED:
        return None
    if not is_accepted(connection, job_id):
        raise StoreError(f"it is not recorded yet that Discord shows job {job_id}")
    return still_queued


def requeue(connection: Connection, job_id: str, *, give_up_at: datetime | None = None) -> Job | None:
    """Move the job from submitting back to queued: the provider never accepted it.

    `give_up_at` is the queued job's deadline: the provider answers 429, and until then the job is sent again.
    """
    changes = {
        "status": JobStatus.QUEUED,
        "submitted_at": None,
        "deadline_at": None if give_up_at is None else to_micros(give_up_at),
        "webhook_token": None,
    }
    queued = _move_to(connection, job_id, changes)
    if queued is not None:
        callbacks.forget(connection, job_id)
    return notify_slot_free(connection, queued)


def mark_running(connection: Connection, job_id: str, *, remote_id: str) -> Job | None:
    """Move the job from submitting or uncertain to running."""
    return _move_to(connection, job_id, {"status": JobStatus.RUNNING, "remote_id": remote_id})


def mark_uncertain(connection: Connection, job_id: str) -> Job | None:
    """Move the job from submitting to uncertain."""
    return notify_slot_free(connection, _move_to(connection, job_id, {"status": JobStatus.UNCERTAIN}))


def mark_unfetched(connection: Connection, job_id: str, *, now: datetime) -> Job | None:
    """Record that the image of a running job is made, but cannot be fetched; the job has no slot any more.

    None when that was recorded before, or the job has ended.
    """
    changes = {"unfetched_since_at": to_micros(now)}
    unfetched = move(connection, job_id, [JobStatus.RUNNING], changes, conditions=_AND_IS_NOT_UNFETCHED)
    return notify_slot_free(connection, unfetched)


def mark_found(connection: Connection, job_id: str, *, remote_id: str, follow_until: datetime) -> Job | None:
    """Record the provider's name for a job that is followed, found after its reservation was released."""
    changes = {"remote_id": remote_id, "follow_until_at": to_micros(follow_until)}
    return move(connection, job_id, [JobStatus.FAILED], changes, conditions=_AND_IS_NOT_FOUND)


def move_followed(connection: Connection, job_id: str, changes: Mapping[str, Any]) -> Job | None:
    """Change a failed job while it is followed, and follow it no longer."""
    row = {**changes, "follow_until_at": None}
    return move(connection, job_id, [JobStatus.FAILED], row, conditions=_AND_IS_FOLLOWED)


def move_unseen(connection: Connection, job_id: str, changes: Mapping[str, Any]) -> Job | None:
    """Change a job that has succeeded, while its reply was not shown."""
    return move(connection, job_id, [JobStatus.SUCCEEDED], changes, conditions=_AND_IS_UNSEEN)


def forget_images(connection: Connection, job_id: str) -> None:
    """Remove the images of a job, which are lost."""
    connection.execute(_FORGET_IMAGES, (job_id,))


def show_again(connection: Connection, reply_id: str) -> None:
    """Have the final state of a reply shown once more: it has changed."""
    connection.execute(_SHOW_AGAIN, (reply_id,))


def _move_to(connection: Connection, job_id: str, changes: Mapping[str, Any]) -> Job | None:
    return move(connection, job_id, sources_of(changes["status"]), changes)


def is_accepted(connection: Connection, job_id: str) -> bool:
    """Return whether Discord has shown the reply of this job."""
    return bool(connection.execute(_IS_ACCEPTED, (job_id,)).fetchone()[0])


def insert_images(connection: Connection, job_id: str, images: Sequence[ResultImage]) -> None:
    for ordinal, image in enumerate(images):
        size = (image.width, image.height, image.size_bytes)
        connection.execute(
            _INSERT_IMAGE,
            (
                job_id,
                ordinal,
                image.sha256,
                image.content_type,
                *size,
                image.source_url,
                image.attachment_id,
            ),
        )


def accept(connection: Connection, reply_id: str, *, message_id: int | None) -> None:
    """Record that Discord has shown the reply. Raises StoreError when there is no such reply."""
    if connection.execute(_ACCEPT, (message_id, reply_id)).rowcount != 1:
        raise StoreError(f"there is no reply {reply_id}")


def set_delivery(
    connection: Connection,
    reply_id: str,
    delivery: Delivery,
    *,
    attachment_ids: Mapping[str, int] | None = None,
    message_id: int | None = None,
    channel_id: int | None = None,
) -> bool:
    """Record that the final state was shown, or never can be. False when that was recorded before.

    `attachment_ids` maps an image's sha256 to Discord's id. `message_id` and `channel_id` replace the address when a
    new message had to be posted. Raises StoreError when there is no such reply.
    """
    row = (delivery, message_id, channel_id, reply_id)
    if message_id is not None:
        connection.execute(_REMEMBER_REPLACED_CARD, (reply_id, message_id))
    was_pending = connection.execute(_SET_DELIVERY + _IF_PENDING, row).rowcount == 1
    if not was_pending and connection.execute(_SET_DELIVERY, row).rowcount != 1:
        if connection.execute(_IS_DELETED, (reply_id,)).fetchone()[0]:
            return False  # another process delivered it before, and it was deleted since
        raise StoreError(f"there is no reply {reply_id}")
    for sha256, attachment_id in (attachment_ids or {}).items():
        connection.execute(_SET_ATTACHMENT, (attachment_id, sha256, reply_id))
    return was_pending


def set_cancel_reason(connection: Connection, reply_id: str, reason: str | None) -> None:
    """Store the reason that a moderator gave for cancelling a reply."""
    connection.execute(_SET_CANCEL_REASON, (reason, reply_id))


def remember_upload(connection: Connection, provider: str, sha256: str, url: str, *, now: datetime) -> None:
    """Record the address that the provider gave for this content."""
    connection.execute(_SET_UPLOAD, (provider, sha256, url, to_micros(now)))


def forget_uploads(connection: Connection, provider: str, hashes: Sequence[str]) -> int:
    """Forget the addresses that the provider gave for these contents. Returns how many were known."""
    return sum(connection.execute(_FORGET_UPLOAD, (provider, sha256)).rowcount for sha256 in hashes)


# -- reading --------------------------------------------------------------------------------------------


def job(connection: Connection, job_id: str) -> Job | None:
    """Return the job of this id."""
    row = connection.execute(_JOB, (job_id,)).fetchone()
    return None if row is None else job_of_row(connection, row)


def reply(connection: Connection, reply_id: str) -> Reply | None:
    """Return the reply of this id, with its jobs."""
    row = connection.execute(_REPLY, (reply_id,)).fetchone()
    return None if row is None else reply_of_row(connection, row)


def reply_of_job(connection: Connection, job_id: str) -> Reply | None:
    """Return the reply that a job belongs to."""
    row = connection.execute(_REPLY_OF_JOB, (job_id,)).fetchone()
    return None if row is None else reply_of_row(connection, row)


def uploaded_url(connection: Connection, provider: str, sha256: str) -> str | None:
    """Return the address that the provider gave for this content before."""
    row = connection.execute(_UPLOADED_URL, (provider, sha256)).fetchone()
    return None if row is None else row["url"]


def reply_of_row(connection: Connection, row: Row) -> Reply:
    """Return the reply of a row of `replies`, with its jobs."""
    jobs = connection.execute(_JOBS_OF_REPLY, (row["id"],)).fetchall()
    return Reply(
        id=row["id"],
        user_id=row["user_id"] or ERASED_USER_ID,
        role_ids=tuple(json.loads(row["role_ids"])),
        address=_address(row),
        created_at=to_moment(row["created_at"]),
        accepted=bool(row["accepted"]),
        delivery=Delivery(row["delivery"]),
        cancel_reason=row["cancel_reason"],
        deleted_at=to_moment_or_none(row["deleted_at"]),
        preset_name=row["preset_name"],
        visibility=Visibility(review_channel_id=row["review_channel_id"], spoiler=bool(row["spoiler"])),
        review=None if row["review"] is None else ReviewState(row["review"]),
        review_reason=row["review_reason"],
        jobs=tuple(job_of_row(connection, job) for job in jobs),
    )


def _address(row: Row) -> ReplyAddress:
    return ReplyAddress(
        application_id=row["application_id"],
        interaction_id=row["interaction_id"],
        token=row["token"],
        token_expires_at=to_moment(row["token_expires_at"]),
        guild_id=row["guild_id"],
        channel_id=row["channel_id"],
        message_id=row["message_id"],
        private=bool(row["private"]),
        file_limit_bytes=row["file_limit_bytes"],
        locale=row["locale"],
        language=row["language"],
    )


def job_of_row(connection: Connection, row: Row) -> Job:
    """Return the job of a row of `jobs`, with its images."""
    request = JobRequest(
        kind=JobKind(row["kind"]),
        guild_id=row["guild_id"],
        user_id=row["user_id"] or ERASED_USER_ID,
        model_id=row["model_id"],
        prompt=row["prompt"],
        options=json.loads(row["options"]),
        images=tuple(_image(image) for image in connection.execute(_INPUTS, (row["id"],))),
    )
    status, failure = JobStatus(row["status"]), None
    if row["failure_reason"] is not None:
        failure = Failure(reason=FailureReason(row["failure_reason"]), hint=row["failure_hint"])
    return Job(
        id=row["id"],
        reply_id=row["reply_id"],
        ordinal=row["ordinal"],
        request=request,
        provider=row["provider"],
        path=row["path"],
        body=json.loads(row["body"]),
        seed=row["seed"],
        reserved_usd_micros=row["reserved_usd_micros"],
        status=status,
        created_at=to_moment(row["created_at"]),
        remote_id=row["remote_id"],
        webhook_token=row["webhook_token"],
        submitted_at=to_moment_or_none(row["submitted_at"]),
        deadline_at=to_moment_or_none(row["deadline_at"]),
        finished_at=to_moment_or_none(row["finished_at"]),
        charged_usd_micros=row["charged_usd_micros"],
        failure=failure,
        images=_pictures(connection, row["id"]) if status is JobStatus.SUCCEEDED else (),  # no other has any
        erased_at=to_moment_or_none(row["erased_at"]),
        follow_until_at=to_moment_or_none(row["follow_until_at"]),
        late_at=to_moment_or_none(row["late_at"]),
        lost_images=row["lost_images"],
        unfetched_since_at=to_moment_or_none(row["unfetched_since_at"]),
    )


def _image(row: Row) -> ImageInput:
    return ImageInput(
        sha256=row["sha256"],
        role=ImageRole(row["role"]),
        content_type=row["content_type"],
        width=row["width"],
        height=row["height"],
    )


def _pictures(connection: Connection, job_id: str) -> tuple[ResultImage, ...]:
    return tuple(_picture(image) for image in connection.execute(_PICTURES, (job_id,)))


def _picture(row: Row) -> ResultImage:
    return ResultImage(
        sha256=row["sha256"],
        content_type=row["content_type"],
        width=row["width"],
        height=row["height"],
        size_bytes=row["size_bytes"],
        source_url=row["source_url"],
        attachment_id=row["attachment_id"],
    )
