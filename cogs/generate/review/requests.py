"""Review requests: asks moderators in the review channel about each order that waits for them, once.

Which orders wait is in the database, so that a restart or a channel that refuses the question loses none: the sweep
asks until a question is posted. A process that was killed meanwhile may have posted it, so the next one looks first.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from datetime import datetime, timedelta

import aiohttp
import discord

from bot.domain.errors import MediaError, StoreError
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.generate.delivery.attached_images import AttachedImage, count_lost, files_of, load_images
from cogs.generate.delivery.last_edit import DEFAULT_FILE_LIMIT_BYTES, MIN_FILE_LIMIT_BYTES
from cogs.generate.review import question
from cogs.text.locale import use_locale
from cogs.ui.discord_api.discord_errors import AUTOMOD_BLOCKED, is_final, is_too_large
from cogs.ui.discord_api.message_api import MessageApi, PostedMessage

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 20.0
BATCH = 20
POST_TIMEOUT_SECONDS = 90.0
"""Shorter than a claim, so that no two attempts overlap."""

REFUSED_PAUSE = timedelta(minutes=5)
"""Until a channel that refused a question is asked again, or another one that moderators chose meanwhile."""

CLOCK_SKEW = timedelta(minutes=5)


class ReviewRequests:
    """Posts the questions."""

    def __init__(self, *, service: JobService, messages: MessageApi, supervisor: Supervisor) -> None:
        self._service = service
        self._store = service.store
        self._messages = messages
        self._supervisor = supervisor
        self._deciding: Counter[str] = Counter()
        """Clicks that record a decision and show it, by reply. All clicks in a server reach the same process."""

    def ask_soon(self, reply_id: str) -> None:
        """Ask about an order whose card says that it waits."""
        self._supervisor.start(f"review of {reply_id}", self._ask_or_leave(reply_id))

    @contextmanager
    def deciding_about(self, reply_id: str) -> Generator[None]:
        """Note that a click records a decision and shows it."""
        self._deciding[reply_id] += 1
        try:
            yield
        finally:
            self._deciding -= Counter({reply_id: 1})

    def is_being_decided(self, reply_id: str) -> bool:
        """Whether a click is about to show a decision that it may have recorded."""
        return self._deciding[reply_id] > 0

    async def run(self) -> None:
        """Ask about all orders that wait, until cancelled."""
        while True:
            while await self.sweep(self._service.now()) == BATCH:
                pass
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self, now: datetime) -> int:
        """Ask about those that were not asked about yet, one after another. Returns how many, at most `BATCH`."""
        waiting = await self._store.reviews_to_ask(now=now, limit=BATCH)
        for reply_id in waiting:
            await self._ask_or_leave(reply_id)
        return len(waiting)

    async def _ask_or_leave(self, reply_id: str) -> None:
        try:
            await self._ask(reply_id)
        except (StoreError, MediaError):
            _log.exception("moderators could not be asked about reply %s yet; the sweep tries again", reply_id)

    async def _ask(self, reply_id: str) -> None:
        view = await self._service.view(reply_id)
        if view is None or not view.reply.is_waiting_for_review:
            return
        policy = await self._store.policy(view.reply.address.guild_id)
        # Where moderators look now; if they review nothing any more, where they looked when it was ordered.
        channel_id = policy.review_channel_id or view.reply.visibility.review_channel_id
        assert channel_id is not None, "an order that waits has a review channel"
        claim = await self._store.claim_review(reply_id, channel_id=channel_id, now=self._service.now())
        if claim is None:
            return
        posted: PostedMessage | None = None
        try:
            async with asyncio.timeout(POST_TIMEOUT_SECONDS):
                if not claim.is_first:
                    posted = await self._posted(reply_id, channel_id, claim.first_claimed_at)
                if posted is None:
                    posted = await self._post(view, channel_id)
        except (TimeoutError, discord.HTTPException, discord.RateLimited, aiohttp.ClientError, OSError) as error:
            _log.warning("the question about reply %s is not posted in channel %d yet: %s", reply_id, channel_id, error)
            if is_final(error):
                await self._store.postpone_review(reply_id, until=self._service.now() + REFUSED_PAUSE)
            return
        await self._store.record_review(
            reply_id, channel_id=posted.channel_id, message_id=posted.message_id, now=self._service.now()
        )

    async def _posted(self, reply_id: str, channel_id: int, since: datetime) -> PostedMessage | None:
        """Find what an attempt that was cut off has posted."""
        after = discord.utils.time_snowflake(since - CLOCK_SKEW)
        marks = question.custom_id(question.APPROVE, reply_id)
        return await self._messages.posted(channel_id, job_id=marks, after=after)

    async def _post(self, view: ReplyView, channel_id: int) -> PostedMessage:
        """Post the question, smaller or without the prompt where Discord asks for it."""
        limit_bytes, hide_prompt = DEFAULT_FILE_LIMIT_BYTES, False
        while True:
            images = await load_images(self._service, view, limit_bytes=limit_bytes, hide_prompt=hide_prompt)
            try:
                return await self._post_once(view, channel_id, images, hide_prompt=hide_prompt)
            except discord.HTTPException as error:
                largest_bytes = max((len(image.data) for image in images), default=0)
                if is_too_large(error) and largest_bytes > MIN_FILE_LIMIT_BYTES:
                    limit_bytes = max(min(limit_bytes, largest_bytes) // 2, MIN_FILE_LIMIT_BYTES)
                elif error.code == AUTOMOD_BLOCKED and not hide_prompt:
                    hide_prompt = True
                else:
                    raise

    async def _post_once(
        self, view: ReplyView, channel_id: int, images: list[AttachedImage], *, hide_prompt: bool
    ) -> PostedMessage:
        with use_locale(view.reply.address.language):
            layout = question.layout(
                view,
                [image.shown for image in images],
                lost_images=count_lost(view, images),
                hide_prompt=hide_prompt,
            )
        nonce = f"v{view.reply.id}"
        return await self._messages.post(channel_id, layout, files=files_of(images), nonce=nonce)
