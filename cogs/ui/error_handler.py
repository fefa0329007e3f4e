"""Error handler: what a user reads when a command, button or form fails is a sentence, never a traceback."""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from typing import Any, Self, TypeVar

import aiohttp
import discord
from discord import app_commands, ui

from bot.domain.errors import RequestRefused, StillBusyForYou, StoreError
from cogs.text import refusals
from cogs.text.locale import set_locale_of
from cogs.ui.checks import NotAllowed, require_allowed_server, require_choice, require_possible_text
from cogs.ui.client import BotClient, Interaction
from cogs.ui.initial_response import defer_if_late, refuse_privately

_log = logging.getLogger(__name__)

_USER_OR_ROLE = frozenset({discord.AppCommandOptionType.user, discord.AppCommandOptionType.role})


_DEFERRED = (
    discord.InteractionResponseType.deferred_channel_message,
    discord.InteractionResponseType.deferred_message_update,
)


async def report(interaction: discord.Interaction[Any], error: Exception) -> None:
    """Answer privately with what went wrong, and log what only the operator can repair."""
    cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
    match cause:
        case NotAllowed():
            text = str(cause)
        case RequestRefused():
            text = refusals.refusal(cause)
        case StoreError() | discord.InteractionResponded():  # the second one: a form came too late to be the response
            _log.error("the database is unavailable: %s", _origin(interaction), exc_info=cause)
            text = refusals.BOOKS_UNAVAILABLE()
        case app_commands.TransformerError() if cause.type in _USER_OR_ROLE:
            text = refusals.MEMBER_UNKNOWN()
        case app_commands.NoPrivateMessage():
            text = refusals.SERVER_ONLY()
        case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch() | app_commands.TransformerError():
            text = refusals.COMMAND_CHANGED()
        case _:
            _log.error("unexpected error: %s", _origin(interaction), exc_info=cause)
            text = refusals.UNEXPECTED()
    try:
        await refuse_privately(interaction, text)
    except (discord.HTTPException, aiohttp.ClientError, OSError) as problem:
        _log.info("could not answer with an error message: %s: %s", _origin(interaction), problem)


async def refuse_unknown_form(interaction: discord.Interaction[Any]) -> None:
    """Give back what was typed into a form that was submitted before, or opened before a restart."""
    set_locale_of(interaction)
    await report(interaction, NotAllowed(refusals.FORM_CLOSED()))


async def refuse_since_stopping(interaction: discord.Interaction[Any]) -> None:
    """Say that the bot is restarting in answer to a command that has none yet."""
    is_answered = interaction.response.is_done() and interaction.response.type not in _DEFERRED
    if is_answered or interaction.type is discord.InteractionType.autocomplete:
        return
    set_locale_of(interaction)
    await report(interaction, NotAllowed(refusals.SHUTTING_DOWN()))


def _origin(interaction: discord.Interaction[Any]) -> str:
    """Say who used which command or component where, for the log."""
    name = interaction.command.qualified_name if interaction.command else (interaction.data or {}).get("custom_id")
    return f"{name} of member {interaction.user.id} in server {interaction.guild_id}"


ComponentT = TypeVar("ComponentT", bound=ui.Item[Any])


class DynamicComponent(ui.DynamicItem[ComponentT], ABC, template="(?!)"):  # this base answers no click itself
    """Base of buttons and selects. What they act on is in their custom id, so they survive any restart.

    Answers in the language of the user, and reports every error.
    """

    def __init__(self, item: ComponentT, match: re.Match[str]) -> None:
        super().__init__(item)
        self._match = match

    @classmethod
    async def from_custom_id(cls, interaction: discord.Interaction[Any], item: Any, match: re.Match[str], /) -> Self:
        """Take the component as it is in the message, and what the template found in its custom id."""
        return cls(item, match)

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Handle a click or a choice."""
        set_locale_of(interaction)
        defer_if_late(interaction)
        client: BotClient = interaction.client
        client.order_flow.track_current_task(interaction)
        is_double = client.click_debouncer.is_double(interaction)
        try:
            require_allowed_server(interaction)
            require_possible_text(interaction)
            require_choice(interaction)
            await self.handle(interaction)
        except Exception as error:
            if is_double and isinstance(error, StillBusyForYou):  # the answer to the first click says it all
                await interaction.response.defer()
                return
            await report(interaction, error)

    @abstractmethod
    async def handle(self, interaction: Interaction) -> None:
        """Do what the component is for; every error raised in here is reported."""


REASON_CHARACTERS = 200


class Form(ui.Modal):
    """Base of modals: answers in the language of the user, and reports every error."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        """Set the language and check the server before `on_submit`."""
        set_locale_of(interaction)
        defer_if_late(interaction)
        interaction.client.order_flow.track_current_task(interaction)
        require_allowed_server(interaction)
        require_possible_text(interaction)
        for field in self.walk_children():
            # A modified client does not keep the limit.
            if isinstance(field, ui.TextInput) and field.max_length and len(field.value) > field.max_length:
                raise NotAllowed(refusals.COMMAND_CHANGED())
        return True

    async def on_error(self, interaction: discord.Interaction[Any], error: Exception, /) -> None:
        """Report an error of `on_submit` like that of a command."""
        await report(interaction, error)


class ReasonForm(Form):
    """Base of forms that ask for a reason alone."""

    def __init__(self, *, title: str, label: str, required: bool) -> None:
        super().__init__(title=title, timeout=15 * 60)
        self._reason: ui.TextInput[ReasonForm] = ui.TextInput(
            custom_id="reason", max_length=REASON_CHARACTERS, required=required
        )
        self.add_item(ui.Label(text=label, component=self._reason))
