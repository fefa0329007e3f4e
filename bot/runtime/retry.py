"""Retries: exponential back-off, retrying a call, and a budget that keeps retries from overloading a failing server."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import stamina

from bot.domain.errors import LedgerError, StoreError

_P = ParamSpec("_P")
_T = TypeVar("_T")

BUDGET_SHARE = 0.1
"""Retries that every first attempt adds to a `RetryBudget`."""

BUDGET_MAX_RETRIES = 10.0
"""Most retries that a `RetryBudget` holds, so that a single failure is always retried as often as its caller wants."""


def backoff_seconds(failures: int, *, first_seconds: float, max_seconds: float, jitter: float = 0.0) -> float:
    """Return the pause after `failures` failures in a row: `first_seconds`, doubled each time up to the maximum.

    `jitter` is the share by which the pause may be shorter at random, so that many callers do not retry in step.
    """
    pause_seconds = min(max_seconds, first_seconds * 2 ** min(failures - 1, 30))
    return pause_seconds * random.uniform(1 - jitter, 1)  # noqa: S311 - no secret depends on it


async def retrying(
    work: Callable[[], Awaitable[_T]],
    *,
    on: Callable[[Exception], bool | float],
    first_pause_seconds: float,
    max_pause_seconds: float,
    jitter_seconds: float = 1.0,
    attempts: int | None = None,
    within_seconds: float | None = None,
) -> _T:
    """Return what `work()` returns; call it again after growing pauses while `on` says of its error that this may help.

    Raises the last error. `on` is called once for each error, so it may keep count; a number that it returns is the
    pause in seconds.
    """
    try:
        return await work()  # nearly always; the machinery below costs more than many requests
    except Exception as error:
        already_failed = [error]
    async for attempt in stamina.retry_context(
        on=on,
        attempts=attempts,
        timeout=within_seconds,
        wait_initial=first_pause_seconds,
        wait_max=max_pause_seconds,
        wait_jitter=jitter_seconds,
    ):
        with attempt:
            if already_failed:
                raise already_failed.pop()
            return await work()
    raise AssertionError("unreachable: the last attempt returns or raises")


def retry_storage_errors(call: Callable[_P, Awaitable[_T]]) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Decorate a coroutine function so that it is called again, without a limit, while it raises StoreError.

    LedgerError, which means a defect, is raised, as is every other error.
    """

    @wraps(call)
    async def retried(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await retrying(
            lambda: call(*args, **kwargs),
            on=_disk_may_recover,
            first_pause_seconds=0.2,
            max_pause_seconds=10,
            jitter_seconds=0.5,
        )

    return retried


def _disk_may_recover(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, LedgerError)


class RetryBudget:
    """Limits retries to a tenth of the first attempts, with a small reserve.

    A provider that fails gets at most 10 % more requests from us than one that works.
    """

    def __init__(self) -> None:
        self._retries = BUDGET_MAX_RETRIES

    def earn(self) -> None:
        """Count a first attempt."""
        self._retries = min(BUDGET_MAX_RETRIES, self._retries + BUDGET_SHARE)

    def spend(self) -> bool:
        """Return whether one more retry is allowed; it counts as made."""
        if self._retries < 1:
            return False
        self._retries -= 1
        return True
