"""The feed: news of everything that changes in the local Discord, for whoever listens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


class Feed:
    """News of the world. Whoever listens gets every event from that moment on; hooks are called at once."""

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
        """Wait until `happened()` is true, looking again after each event. `what` says what was last seen."""
        with self.listen() as news:
            try:
                async with asyncio.timeout(timeout_seconds):
                    while not happened():
                        await news.get()
            except TimeoutError:
                raise TimeoutError(f"not within {timeout_seconds} s: {what()}") from None
