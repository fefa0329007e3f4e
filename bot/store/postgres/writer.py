"""The writer on PostgreSQL: groups of transactions, one writer at a time over all processes, and never one twice.

Each group begins by taking one lock for the whole database, as SQLite's BEGIN IMMEDIATE does. So nothing is written
between what a transaction reads and what it writes, whichever process it comes from, and the numbers of the ledger's
entries are in the order of their commits.

Each group also leaves its number in the row of its process. When the connection breaks while COMMIT is under way, that
row tells whether it took place: it is read under the same lock, which a transaction that still lived would hold.
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
from bot.store.postgres.pool import ThreadSession
from bot.store.postgres.schema import WRITE_LOCK

_LOCK = f"SELECT pg_advisory_xact_lock({WRITE_LOCK[0]}, {WRITE_LOCK[1]})"
_LEAVE_NUMBER = """
INSERT INTO writers (id, group_number, seen_at) VALUES ({row})
ON CONFLICT (id) DO UPDATE SET group_number = excluded.group_number, seen_at = excluded.seen_at
"""
_NUMBER = "SELECT group_number FROM writers WHERE id = ?"
_ATTEMPTS = 3


class InDoubtError(Exception):
    """The connection broke during COMMIT: whether it took place is to be asked with `Writer.has_committed`."""

    def __init__(self, outcomes: list[WriteResult]) -> None:
        super().__init__("the connection broke during COMMIT")
        self.outcomes = outcomes


class _LostError(Exception):
    """The connection broke before COMMIT was sent: certainly nothing was written."""

    def __init__(self, why: psycopg.Error) -> None:
        super().__init__(str(why))
        self.why = why


class PostgresWriter:
    """Used on the session's thread alone."""

    def __init__(self, session: ThreadSession) -> None:
        self._session = session
        self._id = secrets.token_hex(8)
        self._number = 0

    def commit(self, group: Sequence[Work]) -> list[WriteResult]:
        """Run every work of the group and commit them together. Returns one outcome each; leaves no transaction open.

        An error undoes only the work that raised it. A group whose connection broke before COMMIT was sent is run
        again on a new one. Raises InDoubtError.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._commit_once(group)
            except _LostError as lost:
                if attempt == _ATTEMPTS:
                    return [_failed(lost.why, self._session.address)] * len(group)
            except StoreError as unreachable:
                return [WriteResult(error=unreachable)] * len(group)
        raise AssertionError("the last attempt returns")

    def has_committed(self) -> bool:
        """Whether the last group was committed, now that it can be asked. Raises StoreError when it cannot be yet."""
        connection = self._session.connection()
        try:
            connection.execute(f"BEGIN; {_LOCK}")  # whoever has it knows that the other transaction has ended
            row = connection.execute(_NUMBER, (self._id,)).fetchone()
            connection.execute("ROLLBACK")
        except psycopg.Error as error:
            self._session.drop()
            raise translated_error(error, self._session.address) from error
        return row is not None and row["group_number"] == self._number

    def leave(self) -> None:
        """Take the process's row away; nothing is in doubt any more."""
        try:
            self._session.connection().execute("DELETE FROM writers WHERE id = ?", (self._id,))
        except (psycopg.Error, StoreError):
            self._session.drop()  # a row that stays does no harm, and goes a month later

    def _commit_once(self, group: Sequence[Work]) -> list[WriteResult]:
        connection = self._session.connection()
        self._number += 1
        try:
            self._begin(connection)
            outcomes = [_run(connection, work, alone=len(group) == 1) for work in group]
        except psycopg.Error as error:
            return self._fail(connection, group, error)
        for outcome in outcomes:
            if isinstance(outcome.error, psycopg.Error) and connection.is_broken_by(outcome.error):
                self._session.drop()
                raise _LostError(outcome.error)
        if not connection.in_transaction:  # the only work of the group failed
            return self._translated(outcomes)
        return self._end(connection, group, outcomes)

    def _begin(self, connection: PostgresConnection) -> None:
        row = f"'{self._id}', {self._number}, {time.time_ns() // 1_000}"
        # In one trip to the server; numbers and letters of our own, so nothing needs a parameter.
        connection.execute(f"BEGIN ISOLATION LEVEL READ COMMITTED; {_LOCK}; {_LEAVE_NUMBER.format(row=row)}")

    def _end(
        self, connection: PostgresConnection, group: Sequence[Work], outcomes: list[WriteResult]
    ) -> list[WriteResult]:
        try:
            answer = connection.raw.execute(b"COMMIT", prepare=False).statusmessage
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                self._session.drop()
                raise InDoubtError(self._translated(outcomes)) from error
            return self._fail(connection, group, error)
        if answer != "COMMIT":  # the server rolled back instead, and says so only here
            error = StoreError("The database did not do what was asked: it undid the transaction.")
            return [WriteResult(error=error)] * len(group)
        return self._translated(outcomes)

    def _fail(self, connection: PostgresConnection, group: Sequence[Work], error: psycopg.Error) -> list[WriteResult]:
        """Nothing was written. A server that lets nobody write any more has become another's stand-by: look anew."""
        if connection.is_broken_by(error) or isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            self._session.drop()
            raise _LostError(error) from error
        connection.rollback()
        return [_failed(error, self._session.address)] * len(group)

    def _translated(self, outcomes: list[WriteResult]) -> list[WriteResult]:
        return [
            _failed(outcome.error, self._session.address) if isinstance(outcome.error, psycopg.Error) else outcome
            for outcome in outcomes
        ]


def _run(connection: PostgresConnection, work: Work, *, alone: bool) -> WriteResult:
    if not alone:
        return in_savepoint(connection, work)
    try:
        return WriteResult(value=work(connection))
    except Exception as error:  # it belongs to the caller, who gets it
        connection.rollback()
        return WriteResult(error=error)


def _failed(error: psycopg.Error, address: PostgresAddress) -> WriteResult:
    told = translated_error(error, address)
    told.__cause__ = error
    return WriteResult(error=told)
