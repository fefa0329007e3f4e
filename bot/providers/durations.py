"""Durations: how long jobs of a model took lately, and so when it is worth asking whether the next one is done."""

from __future__ import annotations

import bisect
import math
from collections import deque
from itertools import pairwise

KEPT = 50
"""So many past jobs of a model tell how long its next one will take."""

_ENOUGH = 5
_SHARES = 100
"""What is known is laid out in so many equal shares: more than there are jobs, so that rare ones lie less apart."""

_WORTH_SECONDS = 0.15
"""A look is worth its request when so much waiting has come together for each job that it is asked after."""
_PATIENCE_SECONDS = 2.0
"""However rare it is to be done so early: who is, waits hardly longer than this."""

_MAX_GAP_SECONDS = 15.0
"""A job that fails does so early, and its member should not wait for the hour at which it would have been done."""

_LATE_GAP_SHARE, _LATE_GAP_PAUSES = 0.1, 5.0


class DurationEstimator:
    """The last durations of one model, in seconds. `len()` of them are known."""

    def __init__(self) -> None:
        self._lately: deque[float] = deque()
        self._ordered: list[float] = []
        self._likely: list[float] = []
        """The middles of the shares, worked out when they are asked for."""

    def __len__(self) -> int:
        return len(self._lately)

    def observe(self, seconds: float) -> None:
        """One more; the oldest is forgotten once there are more than `KEPT`."""
        self._lately.append(seconds)
        bisect.insort(self._ordered, seconds)
        if len(self._lately) > KEPT:
            self._ordered.remove(self._lately.popleft())
        self._likely.clear()

    def quantile(self, share: float) -> float:
        """The duration that this share of the jobs did not exceed. Raises ValueError while none is known."""
        if not self._ordered:
            raise ValueError("no duration is known yet")
        place = share * (len(self._ordered) - 1)
        below = int(place)
        above = min(below + 1, len(self._ordered) - 1)
        return self._ordered[below] + (self._ordered[above] - self._ordered[below]) * (place - below)

    def next_poll_seconds(self, age_seconds: float, *, pause_seconds: float) -> float | None:
        """The age at which a job should be looked at next, at least a pause from now; None while too little is known.

        Those of the past that took longer than this age tell when. As time goes on more and more of them would be done
        and wait for the look; it is due when together they have waited for as long as it is worth. A job that outlasts
        all of them is late, and asked after ever less.
        """
        if len(self) < _ENOUGH:
            return None
        if not self._likely:
            self._likely = [self.quantile((number + 0.5) / _SHARES) for number in range(_SHARES)]
        later = self._likely[bisect.bisect_right(self._likely, age_seconds) :]
        soonest = age_seconds + pause_seconds
        if not later:
            return max(soonest, age_seconds + min(age_seconds * _LATE_GAP_SHARE, pause_seconds * _LATE_GAP_PAUSES))
        latest = min(later[0] + max(_PATIENCE_SECONDS, pause_seconds), age_seconds + _MAX_GAP_SECONDS)
        return max(soonest, min(latest, _worth_it_at(later, soonest, pause_seconds)))


def _worth_it_at(later: list[float], soonest: float, pause_seconds: float) -> float:
    """The first age at which those that are done have waited long enough, and are no fewer than those that will be done
    within the pause after it: too early a look makes these wait the longest.
    """
    at, took_together = soonest, 0.0
    for done, (took_seconds, following) in enumerate(pairwise((*later, math.inf)), start=1):
        took_together += took_seconds
        # Until then they have waited `done * at - took_together`.
        at = max(soonest, took_seconds, (took_together + len(later) * _WORTH_SECONDS) / done)
        if at <= following and bisect.bisect_right(later, at + pause_seconds) <= 2 * done:
            break
    return at
