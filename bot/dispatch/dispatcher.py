"""A lane: one provider with its waiting line, its limited places, and whether it is open at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from bot.dispatch.fair_queue import FairQueue
from bot.domain.errors import ProviderDenied, ProviderError
from bot.domain.jobs import Job
from bot.providers.base import Provider
from bot.providers.poller import Poller
from bot.runtime.interactive_priority import InteractivePriority
from bot.runtime.retry import RetryBudget

_log = logging.getLogger(__name__)

FAILURES_BEFORE_OPENING = 5
"""So many submissions in a row without a usable answer, and new jobs are refused until a probe succeeds."""

FIRST_PROBE_SECONDS = 10.0
MAX_PROBE_SECONDS = 300.0
MAX_PAUSE_SECONDS = 60.0
"""A provider's Retry-After is honoured up to this."""

MAX_OUTAGE_SECONDS = 1800.0
"""Those in line wait for a provider that is down for so long, then get their money back."""

FREE_SLOT_POLL_SECONDS = 1.0
"""So often at least it is looked whether other processes have left a place, should nobody say so."""


class BreakerState(StrEnum):
    """Why a lane takes no new jobs."""

    DENIED = "denied"
    """Our key or balance was refused: the operator has to act."""
    DOWN = "down"
    """Too many faults in a row."""


class ProviderDispatcher:
    """Starts waiting jobs as places become free, in fair order, and closes while the provider cannot be used.

    `follow` is the whole rest of a job's life from here on; a place is taken while it runs. It is given the job itself
    where that was read just now. Where other processes use the same places, `taken` says how many are taken by all of
    them together.
    """

    def __init__(
        self,
        provider: Provider,
        poller: Poller,
        *,
        max_concurrency: int,
        follow: Callable[[ProviderDispatcher, str, Job | None], Coroutine[Any, Any, None]],
        start: Callable[[str, Coroutine[Any, Any, None]], object],
        on_closed: Callable[[str, BreakerState, ProviderError], None],
        priority: InteractivePriority,
        on_opened: Callable[[str], None] = lambda _: None,
        taken: Callable[[str], Awaitable[int]] | None = None,
    ) -> None:
        self.provider = provider
        self.poller = poller
        self.queue = FairQueue()
        self.retries = RetryBudget()
        self.closed: BreakerState | None = None
        self.slots = max_concurrency
        self._follow = follow
        self._start = start
        self._on_closed = on_closed
        self._priority = priority
        self._on_opened = on_opened
        self._taken = taken
        self._slots_in_use = 0
        self._running: Counter[str] = Counter()
        self._newcomers: dict[str, Job] = {}
        """What has entered since places were handed out last. Whoever waits is not kept whole: there may be many."""
        self._unrecorded: set[str] = set()
        """Followed, and not yet known to hold a place at the provider."""
        self._faults_in_a_row = 0
        self._held_until = 0.0
        self._closed_at = 0.0
        self._wake = asyncio.Event()
        self._shut = asyncio.Event()
        """Set while the lane is closed."""
        self._submitting: set[asyncio.Future[None]] = set()
        self._stopping = False

    @property
    def slots_in_use(self) -> int:
        """Jobs that hold a place now."""
        return self._slots_in_use

    @property
    def shares_slots(self) -> bool:
        """Whether other processes send jobs to the same places."""
        return self._taken is not None

    def has(self, job_id: str) -> bool:
        """Whether the job waits here or is being followed."""
        return job_id in self._running or job_id in self.queue

    def wake(self) -> None:
        """A place may have become free."""
        self._wake.set()

    def slot_recorded(self, job_id: str) -> None:
        """The job holds its place now, as whoever counts them sees."""
        self._unrecorded.discard(job_id)

    def push(self, job: Job, *, at_front: bool = False) -> None:
        """Wait for a place."""
        self.queue.push(job.id, job.request.user_id, at_front=at_front)
        if self._slots_in_use < self.slots:
            self._newcomers[job.id] = job
        self._wake.set()

    def adopt(self, job_id: str) -> None:
        """Follow a job that is already at the provider (after a restart): it takes a place without waiting for one."""
        self._begin(job_id)

    def position_for(self, user_id: int) -> int | None:
        """The place a new job of this member would get; None when it would start at once."""
        if self.closed is None and self._slots_in_use < self.slots and len(self.queue) == 0:
            return None
        return self.queue.position_of_next(user_id)

    def pause(self, seconds: float) -> None:
        """Start nothing for a while: the provider said it has enough."""
        until = asyncio.get_running_loop().time() + min(seconds, MAX_PAUSE_SECONDS)
        self._held_until = max(self._held_until, until)

    def stop(self) -> None:
        """Start no more jobs; those in line stay on disk for the next start."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Hand out places for ever."""
        loop = asyncio.get_running_loop()
        while not self._stopping:
            self._wake.clear()
            crowded = False
            while not crowded and self._may_begin():
                crowded = not await self._has_free_slot()
                job_id = self.queue.pop() if not crowded and self._may_begin() else None
                if job_id is not None:
                    self._unrecorded.add(job_id)
                    self._begin(job_id)
                    await self._priority.yield_if_busy()
            self._newcomers.clear()
            remaining = max(self._held_until - loop.time(), FREE_SLOT_POLL_SECONDS if crowded else 0)
            try:
                await asyncio.wait_for(self._wake.wait(), remaining if remaining > 0 else None)
            except TimeoutError:
                continue

    def _may_begin(self) -> bool:
        return (
            not self._stopping
            and (self.closed is None or self.gave_up)
            and self._slots_in_use < self.slots
            and len(self.queue) > 0
            and self._held_until <= asyncio.get_running_loop().time()
        )

    async def _has_free_slot(self) -> bool:
        """Whether there is a place at the provider, as far as can be told before it is taken."""
        return self._taken is None or await self._taken(self.provider.name) + len(self._unrecorded) < self.slots

    def _begin(self, job_id: str) -> None:
        self._slots_in_use += 1
        self._running[job_id] += 1
        self._start(f"job {job_id}", self._occupy(job_id, self._newcomers.pop(job_id, None)))

    async def _occupy(self, job_id: str, job: Job | None) -> None:
        try:
            await self._follow(self, job_id, job)
        finally:
            self._slots_in_use -= 1
            self._running[job_id] -= 1
            if not self._running[job_id]:
                del self._running[job_id]
            self._unrecorded.discard(job_id)
            self._wake.set()

    @contextmanager
    def slot_released(self) -> Generator[None]:
        """While a job only waits to be found again, its place is for others: that may take hours.

        Found, it takes a place again without waiting for one: it is at the provider in any case.
        """
        self._slots_in_use -= 1
        self._wake.set()
        try:
            yield
        finally:
            self._slots_in_use += 1

    # -- submissions under way ------------------------------------------------------------------------

    @contextmanager
    def submission(self) -> Generator[None]:
        """While an order leaves, and until its answer is on disk."""
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

    # -- weather -------------------------------------------------------------------------------------------

    @property
    def gave_up(self) -> bool:
        """True when nobody should wait here: a person has to act, or it has been down for too long.

        Places are handed out all the same, so that every job in line finds this and gives its money back.
        """
        if self.closed is BreakerState.DOWN:
            return asyncio.get_running_loop().time() - self._closed_at >= MAX_OUTAGE_SECONDS
        return self.closed is BreakerState.DENIED

    def record_success(self) -> None:
        """The provider answered an order: it took it, or said what is wrong with it."""
        self._faults_in_a_row = 0

    def record_failure(self, error: ProviderError) -> None:
        """An order got no usable answer, or our key was refused."""
        if isinstance(error, ProviderDenied):
            self._close(BreakerState.DENIED, error)
            return
        self._faults_in_a_row += 1
        if self._faults_in_a_row >= FAILURES_BEFORE_OPENING:
            self._close(BreakerState.DOWN, error)

    def _close(self, reason: BreakerState, error: ProviderError) -> None:
        # One reason may follow the other: a provider that is down may turn out to refuse our key.
        if self.closed in (reason, BreakerState.DENIED):
            return
        self.set_state(reason)
        self._on_closed(self.provider.name, reason, error)

    def set_state(self, closed: BreakerState | None, *, seconds_ago: float = 0.0) -> None:
        """The provider takes no new jobs since then, or (None) takes them: found out here or by another process."""
        if closed is self.closed:
            return
        self.closed = closed
        if closed is None:
            self._faults_in_a_row = 0
            self._shut.clear()
        else:
            self._closed_at = asyncio.get_running_loop().time() - seconds_ago
            self._shut.set()
        self._wake.set()

    async def run_probes(self) -> None:
        """While the lane is closed, ask the provider now and then whether it works again, for ever."""
        while True:
            await self._shut.wait()
            pause = FIRST_PROBE_SECONDS
            while self.closed is not None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PROBE_SECONDS)
                try:
                    await self.provider.probe()
                except ProviderError as error:
                    _log.info("%s still closed (%s): %s", self.provider.name, self.closed, error)
                    if isinstance(error, ProviderDenied):
                        self.record_failure(error)
                else:
                    _log.warning("%s answers again: new jobs are taken", self.provider.name)
                    self.set_state(None)
                    self._on_opened(self.provider.name)
                self._wake.set()
