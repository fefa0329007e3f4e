"""The provider's description of its models: what of it is understood, as a schema, and the fields that it describes.

A document is read model by model. What does not fit the schema makes that model unreadable, with one sentence that
says why; the other models are read all the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, cast
from urllib.parse import unquote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bot.domain.json_values import Json, as_list, as_object
from bot.domain.texts import is_visible

PREFIXES: Mapping[str, str] = {"/generate/image/": "image", "/generate/enhance/": "enhance"}
"""Beginnings of the paths of models, with the kind of model."""

MAX_MODELS = 500
_MAX_FIELDS = 200
_MAX_CHOICES = 500
_MAX_TEXT = 200
_MAX_PATH = 200
_MAX_REFERENCES = 50  # of one schema; more are a loop

_LIMITS: Mapping[str, str] = {
    "minimum": "min",
    "maximum": "max",
    "min_length": "min_length",
    "max_length": "max_length",
    "min_items": "min_items",
    "max_items": "max_items",
}
"""Attributes of `FieldShape`, with their names in the catalogue."""

DECIDED = ("for", "use", "use_with_source", "item", "parts", "pattern", "format")
"""What we decide about a field and the description does not say."""

# Names that the provider uses: a first guess for new models.
_SOURCE_NAMES = ("image_url", "image_urls")
REFERENCE_NAMES = ("image_style_references", "style_images", "reference_images")
_PURPOSES: Mapping[str, list[str]] = {"styles": ["style"], "moodboards": ["moodboard"]}
_NEUTRAL: Mapping[str, Any] = {"aspect_ratio": "1:1", "resolution": "1K", "width": 1024, "height": 1024}
_STEP_PIXELS = 16
"""The sides of an aspect ratio are multiples of this."""
_KINDS = frozenset({"string", "number", "integer", "boolean", "array", "object"})


class Unreadable(Exception):
    """A model's description is not understood. `str()` is one short sentence without a full stop."""


# -- the schema of what is understood ------------------------------------------------------------------------


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


_Text = Annotated[str, Field(max_length=_MAX_TEXT), AfterValidator(_printable)]
_Number = Annotated[int | float, Field(allow_inf_nan=False, ge=-1e15, le=1e15)]
_Count = Annotated[int, Field(ge=0, le=10**9)]
_Scalar = bool | _Number | _Text | None
_Default = _Scalar | list[Any] | dict[str, Any]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")


class FieldShape(_Shape):
    """What is read of the schema of one field; other keywords are left to the provider to check."""

    type: _Text | list[_Text | None] = "string"
    enum: Annotated[list[_Scalar], Field(max_length=_MAX_CHOICES)] = []
    minimum: _Number | None = None
    maximum: _Number | None = None
    exclusive_minimum: Annotated[bool | _Number | None, Field(alias="exclusiveMinimum")] = None
    exclusive_maximum: Annotated[bool | _Number | None, Field(alias="exclusiveMaximum")] = None
    multiple_of: Annotated[_Number | None, Field(alias="multipleOf")] = None
    min_length: Annotated[_Count | None, Field(alias="minLength")] = None
    max_length: Annotated[_Count | None, Field(alias="maxLength")] = None
    min_items: Annotated[_Count | None, Field(alias="minItems")] = None
    max_items: Annotated[_Count | None, Field(alias="maxItems")] = None
    format: _Text | None = None
    default: _Default = None


class BodyShape(_Shape):
    """What is read of the schema of a request body."""

    type: Literal["object"] = "object"
    properties: Annotated[dict[_Text, dict[str, Any]], Field(min_length=1, max_length=_MAX_FIELDS)]
    required: Annotated[list[_Text], Field(max_length=_MAX_FIELDS)] = []


class AliasShape(_Shape):
    """A renamed field."""

    from_: Annotated[_Text, Field(alias="from")] = ""
    to: _Text = ""


def _printable_or_none(value: object) -> str | None:
    """Return a text that can be shown; a model is no worse for a summary that cannot."""
    return value if isinstance(value, str) and len(value) <= _MAX_TEXT and value.isprintable() else None


class OperationShape(_Shape):
    """What is read of the operation of one model, without its body and its price."""

    summary: Annotated[str | None, BeforeValidator(_printable_or_none)] = None
    deprecated: bool = False
    aliases: Annotated[
        list[AliasShape], Field(alias="x-krea-deprecated-field-aliases", max_length=_MAX_FIELDS)
    ] = []  # fmt: skip


def shown(value: object) -> str:
    """Return a value of the document in at most 40 characters, without anything that cannot be printed."""
    text = value if isinstance(value, str) else repr(value)[:60]
    return "".join(character if character.isprintable() else "?" for character in text[:40]) or "''"


def why_invalid(error: ValidationError) -> str:
    """Return what is wrong first, in one line."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part)[:40] for part in first["loc"] if not str(part).endswith("]"))[:120]
    return f"{place}: {first['msg'][:120]}" if place else first["msg"][:120]


# -- operations ----------------------------------------------------------------------------------------------


def operations(document: Mapping[str, Any]) -> dict[str, Json]:
    """Return the operation of each model by path. Raises ValueError for a document without models or with too many."""
    found: dict[str, Json] = {}
    for path, methods in as_object(document.get("paths")).items():
        operation = _path_item(methods, document).get("post")
        if path.startswith(tuple(PREFIXES)) and operation is not None and _is_plain(path):
            found[path] = as_object(operation)
    if not found:
        raise ValueError("the description names no image model")
    if len(found) > MAX_MODELS:
        raise ValueError(f"the description names {len(found)} models, more than {MAX_MODELS}")
    return found


def _path_item(methods: object, document: Mapping[str, Any]) -> Json:
    """Return the methods of a path; those it refers to where it does."""
    try:
        return resolved(methods, document) if "$ref" in as_object(methods) else as_object(methods)
    except Unreadable:
        return {}


def _is_plain(path: str) -> bool:
    """Whether the path can be an id and the address of a request."""
    name = path.removeprefix("/generate/")
    return len(path) <= _MAX_PATH and all(
        part and part.strip(".") and all(c.isascii() and (c.isalnum() or c in "._-") for c in part)
        for part in name.split("/")
    )


def read_operation(operation: Json) -> OperationShape:
    """Return the operation's own words. Raises Unreadable."""
    try:
        return OperationShape.model_validate(operation)
    except ValidationError as error:
        raise Unreadable(why_invalid(error)) from None


def resolved(schema: object, document: Mapping[str, Any]) -> Json:
    """Return the schema with references followed, 'X or null' reduced to X, and parts joined. Raises Unreadable."""
    return _resolved(schema, document, iter(range(_MAX_REFERENCES)))


def _resolved(schema: object, document: Mapping[str, Any], steps: Iterator[int]) -> Json:
    """Resolve a schema. `steps` runs out when it leads in a circle, or far too deep."""
    here = as_object(schema)
    while True:
        alternatives = as_list(here.get("anyOf")) or as_list(here.get("oneOf"))
        if isinstance(reference := here.get("$ref"), str):
            here = _target(reference, document) | {key: value for key, value in here.items() if key != "$ref"}
        elif parts := as_list(here.get("allOf")):
            rest = {key: value for key, value in here.items() if key != "allOf"}
            here = _joined(rest, [_resolved(part, document, steps) for part in parts])
        elif alternatives:
            real = [option for option in map(as_object, alternatives) if option.get("type") != "null"]
            rest = {key: value for key, value in here.items() if key not in ("anyOf", "oneOf")}
            chosen = real[0] if real else {}
            here = rest | (_choices(real) or chosen)
        else:
            return here if "const" not in here else {**here, "enum": [here["const"]]}
        if next(steps, None) is None:
            raise Unreadable("its references lead in a circle")


def _choices(alternatives: list[Json]) -> Json:
    """Return one schema for alternatives that name their values one by one; nothing where one does not."""
    named = [
        as_list(option.get("enum")) or [option[key] for key in option if key == "const"] for option in alternatives
    ]
    if len(named) < 2 or not all(named):
        return {}
    first = {key: value for key, value in alternatives[0].items() if key != "const"}
    return {**first, "enum": [value for values in named for value in values]}


def _joined(schema: Json, parts: Iterable[Json]) -> Json:
    """Return one schema that asks for what the schema and all its parts ask for."""
    result = schema
    for part in parts:
        properties = as_object(result.get("properties")) | as_object(part.get("properties"))
        required = [*as_list(result.get("required")), *as_list(part.get("required"))]
        result = part | result
        if properties:
            result["properties"] = properties
        if required:
            result["required"] = required
    return result


def _target(reference: str, document: Mapping[str, Any]) -> Json:
    target: object = document
    for step in reference.removeprefix("#/").split("/")[:20]:
        target = as_object(target).get(unquote(step).replace("~1", "/").replace("~0", "~"))
    if not isinstance(target, dict):
        raise Unreadable(f"it refers to {reference[:80]!r}, which is not there")
    return cast("Json", target)


# -- fields --------------------------------------------------------------------------------------------------


def read_fields(
    operation: Json, document: Mapping[str, Any], known: Mapping[str, Json]
) -> tuple[dict[str, Json], dict[str, Json]]:
    """Return the fields as catalogue data, and the schema of the elements of each list. Raises Unreadable.

    What we decided about fields that are known is kept.
    """
    body = _body(operation, document)
    renamed = renamed_fields(operation, known)
    fields: dict[str, Json] = {}
    items: dict[str, Json] = {}
    for name, raw in body.properties.items():
        schema = resolved(raw, document)
        items[name] = resolved(schema.get("items"), document)
        field = _described(name, schema, items[name], required=name in body.required)
        decided = known.get(name) or known.get(renamed.get(name, ""), {})
        field |= {key: decided[key] for key in DECIDED if key in decided}
        if "use" in decided and field.get("enum") and decided["use"] not in field["enum"]:
            del field["use"]
        if isinstance(use := field.get("use"), int | float) and not isinstance(use, bool):
            field["use"] = min(max(use, field.get("min", use)), field.get("max", use))
        if not _has_only_texts(schema) or _is_another_kind(field, decided):
            # Such values can be neither offered nor checked, so the field is not sent.
            field = {key: value for key, value in field.items() if key not in ("enum", "use")}
            field["for"] = []
        if field.get("format") == "uri":
            # Limits on the length of a URL are no limits for members.
            field = {key: value for key, value in field.items() if key not in ("min_length", "max_length", "default")}
        fields[name] = field
    return fields, items


def _body(operation: Json, document: Mapping[str, Any]) -> BodyShape:
    for parameter in as_list(operation.get("parameters")):
        described = resolved(parameter, document)
        if described.get("required") is True:
            raise Unreadable(f"it needs the {shown(described.get('in'))} {shown(described.get('name'))}")
    request = resolved(operation.get("requestBody"), document)
    kinds = as_object(request.get("content"))
    is_json = (name for name in kinds if name.partition(";")[0].strip().casefold() == "application/json")
    content = as_object(kinds.get(next(is_json, "")))
    schema = resolved(content.get("schema"), document)
    if not as_object(schema.get("properties")):
        raise Unreadable("it describes no fields")
    try:
        body = BodyShape.model_validate(schema)
    except ValidationError as error:
        raise Unreadable(why_invalid(error)) from None
    if missing := [name for name in body.required if name not in body.properties]:
        raise Unreadable(f"it needs the field {missing[0][:40]!r}, which it does not describe")
    return body


def renamed_fields(operation: Json, known: Mapping[str, Json]) -> dict[str, str]:
    """Return the old name of each renamed field that is known, by its new name. Raises Unreadable."""
    return {alias.to: alias.from_ for alias in read_operation(operation).aliases if alias.from_ in known and alias.to}


def _described(name: str, schema: Json, items: Json, *, required: bool = False) -> Json:
    try:
        shape = FieldShape.model_validate(schema)
    except ValidationError as error:
        raise Unreadable(f"{name[:40]}.{why_invalid(error)}") from None
    field: Json = {"type": _type_of(shape)}
    if required:
        field["required"] = True
    if choices := [choice for choice in shape.enum if choice is not None]:
        field["enum"] = choices
    for theirs, ours in _LIMITS.items():
        if (limit := getattr(shape, theirs)) is not None:
            field[ours] = limit
    _exclude_bounds(field, shape)
    for least, most in (("min", "max"), ("min_length", "max_length"), ("min_items", "max_items")):
        if field.get(least, 0) > field.get(most, math.inf):
            raise Unreadable(f"{name[:40]} allows nothing: at least {field[least]} and at most {field[most]}")
    default = shape.default
    if isinstance(default, str | bool | int | float) and field["type"] != "array" and _allows(field, default):
        field["default"] = default
    inside = items if field["type"] == "array" else schema
    formats = [inside.get("format"), *(_property(inside, key).get("format") for key in ("url", "image_url", "id"))]
    if found := next((word for word in formats if isinstance(word, str) and word), None):
        field["format"] = "uri" if "ur" in found else found[:20]
    if field["type"] not in _KINDS or ((shape.multiple_of or 0) > 1 and _STEP_PIXELS % (shape.multiple_of or 1)):
        field["for"] = []  # values that nobody can give, or that the sizes of an aspect ratio are not
    return field


def _exclude_bounds(field: Json, shape: FieldShape) -> None:
    """Take over bounds that are not allowed themselves: exactly for whole numbers, else as if they were."""
    step = 1 if field["type"] == "integer" else 0
    for ours, excluded, inward in (("min", shape.exclusive_minimum, step), ("max", shape.exclusive_maximum, -step)):
        if excluded is True and ours in field:
            field[ours] += inward
        elif isinstance(excluded, int | float) and not isinstance(excluded, bool):
            bound = math.floor(excluded) if ours == "min" else math.ceil(excluded)
            field[ours] = bound + inward if step else excluded


def _allows(field: Json, value: str | bool | int | float) -> bool:
    """Return whether a described default is one of the described choices and within the described bounds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return field.get("min", -math.inf) <= value <= field.get("max", math.inf)
    return value in field.get("enum", [value])


def _has_only_texts(schema: Json) -> bool:
    """Return whether every choice is a text, besides null, and there is one if there are choices at all."""
    choices = as_list(schema.get("enum"))
    texts = [choice for choice in choices if choice is not None]
    return bool(texts or not choices) and all(isinstance(choice, str) for choice in texts)


def _is_another_kind(field: Json, decided: Json) -> bool:
    """Return whether a field that took one value takes a list or an object now."""
    return "type" in decided and decided["type"] not in ("array", "object") and field["type"] in ("array", "object")


def _type_of(shape: FieldShape) -> str:
    kinds = [shape.type] if isinstance(shape.type, str) else [kind for kind in shape.type if kind]
    return next((kind for kind in kinds if kind != "null"), "string")


def _property(items: Json, name: str) -> Json:
    return as_object(as_object(items.get("properties")).get(name))


def decide(fields: dict[str, Json], items: Mapping[str, Json], new: Iterable[str]) -> None:
    """Guess what each new field is for, and its default."""
    sources = [name for name in _SOURCE_NAMES if name in fields]
    references = [name for name in REFERENCE_NAMES if name in fields][:1] or [n for n in sources if n == "image_urls"]
    for name in new:
        field = fields[name]
        properties = as_object(items[name].get("properties"))
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
            item: Json = {holder: "$value"}
            field["item"] = item
            if "strength" in properties:
                item["strength"] = _usual_strength(properties["strength"])
                field |= _strength_part(properties["strength"])
        _decide_default(name, field)


def _decide_default(name: str, field: Json) -> None:
    """Set what is sent when nobody chose, for a field that every order has to contain."""
    needs_choice = field.get("required") or (name in ("aspect_ratio", "resolution") and "default" in field)
    choices = field.get("enum")
    if needs_choice and choices:
        neutral = _NEUTRAL.get(name, field.get("default"))
        field["use"] = neutral if neutral in choices else choices[0]
    elif name in _NEUTRAL and field["type"] in ("number", "integer") and "for" not in field:
        field["use"] = min(max(_NEUTRAL[name], field.get("min", 1)), field.get("max", _NEUTRAL[name]))


def _strength_part(schema: object) -> Json:
    """Return `parts` for a strength that members can choose; nothing where its description is not understood."""
    try:
        strength = _described("strength", as_object(schema), {})
    except Unreadable:
        return {}
    return {"parts": {"strength": strength}} if strength["type"] in ("number", "integer") else {}


def _usual_strength(schema: object) -> float | int:
    default = as_object(schema).get("default", 1.0)
    return default if isinstance(default, int | float) and not isinstance(default, bool) and abs(default) < 100 else 1.0


def is_useful_text(text: str | None) -> bool:
    """Whether a model's summary can be its name."""
    return text is not None and is_visible(text)
