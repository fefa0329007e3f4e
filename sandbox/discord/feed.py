"""The feed: an event for everything that changes in the local Discord, for each listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


class Feed:
    """The events of a world. A listener gets every event from its start on; hooks are called immediately."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[tuple[str, Any]]] = set()
        self.hooks: list[Callable[[str, Any], None]] = []

    def publish(self, kind: str, subject: Any) -> None:
        for hook in self.hooks:
            hook(kind, subject)
        for listener in self._listeners:
            listener.put_nowait((kind, subject))

    @contextmanager
    def listen(self) -> Generator[asyncio.Queue[tuple[str, Any]]]:
        listener: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    async def until(self, happened: Callable[[], bool], *, timeout_seconds: float, what: Callable[[], str]) -> None:
        """Wait until `happened()` is true; it is checked after each event. `what` describes what was last seen."""
        with self.listen() as news:
            try:
                async with asyncio.timeout(timeout_seconds):
                    while not happened():
                        await news.get()
            except TimeoutError:
                raise TimeoutError(f"not within {timeout_seconds} s: {what()}") from None
