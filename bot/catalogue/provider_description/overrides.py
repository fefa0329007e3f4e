"""The operator's own file beside the database: prices, hidden models, any attribute of a model, whole new models."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.catalogue import fields
from bot.catalogue.models import ABSENT, IMAGE_COUNT, PRESENT, Model, PricePoint
from bot.catalogue.provider_description.description import why_invalid
from bot.domain.errors import SettingsError
from bot.domain.json_values import Json
from bot.domain.money.quota import parse_usd

_MAX_DEPTH = 10
_Text = Annotated[str, Field(min_length=1, max_length=200)]
_Number = Annotated[int | float, Field(allow_inf_nan=False)]


class _Shape(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class FieldShape(_Shape):
    """One field of a model in the catalogue."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["string", "number", "integer", "boolean", "array", "object"]
    purposes: Annotated[list[_Text], Field(alias="for")] = []
    required: bool = False
    enum: list[str] = []
    min: _Number | None = None
    max: _Number | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    pattern: str = ""
    format: str = ""
    default: Any = None
    use: Any = None
    use_with_source: Any = None
    item: Any = None
    parts: dict[_Text, FieldShape] = {}


class PointShape(_Shape):
    """One price of a model in the catalogue."""

    when: dict[str, Any]
    usd_micros: Annotated[int, Field(gt=0)]
    assumed: bool = False


class PriceShape(_Shape):
    """The price table of a model in the catalogue."""

    complete: bool = True
    points: list[PointShape]


class ModelShape(_Shape):
    """One model in the catalogue: what an override has to result in."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9._-]+(/[a-z0-9._-]+)+$", max_length=200)]
    label: _Text
    provider: Literal["krea", "pixazo"]
    path: Annotated[str, Field(pattern=r"^/[A-Za-z0-9._/-]+$", max_length=200)]
    kind: Literal["image", "enhance"]
    modes: Annotated[list[Literal["generate", "edit", "reference", "upscale"]], Field(min_length=1)]
    fields: dict[_Text, FieldShape]
    price: PriceShape
    hosted: Literal["krea", "external"] | None = None
    deprecated: bool = False
    retired: bool = False
    age_restricted: bool = False
    style_families: list[str] = []
    note: str = ""


class _InvalidOverride(Exception):
    """The override file is invalid. `str()` tells the operator why."""


def with_overrides(data: Mapping[str, Any], path: Path) -> dict[str, Model]:
    """Return the models of catalogue data as the operator's file changes them. Raises SettingsError."""
    try:
        # Some editors put a byte order mark in front.
        overrides: Any = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repetition)
    except _InvalidOverride as error:
        raise SettingsError(f"{path.name}: {error}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path.name}: not readable as JSON ({error})") from error
    try:
        return _apply(data, overrides)
    except _InvalidOverride as error:
        raise SettingsError(f"{path.name}: {error}") from error


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of names and values, unless a name is there twice: the last one would count."""
    result = dict(pairs)
    if len(result) < len(pairs):
        repeated = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise _InvalidOverride(f"{repeated!r} is there twice in the same object")
    return result


def _apply(data: Mapping[str, Any], overrides: Any) -> dict[str, Model]:
    entries = _object(overrides, "the file")
    if unknown := entries.keys() - {"prices", "hidden", "models"}:
        raise _InvalidOverride(f"unknown key {min(unknown)!r}; known are 'prices', 'hidden' and 'models'")
    shipped: dict[str, Json] = {entry["id"]: entry for entry in data["models"]}
    for model_id, wanted in _object(entries.get("models", {}), "'models'").items():
        shipped[model_id] = _changed(model_id, shipped.get(model_id), _object(wanted, f"model {model_id!r}"))
    result = {model_id: Model.from_data(entry) for model_id, entry in shipped.items()}
    for model_id in entries.get("models", {}):
        if shipped[model_id]["kind"] == "image" and result[model_id].field_for("prompt") is None:
            raise _InvalidOverride(f"model {model_id}: makes images and needs a field 'prompt'")
        for field in result[model_id].fields.values():
            _check_field(model_id, field)
    for model_id, price in _object(entries.get("prices", {}), "'prices'").items():
        model = _known(result, model_id)
        result[model_id] = model.priced(_points(model, price))
    hidden = entries.get("hidden", [])
    if not isinstance(hidden, list):
        raise _InvalidOverride("'hidden' is a list of model ids")
    for model_id in cast("list[Any]", hidden):
        result[model_id] = replace(_known(result, model_id), hidden=True)
    return result


def _changed(model_id: str, entry: Json | None, wanted: Json) -> Json:
    """Return a model's data with the operator's words over it: null removes, an object is merged, the rest replaces."""
    result = _merged({"id": model_id, "label": model_id} if entry is None else entry, wanted, depth=0)
    try:
        checked = ModelShape.model_validate(result)
    except ValidationError as error:
        raise _InvalidOverride(f"model {model_id}: {why_invalid(error)}") from None
    if checked.id != model_id:
        raise _InvalidOverride(f"model {model_id}: its id cannot be changed")
    return result


def _check_field(model_id: str, field: fields.Field) -> None:
    """Raise _InvalidOverride for bounds without a value between them, and for defaults that would be refused."""
    where = f"model {model_id}: {field.name}"
    for low, high in (
        (field.minimum, field.maximum),
        (field.min_length, field.max_length),
        (field.min_items, field.max_items),
    ):
        if low is not None and high is not None and low > high:
            raise _InvalidOverride(f"{where} is at least {low:,} and at most {high:,}: no value is both")
    if field.type in ("array", "object") or field.is_for_images:
        return
    for name, value in (("default", field.default), ("use", field.use), ("use_with_source", field.use_with_source)):
        if name == "default" and field.type == "string" and not field.enum:
            continue  # '' is the default of texts that may be left out
        try:
            if value is not None:
                field.check(value)
        except ValueError:
            raise _InvalidOverride(f"{where} has '{name}' {value!r}; it accepts {_describe_values(field)}") from None


def _merged(target: Any, patch: Any, *, depth: int) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(patch, dict) or depth > _MAX_DEPTH:
        return cast("Any", patch)
    merged: Json = dict(cast("Json", target)) if isinstance(target, dict) else {}
    for key, value in cast("Json", patch).items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value, depth=depth + 1)
    return merged


def _known(models: Mapping[str, Model], model_id: object) -> Model:
    if not isinstance(model_id, str) or model_id not in models:
        close = difflib.get_close_matches(str(model_id).lower(), models, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise _InvalidOverride(f"no model {model_id!r} in the catalogue{hint}")
    return models[model_id]


def _points(model: Model, price: Any) -> tuple[PricePoint, ...]:
    if isinstance(price, str):
        return (PricePoint(when={}, usd_micros=_amount(model, price)),)
    if not isinstance(price, list) or not price:
        raise _InvalidOverride(
            f'the price of {model.id} is an amount such as "0.05" or a list of {{"when", "amount_usd"}}'
        )
    points: list[PricePoint] = []
    for entry in cast("list[Any]", price):
        point = _object(entry, f"a price of {model.id}")
        if point.keys() - {"when", "amount_usd"} or "amount_usd" not in point:
            raise _InvalidOverride(f"a price of {model.id} has 'amount_usd' and may have 'when', nothing else")
        when = _object(point.get("when", {}), f"'when' in a price of {model.id}")
        checked = {name: _condition(model, name, wanted) for name, wanted in when.items()}
        points.append(PricePoint(when=checked, usd_micros=_amount(model, point["amount_usd"])))
    return tuple(points)


def _condition(model: Model, name: str, wanted: Any) -> Any:
    if name == IMAGE_COUNT:
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
            raise _InvalidOverride(f"'pictures' in a price of {model.id} is a whole number")
        return wanted
    field = model.fields.get(name)
    if field is None or not field.purposes:
        raise _InvalidOverride(f"{model.id} has no field {name!r} that a price could depend on")
    if wanted in (PRESENT, ABSENT):
        return wanted
    if field.type == "array" or field.is_for_images:
        raise _InvalidOverride(f"a price of {model.id} depends on {name} being 'present' or 'absent'")
    try:
        return field.check(wanted)
    except ValueError:
        raise _InvalidOverride(f"{name} in a price of {model.id} accepts {_describe_values(field)}") from None


def _describe_values(field: fields.Field) -> str:
    """Describe the values of a field for the operator."""
    bounds = [(field.minimum, "at least"), (field.maximum, "at most")]
    said = [f"{word} {bound:,}" for bound, word in bounds if bound is not None]
    return ", ".join(field.enum or (f"values of type {field.type}", *said))


def _amount(model: Model, text: Any) -> int:
    try:
        amount = parse_usd(text) if isinstance(text, str) else 0
    except ValueError:
        amount = 0
    if amount <= 0:
        raise _InvalidOverride(f'the price of {model.id} is an amount in dollars in quotes such as "0.05", more than 0')
    return amount


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _InvalidOverride(f"{what} is an object with names and values")
    return cast("dict[str, Any]", value)
