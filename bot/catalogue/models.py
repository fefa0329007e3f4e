"""Image models: the fields of each model's request body and its prices. Values read from data, no I/O.

The keys of the data are explained at the top of `catalogue.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from bot.catalogue import aspect_ratio
from bot.catalogue.fields import Field
from bot.domain.jobs import JobKind

OPTIONS = ("aspect_ratio", "resolution", "quality", "creativity", "seed", "style", "moodboard", "reference")
"""The options of commands, in the order in which they are listed."""

IMAGE_COUNT = "pictures"
"""Key of a price condition on the number of input images."""
PRESENT, ABSENT = "present", "absent"
"""Values of a price condition on whether the body contains a field."""

_DEFAULT_SIDE_PIXELS = 1024
_MODES: Mapping[JobKind, frozenset[str]] = {
    # A model that needs reference images still makes a new image from a prompt.
    JobKind.IMAGINE: frozenset({"generate", "reference"}),
    JobKind.EDIT: frozenset({"edit"}),
    JobKind.UPSCALE: frozenset({"upscale"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class PricePoint:
    """The price of orders that meet all conditions in `when`: on field values, presence or the number of images.

    `assumed`: the provider publishes none for these orders, so it is taken from similar ones.
    """

    when: Mapping[str, Any]
    usd_micros: int
    assumed: bool = False

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
    """One image model. `hosted` is 'krea' or 'external' where known; `hidden` is set by the operator.

    `stopped` is why it takes no orders for now ('' if it does): 'held' while a change of it waits for the operator, or
    'gone' when its provider says so. `heir` is the id of the model that takes its place, '' if none is known. `ends_at`
    is when the provider will withdraw it, where it said so.
    """

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
    age_restricted: bool = False
    """Whether it works only in age-restricted channels, in every server; the operator's file says so."""
    stopped: str = ""
    heir: str = ""
    ends_at: datetime | None = None
    style_families: tuple[str, ...] = ()
    """Names of this model in the provider's list of styles."""

    def __hash__(self) -> int:
        # Fields have mappings, which have no hash. With one, what follows from a model can be cached.
        return hash(self.id)

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
            prices=tuple(
                PricePoint(when=p["when"], usd_micros=p["usd_micros"], assumed=p.get("assumed", False))
                for p in price["points"]
            ),
            price_complete=price["complete"],
            hosted=data.get("hosted"),
            deprecated=data.get("deprecated", False),
            retired=data.get("retired", False),
            age_restricted=data.get("age_restricted", False),
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
        """Return the field for an option or an image role, also by its own name; None when the model has none."""
        # A field with this purpose comes before one that only has the name.
        named = [field for field in self.offered_fields.values() if option in field.purposes]
        return max(named, key=lambda field: field.name != option, default=None) or self._own_name(option)

    def _own_name(self, option: str) -> Field | None:
        field = self.offered_fields.get(option)
        return field if field is not None and field.purposes else None

    @cached_property
    def offered_fields(self) -> Mapping[str, Field]:
        """The fields without values and images for which no order has a known price."""
        return {field.name: self._offered(field) for field in self.fields.values()}

    def _offered(self, field: Field) -> Field:
        if field.is_for_images:
            counts = [point.when.get(IMAGE_COUNT) for point in self.prices]
            if not counts or None in counts:
                return field
            most = max(count for count in counts if count is not None)
            return replace(field, max_items=min(most, field.max_items or most)) if field.type == "array" else field
        if not any(field.name in point.when for point in self.prices):
            return field
        priced = tuple(
            value for value in field.enum if any(p.when.get(field.name, value) == value for p in self.prices)
        )
        return replace(field, enum=priced) if priced else field

    @cached_property
    def option_names(self) -> frozenset[str]:
        """Every name by which something of this model can be set, except of attached images."""
        fields = [field for field in self.fields.values() if field.purposes and field.option != "prompt"]
        names = {name for field in fields for name in (field.name, field.option)}
        names |= {f"{field.option}_{part}" for field in fields if not field.is_for_images for part in field.parts}
        return frozenset(names | {"aspect_ratio"} if self.uses_width_and_height else names)

    def option_name(self, name: str) -> str:
        """Return the name of the option that `name` means: a field can be set by its own name as well."""
        field = self.field_for(name)
        return field.option if field is not None and name not in field.purposes else name

    @cached_property
    def uses_width_and_height(self) -> bool:
        """True when an aspect ratio is sent as width and height."""
        sides = self.field_for("width") and self.field_for("height")
        return bool(sides) and self.field_for("aspect_ratio") is None and "upscale" not in self.modes

    @cached_property
    def supported_options(self) -> tuple[str, ...]:
        """The options that this model supports in any command, those of `OPTIONS` first."""
        return tuple(option for option in OPTIONS if self.supports_option(option))

    def supports_option(self, option: str) -> bool:
        """Return whether the model has a field for the option."""
        return self.field_for(option) is not None or (option == "aspect_ratio" and self.uses_width_and_height)

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

    def still_takes(self, body: Mapping[str, Any], *, images: int, amount_usd_micros: int) -> bool:
        """Return whether an order that was quoted earlier is still right: its fields, their values and its price."""
        return (
            not (self.retired or self.stopped or self.unfillable)
            and all(field.name in body for field in self.fields.values() if field.required)
            and all(name in self.fields and self.fields[name].still_takes(value) for name, value in body.items())
            and self.price_of(body, images=images) == amount_usd_micros
        )

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
        return not (self.hidden or self.retired or self.stopped or self.unfillable) and (
            self.starting_usd_micros is not None
        )

    @cached_property
    def unfillable(self) -> str:
        """A field that every order needs and that nobody can give; '' if there is none."""
        return next((field.name for field in self.fields.values() if field.required and not field.purposes), "")

    @property
    def assumed_prices(self) -> tuple[PricePoint, ...]:
        """The prices that the provider does not publish."""
        return tuple(point for point in self.prices if point.assumed)

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
