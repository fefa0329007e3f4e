"""Fair slots: servers take turns, in each of them its members, and what one of them holds is bounded."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.requester import Requester
from bot.runtime.fair_slots import FairSlots

pytestmark = pytest.mark.hostile("G-05")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Work:
    """Pieces of work that hold slots until they are told to end."""

    def __init__(self, slots: FairSlots) -> None:
        self.slots = slots
        self.begun: list[Requester] = []
        self._ends: dict[int, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def begin(self, server_id: int, user_id: int, slots: int = 1) -> asyncio.Task[None]:
        async def work() -> None:
            async with self.slots.slot(Requester(server_id, user_id), slots):
                self._ends[len(self.begun)] = end = asyncio.Event()
                self.begun.append(Requester(server_id, user_id))
                await end.wait()

        task = asyncio.create_task(work())
        self._tasks.append(task)
        await settle()
        return task

    async def end(self, number: int) -> None:
        self._ends[number].set()
        await settle()

    async def end_all(self) -> None:
        while not all(task.done() for task in self._tasks):
            for end in self._ends.values():
                end.set()
            await asyncio.sleep(0)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_crowd_of_one_server_leaves_a_slot_to_other_servers() -> None:
    work = Work(FairSlots(3, per_server=2))
    for user_id in range(30):
        await work.begin(1, user_id)
    await work.begin(2, 100)
    assert work.begun == [(1, 0), (1, 1), (2, 100)]
    await work.end_all()
    assert len(work.begun) == 31


async def test_where_there_is_one_slot_servers_take_turns_and_then_members() -> None:
    work = Work(FairSlots(1, clock=Clock()))
    for server_id, user_id in ((1, 1), (1, 1), (1, 1), (1, 2), (2, 8), (2, 8), (3, 9)):
        await work.begin(server_id, user_id)
    for number in range(7):
        await work.end(number)
    assert work.begun == [(1, 1), (1, 1), (2, 8), (3, 9), (1, 2), (2, 8), (1, 1)]


@pytest.mark.parametrize("crowds", [4, 12])
async def test_a_server_that_uses_little_is_next_whatever_number_of_others_use_much(crowds: int) -> None:
    clock = Clock()
    work = Work(FairSlots(1, clock=clock))
    for server_id in range(1, crowds + 1):
        for _ in range(10):
            await work.begin(server_id, server_id)
    for number in range(crowds):
        clock.now += 1
        await work.end(number)
    for _ in range(5):
        await work.begin(1000, 1000)
        clock.now += 1
        await work.end(len(work.begun) - 1)
        assert work.begun[-1] == (1000, 1000)
        clock.now += 0.05
        await work.end(len(work.begun) - 1)
        assert work.begun[-1] != (1000, 1000)
    await work.end_all()


async def test_any_number_of_servers_that_come_at_once_are_behind_one_that_uses_little_all_the_time() -> None:
    clock = Clock()
    work = Work(FairSlots(1, clock=clock))
    for number in range(60):
        await work.begin(1000, 1000)
        clock.now += 0.02
        await work.end(number)
        clock.now += 1
    for server_id in range(1, 41):
        await work.begin(server_id, server_id)
    for number in range(60, 70, 2):
        await work.begin(1000, 1000)
        clock.now += 1
        await work.end(number)
        assert work.begun[-1] == (1000, 1000)
        clock.now += 0.02
        await work.end(number + 1)
    await work.end_all()


async def test_servers_that_use_much_share_the_slots_and_what_is_long_ago_counts_less() -> None:
    clock = Clock()
    work = Work(FairSlots(1, clock=clock))
    for server_id, seconds in ((1, 60), (2, 10)):
        await work.begin(server_id, server_id)
        clock.now += seconds
        await work.end(len(work.begun) - 1)
    await work.begin(3, 3)
    for server_id in (1, 2):
        await work.begin(server_id, server_id)
    await work.end(2)
    assert work.begun[-1] == (2, 2)
    clock.now += 60
    await work.end(3)
    assert work.begun[-1] == (1, 1)
    for server_id in (1, 2):
        await work.begin(server_id, server_id)
    await work.end(4)
    assert work.begun[-1] == (1, 1)
    await work.end_all()


async def test_what_servers_used_is_forgotten_in_time() -> None:
    clock = Clock()
    slots = FairSlots(1, clock=clock)
    for server_id in range(1, 2001):
        async with slots.slot(Requester(server_id, server_id)):
            clock.now += 1
    assert len(slots._uses) < 700


async def test_a_member_holds_no_more_than_a_members_share_whatever_server_they_ask_from() -> None:
    work = Work(FairSlots(3, per_member=1))
    for server_id in (1, 2, 3):
        await work.begin(server_id, 7)
    await work.begin(3, 8)
    assert work.begun == [(1, 7), (3, 8)]
    await work.end_all()
    assert len(work.begun) == 4


async def test_a_large_piece_of_work_is_not_overtaken_by_small_ones() -> None:
    slots = FairSlots(10, per_server=8)
    work = Work(slots)
    await work.begin(1, 1, 6)
    await work.begin(2, 2, 8)
    await work.begin(3, 3, 1)
    assert not slots.acquire_now(Requester(4, 4))
    assert work.begun == [(1, 1)]
    await work.end(0)
    assert work.begun == [(1, 1), (2, 2), (3, 3)]
    await work.end_all()


async def test_a_caller_that_gives_up_leaves_its_slot_to_the_next() -> None:
    work = Work(FairSlots(1))
    await work.begin(1, 1)
    waiting = await work.begin(1, 2)
    granted = await work.begin(2, 3)
    await work.begin(3, 4)
    waiting.cancel()
    await settle()
    work._ends[0].set()
    await asyncio.sleep(0)
    granted.cancel()  # at the moment at which its turn comes
    await settle()
    assert work.begun[-1] == (3, 4)
    await work.end_all()


async def test_slots_are_taken_at_once_where_nobody_waits() -> None:
    slots = FairSlots(2, per_server=1)
    assert slots.acquire_now(Requester(1, 1))
    assert not slots.acquire_now(Requester(1, 2))
    assert slots.acquire_now(Requester(2, 3))
    assert not slots.acquire_now(Requester(3, 4))
    slots.release(Requester(1, 1))
    assert slots.acquire_now(Requester(1, 2))
    with pytest.raises(ValueError, match="more than one requester may hold"):
        await slots.acquire(Requester(4, 4), 2)


MOVES = st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3)), max_size=25)


@given(MOVES)
def test_limits_hold_and_everything_gets_its_turn_whatever_is_cancelled(moves: list[tuple[int, int, int, int]]) -> None:
    async def scene() -> None:
        slots = FairSlots(4, per_server=3, per_member=3)
        held: list[tuple[Requester, int]] = []
        done: list[bool] = []

        async def work(requester: Requester, count: int, pauses: int) -> None:
            async with slots.slot(requester, count):
                held.append((requester, count))
                assert sum(each for _, each in held) <= 4
                assert sum(each for other, each in held if other.server_id == requester.server_id) <= 3
                assert sum(each for other, each in held if other.user_id == requester.user_id) <= 3
                try:
                    for _ in range(pauses):
                        await asyncio.sleep(0)
                finally:
                    held.remove((requester, count))
                done.append(True)

        tasks: list[asyncio.Task[None]] = []
        for number, (server_id, user_id, count, pauses) in enumerate(moves):
            tasks.append(asyncio.create_task(work(Requester(server_id, user_id), count, pauses)))
            if pauses == 3:
                await asyncio.sleep(0)
                tasks[number // 2].cancel()
        async with asyncio.timeout(10):
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert not held
        for server_id in (1, 2):  # everything is free again
            assert slots.acquire_now(Requester(server_id, server_id), 2)

    asyncio.run(scene())
