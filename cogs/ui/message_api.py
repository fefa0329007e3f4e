"""Messages: showing and editing one message in Discord through whichever door is still open.

There are two roads for an edit through a command's token. discord.py's webhook adapter holds one lock per token, for as
long as a rate limit asks for, so an edit that is under way there would hold up a finished picture (measured); the
picture then overtakes on the other road, the client's own HTTP machinery, which handles buckets, retries and 429s all
the same. That one is not taken for everything because it keeps a bucket for each token, for five minutes, and looks
through all of them whenever a new one comes: beside thousands of running jobs that is most of the work (measured).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import discord
from discord.http import Route
from discord.webhook.async_ import async_context

from bot.domain.jobs import Reply, ReplyAddress
from cogs.ui.attachments import PostedFile, files_of, ids_of
from cogs.ui.components import Layout

_log = logging.getLogger(__name__)

NOBODY = discord.AllowedMentions.none()
_NOTIFY_NOBODY: Mapping[str, Any] = NOBODY.to_dict()
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_COMPONENTS_V2 = 1 << 15
"""The flag of a message that is nothing but components."""

_FILE_TOO_LARGE = 40005


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedMessage:
    """A message as Discord has it now: attachment ids by file name."""

    message_id: int
    channel_id: int
    attachment_ids: dict[str, int]


class MessageApi:
    """Calls on single messages. All raise discord.HTTPException, aiohttp.ClientError or OSError when they fail."""

    def __init__(self, client: discord.Client) -> None:
        # Not its `http` itself: that may be exchanged until the client logs in.
        self._client = client

    async def edit(
        self,
        address: ReplyAddress,
        layout: Layout,
        *,
        files: Sequence[discord.File] = (),
        by_token: bool,
        overtake: bool = False,
    ) -> PostedMessage:
        """Replace the layout of a reply and add `files`. Attachments already there stay unless new files come.

        `overtake` when an edit through the token may be under way that this one must not wait for.
        """
        if by_token and not overtake:
            return _shown(await self._edit_by_webhook(address, _message(layout, files), files))
        if by_token:
            route = Route(
                "PATCH",
                "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
                webhook_id=address.application_id,
                webhook_token=address.token,
            )
        else:
            route = Route(
                "PATCH",
                "/channels/{channel_id}/messages/{message_id}",
                channel_id=address.channel_id,
                message_id=address.message_id,
            )
        return _shown(await self._send(route, _message(layout, files), files))

    async def _edit_by_webhook(
        self, address: ReplyAddress, message: dict[str, Any], files: Sequence[discord.File]
    ) -> dict[str, Any]:
        assert address.token is not None, "whoever edits through a token has one"
        webhook = discord.Webhook.partial(address.application_id, address.token, client=self._client)
        # What Webhook.edit_message does, without making the answer into a message that nobody wants.
        answer = await async_context.get().edit_original_interaction_response(
            address.application_id,
            address.token,
            session=webhook.session,
            proxy=webhook.proxy,
            proxy_auth=webhook.proxy_auth,
            payload=None if files else message,
            multipart=_form(message, files) if files else None,
            files=files,
        )
        return cast("dict[str, Any]", answer)

    async def post(
        self,
        channel_id: int,
        layout: Layout,
        *,
        files: Sequence[discord.File] = (),
        nonce: str,
        notify: int | None = None,
    ) -> PostedMessage:
        """A new message that notifies `notify` and nobody else. The same `nonce` within minutes posts only once."""
        route = Route("POST", "/channels/{channel_id}/messages", channel_id=channel_id)
        only_them = {"parse": [], "users": [] if notify is None else [notify]}
        message = _message(layout, files, notify=only_them) | {"nonce": nonce[:25], "enforce_nonce": True}
        return _shown(await self._send(route, message, files))

    async def open_direct_channel(self, user_id: int) -> int:
        """The channel for direct messages to a user."""
        data: dict[str, Any] = await self._client.http.request(
            Route("POST", "/users/@me/channels"), json={"recipient_id": user_id}
        )
        return int(data["id"])

    async def original(self, address: ReplyAddress) -> PostedMessage:
        """The reply itself, read through its token."""
        route = Route(
            "GET",
            "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
            webhook_id=address.application_id,
            webhook_token=address.token,
        )
        return _shown(await self._client.http.request(route))

    async def search(self, address: ReplyAddress) -> PostedMessage | None:
        """Look for the reply to a command among the messages that came right after it."""
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=address.channel_id)
        found: list[dict[str, Any]] = await self._client.http.request(
            route, params={"after": address.interaction_id, "limit": 100}
        )
        for message in found:
            interaction: dict[str, Any] = message.get("interaction_metadata") or {}
            if interaction.get("id") == str(address.interaction_id):
                return _shown(message)
        return None

    async def posted(self, channel_id: int, *, job_id: str, after: int) -> PostedMessage | None:
        """Our own message about a job, among those that came right after the message or command `after`."""
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=channel_id)
        found: list[dict[str, Any]] = await self._client.http.request(route, params={"after": after, "limit": 100})
        assert self._client.user is not None, "whoever shows a reply is logged in"
        ours = [message for message in found if message["author"]["id"] == str(self._client.user.id)]
        return next((_shown(message) for message in ours if job_id in str(message["components"])), None)

    async def files(self, channel_id: int, message_id: int) -> list[PostedFile]:
        """The files of a posted message, under addresses that are good for a day."""
        message = await self._client.get_partial_messageable(channel_id).fetch_message(message_id)
        return files_of(message)

    async def files_of_reply(self, reply: Reply, *, timeout_seconds: float) -> list[PostedFile] | None:
        """Read the files of a posted reply, under fresh URLs.

        [] if the message is gone, None if Discord does not answer. Raises nothing.
        """
        address = reply.address
        if address.message_id is None:
            return []
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self.files(address.channel_id, address.message_id)
        except (discord.NotFound, discord.Forbidden):
            return []
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info(
                "could not read the files of reply %s of member %d in server %d: %s",
                reply.id,
                reply.user_id,
                address.guild_id,
                error,
            )
            return None

    async def _send(self, route: Route, message: dict[str, Any], files: Sequence[discord.File]) -> dict[str, Any]:
        if files:
            return await self._client.http.request(route, files=files, form=_form(message, files))
        return await self._client.http.request(route, json=message)


def is_transient(error: Exception) -> bool:
    """Return whether a later retry may succeed."""
    if isinstance(error, discord.HTTPException):
        return error.status >= 500 or error.status == 429
    return isinstance(error, (aiohttp.ClientError, OSError, asyncio.TimeoutError, discord.RateLimited))


def is_too_large(error: discord.HTTPException) -> bool:
    """Whether it was the size of the files that Discord did not take."""
    return error.code == _FILE_TOO_LARGE or error.status == 413


def _message(
    layout: Layout, files: Sequence[discord.File], *, notify: Mapping[str, Any] = _NOTIFY_NOBODY
) -> dict[str, Any]:
    """A message as Discord takes it. What it had attached is replaced by `files`, or stays where there are none."""
    message = {"components": layout, "flags": _COMPONENTS_V2, "tts": False, "allowed_mentions": notify}
    if files:
        message["attachments"] = [file.to_dict(index) for index, file in enumerate(files)]
    return message


def _form(message: dict[str, Any], files: Sequence[discord.File]) -> list[dict[str, Any]]:
    """The same with its files, field by field."""
    parts = [
        {
            "name": f"files[{index}]",
            "value": file.fp,
            "filename": file.filename,
            "content_type": "application/octet-stream",
        }
        for index, file in enumerate(files)
    ]
    return [{"name": "payload_json", "value": _to_json(message)}, *parts]


def _shown(message: dict[str, Any]) -> PostedMessage:
    return PostedMessage(
        message_id=int(message["id"]),
        channel_id=int(message["channel_id"]),
        attachment_ids=ids_of(message),
    )
