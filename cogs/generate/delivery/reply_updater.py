"""Reply updater: keeps the one Discord message of each command at its newest state, without delaying an image.

Each unfinished reply that ever changed has one editor. It sends at most one status edit a second and skips a state that
a newer one replaced. It sends the final state at once, even while a status edit is under way.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import aiohttp
import discord

from bot.domain.errors import ImagesNotHosted, LedgerError, MediaError, StoreError
from bot.domain.jobs import Delivery, Reply, ReplyAddress, StoredImage
from bot.runtime.retry import retrying
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts import catalogue_question
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.generate.delivery.attached_images import files_of
from cogs.generate.delivery.hosted_images import HostedImages
from cogs.generate.delivery.last_edit import DeliveryImpossible, LastEdit, StateChanged
from cogs.generate.review.requests import ReviewRequests
from cogs.generate.upscale import UpscalePrices
from cogs.text.locale import set_locale
from cogs.ui import card
from cogs.ui.components import Layout
from cogs.ui.discord_api.discord_errors import is_final
from cogs.ui.discord_api.message_api import MessageApi, PostedMessage

_log = logging.getLogger(__name__)

EDIT_INTERVAL_SECONDS = 1.0
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 10.0, 60.0
"""Pauses before a status edit that failed is tried again; a state such as Checking may last for long."""

MAX_IDLE_EDITORS = 10_000
"""Unfinished replies, shown as they are, whose state is kept; what changes after that may be edited once more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryParts:
    """What shows replies, and whom the final state of one is told to."""

    service: JobService
    messages: MessageApi
    log_channel: LogChannel
    operator_alerts: OperatorAlerts
    upscale_prices: UpscalePrices
    review_requests: ReviewRequests


class ReplyUpdater:
    """Shows replies for the service: its `ReplyPresenter`."""

    def __init__(self, parts: DeliveryParts, *, supervisor: Supervisor) -> None:
        self._parts = parts
        self._service = parts.service
        self._messages = parts.messages
        self._operator_alerts = parts.operator_alerts
        self._supervisor = supervisor
        self._hosted_images = HostedImages(parts.messages, parts.service)
        self._editors: dict[str, _Editor] = {}
        self._idle: OrderedDict[str, None] = OrderedDict()
        """The editors that do not run, the longest idle first: another process may finish their replies."""

    def reply_changed(self, reply_id: str) -> None:
        """Show the newest state of a reply soon."""
        editor = self._editors.get(reply_id)
        if editor is None:
            editor = self._editors[reply_id] = _Editor(reply_id, self._parts)
        editor.note_change()
        if not editor.is_running and not self._supervisor.closed:  # what is not shown now is shown after the restart
            editor.is_running = True
            self._idle.pop(reply_id, None)
            self._supervisor.start(f"reply {reply_id}", self._run(editor))

    async def _run(self, editor: _Editor) -> None:
        succeeded = False
        try:
            await retrying(editor.run, on=_is_own_failure, first_pause_seconds=1, max_pause_seconds=60)
            succeeded = True
        finally:
            editor.is_running = False
            if editor.is_finished:
                self._service.reply_shown(editor.reply_id)
                self._hosted_images.forget(editor.reply_id)
            if editor.is_finished or not succeeded:  # after an unexpected error the next change gets a new editor
                self._editors.pop(editor.reply_id, None)
            else:
                self._idle[editor.reply_id] = None
                if len(self._idle) > MAX_IDLE_EDITORS:
                    del self._editors[self._idle.popitem(last=False)[0]]
            if editor.has_changed:  # since `run` returned
                self.reply_changed(editor.reply_id)

    def operator_notice(self, matter: str, text: str) -> None:
        """Send the operator an alert."""
        self._operator_alerts.send(matter, text)

    async def ask_operator(self, text: str, change_ids: Sequence[int], *, topic: str) -> bool:
        """Send the operator a message, with buttons where there is something to decide."""
        return await self._operator_alerts.ask(topic, text, catalogue_question.buttons(change_ids))

    async def find_message(self, reply: Reply) -> int | None:
        """Find the message of a reply whose acceptance was not recorded; None if Discord never showed it."""
        find = partial(self._find, reply.address)
        return await retrying(find, on=lambda error: True, first_pause_seconds=1, max_pause_seconds=60)

    async def host_images(self, reply_id: str, images: Sequence[StoredImage]) -> list[str]:
        """Attach images to the message of a reply, and return their addresses. Raises ImagesNotHosted, StoreError."""
        view = await self._service.view(reply_id)
        if view is None:
            raise ImagesNotHosted("the reply is gone")
        return await self._hosted_images.host(view.reply, images)

    async def _find(self, address: ReplyAddress) -> int | None:
        try:
            if address.token_is_usable(self._service.now()):
                return (await self._messages.original(address)).message_id
            if address.is_token_only:
                return None
            found = await self._messages.search(address)
            return found.message_id if found else None
        except discord.HTTPException as error:
            if not is_final(error):
                raise
            return None


class _Editor:
    """Keeps one message current. It has a task only while `is_running`; `is_finished` once the final state is settled.

    Thousands of editors exist at a time, so each keeps only a hash of what it shows.
    """

    def __init__(self, reply_id: str, parts: DeliveryParts) -> None:
        self.reply_id = reply_id
        self.address: ReplyAddress  # set by `run`
        self.has_changed = False
        self.is_running = False
        self.is_finished = False
        self._parts = parts
        self._changed: asyncio.Future[None] | None = None  # only while it waits
        self._status_edit: asyncio.Task[None] | None = None
        self._next_edit_at = 0.0
        self._shown_hash: int | None = None
        self._failed_hash: int | None = None
        """What Discord did not take, which is tried again at `_retry_at`."""
        self._retry_at = 0.0
        self._retry_seconds = 0.0

    def note_change(self) -> None:
        """Note that the state is newer than what `run` read last."""
        self.has_changed = True
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def run(self) -> None:
        """Return once the message shows the newest state."""
        while True:
            self.has_changed = False
            view = await self._parts.service.view(self.reply_id)
            if view is None:
                self.is_finished = True
                return
            self.address = view.reply.address
            set_locale(self.address.language)
            if view.reply.is_final:
                final_reply = _FinalReply(view, self._parts, status_edit=self._status_edit)
                try:
                    await final_reply.deliver()
                except StateChanged:
                    continue
                self.is_finished = True
                return
            await self._keep_shown(card.card(view))
            if not self.has_changed:
                return

    async def _keep_shown(self, layout: Layout) -> None:
        """Return once a state that is not final is shown or a newer one exists.

        At most one status edit is under way, and at most one begins within a second.
        """
        loop = asyncio.get_running_loop()
        layout_hash = hash(json.dumps(layout))
        while not self.has_changed:
            is_editing = self._is_editing()
            due_at = max(self._next_edit_at, self._retry_at if layout_hash == self._failed_hash else 0.0)
            if layout_hash != self._shown_hash and not is_editing and loop.time() >= due_at:
                self._shown_hash = layout_hash
                self._next_edit_at = loop.time() + EDIT_INTERVAL_SECONDS
                self._status_edit = asyncio.create_task(
                    self._show_status(layout, layout_hash), name=f"status of {self.reply_id}"
                )
                is_editing = True
            if layout_hash == self._shown_hash and not is_editing:
                self._status_edit = None
                return
            await self._wait(None if is_editing else due_at - loop.time())

    async def _wait(self, timeout_seconds: float | None) -> None:
        """Wait for a change, the end of the status edit, or the timeout."""
        self._changed = asyncio.get_running_loop().create_future()
        waiting_for: set[asyncio.Future[None]] = {self._changed}
        if self._status_edit is not None and not self._status_edit.done():
            waiting_for.add(self._status_edit)
        try:
            await asyncio.wait(waiting_for, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._changed = None

    def _is_editing(self) -> bool:
        return self._status_edit is not None and not self._status_edit.done()

    async def _show_status(self, layout: Layout, layout_hash: int) -> None:
        """Send one status edit. One that Discord does not take is due again later, unless a newer state comes first."""
        by_token = self.address.token_is_usable(self._parts.service.now())
        if not by_token and (self.address.is_token_only or self.address.message_id is None):
            return
        try:
            await self._parts.messages.edit(self.address, layout, by_token=by_token)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("status of reply %s in server %d not shown: %s", self.reply_id, self.address.guild_id, error)
            if not is_final(error):
                seconds = 2 * self._retry_seconds if layout_hash == self._failed_hash else FIRST_RETRY_SECONDS
                self._retry_seconds = min(seconds, MAX_RETRY_SECONDS)
                self._retry_at = asyncio.get_running_loop().time() + self._retry_seconds
                self._shown_hash, self._failed_hash = None, layout_hash


class _FinalReply:
    """One delivery of the final state of a reply. An error of our own leaves it to be repeated by a new object."""

    def __init__(self, view: ReplyView, parts: DeliveryParts, *, status_edit: asyncio.Task[None] | None) -> None:
        self._view = view
        self._reply = view.reply
        self._parts = parts
        self._service = parts.service
        self._status_edit = status_edit

    async def deliver(self) -> None:
        """Show the final state, record the delivery and log it in the server.

        Raises StateChanged, StoreError, MediaError.
        """
        if self._reply.delivery is not Delivery.PENDING:
            return
        self._view = replace(self._view, upscale_usd_micros=await self._parts.upscale_prices.price(self._reply))
        last_edit = LastEdit(
            self._view,
            service=self._service,
            messages=self._parts.messages,
            operator_alerts=self._parts.operator_alerts,
            status_edit=self._status_edit,
        )
        try:
            posted = await last_edit.show()
        except DeliveryImpossible as error:
            _log.warning(
                "reply %s for member %d in server %d can no longer be shown: %s",
                self._reply.id,
                self._reply.user_id,
                self._reply.address.guild_id,
                error,
            )
            if await self._record(Delivery.IMPOSSIBLE):
                self._service.metrics.delivered(Delivery.IMPOSSIBLE.value)
                self._tell_moderators(last_edit, message_id=None)
            return
        ids = {image.sha256: posted.attachment_ids.get(image.shown.filename) for image in last_edit.images}
        finished_at = max((job.job.finished_at for job in self._view.jobs if job.job.finished_at), default=None)
        seconds = (self._service.now() - finished_at).total_seconds() if finished_at else None
        is_first = await self._record(
            Delivery.DELIVERED,
            attachment_ids={sha256: found for sha256, found in ids.items() if found is not None},
            posted=posted,
        )
        if is_first:  # otherwise another process delivered it first and has logged it
            self._service.metrics.delivered(Delivery.DELIVERED.value, seconds)
            self._tell_moderators(last_edit, message_id=posted.message_id)

    async def _record(
        self, delivery: Delivery, *, attachment_ids: dict[str, int] | None = None, posted: PostedMessage | None = None
    ) -> bool:
        """Record the delivery; False if another process has already done so."""
        has_moved = posted is not None and posted.message_id != self._reply.address.message_id
        return await self._service.store.set_delivery(
            self._reply.id,
            delivery,
            attachment_ids=attachment_ids,
            message_id=posted.message_id if posted and has_moved else None,
            channel_id=posted.channel_id if posted and has_moved else None,
        )

    def _tell_moderators(self, last_edit: LastEdit, *, message_id: int | None) -> None:
        """Log the order; one that waits for their review is logged once they have decided."""
        if self._reply.is_waiting_for_review:
            self._parts.review_requests.ask_soon(self._reply.id)
            return
        images = last_edit.images
        self._parts.log_channel.finished(
            self._view,
            message_id=message_id,
            images=[image.shown for image in images if image.data],
            files=lambda: files_of(images),
            hide_prompt=last_edit.prompt_is_hidden,
        )


def _is_own_failure(error: Exception) -> bool:
    """Whether our own database or image processes failed, which a retry may cure."""
    return isinstance(error, StoreError | MediaError) and not isinstance(error, LedgerError)
