"""Accepted: what an option would have taken, as facts for whoever has to say it. Values only, no I/O."""

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
    """A number between the bounds, which belong to it; None where there is no bound."""

    whole: bool
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A text of so many characters; `longest` is None where no limit is stated."""

    shortest: int = 1
    longest: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Identifier:
    """An id without blanks."""

    longest: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Uuid:
    """A UUID such as 123e4567-e89b-12d3-a456-426614174000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtLeastImages:
    """That many pictures or more."""

    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AtMostImages:
    """That many pictures or fewer."""

    count: int


Accepted = OneOf | TrueOrFalse | Number | Text | Identifier | Uuid | AtLeastImages | AtMostImages
