"""Turns: heavy work that members may have done for them, one piece at a time for each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from bot.domain.errors import StillBusyForYou


class MemberTurns:
    """Lets `at_a_time` members have heavy work done, in the order in which they came, each one piece at a time.

    A member waits with at most `waiting` more pieces; these do not take the turns of others. The members of one server
    leave a turn to those of other servers.
    """

    def __init__(self, *, at_a_time: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(at_a_time)
        self._at_a_time_in_a_server = max(1, at_a_time - 1)
        self._most = 1 + waiting
        self._pieces: Counter[int] = Counter()
        self._locks: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._servers: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, user_id: int, guild_id: int) -> AsyncGenerator[None]:
        """Wait for the member's turn and take it. Raises StillBusyForYou when too many pieces of theirs wait."""
        if self._pieces[user_id] >= self._most:
            raise StillBusyForYou
        lock = self._locks.get(user_id)
        if lock is None:
            lock = self._locks[user_id] = asyncio.Lock()
        server = self._servers.get(guild_id)
        if server is None:
            server = self._servers[guild_id] = asyncio.Semaphore(self._at_a_time_in_a_server)
        self._pieces[user_id] += 1
        try:
            async with lock, server, self._free:
                yield
        finally:
            self._pieces[user_id] -= 1
            if not self._pieces[user_id]:
                del self._pieces[user_id]
