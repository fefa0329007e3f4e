"""A lane: one provider with its waiting line, its limited places, and whether it is open at the moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from bot.budget import RetryBudget
from bot.errors import ProviderDenied, ProviderError
from bot.line import FairLine
from bot.providers.base import Provider
from bot.providers.watcher import Watcher
from bot.rush import Rush

_log = logging.getLogger(__name__)

FAULTS_BEFORE_CLOSING = 5
"""So many submissions in a row without a usable answer, and new jobs are refused until a probe succeeds."""

FIRST_PROBE_SECONDS = 10.0
SLOWEST_PROBE_SECONDS = 300.0
LONGEST_HOLD_SECONDS = 60.0
"""A provider's Retry-After is honoured up to this."""

LONGEST_OUTAGE_SECONDS = 1800.0
"""Those in line wait for a provider that is down for so long, then get their money back."""


class Closed(StrEnum):
    """Why a lane takes no new jobs."""

    DENIED = "denied"
    """Our key or balance was refused: the operator has to act."""
    DOWN = "down"
    """Too many faults in a row."""


class Lane:
    """Starts waiting jobs as places become free, in fair order, and closes while the provider cannot be used.

    `follow` is the whole rest of a job's life from here on; a place is taken while it runs.
    """

    def __init__(
        self,
        provider: Provider,
        watcher: Watcher,
        *,
        max_concurrency: int,
        follow: Callable[[Lane, str], Coroutine[Any, Any, None]],
        start: Callable[[str, Coroutine[Any, Any, None]], object],
        on_closed: Callable[[str, Closed, ProviderError], None],
        rush: Rush,
    ) -> None:
        self.provider = provider
        self.watcher = watcher
        self.line = FairLine()
        self.retries = RetryBudget()
        self.closed: Closed | None = None
        self._max_concurrency = max_concurrency
        self._follow = follow
        self._start = start
        self._on_closed = on_closed
        self._rush = rush
        self._in_flight = 0
        self._faults_in_a_row = 0
        self._held_until = 0.0
        self._closed_at = 0.0
        self._wake = asyncio.Event()
        self._shut = asyncio.Event()
        """Set while the lane is closed."""
        self._submitting: set[asyncio.Future[None]] = set()
        self._stopping = False

    @property
    def in_flight(self) -> int:
        """Jobs that hold a place now."""
        return self._in_flight

    def enter(self, job_id: str, user_id: int, *, at_front: bool = False) -> None:
        """Wait for a place."""
        self.line.enter(job_id, user_id, at_front=at_front)
        self._wake.set()

    def adopt(self, job_id: str) -> None:
        """Follow a job that is already at the provider (after a restart): it takes a place without waiting for one."""
        self._begin(job_id)

    def place_for(self, user_id: int) -> int | None:
        """The place a new job of this member would get; None when it would start at once."""
        if self.closed is None and self._in_flight < self._max_concurrency and len(self.line) == 0:
            return None
        return self.line.place_of_next(user_id)

    def hold(self, seconds: float) -> None:
        """Start nothing for a while: the provider said it has enough."""
        until = asyncio.get_running_loop().time() + min(seconds, LONGEST_HOLD_SECONDS)
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
            while (
                not self._stopping
                and (self.closed is None or self.hopeless)
                and self._in_flight < self._max_concurrency
                and len(self.line) > 0
                and self._held_until <= loop.time()
            ):
                job_id = self.line.take()
                if job_id is not None:
                    self._begin(job_id)
                    await self._rush.give_way()
            remaining = self._held_until - loop.time()
            try:
                await asyncio.wait_for(self._wake.wait(), remaining if remaining > 0 else None)
            except TimeoutError:
                continue

    def _begin(self, job_id: str) -> None:
        self._in_flight += 1
        self._start(f"job {job_id}", self._occupy(job_id))

    async def _occupy(self, job_id: str) -> None:
        try:
            await self._follow(self, job_id)
        finally:
            self._in_flight -= 1
            self._wake.set()

    @contextmanager
    def place_given_up(self) -> Generator[None]:
        """While a job only waits to be found again, its place is for others: that may take hours.

        Found, it takes a place again without waiting for one: it is at the provider in any case.
        """
        self._in_flight -= 1
        self._wake.set()
        try:
            yield
        finally:
            self._in_flight += 1

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
    def hopeless(self) -> bool:
        """True when nobody should wait here: a person has to act, or it has been down for too long.

        Places are handed out all the same, so that every job in line finds this and gives its money back.
        """
        if self.closed is Closed.DOWN:
            return asyncio.get_running_loop().time() - self._closed_at >= LONGEST_OUTAGE_SECONDS
        return self.closed is Closed.DENIED

    def note_success(self) -> None:
        """The provider answered an order: it took it, or said what is wrong with it."""
        self._faults_in_a_row = 0

    def note_fault(self, error: ProviderError) -> None:
        """An order got no usable answer, or our key was refused."""
        if isinstance(error, ProviderDenied):
            self._close(Closed.DENIED, error)
            return
        self._faults_in_a_row += 1
        if self._faults_in_a_row >= FAULTS_BEFORE_CLOSING:
            self._close(Closed.DOWN, error)

    def _close(self, reason: Closed, error: ProviderError) -> None:
        # One reason may follow the other: a provider that is down may turn out to refuse our key.
        if self.closed in (reason, Closed.DENIED):
            return
        self.closed = reason
        self._closed_at = asyncio.get_running_loop().time()
        self._shut.set()
        self._wake.set()
        self._on_closed(self.provider.name, reason, error)

    async def keep_open(self) -> None:
        """While the lane is closed, ask the provider now and then whether it works again, for ever."""
        while True:
            await self._shut.wait()
            pause = FIRST_PROBE_SECONDS
            while self.closed is not None:
                await asyncio.sleep(pause)
                pause = min(pause * 2, SLOWEST_PROBE_SECONDS)
                try:
                    await self.provider.probe()
                except ProviderError as error:
                    _log.info("%s still closed (%s): %s", self.provider.name, self.closed, error)
                    if isinstance(error, ProviderDenied):
                        self.note_fault(error)
                else:
                    _log.warning("%s answers again: new jobs are taken", self.provider.name)
                    self.closed = None
                    self._faults_in_a_row = 0
                    self._shut.clear()
                self._wake.set()
