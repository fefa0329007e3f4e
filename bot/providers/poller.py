"""Polling of running jobs: when each one is read at its provider, and what to do with the answer.

Each watched job is polled by the task that watches it; the poller limits how many polls are in flight at once, and
delays all of them when the provider answers 429. Poll times are on the event loop's clock. Deadlines are wall-clock
times, because they outlive the process.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from bot.domain.errors import BotError, ForeignAnswer, ProviderDenied, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import JobStatus, Progress
from bot.providers.base import Provider, Update
from bot.providers.durations import DurationEstimator
from bot.runtime.retry import backoff_seconds

_log = logging.getLogger(__name__)

_MAX_PAUSE_SECONDS = 60.0
# Calls about jobs that ended, or that belong to another provider, are among them.
_MAX_REQUESTED_EARLY = 256
_JITTER = 0.2
# A job is polled at the full rate for a minute; over the next eight minutes the rate falls to a fifth of it.
_FULL_RATE_SECONDS = 60.0
_SLOWDOWN_SECONDS = 120.0
_MAX_SLOWDOWN = 5.0
# A provider's read endpoint may not know a job yet that was accepted a moment ago, so the first 404s mean nothing.
_MAX_NOT_FOUND = 4
# The first answer after the deadline is final. A poll without an answer is repeated this often at most.
_MAX_FINAL_POLLS = 3
# A job that the first poll finds done ended some time before it, but hardly right after its submission.
_MIN_SHARE_BEFORE_FIRST_POLL = 0.7
# A provider that says 'completed just now' for this many jobs in a row notices the end only because of the poll.
_JUST_NOW_SECONDS, _JUST_NOW_JOBS = 0.25, 20
# A job that is older than this when its watching starts may have ended long before the first poll.
_UNWATCHED_SECONDS = 30.0


class DeadlineReached(BotError):
    """The job's deadline passed and the provider still does not report an end."""


class JobUnknown(BotError):
    """The provider has not known the job for about a minute, which does not prove that it never made its image."""


@dataclass(eq=False, slots=True)
class _Watched:
    """One watched job. Times named `_at` are on the loop's clock, except `submitted_at` and `deadline_at`."""

    remote_id: str
    submitted_at: datetime
    deadline_at: datetime
    durations: DurationEstimator
    age_at_start_seconds: float
    until_deadline: bool
    due_at: float = 0.0
    polled_at_age_seconds: float = 0.0
    """The age at the last poll that found it unfinished."""
    poll_soon_allowed_at: float = 0.0
    poll_soon_requested: bool = False
    in_flight: bool = False
    faults: int = 0
    not_found: int = 0
    final_polls: int = 0
    last_state: tuple[JobStatus, Progress | None, str | None] | None = None
    sleep: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """End the sleep before the next poll."""
        if self.sleep is not None and not self.sleep.done():
            self.sleep.set_result(None)


class Poller:
    """Polls the running jobs of one provider: all together as often as loops with a pause of `poll_seconds` would."""

    def __init__(
        self,
        provider: Provider,
        *,
        poll_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        max_in_flight: int = 32,
        on_denied: Callable[[ProviderDenied], None] | None = None,
        on_new_word: Callable[[Update], None] | None = None,
        on_foreign_answer: Callable[[ForeignAnswer], None] | None = None,
        random_source: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._on_denied = on_denied
        self._on_new_word = on_new_word
        self._on_foreign_answer = on_foreign_answer
        self._random = random_source
        self._slots = asyncio.Semaphore(max_in_flight)
        self._watched: dict[str, _Watched] = {}
        self._requested_early: OrderedDict[str, None] = OrderedDict()
        """Remote ids to poll at once when their watch starts: a callback came before the answer to the order."""
        self._said_just_now: deque[bool] = deque(maxlen=_JUST_NOW_JOBS)
        """Of the last jobs whose end the provider stated: whether that was the time of the poll."""
        self._not_before = 0.0
        """No job is polled before this time (429)."""

    def __len__(self) -> int:
        """Return the number of watched jobs."""
        return len(self._watched)

    def watches(self, remote_id: str) -> bool:
        """Return whether the job is watched now."""
        return remote_id in self._watched

    async def watch(
        self,
        remote_id: str,
        *,
        submitted_at: datetime,
        deadline_at: datetime,
        usual: DurationEstimator | None = None,
        until_deadline: bool = False,
    ) -> AsyncGenerator[Update, None]:
        """Poll a job; yield an update at each change of status, progress or preview, and stop after the final one.

        `usual` estimates when the job is likely to be done, which is when it is polled. The job is polled only while
        the next update is awaited. Raises `DeadlineReached` when the deadline passes first, `JobUnknown` when the
        provider does not know the job (not with `until_deadline`), and RuntimeError when the same job is watched a
        second time: the newest watch continues.
        """
        loop = asyncio.get_running_loop()
        job = _Watched(
            remote_id=remote_id,
            submitted_at=submitted_at,
            deadline_at=deadline_at,
            durations=usual or DurationEstimator(),
            age_at_start_seconds=self._age_seconds(submitted_at),
            until_deadline=until_deadline,
        )
        previous, self._watched[remote_id] = self._watched.get(remote_id), job
        if previous is not None:
            previous.wake()
        self._schedule(job, polled_at=loop.time(), pause_seconds=0.0)
        if remote_id in self._requested_early:
            del self._requested_early[remote_id]
            self.poll_soon(remote_id)
        try:
            while True:
                await self._sleep_until_due(job)
                async with self._slots:
                    if max(job.due_at, self._not_before) > loop.time():
                        continue  # a 429 arrived while this job waited for the slot
                    is_final_poll = self._clock() >= deadline_at
                    update = await self._poll(job)
                self._require_newest(job)
                if update is not None and update.status.is_final:
                    del self._watched[remote_id]
                    yield update
                    return
                if update is not None and (state := _state_of(update)) != job.last_state:
                    job.last_state = state
                    yield update
                if is_final_poll:
                    job.final_polls += 1
                    if update is not None or job.final_polls >= _MAX_FINAL_POLLS:
                        raise DeadlineReached(f"{self._provider.name} job {remote_id}")
        finally:
            if self._watched.get(remote_id) is job:
                del self._watched[remote_id]

    def poll_soon(self, remote_id: str) -> None:
        """Poll a job now, because it may have changed. Repeated calls cost one extra poll per `poll_seconds`.

        One that is not watched is polled when its watch starts.
        """
        job = self._watched.get(remote_id)
        if job is None:
            self._requested_early[remote_id] = None
            self._requested_early.move_to_end(remote_id)
            if len(self._requested_early) > _MAX_REQUESTED_EARLY:
                self._requested_early.popitem(last=False)
            return
        if job.poll_soon_requested:
            return
        job.poll_soon_requested = True
        if not job.in_flight:
            job.due_at = max(asyncio.get_running_loop().time(), job.poll_soon_allowed_at)
            job.wake()

    async def _sleep_until_due(self, job: _Watched) -> None:
        loop = asyncio.get_running_loop()
        while (due_at := max(job.due_at, self._not_before)) > loop.time():
            # An asyncio.Event with a time-out does the same, but takes 1 KiB more for each job.
            job.sleep = loop.create_future()
            timer = loop.call_at(due_at, job.wake)
            try:
                await job.sleep
            finally:
                timer.cancel()
            self._require_newest(job)

    def _require_newest(self, job: _Watched) -> None:
        if self._watched.get(job.remote_id) is not job:
            raise RuntimeError(f"{self._provider.name} job {job.remote_id} is watched a second time")

    async def _poll(self, job: _Watched) -> Update | None:
        """Read the job once and schedule the next poll. Returns None when there is no answer."""
        started_at = asyncio.get_running_loop().time()
        age_seconds, was_requested = self._age_seconds(job.submitted_at), job.poll_soon_requested
        if was_requested:
            job.poll_soon_requested = False
            job.poll_soon_allowed_at = started_at + self._poll_seconds
        update = None
        pause_seconds = 0.0
        job.in_flight = True
        try:
            update = await self._provider.fetch(job.remote_id)
        except ProviderUnavailable as error:
            pause_seconds = self._after_fault(job, error)
            if isinstance(error, ForeignAnswer):
                _log.warning("%s", error)
                if self._on_foreign_answer is not None:
                    self._on_foreign_answer(error)
        except ProviderDenied as error:
            # The job may be paid for and still running, so polling continues, slowly.
            pause_seconds = _MAX_PAUSE_SECONDS
            if self._on_denied is not None:
                self._on_denied(error)
        except ProviderRejected as error:
            job.not_found += 1
            pause_seconds = self._pause_seconds(job.not_found)
            if job.not_found > _MAX_NOT_FOUND and not job.until_deadline:
                _log.warning("%s does not know job %s any more: %s", self._provider.name, job.remote_id, error.detail)
                raise JobUnknown(f"{self._provider.name} job {job.remote_id}") from error
        except Exception:
            # A defect must not end the job: it may be paid for.
            _log.exception("polling %s job %s failed", self._provider.name, job.remote_id)
            pause_seconds = self._after_fault(job, None)
        else:
            is_back, job.faults, job.not_found = job.faults > 0, 0, 0
            if is_back:
                self._end_pauses()
            if update.is_new_word and self._on_new_word is not None:
                self._on_new_word(update)
            if update.status is JobStatus.SUCCEEDED:
                took_seconds = self._took_seconds(job, update, age_seconds, was_requested=was_requested)
                update = replace(update, took_seconds=took_seconds)
            job.polled_at_age_seconds = age_seconds
        finally:
            job.in_flight = False
        self._schedule(job, polled_at=started_at, pause_seconds=pause_seconds)
        return update

    def _took_seconds(self, job: _Watched, update: Update, age_seconds: float, *, was_requested: bool) -> float | None:
        """Estimate how long a finished job took; None when it ended while it was not watched.

        A webhook, which requested the poll, is most precise; then what the provider says, unless it is always 'just
        now'; then the middle of the possible times.
        """
        was_unwatched = not job.polled_at_age_seconds and job.age_at_start_seconds > _UNWATCHED_SECONDS
        if was_requested and not was_unwatched:
            return age_seconds
        stated_seconds = update.took_seconds
        if stated_seconds is not None and 0 < stated_seconds <= age_seconds:
            is_just_now = stated_seconds > age_seconds - _JUST_NOW_SECONDS
            self._said_just_now.append(is_just_now)
            if not all(self._said_just_now):
                return max(stated_seconds, job.polled_at_age_seconds)
        if was_unwatched:
            return None
        return (max(job.polled_at_age_seconds, age_seconds * _MIN_SHARE_BEFORE_FIRST_POLL) + age_seconds) / 2

    # -- when -----------------------------------------------------------------------------------------

    def _schedule(self, job: _Watched, *, polled_at: float, pause_seconds: float) -> None:
        """Set the time of the next poll: after the interval and the pause, but no later than the deadline."""
        now = asyncio.get_running_loop().time()
        due_at = polled_at + max(self._interval_seconds(job), pause_seconds)
        left_seconds = (job.deadline_at - self._clock()).total_seconds()
        if left_seconds > 0:
            due_at = min(due_at, max(now + left_seconds, polled_at + self._poll_seconds))
        if job.poll_soon_requested:
            # Requested during the poll, whose answer may be older than the change.
            due_at = min(due_at, job.poll_soon_allowed_at)
        job.due_at = max(now, due_at)

    def _age_seconds(self, submitted_at: datetime) -> float:
        return max(0.0, (self._clock() - submitted_at).total_seconds())

    def _interval_seconds(self, job: _Watched) -> float:
        age_seconds = self._age_seconds(job.submitted_at)
        likely_at_age = job.durations.next_poll_seconds(age_seconds, pace_seconds=self._poll_seconds)
        if likely_at_age is not None:
            return likely_at_age - age_seconds
        slowdown = min(_MAX_SLOWDOWN, 1 + max(0.0, age_seconds - _FULL_RATE_SECONDS) / _SLOWDOWN_SECONDS)
        # On average the pace of the setting.
        return self._poll_seconds * slowdown * (1 + _JITTER * (self._random() - 0.5))

    def _pause_seconds(self, failures: int) -> float:
        pause_seconds = backoff_seconds(failures, first_seconds=2 * self._poll_seconds, max_seconds=_MAX_PAUSE_SECONDS)
        return min(_MAX_PAUSE_SECONDS, pause_seconds * (1 + _JITTER * self._random()))

    def _end_pauses(self) -> None:
        """Poll the jobs that got no answer within `poll_seconds`, because the provider answers again."""
        now = asyncio.get_running_loop().time()
        for job in self._watched.values():
            if job.faults and not job.in_flight:
                job.faults = 0
                job.due_at = min(job.due_at, now + self._poll_seconds * self._random())
                job.wake()

    def _after_fault(self, job: _Watched, error: ProviderUnavailable | None) -> float:
        job.faults += 1
        pause_seconds = self._pause_seconds(job.faults)
        if error is None:
            return pause_seconds
        retry_after_seconds = min(_MAX_PAUSE_SECONDS, error.retry_after_seconds or 0.0)
        if error.status == 429:
            # The provider limits the rate of all our polls, not of this job's.
            not_before = asyncio.get_running_loop().time() + (retry_after_seconds or pause_seconds)
            self._not_before = max(self._not_before, not_before)
        return max(pause_seconds, retry_after_seconds)


def _state_of(update: Update) -> tuple[JobStatus, Progress | None, str | None]:
    """Return what a change of is worth an update."""
    return update.status, update.progress, update.preview_url
