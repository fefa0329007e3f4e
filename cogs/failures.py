"""What a user reads when a command or button fails: a sentence, never a traceback."""

from __future__ import annotations

import logging
from typing import Any

import aiohttp
import discord
from discord import app_commands

from bot.errors import RequestRefused, StoreError
from cogs import refusal_words, render
from cogs.answer import tell
from cogs.guards import NotAllowed

_log = logging.getLogger(__name__)

_SOMEBODY = frozenset({discord.AppCommandOptionType.user, discord.AppCommandOptionType.role})


async def report(interaction: discord.Interaction[Any], error: Exception) -> None:
    """Answer privately with what went wrong; log what only the operator can mend."""
    cause = error.original if isinstance(error, app_commands.CommandInvokeError) else error
    match cause:
        case NotAllowed():
            text = str(cause)
        case RequestRefused():
            text = refusal_words.refusal(cause)
        case StoreError():
            _log.error("the books are unavailable", exc_info=cause)
            text = refusal_words.BOOKS_UNAVAILABLE()
        case app_commands.TransformerError() if cause.type in _SOMEBODY:
            text = refusal_words.MEMBER_UNKNOWN()
        case app_commands.NoPrivateMessage():
            text = refusal_words.SERVER_ONLY()
        case app_commands.CommandNotFound() | app_commands.CommandSignatureMismatch() | app_commands.TransformerError():
            text = refusal_words.COMMAND_CHANGED()
        case _:
            _log.error("a command failed", exc_info=cause)
            text = refusal_words.UNEXPECTED()
    try:
        await tell(interaction, render.refused(text))
    except (discord.HTTPException, aiohttp.ClientError, OSError) as problem:
        _log.info("a failure could not be told: %s", problem)
