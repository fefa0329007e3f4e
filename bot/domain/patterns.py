"""Pattern: text with `*` (any characters) and `?` (one character). Matching never goes back, so it cannot hang."""

from __future__ import annotations

import re


class Pattern:
    """A compiled pattern. Between its stars stand pieces of fixed length, found one after the other from the left."""

    def __init__(self, text: str) -> None:
        first, *others = re.split(r"\*+", text)
        self._first = _piece(first)
        self._middle = [_piece(other) for other in others[:-1]]
        self._last = _piece(others[-1]) if others else None
        self._last_characters = len(others[-1]) if others else 0
        self.needed = max(re.split(r"[*?]+", text), key=len)
        """The longest run of plain characters: what does not contain it does not match."""

    def matches(self, text: str) -> bool:
        """Whether the whole text fits. Takes at most as many steps as text and pattern have characters multiplied."""
        if self._last is None:
            return self._first.fullmatch(text) is not None
        found = self._first.match(text)
        end = len(text) - self._last_characters
        if found is None or found.end() > end or self._last.fullmatch(text, end) is None:
            return False
        position = found.end()
        for piece in self._middle:
            found = piece.search(text, position, end)
            if found is None:
                return False
            position = found.end()
        return True


def is_pattern(text: str) -> bool:
    """Whether the text stands for more than itself."""
    return "*" in text or "?" in text


def _piece(text: str) -> re.Pattern[str]:
    return re.compile("".join("." if character == "?" else re.escape(character) for character in text), re.DOTALL)
