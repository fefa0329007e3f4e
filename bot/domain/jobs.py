"""Jobs: what was asked, where it stands, and which moves between states are legal. Values only, no I/O."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

NOBODY = 0
"""The user id of whoever asked to be forgotten."""


TOKEN_EXPIRY_MARGIN = timedelta(minutes=2)
"""Time before the expiry of an interaction token from which on the bot no longer relies on it."""


class JobStatus(StrEnum):
    """Where a job stands. Written to disk before each outside effect, so that a crash is visible."""

    QUEUED = "queued"
    """Admitted and paid for out of the quota; nothing was sent to a provider."""
    SUBMITTING = "submitting"
    """The order is about to be sent, or was just sent: a crash here means 'uncertain'."""
    RUNNING = "running"
    """The provider has it and told us its id."""
    UNCERTAIN = "uncertain"
    """Sent, but no usable answer came back. Never sent again."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when neither the provider nor we will change the job any more."""
        return self in _FINAL


_FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

LEGAL_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.SUBMITTING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.SUBMITTING: frozenset(
        # back to queued: the provider never accepted it (429, connection refused before a byte was sent)
        {JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.UNCERTAIN}
    ),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.UNCERTAIN: frozenset({JobStatus.RUNNING, JobStatus.FAILED}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}


class Progress(StrEnum):
    """What the provider says about a running job, in one vocabulary for all providers."""

    WAITING = "waiting"
    """Accepted by the provider and in its own line (backlogged, queued, scheduled)."""
    PROCESSING = "processing"
    SAMPLING = "sampling"
    PREVIEW = "preview"
    """An intermediate picture exists. Never final."""


class FailureReason(StrEnum):
    """Why a job has no picture. The renderer has a sentence for each."""

    REJECTED = "rejected"
    """The provider refused the request as it is (4xx); `hint` may say what to change."""
    MODERATED = "moderated"
    """Refused for content reasons. The prompt is not repeated publicly."""
    PROVIDER_FAILED = "provider_failed"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    """Could not be reached, or our key or balance was refused."""
    INPUT_GONE = "input_gone"
    """A picture the order was to start from is no longer kept."""
    MODEL_RETIRED = "model_retired"
    NO_USABLE_RESULT = "no_usable_result"
    """Said to be completed, but no picture could be had. The house pays."""
    TIMED_OUT = "timed_out"
    """The deadline passed. The house pays if the provider does charge."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """Sent, never confirmed, not found again. Not charged to the member; the house pays if the provider does charge."""
    NOT_SHOWN = "not_shown"
    """Discord did not accept the reply, so nothing was bought."""
    INTERNAL = "internal"


class JobKind(StrEnum):
    """Which command a job came from; decides which models fit."""

    IMAGINE = "imagine"
    EDIT = "edit"
    UPSCALE = "upscale"


class ImageRole(StrEnum):
    """What an input picture is for."""

    SOURCE = "source"
    """To be changed."""
    REFERENCE = "reference"
    """To be imitated."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """A checked, cleaned input picture, kept in the picture store under its SHA-256.

    `public_url` is the attachment's own address, for providers that can only fetch.
    """

    sha256: str
    role: ImageRole
    content_type: str
    width: int
    height: int
    public_url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """What a member asked for: one picture. Ids are Discord snowflakes but mean nothing in here.

    `options` holds only what the member gave (aspect_ratio, resolution, creativity, style, moodboard, seed …).
    """

    kind: JobKind
    guild_id: int
    user_id: int
    model_id: str
    prompt: str
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict[str, "str | int | float | bool"])
    images: tuple[ImageInput, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a job ended without a picture.

    `hint` is what the provider says about it, safe to show, or for MODEL_RETIRED the model it names instead; it is ''
    when there is nothing helpful to add.
    """

    reason: FailureReason
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultImage:
    """A result: its bytes lie in the picture store under `sha256` until delivered; afterwards Discord has them."""

    sha256: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    source_url: str
    attachment_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One image order and its life. Amounts in micro-dollars, times aware UTC.

    `body` is what the provider will be sent, priced at `reserved_usd_micros`, with `{"$picture": n}` in place of the
    address of input picture n, which is known only after upload. `seed` is None where the model takes none.
    """

    id: str
    reply_id: str
    ordinal: int
    request: JobRequest
    provider: str
    path: str
    body: Mapping[str, Any]
    seed: int | None
    reserved_usd_micros: int
    status: JobStatus
    created_at: datetime
    remote_id: str | None = None
    webhook_token: str | None = None
    submitted_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    charged_usd_micros: int | None = None
    failure: Failure | None = None
    images: tuple[ResultImage, ...] = ()
    erased_at: datetime | None = None
    """When prompt and options were forgotten: they are empty since then."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyAddress:
    """Where the one Discord message of a command lives, as plain values.

    `token` dies 15 minutes after the command (Discord: receiving-and-responding); it is None once erased.
    """

    application_id: int
    interaction_id: int
    token: str | None
    token_expires_at: datetime
    guild_id: int
    channel_id: int
    message_id: int | None
    private: bool
    file_limit_bytes: int
    locale: str
    """What the member's Discord speaks."""
    language: str = "en"
    """What the message speaks: a tag of two letters or a few more. A private one speaks the member's language."""

    def token_is_usable(self, now: datetime) -> bool:
        """Return whether the message can still be edited through the interaction token."""
        return self.token is not None and now < self.token_expires_at - TOKEN_EXPIRY_MARGIN


class Delivery(StrEnum):
    """Whether the final state of a command was shown."""

    PENDING = "pending"
    DELIVERED = "delivered"
    IMPOSSIBLE = "impossible"
    """Message, channel or permission is gone for good. The picture can still be had through a command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One accepted command: its message in Discord and the jobs shown in it (1 to 4), ordered by `ordinal`."""

    id: str
    user_id: int
    role_ids: tuple[int, ...]
    """The member's roles when the command came: they decide the quota that its card speaks of."""
    address: ReplyAddress
    created_at: datetime
    accepted: bool
    delivery: Delivery
    jobs: tuple[Job, ...]
    cancel_reason: str | None = None
    """What the moderator wrote who wanted it cancelled."""

    @property
    def is_final(self) -> bool:
        """True when no job of the command will change any more."""
        return all(job.status.is_final for job in self.jobs)

    @property
    def is_over(self) -> bool:
        """True when nothing is left to be done: its final state was shown, or never can be."""
        return self.is_final and self.delivery is not Delivery.PENDING

    @property
    def is_forgotten(self) -> bool:
        """True when the member asked to be forgotten: nobody owns the command any more."""
        return self.user_id == NOBODY


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryPage:
    """One command of a member that brought pictures: number `number` of `total`, the newest being 1.

    `newer_id` and `older_id` are the replies on the pages beside it.
    """

    reply: Reply
    number: int
    total: int
    newer_id: str | None
    older_id: str | None


def new_id() -> str:
    """A fresh id: 12 hex digits of time in milliseconds, then 12 random ones. Sorts by age, fits a custom id."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"
