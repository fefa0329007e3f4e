"""Quotes: the request body for one order of a model, checked field by field, and its price.

`sent_options` reads from such a body what was sent, by the names under which it can be set again.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bot.catalogue import aspect_ratio, parameters
from bot.catalogue.fields import SEED_MAX, Field
from bot.catalogue.models import Model
from bot.catalogue.order_text import OptionValue, joined, weighted
from bot.domain.constraints import (
    AtLeastImages,
    AtMostImages,
    AttachedImages,
    Constraint,
    Number,
    OneOf,
    Text,
)
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import ImageInput, ImageRole, Job, JobKind, JobRequest
from bot.domain.texts import is_visible

_IMAGE_KEY = "$picture"
"""Key of the number of an input image, in place of its URL."""
_DEFAULT_FACTOR = 2


def random_seed() -> int:
    """Return a seed at random from the range that every model supports."""
    return random.randint(0, SEED_MAX)  # noqa: S311 - no secret


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """A checked order and the most it can cost.

    `body` contains `{"$picture": n}` in place of the URL of `request.images[n]`. `seed` is None for a model without
    seeds.
    """

    model: Model
    provider: str
    path: str
    body: Mapping[str, Any]
    amount_usd_micros: int
    seed: int | None


def quote(model: Model, request: JobRequest, *, seed_source: Callable[[], int] = random_seed) -> Quote:
    """Return the order for `request` at its listed price. Raises ModelUnavailable or BadOption."""
    if model.hidden or model.retired:
        raise ModelUnavailable(model_id=model.id, model_label=model.label, reason="retired")
    if not model.supports(request.kind):
        raise ModelUnavailable(model_id=model.id, model_label=model.label, reason="not_for_this_command")
    builder = _BodyBuilder(model, request)
    builder.put_prompt()
    builder.put_images()
    builder.put_options()
    builder.put_shape()
    seed = builder.put_seed(seed_source)
    builder.put_defaults()
    amount = model.price_of(builder.body, images=len(request.images))
    if amount is None:
        raise ModelUnavailable(model_id=model.id, model_label=model.label, reason="no_price")
    # In the order of the model's fields, so that equal requests make equal bodies.
    body = {name: builder.body[name] for name in model.fields if name in builder.body}
    return Quote(model=model, provider=model.provider, path=model.path, body=body, amount_usd_micros=amount, seed=seed)


def fill_image_urls(body: Mapping[str, Any], urls: Sequence[str]) -> dict[str, Any]:
    """Return the body with every `{"$picture": n}` replaced by `urls[n]`. Strings are left as they are."""
    return {name: _filled(value, urls) for name, value in body.items()}


def _filled(value: Any, urls: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, Any]", value)
        if set(inner) == {_IMAGE_KEY}:
            return urls[inner[_IMAGE_KEY]]
        return fill_image_urls(inner, urls)
    if isinstance(value, list | tuple):
        return [_filled(element, urls) for element in cast("Sequence[Any]", value)]
    return value


class _BodyBuilder:
    """Builds the request body of one order, step by step."""

    def __init__(self, model: Model, request: JobRequest) -> None:
        self._model = model
        self._request = request
        self.body: dict[str, Any] = {}
        self._attachments = parameters.attachment_names_of(request)
        self._sources: list[int] = []
        """Images that go into the field of the image to change."""
        self._used: set[str] = set()
        """Options for a part of a list element that were put into the body."""
        self._must_be_used: list[str] = []

    def put_prompt(self) -> None:
        field = self._model.field_for("prompt")
        text = self._request.prompt.strip()
        if self._request.kind is JobKind.UPSCALE and not (text and field):
            return
        if field is None:
            raise self._unknown("prompt")
        if not is_visible(text):
            raise self._bad("prompt", "missing", field.constraint)
        self.body[field.name] = self._checked(field, "prompt", text)

    def put_images(self) -> None:
        indexes_by_field: dict[str, list[int]] = {}
        routes = self._routes()
        # Source images come first: a model with one list for both roles edits the first one.
        for index in sorted(range(len(self._request.images)), key=lambda n: self._role(n) is not ImageRole.SOURCE):
            role, name = self._role(index), self._attachments[index]
            field = routes.get(name) or self._model.field_for(role)
            if field is None and role is ImageRole.SOURCE:
                raise ModelUnavailable(
                    model_id=self._model.id, model_label=self._model.label, reason="not_for_this_command"
                )
            if field is None:
                raise self._unknown(name)
            indexes = indexes_by_field.setdefault(field.name, [])
            indexes.append(index)
            if field.capacity is not None and len(indexes) > field.capacity:
                option = field.option if name in routes else name
                uses = self._other_uses(field) if name not in routes and role is ImageRole.SOURCE else ()
                raise self._bad(option, "invalid", AtMostImages(count=field.capacity, other_uses=uses))
        for field in self._model.offered_fields.values():
            if field.is_for_images and field.purposes:
                self._put_into(field, indexes_by_field.get(field.name, []))
        source_field = self._model.field_for(ImageRole.SOURCE)
        self._sources = indexes_by_field.get(source_field.name, []) if source_field else []
        if self._request.kind is not JobKind.IMAGINE and not self._sources:
            raise self._bad("image", "missing", AtLeastImages(count=1))

    def _other_uses(self, taken: Field) -> tuple[str, ...]:
        """Return the options by which an attached image goes into another field than one that is full."""
        fields = [field for field in self._model.offered_fields.values() if field.is_for_images and field.purposes]
        return tuple(field.option for field in fields if field != taken and field.capacity != 0)

    def _routes(self) -> dict[str, Field]:
        """Return the fields for attachments that an option such as `mask=image2` puts elsewhere than usual."""
        routes: dict[str, Field] = {}
        for option, value in self._request.options.items():
            field = self._model.field_for(option)
            if field is None or not field.is_for_images:
                continue
            names = [name.strip().casefold() for name in str(value).split("+")]
            if not all(parameters.is_attachment_name(name) for name in names):
                known = tuple(self._attachments) or parameters.attachment_names(self._request.kind)
                raise self._bad(option, "invalid", AttachedImages(names=known, max_count=field.capacity))
            for number, name in enumerate(names, start=1):
                if name not in self._attachments:
                    raise self._bad(name, "missing", AtLeastImages(count=number))
                routes[name] = field
        return routes

    def _put_into(self, field: Field, indexes: list[int]) -> None:
        min_count = max(field.min_items or 0, 1 if field.required else 0)
        if len(indexes) < min_count:
            option = "image" if ImageRole.SOURCE in field.purposes else "reference"
            raise self._bad(option, "missing", AtLeastImages(count=min_count))
        elements = [
            field.element({_IMAGE_KEY: index}, number, self._parts(field, self._attachments[index]))
            for number, index in enumerate(indexes, start=1)
        ]
        if elements:
            self.body[field.name] = elements if field.type == "array" else elements[0]

    def _parts(self, field: Field, prefix: str) -> dict[str, Any]:
        """Return the chosen parts of a list element, such as `reference2_strength`."""
        chosen: dict[str, Any] = {}
        for key, part in field.parts.items():
            option = f"{prefix}_{key}"
            if option in self._request.options:
                chosen[key] = self._checked(part, option, self._request.options[option])
                self._used.add(option)
        return chosen

    def put_options(self) -> None:
        for option, value in self._request.options.items():
            field = self._model.field_for(option)
            if field is not None and (option == "seed" or field.is_for_images):
                continue
            if option == "aspect_ratio" and self._model.uses_width_and_height:
                self._put_size(str(value).strip())
            elif option in ("width", "height") and self._request.kind is JobKind.UPSCALE and field is None:
                continue  # sent as a factor, see put_shape
            elif field is None:
                self._must_be_used.append(option)
            elif field.option == "prompt":
                raise self._unknown(option)
            elif field.type == "array":
                self._put_list(field, option, value)
            else:
                self.body[field.name] = self._checked(field, option, value)
        for option in self._must_be_used:
            self._require_used(option)
        sides = self._request.options.keys() & {"width", "height"}
        if sides and "aspect_ratio" in self._request.options and self._request.kind is not JobKind.UPSCALE:
            raise self._bad("aspect_ratio", "not_with", None, other=min(sides))

    def _put_list(self, field: Field, option: str, value: object) -> None:
        """Put ids such as `a:0.8+b:-0.3`, each with its own strength or that of `style_strength`."""
        common = self._parts(field, field.option)
        elements: list[Any] = []
        for number, (key, strength) in enumerate(weighted(str(value)), start=1):
            try:
                own = {} if strength is None else {"strength": field.parts["strength"].check(strength)}
                elements.append(field.element(field.check(key), number, common | own))
            except (ValueError, KeyError):
                raise self._bad(option, "invalid", field.constraint) from None
        if field.max_items is not None and len(elements) > field.max_items:
            raise self._bad(option, "invalid", field.constraint)
        self.body[field.name] = elements

    def _require_used(self, option: str) -> None:
        """Refuse an option that changed nothing: the strength of what was not given, or one that the model lacks."""
        if option in self._used:
            return
        prefix, _, part = option.rpartition("_")
        field = self._model.field_for(prefix)
        named = parameters.attachment_part(option)
        if named and named[0] not in self._attachments:
            if parameters.parameter(self._model, self._request.kind, option) is not None:
                raise self._bad(option, "not_without", AtLeastImages(count=1), other=named[0])
        elif field is not None and not field.is_for_images and part in field.parts:
            raise self._bad(option, "not_without", field.constraint, other=field.option)
        raise self._unknown(option)

    def _put_size(self, ratio: str) -> None:
        choices = self._model.choices("aspect_ratio")
        size = self._model.size(ratio) if ratio in choices else None
        if size is None:
            raise self._bad("aspect_ratio", "invalid", OneOf(values=choices))
        self.body["width"], self.body["height"] = size

    def put_shape(self) -> None:
        """Keep the shape of the source image where the body has to state one and no option does."""
        source = self._request.images[self._sources[0]] if self._sources else None
        if source is None or source.role is not ImageRole.SOURCE or source.width <= 0 or source.height <= 0:
            return
        if self._request.kind is JobKind.UPSCALE:
            self._put_target_size(source)
        elif self._model.uses_width_and_height and not {"width", "height"} & self.body.keys():
            self._put_size(self._nearest(source))
        elif "aspect_ratio" in self._model.always_sent and "aspect_ratio" not in self.body:
            self.body["aspect_ratio"] = self._nearest(source)

    def _nearest(self, source: ImageInput) -> str:
        return aspect_ratio.nearest(self._model.choices("aspect_ratio"), width=source.width, height=source.height)

    def _put_target_size(self, source: ImageInput) -> None:
        """Set the size to enlarge to: as requested, else twice the size or the most that the model supports."""
        width, height = self._model.field_for("width"), self._model.field_for("height")
        factor_field = self._model.field_for("factor")
        if factor_field and "width" in self._request.options and factor_field.name not in self.body:
            wanted = self._request.options["width"]
            if isinstance(wanted, bool) or not isinstance(wanted, int | float) or wanted <= 0:
                raise self._bad("width", "invalid", Number(whole=True, minimum=1))
            self.body[factor_field.name] = self._checked(factor_field, "width", round(wanted / source.width, 2))
        if width is None or height is None or {width.name, height.name} <= self.body.keys():
            return
        most = min((width.maximum or math.inf) / source.width, (height.maximum or math.inf) / source.height)
        wanted = (
            self.body[width.name] / source.width
            if width.name in self.body
            else self.body[height.name] / source.height
            if height.name in self.body
            else _DEFAULT_FACTOR
        )
        # One side alone keeps the shape of the image.
        self.body.setdefault(width.name, max(1, round(source.width * min(wanted, most))))
        self.body.setdefault(height.name, max(1, round(source.height * min(wanted, most))))

    def put_seed(self, seed_source: Callable[[], int]) -> int | None:
        field = self._model.field_for("seed")
        if field is None:
            return None
        seed = self._request.options.get("seed")
        if seed is None:
            minimum, maximum = int(field.bounds.minimum or 0), int(field.bounds.maximum or 0)
            seed = minimum + seed_source() % (maximum - minimum + 1)
        self.body[field.name] = checked = self._checked(field, "seed", seed)
        return checked

    def put_defaults(self) -> None:
        for field in self._model.fields.values():
            if self._sources and field.use_with_source is not None:
                self.body.setdefault(field.name, field.use_with_source)
        for name in self._model.always_sent:
            if name not in self.body:
                value = self._model.fields[name].effective_default
                if value is None:
                    raise self._bad(name, "missing", self._model.fields[name].constraint)
                self.body[name] = value

    def _role(self, index: int) -> ImageRole:
        return self._request.images[index].role

    def _checked(self, field: Field, option: str, value: object) -> Any:
        try:
            return field.check(value)
        except ValueError:
            pass
        if isinstance(field.constraint, Text) and isinstance(value, str):
            raise self._bad(option, "wrong_length", field.constraint, length=len(value))
        raise self._bad(option, "invalid", field.constraint)

    def _unknown(self, option: str) -> BadOption:
        return self._bad(option, "unknown", None)

    def _bad(
        self, option: str, reason: str, constraint: Constraint | None, *, length: int | None = None, other: str = ""
    ) -> BadOption:
        return BadOption(
            option=option,
            model_label=self._model.label,
            reason=reason,
            constraint=constraint,
            length=length,
            supported_options=parameters.options_of(self._model, self._request.kind),
            other=other,
        )


# -- what was sent -------------------------------------------------------------------------------------


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
        if isinstance(value, dict) and _IMAGE_KEY in value:
            return cast("dict[str, int]", value)[_IMAGE_KEY]
    return None
