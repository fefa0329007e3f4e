"""Parameters: everything that members can set in an order of a model, by the names that commands, `more` and flags use.

A parameter is a field of the request body, or a part of a list element such as the strength of one reference image.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

from bot.catalogue.fields import Field
from bot.catalogue.models import OPTIONS, Model
from bot.domain.constraints import AttachedImages, Constraint, OneOf
from bot.domain.jobs import ImageRole, JobKind, JobRequest

MAX_ATTACHMENTS: Mapping[JobKind, int] = {JobKind.IMAGINE: 10, JobKind.EDIT: 4, JobKind.UPSCALE: 4}
"""Most images that a command takes. Ten references are what Krea 2 takes."""

_ATTACHMENT = re.compile(r"(image|reference)([2-9]|10)?")
_ATTACHMENT_PART = re.compile(r"((?:image|reference)(?:[2-9]|10)?)_([a-z]+)")
_ATTACHMENT_NAMES = {ImageRole.SOURCE: "image", ImageRole.REFERENCE: "reference"}
_ROLES = {JobKind.IMAGINE: ImageRole.REFERENCE, JobKind.EDIT: ImageRole.SOURCE, JobKind.UPSCALE: ImageRole.SOURCE}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One thing that can be set. `default` is what applies when it is not; None where that is not known or nothing."""

    name: str
    constraint: Constraint
    field: Field
    default: Any = None


def attachment_name(role: ImageRole, number: int) -> str:
    """Return the name of an attachment option: `reference`, `reference2`, `image3`. `number` counts from 1."""
    return f"{_ATTACHMENT_NAMES[role]}{number if number > 1 else ''}"


def attachment_names(kind: JobKind) -> tuple[str, ...]:
    """Return the names of the attachment options of a command."""
    return tuple(attachment_name(_ROLES[kind], number) for number in range(1, MAX_ATTACHMENTS[kind] + 1))


def attachment_names_of(request: JobRequest) -> list[str]:
    """Return the name of each input image: `image`, `image2`, `reference`, counted by role."""
    counts = dict.fromkeys(ImageRole, 0)
    names: list[str] = []
    for image in request.images:
        counts[image.role] += 1
        names.append(attachment_name(image.role, counts[image.role]))
    return names


def is_attachment_name(text: str) -> bool:
    """Return whether the text is the name of an attachment option."""
    return _ATTACHMENT.fullmatch(text) is not None


def attachment_part(option: str) -> tuple[str, str] | None:
    """Return attachment and part of an option such as `reference2_strength`; None for any other option."""
    match = _ATTACHMENT_PART.fullmatch(option)
    return (match[1], match[2]) if match else None


@lru_cache(maxsize=512)
def parameters_of(model: Model, kind: JobKind) -> tuple[Parameter, ...]:
    """List what can be set in an order by that command, without the prompt; the options of commands come first."""
    found: list[Parameter] = []
    if model.uses_width_and_height:
        ratios = OneOf(values=model.choices("aspect_ratio"))
        found.append(Parameter(name="aspect_ratio", constraint=ratios, field=model.fields["width"]))
    for field in model.offered_fields.values():
        if field.purposes and field.option != "prompt":
            found += _of_images(model, field, kind) if field.is_for_images else _of_values(field, kind)
    order = {name: number for number, name in enumerate(OPTIONS)}
    # Several fields can have a strength of the same attachment: it is set once.
    unique: dict[str, Parameter] = {}
    for each in found:
        unique.setdefault(each.name, each)
    return tuple(sorted(unique.values(), key=lambda each: order.get(each.name, len(order))))


def parameter(model: Model, kind: JobKind, name: str) -> Parameter | None:
    """Return the parameter of that name, also of the second to last attachment; None when the model has none."""
    name = model.option_name(name)
    found = next((found for found in parameters_of(model, kind) if _includes(found.name, name)), None)
    return replace(found, name=name) if found is not None else None


def _includes(listed: str, name: str) -> bool:
    """Return whether a listed name stands for this one, as `image2_strength` does for `image3_strength`."""
    first, other = attachment_part(listed), attachment_part(name)
    if not (first and other):
        return listed == name
    (kind, number), (other_kind, other_number) = _numbered(first[0]), _numbered(other[0])
    return (kind, first[1]) == (other_kind, other[1]) and number <= other_number


def _numbered(attachment: str) -> tuple[str, int]:
    word = attachment.rstrip("0123456789")
    return word, int(attachment.removeprefix(word) or 1)


@lru_cache(maxsize=512)
def options_of(model: Model, kind: JobKind) -> tuple[str, ...]:
    """Name all options that an order of the model by that command can have."""
    names = [parameter.name for parameter in parameters_of(model, kind)]
    if kind is JobKind.IMAGINE and model.field_for(ImageRole.REFERENCE) is not None:
        place = sum(name in OPTIONS for name in names)
        names.insert(place, "reference")
    return tuple(names)


def _of_values(field: Field, kind: JobKind) -> list[Parameter]:
    default = field.effective_default if field.use is not None or field.default is not None else None
    if kind is JobKind.EDIT and field.use_with_source is not None:
        default = field.use_with_source
    if field.type != "array":
        return [Parameter(name=field.option, constraint=field.constraint, field=field, default=default)]
    return [Parameter(name=field.option, constraint=field.constraint, field=field), *_parts(field, field.option)]


def _of_images(model: Model, field: Field, kind: JobKind) -> list[Parameter]:
    role = _ROLES[kind]
    usual = model.field_for(role)
    if usual is None or usual.name == field.name:
        return _parts(field, attachment_name(role, 1))
    # The first image is the one to change, so another field gets a later one.
    first = 2 if role is ImageRole.SOURCE else 1
    images = AttachedImages(names=attachment_names(kind)[first - 1 :], max_count=field.capacity)
    named = Parameter(name=field.option, constraint=images, field=field)
    return [named, *_parts(field, attachment_name(role, first))]


def _parts(field: Field, prefix: str) -> list[Parameter]:
    defaults = cast("Mapping[str, Any]", field.item if field.parts else {})
    return [
        Parameter(name=f"{prefix}_{key}", constraint=part.constraint, field=part, default=_default(defaults.get(key)))
        for key, part in field.parts.items()
    ]


def _default(value: Any) -> Any:
    """Return the default of a part; None for one that is made from the number of the image."""
    return None if isinstance(value, str) and "$" in value else value
