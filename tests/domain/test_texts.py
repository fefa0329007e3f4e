"""Texts: what shows ink, and what can be stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.texts import is_possible, is_visible, squashed, visible_or_none

pytestmark = [pytest.mark.hostile("G-42"), pytest.mark.hostile("G-43")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t\u3000",
        "\u2800" * 4,
        "\u3164\u115f\u1160\uffa0",
        "\u200e\u200f\u202e\u2066\u2069\u061c",
        "\u200b\u200c\u200d\u2060\ufeff\u00ad\u180e",
        "\ufe0f\ufe00\U000e0100\u034f\u17b4",
        "\U000e0041\U000e007f",
        "\u0301\u0308\u20dd",
        "\ue000\U000f0000",
        "\ufff0\u2065\ufffe\U000e0fff",
        "\x00\x1b\u0085\u2028",
    ],
)
def test_a_text_without_ink_is_not_visible(text: str) -> None:
    assert not is_visible(text)


@pytest.mark.parametrize("text", ["a", "\u2800a", "e\u0301", "暴", "ㅎ", "🦊", "❤\ufe0f", "\U0001fae8", "हिं", "-", "…"])
def test_a_text_with_ink_is_visible(text: str) -> None:
    assert is_visible(text)


@given(st.text(st.characters(codec=None)) | st.text("\ud800\udfffa\x00", max_size=3))
def test_a_text_is_possible_if_it_can_be_stored(text: str) -> None:
    try:
        text.encode()
        stored = "\0" not in text
    except UnicodeEncodeError:
        stored = False
    assert is_possible(text) is stored


@pytest.mark.hostile("G-42")
@pytest.mark.parametrize(
    ("text", "kept"),
    [(None, None), ("", None), (" \n", None), ("\u2800\u3164\u0301", None), (" why \u200b", "why \u200b")],
)
def test_a_text_without_anything_to_see_is_none(text: str | None, kept: str | None) -> None:
    assert visible_or_none(text) == kept


@pytest.mark.parametrize("text", ["Nano-Banana 2", "nano_banana2", " NANO BANANA·2 "])
def test_names_are_equal_however_they_are_written(text: str) -> None:
    assert squashed(text) == "nanobanana2"
