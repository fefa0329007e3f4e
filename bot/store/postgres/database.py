"""The database on a PostgreSQL server, which other processes may use at the same time.

One connection writes (see writer.py) and three read, each on a thread of its own, so that the same synchronous
functions run here as on an SQLite file.
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
from bot.store.core.write_queue import Priority, WriteQueue, WriteResult
from bot.store.postgres import schema
from bot.store.postgres.connection import PostgresConnection, translated_error, unreachable
from bot.store.postgres.pool import ConnectionPool, ConnectionThread
from bot.store.postgres.pooler import require_sessions
from bot.store.postgres.writer import InDoubtError, PostgresWriter

T = TypeVar("T")

_log = logging.getLogger(__name__)

_READERS = 3
_RETRY_PAUSE_SECONDS = 0.2
_CLOSE_TIMEOUT_SECONDS = 30.0
_BOT_LOCK_TIMEOUT_SECONDS = 2.0
"""The server takes a moment to notice that a bot has ended; the bot that is started next waits for that."""


class PostgresDatabase:
    """Open with `await PostgresDatabase.open(address)`; close with `await database.close()`."""

    is_shared = True

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._writer_thread = ConnectionThread(address, "database writer")
        self._writer = PostgresWriter(self._writer_thread)
        self._readers = ConnectionPool(address, "database reader", _READERS)
        self._lock_thread = ConnectionThread(address, "database lock")
        self._queue = WriteQueue()
        self._close_started_at: float | None = None
        self._writing = asyncio.create_task(self._write_batches(), name="database writer")

    @classmethod
    async def open(cls, address: PostgresAddress) -> Self:
        """Connect, and bring an empty or older schema to the newest version.

        Raises DatabaseUnusable when the schema is newer, damaged or not ours, or StoreError.
        """
        await asyncio.to_thread(_prepare, address)
        return cls(address)

    async def lock_exclusively(self) -> None:
        """Implement `Database.lock_exclusively`. The server holds the lock as long as this connection is open."""
        if not await self._take_bot_lock("pg_try_advisory_lock"):
            raise DatabaseBusy(f"Another bot works with the database {self.address}. Stop it first.")

    async def lock_shared(self) -> None:
        """Implement `Database.lock_shared`. The server holds the lock as long as this connection is open."""
        if not await self._take_bot_lock("pg_try_advisory_lock_shared"):
            raise DatabaseBusy(
                f"A bot without a --role works with the database {self.address}, and it has to be alone. Stop it first."
            )

    async def _take_bot_lock(self, function: str) -> bool:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _BOT_LOCK_TIMEOUT_SECONDS
        while not (taken := await self._lock_thread.run(partial(_take_bot_lock, self._lock_thread, function))):
            if loop.time() >= deadline:
                break
            await asyncio.sleep(_RETRY_PAUSE_SECONDS)
        return taken

    async def write(self, work: Callable[[Connection], T], priority: Priority = Priority.NORMAL) -> T:
        """Implement `Database.write`. When the connection breaks during COMMIT, wait until the outcome is known."""
        return await self._queue.run(cast("Work", work), priority)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Implement `Database.read`. A read that lost its connection is repeated on a new one."""
        if self._queue.is_closed:
            raise StoreError("The database is closed.")
        return await self._readers.run(partial(_read, work))

    async def overwrite_forgotten(self) -> None:
        """Do nothing: the server's vacuum removes old versions of rows, and its log belongs to the operator."""

    async def backup_to(self, target: Path) -> None:
        """Raise StoreError, which names the server's own tool for backups."""
        raise StoreError(
            f"A PostgreSQL database is backed up with its own tools, for example: pg_dump --format=custom "
            f"--file={target} --dbname=ADDRESS"
        )

    async def close(self) -> None:
        """Finish the waiting writes, then close. Safe to call twice."""
        if self._queue.is_closed:
            return
        self._close_started_at = asyncio.get_running_loop().time()
        self._queue.close()
        await asyncio.wait([self._writing])
        await self._writer_thread.run(self._writer.delete_own_row)
        await self._writer_thread.close()
        await self._lock_thread.close()
        await self._readers.close()

    # -- writing ------------------------------------------------------------------------------------------

    async def _write_batches(self) -> None:
        while (batch := await self._queue.next_batch()) is not None:
            try:
                results = await self._commit([pending.work for pending in batch])
            except Exception as error:
                # A defect of this class, not of one caller's work: every caller of the batch has to be answered.
                results = [WriteResult(error=error)] * len(batch)
            for pending, result in zip(batch, results, strict=True):
                pending.resolve(result)

    async def _commit(self, batch: list[Work]) -> list[WriteResult]:
        while True:
            try:
                return await self._writer_thread.run(partial(self._writer.commit, batch))
            except InDoubtError as doubt:
                _log.warning("the connection to the database broke during COMMIT: checking whether it was committed")
                if await self._has_committed():
                    return doubt.results
                # It was not committed, so running it again cannot do anything twice.

    async def _has_committed(self) -> bool:
        """Ask the server until it answers. Meanwhile, refuse the writes that wait."""
        while True:
            try:
                return await self._writer_thread.run(self._writer.has_committed)
            except StoreError as error:
                self._queue.refuse(error)
                if (
                    self._close_started_at is not None
                    and asyncio.get_running_loop().time() > self._close_started_at + _CLOSE_TIMEOUT_SECONDS
                ):
                    raise StoreError(
                        f"Whether the last change was written is not known. {error} The books are right either way."
                    ) from error
                await asyncio.sleep(_RETRY_PAUSE_SECONDS)


def _prepare(address: PostgresAddress) -> None:
    try:
        connection = PostgresConnection.open(address)
    except psycopg.Error as error:
        raise unreachable(address, error) from error
    try:
        require_sessions(connection, address)
        schema.prepare(connection, address)
    except psycopg.Error as error:
        raise StoreError(f"The database {address} cannot be opened: {translated_error(error, address)}") from error
    finally:
        connection.close()


def _take_bot_lock(thread: ConnectionThread, function: str) -> bool:
    first, second = schema.BOT_LOCK
    try:
        return thread.connection().execute(f"SELECT {function}({first}, {second})").fetchone()[0]
    except psycopg.Error as error:
        thread.drop()
        raise translated_error(error, thread.address) from error


def _read(work: Callable[[Connection], T], connection: PostgresConnection) -> T:
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return work(connection)
    finally:
        connection.rollback()
