"""Gather every text for users from the source; bring words.pot, every .po and every .mo up to date."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from discord import app_commands
from discord.ext import commands

from cogs.generate.edit import MENU_NAME
from cogs.text.command_translations import CHOICE, MENU
from cogs.text.locale import ENGLISH, FOLDER, LANGUAGES, OPTION

ROOT = FOLDER.parents[2]
PO = {"width": 120, "include_lineno": False}
OPTION_IN_CODE = re.compile(r"(?<=`)\w+(?=`)|\w+(?=:[^`\s]*`)")  # `count`, `/models model:`
Text = tuple[Any, str | None, str, list[str], int | None]  # text or forms of a count, context, file, notes, limit


class Catalogue(Catalog):
    """Babel's catalogue with the least header that gettext needs, so that files change only when texts do."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        form = [("MIME-Version", "1.0"), ("Content-Type", "text/plain; charset=utf-8")]
        language = [("Language", str(self.locale_identifier)), *form, ("Plural-Forms", f"{self.plural_forms}\n")]
        return form if self.locale is None else language


def texts() -> Iterator[Text]:
    """Yield every text of the source, in its order. A text in two places is yielded twice."""
    files = [file.relative_to(ROOT).as_posix() for file in sorted((ROOT / "cogs").rglob("*.py"))]
    modules = {file: vars(importlib.import_module(file[:-3].replace("/", "."))) for file in files}
    for file, module in modules.items():
        yield from _phrases(file, module)
    for file, module in modules.items():
        cogs = [cog for cog in module.values() if isinstance(cog, commands.CogMeta)]
        for cog in (cog for cog in cogs if cog.__module__ == module["__name__"]):
            for command in cog.__cog_app_commands__:
                for part in (command, *(command.walk_commands() if isinstance(command, app_commands.Group) else ())):
                    yield from _of_command(file, part)
    yield MENU_NAME, MENU, "cogs/generate/edit.py", ["In the menu of a message, under Apps"], 32


def _phrases(file: str, module: dict[str, Any]) -> Iterator[Text]:
    """Read every `Phrase(…)` and `Plural(…)`, with the name it is assigned to and the docstring below."""
    for statement, below in pairwise([*ast.parse((ROOT / file).read_text("utf-8")).body, None]):
        notes = list[str]()
        if isinstance(statement, ast.Assign | ast.AnnAssign):
            notes.append(ast.unparse(statement.targets[0] if isinstance(statement, ast.Assign) else statement.target))
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                notes.append(" ".join(str(below.value.value).split()))
        for call in ast.walk(statement):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in {"Phrase", "Plural"}:
                forms = tuple(ast.literal_eval(argument) for argument in call.args)
                limits = [module.get(ast.unparse(word.value)) or ast.literal_eval(word.value) for word in call.keywords]
                yield forms if len(forms) > 1 else forms[0], None, file, notes, min(limits, default=None)


def _of_command(file: str, command: app_commands.Command[Any, ..., Any] | app_commands.Group) -> Iterator[Text]:
    """Read the texts of a command and its options; its name is the same in every language."""
    name = f"/{command.qualified_name}"
    yield command.description, None, file, [f"Describes {name}"], 100
    for option in command.parameters if isinstance(command, app_commands.Command) else ():
        shown = option.display_name
        yield shown, OPTION, file, [f"Option of {name}: lower case, no blanks"], 32
        yield str(option.description), None, file, [f"Describes the option {shown} of {name}"], 100
        for choice in option.choices:
            yield choice.name, CHOICE, file, [f"Choice for the option {shown} of {name}"], 100


def template() -> Catalogue:
    """Put all texts into words.pot."""
    found = Catalogue(fuzzy=False, header_comment="# Every text in English; made by `make languages`.")
    said = list(texts())
    options = {text for text, context, *_ in said if context == OPTION}
    for text, context, file, notes, limit in said:
        named = [name for name in OPTION_IN_CODE.findall(text if isinstance(text, str) else text[0]) if name in options]
        about = [f"`{name}` is an option: call it as you translate its name" for name in named]
        about += [] if limit is None else [f"At most {limit} characters"]
        found.add(text, locations=[(file, 0)], auto_comments=[*notes, *about], context=context)
    return found


def merged(tag: str, words: Catalogue) -> Catalogue:
    """Return the texts with the translations of the .po file. Nothing is guessed: a text that changed is missing."""
    about = f"# {LANGUAGES[tag]}. Write translations in here, then say `make languages`."
    # Discord's only Portuguese is Brazil's, where zero counts like one.
    catalogue = Catalogue(locale={"pt": "pt_BR"}.get(tag, tag), fuzzy=False, header_comment=about)
    there = read_po((FOLDER / f"{tag}.po").read_text("utf-8").splitlines(), abort_invalid=True)
    for text in (text for text in words if text.id):
        old = there.get(text.id, text.context)
        none = "" if isinstance(text.id, str) else ("",) * catalogue.num_plurals
        old = old if old and old.id == text.id else Message(text.id, none)
        flags, notes = {"fuzzy"} & old.flags, {"auto_comments": text.auto_comments, "user_comments": old.user_comments}
        catalogue.add(text.id, old.string, text.locations, flags, context=text.context, **notes)
    return catalogue


def main() -> None:
    """Write every file and print what is missing."""
    words = template()
    with (FOLDER / "words.pot").open("wb") as file:
        write_po(file, words, **PO)
    for tag in (tag for tag in LANGUAGES if tag != ENGLISH):
        catalogue = merged(tag, words)
        with (FOLDER / f"{tag}.po").open("wb") as po, (FOLDER / f"{tag}.mo").open("wb") as mo:
            write_po(po, catalogue, **PO)
            write_mo(mo, catalogue)
        missing = [text.id for text in catalogue if text.id and (not text.string or text.fuzzy or not all(text.string))]
        print(f"{tag}: {f'{len(missing)} of {len(words)} missing' if missing else f'all {len(words)} there'}")
        for text in missing:
            print(f"    {text if isinstance(text, str) else text[0]}")


if __name__ == "__main__":
    main()
