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

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.core.connection import Connection, Work
from bot.store.core.transaction_queue import Priority, TransactionQueue, TransactionResult
from bot.store.postgres import schema
from bot.store.postgres.connection import PostgresConnection, require_sessions, translated_error, unreachable
from bot.store.postgres.pool import ConnectionPool, ConnectionThread
from bot.store.postgres.writer import InDoubtError, PostgresWriter

T = TypeVar("T")

_log = logging.getLogger(__name__)

_READERS = 3
_RETRY_PAUSE_SECONDS = 0.2
_CLOSE_TIMEOUT_SECONDS = 30.0
BOT_LOCK_CHECK_SECONDS = 5.0
"""Pause between two looks at whether the lock is still held: a server that restarts forgets it."""


class PostgresDatabase:
    """Open with `await PostgresDatabase.open(address)`; close with `await database.close()`."""

    is_shared = True

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self._writer_thread = ConnectionThread(address, "database writer")
        self._writer = PostgresWriter(self._writer_thread)
        self._readers = ConnectionPool(address, "database reader", _READERS)
        self._queue = TransactionQueue()
        self._holding: asyncio.Task[None] | None = None
        self._close_started_at: float | None = None
        self._writing = asyncio.create_task(self._write_batches(), name="database writer")

    @classmethod
    async def open(cls, address: PostgresAddress) -> Self:
        """Connect, and bring an empty or older schema to the newest version.

        Raises DatabaseUnusable when the schema is newer, damaged or not ours, or StoreError.
        """
        await asyncio.to_thread(_prepare, address)
        database = cls(address)
        try:
            # All at once: a process that the server has no room for must not take jobs that it cannot follow.
            await database._writer_thread.open()
            await database._readers.open()
        except StoreError:
            await database.close()
            raise
        return database

    @property
    def missing_connections(self) -> int:
        """Implement `Database.missing_connections`."""
        return self._readers.missing

    async def lock_exclusively(self) -> None:
        """Implement `Database.lock_exclusively`. It is held again after the connection or the server was replaced."""
        await self._take_bot_lock(is_alone=True)

    async def lock_shared(self) -> None:
        """Implement `Database.lock_shared`. It is held again after the connection or the server was replaced."""
        await self._take_bot_lock(is_alone=False)

    async def _take_bot_lock(self, *, is_alone: bool) -> None:
        await self._writer_thread.run(partial(self._writer.take_bot_lock, is_alone=is_alone))
        self._holding = asyncio.create_task(self._hold_bot_lock(), name="database lock")

    async def _hold_bot_lock(self) -> None:
        """Take the lock again soon after it was lost, also while nothing is written."""
        is_held = True
        while True:
            await asyncio.sleep(BOT_LOCK_CHECK_SECONDS)
            try:
                await self._writer_thread.run(self._writer.renew_bot_lock)
            except Exception as error:  # also a process without free descriptors; an ended task would go unnoticed
                if is_held:
                    reason = self.address.hide(str(error)) or type(error).__name__
                    _log.error("nothing is written until this bot has its lock on the database again: %s", reason)
                is_held = False
            else:
                if not is_held:
                    _log.info("this bot has its lock on the database again")
                is_held = True

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
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.wait([self._holding])
        await asyncio.wait([self._writing])
        await self._writer_thread.run(self._writer.delete_own_row)
        await self._writer_thread.close()
        await self._readers.close()

    # -- writing ------------------------------------------------------------------------------------------

    async def _write_batches(self) -> None:
        while (batch := await self._queue.next_batch()) is not None:
            while batch:
                try:
                    results = await self._commit([pending.work for pending in batch])
                except Exception as error:
                    # A defect of this class, not of one caller's work: every caller of the batch has to be answered.
                    results = [TransactionResult(error=error)] * len(batch)
                for pending, result in zip(batch, results, strict=False):
                    pending.resolve(result)
                batch = batch[len(results) :]

    async def _commit(self, batch: list[Work]) -> list[TransactionResult]:
        while True:
            try:
                return await self._writer_thread.run(partial(self._writer.commit, batch))
            except InDoubtError as doubt:
                reason = self.address.hide(" ".join(str(doubt.__cause__).split()))
                _log.warning("checking whether a change was committed that the database did not confirm: %s", reason)
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
                        f"Whether the last change was written is not known. {error} The ledger is right either way."
                    ) from error
                await asyncio.sleep(_RETRY_PAUSE_SECONDS)


def _prepare(address: PostgresAddress) -> None:
    try:
        connection = PostgresConnection.open(address)
    except psycopg.Error as error:
        raise unreachable(address, error) from error
    try:
        require_sessions(connection, address)
        schema.require_writable(connection, address)
        schema.prepare(connection, address)
    except psycopg.errors.InsufficientPrivilege as error:
        raise schema.no_rights(address, error) from error
    except psycopg.Error as error:
        raise StoreError(f"The database {address} cannot be opened: {translated_error(error, address)}") from error
    finally:
        connection.close()


def _read(work: Callable[[Connection], T], connection: PostgresConnection) -> T:
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return work(connection)
    finally:
        connection.rollback()
