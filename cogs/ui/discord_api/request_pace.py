"""Request pace: the most requests that one piece of work may send Discord in a minute, over all layers.

discord.py repeats requests by itself, so the count is kept where every request of the client begins.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace

import aiohttp

REQUESTS_PER_MINUTE = 6
_WINDOW_SECONDS = 60.0

_applied: ContextVar[RequestPace | None] = ContextVar("request_pace", default=None)


class RequestPace:
    """Lets `REQUESTS_PER_MINUTE` requests begin within a minute. Each further one waits for its turn."""

    def __init__(self) -> None:
        self._begun: deque[float] = deque(maxlen=REQUESTS_PER_MINUTE)

    @contextmanager
    def applied(self) -> Generator[None]:
        """Apply to every request that the current task sends in the meantime."""
        token = _applied.set(self)
        try:
            yield
        finally:
            _applied.reset(token)

    async def wait(self) -> None:
        """Wait until one more request may begin, and count it."""
        loop = asyncio.get_running_loop()
        if len(self._begun) == REQUESTS_PER_MINUTE:
            await asyncio.sleep(self._begun[0] + _WINDOW_SECONDS - loop.time())
        self._begun.append(loop.time())


def attach(trace: aiohttp.TraceConfig) -> None:
    """Have the requests of sessions with this trace wait for their pace, if one is applied."""
    trace.on_request_start.append(_wait_for_pace)


async def _wait_for_pace(
    session: aiohttp.ClientSession, context: SimpleNamespace, start: aiohttp.TraceRequestStartParams
) -> None:
    if (pace := _applied.get()) is not None:
        await pace.wait()
