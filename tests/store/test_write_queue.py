"""The line before the writer: who is waited for goes first, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from bot.domain.errors import StoreError
from bot.store.core.write_queue import (
    BATCH_DELAY_SECONDS,
    MAX_BATCH_SIZE,
    PendingWrite,
    Priority,
    WriteQueue,
    WriteResult,
)
from tests.support.virtual_time import run_in_virtual_time


def work(name: str):
    def named(_: object) -> str:
        return name

    return named


def enter(queue: WriteQueue, *names: str, soon: bool = False) -> list[asyncio.Future[str]]:
    priority = Priority.INTERACTIVE if soon else Priority.NORMAL
    return [asyncio.ensure_future(queue.run(work(name), priority)) for name in names]


def names(group: list[PendingWrite] | None) -> list[str]:
    return [waiting.work(None) for waiting in group or ()]  # type: ignore[arg-type]


async def entered(queue: WriteQueue, *waiting: str, soon: bool = False) -> list[asyncio.Future[str]]:
    callers = enter(queue, *waiting, soon=soon)
    await asyncio.sleep(0)
    return callers


async def test_what_somebody_waits_for_goes_ahead_of_the_rest_but_never_twice_in_a_row() -> None:
    queue = WriteQueue()
    callers = await entered(queue, "a", "b")
    callers += await entered(queue, "first", "second", soon=True)
    assert names(await queue.next_batch()) == ["first", "second"]
    callers += await entered(queue, "third", soon=True)
    assert names(await queue.next_batch()) == ["third", "a", "b"]
    callers += await entered(queue, "fourth", soon=True)
    callers += await entered(queue, "c")
    assert names(await queue.next_batch()) == ["fourth"]
    assert names(await queue.next_batch()) == ["c"]
    for caller in callers:
        caller.cancel()


async def test_a_group_has_a_size_and_the_order_in_which_they_came() -> None:
    queue = WriteQueue()
    callers = await entered(queue, *(str(number) for number in range(MAX_BATCH_SIZE + 2)))
    assert names(await queue.next_batch()) == [str(number) for number in range(MAX_BATCH_SIZE)]
    assert names(await queue.next_batch()) == [str(MAX_BATCH_SIZE), str(MAX_BATCH_SIZE + 1)]
    for caller in callers:
        caller.cancel()


async def test_however_many_are_waited_for_the_rest_has_half_of_every_second_group() -> None:
    queue = WriteQueue()
    callers = await entered(queue, "a", "b")
    callers += await entered(queue, *(str(number) for number in range(3 * MAX_BATCH_SIZE)), soon=True)
    assert "a" not in names(await queue.next_batch())
    assert names(await queue.next_batch())[MAX_BATCH_SIZE // 2 :] == ["a", "b"]
    for caller in callers:
        caller.cancel()


async def test_a_line_of_cancelled_callers_hides_nobody() -> None:
    queue = WriteQueue()
    for soon in (True, False):
        gone = await entered(queue, *(str(number) for number in range(2 * MAX_BATCH_SIZE)), soon=soon)
        for caller in gone:
            caller.cancel()
        [caller] = await entered(queue, "still there", soon=soon)
        assert names(await queue.next_batch()) == ["still there"]
        caller.cancel()


async def test_who_comes_while_the_writer_asks_is_never_taken_without_the_one_before() -> None:
    queue = WriteQueue()
    callers = await entered(queue, "a")

    class Interrupted(deque[PendingWrite]):
        """Others come when the writer has just seen that nobody is here."""

        def __len__(self) -> int:
            length = super().__len__()
            if not length:
                self.append(PendingWrite(work=work("accepted"), answer=callers[0]))
                queue._others.append(PendingWrite(work=work("begun, once accepted"), answer=callers[0]))
            return length

    queue._unhurried = Interrupted()
    assert names(queue.batch_at(0.0)) == ["a"]
    queue._unhurried = deque(queue._unhurried)
    assert names(queue.batch_at(0.0)) == ["accepted", "begun, once accepted"]
    callers[0].cancel()


async def test_whoever_was_cancelled_is_left_out_and_whoever_comes_later_is_waited_for() -> None:
    queue = WriteQueue()
    [gone] = await entered(queue, "gone", soon=True)
    gone.cancel()
    await asyncio.sleep(0)
    group = asyncio.ensure_future(queue.next_batch())
    await asyncio.sleep(0)
    assert not group.done()
    [caller] = await entered(queue, "late")
    [waiting] = await group or []
    waiting.resolve(WriteResult(value="done"))
    assert await caller == "done"


async def test_what_waits_when_it_is_closed_is_still_handed_out_and_nothing_more_is_taken() -> None:
    queue = WriteQueue()
    callers = await entered(queue, "a") + await entered(queue, "b", soon=True)
    queue.close()
    with pytest.raises(StoreError, match="closed"):
        await queue.run(work("too late"))
    assert names(await queue.next_batch()) == ["b"]
    assert names(await queue.next_batch()) == ["a"]
    assert await queue.next_batch() is None
    for caller in callers:
        caller.cancel()


async def test_when_nothing_can_be_written_everybody_who_waits_is_told() -> None:
    queue = WriteQueue()
    callers = await entered(queue, "a") + await entered(queue, "b", soon=True)
    queue.refuse(StoreError("gone"))
    for caller in callers:
        with pytest.raises(StoreError, match="gone"):
            await caller
    queue.close()
    assert await queue.next_batch() is None


async def test_what_nobody_waits_for_goes_ahead_of_the_next_that_is_written_anyway() -> None:
    queue = WriteQueue()
    along = [asyncio.ensure_future(queue.run(work(name), Priority.LOW)) for name in ("accepted", "delivered")]
    await asyncio.sleep(0)
    group = asyncio.ensure_future(queue.next_batch())
    await asyncio.sleep(0)
    assert not group.done(), "nothing else is to be written yet"
    [urgent] = await entered(queue, "an order", soon=True)
    assert names(await group) == ["an order"]
    [other] = await entered(queue, "begun")
    assert names(await queue.next_batch()) == ["accepted", "delivered", "begun"]
    for caller in (*along, urgent, other):
        caller.cancel()


def test_what_nobody_waits_for_is_written_after_a_moment_even_if_nothing_else_is() -> None:
    async def main() -> None:
        queue = WriteQueue()
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        along = asyncio.ensure_future(queue.run(work("accepted"), Priority.LOW))
        assert names(await queue.next_batch()) == ["accepted"]
        assert loop.time() == pytest.approx(begun_at + BATCH_DELAY_SECONDS)
        later = asyncio.ensure_future(queue.run(work("delivered"), Priority.LOW))
        assert names(await queue.next_batch()) == ["delivered"]
        assert loop.time() == pytest.approx(begun_at + 2 * BATCH_DELAY_SECONDS), "each has its own moment"
        for caller in (along, later):
            caller.cancel()

    run_in_virtual_time(main())


async def test_what_nobody_waits_for_is_still_written_when_the_line_is_closed() -> None:
    queue = WriteQueue()
    along = asyncio.ensure_future(queue.run(work("delivered"), Priority.LOW))
    await asyncio.sleep(0)
    queue.close()
    assert names(await queue.next_batch()) == ["delivered"]
    assert await queue.next_batch() is None
    along.cancel()


async def test_when_nothing_can_be_written_whoever_came_along_is_told_as_well() -> None:
    queue = WriteQueue()
    along = asyncio.ensure_future(queue.run(work("delivered"), Priority.LOW))
    await asyncio.sleep(0)
    queue.refuse(StoreError("gone"))
    with pytest.raises(StoreError, match="gone"):
        await along
