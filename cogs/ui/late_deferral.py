"""Late deferral: what waits for a database that does not answer is deferred before Discord calls it failed.

Commands answer within milliseconds, so most of them do not defer: a deferral shows every member a "thinking" first.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import discord

from cogs.ui.components import Layout, View
from cogs.ui.discord_api.message_api import NO_MENTIONS

_log = logging.getLogger(__name__)

LATE_SECONDS = 1.8
"""Discord gives 3 seconds, and the deferral has to arrive by then."""

_TIMER = "late deferral"
_IS_DEFERRED = "is deferred, since it was late"
_deferrals: set[asyncio.Task[None]] = set()


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
