"""Word list: the words a server does not want in prompts, and finding them however they are written.

An entry is a word or several in a row, with `*` and `?` where needed: `gore`, `blood*`, `severed head`. Case, invisible
characters, punctuation and full-width letters make no difference. Whole words only, so `ass` does not match `glass`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

from bot.domain.patterns import Pattern, is_pattern

MAX_ENTRY_CHARACTERS = 60


def normalised(entry: str) -> str:
    """An entry as it is kept: single blanks, lower case. Raises ValueError when nothing in it could be found."""
    words = _words(entry, also="*?")
    text = " ".join(words)
    # An entry of stars alone would match every prompt there is.
    if not words or len(text) > MAX_ENTRY_CHARACTERS or any(not word.strip("*?") for word in words):
        raise ValueError(f"not a word: {entry[:MAX_ENTRY_CHARACTERS]!r}")
    return text


def find(entries: tuple[str, ...], prompt: str) -> str | None:
    """The first words of the prompt that are on the list, as they were read; None when there are none."""
    return _compiled(entries).find(prompt) if entries else None


class _WordList:
    def __init__(self, entries: Iterable[str]) -> None:
        self._plain: set[str] = set()
        self._others: list[list[Pattern]] = []
        for entry in entries:
            if " " in entry or is_pattern(entry):
                self._others.append([Pattern(word) for word in entry.split(" ")])
            else:
                self._plain.add(entry)

    def find(self, prompt: str) -> str | None:
        words = _words(prompt)
        for word in words:
            if word in self._plain:
                return word
        text = " ".join(words)
        for patterns in self._others:
            if all(pattern.needed in text for pattern in patterns) and (found := _find_row(patterns, words)):
                return found
        return None


@lru_cache(maxsize=512)
def _compiled(entries: tuple[str, ...]) -> _WordList:
    return _WordList(entries)


def _find_row(patterns: Sequence[Pattern], words: Sequence[str]) -> str | None:
    for start in range(len(words) - len(patterns) + 1):
        row = words[start : start + len(patterns)]
        if all(pattern.matches(word) for pattern, word in zip(patterns, row, strict=True)):
            return " ".join(row)
    return None


def _words(text: str, *, also: str = "") -> list[str]:
    """Runs of letters, digits and the marks on them; characters that take no room do not part a word."""
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept: list[str] = []
    for character in plain:
        category = unicodedata.category(character)
        if category[0] in "LNM" or character in also:
            kept.append(character)
        elif category != "Cf":
            kept.append(" ")
    return "".join(kept).split()
