"""Rush: who waits for an answer goes first.

Discord gives a command 3 seconds; a provider gives a job minutes. When many order at once, what is not urgent gives way
for a moment, so that the answers do not wait behind it for the processor.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

MAX_PENDING_SECONDS = 0.02
"""However many are waiting, everything else still gets on: fifty times a second."""

ANSWERED_WITHIN_SECONDS = 4.0
"""After that nobody waits any more, whatever became of it."""


class InteractivePriority:
    """Commands between being asked and being answered, by any key."""

    def __init__(self) -> None:
        self._asked_at: dict[str, float] = {}  # oldest first
        self._calm = asyncio.Event()

    def begin(self, key: str) -> None:
        """Somebody waits for an answer."""
        self._asked_at[key] = asyncio.get_running_loop().time()
        self._calm.clear()

    def end(self, key: str) -> None:
        """They have it, or will not get one."""
        self._asked_at.pop(key, None)
        if not self._asked_at:
            self._calm.set()

    async def yield_if_busy(self) -> None:
        """Until nobody waits for an answer, but only for a moment."""
        overdue = asyncio.get_running_loop().time() - ANSWERED_WITHIN_SECONDS
        while self._asked_at and next(iter(self._asked_at.values())) < overdue:
            self.end(next(iter(self._asked_at)))
        if self._asked_at:
            with suppress(TimeoutError):
                async with asyncio.timeout(MAX_PENDING_SECONDS):
                    await self._calm.wait()
