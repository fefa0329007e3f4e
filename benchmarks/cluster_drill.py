"""The cluster drill: two gateways and three workers on one PostgreSQL, jobs in flight, and one fault at a time.

    python -m benchmarks.cluster_drill --jobs 2000

After each fault every job must be final, sent once, charged once and shown, and another worker must run the replies of
a dead one within 40 seconds. Prints a table and ends with status 1 when anything is wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from sandbox.plans import Plan
from tests.support.cluster import Cluster, Process, a_cluster
from tests.support.crashes import audit
from tests.support.fakes import until
from tests.support.postgres_server import stop_the_server, the_server

IMAGES_PER_ORDER = 4
GATEWAYS = ("gateway-0", "gateway-1")
WORKERS = ("worker-1", "worker-2", "worker-3")
SETTLE_SECONDS = 300.0
MAX_HANDOVER_SECONDS = 40.0
UNREACHABLE_SECONDS = 20.0
POOLER_AWAY_SECONDS = 5.0

Fault = Callable[[Cluster], Awaitable[list[float]]]
"""Injects a fault; returns the seconds after which each reply of a dead worker ran on another one."""


@dataclass(kw_only=True)
class FaultResult:
    """The outcome of one fault."""

    fault: str
    jobs: int
    handover_seconds: list[float]
    settled_seconds: float
    problems: list[str]

    @property
    def is_clean(self) -> bool:
        return not self.problems and max(self.handover_seconds, default=0.0) <= MAX_HANDOVER_SECONDS

    def __str__(self) -> str:
        seconds = self.handover_seconds
        handed = f"{len(seconds):>6} {median(seconds):>7.1f} {max(seconds):>7.1f}" if seconds else ""
        return f"{self.fault:<34} {self.jobs:>6} {handed:<22} {self.settled_seconds:>8.1f} {len(self.problems):>9}"


async def kill_a_worker(here: Cluster) -> list[float]:
    return await _handover_seconds(here, here.processes["worker-1"], lambda process: process.kill())


async def stop_a_worker(here: Cluster) -> list[float]:
    return await _handover_seconds(here, here.processes["worker-2"], lambda process: process.inner.terminate())


async def kill_a_gateway(here: Cluster) -> list[float]:
    process = here.processes["gateway-0"]
    orders = [asyncio.create_task(here.send(f"while it dies {number}", server=0)) for number in range(8)]
    process.kill()
    await process.dead()
    await asyncio.gather(*orders)
    return []


async def stop_everything_one_by_one(here: Cluster) -> list[float]:
    for name in (*GATEWAYS, *WORKERS):
        status, seconds = await here.processes[name].stop()
        assert status == 0, here.last_words()
        assert seconds <= 10, f"{name} took {seconds:.1f} s to stop"
        await here.start(name)
    return []


async def restart_the_server(here: Cluster) -> list[float]:
    here.forget_connection()
    await asyncio.to_thread(the_server().kill)
    await asyncio.to_thread(the_server().start)
    return []


async def restart_the_pooler(here: Cluster) -> list[float]:
    assert here.pooler is not None
    here.pooler.kill()
    await asyncio.sleep(POOLER_AWAY_SECONDS)
    here.pooler.start()
    return []


async def freeze_the_server(here: Cluster) -> list[float]:
    here.forget_connection()
    the_server().freeze()
    await asyncio.sleep(UNREACHABLE_SECONDS)
    the_server().thaw()
    return []


FAULTS: dict[str, Fault] = {
    "SIGKILL a worker": kill_a_worker,
    "SIGTERM a worker": stop_a_worker,
    "SIGKILL a gateway": kill_a_gateway,
    "SIGTERM everything, one by one": stop_everything_one_by_one,
    "PostgreSQL killed and started": restart_the_server,
    "PostgreSQL frozen for 20 s": freeze_the_server,
    "PgBouncer killed and started": restart_the_pooler,
}


async def _handover_seconds(here: Cluster, process: Process, end: Callable[[Process], None]) -> list[float]:
    found = re.findall(r"gateways accept, as ([0-9a-f-]{36})", process.log.read_text())
    mine = f"SELECT reply_id FROM reply_queue WHERE worker = '{found[-1]}'"
    end(process)
    begun_at = time.monotonic()
    left = {row[0] for row in here.query(mine)}
    seconds: list[float] = []
    while left and time.monotonic() - begun_at < 2 * MAX_HANDOVER_SECONDS:
        await asyncio.sleep(0.1)
        still = {row[0] for row in here.query(mine)}
        seconds += [time.monotonic() - begun_at] * len(left - still)
        left &= still
    await process.dead()
    return seconds + [float("inf")] * len(left)


async def drill(folder: Path, *, jobs: int, part: str = "") -> list[FaultResult]:
    """Inject every fault in turn, each into a cluster of its own with `jobs` jobs in flight."""
    lines: list[FaultResult] = []
    for fault, happen in FAULTS.items():
        if part.lower() not in fault.lower():
            continue
        own = folder / re.sub(r"\W+", "-", fault)
        own.mkdir()
        slots = str(max(8, jobs // 4))
        is_pooled = happen is restart_the_pooler
        async with a_cluster(
            own, *GATEWAYS, *WORKERS, concurrency=100_000, is_pooled=is_pooled, KREA_MAX_CONCURRENCY=slots
        ) as here:
            lines.append(await _inject(here, fault, happen, orders=jobs // IMAGES_PER_ORDER))
        print(lines[-1], flush=True)
        for problem in lines[-1].problems[:5]:
            print(f"    {problem}", flush=True)
    return lines


async def _inject(here: Cluster, fault: str, happen: Fault, *, orders: int) -> FaultResult:
    here.provider.default_plan = Plan(seconds_factor=150)
    for number in range(orders):
        await here.send(f"a storm {number}", server=number % 2, count=IMAGES_PER_ORDER)
    accepted, running = (
        "SELECT count(*) FROM replies WHERE accepted",
        "SELECT count(*) FROM jobs WHERE status = 'running'",
    )
    await until(lambda: here.count(accepted) == orders, seconds=180, what=here.last_words)
    await until(lambda: here.count(running) >= orders / 2, seconds=60, what=here.last_words)
    here.provider.default_plan = Plan()
    handover_seconds = await happen(here)
    settled_seconds = await here.settled(seconds=SETTLE_SECONDS)
    found = audit(here)
    problems = [*found.problems, *here.logged_failures()]
    return FaultResult(
        fault=fault,
        jobs=found.jobs,
        handover_seconds=handover_seconds,
        settled_seconds=settled_seconds,
        problems=problems,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--fault", default="", help="only those whose name has this in it")
    arguments = parser.parse_args()
    print(f"{'fault':<34} {'jobs':>6} {'handed median    last':<22} {'settled':>8} {'problems':>9}")
    try:
        with TemporaryDirectory(prefix="cluster-") as folder:
            lines = asyncio.run(drill(Path(folder), jobs=arguments.jobs, part=arguments.fault))
    finally:
        stop_the_server()
    return 0 if all(line.is_clean for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
