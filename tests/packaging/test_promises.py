"""The pages that claim something: every test they name is there, and every row is listed with its tests."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
hostile_rows = runpy.run_path(str(ROOT / "docs" / "hostile_rows.py"))
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def promises() -> list[str]:
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    return [line for line in page.splitlines() if line.startswith("| ") and "---" not in line][1:]


@pytest.mark.parametrize("promise", promises())
def test_every_promise_names_a_test_that_is_there(promise: str) -> None:
    named = _NAMED.findall(promise)
    assert named, "a promise without a test"
    for file, name in named:
        assert re.search(rf"def {name}\(", (ROOT / file).read_text(encoding="utf-8")), f"{file} has no {name}"


def test_the_page_of_the_hostile_world_lists_each_row_with_its_tests() -> None:
    page = hostile_rows["PAGE"].read_text(encoding="utf-8")
    written = page.partition(hostile_rows["BEGIN"])[2].partition(hostile_rows["END"])[0].strip()
    assert written == hostile_rows["table"](), "make it again: python docs/hostile_rows.py --write"


def test_every_mark_names_a_row_that_is_there() -> None:
    rows = {row for section in hostile_rows["SECTIONS"].values() for row in section}
    assert set(hostile_rows["shown_by"]()) <= rows
