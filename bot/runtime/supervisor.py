"""Supervisor: owns the background tasks. Each has a name, its failure reaches the log, and none outlives `close`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from bot.runtime.retry import backoff_seconds

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

RESTART_JITTER = 0.2
"""Tasks that failed together restart at different times."""


@dataclass(slots=True)
class _Restarting:
    """The state of a task that is restarted when it fails."""

    failures_in_a_row: int = 0
    started_at: float | None = None
    last_error: str = ""


class Supervisor:
    """Owns every background task: keeps a reference, logs its failure under its name, ends it on `close`.

    There are two kinds: `start` runs a coroutine once, `start_forever` restarts it when it fails.
    """

    def __init__(
        self,
        *,
        first_pause_seconds: float = 1.0,
        max_pause_seconds: float = 60.0,
        steady_after_seconds: float = 10.0,
    ) -> None:
        self._first_pause_seconds = first_pause_seconds
        self._max_pause_seconds = max_pause_seconds
        self._steady_after_seconds = steady_after_seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self._forever: set[asyncio.Task[Any]] = set()
        self._restarting: dict[str, _Restarting] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def closed(self) -> bool:
        """Whether no task is started any more, because the program ends."""
        return self._closed

    def start(self, name: str, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Run `coroutine` in the background. Its failure is logged once, and also raised where the task is awaited."""
        if self._closed:
            coroutine.close()  # or Python complains that it was never awaited
            raise RuntimeError(f"{name} was not started: the supervisor is closed")
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def start_forever(self, name: str, factory: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Run `factory()` again whenever it fails, after a pause that doubles while it keeps failing.

        When it returns, it has decided to end and is left alone.
        """
        task = self.start(name, self._keep_going(name, factory))
        self._forever.add(task)
        task.add_done_callback(self._forever.discard)
        return task

    def down(self) -> dict[str, str]:
        """Return the `start_forever` tasks that wait for a restart or were just restarted, with their last error."""
        now = asyncio.get_running_loop().time()
        return {name: state.last_error for name, state in self._restarting.items() if not self._is_steady(state, now)}

    async def drain(self, *, timeout_seconds: float) -> tuple[str, ...]:
        """Wait until all tasks of `start` have ended; return the names of those that did not end in time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_seconds
        # A task that ends may have started others, so repeat until there are none.
        while (waiting := self._once()) and (left := end - loop.time()) > 0:
            await asyncio.wait(waiting, timeout=left)
        return tuple(sorted(task.get_name() for task in self._once()))

    async def close(self, *, timeout_seconds: float = 5.0) -> None:
        """Cancel all tasks and wait for them; log the names of those that do not end in time. May be called again."""
        self._closed = True
        current = asyncio.current_task()
        tasks = {task for task in self._tasks if task is not current}
        for task in tasks:
            task.cancel()
        if tasks:
            _, stuck = await asyncio.wait(tasks, timeout=timeout_seconds)
            for task in stuck:
                _log.error("%s did not end within %.0f s", task.get_name(), timeout_seconds)

    def _once(self) -> set[asyncio.Task[Any]]:
        return self._tasks - self._forever - {asyncio.current_task()}

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("%s failed", task.get_name(), exc_info=error)

    def _is_steady(self, state: _Restarting, now: float) -> bool:
        if state.failures_in_a_row == 0:
            return True
        return state.started_at is not None and now - state.started_at >= self._steady_after_seconds

    async def _keep_going(self, name: str, factory: Callable[[], Awaitable[None]]) -> None:
        loop = asyncio.get_running_loop()
        state = self._restarting[name] = _Restarting()
        try:
            while True:
                state.started_at = loop.time()
                try:
                    return await factory()
                except Exception as error:
                    if self._is_steady(state, loop.time()):
                        state.failures_in_a_row = 0
                    state.failures_in_a_row += 1
                    state.started_at = None
                    state.last_error = type(error).__name__
                    pause_seconds = backoff_seconds(
                        state.failures_in_a_row,
                        first_seconds=self._first_pause_seconds,
                        max_seconds=self._max_pause_seconds,
                        jitter=RESTART_JITTER,
                    )
                    _log.exception("%s failed and is started again in %.1f s", name, pause_seconds)
                await asyncio.sleep(pause_seconds)
        finally:
            self._restarting.pop(name, None)
