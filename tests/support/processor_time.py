"""Processor time: how it grows with the input, compared within one run, because a busy machine slows down both."""

from __future__ import annotations

import time
from collections.abc import Callable

MAX_GROWTH = 3.0
"""Between twice the time for twice the input, which is linear, and four times, which is quadratic."""

MIN_ROUNDS, MAX_ROUNDS = 5, 100


def assert_linear(work: Callable[[int], Callable[[], object]], *, size: int) -> None:
    """Fail if twice the input takes more than three times as long. `work(size)` prepares what is measured."""
    single, double = work(size), work(2 * size)
    single_seconds = double_seconds = float("inf")
    for number in range(MAX_ROUNDS):
        single_seconds = min(single_seconds, _seconds(single))
        double_seconds = min(double_seconds, _seconds(double))
        if number >= MIN_ROUNDS and double_seconds < MAX_GROWTH * single_seconds:
            return
    raise AssertionError(f"{size}: {single_seconds:.6f} s, {2 * size}: {double_seconds:.6f} s")


def _seconds(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began
