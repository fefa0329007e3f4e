"""The order desk: what /imagine, /edit, the menu and the buttons share. Take an order, show its card."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import discord

from bot.domain.errors import DuplicateCommand, MediaError, RequestRefused, StoreError, UnusableImage
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest, Reply
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.spending_alerts import SpendingAlerts
from cogs.generate.permissions import permissions_of
from cogs.text import audience, refusals
from cogs.ui import card as render
from cogs.ui.attachments import PostedFile
from cogs.ui.checks import ClickDebouncer, member_of
from cogs.ui.components import Layout
from cogs.ui.initial_response import InitialResponse, NotShown, address_of
from cogs.ui.message_api import MessageApi

_log = logging.getLogger(__name__)

INPUT_MAX_BYTES = 25_000_000
"""An attached picture may be this large; more than enough for 50 megapixels of JPEG."""

DEFAULT_MODEL = ""
"""In a request: the member named no model."""


class OrderFlow:
    """Hands orders over to the service and shows the first card; everything after that belongs to `Replies`."""

    def __init__(
        self,
        *,
        service: JobService,
        messages: MessageApi,
        warnings: SpendingAlerts,
        cdn_hosts: tuple[str, ...],
        default_model: str,
    ) -> None:
        self.service = service
        self.messages = messages
        self.default_model = default_model
        self.presses = ClickDebouncer()
        self._warnings = warnings
        self._cdn_hosts = cdn_hosts
        self._closed = False
        self._answering: set[asyncio.Task[Any]] = set()

    def close(self) -> None:
        """Take no new orders: the bot is stopping."""
        self._closed = True

    async def answered(self) -> None:
        """Wait until whoever asked or ordered before `close` has an answer."""
        if self._answering:
            await asyncio.wait(set(self._answering))

    def answer(self, interaction: discord.Interaction[Any], *, private: bool) -> InitialResponse:
        """The first response to this interaction."""
        return InitialResponse(interaction, self.messages, private=private)

    async def default_model_for(self, interaction: discord.Interaction[Any], kind: JobKind) -> str:
        """The id of the model for who names none."""
        permissions = await permissions_of(self.service, interaction)
        return permissions.default_model(self.service, kind, self.default_model)

    async def order(
        self,
        interaction: discord.Interaction[Any],
        request: JobRequest,
        *,
        attachments: Sequence[tuple[discord.Attachment | PostedFile, ImageRole]] = (),
        count: int = 1,
        private: bool = False,
    ) -> None:
        """Read the attachments, admit `count` jobs and show their card; or say privately why not.

        The request may leave the model to the server's moderators: DEFAULT_MODEL.
        """
        began = time.perf_counter()
        self.remember_to_answer()
        async with self.answer(interaction, private=private) as answer:
            try:
                view = await self._admit(interaction, request, attachments, count=count, private=private)
            except DuplicateCommand:
                return
            except RequestRefused as error:
                self.service.metrics.order(type(error).__name__)
                await answer.refuse(refusals.refusal(error))
                return
            except StoreError:
                _log.exception("an order could not be written down")
                self.service.metrics.order(StoreError.__name__)
                await answer.refuse(refusals.BOOKS_UNAVAILABLE())
                return
            except _Closed:
                await answer.refuse(refusals.SHUTTING_DOWN())
                return
            if await self._show(answer, view.reply, render.card(view), began=began):
                await self._warnings.after(interaction, view)

    async def _admit(
        self,
        interaction: discord.Interaction[Any],
        request: JobRequest,
        attachments: Sequence[tuple[discord.Attachment | PostedFile, ImageRole]],
        *,
        count: int,
        private: bool,
    ) -> ReplyView:
        """Everything that may stand in the way of an order. Raises _Closed, RequestRefused, StoreError."""
        if self._closed:
            raise _Closed
        permissions = await permissions_of(self.service, interaction)
        if request.model_id == DEFAULT_MODEL:
            model_id = permissions.default_model(self.service, request.kind, self.default_model)
            request = replace(request, model_id=model_id)
        permissions.check(self.service, request)
        images = request.images
        if attachments:
            images = await self.read(attachments, request)
            # Once more: reading takes a while, and a moderator may have decided something meanwhile.
            permissions = await permissions_of(self.service, interaction)
            permissions.check(self.service, request)
        requests = [_with_images(request, images, number) for number in range(count)]
        language = audience.language_of_answer(interaction, permissions.policy, private=private)
        address = address_of(interaction, private=private, language=language)
        return await self.service.admit(requests, member=member_of(interaction), address=address)

    def remember_to_answer(self) -> None:
        """Whoever is served by the task at work gets an answer before the bot stops."""
        task = asyncio.current_task()
        if task is not None and task not in self._answering:
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    async def _show(self, answer: InitialResponse, reply: Reply, card: Layout, *, began: float) -> bool:
        """Nothing is bought before Discord accepted the card; if it did not, everything is given back."""
        try:
            shown = await asyncio.shield(answer.show(card))
        except NotShown as error:
            _log.warning("reply %s was not accepted by Discord", reply.id)
            self.service.metrics.order(NotShown.__name__)
            await self.service.abandon(reply, surely_unseen=error.surely)
            return False
        self.service.metrics.order("accepted")
        self.service.metrics.answered(time.perf_counter() - began)
        await self.service.accept(reply, message_id=shown.message_id)
        return True

    async def files_of(self, reply: Reply, *, within_seconds: float) -> list[PostedFile] | None:
        """The files of a posted reply under fresh addresses; none when it is gone, None when Discord does not say."""
        address = reply.address
        if address.message_id is None:
            return []
        try:
            async with asyncio.timeout(within_seconds):
                return await self.messages.files(address.channel_id, address.message_id)
        except (discord.NotFound, discord.Forbidden):
            return []
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("the files of reply %s could not be asked for: %s", reply.id, error)
            return None

    async def read(
        self, attachments: Sequence[tuple[discord.Attachment | PostedFile, ImageRole]], request: JobRequest
    ) -> tuple[ImageInput, ...]:
        """Fetch, check and clean the attached pictures, all at once.

        Raises UnusableImage, UnknownModel, ModelUnavailable.
        """
        uploads = self.service.takes_uploads(request.model_id)
        return tuple(
            await asyncio.gather(*(self._read_one(attachment, role, uploads) for attachment, role in attachments))
        )

    async def _read_one(
        self, attachment: discord.Attachment | PostedFile, role: ImageRole, uploads: bool
    ) -> ImageInput:
        name = attachment.filename
        if attachment.size > INPUT_MAX_BYTES:
            raise UnusableImage(name, "too_many_bytes", limit_bytes=INPUT_MAX_BYTES)
        try:
            data = await self.service.attachment_downloader.download(
                attachment.url, max_bytes=INPUT_MAX_BYTES, allowed_hosts=self._cdn_hosts
            )
            # A provider that fetches by address gets the file as it is: then it must not tell where it was taken.
            if not uploads and await self.service.image_pool.has_location(data):
                raise UnusableImage(name, "location_data")
            clean = await self.service.image_pool.clean_input(data, name)
        except MediaError as error:
            _log.info("attachment not usable: %s", error)
            raise UnusableImage(name, error.reason) from error
        sha256 = await self.service.blob_store.put(clean.data)
        return ImageInput(
            sha256=sha256,
            role=role,
            content_type=clean.content_type,
            width=clean.width,
            height=clean.height,
            public_url=None if uploads else attachment.url,
        )


class _Closed(Exception):
    """The bot is stopping."""


def _with_images(request: JobRequest, images: tuple[ImageInput, ...], number: int) -> JobRequest:
    """The order for picture `number` of a command. A given seed counts up, or all pictures would be equal."""
    options = dict(request.options)
    if number and isinstance(seed := options.get("seed"), int):
        options["seed"] = seed + number
    return replace(request, options=options, images=images)
