"""Figures: what was measured, what was aimed at, and the table and the file they go into."""

from __future__ import annotations

import json
import platform
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from benchmarks.subject import processors


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured value of one run. With `at_most` or `at_least` there is an aim to hold it against."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def aim(self) -> str:
        if self.at_most is not None:
            return f"≤ {_number(self.at_most)}"
        return "" if self.at_least is None else f"≥ {_number(self.at_least)}"


@dataclass(kw_only=True)
class Row:
    """The same figure of several runs."""

    figures: list[Figure] = field(default_factory=list[Figure])

    @property
    def name(self) -> str:
        return self.figures[0].name

    @property
    def values(self) -> list[float]:
        return [figure.value for figure in self.figures]

    @property
    def reached(self) -> bool | None:
        """Whether the median keeps to the aim; None where there is none."""
        first, middle = self.figures[0], median(self.values)
        if first.at_most is not None:
            return middle <= first.at_most
        return None if first.at_least is None else middle >= first.at_least


def rows_of(runs: Sequence[Sequence[Figure]]) -> list[Row]:
    """Figures of several runs, brought together by name."""
    rows: dict[str, Row] = {}
    for run in runs:
        for figure in run:
            rows.setdefault(figure.name, Row()).figures.append(figure)
    return list(rows.values())


def table(rows: Sequence[Row]) -> str:
    """In Markdown: median, lowest and highest, aim, and whether it is reached."""
    lines = ["| figure | median | lowest to highest | aim | reached |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        first, reached = row.figures[0], row.reached
        spread = f"{_number(min(row.values))} to {_number(max(row.values))}" if len(row.values) > 1 else ""
        verdict = "" if reached is None else "yes" if reached else "**no**"
        lines.append(
            f"| {row.name} | {_number(median(row.values))} {first.unit} | {spread} | {first.aim} | {verdict} |"
        )
    return "\n".join(lines)


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Everything, for machines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": platform.system(),
        "processors": processors(),
        "figures": [
            {
                "name": row.name,
                "unit": row.figures[0].unit,
                "values": row.values,
                "at_most": row.figures[0].at_most,
                "at_least": row.figures[0].at_least,
                "reached": row.reached,
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def say(text: str) -> None:
    """Where things stand, for whoever waits."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
