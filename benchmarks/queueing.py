"""Queueing: how long a line in front of a number of places gets, by formula, and by letting one go past step by step.

Times in seconds. A line here is one in which nobody jumps ahead because their picture will be quick; members' turns do
not matter for the mean, only for who it is that waits.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from random import Random
from statistics import NormalDist

from bot.durations import KEPT, Durations

HORIZON_LOOKS = 10_000
SINGLE: Mapping[int, float] = {1: 1.0}
"""Everybody orders one picture at a time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogNormal:
    """Durations of one model: their mean, and how far they spread (standard deviation / mean)."""

    mean_seconds: float
    spread: float

    @property
    def _sigma(self) -> float:
        return math.sqrt(math.log1p(self.spread**2))

    def quantile(self, share: float) -> float:
        """The duration that this share does not exceed."""
        middle = math.log(self.mean_seconds) - self._sigma**2 / 2
        return math.exp(middle + self._sigma * NormalDist().inv_cdf(share))

    def share_longer(self, seconds: float) -> float:
        """How many of them take longer than this."""
        if seconds <= 0:
            return 1.0
        middle = math.log(self.mean_seconds) - self._sigma**2 / 2
        return 1 - NormalDist().cdf((math.log(seconds) - middle) / self._sigma)

    def learnt(self) -> Durations:
        """What the bot knows of this model once it has seen enough of its jobs."""
        durations = Durations()
        for number in range(KEPT):
            durations.learn(self.quantile((number + 0.5) / KEPT))
        return durations


def offered_load(*, per_second: float, hold_seconds: float) -> float:
    """Places busy on average, when there are enough (Little's law)."""
    return per_second * hold_seconds


def waiting_share(*, load: float, places: int) -> float:
    """Erlang's C: the share of jobs that find every place taken. 1 when there are not enough places at all."""
    if load >= places:
        return 1.0
    blocked = 1.0  # Erlang's B for no place, then for one more at a time
    for number in range(1, places + 1):
        blocked = load * blocked / (number + load * blocked)
    busy = load / places
    return blocked / (1 - busy * (1 - blocked))


def waiting_seconds(
    *, orders_per_second: float, sizes: Mapping[int, float], hold_seconds: float, places: int, spread: float
) -> float:
    """The mean wait of a job where orders of several pictures come together; infinite when the line only grows.

    `sizes` are the shares of orders by their number of pictures, `spread` is that of the time a place is held. If that
    time were exponential this would be exact: Erlang's C, for orders of several pictures too. It is not, so the wait is
    shortened as Allen and Cunneen do it, by as much as in a line that is always full, and by less the emptier it is.
    """
    pictures = sum(size * share for size, share in sizes.items())
    load = offered_load(per_second=orders_per_second * pictures, hold_seconds=hold_seconds)
    if load >= places:
        return math.inf
    together = sum(size**2 * share for size, share in sizes.items()) / pictures
    full = (together + spread**2) / (together + 1)
    exponential = _line_length(load / pictures, sizes, places) * hold_seconds / load
    return exponential * full ** (load / places)


def _line_length(orders_per_hold: float, sizes: Mapping[int, float], places: int) -> float:
    """How many wait on average, from the balance of what comes and goes between each number of jobs and the next."""
    largest = max(sizes)
    more_than = [sum(share for size, share in sizes.items() if size > number) for number in range(largest)]
    lately = deque([1.0], maxlen=largest)  # likelihoods of the last few numbers of jobs, the newest first
    total, length, jobs = 1.0, 0.0, 0
    while True:
        jobs += 1
        comes = orders_per_hold * sum(likely * share for likely, share in zip(lately, more_than, strict=False))
        likely = comes / min(jobs, places)
        lately.appendleft(likely)
        total += likely
        length += max(0, jobs - places) * likely
        if not likely or (jobs > 2 * places + largest and likely * jobs < 1e-12 * length):
            return length / total
        if total > 1e200:
            total, length = total * 1e-200, length * 1e-200
            lately = deque((value * 1e-200 for value in lately), maxlen=largest)


def waits_of(jobs: Iterable[tuple[float, float]], *, places: int) -> list[float]:
    """The wait of each job (when it came, how long it holds its place) in a line of that many places, step by step."""
    free_at = [0.0] * places
    waits: list[float] = []
    for came_at, hold_seconds in jobs:
        begins_at = max(came_at, free_at[0])
        heapq.heapreplace(free_at, begins_at + hold_seconds)
        waits.append(begins_at - came_at)
    return waits


def wait_at_random(
    *, orders_per_second: float, sizes: Mapping[int, float], hold: LogNormal, places: int, jobs: int, seed: int
) -> float:
    """The mean wait of so many jobs, drawn at random, in a line step by step; without the first tenth."""
    chance, now = Random(seed), 0.0
    arrivals: list[tuple[float, float]] = []
    while len(arrivals) < jobs:
        now += chance.expovariate(orders_per_second)
        (size,) = chance.choices(list(sizes), weights=list(sizes.values()))
        arrivals += [(now, hold.quantile(chance.uniform(1e-9, 1 - 1e-9))) for _ in range(size)]
    waits = waits_of(arrivals, places=places)[len(arrivals) // 10 :]
    return sum(waits) / len(waits)


def places_for(
    *, orders_per_second: float, sizes: Mapping[int, float], hold_seconds: float, spread: float, within_seconds: float
) -> int:
    """The fewest places with which a job waits no longer than that on average."""
    pictures = sum(size * share for size, share in sizes.items())
    places = math.floor(offered_load(per_second=orders_per_second * pictures, hold_seconds=hold_seconds)) + 1
    while True:
        seconds = waiting_seconds(
            orders_per_second=orders_per_second, sizes=sizes, hold_seconds=hold_seconds, places=places, spread=spread
        )
        if seconds <= within_seconds:
            return places
        places += 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Looks:
    """How a job is asked after: how often, and how long it has been done when that is found out. Means."""

    count: float
    late_seconds: float


def looks(seconds: LogNormal, *, poll_seconds: float, sent_seconds: float, answer_seconds: float) -> Looks:
    """What the bot's own schedule makes of jobs with these durations, once it knows them.

    An order takes `sent_seconds` to be accepted, a question `answer_seconds` to be answered. Up to a tenth of
    `poll_seconds` is added to each pause by chance (see watcher.py).
    """
    usual = seconds.learnt()
    by_chance_seconds = poll_seconds * 0.05

    def next_look(age_seconds: float) -> float:
        likely_at = usual.next_look_seconds(age_seconds, pause_seconds=poll_seconds)
        assert likely_at is not None, "it knows enough of them"
        return likely_at - age_seconds + by_chance_seconds

    count = late_seconds = 0.0
    before, at = 0.0, sent_seconds + next_look(sent_seconds)
    for _ in range(HORIZON_LOOKS):
        reached = seconds.share_longer(before - sent_seconds)
        if reached < 1e-6:
            break
        count += reached
        late_seconds += _mean_rest(seconds, before - sent_seconds, at - sent_seconds)
        before, at = at, at + max(next_look(at + answer_seconds), poll_seconds)
    return Looks(count=count, late_seconds=late_seconds)


def _mean_rest(seconds: LogNormal, begin: float, end: float, steps: int = 50) -> float:
    """The time from the end of a job to `end`, for those that end between the two; 0 for the others."""
    step = (end - begin) / steps
    total = 0.0
    for number in range(steps):
        low, high = begin + number * step, begin + (number + 1) * step
        total += (seconds.share_longer(low) - seconds.share_longer(high)) * (end - (low + high) / 2)
    return total
