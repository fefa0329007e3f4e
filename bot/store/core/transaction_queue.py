"""TransactionQueue: transactions that wait for a connection, taken together, each still all or nothing on its own."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar

from bot.domain.errors import StoreError
from bot.store.core.connection import Connection, Work

T = TypeVar("T")

MAX_BATCH_SIZE = 64
"""Most transactions in one commit: enough to hide the sync to disk, few enough to keep the wait short."""

BATCH_DELAY_SECONDS = 0.02
"""Longest delay of a low-priority transaction that waits to share the commit of a normal one."""


class Priority(Enum):
    """How soon a transaction is written."""

    INTERACTIVE = auto()
    """A member waits for it: first in the next batch, of which it leaves half to the others."""
    NORMAL = auto()
    LOW = auto()
    """Nothing waits for it: up to BATCH_DELAY_SECONDS later, to share the commit of a normal one."""


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """What one caller gets: a value, or the error that undid its work."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingTransaction:
    """One caller's transaction, and the future that its caller awaits."""

    work: Work
    answer: asyncio.Future[Any]

    def resolve(self, result: TransactionResult) -> None:
        """Give the caller the result, unless it was cancelled."""
        if self.answer.done():
            return
        if result.error is not None:
            self.answer.set_exception(result.error)
        else:
            self.answer.set_result(result.value)


class TransactionQueue:
    """Transactions that wait for a connection, first in, first out within each priority."""

    def __init__(self) -> None:
        self._interactive: deque[PendingTransaction] = deque()
        self._normal: deque[PendingTransaction] = deque()
        self._low: deque[PendingTransaction] = deque()
        self._low_due_at = 0.0
        self._arrived = asyncio.Event()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether no more transactions are taken."""
        return self._closed

    async def run(self, work: Callable[[Connection], T], priority: Priority = Priority.NORMAL) -> T:
        """Wait for the result of `work`. Raises what it raised, and StoreError when the queue is closed."""
        if self._closed:
            raise StoreError("The database is closed.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        pending = PendingTransaction(work=work, answer=answer)
        match priority:
            case Priority.INTERACTIVE:
                self._interactive.append(pending)
            case Priority.NORMAL:
                self._normal.append(pending)
            case Priority.LOW:
                if not self._low:
                    self._low_due_at = loop.time() + BATCH_DELAY_SECONDS
                self._low.append(pending)
        self._arrived.set()
        return await answer

    def close(self) -> None:
        """Take no more transactions; those that wait are still handed out."""
        self._closed = True
        self._arrived.set()

    def refuse(self, error: StoreError) -> None:
        """Fail every transaction that waits with `error`."""
        for queue in (self._interactive, self._low, self._normal):
            while queue:
                queue.popleft().resolve(TransactionResult(error=error))

    async def next_batch(self) -> list[PendingTransaction] | None:
        """Wait for transactions and return those to commit together; None when the queue is closed and empty."""
        loop = asyncio.get_running_loop()
        while not (batch := self.pop_batch(loop.time())):
            if self._closed:
                return None
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._low_due_at if self._low else None):
                    await self._arrived.wait()
        return batch

    def pop_batch(self, now: float) -> list[PendingTransaction]:
        """Return the transactions to commit together at `now`, the event loop's time; none when none is due.

        The thread of the connection may call this while no task waits in `next_batch`.
        """
        # Counted first, normal before low: the event loop may add both an acceptance (low) and the start of its job
        # (normal) meanwhile, and the start must not be written without the acceptance.
        normal, low = len(self._normal), len(self._low)
        if not normal and not (low and (self._closed or now >= self._low_due_at)):
            return _pop(self._interactive, len(self._interactive), MAX_BATCH_SIZE)
        batch = _pop(self._interactive, len(self._interactive), MAX_BATCH_SIZE // 2)
        batch += _pop(self._low, low, MAX_BATCH_SIZE - len(batch))
        return batch + _pop(self._normal, normal, MAX_BATCH_SIZE - len(batch))


def _pop(queue: deque[PendingTransaction], count: int, limit: int) -> list[PendingTransaction]:
    """Remove and return up to `limit` of the first `count` transactions, without those whose caller was cancelled."""
    popped: list[PendingTransaction] = []
    for _ in range(count):
        if len(popped) == limit:
            break
        if not (pending := queue.popleft()).answer.done():
            popped.append(pending)
    return popped


def in_savepoint(connection: Connection, work: Work) -> TransactionResult:
    """Run one work of a batch. An error undoes what it did, and nothing else, unless the whole transaction is gone."""
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        if connection.in_transaction:
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
        return TransactionResult(error=error)
    connection.execute("RELEASE work")
    return TransactionResult(value=value)
