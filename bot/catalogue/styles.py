"""Styles: the public styles of a provider, kept in memory and searched there. No I/O."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, cast

MAX_SEARCHED_CHARACTERS = 100
MAX_SEARCHED_WORDS = 8
"""What is typed beyond these is not searched for: no title is as long, and each word is looked for in all of them."""

_SPECIAL = re.compile(r'[+:=,;"\N{MIDDLE DOT}]|^\s|\s$')
"""What has a meaning in a list of styles or in `more`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Style:
    """One public style. `families` are the models it was trained for, by the provider's names."""

    id: str
    title: str
    families: tuple[str, ...]
    likes: int = 0


class Styles:
    """All known styles. Empty until `replace` or `load`."""

    def __init__(self) -> None:
        self._entries: tuple[_Entry, ...] = ()
        self._by_title: dict[str, str] = {}
        self._titles: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def replace(self, styles: Iterable[Style]) -> None:
        """Replace all styles."""
        # Most liked first: sorting by rank keeps this order among equals.
        ordered = sorted(styles, key=lambda style: (-style.likes, style.title, style.id))
        self._entries = tuple(_Entry(style) for style in ordered)
        self._titles = {entry.style.id: entry.style.title for entry in self._entries}
        self._by_title = {entry.squashed: entry.style.id for entry in reversed(self._entries) if entry.squashed}

    def search(self, text: str, *, families: Collection[str]) -> list[Style]:
        """Return the styles of the families whose title contains every typed word or part of one, best match first.

        An empty text finds all of them, most liked first.
        """
        wanted = frozenset(map(_squashed_without_accents, families))
        candidates = [entry for entry in self._entries if not wanted.isdisjoint(entry.families)]
        parts = _words_without_accents(text[:MAX_SEARCHED_CHARACTERS])[:MAX_SEARCHED_WORDS]
        if not parts:
            return [entry.style for entry in candidates]
        ranked = [(rank, entry.style) for entry in candidates if (rank := entry.rank(parts)) is not None]
        return [style for _, style in sorted(ranked, key=lambda pair: pair[0])]

    def id_of(self, text: str) -> str:
        """Return the id of the style with exactly that title, else the text itself, which may be an id."""
        return self._by_title.get(_squashed_without_accents(text), text)

    def name_of(self, style_id: str) -> str:
        """Return the title of a style if it can be typed in a list and means this style, else the id itself."""
        title = self._titles.get(style_id, "")
        return title if title and not _SPECIAL.search(title) and self.id_of(title) == style_id else style_id

    def dump(self) -> str:
        """Return all styles as a text for `load`."""
        rows = [[style.id, style.title, style.families, style.likes] for style in (e.style for e in self._entries)]
        return json.dumps(rows, ensure_ascii=False, separators=(",", ":"))

    def load(self, text: str) -> None:
        """Replace all styles by those of `dump`. An invalid text changes nothing."""
        try:
            rows = cast("list[Any]", json.loads(text))
            styles = [Style(id=key, title=title, families=tuple(names), likes=n) for key, title, names, n in rows]
            self.replace(styles)
        except (ValueError, TypeError, AttributeError):
            return


class _Entry:
    """A style, and its title prepared for searching."""

    __slots__ = ("_words", "families", "squashed", "style")

    def __init__(self, style: Style) -> None:
        self.style = style
        self.families = frozenset(map(_squashed_without_accents, style.families))
        self.squashed = _squashed_without_accents(style.title)
        self._words = _words_without_accents(style.title)

    def rank(self, parts: list[str]) -> int | None:
        """Return 0 for the start of the title, 1 for starts of words, 2 for other parts, None for no match."""
        if not all(part in self.squashed for part in parts):
            return None
        if self.squashed.startswith("".join(parts)):
            return 0
        return 1 if all(any(word.startswith(part) for word in self._words) for part in parts) else 2


def _words_without_accents(text: str) -> list[str]:
    """Return lower-case words without accents: 'Élan-vital' becomes 'elan', 'vital'."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return re.findall(r"[^\W_]+", "".join(character for character in plain if not unicodedata.combining(character)))


def _squashed_without_accents(text: str) -> str:
    return "".join(_words_without_accents(text))
