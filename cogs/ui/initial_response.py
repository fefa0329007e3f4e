"""Initial response: the first answer to a command, at once if possible, deferred if it takes longer than a second.

Discord requires a response within 3 seconds. An admission takes milliseconds, so the card itself is usually that
response; downloading attachments may take longer. A refusal is private, also after a public deferral.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

import aiohttp
import discord

from bot.domain.jobs import ReplyAddress
from cogs.text import job_card
from cogs.text.locale import ENGLISH
from cogs.ui import card
from cogs.ui.components import Layout, View
from cogs.ui.message_api import NO_MENTIONS, MessageApi, PostedMessage
from cogs.ui.typed_command import TypedCommand

_log = logging.getLogger(__name__)

DEFER_AFTER_SECONDS = 1.0
RESPONSE_TIMEOUT_SECONDS = 3.5
"""Discord's 3 seconds and a margin for clocks that differ."""

READ_TIMEOUT_SECONDS = 10.0
_ALREADY_ACKNOWLEDGED = 40060


class NotShown(Exception):
    """Discord did not accept the response. `surely` is False if it may be visible after all."""

    def __init__(self, *, surely: bool) -> None:
        super().__init__("Discord did not accept the response")
        self.surely = surely


class InitialResponse:
    """`async with InitialResponse(interaction, messages, private=…) as response:`, then one of `show` or `refuse`."""

    def __init__(self, interaction: discord.Interaction[Any], messages: MessageApi, *, private: bool) -> None:
        self._interaction = interaction
        self._messages = messages
        self._private = private
        self._deferred = False
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._deferral: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        # A timer costs less than a task that sleeps, and nearly every response is sent before it fires.
        self._timer = asyncio.get_running_loop().call_later(DEFER_AFTER_SECONDS, self._start_deferral)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._deferral is not None:
            self._deferral.cancel()

    def _start_deferral(self) -> None:
        self._deferral = asyncio.create_task(self._defer(), name=f"deferral of {self._interaction.id}")

    async def _defer(self) -> None:
        async with self._lock:
            if self._interaction.response.is_done():
                return
            try:
                await self._interaction.response.defer(thinking=True, ephemeral=self._private)
                self._deferred = True
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                _log.warning("could not defer the response to interaction %d: %s", self._interaction.id, error)

    async def show(self, layout: Layout) -> PostedMessage:
        """Show the card and return it as posted. Raises NotShown."""
        async with self._lock:
            if self._deferred:
                return await self._edit_original(layout)
            try:
                # Discord takes no response after 3 seconds, so a longer wait would only keep the money reserved.
                async with asyncio.timeout(RESPONSE_TIMEOUT_SECONDS):
                    message_id = await self._send(layout)
            except discord.HTTPException as error:
                if error.code != _ALREADY_ACKNOWLEDGED and error.status < 500:
                    raise NotShown(surely=True) from error
                # The card may be visible in spite of the error, as after a repeated call whose first answer was lost.
                return await self._read_back()
            except (aiohttp.ClientError, OSError, discord.InteractionResponded):
                return await self._read_back()
        if message_id is None:
            return await self._read_back()
        return PostedMessage(message_id=message_id, channel_id=self._interaction.channel_id or 0, attachment_ids={})

    async def _send(self, layout: Layout) -> int | None:
        """Send the card; once more if the connection broke, since Discord accepts only one of the two."""
        respond = partial(
            self._interaction.response.send_message,
            view=View(layout),
            ephemeral=self._private,
            allowed_mentions=NO_MENTIONS,
        )
        try:
            return (await respond()).message_id
        except (aiohttp.ClientError, ConnectionError) as error:
            _log.info("the connection broke during the response to interaction %d: %s", self._interaction.id, error)
            return (await respond()).message_id

    async def refuse(self, layout: Layout, typed: TypedCommand | None = None) -> None:
        """Say privately why nothing was ordered, with the files of what was typed."""
        async with self._lock:
            try:
                if not self._deferred:
                    await self._interaction.response.send_message(
                        view=View(layout), files=_files(typed), ephemeral=True, allowed_mentions=NO_MENTIONS
                    )
                elif self._private:
                    await self._edit_original(layout, _files(typed))
                else:
                    await self._refuse_after_public_deferral(layout, _files(typed))
            except (discord.HTTPException, aiohttp.ClientError, OSError, NotShown) as error:
                _log.info(
                    "could not show member %d in server %s a refusal: %s",
                    self._interaction.user.id,
                    self._interaction.guild_id,
                    error,
                )

    async def _refuse_after_public_deferral(self, layout: Layout, files: list[discord.File]) -> None:
        # The first message after a public deferral replaces it and stays public, and deleting the deferral may delete
        # every later message (discord-api-docs #2866, #2739, #3087). So a neutral public message comes first, then the
        # private refusal, and then the public message is deleted.
        await self._edit_original(card.note(job_card.ANSWERED_PRIVATELY()))
        try:
            await self._interaction.followup.send(
                view=View(layout), files=files, ephemeral=True, allowed_mentions=NO_MENTIONS
            )
        finally:
            await self._interaction.delete_original_response()

    async def _edit_original(self, layout: Layout, files: Sequence[discord.File] = ()) -> PostedMessage:
        try:
            return await self._messages.edit(address_of(self._interaction), layout, files=files, by_token=True)
        except discord.HTTPException as error:
            raise NotShown(surely=error.status < 500) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotShown(surely=False) from error

    async def _read_back(self) -> PostedMessage:
        try:
            async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                return await self._messages.original(address_of(self._interaction))
        except discord.HTTPException as error:
            raise NotShown(surely=error.status == 404) from error
        except (aiohttp.ClientError, OSError) as error:
            raise NotShown(surely=False) from error


def _files(typed: TypedCommand | None) -> list[discord.File]:
    return [] if typed is None else typed.files()


def address_of(
    interaction: discord.Interaction[Any], *, private: bool = False, language: str = ENGLISH
) -> ReplyAddress:
    """Return where the response to the interaction is, and its language, as plain values."""
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
    """Send a private message in answer to a command or component, as the initial response or a later one."""
    options: dict[str, Any] = {"ephemeral": True, "allowed_mentions": NO_MENTIONS} | ({"files": files} if files else {})
    if interaction.response.is_done():
        await interaction.followup.send(view=View(layout), **options)
    else:
        await interaction.response.send_message(view=View(layout), **options)
