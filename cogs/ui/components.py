"""Components: what a message is made of, as plain values in Discord's own JSON (reference: components).

A layout has no callbacks: buttons and selects are answered by their custom ids, whatever message they are in (see
error_handler.py). So a finished layout is not a `ui.LayoutView`, which costs several times as much to build and keeps
every message ever sent in a reference cycle until the garbage collector runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import discord
from discord import ui

Component = dict[str, Any]
Layout = list[Component]
"""A whole message."""

GREY = discord.ButtonStyle.secondary.value
RED = discord.ButtonStyle.danger.value


def container(parts: Iterable[Component], *, accent: int) -> Layout:
    """A message whose parts stand in one frame of this colour."""
    return [{"type": 17, "accent_color": accent, "spoiler": False, "components": list(parts)}]


def text_display(content: str) -> Component:
    """Markdown."""
    return {"type": 10, "content": content}


def separator() -> Component:
    """A line between two parts."""
    return {"type": 14, "divider": True, "spacing": 1}


def file(filename: str) -> Component:
    """A file of this message to download."""
    return {"type": 13, "file": {"url": attached(filename)}, "spoiler": False}


def media_gallery(*images: Component) -> Component:
    """Up to ten pictures beside each other."""
    return {"type": 12, "items": list(images)}


def media_item(url: str, description: str) -> Component:
    """One picture of a gallery, with its words for people who cannot see it."""
    return {"media": {"url": url}, "spoiler": False, "description": description}


def attached(filename: str) -> str:
    """The address of a file that comes with the message."""
    return f"attachment://{filename}"


def action_row(*controls: Component) -> Component:
    """Up to five buttons beside each other, or one choice."""
    return {"type": 1, "components": list(controls)}


def button(label: str, custom_id: str, *, style: int = GREY, disabled: bool = False) -> Component:
    """Something to press."""
    return {"type": 2, "style": style, "disabled": disabled, "label": label, "custom_id": custom_id}


def string_select(custom_id: str, *, placeholder: str, options: Iterable[tuple[str, str]]) -> Component:
    """One out of up to 25: (label, value)."""
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


class View(ui.LayoutView):
    """A layout for the calls of discord.py that take nothing plainer. It listens to nobody."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(timeout=None)
        self._layout = layout
        # Nothing dispatches to this object, so discord.py need not remember it for every message ever sent.
        self.stop()

    def to_components(self) -> list[dict[str, Any]]:
        """The layout as it is."""
        return self._layout

    def has_components_v2(self) -> bool:
        """The layout is made of nothing else."""
        return True
