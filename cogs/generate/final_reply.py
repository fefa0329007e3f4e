"""Final reply: delivers the final state of a reply with its images, by any means that Discord still accepts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import aiohttp
import discord

from bot.domain.errors import MediaError
from bot.domain.jobs import Delivery, JobStatus
from bot.runtime.retry import retrying
from bot.service.job_service import JobService
from bot.service.views import JobView, ReplyView
from cogs.alerts.log_channel import LogChannel
from cogs.generate.upscale import UpscalePrices
from cogs.ui import card
from cogs.ui.attachments import upload
from cogs.ui.components import Layout
from cogs.ui.message_api import MessageApi, PostedMessage, is_too_large, is_transient

_log = logging.getLogger(__name__)

DELIVERY_TIMEOUT = timedelta(hours=24)
"""How long a final state is retried while Discord fails or limits the rate."""

DEFAULT_FILE_LIMIT_BYTES = 10 * 2**20
"""Limit of every server (Discord: reference, uploading files); holds once the interaction's own limit has expired."""

MIN_FILE_LIMIT_BYTES = 64 * 1024
"""An image of this size that is still too large will not be accepted in any size."""

MAX_ATTACHMENTS = 10

_TOKEN_EXPIRED = frozenset({10015, 50027})
"""Unknown webhook, invalid webhook token: Discord answers either for an expired interaction token."""
_NO_ACCESS = frozenset({50001, 50013})
"""No access to the channel, no permission in it."""
_AUTOMOD_BLOCKED = 200000


class DeliveryImpossible(Exception):
    """No way is left to show the final state."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attachment:
    image: card.ShownImage
    sha256: str
    data: bytes


class FinalReply:
    """One delivery of the final state of a reply. An error of our own leaves it to be repeated by a new object."""

    def __init__(
        self,
        view: ReplyView,
        *,
        service: JobService,
        messages: MessageApi,
        log_channel: LogChannel,
        upscale_prices: UpscalePrices,
        status_edit: asyncio.Task[None] | None,
    ) -> None:
        self._view = view
        self._reply = view.reply
        self._address = view.reply.address
        self._service = service
        self._messages = messages
        self._log_channel = log_channel
        self._upscale_prices = upscale_prices
        self._status_edit = status_edit
        """The last status edit; it may still be under way."""
        self._attachments: list[_Attachment] = []
        self._prompt_is_hidden = False

    async def deliver(self) -> None:
        """Show the final state, record the delivery and log it in the server. Raises StoreError, MediaError."""
        if self._reply.delivery is not Delivery.PENDING:
            return
        self._view = replace(self._view, upscale_usd_micros=await self._upscale_prices.price(self._reply))
        self._attachments = await self._load_attachments(self._address.file_limit_bytes)
        is_overtaking = self._is_status_edit_under_way()
        try:
            posted = await self._show()
        except DeliveryImpossible as error:
            _log.warning(
                "reply %s for member %d in server %d can no longer be shown: %s",
                self._reply.id,
                self._reply.user_id,
                self._address.guild_id,
                error,
            )
            if await self._record(Delivery.IMPOSSIBLE):
                self._service.metrics.delivered(Delivery.IMPOSSIBLE.value)
                self._post_to_log_channel(None)
            return
        if is_overtaking and self._status_edit is not None:
            # The status edit left before the final one but may have arrived after it.
            await asyncio.wait({self._status_edit})
            await self._edit_again(posted)
        ids = {item.sha256: posted.attachment_ids.get(item.image.filename) for item in self._attachments}
        finished_at = max((job.job.finished_at for job in self._view.jobs if job.job.finished_at), default=None)
        seconds = (self._service.now() - finished_at).total_seconds() if finished_at else None
        is_first = await self._record(
            Delivery.DELIVERED,
            attachment_ids={sha256: found for sha256, found in ids.items() if found is not None},
            posted=posted,
        )
        if is_first:  # otherwise another process delivered it first and has logged it
            self._service.metrics.delivered(Delivery.DELIVERED.value, seconds)
            self._post_to_log_channel(posted.message_id)

    async def _show(self) -> PostedMessage:
        """Retry until Discord accepts the final state. Raises DeliveryImpossible if it never will."""
        try:
            return await retrying(
                self._show_once,
                on=is_transient,
                within_seconds=DELIVERY_TIMEOUT.total_seconds(),
                first_pause_seconds=1,
                max_pause_seconds=300,
                jitter_seconds=2,
            )
        except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
            raise DeliveryImpossible(f"Discord did not accept it within {DELIVERY_TIMEOUT}: {error}") from error

    async def _show_once(self, *, hide_prompt: bool = False) -> PostedMessage:
        """Try once, and again at once with smaller images or without the prompt if Discord refuses either."""
        self._prompt_is_hidden = hide_prompt
        try:
            return await self._send()
        except discord.HTTPException as error:
            largest_bytes = max((len(item.data) for item in self._attachments), default=0)
            if is_too_large(error) and largest_bytes > MIN_FILE_LIMIT_BYTES:
                limit_bytes = max(min(self._address.file_limit_bytes, largest_bytes) // 2, MIN_FILE_LIMIT_BYTES)
                self._attachments = await self._load_attachments(limit_bytes)
                return await self._show_once(hide_prompt=hide_prompt)
            if error.code == _AUTOMOD_BLOCKED and not hide_prompt:
                return await self._show_once(hide_prompt=True)
            if is_transient(error):
                raise
            raise DeliveryImpossible(str(error)) from error

    async def _send(self) -> PostedMessage:
        """Edit the reply by its token, else as the bot, else post a new message."""
        layout = self._layout()
        if self._token_is_usable():
            try:
                return await self._messages.edit(
                    self._address,
                    layout,
                    files=_files(self._attachments),
                    by_token=True,
                    overtake=self._is_status_edit_under_way(),
                )
            except discord.HTTPException as error:
                if error.code not in _TOKEN_EXPIRED:
                    raise
        if not self._address.private:
            try:
                if self._address.message_id is not None:
                    return await self._messages.edit(
                        self._address, layout, files=_files(self._attachments), by_token=False
                    )
                return await self._post(self._address.channel_id)
            except discord.HTTPException as error:
                if error.code not in _NO_ACCESS:
                    raise
        # A private reply, or one that its channel no longer accepts, goes to the requester's direct messages.
        channel_id = await self._messages.open_direct_channel(self._reply.user_id)
        if self._address.message_id is not None and self._address.channel_id == channel_id:
            # It was shown there before one of its images came late.
            return await self._messages.edit(self._address, layout, files=_files(self._attachments), by_token=False)
        return await self._posted_before(channel_id) or await self._post(channel_id)

    async def _posted_before(self, channel_id: int) -> PostedMessage | None:
        """Find a message that was posted but not recorded; the nonce prevents a second one only for minutes."""
        try:
            return await self._messages.posted(
                channel_id, job_id=self._view.jobs[0].job.id, after=self._address.interaction_id
            )
        except discord.HTTPException as error:
            if is_transient(error):
                raise
            return None  # the bot may write in the channel but not read it

    async def _post(self, channel_id: int) -> PostedMessage:
        user_id = self._reply.user_id
        layout = self._layout(mention=f"<@{user_id}>")
        return await self._messages.post(
            channel_id, layout, files=_files(self._attachments), nonce=self._reply.id, notify=user_id
        )

    async def _edit_again(self, posted: PostedMessage) -> None:
        """Repeat the final edit, without files, in case a status edit replaced it."""
        address = replace(self._address, message_id=posted.message_id, channel_id=posted.channel_id)
        edit = partial(self._messages.edit, address, self._layout(), by_token=self._token_is_usable())
        try:
            await retrying(
                edit, on=is_transient, attempts=5, within_seconds=60, first_pause_seconds=0.1, max_pause_seconds=5
            )
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning(
                "reply %s in server %d may show an old state: %s", self._reply.id, self._address.guild_id, error
            )

    async def _record(
        self, delivery: Delivery, *, attachment_ids: dict[str, int] | None = None, posted: PostedMessage | None = None
    ) -> bool:
        """Record the delivery; False if another process has already done so."""
        has_moved = posted is not None and posted.message_id != self._address.message_id
        return await self._service.store.set_delivery(
            self._reply.id,
            delivery,
            attachment_ids=attachment_ids,
            message_id=posted.message_id if posted and has_moved else None,
            channel_id=posted.channel_id if posted and has_moved else None,
        )

    def _post_to_log_channel(self, message_id: int | None) -> None:
        attachments = self._attachments
        self._log_channel.finished(
            self._view,
            message_id=message_id,
            images=[item.image for item in attachments],
            files=lambda: _files(attachments),
        )

    def _layout(self, *, mention: str | None = None) -> Layout:
        images = [item.image for item in self._attachments]
        return card.card(self._view, images=images, hide_prompt=self._prompt_is_hidden, mention=mention)

    def _token_is_usable(self) -> bool:
        return self._address.token_is_usable(self._service.now())

    def _is_status_edit_under_way(self) -> bool:
        return self._status_edit is not None and not self._status_edit.done()

    async def _load_attachments(self, limit_bytes: int) -> list[_Attachment]:
        """Load the images of the reply, each made to fit."""
        if not self._token_is_usable():
            limit_bytes = min(limit_bytes, DEFAULT_FILE_LIMIT_BYTES)
        attachments: list[_Attachment] = []
        for job in self._view.jobs:
            if job.job.status is JobStatus.SUCCEEDED:
                attachments.extend(await self._load_images(job, limit_bytes))
        return attachments[:MAX_ATTACHMENTS]

    async def _load_images(self, view: JobView, limit_bytes: int) -> list[_Attachment]:
        attachments: list[_Attachment] = []
        for index, image in enumerate(view.job.images):
            try:
                fitted = await self._service.image_for_upload(image, limit_bytes)
            except MediaError as error:
                if error.transient:
                    raise
                _log.exception("image %d of job %s cannot be shown", index + 1, view.job.id)
                continue
            if fitted is None:
                _log.error("image %d of job %s is missing from the blob store", index + 1, view.job.id)
                continue
            shown = card.ShownImage(
                filename=card.filename(view.job, index, fitted.extension),
                alt_text=card.alt_text(view.job),
                # An image that was only rotated is as large as the original.
                original_url=image.source_url if fitted.changed and image.size_bytes > limit_bytes else None,
            )
            attachments.append(_Attachment(image=shown, sha256=image.sha256, data=fitted.data))
        return attachments


def _files(attachments: Sequence[_Attachment]) -> list[discord.File]:
    """Return new file objects for one attempt; all attempts share the bytes."""
    return [upload(item.data, item.image.filename, item.image.alt_text) for item in attachments]
