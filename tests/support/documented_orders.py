"""Orders made from what the providers document, without the catalogue: every field of a route at values of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bot.domain.jobs import JobKind
from sandbox.contracts import Contract

LARGEST_SEED = 2**31 - 1
STRENGTH_BOUNDS = (-2.0, 2.0)
"""Of a strength for which none are documented."""

ATTACHED_NAMES = {JobKind.IMAGINE: ("reference", 10), JobKind.EDIT: ("image", 4), JobKind.UPSCALE: ("image", 4)}
MOODBOARD = "123e4567-e89b-12d3-a456-426614174000"

Rule = Mapping[str, Any]


def is_image(rule: Rule) -> bool:
    """Return whether the field takes images, by their addresses."""
    items: Rule = rule.get("items", {})
    inner: Rule = items.get("properties", {})
    return "url" in (rule.get("format"), items.get("format"), *(part.get("format") for part in inner.values()))


def parts_of(rule: Rule) -> dict[str, Rule]:
    """Return what an element of a list holds beside the address or id."""
    inner: Mapping[str, Rule] = rule.get("items", {}).get("properties", {})
    return {name: part for name, part in inner.items() if name != "id" and part.get("format") not in ("url", "uuid")}


def bounds(rule: Rule) -> tuple[float, float]:
    """Return the least and the greatest documented number; far ones where none are."""
    return rule.get("min", -1e6), rule.get("max", 1e6)


def good_values(name: str, rule: Rule) -> Iterator[Any]:
    """Yield values that the documentation takes: every choice, both bounds, the shortest and the longest text."""
    kind = rule["type"].partition("|")[0]
    if "enum" in rule:
        yield from (choice for choice in rule["enum"] if choice is not None)
    elif kind == "boolean":
        yield from (True, False)
    elif kind in ("number", "integer"):
        yield from dict.fromkeys(_good_numbers(name, rule, whole=kind == "integer"))
    elif kind == "string":
        yield "x" * max(1, rule.get("min_length", 1))
        yield "some plain words"[: rule.get("max_length", 100)]


def _good_numbers(name: str, rule: Rule, *, whole: bool) -> Iterator[int | float]:
    if name == "seed":
        yield from (int(rule.get("min", 0)), int(min(rule.get("max", LARGEST_SEED), LARGEST_SEED)))
    elif name in ("width", "height"):
        yield from (int(rule.get("min", 64)), int(rule.get("max", 2048)))
    else:
        least, greatest = rule.get("min", 1), rule.get("max", 100)
        yield from (int(least) if float(least).is_integer() else least, int(greatest))
        if not whole:
            yield round(least + (min(greatest, least + 1) - least) / 4, 3)


def bad_values(name: str, rule: Rule) -> Iterator[str]:
    """Yield typed values that the documentation does not take."""
    kind = rule["type"].partition("|")[0]
    if "enum" in rule or kind == "boolean":
        yield "nothing-of-the-kind"
    elif kind in ("number", "integer"):
        yield "many"
        if "min" in rule:
            yield f"{rule['min'] - 1:g}"
        if "max" in rule:
            yield f"{rule['max'] + 1:.0f}"
        if kind == "integer" or name == "seed":
            yield "1.5"
    elif kind == "string" and "max_length" in rule:
        yield "x" * (rule["max_length"] + 1)


@dataclass(frozen=True, kw_only=True)
class EveryField:
    """One order with as many fields of a route as go together."""

    kind: JobKind
    more: dict[str, str] = field(default_factory=dict[str, str])
    attached: list[str] = field(default_factory=list[str])
    wanted: dict[str, Any] = field(default_factory=dict[str, Any])
    """What has to arrive; for fields with images, how many."""


def typed(value: Any) -> str:
    """Return a value as a member types it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def every_field(contract: Contract, kind: JobKind, *, usual_field: str, with_sides: bool) -> EveryField:
    """Return an order with everything that is documented.

    Attached images go into `usual_field` ('': the model has none) unless something else is said. The shape is given as
    width and height, or else as an aspect ratio: nothing takes both.
    """
    order = EveryField(kind=kind)
    left_out = {"prompt", *(("aspect_ratio",) if with_sides else ("width", "height"))}
    for name, rule in contract.fields.items():
        if name in left_out or is_image(rule):
            continue
        if rule["type"] == "array":
            _add_list(order, name, rule)
            continue
        value = list(good_values(name, rule))[-1]
        order.more[name] = f'"{value}"' if isinstance(value, str) and " " in value else typed(value)
        order.wanted[name] = value
    _add_images(order, contract, usual_field)
    return order


def _add_list(order: EveryField, name: str, rule: Rule) -> None:
    strength = rule["items"]["properties"]["strength"]
    least, greatest = strength.get("min", STRENGTH_BOUNDS[0]), strength.get("max", STRENGTH_BOUNDS[1])
    if rule.get("max_items") == 1:
        order.more[name] = MOODBOARD
        order.more[f"{name.rstrip('s')}_strength"] = "0.4"
        order.wanted[name] = [{"id": MOODBOARD, "strength": 0.4}]
        return
    count = min(rule.get("max_items", 10), 10)
    strengths = [round(least + (greatest - least) * number / count, 3) for number in range(1, count + 1)]
    order.more[name] = "+".join(f"style-{number}:{strength}" for number, strength in enumerate(strengths))
    order.wanted[name] = [{"id": f"style-{number}", "strength": each} for number, each in enumerate(strengths)]


def _add_images(order: EveryField, contract: Contract, usual_field: str) -> None:
    word, most = ATTACHED_NAMES[order.kind]
    fields = {name: rule for name, rule in contract.fields.items() if is_image(rule)}
    others = [name for name in fields if name != usual_field]
    usual_count = min(_capacity(fields[usual_field]), most - len(others)) if usual_field else 0
    names = [f"{word}{number if number > 1 else ''}" for number in range(1, usual_count + len(others) + 1)]
    order.attached.extend(names)
    for field_name, names_in_it in (
        (usual_field, names[:usual_count]),
        *((other, [name]) for other, name in zip(others, names[usual_count:], strict=True)),
    ):
        if not names_in_it:
            continue
        if field_name != usual_field:
            order.more[field_name] = "+".join(names_in_it)
        parts = parts_of(fields[field_name])
        elements: list[dict[str, Any]] = []
        for number, name in enumerate(names_in_it, start=1):
            element: dict[str, Any] = {}
            for part, rule in parts.items():
                element[part] = _part(rule, number, len(names_in_it))
                order.more[f"{name}_{part}"] = str(element[part])
            elements.append(element)
        order.wanted[field_name] = elements


def _part(rule: Rule, number: int, count: int) -> Any:
    if rule["type"] == "string":
        return f"tag_{number}"
    least, greatest = rule.get("min", STRENGTH_BOUNDS[0]), rule.get("max", STRENGTH_BOUNDS[1])
    return round(least + (greatest - least) * number / (count + 1), 3)


def _capacity(rule: Rule) -> int:
    return rule.get("max_items", 10) if rule["type"] == "array" else 1
