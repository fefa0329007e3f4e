"""Costs: what one more of something costs the whole bot: a job in line, a question, a megabyte, a server.

The constants of the capacity model (model.py) come from here and from scenarios.py.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.figures import Figure
from benchmarks.outside import Outside
from benchmarks.scenarios import A_LONG_TIME_SECONDS, ONE_MB, cost, image, send, warmed_up
from benchmarks.subject import BOT, Subject
from benchmarks.transactions import durable_server

EIGHT_MB = 1_640
WAITING = 5_000
FOLLOWED = 300
SERVERS, CHANNELS, ROLES = 1_000, 50, 30


async def waiting() -> list[Figure]:
    """Memory of a job that waits in line, behind eight that never end."""
    with TemporaryDirectory() as folder:

        def job_seconds(number: int) -> float:
            return 2.0 if number < 5 else A_LONG_TIME_SECONDS

        settings = {"KREA_MAX_CONCURRENCY": "8", "KREA_POLL_SECONDS": "600", "PUBLIC_URL": "https://bot.invalid"}
        async with (
            Outside(image=image(ONE_MB), job_seconds=job_seconds, webhooks=True, members=WAITING) as outside,
            Subject(BOT, outside, Path(folder), settings) as subject,
        ):
            await warmed_up(outside)
            await send(outside, 1_000, per_second=80)  # the pools and caches that fill once
            await asyncio.sleep(6)
            before_mb = subject.memory_mb
            await send(outside, WAITING, per_second=80)
            await asyncio.sleep(6)
            kib = (subject.memory_mb - before_mb) * 1024 / WAITING
    return [Figure(name="memory per job in line", value=kib, unit="KiB")]


async def looks() -> list[Figure]:
    """Processor time of asking once after a job that is not done."""
    seconds = 20.0
    with TemporaryDirectory() as folder:
        async with (
            Outside(image=image(ONE_MB), job_seconds=lambda _: A_LONG_TIME_SECONDS) as outside,
            Subject(BOT, outside, Path(folder), {"KREA_POLL_SECONDS": "2"}) as subject,
        ):
            commands = await send(outside, FOLLOWED, per_second=50)
            await asyncio.sleep(5)
            reads, before = sum(command.reads for command in commands), subject.cpu_seconds
            await asyncio.sleep(seconds)
            reads = sum(command.reads for command in commands) - reads
            each_ms = (subject.cpu_seconds - before) / reads * 1000
    return [
        Figure(name="processor time per question", value=each_ms, unit="ms"),
        Figure(name="questions per second meanwhile", value=reads / seconds, unit="/s"),
    ]


async def large_images() -> list[Figure]:
    """What each further megabyte of a picture that Discord takes as it is costs."""
    small_bytes, large_bytes = len(image(ONE_MB)), len(image(EIGHT_MB))
    small, _ = await cost(BOT, count=100, per_second=5)
    large, _ = await cost(BOT, count=100, per_second=5, side=EIGHT_MB)
    slope = (large - small) / ((large_bytes - small_bytes) / 1e6)
    return [
        Figure(name=f"processor time per job, picture of {small_bytes / 1e6:.1f} MB", value=small, unit="ms"),
        Figure(name=f"processor time per job, picture of {large_bytes / 1e6:.1f} MB", value=large, unit="ms"),
        Figure(name="processor time per further megabyte", value=slope, unit="ms"),
    ]


async def cost_on_server() -> list[Figure]:
    """As `cost_per_job`, with the books and the pictures on a PostgreSQL server, which is not counted."""
    server = durable_server()
    if server is None:
        return []
    try:
        each_ms, _ = await cost(BOT, settings={"DATABASE_URL": server.fresh().url})
    finally:
        server.close()
    return [Figure(name="processor time per job, books on PostgreSQL", value=each_ms, unit="ms")]


async def servers() -> list[Figure]:
    """Memory of one more server, with so many channels and roles; its members are not kept."""
    with TemporaryDirectory() as folder:
        async with (
            Outside(image=image(ONE_MB), job_seconds=lambda _: 2.0) as outside,
            Subject(BOT, outside, Path(folder)) as subject,
        ):
            await warmed_up(outside)
            before_mb = subject.memory_mb
            for number in range(SERVERS):
                await outside.invite(number, channels=CHANNELS, roles=ROLES)
                await asyncio.sleep(0.002 * random.random())
            await asyncio.sleep(5)
            kib = (subject.memory_mb - before_mb) * 1024 / SERVERS
    return [Figure(name=f"memory per server, {CHANNELS} channels and {ROLES} roles", value=kib, unit="KiB")]
