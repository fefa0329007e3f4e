"""The line between the bot and Discord, where a test holds, breaks or swallows single calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import discord
from discord.http import Route

ORIGINAL = "/webhooks/{webhook_id}/{webhook_token}/messages/@original"
IN_CHANNEL = "/channels/{channel_id}/messages/{message_id}"
POSTED = "/channels/{channel_id}/messages"


class Line:
    """Every call of the bot's own HTTP client passes `on_call(method, path template, has files)` first.

    Answers to interactions go another way: they pass `on_answer(path)` after Discord has acted on them.
    """

    def __init__(self, client: discord.Client) -> None:
        self.calls: list[tuple[str, str, bool]] = []
        self.on_call: Callable[[str, str, bool], Awaitable[None]] = _nothing
        self._through = client.http.request
        client.http.request = self._request

    async def _request(self, route: Route, *, files: Any = None, **more: Any) -> Any:
        call = (route.method, route.path, bool(files))
        self.calls.append(call)
        await self.on_call(*call)
        return await self._through(route, files=files, **more)

    def count(self, method: str, path: str) -> int:
        return sum(call[:2] == (method, path) for call in self.calls)


async def _nothing(*_: object) -> None:
    return


def refused(status: int, code: int = 0) -> discord.HTTPException:
    """What discord.py raises for such an answer."""
    response: Any = SimpleNamespace(status=status, reason="for a test")
    kind = {403: discord.Forbidden, 404: discord.NotFound}.get(status, discord.HTTPException)
    kind = discord.DiscordServerError if status >= 500 else kind
    return kind(response, {"code": code, "message": "for a test"})
