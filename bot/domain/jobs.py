"""Jobs: requests, states and the legal moves between them, replies. Values only, no I/O."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from bot.domain.requester import Requester

ERASED_USER_ID = 0
"""The user id in rows of members who had their data deleted."""

DIRECT_GUILD_ID = 0
"""Stands for the server's id in accounts and orders of people who use the bot outside the servers that have it."""

NO_CHANNEL_ID = 0
"""Stands for the channel's id of a reply in a channel where the bot itself has no access."""


MAX_FILTER_WORDS = 5

TOKEN_EXPIRY_MARGIN = timedelta(minutes=2)
"""Time before the expiry of an interaction token from which on the bot no longer relies on it."""


CHECKING_PERIOD = timedelta(minutes=15)
"""How long after it left an order whose answer was lost is searched before its reservation is released."""


class JobStatus(StrEnum):
    """State of a job. It is stored before each external effect, so that a crash is visible."""

    QUEUED = "queued"
    """Admitted, with its price reserved; nothing was sent to a provider."""
    SUBMITTING = "submitting"
    """The order is about to be sent, or was just sent: after a crash the outcome is uncertain."""
    RUNNING = "running"
    """Accepted by the provider; its remote id is known."""
    UNCERTAIN = "uncertain"
    """Sent, but there was no usable response. Never sent again."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when the member was told the end. It changes once more when a job that is followed comes late."""
        return self in _FINAL


_FINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})

LEGAL_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.SUBMITTING, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.SUBMITTING: frozenset(
        # Back to queued: the provider never accepted it (429, or no connection).
        {JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.UNCERTAIN}
    ),
    JobStatus.RUNNING: frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.UNCERTAIN: frozenset({JobStatus.RUNNING, JobStatus.FAILED}),
    # Once its images are lost before they were shown, it fails with IMAGE_LOST: see `lose_images`.
    JobStatus.SUCCEEDED: frozenset(),
    # Only while the job is followed, and free for the member: its image turned up late.
    JobStatus.FAILED: frozenset({JobStatus.SUCCEEDED}),
    JobStatus.CANCELLED: frozenset(),
}


class Progress(StrEnum):
    """Progress of a running job, with the same values for all providers."""

    WAITING = "waiting"
    """Accepted by the provider and in its own queue (backlogged, queued, scheduled)."""
    PROCESSING = "processing"
    SAMPLING = "sampling"
    PREVIEW = "preview"
    """An intermediate image exists. Never final."""


class FailureReason(StrEnum):
    """Why a job has no image. There is a sentence for users for each."""

    REJECTED = "rejected"
    """The provider refused the request as it is (4xx); `hint` may say what to change."""
    MODERATED = "moderated"
    """Refused for content reasons. The prompt is not repeated publicly."""
    PROVIDER_FAILED = "provider_failed"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    """Could not be reached, or our key or balance was refused."""
    PROVIDER_BUSY = "provider_busy"
    """Answered nothing but 429 for a quarter of an hour."""
    INPUT_GONE = "input_gone"
    """An input image is no longer stored."""
    INPUT_NOT_HOSTED = "input_not_hosted"
    """Discord did not take the copy of an input image that the provider fetches from there."""
    MODEL_RETIRED = "model_retired"
    MODEL_CHANGED = "model_changed"
    """Its price or its fields changed, or wait for the operator, while the order waited. It was not sent."""
    NO_USABLE_RESULT = "no_usable_result"
    """Completed, but no image could be fetched in time. The operator bears the cost, also when it comes late."""
    TIMED_OUT = "timed_out"
    """The deadline passed. The job is followed on; the operator bears the cost if the provider charges."""
    OUTCOME_UNKNOWN = "outcome_unknown"
    """Sent, never confirmed, not found in time. It is followed on; the operator bears what the provider charges."""
    IMAGE_LOST = "image_lost"
    """It was kept here and is lost, also at its provider, before it was shown. The charge is given back."""
    NOT_SHOWN = "not_shown"
    """Discord did not accept the reply, so nothing was bought."""
    INTERNAL = "internal"


class JobKind(StrEnum):
    """The command of a job; it decides which models are supported."""

    IMAGINE = "imagine"
    EDIT = "edit"
    UPSCALE = "upscale"


class ImageRole(StrEnum):
    """What an input image is for."""

    SOURCE = "source"
    """To be edited."""
    REFERENCE = "reference"
    """To be used as a style or content reference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """A checked input image without metadata, kept in the blob store under its SHA-256."""

    sha256: str
    role: ImageRole
    content_type: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """The bytes of an input image, as the blob store keeps them."""

    sha256: str
    content_type: str
    data: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRequest:
    """What a member requests: one image. Ids are Discord snowflakes.

    `options` holds only what the member gave (aspect_ratio, resolution, creativity, style, moodboard, seed …).
    """

    kind: JobKind
    guild_id: int
    user_id: int
    model_id: str
    prompt: str
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict[str, "str | int | float | bool"])
    images: tuple[ImageInput, ...] = ()

    @property
    def requester(self) -> Requester:
        """The member as one who takes turns with others."""
        return Requester.of(self.guild_id, self.user_id)


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """Why a job ended without an image.

    `hint` is the provider's explanation, safe to show, or for MODEL_RETIRED the model to use instead; '' for none.
    """

    reason: FailureReason
    hint: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultImage:
    """A result: its bytes are in the blob store under `sha256` until they are delivered to Discord."""

    sha256: str
    content_type: str
    width: int
    height: int
    size_bytes: int
    source_url: str
    attachment_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One image order and its state. Amounts in micro-dollars, times aware UTC.

    `body` is the request body, priced at `reserved_usd_micros`, with `{"$picture": n}` in place of the URL of input
    image n, which is known only after its upload. `seed` is None for a model without seeds.
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
    """A keyed hash of the secret path on which the provider calls about this job."""
    submitted_at: datetime | None = None
    deadline_at: datetime | None = None
    finished_at: datetime | None = None
    charged_usd_micros: int | None = None
    failure: Failure | None = None
    images: tuple[ResultImage, ...] = ()
    erased_at: datetime | None = None
    """When prompt and options were deleted; they are empty from then on."""
    follow_until_at: datetime | None = None
    """Until when this failed job is followed: its reservation is released, but its image may still turn up."""
    late_at: datetime | None = None
    """When its image turned up after it had failed. It was free for the member."""
    lost_images: int = 0
    """Results that the provider named and that could not be fetched."""
    unfetched_since_at: datetime | None = None
    """Since when its image is made, but out of reach."""

    @property
    def checked_until(self) -> datetime:
        """When the reservation is released if the answer to the order was lost and it is not found."""
        return (self.submitted_at or self.created_at) + CHECKING_PERIOD

    @property
    def fetched_until(self) -> datetime | None:
        """When the reservation is released if its image, which is made, stays out of reach; None for other jobs."""
        if self.unfetched_since_at is None or self.status is not JobStatus.RUNNING:
            return None
        until = self.unfetched_since_at + CHECKING_PERIOD
        return until if self.deadline_at is None else min(until, self.deadline_at)

    @property
    def is_followed(self) -> bool:
        """True while the job has failed for its member but may still bring an image."""
        return self.follow_until_at is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyAddress:
    """The Discord message of a command, as plain values.

    `token` expires 15 minutes after the command (Discord: receiving-and-responding); it is None once erased.
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
    """The locale of the member's Discord client."""
    language: str = "en"
    """Language tag of the message: the member's language for a private one, else the server's."""

    @property
    def is_direct(self) -> bool:
        """True when a person ordered it with an account of their own."""
        return self.guild_id == DIRECT_GUILD_ID

    @property
    def is_token_only(self) -> bool:
        """True when the message can be edited through the interaction token alone."""
        return self.private or self.channel_id == NO_CHANNEL_ID

    def token_is_usable(self, now: datetime) -> bool:
        """Return whether the message can still be edited through the interaction token."""
        return self.token is not None and now < self.token_expires_at - TOKEN_EXPIRY_MARGIN


class ReviewState(StrEnum):
    """What moderators decided about an order whose images they see before everybody else."""

    WAITING = "waiting"
    """Not decided yet; the images may not be made yet."""
    APPROVED = "approved"
    REFUSED = "refused"


@dataclass(frozen=True, kw_only=True, slots=True)
class Visibility:
    """How the images of an order may be shown, as the server's policy said when it was ordered."""

    review_channel_id: int | None = None
    """Where moderators review them before everybody sees them; None if they need no review."""
    spoiler: bool = False
    """Whether they are covered until they are clicked."""


class Delivery(StrEnum):
    """Whether the final state of a command was shown."""

    PENDING = "pending"
    DELIVERED = "delivered"
    IMPOSSIBLE = "impossible"
    """Message, channel or permission is permanently gone. A command can still show the image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """One accepted command: its message in Discord and the jobs shown in it (1 to 4), ordered by `ordinal`."""

    id: str
    user_id: int
    role_ids: tuple[int, ...]
    """The member's roles at the time of the command: they decide the quota that its card shows."""
    address: ReplyAddress
    created_at: datetime
    accepted: bool
    delivery: Delivery
    jobs: tuple[Job, ...]
    cancel_reason: str | None = None
    """The reason given by the moderator who cancelled it."""
    deleted_at: datetime | None = None
    """When its member or a moderator deleted it: only amounts, models and times are left."""
    preset_name: str | None = None
    """The preset that it was ordered with."""
    visibility: Visibility = Visibility()
    review: ReviewState | None = None
    """None if its images need no review."""
    review_reason: str | None = None
    """The reason given by the moderator who refused its images."""

    @property
    def requester(self) -> Requester:
        """Its member as one who takes turns with others."""
        return Requester.of(self.address.guild_id, self.user_id)

    @property
    def has_images(self) -> bool:
        """True when one of its jobs made an image."""
        return any(job.status is JobStatus.SUCCEEDED for job in self.jobs)

    @property
    def is_held_back(self) -> bool:
        """True while its images may be shown to nobody but its member and moderators; see also visibility.py."""
        return self.review in (ReviewState.WAITING, ReviewState.REFUSED)

    @property
    def is_waiting_for_review(self) -> bool:
        """True when there are images that no moderator has decided about."""
        return self.review is ReviewState.WAITING and self.is_final and self.has_images

    @property
    def is_comparison(self) -> bool:
        """True when its jobs are of different models, which only /compare orders."""
        return len({job.request.model_id for job in self.jobs}) > 1

    @property
    def is_final(self) -> bool:
        """True when all jobs of the command are final."""
        return all(job.status.is_final for job in self.jobs)

    @property
    def is_to_be_shown(self) -> bool:
        """True when there is a final state that was not shown yet."""
        return self.is_final and self.delivery is Delivery.PENDING

    @property
    def followed_until(self) -> datetime | None:
        """Until when an image may still turn up for a job that has failed; None when none is followed."""
        return max((job.follow_until_at for job in self.jobs if job.follow_until_at), default=None)

    @property
    def is_over(self) -> bool:
        """True when its final state was shown, or cannot be shown, and no job is followed any more."""
        return self.is_final and self.delivery is not Delivery.PENDING and self.followed_until is None

    @property
    def is_forgotten(self) -> bool:
        """True when the member had their data deleted."""
        return self.user_id == ERASED_USER_ID


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryFilter:
    """Which of a member's images are shown: of one model, with words in their prompt, or only favourites."""

    model_id: str | None = None
    words: str = ""
    favourites: bool = False

    @property
    def each_word(self) -> tuple[str, ...]:
        """The words, each once; further ones are ignored."""
        return tuple(dict.fromkeys(self.words.split()))[:MAX_FILTER_WORDS]


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryPage:
    """One command of a member with images: number `number` of `total`, the newest being 1; None for too many to count.

    `newer_id` and `older_id` are the replies on the neighbouring pages.
    """

    reply: Reply
    number: int | None
    total: int | None
    newer_id: str | None
    older_id: str | None
    is_favourite: bool = False


def new_id() -> str:
    """Return a new id: 12 hex digits of time in milliseconds, then 12 random ones. Ids sort by age."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(6)}"
