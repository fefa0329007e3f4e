"""Heavy work for members: how often it may be done (HeavyWork), and one piece at a time for each (MemberTurns).

The numbers of HeavyWork are here. Everything is checked after the permission and before anything is read, so that what
is refused costs nothing. Counted in this process: a member's commands arrive at the gateway of their server.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from datetime import datetime, timedelta

from bot.dispatch.rate_limit import HOUR, MINUTE, SlidingWindowLimiter
from bot.domain.errors import AskedTooOften, ManyAsking, StillBusyForYou
from bot.domain.requester import Requester
from bot.runtime.fair_slots import FairSlots

EXPORTS_PER_HOUR = 3
REPORTS_PER_HOUR = 10
"""Reports with their charts, and reports that are posted."""

ERASURES_PER_HOUR = 10
"""Questions whether to erase everything, each of which counts what there is."""

PAGES_PER_MINUTE = 30
SUGGESTIONS_PER_MINUTE = 120
"""Lists that are offered during typing: Discord asks about twice a second."""

SUGGESTIONS_AT_A_TIME, SUGGESTIONS_OF_A_SERVER_AT_A_TIME = 24, 16
SUGGESTION_WAIT_SECONDS = 1.0
"""What waits longer is left without an answer: the member has typed on."""

MEMBERS_PER_SERVER = 30
"""All members of a server together get the pace of this many."""

EXPORTS_AT_A_TIME = 2
"""The members of one server leave one of them to those of other servers."""

EXPORT_WAIT_SECONDS = 300.0
EXPORT_TIMEOUT_SECONDS = 300.0
"""With the wait before it, well within the 15 minutes for which Discord takes the answer to a command."""

TURN_WAIT_SECONDS = 300.0
"""How long a piece of work waits for its turn: well within those 15 minutes too."""

TRY_AGAIN_AFTER = timedelta(minutes=5)


class HeavyWork:
    """One piece of heavy work per member at a time, few per hour, and few exports at a time for all of them."""

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._exports = _Pace(EXPORTS_PER_HOUR, HOUR, clock)
        self._reports = _Pace(REPORTS_PER_HOUR, HOUR, clock)
        self._erasures = _Pace(ERASURES_PER_HOUR, HOUR, clock)
        self._pages = _Pace(PAGES_PER_MINUTE, MINUTE, clock)
        self._suggestions = _Pace(SUGGESTIONS_PER_MINUTE, MINUTE, clock)
        self._export_slots = FairSlots(EXPORTS_AT_A_TIME, per_server=EXPORTS_AT_A_TIME - 1)
        self._suggestion_slots = FairSlots(SUGGESTIONS_AT_A_TIME, per_server=SUGGESTIONS_OF_A_SERVER_AT_A_TIME)
        self._busy: set[int] = set()

    def count_page(self, requester: Requester) -> None:
        """Count a page of a few rows that is about to be read for a member. Raises AskedTooOften, ManyAsking."""
        self._pages.count(requester)

    def takes_suggestion(self, requester: Requester) -> bool:
        """Return whether a list of suggestions may be read for a member now, and count it."""
        try:
            self._suggestions.count(requester)
        except (AskedTooOften, ManyAsking):
            return False
        return True

    async def takes_suggestion_slot(self, requester: Requester) -> bool:
        """Wait until the current task may look for suggestions, which it may until its end; False when it shall not."""
        try:
            async with asyncio.timeout(SUGGESTION_WAIT_SECONDS):
                await self._suggestion_slots.acquire(requester)
        except TimeoutError:
            return False
        task = asyncio.current_task()
        assert task is not None
        task.add_done_callback(lambda _: self._suggestion_slots.release(requester))
        return True

    def export(self, requester: Requester) -> AbstractContextManager[None]:
        """Take the member's turn for an export. Raises AskedTooOften, ManyAsking, StillBusyForYou."""
        return self._turn(self._exports, requester)

    def report(self, requester: Requester) -> AbstractContextManager[None]:
        """Take the member's turn for a report. Raises what `export` raises."""
        return self._turn(self._reports, requester)

    def erasure(self, requester: Requester) -> AbstractContextManager[None]:
        """Take the member's turn for the question before an erasure. Raises what `export` raises."""
        return self._turn(self._erasures, requester)

    def page(self, requester: Requester) -> AbstractContextManager[None]:
        """Take the member's turn for a page with images, or a press that erases. Raises what `export` raises."""
        return self._turn(self._pages, requester)

    @asynccontextmanager
    async def export_slot(self, requester: Requester) -> AsyncGenerator[None]:
        """Wait until few enough exports are being made, then make one within its time. Raises ManyAsking."""
        try:
            async with asyncio.timeout(EXPORT_WAIT_SECONDS):
                await self._export_slots.acquire(requester)
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
            self._export_slots.release(requester)

    @contextmanager
    def _turn(self, pace: _Pace, requester: Requester) -> Generator[None]:
        if requester.user_id in self._busy:
            raise StillBusyForYou
        pace.count(requester)
        self._busy.add(requester.user_id)
        try:
            yield
        finally:
            self._busy.discard(requester.user_id)


class _Pace:
    """How often a kind of work is done for a member, and for all members of a server together."""

    def __init__(self, limit: int, window: timedelta, clock: Callable[[], datetime]) -> None:
        self.of_members = SlidingWindowLimiter(limit=limit, window=window, clock=clock)
        self.of_servers = SlidingWindowLimiter(limit=limit * MEMBERS_PER_SERVER, window=window, clock=clock)

    def count(self, requester: Requester) -> None:
        """Count a piece of work that begins. Raises AskedTooOften and ManyAsking."""
        if (free_at := self.of_members.free_at(requester.user_id)) is not None:
            raise AskedTooOften(free_at)
        if (free_at := self.of_servers.free_at(requester.server_id)) is not None:
            raise ManyAsking(free_at)
        self.of_members.note(requester.user_id)
        self.of_servers.note(requester.server_id)


class MemberTurns:
    """Lets `at_a_time` members have heavy work done, each one piece at a time; servers share the turns.

    A member waits with at most `waiting` more pieces. The members of one server leave a turn to those of other servers.
    """

    def __init__(self, *, at_a_time: int, waiting: int, clock: Callable[[], datetime]) -> None:
        self._slots = FairSlots(at_a_time, per_server=max(1, at_a_time - 1), per_member=1)
        self._most = 1 + waiting
        self._clock = clock
        self._pieces: Counter[int] = Counter()

    @contextmanager
    def piece(self, requester: Requester) -> Generator[Piece]:
        """Count a piece of work, of which each part waits for a turn of its own.

        Raises StillBusyForYou when too many pieces of the member wait.
        """
        if self._pieces[requester.user_id] >= self._most:
            raise StillBusyForYou
        self._pieces[requester.user_id] += 1
        try:
            yield Piece(self._slots, requester, self._clock)
        finally:
            self._pieces[requester.user_id] -= 1
            if not self._pieces[requester.user_id]:
                del self._pieces[requester.user_id]

    @asynccontextmanager
    async def turn(self, requester: Requester) -> AsyncGenerator[None]:
        """Wait for the turn of a piece of work that has one part. Raises StillBusyForYou, ManyAsking."""
        with self.piece(requester) as piece:
            async with piece.turn():
                yield


class Piece:
    """A piece of work of a member, whose parts have their turns within `TURN_WAIT_SECONDS` of its begin."""

    def __init__(self, slots: FairSlots, requester: Requester, clock: Callable[[], datetime]) -> None:
        self._slots = slots
        self._requester = requester
        self._clock = clock
        self._until = asyncio.get_running_loop().time() + TURN_WAIT_SECONDS

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait for the member's turn and take it. Raises ManyAsking when it does not come soon."""
        try:
            async with asyncio.timeout_at(self._until):
                await self._slots.acquire(self._requester)
        except TimeoutError:
            raise ManyAsking(self._clock() + TRY_AGAIN_AFTER) from None
        try:
            yield
        finally:
            self._slots.release(self._requester)
