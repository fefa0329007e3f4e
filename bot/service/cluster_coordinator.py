"""The cluster: what a service that is not alone hears from the other processes on its database, and tells them.

Notices make it fast; what is right stands in the books. Whatever was missed while the connection was away is looked up
when it is back, and nothing waits for a notice alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime

from bot.dispatch.dispatcher import BreakerState, ProviderDispatcher
from bot.dispatch.fair_queue import FairQueue
from bot.domain.errors import StoreError
from bot.runtime.retry import retry_storage_errors
from bot.runtime.supervisor import Supervisor
from bot.service.in_flight import InFlightJobs
from bot.service.reply_runner import ReplyRunner
from bot.store.cluster_store import ClusterStore
from bot.store.tables.notifications import Notification, Topic
from bot.store.tables.shared_state import OpenBreaker

_log = logging.getLogger(__name__)

QUEUE_AGE_SECONDS = 1.0
"""So old may the line be in which a new order is told its place."""

READING_SHARE = 0.05
"""The most of its time that a process reads lines: a long one is read less often."""

MAX_PENDING_WEBHOOKS = 64
"""So many calls of providers are looked up at a time. What comes on top of that is found by polling."""


class ClusterCoordinator:
    """One for each service in a process that is not alone."""

    def __init__(
        self,
        cluster: ClusterStore,
        *,
        dispatchers: Mapping[str, ProviderDispatcher],
        in_flight: InFlightJobs,
        supervisor: Supervisor,
        following: ReplyRunner,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._dispatchers = dispatchers
        self._in_flight = in_flight
        self._supervisor = supervisor
        self._following = following
        self._clock = clock
        self._lines: dict[str, FairQueue] = {}
        self._fresh_until: dict[str, float] = {}
        self._calls = 0

    # -- hearing ------------------------------------------------------------------------------------------

    def handle_notification(self, notice: Notification) -> None:
        """Somebody told something, perhaps this process itself."""
        match notice.topic:
            case Topic.REPLY:
                self._following.wake(notice.subject)
            case Topic.SLOT:
                if (dispatcher := self._dispatchers.get(notice.subject)) is not None:
                    dispatcher.wake()
            case Topic.BREAKERS:
                self._supervisor.start("closed providers", self.read_open_breakers())
            case Topic.WEBHOOK:
                self.handle_webhook(notice.subject, notice.detail)
            case Topic.POLICY:
                pass  # the store has heard it too

    def catch_up(self) -> None:
        """Notices may have been missed: look at everything they could have been about."""
        self._supervisor.start("closed providers", self.read_open_breakers())
        for dispatcher in self._dispatchers.values():
            dispatcher.wake()
        self._following.wake(None)

    # -- places and lines ---------------------------------------------------------------------------------

    @retry_storage_errors
    async def slots_in_use(self, provider: str) -> int:
        """The places taken at a provider by all processes."""
        return await self._cluster.slots_in_use(provider)

    def queue_of(self, dispatcher: ProviderDispatcher) -> FairQueue:
        """Everybody who waits for a provider, as of the last time somebody looked."""
        return self._lines.get(dispatcher.provider.name) or FairQueue()

    async def position_for(self, dispatcher: ProviderDispatcher, user_id: int) -> int | None:
        """The place a new job of this member would get; None when it would start at once, or when nobody can say."""
        try:
            await self.refresh_queue(dispatcher)
            line = self.queue_of(dispatcher)
            if dispatcher.closed is None and len(line) == 0:
                taken = await self._cluster.slots_in_use(dispatcher.provider.name)
                return None if taken < dispatcher.slots else 1
        except StoreError as error:
            _log.info("the place in line is not known: %s", error)
            return None
        return line.position_of_next(user_id)

    async def refresh_queue(self, dispatcher: ProviderDispatcher) -> None:
        """Read it anew unless that was done just now."""
        loop = asyncio.get_running_loop()
        begun_at, provider = loop.time(), dispatcher.provider.name
        if begun_at < self._fresh_until.get(provider, 0.0):
            return
        self._fresh_until[provider] = begun_at + QUEUE_AGE_SECONDS  # whoever comes meanwhile takes the old one
        line = FairQueue()
        for job_id, user_id in await self._cluster.queued_jobs(provider):
            line.push(job_id, user_id)
        self._lines[provider] = line
        took_seconds = loop.time() - begun_at
        self._fresh_until[provider] = loop.time() + max(QUEUE_AGE_SECONDS, took_seconds / READING_SHARE)

    # -- weather ------------------------------------------------------------------------------------------

    async def open_breaker(self, provider: str, reason: BreakerState) -> bool:
        """Nobody sends new jobs there any more. True for the first process that says so."""
        return await self._cluster.open_breaker(provider, reason.value, now=self._clock())

    def close_breaker(self, provider: str) -> None:
        """It answers again."""
        self._supervisor.start(f"{provider} is open", self._cluster.close_breaker(provider))

    @retry_storage_errors
    async def _open_breakers(self) -> list[OpenBreaker]:
        return await self._cluster.open_breakers()

    async def read_open_breakers(self) -> None:
        """Close and open our lanes as the books say."""
        closings = {closing.provider: closing for closing in await self._open_breakers()}
        for name, dispatcher in self._dispatchers.items():
            closing = closings.get(name)
            if closing is None:
                dispatcher.set_state(None)
            else:
                age = (self._clock() - closing.closed_at).total_seconds()
                dispatcher.set_state(BreakerState(closing.reason), seconds_ago=max(0.0, age))

    # -- calls of providers -------------------------------------------------------------------------------

    def forward_webhook(self, token: str, remote_id: str | None) -> None:
        """A provider called on a path that is nobody's here."""
        if self._calls < MAX_PENDING_WEBHOOKS:
            self._calls += 1
            self._supervisor.start("a provider's call", self._forward_webhook(token, remote_id))

    async def _forward_webhook(self, token: str, remote_id: str | None) -> None:
        try:
            await self._cluster.forward_webhook(token, remote_id)
        except StoreError as error:
            _log.info("a provider's call was not passed on: %s", error)
        finally:
            self._calls -= 1

    def handle_webhook(self, job_id: str, remote_id: str | None) -> None:
        """There may be news of a job at its provider; only whoever follows it looks."""
        for claim in self._in_flight.webhook_claims_for(job_id, remote_id):
            for dispatcher in self._dispatchers.values():
                dispatcher.poller.poll_soon(claim)

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """Have whoever follows the job look at the provider now."""
        try:
            await self._cluster.notify_poll(job_id, remote_id)
        except StoreError as error:
            _log.info("whoever follows job %s will look later: %s", job_id, error)

    # -- replies ------------------------------------------------------------------------------------------

    def delegates(self, reply_id: str) -> bool:
        """Unless it is followed here: whoever follows it looks at it anew; where nobody does, somebody will."""
        if self._following.is_running(reply_id):
            return False
        self._supervisor.start(f"call for {reply_id}", self._cluster.enqueue(reply_id))
        return True
