"""Company: what a service asks and tells the other processes on its books. Here is having none; cluster.py has some."""

from __future__ import annotations

from typing import Protocol

from bot.dispatch.dispatcher import BreakerState, ProviderDispatcher
from bot.dispatch.fair_queue import FairQueue


class Coordinator(Protocol):
    """What is not awaited returns at once, and gets there when it can."""

    def queue_of(self, dispatcher: ProviderDispatcher) -> FairQueue:
        """Everybody who waits for a provider, in whichever process."""
        ...

    async def refresh_queue(self, dispatcher: ProviderDispatcher) -> None:
        """Have `line` be of now, or nearly. Raises StoreError."""
        ...

    async def position_for(self, dispatcher: ProviderDispatcher, user_id: int) -> int | None:
        """The place a new job of this member would get; None when it would start at once, or when nobody can say."""
        ...

    def delegates(self, reply_id: str) -> bool:
        """Whether another process is to show the reply. It is told then."""
        ...

    def forward_webhook(self, token: str, remote_id: str | None) -> None:
        """A provider called on a path that is nobody's here."""
        ...

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """Have whoever follows the job look at the provider now."""
        ...

    async def open_breaker(self, provider: str, reason: BreakerState) -> bool:
        """Nobody sends new jobs there any more. True for the first process that says so, who tells the operator."""
        ...

    def close_breaker(self, provider: str) -> None:
        """It answers again."""
        ...


class LocalCoordinator:
    """No company: everything is here."""

    def queue_of(self, dispatcher: ProviderDispatcher) -> FairQueue:
        return dispatcher.queue

    async def refresh_queue(self, dispatcher: ProviderDispatcher) -> None:
        """It is never out of date."""

    async def position_for(self, dispatcher: ProviderDispatcher, user_id: int) -> int | None:
        return dispatcher.position_for(user_id)

    def delegates(self, reply_id: str) -> bool:
        return False

    def forward_webhook(self, token: str, remote_id: str | None) -> None:
        """There is nobody else whose path it could be."""

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """The watcher here looks soon enough."""

    async def open_breaker(self, provider: str, reason: BreakerState) -> bool:
        return True

    def close_breaker(self, provider: str) -> None:
        """Our own lane knows."""
