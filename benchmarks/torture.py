"""Torture: members keep ordering while the bot is killed at random and started again; then the ledger is audited.

    python -m benchmarks.torture --kills 500

With `--odd`, Discord and the providers also give answers that nobody documents (odd_answers.py) until the last start.

Prints a table, writes the results as JSON and ends with status 1 when anything is overspent, sent or shown twice, lost
or stuck. Between two starts the clock moves on by up to ten minutes, so tokens expire and quota windows end.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import platform
import random
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.odd_answers import OddAnswers
from sandbox.discord import Channel, Interaction, Member
from sandbox.discord.world import EPHEMERAL
from tests.support.crashes import Audit, Nursery, World, a_file, audit, world
from tests.support.crashing_bot import crash_points

MEMBERS = 6
MAX_LIFE_SECONDS = 1.5
PAUSES_SECONDS = (0.0, 5.0, 60.0, 400.0, 600.0)
A_NIGHT_SECONDS = 4 * 3600.0
"""Longer than any provider may take, so that orders with an unknown outcome reach their deadline as well."""

ORDERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    *(("imagine", "a lighthouse", {}),) * 6,
    ("imagine", "a pair of gulls", {"count": 2}),
    ("imagine", "a ferry", {"model": "pixazo/krea-2-large"}),
    ("imagine", "a secret cove", {"private": True}),
    ("imagine", "[lost] a wreck", {}),
    ("imagine", "[fail] a fog", {}),
    ("imagine", "[nsfw] a siren", {}),
    ("imagine", "[refuse] a reef", {}),
    ("edit", "at night", {}),
)


@dataclass(kw_only=True)
class TortureResults:
    """The results of one run. The six that must be 0 come first."""

    overspends: int = 0
    sent_twice: int = 0
    shown_twice: int = 0
    lost: int = 0
    stuck_reservations: int = 0
    broken_rules: int = 0
    odd_answers: int = 0
    odd_answers_not_given: list[str] = field(default_factory=list[str])
    """Kinds of them that no request met: the run was too short for these."""
    kills_survived: int = 0
    commands: int = 0
    jobs: int = 0
    orders_at_providers: int = 0
    bill_usd_micros: int = 0
    charged_usd_micros: int = 0
    operator_cost_usd_micros: int = 0
    operator_overestimate_usd_micros: int = 0
    """Operator cost of orders whose acceptance cannot be known."""
    recover_seconds_p50: float = 0.0
    """From the start of the process, without Python's imports, until it is connected and every job is resumed."""
    recover_seconds_p99: float = 0.0
    settle_seconds: float = 0.0
    """From the last start until every command had ended and was shown."""
    unfinished_at_last_start: int = 0
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    seed: int = 0
    seconds: float = 0.0
    simulated_hours: float = 0.0
    made_at: str = ""
    machine: str = ""
    problems: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        return not self.problems


async def torture(
    nursery: Nursery,
    folder: Path,
    *,
    kills: int,
    seed: int,
    max_commands: int | None = None,
    webhooks: bool = False,
    odd: bool = False,
) -> TortureResults:
    """Kill the bot `kills` times while members order, let it finish, and audit."""
    chance = random.Random(seed)
    begun_at = time.monotonic()
    async with world(nursery, folder, seconds_scale=0.05) as here:
        if webhooks:
            port = _free_port()
            here.settings |= {"HTTP_PORT": str(port), "PUBLIC_URL": f"http://127.0.0.1:{port}"}
        odd_answers = OddAnswers(chance, here.discord, here.provider) if odd else None
        crowd = Crowd(here, chance, max_commands)
        recovered = [await here.start()]
        members = [asyncio.create_task(crowd.run(number), name=f"member {number}") for number in range(MEMBERS)]
        for _ in range(kills):
            await _kill_at_random(here, chance)
            here.pass_time(chance.choice(PAUSES_SECONDS))
            point = {"CRASH_AT": chance.choice(sorted(crash_points())), "CRASH_NTH": str(chance.randint(1, 4))}
            early_death = asyncio.create_task(_kill_after(here, chance.uniform(0.0, 0.3)), name="early death")
            if chance.random() > 0.15:
                early_death.cancel()
            seconds = await here.start(**(point if chance.random() < 0.3 else {}), CRASH_WHEN=chance.choice(MOMENTS))
            await asyncio.wait({early_death})
            if not here.is_dead:
                recovered.append(seconds)
        crowd.is_over = True
        await asyncio.gather(*members)
        here.kill()
        await here.dead()
        if odd_answers is not None:
            odd_answers.end()
        here.pass_time(A_NIGHT_SECONDS)
        unfinished = here.unfinished
        await here.start()
        settle_seconds = await here.settled(timeout_seconds=300)
        status = await here.stop(politely=True)
        results = _results(audit(here), kills, recovered)
        if status != 0:
            results.problems.append(f"the last bot ended with {status}")
        if odd_answers is not None:
            results.odd_answers = odd_answers.given.total()
            results.odd_answers_not_given = odd_answers.not_given
        results.settle_seconds, results.unfinished_at_last_start = round(settle_seconds, 3), unfinished
        results.seed, results.simulated_hours = seed, round(here.ahead_seconds / 3600, 1)
    results.seconds = round(time.monotonic() - begun_at, 1)
    results.made_at = datetime.now(UTC).isoformat(timespec="seconds")
    results.machine = f"{platform.platform()}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}"
    return results


MOMENTS = ("before", "after")


async def _kill_at_random(here: World, chance: random.Random) -> None:
    """Kill the bot after a random time, unless it reaches its crash point before."""
    await asyncio.sleep(chance.uniform(0.0, MAX_LIFE_SECONDS))
    here.kill()
    await here.dead()


async def _kill_after(here: World, seconds: float) -> None:
    await asyncio.sleep(seconds)
    here.kill()


class Crowd:
    """Members who order and cancel, whether or not the bot runs."""

    def __init__(self, here: World, chance: random.Random, max_commands: int | None) -> None:
        self._here = here
        self._chance = chance
        self._most_commands = max_commands
        self._ordered = 0
        self.is_over = False

    async def run(self, number: int) -> None:
        """Order and cancel as one member in a channel of its own until the run is over."""
        discord = self._here.discord
        member = discord.member(self._here.server, f"Member {number}")
        channel = discord.channel(self._here.server, f"studio-{number}")
        orders: list[Interaction] = []
        while not self.is_over:
            if discord.gateway.connected and self._chance.random() < 0.15:
                await self._cancel_one(member, orders)
            elif discord.gateway.connected and (self._most_commands or sys.maxsize) > self._ordered:
                orders.append(await self._order(member, channel))
            await asyncio.sleep(self._chance.uniform(0.2, 1.0))

    async def _order(self, member: Member, channel: Channel) -> Interaction:
        self._ordered += 1
        command, prompt, plain_options = self._chance.choice(ORDERS)
        options: dict[str, Any] = {"image": a_file()} if command == "edit" else plain_options
        return await self._here.discord.slash(member, channel, command, prompt=f"{prompt} {self._ordered}", **options)

    async def _cancel_one(self, member: Member, orders: list[Interaction]) -> None:
        for order in reversed(orders[-3:]):
            if order.reply is not None and order.reply.id in order.channel.messages and "Cancel\n" in f"{order.text}\n":
                if order.reply.flags & EPHEMERAL or "Cancelled" in order.text:
                    continue
                await self._here.discord.click(member, order.reply, "Cancel")
                return


def _results(found: Audit, kills: int, recovered: Sequence[float]) -> TortureResults:
    percentiles = quantiles(recovered, n=100, method="inclusive") if len(recovered) > 1 else [recovered[0]] * 99
    return TortureResults(
        overspends=len(found.overspent),
        sent_twice=len(found.sent_twice),
        shown_twice=len(found.shown_twice),
        lost=len(found.lost),
        stuck_reservations=len(found.stuck),
        broken_rules=len(found.books),
        kills_survived=kills,
        commands=found.commands,
        jobs=found.jobs,
        orders_at_providers=found.orders,
        bill_usd_micros=found.bill_usd_micros,
        charged_usd_micros=found.charged_usd_micros,
        operator_cost_usd_micros=found.operator_cost_usd_micros,
        operator_overestimate_usd_micros=found.operator_overestimate_usd_micros,
        recover_seconds_p50=round(percentiles[49], 3),
        recover_seconds_p99=round(percentiles[98], 3),
        outcomes=dict(Counter(found.outcomes).most_common()),
        problems=found.problems,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--commands", type=int, help="maximum of commands; the kills go on")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--webhooks", action="store_true", help="let the providers call the bot as well")
    parser.add_argument("--odd", action="store_true", help="let Discord and the providers give odd answers as well")
    parser.add_argument("--json", type=Path, default=Path("build/torture.json"), help="file of the results")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # killed clients are expected here
    with Nursery() as nursery, TemporaryDirectory(prefix="torture-") as folder:
        results = asyncio.run(
            torture(
                nursery,
                Path(folder),
                kills=arguments.kills,
                seed=arguments.seed,
                max_commands=arguments.commands,
                webhooks=arguments.webhooks,
                odd=arguments.odd,
            )
        )
    facts = asdict(results)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    for name, value in facts.items():
        if name not in ("problems", "outcomes"):
            print(f"{name.replace('_', ' '):34} {value}")
    for name, value in results.outcomes.items():
        print(f"  {name.replace('_', ' '):32} {value}")
    for problem in results.problems:
        print(f"PROBLEM {problem}", file=sys.stderr)
    sys.exit(0 if results.is_clean else 1)


if __name__ == "__main__":
    main()
