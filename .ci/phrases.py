"""Phrases: every text that the bot says, read off the source, with what a translator must know about each.

The source is read, not run, so that no phrase is missed for being deep in a table; what commands say of themselves is
asked of the commands.
"""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from discord import app_commands
from discord.ext import commands

sys.path.insert(0, str(Path(__file__).parents[1]))

from cogs.generate.edit import MENU_NAME
from cogs.text.command_translations import CHOICE, MENU
from cogs.text.locale import OPTION

ROOT = Path(__file__).parents[1]
DESCRIPTION_CHARACTERS = CHOICE_CHARACTERS = 100
NAME_CHARACTERS = 32
MAX_NOTES = 3

CODE = re.compile(r"`[^`]*`")
OPTION_IN_CODE = re.compile(r"(?<=^`)\w+(?=`$)|\w+(?=:)")
"""`count`, and the `model` of `/models model:`."""

Id = str | tuple[str, str]
Key = tuple[str | None, Id]
Command = app_commands.Command[Any, ..., Any] | app_commands.Group


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One text in English."""

    text: str
    plural: str | None = None
    context: str | None = None
    limit: int | None = None
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    """The options it names, which each language calls its own way."""

    @property
    def id(self) -> Id:
        """The text as gettext calls it."""
        return self.text if self.plural is None else (self.text, self.plural)

    @property
    def key(self) -> Key:
        """Texts with the same key are said the same way."""
        return self.context, self.id

    @property
    def comments(self) -> list[str]:
        """For the translator."""
        options = [f"`{name}` is an option: call it as you translate its name" for name in self.options]
        limit = [f"At most {self.limit} characters"] if self.limit is not None else []
        return [*self.notes[:MAX_NOTES], *options, *limit]

    def joined(self, other: Entry) -> Entry:
        """The same text in two places: the tighter one binds."""
        limits = [limit for limit in (self.limit, other.limit) if limit is not None]
        return replace(
            self,
            limit=min(limits, default=None),
            notes=tuple(dict.fromkeys(self.notes + other.notes)),
            files=tuple(dict.fromkeys(self.files + other.files)),
        )


def entries() -> list[Entry]:
    """Everything that is said anywhere, in the order of the source. Raises ValueError with a sentence where it errs."""
    files = sorted((ROOT / "cogs").rglob("*.py"))
    modules = [importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts)) for file in files]
    found: dict[Key, Entry] = {}
    for entry in (*(entry for module in modules for entry in _phrases(module)), *_said_by_commands(modules)):
        found[entry.key] = found[entry.key].joined(entry) if entry.key in found else entry
    texts = Counter((entry.context, entry.text) for entry in found.values())
    if twice := [text for (_, text), count in texts.items() if count > 1]:
        raise ValueError(f"counted in two ways, or once counted and once not, which gettext cannot tell apart: {twice}")
    options = {entry.text for entry in found.values() if entry.context == OPTION}
    return [replace(entry, options=tuple(_named(entry.text, options))) for entry in found.values()]


def _named(text: str, options: Container[str]) -> Iterator[str]:
    for code in CODE.findall(text):
        yield from (name for name in OPTION_IN_CODE.findall(code) if name in options)


def _phrases(module: ModuleType) -> Iterator[Entry]:
    """Every `Phrase(…)` and `Plural(…)` of a file."""
    assert module.__file__ is not None
    body = ast.parse(Path(module.__file__).read_text("utf-8")).body
    for statement, following in zip(body, [*body[1:], None], strict=True):
        notes = _notes(statement, following)
        calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
            if ast.unparse(call.func).rpartition(".")[2] in {"Phrase", "Plural"}:
                yield _phrase(module, call, notes)


def _notes(statement: ast.stmt, following: ast.stmt | None) -> tuple[str, ...]:
    """The name of what is assigned, and the sentence below it that says what it is."""
    match statement:
        case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
            name = ast.unparse(target)
        case _:
            return ()
    match following:
        case ast.Expr(value=ast.Constant(value=str(about))):
            return name, " ".join(about.split())
        case _:
            return (name,)


def _phrase(module: ModuleType, call: ast.Call, notes: tuple[str, ...]) -> Entry:
    file = _file(module.__name__)
    try:
        text, *plural = [str(ast.literal_eval(argument)) for argument in call.args]
    except ValueError:
        raise ValueError(f"{file}:{call.lineno}: a phrase is written out, not computed") from None
    limit: int | None = None
    for word in call.keywords:
        named = isinstance(word.value, ast.Name | ast.Attribute)
        limit = attrgetter(ast.unparse(word.value))(module) if named else ast.literal_eval(word.value)
    return Entry(text=text, plural=plural[0] if plural else None, limit=limit, notes=notes, files=(file,))


def _said_by_commands(modules: Iterable[ModuleType]) -> Iterator[Entry]:
    """What the commands say of themselves, but for their names, which are the same in every language."""
    for module in modules:
        for cog in vars(module).values():
            if isinstance(cog, type) and issubclass(cog, commands.Cog) and cog.__module__ == module.__name__:
                for command in _commands_of(cog):
                    yield from _said_by(command, _file(module.__name__))
    menu = Entry(text=MENU_NAME, context=MENU, limit=NAME_CHARACTERS, files=("cogs/generate/edit.py",))
    yield replace(menu, notes=("In the menu of a message, under Apps",))


def _commands_of(cog: type[commands.Cog]) -> Iterator[Command]:
    for value in vars(cog).values():
        if isinstance(value, app_commands.Command | app_commands.Group) and value.parent is None:
            yield value
            if isinstance(value, app_commands.Group):
                yield from value.walk_commands()


def _said_by(command: Command, file: str) -> Iterator[Entry]:
    name = f"/{command.qualified_name}"
    about = Entry(text=command.description, limit=DESCRIPTION_CHARACTERS, notes=(f"Describes {name}",), files=(file,))
    yield about
    if isinstance(command, app_commands.Group):
        return
    for option in command.parameters:
        shown = option.display_name
        note = f"Option of {name}: lower case, no blanks"
        yield replace(about, text=shown, context=OPTION, limit=NAME_CHARACTERS, notes=(note,))
        yield replace(about, text=str(option.description), notes=(f"Describes the option {shown} of {name}",))
        for choice in option.choices:
            note = f"Choice for the option {shown} of {name}"
            yield replace(about, text=choice.name, context=CHOICE, limit=CHOICE_CHARACTERS, notes=(note,))


def _file(module: str) -> str:
    return f"{module.replace('.', '/')}.py"
