"""InteractivePriority: background work pauses for a moment while commands wait for their answer.

Discord gives a command 3 seconds; a provider gives a job minutes. When many members order at once, background work
would otherwise take the processor time that the answers need.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from bot.domain.requester import Requester
from bot.runtime.fair_slots import FairSlots

MAX_PENDING_SECONDS = 0.02
"""Longest pause of background work: even while commands keep coming, it gets on fifty times a second."""

ANSWERED_WITHIN_SECONDS = 4.0
"""A command that was not answered within this time does not count any more."""

PREPARED_AT_A_TIME = 16
"""Commands that are checked and admitted at a time. If all of 200 that come at once were, each would be answered when
the last one is; in turn, half of them are answered in half of that time. Enough to share the commits of admissions."""


class InteractivePriority:
    """Commands that wait for their answer, by any key."""

    def __init__(self) -> None:
        self._started_at: dict[str, float] = {}  # oldest first
        self._idle = asyncio.Event()
        self._turns = FairSlots(PREPARED_AT_A_TIME)

    def begin(self, key: str) -> None:
        """Mark a command as waiting for its answer."""
        self._started_at[key] = asyncio.get_running_loop().time()
        self._idle.clear()

    def end(self, key: str) -> None:
        """Mark a command as answered, or as one that gets no answer."""
        self._started_at.pop(key, None)
        if not self._started_at:
            self._idle.set()

    @asynccontextmanager
    async def turn(self, key: str, requester: Requester) -> AsyncGenerator[None]:
        """Mark a command as waiting and give it its turn to be checked and admitted; servers take turns."""
        self.begin(key)
        try:
            async with self._turns.slot(requester):
                yield
        finally:
            self.end(key)

    async def yield_if_busy(self) -> None:
        """Wait until no command waits for its answer, at most `MAX_PENDING_SECONDS`."""
        overdue = asyncio.get_running_loop().time() - ANSWERED_WITHIN_SECONDS
        while self._started_at and next(iter(self._started_at.values())) < overdue:
            self.end(next(iter(self._started_at)))
        if self._started_at:
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_PENDING_SECONDS):
                    await self._idle.wait()
