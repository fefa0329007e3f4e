"""Durations of recent jobs of a model, and when to poll the next one."""

from __future__ import annotations

import bisect
import math
from collections import deque
from itertools import pairwise

KEPT = 50
"""Number of recent jobs of a model whose durations are kept."""

MAX_OBSERVED_SECONDS = 24 * 3600.0
"""A longer duration is a wrong clock's: it is not used."""

_MIN_OBSERVATIONS = 5
_QUANTILES = 100
"""Number of quantiles that the distribution is divided into: more than `KEPT`, so that the tail has smaller gaps."""

_EXPECTED_WAIT_SECONDS = 0.15
"""A poll is due when the expected time that the result has been waiting for it reaches this."""
_MAX_EARLY_WAIT_SECONDS = 2.0
"""A job that is done unusually early waits for its poll about this long at most."""

_MAX_GAP_SECONDS = 15.0
"""Most time between two polls: jobs fail early, and the member should hear of it."""

_LATE_GAP_SHARE, _LATE_GAP_PAUSES = 0.1, 5.0


class DurationEstimator:
    """The recent durations of one model, in seconds. `len()` is their number."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []
        self._quantiles: list[float] = []
        """Computed when they are needed, and cleared by an observation."""

    def __len__(self) -> int:
        return len(self._recent)

    def observe(self, seconds: float) -> None:
        """Add a duration of at most a day; drop the oldest when there are more than `KEPT`. Ignore any other number."""
        if not 0 <= seconds <= MAX_OBSERVED_SECONDS:
            return
        self._recent.append(seconds)
        bisect.insort(self._ordered, seconds)
        if len(self._recent) > KEPT:
            self._ordered.remove(self._recent.popleft())
        self._quantiles.clear()

    def quantile(self, share: float) -> float:
        """Return the duration that this share of the jobs did not exceed. Raises ValueError while none is known."""
        if not self._ordered:
            raise ValueError("no duration is known yet")
        position = share * (len(self._ordered) - 1)
        below = int(position)
        above = min(below + 1, len(self._ordered) - 1)
        return self._ordered[below] + (self._ordered[above] - self._ordered[below]) * (position - below)

    def next_poll_seconds(self, age_seconds: float, *, pause_seconds: float) -> float | None:
        """Return the age at which to poll a job next, at least a pause from now; None while too little is known.

        It is computed from the past durations above this age, each as likely as the others: the longer the poll is
        delayed, the more of those jobs would be done and waiting. It is due when the sum of their waiting times reaches
        `_EXPECTED_WAIT_SECONDS` for each. A job that takes longer than all of them is polled more and more slowly.
        """
        if len(self) < _MIN_OBSERVATIONS:
            return None
        if not self._quantiles:
            self._quantiles = [self.quantile((number + 0.5) / _QUANTILES) for number in range(_QUANTILES)]
        later = self._quantiles[bisect.bisect_right(self._quantiles, age_seconds) :]
        soonest = age_seconds + pause_seconds
        if not later:
            return max(soonest, age_seconds + min(age_seconds * _LATE_GAP_SHARE, pause_seconds * _LATE_GAP_PAUSES))
        latest = min(later[0] + max(_MAX_EARLY_WAIT_SECONDS, pause_seconds), age_seconds + _MAX_GAP_SECONDS)
        return max(soonest, min(latest, _due_at(later, soonest, pause_seconds)))


def _due_at(later: list[float], soonest: float, pause_seconds: float) -> float:
    """Return the first age at which enough jobs are done.

    They have waited long enough, and are at least as many as those that will be done during the next pause: after too
    early a poll, these would wait longest.
    """
    at, sum_of_durations = soonest, 0.0
    for done, (took_seconds, following) in enumerate(pairwise((*later, math.inf)), start=1):
        sum_of_durations += took_seconds
        # Until then they have waited `done * at - sum_of_durations`.
        at = max(soonest, took_seconds, (sum_of_durations + len(later) * _EXPECTED_WAIT_SECONDS) / done)
        if at <= following and bisect.bisect_right(later, at + pause_seconds) <= 2 * done:
            break
    return at
