"""The database file: who may open it, how it is opened, and how a new one takes its place."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from bot.domain.errors import DatabaseBusy


class ProcessLock:
    """One process per database: an advisory lock on `<file>.lock`, gone with the process however that ends."""

    def __init__(self, database: Path) -> None:
        """Take the lock, making the file's directory where there is none. Raises DatabaseBusy, or OSError."""
        database.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise DatabaseBusy(f"Another process uses the database {database}. Stop it first.") from error

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)


def connect(path: Path) -> sqlite3.Connection:
    """A plain connection that begins no transaction by itself and reads columns by name."""
    connection = sqlite3.connect(path, isolation_level=None, cached_statements=256)
    connection.row_factory = sqlite3.Row
    return connection


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """As `connect`, for a file that may be in use and must neither be created nor changed."""
    # Not mode=ro: SQLite ignores the CHECKs of a file opened like that, and leaves its -shm file behind.
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA busy_timeout = 5000")
    connection.execute("PRAGMA query_only = ON")
    return connection


def replace_durably(unfinished: Path, target: Path) -> None:
    """Move a finished file into place so that after a power cut either the old or the new one is there, whole."""
    _sync(unfinished)
    unfinished.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
