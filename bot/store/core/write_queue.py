"""Groups: several callers' transactions in one commit, each of them still all or nothing on its own."""

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
"""How many transactions share a commit at most: enough to hide the sync to disk, few enough that nobody waits long."""

BATCH_DELAY_SECONDS = 0.02
"""So long at most a transaction waits for others, when nobody waits for it and it may share their commit."""


class Priority(Enum):
    """How soon a transaction is written."""

    INTERACTIVE = auto()
    """A member waits for it: ahead of all others, which have to let one batch pass, never two."""
    NORMAL = auto()
    LOW = auto()
    """Nothing waits for it: up to BATCH_DELAY_SECONDS later, to share the commit of a normal one."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What one caller gets: a value, or the error that undid its work."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PendingWrite:
    """One caller's transaction and where its caller waits for the outcome."""

    work: Work
    answer: asyncio.Future[Any]

    def resolve(self, outcome: WriteResult) -> None:
        """Give the caller the outcome, if they still wait."""
        if self.answer.done():
            return
        if outcome.error is not None:
            self.answer.set_exception(outcome.error)
        else:
            self.answer.set_result(outcome.value)


class WriteQueue:
    """Transactions that wait for the writer: those that somebody waits for with a time limit, those that nobody waits
    for, and all others.
    """

    def __init__(self) -> None:
        self._urgent: deque[PendingWrite] = deque()
        self._unhurried: deque[PendingWrite] = deque()
        self._company_until = 0.0
        """So long those that nobody waits for wait for others."""
        self._others: deque[PendingWrite] = deque()
        self._others_are_next = False
        self._arrived = asyncio.Event()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        return self._closed

    async def run(self, work: Callable[[Connection], T], priority: Priority = Priority.NORMAL) -> T:
        """Wait for the result of `work`. Raises what it raised, and StoreError when the queue is closed."""
        if self._closed:
            raise StoreError("The database is closed.")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        match priority:
            case Priority.INTERACTIVE:
                queue = self._urgent
            case Priority.NORMAL:
                queue = self._others
            case Priority.LOW:
                queue = self._unhurried
                if not queue:
                    self._company_until = loop.time() + BATCH_DELAY_SECONDS
        queue.append(PendingWrite(work=work, answer=answer))
        self._arrived.set()
        return await answer

    def close(self) -> None:
        """Take nothing more; what waits is still handed out."""
        self._closed = True
        self._arrived.set()

    def refuse(self, error: StoreError) -> None:
        """Nothing can be written now: tell those who wait."""
        for line in (self._urgent, self._unhurried, self._others):
            while line:
                line.popleft().resolve(WriteResult(error=error))

    async def next_batch(self) -> list[PendingWrite] | None:
        """At least one waiting transaction, and those that wait behind it; None at the end."""
        while True:
            if group := self.batch_at(asyncio.get_running_loop().time()):
                return group
            if self._closed:
                return None
            self._arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._company_until if self._unhurried else None):
                    await self._arrived.wait()

    def batch_at(self, now: float) -> list[PendingWrite]:
        """Those whose turn it is, without waiting for any; `now` is the event loop's time.

        The writer's own thread may ask while no task does, for others only ever add to the lines then. What comes while
        it asks waits for the next time: one that goes along may be what the one after it relies on.
        """
        others = len(self._others)
        group = _taken(
            self._urgent, MAX_BATCH_SIZE // 2 if self._others_are_next else MAX_BATCH_SIZE, of=len(self._urgent)
        )
        others_wait = others > 0 or self._closed or self._unhurried_are_due(now)
        if group and not self._others_are_next:
            self._others_are_next = others_wait
            return group
        self._others_are_next = False
        if others_wait:
            group += _taken(self._unhurried, MAX_BATCH_SIZE - len(group), of=len(self._unhurried))
            group += _taken(self._others, MAX_BATCH_SIZE - len(group), of=others)
        return group

    def _unhurried_are_due(self, now: float) -> bool:
        return bool(self._unhurried) and now >= self._company_until


def _taken(line: deque[PendingWrite], most: int, *, of: int) -> list[PendingWrite]:
    """The first of so many in a line, without those whose caller was cancelled."""
    taken: list[PendingWrite] = []
    for _ in range(of):
        if len(taken) == most:
            break
        if not (waiting := line.popleft()).answer.done():
            taken.append(waiting)
    return taken


def in_savepoint(connection: Connection, work: Work) -> WriteResult:
    """Run one work of a group. An error undoes what it did, and nothing else, unless the whole transaction is gone."""
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        if connection.in_transaction:
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
        return WriteResult(error=error)
    connection.execute("RELEASE work")
    return WriteResult(value=value)
