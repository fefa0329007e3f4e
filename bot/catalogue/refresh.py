"""Refreshing the catalogue from the provider's OpenAPI description, and a list of the changes.

What the description lacks is kept from the catalogue: labels, what each image field is for, our defaults, and the
models of other providers. Only the command line uses this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import aiohttp

from bot.catalogue.models import ABSENT, IMAGE_COUNT, PRESENT
from bot.domain.errors import ProviderUnavailable
from bot.domain.quota import MICROS_PER_USD, format_usd

Json = dict[str, Any]

_MAX_DESCRIPTION_BYTES = 20 * 1024 * 1024
_FETCH_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=30)

_PREFIXES = {"/generate/image/": "image", "/generate/enhance/": "enhance"}
_ATTRIBUTES = {
    "minimum": "min",
    "maximum": "max",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
}
_DESCRIBED = ("type", "required", "enum", "min", "max", "min_length", "max_length", "min_items", "max_items", "default")
_DECIDED = ("for", "use", "use_with_source", "item", "parts", "format")

# Names that the provider uses: a first guess for new models.
_SOURCE_NAMES = ("image_url", "image_urls")
_REFERENCE_NAMES = ("image_style_references", "style_images", "reference_images")
_PURPOSES: Mapping[str, list[str]] = {"styles": ["style"], "moodboards": ["moodboard"]}
_MAX_PRICE_USD = 1_000
_MAX_REFERENCES = 8  # a longer chain is a loop
_NEUTRAL: Mapping[str, Any] = {"aspect_ratio": "1:1", "resolution": "1K", "width": 1024, "height": 1024}


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresh:
    """The refreshed catalogue, and one line for each change."""

    data: Json
    changes: tuple[str, ...]


def refresh(current: Mapping[str, Any], document: Mapping[str, Any]) -> Refresh:
    """Update `current` (the content of `catalogue.json`) to `document` (the content of `GET /openapi.json`).

    Raises ValueError when the document describes no image model, which would retire all of them.
    """
    operations = dict(_operations(document))
    if not operations:
        raise ValueError("the description names no image model")
    has_prices = any("x-krea-pricing" in operation for operation in operations.values())
    changes: list[str] = []
    if not has_prices:
        changes.append("! the description has no prices at all: prices stay as they are")
    models: list[Json] = []
    for model in cast("list[Json]", current["models"]):
        operation = operations.pop(model["path"], None)
        if operation is not None:
            old = model
            model = _updated(old, operation, document, current, keep_price=not has_prices)
            changes += _differences(old, model)
        elif model["path"].startswith(tuple(_PREFIXES)) and not model.get("retired"):
            model = model | {"retired": True}
            changes.append(f"- {model['id']}: no longer described; it cannot be ordered any more")
        models.append(model)
    labels = {model["label"] for model in models}
    for path, operation in operations.items():
        model = _discovered(path, operation, document, current, labels)
        labels.add(model["label"])
        models.append(model)
        modes = ", ".join(model["modes"])
        changes.append(f"+ {model['id']}: {model['label']}, {modes}, {_price_words(model['price'])}")
    return Refresh(data={**current, "models": models}, changes=tuple(changes))


def dump(data: Mapping[str, Any]) -> str:
    """Return the text of `catalogue.json`, with one line for each field and price for readable diffs."""
    head = {key: value for key, value in data.items() if key != "models"}
    models = ",\n".join(_dump_model(model) for model in data["models"])
    return f'{json.dumps(head, indent=1, ensure_ascii=False)[:-2]},\n "models": [\n{models}\n ]\n}}\n'


def write(data: Mapping[str, Any], path: Path) -> None:
    """Replace the file atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(dump(data), encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _dump_model(model: Mapping[str, Any]) -> str:
    plain = [(key, value) for key, value in model.items() if key not in ("fields", "price")]
    lines = [f"   {json.dumps(key)}: {_compact(value)}" for key, value in plain]
    fields = ",\n".join(f"    {json.dumps(name)}: {_compact(field)}" for name, field in model["fields"].items())
    price = {key: value for key, value in model["price"].items() if key != "points"}
    points = ",\n".join(f"     {_compact(point)}" for point in model["price"]["points"])
    listed = f"[\n{points}\n    ]" if points else "[]"
    lines.append(f'   "fields": {{\n{fields}\n   }}')
    lines.append(f'   "price": {{\n    {_compact(price)[1:-1]},\n    "points": {listed}\n   }}')
    return "  {\n" + ",\n".join(lines) + "\n  }"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# -- fetching the description ----------------------------------------------------------------------------


async def fetch_openapi(session: aiohttp.ClientSession, base_url: str) -> dict[str, Any]:
    """Fetch `GET /openapi.json`, the provider's description of its models. It needs no key and gets none.

    Raises ProviderUnavailable for anything but a JSON object of at most 20 MiB.
    """
    url = f"{base_url.rstrip('/')}/openapi.json"
    try:
        async with session.get(url, allow_redirects=False, timeout=_FETCH_TIMEOUT) as response:
            if response.status != 200:
                raise ProviderUnavailable(f"{url} answered {response.status}", status=response.status)
            data = await _read_capped(response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ProviderUnavailable(f"{url} could not be read: {type(error).__name__}") from error
    try:
        document: object = json.loads(data)
    except ValueError as error:
        raise ProviderUnavailable(f"{url} is not JSON", status=200) from error
    if not isinstance(document, dict):
        raise ProviderUnavailable(f"{url} is not a JSON object", status=200)
    return cast("dict[str, Any]", document)


async def _read_capped(response: aiohttp.ClientResponse) -> bytes:
    """Return the decoded body, limited in size: its length header may be missing, or be that of a gzip bomb."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > _MAX_DESCRIPTION_BYTES:
            raise ProviderUnavailable(f"{response.url} is larger than {_MAX_DESCRIPTION_BYTES} bytes", status=200)
    return bytes(data)


# -- reading the description -----------------------------------------------------------------------------


def _object(value: object) -> Json:
    """Return the value if it is a JSON object, else an empty one."""
    return cast("Json", value) if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _operations(document: Mapping[str, Any]) -> Iterable[tuple[str, Json]]:
    for path, methods in _object(document.get("paths")).items():
        operation = _object(_object(methods).get("post"))
        if path.startswith(tuple(_PREFIXES)) and operation:
            yield path, operation


def _resolved(schema: object, document: Mapping[str, Any]) -> Json:
    """Return the schema with references followed, and 'X or null' reduced to X."""
    here = _object(schema)
    for _ in range(_MAX_REFERENCES):
        alternatives = _list(here.get("anyOf")) or _list(here.get("oneOf"))
        if isinstance(reference := here.get("$ref"), str):
            target: object = document
            for step in reference.removeprefix("#/").split("/"):
                target = _object(target).get(step)
            here = _object(target) | {key: value for key, value in here.items() if key != "$ref"}
        elif alternatives:
            real = [option for option in map(_object, alternatives) if option.get("type") != "null"]
            rest = {key: value for key, value in here.items() if key not in ("anyOf", "oneOf")}
            here = rest | (real[0] if real else {})
        else:
            break
    return here


def _body_schema(operation: Json, document: Mapping[str, Any]) -> Json:
    body = _resolved(operation.get("requestBody"), document)
    content = _object(_object(body.get("content")).get("application/json"))
    return _resolved(content.get("schema"), document)


def _type_of(schema: Json) -> str:
    kinds = schema.get("type", "string")
    named = [str(kind) for kind in (_list(kinds) or [kinds]) if kind != "null"]
    return named[0] if named else "string"


def _described(schema: Json, items: Json, *, required: bool) -> Json:
    """Convert the schema of a field to catalogue data."""
    field: Json = {"type": _type_of(schema)}
    if required:
        field["required"] = True
    if enum := [choice for choice in _list(schema.get("enum")) if choice is not None]:
        field["enum"] = enum
    for theirs, ours in _ATTRIBUTES.items():
        if schema.get(theirs) is not None:
            field[ours] = schema[theirs]
    default = schema.get("default")
    if default is not None and field["type"] != "array":
        field["default"] = default
    inside = items if field["type"] == "array" else schema
    formats = [inside.get("format"), *(_property(inside, name).get("format") for name in ("url", "image_url", "id"))]
    if found := next((word for word in formats if word), None):
        field["format"] = "uri" if "ur" in found else found
    return field


def _property(items: Json, name: str) -> Json:
    return _object(_object(items.get("properties")).get(name))


def _read_fields(
    operation: Json, document: Mapping[str, Any], known: Mapping[str, Json]
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Read the fields, and the schema of the elements of each list. Decisions about known fields are kept."""
    schema = _body_schema(operation, document)
    required = set(_list(schema.get("required")))
    renamed = _renamed(operation, known)
    fields: dict[str, Json] = {}
    items: dict[str, Json] = {}
    for name, raw in _object(schema.get("properties")).items():
        resolved = _resolved(raw, document)
        items[name] = _resolved(resolved.get("items"), document)
        field = _described(resolved, items[name], required=name in required)
        decided = known.get(name) or known.get(renamed.get(name, ""), {})
        fields[name] = field | {key: decided[key] for key in _DECIDED if key in decided}
        if "use" in decided and fields[name].get("enum") and decided["use"] not in fields[name]["enum"]:
            del fields[name]["use"]
        if fields[name].get("format") == "uri":
            # Limits on the length of a URL are no limits for members.
            fields[name] = {k: v for k, v in fields[name].items() if k not in ("min_length", "max_length", "default")}
    return fields, items


def _renamed(operation: Json, known: Mapping[str, Json]) -> dict[str, str]:
    """Return the old name of each renamed field that is known, by its new name."""
    aliases = [_object(alias) for alias in _list(operation.get("x-krea-deprecated-field-aliases"))]
    return {alias["to"]: alias["from"] for alias in aliases if alias.get("from") in known and "to" in alias}


def _decide(fields: dict[str, Json], items: Mapping[str, Json], new: Iterable[str]) -> None:
    """Guess what each new field is for, and its default."""
    sources = [name for name in _SOURCE_NAMES if name in fields]
    references = [name for name in _REFERENCE_NAMES if name in fields][:1] or [n for n in sources if n == "image_urls"]
    for name in new:
        field = fields[name]
        properties = _object(items[name].get("properties"))
        holder = next((key for key in ("url", "image_url", "id") if key in properties), None)
        if field.get("format") == "uri" or name in (*sources, *references) or holder in ("url", "image_url"):
            field["format"] = "uri"
            field["for"] = ["source"] * (name in sources) + ["reference"] * (name in references)
        elif field["type"] == "array":
            field["for"] = _PURPOSES.get(name, [])
        elif field["type"] == "object" or (name in ("width", "height") and "aspect_ratio" in fields):
            # There are two ways to set the size, and which one wins is not documented, so only one is sent.
            field["for"] = []
        if holder and field.get("for"):
            field["item"] = {holder: "$value"} | {
                key: _resolved(inner, {}).get("default", 1.0) for key, inner in properties.items() if key == "strength"
            }
        needs_choice = field.get("required") or (name in ("aspect_ratio", "resolution") and "default" in field)
        choices = field.get("enum")
        if needs_choice and choices:
            neutral = _NEUTRAL.get(name, field.get("default"))
            field["use"] = neutral if neutral in choices else choices[0]
        elif name in _NEUTRAL and field["type"] in ("number", "integer") and "for" not in field:
            field["use"] = min(max(_NEUTRAL[name], field.get("min", 1)), field.get("max", _NEUTRAL[name]))


def _read_price(operation: Json, fields: Mapping[str, Json], current: Mapping[str, Any]) -> Json:
    points: list[Json] = []
    complete = True
    listed = _object(operation.get("x-krea-pricing")).get("price_points")
    for point in map(_object, _list(listed)):
        when, understood = _conditions(_object(point.get("dimensions")), fields, _object(current.get("dimensions")))
        try:
            micros = Decimal(str(point.get("amount"))) * MICROS_PER_USD
        except (ArithmeticError, ValueError):
            micros = Decimal(-1)
        # The bounds come first: converting 9e99999 to an integer takes long, and NaN or infinity fails.
        if not micros.is_finite() or not 0 < micros <= _MAX_PRICE_USD * MICROS_PER_USD or micros != int(micros):
            complete = False
            continue
        complete = complete and understood
        points.append({"when": when, "usd_micros": int(micros)})
    return {"complete": complete and bool(points), "points": points}


def _conditions(
    dimensions: Mapping[str, Any], fields: Mapping[str, Json], dictionary: Mapping[str, Any]
) -> tuple[Json, bool]:
    """Convert price dimensions to conditions; also return whether all were understood.

    An unknown dimension becomes a condition that is never met, so that its price is not used.
    """
    when: Json = {}
    understood = True
    for name, value in dimensions.items():
        meaning = dictionary.get(name)
        if name in fields:
            when[name] = value
        elif isinstance(meaning, dict):
            words = cast("Json", meaning)
            found = next((words[word] for word in words if str(value).casefold().startswith(word)), None)
            conditions = found if found is not None else {name: value}
            # A condition on a field that the model lacks is always met.
            when |= {key: wanted for key, wanted in conditions.items() if key in fields or wanted != ABSENT}
            understood = understood and found is not None
        elif meaning == IMAGE_COUNT and isinstance(value, int):
            when[IMAGE_COUNT] = value
        else:
            when[name] = value
            understood = False
    return when, understood


# -- known and new models --------------------------------------------------------------------------------


def _updated(
    model: Json, operation: Json, document: Mapping[str, Any], current: Mapping[str, Any], *, keep_price: bool
) -> Json:
    known: dict[str, Json] = model["fields"]
    fields, items = _read_fields(operation, document, known)
    renamed = _renamed(operation, known)
    new = [name for name in fields if name not in known and name not in renamed]
    _decide(fields, items, new)
    for name in new:
        if fields[name].get("format") == "uri":
            fields[name]["for"] = []  # Not sent until its purpose is entered in the catalogue.
    updated = {key: value for key, value in model.items() if key not in ("retired", "deprecated")}
    if operation.get("deprecated"):
        updated["deprecated"] = True
    price = model["price"] if keep_price else _read_price(operation, fields, current)
    if price["points"] == model["price"]["points"]:
        price = model["price"]
    # `fields` and `price` are last, because they are long.
    return {k: v for k, v in updated.items() if k not in ("fields", "price")} | {"fields": fields, "price": price}


def _discovered(
    path: str, operation: Json, document: Mapping[str, Any], current: Mapping[str, Any], labels: set[str]
) -> Json:
    prefix = next(prefix for prefix in _PREFIXES if path.startswith(prefix))
    kind = _PREFIXES[prefix]
    name = path.removeprefix(prefix)
    fields, items = _read_fields(operation, document, {})
    _decide(fields, items, fields)
    purposes = {purpose: field for field in fields.values() for purpose in field.get("for", ())}
    if kind == "enhance":
        modes = ["upscale"]
    else:
        needs_image = any(field.get("required") and field.get("format") == "uri" for field in fields.values())
        modes = ["generate"] * (not needs_image) + ["edit"] * ("source" in purposes)
        reads_style = "reference" in purposes and "source" not in purposes["reference"]["for"]
        modes += ["reference"] * reads_style
    model: Json = {
        "id": f"krea/{name}" if kind == "image" else f"krea/enhance/{name}",
        "label": _free_label(str(operation.get("summary") or name.rpartition("/")[2]), name, labels),
        "provider": "krea",
        "path": path,
        "kind": kind,
        "modes": modes,
    }
    if operation.get("deprecated"):
        model["deprecated"] = True
    return model | {"fields": fields, "price": _read_price(operation, fields, current)}


def _free_label(wanted: str, name: str, taken: set[str]) -> str:
    return wanted if wanted not in taken else f"{wanted} ({name})"


# -- the list of changes -----------------------------------------------------------------------------------


def _differences(old: Json, new: Json) -> list[str]:
    lines: list[str] = []
    name = new["id"]
    if old.get("retired"):
        lines.append(f"+ {name}: described again")
    if new.get("deprecated") and not old.get("deprecated"):
        lines.append(f"! {name}: deprecated, the provider will withdraw it")
    if old.get("deprecated") and not new.get("deprecated"):
        lines.append(f"~ {name}: not deprecated any more")
    before: dict[str, Json] = old["fields"]
    after: dict[str, Json] = new["fields"]
    lines += [f"~ {name}: field {field} is gone" for field in before if field not in after]
    for field, described in after.items():
        if field not in before:
            unused = "; not sent until somebody decides what it is for" if described.get("for") == [] else ""
            lines.append(f"~ {name}: field {field} is new ({_compact(described)}){unused}")
            continue
        lines += [
            f"~ {name}: field {field}: {key} {_show(before[field].get(key))} → {_show(described.get(key))}"
            for key in (*_DESCRIBED, "use")
            if before[field].get(key) != described.get(key)
        ]
    if old["price"] != new["price"]:
        lines.append(f"~ {name}: price {_price_words(old['price'])} → {_price_words(new['price'])}")
    return lines


def _show(value: object) -> str:
    return "none" if value is None else _compact(value)


def _price_words(price: Mapping[str, Any]) -> str:
    if not price["points"]:
        return "no price"
    listed = [
        format_usd(point["usd_micros"]) + (f" ({_when_words(point['when'])})" if point["when"] else "")
        for point in price["points"]
    ]
    return ", ".join(listed) + ("" if price["complete"] else " (incomplete)")


def _when_words(when: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{'with' if value == PRESENT else 'without'} {name}" if value in (PRESENT, ABSENT) else f"{name} {value}"
        for name, value in when.items()
    )
