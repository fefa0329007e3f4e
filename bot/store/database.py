"""The Database protocol, its two engines, and `reads` and `writes`, which make typed methods of SQL functions."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from bot.domain.deployment.database_url import Location
from bot.runtime.retry import retry_storage_errors
from bot.store.core.connection import Connection
from bot.store.core.transaction_queue import Priority
from bot.store.sqlite.database import SqliteDatabase

P = ParamSpec("P")
T = TypeVar("T")


class Database(Protocol):
    """Transactions on a file or a server, each whole or not at all. Made by `open_database`."""

    @property
    def is_shared(self) -> bool:
        """Whether other processes may change the database at the same time."""
        ...

    @property
    def missing_connections(self) -> int:
        """The number of connections that the server does not give; the rest is slower without them."""
        ...

    async def lock_exclusively(self) -> None:
        """Keep every other process from running the jobs in this database. Raises DatabaseBusy when one does."""
        ...

    async def lock_shared(self) -> None:
        """Keep every process from running the jobs in this database alone. Raises DatabaseBusy when one does."""
        ...

    async def write(self, work: Callable[[Connection], T], priority: Priority = Priority.NORMAL) -> T:
        """Run `work` as one transaction: all of it is on disk when this returns, or nothing when it raises.

        `work` may be run more than once, when its first transaction was lost, so it must do nothing but SQL. What it
        raises comes back to this caller alone; the engine's own errors arrive as StoreError.
        """
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` without writing, all of it on one consistent snapshot."""
        ...

    async def overwrite_forgotten(self) -> None:
        """Remove deleted data from where the engine still keeps a copy, as far as the program can."""
        ...

    async def backup_to(self, target: Path) -> None:
        """Write a consistent copy of everything committed so far, without stopping writes. Replaces `target`."""
        ...

    async def close(self) -> None:
        """Finish the transactions that wait, then close. Safe to call twice."""
        ...


async def open_database(location: Location) -> Database:
    """Open the database. Raises DatabaseBusy, DatabaseUnusable or StoreError; `str()` of each says what to do."""
    if isinstance(location, Path):
        return await SqliteDatabase.open(location)
    from bot.store.postgres.database import PostgresDatabase  # 8 MB of driver that a file does not need

    return await PostgresDatabase.open(location)


class DatabaseUser:
    """Base class of what has methods made by `reads` and `writes`."""

    def __init__(self, database: Database) -> None:
        self.database = database


def reads(
    work: Callable[Concatenate[Connection, P], T],
) -> Callable[Concatenate[DatabaseUser, P], Coroutine[Any, Any, T]]:
    """Make a method of a SQL function that only reads: the same parameters, without the connection."""

    @wraps(work)
    async def method(self: DatabaseUser, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.read(lambda connection: work(connection, *args, **kwargs))

    return method


def writes(
    work: Callable[Concatenate[Connection, P], T], priority: Priority = Priority.NORMAL
) -> Callable[Concatenate[DatabaseUser, P], Coroutine[Any, Any, T]]:
    """Make a method of a SQL function that writes: the same parameters, without the connection. One transaction.

    The method raises StoreError when the database does not take it.
    """

    @wraps(work)
    async def method(self: DatabaseUser, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.write(lambda connection: work(connection, *args, **kwargs), priority)

    return method


def writes_with_retry(
    work: Callable[Concatenate[Connection, P], T], priority: Priority = Priority.NORMAL
) -> Callable[Concatenate[DatabaseUser, P], Coroutine[Any, Any, T]]:
    """Make a method as `writes` does, which is tried again until the database takes it.

    For what has happened already, at a provider or in Discord, and must be recorded. Raises LedgerError.
    """
    return retry_storage_errors(writes(work, priority))
