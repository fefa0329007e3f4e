"""PostgreSQL: the books on a server, which other processes may use at the same time.

One session writes (see postgres_writer.py) and a few read, each on a thread of its own, so that the same synchronous
functions run here as on a file.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, cast

import psycopg

from bot.domain.database_url import PostgresAddress
from bot.domain.errors import DatabaseBusy, StoreError
from bot.store.core.connection import Connection, Work
from bot.store.core.write_queue import WriteQueue, WriteResult
from bot.store.postgres import schema
from bot.store.postgres.connection import PostgresConnection, translated_error, unreachable
from bot.store.postgres.pool import ConnectionPool, ThreadSession
from bot.store.postgres.writer import InDoubtError, PostgresWriter

T = TypeVar("T")

_log = logging.getLogger(__name__)

_READERS = 3
_ASK_AGAIN_SECONDS = 0.2
_CLOSING_SECONDS = 30.0
_FORMER_BOT_SECONDS = 2.0


class PostgresDatabase:
    """Open with `await PostgresDatabase.open(address)`; close with `await database.close()`."""

    is_shared = True

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._session = ThreadSession(address, "database writer")
        self._writer = PostgresWriter(self._session)
        self._readers = ConnectionPool(address, "database reader", _READERS)
        self._guard = ThreadSession(address, "database guard")
        self._queue = WriteQueue()
        self._closing_at: float | None = None
        self._writing = asyncio.create_task(self._write_groups(), name="database writer")

    @classmethod
    async def open(cls, address: PostgresAddress) -> Self:
        """Connect, and bring an empty or older schema to the newest version.

        Raises DatabaseUnusable when the schema is newer, damaged or not ours, or StoreError.
        """
        await asyncio.to_thread(_prepare, address)
        return cls(address)

    async def lock_exclusively(self) -> None:
        """As `Database.be_alone`; it holds while the server keeps this connection."""
        if not await self._take_bot_lock("pg_try_advisory_lock"):
            raise DatabaseBusy(f"Another bot works with the database {self.address}. Stop it first.")

    async def lock_shared(self) -> None:
        """As `Database.be_among_others`; it holds as long as `be_alone` does."""
        if not await self._take_bot_lock("pg_try_advisory_lock_shared"):
            raise DatabaseBusy(
                f"A bot without a --role works with the database {self.address}, and it has to be alone. Stop it first."
            )

    async def _take_bot_lock(self, function: str) -> bool:
        """The server takes a moment to notice that a bot has ended: one that takes its place waits for that."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _FORMER_BOT_SECONDS
        while not (taken := await self._guard.run(partial(_take_bot_lock, self._guard, function))):
            if loop.time() >= until:
                break
            await asyncio.sleep(_ASK_AGAIN_SECONDS)
        return taken

    async def write(self, work: Callable[[Connection], T]) -> T:
        """As `Database.write`. When the connection breaks during COMMIT this waits until the outcome is known."""
        return await self._queue.run(cast("Work", work))

    async def write_soon(self, work: Callable[[Connection], T]) -> T:
        """As `write`, ahead of what waits there."""
        return await self._queue.run_soon(cast("Work", work))

    async def write_along(self, work: Callable[[Connection], T]) -> T:
        """As `write`, in the commit of the next that only the program waits for."""
        return await self._queue.run_along(cast("Work", work))

    async def read(self, work: Callable[[Connection], T]) -> T:
        """As `Database.read`. A reading that lost its connection is done again on a new one."""
        if self._queue.is_closed:
            raise StoreError("The database is closed.")
        return await self._readers.run(partial(_read, work))

    async def overwrite_forgotten(self) -> None:
        """Nothing to do: the server's own vacuum frees the old versions of rows, and its log is the operator's."""

    async def backup_to(self, target: Path) -> None:
        """Refuses: a server is backed up with its own tools."""
        raise StoreError(
            f"A PostgreSQL database is backed up with its own tools, for example: pg_dump --format=custom "
            f"--file={target} --dbname=ADDRESS"
        )

    async def close(self) -> None:
        """Finish what is waiting, then close. Safe to call twice."""
        if self._queue.is_closed:
            return
        self._closing_at = asyncio.get_running_loop().time()
        self._queue.close()
        await asyncio.wait([self._writing])
        await self._session.run(self._writer.leave)
        await self._session.close()
        await self._guard.close()
        await self._readers.close()

    # -- writing ------------------------------------------------------------------------------------------

    async def _write_groups(self) -> None:
        while (group := await self._queue.next_batch()) is not None:
            try:
                outcomes = await self._commit([waiting.work for waiting in group])
            except Exception as error:
                # A defect of ours, not of one caller's work; the callers must not wait for ever.
                outcomes = [WriteResult(error=error)] * len(group)
            for waiting, outcome in zip(group, outcomes, strict=True):
                waiting.resolve(outcome)

    async def _commit(self, group: list[Work]) -> list[WriteResult]:
        while True:
            try:
                return await self._session.run(partial(self._writer.commit, group))
            except InDoubtError as doubt:
                _log.warning("the connection to the database broke during COMMIT; asking what became of it")
                if await self._has_committed():
                    return doubt.outcomes
                # Certainly not: it may be run again.

    async def _has_committed(self) -> bool:
        """Asks until there is an answer. Whoever wants to write in the meantime hears that the server is not there."""
        while True:
            try:
                return await self._session.run(self._writer.has_committed)
            except StoreError as error:
                self._queue.refuse(error)
                if (
                    self._closing_at is not None
                    and asyncio.get_running_loop().time() > self._closing_at + _CLOSING_SECONDS
                ):
                    raise StoreError(
                        f"Whether the last change was written is not known. {error} The books are right either way."
                    ) from error
                await asyncio.sleep(_ASK_AGAIN_SECONDS)


def _prepare(address: PostgresAddress) -> None:
    try:
        connection = PostgresConnection.open(address)
    except psycopg.Error as error:
        raise unreachable(address, error) from error
    try:
        schema.prepare(connection, address)
    except psycopg.Error as error:
        raise StoreError(f"The database {address} cannot be opened: {translated_error(error, address)}") from error
    finally:
        connection.close()


def _take_bot_lock(session: ThreadSession, function: str) -> bool:
    first, second = schema.BOT_LOCK
    try:
        return session.connection().execute(f"SELECT {function}({first}, {second})").fetchone()[0]
    except psycopg.Error as error:
        session.drop()
        raise translated_error(error, session.address) from error


def _read(work: Callable[[Connection], T], connection: PostgresConnection) -> T:
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return work(connection)
    finally:
        connection.rollback()
