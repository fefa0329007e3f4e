"""What a user reads when a command or button fails: a sentence, never a traceback."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import discord
from discord import app_commands

from bot.domain.errors import RequestRefused, StoreError
from cogs.text import refusals
from cogs.ui import card
from cogs.ui.checks import NotAllowed
from cogs.ui.initial_response import respond_privately

_log = logging.getLogger(__name__)

_SOMEBODY = frozenset({discord.AppCommandOptionType.user, discord.AppCommandOptionType.role})


async def report(interaction: discord.Interaction[Any], error: Exception) -> None:
    """Answer privately with what went wrong; log what only the operator can mend."""
    cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
    match cause:
        case NotAllowed():
            text = str(cause)
        case RequestRefused():
            text = refusals.refusal(cause)
        case StoreError():
            _log.error("the books are unavailable", exc_info=cause)
            text = refusals.BOOKS_UNAVAILABLE()
        case app_commands.TransformerError() if cause.type in _SOMEBODY:
            text = refusals.MEMBER_UNKNOWN()
        case app_commands.NoPrivateMessage():
            text = refusals.SERVER_ONLY()
        case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch() | app_commands.TransformerError():
            text = refusals.COMMAND_CHANGED()
        case _:
            _log.error("a command failed", exc_info=cause)
            text = refusals.UNEXPECTED()
    try:
        await respond_privately(interaction, card.refused(text))
    except (discord.HTTPException, aiohttp.ClientError, OSError) as problem:
        _log.info("a failure could not be told: %s", problem)
