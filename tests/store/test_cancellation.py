"""Cancellation: a caller cancelled at any point leaves the whole change or none of it, and blocks no other caller."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from bot.domain.jobs import Reply
from bot.store.admin.verify import verify_file
from bot.store.store import Store
from tests.support.store_calls import CALLS, Call, contents
from tests.support.store_samples import ADA, NOON, a_command, file_of, limits

MOMENTS = [*((count, False) for count in range(8)), *((count, True) for count in range(200))]
"""Steps of the event loop before the cancellation, and whether the database's thread gets time between them."""


async def prepared(folder: Path, call: Call) -> tuple[Path, Reply]:
    path = folder / "prepared.sqlite3"
    async with await Store.open(path) as store:
        return path, await call.prepare(store)


def copied(path: Path, name: str) -> Path:
    return Path(shutil.copy(path, path.with_name(f"{name}.sqlite3")))


async def steps(count: int, *, with_time: bool) -> None:
    """Run `count` iterations of the event loop; `with_time` lets the database's own thread continue meanwhile."""
    for _ in range(count):
        await asyncio.sleep(0)
        if with_time:
            time.sleep(0.002)  # noqa: ASYNC251 - the loop must stand still while the other thread works


@pytest.mark.parametrize("name", CALLS)
async def test_a_change_cancelled_at_any_step_is_whole_or_absent(tmp_path: Path, name: str) -> None:
    call = CALLS[name]
    path, reply = await prepared(tmp_path, call)
    before = contents(path)
    whole = copied(path, "whole")
    async with await Store.open(whole) as store:
        await call.make(store, reply)
    after = contents(whole)
    assert before != after
    outcomes: set[str] = set()
    for count, with_time in MOMENTS:
        trial = copied(path, "trial")
        async with await Store.open(trial) as store:
            changing: asyncio.Future[Any] = asyncio.ensure_future(call.make(store, reply))
            await steps(count, with_time=with_time)
            was_cancelled = changing.cancel()
            await asyncio.wait({changing})
            assert await store.problem() is None, "the next transaction is written"
            assert not await file_of(store)._writer.run(lambda connection: connection.in_transaction)
            found = contents(trial)
            await store.set_value("the next change", name)
        assert found in (before, after)
        assert was_cancelled or found == after, "a caller that was told so can rely on it"
        assert verify_file(trial) == []
        outcomes.add("whole" if found == after else "absent")
        if not was_cancelled:
            break
        trial.unlink()
    else:
        raise AssertionError("it never ended")
    assert outcomes == {"whole", "absent"}


async def test_a_crowd_cancelled_at_every_step_leaves_no_half_command(tmp_path: Path) -> None:
    """Many callers share a commit; a cancelled caller removes only its own work."""
    for count in range(0, 24, 2):
        path = tmp_path / f"{count}.sqlite3"
        async with await Store.open(path) as store:
            replies = [a_command(80_000, 20_000) for _ in range(6)]
            changes = [
                asyncio.ensure_future(store.admit(member=ADA, reply=reply, limits=limits(), now=NOON))
                for reply in replies
            ]
            await steps(count, with_time=count % 4 == 0)
            for change in changes[::2]:
                change.cancel()
            await asyncio.wait(changes)
            present = {reply.id for reply in await store.unfinished()}
            stayed = {reply.id for change, reply in zip(changes, replies, strict=True) if not change.cancelled()}
            assert {reply.id for reply in replies[1::2]} <= stayed <= present
        assert verify_file(path) == []


async def test_a_reader_who_leaves_does_not_disturb_the_next(tmp_path: Path) -> None:
    path, reply = await prepared(tmp_path, CALLS["fail"])
    async with await Store.open(path) as store:
        for count in range(20):
            reading = asyncio.ensure_future(store.reply(reply.id))
            await steps(count, with_time=count % 2 == 0)
            if not reading.cancel():
                break
            await asyncio.wait({reading})
            assert not await file_of(store)._reader.run(lambda connection: connection.in_transaction)
            assert await store.reply(reply.id) is not None
