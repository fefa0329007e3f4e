"""The lock that lets one process use a database file, and the durable replacement of a file."""

from __future__ import annotations

import fcntl
import os
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
