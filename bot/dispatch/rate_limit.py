"""SlidingWindowLimiter: how many orders a member or a server may place within a minute."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta

WINDOW = timedelta(minutes=1)


class SlidingWindowLimiter:
    """Counts orders per key over the last minute. Memory is bounded by the orders of the last minute."""

    def __init__(self, *, orders_per_minute: int, clock: Callable[[], datetime]) -> None:
        self._orders_per_minute = orders_per_minute
        self._clock = clock
        self._orders: OrderedDict[Hashable, deque[datetime]] = OrderedDict()

    def free_at(self, key: Hashable, orders: int = 1) -> datetime | None:
        """Return None when `orders` more fit into this minute, else the time when they will."""
        recent = self._recent(key)
        too_many = len(recent) + orders - self._orders_per_minute
        if too_many <= 0:
            return None
        return (recent[min(too_many, len(recent)) - 1] if recent else self._clock()) + WINDOW

    def note(self, key: Hashable, orders: int = 1) -> None:
        """Count `orders` placed now."""
        now = self._clock()
        self._orders.setdefault(key, deque()).extend([now] * orders)
        self._orders.move_to_end(key)
        while self._orders:
            placed = next(iter(self._orders.values()))
            if placed and placed[-1] > now - WINDOW:  # an empty entry is left when a key was only checked
                break
            self._orders.popitem(last=False)

    def _recent(self, key: Hashable) -> deque[datetime]:
        recent = self._orders.get(key, deque())
        while recent and recent[0] <= self._clock() - WINDOW:
            recent.popleft()
        return recent
