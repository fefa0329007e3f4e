"""Controls: what buttons, choices and forms have in common. They answer in the language of whoever uses them, and what
goes wrong becomes a sentence.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import discord
from discord import ui

from cogs.text import audience
from cogs.ui import error_handler


class Control(ABC):
    """Comes before `ui.DynamicItem` among the parents of a button or choice, which says in `used` what it does."""

    async def callback(self, interaction: discord.Interaction[Any]) -> None:
        """Somebody pressed or chose."""
        audience.activate(interaction)
        try:
            await self.used(interaction)
        except Exception as error:  # whatever it was, the user gets a sentence and the log the rest
            await error_handler.report(interaction, error)

    @abstractmethod
    async def used(self, interaction: discord.Interaction[Any]) -> None:
        """What it does; whatever it raises is reported."""


class Form(ui.Modal):
    """A modal. What it asks is said in the language of whoever opened it."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        """Comes before `on_submit`."""
        audience.activate(interaction)
        return True

    async def on_error(self, interaction: discord.Interaction[Any], error: Exception, /) -> None:
        """Same words as for a command that failed."""
        await error_handler.report(interaction, error)
