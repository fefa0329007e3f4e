"""Durations: how long jobs of a model took lately, and so when it is worth asking whether the next one is done."""

from __future__ import annotations

import bisect
from collections import deque

KEPT = 50
"""So many past jobs of a model tell how long its next one will take."""

_ENOUGH = 5
_LOOKS = 4
_LOOKS_APART_SECONDS, _LOOKS_APART_SHARE = 2.0, 0.05
"""Where four looks would be further apart than this, or than this share of what is usual, there are more of them."""

_EARLY, _LATE = 0.1, 0.9
_LONGEST_GAP_SECONDS = 15.0
"""A job that fails does so early, and its member should not wait for the hour at which it would have been done."""

_LATE_GAP_SHARE, _LATE_GAP_PAUSES = 0.1, 5.0


class Durations:
    """The last durations of one model, in seconds. `len()` of them are known."""

    def __init__(self) -> None:
        self._lately: deque[float] = deque()
        self._ordered: list[float] = []

    def __len__(self) -> int:
        return len(self._lately)

    def learn(self, seconds: float) -> None:
        """One more; the oldest is forgotten once there are more than `KEPT`."""
        self._lately.append(seconds)
        bisect.insort(self._ordered, seconds)
        if len(self._lately) > KEPT:
            self._ordered.remove(self._lately.popleft())

    def quantile(self, share: float) -> float:
        """The duration that this share of the jobs did not exceed. Raises ValueError while none is known."""
        if not self._ordered:
            raise ValueError("no duration is known yet")
        place = share * (len(self._ordered) - 1)
        below = int(place)
        above = min(below + 1, len(self._ordered) - 1)
        return self._ordered[below] + (self._ordered[above] - self._ordered[below]) * (place - below)

    def next_look_seconds(self, age_seconds: float, *, pause_seconds: float) -> float | None:
        """The age at which a job should be looked at next, at least a pause from now; None while too little is known.

        A few looks, spread so that each finds an equal share of the jobs done, and no more than fit between the first
        and the last with the pause that is due. A job that outlasts them is late, and asked after ever less.
        """
        if len(self) < _ENOUGH:
            return None
        soonest = age_seconds + pause_seconds
        spread_seconds = self.quantile(_LATE) - self.quantile(_EARLY)
        apart_seconds = max(_LOOKS_APART_SECONDS, self.quantile(0.5) * _LOOKS_APART_SHARE)
        looks = min(max(_LOOKS, 1 + int(spread_seconds / apart_seconds)), 1 + int(spread_seconds / pause_seconds))
        for number in range(1, looks + 1):
            at = self.quantile(_LATE * number / looks)
            if at > age_seconds:
                return min(max(at, soonest), max(age_seconds + _LONGEST_GAP_SECONDS, soonest))
        late_gap = min(age_seconds * _LATE_GAP_SHARE, pause_seconds * _LATE_GAP_PAUSES)
        return age_seconds + max(pause_seconds, late_gap)
