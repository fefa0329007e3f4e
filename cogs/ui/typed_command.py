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

KEPT_CHARACTERS = 20
"""Less text than this, all options together, is sooner typed again than copied."""

FILENAME = "command.txt"
_SUBCOMMANDS = (
    discord.AppCommandOptionType.subcommand.value,
    discord.AppCommandOptionType.subcommand_group.value,
)
_NAMED = {
    discord.AppCommandOptionType.attachment.value: ("attachments", "", "filename"),
    discord.AppCommandOptionType.user.value: ("users", "@", "username"),
    discord.AppCommandOptionType.role.value: ("roles", "@", "name"),
    discord.AppCommandOptionType.channel.value: ("channels", "#", "name"),
}
"""Options whose value is an id: where the names are, the mark before the name, and its key."""

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
    """Return what was typed with the interaction; None if it has neither a prompt nor much other text."""
    data = cast("dict[str, Any]", interaction.data or {})
    if interaction.type is discord.InteractionType.modal_submit:
        typed = dict(_text_inputs(data.get("components", ())))
        texts = list(typed.values())
        start = ""
    elif interaction.type is discord.InteractionType.application_command:
        typed = dict(_options(data))
        texts = list(_texts(data))
        start = "/" + " ".join(_names(data))
    else:
        return None
    prompt = typed.get(PROMPT, "")
    if not prompt.strip() and sum(len(text.strip()) for text in texts) < KEPT_CHARACTERS:
        return None
    named = " ".join(f"{option_name(name)}: {value}" for name, value in typed.items() if value)
    return TypedCommand(line=_possible(f"{start} {named}".strip()), prompt=_possible(prompt.strip() and prompt))


def _possible(text: str) -> str:
    """Replace what only a modified client sends and nobody can encode."""
    return text.encode("utf-8", "replace").decode()


def _names(data: dict[str, Any]) -> Iterator[str]:
    """Yield the name of the command and of its subcommands."""
    yield str(data.get("name", ""))
    for option in data.get("options", ()):
        if option["type"] in _SUBCOMMANDS:
            yield from _names(option)


def _options(data: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each option; for what has an id its name as members see it."""
    resolved = data.get("resolved", {})
    for option in _given(data):
        kind, value = option["type"], str(option["value"])
        if kind in _NAMED:
            table, mark, key = _NAMED[kind]
            yield option["name"], mark + str(resolved.get(table, {}).get(value, {}).get(key, value))
        else:
            yield option["name"], value


def _texts(data: dict[str, Any]) -> Iterator[str]:
    """Yield the value of each option for a text."""
    for option in _given(data):
        if option["type"] == discord.AppCommandOptionType.string.value:
            yield str(option["value"])


def _given(data: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the options that were given, also those of a subcommand."""
    for option in data.get("options", ()):
        if option["type"] in _SUBCOMMANDS:
            yield from _given(option)
        else:
            yield option


def _text_inputs(parts: Any) -> Iterator[tuple[str, str]]:
    """Yield custom id and text of each text input of a form."""
    for part in parts:
        if part.get("type") == _TEXT_INPUT.value:
            yield str(part["custom_id"]), str(part.get("value", ""))
        yield from _text_inputs(part.get("components", ()))
        if inner := part.get("component"):
            yield from _text_inputs((inner,))
