"""Answer: the first response to a command. At once where possible, deferred when it takes longer than a second.

Discord wants an answer within 3 seconds. An admission takes milliseconds, so the card itself is usually that answer;
downloading attachments may take longer. A refusal is private, also after a public deferral.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp
import discord

from bot.domain.jobs import ReplyAddress
from cogs.text import job_card
from cogs.text.locale import ENGLISH
from cogs.ui import card as render
from cogs.ui.components import Layout, View
from cogs.ui.message_api import NOBODY, MessageApi, PostedMessage

_log = logging.getLogger(__name__)

DEFER_AFTER_SECONDS = 1.0
ANSWER_SECONDS = 3.5
"""Discord's 3 seconds and a little for clocks that differ."""

LOOK_SECONDS = 10.0
_ALREADY_ACKNOWLEDGED = 40060


class NotShown(Exception):
    """Discord did not accept the answer. `surely` is False when that could not be found out."""

    def __init__(self, *, surely: bool) -> None:
        super().__init__("Discord did not accept the answer")
        self.surely = surely


class InitialResponse:
    """`async with Answer(interaction, messages, private=…) as answer:` then exactly one of `show` or `refuse`."""

    def __init__(self, interaction: discord.Interaction[Any], messages: MessageApi, *, private: bool) -> None:
        self._interaction = interaction
        self._messages = messages
        self._private = private
        self._deferred = False
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._deferral: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # A timer, not a task that sleeps: nearly every answer comes before it is due.
        self._timer = asyncio.get_running_loop().call_later(DEFER_AFTER_SECONDS, self._begin_deferral)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._deferral is not None:
            self._deferral.cancel()

    def _begin_deferral(self) -> None:
        self._deferral = asyncio.create_task(self._defer(), name=f"deferral of {self._interaction.id}")

    async def _defer(self) -> None:
        async with self._lock:
            if self._interaction.response.is_done():
                return
            try:
                await self._interaction.response.defer(thinking=True, ephemeral=self._private)
                self._deferred = True
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                _log.warning("could not defer: %s", error)

    async def show(self, card: Layout) -> PostedMessage:
        """Show the card. Raises NotShown."""
        async with self._lock:
            if self._deferred:
                return await self._edit_original(card)
            try:
                # Discord takes no answer after 3 seconds, so trying for longer would only hold the money.
                async with asyncio.timeout(ANSWER_SECONDS):
                    message_id = await self._send(card)
            except discord.HTTPException as error:
                if error.code != _ALREADY_ACKNOWLEDGED and error.status < 500:
                    raise NotShown(surely=True) from error
                # The answer may have arrived although we were told otherwise (a repeated call after a lost response).
                return await self._look_for_it()
            except (aiohttp.ClientError, OSError, discord.InteractionResponded):
                return await self._look_for_it()
        if message_id is None:
            return await self._look_for_it()
        return PostedMessage(message_id=message_id, channel_id=self._interaction.channel_id or 0, attachment_ids={})

    async def _send(self, card: Layout) -> int | None:
        """The card as the answer; once more when the connection broke, since Discord accepts only one of the two."""
        respond = partial(
            self._interaction.response.send_message,
            view=View(card),
            ephemeral=self._private,
            allowed_mentions=NOBODY,
        )
        try:
            return (await respond()).message_id
        except (aiohttp.ClientError, ConnectionError) as error:
            _log.info("the connection broke while answering: %s", error)
            return (await respond()).message_id

    async def refuse(self, text: str) -> None:
        """Say privately why nothing was ordered."""
        layout = render.refused(text)
        async with self._lock:
            try:
                if not self._deferred:
                    await self._interaction.response.send_message(
                        view=View(layout), ephemeral=True, allowed_mentions=NOBODY
                    )
                elif self._private:
                    await self._edit_original(layout)
                else:
                    await self._refuse_after_public_deferral(layout)
            except (discord.HTTPException, aiohttp.ClientError, OSError, NotShown) as error:
                _log.info("a refusal could not be shown: %s", error)

    async def _refuse_after_public_deferral(self, layout: Layout) -> None:
        # The first message after a deferral takes its place and stays public, and a deferral that is deleted may take
        # every further message with it (discord-api-docs #2866, #2739, #3087). So: a word that tells nothing, then the
        # refusal, and away with the word.
        await self._edit_original(render.note(job_card.ANSWERED_PRIVATELY()))
        try:
            await self._interaction.followup.send(view=View(layout), ephemeral=True, allowed_mentions=NOBODY)
        finally:
            await self._interaction.delete_original_response()

    async def _edit_original(self, layout: Layout) -> PostedMessage:
        try:
            return await self._messages.edit(address_of(self._interaction), layout, by_token=True)
        except discord.HTTPException as error:
            raise NotShown(surely=error.status < 500) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotShown(surely=False) from error

    async def _look_for_it(self) -> PostedMessage:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._messages.original(address_of(self._interaction))
        except discord.HTTPException as error:
            raise NotShown(surely=error.status == 404) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotShown(surely=False) from error


def address_of(
    interaction: discord.Interaction[Any], *, private: bool = False, language: str = ENGLISH
) -> ReplyAddress:
    """Where the answer to this interaction lives and what it speaks, as plain values."""
    return ReplyAddress(
        application_id=interaction.application_id,
        interaction_id=interaction.id,
        token=interaction.token,
        token_expires_at=interaction.expires_at,
        guild_id=interaction.guild_id or 0,
        channel_id=interaction.channel_id or 0,
        message_id=None,
        private=private,
        file_limit_bytes=interaction.filesize_limit,
        locale=str(interaction.locale),
        language=language,
    )


async def respond_privately(
    interaction: discord.Interaction[Any], layout: Layout, *, files: list[discord.File] | None = None
) -> None:
    """A private message in answer to a command or a button; works whether or not it was answered before."""
    options: dict[str, Any] = {"files": files} if files else {}
    if interaction.response.is_done():
        await interaction.followup.send(view=View(layout), ephemeral=True, allowed_mentions=NOBODY, **options)
    else:
        await interaction.response.send_message(view=View(layout), ephemeral=True, allowed_mentions=NOBODY, **options)
