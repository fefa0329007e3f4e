"""Texts that people send: whether something is to be seen, whether they can be stored, their words. No I/O."""

from __future__ import annotations

import re
import unicodedata

_UNSEEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zs", "Zl", "Zp", "Mn", "Mc", "Me"})
"""Control, format, private-use and blank characters, and marks, which need a letter to stand on."""

_BLANK_LETTERS = frozenset("\u115f\u1160\u2800\u3164\uffa0\U0001d159")
"""Letters and symbols by their category, but without ink: fillers, the empty Braille pattern, the empty note head."""


_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")


def is_visible(text: str) -> bool:
    """Return whether the text has a character that shows ink."""
    return any(_is_visible(character) for character in text)


def visible_or_none(text: str | None) -> str | None:
    """Return the text without blanks around it, or None when there is nothing to see in it."""
    return text.strip() if text is not None and is_visible(text) else None


def is_possible(text: str) -> bool:
    """Return whether the text can be encoded and stored: it has neither a NUL nor half of a surrogate pair."""
    return _IMPOSSIBLE.search(text) is None


def words_of(text: str) -> list[str]:
    """Return the words in lower case, without punctuation: 'Nano-Banana 2' becomes 'nano', 'banana', '2'."""
    return re.findall(r"[^\W_]+", text.casefold())


def squashed(text: str) -> str:
    """Return the words as one, to compare names however they are written: 'Nano-Banana 2' becomes 'nanobanana2'."""
    return "".join(words_of(text))


def _is_visible(character: str) -> bool:
    if character in _BLANK_LETTERS:
        return False
    category = unicodedata.category(character)
    if category == "Cn":  # newer than this Python, which may be an emoji, or reserved for invisible characters
        code = ord(character)
        return not (code == 0x2065 or 0xFFF0 <= code <= 0xFFF8 or 0xE0000 <= code <= 0xE0FFF or code & 0xFFFE == 0xFFFE)
    return category not in _UNSEEN_CATEGORIES
