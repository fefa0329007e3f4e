"""Image models: the fields of each model's request body and its prices. Values read from data, no I/O.

The keys of the data are explained at the top of `catalogue.json`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn, cast
from uuid import UUID

from bot.catalogue import aspect_ratio
from bot.domain.constraints import Constraint, Identifier, Number, OneOf, Text, TrueOrFalse, Uuid
from bot.domain.jobs import ImageRole, JobKind

OPTIONS = ("aspect_ratio", "resolution", "quality", "creativity", "seed", "style", "moodboard", "reference")
"""The options of commands, in the order in which they are listed."""

IMAGE_COUNT = "pictures"
"""Key of a price condition on the number of input images."""
PRESENT, ABSENT = "present", "absent"
"""Values of a price condition on whether the body contains a field."""

_MAX_ID_CHARACTERS = 200
_DEFAULT_SIDE_PIXELS = 1024
_MODES: Mapping[JobKind, frozenset[str]] = {
    # A model that needs reference images still makes a new image from a prompt.
    JobKind.IMAGINE: frozenset({"generate", "reference"}),
    JobKind.EDIT: frozenset({"edit"}),
    JobKind.UPSCALE: frozenset({"upscale"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a request body.

    `purposes` are the options or image roles that the field is for (none: it is never sent). `use` is our default,
    `default` the provider's. `item` is the shape of one list element, with `$value` in place of the value.
    """

    name: str
    type: str
    purposes: tuple[str, ...]
    required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    enum: tuple[str, ...] = ()
    format: str = ""
    default: Any = None
    use: Any = None
    item: Any = "$value"

    @classmethod
    def from_data(cls, name: str, data: Mapping[str, Any]) -> Field:
        return cls(
            name=name,
            type=data["type"],
            purposes=tuple(data.get("for", (name,))),
            required=data.get("required", False),
            minimum=data.get("min"),
            maximum=data.get("max"),
            min_length=data.get("min_length"),
            max_length=data.get("max_length"),
            min_items=data.get("min_items"),
            max_items=data.get("max_items"),
            enum=tuple(data.get("enum", ())),
            format=data.get("format", ""),
            default=data.get("default"),
            use=data.get("use"),
            item=data.get("item", "$value"),
        )

    @property
    def is_for_images(self) -> bool:
        return self.format == "uri"

    @property
    def capacity(self) -> int | None:
        """Most images or ids that the field holds; None when no limit is stated."""
        return self.max_items if self.type == "array" else 1

    @property
    def effective_default(self) -> Any:
        """The value when the request has none: our default, else the provider's, else the first allowed value."""
        return next((value for value in (self.use, self.default, *self.enum[:1]) if value is not None), None)

    @property
    def constraint(self) -> Constraint:
        """What a value of this field has to be."""
        if self.enum:
            return OneOf(values=self.enum)
        match self.type:
            case "boolean":
                return TrueOrFalse()
            case "number" | "integer":
                return Number(whole=self.type == "integer", minimum=self.minimum, maximum=self.maximum)
            case _ if self.format == "uuid":
                return Uuid()
            case "array":
                return Identifier(max_characters=_MAX_ID_CHARACTERS)
            case _:
                return Text(min_characters=self.min_length or 1, max_characters=self.max_length)

    def check(self, value: object) -> Any:
        """Return the value as it is sent. Raises ValueError when it violates the constraint."""
        if self.enum:
            wanted = str(value).strip().casefold()
            return next((choice for choice in self.enum if choice.casefold() == wanted), None) or self._refuse()
        match self.type:
            case "boolean":
                return value if isinstance(value, bool) else self._refuse()
            case "number" | "integer":
                return self._check_number(value)
            case "array":
                return self._check_id(value)
            case _:
                return self._check_text(value)

    def element(self, value: object, number: int) -> Any:
        """Return one list element: the value in the shape that the model expects. `number` counts from 1."""
        return _fill(self.item, value, number)

    def _check_number(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse()
        if self.type == "integer" and value != int(value):
            self._refuse()
        if value < (self.minimum if self.minimum is not None else value):
            self._refuse()
        if value > (self.maximum if self.maximum is not None else value):
            self._refuse()
        return int(value) if value == int(value) else value

    def _check_id(self, value: object) -> str:
        text = str(value).strip()
        if self.format == "uuid":
            return str(UUID(text))
        if not text or len(text) > _MAX_ID_CHARACTERS or not text.isprintable() or re.search(r"\s", text):
            self._refuse()
        return text

    def _check_text(self, value: object) -> str:
        if not isinstance(value, str):
            self._refuse()
        if not (self.min_length or 0) <= len(value) <= (self.max_length or len(value)):
            self._refuse()
        return value

    def _refuse(self) -> NoReturn:
        raise ValueError(f"{self.name} must be {self.constraint}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PricePoint:
    """The price of orders that meet all conditions in `when`: on field values, presence or the number of images."""

    when: Mapping[str, Any]
    usd_micros: int

    def applies_to(self, body: Mapping[str, Any], *, images: int) -> bool:
        return all(self._is_met(name, wanted, body, images) for name, wanted in self.when.items())

    @staticmethod
    def _is_met(name: str, wanted: object, body: Mapping[str, Any], images: int) -> bool:
        if name == IMAGE_COUNT:
            return images == wanted
        if wanted in (PRESENT, ABSENT):
            return (name in body) == (wanted == PRESENT)
        return name in body and body[name] == wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceCondition:
    """A condition of a price, for display: the option has that value, or (PRESENT) any value.

    `option` is IMAGE_COUNT for a condition on the number of input images.
    """

    option: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Model:
    """One image model. `hosted` is 'krea' or 'external' where known; `hidden` is set by the operator."""

    id: str
    label: str
    provider: str
    path: str
    kind: str
    modes: tuple[str, ...]
    fields: Mapping[str, Field] = field(repr=False)
    prices: tuple[PricePoint, ...] = field(repr=False)
    price_complete: bool = False
    hosted: str | None = None
    deprecated: bool = False
    retired: bool = False
    hidden: bool = False
    style_families: tuple[str, ...] = ()
    """Names of this model in the provider's list of styles."""

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Model:
        price: Mapping[str, Any] = data["price"]
        return cls(
            id=data["id"],
            label=data["label"],
            provider=data["provider"],
            path=data["path"],
            kind=data["kind"],
            modes=tuple(data["modes"]),
            fields={name: Field.from_data(name, field) for name, field in data["fields"].items()},
            prices=tuple(PricePoint(when=p["when"], usd_micros=p["usd_micros"]) for p in price["points"]),
            price_complete=price["complete"],
            hosted=data.get("hosted"),
            deprecated=data.get("deprecated", False),
            retired=data.get("retired", False),
            style_families=tuple(data.get("style_families", ())),
        )

    def priced(self, points: tuple[PricePoint, ...]) -> Model:
        """Return this model with the operator's prices."""
        return replace(self, prices=points, price_complete=True)

    # -- options and images -----------------------------------------------------------------------------

    def supports(self, kind: JobKind) -> bool:
        """Return whether that command can use this model."""
        return not _MODES[kind].isdisjoint(self.modes)

    def field_for(self, option: str) -> Field | None:
        """Return the field for an option or an image role; None when the model has none."""
        # A field with this purpose comes before one that only has the name.
        named = [field for field in self.fields.values() if option in field.purposes]
        return max(named, key=lambda field: field.name != option, default=None)

    @cached_property
    def uses_width_and_height(self) -> bool:
        """True when an aspect ratio is sent as width and height."""
        sides = self.field_for("width") and self.field_for("height")
        return bool(sides) and self.field_for("aspect_ratio") is None and "upscale" not in self.modes

    @cached_property
    def supported_options(self) -> tuple[str, ...]:
        """The options of commands that this model supports, from `OPTIONS`."""
        return tuple(option for option in OPTIONS if self.supports_option(option))

    def supports_option(self, option: str) -> bool:
        """Return whether the model has a field for the option."""
        return self.field_for(option) is not None or (option == "aspect_ratio" and self.uses_width_and_height)

    def supports_images(self, count: int) -> bool:
        """Return whether one order can change that many images."""
        field = self.field_for(ImageRole.SOURCE)
        return field is not None and (field.capacity is None or count <= field.capacity)

    def choices(self, option: str) -> tuple[str, ...]:
        """Return the allowed values; empty where any value is allowed or the model lacks the option."""
        if option == "aspect_ratio" and self.uses_width_and_height:
            return tuple(text for text in aspect_ratio.COMMON if self.size(text))
        field = self.field_for(option)
        return field.enum if field else ()

    def size(self, ratio: str) -> tuple[int, int] | None:
        """Return width and height for an aspect ratio, within the model's bounds and near its default area."""
        width, height = self.fields["width"], self.fields["height"]
        usual = (width.use or _DEFAULT_SIDE_PIXELS) * (height.use or _DEFAULT_SIDE_PIXELS)
        return aspect_ratio.size(
            ratio,
            area_pixels=usual,
            min_side_pixels=int(max(width.minimum or 1, height.minimum or 1)),
            max_side_pixels=int(min(width.maximum or usual, height.maximum or usual)),
        )

    @cached_property
    def always_sent(self) -> tuple[str, ...]:
        """Fields that every body contains: required ones, those with our default, and those that decide the price."""
        conditions = [condition for point in self.prices for condition in point.when.items()]
        price_fields = {name for name, wanted in conditions if wanted not in (PRESENT, ABSENT)}
        return tuple(
            field.name
            for field in self.fields.values()
            if field.purposes and not field.is_for_images
            if field.use is not None or field.required or field.name in price_fields
        )

    # -- prices -------------------------------------------------------------------------------------------

    def price_of(self, body: Mapping[str, Any], *, images: int) -> int | None:
        """Return the published price of exactly that body in micro-dollars, or None when there is none.

        Where several prices apply, the one with most conditions wins.
        """
        applicable = [point for point in self.prices if point.applies_to(body, images=images)]
        return max(applicable, key=lambda point: (len(point.when), point.usd_micros)).usd_micros if applicable else None

    @cached_property
    def starting_usd_micros(self) -> int | None:
        """The price of an order with defaults only, without images where none is required; None when there is none."""
        body: dict[str, Any] = {name: self.fields[name].effective_default for name in self.always_sent}
        fields = [field for field in self.fields.values() if field.is_for_images and field.purposes]
        needed = [field for field in fields if field.required]
        body |= {field.name: True for field in needed}
        return self.price_of(body, images=sum(max(1, field.min_items or 1) for field in needed))

    @property
    def price_range(self) -> tuple[int, int] | None:
        """The lowest and the highest price, or None when the model cannot be ordered."""
        amounts = [amount for _, amount in self.price_table()]
        return (min(amounts), max(amounts)) if self.orderable else None

    @property
    def orderable(self) -> bool:
        """True when the model is offered and an order with defaults only has a price."""
        return not (self.hidden or self.retired) and self.starting_usd_micros is not None

    def price_table(self) -> list[tuple[tuple[PriceCondition, ...], int]]:
        """Return each price in micro-dollars with its conditions (none for a general price)."""
        return [(self._conditions(point), point.usd_micros) for point in self.prices if self._is_reachable(point)]

    def _is_reachable(self, point: PricePoint) -> bool:
        """Return False for a price that no order can have, such as one for a field that is never sent."""
        needs_image = any(field.required and field.is_for_images for field in self.fields.values())
        for name, wanted in point.when.items():
            field = self.fields.get(name)
            if name == IMAGE_COUNT:
                if wanted == 0 and needs_image:
                    return False
            elif wanted != ABSENT and not (field and field.purposes):
                return False
        return True

    def _conditions(self, point: PricePoint) -> tuple[PriceCondition, ...]:
        return tuple(
            PriceCondition(option=self._option_of(name), value=wanted)
            for name, wanted in point.when.items()
            if wanted != ABSENT
        )

    def _option_of(self, name: str) -> str:
        """Return the name of the option that a field is for."""
        field = self.fields.get(name)
        return field.purposes[0] if field and field.purposes else name


def _fill(template: Any, value: object, number: int) -> Any:
    if isinstance(template, dict):
        pairs = cast("Mapping[str, Any]", template)
        return {key: _fill(inner, value, number) for key, inner in pairs.items()}
    if template == "$value":
        return value
    return template.replace("$number", str(number)) if isinstance(template, str) else template
