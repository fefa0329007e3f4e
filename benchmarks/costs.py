"""Costs: what one more of something costs the whole bot: a queued job, a poll, a megabyte, a server."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.bot_process import BOT, BotProcess
from benchmarks.load_generator import LoadGenerator
from benchmarks.results import Result
from benchmarks.scenarios import A_LONG_TIME_SECONDS, ONE_MB, cost, image, send, warmed_up
from benchmarks.transactions import durable_server

EIGHT_MB = 1_640
WAITING = 5_000
FOLLOWED = 300
SERVERS, CHANNELS, ROLES = 1_000, 50, 30


async def waiting() -> list[Result]:
    """Measure the memory of a job that is queued behind eight that never end."""
    with TemporaryDirectory() as folder:

        def job_seconds(number: int) -> float:
            return 2.0 if number < 5 else A_LONG_TIME_SECONDS

        settings = {"KREA_MAX_CONCURRENCY": "8", "KREA_POLL_SECONDS": "600", "PUBLIC_URL": "https://bot.invalid"}
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=job_seconds, webhooks=True, members=WAITING) as load,
            BotProcess(BOT, load, Path(folder), settings) as bot,
        ):
            await warmed_up(load)
            await send(load, 1_000, per_second=80)  # fills the pools and caches
            await asyncio.sleep(6)
            before_mb = bot.memory_mb
            await send(load, WAITING, per_second=80)
            await asyncio.sleep(6)
            kib = (bot.memory_mb - before_mb) * 1024 / WAITING
    return [Result(name="memory per queued job", value=kib, unit="KiB")]


async def polls() -> list[Result]:
    """Measure the processor time of one poll of a job that is not done."""
    seconds = 20.0
    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=lambda _: A_LONG_TIME_SECONDS) as load,
            BotProcess(BOT, load, Path(folder), {"KREA_POLL_SECONDS": "2"}) as bot,
        ):
            commands = await send(load, FOLLOWED, per_second=50)
            await asyncio.sleep(5)
            reads, before = sum(command.reads for command in commands), bot.cpu_seconds
            await asyncio.sleep(seconds)
            reads = sum(command.reads for command in commands) - reads
            each_ms = (bot.cpu_seconds - before) / reads * 1000
    return [
        Result(name="processor time per poll", value=each_ms, unit="ms"),
        Result(name="polls per second meanwhile", value=reads / seconds, unit="/s"),
    ]


async def large_images() -> list[Result]:
    """Measure what each further megabyte of an image costs that Discord accepts unchanged."""
    small_bytes, large_bytes = len(image(ONE_MB)), len(image(EIGHT_MB))
    small, _ = await cost(BOT, count=100, per_second=5)
    large, _ = await cost(BOT, count=100, per_second=5, side=EIGHT_MB)
    slope = (large - small) / ((large_bytes - small_bytes) / 1e6)
    return [
        Result(name=f"processor time per job, image of {small_bytes / 1e6:.1f} MB", value=small, unit="ms"),
        Result(name=f"processor time per job, image of {large_bytes / 1e6:.1f} MB", value=large, unit="ms"),
        Result(name="processor time per further megabyte", value=slope, unit="ms"),
    ]


async def cost_on_server() -> list[Result]:
    """Measure as `cost_per_job`, with database and images on a PostgreSQL server, whose own time is not counted."""
    server = durable_server()
    if server is None:
        return []
    try:
        each_ms, _ = await cost(BOT, settings={"DATABASE_URL": server.fresh().url})
    finally:
        server.close()
    return [Result(name="processor time per job, database on PostgreSQL", value=each_ms, unit="ms")]


async def servers() -> list[Result]:
    """Measure the memory of one more server with channels and roles; its members are not kept."""
    with TemporaryDirectory() as folder:
        async with (
            LoadGenerator(image=image(ONE_MB), job_seconds=lambda _: 2.0) as load,
            BotProcess(BOT, load, Path(folder)) as bot,
        ):
            await warmed_up(load)
            before_mb = bot.memory_mb
            for number in range(SERVERS):
                await load.invite(number, channels=CHANNELS, roles=ROLES)
                await asyncio.sleep(0.002 * random.random())
            await asyncio.sleep(5)
            kib = (bot.memory_mb - before_mb) * 1024 / SERVERS
    return [Result(name=f"memory per server, {CHANNELS} channels and {ROLES} roles", value=kib, unit="KiB")]
