"""Views: how replies and their jobs look at one moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bot.catalogue.order_text import OptionValue
from bot.domain.jobs import Job, Progress, Reply
from bot.domain.money.spendable import Spendable


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job as its card shows it.

    `queue_position` is 1 for the job that starts next; `expected_at` is estimated from how long the model took lately.
    """

    job: Job
    model_label: str
    sent: Mapping[str, OptionValue] = field(default_factory=dict[str, OptionValue])
    """Everything that is sent with the prompt, with titles of styles."""
    progress: Progress | None = None
    preview_url: str | None = None
    queue_position: int | None = None
    expected_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyView:
    """A reply as it should look now."""

    reply: Reply
    jobs: tuple[JobView, ...]
    spendable: Spendable
    """What the requester may still spend by all limits."""
    no_orders_until: datetime | None = None
    """When the member can order again; None unless what their failed jobs cost the operator prevents it today."""
    waits_for_operator: bool = False
    """Whether no process that is alive could send a job of it that is still queued."""
    upscale_usd_micros: int | None = None
    """The lowest price of an upscale of one of its images; None where there is no upscale."""
    votes: Mapping[str, int] = field(default_factory=dict[str, int])
    """In a comparison, the votes for each job."""
