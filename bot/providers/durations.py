"""Durations of recent jobs of a model, and when to poll the next one."""

from __future__ import annotations

import bisect
import math
from collections import deque

KEPT = 100
"""Number of recent jobs of a model whose durations are kept."""

MAX_OBSERVED_SECONDS = 24 * 3600.0
"""A longer duration is a wrong clock's: it is not used."""

_MIN_OBSERVATIONS = 5
_RECOMPUTED_AFTER = 20
"""Observations after which polling ages are computed again; each one counts while there are fewer than that."""

_QUANTILES = 100
"""Number of quantiles that the distribution is divided into."""

MIN_GAP_SECONDS = 0.5
"""Least time between two polls of a job, unless the setting is even less."""

_MAX_GAP_SECONDS = 15.0
"""Most time between two polls, unless the pace is slower: jobs fail early, and the member should hear of it."""
_MAX_GAP_SHARE = 0.5
"""Most time between two polls, as a share of the job's age: it may take a little longer than all before it."""

_MARGIN_SECONDS = 0.1
"""Time for a request to arrive: our age of a job begins a little before the provider's."""

_BUDGET_SHARE = 0.92
"""Polls that are planned, as a share of those of a loop with a fixed pause: the next jobs differ from the last ones."""

_MIN_WAIT_SECONDS, _MAX_WAIT_SECONDS, _HALVINGS = 0.001, 60.0, 11
_LATE_GAP_SHARE, _LATE_GAP_PAUSES = 0.1, 5.0


class DurationEstimator:
    """The recent durations of one model, in seconds. `len()` is their number."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._ordered: list[float] = []
        self._poll_ages: list[float] = []
        self._poll_ages_pace_seconds = 0.0
        self._observed_since = 0

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
        self._observed_since += 1

    def quantile(self, share: float) -> float:
        """Return the duration that this share of the jobs did not exceed. Raises ValueError while none is known."""
        if not self._ordered:
            raise ValueError("no duration is known yet")
        position = share * (len(self._ordered) - 1)
        below = int(position)
        above = min(below + 1, len(self._ordered) - 1)
        return self._ordered[below] + (self._ordered[above] - self._ordered[below]) * (position - below)

    def next_poll_seconds(self, age_seconds: float, *, pace_seconds: float) -> float | None:
        """Return the age at which to poll a job next; None while too little is known.

        The jobs of a model are polled as often, on average, as by a loop that polls every `pace_seconds`. But the polls
        are where a job is likely to end: none before the first one ended, few in a gap, many at the usual duration. A
        job that takes longer than all of them is polled more and more slowly.
        """
        if len(self) < _MIN_OBSERVATIONS:
            return None
        if (
            not self._poll_ages
            or self._poll_ages_pace_seconds != pace_seconds
            or self._observed_since >= min(_RECOMPUTED_AFTER, len(self))
        ):
            shares = [(number + 0.5) / _QUANTILES for number in range(_QUANTILES)]
            ended = [self.quantile(share) + _MARGIN_SECONDS for share in shares]
            self._poll_ages, self._poll_ages_pace_seconds = _best_poll_ages(ended, pace_seconds), pace_seconds
            self._observed_since = 0
        min_gap_seconds = min(MIN_GAP_SECONDS, pace_seconds)
        # A poll is always a little later than planned: the one half a second after it is not skipped for that.
        index = bisect.bisect_left(self._poll_ages, age_seconds + min_gap_seconds / 2)
        if index == len(self._poll_ages):
            return age_seconds + max(pace_seconds, min(age_seconds * _LATE_GAP_SHARE, pace_seconds * _LATE_GAP_PAUSES))
        planned_at_age = max(self._poll_ages[index], age_seconds + min_gap_seconds)
        return min(planned_at_age, age_seconds + _max_gap_seconds(age_seconds, pace_seconds))


def _best_poll_ages(ended: list[float], pace_seconds: float) -> list[float]:
    """Return the ages at which to poll jobs that end at the ages `ended` (ordered), each as likely as the others.

    Of all plans that need no more polls than the loop, it is the one with the least squares of finished jobs' waits.
    """
    repeated_by_loop = sum(age // pace_seconds for age in ended)
    low, high = _MIN_WAIT_SECONDS, _MAX_WAIT_SECONDS
    best = _poll_ages(ended, high, pace_seconds)
    for _ in range(_HALVINGS):
        wait_seconds = math.sqrt(low * high)
        ages = _poll_ages(ended, wait_seconds, pace_seconds)
        if sum(bisect.bisect_left(ages, age) for age in ended) <= repeated_by_loop * _BUDGET_SHARE:
            best, high = ages, wait_seconds
        else:
            low = wait_seconds
    return best


def _poll_ages(ended: list[float], wait_seconds: float, pace_seconds: float) -> list[float]:
    """Return polling ages: at each, the squares of finished jobs' waits are `wait_seconds` squared, if the gaps allow.

    That is their mean over all jobs that were not finished at the poll before. Squares, because one image that waits
    for three seconds is worse than three that wait for one. For a given number of polls it is the same at all polls of
    the best plan: where jobs end at a rate of `h` for each unfinished one, the best gap grows as `h ** (-1 / 3)`.
    """
    ages, age, first = list[float](), 0.0, 0
    while first < len(ended):
        soonest, latest = age + min(MIN_GAP_SECONDS, pace_seconds), age + _max_gap_seconds(age, pace_seconds)
        sum_of_squared_waits = wait_seconds**2 * (len(ended) - first)
        sum_of_ages = sum_of_squares = 0.0
        for index in range(first, len(ended)):
            count = index - first + 1
            sum_of_ages += ended[index]
            sum_of_squares += ended[index] ** 2
            # The age at which the squares of the waits of these `count` jobs add up to that sum.
            root = sum_of_ages**2 - count * (sum_of_squares - sum_of_squared_waits)
            age = max(soonest, ended[index], (sum_of_ages + math.sqrt(max(0.0, root))) / count)
            if index + 1 < len(ended) and min(age, latest) <= ended[index + 1]:
                break
        age = min(age, latest)
        ages.append(age)
        first = bisect.bisect_right(ended, age, lo=first)
    return ages


def _max_gap_seconds(age_seconds: float, pace_seconds: float) -> float:
    # A job that was just sent is a moment old when its first poll is planned.
    share = age_seconds * _MAX_GAP_SHARE if age_seconds >= pace_seconds else math.inf
    return max(pace_seconds, min(_MAX_GAP_SECONDS, share))
