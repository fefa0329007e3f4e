"""The lock that lets one process use a database file, and the durable replacement of a file."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from bot.domain.errors import DatabaseBusy


class ProcessLock:
    """An advisory lock on `<file>.lock`, held by one process; the kernel releases it when the process ends."""

    def __init__(self, database: Path) -> None:
        """Acquire the lock; create the file's directory if it is missing. Raises DatabaseBusy, or OSError."""
        database.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(f"{database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise DatabaseBusy(f"Another process uses the database {database}. Stop it first.") from error

    def release(self) -> None:
        """Release the lock."""
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
