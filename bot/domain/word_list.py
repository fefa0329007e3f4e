"""The word list: words that a server does not allow in prompts, found however they are written.

An entry is one word or several in a row, and may contain the wildcards `*` and `?`: `gore`, `blood*`, `severed head`.
Case, invisible characters, punctuation and full-width letters make no difference. Only whole words match, so `ass`
does not match `glass`.

The time of a search grows with the length of the prompt and the size of the list, and with nothing else.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from bot.domain.texts import is_visible

MAX_ENTRY_CHARACTERS = 60
MAX_ENTRY_WORDS = 10
MAX_ENTRY_WILDCARDS = 10

MAX_PLAIN_CHARACTERS = 12_000
"""Limit of a prompt, as sent and in plain form, in which one character may have become 18."""

MAX_MARKS = 30
"""Marks on one letter; no language needs as many (UAX #15), and sorting a long run of them takes quadratic time."""

_WILDCARDS = "*?"


class PromptTooLong(Exception):
    """The prompt has `length` characters in plain form, more than MAX_PLAIN_CHARACTERS."""

    def __init__(self, length: int) -> None:
        super().__init__(f"{length} characters in plain form")
        self.length = length


def normalise_entry(entry: str) -> str:
    """Return the entry as it is stored: words in lower case with single spaces between them.

    Raises ValueError when the entry is empty, too long, has too many words or wildcards, or contains a word in which
    nothing but wildcards can be seen.
    """
    text = stored_form(entry)
    words = text.split(" ")
    if (
        len(text) > MAX_ENTRY_CHARACTERS
        or len(words) > MAX_ENTRY_WORDS
        or sum(map(text.count, _WILDCARDS)) > MAX_ENTRY_WILDCARDS
        # It would match every prompt, or nobody could see what it matches.
        or any(not is_visible(word.strip(_WILDCARDS)) for word in words)
    ):
        raise ValueError(f"not a word: {entry[:MAX_ENTRY_CHARACTERS]!r}")
    return text


def stored_form(entry: str) -> str:
    """Return the entry as it would be stored, however large: to remove what an earlier version took.

    Raises ValueError when nothing of it can be seen.
    """
    words = _split_words(entry, also=_WILDCARDS)
    if not words:
        raise ValueError(f"not a word: {entry[:MAX_ENTRY_CHARACTERS]!r}")
    return " ".join(words)


def find_listed(entries: tuple[str, ...], prompt: str) -> str | None:
    """Return the first words of the prompt that match an entry, normalised, or None when none do.

    Raises PromptTooLong.
    """
    if not entries:
        return None
    if len(prompt) > MAX_PLAIN_CHARACTERS:
        raise PromptTooLong(len(prompt))
    text = " ".join(_split_words(prompt))
    if len(text) > MAX_PLAIN_CHARACTERS:
        raise PromptTooLong(len(text))
    return _compile(entries).find(text)


class _Automaton:
    """All entries as one automaton whose states are the bits of an integer (the shift-and algorithm).

    A bit stands for one character of an entry, and is set while the text read last ends with the entry up to there.
    Libraries do not fit: Aho-Corasick has no wildcards, and re2 took 200 ms and more for lists of many `?`.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._bits_of: dict[str, int] = {}
        """The bits of a character's places in all entries, without the places of `?`."""
        self._any_bits = 0
        """The places of `?`."""
        self._repeated_bits = 0
        """Bits that stay set until the end of the word: `*` comes after them."""
        self._first_bits = 0
        self._last_bits = 0
        self._words_of: dict[int, int] = {}
        """The number of words of the entry that ends with a bit."""
        end = 0
        for entry in entries:
            self._first_bits |= 1 << end
            for character in f" {entry} ":
                if character == "*":
                    self._repeated_bits |= 1 << (end - 1)
                    continue
                if character == "?":
                    self._any_bits |= 1 << end
                else:
                    self._bits_of[character] = self._bits_of.get(character, 0) | 1 << end
                end += 1
            self._last_bits |= 1 << (end - 1)
            self._words_of[end - 1] = entry.count(" ") + 1

    def find(self, text: str) -> str | None:
        """Return the first words of the text that match. `text` is words with single spaces between them."""
        bits = 0
        for index, character in enumerate(f" {text} "):
            places = self._bits_of.get(character, 0)
            # An entry may begin at every character; only a space matches the space that it begins with.
            after = bits << 1 | self._first_bits
            if character == " ":
                bits = after & places
                if found := bits & self._last_bits:
                    words = self._words_of[(found & -found).bit_length() - 1]
                    return " ".join(text[: index - 1].split(" ")[-words:])
            else:
                bits = after & (places | self._any_bits) | bits & self._repeated_bits
        return None


# Few: the automaton of the most varied list takes 5 MB. Building one takes a millisecond.
@lru_cache(maxsize=32)
def _compile(entries: tuple[str, ...]) -> _Automaton:
    return _Automaton(entries)


def _split_words(text: str, *, also: str = "") -> list[str]:
    """Return the runs of letters, digits, marks and `also`. Invisible (format) characters do not separate words."""
    if not text.isascii():
        text = _with_few_marks(text)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    kept: list[str] = []
    for character in folded:
        category = unicodedata.category(character)
        if category[0] in "LNM" or character in also:
            kept.append(character)
        elif category != "Cf":
            kept.append(" ")
    return "".join(kept).split()


def _with_few_marks(text: str) -> str:
    """Leave out the marks after the first MAX_MARKS on one letter."""
    kept: list[str] = []
    marks = 0
    for character in text:
        is_mark = unicodedata.combining(unicodedata.normalize("NFKD", character)[0]) > 0
        marks = marks + 1 if is_mark else 0
        if marks <= MAX_MARKS:
            kept.append(character)
    return "".join(kept)
