"""Virtual time: an event loop on which an hour lasts as long as the work in it.

Its clock stands still while anything can run and while threads are at work that were announced with `real_work` (what
goes to an executor announces itself), and jumps to the next timer when there is nothing else to do. So work takes no
time there, and waiting no work.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

BEGINNING = datetime(2026, 11, 16, tzinfo=UTC)
"""What the calendar says when the clock stands at 0: a Monday."""

STUCK_SECONDS = 60.0
"""Real ones, after which work in a thread is taken for lost."""

HAIR_SECONDS = 1e-10
"""No turn of a real loop is at the same instant as the one before. Here it might be, and whoever sees that it is not
quite time yet, and sets a timer for a time that is as good as now, would do so for ever."""


class Stuck(RuntimeError):
    """Nothing can ever happen any more, or a thread does not come back."""


class _Jumping(selectors.DefaultSelector):
    """Where the loop would wait it asks for the next event here: this is where time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.now_seconds = 0.0
        self.at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            self.now_seconds += 0.0 if self.at_work else HAIR_SECONDS
            return super().select(0)
        if self.at_work:
            events = super().select(STUCK_SECONDS)
            if not events:
                raise Stuck(f"a thread has been at work for {STUCK_SECONDS:.0f} real seconds")
            return events
        events = super().select(0)
        if events:
            return events
        if timeout is None:
            raise Stuck("nobody waits for a time, and nothing is under way")
        self.now_seconds += timeout + HAIR_SECONDS
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Made by `run`."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self._clock_resolution = 0.0  # asyncio's own leave to fire so much too early

    def time(self) -> float:
        """Seconds since the beginning."""
        return self._jumping.now_seconds

    def now(self) -> datetime:
        """The time of day that goes with it."""
        return BEGINNING + timedelta(seconds=self._jumping.now_seconds)

    @contextmanager
    def real_work(self) -> Generator[None]:
        """While a thread does something whose end the clock has to wait for."""
        self._jumping.at_work += 1
        try:
            yield
        finally:
            self._jumping.at_work -= 1

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = super().run_in_executor(executor, func, *args)
        self._jumping.at_work += 1
        future.add_done_callback(self._one_back)
        return future

    async def shutdown_default_executor(self, *args: Any) -> None:
        with self.real_work():
            await super().shutdown_default_executor(*args)

    def _one_back(self, _: asyncio.Future[Any]) -> None:
        self._jumping.at_work -= 1


def this_loop() -> VirtualLoop:
    """The running loop. Raises RuntimeError on any other kind."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        raise RuntimeError("this needs a virtual clock")  # noqa: TRY004 - as asyncio says it when none is running
    return loop


def run(main: Coroutine[Any, Any, T]) -> T:
    """What `main` returns, on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
