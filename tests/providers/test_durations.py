"""Durations: what is known of a model's past jobs, and whether it saves polls compared with a fixed interval."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from statistics import mean, median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.jobs import JobStatus
from bot.providers.base import Update
from bot.providers.durations import KEPT, DurationEstimator
from bot.providers.poller import Poller
from tests.providers.test_poller import DONE, ScriptedProvider, a_poller, now, running
from tests.support.virtual_time import run_in_virtual_time

JOBS = 240
"""Half of them are the history, the others are measured."""


def known(*seconds: float) -> DurationEstimator:
    durations = DurationEstimator()
    for each in seconds:
        durations.observe(each)
    return durations


def test_quantiles_lie_between_what_was_seen() -> None:
    durations = known(4, 1, 3, 2, 5)
    assert [durations.quantile(share) for share in (0, 0.25, 0.5, 0.875, 1)] == [1, 2, 3, 4.5, 5]


@pytest.mark.hostile("G-14")
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1.0, 1e9])
def test_an_impossible_duration_is_not_learned(seconds: float) -> None:
    durations = known(1, 2, 3, 4, 5, seconds)
    assert len(durations) == 5
    assert durations.quantile(1) == 5


def test_only_the_last_ones_count() -> None:
    durations = known(*[600.0] * 3 * KEPT, *[6.0] * KEPT)
    assert len(durations) == KEPT
    assert durations.quantile(1) == 6


def test_nothing_is_guessed_from_next_to_nothing() -> None:
    assert known(1, 2, 3, 4).next_poll_seconds(0, pace_seconds=2) is None
    with pytest.raises(ValueError):
        known().quantile(0.5)


@given(
    st.lists(st.floats(0.1, 7200), min_size=5, max_size=80),
    st.floats(0, 7200),
    st.floats(0.1, 60),
)
def test_the_next_poll_is_half_a_second_to_the_maximum_gap_away(
    lately: list[float], age_seconds: float, pace_seconds: float
) -> None:
    at = known(*lately).next_poll_seconds(age_seconds, pace_seconds=pace_seconds)
    assert at is not None
    assert age_seconds + min(0.5, pace_seconds) <= at <= age_seconds + max(15, 5 * pace_seconds) + 1e-6


def polls_until(
    durations: DurationEstimator, end_seconds: float, *, pace_seconds: float, late_seconds: float = 0.0
) -> list[float]:
    polls: list[float] = []
    age_seconds = 0.0
    while age_seconds < end_seconds:
        at = durations.next_poll_seconds(age_seconds, pace_seconds=pace_seconds)
        assert at is not None
        polls.append(age_seconds := at + late_seconds)
    return polls


def test_a_poll_that_comes_a_moment_late_does_not_skip_the_next_one() -> None:
    durations = known(*(4 + number / 20 for number in range(80)))
    punctual = polls_until(durations, 8, pace_seconds=1)
    late = polls_until(durations, 8, pace_seconds=1, late_seconds=0.02)
    assert min(after - before for before, after in pairwise(punctual)) == pytest.approx(0.5, abs=0.1)
    assert len(late) >= len(punctual) - 1
    assert all(after - before >= 0.5 for before, after in pairwise(late))


@given(st.lists(st.floats(1, 600), min_size=20, max_size=100), st.floats(0.5, 30))
def test_the_jobs_that_are_known_cost_no_more_polls_than_a_loop(lately: list[float], pace_seconds: float) -> None:
    durations = known(*lately)
    planned = [len(polls_until(durations, seconds, pace_seconds=pace_seconds)) for seconds in sorted(lately)]
    of_a_loop = [seconds // pace_seconds + 1 for seconds in lately]
    # In a gap a job may have failed: it is read after half of its age again, and every fifteen seconds.
    assert sum(planned) <= sum(of_a_loop) * 1.05 + sum(seconds / 15 + 4 for seconds in lately)


def test_a_model_that_is_either_quick_or_slow_is_hardly_asked_about_in_between() -> None:
    polls = polls_until(known(*[6.0] * 25, *[60.0] * 25), 60, pace_seconds=2)
    assert 6 <= polls[0] <= 6.5
    assert 60 <= polls[-1] <= 60.5
    assert len(polls) <= 8, "in growing gaps of at most fifteen seconds, for it may have failed"


def test_a_single_poll_comes_when_nearly_all_jobs_are_done() -> None:
    assert 13 <= polls_until(known(*[10.0] * 5, *[13.0] * 45), 10, pace_seconds=20)[0] < 13.5


# -- many jobs of one model, polled in turn -------------------------------------------------------------------------


class Fleet(ScriptedProvider):
    """Jobs that take as long as `seconds_of` says. The end time is exact, or else the time of the poll."""

    def __init__(self, seconds_of: Callable[[int], float], *, tells: bool) -> None:
        super().__init__()
        self.seconds_of = seconds_of
        self.tells = tells
        self.begun_at: dict[str, float] = {}
        self.lags: list[float] = []
        self.polls: list[int] = []

    async def fetch(self, remote_id: str) -> Update:
        moment = asyncio.get_running_loop().time()
        self.polled_at.setdefault(remote_id, []).append(moment)
        age = moment - self.begun_at[remote_id]
        took = self.seconds_of(int(remote_id))
        if age < took:
            return running()
        self.lags.append(age - took)
        self.polls.append(len(self.polled_at[remote_id]))
        return Update(
            remote_id=remote_id,
            status=JobStatus.SUCCEEDED,
            provider_status="completed",
            result_urls=DONE.result_urls,
            took_seconds=took if self.tells else age,
        )


async def lived(seconds_of: Callable[[int], float], *, poll_seconds: float, tells: bool) -> Fleet:
    """Return the second half of a fleet's lags and polls, after the durations are known."""
    fleet = Fleet(seconds_of, tells=tells)
    usual = DurationEstimator()
    poller = a_poller(fleet, poll_seconds=poll_seconds, random_source=random.Random(1).random)
    for number in range(JOBS):
        await _one(poller, fleet, str(number), usual)
    fleet.lags, fleet.polls = fleet.lags[JOBS // 2 :], fleet.polls[JOBS // 2 :]
    return fleet


def looped(seconds_of: Callable[[int], float], *, pace_seconds: float) -> tuple[list[float], list[int]]:
    """Return the lags and polls of a loop that asks every `pace_seconds`, for the same jobs."""
    seconds = [seconds_of(number) for number in range(JOBS // 2, JOBS)]
    polls = [math.ceil(each / pace_seconds) for each in seconds]
    return [count * pace_seconds - each for count, each in zip(polls, seconds, strict=True)], polls


async def _one(poller: Poller, fleet: Fleet, remote_id: str, usual: DurationEstimator) -> None:
    fleet.begun_at[remote_id] = asyncio.get_running_loop().time()
    await asyncio.sleep(0.05)  # the answer to the order
    submitted_at = now() - timedelta(seconds=0.05)
    watching = poller.watch(remote_id, submitted_at=submitted_at, deadline_at=now() + timedelta(hours=2), usual=usual)
    async for update in watching:
        if update.took_seconds is not None:
            usual.observe(update.took_seconds)


def spread(middle_seconds: float, share: float) -> Callable[[int], float]:
    return lambda number: middle_seconds * random.Random(number).lognormvariate(0, share)


def between(least_seconds: float, most_seconds: float) -> Callable[[int], float]:
    return lambda number: random.Random(number).uniform(least_seconds, most_seconds)


def two_humped(number: int) -> float:
    return 2 + between(0, 0.3)(number) if random.Random(-number).random() < 0.5 else spread(20, 0.1)(number)


@pytest.mark.parametrize("tells", [True, False], ids=["it tells when", "it says just now"])
@pytest.mark.parametrize(
    ("seconds_of", "pace_seconds", "half", "most"),
    [
        (between(4, 8), 2, 0.4, 0.5),
        (between(12, 28), 2, 0.5, 0.6),
        (two_humped, 2, 0.5, 0.6),
        (spread(12, 0.15), 2, 0.5, 0.6),
        (between(10, 20), 5, 0.5, 0.6),
    ],
    ids=["4 to 8 s", "12 to 28 s", "2 s or 20 s", "about 12 s", "Pixazo"],
)
def test_images_come_in_half_the_time_after_their_end_for_the_requests_of_a_loop(
    seconds_of: Callable[[int], float], pace_seconds: float, half: float, most: float, *, tells: bool
) -> None:
    async def main() -> None:
        fleet = await lived(seconds_of, poll_seconds=pace_seconds, tells=tells)
        lags, polls = looped(seconds_of, pace_seconds=pace_seconds)
        assert median(fleet.lags) <= half * median(lags)
        # 0.1 s is what the slowest of a hundred random jobs may be off; without the time of the end, more.
        slowest = most if tells else most + 0.2
        assert quantiles(fleet.lags, n=20)[-1] <= slowest * quantiles(lags, n=20)[-1] + 0.1
        assert sum(fleet.polls) <= sum(polls)

    run_in_virtual_time(main())


@pytest.mark.parametrize("seconds", [3.0, 12.0, 40.0])
def test_a_job_of_constant_duration_takes_less_than_half_of_the_polls_of_a_loop(seconds: float) -> None:
    async def main() -> None:
        fleet = await lived(lambda _: seconds, poll_seconds=2, tells=True)
        assert mean(fleet.polls) <= max(2, seconds / 4)
        assert median(fleet.lags) <= 0.5

    run_in_virtual_time(main())


@pytest.mark.parametrize("tells", [True, False], ids=["it tells when", "it says just now"])
@pytest.mark.parametrize("later", [4.0, 40.0])
def test_the_estimate_follows_a_model_whose_durations_change(later: float, tells: bool) -> None:
    def seconds_of(number: int) -> float:
        return spread(12 if number < JOBS // 4 else later, 0.1)(number)

    async def main() -> None:
        fleet = await lived(seconds_of, poll_seconds=2, tells=tells)
        assert median(fleet.lags) <= 0.75
        assert mean(fleet.polls) <= later / 2 + 1

    run_in_virtual_time(main())


def test_a_job_announced_by_a_webhook_took_until_the_call() -> None:
    async def main() -> None:
        fleet = Fleet(lambda _: 7.0, tells=False)
        fleet.begun_at["0"] = 0.0
        poller = a_poller(fleet, poll_seconds=60)
        asyncio.get_running_loop().call_later(7.25, poller.poll_soon, "0")
        watching = poller.watch("0", submitted_at=now(), deadline_at=now() + timedelta(hours=2))
        updates = [update async for update in watching]
        assert updates[-1].took_seconds == pytest.approx(7.25)

    run_in_virtual_time(main())
