"""Patience: writing down what has already happened, however long the disk takes to recover."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import stamina

from bot.errors import LedgerError, StoreError

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


async def written(write: Callable[[], Awaitable[_T]]) -> _T:
    """The outcome of `write`, tried again until the disk takes it. LedgerError, a mistake of ours, passes through."""
    try:
        return await write()  # nearly always; what follows costs as much as the write itself
    except StoreError as error:
        if not _disk_may_recover(error):
            raise
        _log.warning("not written, and tried again: %s", error)
    async for attempt in stamina.retry_context(
        on=_disk_may_recover, attempts=None, timeout=None, wait_initial=0.2, wait_max=10, wait_jitter=0.5
    ):
        with attempt:
            return await write()
    raise AssertionError("unreachable: attempts are unlimited")


def _disk_may_recover(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, LedgerError)
