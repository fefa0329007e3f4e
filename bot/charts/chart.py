"""The chart of a report as plain values: how long the bars are, and the words beside them, which are said already."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter


@dataclass(frozen=True, kw_only=True, slots=True)
class Label:
    """Words to write, and what to write instead where no font at hand has the letters of `text`."""

    text: str
    plain: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """One colour of the bars: an amount for each part of the time that the chart shows."""

    label: Label
    amounts_usd_micros: tuple[int, ...]

    @property
    def total_usd_micros(self) -> int:
        """What this colour adds up to."""
        return sum(self.amounts_usd_micros)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One line of the ranking."""

    label: Label
    amount_usd_micros: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Spending over time in stacked bars, and who spent most.

    `ticks` names the parts of the time, as many as each stack has amounts.
    """

    title: Label
    subtitle: Label
    count: Label
    """Under the total: how many pictures that was."""
    over_time: Label
    ticks: tuple[Label, ...]
    stacks: tuple[Stack, ...]
    ranking: Label
    rows: tuple[Row, ...]

    @property
    def total_usd_micros(self) -> int:
        """What all bars add up to."""
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
