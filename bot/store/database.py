"""Database: what the store asks of the place where the books lie, be it a file or a server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from bot.domain.database_url import Location
from bot.store.core.connection import Connection
from bot.store.postgres.database import PostgresDatabase
from bot.store.sqlite.database import SqliteDatabase

T = TypeVar("T")


class Database(Protocol):
    """Transactions whole or not at all. Made by `open_database`."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may change the books at the same time."""
        ...

    async def lock_exclusively(self) -> None:
        """From now on no other process follows the jobs in these books. Raises DatabaseBusy when one does already."""
        ...

    async def lock_shared(self) -> None:
        """From now on no process follows the jobs in these books alone. Raises DatabaseBusy when one does."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction: all of it is on disk when this returns, or nothing when it raises.

        `work` may be run more than once, when its first transaction was lost, so it must do nothing but SQL. What it
        raises comes back to this caller alone; the engine's own errors arrive as StoreError.
        """
        ...

    async def write_soon(self, work: Callable[[Connection], T]) -> T:
        """As `write`, for what somebody waits for: ahead of the transactions that only the program waits for."""
        ...

    async def write_along(self, work: Callable[[Connection], T]) -> T:
        """As `write`, for what nothing waits for: a moment later if need be, to share another transaction's commit."""
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` without writing, all of it on one consistent picture of the books."""
        ...

    async def overwrite_forgotten(self) -> None:
        """See that what was forgotten can be read nowhere any more, as far as that is the program's to do."""
        ...

    async def backup_to(self, target: Path) -> None:
        """A consistent copy of everything committed so far, made while the work goes on. Replaces `target`."""
        ...

    async def close(self) -> None:
        """Finish what is waiting, then close. Safe to call twice."""
        ...


async def open_database(location: Location) -> Database:
    """Raises DatabaseBusy, DatabaseUnusable or StoreError; `str()` of each says what to do."""
    if isinstance(location, Path):
        return await SqliteDatabase.open(location)
    return await PostgresDatabase.open(location)
