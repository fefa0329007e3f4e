"""SqliteDatabase: one open file, one connection that writes and one that reads, each in its own thread.

All writing goes through one connection, because tasks that share a connection share its transaction. A caller hands
over its whole transaction as a function and waits; cancelling the caller can therefore never leave a transaction open.
What waits while a thread works is handed to it together: a visit to a thread costs more than most transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Self, TypeVar, cast

import aiosqlite

from bot.domain.errors import DatabaseBusy, LedgerError, StoreError
from bot.store.core.connection import Work
from bot.store.core.ledger_guard import GUARD_TIMEOUT_SECONDS, UNFINISHED, check_ledger
from bot.store.core.transaction_queue import (
    PendingTransaction,
    Priority,
    TransactionQueue,
    TransactionResult,
    in_savepoint,
)
from bot.store.sqlite import backup, schema
from bot.store.sqlite.connection import SqliteConnection, connect
from bot.store.sqlite.file_lock import ProcessLock, replace_durably

T = TypeVar("T")

_log = logging.getLogger(__name__)

MAX_BATCHES_PER_TURN = 16
"""Most batches in a row before a thread is free for other work, such as emptying the write-ahead log."""

READ_BATCH_SECONDS = 0.002
"""How long reads of one batch go on before the callers of those that are done get their results."""

_BUSY_TIMEOUT = "PRAGMA busy_timeout = 5000"
_OPCODES_BETWEEN_LOOKS = 100_000
"""Steps of SQLite's machine, a few milliseconds, between two looks at the clock."""

_PRAGMAS: dict[str, tuple[str, str | int]] = {
    # What is set, and what has to be read back: SQLite ignores a pragma that it does not know or cannot set.
    "journal_mode": ("WAL", "wal"),
    "synchronous": ("FULL", 2),
    "foreign_keys": ("ON", 1),
    "recursive_triggers": ("ON", 1),  # or INSERT OR REPLACE deletes a row without the trigger that forbids it
    "ignore_check_constraints": ("OFF", 0),
    "busy_timeout": ("5000", 5000),
    "trusted_schema": ("OFF", 0),
    "secure_delete": ("ON", 1),  # deleted data is overwritten in the file, not only unlisted
    "journal_size_limit": ("67108864", 67108864),
    "cache_size": ("-3072", -3072),  # KiB for each connection: the upper pages of every index; the kernel has the rest
}
_PRAGMAS_OF_READER = {**_PRAGMAS, "query_only": ("ON", 1)}


class ThreadConnection(aiosqlite.Connection):
    """A connection that runs a whole function on its own thread: one hop for a transaction, not one per statement."""

    async def run(self, work: Callable[[SqliteConnection], T]) -> T:
        # `_execute` is aiosqlite's own way to its thread (guarded by a test).
        return cast(T, await self._execute(work, self._conn))  # pyright: ignore[reportUnknownMemberType]


class SqliteDatabase:
    """Open with `await SqliteDatabase.open(path)`; close with `await database.close()`."""

    is_shared = False
    """This process is the only one that uses the file."""

    def __init__(self, path: Path, lock: ProcessLock, writer: ThreadConnection, reader: ThreadConnection) -> None:
        self.path = path
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._writes = TransactionQueue()
        self._reads = TransactionQueue()
        self._tasks = (
            asyncio.create_task(_run_batches(writer, self._writes, commit_batch), name="database writer"),
            asyncio.create_task(_run_batches(reader, self._reads, read_batch), name="database reader"),
        )

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open the file, or create it where there is none, and bring it to the newest version.

        Raises DatabaseBusy, or DatabaseUnusable when the file is damaged, newer or not ours, or StoreError.
        """
        try:
            lock = ProcessLock(path)
        except OSError as error:
            raise StoreError(f"The database {path} cannot be opened: {error.strerror}.") from error
        try:
            await asyncio.to_thread(_prepare, path)
            writer = await _connect(path, _PRAGMAS)
            try:
                reader = await _connect(path, _PRAGMAS_OF_READER)
            except BaseException:
                await writer.close()
                raise
        except (sqlite3.Error, OSError) as error:
            lock.release()
            raise StoreError(f"The database {path} cannot be opened: {error}.") from error
        except BaseException:
            lock.release()
            raise
        return cls(path, lock, writer, reader)

    @property
    def missing_connections(self) -> int:
        """Return 0: a file has no limit of connections."""
        return 0

    async def lock_exclusively(self) -> None:
        """Do nothing: the process that has the file open is the only one."""

    async def lock_shared(self) -> None:
        """Raise DatabaseBusy: a file has one process."""
        raise DatabaseBusy(f"The database {self.path} is a file, and a file has one process.")

    async def write(self, work: Callable[[SqliteConnection], T], priority: Priority = Priority.NORMAL) -> T:
        """Run `work` as one transaction: all of it is on disk when this returns, or nothing when it raises.

        `work` may be run up to three times, when another one of its batch undid their transaction, so it must do
        nothing but SQL. What it raises comes back to this caller alone; SQLite's own errors arrive as StoreError.
        """
        return await self._writes.run(cast("Work", work), priority)

    async def read(self, work: Callable[[SqliteConnection], T]) -> T:
        """Run `work` on the reading connection, all of it on one consistent snapshot, which has all earlier writes."""
        return await self._reads.run(cast("Work", work))

    async def overwrite_forgotten(self) -> None:
        """Empty the write-ahead log, which still holds deleted data; not while another connection reads."""
        with contextlib.suppress(sqlite3.Error):  # the data is deleted all the same, and this is repeated in an hour
            await self._writer.run(_empty_log)

    async def backup_to(self, target: Path) -> None:
        """Write a consistent copy of everything committed so far, without stopping writes. Replaces `target`."""
        await asyncio.to_thread(backup.copy_database, self.path, target)

    async def close(self) -> None:
        """Finish what is waiting, then close. Safe to call twice."""
        if self._writes.is_closed:
            return
        self._writes.close()
        self._reads.close()
        await asyncio.wait(self._tasks)
        await self._reader.close()
        await self._writer.close()  # last, so that it folds the write-ahead log back into the file
        self._lock.release()


RunBatch = Callable[[SqliteConnection, Sequence[Work]], list[TransactionResult]]
"""Runs a batch, or the first part of it, and returns one result for each transaction that it ran."""


async def _run_batches(connection: ThreadConnection, queue: TransactionQueue, run: RunBatch) -> None:
    """Hand the thread of a connection what waits in the queue, until that is closed and empty."""
    loop = asyncio.get_running_loop()
    while (batch := await queue.next_batch()) is not None:
        try:
            await connection.run(partial(_run_in_a_row, batch=batch, queue=queue, run=run, loop=loop))
        except Exception as error:
            # Its connection is gone, or this module has a defect. Every caller has to be answered, also later ones.
            _log.exception("a thread of the database failed")
            failed = StoreError(f"The database did not do what was asked: {error}.")
            failed.__cause__ = error
            _resolve(batch, [TransactionResult(error=failed)] * len(batch))


def _run_in_a_row(
    connection: SqliteConnection,
    *,
    batch: list[PendingTransaction],
    queue: TransactionQueue,
    run: RunBatch,
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Run a batch on its thread, and what arrived meanwhile: a busy event loop delays the results alone."""
    batches = 0
    while batch:
        results = _results(connection, batch, run)
        loop.call_soon_threadsafe(_resolve, batch[: len(results)], results)
        batch = batch[len(results) :]
        if not batch and (batches := batches + 1) < MAX_BATCHES_PER_TURN:
            batch = queue.pop_batch(loop.time())


def _results(
    connection: SqliteConnection, batch: Sequence[PendingTransaction], run: RunBatch
) -> Sequence[TransactionResult]:
    try:
        return run(connection, [pending.work for pending in batch])
    except Exception as error:
        # A defect of ours, not of one caller's work; the callers must get an answer.
        return [TransactionResult(error=error)] * len(batch)


def _resolve(batch: Sequence[PendingTransaction], results: Sequence[TransactionResult]) -> None:
    for pending, result in zip(batch, results, strict=True):
        pending.resolve(_translated_result(result))


def commit_batch(connection: SqliteConnection, batch: Sequence[Work]) -> list[TransactionResult]:
    """Run every work of the batch and commit them together. Returns one result each; leaves no transaction open.

    An error undoes only the work that raised it. Savepoints ensure that, but are a third of all statements, each of
    which has to get the interpreter back from the event loop. So the batch is run without them first, and again with
    them only when a work has raised after it wrote something. An error that makes SQLite give up the whole transaction
    (a full disk does) must not fail the rest of the batch: then each work is run again in a transaction of its own.
    When BEGIN or COMMIT fails nothing was written, and all of them get that error.
    """
    if len(batch) > 1:
        for run in (_run_bare, in_savepoint):
            with contextlib.suppress(_TransactionLostError):
                return _commit_together(connection, batch, run)
    return [_commit_alone(connection, work) for work in batch]


class _TransactionLostError(Exception):
    """The error of one work undoes the transaction that it shares with others."""


def _commit_together(
    connection: SqliteConnection, batch: Sequence[Work], run: Callable[[SqliteConnection, Work], TransactionResult]
) -> list[TransactionResult]:
    """Commit all of the batch. Raises _TransactionLostError, and has written nothing then."""
    results: list[TransactionResult] = []
    try:
        _rollback(connection)
        connection.execute("BEGIN IMMEDIATE")
        for work in batch:
            results.append(run(connection, work))
            if not connection.in_transaction:
                raise _TransactionLostError
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        return [TransactionResult(error=error)] * len(batch)
    finally:
        _rollback(connection)
    return results


def _run_bare(connection: SqliteConnection, work: Work) -> TransactionResult:
    changes = connection.total_changes
    try:
        return TransactionResult(value=work(connection))
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        if connection.total_changes != changes:
            raise _TransactionLostError from error
        return TransactionResult(error=error)


def _commit_alone(connection: SqliteConnection, work: Work) -> TransactionResult:
    try:
        _rollback(connection)
        connection.execute("BEGIN IMMEDIATE")
        value = work(connection)
        connection.execute("COMMIT")
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        return TransactionResult(error=error)
    finally:
        _rollback(connection)
    return TransactionResult(value=value)


def _rollback(connection: SqliteConnection) -> None:
    # A disk that just failed may fail this too; the next transaction tries again before it begins.
    with contextlib.suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _empty_log(connection: SqliteConnection) -> None:
    # This waits for readers, and a backup may read for minutes: the next try is an hour away, an order is not.
    connection.execute("PRAGMA busy_timeout = 100")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(_BUSY_TIMEOUT)


def _translated_result(result: TransactionResult) -> TransactionResult:
    if not isinstance(result.error, sqlite3.Error):
        return result
    error = _translated(result.error)
    error.__cause__ = result.error
    return TransactionResult(error=error)


def _translated(error: sqlite3.Error) -> StoreError:
    if isinstance(error, sqlite3.IntegrityError):  # the schema refused it, and will again
        return LedgerError(f"The database refused what was asked: {error}.")
    return StoreError(f"The database did not do what was asked: {error}.")


def read_batch(connection: SqliteConnection, batch: Sequence[Work]) -> list[TransactionResult]:
    """Run reads on one snapshot, at least one and no more once READ_BATCH_SECONDS have passed. Returns one result each.

    An error belongs to the work that raised it. After one, the next read gets a snapshot of its own.
    """
    ends_at = time.monotonic() + READ_BATCH_SECONDS
    results: list[TransactionResult] = []
    if connection.in_transaction:  # a disk that failed at the end of the last reading must not stop the next
        connection.execute("ROLLBACK")
    try:
        for work in batch:
            results.append(_read(connection, work))
            if time.monotonic() >= ends_at:
                break
    finally:
        _rollback(connection)
    return results


def _read(connection: SqliteConnection, work: Work) -> TransactionResult:
    try:
        if not connection.in_transaction:
            connection.execute("BEGIN")
        return TransactionResult(value=work(connection))
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        _rollback(connection)
        return TransactionResult(error=error)


async def _connect(path: Path, pragmas: Mapping[str, tuple[str, str | int]]) -> ThreadConnection:
    connection = ThreadConnection(partial(connect, path), iter_chunk_size=64)
    await connection
    try:
        await connection.run(partial(_configure, pragmas=pragmas))
    except BaseException:
        await connection.close()
        raise
    return connection


def _configure(connection: SqliteConnection, *, pragmas: Mapping[str, tuple[str, str | int]]) -> None:
    """Set the pragmas and read them back. Raises StoreError when one of them is not in force."""
    for name, (setting, _) in pragmas.items():
        connection.execute(f"PRAGMA {name} = {setting}").fetchall()
    for name, (setting, expected) in pragmas.items():
        found = connection.execute(f"PRAGMA {name}").fetchone()
        if found is None or found[0] != expected:
            raise StoreError(
                f"This SQLite ({sqlite3.sqlite_version}) does not take the setting {name} = {setting}, without which "
                f"the ledger is not safe. Use a newer SQLite, or a local disk for the database."
            )


def _prepare(path: Path) -> None:
    """Make sure that a sound file of the newest version lies at `path`."""
    if not path.exists():
        _create(path)
        return
    schema.check_header(path)
    connection = connect(path)
    try:
        schema.check_ours(connection, path)
        schema.check_sound(connection, path, thoroughly=False)
        if schema.version_of(connection) < schema.newest_version():
            backup.copy_database(path, Path(f"{path}.before-{schema.newest_version()}.bak"))
            schema.migrate(connection, str(path))
        else:
            _check_ledger(connection, path)
        schema.check_complete(connection, path)
    except sqlite3.DatabaseError as error:
        if not schema.is_damage(error):
            raise
        raise schema.unusable(path, f"is damaged ({error})") from error
    finally:
        connection.close()


def _check_ledger(connection: SqliteConnection, path: Path) -> None:
    """Raise LedgerTampered when the ledger does not balance; give up, with a warning, when that takes long."""
    ends_at = time.monotonic() + GUARD_TIMEOUT_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > ends_at, _OPCODES_BETWEEN_LOOKS)
    try:
        check_ledger(connection, str(path))
    except sqlite3.OperationalError as error:
        # Errors that the driver itself finds have no code.
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        _log.warning(UNFINISHED, GUARD_TIMEOUT_SECONDS)
    finally:
        connection.set_progress_handler(None, 0)


def _create(path: Path) -> None:
    """Make a new file under another name and move it here when it is whole: an empty file is always a damaged one."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise schema.unusable(path, "is missing, but its -wal file is there, so there was a database")
    unfinished = Path(f"{path}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # tokens and prompts are private
    connection = connect(unfinished)
    try:
        schema.migrate(connection)
    finally:
        connection.close()
    replace_durably(unfinished, path)
