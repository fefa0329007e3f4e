"""Patience: trying again, in ways that cost nothing while all goes well."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from bot.domain.errors import LedgerError, StoreError

_T = TypeVar("_T")


async def retrying(
    work: Callable[[], Awaitable[_T]],
    *,
    on: Callable[[Exception], bool],
    first_pause_seconds: float,
    longest_pause_seconds: float,
    jitter_seconds: float = 1.0,
    attempts: int | None = None,
    within_seconds: float | None = None,
) -> _T:
    """The outcome of `work`, tried again after ever longer pauses while `on` calls its error a passing one.

    Raises the last error. `on` is asked once about each, so it may keep count.
    """
    try:
        return await work()  # nearly always; the machinery below costs more than many a request
    except Exception as error:
        already_failed = [error]
    async for attempt in stamina.retry_context(
        on=on,
        attempts=attempts,
        timeout=within_seconds,
        wait_initial=first_pause_seconds,
        wait_max=longest_pause_seconds,
        wait_jitter=jitter_seconds,
    ):
        with attempt:
            if already_failed:
                raise already_failed.pop()
            return await work()
    raise AssertionError("unreachable: the last attempt returns or raises")


async def written(write: Callable[[], Awaitable[_T]]) -> _T:
    """The outcome of `write`, tried again until the disk takes it. LedgerError, a mistake of ours, passes through."""
    return await retrying(
        write, on=_disk_may_recover, first_pause_seconds=0.2, longest_pause_seconds=10, jitter_seconds=0.5
    )


def _disk_may_recover(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, LedgerError)
