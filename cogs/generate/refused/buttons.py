"""Buttons below a refusal: get the prompt back, or order what is offered instead, at the price on the button."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import discord
from discord import ui

from cogs.generate.ordering.order import Order
from cogs.generate.refused.kept_orders import Kept
from cogs.generate.refused.near_orders import NearOrder
from cogs.text import formatting, refusals
from cogs.ui import card, components
from cogs.ui.attachments import upload
from cogs.ui.checks import account_of
from cogs.ui.client import Interaction
from cogs.ui.components import Component, Layout
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately
from cogs.ui.typed_command import TypedCommand

COPY_ID = re.compile(r"refused:copy:(?P<key>[0-9a-f]{16})")
"""`refused:copy:<key of the kept command>`."""

ORDER_ID = re.compile(r"refused:order:(?P<key>[0-9a-f]{16}):(?P<number>\d):(?P<amount>\d{1,15})")
"""`refused:order:<key of the kept command>:<number of the order, from 0>:<price on the button>`."""

PROMPT_FILE = "prompt.txt"
COPIED_CHARACTERS = 3_900


def buttons(key: str, typed: TypedCommand | None, offered: list[NearOrder]) -> list[Component]:
    """Return the buttons below a refusal."""
    found = [
        components.button(near.label, f"refused:order:{key}:{number}:{near.amount_usd_micros}")
        for number, near in enumerate(offered)
    ]
    if typed is not None and typed.prompt:
        found.append(components.button(refusals.COPY_PROMPT(), f"refused:copy:{key}"))
    return found


def refusal(text: str, typed: TypedCommand | None, actions: list[Component], *, sku_ids: Sequence[int] = ()) -> Layout:
    """Lay out a refusal with the typed command, its buttons, and the purchases that would help."""
    parts = [components.text_display(text), *(typed.parts() if typed else ()), *components.action_rows(actions)]
    return components.container([*parts, *card.top_ups(sku_ids)], accent=card.REFUSAL_ACCENT)


class CopyPromptButton(DynamicComponent[ui.Button[Any]], template=COPY_ID):
    """Shows the prompt alone, to copy."""

    async def handle(self, interaction: Interaction) -> None:
        """Show the prompt as it was typed; as a file too where a code block would change or shorten it."""
        kept = interaction.client.order_flow.kept_orders.find(self._match["key"], user_id=interaction.user.id)
        if kept is None or kept.typed is None:
            await respond_privately(interaction, card.refused(refusals.NOT_KEPT()))
            return
        prompt = kept.typed.prompt
        shown = formatting.block(prompt, COPIED_CHARACTERS)
        parts, files = [components.text_display(shown)], list[discord.File]()
        if prompt.strip() not in shown:
            parts.append(components.file(PROMPT_FILE))
            files.append(upload(prompt.encode(), PROMPT_FILE))
        await respond_privately(interaction, components.container(parts, accent=card.NOTE_ACCENT), files=files)


class OrderInsteadButton(DynamicComponent[ui.Button[Any]], template=ORDER_ID):
    """Orders exactly what the button says, through the same checks as any order."""

    async def handle(self, interaction: Interaction) -> None:
        """Order it at the price on the button; if it has gone up since, the refusal asks."""
        account_id = account_of(interaction)
        if interaction.client.click_debouncer.is_double(interaction):
            await interaction.response.defer()
            return
        kept = interaction.client.order_flow.kept_orders.find(self._match["key"], user_id=interaction.user.id)
        order = self._order(kept, account_id)
        if kept is None or order is None:
            await respond_privately(interaction, card.refused(refusals.NOT_KEPT()))
            return
        agreed = replace(order, agreed_usd_micros=int(self._match["amount"]))
        await interaction.client.order_flow.submit_order(interaction, agreed, typed=kept.typed)

    def _order(self, kept: Kept | None, account_id: int) -> Order | None:
        number = int(self._match["number"])
        if kept is None or number >= len(kept.orders):
            return None
        order = kept.orders[number]
        return order if order.request.guild_id == account_id else None
