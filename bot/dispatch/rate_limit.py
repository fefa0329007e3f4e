"""Pace: how many orders a member or a server may place in a minute, so that nobody can drown the others."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta

SPAN = timedelta(minutes=1)


class SlidingWindowLimiter:
    """A sliding minute per key. Memory is bounded by those who ordered within the last minute."""

    def __init__(self, *, orders_per_minute: int, clock: Callable[[], datetime]) -> None:
        self._most = orders_per_minute
        self._clock = clock
        self._orders: OrderedDict[Hashable, deque[datetime]] = OrderedDict()

    def free_at(self, key: Hashable, orders: int = 1) -> datetime | None:
        """None when `orders` more fit into this minute, else the moment they will."""
        recent = self._recent(key)
        too_many = len(recent) + orders - self._most
        if too_many <= 0:
            return None
        return (recent[min(too_many, len(recent)) - 1] if recent else self._clock()) + SPAN

    def note(self, key: Hashable, orders: int = 1) -> None:
        """`orders` were placed now."""
        now = self._clock()
        self._orders.setdefault(key, deque()).extend([now] * orders)
        self._orders.move_to_end(key)
        while self._orders:
            placed = next(iter(self._orders.values()))
            if placed and placed[-1] > now - SPAN:  # nothing is left of those who were refused after a pause
                break
            self._orders.popitem(last=False)

    def _recent(self, key: Hashable) -> deque[datetime]:
        recent = self._orders.get(key, deque())
        while recent and recent[0] <= self._clock() - SPAN:
            recent.popleft()
        return recent
