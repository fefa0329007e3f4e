"""Durations: what is known of a model's past jobs, and whether it saves polls compared with a fixed interval."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from statistics import mean, median

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
    assert known(1, 2, 3, 4).next_poll_seconds(0, pause_seconds=2) is None
    with pytest.raises(ValueError):
        known().quantile(0.5)


@given(
    st.lists(st.floats(0.1, 7200), min_size=5, max_size=80),
    st.floats(0, 7200),
    st.floats(0.1, 60),
)
def test_the_next_poll_is_after_the_pause_and_within_the_maximum_gap(
    lately: list[float], age_seconds: float, pause_seconds: float
) -> None:
    at = known(*lately).next_poll_seconds(age_seconds, pause_seconds=pause_seconds)
    assert at is not None
    assert age_seconds + pause_seconds <= at <= age_seconds + max(15, 5 * pause_seconds) + 1e-6


def polls_until(durations: DurationEstimator, end_seconds: float, *, pause_seconds: float) -> list[float]:
    polls: list[float] = []
    age_seconds = 0.0
    while age_seconds < end_seconds:
        at = durations.next_poll_seconds(age_seconds, pause_seconds=pause_seconds)
        assert at is not None
        polls.append(age_seconds := at)
    return polls


def test_a_model_that_is_either_quick_or_slow_is_hardly_asked_about_in_between() -> None:
    polls = polls_until(known(*[6.0] * 25, *[60.0] * 25), 60, pause_seconds=0.5)
    assert 6 <= polls[0] <= 6.5
    assert 60 <= polls[-1] <= 60.5
    assert len(polls) <= 6, "about every fifteen seconds, for it may have failed"


def test_with_a_long_pause_no_poll_is_just_before_the_most_likely_end() -> None:
    durations = known(*[10.0] * 5, *[13.0] * 45)
    assert polls_until(durations, 10, pause_seconds=0.5)[0] < 13
    assert 13 <= polls_until(durations, 10, pause_seconds=5)[0] < 13.5


def test_with_any_distribution_no_job_waits_much_longer_than_with_a_fixed_interval_of_two_seconds() -> None:
    polls = polls_until(known(*range(20, 120, 2)), 118, pause_seconds=0.5)
    bulk = [later - earlier for earlier, later in pairwise(polls) if earlier > 20]
    assert max(bulk) <= 3.5
    assert len(polls) <= 45, "a fixed interval polls 59 times"


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


async def lived(seconds_of: Callable[[int], float], *, poll_seconds: float, tells: bool) -> tuple[float, float]:
    """Return the median seconds between end and poll, and polls per job, after the durations are known."""
    fleet = Fleet(seconds_of, tells=tells)
    usual = DurationEstimator()
    poller = a_poller(fleet, poll_seconds=poll_seconds, random_source=random.Random(1).random)
    for number in range(JOBS):
        await _one(poller, fleet, str(number), usual)
    return median(fleet.lags[JOBS // 2 :]), mean(fleet.polls[JOBS // 2 :])


async def _one(poller: Poller, fleet: Fleet, remote_id: str, usual: DurationEstimator) -> None:
    fleet.begun_at[remote_id] = asyncio.get_running_loop().time()
    watching = poller.watch(remote_id, submitted_at=now(), deadline_at=now() + timedelta(hours=2), usual=usual)
    async for update in watching:
        if update.took_seconds is not None:
            usual.observe(update.took_seconds)


def spread(middle_seconds: float, share: float) -> Callable[[int], float]:
    return lambda number: middle_seconds * random.Random(number).lognormvariate(0, share)


@pytest.mark.parametrize("tells", [True, False], ids=["it tells when", "it says just now"])
@pytest.mark.parametrize("share", [0.02, 0.15, 0.3])
def test_polling_when_likely_takes_far_fewer_requests_than_a_fixed_interval_of_two_seconds(
    share: float, tells: bool
) -> None:
    async def main() -> None:
        lag, polls = await lived(spread(12, share), poll_seconds=0.5, tells=tells)
        # A loop that asks every two seconds is one second late in the middle, and asks 6.5 times.
        assert polls <= (0.55 if share < 0.2 else 0.7) * 6.5
        assert lag <= (0.55 if share < 0.2 else 0.9)

    run_in_virtual_time(main())


@pytest.mark.parametrize("tells", [True, False], ids=["it tells when", "it says just now"])
@pytest.mark.parametrize("seconds", [3.0, 12.0, 40.0])
def test_a_job_of_constant_duration_is_polled_twice(seconds: float, tells: bool) -> None:
    async def main() -> None:
        lag, polls = await lived(lambda _: seconds, poll_seconds=2, tells=tells)
        assert polls <= (2.2 if seconds < 15 else seconds / 15 + 2)
        assert lag <= 1.4

    run_in_virtual_time(main())


@pytest.mark.parametrize("tells", [True, False], ids=["it tells when", "it says just now"])
@pytest.mark.parametrize("later", [4.0, 40.0])
def test_the_estimate_follows_a_model_whose_durations_change(later: float, tells: bool) -> None:
    def seconds_of(number: int) -> float:
        return spread(12 if number < JOBS // 4 else later, 0.1)(number)

    async def main() -> None:
        lag, polls = await lived(seconds_of, poll_seconds=0.5, tells=tells)
        assert lag <= max(0.5, later / 40)
        assert polls <= 7.5

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
