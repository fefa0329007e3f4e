"""A transport double between the bot and Discord: a test delays, fails or drops single calls."""

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


class TransportDouble:
    """Calls `on_call(method, path template, has files)` before every call for a single message, by token or as the bot.

    Initial responses to interactions are not intercepted.
    """

    def __init__(self, client: discord.Client) -> None:
        self.calls: list[tuple[str, str, bool]] = []
        self.on_call: Callable[[str, str, bool], Awaitable[None]] = _do_nothing
        self._through = client.http.request
        client.http.request = self._request
        # The bot's own edits and the responses of discord.py both use the adapter; the stage resets it after the test.
        adapter: Any = FakeWebhookAdapter
        through = adapter.request

        async def edit(self: Any, route: Route, session: Any, *, files: Any = None, **more: Any) -> Any:
            if route.method == "PATCH":
                await double._intercept(route, files)
            return await through(self, route, session, files=files, **more)

        double = self
        adapter.request = edit

    async def _request(self, route: Route, *, files: Any = None, **more: Any) -> Any:
        await self._intercept(route, files)
        return await self._through(route, files=files, **more)

    async def _intercept(self, route: Route, files: Any) -> None:
        call = (route.method, route.path, bool(files))
        self.calls.append(call)
        await self.on_call(*call)

    def count(self, method: str, path: str) -> int:
        return sum(call[:2] == (method, path) for call in self.calls)


async def _do_nothing(*_: object) -> None:
    return


def refused(status: int, code: int = 0) -> discord.HTTPException:
    """Return the error that discord.py raises for such a response."""
    response: Any = SimpleNamespace(status=status, reason="for a test")
    kind = {403: discord.Forbidden, 404: discord.NotFound}.get(status, discord.HTTPException)
    kind = discord.DiscordServerError if status >= 500 else kind
    return kind(response, {"code": code, "message": "for a test"})
