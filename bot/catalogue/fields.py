"""Fields of request bodies: what a value has to be, what is sent by default, and the shape in which it is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast
from uuid import UUID

from bot.domain.constraints import (
    MAX_ID_CHARACTERS,
    Constraint,
    Identifiers,
    Number,
    OneOf,
    Pattern,
    Text,
    TrueOrFalse,
    Uuid,
)

SEED_MAX = 2**31 - 1
"""The largest seed, also for models that state no range: they may store it in 32 bits."""

_NUMBER = re.compile(r"[+-]?(\d{1,15}(\.\d{0,9})?|\.\d{1,9})")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One field of a request body.

    `purposes` are the options or image roles that the field is for (none: it is never sent). `use` is our default,
    `use_with_source` our default for an order with a source image, `default` the provider's. `item` is the shape of one
    list element, with `$value` in place of the value; `parts` are the values in it that can be chosen, by their key.
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
    pattern: str = ""
    format: str = ""
    default: Any = None
    use: Any = None
    use_with_source: Any = None
    item: Any = "$value"
    parts: Mapping[str, Field] = field(default_factory=dict[str, "Field"])

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
            pattern=data.get("pattern", ""),
            format=data.get("format", ""),
            default=data.get("default"),
            use=data.get("use"),
            use_with_source=data.get("use_with_source"),
            item=data.get("item", "$value"),
            parts={key: cls.from_data(key, part) for key, part in data.get("parts", {}).items()},
        )

    @property
    def option(self) -> str:
        """The name under which members set the field."""
        return self.purposes[0] if self.purposes else self.name

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
    def bounds(self) -> Number:
        """What a numeric value has to be, also where the description of a model states less."""
        match self.option:
            case "seed":
                maximum = SEED_MAX if self.maximum is None else min(self.maximum, SEED_MAX)
                return Number(whole=True, minimum=self.minimum or 0, maximum=maximum)
            case "width" | "height":  # no image has a side of less than one pixel, or of half a pixel
                minimum = 1 if self.minimum is None else self.minimum
                return Number(whole=True, minimum=minimum, maximum=self.maximum)
            case _:
                return Number(whole=self.type == "integer", minimum=self.minimum, maximum=self.maximum)

    @property
    def constraint(self) -> Constraint:
        """What a value of this field has to be."""
        if self.enum:
            return OneOf(values=self.enum)
        match self.type:
            case "boolean":
                return TrueOrFalse()
            case "number" | "integer":
                return self.bounds
            case _ if self.format == "uuid":
                return Uuid()
            case _ if self.pattern:
                return Pattern(
                    pattern=self.pattern, min_characters=self.min_length or 1, max_characters=self.max_length
                )
            case "array":
                strength = self.parts.get("strength")
                bounds = strength.constraint if strength else None
                return Identifiers(max_count=self.max_items, strength=bounds if isinstance(bounds, Number) else None)
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

    def still_takes(self, sent: object) -> bool:
        """Return whether a value of a request body that was right earlier is still right. Lists are not looked into."""
        if not self.purposes or isinstance(sent, list | dict):
            return bool(self.purposes)
        try:
            self.check(sent)
        except ValueError:
            return False
        return True

    def parse(self, text: str) -> str | int | float | bool:
        """Return the value that a typed text means for this field; the text itself where it means none."""
        match self.type:
            case "boolean" if not self.enum:
                return _BOOLEANS.get(text.casefold(), text)
            case "number" | "integer" if _NUMBER.fullmatch(text):
                number = float(text)
                return int(number) if number.is_integer() else number
            case _:
                return text

    def element(self, value: object, number: int, parts: Mapping[str, Any] | None = None) -> Any:
        """Return one list element: the value in the shape that the model expects, with `parts` as chosen.

        `number` counts from 1.
        """
        filled = _fill(self.item, value, number)
        return filled | parts if parts else filled

    def _check_number(self, value: object) -> int | float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self._refuse()
        bounds = self.bounds
        if bounds.whole and value != int(value):
            self._refuse()
        if bounds.minimum is not None and value < bounds.minimum:
            self._refuse()
        if bounds.maximum is not None and value > bounds.maximum:
            self._refuse()
        return int(value) if value == int(value) else value

    def _check_id(self, value: object) -> str:
        text = str(value).strip()
        if self.format == "uuid":
            return str(UUID(text))
        if not text or len(text) > MAX_ID_CHARACTERS or not text.isprintable() or re.search(r"\s", text):
            self._refuse()
        return text

    def _check_text(self, value: object) -> str:
        if not isinstance(value, str):
            self._refuse()
        if not (self.min_length or 1) <= len(value) <= (self.max_length or len(value)):
            self._refuse()
        if self.pattern and not re.fullmatch(self.pattern, value):
            self._refuse()
        return value

    def _refuse(self) -> NoReturn:
        raise ValueError(f"{self.name} must be {self.constraint}")


def _fill(template: Any, value: object, number: int) -> Any:
    if isinstance(template, dict):
        pairs = cast("Mapping[str, Any]", template)
        return {key: _fill(inner, value, number) for key, inner in pairs.items()}
    if template == "$value":
        return value
    return template.replace("$number", str(number)) if isinstance(template, str) else template
