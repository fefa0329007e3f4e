"""Turns: heavy work that members may have done for them, one piece at a time for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

from bot.domain.errors import ManyAsking, StillBusyForYou
from bot.domain.requester import Requester
from bot.runtime.fair_slots import FairSlots

TURN_WAIT_SECONDS = 300.0
"""How long a piece of work waits for its turn: well within the 15 minutes for which Discord takes an answer."""

TRY_AGAIN_AFTER = timedelta(minutes=5)


class MemberTurns:
    """Lets `at_a_time` members have heavy work done, each one piece at a time; servers take turns.

    A member waits with at most `waiting` more pieces. The members of one server leave a turn to those of other servers.
    """

    def __init__(self, *, at_a_time: int, waiting: int, clock: Callable[[], datetime]) -> None:
        self._slots = FairSlots(at_a_time, per_server=max(1, at_a_time - 1), per_member=1)
        self._most = 1 + waiting
        self._clock = clock
        self._pieces: Counter[int] = Counter()

    @asynccontextmanager
    async def turn(self, requester: Requester) -> AsyncGenerator[None]:
        """Wait for the member's turn and take it.

        Raises StillBusyForYou when too many pieces of theirs wait, and ManyAsking when their turn does not come soon.
        """
        if self._pieces[requester.user_id] >= self._most:
            raise StillBusyForYou
        self._pieces[requester.user_id] += 1
        try:
            try:
                async with asyncio.timeout(TURN_WAIT_SECONDS):
                    await self._slots.acquire(requester)
            except TimeoutError:
                raise ManyAsking(self._clock() + TRY_AGAIN_AFTER) from None
            try:
                yield
            finally:
                self._slots.release(requester)
        finally:
            self._pieces[requester.user_id] -= 1
            if not self._pieces[requester.user_id]:
                del self._pieces[requester.user_id]
