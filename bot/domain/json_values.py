"""JSON from outside, whose shape nothing guarantees: what is not of the expected kind is read as empty. No I/O."""

from __future__ import annotations

from typing import Any, cast

Json = dict[str, Any]
"""A JSON object."""


def as_object(value: Any) -> Json:
    """Return the value if it is a JSON object, else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return the value if it is a JSON array, else an empty one."""
    return cast("list[Any]", value) if isinstance(value, list) else []
