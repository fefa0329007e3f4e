"""The writer on PostgreSQL: commits batches of transactions, one writer at a time over all processes, each batch once.

Each batch begins by taking one advisory lock for the whole database, as SQLite's BEGIN IMMEDIATE does. So no process
writes between what a transaction reads and what it writes, and the ids of ledger entries are in the order of their
commits.

Each batch also stores its number in the row of its process in `writers`. When the connection breaks during COMMIT, that
row tells whether the batch was committed. It is read under the same lock, which the old transaction would still hold if
it had not ended.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import psycopg

from bot.domain.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.core.connection import Work
from bot.store.core.write_queue import WriteResult, in_savepoint
from bot.store.postgres.connection import PostgresConnection, translated_error
from bot.store.postgres.pool import ConnectionThread
from bot.store.postgres.schema import WRITE_LOCK

_TAKE_LOCK = f"SELECT pg_advisory_xact_lock({WRITE_LOCK[0]}, {WRITE_LOCK[1]})"
_STORE_BATCH_NUMBER = """
INSERT INTO writers (id, group_number, seen_at) VALUES ({row})
ON CONFLICT (id) DO UPDATE SET group_number = excluded.group_number, seen_at = excluded.seen_at
"""
_BATCH_NUMBER = "SELECT group_number FROM writers WHERE id = ?"
_MAX_ATTEMPTS = 3


class InDoubtError(Exception):
    """The connection broke during COMMIT. `PostgresWriter.has_committed` tells whether the batch was written."""

    def __init__(self, results: list[WriteResult]) -> None:
        super().__init__("the connection broke during COMMIT")
        self.results = results


class _LostError(Exception):
    """The connection broke before COMMIT was sent, so the batch was certainly not written."""

    def __init__(self, cause: psycopg.Error) -> None:
        super().__init__(str(cause))
        self.cause = cause


class PostgresWriter:
    """Commits batches on one connection. Every method runs on the thread of that connection."""

    def __init__(self, thread: ConnectionThread) -> None:
        self._thread = thread
        self._id = secrets.token_hex(8)
        self._batch_number = 0

    def commit(self, batch: Sequence[Work]) -> list[WriteResult]:
        """Run every work of the batch and commit them together. Return one result each; leave no transaction open.

        An error undoes only the work that raised it. A batch whose connection broke before COMMIT was sent is run
        again on a new one. Raises InDoubtError.
        """
        for attempt in range(1, _MAX_ATTEMPTS + 1):
            try:
                return self._commit_once(batch)
            except _LostError as lost:
                if attempt == _MAX_ATTEMPTS:
                    return [_failed(lost.cause, self._thread.address)] * len(batch)
            except StoreError as unreachable:
                return [WriteResult(error=unreachable)] * len(batch)
        raise AssertionError("the last attempt returns")

    def has_committed(self) -> bool:
        """Return whether the last batch was committed. Raises StoreError while the server cannot be asked."""
        connection = self._thread.connection()
        try:
            connection.execute(f"BEGIN; {_TAKE_LOCK}")  # granted only when the transaction in doubt has ended
            row = connection.execute(_BATCH_NUMBER, (self._id,)).fetchone()
            connection.execute("ROLLBACK")
        except psycopg.Error as error:
            self._thread.drop()
            raise translated_error(error, self._thread.address) from error
        return row is not None and row["group_number"] == self._batch_number

    def delete_own_row(self) -> None:
        """Delete the row of this process. Call it last, when no batch is in doubt."""
        try:
            self._thread.connection().execute("DELETE FROM writers WHERE id = ?", (self._id,))
        except (psycopg.Error, StoreError):
            self._thread.drop()  # a row that stays does no harm and is deleted a month later

    def _commit_once(self, batch: Sequence[Work]) -> list[WriteResult]:
        connection = self._thread.connection()
        self._batch_number += 1
        try:
            self._begin(connection)
            results = [_run(connection, work, alone=len(batch) == 1) for work in batch]
        except psycopg.Error as error:
            return self._fail(connection, batch, error)
        for result in results:
            if isinstance(result.error, psycopg.Error) and connection.is_broken_by(result.error):
                self._thread.drop()
                raise _LostError(result.error)
        if not connection.in_transaction:  # the only work of the batch failed
            return self._translated(results)
        return self._end(connection, batch, results)

    def _begin(self, connection: PostgresConnection) -> None:
        row = f"'{self._id}', {self._batch_number}, {time.time_ns() // 1_000}"
        # Several statements in one round trip take no parameters; the values are our own hexadecimal text and numbers.
        connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; {_TAKE_LOCK}; {_STORE_BATCH_NUMBER.format(row=row)}")

    def _end(
        self, connection: PostgresConnection, batch: Sequence[Work], results: list[WriteResult]
    ) -> list[WriteResult]:
        try:
            status = connection.raw.execute(b"COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                self._thread.drop()
                raise InDoubtError(self._translated(results)) from error
            return self._fail(connection, batch, error)
        if status != "COMMIT":  # the server rolled back instead; only the status tells
            error = StoreError("The database did not do what was asked: it undid the transaction.")
            return [WriteResult(error=error)] * len(batch)
        return self._translated(results)

    def _fail(self, connection: PostgresConnection, batch: Sequence[Work], error: psycopg.Error) -> list[WriteResult]:
        """Handle an error before COMMIT, after which the batch is not written.

        Reconnect on ReadOnlySqlTransaction: the server was demoted to a standby, and the address may lead to another.
        """
        if connection.is_broken_by(error) or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._thread.drop()
            raise _LostError(error) from error
        connection.rollback()
        return [_failed(error, self._thread.address)] * len(batch)

    def _translated(self, results: list[WriteResult]) -> list[WriteResult]:
        return [
            _failed(result.error, self._thread.address) if isinstance(result.error, psycopg.Error) else result
            for result in results
        ]


def _run(connection: PostgresConnection, work: Work, *, alone: bool) -> WriteResult:
    if not alone:
        return in_savepoint(connection, work)
    try:
        return WriteResult(value=work(connection))
    except Exception as error:  # returned to the caller who asked for this work
        connection.rollback()
        return WriteResult(error=error)


def _failed(error: psycopg.Error, address: PostgresAddress) -> WriteResult:
    translated = translated_error(error, address)
    translated.__cause__ = error
    return WriteResult(error=translated)
