"""Measure, print one table, write build/bench.json.

python -m benchmarks                            everything, five times: more than an hour
python -m benchmarks --runs 1 cost_per_job      one of them, once
python -m benchmarks --soak 30                  half an hour of steady work as well
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks import costs, scenarios
from benchmarks.admissions import admissions
from benchmarks.bot_process import PROJECT
from benchmarks.results import Result, Row, rows_of, say, table, write_json
from benchmarks.transactions import transactions
from benchmarks.word_lists import word_lists

SCENARIOS: dict[str, Callable[[], Awaitable[list[Result]]]] = {
    "answering": scenarios.answering,
    "answering_beside_images": scenarios.answering_beside_images,
    "cost_per_job": scenarios.cost_per_job,
    "delivery": scenarios.delivery,
    "at_rest": scenarios.at_rest,
    "in_flight": scenarios.in_flight,
    "admissions": admissions,
    "waiting": costs.waiting,
    "polls": costs.polls,
    "large_images": costs.large_images,
    "cost_on_server": costs.cost_on_server,
    "servers": costs.servers,
    "transactions": transactions,
    "word_lists": word_lists,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--soak", type=float, default=0.0, help="minutes")
    parser.add_argument("scenarios", nargs="*", help=", ".join(SCENARIOS))
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.scenarios) - SCENARIOS.keys())
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    rows: list[Row] = []
    for name in arguments.scenarios or SCENARIOS:
        runs: list[list[Result]] = []
        for run in range(arguments.runs):
            say(f"{name}, run {run + 1} of {arguments.runs} …")
            runs.append(asyncio.run(_as_coroutine(SCENARIOS[name])))
        rows += rows_of(runs)
    if arguments.soak:
        say(f"soak of {arguments.soak:g} minutes …")
        rows += rows_of([asyncio.run(_as_coroutine(partial(scenarios.soak, minutes=arguments.soak)))])
    print(table(rows))
    write_json(rows, PROJECT / "build" / "bench.json")


async def _as_coroutine(scenario: Callable[[], Awaitable[list[Result]]]) -> list[Result]:
    return await scenario()


if __name__ == "__main__":
    main()
