"""Gateway events: what discord.py cannot read is logged once for each kind and skipped, so that the process stays.

The library lets an error in one event end the client, and with it the bot in every server.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import discord
from discord.gateway import DiscordWebSocket, ReconnectWebSocket, WebSocketClosure
from discord.state import ConnectionState

_log = logging.getLogger(__name__)

_Parser = Callable[[Any], None]

_PARTS_OF_GUILD = (
    *("channels", "threads", "emojis", "stickers", "voice_states", "presences", "members"),
    *("stage_instances", "guild_scheduled_events", "soundboard_sounds"),
)
"""Lists in GUILD_CREATE, each of whose items the library reads by itself."""

_MEANT = (ReconnectWebSocket, WebSocketClosure, discord.ConnectionClosed, aiohttp.ClientError, OSError)
"""Raised on purpose while a frame is read, to end or renew the connection."""

_receive = DiscordWebSocket.received_message


class EventGuard:
    """Reads events through the library's own parsers. The first unreadable event of each kind is logged."""

    def __init__(self, connection: ConnectionState[Any]) -> None:
        self._connection = connection
        self._logged: set[str] = set()

    def install(self) -> None:
        """Guard every parser of this connection, and every frame of all connections."""
        parsers = self._connection.parsers
        for event, parse in list(parsers.items()):
            parsers[event] = self._guarded(event, parse)
        guard = self

        async def received_message(socket: DiscordWebSocket, message: Any, /) -> None:
            try:
                await _receive(socket, message)
            except _MEANT:
                raise
            except Exception as error:
                guard.skip("frame", error)

        DiscordWebSocket.received_message = received_message

    def skip(self, kind: str, error: Exception) -> None:
        """Log that something was skipped, once for each kind."""
        if kind not in self._logged:
            self._logged.add(kind)
            _log.error("a gateway event (%s) cannot be read and is skipped; told once", kind, exc_info=error)

    def _guarded(self, event: str, parse: _Parser) -> _Parser:
        def guarded(data: Any) -> None:
            try:
                parse(data)
            except Exception as error:
                self.skip(event, error)
                if event == "GUILD_CREATE":
                    self._read_rest(parse, data)

        return guarded

    def _read_rest(self, parse: _Parser, data: Any) -> None:
        """Read a server without the channels and other parts of it that cannot be read."""
        try:
            bare = {**data, **dict.fromkeys(_PARTS_OF_GUILD, ())}
            readable = {
                part: [item for item in data.get(part) or () if self._is_readable({**bare, part: [item]})]
                for part in _PARTS_OF_GUILD
            }
            parse({**bare, **readable})
        except Exception as error:
            self.skip("server", error)

    def _is_readable(self, data: Any) -> bool:
        try:
            discord.Guild(data=data, state=self._connection)
        except Exception:
            return False
        return True
