"""What the application expects of a hosted image API, and the values that cross that border.

Two implementations (`krea.py`, `pixazo.py`) over one aiohttp session. Every failure leaves them as one of the classes
under `errors.ProviderError`; nothing else may escape, and the class alone decides what happens to the money.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from bot.catalogue.styles import Style
from bot.domain.jobs import Failure, JobStatus, Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class ProviderRequest:
    """One order, ready to be sent: `path` under the provider's base and the JSON `body`, complete with picture URLs."""

    path: str
    body: Mapping[str, Any]
    webhook_url: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteJob:
    """The provider's name for our job, with the time it says it was created (aware UTC), where it says so."""

    remote_id: str
    created_at: datetime | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """One reading of a remote job.

    `status` is RUNNING, SUCCEEDED, FAILED or CANCELLED. `result_urls` are the finished pictures (SUCCEEDED) without
    previews; `preview_url` an intermediate one. `cost_usd_micros` only if the provider states a price in the job.
    `provider_word` is its own status word, for logs. A word never seen before reads as RUNNING.
    `may_be_charged` goes with FAILED: the provider does not say whether this failure is free, so the house may bear it.
    `took_seconds` goes with SUCCEEDED: how long the provider says it took; from the watcher, as far as can be told.
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


@dataclass(frozen=True, kw_only=True, slots=True)
class StylePage:
    """A piece of the list of public styles, and the word that asks for the next one; None at the end."""

    styles: tuple[Style, ...]
    next_cursor: str | None


class Provider(Protocol):
    """A hosted image API.

    All methods may raise `ProviderUnavailable` (nothing happened, may be repeated) and `ProviderDenied` (our key or
    balance is refused). Only `submit` may raise `OutcomeUncertain`; the others raise `ProviderUnavailable` instead.
    """

    @property
    def name(self) -> str:
        """The first segment of a model id: 'krea' or 'pixazo'."""
        ...

    @property
    def deadline_seconds(self) -> float:
        """How long a submitted job may take before we stop asking: the provider's own time-out and a margin."""
        ...

    @property
    def takes_uploads(self) -> bool:
        """True when input pictures are uploaded first; False when it only fetches public addresses."""
        ...

    @property
    def can_cancel(self) -> bool: ...

    @property
    def can_list(self) -> bool:
        """True when `recent` works, so that a lost answer can be looked for."""
        ...

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        """Send one order, exactly once: no retry of any kind happens in here.

        Raises ProviderRejected (known not to be bought), ProviderDenied, ProviderUnavailable (never accepted),
        OutcomeUncertain (anything else, cancellation excepted, which the caller treats as uncertain).
        """
        ...

    async def fetch(self, remote_id: str) -> Update:
        """Read one job. Raises ProviderRejected when the provider says there is no such job (404)."""
        ...

    async def cancel(self, remote_id: str) -> bool:
        """Ask for cancellation. True when the provider agreed; it may have raced, so read the job either way."""
        ...

    async def upload(self, data: bytes, content_type: str) -> str:
        """Give the provider an input picture; returns the address to name in an order. Free, may be repeated."""
        ...

    async def recent(self, *, since: datetime) -> Sequence[RemoteJob]:
        """Jobs the provider created at or after `since`, newest first. Only where `can_list`."""
        ...

    async def probe(self) -> None:
        """A harmless call that needs the key: returns when the provider answers and takes it."""
        ...
