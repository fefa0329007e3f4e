"""Transactions: how many the database takes per second, on a file and on a server, by one caller or many."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from benchmarks.results import Result
from bot.domain.deployment.database_url import Location
from bot.domain.jobs import Delivery, ResultImage
from bot.domain.money.quota import Member, Period, Quota
from bot.store.store import Store
from tests.support.postgres_server import PostgresServer
from tests.support.store_samples import a_command, limits

PER_JOB = 6
CALLERS = 200
PRICE_USD_MICROS = 7_000
PLENTY = Quota(amount_usd_micros=10**12, period=Period.DAY)
_numbers = count(1)


async def transactions() -> list[Result]:
    """Measure whole jobs, one after the other and many at a time; on the server also with two writers."""
    with TemporaryDirectory() as folder:
        results = await _on("SQLite", Path(folder) / "bot.sqlite3")
    server = durable_server()
    if server is None:
        return results
    try:
        results += await _on("PostgreSQL", server.fresh())
        results.append(await _measured("PostgreSQL, two writers", server.fresh(), callers=CALLERS, stores=2))
    finally:
        server.close()
    return results


def durable_server() -> PostgresServer | None:
    """Return a server that syncs to its disk, as in production, or None where there is no PostgreSQL."""
    try:
        return PostgresServer(is_durable=True)
    except pytest.skip.Exception:
        return None


async def _on(engine: str, location: Location) -> list[Result]:
    return [
        await _measured(f"{engine}, one caller", location, callers=1),
        await _measured(f"{engine}, {CALLERS} callers", location, callers=CALLERS),
    ]


async def _measured(name: str, location: Location, *, callers: int, stores: int = 1) -> Result:
    opened = [await Store.open(location) for _ in range(stores)]
    try:
        each = max(20, 1_000 // callers)
        await _lives(opened[0], 20)
        begun_at = time.perf_counter()
        await asyncio.gather(*(_lives(opened[number % stores], each) for number in range(callers)))
        seconds = time.perf_counter() - begun_at
    finally:
        for store in opened:
            await store.close()
    return Result(name=f"transactions on {name}", value=callers * each * PER_JOB / seconds, unit="/s")


async def _lives(store: Store, jobs: int) -> None:
    """Write `jobs` jobs of one member, one after the other, from the admission to the card that shows the image."""
    number = next(_numbers)
    member = Member(guild_id=number % 10 + 1, user_id=number)
    bounds = limits(default=PLENTY)
    for index in range(jobs):
        now = datetime.now(UTC)
        reply = a_command(PRICE_USD_MICROS, member=member, now=now, interaction_id=number * 1_000_000 + index)
        (job,) = reply.jobs
        remote_id = f"job-{number}-{index}"
        image = ResultImage(
            sha256=f"{number * 1_000_000 + index:064x}",
            content_type="image/png",
            width=1024,
            height=1024,
            size_bytes=1_000_000,
            source_url=f"https://pictures.invalid/{remote_id}.png",
        )
        await store.admit(member=member, reply=reply, limits=bounds, now=now)
        await store.accept(reply.id, message_id=index + 1)
        await store.begin_submission(job.id, now=now, deadline_at=now + timedelta(hours=2), webhook_token=None)
        await store.mark_running(job.id, remote_id=remote_id)
        await store.succeed(job.id, charged_usd_micros=PRICE_USD_MICROS, images=[image], now=now, took_seconds=12.0)
        await store.set_delivery(reply.id, Delivery.DELIVERED, attachment_ids={image.sha256: 1})
