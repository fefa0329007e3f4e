"""Back-off and the retry budget."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bot.runtime.retry import BUDGET_MAX_RETRIES, RetryBudget, backoff_seconds


def test_a_single_failure_is_retried_as_often_as_its_caller_wants() -> None:
    budget = RetryBudget()
    budget.earn()
    assert all(budget.spend() for _ in range(3))


def test_many_failures_get_one_retry_for_ten_first_attempts() -> None:
    budget = RetryBudget()
    while budget.spend():
        pass
    retries = 0
    for _ in range(1_000):
        budget.earn()
        retries += budget.spend()
    assert 99 <= retries <= 100


@given(st.lists(st.booleans(), max_size=300))
def test_never_more_retries_than_a_tenth_of_the_attempts_plus_the_reserve(steps: list[bool]) -> None:
    budget, attempts, retries = RetryBudget(), 0, 0
    for is_first in steps:
        if is_first:
            budget.earn()
            attempts += 1
        else:
            retries += budget.spend()
        assert retries <= BUDGET_MAX_RETRIES + attempts / 10 + 1e-6


def test_the_pause_doubles_with_each_failure_up_to_the_maximum() -> None:
    pauses = [backoff_seconds(failures, first_seconds=1, max_seconds=60) for failures in (1, 2, 3, 6, 7, 8, 10_000)]
    assert pauses == [1, 2, 4, 32, 60, 60, 60]


def test_jitter_only_shortens_the_pause() -> None:
    pauses = {backoff_seconds(3, first_seconds=1, max_seconds=60, jitter=0.2) for _ in range(100)}
    assert len(pauses) > 50
    assert all(3.2 <= pause <= 4 for pause in pauses)
