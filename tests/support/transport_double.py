"""The line between the bot and Discord, where a test holds, breaks or swallows single calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import discord
from discord.http import Route
from simcord.http.client import FakeWebhookAdapter

ORIGINAL = "/webhooks/{webhook_id}/{webhook_token}/messages/@original"
IN_CHANNEL = "/channels/{channel_id}/messages/{message_id}"
POSTED = "/channels/{channel_id}/messages"


class Line:
    """Every call on a single message passes `on_call(method, path template, has files)` first, on either road.

    The first answers to interactions do not: they are calls of their own kind.
    """

    def __init__(self, client: discord.Client) -> None:
        self.calls: list[tuple[str, str, bool]] = []
        self.on_call: Callable[[str, str, bool], Awaitable[None]] = _nothing
        self._through = client.http.request
        client.http.request = self._request
        # Both the bot's own edits and the answers of discord.py end here; the stage sets it back after the test.
        adapter: Any = FakeWebhookAdapter
        through = adapter.request

        async def edit(self: Any, route: Route, session: Any, *, files: Any = None, **more: Any) -> Any:
            if route.method == "PATCH":
                await line._pass(route, files)
            return await through(self, route, session, files=files, **more)

        line = self
        adapter.request = edit

    async def _request(self, route: Route, *, files: Any = None, **more: Any) -> Any:
        await self._pass(route, files)
        return await self._through(route, files=files, **more)

    async def _pass(self, route: Route, files: Any) -> None:
        call = (route.method, route.path, bool(files))
        self.calls.append(call)
        await self.on_call(*call)

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
