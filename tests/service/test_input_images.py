"""Input images of orders that are not decided yet: gone with a refused order, there for every other."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bot.dispatch.heavy_work import MemberTurns
from bot.domain.errors import ManyAsking, StillBusyForYou
from bot.domain.requester import Requester
from bot.media.blob_store import FileBlobStore
from bot.runtime.trusted_clock import utc_now
from bot.service.input_images import InputImages
from bot.store.store import Store

pytestmark = pytest.mark.hostile("G-05")

DATA = b"an image"
SHA256 = hashlib.sha256(DATA).hexdigest()


class Opened:
    def __init__(self, store: Store, directory: Path) -> None:
        self.blobs = FileBlobStore(directory / "pictures")
        self.images = InputImages(store, self.blobs)

    def is_stored(self) -> bool:
        return self.blobs.path(SHA256).exists()


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncGenerator[Opened]:
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        found = Opened(store, tmp_path)
        yield found
        await found.blobs.close()


async def test_the_image_of_a_refused_order_is_gone_at_once(opened: Opened) -> None:
    await opened.images.hold(SHA256, DATA)
    assert opened.is_stored()
    await opened.images.discard([SHA256])
    assert not opened.is_stored()


async def test_an_image_that_another_order_holds_stays(opened: Opened) -> None:
    await opened.images.hold(SHA256, DATA)
    await opened.images.hold(SHA256, DATA)
    await opened.images.discard([SHA256])
    assert opened.is_stored()
    await opened.images.discard([SHA256])
    assert not opened.is_stored()


async def test_an_image_that_is_stored_again_during_its_removal_is_there_afterwards(opened: Opened) -> None:
    for _ in range(20):
        await opened.images.hold(SHA256, DATA)
        await asyncio.gather(opened.images.discard([SHA256]), opened.images.hold(SHA256, DATA))
        assert opened.is_stored()
        await opened.images.discard([SHA256])
        assert not opened.is_stored()


async def test_a_member_has_one_piece_of_work_at_a_time_and_takes_no_turn_of_others() -> None:
    turns = MemberTurns(at_a_time=2, waiting=2, clock=utc_now)
    at_work: list[int] = []
    may_end = asyncio.Event()

    async def work(user_id: int) -> None:
        async with turns.turn(Requester(user_id, user_id)):
            at_work.append(user_id)
            await may_end.wait()

    tasks = [asyncio.create_task(work(1)) for _ in range(3)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work(2)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert at_work == [1, 2]
    with pytest.raises(StillBusyForYou):
        await work(1)
    may_end.set()
    await asyncio.gather(*tasks)
    assert sorted(at_work) == [1, 1, 1, 2]


@pytest.mark.hostile("G-05")
async def test_the_members_of_one_server_leave_a_turn_to_those_of_others() -> None:
    turns = MemberTurns(at_a_time=3, waiting=2, clock=utc_now)
    at_work: list[int] = []
    may_end = asyncio.Event()

    async def work(user_id: int, guild_id: int) -> None:
        async with turns.turn(Requester(guild_id, user_id)):
            at_work.append(user_id)
            await may_end.wait()

    tasks = [asyncio.create_task(work(user_id, 1)) for user_id in range(30)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work(100, 2)))
    await asyncio.sleep(0)
    assert at_work == [0, 1, 100]
    may_end.set()
    await asyncio.gather(*tasks)
    assert sorted(at_work) == [*range(30), 100]


@pytest.mark.hostile("G-05")
async def test_the_parts_of_a_piece_of_work_let_others_in_between_and_wait_no_longer_together() -> None:
    turns = MemberTurns(at_a_time=1, waiting=0, clock=utc_now)
    at_work: list[str] = []

    async def other() -> None:
        async with turns.turn(Requester(2, 2)):
            at_work.append("other")

    with turns.piece(Requester(1, 1)) as piece:
        with pytest.raises(StillBusyForYou), turns.piece(Requester(1, 1)):
            pass
        async with piece.turn():
            at_work.append("first part")
            task = asyncio.create_task(other())
            await asyncio.sleep(0)
        async with piece.turn():
            at_work.append("second part")
        await task
        assert at_work == ["first part", "other", "second part"]
        piece._until = asyncio.get_running_loop().time()
        async with turns.turn(Requester(2, 2)):
            with pytest.raises(ManyAsking):
                async with piece.turn():
                    pass


async def test_a_piece_of_work_whose_turn_does_not_come_is_refused_and_then_waits_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = MemberTurns(at_a_time=2, waiting=0, clock=utc_now)
    async with turns.turn(Requester(1, 1)), turns.turn(Requester(2, 2)):
        with monkeypatch.context() as patched:
            patched.setattr("bot.dispatch.heavy_work.TURN_WAIT_SECONDS", 0.0)
            with pytest.raises(ManyAsking) as refused:
                async with turns.turn(Requester(3, 3)):
                    pass
        assert refused.value.free_at > utc_now()
    async with turns.turn(Requester(3, 3)), turns.turn(Requester(4, 4)):
        pass
