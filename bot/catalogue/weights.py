"""Weights: lists of ids with strengths, as members type them: `a:0.8+b:-0.3`."""

from __future__ import annotations

import re
from collections.abc import Iterable

# A plus in front of a number is its sign.
_JOINT = re.compile(r"(?<!:)\+")
_STRENGTH = re.compile(r"[+-]?(\d{1,6}(\.\d{0,9})?|\.\d{1,9})")


def weighted(text: str) -> list[tuple[str, float | None]]:
    """Split a list into ids with their strengths; None where an id has none."""
    return [_one(part.strip()) for part in _JOINT.split(text)]


def joined(pairs: Iterable[tuple[str, float | None]]) -> str:
    """Return the text from which `weighted` reads these pairs."""
    return "+".join(key if strength is None else f"{key}:{_plain(strength)}" for key, strength in pairs)


def _plain(number: float) -> str:
    """Write a number without an exponent and without zeros at its end."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def _one(text: str) -> tuple[str, float | None]:
    key, colon, tail = text.rpartition(":")
    if colon and _STRENGTH.fullmatch(tail.strip()):
        return key.strip(), float(tail)
    return text, None
