"""The listener: a connection on a thread of its own that hears what other processes tell, made anew when it breaks."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Sequence

import psycopg

from bot.domain.database_url import PostgresAddress
from bot.store.postgres.connection import PostgresConnection

_log = logging.getLogger(__name__)

_PAUSE_SECONDS = 0.5


class Listener:
    """Calls, on the event loop, `on_notice` with channel and payload, and `on_change` whenever it begins (True) or ends
    (False) to hear: what came in between is lost and has to be looked up."""

    def __init__(
        self,
        address: PostgresAddress,
        channels: Sequence[str],
        *,
        on_notice: Callable[[str, str], None],
        on_change: Callable[[bool], None],
    ) -> None:
        self._address = address
        self._channels = tuple(channels)
        self._on_notification = on_notice
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._connection: PostgresConnection | None = None
        self._thread = threading.Thread(target=self._run, name="database listener", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Hear nothing any more. Safe to call twice."""
        self._closing.set()
        if self._connection is not None:
            self._connection.cut()
        await asyncio.to_thread(self._thread.join)

    # -- on the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                if not self._closing.is_set():
                    _log.info("notices of other processes are not heard: %s", self._address.hide(str(error).strip()))
            self._closing.wait(_PAUSE_SECONDS)

    def _listen(self) -> None:
        self._connection = connection = PostgresConnection.open(self._address)
        try:
            for channel in self._channels:
                connection.execute(f'LISTEN "{channel}"')
            if self._closing.is_set():  # `close` may have looked before there was a connection to cut
                return
            self._tell(self._on_change, True)
            try:
                for notice in connection.raw.notifies():
                    self._tell(self._on_notification, notice.channel, notice.payload)
            finally:
                self._tell(self._on_change, False)
        finally:
            self._connection = None
            connection.close()

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        if not self._closing.is_set():
            self._loop.call_soon_threadsafe(call, *arguments)
