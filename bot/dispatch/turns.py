"""Turns: heavy work that members may have done for them, one piece at a time for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime, timedelta

from bot.domain.errors import ManyAsking, StillBusyForYou
from bot.domain.requester import Requester
from bot.runtime.fair_slots import FairSlots

TURN_WAIT_SECONDS = 300.0
"""How long a piece of work waits for its turn: well within the 15 minutes for which Discord takes an answer."""

TRY_AGAIN_AFTER = timedelta(minutes=5)


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
