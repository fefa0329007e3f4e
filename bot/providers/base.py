"""The interface of a hosted image API, and its values.

The implementations stand beside it, one file each. They raise only subclasses of `errors.ProviderError`, and the
class alone decides what happens to the money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bot.catalogue.provider_description.model_notices import Withdrawal
from bot.catalogue.styles import Style
from bot.domain.errors import ProviderRejected
from bot.domain.jobs import Failure, JobStatus, Progress
from bot.domain.money.bill import JobList


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderRequest:
    """One order: `path` below the provider's base URL and the JSON `body`, with the URLs of input images."""

    path: str
    body: Mapping[str, Any]
    webhook_url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteJob:
    """The provider's id of a job, and when it was created (aware UTC), where the provider says so.

    `type`, `model` and `input` (the request body) are what a list tells of the order; None where it does not. A job
    that is listed as failed or cancelled is known not to be billed.
    """

    remote_id: str
    created_at: datetime | None = None
    progress: Progress | None = None
    type: str | None = None
    model: str | None = None
    input: Mapping[str, Any] | None = None
    may_be_billed: bool = True
    withdrawal: Withdrawal | None = None
    """What the provider says about the end of the model, beside an order that it accepted."""


MAX_STATED_COST_FACTOR = 3
"""Up to this multiple of what was reserved, a provider's stated price is believed: a price that rose or a surcharge
stays below. One far above is a mistake of its units, and would use up the operator's caps for everyone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """The state of a remote job, from one poll.

    `status` is RUNNING, SUCCEEDED, FAILED or CANCELLED. `provider_status` is the provider's own word, for logs.
    `result_urls` are the finished images (SUCCEEDED), `preview_url` is an intermediate one. `cost_usd_micros` is None
    unless the provider states a price. `may_be_charged` (FAILED): the provider does not say whether this failure is
    free, so the operator may bear the cost. `took_seconds` (SUCCEEDED) is what the provider says; from the poller, an
    estimate.
    """

    remote_id: str
    status: JobStatus
    provider_status: str
    progress: Progress | None = None
    result_urls: tuple[str, ...] = ()
    preview_url: str | None = None
    failure: Failure | None = None
    may_be_charged: bool = False
    cost_usd_micros: int | None = None
    created_at: datetime | None = None
    took_seconds: float | None = field(default=None, compare=False)
    is_new_word: bool = field(default=False, compare=False)
    """The provider used a status word that is not documented, for the first time since the start."""

    def states_too_much(self, reserved_usd_micros: int) -> bool:
        """Return whether the stated price is too far above what was reserved to be believed."""
        return (self.cost_usd_micros or 0) > MAX_STATED_COST_FACTOR * reserved_usd_micros

    def cost_usd_micros_or(self, reserved_usd_micros: int) -> int:
        """Return the price that the provider states, or what was reserved where it states none to be believed."""
        if self.cost_usd_micros is None or self.states_too_much(reserved_usd_micros):
            return reserved_usd_micros
        return self.cost_usd_micros

    def cost_of_failure_usd_micros(self, reserved_usd_micros: int) -> int:
        """Return what a failed job may cost: nothing where its provider documents that such a failure is free."""
        return self.cost_usd_micros_or(reserved_usd_micros) if self.may_be_charged else 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StylePage:
    """One page of the list of public styles, and the cursor of the next one; None at the end."""

    styles: tuple[Style, ...]
    next_cursor: str | None


class Provider(Protocol):
    """A hosted image API.

    All methods may raise `ProviderUnavailable` (nothing happened, may be repeated) and `ProviderDenied` (key or balance
    refused). Only `submit` may raise `OutcomeUncertain`; the others raise `ProviderUnavailable` instead.
    """

    name: str
    """The first segment of a model id: 'krea' or 'pixazo'."""
    deadline_seconds: float
    """How long a submitted job is polled: the provider's own time-out and a margin."""
    late_seconds: float
    """How long after that a job may still turn up; it is followed until then, free for its member."""

    # What not every provider can do, with what the methods for it answer where it cannot.
    takes_uploads: bool = False
    """True when input images are uploaded first; False when the provider only fetches public URLs."""
    can_cancel: bool = False
    can_list: bool = False
    """True when `recent` works, so that an order without a response can be found."""
    lists_costs: bool = False
    """True when `listed_costs` works, so that the ledger can be compared with what the provider charged."""
    has_styles: bool = False
    """True when `styles` works: the provider has a list of public styles."""

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        """Send one order, exactly once, without any retry.

        Raises ProviderRejected (known not to be charged), ProviderDenied, ProviderUnavailable (never accepted), or
        OutcomeUncertain (anything else). The caller treats cancellation as an uncertain outcome.
        """
        ...

    async def fetch(self, remote_id: str) -> Update:
        """Read one job. Raises ProviderRejected when the provider says there is no such job (404)."""
        ...

    async def cancel(self, remote_id: str) -> bool:
        """Request cancellation and return whether the provider agreed. The job may have ended already: poll it."""
        return False

    async def upload(self, data: bytes, content_type: str) -> str:
        """Upload an input image; return its URL for an order. Free, may be repeated."""
        raise ProviderRejected(f"{self.name}: no uploads, only public URLs")

    async def recent(self, *, since: datetime, until: datetime | None = None) -> Sequence[RemoteJob]:
        """Return the jobs that the provider created at or after `since`, newest first. Only where `can_list`.

        With `until`, later ones may be missing. Raises ProviderUnavailable where the list is not complete.
        """
        return ()

    async def listed_costs(self, *, since: datetime, now: datetime) -> JobList:
        """Return the jobs that the provider lists, newest first, back to `since` or as far as its pages lead.

        Only where `lists_costs`.
        """
        return JobList(provider=self.name, jobs=[], since=now)

    async def styles(self, cursor: str | None) -> StylePage:
        """Return a page of the public styles, from the cursor of the page before. Only where `has_styles`."""
        return StylePage(styles=(), next_cursor=None)

    async def probe(self) -> None:
        """Make a free request that needs the key; return when the provider accepts it."""
        ...

    async def has_model(self, path: str) -> bool:
        """Return whether the provider takes orders on this path, without placing one.

        It is asked by an order without any field, which no model takes. Raises ProviderError when that tells nothing.
        """
        ...
