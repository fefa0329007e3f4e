"""Scenarios: each starts one load generator and one bot process and returns results.

Comparisons take both sides from the same run: the bot and the naive baseline, few jobs and many, a small file and a
large one. The results that matter are ratios, so a slow machine does not change them.
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

from benchmarks.bot_process import BOT, CAREFUL, NAIVE, BotProcess
from benchmarks.load_generator import Command, LoadGenerator
from benchmarks.results import Result, percentile

A_LONG_TIME_SECONDS = 3600.0


@cache
def image(side: int) -> bytes:
    """Return a PNG of noise: about three bytes per pixel, because noise does not compress."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), random.Random(1).randbytes(side * side * 3)).save(buffer, "PNG")
    return buffer.getvalue()


ONE_MB, TWENTY_MB = 590, 2_640


async def send(load: LoadGenerator, count: int, *, per_second: float) -> list[Command]:
    """Send `count` commands at an even pace."""
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    commands: list[Command] = []
    for number in range(count):
        commands.append(await load.send())
        await asyncio.sleep(max(0.0, begun_at + (number + 1) / per_second - loop.time()))
    return commands


async def shown(commands: Sequence[Command], *, timeout_seconds: float = 120.0) -> None:
    """Wait until every image is in Discord."""
    async with asyncio.timeout(timeout_seconds):
        for command in commands:
            await command.shown.wait()


async def warmed_up(load: LoadGenerator) -> None:
    """Run five jobs, so that what is made once is not counted: connections, workers, caches."""
    await shown(await send(load, 5, per_second=5))


def answers_ms(commands: Sequence[Command]) -> list[float]:
    """Return the milliseconds from each command to its response. Raises AssertionError when one was not answered."""
    waits: list[float] = []
    for command in commands:
        assert command.answered_at is not None, f"command {command.number} was not answered"
        waits.append((command.answered_at - command.sent_at) * 1000)
    return waits


async def lag_ms(samples: list[float]) -> None:
    """Sample the lag of this process's event loop until cancelled: the share of the results that is not the bot's."""
    loop = asyncio.get_running_loop()
    while True:
        due_at = loop.time() + 0.01
        await asyncio.sleep(0.01)
        samples.append((loop.time() - due_at) * 1000)


# -- answering ------------------------------------------------------------------------------------------------


async def answering() -> list[Result]:
    """Measure 1,000 commands at 200/s from 200 members while 1,000 jobs run."""
    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=lambda _: A_LONG_TIME_SECONDS) as load,
            BotProcess(BOT, load, Path(folder), {"KREA_POLL_SECONDS": "60"}),
        ):
            await send(load, 1_000, per_second=100)
            await asyncio.sleep(3)
            late: list[float] = []
            clock = asyncio.create_task(lag_ms(late))
            commands = await send(load, 1_000, per_second=200)
            await asyncio.sleep(3)
            clock.cancel()
    waits = answers_ms(commands)
    return [
        Result(name="answering 200/s, 1,000 jobs running: p50", value=percentile(waits, 50), unit="ms", at_most=15),
        Result(name="answering 200/s, 1,000 jobs running: p99", value=percentile(waits, 99), unit="ms", at_most=150),
        Result(name="answering 200/s, 1,000 jobs running: slowest", value=max(waits), unit="ms", at_most=3_000),
        Result(name="lag of the load generator meanwhile: p99", value=percentile(late, 99), unit="ms"),
    ]


async def answering_beside_images() -> list[Result]:
    """Measure commands while 20 images of 20 MB, too large for Discord, are checked and made smaller."""
    heartbeat_seconds = 0.5
    with TemporaryDirectory() as folder:

        def job_seconds(number: int) -> float:
            return 1.0 if number < 20 else A_LONG_TIME_SECONDS

        load = LoadGenerator(image=image(TWENTY_MB), job_seconds=job_seconds)
        load.heartbeat_seconds = heartbeat_seconds
        async with load, BotProcess(BOT, load, Path(folder), {"KREA_POLL_SECONDS": "2"}):
            large = await send(load, 20, per_second=100)
            await asyncio.sleep(2)
            others: list[Command] = []
            while not all(command.shown.is_set() for command in large):
                others += await send(load, 20, per_second=20)
            await asyncio.sleep(2)
    beats = load.heartbeats_at
    pauses = [after - before for before, after in pairwise(beats)]
    waits = answers_ms(others)
    return [
        Result(name="answering beside 20 images of 20 MB: p50", value=percentile(waits, 50), unit="ms"),
        Result(name="answering beside 20 images of 20 MB: p99", value=percentile(waits, 99), unit="ms", at_most=250),
        Result(
            name="longest pause between heartbeats due every 500 ms", value=max(pauses) * 1000, unit="ms", at_most=1_000
        ),
    ]


# -- what one job costs -----------------------------------------------------------------------------------------


async def cost_per_job() -> list[Result]:
    """Measure the processor time of a job with an image of 1 MB, beside the naive baseline and the careful minimum."""
    naive, _ = await cost(NAIVE)
    careful, _ = await cost(CAREFUL)
    safe, commands = await cost(BOT)
    calls = [float(command.discord_calls) for command in commands]
    return [
        Result(
            name="processor time per job, beside the careful minimum",
            value=safe,
            unit="ms",
            baseline=careful,
            at_most=1.3,
        ),
        Result(name="processor time per job, beside the naive baseline", value=safe, unit="ms", baseline=naive),
        Result(name="Discord calls per job", value=sum(calls) / len(calls), unit="", at_most=4),
        Result(
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
    """Return the milliseconds of processor time per job, with images of `side` x `side` pixels, and the commands."""
    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(side), job_seconds=lambda _: 3.0) as load,
            BotProcess(module, load, Path(folder), {"KREA_POLL_SECONDS": "2", **(settings or {})}) as bot,
        ):
            await warmed_up(load)
            before = bot.cpu_seconds
            commands = await send(load, count, per_second=per_second)
            await shown(commands)
            await asyncio.sleep(0.5)
            return (bot.cpu_seconds - before) / count * 1000, commands


# -- delivery ---------------------------------------------------------------------------------------------------


def lags_ms(commands: Sequence[Command]) -> list[float]:
    """Return the milliseconds from the image being ready at the provider to Discord having it."""
    return [((command.shown_at or 0.0) - (command.done_at or 0.0)) * 1000 for command in commands]


def transfers_ms(commands: Sequence[Command]) -> list[float]:
    """Return the milliseconds from the bot's notice of the image to Discord having it: download and upload."""
    return [((command.shown_at or 0.0) - (command.reported_at or 0.0)) * 1000 for command in commands]


async def delivery() -> list[Result]:
    """Measure how soon a finished image is shown: with polling, beside a loop that polls every 2 s, and with webhooks.

    With webhooks it is what the bot adds to the download and the upload.
    """
    _, fixed = await _delivered(NAIVE, {"KREA_POLL_SECONDS": "2"})
    _, asking = await _delivered(BOT, {})
    _, called = await _delivered(BOT, {"KREA_POLL_SECONDS": "60", "PUBLIC_URL": "https://bot.invalid"}, webhooks=True)
    unavoidable = percentile(transfers_ms(fixed), 50)
    fixed_reads = sum(command.reads for command in fixed) / len(fixed)
    asking_reads = sum(command.reads for command in asking) / len(asking)
    above = [lag - unavoidable for lag in lags_ms(called)]
    return [
        *(
            Result(
                name=f"image ready to image shown, polling: p{percent}",
                value=percentile(lags_ms(asking), percent),
                unit="ms",
                baseline=percentile(lags_ms(fixed), percent),
                at_most=at_most,
            )
            for percent, at_most in ((50, 0.4), (95, 0.5))
        ),
        Result(name="polls per job", value=asking_reads, unit="", baseline=fixed_reads, at_most=1.0),
        Result(name="image ready to image shown, webhooks: p50", value=percentile(above, 50), unit="ms", at_most=100),
        Result(name="image ready to image shown, webhooks: p95", value=percentile(above, 95), unit="ms", at_most=300),
    ]


async def _delivered(
    module: str, settings: dict[str, str], *, webhooks: bool = False, count: int = 120
) -> tuple[LoadGenerator, list[Command]]:
    """Run jobs of 4 to 8 seconds. The first 40 prepare the bot and do not count."""
    chance = random.Random(7)
    seconds = [chance.uniform(4.0, 8.0) for _ in range(2 * count)]
    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=lambda number: seconds[number], webhooks=webhooks) as load,
            BotProcess(module, load, Path(folder), settings),
        ):
            await shown(await send(load, 40, per_second=10))
            commands = await send(load, count, per_second=8)
            await shown(commands)
            return load, commands


# -- bursts -----------------------------------------------------------------------------------------------------


async def bursts() -> list[Result]:
    """Measure 200 commands that come at once, and 200 images that are ready at once, beside the naive baseline."""
    fixed_cards, fixed_images, _ = await _burst(NAIVE)
    cards, images, others = await _burst(BOT)
    return [
        Result(
            name="200 commands at once, command to card: p50",
            value=percentile(cards, 50),
            unit="ms",
            baseline=percentile(fixed_cards, 50),
            at_most=1.0,
        ),
        Result(
            name="200 images ready at once, ready to shown: p50",
            value=percentile(images, 50),
            unit="ms",
            baseline=percentile(fixed_images, 50),
            at_most=1.3,
        ),
        Result(name="slowest card of other members meanwhile", value=max(others), unit="ms", at_most=3_000),
    ]


async def _burst(
    module: str, *, count: int = 200, seconds: float = 12.0
) -> tuple[list[float], list[float], list[float]]:
    """Return milliseconds: from `count` commands to their cards, from images to being shown, and cards meanwhile.

    The commands come at once, and all of their images are ready `seconds` later.
    """
    loop = asyncio.get_running_loop()
    ready_at = 0.0

    def job_seconds(number: int) -> float:
        return max(0.0, ready_at - time.monotonic()) if 5 <= number < 5 + count else 1.0

    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=job_seconds) as load,
            BotProcess(module, load, Path(folder)),
        ):
            await warmed_up(load)
            ready_at = time.monotonic() + seconds
            commands = [await load.send() for _ in range(count)]
            await asyncio.sleep(ready_at - loop.time())
            others: list[Command] = []
            while not all(command.shown.is_set() for command in commands):
                others += await send(load, 1, per_second=10)
            await shown(others)
    return answers_ms(commands), lags_ms(commands), answers_ms(others)


# -- size -------------------------------------------------------------------------------------------------------


async def at_rest() -> list[Result]:
    """Measure a start with commands that are registered already, and the memory at rest."""
    with TemporaryDirectory() as folder:
        async with LoadGenerator(image=image(ONE_MB), job_seconds=lambda _: 1.0) as load:
            async with BotProcess(BOT, load, Path(folder)):
                await asyncio.sleep(2)
            async with BotProcess(BOT, load, Path(folder)) as again:
                await asyncio.sleep(5)
                return [
                    Result(name="start to ready, commands unchanged", value=again.ready_seconds, unit="s", at_most=2),
                    Result(name="memory at rest", value=again.memory_mb, unit="MB", at_most=90),
                ]


async def in_flight() -> list[Result]:
    """Measure what a job costs in memory, and in work for others, while 10,000 are at the provider."""
    few = await _beside(100)
    many = await _beside(10_000)
    return [
        Result(name="memory per job, 10,000 in flight", value=many[1], unit="KiB", at_most=12),
        Result(name="processor time per job beside 100 others", value=few[0], unit="ms"),
        Result(name="processor time per job beside 10,000 others", value=many[0], unit="ms"),
        Result(name="the second / the first", value=many[0] / few[0], unit="×", at_most=1.2),
    ]


async def _beside(others: int, *, count: int = 150) -> tuple[float, float]:
    """Return the milliseconds of processor time of a job beside `others` that run, and the KiB of each of those."""
    with TemporaryDirectory() as folder:

        def job_seconds(number: int) -> float:
            return 2.0 if number < 5 or number >= 5 + others else A_LONG_TIME_SECONDS

        # Polled so rarely that the jobs in the background do nothing but wait.
        settings = {"KREA_POLL_SECONDS": "2", "PUBLIC_URL": "https://bot.invalid"}
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=job_seconds, webhooks=True) as load,
            BotProcess(BOT, load, Path(folder), settings | {"KREA_POLL_SECONDS": "600"}) as bot,
        ):
            await warmed_up(load)
            before_mb = bot.memory_mb
            await send(load, others, per_second=80)
            await asyncio.sleep(5)
            kib = (bot.memory_mb - before_mb) * 1024 / others
            before = bot.cpu_seconds
            commands = await send(load, count, per_second=15)
            await shown(commands)
            await asyncio.sleep(0.5)
            return (bot.cpu_seconds - before) / count * 1000, kib


async def soak(*, minutes: float, per_second: float = 10.0) -> list[Result]:
    """Measure the growth of memory under steady work, after the first sixth."""
    samples: list[tuple[float, float]] = []
    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=lambda _: 5.0) as load,
            BotProcess(BOT, load, Path(folder)) as bot,
        ):
            commands: list[Command] = []
            begun_at = time.monotonic()
            while (elapsed := time.monotonic() - begun_at) < minutes * 60:
                commands = await send(load, round(per_second * 10), per_second=per_second)
                samples.append((elapsed, bot.memory_mb))
                for number in [number for number, command in load.commands.items() if command.shown.is_set()]:
                    load.commands[number].last_body = b""
            await shown(commands)
    warm = [memory_mb for elapsed, memory_mb in samples if elapsed > minutes * 10]
    third = max(1, len(warm) // 3)
    early, late = sum(warm[:third]) / third, sum(warm[-third:]) / third
    return [
        Result(name=f"memory after {minutes:g} minutes at {per_second:g} jobs/s", value=samples[-1][1], unit="MB"),
        Result(name="growth of memory after the first sixth", value=late - early, unit="MB", at_most=2),
    ]
