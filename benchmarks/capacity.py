"""How far it goes: the model, and a simulation with the real service that checks it.

    python -m benchmarks.capacity                       the tables, then a busy hour of 1×, 10× and 100×: some minutes
    python -m benchmarks.capacity --sizes 1 10          without the largest
    python -m benchmarks.capacity --sizes               the model alone
    python -m benchmarks.capacity --seed 2              other people at other times
    python -m benchmarks.capacity --postgresql          10× with its books on a server as well
    python -m benchmarks.capacity --folder /dev/shm     where the books lie meanwhile: in memory it goes quicker

Prints what was predicted beside what came of it, writes build/capacity.json, and ends with 1 when a ratio is further
off than docs/scaling.md says, an order did not end exactly once, or the books do not balance.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.checks import MEMORY, Check, formula, rushed, steady
from benchmarks.figures import say
from benchmarks.model import Community, Costs, Kinds, Outside, places_wanted
from benchmarks.simulation import Crowd, Observed, line_memory_kib, simulate
from benchmarks.subject import PROJECT
from benchmarks.tables import check_table, need_table, wall_table
from bot.location import Location
from tests.postgres_server import stop_the_server, the_server

SIZES = (1, 10, 100)
WITHIN_SECONDS = 5.0
"""Each size gets the fewest places with which pictures wait no longer than that on average."""

PICTURES = 6_000
"""So many at least: a small community's busy hour is kept up for days."""

SHORTEST_SECONDS, LONGEST_SECONDS = 3600.0, 48 * 3600.0
RUSH_FACTOR, RUSH_SECONDS = 100, 600.0
"""The largest size meets eight places, for ten minutes."""

CAP_USD = 25.0
"""The default of OPERATOR_DAILY_CAP_USD."""

DISK_GB = 20.0
"""A small server's, for pictures."""

KINDS, COSTS = Kinds(), Costs()


def wanted(community: Community) -> Outside:
    """As many places as it needs."""
    places = places_wanted(community, kinds=KINDS, outside=Outside(), within_seconds=WITHIN_SECONDS)
    return Outside(places=places)


def crowd_of(
    community: Community,
    *,
    kinds: Kinds,
    outside: Outside,
    seconds: float | None = None,
    warm_up_share: float = 0.1,
    seed: int = 1,
) -> Crowd:
    """The community in its busiest hour, kept up for as long as it takes to see what is usual."""
    if seconds is None:
        enough = PICTURES / community.peak_pictures_per_second
        seconds = min(max(enough, SHORTEST_SECONDS), LONGEST_SECONDS)
    return Crowd(
        orders_per_second=community.peak_orders_per_second,
        sizes=community.sizes,
        members=round(community.members * community.ordering_share),
        servers=community.servers,
        places=outside.places,
        seconds=kinds.seconds,
        lasts_seconds=seconds,
        warm_up_seconds=seconds * warm_up_share,
        failing_share=kinds.failing_share,
        poll_seconds=outside.poll_seconds,
        delays=outside.delays,
        seed=seed,
    )


@dataclass(kw_only=True)
class Playbill:
    """Every simulation of one run, and what came of them."""

    folder: Path
    seed: int
    checks: list[Check] = field(default_factory=list[Check])
    problems: list[str] = field(default_factory=list[str])
    books: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """Rows and bytes of each table, by crowd."""
    processor_ms: float | None = None
    """Of an order of the first crowd."""

    def busy_hour(self, name: str, community: Community, location: Location | None = None) -> None:
        """With as many places as it needs; the real hour alone where the books lie on a server."""
        outside = wanted(community)
        seconds = None if location is None else SHORTEST_SECONDS
        crowd = crowd_of(community, kinds=KINDS, outside=outside, seconds=seconds, seed=self.seed)
        observed = self._simulated(name, crowd, location)
        on_file = location is None
        self.checks += steady(
            name,
            community,
            observed,
            kinds=KINDS,
            outside=outside,
            processor_ms=self.processor_ms if on_file else None,
        )
        if on_file:
            self.checks.append(formula(name, community, kinds=KINDS, outside=outside, pictures=observed.jobs))
            self.processor_ms = self.processor_ms or observed.processor_ms

    def rush(self) -> None:
        """With far too few."""
        name, outside = f"{RUSH_FACTOR}× at 8 places", Outside()
        community = Community().times(RUSH_FACTOR)
        crowd = crowd_of(community, kinds=KINDS, outside=outside, seconds=RUSH_SECONDS, warm_up_share=0, seed=self.seed)
        observed = self._simulated(name, crowd)
        self.checks += rushed(name, crowd, observed, kinds=KINDS, outside=outside)

    def line(self) -> None:
        """The memory of those who wait."""
        with TemporaryDirectory(dir=self.folder) as folder:
            kib = line_memory_kib(Path(folder) / "bot.sqlite3")
        check = Check(
            crowd="2,000 in line",
            what="memory per picture in line",
            unit="KiB",
            predicted=COSTS.waiting_kib,
            simulated=kib,
            within=MEMORY,
        )
        self.checks.append(check)

    def _simulated(self, name: str, crowd: Crowd, location: Location | None = None) -> Observed:
        say(f"{name}: {crowd.lasts_seconds / 3600:.1f} hours with {crowd.places} places …")
        with TemporaryDirectory(dir=self.folder) as folder:
            observed = simulate(crowd, location or Path(folder) / "bot.sqlite3")
        say(
            f"{name}: {observed.jobs:,} pictures in {observed.real_seconds:.0f} real seconds, "
            f"{observed.processor_ms:.1f} ms of processor time per order, {observed.refusals} refused, "
            f"{len(observed.problems)} problems"
        )
        counted = {"orders": observed.commands, "pictures": observed.jobs}
        self.books[name] = counted | {"rows": observed.kept.rows, "bytes": observed.kept.table_bytes}
        self.problems += [f"{name}: {problem}" for problem in observed.problems]
        return observed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, metavar="N")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--postgresql", action="store_true", help="needs its programs on this machine")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)  # refused pictures are part of the play
    communities = [Community().times(factor) for factor in SIZES]
    places = [wanted(community).places for community in communities]
    print(need_table(communities, kinds=KINDS, costs=COSTS, places=places), end="\n\n")
    limits = {"cap_usd": CAP_USD, "disk_gb": DISK_GB}
    print(wall_table(Community(), kinds=KINDS, outside=Outside(), costs=COSTS, **limits), end="\n\n")
    with TemporaryDirectory(dir=arguments.folder) as folder:
        bill = Playbill(folder=Path(folder), seed=arguments.seed)
        for factor in arguments.sizes:
            bill.busy_hour(f"{factor}×", Community().times(factor))
        if arguments.sizes:
            bill.rush()
            bill.line()
        if arguments.postgresql:
            try:
                bill.busy_hour("10× on PostgreSQL", Community().times(10), the_server().fresh())
            finally:
                stop_the_server()
    if bill.checks:
        print(check_table(bill.checks))
    for problem in bill.problems[:20]:
        print(problem)
    _write(bill, PROJECT / "build" / "capacity.json")
    return 0 if not bill.problems and all(check.holds for check in bill.checks) else 1


def _write(bill: Playbill, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "costs": asdict(COSTS),
        "checks": [asdict(check) | {"ratio": check.ratio, "holds": check.holds} for check in bill.checks],
        "books": bill.books,
        "problems": bill.problems,
    }
    path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
