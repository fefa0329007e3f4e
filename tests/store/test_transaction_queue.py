"""The queue before the writer: interactive transactions first, and a share of each batch for all others."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest

from bot.domain.errors import StoreError
from bot.store.core.transaction_queue import (
    BATCH_DELAY_SECONDS,
    MAX_BATCH_SIZE,
    PendingTransaction,
    Priority,
    TransactionQueue,
    TransactionResult,
)
from tests.support.virtual_time import run_in_virtual_time


def work(name: str):
    def named(_: object) -> str:
        return name

    return named


def enter(queue: TransactionQueue, *names: str, soon: bool = False) -> list[asyncio.Future[str]]:
    priority = Priority.INTERACTIVE if soon else Priority.NORMAL
    return [asyncio.ensure_future(queue.run(work(name), priority)) for name in names]


def names(group: list[PendingTransaction] | None) -> list[str]:
    return [waiting.work(None) for waiting in group or ()]  # type: ignore[arg-type]


async def entered(queue: TransactionQueue, *waiting: str, soon: bool = False) -> list[asyncio.Future[str]]:
    callers = enter(queue, *waiting, soon=soon)
    await asyncio.sleep(0)
    return callers


async def test_interactive_transactions_go_first_and_the_rest_shares_their_batch() -> None:
    queue = TransactionQueue()
    callers = await entered(queue, "a", "b")
    callers += await entered(queue, "first", "second", soon=True)
    assert names(await queue.next_batch()) == ["first", "second", "a", "b"]
    callers += await entered(queue, "c")
    callers += await entered(queue, "third", soon=True)
    assert names(await queue.next_batch()) == ["third", "c"]
    for caller in callers:
        caller.cancel()


async def test_a_batch_has_a_maximum_size_and_the_order_of_arrival() -> None:
    queue = TransactionQueue()
    callers = await entered(queue, *(str(number) for number in range(MAX_BATCH_SIZE + 2)))
    assert names(await queue.next_batch()) == [str(number) for number in range(MAX_BATCH_SIZE)]
    assert names(await queue.next_batch()) == [str(MAX_BATCH_SIZE), str(MAX_BATCH_SIZE + 1)]
    for caller in callers:
        caller.cancel()


async def test_however_many_are_interactive_the_rest_has_half_of_every_batch() -> None:
    queue = TransactionQueue()
    callers = await entered(queue, "a", "b")
    callers += await entered(queue, *(str(number) for number in range(3 * MAX_BATCH_SIZE)), soon=True)
    assert names(await queue.next_batch())[MAX_BATCH_SIZE // 2 :] == ["a", "b"]
    assert len(names(await queue.next_batch())) == MAX_BATCH_SIZE
    for caller in callers:
        caller.cancel()


async def test_cancelled_callers_hide_no_transaction_behind_them() -> None:
    queue = TransactionQueue()
    for soon in (True, False):
        gone = await entered(queue, *(str(number) for number in range(2 * MAX_BATCH_SIZE)), soon=soon)
        for caller in gone:
            caller.cancel()
        [caller] = await entered(queue, "still there", soon=soon)
        assert names(await queue.next_batch()) == ["still there"]
        caller.cancel()


async def test_a_transaction_that_arrives_during_pop_is_never_taken_without_the_one_before() -> None:
    queue = TransactionQueue()
    callers = await entered(queue, "a")

    class Interrupted(deque[PendingTransaction]):
        """Adds others when the writer has just counted none."""

        def __len__(self) -> int:
            length = super().__len__()
            if not length:
                self.append(PendingTransaction(work=work("accepted"), answer=callers[0]))
                queue._normal.append(PendingTransaction(work=work("begun, once accepted"), answer=callers[0]))
            return length

    queue._low = Interrupted()
    assert names(queue.pop_batch(0.0)) == ["a"]
    queue._low = deque(queue._low)
    assert names(queue.pop_batch(0.0)) == ["accepted", "begun, once accepted"]
    callers[0].cancel()


async def test_a_cancelled_caller_is_left_out_and_the_next_one_is_waited_for() -> None:
    queue = TransactionQueue()
    [gone] = await entered(queue, "gone", soon=True)
    gone.cancel()
    await asyncio.sleep(0)
    group = asyncio.ensure_future(queue.next_batch())
    await asyncio.sleep(0)
    assert not group.done()
    [caller] = await entered(queue, "late")
    [waiting] = await group or []
    waiting.resolve(TransactionResult(value="done"))
    assert await caller == "done"


async def test_what_waits_when_the_queue_is_closed_is_still_handed_out_and_nothing_more_is_taken() -> None:
    queue = TransactionQueue()
    callers = await entered(queue, "a") + await entered(queue, "b", soon=True)
    queue.close()
    with pytest.raises(StoreError, match="closed"):
        await queue.run(work("too late"))
    assert names(await queue.next_batch()) == ["b", "a"]
    assert await queue.next_batch() is None
    for caller in callers:
        caller.cancel()


async def test_refuse_fails_every_waiting_transaction() -> None:
    queue = TransactionQueue()
    callers = await entered(queue, "a") + await entered(queue, "b", soon=True)
    queue.refuse(StoreError("gone"))
    for caller in callers:
        with pytest.raises(StoreError, match="gone"):
            await caller
    queue.close()
    assert await queue.next_batch() is None


async def test_low_priority_shares_the_batch_of_the_next_normal_transaction() -> None:
    queue = TransactionQueue()
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


def test_low_priority_is_written_after_a_delay_even_if_nothing_else_is() -> None:
    async def main() -> None:
        queue = TransactionQueue()
        loop = asyncio.get_running_loop()
        begun_at = loop.time()
        along = asyncio.ensure_future(queue.run(work("accepted"), Priority.LOW))
        assert names(await queue.next_batch()) == ["accepted"]
        assert loop.time() == pytest.approx(begun_at + BATCH_DELAY_SECONDS)
        later = asyncio.ensure_future(queue.run(work("delivered"), Priority.LOW))
        assert names(await queue.next_batch()) == ["delivered"]
        assert loop.time() == pytest.approx(begun_at + 2 * BATCH_DELAY_SECONDS), "each has its own delay"
        for caller in (along, later):
            caller.cancel()

    run_in_virtual_time(main())


async def test_low_priority_is_still_written_when_the_queue_is_closed() -> None:
    queue = TransactionQueue()
    along = asyncio.ensure_future(queue.run(work("delivered"), Priority.LOW))
    await asyncio.sleep(0)
    queue.close()
    assert names(await queue.next_batch()) == ["delivered"]
    assert await queue.next_batch() is None
    along.cancel()


async def test_when_nothing_can_be_written_low_priority_callers_are_told_as_well() -> None:
    queue = TransactionQueue()
    along = asyncio.ensure_future(queue.run(work("delivered"), Priority.LOW))
    await asyncio.sleep(0)
    queue.refuse(StoreError("gone"))
    with pytest.raises(StoreError, match="gone"):
        await along
