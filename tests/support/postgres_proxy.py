"""A line to the PostgreSQL server that can be cut, held and closed, by the byte that a test chooses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Literal, Self

Moment = Literal["before COMMIT arrives", "after COMMIT took place"]


class Proxy:
    """Listens on `port` and passes everything on, until it is told otherwise."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
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
        self._listener = await asyncio.start_server(self._pass_on, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Nobody gets through any more."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.cut()
        self._flowing.set()
        await asyncio.sleep(0)

    def cut(self) -> None:
        """Break what is connected."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def hold(self) -> None:
        """Say nothing more, in either direction, and leave the line open."""
        self._flowing.clear()

    def let_go(self) -> None:
        self._flowing.set()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            back, onwards = await asyncio.open_connection("127.0.0.1", self._server_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, onwards}
        answers = asyncio.create_task(self._answers(back, writer))
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if self.cut_at is not None and b"COMMIT\0" in data:
                    moment, self.cut_at = self.cut_at, None
                    self.cuts += 1
                    answers.cancel()
                    await asyncio.wait({answers})
                    if moment == "after COMMIT took place":
                        onwards.write(data)
                        await back.read(65_536)
                    if self.closes_when_cutting:
                        await self.close()
                    break
                onwards.write(data)
        answers.cancel()
        for each in (writer, onwards):
            self._writers.discard(each)
            each.transport.abort()

    async def _answers(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await back.read(65_536):
                await self._flowing.wait()
                writer.write(data)
        writer.transport.abort()
