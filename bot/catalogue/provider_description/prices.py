"""Prices in the provider's description: what each price point is for, in our words, or why it cannot be used.

A price has a meaning: a type, a currency, a unit, and dimensions. A word that is not known here may change what an
order costs, so it makes its price unusable, and with it every price that the same order could have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bot.catalogue.models import ABSENT, IMAGE_COUNT, PRESENT
from bot.catalogue.provider_description.description import shown, why_invalid
from bot.domain.json_values import Json, as_object
from bot.domain.money.quota import MICROS_PER_USD

MAX_PRICE_USD = 1_000
_MAX_POINTS = 500
_MAX_IMAGES = 100
_PRESENCE = frozenset({PRESENT, ABSENT})

EXTENSION = "x-krea-pricing"


class _PointShape(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    amount: (
        Annotated[int, Field(ge=-(10**9), le=10**9)]
        | Annotated[float, Field(allow_inf_nan=False)]
        | Annotated[str, Field(max_length=30)]
    )
    dimensions: Annotated[
        dict[
            Annotated[str, Field(max_length=60)],
            bool | int | Annotated[float, Field(allow_inf_nan=False)] | Annotated[str, Field(max_length=100)],
        ],
        Field(max_length=20),
    ] = {}  # fmt: skip


class _PricingShape(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    type: Literal["fixed"]
    currency: Literal["USD"]
    unit: Literal["request"]
    price_points: Annotated[list[Any], Field(max_length=_MAX_POINTS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadPrice:
    """A price table as catalogue data, and a short clause for everything in it that cannot be used.

    `has_other_meaning`: its type, currency or unit is another one, so that its numbers cannot be compared with ours.
    """

    price: Json
    problems: tuple[str, ...] = ()
    has_other_meaning: bool = False


def read_price(operation: Mapping[str, Any], fields: Mapping[str, Json], dimensions: Mapping[str, Any]) -> ReadPrice:
    """Read the price table of one model. `dimensions` is the dictionary of `catalogue.json`."""
    stated = operation.get(EXTENSION)
    if stated is None:
        return ReadPrice(price=_NO_PRICE, problems=("the provider publishes no price",))
    try:
        pricing = _PricingShape.model_validate(stated)
    except ValidationError as error:
        return ReadPrice(price=_NO_PRICE, problems=(_why_not_a_price(stated, error),), has_other_meaning=True)
    if unknown := _unknown_amounts(as_object(stated)):
        problem = f"its price has {shown(unknown)}, which this version does not know"
        return ReadPrice(price=_NO_PRICE, problems=(problem,), has_other_meaning=True)
    points: list[Json] = []
    unusable: list[Json] = []
    problems: list[str] = []
    for raw in pricing.price_points:
        point, problem = _read_point(raw, fields, dimensions)
        if problem is None:
            points.append(point)
        else:
            unusable.append(point["when"])
            problems.append(problem)
    usable = [point for point in points if not any(_can_coincide(point["when"], other) for other in unusable)]
    if not usable and not problems:
        problems.append("its price table is empty")
    return ReadPrice(
        price={"complete": bool(usable) and not problems, "points": usable}, problems=tuple(dict.fromkeys(problems))
    )


def _unknown_amounts(stated: Json) -> str:
    """Name a part of a price that we do not know and that may change what an order costs; '' if there is none."""
    unknown = stated.keys() - _PricingShape.model_fields.keys()
    return min(
        (
            name
            for name in unknown
            if not isinstance(stated[name], str | bool | None) and any(word in name.casefold() for word in _MONEY_WORDS)
        ),
        default="",
    )


_MONEY_WORDS = ("amount", "charge", "cost", "discount", "fee", "multiplier", "per", "price", "tax", "usd")
_NO_PRICE: Json = {"complete": False, "points": []}


def _why_not_a_price(stated: object, error: ValidationError) -> str:
    """Say which word of a price is not known."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = str(first["loc"][0]) if first["loc"] else ""
    if place in ("type", "currency", "unit"):
        value = as_object(stated).get(place)
        return f"its price has {f'the {place} {shown(value)}' if value is not None else f'no {place}'}"
    return f"its price cannot be read ({why_invalid(error)})"


def _read_point(raw: object, fields: Mapping[str, Json], dictionary: Mapping[str, Any]) -> tuple[Json, str | None]:
    """Return a point with the conditions that are understood, and why it cannot be used (None if it can)."""
    try:
        shape = _PointShape.model_validate(raw)
    except ValidationError as error:
        return {"when": {}}, f"one of its prices cannot be read ({why_invalid(error)})"
    when: Json = {}
    problem: str | None = None
    for name, value in shape.dimensions.items():
        meaning = _meaning(name, value, fields, dictionary)
        if meaning is None:
            problem = f"its price depends on {shown(name)} = {shown(value)}, which this version does not know"
        else:
            when |= meaning
    micros = _micros(shape.amount)
    if micros is None:
        problem = f"one of its prices is {shown(shape.amount)}, which is no amount in dollars that can be charged"
    return {"when": when, "usd_micros": micros}, problem


def _micros(amount: int | float | str) -> int | None:
    try:
        micros = Decimal(str(amount)) * MICROS_PER_USD
    except (ArithmeticError, ValueError):
        return None
    # The bounds come first: converting 9e99999 to an integer takes long, and NaN or infinity fails.
    if not micros.is_finite() or not 0 < micros <= MAX_PRICE_USD * MICROS_PER_USD or micros != int(micros):
        return None
    return int(micros)


def _meaning(
    name: str, value: bool | int | float | str, fields: Mapping[str, Json], dictionary: Mapping[str, Any]
) -> Json | None:
    """Return one dimension as conditions on the request; None for one that is not known."""
    meaning = dictionary.get(name)
    if meaning == IMAGE_COUNT:
        is_count = not isinstance(value, bool | str) and value == int(value) and 0 <= value <= _MAX_IMAGES
        return {IMAGE_COUNT: int(value)} if is_count else None
    if isinstance(meaning, str):
        name = meaning  # another name of a field
    elif isinstance(meaning, dict):
        # What stands in parentheses only explains.
        conditions = cast("Mapping[str, Json]", meaning).get(str(value).casefold().partition(" (")[0])
        if conditions is None:
            return None
        # A condition on a field that the model lacks is always met.
        return {key: wanted for key, wanted in conditions.items() if key in fields or wanted != ABSENT}
    field = fields.get(name)
    if field is None:
        return None
    if value in _PRESENCE:
        return {name: value}
    if field["type"] == "array" or field.get("format") == "uri":
        return {name: PRESENT if value else ABSENT} if isinstance(value, bool) else None
    if choices := field.get("enum"):
        wanted = str(value).casefold()
        value = next((choice for choice in choices if choice.casefold() == wanted), value)
    return {name: value}


def _can_coincide(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether one order can meet the conditions of both."""
    return not any(_excludes(one[name], other[name]) for name in one.keys() & other.keys())


def _excludes(one: object, other: object) -> bool:
    if ABSENT in (one, other):
        return one != other
    return PRESENT not in (one, other) and one != other
