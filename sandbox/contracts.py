"""Contracts: what each simulated route accepts and what it charges, from `contracts.json`.

Written from the providers' published schemas, independently of the bot's catalogue, so that errors in it are found.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

# Output sizes at 1K that the provider documents; other ratios get the nearest multiples of 16 with the same area.
_DOCUMENTED_SIZES = {
    "1:1": (1024, 1024),
    "4:3": (1184, 896),
    "3:2": (1248, 832),
    "16:9": (1376, 768),
    "2.35:1": (1568, 672),
    "4:5": (928, 1152),
    "2:3": (832, 1248),
    "9:16": (768, 1376),
}
_SCALE = {"1K": 1.0, "2K": 2.0, "4K": 4.0}
_SIDE_MAX_PX = 4096
_HTTP_URL = re.compile(r"https?://[^\s/]+/\S*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """One route: its fields, which of them take images, and its prices by condition."""

    provider: str
    path: str
    label: str
    kind: str
    fields: Mapping[str, Mapping[str, Any]]
    images: Mapping[str, str]
    prices: Sequence[Mapping[str, Any]]
    aliases: Mapping[str, str]

    def problems(self, body: Mapping[str, Any]) -> list[str]:
        """Return everything that the provider would refuse in this body; empty when it is valid."""
        found: list[str] = []
        for name in body:
            if name in self.aliases:
                found.append(f"{name}: alias no longer accepted since 2026-06-19, use {self.aliases[name]}")
            elif name not in self.fields:
                found.append(f"{name}: unrecognized key")
        for name, rule in self.fields.items():
            if name in body:
                found.extend(_problems(name, body[name], rule))
            elif rule.get("required"):
                found.append(f"{name}: required")
        return found

    def price_usd_micros(self, body: Mapping[str, Any]) -> int | None:
        """Return the published price of exactly this body, or None where none is published."""
        for point in self.prices:
            if all(self._holds(name, wanted, body) for name, wanted in point["when"].items()):
                return point["usd_micros"]
        return None

    def _holds(self, name: str, wanted: Any, body: Mapping[str, Any]) -> bool:
        if name == "reference_images" and name not in self.fields:
            return len(list(self.image_urls(body))) == wanted
        value = body.get(name, self.fields.get(name, {}).get("default"))
        return bool(value) is wanted if isinstance(wanted, bool) else value == wanted

    def image_urls(self, body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield (role, address) of each input image; a role is 'source' or 'reference'."""
        for name, role in self.images.items():
            value = body.get(name)
            items = cast("list[Any]", value) if isinstance(value, list) else [value]
            for item in items:
                entry = cast("dict[str, Any]", item) if isinstance(item, dict) else {"url": item}
                address = entry.get("url") or entry.get("image_url")
                if isinstance(address, str):
                    yield role, address

    def size(self, body: Mapping[str, Any]) -> tuple[int, int]:
        """Return the width and height of what this body orders."""
        width, height = body.get("width"), body.get("height")
        if isinstance(width, int | float) and isinstance(height, int | float):
            factor = min(1.0, _SIDE_MAX_PX / max(width, height))
            return max(1, round(width * factor)), max(1, round(height * factor))
        ratio = str(body.get("aspect_ratio") or self.fields.get("aspect_ratio", {}).get("default") or "1:1")
        scale = _SCALE.get(str(body.get("resolution", "1K")), 1.0)
        base_width, base_height = _DOCUMENTED_SIZES.get(ratio) or _size_of(ratio)
        return round(base_width * scale), round(base_height * scale)


def _size_of(ratio: str) -> tuple[int, int]:
    across, down = (float(part) for part in ratio.split(":"))
    width = math.sqrt(1024 * 1024 * across / down)
    return round(width / 16) * 16, round(width * down / across / 16) * 16


def _problems(name: str, value: Any, rule: Mapping[str, Any]) -> Iterator[str]:
    kind, _, nullable = rule["type"].partition("|")
    if value is None:
        if not nullable:
            yield f"{name}: expected {kind}, received null"
        return
    if not _is_a(kind, value):
        yield f"{name}: expected {kind}, received {type(value).__name__}"
        return
    if "enum" in rule and value not in rule["enum"]:
        yield f"{name}: {value!r} is not one of {', '.join(map(str, rule['enum']))}"
    if kind in ("number", "integer"):
        if not rule.get("min", -math.inf) <= value <= rule.get("max", math.inf):
            yield f"{name}: {value} is out of range {rule.get('min')}..{rule.get('max')}"
    elif kind == "string":
        yield from _text_problems(name, value, rule)
    elif kind == "array":
        yield from _array_problems(name, cast("list[Any]", value), rule)


def _is_a(kind: str, value: Any) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        case "array":
            return isinstance(value, list)
        case _:
            return isinstance(value, dict)


def _text_problems(name: str, value: str, rule: Mapping[str, Any]) -> Iterator[str]:
    if not rule.get("min_length", 0) <= len(value) <= rule.get("max_length", math.inf):
        yield f"{name}: length {len(value)} is out of range {rule.get('min_length')}..{rule.get('max_length')}"
    if "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{name}: does not match {rule['pattern']}"
    match rule.get("format"):
        case "url" if value and not _HTTP_URL.fullmatch(value):
            yield f"{name}: invalid url"
        case "uuid":
            try:
                uuid.UUID(value)
            except ValueError:
                yield f"{name}: invalid uuid"
        case _:
            pass


def _array_problems(name: str, value: list[Any], rule: Mapping[str, Any]) -> Iterator[str]:
    if not rule.get("min_items", 0) <= len(value) <= rule.get("max_items", math.inf):
        yield f"{name}: {len(value)} items, allowed {rule.get('min_items', 0)}..{rule.get('max_items')}"
    item_rule = rule.get("items", {})
    properties: Mapping[str, Any] | None = item_rule.get("properties")
    for index, item in enumerate(value):
        place = f"{name}[{index}]"
        yield from _problems(place, item, item_rule)
        if properties is None or not isinstance(item, dict):
            continue
        entry = cast("dict[str, Any]", item)
        yield from (f"{place}.{key}: unrecognized key" for key in entry if key not in properties)
        for key, inner in properties.items():
            if key in entry:
                yield from _problems(f"{place}.{key}", entry[key], inner)
            elif inner.get("required"):
                yield f"{place}.{key}: required"


@cache
def _data() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("contracts.json").read_text(encoding="utf-8"))


@cache
def contracts() -> Mapping[str, Contract]:
    """Return every route by its path."""
    entries: list[Any] = _data()["contracts"]
    return {entry["path"]: Contract(**entry) for entry in entries}


def gone() -> Mapping[str, Mapping[str, str]]:
    """Return the routes that were removed: what to use instead, and since when."""
    return _data()["gone"]


def as_openapi() -> dict[str, Any]:
    """Return the Krea routes as the public description shows them: schema, prices, deprecated names."""
    paths: dict[str, Any] = {}
    for contract in contracts().values():
        if contract.provider != "krea":
            continue
        operation: dict[str, Any] = {
            "summary": contract.label,
            "requestBody": {
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "additionalProperties": False,
                            "properties": {name: _as_schema(rule) for name, rule in contract.fields.items()},
                            "required": [name for name, rule in contract.fields.items() if rule.get("required")],
                        }
                    }
                }
            },
            "x-krea-deprecated-field-aliases": [
                {"from": old, "to": new, "sunset_date": "2026-06-19"} for old, new in contract.aliases.items()
            ],
        }
        if contract.prices:
            operation["x-krea-pricing"] = {
                "type": "fixed",
                "currency": "USD",
                "unit": "request",
                "price_points": [
                    {"amount": point["usd_micros"] / 1_000_000, "dimensions": point["when"]}
                    for point in contract.prices
                ],
            }
        paths[contract.path] = {"post": operation}
    return {"openapi": "3.1.0", "info": {"title": "Simulated", "version": "1"}, "paths": paths}


_NAMES_IN_SCHEMA = {
    "enum": "enum", "default": "default", "min": "minimum", "max": "maximum", "min_length": "minLength",
    "max_length": "maxLength", "min_items": "minItems", "max_items": "maxItems", "pattern": "pattern",
}  # fmt: skip


def _as_schema(rule: Mapping[str, Any]) -> dict[str, Any]:
    kind, _, nullable = rule["type"].partition("|")
    schema: dict[str, Any] = {"type": [kind, "null"] if nullable else kind}
    schema.update({name: rule[ours] for ours, name in _NAMES_IN_SCHEMA.items() if ours in rule})
    if "format" in rule:
        schema["format"] = {"url": "uri"}.get(rule["format"], rule["format"])
    if "items" in rule:
        items = _as_schema(rule["items"])
        if "properties" in rule["items"]:
            properties: Mapping[str, Any] = rule["items"]["properties"]
            items["properties"] = {name: _as_schema(inner) for name, inner in properties.items()}
            items["required"] = [name for name, inner in properties.items() if inner.get("required")]
        schema["items"] = items
    return schema
