"""Counted: a database that says how many transactions of each kind there were, and stops a virtual clock for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.virtual_time import VirtualLoop
from bot.store.database import Database
from bot.store.engine import Connection

T = TypeVar("T")


class CountedDatabase:
    """`Database` in front of another one."""

    def __init__(self, inner: Database, loop: VirtualLoop) -> None:
        self.written: Counter[str] = Counter()
        self.read_from: Counter[str] = Counter()
        self._inner = inner
        self._loop = loop

    @property
    def is_shared(self) -> bool:
        return self._inner.is_shared

    async def be_alone(self) -> None:
        with self._loop.real_work():
            await self._inner.be_alone()

    async def be_among_others(self) -> None:
        with self._loop.real_work():
            await self._inner.be_among_others()

    async def write(self, work: Callable[[Connection], T]) -> T:
        self.written[_name(work)] += 1
        with self._loop.real_work():
            return await self._inner.write(work)

    async def write_soon(self, work: Callable[[Connection], T]) -> T:
        self.written[_name(work)] += 1
        with self._loop.real_work():
            return await self._inner.write_soon(work)

    async def write_along(self, work: Callable[[Connection], T]) -> T:
        return await self.write(work)  # no time passes here while there is real work, so nothing would come along

    async def read(self, work: Callable[[Connection], T]) -> T:
        self.read_from[_name(work)] += 1
        with self._loop.real_work():
            return await self._inner.read(work)

    async def overwrite_forgotten(self) -> None:
        with self._loop.real_work():
            await self._inner.overwrite_forgotten()

    async def backup_to(self, target: Path) -> None:
        with self._loop.real_work():
            await self._inner.backup_to(target)

    async def close(self) -> None:
        with self._loop.real_work():
            await self._inner.close()


def _name(work: Callable[[Connection], Any]) -> str:
    """What a transaction is called: its function, or the method of the store that it is written out in."""
    function: Any = work.func if isinstance(work, partial) else work
    outer, inside, _ = str(function.__qualname__).partition(".<locals>")
    return outer.rpartition(".")[2] if inside else str(function.__name__)
