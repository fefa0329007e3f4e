"""The writer on PostgreSQL: commits batches of transactions, one writer at a time over all processes, each batch once.

Each batch begins by taking one advisory lock for the whole database, as SQLite's BEGIN IMMEDIATE does. So no process
writes between what a transaction reads and what it writes, and the ids of ledger entries are in the order of their
commits.

Each batch also stores its number in the row of its process in `writers`. When the connection breaks during COMMIT, that
row tells whether the batch was committed. It is read under the same lock, which the old transaction would still hold if
it had not ended. It counts as committed when a later change was, so that the stand-bys that the server waits for have
it: what follows, such as an order at a provider, cannot be undone when one of them takes over.

The connection also holds the lock that says whether one bot runs the jobs or several processes with roles. A server
that was restarted, or took over from another, knows nothing of it, so each new connection takes it before it writes.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import psycopg

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseBusy, StoreError
from bot.store.core.columns import SERVER_NOW
from bot.store.core.connection import Work
from bot.store.core.transaction_queue import TransactionResult, in_savepoint
from bot.store.postgres.connection import NotReplicatedError, PostgresConnection, translated_error
from bot.store.postgres.pool import ConnectionThread
from bot.store.postgres.schema import BOT_LOCK, WRITE_LOCK

_TAKE_LOCK = f"SELECT pg_advisory_xact_lock({WRITE_LOCK[0]}, {WRITE_LOCK[1]})"
_STORE_BATCH_NUMBER = """
INSERT INTO writers (id, group_number, seen_at) VALUES ({row})
ON CONFLICT (id) DO UPDATE SET group_number = excluded.group_number, seen_at = excluded.seen_at
"""
_BATCH_NUMBER = "SELECT group_number FROM writers WHERE id = ?"
_TOUCH = "UPDATE writers SET seen_at = seen_at WHERE id = ?"
_MAX_ATTEMPTS = 3
_BOT_LOCK_TIMEOUT_SECONDS = 2.0
"""The server takes a moment to notice that a bot has ended; the bot that is started next waits for that."""

_BOT_LOCK_PAUSE_SECONDS = 0.2
_MAX_BATCH_SECONDS = 0.5
"""Time after which a batch is committed as far as it is: until then, no other process writes."""


class InDoubtError(Exception):
    """The connection broke during COMMIT, or the server stopped waiting for its stand-bys.

    `PostgresWriter.has_committed` tells whether the batch was written.
    """

    def __init__(self, results: list[TransactionResult]) -> None:
        super().__init__("COMMIT did not end as it should")
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
        self._is_alone: bool | None = None
        """Whether this bot has to be alone; None while it asked for no lock."""
        self._locked_connection: PostgresConnection | None = None

    def take_bot_lock(self, *, is_alone: bool) -> None:
        """Take the lock of a bot that has to be alone, or of one of several processes. Raises DatabaseBusy, StoreError.

        It is taken again on every later connection, and nothing is written while another process keeps it.
        """
        self._is_alone = is_alone
        try:
            self.renew_bot_lock()
        except StoreError:
            self._is_alone = None
            raise

    def renew_bot_lock(self) -> None:
        """Take the lock again if its connection is gone. Raises DatabaseBusy, StoreError."""
        connection = self._thread.connection()
        try:
            connection.execute("SELECT 1")
            self._hold_bot_lock(connection)
        except psycopg.Error as error:
            self._thread.drop()
            raise translated_error(error, self._thread.address) from error

    def commit(self, batch: Sequence[Work]) -> list[TransactionResult]:
        """Run the works of the batch and commit them together. Return one result each; leave no transaction open.

        The results are of the first works alone where the server is slow or far away: the caller commits the others in
        a later batch, and other processes take their turn first.

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
                return [TransactionResult(error=unreachable)] * len(batch)
        raise AssertionError("the last attempt returns")

    def has_committed(self) -> bool:
        """Return whether the last batch was committed, also on a stand-by if the server has to wait for one.

        Raises StoreError while that is not known.
        """
        connection = self._thread.connection()
        try:
            connection.execute(f"BEGIN; {_TAKE_LOCK}")  # granted only when the transaction in doubt has ended
            row = connection.execute(_BATCH_NUMBER, (self._id,)).fetchone()
            if row is None or row["group_number"] != self._batch_number:
                connection.execute("ROLLBACK")
                return False
            # When this later change is on the stand-by, so is the one in doubt.
            connection.execute(_TOUCH, (self._id,))
            connection.commit()
        except NotReplicatedError as error:
            raise StoreError(f"The database {self._thread.address} has no stand-by that takes its changes.") from error
        except psycopg.Error as error:
            self._thread.drop()
            raise translated_error(error, self._thread.address) from error
        return True

    def delete_own_row(self) -> None:
        """Delete the row of this process. Call it last, when no batch is in doubt."""
        try:
            self._thread.connection().execute("DELETE FROM writers WHERE id = ?", (self._id,))
        except (psycopg.Error, StoreError):
            self._thread.drop()  # a row that stays does no harm and is deleted a month later

    def _commit_once(self, batch: Sequence[Work]) -> list[TransactionResult]:
        connection = self._thread.connection()
        self._batch_number += 1
        try:
            self._hold_bot_lock(connection)
            self._begin(connection)
            results = _run_in_time(connection, batch)
        except psycopg.Error as error:
            return self._fail(connection, batch, error)
        for result in results:
            if isinstance(result.error, psycopg.Error) and connection.is_broken_by(result.error):
                self._thread.drop()
                raise _LostError(result.error)
        if not connection.in_transaction:  # the only work of the batch failed
            return self._translated(results)
        return self._end(connection, batch, results)

    def _hold_bot_lock(self, connection: PostgresConnection) -> None:
        """Take the lock on a connection that does not have it yet. Raises DatabaseBusy, psycopg.Error."""
        if self._is_alone is None or connection is self._locked_connection:
            return
        first, second = BOT_LOCK
        function = "pg_try_advisory_lock" if self._is_alone else "pg_try_advisory_lock_shared"
        deadline = time.monotonic() + _BOT_LOCK_TIMEOUT_SECONDS
        while not connection.execute(f"SELECT {function}({first}, {second})").fetchone()[0]:
            if time.monotonic() >= deadline:
                raise self._busy()
            time.sleep(_BOT_LOCK_PAUSE_SECONDS)
        self._locked_connection = connection

    def _busy(self) -> DatabaseBusy:
        address = self._thread.address
        if self._is_alone:
            return DatabaseBusy(f"Another bot works with the database {address}. Stop it first.")
        return DatabaseBusy(
            f"A bot without a --role works with the database {address}, and it has to be alone. Stop it first."
        )

    def _begin(self, connection: PostgresConnection) -> None:
        row = f"'{self._id}', {self._batch_number}, {SERVER_NOW}"
        # Several statements in one round trip take no parameters; the values are our own text and numbers.
        connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; {_TAKE_LOCK}; {_STORE_BATCH_NUMBER.format(row=row)}")

    def _end(
        self, connection: PostgresConnection, batch: Sequence[Work], results: list[TransactionResult]
    ) -> list[TransactionResult]:
        try:
            is_committed = connection.commit()
        except NotReplicatedError as error:
            raise InDoubtError(self._translated(results)) from error
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                self._thread.drop()
                raise InDoubtError(self._translated(results)) from error
            return self._fail(connection, batch, error)
        if not is_committed:
            error = StoreError("The database did not do what was asked: it undid the transaction.")
            return [TransactionResult(error=error)] * len(batch)
        return self._translated(results)

    def _fail(
        self, connection: PostgresConnection, batch: Sequence[Work], error: psycopg.Error
    ) -> list[TransactionResult]:
        """Handle an error before COMMIT, after which the batch is not written.

        Reconnect on ReadOnlySqlTransaction: the server was demoted to a standby, and the address may lead to another.
        """
        if connection.is_broken_by(error) or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._thread.drop()
            raise _LostError(error) from error
        connection.rollback()
        return [_failed(error, self._thread.address)] * len(batch)

    def _translated(self, results: list[TransactionResult]) -> list[TransactionResult]:
        return [
            _failed(result.error, self._thread.address) if isinstance(result.error, psycopg.Error) else result
            for result in results
        ]


def _run_in_time(connection: PostgresConnection, batch: Sequence[Work]) -> list[TransactionResult]:
    results: list[TransactionResult] = []
    ends_at = time.monotonic() + _MAX_BATCH_SECONDS
    for work in batch:
        results.append(_run(connection, work, alone=len(batch) == 1))
        if time.monotonic() >= ends_at:
            break
    return results


def _run(connection: PostgresConnection, work: Work, *, alone: bool) -> TransactionResult:
    if not alone:
        return in_savepoint(connection, work)
    try:
        return TransactionResult(value=work(connection))
    except Exception as error:  # returned to the caller who asked for this work
        connection.rollback()
        return TransactionResult(error=error)


def _failed(error: psycopg.Error, address: PostgresAddress) -> TransactionResult:
    translated = translated_error(error, address)
    translated.__cause__ = error
    return TransactionResult(error=translated)
