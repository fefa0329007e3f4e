"""Connections to a database file."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from bot.store.core.connection import Dialect


class SqliteConnection(sqlite3.Connection):
    """A `sqlite3.Connection` with the methods that the SQL functions need on every engine."""

    dialect = Dialect.SQLITE

    def notify(self, channel: str, payload: str) -> None:
        """Do nothing: a file has one process."""


def connect(path: Path | str) -> SqliteConnection:
    """Open a connection that begins no transaction by itself and reads columns by name."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256, factory=SqliteConnection)
    connection.row_factory = sqlite3.Row
    return connection


def connect_for_reading(path: Path) -> SqliteConnection:
    """Open a file that may be in use and must neither be created nor changed."""
    # Not mode=ro: SQLite ignores the CHECKs of a file opened like that, and leaves its -shm file behind.
    uri = f"{path.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, factory=SqliteConnection)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA query_only = ON")
    return connection
