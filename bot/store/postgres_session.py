"""A session: one connection to PostgreSQL with a thread of its own, made anew when it breaks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg

from bot.location import PostgresAddress
from bot.store.postgres_connection import PostgresConnection, unreachable

T = TypeVar("T")

_SILENCE_SECONDS = 30.0
"""After so long without an end the connection is cut: a proxy may be there and say nothing, for ever."""

_PATIENCE_SECONDS = 5.0
"""How long a server that has gone away is waited for, counted from when it went; after that callers hear at once."""

_PAUSE_SECONDS = 0.1


class Session:
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
