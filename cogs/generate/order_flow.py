"""Order flow: the one way from a command or button to an accepted order and its first card."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import discord

from bot.domain.errors import DuplicateCommand, MediaError, RequestRefused, StoreError, UnusableImage
from bot.domain.jobs import ImageInput, ImageRole, JobRequest
from bot.domain.quota import format_usd
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.spending_alerts import SpendingAlerts
from cogs.generate.permissions import default_model, permissions_of
from cogs.text import refusals
from cogs.text.locale import language_of_answer
from cogs.ui import card
from cogs.ui.attachments import PostedFile
from cogs.ui.checks import member_of
from cogs.ui.client import Interaction
from cogs.ui.initial_response import InitialResponse, NotShown, address_of
from cogs.ui.message_api import MessageApi

_log = logging.getLogger(__name__)

INPUT_MAX_BYTES = 25_000_000
"""Limit of an attached image; more than enough for 50 megapixels of JPEG."""

DEFAULT_MODEL = ""
"""Model id of a request whose member named no model."""

Attachments = Sequence[tuple[discord.Attachment | PostedFile, ImageRole]]


class OrderFlow:
    """Submits orders and shows their first card. `ReplyUpdater` shows every later state."""

    def __init__(
        self,
        *,
        service: JobService,
        messages: MessageApi,
        spending_alerts: SpendingAlerts,
        cdn_hosts: tuple[str, ...],
        default_model: str,
    ) -> None:
        self._service = service
        self._messages = messages
        self._spending_alerts = spending_alerts
        self._cdn_hosts = cdn_hosts
        self._default_model = default_model
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        """Tasks that handle an interaction."""

    def close(self) -> None:
        """Refuse new orders: the bot is stopping."""
        self._closed = True

    def track_current_task(self) -> None:
        """Let `drain` wait for the current task, which handles an interaction."""
        task = asyncio.current_task()
        if task is not None and task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until every interaction that is being handled has its response."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def submit(
        self,
        interaction: Interaction,
        request: JobRequest,
        *,
        attachments: Attachments = (),
        count: int = 1,
        private: bool = False,
    ) -> None:
        """Admit `count` jobs and show their card, or say privately why not.

        A request for DEFAULT_MODEL is for the model that the server's moderators, or else the operator, chose.
        """
        started_at = time.perf_counter()
        self.track_current_task()
        async with InitialResponse(interaction, self._messages, private=private) as response:
            if self._closed:
                await response.refuse(refusals.SHUTTING_DOWN())
                return
            try:
                view = await self._admit(interaction, request, attachments, count=count, private=private)
            except DuplicateCommand:
                return
            except RequestRefused as error:
                self._service.metrics.order(type(error).__name__)
                self._service.cost_alerts.order_refused(interaction.guild_id or 0, error)
                await response.refuse(refusals.refusal(error))
                return
            except StoreError:
                _log.exception(
                    "the database could not take an order of member %d in server %s",
                    interaction.user.id,
                    interaction.guild_id,
                )
                self._service.metrics.order(StoreError.__name__)
                await response.refuse(refusals.BOOKS_UNAVAILABLE())
                return
            # Nothing is bought before Discord has accepted the card; if it does not, everything is released.
            try:
                posted = await asyncio.shield(response.show(card.card(view)))
            except NotShown as error:
                _log_not_shown(view)
                self._service.metrics.order(NotShown.__name__)
                await self._service.abandon(view.reply, surely_unseen=error.surely)
                return
            self._service.metrics.order("accepted")
            self._service.metrics.answered(time.perf_counter() - started_at)
            await self._service.accept(view.reply, message_id=posted.message_id)
            await self._spending_alerts.check(interaction, view)

    async def _admit(
        self, interaction: Interaction, request: JobRequest, attachments: Attachments, *, count: int, private: bool
    ) -> ReplyView:
        """Check the permission, read the attachments, reserve the price. Raises RequestRefused, StoreError."""
        permissions = await permissions_of(self._service, interaction)
        if request.model_id == DEFAULT_MODEL:
            model_id = default_model(self._service, permissions.policy, kind=request.kind, fallback=self._default_model)
            request = replace(request, model_id=model_id)
        permissions.check(self._service, request)
        images = request.images
        if attachments:
            images = await self.read_attachments(attachments, request.model_id)
            # Reading takes a while, and a moderator may have changed the policy in the meantime.
            permissions = await permissions_of(self._service, interaction)
            permissions.check(self._service, request)
        requests = [_numbered_request(request, images, number) for number in range(count)]
        language = language_of_answer(interaction, permissions.policy, private=private)
        address = address_of(interaction, private=private, language=language)
        return await self._service.admit(requests, member=member_of(interaction), address=address)

    async def read_attachments(self, attachments: Attachments, model_id: str) -> tuple[ImageInput, ...]:
        """Download, check and clean the attached images, all at the same time.

        Raises UnusableImage, UnknownModel, ModelUnavailable.
        """
        takes_uploads = self._service.takes_uploads(model_id)
        reads = [self._read_attachment(attachment, role, takes_uploads) for attachment, role in attachments]
        return tuple(await asyncio.gather(*reads))

    async def _read_attachment(
        self, attachment: discord.Attachment | PostedFile, role: ImageRole, takes_uploads: bool
    ) -> ImageInput:
        name = attachment.filename
        if attachment.size > INPUT_MAX_BYTES:
            raise UnusableImage(name, "too_many_bytes", limit_bytes=INPUT_MAX_BYTES)
        try:
            data = await self._service.attachment_downloader.download(
                attachment.url, max_bytes=INPUT_MAX_BYTES, allowed_hosts=self._cdn_hosts
            )
            # A provider that fetches the URL gets the file unchanged, so it must not contain where it was taken.
            if not takes_uploads and await self._service.image_pool.has_location(data):
                raise UnusableImage(name, "location_data")
            clean = await self._service.image_pool.clean_input(data, name)
        except MediaError as error:
            _log.info("attachment %s cannot be used: %s", name, error)
            raise UnusableImage(name, error.reason) from error
        sha256 = await self._service.blob_store.put(clean.data)
        return ImageInput(
            sha256=sha256,
            role=role,
            content_type=clean.content_type,
            width=clean.width,
            height=clean.height,
            public_url=None if takes_uploads else attachment.url,
        )


def _numbered_request(request: JobRequest, images: tuple[ImageInput, ...], number: int) -> JobRequest:
    """Return the request for image `number` of a command. A given seed counts up, or all images would be equal."""
    options = dict(request.options)
    if number and isinstance(seed := options.get("seed"), int):
        options["seed"] = seed + number
    return replace(request, options=options, images=images)


def _log_not_shown(view: ReplyView) -> None:
    reply = view.reply
    _log.warning(
        "Discord did not accept the card of reply %s for member %d in server %d: releasing %s",
        reply.id,
        reply.user_id,
        reply.address.guild_id,
        format_usd(sum(job.reserved_usd_micros for job in reply.jobs)),
    )
