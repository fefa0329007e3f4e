"""FairSlots: a limited number of slots, for which servers take turns by use, and in each server its members."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from bot.domain.requester import Requester

USE_HALVES_AFTER_SECONDS = 30.0
"""Long enough to tell a server whose large files follow each other from one that sends a small file every second."""

_FORGOTTEN_AFTER_SECONDS = 20 * USE_HALVES_AFTER_SECONDS
"""A millionth of a slot is left of what a server held until then."""

_NEWCOMERS_SHARE = 1 / 16
"""What a server is taken to have used of all slots before it is known: else any number of servers that come at once
would be before one that uses little all the time."""


class _Waiting(NamedTuple):
    slots: int
    granted: asyncio.Future[None]


class _Use(NamedTuple):
    """Slots that a server held up to a time, on average; what is longer ago counts less."""

    slots: float
    at: float


class FairSlots:
    """Slots that are given to the waiting server that used the least lately, and in it to waiting members in turn.

    So a server that uses less than each of the others is next when a slot is free, whatever number of others wait.
    Servers that used the same take turns. A server never holds more than `per_server` slots, and a member, over all
    servers, never more than `per_member`. What holds a slot is never interrupted, so with fewer slots per server than
    there are, one server always leaves some to the others.
    """

    def __init__(
        self,
        slots: int,
        *,
        per_server: int | None = None,
        per_member: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_server = slots if per_server is None else per_server
        self._per_member = slots if per_member is None else per_member
        self._free = slots
        self._newcomers_use_slots = slots * _NEWCOMERS_SHARE
        self._clock = clock
        self._held_by_server: Counter[int] = Counter()
        self._held_by_member: Counter[int] = Counter()
        self._uses: OrderedDict[int, _Use] = OrderedDict()  # what was noted longest ago is first
        self._rounds: OrderedDict[int, OrderedDict[int, deque[_Waiting]]] = OrderedDict()

    @asynccontextmanager
    async def slot(self, requester: Requester, slots: int = 1) -> AsyncGenerator[None]:
        """Wait for the requester's turn and hold their slots."""
        await self.acquire(requester, slots)
        try:
            yield
        finally:
            self.release(requester, slots)

    def acquire_now(self, requester: Requester, slots: int = 1) -> bool:
        """Take slots if they are free and no one waits. False when they were not taken."""
        if self._rounds or not self._may_hold(requester, slots) or slots > self._free:
            return False
        self._hold(requester, slots)
        return True

    async def acquire(self, requester: Requester, slots: int = 1) -> None:
        """Wait for the requester's turn and take slots, at most as many as one requester may hold."""
        if slots > min(self._per_server, self._per_member):
            raise ValueError(f"more than one requester may hold: {slots}")
        if self.acquire_now(requester, slots):
            return
        waiting = _Waiting(slots, asyncio.get_running_loop().create_future())
        members = self._rounds.setdefault(requester.server_id, OrderedDict())
        members.setdefault(requester.user_id, deque()).append(waiting)
        self._grant()
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if not waiting.granted.cancelled():
                self.release(requester, slots)
            elif waiting in self._rounds.get(requester.server_id, OrderedDict()).get(requester.user_id, ()):
                self._remove(requester, waiting)
                self._grant()
            raise

    def release(self, requester: Requester, slots: int = 1) -> None:
        """Return slots."""
        self._note_use(requester.server_id)
        self._free += slots
        for held, key in ((self._held_by_server, requester.server_id), (self._held_by_member, requester.user_id)):
            held[key] -= slots
            if not held[key]:
                del held[key]
        self._grant()

    def _grant(self) -> None:
        while (requester := self._next()) is not None:
            members = self._rounds[requester.server_id]
            waiting = members[requester.user_id][0]
            if waiting.granted.cancelled():
                self._remove(requester, waiting)
                continue
            if waiting.slots > self._free:
                return
            members.move_to_end(requester.user_id)
            self._rounds.move_to_end(requester.server_id)
            self._remove(requester, waiting)
            self._hold(requester, waiting.slots)
            waiting.granted.set_result(None)

    def _next(self) -> Requester | None:
        """Return whose turn it is; those that hold what they may are passed over."""
        found: Requester | None = None
        least_slots, now = math.inf, self._clock()
        for server_id, members in self._rounds.items():
            requester = self._next_member(server_id, members)
            if requester is not None and (used_slots := self._used_slots(server_id, now)) < least_slots:
                found, least_slots = requester, used_slots
        return found

    def _next_member(self, server_id: int, members: OrderedDict[int, deque[_Waiting]]) -> Requester | None:
        for user_id, waiting in members.items():
            requester = Requester(server_id, user_id)
            if self._held_by_server[server_id] + waiting[0].slots > self._per_server:
                return None
            if self._may_hold(requester, waiting[0].slots):
                return requester
        return None

    def _used_slots(self, server_id: int, now: float) -> float:
        use = self._uses.get(server_id)
        if use is None:
            return self._newcomers_use_slots
        held = self._held_by_server[server_id]
        return held + (use.slots - held) * 0.5 ** ((now - use.at) / USE_HALVES_AFTER_SECONDS)

    def _note_use(self, server_id: int) -> None:
        """Note what a server used until now, before it holds more or less."""
        now = self._clock()
        self._uses[server_id] = _Use(self._used_slots(server_id, now), now)
        self._uses.move_to_end(server_id)
        while (oldest := next(iter(self._uses))) not in self._held_by_server:
            if self._uses[oldest].at > now - _FORGOTTEN_AFTER_SECONDS:
                break
            del self._uses[oldest]

    def _may_hold(self, requester: Requester, slots: int) -> bool:
        return (
            self._held_by_server[requester.server_id] + slots <= self._per_server
            and self._held_by_member[requester.user_id] + slots <= self._per_member
        )

    def _hold(self, requester: Requester, slots: int) -> None:
        self._note_use(requester.server_id)
        self._free -= slots
        self._held_by_server[requester.server_id] += slots
        self._held_by_member[requester.user_id] += slots

    def _remove(self, requester: Requester, waiting: _Waiting) -> None:
        members = self._rounds[requester.server_id]
        of_member = members[requester.user_id]
        of_member.remove(waiting)
        if not of_member:
            del members[requester.user_id]
        if not members:
            del self._rounds[requester.server_id]
