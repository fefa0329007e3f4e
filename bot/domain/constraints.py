"""Constraints on the value of an option, as facts for error messages. Values only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class OneOf:
    """One of these values."""

    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class TrueOrFalse:
    """A boolean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number within inclusive bounds; None where there is no bound."""

    whole: bool
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text whose length is within inclusive bounds; `max_characters` is None where no limit is stated."""

    min_characters: int = 1
    max_characters: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Identifier:
    """An id without spaces."""

    max_characters: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Uuid:
    """A UUID such as 123e4567-e89b-12d3-a456-426614174000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtLeastImages:
    """At least `count` images."""

    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AtMostImages:
    """At most `count` images."""

    count: int


Constraint = OneOf | TrueOrFalse | Number | Text | Identifier | Uuid | AtLeastImages | AtMostImages
