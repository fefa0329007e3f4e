"""Hand-written fakes for what is outside the core: the time of day, the presenter of replies, a full disk.

And `until`: tests wait for conditions with a deadline, never for a fixed time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from typing import Any, cast

from bot.domain.errors import ImagesNotHosted, StoreError
from bot.domain.jobs import Reply, StoredImage
from bot.runtime.retry import retry_storage_errors
from bot.store.store import Store
from tests.support.retries import is_retried


async def until(holds: Callable[[], object], *, seconds: float = 30, what: Callable[[], object] | None = None) -> None:
    """Wait until `holds()` is true (a coroutine is awaited first). Fails after `seconds`, saying what it waited for."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        answer = holds()
        if isawaitable(answer):
            answer = await answer
        if answer:
            return
        if loop.time() >= end:
            raise AssertionError(f"not within {seconds} s: {what() if what is not None else holds}")
        await asyncio.sleep(0.005)


class FakeClock:
    """The time of day, which a test may move ahead."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def move(self, **span: float) -> None:
        """Move the time ahead: `clock.move(hours=3)`."""
        self._ahead += timedelta(**span)


class FakePresenter:
    """Records what it is called with. `messages` are the replies that Discord shows, by reply id.

    Images are hosted at `host_url`; None refuses them.
    """

    def __init__(self) -> None:
        self.changed: list[str] = []
        self.notices: list[tuple[str, str]] = []
        self.questions: list[tuple[str, list[int]]] = []
        self.operator_can_be_reached = True
        self.messages: dict[str, int] = {}
        self.host_url: str | None = None
        self.hosted: list[StoredImage] = []

    def reply_changed(self, reply_id: str) -> None:
        self.changed.append(reply_id)

    async def ask_operator(self, text: str, change_ids: Sequence[int], *, topic: str) -> bool:
        self.questions.append((text, list(change_ids)))
        return self.operator_can_be_reached

    def operator_notice(self, matter: str, text: str) -> None:
        self.notices.append((matter, text))

    async def find_message(self, reply: Reply) -> int | None:
        return self.messages.get(reply.id)

    async def host_images(self, reply_id: str, images: Sequence[StoredImage]) -> list[str]:
        if self.host_url is None:
            raise ImagesNotHosted("Discord is away")
        self.hosted += images
        return [self.host_url for _ in images]


class FullDisk:
    """Wraps a Store and makes chosen calls fail as on a full disk, a number of times or until it is emptied."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._failures: dict[str, int] = {}
        self.refused: list[str] = []

    def fill(self, *calls: str, times: int = 10**9) -> None:
        """Make the next `times` calls of each of these methods fail."""
        self._failures.update(dict.fromkeys(calls, times))

    def make_room(self) -> None:
        self._failures.clear()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        # Decided at each call, so that a retry may succeed.
        async def call(*arguments: Any, **named: Any) -> Any:
            if self._failures.get(name, 0) > 0:
                self._failures[name] -= 1
                self.refused.append(name)
                raise StoreError("The database did not do what was asked: database or disk is full.")
            return await cast("Any", found(*arguments, **named))

        return retry_storage_errors(call) if is_retried(found) else call
