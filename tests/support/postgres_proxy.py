"""A TCP proxy before the PostgreSQL server, which can cut, hold and refuse connections at a chosen moment."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal, Self

Moment = Literal["before COMMIT arrives", "after COMMIT was executed"]


class Proxy:
    """Listens on `port` and forwards every byte, until a test breaks it."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._is_forwarding = asyncio.Event()
        self._is_forwarding.set()
        self.port = 0
        self.cut_at: Moment | None = None
        self.cuts = 0
        self.closes_when_cutting = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Accept connections."""
        self._listener = await asyncio.start_server(self._forward, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Refuse new connections and break the open ones."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        self._is_forwarding.set()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Break the open connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def hold(self) -> None:
        """Forward nothing in either direction, and keep the connections open."""
        self._is_forwarding.clear()

    def resume(self) -> None:
        """Forward again, after `hold`."""
        self._is_forwarding.set()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_server}
        responses = asyncio.create_task(self._forward_responses(from_server, writer))
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._is_forwarding.wait()
                if self.cut_at is not None and b"COMMIT\0" in data:
                    moment, self.cut_at = self.cut_at, None
                    self.cuts += 1
                    responses.cancel()
                    await asyncio.wait({responses})
                    if moment == "after COMMIT was executed":
                        to_server.write(data)
                        await from_server.read(65_536)
                    if self.closes_when_cutting:
                        await self.close()
                    break
                to_server.write(data)
        responses.cancel()
        for each in (writer, to_server):
            self._writers.discard(each)
            each.transport.abort()

    async def _forward_responses(self, from_server: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await from_server.read(65_536):
                await self._is_forwarding.wait()
                writer.write(data)
        writer.transport.abort()
