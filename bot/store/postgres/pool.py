"""Connections to PostgreSQL, each used by one thread of its own and replaced when it breaks, and a pool of them.

psycopg_pool was measured against this and is not used: see docs/decisions.md, "PostgreSQL connections".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import psycopg

from bot.domain.deployment.database_url import PostgresAddress
from bot.store.postgres.connection import PostgresConnection, translated_error, unreachable

T = TypeVar("T")

_RESPONSE_TIMEOUT_SECONDS = 30.0
"""Time after which the connection of unfinished work is shut down: a proxy may keep it open and send nothing."""

_RECONNECT_TIMEOUT_SECONDS = 5.0
"""How long callers wait for a server that has gone away, from the first failed attempt; later callers fail at once."""

_RECONNECT_PAUSE_SECONDS = 0.1
_MAX_ATTEMPTS = 3


class ConnectionThread:
    """A thread and its connection. Work runs on the thread, one call after another, and uses `connection()`."""

    def __init__(self, address: PostgresAddress, name: str) -> None:
        self.address = address
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: PostgresConnection | None = None
        self._unreachable_since: float | None = None

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start `work` on the thread. It runs to its end even if the future is no longer awaited."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, work)
        future.add_done_callback(lambda _: timer.cancel())

        def cut() -> None:
            nonlocal timer
            if self._connection is not None:
                self._connection.cut()
            timer = loop.call_later(_RESPONSE_TIMEOUT_SECONDS, cut)  # the work may go on with a new connection

        timer = loop.call_later(_RESPONSE_TIMEOUT_SECONDS, cut)
        return future

    async def close(self) -> None:
        """Close the connection and end the thread, after the work that was started."""
        await self.run(self.drop)
        self._executor.shutdown()

    # -- on the thread ------------------------------------------------------------------------------------

    def connection(self) -> PostgresConnection:
        """Return the open connection, or open a new one. Raises StoreError when the server cannot be reached."""
        while self._connection is None:
            try:
                self._connection = PostgresConnection.open(self.address)
            except psycopg.Error as error:
                self._unreachable_since = self._unreachable_since or time.monotonic()
                if time.monotonic() - self._unreachable_since > _RECONNECT_TIMEOUT_SECONDS:
                    raise unreachable(self.address, error) from error
                time.sleep(_RECONNECT_PAUSE_SECONDS)
        self._unreachable_since = None
        return self._connection

    def drop(self) -> None:
        """Close the connection; `connection` opens the next one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ConnectionPool:
    """A fixed number of connections, for work that may be repeated: reads and idempotent statements."""

    def __init__(self, address: PostgresAddress, name: str, count: int) -> None:
        self._count = count
        self._idle: asyncio.LifoQueue[ConnectionThread] = asyncio.LifoQueue()
        for number in range(count):
            self._idle.put_nowait(ConnectionThread(address, f"{name} {number}"))

    async def run(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run `work` on an idle connection, and again on a new one when the connection breaks. Raises StoreError."""
        thread = await self._idle.get()
        future = thread.run(partial(_run, thread, work))
        # The thread is idle when the work has ended, not when the caller was cancelled.
        future.add_done_callback(partial(self._on_done, thread))
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Wait for the work in progress, then close every connection."""
        for _ in range(self._count):
            await (await self._idle.get()).close()

    def _on_done(self, thread: ConnectionThread, future: asyncio.Future[T]) -> None:
        self._idle.put_nowait(thread)
        if not future.cancelled():
            future.exception()  # marks it as retrieved: a caller that was cancelled does not ask for it


def _run(thread: ConnectionThread, work: Callable[[PostgresConnection], T]) -> T:
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        connection = thread.connection()
        try:
            return work(connection)
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                thread.drop()
                if attempt < _MAX_ATTEMPTS:
                    continue
            raise translated_error(error, thread.address) from error
    raise AssertionError("the last attempt returns or raises")
