"""Database: one open SQLite file, one connection that writes and one that reads, each in its own thread.

All writing goes through one connection, because tasks that share a connection share its transaction. A caller hands
over its whole transaction as a function and waits; cancelling the caller can therefore never leave a transaction open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import aiosqlite

from bot.errors import LedgerError, StoreError
from bot.store import backup, schema
from bot.store.file import ProcessLock, connect, replace_durably
from bot.store.group import Outcome, Work, commit_group

T = TypeVar("T")

_GROUP_SIZE = 64
"""How many transactions share a commit at most: enough to hide the sync to disk, few enough that nobody waits long."""

_BUSY_TIMEOUT = "PRAGMA busy_timeout = 5000"
_PRAGMAS = (
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    _BUSY_TIMEOUT,
    "PRAGMA trusted_schema = OFF",
    "PRAGMA secure_delete = ON",  # what is forgotten is overwritten in the file, not only unlisted
    "PRAGMA journal_size_limit = 67108864",
    "PRAGMA cache_size = -16384",
)


class Connection(aiosqlite.Connection):
    """A connection that runs a whole function on its own thread: one hop for a transaction, not one per statement."""

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        # `_execute` is aiosqlite's own way to its thread (guarded by a test).
        return cast(T, await self._execute(work, self._conn))  # pyright: ignore[reportUnknownMemberType]


class Database:
    """Open with `await Database.open(path)`; close with `await database.close()`."""

    def __init__(self, path: Path, lock: ProcessLock, writer: Connection, reader: Connection) -> None:
        self.path = path
        self._lock = lock
        self._writer = writer
        self._reader = reader
        self._waiting: asyncio.Queue[tuple[Work, asyncio.Future[Any]] | None] = asyncio.Queue()
        self._closing = False
        self._writing = asyncio.create_task(self._write_groups(), name="database writer")

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
                reader = await _connect(path, (*_PRAGMAS[1:], "PRAGMA query_only = ON"))
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

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` as one transaction: all of it is on disk when this returns, or nothing when it raises.

        `work` may be run a second time when its first transaction was lost, so it must do nothing but SQL. What it
        raises comes back to this caller alone; SQLite's own errors arrive as StoreError.
        """
        if self._closing:
            raise StoreError("The database is closed.")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((work, answer))
        return await answer

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the reading connection, all of it on one consistent picture of the file."""
        if self._closing:
            raise StoreError("The database is closed.")
        try:
            return await self._reader.run(partial(_read_once, work=work))
        except sqlite3.Error as error:
            raise _translated(error) from error

    async def overwrite_forgotten(self) -> None:
        """Empty the write-ahead log, where what was forgotten still stands; not now if somebody is reading."""
        with contextlib.suppress(sqlite3.Error):  # it is forgotten all the same, and an hour later this comes again
            await self._writer.run(_empty_log)

    async def backup_to(self, target: Path) -> None:
        """A consistent copy of everything committed so far, made while the work goes on. Replaces `target`."""
        await asyncio.to_thread(backup.copy_database, self.path, target)

    async def close(self) -> None:
        """Finish what is waiting, then close. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        self._waiting.put_nowait(None)
        await asyncio.wait([self._writing])
        await self._reader.close()
        await self._writer.close()  # last, so that it folds the write-ahead log back into the file
        self._lock.release()

    async def _write_groups(self) -> None:
        while (waiting := await self._next_group()) is not None:
            group = [(work, answer) for work, answer in waiting if not answer.done()]  # done: its caller was cancelled
            if not group:
                continue
            try:
                outcomes = await self._writer.run(partial(commit_group, group=[work for work, _ in group]))
            except Exception as error:
                # A defect of ours, not of one caller's work; the callers must not wait for ever.
                outcomes = [Outcome(error=error)] * len(group)
            for (_, answer), outcome in zip(group, outcomes, strict=True):
                _resolve(answer, outcome)

    async def _next_group(self) -> list[tuple[Work, asyncio.Future[Any]]] | None:
        """At least one waiting transaction, and those that wait behind it; None at the end."""
        group: list[tuple[Work, asyncio.Future[Any]]] = []
        while not group or (not self._waiting.empty() and len(group) < _GROUP_SIZE):
            waiting = await self._waiting.get()
            if waiting is None:
                if not group:
                    return None
                self._waiting.put_nowait(None)
                break
            group.append(waiting)
        return group


def _empty_log(connection: sqlite3.Connection) -> None:
    # This waits for readers, and a backup may read for minutes: the next try is an hour away, an order is not.
    connection.execute("PRAGMA busy_timeout = 100")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(_BUSY_TIMEOUT)


def _resolve(answer: asyncio.Future[Any], outcome: Outcome) -> None:
    if answer.done():
        return
    if isinstance(outcome.error, sqlite3.Error):
        error = _translated(outcome.error)
        error.__cause__ = outcome.error
        answer.set_exception(error)
    elif outcome.error is not None:
        answer.set_exception(outcome.error)
    else:
        answer.set_result(outcome.value)


def _translated(error: sqlite3.Error) -> StoreError:
    if isinstance(error, sqlite3.IntegrityError):  # the schema refused it, and will again
        return LedgerError(f"The database refused what was asked: {error}.")
    return StoreError(f"The database did not do what was asked: {error}.")


def _read_once(connection: sqlite3.Connection, *, work: Callable[[sqlite3.Connection], T]) -> T:
    if connection.in_transaction:  # a disk that failed at the end of the last reading must not stop the next
        connection.execute("ROLLBACK")
    connection.execute("BEGIN")
    try:
        return work(connection)
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


async def _connect(path: Path, pragmas: tuple[str, ...]) -> Connection:
    connection = Connection(partial(connect, path), iter_chunk_size=64)
    await connection
    try:
        await connection.run(lambda raw: [raw.execute(pragma).fetchall() for pragma in pragmas])
    except BaseException:
        await connection.close()
        raise
    return connection


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
            schema.migrate(connection)
        schema.check_complete(connection, path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):  # locked, full, unreadable: not the file's fault
            raise
        raise schema.unusable(path, f"is damaged ({error})") from error
    finally:
        connection.close()


def _create(path: Path) -> None:
    """Make a new file under another name and move it here when it is whole: an empty file is always a damaged one."""
    log = Path(f"{path}-wal")
    if log.exists() and log.stat().st_size > 0:
        raise schema.unusable(path, "is missing, but its -wal file is there, so there were books")
    unfinished = Path(f"{path}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # tokens and prompts are nobody else's
    connection = connect(unfinished)
    try:
        schema.migrate(connection)
    finally:
        connection.close()
    replace_durably(unfinished, path)
