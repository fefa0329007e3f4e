"""The chart of a report as plain values: the lengths of the bars and the translated words beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """A text, and what to draw instead when no installed font has the letters of `text`."""

    text: str
    plain: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """One colour of the bars: an amount for each interval of the chart."""

    label: Label
    amounts_usd_micros: tuple[int, ...]

    @property
    def total_usd_micros(self) -> int:
        """Sum of the amounts of this colour."""
        return sum(self.amounts_usd_micros)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the ranking."""

    label: Label
    amount_usd_micros: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Spending over time in stacked bars, and the members who spent most.

    `ticks` names the intervals, as many as each stack has amounts.
    """

    title: Label
    subtitle: Label
    count: Label
    """The number of images, drawn under the total."""
    over_time: Label
    ticks: tuple[Label, ...]
    stacks: tuple[Stack, ...]
    ranking: Label
    rows: tuple[Row, ...]

    @property
    def total_usd_micros(self) -> int:
        """Sum of all bars."""
        return sum(stack.total_usd_micros for stack in self.stacks)

    def to_json(self) -> bytes:
        """Serialize the chart for the process that draws it."""
        return _adapter().dump_json(self)

    @staticmethod
    def from_json(data: bytes) -> Chart:
        """Parse a chart from the JSON written by `to_json`."""
        return _adapter().validate_json(data)


@cache
def _adapter() -> TypeAdapter[Chart]:
    return TypeAdapter(Chart)
