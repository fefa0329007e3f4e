"""Last edit: brings the final state of a reply before its member's eyes, by whatever way Discord still takes.

The ways, in order: an edit by the interaction token, an edit as the bot (or a new message), a direct message to the
requester. Only an error of the closed list in discord_errors.py closes a way. A refusal of the contents leads to a
smaller card. Every other error is repeated after growing pauses, at a pace that holds over all ways and repetitions.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

import aiohttp
import discord

from bot.domain.errors import MediaError, StoreError
from bot.runtime.retry import retrying
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.generate.delivery.attached_images import AttachedImage, count_lost, files_of, load_images, wholly_lost
from cogs.ui import card
from cogs.ui.card import Form
from cogs.ui.components import Layout
from cogs.ui.discord_api.discord_errors import (
    AUTOMOD_BLOCKED,
    is_final,
    is_malformed,
    is_ordinary,
    is_too_large,
)
from cogs.ui.discord_api.message_api import MessageApi, PostedMessage
from cogs.ui.discord_api.request_pace import RequestPace

_log = logging.getLogger(__name__)

WAY_TIMEOUT = timedelta(hours=24)
"""How long one way is tried while Discord answers nothing final; then the next one is."""

FIRST_PAUSE_SECONDS = 2.0
MAX_PAUSE_SECONDS = 300.0

DEFAULT_FILE_LIMIT_BYTES = 10 * 2**20
"""Limit of every server (Discord: reference, uploading files); holds once the interaction's own limit has expired."""

MIN_FILE_LIMIT_BYTES = 64 * 1024
"""An image of this size that is still too large will not be accepted in any size."""


class DeliveryImpossible(Exception):
    """No way is left to show the final state."""


class StateChanged(Exception):
    """What was about to be shown is not the final state any more: its images are lost."""


class Way(StrEnum):
    """A way to show the final state."""

    TOKEN = "by token"  # noqa: S105 - the word, not a secret
    CHANNEL = "as the bot"
    DIRECT = "by direct message"


class LastEdit:
    """Shows one final state. `posted` images and the hidden prompt can be read once `show` has returned."""

    def __init__(
        self,
        view: ReplyView,
        *,
        service: JobService,
        messages: MessageApi,
        operator_alerts: OperatorAlerts,
        status_edit: asyncio.Task[None] | None,
    ) -> None:
        self._view = view
        self._reply = view.reply
        self._address = view.reply.address
        self._service = service
        self._messages = messages
        self._operator_alerts = operator_alerts
        self._status_edit = status_edit
        """The last status edit; it may still be under way."""
        self._pace = RequestPace()
        self._closed: set[Way] = set()
        self._form = Form.FULL
        self._limit_bytes = self._address.file_limit_bytes
        self.images: list[AttachedImage] = []
        self.prompt_is_hidden = False

    async def show(self) -> PostedMessage:
        """Return once Discord has accepted the final state.

        Raises DeliveryImpossible, StateChanged, StoreError, MediaError.
        """
        await self._load_images()
        is_overtaking = self._is_status_edit_under_way()
        posted = await self._show()
        if is_overtaking and self._status_edit is not None:
            # The status edit left before the final one but may have arrived after it.
            await asyncio.wait({self._status_edit})
            await self._edit_again(posted)
        return posted

    async def _show(self) -> PostedMessage:
        while True:
            try:
                with self._pace.applied():
                    return await retrying(
                        self._attempt,
                        on=self._may_pass,
                        within_seconds=WAY_TIMEOUT.total_seconds(),
                        first_pause_seconds=FIRST_PAUSE_SECONDS,
                        max_pause_seconds=MAX_PAUSE_SECONDS,
                        jitter_seconds=2,
                    )
            except (DeliveryImpossible, StateChanged, StoreError, MediaError):
                raise
            except Exception as error:
                _log.warning("reply %s: given up %s after %s: %s", self._reply.id, self._way(), WAY_TIMEOUT, error)
                self._closed.add(self._way())

    def _may_pass(self, error: Exception) -> bool | float:
        """Return whether to try once more: always, except when our own parts failed or no way is left.

        A number is the pause in seconds that Discord asked for.
        """
        if isinstance(error, DeliveryImpossible | StateChanged | StoreError | MediaError):
            return False
        _log.warning(
            "the final state of reply %s in server %d is not shown yet: %s",
            self._reply.id,
            self._address.guild_id,
            error,
        )
        if not is_ordinary(error):
            self._operator_alerts.send(
                "odd answer",
                f"Discord answered oddly to a finished image and is asked again until it takes it: {error}",
            )
        if isinstance(error.__cause__, discord.RateLimited):
            return min(max(error.__cause__.retry_after, FIRST_PAUSE_SECONDS), MAX_PAUSE_SECONDS)
        return True

    async def _attempt(self) -> PostedMessage:
        """Try once, and again at once in the next form or by the next way where Discord's answer asks for it."""
        while True:
            way = self._way()
            try:
                return await self._send(way)
            except discord.HTTPException as error:
                if is_final(error):
                    self._closed.add(way)
                elif not (is_malformed(error) and await self._reduce(error)):
                    raise

    def _way(self) -> Way:
        """Return the first way that is open. Raises DeliveryImpossible."""
        if Way.TOKEN not in self._closed and self._token_is_usable():
            return Way.TOKEN
        is_unseen = not self._reply.accepted and self._address.message_id is None
        # Whether a message that only its token reaches is there cannot be found out once that has expired.
        if is_unseen and (Way.TOKEN in self._closed or not self._address.is_token_only):
            raise DeliveryImpossible("Discord never showed the message, and nothing was ordered")
        if Way.CHANNEL not in self._closed and not self._address.is_token_only:
            return Way.CHANNEL
        # A private reply, or one that its channel no longer accepts, goes to the requester's direct messages.
        if Way.DIRECT not in self._closed:
            return Way.DIRECT
        raise DeliveryImpossible("its message, its channel and direct messages are closed")

    async def _reduce(self, error: discord.HTTPException) -> bool:
        """Make the images or the card smaller, or leave out the prompt; False if nothing is left to leave out."""
        largest_bytes = max((len(image.data) for image in self.images), default=0)
        if is_too_large(error) and largest_bytes > MIN_FILE_LIMIT_BYTES:
            self._limit_bytes = max(min(self._limit_bytes, largest_bytes) // 2, MIN_FILE_LIMIT_BYTES)
            await self._load_images()
        elif error.code == AUTOMOD_BLOCKED and not self.prompt_is_hidden:
            self.prompt_is_hidden = True
            await self._load_images()
        elif self._form is not Form.WITHOUT_IMAGES:
            self._form = Form(self._form + 1)
            _log.warning("reply %s is shown as %s card: %s", self._reply.id, self._form.name, error)
        else:
            return False
        return True

    async def _send(self, way: Way) -> PostedMessage:
        match way:
            case Way.TOKEN:
                posted = await self._messages.edit(
                    self._address,
                    self._layout(),
                    files=self._files(),
                    by_token=True,
                    overtake=self._is_status_edit_under_way(),
                )
                return replace(posted, channel_id=self._address.channel_id)
            case Way.CHANNEL if self._address.message_id is not None:
                return await self._messages.edit(self._address, self._layout(), files=self._files(), by_token=False)
            case Way.CHANNEL:
                return await self._post(self._address.channel_id)
            case Way.DIRECT:
                if await self._is_age_restricted():
                    self._form = Form.WITHOUT_IMAGES
                channel_id = await self._messages.open_direct_channel(self._reply.user_id)
                if self._address.message_id is not None and self._address.channel_id == channel_id:
                    # It was shown there before one of its images came late, or is a private answer to a command there,
                    # which cannot be edited any more.
                    try:
                        return await self._messages.edit(
                            self._address, self._layout(), files=self._files(), by_token=False
                        )
                    except discord.NotFound:
                        if not self._address.is_direct:
                            raise
                return await self._posted_before(channel_id) or await self._post(channel_id)

    async def _is_age_restricted(self) -> bool:
        """Return whether the images are of a model for age-restricted channels, which direct messages are not."""
        policy = None if self._address.is_direct else await self._service.store.policy(self._address.guild_id)
        for job in self._reply.jobs:
            model = self._service.catalogue.find(job.request.model_id)
            by_operator = model is not None and model.age_restricted
            if by_operator or (policy is not None and policy.is_age_restricted(job.request.model_id)):
                return True
        return False

    async def _posted_before(self, channel_id: int) -> PostedMessage | None:
        """Find a message that was posted but not recorded; the nonce prevents a second one only for minutes."""
        try:
            return await self._messages.posted(
                channel_id, job_id=self._view.jobs[0].job.id, after=self._address.interaction_id
            )
        except discord.HTTPException as error:
            if not is_final(error):
                raise
            return None  # the bot may write in the channel but not read it

    async def _post(self, channel_id: int) -> PostedMessage:
        user_id = self._reply.user_id
        layout = self._layout(mention=f"<@{user_id}>")
        return await self._messages.post(channel_id, layout, files=self._files(), nonce=self._reply.id, notify=user_id)

    async def _edit_again(self, posted: PostedMessage) -> None:
        """Repeat the final edit, without files, until Discord takes it or never will.

        A status edit may have replaced it. Discord took the same contents before, so a refusal of them may pass.
        """
        address = replace(self._address, message_id=posted.message_id, channel_id=posted.channel_id)
        try:
            with self._pace.applied():
                await retrying(
                    lambda: self._messages.edit(address, self._layout(), by_token=self._token_is_usable()),
                    on=lambda error: not is_final(error) and self._may_pass(error),
                    within_seconds=WAY_TIMEOUT.total_seconds(),
                    first_pause_seconds=FIRST_PAUSE_SECONDS,
                    max_pause_seconds=MAX_PAUSE_SECONDS,
                    jitter_seconds=2,
                )
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning(
                "reply %s in server %d may show an old state: %s", self._reply.id, self._address.guild_id, error
            )

    async def _load_images(self) -> None:
        limit_bytes = self._limit_bytes
        if not self._token_is_usable():
            limit_bytes = min(limit_bytes, DEFAULT_FILE_LIMIT_BYTES)
        if self._reply.is_held_back:
            return
        self.images = await load_images(
            self._service, self._view, limit_bytes=limit_bytes, hide_prompt=self.prompt_is_hidden
        )
        if lost := wholly_lost(self._view, self.images):
            for job in lost:
                await self._service.give_up_images(job)
            raise StateChanged

    def _files(self) -> list[discord.File]:
        return [] if self._form is Form.WITHOUT_IMAGES else files_of(self.images)

    def _layout(self, *, mention: str | None = None) -> Layout:
        return card.card(
            self._view,
            images=[image.shown for image in self.images],
            lost_images=count_lost(self._view, self.images),
            hide_prompt=self.prompt_is_hidden,
            mention=mention,
            form=self._form,
        )

    def _token_is_usable(self) -> bool:
        return self._address.token_is_usable(self._service.now())

    def _is_status_edit_under_way(self) -> bool:
        return self._status_edit is not None and not self._status_edit.done()
