"""Results: the measured values, their aims, and the table and the file they are written to."""

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

from benchmarks.bot_process import processors


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """One measured value of one run. `at_most` or `at_least` is its aim."""

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
    """The same result of several runs."""

    results: list[Result] = field(default_factory=list[Result])

    @property
    def name(self) -> str:
        return self.results[0].name

    @property
    def values(self) -> list[float]:
        return [result.value for result in self.results]

    @property
    def reached(self) -> bool | None:
        """Return whether the median meets the aim; None where there is none."""
        first, middle = self.results[0], median(self.values)
        if first.at_most is not None:
            return middle <= first.at_most
        return None if first.at_least is None else middle >= first.at_least


def rows_of(runs: Sequence[Sequence[Result]]) -> list[Row]:
    """Group the results of several runs by name."""
    rows: dict[str, Row] = {}
    for run in runs:
        for result in run:
            rows.setdefault(result.name, Row()).results.append(result)
    return list(rows.values())


def table(rows: Sequence[Row]) -> str:
    """Format a Markdown table: median, lowest and highest, aim, and whether it is reached."""
    lines = ["| figure | median | lowest to highest | aim | reached |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        first, reached = row.results[0], row.reached
        spread = f"{_number(min(row.values))} to {_number(max(row.values))}" if len(row.values) > 1 else ""
        verdict = "" if reached is None else "yes" if reached else "**no**"
        lines.append(
            f"| {row.name} | {_number(median(row.values))} {first.unit} | {spread} | {first.aim} | {verdict} |"
        )
    return "\n".join(lines)


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write all values to a JSON file."""
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
                "unit": row.results[0].unit,
                "values": row.values,
                "at_most": row.results[0].at_most,
                "at_least": row.results[0].at_least,
                "reached": row.reached,
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that `percent` percent of the values do not exceed."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def say(text: str) -> None:
    """Print progress to the standard error."""
    print(text, file=sys.stderr, flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
