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
    """One measured value of one run.

    `at_most` or `at_least` is its aim; where there is a `baseline`, measured in the same run, it is one of the ratio.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def judged(self) -> float:
        """Return what the aim is about: the value, or its ratio to the baseline."""
        return self.value if self.baseline is None else self.value / self.baseline

    @property
    def aim(self) -> str:
        times = "" if self.baseline is None else " ×"
        if self.at_most is not None:
            return f"≤ {_number(self.at_most)}{times}"
        return "" if self.at_least is None else f"≥ {_number(self.at_least)}{times}"


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
    def baselines(self) -> list[float]:
        return [result.baseline for result in self.results if result.baseline is not None]

    @property
    def judged(self) -> list[float]:
        return [result.judged for result in self.results]

    @property
    def reached(self) -> bool | None:
        """Return whether the median meets the aim; None where there is none."""
        first, middle = self.results[0], median(self.judged)
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
    """Format a Markdown table: what was measured, the baseline and the ratio to it, the aim, whether it is reached.

    Each is the median of the runs; the range is that of what the aim is about.
    """
    lines = ["| figure | measured | baseline | ratio | range | aim | reached |", "| --- " * 7 + "|"]
    for row in rows:
        first, reached = row.results[0], row.reached
        baseline = f"{_number(median(row.baselines))} {first.unit}".rstrip() if row.baselines else ""
        ratio = f"{_number(median(row.judged))} ×" if row.baselines else ""
        spread = f"{_number(min(row.judged))} to {_number(max(row.judged))}" if len(row.values) > 1 else ""
        verdict = "" if reached is None else "yes" if reached else "**no**"
        measured = f"{_number(median(row.values))} {first.unit}".rstrip()
        lines.append(f"| {row.name} | {measured} | {baseline} | {ratio} | {spread} | {first.aim} | {verdict} |")
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
                "baselines": row.baselines,
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
