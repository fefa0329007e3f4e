"""Retention: what is old is erased while the clocks agree, a day's worth at a time, and never on one wrong clock."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.jobs import Delivery, Reply
from bot.media.blob_store import FileBlobStore
from bot.runtime.trusted_clock import DISCORD, PROVIDERS, TrustedClock
from bot.service.maintenance import retention
from bot.service.maintenance.retention import Retention
from bot.store.store import Store
from bot.store.tables.members.privacy import ACTS_KEPT, RETENTION
from tests.support.store_samples import ADA, NOON, a_command, an_image, limits, running

MODERATOR_ID = 99


async def delivered(store: Store, *, now: datetime = NOON, sha256: str = "ab" * 32) -> Reply:
    """Run a command until its image was made and shown."""
    reply = a_command(1_000, now=now)
    await store.admit(member=ADA, reply=reply, limits=limits(), now=now)
    await store.accept(reply.id, message_id=1)
    for job in reply.jobs:
        await running(store, job.id, now=now)
        await store.succeed(job.id, charged_usd_micros=1_000, images=[an_image(sha256)], now=now)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    return reply


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    async with await Store.open(location) as store:
        yield store


@pytest.fixture
async def images(tmp_path: Path) -> AsyncIterator[FileBlobStore]:
    images = FileBlobStore(tmp_path / "pictures")
    yield images
    await images.close()


async def run_until_it_sleeps(sweeper: Retention, monkeypatch: pytest.MonkeyPatch) -> float:
    """Return for how long it sleeps."""
    slept: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def until_told(seconds: float) -> None:
        slept.set_result(seconds)
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(retention.asyncio, "sleep", until_told)
        running = asyncio.create_task(sweeper.run())
        seconds = await slept
    running.cancel()
    await asyncio.wait([running])
    return seconds


def a_clock(wall_time: datetime, *, discord: datetime, provider: datetime) -> TrustedClock:
    clock = TrustedClock(wall_clock=lambda: wall_time, monotonic_clock=lambda: 0.0)
    for source, moment in ((DISCORD, discord), (PROVIDERS, provider)):
        clock.observe(source, format_datetime(moment))
    return clock


@pytest.mark.hostile("G-15")
@pytest.mark.hostile("G-52")
@pytest.mark.parametrize("wrong", ["wall", "discord", "provider", "none"])
async def test_one_wrong_clock_erases_nothing(
    store: Store, images: FileBlobStore, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    """Neither prompts nor images nor the names in the record of changes. When all agree, they go at once."""
    unneeded = await images.put(b"a result long shown")
    os.utime(images.path(unneeded), (0, 0))
    reply = await delivered(store, sha256=unneeded)
    await store.set_blocked(1, ADA.user_id, True, actor_id=MODERATOR_ID, reason=None, now=NOON)
    now, later = NOON + timedelta(minutes=1), NOON + ACTS_KEPT + timedelta(minutes=1)
    clock = a_clock(
        now if wrong == "discord" or wrong == "provider" else later,
        discord=later if wrong in ("discord", "none") else now,
        provider=later if wrong in ("provider", "none") else now,
    )
    pause_seconds = await run_until_it_sleeps(Retention(store=store, blob_store=images, clock=clock), monkeypatch)
    kept = await store.reply(reply.id)
    (entry,) = await store.audit(1)
    assert kept is not None
    erased = (kept.jobs[0].request.prompt == "", await images.get(unneeded) is None, entry.actor_id is None)
    assert erased == ((True,) * 3 if wrong == "none" else (False,) * 3)
    assert pause_seconds == (retention.SWEEP_SECONDS if wrong == "none" else retention.DISAGREEMENT_PAUSE_SECONDS)


@pytest.mark.hostile("G-15")
async def test_a_sweep_erases_at_most_what_a_day_made_old(
    store: Store, images: FileBlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper = Retention(store=store, blob_store=images, clock=TrustedClock())
    await sweeper.sweep(NOON)
    replies = [await delivered(store, now=NOON + timedelta(hours=12 + 24 * day)) for day in range(3)]
    erased: list[int] = []
    for _ in range(RETENTION.days + 4):
        await sweeper.sweep(NOON + timedelta(days=400))
        found = [await store.reply(reply.id) for reply in replies]
        erased.append(sum(reply is not None and reply.jobs[0].request.prompt == "" for reply in found))
    assert erased[-5:] == [0, 1, 2, 3, 3]
    assert erased[:-5] == [0] * (RETENTION.days - 1)
