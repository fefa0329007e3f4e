"""Erasures: what members erased after a backup was taken is erased again when that backup is restored."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import StillUnderWay
from bot.domain.jobs import Delivery, Reply
from bot.domain.money.quota import Member
from bot.media.blob_store import FileBlobStore
from bot.runtime.trusted_clock import TrustedClock
from bot.service.maintenance.retention import Retention
from bot.store import store as store_module
from bot.store.admin.verify import verify_location
from bot.store.core.erasure_list import KEPT, Erasure, ErasureList
from bot.store.sqlite.backup import restore
from bot.store.store import Store
from tests.support.databases import execute
from tests.support.fakes import until
from tests.support.processor_time import assert_linear
from tests.support.store_samples import ADA, NOON, admitted, finished

pytestmark = pytest.mark.hostile("G-16")

BOB = Member(guild_id=1, user_id=8)


@pytest.fixture
def erasures(tmp_path: Path) -> ErasureList:
    return ErasureList(tmp_path / "data" / "erasures.jsonl")


async def delivered(store: Store, **options: object) -> Reply:
    reply = await admitted(store, 1_000, **options)  # pyright: ignore[reportArgumentType]
    await finished(store, reply.jobs[0].id, charged_usd_micros=1_000)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    return reply


async def prompts(store: Store, *replies: Reply) -> list[str]:
    found = [await store.reply(reply.id) for reply in replies]
    return [reply.jobs[0].request.prompt for reply in found if reply is not None]


async def test_a_restored_backup_forgets_again_what_was_erased_since_and_nothing_else(
    tmp_path: Path, erasures: ErasureList
) -> None:
    path, backup = tmp_path / "bot.sqlite3", tmp_path / "backup.sqlite3"
    async with await Store.open(path, erasures=erasures) as store:
        adas, deleted, kept = (
            await delivered(store),
            await delivered(store, member=BOB),
            await delivered(store, member=BOB),
        )
        await store.backup_to(backup)
        await store.forget_member(ADA.user_id, now=NOON)
        assert await store.delete_reply(deleted.id, actor_id=BOB.user_id, now=NOON) is not None
        assert await store.repeat_erasures(now=NOON) == (0, 0)
    path.rename(tmp_path / "lost.sqlite3")
    restore(backup, path)
    async with await Store.open(path, erasures=erasures) as store:
        assert all(await prompts(store, adas, deleted, kept))
        assert await store.repeat_erasures(now=NOON + timedelta(days=1)) == (2, 0)
        later = await delivered(store)
        assert await store.repeat_erasures(now=NOON + timedelta(days=1)) == (0, 0)
        assert [bool(prompt) for prompt in await prompts(store, adas, deleted, kept, later)] == [
            False,
            False,
            True,
            True,
        ]
    assert verify_location(path) == []


async def test_on_either_engine_the_database_knows_which_erasures_it_lacks(
    location: Location, erasures: ErasureList
) -> None:
    async with await Store.open(location, erasures=erasures) as store:
        reply = await delivered(store)
        await store.forget_member(ADA.user_id, now=NOON)
        assert await store.repeat_erasures(now=NOON) == (0, 0)
        running = await admitted(store, 1_000)
    execute(location, "DELETE FROM notes WHERE key = 'last erasure'")
    async with await Store.open(location, erasures=erasures) as store:
        assert await store.repeat_erasures(now=NOON) == (0, 1)  # it waits for the job
        await finished(store, running.jobs[0].id, charged_usd_micros=1_000)
        await store.set_delivery(running.id, Delivery.DELIVERED)
        assert await store.repeat_erasures(now=NOON) == (1, 0)
        assert await prompts(store, reply, running) == ["", ""]


async def test_an_order_that_runs_in_the_backup_is_deleted_again_once_it_has_ended(
    location: Location, erasures: ErasureList
) -> None:
    async with await Store.open(location, erasures=erasures) as store:
        running = await admitted(store, 1_000)
        erasures.add(now=NOON, reply_id=running.id)
        for _ in range(2):
            assert await store.repeat_erasures(now=NOON) == (0, 1)
        await finished(store, running.jobs[0].id, charged_usd_micros=1_000)
        await store.set_delivery(running.id, Delivery.DELIVERED)
        assert await store.repeat_erasures(now=NOON) == (1, 0)
        assert await prompts(store, running) == [""]
        assert await store.repeat_erasures(now=NOON) == (0, 0)


async def test_an_erasure_that_waits_for_a_job_delays_no_other_and_is_not_overtaken(
    location: Location, erasures: ErasureList
) -> None:
    async with await Store.open(location, erasures=erasures) as store:
        running = await admitted(store, 1_000)
        bobs, bobs_new = await delivered(store, member=BOB), await delivered(store, member=BOB)
        erasures.add(now=NOON, user_id=ADA.user_id)
        erasures.add(now=NOON, reply_id=bobs.id)
        # Before the sweep, a member erases something: what was restored comes first.
        assert await store.delete_reply(bobs_new.id, actor_id=BOB.user_id, now=NOON) is not None
        assert await prompts(store, bobs, bobs_new) == ["", ""]
        assert await store.repeat_erasures(now=NOON) == (0, 1)
        await finished(store, running.jobs[0].id, charged_usd_micros=1_000)
        await store.set_delivery(running.id, Delivery.DELIVERED)
        assert await store.repeat_erasures(now=NOON) == (1, 0)
        assert await prompts(store, running) == [""]


async def test_an_erasure_that_is_cancelled_lets_other_processes_have_the_list(
    tmp_path: Path, erasures: ErasureList, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_adding, may_add = threading.Event(), threading.Event()
    add = erasures.add

    def slow_add(**entry: Any) -> Erasure:
        is_adding.set()
        may_add.wait()
        return add(**entry)

    monkeypatch.setattr(erasures, "add", slow_add)
    async with await Store.open(tmp_path / "bot.sqlite3", erasures=erasures) as store:
        erasing = asyncio.create_task(store.forget_member(ADA.user_id, now=NOON))
        await until(is_adding.is_set)
        erasing.cancel()
        await asyncio.sleep(0)
        assert ErasureList(erasures.path).begin_turn() is None, "the entry is not written yet"
        may_add.set()
        with pytest.raises(asyncio.CancelledError):
            await erasing
        turn = erasures.begin_turn()
        assert turn is not None
        erasures.end_turn(turn)


async def test_processes_share_one_list_and_have_it_in_turn(location: Location, erasures: ErasureList) -> None:
    """A gateway erases, and after a restore a worker repeats it, by the list in the folder of both."""
    async with await Store.open(location, erasures=erasures) as gateway:
        reply = await delivered(gateway)
        others = ErasureList(erasures.path)
        turn = others.begin_turn()
        assert turn is not None
        assert erasures.begin_turn() is None
        erasing = asyncio.create_task(gateway.forget_member(ADA.user_id, now=NOON))
        await gateway.reply(reply.id)
        assert others.since(None) == []
        others.end_turn(turn)
        await erasing
    execute(location, "DELETE FROM notes WHERE key = 'last erasure'")
    async with await Store.open(location, erasures=others) as worker:
        assert await worker.repeat_erasures(now=NOON) == (1, 0)


async def test_an_erasure_is_done_although_another_process_keeps_the_list(
    tmp_path: Path, erasures: ErasureList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LIST_TURN_SECONDS", 0.1)
    async with await Store.open(tmp_path / "bot.sqlite3", erasures=erasures) as store:
        reply = await delivered(store)
        turn = ErasureList(erasures.path).begin_turn()
        assert turn is not None
        await store.forget_member(ADA.user_id, now=NOON)
        erasures.end_turn(turn)
        assert await prompts(store, reply) == [""]


async def test_a_list_that_lacks_what_was_erased_is_told_once(
    tmp_path: Path, erasures: ErasureList, caplog: pytest.LogCaptureFixture
) -> None:
    """It lay in memory, or the process that erased has a folder of its own."""
    clock = TrustedClock(wall_clock=lambda: NOON)
    async with await Store.open(tmp_path / "bot.sqlite3", erasures=erasures) as store:
        retention = Retention(store=store, blob_store=FileBlobStore(tmp_path / "pictures"), clock=clock)
        await retention.repeat_erasures()
        await delivered(store)
        await store.forget_member(ADA.user_id, now=NOON)
        await retention.repeat_erasures()
        assert "lacks some" not in caplog.text
        erasures.path.unlink()
        for _ in range(3):
            await retention.repeat_erasures()
        assert caplog.text.count("the list of erasures lacks some that were done") == 1
        assert not await store.lacks_listed_erasures(now=NOON + KEPT + timedelta(days=1))


async def test_a_refused_erasure_is_not_listed(tmp_path: Path, erasures: ErasureList) -> None:
    async with await Store.open(tmp_path / "bot.sqlite3", erasures=erasures) as store:
        reply = await admitted(store, 1_000)
        with pytest.raises(StillUnderWay):
            await store.forget_member(ADA.user_id, now=NOON)
        assert await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON) is None
    assert erasures.since(None) == []


async def test_an_erasure_is_done_even_if_the_list_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    unwritable = ErasureList(tmp_path / "data" / "erasures.jsonl")
    async with await Store.open(tmp_path / "bot.sqlite3", erasures=unwritable) as store:
        reply = await delivered(store)
        await store.forget_member(ADA.user_id, now=NOON)
        assert await prompts(store, reply) == [""]


def test_the_list_survives_a_cut_off_line_and_forgets_what_is_old(erasures: ErasureList) -> None:
    first, second = erasures.add(now=NOON, user_id=7), erasures.add(now=NOON, reply_id="a")
    assert first.at < second.at
    with erasures.path.open("a") as file:
        file.write('\n{"at": "2026-')
    third = erasures.add(now=NOON + timedelta(days=1), user_id=8)
    assert erasures.since(None) == [first, second, third]
    assert erasures.since(first.at) == [second, third]
    assert erasures.path.stat().st_mode & 0o077 == 0
    erasures.trim(NOON + KEPT + timedelta(hours=1))
    assert erasures.since(None) == [third]
    assert [json.loads(line)["member"] for line in erasures.path.read_text().split("\n") if line] == [8]


def test_a_long_list_costs_no_more_for_each_erasure(
    tmp_path: Path, erasures: ErasureList, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)

    def adding(count: int) -> Callable[[], object]:
        def add() -> None:
            erasures.path.unlink(missing_ok=True)
            for number in range(count):
                erasures.add(now=NOON, user_id=number)

        return add

    assert_linear(adding, size=300)


def test_a_list_is_trimmed_in_one_write(erasures: ErasureList, monkeypatch: pytest.MonkeyPatch) -> None:
    for day in range(50):
        erasures.add(now=NOON + timedelta(days=day), user_id=day)
    erasures.withdraw(erasures.add(now=NOON + timedelta(days=60), reply_id="a"))
    kept = erasures.since(NOON + timedelta(days=9))
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    erasures.trim(NOON + KEPT + timedelta(days=10))
    assert len(synced) == 1
    assert len(kept) == 40
    assert erasures.since(None) == kept
    assert erasures.latest() == kept[-1].at


def test_refused_erasures_at_the_end_of_a_list_hide_none_before_them(erasures: ErasureList) -> None:
    kept = erasures.add(now=NOON, user_id=7)
    for _ in range(100):
        erasures.withdraw(erasures.add(now=NOON, user_id=8))
    assert erasures.latest() == kept.at
    assert erasures.add(now=NOON, user_id=8).at > kept.at
