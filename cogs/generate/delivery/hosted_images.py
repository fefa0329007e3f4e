"""Hosted images: cleaned copies of input images at Discord, for providers that fetch them from an address.

The copy is attached to the reply of the order, where no component shows it. Its name says nothing about the member's
file, which the provider never sees.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from weakref import WeakValueDictionary

import aiohttp
import discord

from bot.domain.errors import ImagesNotHosted, MediaError
from bot.domain.jobs import Reply, ReplyAddress, StoredImage
from bot.runtime.retry import retrying
from bot.service.job_service import JobService
from cogs.ui.attachments import upload
from cogs.ui.discord_api.discord_errors import may_pass
from cogs.ui.discord_api.message_api import MessageApi

HOSTING_TIMEOUT_SECONDS = 120.0
"""For attaching the images of an order, retries included. A provider's slot is held meanwhile."""

MAX_REPLIES = 1000
"""Replies whose addresses are kept: another process may end them. Images of an older one are attached again."""

_NAME_DIGITS = 16


class HostedImages:
    """Attaches input images to replies. The orders of one reply share the copies."""

    def __init__(self, messages: MessageApi, service: JobService) -> None:
        self._messages = messages
        self._service = service
        self._urls: OrderedDict[str, dict[str, str]] = OrderedDict()
        """Where each image is, by its SHA-256, by reply, the newest last. Discord's addresses hold for a day."""
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def host(self, reply: Reply, images: Sequence[StoredImage]) -> list[str]:
        """Return an address for each image, valid for a day. Raises ImagesNotHosted."""
        contents = {image.sha256: image for image in images}
        async with self._locks.setdefault(reply.id, asyncio.Lock()):
            urls = self._urls.get(reply.id, {})
            if not contents.keys() <= urls.keys():
                urls = self._urls[reply.id] = await self._attach(reply, list(contents.values()))
                if len(self._urls) > MAX_REPLIES:
                    self._urls.popitem(last=False)
        return [urls[image.sha256] for image in images]

    def forget(self, reply_id: str) -> None:
        """Forget where the images of a finished reply are; its last edit has removed them."""
        self._urls.pop(reply_id, None)

    async def _attach(self, reply: Reply, images: Sequence[StoredImage]) -> dict[str, str]:
        try:
            async with asyncio.timeout(HOSTING_TIMEOUT_SECONDS):
                files = {image.sha256: await self._postable(image, reply) for image in images}
                found = await retrying(
                    partial(self._attach_once, reply.address, files),
                    on=may_pass,
                    first_pause_seconds=1,
                    max_pause_seconds=15,
                )
        except TimeoutError as error:
            raise ImagesNotHosted(f"not attached within {HOSTING_TIMEOUT_SECONDS:g} s") from error
        except (discord.HTTPException, aiohttp.ClientError, OSError, MediaError) as error:
            raise ImagesNotHosted(f"not attached: {error}") from error
        try:
            return {sha256: found[name] for sha256, (name, _) in files.items()}
        except KeyError as error:
            raise ImagesNotHosted(f"Discord's answer does not list {error}") from error

    async def _postable(self, image: StoredImage, reply: Reply) -> tuple[str, bytes]:
        """Return name and bytes of a copy that fits into a message of the reply."""
        fitting = await self._service.image_pool.shrink_to(
            image.data, reply.address.file_limit_bytes, is_result=False, requester=reply.requester
        )
        return f"input-{image.sha256[:_NAME_DIGITS]}.{fitting.extension}", fitting.data

    async def _attach_once(self, address: ReplyAddress, files: dict[str, tuple[str, bytes]]) -> dict[str, str]:
        by_token = address.token_is_usable(self._service.now())
        if not by_token and (address.is_token_only or address.message_id is None):
            raise ImagesNotHosted("the reply can no longer be edited")
        uploads = [upload(data, name) for name, data in files.values()]
        return await self._messages.attach(address, uploads, by_token=by_token)
