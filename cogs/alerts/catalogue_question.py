"""Buttons of the message that asks the operator about held changes of the catalogue: Accept and Keep.

The custom id names the first and the last change that the message is about. Only who runs the bot may press.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import discord
from discord import ui

from cogs.text import limit_warnings
from cogs.ui import card, components
from cogs.ui.checks import NotAllowed
from cogs.ui.client import Interaction
from cogs.ui.components import Component, View
from cogs.ui.discord_api.message_api import NO_MENTIONS
from cogs.ui.error_handler import DynamicComponent

ACCEPT, KEEP = "accept", "keep"


def buttons(change_ids: Sequence[int]) -> list[Component]:
    """Return the buttons that decide about these changes; none without changes."""
    if not change_ids:
        return []
    span = f"{min(change_ids)}:{max(change_ids)}"
    return [
        components.action_row(
            components.button(limit_warnings.ACCEPT(), f"catalogue:{ACCEPT}:{span}"),
            components.button(limit_warnings.KEEP(), f"catalogue:{KEEP}:{span}"),
        )
    ]


class CatalogueButton(
    DynamicComponent[ui.Button[Any]],
    template=r"catalogue:(?P<choice>accept|keep):(?P<first>\d{1,18}):(?P<last>\d{1,18})",
):
    """Accept or Keep."""

    async def handle(self, interaction: Interaction) -> None:
        """Check who presses, decide about what is still held, and show the decision in place of the buttons.

        Where a decision is shown already, it stays, and who pressed too late is told so privately.
        """
        client = interaction.client
        if not client.operator_alerts.is_operator(interaction.user.id):
            raise NotAllowed(limit_warnings.OPERATOR_ONLY())
        await interaction.response.defer()
        first, last, accepted = int(self._match["first"]), int(self._match["last"]), self._match["choice"] == ACCEPT
        decided = await client.catalogue_keeper.decide_between(
            first, last, accept=accepted, decided_by=str(interaction.user.id)
        )
        answer = limit_warnings.decided(
            [change.model_id for change in decided], accepted=accepted, user_id=interaction.user.id
        )
        view = View(card.note(answer))
        if not decided and not await _still_asks(interaction):
            await interaction.followup.send(view=view, ephemeral=True, allowed_mentions=NO_MENTIONS)
            return
        await interaction.edit_original_response(view=view, allowed_mentions=NO_MENTIONS)


async def _still_asks(interaction: Interaction) -> bool:
    """Return whether the message has its buttons now: the press may have begun before another one ended."""
    message = await interaction.original_response()
    return any(
        isinstance(part, discord.Container) and any(isinstance(inner, discord.ActionRow) for inner in part.children)
        for part in message.components
    )
