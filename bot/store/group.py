"""Group commit: several callers' transactions in one commit, each of them still all or nothing on its own."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

Work = Callable[[sqlite3.Connection], Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one caller gets: a value, or the error that undid its work."""

    value: Any = None
    error: Exception | None = None


def commit_group(connection: sqlite3.Connection, group: Sequence[Work]) -> list[Outcome]:
    """Run every work of the group and commit them together. Returns one outcome each; leaves no transaction open.

    An error undoes only the work that raised it. An error that made SQLite give up the whole transaction (a full disk
    does) must not hit the neighbours: the works are then run again, each in a transaction of its own. When BEGIN or
    COMMIT fails nothing was written, and all of them get that error.
    """
    outcomes = _commit_together(connection, group)
    return outcomes or [outcome for work in group for outcome in _commit_together(connection, [work])]


def _commit_together(connection: sqlite3.Connection, group: Sequence[Work]) -> list[Outcome]:
    """Nothing when SQLite gave up the transaction of several: the error is one caller's, the loss everybody's."""
    outcomes: list[Outcome] = []
    try:
        _rollback(connection)
        connection.execute("BEGIN IMMEDIATE")
        for work in group:
            outcomes.append(_in_savepoint(connection, work))
            if not connection.in_transaction:
                return outcomes if len(group) == 1 else []
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        return [Outcome(error=error)] * len(group)
    finally:
        _rollback(connection)
    return outcomes


def _in_savepoint(connection: sqlite3.Connection, work: Work) -> Outcome:
    connection.execute("SAVEPOINT work")
    try:
        value = work(connection)
    except Exception as error:  # whatever it is, it belongs to the caller, who gets it
        if connection.in_transaction:
            connection.execute("ROLLBACK TO work")
            connection.execute("RELEASE work")
        return Outcome(error=error)
    connection.execute("RELEASE work")
    return Outcome(value=value)


def _rollback(connection: sqlite3.Connection) -> None:
    # A disk that just failed may fail this too; the next transaction tries again before it begins.
    with suppress(sqlite3.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")
