"""Chooses what of a text can be drawn with the installed fonts. Only for the process that draws charts."""

# matplotlib's own types leave much open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import unicodedata
from collections.abc import Callable
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
"""Each character is drawn in the first of these that has it."""

MAX_COMBINING_MARKS = 2
"""Per letter. More of them (Zalgo text) would cover the lines above and below."""


@cache
def installed_fonts() -> list[str]:
    """Return those of FONTS that are installed."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [name for name in FONTS if name in installed]


@cache
def _faces() -> list[FT2Font]:
    return [FT2Font(font_manager.findfont(name, fallback_to_default=False)) for name in installed_fonts()]


@cache
def _has_glyph(character: str) -> bool:
    return any(face.get_char_index(ord(character)) for face in _faces())


def drawable(label: Label, *, has_glyph: Callable[[str], bool] = _has_glyph) -> str:
    """Return the label without what cannot or must not be drawn; its `plain` form where letters would be missing.

    An emoji without a glyph is left out of a name; a letter left out would make it another name.
    """
    for text in (label.text, unicodedata.normalize("NFKC", label.text)):
        shown = _clean(text, has_glyph)
        if shown and all(character == " " or has_glyph(character) for character in shown):
            return shown
    return "".join(filter(has_glyph, _clean(label.plain, has_glyph))).strip() or "?"


def _clean(text: str, has_glyph: Callable[[str], bool]) -> str:
    """Remove control characters (also those that change the direction), piled marks and symbols without a glyph."""
    shown, marks = "", 0
    for character in unicodedata.normalize("NFC", text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if category[0] == "Z" or character in "\t\n\r":
            shown += " "
        elif category[0] != "C" and marks <= MAX_COMBINING_MARKS:
            shown += character if has_glyph(character) or category[0] not in "SM" else ""
    return " ".join(shown.split())
