"""Components: what a message is made of, as plain values in Discord's own JSON (reference: components).

A layout has no callbacks: buttons and selects are answered by their custom ids, whatever message they are in (see
error_handler.py). So a finished layout is not a `ui.LayoutView`, which costs several times as much to build and keeps
every message ever sent in a reference cycle until the garbage collector runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import discord
from discord import ui

Component = dict[str, Any]
Layout = list[Component]
"""A whole message."""

GREY = discord.ButtonStyle.secondary.value
GREEN = discord.ButtonStyle.success.value
RED = discord.ButtonStyle.danger.value


def container(parts: Iterable[Component], *, accent: int) -> Layout:
    """Return a message with all parts in one container of this accent colour."""
    return [{"type": 17, "accent_color": accent, "spoiler": False, "components": list(parts)}]


def text_display(content: str) -> Component:
    """Return a text in Markdown."""
    return {"type": 10, "content": content}


def separator() -> Component:
    """Return a line between two parts."""
    return {"type": 14, "divider": True, "spacing": 1}


def file(filename: str) -> Component:
    """Return a file of the message to download."""
    return {"type": 13, "file": {"url": attached(filename)}, "spoiler": False}


def media_gallery(*images: Component) -> Component:
    """Return a gallery of up to ten images."""
    return {"type": 12, "items": list(images)}


def media_item(url: str, description: str, *, spoiler: bool = False) -> Component:
    """Return one image of a gallery, with an alt text; a spoiler is covered until it is clicked."""
    return {"media": {"url": url}, "spoiler": spoiler, "description": description}


def attached(filename: str) -> str:
    """Return the URL of a file that is attached to the message."""
    return f"attachment://{filename}"


def action_row(*controls: Component) -> Component:
    """Return a row of up to five buttons, or of one select."""
    return {"type": 1, "components": list(controls)}


def action_rows(buttons: Sequence[Component]) -> list[Component]:
    """Arrange buttons in one row of up to five, or in rows of equal length if there are more."""
    length = math.ceil(len(buttons) / math.ceil(len(buttons) / 5)) if buttons else 1
    return [action_row(*buttons[start : start + length]) for start in range(0, len(buttons), length)]


def button(label: str, custom_id: str, *, style: int = GREY, disabled: bool = False) -> Component:
    """Return a button."""
    return {"type": 2, "style": style, "disabled": disabled, "label": label, "custom_id": custom_id}


def premium_button(sku_id: int) -> Component:
    """Return a button that buys a SKU: Discord shows its name and price, and sends no interaction."""
    return {"type": 2, "style": discord.ButtonStyle.premium.value, "sku_id": str(sku_id)}


def without_premium(layout: Layout) -> Layout:
    """Return a layout without its premium buttons: Discord refuses a message with a SKU that is not for sale."""
    kept: Layout = []
    for part in layout:
        if "sku_id" in part:
            continue
        inner = part.get("components")
        if inner is None:
            kept.append(part)
        elif remaining := without_premium(inner):
            kept.append(part if remaining == inner else {**part, "components": remaining})
    return kept


def string_select(custom_id: str, *, placeholder: str, options: Iterable[tuple[str, str]]) -> Component:
    """Return a select of one out of up to 25 options, each (label, value)."""
    return {
        "type": 3,
        "custom_id": custom_id,
        "min_values": 1,
        "max_values": 1,
        "disabled": False,
        "required": True,
        "placeholder": placeholder,
        "options": [{"label": label, "value": value, "default": False} for label, value in options],
    }


def text_length(parts: Iterable[Component]) -> int:
    """Return the characters of text in these parts, of which Discord takes 4,000 in a message.

    A character outside the basic plane counts as two, as in JavaScript: Discord does not say how it counts.
    """
    total = 0
    for part in parts:
        total += len(str(part.get("content", "")).encode("utf-16-le")) // 2
        total += text_length(part.get("components", ()))
    return total


class View(ui.LayoutView):
    """A layout for those methods of discord.py that require a view. It has no callbacks."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(timeout=None)
        self._layout = layout
        # Without this, discord.py would keep the view of every message in memory to dispatch interactions to it.
        self.stop()

    def to_components(self) -> list[dict[str, Any]]:
        """Return the layout unchanged."""
        return self._layout

    def has_components_v2(self) -> bool:
        """Return True: a layout contains nothing but Components V2."""
        return True
