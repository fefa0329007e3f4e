"""Turns: heavy work that members may have done for them, one piece at a time for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from bot.domain.errors import StillBusyForYou
from bot.domain.requester import Requester
from bot.runtime.fair_slots import FairSlots


class MemberTurns:
    """Lets `at_a_time` members have heavy work done, each one piece at a time; servers take turns.

    A member waits with at most `waiting` more pieces. The members of one server leave a turn to those of other servers.
    """

    def __init__(self, *, at_a_time: int, waiting: int) -> None:
        self._slots = FairSlots(at_a_time, per_server=max(1, at_a_time - 1), per_member=1)
        self._most = 1 + waiting
        self._pieces: Counter[int] = Counter()

    @asynccontextmanager
    async def turn(self, requester: Requester) -> AsyncGenerator[None]:
        """Wait for the member's turn and take it. Raises StillBusyForYou when too many pieces of theirs wait."""
        if self._pieces[requester.user_id] >= self._most:
            raise StillBusyForYou
        self._pieces[requester.user_id] += 1
        try:
            async with self._slots.slot(requester):
                yield
        finally:
            self._pieces[requester.user_id] -= 1
            if not self._pieces[requester.user_id]:
                del self._pieces[requester.user_id]
