"""The catalogues of all languages: read off the source, filled by translators, compiled for the bot.

    python .ci/languages.py                  bring words.pot, every .po and every .mo up to date (`make languages`)
    python .ci/languages.py missing de       what is not translated yet, as JSON
    python .ci/languages.py fill de FILE     take translations from JSON of the same shape, each checked first

What is said in a language stands in `cogs/text/locales/<tag>.po`, whatever it was written with.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import json
import os
import sys
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from phrases import Entry, Key, entries
from wording import complaints

from cogs.text.locale import ENGLISH, FOLDER, LANGUAGES, OPTION

TEMPLATE = FOLDER / "words.pot"
TAGS = tuple(tag for tag in LANGUAGES if tag != ENGLISH)
LOCALES = {tag: tag for tag in TAGS} | {"pt": "pt_BR"}
"""Discord's only Portuguese is Brazil's, where none counts like one."""

LINE_CHARACTERS = 120


class Catalogue(Catalog):
    """Babel's, with a header that changes only when the words do: no dates, no versions."""

    @property
    def mime_headers(self) -> list[tuple[str, str]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The least that gettext asks for."""
        form = [("MIME-Version", "1.0"), ("Content-Type", "text/plain; charset=utf-8")]
        if self.locale is None:
            return form
        # Other tools want the last line to end.
        return [("Language", str(self.locale_identifier)), *form, ("Plural-Forms", f"{self.plural_forms}\n")]


def read(tag: str) -> dict[Key, Message]:
    """What stands in the .po file of a language."""
    with (FOLDER / f"{tag}.po").open("rb") as file:
        catalogue = read_po(file, abort_invalid=True)
    return {(message.context, _id(message)): message for message in catalogue if message.id}


def template(said: Iterable[Entry]) -> Catalogue:
    """What there is to say, in English."""
    catalogue = Catalogue(fuzzy=False, header_comment="# Every text in English; made by `make languages`.")
    for entry in said:
        _add(catalogue, entry)
    return catalogue


def merged(tag: str, said: Iterable[Entry], there: Mapping[Key, Message]) -> Catalogue:
    """What there is to say and nothing else, with what of it is translated already. Nothing is guessed."""
    comment = f"# {LANGUAGES[tag]}. Write translations in here, then say `make languages`."
    catalogue = Catalogue(locale=LOCALES[tag], fuzzy=False, header_comment=comment)
    for entry in said:
        old = there.get(entry.key)
        if old is None:
            _add(catalogue, entry)
        else:
            flags = {"fuzzy"} if old.fuzzy else set[str]()
            _add(catalogue, entry, string=old.string, flags=flags, user_comments=old.user_comments)
    return catalogue


def _add(catalogue: Catalogue, entry: Entry, **more: Any) -> None:
    places = [(file, 0) for file in entry.files]
    catalogue.add(entry.id, locations=places, auto_comments=entry.comments, context=entry.context, **more)


def _id(message: Message) -> str | tuple[str, str]:
    return message.id if isinstance(message.id, str) else (message.id[0], message.id[1])


def written(catalogue: Catalogue) -> bytes:
    """As a .po file."""
    file = io.BytesIO()
    write_po(file, catalogue, width=LINE_CHARACTERS, include_lineno=False)
    return file.getvalue()


def compiled(catalogue: Catalogue) -> bytes:
    """As a .mo file. What is missing a form is left to the English as a whole."""
    whole = Catalogue(locale=catalogue.locale, fuzzy=False)
    for message in catalogue:
        if message.id and forms(message):
            whole.add(message.id, message.string, context=message.context)
    file = io.BytesIO()
    write_mo(file, whole)
    return file.getvalue()


def forms(message: Message | None) -> list[str]:
    """What is said, in each plural form; nothing unless all of it is there and nobody marked it as unsure."""
    if message is None or message.fuzzy or not message.string:
        return []
    found = [message.string] if isinstance(message.string, str) else list(message.string)
    return found if all(found) else []


def option_names(there: Mapping[Key, Message]) -> dict[str, str]:
    """What the options are called in a language, where that is known."""
    options = [(str(id_), forms(message)) for (context, id_), message in there.items() if context == OPTION]
    return {name: said[0] for name, said in options if said}


# -- the commands ----------------------------------------------------------------------------------------------


def renew() -> int:
    """Bring every file up to date with the source and with what translators wrote."""
    said = entries()
    _write(TEMPLATE, written(template(said)))
    for tag in TAGS:
        there = read(tag) if (FOLDER / f"{tag}.po").exists() else {}
        _save(tag, merged(tag, said, there))
        count = sum(not forms(there.get(entry.key)) for entry in said)
        print(f"{tag}: {f'{count} of {len(said)} missing' if count else f'all {len(said)} there'}")
    return 0


def missing(tag: str) -> int:
    """Print what a translator has to do. `msgstr` is to be filled in."""
    there = read(tag)
    blank = merged(tag, [], {}).num_plurals
    todo = [
        {
            "msgctxt": entry.context,
            "msgid": entry.text,
            "plural": entry.plural,
            "limit": entry.limit,
            "comment": "; ".join(entry.comments),
            "msgstr": "" if entry.plural is None else [""] * blank,
        }
        for entry in entries()
        if not forms(there.get(entry.key))
    ]
    print(json.dumps(todo, ensure_ascii=False, indent=1))
    return 0


def fill(tag: str, path: Path) -> int:
    """Take translations in, new ones and better ones; say of each that is left out why."""
    said = {entry.key: entry for entry in entries()}
    there = read(tag)
    catalogue = merged(tag, said.values(), there)
    given = {_key(item): item["msgstr"] for item in json.loads(path.read_text("utf-8")) if any(item["msgstr"])}
    options = option_names(there) | {str(id_): text for (context, id_), text in given.items() if context == OPTION}
    refused = 0
    for key, string in given.items():
        wrong = _wrong(said.get(key), string, catalogue.num_plurals, options)
        if wrong:
            refused += 1
            print(f"{key[1]!r}: {string!r}")
            print(*(f"    {error_body}" for error_body in wrong), sep="\n")
            continue
        message = catalogue.get(said[key].text, key[0])
        assert message is not None
        message.string = string if isinstance(string, str) else tuple(string)
        message.flags.discard("fuzzy")
    _save(tag, catalogue)
    print(f"{tag}: {len(given) - refused} taken in, {refused} refused")
    return 1 if refused else 0


def _key(item: Mapping[str, Any]) -> Key:
    text, plural = item["msgid"], item.get("plural")
    return item.get("msgctxt"), text if plural is None else (text, plural)


def _wrong(entry: Entry | None, string: Any, count: int, options: Mapping[str, str]) -> list[str]:
    if entry is None:
        return ["is not in the source (any more): msgctxt, msgid and plural must be as `missing` gave them"]
    if entry.plural is None and not isinstance(string, str):
        return ["needs one text, not several"]
    if entry.plural is not None and not (isinstance(string, list) and len(string) == count):
        return [f"needs a list of texts, one for each of {count} plural forms"]
    return complaints(entry, [string] if entry.plural is None else string, options)


@contextmanager
def _alone() -> Generator[None]:
    """Two who work on catalogues at the same time do not undo each other."""
    folder = os.open(FOLDER, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _save(tag: str, catalogue: Catalogue) -> None:
    _write(FOLDER / f"{tag}.po", written(catalogue))
    _write(FOLDER / f"{tag}.mo", compiled(catalogue))


def _write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


def main() -> int:
    """One of the three."""
    parser = argparse.ArgumentParser(description="The catalogues of all languages")
    parser.set_defaults(run=lambda _: renew())
    todo = parser.add_subparsers(title="for translators")
    one = todo.add_parser("missing", help="print what is not translated yet, as JSON")
    one.add_argument("tag", choices=TAGS)
    one.set_defaults(run=lambda given: missing(given.tag))
    one = todo.add_parser("fill", help="take translations from JSON of the same shape")
    one.add_argument("tag", choices=TAGS)
    one.add_argument("file", type=Path)
    one.set_defaults(run=lambda given: fill(given.tag, given.file))
    given = parser.parse_args()
    try:
        with _alone():
            return given.run(given)
    except ValueError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
