"""The fault matrix itself: every row is shown by a test, and every mark names an existing row."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.rows import ROWS, title

TESTS = Path(__file__).resolve().parents[1]
_SHOWS = re.compile(r"@pytest\.mark\.(f\d\d)\b|def test_(f\d\d)_")


def rows_shown() -> set[str]:
    """Return the rows named by a mark or by the name of a test."""
    files = [path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py")]
    return {mark or name for source in files for mark, name in _SHOWS.findall(source)}


def test_the_rows_are_those_of_the_matrix():
    assert list(ROWS) == [f"f{number:02}" for number in range(1, 61)]
    assert title("f07") == "F-07"


def test_every_row_is_shown_by_a_test_and_every_test_names_a_row_that_is_there():
    assert rows_shown() == set(ROWS)


def test_a_name_counts_as_a_mark(request: pytest.FixtureRequest):
    assert request.node.get_closest_marker("row") is None
    shown = [item for item in request.session.items if item.name.startswith("test_f60_")]
    for item in shown:
        assert item.get_closest_marker("f60") is not None
        assert item.get_closest_marker("row") is not None
        assert ("row", "f60") in item.user_properties
