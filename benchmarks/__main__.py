"""Measure, print one table, write build/bench.json.

python -m benchmarks                            what members and the operator feel, once: under five minutes
python -m benchmarks --full                     everything, five times: more than an hour
python -m benchmarks --runs 1 admissions        one of them, once
python -m benchmarks --full --soak 30           half an hour of steady work as well

Ends with 1 when an aim is not reached or a scenario fails, and with 130 when it is interrupted; what is finished then
is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks import costs, scenarios
from benchmarks.admissions import admissions
from benchmarks.bot_process import PROJECT
from benchmarks.results import Result, Row, rows_of, say, table, write_json
from benchmarks.transactions import transactions
from benchmarks.word_lists import word_lists

FULL_RUNS = 5
EXIT_MISSED, EXIT_INTERRUPTED = 1, 130


@dataclass(frozen=True, slots=True)
class Scenario:
    """What one run measures and about how long it takes."""

    measure: Callable[[], Awaitable[list[Result]]]
    seconds: float
    by_default: bool = False


SCENARIOS: Mapping[str, Scenario] = {
    "word_lists": Scenario(word_lists, 3),
    "answering": Scenario(scenarios.answering, 30, by_default=True),
    "delivery": Scenario(scenarios.delivery, 100, by_default=True),
    "bursts": Scenario(scenarios.bursts, 45, by_default=True),
    "cost_per_job": Scenario(scenarios.cost_per_job, 70, by_default=True),
    "at_rest": Scenario(scenarios.at_rest, 12, by_default=True),
    "answering_beside_images": Scenario(scenarios.answering_beside_images, 45),
    "in_flight": Scenario(scenarios.in_flight, 200),
    "admissions": Scenario(admissions, 150),
    "waiting": Scenario(costs.waiting, 110),
    "polls": Scenario(costs.polls, 35),
    "large_images": Scenario(costs.large_images, 70),
    "cost_on_server": Scenario(costs.cost_on_server, 30),
    "servers": Scenario(costs.servers, 15),
    "transactions": Scenario(transactions, 60),
}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help=f"every scenario, {FULL_RUNS} times unless told")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--soak", type=float, default=0.0, help="minutes")
    parser.add_argument("--json", type=Path, default=PROJECT / "build" / "bench.json", help="where the figures go")
    parser.add_argument("scenarios", nargs="*", help=", ".join(SCENARIOS))
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.scenarios) - SCENARIOS.keys()):
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    chosen = {
        name: scenario
        for name, scenario in SCENARIOS.items()
        if (name in options.scenarios if options.scenarios else options.full or scenario.by_default)
    }
    if options.soak:
        soak = partial(scenarios.soak, minutes=options.soak)
        chosen["soak"] = Scenario(soak, options.soak * 60)
    runs = options.runs or (FULL_RUNS if options.full else 1)
    return _measure(chosen, runs, options.json)


def _measure(chosen: Mapping[str, Scenario], runs: int, json_file: Path) -> int:
    """Run each scenario `runs` times, the soak once. Return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    queue = [(name, run) for name in chosen for run in range(1 if name == "soak" else runs)]
    minutes = sum(chosen[name].seconds for name, _ in queue) / 60
    say(f"About {minutes:.0f} minutes on a quiet machine. Ctrl-C ends it and keeps what is finished.")
    finished: dict[str, list[list[Result]]] = {}
    failed: list[str] = []
    is_interrupted = False
    try:
        for number, (name, _) in enumerate(queue, 1):
            say(f"[{number} of {len(queue)}] {name}, about {chosen[name].seconds:.0f} s …")
            try:
                results = asyncio.run(_as_coroutine(chosen[name].measure))
            except Exception:
                # Minutes of other measurements must not be lost with it.
                traceback.print_exc()
                failed.append(name)
                continue
            finished.setdefault(name, []).append(results)
            write_json(_rows(finished), json_file)
    except KeyboardInterrupt:
        is_interrupted = True
    rows = _rows(finished)
    print(table(rows))
    if is_interrupted:
        say(f"Interrupted after {sum(map(len, finished.values()))} of {len(queue)} runs.")
        return EXIT_INTERRUPTED
    missed = [row.name for row in rows if row.reached is False]
    if missed:
        say(f"Not reached: {'; '.join(missed)}.")
    if failed:
        say(f"Could not be measured: {', '.join(failed)}.")
    return EXIT_MISSED if missed or failed else 0


def _rows(finished: Mapping[str, list[list[Result]]]) -> list[Row]:
    return [row for runs in finished.values() for row in rows_of(runs)]


async def _as_coroutine(measure: Callable[[], Awaitable[list[Result]]]) -> list[Result]:
    return await measure()


if __name__ == "__main__":
    sys.exit(main())
