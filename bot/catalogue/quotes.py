"""Quotes: the request body for one order of a model, checked field by field, and its price."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bot.catalogue import aspect_ratio
from bot.catalogue.models import Field, Model
from bot.domain.constraints import AtLeastImages, AtMostImages, Constraint, Number, OneOf, Text
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest
from bot.domain.texts import is_visible

SEED_MAX = 2**31 - 1
"""The largest seed, also for models that state no range: they may store it in 32 bits."""

_IMAGE_KEY = "$picture"
_DEFAULT_FACTOR = 2


def random_seed() -> int:
    """Return an unpredictable seed from the range that every model supports."""
    return secrets.randbelow(SEED_MAX + 1)


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
        raise ModelUnavailable(model_id=model.id, reason="retired")
    if not model.supports(request.kind):
        raise ModelUnavailable(model_id=model.id, reason="not_for_this_command")
    builder = _BodyBuilder(model, request)
    builder.put_prompt()
    builder.put_images()
    builder.put_options()
    builder.put_shape()
    seed = builder.put_seed(seed_source)
    builder.put_defaults()
    amount = model.price_of(builder.body, images=len(request.images))
    if amount is None:
        raise ModelUnavailable(model_id=model.id, reason="no_price")
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
        counts = dict.fromkeys(ImageRole, 0)
        # Source images come first: a model with one list for both roles edits the first one.
        for index in sorted(range(len(self._request.images)), key=lambda n: self._role(n) is not ImageRole.SOURCE):
            role = self._role(index)
            field = self._model.field_for(role)
            if field is None and role is ImageRole.SOURCE:
                raise ModelUnavailable(model_id=self._model.id, reason="not_for_this_command")
            if field is None:
                raise self._unknown(role)
            counts[role] += 1
            indexes = indexes_by_field.setdefault(field.name, [])
            indexes.append(index)
            if field.capacity is not None and len(indexes) > field.capacity:
                name = f"image{counts[role]}" if role is ImageRole.SOURCE else "reference"
                raise self._bad(name, "invalid", AtMostImages(count=field.capacity))
        for field in self._model.fields.values():
            if field.is_for_images and field.purposes:
                self._put_into(field, indexes_by_field.get(field.name, []))
        if self._request.kind is not JobKind.IMAGINE and not counts[ImageRole.SOURCE]:
            raise self._bad("image", "missing", AtLeastImages(count=1))

    def _put_into(self, field: Field, indexes: list[int]) -> None:
        min_count = max(field.min_items or 0, 1 if field.required else 0)
        if len(indexes) < min_count:
            option = "image" if ImageRole.SOURCE in field.purposes else "reference"
            raise self._bad(option, "missing", AtLeastImages(count=min_count))
        elements = [field.element({_IMAGE_KEY: index}, number) for number, index in enumerate(indexes, start=1)]
        if elements:
            self.body[field.name] = elements if field.type == "array" else elements[0]

    def put_options(self) -> None:
        for option, value in self._request.options.items():
            field = self._model.field_for(option)
            if option == "seed" and field:
                continue
            if option == "aspect_ratio" and self._model.uses_width_and_height:
                self._put_size(str(value).strip())
            elif option in ("width", "height") and self._request.kind is JobKind.UPSCALE and field is None:
                continue  # sent as a factor, see put_shape
            elif field is None or field.is_for_images or option == "prompt":
                raise self._unknown(option)
            else:
                checked = self._checked(field, option, value)
                self.body[field.name] = [field.element(checked, 1)] if field.type == "array" else checked

    def _put_size(self, ratio: str) -> None:
        choices = self._model.choices("aspect_ratio")
        size = self._model.size(ratio) if ratio in choices else None
        if size is None:
            raise self._bad("aspect_ratio", "invalid", OneOf(values=choices))
        self.body["width"], self.body["height"] = size

    def put_shape(self) -> None:
        """Keep the shape of the source image where the body has to state one and no option does."""
        source = next((image for image in self._request.images if image.role is ImageRole.SOURCE), None)
        if source is None or source.width <= 0 or source.height <= 0:
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
        if width is None or height is None or {width.name, height.name} & self.body.keys():
            return
        factor = min(
            float(_DEFAULT_FACTOR),
            (width.maximum or source.width * _DEFAULT_FACTOR) / source.width,
            (height.maximum or source.height * _DEFAULT_FACTOR) / source.height,
        )
        self.body[width.name] = max(1, int(source.width * factor))
        self.body[height.name] = max(1, int(source.height * factor))

    def put_seed(self, seed_source: Callable[[], int]) -> int | None:
        field = self._model.field_for("seed")
        if field is None:
            return None
        minimum = int(field.minimum or 0)
        maximum = int(SEED_MAX if field.maximum is None else min(field.maximum, SEED_MAX))
        seed = self._request.options.get("seed")
        if seed is None:
            seed = minimum + seed_source() % (maximum - minimum + 1)
        if isinstance(seed, bool) or not isinstance(seed, int) or not minimum <= seed <= maximum:
            raise self._bad("seed", "invalid", Number(whole=True, minimum=minimum, maximum=maximum))
        self.body[field.name] = seed
        return seed

    def put_defaults(self) -> None:
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

    def _bad(self, option: str, reason: str, constraint: Constraint | None, *, length: int | None = None) -> BadOption:
        return BadOption(
            option=option,
            model_label=self._model.label,
            reason=reason,
            constraint=constraint,
            length=length,
            supported_options=self._model.supported_options,
        )
