"""Erasures: what members erased after a backup was taken is erased again when that backup is restored."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.database_url import Location
from bot.domain.errors import StillUnderWay
from bot.domain.jobs import Delivery, Reply
from bot.domain.quota import Member
from bot.store.admin.verify import verify_location
from bot.store.core.erasure_list import KEPT, ErasureList
from bot.store.sqlite.backup import restore
from bot.store.store import Store
from tests.support.databases import execute
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
    path, backup = tmp_path / "books.sqlite3", tmp_path / "backup.sqlite3"
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


async def test_a_refused_erasure_is_not_listed(tmp_path: Path, erasures: ErasureList) -> None:
    async with await Store.open(tmp_path / "books.sqlite3", erasures=erasures) as store:
        reply = await admitted(store, 1_000)
        with pytest.raises(StillUnderWay):
            await store.forget_member(ADA.user_id, now=NOON)
        assert await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON) is None
    assert erasures.since(None) == []


async def test_an_erasure_is_done_even_if_the_list_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    unwritable = ErasureList(tmp_path / "data" / "erasures.jsonl")
    async with await Store.open(tmp_path / "books.sqlite3", erasures=unwritable) as store:
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
