"""How cogs reach the database, as docs/architecture.md says: through `service.store`, but for what moves an order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from bot.store.store import Store

COGS = Path(__file__).resolve().parents[2] / "cogs"
MOVES_OF_ORDERS = {
    "admit",
    "accept",
    "begin_submission",
    "requeue",
    "mark_running",
    "mark_uncertain",
    "mark_found",
    "mark_unfetched",
    "lose_images",
    "deliver_late",
    "end_follow",
    "succeed",
    "fail",
    "cancel",
    "mark_cancelled",
    "delete_reply",
    "decide_review",
}
"""What the service does together with something else: it wakes a runner, gives a slot back or tells of the change."""


def calls_of_the_store() -> Iterator[tuple[str, str]]:
    """Return each attribute of `….store`, `…._store` or `store` that a cog uses, with its place."""
    for file in COGS.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute):
                continue
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if name in {"store", "_store"}:
                yield node.attr, f"{file.relative_to(COGS.parent)}:{node.lineno}"


def test_no_cog_moves_an_order_past_the_service() -> None:
    calls = list(calls_of_the_store())
    assert {name for name, _ in calls} >= {"policy", "presets_of", "vote"}
    assert set(dir(Store)) >= MOVES_OF_ORDERS
    assert [place for name, place in calls if name in MOVES_OF_ORDERS] == []
    # Other names of it would be ways around this test.
    assert [f"{place} {name}" for name, place in calls if not hasattr(Store, name)] == []
