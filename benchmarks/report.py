"""The figures to publish with a release, in a dated page: what was tried, what was found, how quick it is.

    python -m benchmarks.report --kills 20 --minutes 2 --mutants 60

Runs the matrix, the torture, a crowd that wants to overspend, an endurance run, the mutants, the coverage of the money
code and the question for known vulnerabilities, one after the other, and writes docs/report-<date>.md. Ends with 1 when
a figure that must be 0 is not. Other work on the machine makes the times worse, never the counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from benchmarks import matrix
from bot.errors import QuotaExceeded
from bot.quota import Member
from bot.store.store import Store
from bot.store.verify import verify_file
from sandbox.discord import Interaction
from tests.crashes import Nursery, World, a_file, audit, world
from tests.crashing_bot import crash_points
from tests.rows import ROWS
from tests.store_samples import NOON, a_command, limits
from tests.test_crash_points import NOT_PASSED

PROJECT = Path(__file__).resolve().parents[1]
BUILD = PROJECT / "build"
MONEY = ("bot/quota.py", "bot/store/ledger.py")
MONEY_TESTS = ("quota", "ledger", "ledger_machine", "store_verify", "privacy", "policy", "service", "rows_money")
INJECTING = ("f16", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f26", "f33", "f36", "f37", "f41", "f42", "f43")
INJECTING_AT_DISCORD = ("f44", "f46", "f47")


# -- overspending ---------------------------------------------------------------------------------------------


async def overspend(*, runs: int, commands: int) -> int:
    """Crowds of commands at the same moment on a quota for twelve; how often they got something else."""
    wrong = 0
    with TemporaryDirectory() as folder:
        path = Path(folder) / "books.sqlite3"
        async with await Store.open(path) as store:
            for run in range(runs):
                shuffled = random.Random(run)
                member = Member(guild_id=run + 1, user_id=7)

                async def ask(member: Member, pauses: int) -> bool:
                    for _ in range(pauses):
                        await asyncio.sleep(0)
                    reply = a_command(80_000, member=member, now=NOON)
                    try:
                        await store.admit(member=member, reply=reply, limits=limits(), now=NOON)
                    except QuotaExceeded:
                        return False
                    return True

                admitted = await asyncio.gather(*(ask(member, shuffled.randrange(20)) for _ in range(commands)))
                wrong += sum(admitted) != 12
        wrong += len(verify_file(path))
    return wrong


# -- endurance ------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Endurance:
    """One bot that works without a pause, over real sockets."""

    minutes: float
    commands: int = 0
    answered_seconds_p50: float = 0.0
    answered_seconds_p99: float = 0.0
    answered_seconds_worst: float = 0.0
    memory_mb: list[float] = field(default_factory=list[float])
    growth_mb_per_hour: float = 0.0
    """Of the second half against the quarter before it: the first quarter fills caches."""
    problems: list[str] = field(default_factory=list[str])


async def endure(*, minutes: float, per_second: float) -> Endurance:
    """Let a crowd order for so long, then let everything end, and audit it."""
    found = Endurance(minutes=minutes)
    orders: list[Interaction] = []
    chance = random.Random(1)
    with Nursery() as nursery, TemporaryDirectory(prefix="endurance-") as folder:
        async with world(nursery, Path(folder), seconds_scale=0.05) as here:
            here.settings |= {"KREA_MAX_CONCURRENCY": "64", "MAX_RUNNING_JOBS_PER_USER": "50"}
            await here.start()
            assert here.pid is not None
            process = psutil.Process(here.pid)
            people = [here.discord.member(here.server, f"Member {number}") for number in range(20)]
            channels = [here.discord.channel(here.server, f"studio-{number}") for number in range(20)]
            begun_at, next_look = time.monotonic(), 0.0
            while (gone := time.monotonic() - begun_at) < minutes * 60:
                number = chance.randrange(len(people))
                edit = chance.random() < 0.1
                options: dict[str, Any] = {"image": a_file()} if edit else {}
                prompt = f"{'a bay' if edit else 'a cliff'} {len(orders)}"
                command = "edit" if edit else "imagine"
                orders.append(
                    await here.discord.slash(people[number], channels[number], command, prompt=prompt, **options)
                )
                if gone >= next_look:
                    found.memory_mb.append(round(_memory_mb(process), 1))
                    next_look += 2.0
                await asyncio.sleep(max(0.0, begun_at + len(orders) / per_second - time.monotonic()))
            await here.settled(timeout_seconds=120)
            found.problems = await _ended(here)
    found.commands = len(orders)
    waits = sorted(order.answered_after_seconds or 99.0 for order in orders)
    percentiles = quantiles(waits, n=100, method="inclusive")
    found.answered_seconds_p50, found.answered_seconds_p99 = round(percentiles[49], 4), round(percentiles[98], 4)
    found.answered_seconds_worst = round(waits[-1], 4)
    quarter = len(found.memory_mb) // 4
    if quarter:
        early, late = found.memory_mb[quarter : 2 * quarter], found.memory_mb[2 * quarter :]
        # The middles of the two spans are 3/8 of the run apart.
        found.growth_mb_per_hour = round((median(late) - median(early)) / (minutes * 0.375 / 60), 1)
    return found


def _memory_mb(process: psutil.Process) -> float:
    """What the bot alone holds: it was forked, so some pages are shared with its parent. Picture workers count."""
    family = [process, *process.children(recursive=True)]
    return sum(one.memory_full_info().uss for one in family) / 2**20


async def _ended(here: World) -> list[str]:
    status = await here.stop(politely=True)
    problems = audit(here).problems
    return problems if status == 0 else [*problems, f"the bot ended with {status}"]


# -- what other programs measure ---------------------------------------------------------------------------------


def module(name: str, *arguments: str) -> int:
    """Run a module of ours or of a tool; its exit status."""
    return subprocess.run([sys.executable, "-m", name, *arguments], cwd=PROJECT, check=False).returncode


def coverage() -> dict[str, tuple[float, float]]:
    """Lines and branches of each money file that its tests go through, in percent."""
    target = BUILD / "money.json"
    tests = [f"tests/test_{name}.py" for name in MONEY_TESTS]
    data = {"COVERAGE_FILE": str(BUILD / ".coverage")}
    command = [sys.executable, "-m", "pytest", "-q", "--cov", f"--cov-report=json:{target}", *tests]
    subprocess.run(command, cwd=PROJECT, env=os.environ | data, stdout=subprocess.DEVNULL, check=True)
    files = json.loads(target.read_text(encoding="utf-8"))["files"]
    found: dict[str, tuple[float, float]] = {}
    for name in MONEY:
        summary = files[name]["summary"]
        lines = 100 * summary["covered_lines"] / summary["num_statements"]
        branches = 100 * summary["covered_branches"] / summary["num_branches"] if summary["num_branches"] else 100.0
        found[name] = (round(lines, 1), round(branches, 1))
    return found


def vulnerabilities() -> str:
    """The last line of the audit."""
    command = [sys.executable, ".ci/audit.py", "requirements-dev.lock"]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False).stdout
    return (said.strip().splitlines() or ["could not ask"])[-1]


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


# -- the page ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything that was measured."""

    cases: Sequence[matrix.Case]
    overspend_runs: int
    overspend_commands: int
    overspends: int
    torture: dict[str, Any]
    endurance: Endurance
    coverage: dict[str, tuple[float, float]]
    mutants: dict[str, Any]
    audit: str

    @property
    def must_be_zero(self) -> dict[str, int]:
        torture = self.torture
        return {
            "overspends": self.overspends + torture["overspends"],
            "double charges": torture["broken_rules"],
            "orders sent twice": torture["sent_twice"],
            "pictures shown twice": torture["shown_twice"],
            "lost jobs": torture["lost"],
            "stuck reservations": torture["stuck_reservations"],
            "problems of the endurance run": len(self.endurance.problems),
            "failed cases of the fault matrix": sum(case.outcome == "failed" for case in self.cases),
        }

    def page(self) -> str:
        """In Markdown."""
        share = 100 * self.mutants["caught"] / self.mutants["mutants"]
        points = 2 * (len(crash_points()) - len(NOT_PASSED))
        injecting = sum(bool(case.rows & {*INJECTING, *INJECTING_AT_DISCORD}) for case in self.cases)
        together = self.overspend_runs * self.overspend_commands
        simulated = self.torture["commands"] + self.endurance.commands + together
        rows = [
            ("commands simulated", f"{simulated:,}"),
            (
                "simultaneous requests in the overspend test",
                f"{self.overspend_commands} at once, {self.overspend_runs} times in shuffled order",
            ),
            ("random kills survived", f"{self.torture['kills_survived']:,}"),
            ("named points at which the process is killed", f"{points} (before and after each crossing of a border)"),
            ("cases that inject a fault", f"{injecting:,}"),
            *((name, f"**{count}**") for name, count in self.must_be_zero.items()),
            (
                "time to acknowledge",
                (
                    f"p50 {_ms(self.endurance.answered_seconds_p50)}, p99 {_ms(self.endurance.answered_seconds_p99)}, "
                    f"worst {_ms(self.endurance.answered_seconds_worst)} ({self.endurance.commands:,} commands; the "
                    "simulated Discord and provider on the same processors)"
                ),
            ),
            (
                "time to recover after a kill",
                f"p50 {self.torture['recover_seconds_p50']} s, p99 {self.torture['recover_seconds_p99']} s",
            ),
            (
                "from the last start, four hours later, until everything was shown",
                f"{self.torture['settle_seconds']} s for {self.torture['unfinished_at_last_start']} commands",
            ),
            *(
                (f"coverage of `{name}`", f"{lines} % of lines, {branches} % of branches")
                for name, (lines, branches) in self.coverage.items()
            ),
            (
                "deliberate bugs in the money code that the tests catch",
                f"{self.mutants['caught']} of {self.mutants['mutants']} ({share:.1f} %)",
            ),
            (
                "memory growth over the endurance run",
                (
                    f"{self.endurance.growth_mb_per_hour:+.1f} MB/h after warming up "
                    f"({self.endurance.minutes:g} minutes, {self.endurance.memory_mb[0]:.0f} → "
                    f"{self.endurance.memory_mb[-1]:.0f} MB)"
                ),
            ),
            ("known vulnerabilities", self.audit),
        ]
        now = datetime.now(UTC)
        lines = [
            f"# Figures of {now.date().isoformat()}",
            "",
            (
                f"Made by `make report` at {now.strftime('%H:%M')} UTC on {platform.system()} {platform.machine()}, "
                f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}; {os.cpu_count()} processors, "
                "shared with other work."
            ),
            "",
            "| figure | |",
            "| --- | --- |",
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            "## Deliberate bugs that no test caught",
            "",
            *self._survivors(),
            "",
            *(f"- {name}: {caught} of {tried}" for name, (caught, tried) in self.mutants["by_file"].items()),
        ]
        problems = [*self.torture["problems"], *self.endurance.problems]
        lines += ["", "## Problems", "", *(f"- {problem}" for problem in problems)] if problems else []
        return "\n".join(lines) + "\n"

    def _survivors(self) -> list[str]:
        if not self.mutants["survivors"]:
            return ["None."]
        told = self.mutants["survivors"]
        return ["| change | why it survives |", "| --- | --- |"] + [
            f"| `{name.replace('|', chr(92) + '|').replace('`', '')}` | {why or '**a hole in the tests**'} |"
            for name, why in told
        ]


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=2.0, help="of the endurance run")
    parser.add_argument("--per-second", type=float, default=4.0, help="orders in the endurance run")
    parser.add_argument("--mutants", type=int, default=10_000, help="of each money file, chosen by lot")
    parser.add_argument("--runs", type=int, default=50, help="of 200 simultaneous commands")
    parser.add_argument("--keep", action="store_true", help="take the matrix, torture and mutants of the last run")
    arguments = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    torture, mutants = BUILD / "torture.json", BUILD / "mutants.json"
    if not (arguments.keep and matrix.RESULTS.exists()):
        matrix.run(processes=2)
    if not (arguments.keep and torture.exists()):
        module("benchmarks.torture", "--kills", str(arguments.kills), "--json", str(torture))
    if not (arguments.keep and mutants.exists()):
        module("benchmarks.mutants", "--most", str(arguments.mutants), "--json", str(mutants))
    report = Report(
        cases=[case for case in matrix.cases(matrix.RESULTS) if case.rows & ROWS.keys()],
        overspend_runs=arguments.runs,
        overspend_commands=200,
        overspends=asyncio.run(overspend(runs=arguments.runs, commands=200)),
        torture=read(torture),
        endurance=asyncio.run(endure(minutes=arguments.minutes, per_second=arguments.per_second)),
        coverage=coverage(),
        mutants=read(mutants),
        audit=vulnerabilities(),
    )
    (BUILD / "endurance.json").write_text(json.dumps(asdict(report.endurance), indent=2) + "\n", encoding="utf-8")
    path = PROJECT / "docs" / f"report-{datetime.now(UTC).date().isoformat()}.md"
    path.write_text(report.page(), encoding="utf-8")
    print(path.relative_to(PROJECT))
    sys.exit(1 if any(report.must_be_zero.values()) else 0)


if __name__ == "__main__":
    main()
