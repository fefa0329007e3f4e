"""Message API: sends, edits and reads single messages, by interaction token while it is valid, else by bot token.

An edit by interaction token can be sent in two ways. discord.py's webhook adapter holds one lock for each token while a
rate limit lasts, so a status edit in progress would delay a finished image (measured). The final edit then uses the
client's own HTTP machinery instead, which also handles buckets, retries and 429s. It is not used for every edit because
it keeps a bucket for each token for five minutes and scans all of them for every new one: with thousands of running
jobs that takes most of the processor time (measured).
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

from bot.domain.jobs import NO_CHANNEL_ID, Reply, ReplyAddress
from bot.runtime.sealing import Sealer
from cogs.ui.attachments import PostedFile, files_of, ids_of, urls_of
from cogs.ui.components import Layout
from cogs.ui.discord_api.discord_errors import with_readable_errors

_log = logging.getLogger(__name__)

NO_MENTIONS = discord.AllowedMentions.none()
_NO_MENTIONS_JSON: Mapping[str, Any] = NO_MENTIONS.to_dict()
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_COMPONENTS_V2 = 1 << 15
"""The flag of a message that consists of components only."""

WEBHOOK_TIMEOUT_SECONDS = 300.0
"""The webhook adapter of discord.py waits for as long as a rate limit says, which may be longer than a token lives."""


_UNREADABLE = "unreadable"


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedMessage:
    """A message at Discord; `attachment_ids` by filename."""

    message_id: int
    channel_id: int
    attachment_ids: dict[str, int]


class MessageApi:
    """Calls for single messages. They raise discord.HTTPException, aiohttp.ClientError or OSError unless noted.

    An answer that cannot be read raises UnreadableAnswer, which is an aiohttp.ClientError.
    """

    def __init__(self, client: discord.Client, sealer: Sealer) -> None:
        # Not `client.http`: it may be replaced until the client has logged in.
        self._client = client
        self._sealer = sealer

    @with_readable_errors
    async def edit(
        self,
        address: ReplyAddress,
        layout: Layout,
        *,
        files: Sequence[discord.File] | None = None,
        by_token: bool,
        overtake: bool = False,
    ) -> PostedMessage:
        """Replace the layout of a reply. `files` replace its attachments; with None they stay.

        `overtake`: do not wait for another edit by the same token that may be under way.
        """
        if by_token and not overtake:
            return _posted(await self._edit_by_webhook(address, _message(layout, files), files or ()))
        return _posted(
            await self._send(self._edit_route(address, by_token=by_token), _message(layout, files), files or ())
        )

    @with_readable_errors
    async def attach(self, address: ReplyAddress, files: Sequence[discord.File], *, by_token: bool) -> dict[str, str]:
        """Attach files to a reply in place of its attachments, and return their addresses by filename."""
        message = {"attachments": [file.to_dict(index) for index, file in enumerate(files)]}
        return urls_of(await self._send(self._edit_route(address, by_token=by_token), message, files))

    async def _edit_by_webhook(
        self, address: ReplyAddress, message: dict[str, Any], files: Sequence[discord.File]
    ) -> dict[str, Any]:
        token = self._token(address)
        webhook = discord.Webhook.partial(address.application_id, token, client=self._client)
        # As Webhook.edit_message does, but without building a message object.
        async with asyncio.timeout(WEBHOOK_TIMEOUT_SECONDS):
            response = await async_context.get().edit_original_interaction_response(
                address.application_id,
                token,
                session=webhook.session,
                proxy=webhook.proxy,
                proxy_auth=webhook.proxy_auth,
                payload=None if files else message,
                multipart=_form(message, files) if files else None,
                files=files,
            )
        return cast("dict[str, Any]", response)

    @with_readable_errors
    async def post(
        self,
        channel_id: int,
        layout: Layout,
        *,
        files: Sequence[discord.File] = (),
        nonce: str,
        notify: int | None = None,
    ) -> PostedMessage:
        """Post a new message that pings only user `notify`. Discord posts a `nonce` only once within some minutes."""
        route = Route("POST", "/channels/{channel_id}/messages", channel_id=channel_id)
        mentions = {"parse": [], "users": [] if notify is None else [notify]}
        message = _message(layout, files or None, mentions=mentions) | {"nonce": nonce[:25], "enforce_nonce": True}
        return _posted(await self._send(route, message, files))

    @with_readable_errors
    async def delete(self, channel_id: int, message_id: int) -> None:
        """Delete a message of the bot."""
        route = Route(
            "DELETE", "/channels/{channel_id}/messages/{message_id}", channel_id=channel_id, message_id=message_id
        )
        await self._client.http.request(route)

    @with_readable_errors
    async def delete_by_token(self, address: ReplyAddress) -> None:
        """Delete the message of a reply by its interaction token, which also reaches one that only its member sees."""
        await self._client.http.request(self._original_route("DELETE", address))

    @with_readable_errors
    async def open_direct_channel(self, user_id: int) -> int:
        """Open the channel for direct messages to a user and return its id."""
        data: dict[str, Any] = await self._client.http.request(
            Route("POST", "/users/@me/channels"), json={"recipient_id": user_id}
        )
        return int(data["id"])

    @with_readable_errors
    async def original(self, address: ReplyAddress) -> PostedMessage:
        """Read a reply by its token."""
        return _posted(await self._client.http.request(self._original_route("GET", address)))

    @with_readable_errors
    async def search(self, address: ReplyAddress) -> PostedMessage | None:
        """Find the reply to a command among the messages that follow the command; None if it is not there."""
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=address.channel_id)
        found: list[dict[str, Any]] = await self._client.http.request(
            route, params={"after": address.interaction_id, "limit": 100}
        )
        for message in found:
            interaction: dict[str, Any] = message.get("interaction_metadata") or {}
            if interaction.get("id") == str(address.interaction_id):
                return _posted(message)
        return None

    @with_readable_errors
    async def posted(self, channel_id: int, *, job_id: str, after: int) -> PostedMessage | None:
        """Find our own message about a job among those that follow the message or command `after`."""
        route = Route("GET", "/channels/{channel_id}/messages", channel_id=channel_id)
        found: list[dict[str, Any]] = await self._client.http.request(route, params={"after": after, "limit": 100})
        assert self._client.user is not None, "replies are shown only after the login"
        ours = [message for message in found if message["author"]["id"] == str(self._client.user.id)]
        return next((_posted(message) for message in ours if job_id in str(message["components"])), None)

    @with_readable_errors
    async def files(self, channel_id: int, message_id: int) -> list[PostedFile]:
        """Read the files of a posted message, under URLs that are valid for a day."""
        message = await self._client.get_partial_messageable(channel_id).fetch_message(message_id)
        return files_of(message)

    async def files_of_reply(self, reply: Reply, *, timeout_seconds: float) -> list[PostedFile] | None:
        """Read the files of a posted reply, under fresh URLs.

        [] if the message is gone, None if Discord does not answer. Raises nothing.
        """
        address = reply.address
        if address.message_id is None or address.channel_id == NO_CHANNEL_ID:
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

    def _edit_route(self, address: ReplyAddress, *, by_token: bool) -> Route:
        if by_token:
            return self._original_route("PATCH", address)
        return Route(
            "PATCH",
            "/channels/{channel_id}/messages/{message_id}",
            channel_id=address.channel_id,
            message_id=address.message_id,
        )

    def _original_route(self, method: str, address: ReplyAddress) -> Route:
        """Return the route to the first answer of a command by its interaction token."""
        return Route(
            method,
            "/webhooks/{webhook_id}/{webhook_token}/messages/@original",
            webhook_id=address.application_id,
            webhook_token=self._token(address),
        )

    def _token(self, address: ReplyAddress) -> str:
        """Return the interaction token; one that cannot be read is for Discord as if it had expired."""
        assert address.token is not None, "only a reply with a token is edited by it"
        return self._sealer.open(address.token) or _UNREADABLE

    async def _send(self, route: Route, message: dict[str, Any], files: Sequence[discord.File]) -> dict[str, Any]:
        if files:
            return await self._client.http.request(route, files=files, form=_form(message, files))
        return await self._client.http.request(route, json=message)


def _message(
    layout: Layout, files: Sequence[discord.File] | None, *, mentions: Mapping[str, Any] = _NO_MENTIONS_JSON
) -> dict[str, Any]:
    """Return a message as Discord's JSON. `files` replace its attachments; with None they stay."""
    message = {"components": layout, "flags": _COMPONENTS_V2, "tts": False, "allowed_mentions": mentions}
    if files is not None:
        message["attachments"] = [file.to_dict(index) for index, file in enumerate(files)]
    return message


def _form(message: dict[str, Any], files: Sequence[discord.File]) -> list[dict[str, Any]]:
    """Return the multipart form of a message with files."""
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


def _posted(message: dict[str, Any]) -> PostedMessage:
    return PostedMessage(
        message_id=int(message["id"]),
        channel_id=int(message["channel_id"]),
        attachment_ids=ids_of(message),
    )
