"""HeavyWork: how often members may have much read or drawn for them, and how much of it happens at a time.

All numbers are here. Everything is checked after the permission and before anything is read, so that what is refused
costs nothing. Counted in this process: a member's commands arrive at the gateway of their server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta

from bot.dispatch.rate_limit import HOUR, MINUTE, SlidingWindowLimiter
from bot.domain.errors import AskedTooOften, ManyAsking, StillBusyForYou

EXPORTS_PER_HOUR = 3
REPORTS_PER_HOUR = 10
"""Reports with their charts, and reports that are posted."""

ERASURES_PER_HOUR = 10
"""Questions whether to erase everything, each of which counts what there is."""

PAGES_PER_MINUTE = 30
SUGGESTIONS_PER_MINUTE = 120
"""Lists that are offered during typing: Discord asks about twice a second."""

EXPORTS_AT_A_TIME = 2
EXPORT_WAIT_SECONDS = 300.0
EXPORT_TIMEOUT_SECONDS = 300.0
"""With the wait before it, well within the 15 minutes for which Discord takes the answer to a command."""

TRY_AGAIN_AFTER = timedelta(minutes=5)


class HeavyWork:
    """One piece of heavy work per member at a time, few per hour, and few exports at a time for all of them."""

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._exports = SlidingWindowLimiter(limit=EXPORTS_PER_HOUR, window=HOUR, clock=clock)
        self._reports = SlidingWindowLimiter(limit=REPORTS_PER_HOUR, window=HOUR, clock=clock)
        self._erasures = SlidingWindowLimiter(limit=ERASURES_PER_HOUR, window=HOUR, clock=clock)
        self._pages = SlidingWindowLimiter(limit=PAGES_PER_MINUTE, window=MINUTE, clock=clock)
        self._suggestions = SlidingWindowLimiter(limit=SUGGESTIONS_PER_MINUTE, window=MINUTE, clock=clock)
        self._export_slots = asyncio.Semaphore(EXPORTS_AT_A_TIME)
        self._busy: set[int] = set()

    def count_page(self, user_id: int) -> None:
        """Count a page of a few rows that is about to be read for a member. Raises AskedTooOften."""
        _count(self._pages, user_id)

    def takes_suggestion(self, user_id: int) -> bool:
        """Return whether a list of suggestions may be read for a member now, and count it."""
        if self._suggestions.free_at(user_id) is not None:
            return False
        self._suggestions.note(user_id)
        return True

    @contextmanager
    def export(self, user_id: int) -> Generator[None]:
        """Take the member's turn for an export. Raises AskedTooOften, StillBusyForYou."""
        with self._turn(self._exports, user_id):
            yield

    @contextmanager
    def report(self, user_id: int) -> Generator[None]:
        """Take the member's turn for a report. Raises AskedTooOften, StillBusyForYou."""
        with self._turn(self._reports, user_id):
            yield

    @contextmanager
    def erasure(self, user_id: int) -> Generator[None]:
        """Take the member's turn for the question before an erasure. Raises AskedTooOften, StillBusyForYou."""
        with self._turn(self._erasures, user_id):
            yield

    @contextmanager
    def page(self, user_id: int) -> Generator[None]:
        """Take the member's turn for a page with images, or a press that erases. Raises what `export` raises."""
        with self._turn(self._pages, user_id):
            yield

    @asynccontextmanager
    async def export_slot(self) -> AsyncGenerator[None]:
        """Wait until few enough exports are being made, then make one within its time. Raises ManyAsking."""
        try:
            async with asyncio.timeout(EXPORT_WAIT_SECONDS):
                await self._export_slots.acquire()
        except TimeoutError:
            raise ManyAsking(self._clock() + TRY_AGAIN_AFTER) from None
        limit = asyncio.timeout(EXPORT_TIMEOUT_SECONDS)
        try:
            async with limit:
                yield
        except TimeoutError:
            if limit.expired():
                raise ManyAsking(self._clock() + TRY_AGAIN_AFTER) from None
            raise
        finally:
            self._export_slots.release()

    @contextmanager
    def _turn(self, limiter: SlidingWindowLimiter, user_id: int) -> Generator[None]:
        if user_id in self._busy:
            raise StillBusyForYou
        _count(limiter, user_id)
        self._busy.add(user_id)
        try:
            yield
        finally:
            self._busy.discard(user_id)


def _count(limiter: SlidingWindowLimiter, user_id: int) -> None:
    if (free_at := limiter.free_at(user_id)) is not None:
        raise AskedTooOften(free_at)
    limiter.note(user_id)
