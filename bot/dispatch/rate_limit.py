"""SlidingWindowLimiter: how often something may be done for a key (a member, a server) within a span of time."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


class SlidingWindowLimiter:
    """Counts uses per key over the last `window`. Memory is bounded by the uses within it."""

    def __init__(self, *, limit: int, window: timedelta, clock: Callable[[], datetime]) -> None:
        self._limit = limit
        self._window = window
        self._clock = clock
        self._uses: OrderedDict[Hashable, deque[datetime]] = OrderedDict()

    def free_at(self, key: Hashable, uses: int = 1) -> datetime | None:
        """Return None when `uses` more fit into the window now, else the time when they will."""
        recent = self._recent(key)
        too_many = len(recent) + uses - self._limit
        if too_many <= 0:
            return None
        return (recent[min(too_many, len(recent)) - 1] if recent else self._clock()) + self._window

    def note(self, key: Hashable, uses: int = 1) -> None:
        """Count `uses` made now."""
        now = self._clock()
        self._uses.setdefault(key, deque()).extend([now] * uses)
        self._uses.move_to_end(key)
        while self._uses:
            made = next(iter(self._uses.values()))
            if made and made[-1] > now - self._window:  # an empty entry is left when a key was only checked
                break
            self._uses.popitem(last=False)

    def _recent(self, key: Hashable) -> deque[datetime]:
        recent = self._uses.get(key, deque())
        while recent and recent[0] <= self._clock() - self._window:
            recent.popleft()
        return recent
