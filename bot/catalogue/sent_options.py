"""Sent options: everything that was sent with the prompt of an order, by the names under which it can be set again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from bot.catalogue import parameters
from bot.catalogue.fields import Field
from bot.catalogue.models import Model
from bot.catalogue.order_text import OptionValue, joined
from bot.catalogue.quotes import IMAGE_KEY
from bot.domain.jobs import Job


def sent_options(model: Model | None, job: Job, *, style_name: Callable[[str], str] = str) -> dict[str, OptionValue]:
    """Return every value that was sent, chosen or not, without prompt and seed, in the order of the model's options.

    `style_name` finds the title of a style by its id. For a model that has left the catalogue, fields have their names.
    """
    values: dict[str, OptionValue] = {}
    names = parameters.attachment_names_of(job.request)
    for key, value in job.body.items():
        field = model.fields.get(key) if model is not None else None
        option = field.option if field is not None else key
        if option not in ("prompt", "seed"):
            values |= _of_field(option, field, value, names, style_name)
    chosen = dict(job.request.options)
    if model is not None and model.uses_width_and_height and "aspect_ratio" in chosen:
        values = {name: values[name] for name in values if name not in ("width", "height")}
        values["aspect_ratio"] = chosen["aspect_ratio"]
    # Where an attached image went, if not to its usual field.
    images = {name for name in chosen if model is not None and (found := model.field_for(name)) and found.is_for_images}
    values |= {name: chosen[name] for name in sorted(images)}
    order = (
        {name: number for number, name in enumerate(parameters.options_of(model, job.request.kind))} if model else {}
    )
    return dict(sorted(values.items(), key=lambda pair: order.get(pair[0], len(order))))


def _of_field(
    option: str, field: Field | None, value: Any, names: list[str], style_name: Callable[[str], str]
) -> dict[str, OptionValue]:
    if isinstance(value, str | int | float | bool):
        return {option: value}
    elements = cast("list[Any]", value) if isinstance(value, list) else [value]
    found: dict[str, OptionValue] = {}
    listed: list[tuple[str, float | None]] = []
    for element in elements:
        if not isinstance(element, dict):
            continue
        pairs = cast("Mapping[str, Any]", element)
        parts = {key: part for key, part in pairs.items() if isinstance(part, str | int | float) and key != "id"}
        if "id" in pairs:
            strength = parts.get("strength")
            listed.append((str(pairs["id"]), None if isinstance(strength, str) else strength))
        elif (index := _image_of(pairs)) is not None and index < len(names):
            found |= {f"{names[index]}_{key}": part for key, part in parts.items()}
    if len(listed) == 1 and field is not None and field.max_items == 1:
        key, strength = listed[0]
        return {option: key} | ({} if strength is None else {f"{option}_strength": strength})
    if listed:
        found[option] = joined((style_name(key), strength) for key, strength in listed)
    return found


def _image_of(element: Mapping[str, Any]) -> int | None:
    """Return the number of the input image in a list element."""
    for value in element.values():
        if isinstance(value, dict) and IMAGE_KEY in value:
            return cast("dict[str, int]", value)[IMAGE_KEY]
    return None
