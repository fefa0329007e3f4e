"""The word list: words that a server does not allow in prompts, found however they are written.

An entry is one word or several in a row, and may contain the wildcards `*` and `?`: `gore`, `blood*`, `severed head`.
Case, invisible characters, punctuation and full-width letters make no difference. Only whole words match, so `ass`
does not match `glass`.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

MAX_ENTRY_CHARACTERS = 60

_WILDCARDS = "*?"


def normalise_entry(entry: str) -> str:
    """Return the entry as it is stored: words in lower case with single spaces between them.

    Raises ValueError when the entry is empty, too long, or contains a word of wildcards only.
    """
    words = _split_words(entry, also=_WILDCARDS)
    text = " ".join(words)
    # A word of asterisks alone would match every prompt.
    if not words or len(text) > MAX_ENTRY_CHARACTERS or any(not word.strip(_WILDCARDS) for word in words):
        raise ValueError(f"not a word: {entry[:MAX_ENTRY_CHARACTERS]!r}")
    return text


def find_listed(entries: tuple[str, ...], prompt: str) -> str | None:
    """Return the first words of the prompt that match an entry, normalised, or None when none do."""
    return _compile(entries).find(prompt) if entries else None


class _WordList:
    """Normalised entries, compiled: single words are looked up in a set, all others are matched one by one."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._single_words: set[str] = set()
        self._others: list[_Phrase] = []
        for entry in entries:
            if any(character in entry for character in f" {_WILDCARDS}"):
                self._others.append(_Phrase(entry))
            else:
                self._single_words.add(entry)

    def find(self, prompt: str) -> str | None:
        words = _split_words(prompt)
        for word in words:
            if word in self._single_words:
                return word
        text = " ".join(words)
        return next((found for phrase in self._others if (found := phrase.find(words, text))), None)


class _Phrase:
    """An entry with wildcards or of several words."""

    def __init__(self, entry: str) -> None:
        words = entry.split(" ")
        # An entry contains letters, digits and marks beside its wildcards, so fnmatch finds no other syntax in it.
        self._patterns = [re.compile(fnmatch.translate(word)) for word in words]
        self._literals = [max(re.split(r"[*?]+", word), key=len) for word in words]

    def find(self, words: Sequence[str], text: str) -> str | None:
        """Return the first run of words that matches. `text` is the words joined with spaces."""
        # Searching for plain text is much faster than matching patterns, and rules out nearly every prompt.
        if not all(literal in text for literal in self._literals):
            return None
        for start in range(len(words) - len(self._patterns) + 1):
            candidates = words[start : start + len(self._patterns)]
            if all(pattern.match(word) for pattern, word in zip(self._patterns, candidates, strict=True)):
                return " ".join(candidates)
        return None


@lru_cache(maxsize=512)
def _compile(entries: tuple[str, ...]) -> _WordList:
    return _WordList(entries)


def _split_words(text: str, *, also: str = "") -> list[str]:
    """Return the runs of letters, digits, marks and `also`. Invisible (format) characters do not separate words."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept: list[str] = []
    for character in folded:
        category = unicodedata.category(character)
        if category[0] in "LNM" or character in also:
            kept.append(character)
        elif category != "Cf":
            kept.append(" ")
    return "".join(kept).split()
