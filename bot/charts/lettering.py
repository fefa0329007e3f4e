"""Lettering: what of a text can be written with the fonts at hand. Only for the process that draws charts."""

# matplotlib's own types leave much open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import cache

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

from bot.charts.chart import Label

FONTS = (
    "DejaVu Sans",  # comes with matplotlib
    "Noto Sans CJK JP",
    "Droid Sans Fallback",
    "WenQuanYi Zen Hei",
    "IPAGothic",
    "Hiragino Sans",  # macOS
    "Yu Gothic",  # Windows
)
"""The first of them that has a character writes it."""

_MARKS = 2
"""So many marks may stand over one letter; whoever piles up more wants to spoil the page."""


@cache
def families() -> list[str]:
    """Those of FONTS that are installed here."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in installed]


@cache
def _fonts() -> list[FT2Font]:
    return [FT2Font(font_manager.findfont(name, fallback_to_default=False)) for name in families()]


@cache
def _has_glyph(character: str) -> bool:
    return any(font.get_char_index(ord(character)) for font in _fonts())


def written(label: Label, *, has_glyph: Callable[[str], bool] = _has_glyph) -> str:
    """The label without what cannot or must not be drawn; `plain` where letters of it would be missing.

    A missing emoji is left out of a name, a missing letter would make it another name.
    """
    for text in (label.text, unicodedata.normalize("NFKC", label.text)):
        shown = _tidy(text, has_glyph)
        if shown and all(character == " " or has_glyph(character) for character in shown):
            return shown
    plain = (character for character in _tidy(label.plain, has_glyph) if has_glyph(character))
    return "".join(plain).strip() or "?"


def _tidy(text: str, has_glyph: Callable[[str], bool]) -> str:
    return " ".join("".join(_shown(unicodedata.normalize("NFC", text), has_glyph)).split())


def _shown(text: str, has_glyph: Callable[[str], bool]) -> Iterator[str]:
    """Without control characters, which also turn the direction of writing; without piles of marks and lost emoji."""
    marks = 0
    for character in text:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category[0] == "Z" or character in "\t\n\r":
            yield " "
        elif category[0] == "C" or marks > _MARKS:
            continue
        elif has_glyph(character) or category[0] not in "SM":
            yield character
