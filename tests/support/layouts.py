"""Helpers for layouts: their parts, their text, and whether they keep Discord's limits."""

from __future__ import annotations

from typing import Any

from simcord.components import walk_components

from cogs.ui.components import Layout

ROW, BUTTON, TEXT, GALLERY = 1, 2, 10, 12


def parts_of(layout: Layout, kind: int) -> list[dict[str, Any]]:
    """Return all components of a kind, in order."""
    return [part for part in walk_components(layout) if part["type"] == kind]


def text_of(layout: Layout) -> str:
    return "\n".join(part["content"] for part in parts_of(layout, TEXT))


def assert_fits(layout: Layout) -> None:
    assert len(list(walk_components(layout))) <= 40
    assert sum(len(part["content"]) for part in parts_of(layout, TEXT)) <= 4_000
    assert all(part["content"] for part in parts_of(layout, TEXT))
    assert all(1 <= len(part["components"]) <= 5 for part in parts_of(layout, ROW))
    for part in parts_of(layout, BUTTON):
        assert 1 <= len(part["label"]) <= 80
        assert 1 <= len(part["custom_id"]) <= 100
    for part in parts_of(layout, GALLERY):
        assert 1 <= len(part["items"]) <= 10
        assert all(1 <= len(item["description"]) <= 1_024 for item in part["items"])
