"""Scenarios: each brings one outside and one bot into a situation and returns its figures.

Two things are compared where both stand side by side in the same run: the bot and the bare minimum, few jobs and many,
a small file and a large one. So the figures that matter are ratios, and a slow machine makes them no worse.
"""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from benchmarks.figures import Figure, percentile
from benchmarks.outside import Command, Outside
from benchmarks.subject import BARE, BOT, CAREFUL, Subject

A_LONG_TIME_SECONDS = 3600.0


@cache
def image(side: int) -> bytes:
    """A PNG of noise: three bytes a pixel, whatever the compression does."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3)).save(buffer, "PNG")
    return buffer.getvalue()


ONE_MB, TWENTY_MB = 590, 2_640


async def send(outside: Outside, count: int, *, per_second: float) -> list[Command]:
    """So many commands at an even pace."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    commands: list[Command] = []
    for number in range(count):
        commands.append(await outside.send())
        await asyncio.sleep(max(0.0, begun_at + (number + 1) / per_second - loop.time()))
    return commands


async def shown(commands: Sequence[Command], *, timeout_seconds: float = 120.0) -> None:
    """Until every picture is in Discord."""
    async with asyncio.timeout(timeout_seconds):
        for command in commands:
            await command.shown.wait()


async def warmed_up(outside: Outside) -> None:
    """What is made once is not counted: connections, workers, caches."""
    await shown(await send(outside, 5, per_second=5))


def answers_ms(commands: Sequence[Command]) -> list[float]:
    """From the member's press to Discord having the answer. Raises AssertionError when one was not answered."""
    waits: list[float] = []
    for command in commands:
        assert command.answered_at is not None, f"command {command.number} was not answered"
        waits.append((command.answered_at - command.sent_at) * 1000)
    return waits


async def lag_ms(samples: list[float]) -> None:
    """How late this very process comes to things, for ever: the share of the figures that is not the bot's."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + 0.01
        await asyncio.sleep(0.01)
        samples.append((loop.time() - due_at) * 1000)


# -- answering ------------------------------------------------------------------------------------------------


async def answering() -> list[Figure]:
    """1,000 commands at 200/s from 200 members while 1,000 jobs run."""
    with TemporaryDirectory() as folder:
        async with (
            Outside(image=image(ONE_MB), job_seconds=lambda _: A_LONG_TIME_SECONDS) as outside,
            Subject(BOT, outside, Path(folder), {"KREA_POLL_SECONDS": "60"}),
        ):
            await send(outside, 1_000, per_second=100)
            await asyncio.sleep(3)
            late: list[float] = []
            clock = asyncio.create_task(lag_ms(late))
            commands = await send(outside, 1_000, per_second=200)
            await asyncio.sleep(3)
            clock.cancel()
    waits = answers_ms(commands)
    return [
        Figure(name="answering 200/s, 1,000 jobs running: p50", value=percentile(waits, 50), unit="ms", at_most=15),
        Figure(name="answering 200/s, 1,000 jobs running: p99", value=percentile(waits, 99), unit="ms", at_most=150),
        Figure(name="answering 200/s, 1,000 jobs running: slowest", value=max(waits), unit="ms", at_most=3_000),
        Figure(name="lateness of the outside itself meanwhile: p99", value=percentile(late, 99), unit="ms"),
    ]


async def answering_beside_images() -> list[Figure]:
    """Commands while 20 pictures of 20 MB, too large for Discord, are being checked and made smaller."""
    heartbeat_seconds = 0.5
    with TemporaryDirectory() as folder:

        def job_seconds(number: int) -> float:
            return 1.0 if number < 20 else A_LONG_TIME_SECONDS

        outside = Outside(image=image(TWENTY_MB), job_seconds=job_seconds)
        outside.heartbeat_seconds = heartbeat_seconds
        async with outside, Subject(BOT, outside, Path(folder), {"KREA_POLL_SECONDS": "2"}):
            large = await send(outside, 20, per_second=100)
            await asyncio.sleep(2)
            others: list[Command] = []
            while not all(command.shown.is_set() for command in large):
                others += await send(outside, 20, per_second=20)
            await asyncio.sleep(2)
    beats = outside.heartbeats_at
    pauses = [after - before for before, after in pairwise(beats)]
    waits = answers_ms(others)
    return [
        Figure(name="answering beside 20 pictures of 20 MB: p50", value=percentile(waits, 50), unit="ms"),
        Figure(name="answering beside 20 pictures of 20 MB: p99", value=percentile(waits, 99), unit="ms", at_most=250),
        Figure(
            name="longest pause between heartbeats due every 500 ms", value=max(pauses) * 1000, unit="ms", at_most=1_000
        ),
    ]


# -- what one job costs -----------------------------------------------------------------------------------------


async def cost_per_job() -> list[Figure]:
    """Processor time of a whole job with a picture of 1 MB, beside that of the bare minimum and of a careful one."""
    bare, _ = await cost(BARE)
    careful, _ = await cost(CAREFUL)
    safe, commands = await cost(BOT)
    calls = [float(command.discord_calls) for command in commands]
    return [
        Figure(name="processor time per job, bare minimum", value=bare, unit="ms"),
        Figure(name="processor time per job, careful minimum", value=careful, unit="ms"),
        Figure(name="processor time per job", value=safe, unit="ms"),
        Figure(name="processor time per job / bare minimum", value=safe / bare, unit="×", at_most=1.3),
        Figure(name="processor time per job, careful minimum / bare minimum", value=careful / bare, unit="×"),
        Figure(name="processor time per job / careful minimum", value=safe / careful, unit="×"),
        Figure(name="Discord calls per job", value=sum(calls) / len(calls), unit="", at_most=4),
        Figure(
            name="edits that changed nothing",
            value=float(sum(command.same_edits for command in commands)),
            unit="",
            at_most=0,
        ),
    ]


async def cost(
    module: str,
    *,
    count: int = 200,
    side: int = ONE_MB,
    per_second: float = 15.0,
    settings: Mapping[str, str] | None = None,
) -> tuple[float, list[Command]]:
    """Milliseconds of processor time per job, with pictures of that many pixels on each side."""
    with TemporaryDirectory() as folder:
        async with (
            Outside(image=image(side), job_seconds=lambda _: 3.0) as outside,
            Subject(module, outside, Path(folder), {"KREA_POLL_SECONDS": "2", **(settings or {})}) as subject,
        ):
            await warmed_up(outside)
            before = subject.cpu_seconds
            commands = await send(outside, count, per_second=per_second)
            await shown(commands)
            await asyncio.sleep(0.5)
            return (subject.cpu_seconds - before) / count * 1000, commands


# -- delivery ---------------------------------------------------------------------------------------------------


def lags_ms(commands: Sequence[Command]) -> list[float]:
    """From the picture being ready at the provider to Discord having it."""
    return [((command.shown_at or 0.0) - (command.done_at or 0.0)) * 1000 for command in commands]


def transfers_ms(commands: Sequence[Command]) -> list[float]:
    """From knowing of the picture to Discord having it: the download and the upload."""
    return [((command.shown_at or 0.0) - (command.told_at or 0.0)) * 1000 for command in commands]


async def delivery() -> list[Figure]:
    """How soon a finished picture is seen: with webhooks, and with asking, beside a loop that asks every 2 seconds."""
    _, fixed = await _delivered(BARE, {"KREA_POLL_SECONDS": "2"})
    _, asking = await _delivered(BOT, {"KREA_POLL_SECONDS": "0.5"})
    _, called = await _delivered(BOT, {"KREA_POLL_SECONDS": "60", "PUBLIC_URL": "https://bot.invalid"}, webhooks=True)
    unavoidable = percentile(transfers_ms(fixed), 50)
    fixed_lag, asking_lag = percentile(lags_ms(fixed), 50), percentile(lags_ms(asking), 50)
    fixed_reads = sum(command.reads for command in fixed) / len(fixed)
    asking_reads = sum(command.reads for command in asking) / len(asking)
    above = [lag - unavoidable for lag in lags_ms(called)]
    return [
        Figure(name="unavoidable download and upload: p50", value=unavoidable, unit="ms"),
        Figure(name="delivery above that, webhooks: p50", value=percentile(above, 50), unit="ms", at_most=100),
        Figure(name="delivery above that, webhooks: p95", value=percentile(above, 95), unit="ms", at_most=300),
        Figure(name="delivery lag, loop of 2 s: p50", value=fixed_lag, unit="ms"),
        Figure(name="delivery lag, asking when likely: p50", value=asking_lag, unit="ms"),
        Figure(name="delivery lag / that of a loop of 2 s", value=asking_lag / fixed_lag, unit="×", at_most=0.5),
        Figure(name="requests / those of a loop of 2 s", value=asking_reads / fixed_reads, unit="×", at_most=0.6),
    ]


async def _delivered(
    module: str, settings: dict[str, str], *, webhooks: bool = False, count: int = 120
) -> tuple[Outside, list[Command]]:
    """Jobs of about 12 seconds, as different as those of one model are. The first teach the bot and do not count."""
    chance = random.Random(7)
    seconds = [12.0 * chance.lognormvariate(0.0, 0.15) for _ in range(2 * count)]
    with TemporaryDirectory() as folder:
        async with (
            Outside(image=image(ONE_MB), job_seconds=lambda number: seconds[number], webhooks=webhooks) as outside,
            Subject(module, outside, Path(folder), settings),
        ):
            await shown(await send(outside, 40, per_second=10))
            commands = await send(outside, count, per_second=8)
            await shown(commands)
            return outside, commands


# -- size -------------------------------------------------------------------------------------------------------


async def at_rest() -> list[Figure]:
    """Starting anew, and again with commands that are registered already."""
    with TemporaryDirectory() as folder:
        async with Outside(image=image(ONE_MB), job_seconds=lambda _: 1.0) as outside:
            async with Subject(BOT, outside, Path(folder)):
                await asyncio.sleep(2)
            async with Subject(BOT, outside, Path(folder)) as again:
                await asyncio.sleep(5)
                return [
                    Figure(name="start to ready, commands unchanged", value=again.ready_seconds, unit="s", at_most=2),
                    Figure(name="memory at rest", value=again.memory_mb, unit="MB", at_most=90),
                ]


async def in_flight() -> list[Figure]:
    """What a job costs in memory, and in work for others, while 10,000 are at the provider."""
    few = await _beside(100)
    many = await _beside(10_000)
    return [
        Figure(name="memory per job, 10,000 in flight", value=many[1], unit="KiB", at_most=12),
        Figure(name="processor time per job beside 100 others", value=few[0], unit="ms"),
        Figure(name="processor time per job beside 10,000 others", value=many[0], unit="ms"),
        Figure(name="the second / the first", value=many[0] / few[0], unit="×", at_most=1.2),
    ]


async def _beside(others: int, *, count: int = 150) -> tuple[float, float]:
    """Milliseconds of processor time of a job beside so many that run, and KiB for each of those."""
    with TemporaryDirectory() as folder:

        def job_seconds(number: int) -> float:
            return 2.0 if number < 5 or number >= 5 + others else A_LONG_TIME_SECONDS

        # Asked so seldom that the jobs in the background do nothing but wait.
        settings = {"KREA_POLL_SECONDS": "2", "PUBLIC_URL": "https://bot.invalid"}
        async with (
            Outside(image=image(ONE_MB), job_seconds=job_seconds, webhooks=True) as outside,
            Subject(BOT, outside, Path(folder), settings | {"KREA_POLL_SECONDS": "600"}) as subject,
        ):
            await warmed_up(outside)
            before_mb = subject.memory_mb
            await send(outside, others, per_second=80)
            await asyncio.sleep(5)
            kib = (subject.memory_mb - before_mb) * 1024 / others
            before = subject.cpu_seconds
            commands = await send(outside, count, per_second=15)
            await shown(commands)
            await asyncio.sleep(0.5)
            return (subject.cpu_seconds - before) / count * 1000, kib


async def soak(*, minutes: float, per_second: float = 10.0) -> list[Figure]:
    """Growth of memory under steady work, after the first sixth."""
    samples: list[tuple[float, float]] = []
    with TemporaryDirectory() as folder:
        async with (
            Outside(image=image(ONE_MB), job_seconds=lambda _: 5.0) as outside,
            Subject(BOT, outside, Path(folder)) as subject,
        ):
            commands: list[Command] = []
            begun_at = time.monotonic()
            while (gone := time.monotonic() - begun_at) < minutes * 60:
                commands = await send(outside, round(per_second * 10), per_second=per_second)
                samples.append((gone, subject.memory_mb))
                for number in [number for number, command in outside.commands.items() if command.shown.is_set()]:
                    outside.commands[number].last_body = b""
            await shown(commands)
    warm = [memory_mb for gone, memory_mb in samples if gone > minutes * 10]
    third = max(1, len(warm) // 3)
    early, late = sum(warm[:third]) / third, sum(warm[-third:]) / third
    return [
        Figure(name=f"memory after {minutes:g} minutes at {per_second:g} jobs/s", value=samples[-1][1], unit="MB"),
        Figure(name="growth of memory after the first sixth", value=late - early, unit="MB", at_most=2),
    ]
