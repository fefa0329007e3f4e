"""The retry budget: generous to a single failure, mean to a storm of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.runtime.retry_budget import RESERVE, RetryBudget


def test_a_single_failure_in_calm_weather_is_tried_again_as_often_as_it_may() -> None:
    budget = RetryBudget()
    budget.earn()
    assert all(budget.spend() for _ in range(3))


def test_in_a_storm_there_is_one_retry_for_ten_first_attempts() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass
    retries = 0
    for _ in range(1_000):
        budget.earn()
        retries += budget.spend()
    assert 99 <= retries <= 100


@given(st.lists(st.booleans(), max_size=300))
def test_never_more_retries_than_a_tenth_of_the_attempts_and_the_reserve(steps: list[bool]) -> None:
    budget, attempts, retries = RetryBudget(), 0, 0
    for is_first in steps:
        if is_first:
            budget.earn()
            attempts += 1
        else:
            retries += budget.spend()
        assert retries <= RESERVE + attempts / 10 + 1e-6
