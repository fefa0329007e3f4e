"""Orders: one request and one model turned into the body a provider is sent, checked field by field, and its price."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bot.catalogue import aspect_ratio
from bot.catalogue.models import Field, Model
from bot.domain.constraints import Accepted, AtLeastImages, AtMostImages, Number, OneOf, Text
from bot.domain.errors import BadOption, ModelUnavailable
from bot.domain.jobs import ImageInput, ImageRole, JobKind, JobRequest

SEED_MAX = 2**31 - 1
"""Models that state no range may still keep the seed in 32 bits."""

_PICTURE = "$picture"
_ENLARGEMENT = 2


def random_seed() -> int:
    """A seed nobody can guess, from the range that every model takes."""
    return secrets.randbelow(SEED_MAX + 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Quote:
    """A checked order and the most it can cost.

    `body` has `{"$picture": n}` where the address of `request.images[n]` goes. `seed` is None where there is none to
    take.
    """

    model: Model
    provider: str
    path: str
    body: Mapping[str, Any]
    amount_usd_micros: int
    seed: int | None


def quote(model: Model, request: JobRequest, *, seed_source: Callable[[], int] = random_seed) -> Quote:
    """The order for `request` at its listed price. Raises ModelUnavailable and BadOption."""
    if model.hidden or model.retired:
        raise ModelUnavailable(model_id=model.id, reason="retired")
    if not model.fits(request.kind):
        raise ModelUnavailable(model_id=model.id, reason="not_for_this_command")
    order = _BodyBuilder(model, request)
    order.put_prompt()
    order.put_images()
    order.put_options()
    order.put_shape()
    seed = order.put_seed(seed_source)
    order.put_unchosen()
    amount = model.price_of(order.body, images=len(request.images))
    if amount is None:
        raise ModelUnavailable(model_id=model.id, reason="no_price")
    # in the order of the model's own fields, so that equal requests make equal bodies
    body = {name: order.body[name] for name in model.fields if name in order.body}
    return Quote(model=model, provider=model.provider, path=model.path, body=body, amount_usd_micros=amount, seed=seed)


def fill_image_urls(body: Mapping[str, Any], urls: Sequence[str]) -> dict[str, Any]:
    """The body with every `{"$picture": n}` replaced by `urls[n]`. Text that looks like one is left alone."""
    return {name: _filled(value, urls) for name, value in body.items()}


def _filled(value: Any, urls: Sequence[str]) -> Any:
    if isinstance(value, Mapping):
        inner = cast("Mapping[str, Any]", value)
        if set(inner) == {_PICTURE}:
            return urls[inner[_PICTURE]]
        return fill_image_urls(inner, urls)
    if isinstance(value, list | tuple):
        return [_filled(element, urls) for element in cast("Sequence[Any]", value)]
    return value


class _BodyBuilder:
    """A body in the making."""

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
        if not any(character.isprintable() and not character.isspace() for character in text):
            raise self._bad("prompt", "missing", field.accepted)  # nothing a model could see either
        self.body[field.name] = self._checked(field, "prompt", text)

    def put_images(self) -> None:
        contents: dict[str, list[int]] = {}
        counts = dict.fromkeys(ImageRole, 0)
        # pictures to change come first: a model that takes both in one list works on the first
        for index in sorted(range(len(self._request.images)), key=lambda n: self._role(n) is not ImageRole.SOURCE):
            role = self._role(index)
            field = self._model.field_for(role)
            if field is None and role is ImageRole.SOURCE:
                raise ModelUnavailable(model_id=self._model.id, reason="not_for_this_command")
            if field is None:
                raise self._unknown(role)
            counts[role] += 1
            inside = contents.setdefault(field.name, [])
            inside.append(index)
            if field.capacity is not None and len(inside) > field.capacity:
                name = f"image{counts[role]}" if role is ImageRole.SOURCE else "reference"
                raise self._bad(name, "invalid", AtMostImages(count=field.capacity))
        for field in self._model.fields.values():
            if field.is_for_images and field.purposes:
                self._put_into(field, contents.get(field.name, []))
        if self._request.kind is not JobKind.IMAGINE and not counts[ImageRole.SOURCE]:
            raise self._bad("image", "missing", AtLeastImages(count=1))

    def _put_into(self, field: Field, indexes: list[int]) -> None:
        least = max(field.min_items or 0, 1 if field.required else 0)
        if len(indexes) < least:
            option = "image" if ImageRole.SOURCE in field.purposes else "reference"
            raise self._bad(option, "missing", AtLeastImages(count=least))
        elements = [field.element({_PICTURE: index}, number) for number, index in enumerate(indexes, start=1)]
        if elements:
            self.body[field.name] = elements if field.type == "array" else elements[0]

    def put_options(self) -> None:
        for option, value in self._request.options.items():
            field = self._model.field_for(option)
            if option == "seed" and field:
                continue
            if option == "aspect_ratio" and self._model.takes_any_shape:
                self._put_size(str(value).strip())
            elif option in ("width", "height") and self._request.kind is JobKind.UPSCALE and field is None:
                continue  # the model is told a factor instead, see put_shape
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
        """Keep the shape of a picture that is changed, where the order has to state one and nobody chose."""
        source = next((image for image in self._request.images if image.role is ImageRole.SOURCE), None)
        if source is None or source.width <= 0 or source.height <= 0:
            return
        if self._request.kind is JobKind.UPSCALE:
            self._put_target(source)
        elif self._model.takes_any_shape and not {"width", "height"} & self.body.keys():
            self._put_size(self._nearest(source))
        elif "aspect_ratio" in self._model.always_sent and "aspect_ratio" not in self.body:
            self.body["aspect_ratio"] = self._nearest(source)

    def _nearest(self, source: ImageInput) -> str:
        return aspect_ratio.nearest(self._model.choices("aspect_ratio"), width=source.width, height=source.height)

    def _put_target(self, source: ImageInput) -> None:
        """The size to enlarge to: as asked, else twice the size, in the same shape as far as the model goes."""
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
            float(_ENLARGEMENT),
            (width.maximum or source.width * _ENLARGEMENT) / source.width,
            (height.maximum or source.height * _ENLARGEMENT) / source.height,
        )
        self.body[width.name] = max(1, int(source.width * factor))
        self.body[height.name] = max(1, int(source.height * factor))

    def put_seed(self, seed_source: Callable[[], int]) -> int | None:
        field = self._model.field_for("seed")
        if field is None:
            return None
        least, most = int(field.minimum or 0), int(SEED_MAX if field.maximum is None else min(field.maximum, SEED_MAX))
        seed = self._request.options.get("seed")
        if seed is None:
            seed = least + seed_source() % (most - least + 1)
        if isinstance(seed, bool) or not isinstance(seed, int) or not least <= seed <= most:
            raise self._bad("seed", "invalid", Number(whole=True, minimum=least, maximum=most))
        self.body[field.name] = seed
        return seed

    def put_unchosen(self) -> None:
        for name in self._model.always_sent:
            if name not in self.body:
                value = self._model.fields[name].unchosen
                if value is None:
                    raise self._bad(name, "missing", self._model.fields[name].accepted)
                self.body[name] = value

    def _role(self, index: int) -> ImageRole:
        return self._request.images[index].role

    def _checked(self, field: Field, option: str, value: object) -> Any:
        try:
            return field.check(value)
        except ValueError:
            pass
        if isinstance(field.accepted, Text) and isinstance(value, str):
            raise self._bad(option, "wrong_length", field.accepted, length=len(value))
        raise self._bad(option, "invalid", field.accepted)

    def _unknown(self, option: str) -> BadOption:
        return self._bad(option, "unknown", None)

    def _bad(self, option: str, reason: str, accepted: Accepted | None, *, length: int | None = None) -> BadOption:
        return BadOption(
            option=option,
            model_label=self._model.label,
            reason=reason,
            accepted=accepted,
            length=length,
            takes=self._model.takes,
        )
