"""Typed command: what a member typed into a command or form, to give it back when it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import discord

from cogs.text import formatting
from cogs.text.locale import option_name
from cogs.ui import components
from cogs.ui.attachments import upload
from cogs.ui.components import Component

PROMPT = "prompt"
"""Name of the option, and custom id of the text input, whose text took the most effort to write."""

SHOWN_CHARACTERS = 2_400
"""A longer command is attached as a file: Discord takes 4,000 characters of text in a message."""

FILENAME = "command.txt"
_SUBCOMMANDS = frozenset({discord.AppCommandOptionType.subcommand, discord.AppCommandOptionType.subcommand_group})
_ATTACHMENT = discord.AppCommandOptionType.attachment
_TEXT_INPUT = discord.ComponentType.text_input


@dataclass(frozen=True, kw_only=True, slots=True)
class TypedCommand:
    """`line` is the whole command as it can be typed again; `prompt` its prompt alone."""

    line: str
    prompt: str

    @property
    def is_of_form(self) -> bool:
        """Whether it was typed into a form, which has no options."""
        return not self.line.startswith("/")

    @property
    def is_long(self) -> bool:
        """Whether the command is attached as a file as well."""
        return len(self.line) > SHOWN_CHARACTERS

    def parts(self) -> list[Component]:
        """Lay out the command to copy."""
        parts = [components.text_display(formatting.block(self.line, SHOWN_CHARACTERS))]
        return [*parts, components.file(FILENAME)] if self.is_long else parts

    def files(self) -> list[discord.File]:
        """Return new file objects for one attempt to send what `parts` refers to."""
        return [upload(self.line.encode(), FILENAME)] if self.is_long else []


def typed_command(interaction: discord.Interaction[Any]) -> TypedCommand | None:
    """Return what was typed with the interaction; None if it has no prompt."""
    data = cast("dict[str, Any]", interaction.data or {})
    if interaction.type is discord.InteractionType.modal_submit:
        typed = dict(_text_inputs(data.get("components", ())))
        start = ""
    elif interaction.type is discord.InteractionType.application_command:
        typed = dict(_options(data))
        start = "/" + " ".join(_names(data))
    else:
        return None
    prompt = typed.get(PROMPT, "")
    if not prompt.strip():
        return None
    named = " ".join(f"{option_name(name)}: {value}" for name, value in typed.items() if value)
    return TypedCommand(line=_possible(f"{start} {named}".strip()), prompt=_possible(prompt))


def _possible(text: str) -> str:
    """Replace what only a modified client sends and nobody can encode."""
    return text.encode("utf-8", "replace").decode()


def _names(data: dict[str, Any]) -> Iterator[str]:
    """Yield the name of the command and of its subcommands."""
    yield str(data.get("name", ""))
    for option in data.get("options", ()):
        if discord.AppCommandOptionType(option["type"]) in _SUBCOMMANDS:
            yield from _names(option)


def _options(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each option; for an attachment its filename."""
    files = data.get("resolved", {}).get("attachments", {})
    for option in data.get("options", ()):
        kind = discord.AppCommandOptionType(option["type"])
        if kind in _SUBCOMMANDS:
            yield from _options(option)
        elif kind is _ATTACHMENT:
            yield option["name"], str(files.get(str(option["value"]), {}).get("filename", ""))
        else:
            yield option["name"], str(option["value"])


def _text_inputs(parts: Any) -> Iterator[tuple[str, str]]:
    """Yield custom id and text of each text input of a form."""
    for part in parts:
        if part.get("type") == _TEXT_INPUT.value:
            yield str(part["custom_id"]), str(part.get("value", ""))
        yield from _text_inputs(part.get("components", ()))
        if inner := part.get("component"):
            yield from _text_inputs((inner,))
