"""The pages of /models: what can be ordered, what it can do and what it costs. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from bot.catalogue.models import Model
from bot.domain.quota import format_usd
from cogs.text import facts, formatting, spending
from cogs.text.locale import option_name
from cogs.ui import card, components
from cogs.ui.components import Layout

MODELS_TEXT_CHARACTERS = 3_600


def models(offered: Sequence[Model]) -> Layout:
    """Everything that can be ordered here, a line each, cheapest first."""
    lines: list[str] = []
    for item in sorted(offered, key=lambda model: model.starting_usd_micros or 0):
        low, high = item.price_range or (0, 0)
        price = format_usd(low) if low == high else f"{format_usd(low)} – {format_usd(high)}"
        lines.append(f"**{item.label}** · {price}\n-# `{item.id}`")
    text = "\n".join(lines)
    while len(text) > MODELS_TEXT_CHARACTERS:
        lines.pop()
        text = "\n".join([*lines, "…"])
    parts = [
        components.text_display(f"### {spending.MODELS_TITLE()}"),
        components.text_display(text),
        components.text_display(f"-# {spending.MODELS_HINT()}"),
    ]
    return components.container(parts, accent=card.NOTE_ACCENT)


def model(item: Model) -> Layout:
    """What one model can do and what it costs."""
    can = ", ".join(spending.MODEL_MODES[mode]() for mode in item.modes if mode in spending.MODEL_MODES)
    lines = [f"### {item.label}", f"`{item.id}`", can[:1].upper() + can[1:]]
    for option in item.supported_options:
        choices = item.choices(option)
        lines.append(f"-# `{option_name(option)}`{': ' + ', '.join(choices) if choices else ''}")
    prices = [
        " · ".join(filter(None, (format_usd(amount), facts.price_for(conditions))))
        for conditions, amount in item.price_table()
    ]
    lines.append("\n".join(prices) if item.orderable and prices else spending.MODEL_NO_PRICE())
    return card.note(formatting.shorten("\n".join(lines), 3_900))
