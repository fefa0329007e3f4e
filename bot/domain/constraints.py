"""Constraints on the value of an option, as facts for error messages. Values only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

MAX_ID_CHARACTERS = 200
"""Of the id of a style or the like."""


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
class Pattern:
    """A text that matches a regular expression, whose length is within inclusive bounds."""

    pattern: str
    min_characters: int = 1
    max_characters: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Uuid:
    """A UUID such as 123e4567-e89b-12d3-a456-426614174000."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AtLeastImages:
    """At least `count` images."""

    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class AtMostImages:
    """At most `count` images. `other_uses` are options that put one elsewhere: `mask` takes an image as a mask."""

    count: int
    other_uses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Identifiers:
    """Up to `max_count` ids joined by `+`, each with an optional strength within inclusive bounds: `a:0.8+b:-0.3`.

    `max_count` is None where no limit is stated; `strength` is None where the ids have none.
    """

    max_count: int | None = None
    strength: Number | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AttachedImages:
    """Names of images that are attached to the same command, joined by `+`; at most `max_count` (None: no limit)."""

    names: tuple[str, ...]
    max_count: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignments:
    """Names with values, such as `steps=28, guidance_scale=5`; `example` is one that fits the model, or empty."""

    example: str = ""


Constraint = (
    OneOf
    | TrueOrFalse
    | Number
    | Text
    | Pattern
    | Uuid
    | AtLeastImages
    | AtMostImages
    | Identifiers
    | AttachedImages
    | Assignments
)
