"""Groups: several callers' transactions in one commit, each of them still all or nothing on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bot.errors import StoreError
from bot.store.engine import Connection, Work

T = TypeVar("T")

GROUP_SIZE = 64
"""How many transactions share a commit at most: enough to hide the sync to disk, few enough that nobody waits long."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one caller gets: a value, or the error that undid its work."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """One caller's transaction and where its caller waits for the outcome."""

    work: Work
    answer: asyncio.Future[Any]

    def resolve(self, outcome: Outcome) -> None:
        """Give the caller the outcome, if they still wait."""
        if self.answer.done():
            return
        if outcome.error is not None:
            self.answer.set_exception(outcome.error)
        else:
            self.answer.set_result(outcome.value)


class WorkQueue:
    """Transactions that wait for the writer, in the order in which they came."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Waiting | None] = asyncio.Queue()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Wait for the outcome of `work`. Raises what it raised, and StoreError when the queue is closed."""
        if self._closed:
            raise StoreError("The database is closed.")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(Waiting(work=work, answer=answer))
        return await answer

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        self._closed = True
        self._queue.put_nowait(None)

    def refuse(self, error: StoreError) -> None:
        """Nothing can be written now: tell those who wait. Whether it was closed is not forgotten."""
        while not self._queue.empty():
            waiting = self._queue.get_nowait()
            if waiting is None:
                self._queue.put_nowait(None)
                return
            waiting.resolve(Outcome(error=error))

    async def next_group(self) -> list[Waiting] | None:
        """At least one waiting transaction, and those that wait behind it; None at the end."""
        group: list[Waiting] = []
        while not group or (not self._queue.empty() and len(group) < GROUP_SIZE):
            waiting = await self._queue.get()
            if waiting is None:
                if not group:
                    return None
                self._queue.put_nowait(None)
                break
            if not waiting.answer.done():  # done: its caller was cancelled
                group.append(waiting)
        return group


def in_savepoint(connection: Connection, work: Work) -> Outcome:
    """Run one work of a group. An error undoes what it did, and nothing else, unless the whole transaction is gone."""
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        if connection.in_transaction:
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
        return Outcome(error=error)
    connection.execute("RELEASE work")
    return Outcome(value=value)
