"""Replies: the one Discord message of each command, kept true to its newest state and never in the way of a picture.

One editor per unfinished reply that ever had news. A status edit is sent at most once a second and dropped when
something newer came; a final state is sent at once, even while a status edit is still under way, and put right again
if that one came later.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import aiohttp
import discord

from bot.domain.errors import LedgerError, MediaError, StoreError
from bot.domain.jobs import Delivery, JobStatus, Reply, ReplyAddress
from bot.runtime.retry import retrying, written
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import JobView, ReplyView
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.generate.upscale import UpscalePrices
from cogs.text.locale import set_locale
from cogs.ui import card as render
from cogs.ui.attachments import upload
from cogs.ui.components import Layout
from cogs.ui.message_api import MessageApi, PostedMessage, is_too_large, token_is_alive

_log = logging.getLogger(__name__)

EDIT_INTERVAL_SECONDS = 1.0
KEEP_TRYING = timedelta(hours=24)
"""So long a final state is offered to a Discord that fails or rate-limits."""

DEFAULT_FILE_LIMIT_BYTES = 10 * 2**20
"""What every server takes (Discord: reference, uploading files); used once the command's own limit has gone."""

SMALLEST_FILE_BYTES = 64 * 1024
"""A picture made this small that is still refused for its size will not be taken at any."""

_TOKEN_IS_DEAD = frozenset({10015, 50027})
"""Unknown webhook, invalid webhook token: Discord says either of an interaction token that has run out."""
_LOCKED_OUT = frozenset({50001, 50013})
"""No access to the channel, no permission in it."""
_AUTOMOD_BLOCKED = 200000


class NotPossible(Exception):
    """The message cannot be shown or edited by any means left."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attachment:
    image: render.ShownImage
    sha256: str
    data: bytes


class ReplyUpdater:
    """Shows replies for the service; implements its `Observer`."""

    def __init__(
        self,
        *,
        service: JobService,
        messages: MessageApi,
        supervisor: Supervisor,
        operator: OperatorAlerts,
        server_log: LogChannel,
        upscale_prices: UpscalePrices,
    ) -> None:
        self._service = service
        self._messages = messages
        self._supervisor = supervisor
        self._operator = operator
        self._server_log = server_log
        self._upscale_prices = upscale_prices
        self._editors: dict[str, _Editor] = {}

    def reply_changed(self, reply_id: str) -> None:
        """Something is new; show it soon."""
        editor = self._editors.get(reply_id)
        if editor is None:
            editor = _Editor(
                reply_id,
                service=self._service,
                messages=self._messages,
                server_log=self._server_log,
                upscale_prices=self._upscale_prices,
            )
            self._editors[reply_id] = editor
        editor.note_news()
        if not editor.at_work and not self._supervisor.closed:  # what is not shown now the next start shows
            editor.at_work = True
            self._supervisor.start(f"reply {reply_id}", self._run(editor))

    async def _run(self, editor: _Editor) -> None:
        shown = False
        try:
            await retrying(editor.run, on=_own_trouble, first_pause_seconds=1, longest_pause_seconds=60)
            shown = True
        finally:
            editor.at_work = False
            if editor.is_over:
                self._service.reply_shown(editor.reply_id)
            if editor.is_over or not shown:  # after a defect the next news begins anew
                self._editors.pop(editor.reply_id, None)
            if editor.has_news:  # news that came while we were leaving
                self.reply_changed(editor.reply_id)

    def operator_notice(self, matter: str, text: str) -> None:
        """Pass on what only the operator can mend."""
        self._operator.send(matter, text)

    async def find_message(self, reply: Reply) -> int | None:
        """Whether Discord showed a reply of which we only know that it was about to be shown."""
        return await retrying(
            partial(self._find, reply.address), on=_passing, first_pause_seconds=1, longest_pause_seconds=60
        )

    async def _find(self, address: ReplyAddress) -> int | None:
        try:
            if token_is_alive(address):
                return (await self._messages.original(address)).message_id
            if address.private:
                return None
            found = await self._messages.search(address)
            return found.message_id if found else None
        except discord.HTTPException as error:
            if _passing(error):
                raise
            return None


class _Editor:
    """Brings one message up to date whenever there is news, and remembers between times when it last did what.

    It has a task only while `at_work`, and `is_over` once the final state is settled.
    """

    def __init__(
        self,
        reply_id: str,
        *,
        service: JobService,
        messages: MessageApi,
        server_log: LogChannel,
        upscale_prices: UpscalePrices,
    ) -> None:
        self.reply_id = reply_id
        self.address: ReplyAddress  # as of the newest look: known once `run` has begun
        self.has_news = False
        self._woken: asyncio.Future[None] | None = None  # only while it waits, and most editors rest
        self.at_work = False
        self.is_over = False
        self._service = service
        self._messages = messages
        self._server_log = server_log
        self._upscale_prices = upscale_prices
        self._status_edit: asyncio.Task[None] | None = None
        self._next_edit_at = 0.0
        self._shown: int | None = None
        self._hides_prompt = False

    def note_news(self) -> None:
        """There is something newer than what was last looked at."""
        self.has_news = True
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    async def run(self) -> None:
        """Until the message shows what is known now."""
        while True:
            self.has_news = False
            view = await self._service.view(self.reply_id)
            if view is None:
                self.is_over = True
                return
            self.address = view.reply.address
            set_locale(self.address.language)
            if view.reply.is_final:
                await self._finish(view)
                self.is_over = True
                return
            await self._keep_shown(render.card(view))
            if not self.has_news:
                return

    async def _keep_shown(self, card: Layout) -> None:
        """Show a state that is not the last, unless it looks like what is shown, until it is through or not the newest.

        There is at most one such edit under way, and at most one a second.
        """
        loop = asyncio.get_running_loop()
        looks = hash(json.dumps(card))  # thousands of editors wait at a time, each with what it shows
        while not self.has_news:
            busy = self._is_showing()
            if looks != self._shown and not busy and loop.time() >= self._next_edit_at:
                self._shown = looks
                self._next_edit_at = loop.time() + EDIT_INTERVAL_SECONDS
                self._status_edit = asyncio.create_task(self._show_status(card), name=f"status of {self.reply_id}")
                busy = True
            if looks == self._shown and not busy:
                self._status_edit = None
                return
            await self._wait(None if busy else self._next_edit_at - loop.time())

    async def _wait(self, seconds: float | None) -> None:
        """Until there is news, the edit under way is through, or the time has come."""
        self._woken = asyncio.get_running_loop().create_future()
        waiting_for: set[asyncio.Future[None]] = {self._woken}
        if self._status_edit is not None and not self._status_edit.done():
            waiting_for.add(self._status_edit)
        try:
            await asyncio.wait(waiting_for, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._woken = None

    def _is_showing(self) -> bool:
        """Whether a status edit is under way."""
        return self._status_edit is not None and not self._status_edit.done()

    async def _show_status(self, card: Layout) -> None:
        """One status edit. It is worth no second try: a newer state is on its way."""
        by_token = token_is_alive(self.address)
        if not by_token and (self.address.private or self.address.message_id is None):
            return
        try:
            await self._messages.edit(self.address, card, by_token=by_token)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("status of reply %s not shown: %s", self.reply_id, error)

    # -- the final state --------------------------------------------------------------------------------

    async def _finish(self, view: ReplyView) -> None:
        if view.reply.delivery is not Delivery.PENDING:
            return
        view = replace(view, upscale_usd_micros=await self._upscale_prices.price(view.reply))
        attachments = await self._attachments(view, self.address.file_limit_bytes)
        overtaken = self._is_showing()
        try:
            shown = await self._deliver(view, attachments)
        except NotPossible as error:
            _log.warning("reply %s cannot be shown any more: %s", self.reply_id, error)
            if await self._record(Delivery.IMPOSSIBLE):
                self._service.metrics.delivered(Delivery.IMPOSSIBLE.value)
                self._log_in_server(view, attachments, None)
            return
        if overtaken and self._status_edit is not None:
            # The status edit left before the final one but may have arrived after it.
            await asyncio.wait({self._status_edit})
            await self._put_right(view, attachments, shown)  # with or without the prompt, as it was taken
        by_sha = {item.sha256: shown.attachment_ids.get(item.image.filename) for item in attachments}
        ended_at = max((job.job.finished_at for job in view.jobs if job.job.finished_at), default=None)
        seconds = (datetime.now(UTC) - ended_at).total_seconds() if ended_at else None
        is_first = await self._record(
            Delivery.DELIVERED,
            attachment_ids={sha256: found for sha256, found in by_sha.items() if found is not None},
            shown=shown,
        )
        if is_first:  # or another process was faster, and has logged it
            self._service.metrics.delivered(Delivery.DELIVERED.value, seconds)
            self._log_in_server(view, attachments, shown.message_id)

    def _log_in_server(self, view: ReplyView, attachments: list[_Attachment], message_id: int | None) -> None:
        images = [item.image for item in attachments]
        self._server_log.finished(view, message_id=message_id, images=images, files=lambda: _files(attachments))

    async def _deliver(self, view: ReplyView, attachments: list[_Attachment]) -> PostedMessage:
        """Offer the final state until Discord takes it. Raises NotPossible when it never will."""
        try:
            return await retrying(
                partial(self._deliver_once, view, attachments),
                on=_passing,
                within_seconds=KEEP_TRYING.total_seconds(),
                first_pause_seconds=1,
                longest_pause_seconds=300,
                jitter_seconds=2,
            )
        except (discord.DiscordException, aiohttp.ClientError, OSError) as error:
            raise NotPossible(f"Discord did not take it for {KEEP_TRYING}: {error}") from error

    async def _deliver_once(
        self, view: ReplyView, attachments: list[_Attachment], *, hide_prompt: bool = False
    ) -> PostedMessage:
        """Offer it, and at once again where it only has to look different."""
        try:
            return await self._offer(view, attachments, hide_prompt=hide_prompt)
        except discord.HTTPException as error:
            largest_bytes = max((len(item.data) for item in attachments), default=0)
            if is_too_large(error) and largest_bytes > SMALLEST_FILE_BYTES:
                limit_bytes = max(min(self.address.file_limit_bytes, largest_bytes) // 2, SMALLEST_FILE_BYTES)
                attachments[:] = await self._attachments(view, limit_bytes)
                return await self._deliver_once(view, attachments, hide_prompt=hide_prompt)
            if error.code == _AUTOMOD_BLOCKED and not hide_prompt:
                return await self._deliver_once(view, attachments, hide_prompt=True)
            if _passing(error):
                raise
            raise NotPossible(str(error)) from error

    async def _offer(self, view: ReplyView, attachments: list[_Attachment], *, hide_prompt: bool) -> PostedMessage:
        """Through the command's token while it lives, then by editing as the bot, else as a new message."""
        images = [item.image for item in attachments]
        self._hides_prompt = hide_prompt
        layout = render.card(view, images=images, hide_prompt=hide_prompt)
        if token_is_alive(self.address):
            try:
                return await self._messages.edit(
                    self.address, layout, files=_files(attachments), by_token=True, overtake=self._is_showing()
                )
            except discord.HTTPException as error:
                if error.code not in _TOKEN_IS_DEAD:
                    raise
        user_id = view.reply.user_id
        announcement = render.card(view, images=images, hide_prompt=hide_prompt, mention=f"<@{user_id}>")
        if not self.address.private:
            try:
                if self.address.message_id is not None:
                    return await self._messages.edit(self.address, layout, files=_files(attachments), by_token=False)
                return await self._post(self.address.channel_id, announcement, attachments, user_id)
            except discord.HTTPException as error:
                if error.code not in _LOCKED_OUT:
                    raise
        # What was private, or can no longer be shown in its channel, goes to the requester alone.
        channel_id = await self._messages.open_direct_channel(user_id)
        earlier = await self._posted_before(channel_id, view)
        return earlier or await self._post(channel_id, announcement, attachments, user_id)

    async def _posted_before(self, channel_id: int, view: ReplyView) -> PostedMessage | None:
        """We may have died between posting and writing that down, and Discord remembers a nonce for minutes only."""
        try:
            return await self._messages.posted(
                channel_id, job_id=view.jobs[0].job.id, after=self.address.interaction_id
            )
        except discord.HTTPException as error:
            if _passing(error):
                raise
            return None  # a channel that may be written to but not read

    async def _post(
        self, channel_id: int, layout: Layout, attachments: list[_Attachment], user_id: int
    ) -> PostedMessage:
        return await self._messages.post(
            channel_id, layout, files=_files(attachments), nonce=self.reply_id, notify=user_id
        )

    async def _put_right(self, view: ReplyView, attachments: list[_Attachment], shown: PostedMessage) -> None:
        images = [item.image for item in attachments]
        layout = render.card(view, images=images, hide_prompt=self._hides_prompt)
        address = replace(self.address, message_id=shown.message_id, channel_id=shown.channel_id)
        try:
            edit = partial(self._messages.edit, address, layout, by_token=token_is_alive(address))
            await retrying(
                edit, on=_passing, attempts=5, within_seconds=60, first_pause_seconds=0.1, longest_pause_seconds=5
            )
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("reply %s may look out of date: %s", self.reply_id, error)

    async def _attachments(self, view: ReplyView, limit_bytes: int) -> list[_Attachment]:
        """The pictures of a reply, each made to fit."""
        if not token_is_alive(self.address):
            limit_bytes = min(limit_bytes, DEFAULT_FILE_LIMIT_BYTES)
        found: list[_Attachment] = []
        for job in view.jobs:
            if job.job.status is JobStatus.SUCCEEDED:
                found.extend(await self._attachments_of(job, limit_bytes))
        return found[:10]

    async def _attachments_of(self, view: JobView, limit_bytes: int) -> list[_Attachment]:
        found: list[_Attachment] = []
        for index, image in enumerate(view.job.images):
            try:
                fitted = await self._service.image_for_upload(image, limit_bytes)
            except MediaError as error:
                if error.transient:
                    raise
                _log.exception("a picture of job %s cannot be shown", view.job.id)
                continue
            if fitted is None:
                _log.error("a picture of job %s is missing from the picture store", view.job.id)
                continue
            shown = render.ShownImage(
                filename=render.filename(view.job, index, fitted.extension),
                alt_text=render.alt_text(view.job),
                # One that was only turned upright is as large as it was made.
                original_url=image.source_url if fitted.changed and image.size_bytes > limit_bytes else None,
            )
            found.append(_Attachment(image=shown, sha256=image.sha256, data=fitted.data))
        return found

    async def _record(
        self, delivery: Delivery, *, attachment_ids: dict[str, int] | None = None, shown: PostedMessage | None = None
    ) -> bool:
        """Write down that it was shown; False when somebody had done so."""
        moved = shown is not None and shown.message_id != self.address.message_id
        record = partial(
            self._service.store.set_delivery,
            self.reply_id,
            delivery,
            attachment_ids=attachment_ids,
            message_id=shown.message_id if shown and moved else None,
            channel_id=shown.channel_id if shown and moved else None,
        )
        return await written(record)


def _files(attachments: Sequence[_Attachment]) -> list[discord.File]:
    """Fresh file objects for every attempt, all reading the same bytes."""
    return [upload(item.data, item.image.filename, item.image.alt_text) for item in attachments]


def _own_trouble(error: Exception) -> bool:
    """Whether it is our own disk or our own workers that did not do what they do at other times."""
    return isinstance(error, StoreError | MediaError) and not isinstance(error, LedgerError)


def _passing(error: Exception) -> bool:
    """Whether trying again later may help."""
    if isinstance(error, discord.HTTPException):
        return error.status >= 500 or error.status == 429
    return isinstance(error, (aiohttp.ClientError, OSError, asyncio.TimeoutError, discord.RateLimited))
