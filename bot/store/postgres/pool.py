"""A session: one connection to PostgreSQL with a thread of its own, made anew when it breaks. And a few of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import psycopg

from bot.domain.database_url import PostgresAddress
from bot.store.postgres.connection import PostgresConnection, translated_error, unreachable

T = TypeVar("T")

_SILENCE_SECONDS = 30.0
"""After so long without an end the connection is cut: a proxy may be there and say nothing, for ever."""

_PATIENCE_SECONDS = 5.0
"""How long a server that has gone away is waited for, counted from when it went; after that callers hear at once."""

_PAUSE_SECONDS = 0.1
_ATTEMPTS = 3


class ThreadSession:
    """What runs here runs on one thread, one after the other; it takes `connection()`, and drops it when it breaks."""

    def __init__(self, address: PostgresAddress, name: str) -> None:
        self.address = address
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._connection: PostgresConnection | None = None
        self._lost_at: float | None = None

    def run(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Start `work` on the thread. It goes on to its end also when nobody waits for it any more."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._thread, work)
        future.add_done_callback(lambda _: silence.cancel())

        def cut() -> None:
            nonlocal silence
            if self._connection is not None:
                self._connection.cut()
            silence = loop.call_later(_SILENCE_SECONDS, cut)

        silence = loop.call_later(_SILENCE_SECONDS, cut)
        return future

    async def close(self) -> None:
        await self.run(self.drop)
        self._thread.shutdown()

    # -- on the thread ------------------------------------------------------------------------------------

    def connection(self) -> PostgresConnection:
        """The open connection, or a new one. Raises StoreError when the server cannot be reached."""
        while self._connection is None:
            try:
                self._connection = PostgresConnection.open(self.address)
            except psycopg.Error as error:
                self._lost_at = self._lost_at or time.monotonic()
                if time.monotonic() - self._lost_at > _PATIENCE_SECONDS:
                    raise unreachable(self.address, error) from error
                time.sleep(_PAUSE_SECONDS)
        self._lost_at = None
        return self._connection

    def drop(self) -> None:
        """The connection is of no use any more."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class ConnectionPool:
    """A few sessions, for work that may be done twice: a reading, or one statement that changes nothing more then."""

    def __init__(self, address: PostgresAddress, name: str, count: int) -> None:
        self._count = count
        self._free: asyncio.LifoQueue[ThreadSession] = asyncio.LifoQueue()
        for number in range(count):
            self._free.put_nowait(ThreadSession(address, f"{name} {number}"))

    async def run(self, work: Callable[[PostgresConnection], T]) -> T:
        """Do it on a session that is free. What lost its connection is done again on a new one. Raises StoreError."""
        session = await self._free.get()
        future = session.run(partial(_run, session, work))
        # Not when the caller is gone, but when the thread is free again.
        future.add_done_callback(partial(self._has_run, session))
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Wait for what is being done, then let go of the connections."""
        for _ in range(self._count):
            await (await self._free.get()).close()

    def _has_run(self, session: ThreadSession, future: asyncio.Future[T]) -> None:
        self._free.put_nowait(session)
        if not future.cancelled():
            future.exception()  # its caller may be gone; then nobody wants to hear of it


def _run(session: ThreadSession, work: Callable[[PostgresConnection], T]) -> T:
    for attempt in range(1, _ATTEMPTS + 1):
        connection = session.connection()
        try:
            return work(connection)
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                session.drop()
                if attempt < _ATTEMPTS:
                    continue
            raise translated_error(error, session.address) from error
    raise AssertionError("the last attempt returns or raises")
