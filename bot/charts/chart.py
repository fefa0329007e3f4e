"""The chart of a report as plain values: how long the bars are, and the words beside them, which are said already."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Self


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
        """For the process that draws it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The opposite."""
        values: dict[str, Any] = json.loads(data)
        return cls(
            **{name: Label(**values[name]) for name in ("title", "subtitle", "count", "over_time", "ranking")},
            ticks=tuple(Label(**tick) for tick in values["ticks"]),
            stacks=tuple(
                Stack(label=Label(**stack["label"]), amounts_usd_micros=tuple(stack["amounts_usd_micros"]))
                for stack in values["stacks"]
            ),
            rows=tuple(
                Row(label=Label(**row["label"]), amount_usd_micros=row["amount_usd_micros"]) for row in values["rows"]
            ),
        )
