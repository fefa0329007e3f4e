"""The pages of /privacy: the file with a member's data, and the question before it is erased. Pure functions."""

from __future__ import annotations

import re

from cogs.text import formatting, member_pages
from cogs.ui import card, components
from cogs.ui.components import Layout


def export(filename: str) -> Layout:
    """The file with a member's data."""
    parts = [components.text_display(member_pages.EXPORT_READY()), components.file(filename)]
    return components.container(parts, accent=card.NOTE_ACCENT)


def ask_to_erase(*, commands: int, images: int, servers: int, user_id: int, asked_at: int) -> Layout:
    """What goes, what stays, and two buttons."""
    text = member_pages.ERASE_ASK(
        commands=formatting.COMMANDS(commands), images=formatting.PICTURES(images), servers=formatting.SERVERS(servers)
    )
    erase = components.button(member_pages.ERASE(), custom_id("erase", user_id, asked_at), style=components.RED)
    keep = components.button(member_pages.ERASE_NOT(), custom_id("keep", user_id, asked_at))
    parts = [components.text_display(text), components.action_row(erase, keep)]
    return components.container(parts, accent=card.REFUSAL_ACCENT)


def custom_id(choice: str, user_id: int, asked_at: int) -> str:
    """`privacy:<erase or keep>:<who was asked>:<when, in seconds since 1970>`."""
    return f"privacy:{choice}:{user_id}:{asked_at}"


CUSTOM_ID = re.compile(r"privacy:(?P<choice>erase|keep):(?P<user_id>\d{1,20}):(?P<asked_at>\d{1,12})")
