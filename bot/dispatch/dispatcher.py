"""The dispatcher of a provider: its queue, its limited slots and its circuit breaker decide which job starts next."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from bot.dispatch.circuit_breaker import CircuitBreaker
from bot.dispatch.coordinator import Coordinator
from bot.dispatch.fair_queue import FairQueue
from bot.domain.deployment.process_role import Role
from bot.domain.errors import ProviderError, ProviderUnavailable, StoreError
from bot.domain.jobs import Job
from bot.domain.requester import Requester
from bot.providers.base import Provider, ProviderRequest, RemoteJob
from bot.providers.poller import Poller
from bot.runtime.retry import RetryBudget, retry_storage_errors, retrying

_log = logging.getLogger(__name__)

SUBMIT_ATTEMPTS = 4
"""Attempts to send an order that never left: connection refused, name not found."""

MAX_PAUSE_SECONDS = 60.0
"""A provider's Retry-After is honoured up to this."""

STALLED_AFTER = timedelta(seconds=15)
"""After this time with nothing but 429, cards show no queue position."""

SLOTS_FOR_OTHERS_SHARE = 4
"""One server leaves a slot in four to other servers, while any of them orders; what runs is never interrupted."""

OTHERS_ORDER_SECONDS = 600.0
"""A server orders if it had a job queued within this time."""

FREE_SLOT_POLL_SECONDS = 1.0
"""Poll interval for free slots when other processes use all of them and no notification arrives."""


@dataclass(frozen=True, slots=True)
class NextJob:
    """A job that may start now: it holds a slot. `job` is the job itself where it is known to be up to date."""

    id: str
    job: Job | None


class ProviderDispatcher:
    """Hands out slots to queued jobs in fair order, unless the breaker is open or the provider asked for a pause."""

    def __init__(
        self,
        provider: Provider,
        poller: Poller,
        *,
        breaker: CircuitBreaker,
        coordinator: Coordinator,
        max_concurrency: int,
    ) -> None:
        self.provider = provider
        self.poller = poller
        self.breaker = breaker
        self.queue = FairQueue()
        """Jobs that wait for a slot in this process."""
        self.retries = RetryBudget()
        self.slots = max_concurrency
        self._coordinator = coordinator
        self._slots_in_use = 0
        self._slots_of_server: Counter[int] = Counter()
        self._server_of: dict[str, int] = {}
        """The servers of the jobs that run here."""
        self._orders_until: OrderedDict[int, float] = OrderedDict()
        """Until when each server counts as one that orders, by the loop's clock; the first one to end is first."""
        self._running: Counter[str] = Counter()
        self._newcomers: dict[str, Job] = {}
        """Jobs pushed since slots were last handed out. Jobs that wait are kept as ids only: there may be many."""
        self._unrecorded: set[str] = set()
        """Jobs that hold a slot which the database may not show yet."""
        self._paused_until = 0.0
        self.refused_since: datetime | None = None
        """Since when this process has got nothing but 429 for its orders; None when the latest one was answered."""
        self._wake = breaker.changed
        """One event for everything that may let a job start."""
        self._submitting: set[asyncio.Future[None]] = set()
        self._stopping = False

    @property
    def slots_in_use(self) -> int:
        """Jobs of this process that hold a slot now."""
        return self._slots_in_use

    @property
    def shares_slots(self) -> bool:
        """Whether other processes send jobs to the same provider."""
        return self._coordinator.role is not Role.ALL

    def position(self, job_id: str, *, now: datetime) -> int | None:
        """Return the queue position of a job; None where it is not queued, or would say nothing: see `is_stalled`."""
        return None if self.is_stalled(now) else self.queue_of_all.position(job_id)

    def is_stalled(self, now: datetime) -> bool:
        """Return whether the provider has answered 429 for `STALLED_AFTER`, so a position says nothing."""
        return self.refused_since is not None and now - self.refused_since >= STALLED_AFTER

    def has(self, job_id: str) -> bool:
        """Return whether the job is queued or running in this process."""
        return job_id in self._running or job_id in self.queue

    # -- queue --------------------------------------------------------------------------------------------

    @property
    def queue_of_all(self) -> FairQueue:
        """The jobs that wait for this provider in any process, as of the last refresh."""
        return self._coordinator.queue_of(self.provider.name, self.queue)

    async def refresh_queue(self) -> None:
        """Read the jobs that wait in other processes again unless that was done just now. Raises StoreError."""
        await self._coordinator.refresh_queue(self.provider.name)

    async def position_for(self, requester: Requester, *, now: datetime) -> int | None:
        """Return the queue position a new job of this member would get; None when it would start at once or is unknown.

        It is unknown while the database cannot be read, and while the queue does not move because of 429.
        """
        if self.is_stalled(now):
            return None
        try:
            await self.refresh_queue()
            queue = self.queue_of_all
            if not self.breaker.is_open and len(queue) == 0 and await self._has_free_slot():
                return None
        except StoreError as error:
            _log.info("the queue position at %s is not known: %s", self.provider.name, error)
            return None
        return queue.position_of_next(requester)

    def push(self, job: Job, *, at_front: bool = False) -> None:
        """Queue a job; `at_front` makes it the next one of its member.

        `next_job` returns it when it has a slot, to `JobRunner.start`, which runs it.
        """
        requester = job.request.requester
        self.queue.push(job.id, requester, at_front=at_front)
        self._orders_until[requester.server_id] = asyncio.get_running_loop().time() + OTHERS_ORDER_SECONDS
        self._orders_until.move_to_end(requester.server_id)
        if self._slots_in_use < self.slots:
            self._newcomers[job.id] = job
        self._wake.set()

    def pause(self, seconds: float) -> None:
        """Start no job for this time, as the provider asked."""
        until = asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_SECONDS)
        self._paused_until = max(self._paused_until, until)

    def stop(self) -> None:
        """Start no more jobs; queued jobs stay in the database for the next start."""
        self._stopping = True
        self._wake.set()

    def wake(self) -> None:
        """Look for a free slot again."""
        self._wake.set()

    # -- slots --------------------------------------------------------------------------------------------

    async def next_job(self) -> NextJob | None:
        """Wait until a job that was pushed may start, take a slot for it and return it; None after `stop`.

        `JobRunner.start` awaits it in a loop. The caller must run the job inside `slot_held`.
        """
        while not self._stopping:
            self._wake.clear()
            wait_seconds = None
            if self._may_start():
                wait_seconds = FREE_SLOT_POLL_SECONDS
                # Anything may have changed when the database has answered.
                if await self._has_free_slot_for_start() and self._may_start():
                    found = self.queue.pop_of_others(self._servers_at_their_share())
                    if found is not None:
                        job_id, requester = found
                        self._unrecorded.add(job_id)
                        self.adopt(job_id, requester)
                        return NextJob(job_id, self._newcomers.pop(job_id, None))
                    wait_seconds = self._seconds_left(next(iter(self._orders_until.values())))
            self._newcomers.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), self._seconds_left(self._paused_until) or wait_seconds)
            except TimeoutError:
                continue
        return None

    def adopt(self, job_id: str, requester: Requester) -> None:
        """Take a slot without waiting, for a job that is already at the provider (after a restart)."""
        self._running[job_id] += 1
        self._server_of[job_id] = requester.server_id
        self._count_slot(job_id, 1)

    @contextmanager
    def slot_held(self, job_id: str) -> Generator[None]:
        """Run a job that took a slot; the slot is free again at the end."""
        try:
            yield
        finally:
            self._count_slot(job_id, -1)
            self._running[job_id] -= 1
            if not self._running[job_id]:
                del self._running[job_id], self._server_of[job_id]
            self._unrecorded.discard(job_id)
            self._wake.set()

    @contextmanager
    def slot_released(self, job_id: str) -> Generator[None]:
        """Free the slot while a job only waits to be found again at the provider, which may take hours.

        Afterwards the job takes a slot without waiting: it is at the provider in any case.
        """
        self._count_slot(job_id, -1)
        self._wake.set()
        try:
            yield
        finally:
            self._count_slot(job_id, 1)

    def slot_recorded(self, job_id: str) -> None:
        """Note that the database shows the job's slot now."""
        self._unrecorded.discard(job_id)

    def _count_slot(self, job_id: str, change: int) -> None:
        self._slots_in_use += change
        server_id = self._server_of[job_id]
        self._slots_of_server[server_id] += change
        if not self._slots_of_server[server_id]:
            del self._slots_of_server[server_id]

    def _servers_at_their_share(self) -> set[int]:
        """Return the servers that hold as many slots of this process as they may while other servers order."""
        while self._orders_until and not self._seconds_left(next(iter(self._orders_until.values()))):
            self._orders_until.popitem(last=False)
        share = max(1, self.slots - max(1, self.slots // SLOTS_FOR_OTHERS_SHARE))
        return {
            server_id
            for server_id, slots in self._slots_of_server.items()
            if slots >= share and self._orders_until.keys() - {server_id}
        }

    def _seconds_left(self, until: float) -> float:
        return max(0.0, until - asyncio.get_running_loop().time())

    def _may_start(self) -> bool:
        return (
            not self._stopping
            and (not self.breaker.is_open or self.breaker.gave_up)
            and not self.breaker.is_checking_key
            and self._slots_in_use < self.slots
            and len(self.queue) > 0
            and not self._seconds_left(self._paused_until)
        )

    async def _has_free_slot(self) -> bool:
        """Return whether a slot is free, as far as can be known before it is taken. Raises StoreError."""
        in_use = await self._coordinator.slots_in_use(
            self.provider.name, own=self._slots_in_use, unrecorded=len(self._unrecorded)
        )
        return in_use < self.slots

    @retry_storage_errors
    async def _has_free_slot_for_start(self) -> bool:
        return await self._has_free_slot()

    # -- asking the provider ------------------------------------------------------------------------------

    async def submit(self, order: ProviderRequest) -> RemoteJob:
        """Send at most one order. Only a connection that could not be made is tried again, within the retry budget."""
        self.retries.earn()
        return await retrying(
            lambda: self.provider.submit(order),
            on=lambda error: _never_left(error) and self.retries.spend(),
            attempts=SUBMIT_ATTEMPTS,
            within_seconds=30,
            first_pause_seconds=0.5,
            max_pause_seconds=8,
        )

    async def cancel(self, remote_id: str) -> bool | None:
        """Ask the provider to stop a job and poll it at once. Whether the provider agreed; None without an answer."""
        agreed: bool | None = None
        try:
            agreed = await self.provider.cancel(remote_id)
        except ProviderError as error:
            _log.info("%s could not be asked to cancel %s: %s", self.provider.name, remote_id, error)
        self.poller.poll_soon(remote_id)
        return agreed

    # -- submissions under way ----------------------------------------------------------------------------

    @contextmanager
    def submission(self) -> Generator[None]:
        """Mark an order as under way until its answer is on disk."""
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submitting.add(answered)
        try:
            yield
        finally:
            self._submitting.discard(answered)
            answered.set_result(None)

    async def submissions_settled(self) -> None:
        """Wait until every order that is under way now has its answer on disk."""
        if self._submitting:
            await asyncio.wait(set(self._submitting))


def _never_left(error: Exception) -> bool:
    return isinstance(error, ProviderUnavailable) and error.status is None
