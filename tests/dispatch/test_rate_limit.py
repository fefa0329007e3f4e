"""The rate limiter: a sliding span of time per key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bot.dispatch.rate_limit import HOUR, MINUTE, SlidingWindowLimiter

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> SlidingWindowLimiter:
    return SlidingWindowLimiter(limit=3, window=MINUTE, clock=clock)


@pytest.mark.f58
def test_as_many_orders_as_allowed_fit_into_a_minute(limiter: SlidingWindowLimiter) -> None:
    for _ in range(3):
        assert limiter.free_at("ada") is None
        limiter.note("ada")
    assert limiter.free_at("ada") == NOON + timedelta(minutes=1)


def test_each_order_stops_counting_a_minute_after_it_was_placed(limiter: SlidingWindowLimiter, clock: Clock) -> None:
    for _ in range(3):
        limiter.note("ada")
        clock.now += timedelta(seconds=10)
    assert limiter.free_at("ada") == NOON + timedelta(seconds=60)
    assert limiter.free_at("ada", uses=2) == NOON + timedelta(seconds=70)
    clock.now = NOON + timedelta(seconds=60)
    assert limiter.free_at("ada") is None
    assert limiter.free_at("ada", uses=2) == NOON + timedelta(seconds=70)


@pytest.mark.f58
def test_one_member_does_not_slow_another(limiter: SlidingWindowLimiter) -> None:
    limiter.note("ada", uses=3)
    assert limiter.free_at("ben") is None


def test_more_at_once_than_a_minute_allows_never_fits(limiter: SlidingWindowLimiter) -> None:
    assert limiter.free_at("ada", uses=4) == NOON + timedelta(minutes=1)


def test_members_who_ordered_long_ago_are_forgotten(limiter: SlidingWindowLimiter, clock: Clock) -> None:
    for member in range(1_000):
        limiter.note(member)
    clock.now += timedelta(minutes=2)
    limiter.note("ada")
    assert len(limiter._uses) == 1


def test_a_member_refused_after_a_pause_does_not_keep_others_in_memory(
    limiter: SlidingWindowLimiter, clock: Clock
) -> None:
    limiter.note("ada")
    clock.now += timedelta(seconds=61)
    assert limiter.free_at("ada") is None
    limiter.note("ben")
    assert len(limiter._uses) == 1


def test_the_window_may_be_longer_than_a_minute(clock: Clock) -> None:
    limiter = SlidingWindowLimiter(limit=1, window=HOUR, clock=clock)
    limiter.note("ada")
    clock.now += timedelta(minutes=59)
    assert limiter.free_at("ada") == NOON + HOUR
    clock.now += timedelta(minutes=1)
    assert limiter.free_at("ada") is None
