"""The listener: receives notifications from other processes in an asyncio task, and reconnects when cut off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from bot.domain.deployment.database_url import PostgresAddress
from bot.store.postgres.connection import open_async_connection

_log = logging.getLogger(__name__)

_RECONNECT_PAUSE_SECONDS = 0.5


class Listener:
    """One connection that listens on `channel`. Needs a running event loop.

    `on_notification` is called with the payload of each notification. `on_listening` is called with
    True when the connection begins to listen and with False when it breaks: notifications sent in between are lost, so
    the caller has to read again what they would have announced.
    """

    def __init__(
        self,
        address: PostgresAddress,
        channel: str,
        *,
        on_notification: Callable[[str], None],
        on_listening: Callable[[bool], None],
    ) -> None:
        self._address = address
        self._channel = channel
        self._on_notification = on_notification
        self._on_listening = on_listening
        self._is_cut_off = False
        self._task = asyncio.create_task(self._run(), name="database listener")

    async def close(self) -> None:
        """Stop listening and close the connection. Safe to call twice."""
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except Exception as error:  # also a process without free descriptors; an ended task would go unnoticed
                if not self._is_cut_off:  # said once, not at each of two attempts a second
                    reason = self._address.hide(" ".join(str(error).split())) or type(error).__name__
                    _log.warning("not listening for notifications of other processes: %s", reason)
                self._is_cut_off = True
            await asyncio.sleep(_RECONNECT_PAUSE_SECONDS)

    async def _listen(self) -> None:
        connection = await open_async_connection(self._address)
        # `call_soon`, so that an error in a callback ends neither this task nor the connection.
        call_soon = asyncio.get_running_loop().call_soon
        try:
            await connection.execute(f'LISTEN "{self._channel}"'.encode())
            call_soon(self._on_listening, True)
            if self._is_cut_off:
                _log.info("listening for notifications of other processes again")
            self._is_cut_off = False
            try:
                async for notification in connection.notifies():
                    call_soon(self._on_notification, notification.payload)
            except Exception:
                call_soon(self._on_listening, False)
                raise
        finally:
            await connection.close()
