"""Connections to PostgreSQL, each used by one thread of its own and replaced when it breaks, and a pool of them.

psycopg_pool was measured against this and is not used: see docs/decisions.md, "PostgreSQL connections".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TypeVar

import psycopg

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.postgres.connection import PostgresConnection, no_room, translated_error, unreachable

T = TypeVar("T")

_RESPONSE_TIMEOUT_SECONDS = 30.0
"""Time after which the connection of unfinished work is shut down: a proxy may keep it open and send nothing."""

_RECONNECT_TIMEOUT_SECONDS = 5.0
"""How long callers wait for a server that has gone away, from the first failed attempt; later callers fail at once."""

_RECONNECT_PAUSE_SECONDS = 0.1
_REOPEN_PAUSE_SECONDS = 5.0
"""Pause between attempts to open a connection that the server refused while the pool has others."""

_MAX_ATTEMPTS = 3


class NoConnection(StoreError):
    """The server cannot be reached, or gives no further connection."""


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

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection, as far as its last use told."""
        return self._connection is not None

    async def open(self) -> None:
        """Connect now. Raises StoreError, with what the operator can do, when the server gives no connection."""
        try:
            await self.run(self.connection)
        except NoConnection as error:
            raise no_room(self.address, error) from error

    # -- on the thread ------------------------------------------------------------------------------------

    def connection(self, *, timeout_seconds: float = _RECONNECT_TIMEOUT_SECONDS) -> PostgresConnection:
        """Return the open connection, or open a new one. Raises NoConnection when the server gives none."""
        while self._connection is None:
            try:
                self._connection = PostgresConnection.open(self.address)
            except psycopg.Error as error:
                self._unreachable_since = self._unreachable_since or time.monotonic()
                if time.monotonic() - self._unreachable_since > timeout_seconds:
                    raise NoConnection(str(unreachable(self.address, error))) from error
                time.sleep(_RECONNECT_PAUSE_SECONDS)
        self._unreachable_since = None
        return self._connection

    def drop(self) -> None:
        """Close the connection; `connection` opens the next one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ConnectionPool:
    """A fixed number of connections, for work that may be repeated: reads and idempotent statements.

    It goes on with fewer where the server gives no more, and opens the others when it can.
    """

    def __init__(self, address: PostgresAddress, name: str, count: int) -> None:
        self._threads = [ConnectionThread(address, f"{name} {number}") for number in range(count)]
        self._idle: asyncio.LifoQueue[ConnectionThread] = asyncio.LifoQueue()
        self._reopening: set[asyncio.Task[None]] = set()
        for thread in self._threads:
            self._idle.put_nowait(thread)

    @property
    def missing(self) -> int:
        """The number of connections that the server does not give."""
        return len(self._reopening)

    async def open(self) -> None:
        """Open every connection now. Raises StoreError."""
        for thread in self._threads:
            await thread.open()

    async def run(self, work: Callable[[PostgresConnection], T]) -> T:
        """Run `work` on an idle connection, and again on another when the connection breaks. Raises StoreError."""
        while True:
            thread = await self._idle.get()
            has_others = any(other.is_connected for other in self._threads if other is not thread)
            timeout_seconds = 0.0 if has_others else _RECONNECT_TIMEOUT_SECONDS
            future = thread.run(partial(_run, thread, work, timeout_seconds))
            # The thread is idle when the work has ended, not when the caller was cancelled.
            future.add_done_callback(partial(self._on_done, thread, has_others))
            try:
                return await asyncio.shield(future)
            except NoConnection:
                if not has_others:
                    raise

    async def close(self) -> None:
        """Wait for the work in progress, then close every connection."""
        for task in self._reopening:
            task.cancel()
        for _ in self._threads:
            await (await self._idle.get()).close()

    def _on_done(self, thread: ConnectionThread, has_others: bool, future: asyncio.Future[T]) -> None:
        # A caller that was cancelled does not ask for the error; `exception` marks it as retrieved.
        error = None if future.cancelled() else future.exception()
        if not (has_others and isinstance(error, NoConnection)):
            self._idle.put_nowait(thread)
            return
        task = asyncio.create_task(self._reopen(thread), name="database reconnection")
        self._reopening.add(task)
        task.add_done_callback(self._reopening.discard)

    async def _reopen(self, thread: ConnectionThread) -> None:
        try:
            while not thread.is_connected:
                await asyncio.sleep(_REOPEN_PAUSE_SECONDS)
                with suppress(NoConnection):
                    await thread.run(partial(thread.connection, timeout_seconds=0.0))
        finally:
            self._idle.put_nowait(thread)


def _run(thread: ConnectionThread, work: Callable[[PostgresConnection], T], timeout_seconds: float) -> T:
    for attempt in range(1, _MAX_ATTEMPTS + 1):
        connection = thread.connection(timeout_seconds=timeout_seconds)
        try:
            return work(connection)
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                thread.drop()
                if attempt < _MAX_ATTEMPTS:
                    continue
            raise translated_error(error, thread.address) from error
    raise AssertionError("the last attempt returns or raises")
