"""The pages of /privacy: the file with a member's data, and the question before it is erased. Pure functions."""

from __future__ import annotations

import re

import discord
from discord import ui

from cogs import render, words


def export(filename: str) -> render.Layout:
    """The file with a member's data."""
    parts: list[ui.Item[ui.LayoutView]] = [ui.TextDisplay(words.EXPORT_READY()), ui.File(f"attachment://{filename}")]
    return render.Layout(ui.Container(*parts, accent_colour=render.NOTE_ACCENT))


def ask_to_erase(*, commands: int, pictures: int, servers: int, user_id: int, asked_at: int) -> render.Layout:
    """What goes, what stays, and two buttons."""
    text = words.ERASE_ASK(
        commands=words.COMMANDS(commands), pictures=words.PICTURES(pictures), servers=words.SERVERS(servers)
    )
    erase = ui.Button[ui.LayoutView](
        label=words.ERASE(),
        style=discord.ButtonStyle.danger,
        custom_id=custom_id("erase", user_id, asked_at),
    )
    keep = ui.Button[ui.LayoutView](label=words.ERASE_NOT(), custom_id=custom_id("keep", user_id, asked_at))
    parts: list[ui.Item[ui.LayoutView]] = [ui.TextDisplay(text), ui.ActionRow(erase, keep)]
    return render.Layout(ui.Container(*parts, accent_colour=render.REFUSAL_ACCENT))


def custom_id(choice: str, user_id: int, asked_at: int) -> str:
    """`privacy:<erase or keep>:<who was asked>:<when, in seconds since 1970>`."""
    return f"privacy:{choice}:{user_id}:{asked_at}"


CUSTOM_ID = re.compile(r"privacy:(?P<choice>erase|keep):(?P<user_id>\d{1,20}):(?P<asked_at>\d{1,12})")
