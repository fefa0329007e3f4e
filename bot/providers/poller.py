"""Watcher: one poll scheduler per provider. It decides when each running job is looked at, and tells what changed.

All watched jobs lie in one heap by the time of their next look; there is no task per job, only one per look in flight.
Pace is kept on the event loop's clock; deadlines are wall-clock times, because they outlive the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import random
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bot.domain.errors import BotError, ProviderDenied, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import Failure, FailureReason, JobStatus, Progress
from bot.providers.base import Provider, Update
from bot.providers.durations import DurationEstimator

_log = logging.getLogger(__name__)

_BACK_OFF_MAX_SECONDS = 60.0
_JITTER = 0.2
# A job younger than a minute is looked at at full pace; from there the pace falls to a fifth over eight minutes.
_FULL_PACE_SECONDS = 60.0
_SLOWING_SECONDS = 120.0
_SLOWEST = 5.0
# A job just accepted may be unknown to the part of the provider that we ask, so a few 404s mean nothing yet.
_UNKNOWN_TOLERATED = 4
# At the deadline one answer is final. A look that got none is repeated, but not for ever.
_FINAL_POLLS = 3
# A job that was done at the first look was so for a while, but hardly from its beginning.
_FIRST_POLL_SHARE = 0.7
# A provider that says 'completed just now' may only have noticed because we asked.
_JUST_NOW_SECONDS = 0.1
# Who begins to watch a job this old was away, and a job that is found done at once may have been so for long.
_AWAY_SECONDS = 30.0


class DeadlineReached(BotError):
    """The job's deadline passed and the provider still does not call it finished."""


@dataclass(eq=False, slots=True)
class _Watched:
    """One job in the heap. Times named `_at` are on the loop's clock, except `submitted_at` and `deadline_at`."""

    remote_id: str
    submitted_at: datetime
    deadline_at: datetime
    usual: DurationEstimator
    due_at: float
    started_seconds: float
    """The age at which we began to watch it."""
    polled_at_seconds: float = 0.0
    """The age at which it was last looked at and not done."""
    poll_soon_allowed_at: float = 0.0
    poll_soon_requested: bool = False
    in_flight: bool = False
    faults: int = 0
    unknown: int = 0
    final_polls: int = 0
    seen: tuple[JobStatus, Progress | None, str | None] | None = None
    news: Update | None = None
    ending: Exception | None = None
    ended: bool = False
    waiter: asyncio.Future[None] | None = None


class Poller:
    """Looks at running jobs of one provider, never faster than allowed, and yields what changed."""

    def __init__(
        self,
        provider: Provider,
        *,
        poll_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_in_flight: int = 32,
        on_denied: Callable[[ProviderDenied], None] | None = None,
        random_source: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._on_denied = on_denied
        self._random = random_source
        self._watched: dict[str, _Watched] = {}
        self._heap: list[tuple[float, int, _Watched]] = []
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self._not_before = 0.0
        """The provider asked everybody to wait until then (429 with Retry-After)."""

    def __len__(self) -> int:
        """How many jobs are watched now."""
        return len(self._watched)

    # -- for whoever owns a job -----------------------------------------------------------------------

    async def watch(
        self, remote_id: str, *, submitted_at: datetime, deadline_at: datetime, usual: DurationEstimator | None = None
    ) -> AsyncGenerator[Update, None]:
        """Yield an update at each change of status, progress or preview; finish after a final one.

        `usual` says how long such jobs took lately, so that it is looked at when it is likely to be done. A slow
        consumer sees the newest state, not every one in between. Raises `DeadlineReached` when the deadline passes
        first. Leaving early? `contextlib.aclosing` stops the looking at once. Watching a job that is already
        watched takes it over.
        """
        loop = asyncio.get_running_loop()
        watched = _Watched(
            remote_id=remote_id,
            submitted_at=submitted_at,
            deadline_at=deadline_at,
            usual=usual or DurationEstimator(),
            due_at=loop.time(),
            started_seconds=self._age_seconds(submitted_at),
        )
        former = self._watched.pop(remote_id, None)
        if former is not None:
            self._end(former, RuntimeError(f"{remote_id} is now watched by somebody else"))
        self._watched[remote_id] = watched
        self._plan(watched, self._next_poll_at(watched, loop.time(), 0.0))
        try:
            while True:
                if watched.news is None and not watched.ended:
                    watched.waiter = loop.create_future()
                    await watched.waiter
                update, watched.news = watched.news, None
                if update is not None:
                    yield update
                elif watched.ended:
                    break
            if watched.ending is not None:
                raise watched.ending
        finally:
            self._forget(watched)

    def poll_soon(self, remote_id: str) -> None:
        """Somebody says there is news: look now. A flood of hints costs one extra look per poll interval."""
        watched = self._watched.get(remote_id)
        if watched is None or watched.poll_soon_requested:
            return
        watched.poll_soon_requested = True
        if not watched.in_flight:
            self._plan(watched, max(asyncio.get_running_loop().time(), watched.poll_soon_allowed_at))

    # -- the one task ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at whatever is due, until cancelled. May be started again after it failed: nothing is forgotten."""
        slots = asyncio.Semaphore(self._max_in_flight)
        async with asyncio.TaskGroup() as looks:
            while True:
                await slots.acquire()
                watched = await self._next_due()
                look = looks.create_task(self._poll(watched), name=f"look at {self._provider.name} {watched.remote_id}")
                look.add_done_callback(lambda _: slots.release())

    async def _next_due(self) -> _Watched:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            while self._heap and self._is_stale(self._heap[0]):
                heapq.heappop(self._heap)
            start_at = max(self._heap[0][0], self._not_before) if self._heap else None
            if start_at is not None and start_at <= loop.time():
                watched = heapq.heappop(self._heap)[2]
                watched.in_flight = True
                return watched
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(start_at):
                    await self._wake.wait()

    async def _poll(self, watched: _Watched) -> None:
        """One reading of one job, and the time of the next."""
        started_at = asyncio.get_running_loop().time()
        last_look = self._clock() >= watched.deadline_at
        age_seconds, hinted = self._age_seconds(watched.submitted_at), watched.poll_soon_requested
        if hinted:
            watched.poll_soon_requested = False
            watched.poll_soon_allowed_at = started_at + self._poll_seconds
        answered = False
        pause = 0.0
        try:
            update = await self._provider.fetch(watched.remote_id)
        except ProviderUnavailable as error:
            pause = self._after_fault(watched, error)
        except ProviderDenied as error:
            # The job may be paid for and on its way, so we keep asking, slowly.
            pause = _BACK_OFF_MAX_SECONDS
            if self._on_denied is not None:
                self._on_denied(error)
        except ProviderRejected as error:
            pause = self._after_unknown(watched, error)
        except Exception:
            # A defect of ours in one job must not stop the others.
            _log.exception("Looking at %s job %s failed", self._provider.name, watched.remote_id)
            pause = self._after_fault(watched, None)
        else:
            answered = True
            watched.faults = watched.unknown = 0
            if update.status is JobStatus.SUCCEEDED:
                update = replace(update, took_seconds=_took_seconds(watched, update, age_seconds, hinted=hinted))
            watched.polled_at_seconds = age_seconds
            self._publish(watched, update)
        finally:
            # Also when we are being stopped in the middle: whoever starts us again finds the job in the heap.
            watched.in_flight = False
            if not watched.ended:
                self._plan(watched, self._next_poll_at(watched, started_at, pause))
        if last_look and not watched.ended:
            watched.final_polls += 1
            if answered or watched.final_polls >= _FINAL_POLLS:
                self._end(watched, DeadlineReached(f"{self._provider.name} job {watched.remote_id}"))

    # -- when -----------------------------------------------------------------------------------------

    def _age_seconds(self, submitted_at: datetime) -> float:
        return max(0.0, (self._clock() - submitted_at).total_seconds())

    def _interval(self, watched: _Watched) -> float:
        age_seconds = self._age_seconds(watched.submitted_at)
        likely_at = watched.usual.next_poll_seconds(age_seconds, pause_seconds=self._poll_seconds)
        if likely_at is not None:
            return likely_at - age_seconds + self._poll_seconds * _JITTER * self._random() / 2
        slower = min(_SLOWEST, 1 + max(0.0, age_seconds - _FULL_PACE_SECONDS) / _SLOWING_SECONDS)
        return self._spread(self._poll_seconds * slower)

    def _spread(self, seconds: float) -> float:
        # Upwards only: the setting is a promise never to ask faster.
        return seconds * (1 + _JITTER * self._random())

    def _next_poll_at(self, watched: _Watched, started_at: float, pause: float) -> float:
        now = asyncio.get_running_loop().time()
        interval = self._interval(watched)
        due_at = started_at + max(interval, pause)
        left = (watched.deadline_at - self._clock()).total_seconds()
        if left > 0:
            due_at = min(due_at, max(now + left, started_at + self._poll_seconds))
        if watched.poll_soon_requested:
            # The hint came while we were asking: the answer may be older than the news.
            due_at = min(due_at, max(now, watched.poll_soon_allowed_at))
        return max(now, due_at)

    def _after_fault(self, watched: _Watched, error: ProviderUnavailable | None) -> float:
        watched.faults += 1
        pause = min(_BACK_OFF_MAX_SECONDS, self._spread(self._poll_seconds * 2 ** min(watched.faults, 16)))
        told = min(_BACK_OFF_MAX_SECONDS, error.retry_after_seconds or 0.0) if error is not None else 0.0
        if told and error is not None and error.status == 429:
            # It is we who ask too much, not this job.
            self._not_before = max(self._not_before, asyncio.get_running_loop().time() + told)
        return max(pause, told)

    def _after_unknown(self, watched: _Watched, error: ProviderRejected) -> float:
        watched.unknown += 1
        if watched.unknown > _UNKNOWN_TOLERATED:
            _log.warning("%s does not know job %s any more: %s", self._provider.name, watched.remote_id, error.detail)
            self._publish(
                watched,
                Update(
                    remote_id=watched.remote_id,
                    status=JobStatus.FAILED,
                    provider_status=f"unknown job ({error.status})",
                    failure=Failure(reason=FailureReason.PROVIDER_FAILED),
                    may_be_charged=True,
                ),
            )
        return min(_BACK_OFF_MAX_SECONDS, self._spread(self._poll_seconds * 2**watched.unknown))

    def _plan(self, watched: _Watched, due_at: float) -> None:
        watched.due_at = due_at
        heapq.heappush(self._heap, (due_at, next(self._order), watched))
        self._wake.set()

    def _is_stale(self, item: tuple[float, int, _Watched]) -> bool:
        due_at, _, watched = item
        return watched.ended or watched.in_flight or due_at != watched.due_at

    # -- what -----------------------------------------------------------------------------------------

    def _publish(self, watched: _Watched, update: Update) -> None:
        state = (update.status, update.progress, update.preview_url)
        if state != watched.seen:
            watched.seen = state
            watched.news = update
        if update.status.is_final:
            self._end(watched, None)
        else:
            self._wake_waiter(watched)

    def _end(self, watched: _Watched, ending: Exception | None) -> None:
        watched.ending = ending
        self._forget(watched)
        self._wake_waiter(watched)

    def _wake_waiter(self, watched: _Watched) -> None:
        if watched.waiter is not None and not watched.waiter.done() and (watched.news is not None or watched.ended):
            watched.waiter.set_result(None)

    def _forget(self, watched: _Watched) -> None:
        watched.ended = True
        if self._watched.get(watched.remote_id) is watched:
            del self._watched[watched.remote_id]
        # What is left of it in the heap goes when its time comes; many that left early are swept out at once.
        if len(self._heap) > 64 and len(self._heap) > 2 * len(self._watched):
            self._heap = [item for item in self._heap if not self._is_stale(item)]
            heapq.heapify(self._heap)


def _took_seconds(watched: _Watched, update: Update, age_seconds: float, *, hinted: bool) -> float | None:
    """How long a job took that was found done: until a webhook said so, else what the provider says, else the middle of
    the time that is possible. None when it ended while nobody was there.
    """
    told = update.took_seconds
    was_away = not watched.polled_at_seconds and watched.started_seconds > _AWAY_SECONDS
    if hinted and not was_away:
        return age_seconds
    if told is not None and 0 < told < age_seconds - _JUST_NOW_SECONDS:
        return told
    if was_away:
        return None
    return (max(watched.polled_at_seconds, age_seconds * _FIRST_POLL_SHARE) + age_seconds) / 2
