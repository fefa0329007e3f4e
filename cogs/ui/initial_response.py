"""Initial response: the first answer to a command, at once if possible, deferred if it takes longer than a second.

Discord requires a response within 3 seconds. An admission takes milliseconds, so the card itself is usually that
response; downloading attachments may take longer. A refusal is private, also after a public deferral.

What waits for a database that does not answer is deferred as well, before Discord calls it failed: `defer_if_late`.
Most commands do not defer at once, because they answer within milliseconds and a deferral shows every member a
"thinking" first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any, Self

import aiohttp
import discord

from bot.domain.jobs import DIRECT_GUILD_ID, NO_CHANNEL_ID, ReplyAddress
from bot.service.views import ReplyView
from cogs.text import job_card
from cogs.text.locale import ENGLISH
from cogs.ui import card, components
from cogs.ui.card import Form
from cogs.ui.checks import server_or_direct
from cogs.ui.components import Layout, View
from cogs.ui.discord_api.discord_errors import ALREADY_ACKNOWLEDGED, is_final, is_malformed, with_readable_errors
from cogs.ui.discord_api.message_api import NO_MENTIONS, MessageApi, PostedMessage
from cogs.ui.typed_command import TypedCommand, typed_command

_log = logging.getLogger(__name__)

DEFER_AFTER_SECONDS = 1.0
RESPONSE_TIMEOUT_SECONDS = 3.5
"""Discord's 3 seconds and a margin for clocks that differ."""

RESPONSE_ATTEMPTS = 3
RESPONSE_PAUSE_SECONDS = 0.2
EDIT_TIMEOUT_SECONDS = 10.0
LATE_SECONDS = 1.8
"""Discord gives 3 seconds, and the deferral has to arrive by then."""

_TIMER = "late deferral"
_IS_DEFERRED = "is deferred, since it was late"
_deferrals: set[asyncio.Task[None]] = set()


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
        self._may_be_deferred = False
        """Whether a deferral was sent and it is not known what became of it."""
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._deferral: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        leave_deferral_to(self._interaction)
        self._deferred = self._interaction.response.is_done()
        # A timer costs less than a task that sleeps, and nearly every response is sent before it fires.
        self._timer = asyncio.get_running_loop().call_later(DEFER_AFTER_SECONDS, self._start_deferral)
        return self

    async def __aexit__(self, *_: object) -> None:
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
            except Exception as error:
                self._may_be_deferred = not is_final(error) and not _is_already_acknowledged(error)
                _log.warning("could not defer the response to interaction %d: %s", self._interaction.id, error)

    async def show(self, view: ReplyView) -> PostedMessage:
        """Show the card of an order and return it as posted. Raises NotShown."""
        async with self._lock:
            if self._deferred:
                return await self._edit_original(view)
            try:
                # Discord takes no response after 3 seconds, so a longer wait would only keep the money reserved.
                async with asyncio.timeout(RESPONSE_TIMEOUT_SECONDS):
                    cards = (card.card(view, form=form) for form in (Form.FULL, Form.SMALLER))
                    message_id = await self._send(cards, private=self._private)
            except Exception as error:
                if is_final(error) or is_malformed(error):
                    raise NotShown(surely=True) from error
                # The card, or a deferral, may be visible in spite of the error: Discord accepts only one response.
                _log.info("it is not known whether interaction %d has its card: %s", self._interaction.id, error)
                message_id = None
            if message_id is None:
                return await self._edit_original(view)
        return PostedMessage(message_id=message_id, channel_id=self._interaction.channel_id or 0, attachment_ids={})

    async def _send(
        self, layouts: Iterator[Layout], *, private: bool, typed: TypedCommand | None = None
    ) -> int | None:  # fmt: skip
        """Send a response, again after an error that may pass, and the next layout if Discord refuses the contents.

        It may be sent several times, because Discord accepts only one response.
        """
        layout = next(layouts)
        for attempt in range(RESPONSE_ATTEMPTS):
            try:
                sent = await self._interaction.response.send_message(
                    view=View(layout), files=_files(typed), ephemeral=private, allowed_mentions=NO_MENTIONS
                )
            except Exception as error:
                is_last = attempt == RESPONSE_ATTEMPTS - 1
                if is_malformed(error):
                    smaller = next(layouts, None)
                    is_last |= smaller is None
                    layout = smaller or layout
                if is_last or is_final(error) or _is_already_acknowledged(error):
                    raise
                _log.info("an odd answer to the response to interaction %d: %s", self._interaction.id, error)
                # Set also when the answer could not be read. Discord says whether it has accepted a response.
                self._interaction.response._response_type = None  # pyright: ignore[reportPrivateUsage]
                await asyncio.sleep(RESPONSE_PAUSE_SECONDS)
            else:
                return sent.message_id
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def refuse(self, layout: Layout, typed: TypedCommand | None = None) -> None:
        """Say privately why nothing was ordered, with the files of what was typed."""
        async with self._lock:
            try:
                if not self._deferred:
                    try:
                        async with asyncio.timeout(RESPONSE_TIMEOUT_SECONDS):
                            plain = components.without_premium(layout)
                            layouts = [layout] if plain == layout else [layout, plain]
                            await self._send(iter(layouts), private=True, typed=typed)
                    except discord.HTTPException as error:
                        # Another delivery of the same command may have its card, which must stay.
                        if not (_is_already_acknowledged(error) and self._may_be_deferred):
                            raise
                    else:
                        return
                layout = components.without_premium(layout)  # whether Discord takes them is not known here
                if self._private:
                    await self._edit(layout, _files(typed))
                else:
                    await self._refuse_after_public_deferral(layout, _files(typed))
            except Exception as error:
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
        await self._edit(card.note(job_card.ANSWERED_PRIVATELY()))
        try:
            await self._interaction.followup.send(
                view=View(layout), files=files, ephemeral=True, allowed_mentions=NO_MENTIONS
            )
        finally:
            await self._interaction.delete_original_response()

    async def _edit_original(self, view: ReplyView) -> PostedMessage:
        """Show the card in the place of the deferral, or of itself. Raises NotShown."""
        try:
            try:
                return await self._edit(card.card(view))
            except discord.HTTPException as error:
                if not is_malformed(error):
                    raise
                return await self._edit(card.card(view, form=Form.SMALLER))
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            raise NotShown(surely=is_final(error)) from error

    async def _edit(self, layout: Layout, files: Sequence[discord.File] | None = None) -> PostedMessage:
        """Replace the original response, again after errors that may pass. Raises what MessageApi raises."""
        async with asyncio.timeout(EDIT_TIMEOUT_SECONDS):
            for _ in range(RESPONSE_ATTEMPTS - 1):
                try:
                    return await self._messages.edit(address_of(self._interaction), layout, files=files, by_token=True)
                except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                    if is_final(error) or is_malformed(error):
                        raise
                    _log.info("the response to interaction %d is edited again: %s", self._interaction.id, error)
                await asyncio.sleep(RESPONSE_PAUSE_SECONDS)
            return await self._messages.edit(address_of(self._interaction), layout, files=files, by_token=True)


def _is_already_acknowledged(error: Exception) -> bool:
    return isinstance(error, discord.HTTPException) and error.code == ALREADY_ACKNOWLEDGED


def _files(typed: TypedCommand | None) -> list[discord.File]:
    return [] if typed is None else typed.files()


def address_of(
    interaction: discord.Interaction[Any], *, private: bool = False, language: str = ENGLISH
) -> ReplyAddress:
    """Return where the response to the interaction is, and its language, as plain values."""
    guild_id = server_or_direct(interaction)
    # Among the channels outside its servers, the bot reaches only its own direct messages.
    has_access = guild_id != DIRECT_GUILD_ID or (interaction.guild_id is None and interaction.context.dm_channel)
    return ReplyAddress(
        application_id=interaction.application_id,
        interaction_id=interaction.id,
        token=interaction.token,
        token_expires_at=interaction.expires_at,
        guild_id=guild_id,
        channel_id=(interaction.channel_id or NO_CHANNEL_ID) if has_access else NO_CHANNEL_ID,
        message_id=None,
        private=private,
        file_limit_bytes=interaction.filesize_limit,
        locale=str(interaction.locale),
        language=language,
    )


@with_readable_errors
async def respond_privately(
    interaction: discord.Interaction[Any], layout: Layout, *, files: list[discord.File] | None = None
) -> None:
    """Send a private message in answer to a command or component, as the initial response or a later one.

    Raises discord.HTTPException, aiohttp.ClientError, OSError.
    """
    options: dict[str, Any] = {"ephemeral": True, "allowed_mentions": NO_MENTIONS} | ({"files": files} if files else {})
    try:
        await _answer(interaction, layout, options)
    except discord.HTTPException as error:
        plain = components.without_premium(layout)
        if files or plain == layout or not is_malformed(error):
            raise
        _log.warning("Discord takes no buttons that buy: is every SKU in TOPUP_SKUS published? %s", error)
        interaction.response._response_type = None  # pyright: ignore[reportPrivateUsage]
        await _answer(interaction, plain, options)


async def refuse_privately(interaction: discord.Interaction[Any], text: str) -> None:
    """Say privately why a command or form is refused, and give back what was typed where that took some effort.

    Raises discord.HTTPException, aiohttp.ClientError, OSError.
    """
    typed = typed_command(interaction)
    parts = [components.text_display(text), *(typed.parts() if typed else ())]
    layout = components.container(parts, accent=card.REFUSAL_ACCENT)
    await respond_privately(interaction, layout, files=typed.files() if typed else None)


async def _answer(interaction: discord.Interaction[Any], layout: Layout, options: dict[str, Any]) -> None:
    if not interaction.response.is_done():
        try:
            await interaction.response.send_message(view=View(layout), **options)
        except discord.InteractionResponded:
            pass  # a late deferral was on its way
        except discord.HTTPException as error:
            if not (_is_already_acknowledged(error) and is_deferred_late(interaction)):
                raise
        else:
            return
    await interaction.followup.send(view=View(layout), **options)


def defer_if_late(interaction: discord.Interaction[Any]) -> None:
    """Defer the interaction if the current task, which handles it, gave no response when it becomes late."""
    timer = asyncio.get_running_loop().call_later(LATE_SECONDS, _start, interaction)
    interaction.extras[_TIMER] = timer
    if (task := asyncio.current_task()) is not None:
        task.add_done_callback(lambda _: timer.cancel())


def leave_deferral_to(interaction: discord.Interaction[Any]) -> None:
    """Leave the deferral to the caller, who may need another kind of it."""
    timer: asyncio.TimerHandle | None = interaction.extras.get(_TIMER)
    if timer is not None:
        timer.cancel()


def is_deferred_late(interaction: discord.Interaction[Any]) -> bool:
    """Return whether a late deferral was sent, though Discord may not have answered it yet."""
    return _IS_DEFERRED in interaction.extras


async def edit_in_place(interaction: discord.Interaction[Any], layout: Layout, **options: Any) -> None:
    """Replace the message of a component, whether or not its click was deferred."""
    options = {"view": View(layout), "allowed_mentions": NO_MENTIONS} | options
    if interaction.response.is_done():
        await interaction.edit_original_response(**options)
    else:
        await interaction.response.edit_message(**options)


def _start(interaction: discord.Interaction[Any]) -> None:
    if interaction.response.is_done():
        return
    interaction.extras[_IS_DEFERRED] = True
    task = asyncio.create_task(_defer(interaction), name=f"late deferral of {interaction.id}")
    _deferrals.add(task)
    task.add_done_callback(_deferrals.discard)


async def _defer(interaction: discord.Interaction[Any]) -> None:
    try:
        if interaction.type is discord.InteractionType.component:
            await interaction.response.defer()
        else:
            await interaction.response.defer(ephemeral=True, thinking=True)
    except (discord.HTTPException, discord.InteractionResponded, aiohttp.ClientError, OSError) as error:
        _log.info("interaction %d could not be deferred: %s", interaction.id, error)
