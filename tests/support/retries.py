"""Methods of the store that are retried until the disk accepts them: which these are, and one attempt of them."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, cast

from bot.runtime.retry import retry_storage_errors
from bot.store.store import Store


async def _nothing() -> None: ...


_RETRIED = cast("FunctionType", retry_storage_errors(_nothing)).__code__


def is_retried(method: Callable[..., Any]) -> bool:
    """Return whether this bound method was made by `writes_with_retry`."""
    return getattr(method, "__code__", None) is _RETRIED


class OneAttempt:
    """Wraps a Store: every method is tried once, and its error is raised immediately."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return found.__func__.__wrapped__.__get__(self._store) if is_retried(found) else found


def one_attempt(store: Store) -> Store:
    """Return the same store without retries."""
    return cast("Store", OneAttempt(store))
