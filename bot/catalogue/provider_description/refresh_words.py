"""The words for changes of the catalogue: one line each, for the operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bot.catalogue.models import ABSENT, PRESENT
from bot.catalogue.provider_description.changes import Reason
from bot.domain.json_values import Json
from bot.domain.money.quota import format_usd

_DESCRIBED = ("type", "required", "enum", "min", "max", "min_length", "max_length", "min_items", "max_items", "default")
_MAX_SHOWN = 300
_MAX_POINTS_SHOWN = 12

WHY_HELD: Mapping[Reason, str] = {
    Reason.PRICE: "a price moves to more than twice or less than half",
    Reason.MEANING: "its price has another type, currency or unit",
    Reason.NO_PRICE: "it would have no price that is known",
    Reason.NO_ORDER: "a field that every order needs takes values that are not understood",
    Reason.REQUIRED: "a field is required that was not",
    Reason.DEFAULT: "it is the default model",
    Reason.MANY: "more than a fifth of the models change at once",
    Reason.UNREADABLE: "its description cannot be read",
}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one line for each difference between two versions of a model, without its price."""
    lines: list[str] = []
    name = new["id"]
    if old.get("retired"):
        lines.append(f"+ {name}: described again")
    if new.get("deprecated") and not old.get("deprecated"):
        lines.append(f"! {name}: deprecated, the provider will withdraw it")
    if old.get("deprecated") and not new.get("deprecated"):
        lines.append(f"~ {name}: not deprecated any more")
    before: Mapping[str, Json] = old["fields"]
    after: Mapping[str, Json] = new["fields"]
    lines += [f"~ {name}: field {field} is gone" for field in before if field not in after]
    for field, described in after.items():
        if field not in before:
            unused = "; not sent until somebody decides what it is for" if described.get("for") == [] else ""
            lines.append(f"~ {name}: field {field} is new ({_shown(described)}){unused}")
            continue
        if before[field].get("for") != [] and described.get("for") == []:
            lines.append(f"~ {name}: field {field} is not sent any more: the values that it takes are not understood")
        elif before[field].get("for") == [] and described.get("for") != []:
            lines.append(f"~ {name}: field {field} is sent again")
        lines += [
            f"~ {name}: field {field}: {key} {_shown(before[field].get(key))} → {_shown(described.get(key))}"
            for key in (*_DESCRIBED, "use")
            if before[field].get(key) != described.get(key)
        ]
    return tuple(lines)


def _shown(value: object) -> str:
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def price_words(price: Mapping[str, Any]) -> str:
    """Describe a price table: `$0.08 (resolution 1K), $0.12 (resolution 2K)`."""
    points: list[Json] = price["points"]
    if not points:
        return "no price"
    listed = [
        format_usd(point["usd_micros"]) + (f" ({when_words(point['when'])})" if point["when"] else "")
        for point in points[:_MAX_POINTS_SHOWN]
    ]
    more = f" and {len(points) - _MAX_POINTS_SHOWN} more" if len(points) > _MAX_POINTS_SHOWN else ""
    return ", ".join(listed) + more + ("" if price["complete"] else " (incomplete)")


def when_words(when: Mapping[str, Any]) -> str:
    """Describe the conditions of a price: `with moodboards, resolution 1K`."""
    return ", ".join(
        f"{'with' if value == PRESENT else 'without'} {name}" if value in (PRESENT, ABSENT) else f"{name} {value}"
        for name, value in when.items()
    )


def orders_lost(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Name the conditions that had a price and have none any more; '' if there are none."""
    kept = [point["when"] for point in new["points"]]
    lost = [
        when_words(point["when"]) for point in old["points"] if not any(_covers(when, point["when"]) for when in kept)
    ]
    return " or ".join(words for words in lost[:5] if words)


def _covers(general: Mapping[str, Any], special: Mapping[str, Any]) -> bool:
    """Return whether every order that meets `special` meets `general`."""
    return all(special.get(name) == wanted for name, wanted in general.items())
