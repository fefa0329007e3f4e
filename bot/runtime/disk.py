"""DiskCheck: whether the disk of a folder takes more bytes, seen by writing some."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

_BYTES = 256 * 1024
_VALID_SECONDS = 5.0
"""For how long an answer holds, so that frequent requests do not keep the disk busy."""


class DiskCheck:
    """Writes a file into `folder` and removes it. Free space alone would not tell of a quota or a broken disk."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / ".readiness"
        self._lock = asyncio.Lock()
        self._asked_at = -_VALID_SECONDS
        self._problem: str | None = None

    async def problem(self) -> str | None:
        """Return None when the disk took what was written, or else what is in the way."""
        async with self._lock:
            if time.monotonic() - self._asked_at >= _VALID_SECONDS:
                self._problem = await asyncio.to_thread(_problem_of_writing, self._file)
                self._asked_at = time.monotonic()
            return self._problem


def _problem_of_writing(path: Path) -> str | None:
    try:
        try:
            with path.open("wb") as file:
                file.write(os.urandom(_BYTES))  # a disk that compresses must not get away with zeros
                file.flush()
                os.fsync(file.fileno())
        finally:
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"the disk takes no more: {error.strerror}"
    return None
