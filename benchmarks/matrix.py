"""The fault matrix as a page: every row, the tests that show it, and how they ended when they last ran.

    python -m benchmarks.matrix

Runs all tests that show a row and writes docs/fault-matrix.md. Ends with 1 when any of them failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

from tests.rows import ROWS, SECTIONS, title

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = PROJECT / "build" / "matrix.xml"
PAGE = PROJECT / "docs" / "fault-matrix.md"
HEAD = "| row | what must happen | shown by | last result |"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One test as it ran once: a test with parameters is several cases."""

    file: str
    name: str
    rows: frozenset[str]
    outcome: str
    """'passed', 'failed' or 'skipped'."""
    seconds: float


def run(processes: int) -> None:
    """Run everything that shows a row; the results go to a file."""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "--quiet", "--numprocesses", str(processes), "-m", "row and not torture"]
    subprocess.run([*command, f"--junitxml={RESULTS}"], cwd=PROJECT, check=False)


def cases(results: Path) -> Iterator[Case]:
    """What is in pytest's own report."""
    for case in ElementTree.parse(results).getroot().iter("testcase"):  # noqa: S314 - written by our own run
        properties = case.iter("property")
        rows = frozenset(str(one.get("value")) for one in properties if one.get("name") == "row")
        bad = case.find("failure") is not None or case.find("error") is not None
        yield Case(
            file=f"{str(case.get('classname')).replace('.', '/')}.py",
            name=str(case.get("name")).partition("[")[0],
            rows=rows,
            outcome="failed" if bad else "skipped" if case.find("skipped") is not None else "passed",
            seconds=float(case.get("time") or 0),
        )


def page(found: list[Case], *, today: str) -> str:
    """The whole page in Markdown."""
    by_row: defaultdict[str, defaultdict[tuple[str, str], list[Case]]] = defaultdict(lambda: defaultdict(list))
    for case in found:
        for row in case.rows:
            by_row[row][case.file, case.name].append(case)
    failed = sum(case.outcome == "failed" for case in found)
    tests = len({(case.file, case.name) for case in found})
    holding = sum(_holds(by_row[row]) for row in ROWS)
    lines = [
        "# What happens when things go wrong",
        "",
        "Made by `make matrix`; do not edit. Ask again for one row with `pytest -k f23`.",
        "",
        f"Last run {today}: {len(found)} cases of {tests} tests, {failed} failed; {holding} of {len(ROWS)} rows hold.",
        "What takes many minutes (hundreds of kills, every statement) runs in `make torture`.",
    ]
    for name, rows in SECTIONS.items():
        lines += [
            "",
            f"## {name}",
            "",
            "| row | what must happen | shown by | last result |",
            "| --- | --- | --- | --- |",
        ]
        for row, words in rows.items():
            shown = "<br>".join(_named(file, test, ran) for (file, test), ran in sorted(by_row[row].items()))
            result = f"{'holds' if _holds(by_row[row]) else '**does not hold**'}, {today}"
            lines.append(f"| {title(row)} | {words} | {shown or '–'} | {result} |")
    return "\n".join(lines) + "\n"


def _holds(tests: defaultdict[tuple[str, str], list[Case]]) -> bool:
    """At least one test ran, and none failed."""
    outcomes = {case.outcome for ran in tests.values() for case in ran}
    return "passed" in outcomes and "failed" not in outcomes


def _named(file: str, test: str, ran: list[Case]) -> str:
    """The test with a link to its file, and what is not plain about how it ran."""
    notes = [f"{len(ran)} cases"] if len(ran) > 1 else []
    notes += [f"{count} {word}" for word in ("failed", "skipped") if (count := sum(c.outcome == word for c in ran))]
    where = f"[{file.removeprefix('tests/').removesuffix('.py')}](../{file})"
    return f"{where}: `{test.removeprefix('test_')}`" + (f" ({', '.join(notes)})" if notes else "")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.matrix", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--processes", type=int, default=2, help="tests that run at a time")
    parser.add_argument("--again", action="store_true", help="write the page from the last run, without another")
    arguments = parser.parse_args()
    if not arguments.again:
        run(arguments.processes)
    found = [case for case in cases(RESULTS) if case.rows]
    ran_at = datetime.fromtimestamp(RESULTS.stat().st_mtime, UTC)
    PAGE.write_text(page(found, today=ran_at.date().isoformat()), encoding="utf-8")
    bad = sorted({f"{case.file}::{case.name}" for case in found if case.outcome == "failed"})
    print(f"{PAGE.relative_to(PROJECT)}: {len(found)} cases, {len(bad)} tests failed", *bad, sep="\n  ")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
