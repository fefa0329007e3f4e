"""Models: what one image model takes, field by field, and what it costs. Values read from data, no I/O.

The words of the data are explained at the top of `catalogue.json`.
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
from bot.domain.constraints import Accepted, Identifier, Number, OneOf, Text, TrueOrFalse, Uuid
from bot.domain.jobs import ImageRole, JobKind

OPTIONS = ("aspect_ratio", "resolution", "quality", "creativity", "seed", "style", "moodboard", "reference")
"""What a member can choose in a command, in the order in which it is told."""

PICTURES = "pictures"
"""In a price condition: how many input pictures the order carries."""
PRESENT, ABSENT = "present", "absent"
"""In a price condition: whether the order carries that field at all."""

_MAX_ID_CHARACTERS = 200
_DEFAULT_SIDE_PIXELS = 1024
_MODES: Mapping[JobKind, frozenset[str]] = {
    # a model that only works from references still makes a new picture from a prompt
    JobKind.IMAGINE: frozenset({"generate", "reference"}),
    JobKind.EDIT: frozenset({"edit"}),
    JobKind.UPSCALE: frozenset({"upscale"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of an order's body.

    `purposes` are the options or pictures that go in here (none: never sent), `use` is what we send when nobody chose,
    `default` what the provider assumes, `item` the shape of one element, with `$value` where the value goes.
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
        """How many pictures (or ids) fit; None when no limit is stated."""
        return self.max_items if self.type == "array" else 1

    @property
    def unchosen(self) -> Any:
        """What is sent when nobody chose: our choice, else the provider's default, else the first legal value."""
        return next((value for value in (self.use, self.default, *self.enum[:1]) if value is not None), None)

    @property
    def accepted(self) -> Accepted:
        """What would be right."""
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
                return Identifier(longest=_MAX_ID_CHARACTERS)
            case _:
                return Text(shortest=self.min_length or 1, longest=self.max_length)

    def check(self, value: object) -> Any:
        """The value as it is sent. Raises ValueError when it is not one of those accepted."""
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
        """One element of a list: the value in the shape the model wants. `number` counts from 1."""
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
        raise ValueError(f"{self.name} takes {self.accepted}")


@dataclass(frozen=True, kw_only=True, slots=True)
class PricePoint:
    """What an order costs when it meets every condition in `when`: a field's value, presence, or number of pictures."""

    when: Mapping[str, Any]
    usd_micros: int

    def fits(self, body: Mapping[str, Any], *, images: int) -> bool:
        return all(self._holds(name, wanted, body, images) for name, wanted in self.when.items())

    @staticmethod
    def _holds(name: str, wanted: object, body: Mapping[str, Any], images: int) -> bool:
        if name == PICTURES:
            return images == wanted
        if wanted in (PRESENT, ABSENT):
            return (name in body) == (wanted == PRESENT)
        return name in body and body[name] == wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class PriceCondition:
    """What makes an order cost what it costs: the option has that value, or (PRESENT) is given at all.

    `option` is PICTURES where the number of pictures decides.
    """

    option: str
    value: Any


@dataclass(frozen=True, kw_only=True)
class Model:
    """One thing that can be ordered. `hosted` is 'krea' or 'external' where known; `hidden` is the operator's wish."""

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
    """What the provider's list of styles calls this model."""

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
        """This model at the operator's prices."""
        return replace(self, prices=points, price_complete=True)

    # -- what it takes ----------------------------------------------------------------------------------

    def fits(self, kind: JobKind) -> bool:
        """True when that command can use this model."""
        return not _MODES[kind].isdisjoint(self.modes)

    def field_for(self, option: str) -> Field | None:
        """The field an option or a picture goes into; None when the model has none for it."""
        # a field made for the option comes before one that only happens to have its name
        named = [field for field in self.fields.values() if option in field.purposes]
        return max(named, key=lambda field: field.name != option, default=None)

    @cached_property
    def takes_any_shape(self) -> bool:
        """True when an aspect ratio has to be said as width and height."""
        sides = self.field_for("width") and self.field_for("height")
        return bool(sides) and self.field_for("aspect_ratio") is None and "upscale" not in self.modes

    @cached_property
    def takes(self) -> tuple[str, ...]:
        """The options of our commands that make sense here, from `OPTIONS`."""
        return tuple(option for option in OPTIONS if self.accepts(option))

    def accepts(self, option: str) -> bool:
        """True when the option has somewhere to go."""
        return self.field_for(option) is not None or (option == "aspect_ratio" and self.takes_any_shape)

    def takes_images(self, count: int) -> bool:
        """True when so many pictures can be changed in one order."""
        field = self.field_for(ImageRole.SOURCE)
        return field is not None and (field.capacity is None or count <= field.capacity)

    def choices(self, option: str) -> tuple[str, ...]:
        """The values to choose from; empty where the value is free or the model lacks the option."""
        if option == "aspect_ratio" and self.takes_any_shape:
            return tuple(text for text in aspect_ratio.COMMON if self.size(text))
        field = self.field_for(option)
        return field.enum if field else ()

    def size(self, ratio: str) -> tuple[int, int] | None:
        """Width and height for an aspect ratio, inside this model's bounds and near its usual area."""
        width, height = self.fields["width"], self.fields["height"]
        usual = (width.use or _DEFAULT_SIDE_PIXELS) * (height.use or _DEFAULT_SIDE_PIXELS)
        return aspect_ratio.size(
            ratio,
            area=usual,
            shortest=int(max(width.minimum or 1, height.minimum or 1)),
            longest=int(min(width.maximum or usual, height.maximum or usual)),
        )

    @cached_property
    def always_sent(self) -> tuple[str, ...]:
        """Fields that every order carries, chosen or not: what must be there, and whatever decides the price."""
        conditions = [condition for point in self.prices for condition in point.when.items()]
        deciding = {name for name, wanted in conditions if wanted not in (PRESENT, ABSENT)}
        return tuple(
            field.name
            for field in self.fields.values()
            if field.purposes and not field.is_for_images
            if field.use is not None or field.required or field.name in deciding
        )

    # -- what it costs ------------------------------------------------------------------------------------

    def price_of(self, body: Mapping[str, Any], *, images: int) -> int | None:
        """The published price of exactly that order in micro-dollars, or None when there is none.

        Where an operator wrote a general price and a special one, the more special counts.
        """
        fitting = [point for point in self.prices if point.fits(body, images=images)]
        return max(fitting, key=lambda point: (len(point.when), point.usd_micros)).usd_micros if fitting else None

    @cached_property
    def starting_usd_micros(self) -> int | None:
        """The price of the plainest order: nothing chosen, and no picture where it can do without."""
        body: dict[str, Any] = {name: self.fields[name].unchosen for name in self.always_sent}
        fields = [field for field in self.fields.values() if field.is_for_images and field.purposes]
        needed = [field for field in fields if field.required]
        body |= {field.name: True for field in needed}
        return self.price_of(body, images=sum(max(1, field.min_items or 1) for field in needed))

    @property
    def price_range(self) -> tuple[int, int] | None:
        """The lowest and the highest price of what can be ordered."""
        amounts = [amount for _, amount in self.price_table()]
        return (min(amounts), max(amounts)) if self.orderable else None

    @property
    def orderable(self) -> bool:
        """True when it is offered and its plainest order has a price."""
        return not (self.hidden or self.retired) and self.starting_usd_micros is not None

    def price_table(self) -> list[tuple[tuple[PriceCondition, ...], int]]:
        """Each listed price in micro-dollars after what has to be so for it; nothing, where it is the plain price."""
        return [(self._conditions(point), point.usd_micros) for point in self.prices if self._can_meet(point)]

    def _can_meet(self, point: PricePoint) -> bool:
        """False for a price that no order of ours has, such as one for a field that is never sent."""
        needs_image = any(field.required and field.is_for_images for field in self.fields.values())
        for name, wanted in point.when.items():
            field = self.fields.get(name)
            if name == PICTURES:
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
        """What members call a field."""
        field = self.fields.get(name)
        return field.purposes[0] if field and field.purposes else name


def _fill(template: Any, value: object, number: int) -> Any:
    if isinstance(template, dict):
        pairs = cast("Mapping[str, Any]", template)
        return {key: _fill(inner, value, number) for key, inner in pairs.items()}
    if template == "$value":
        return value
    return template.replace("$number", str(number)) if isinstance(template, str) else template
