"""The picture store: pictures on disk under the SHA-256 of their bytes, so that none is kept twice or half written."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from bot.domain.errors import StoreError

T = TypeVar("T")

_SHA256 = re.compile(r"[0-9a-f]{64}")


def require_sha256(text: str) -> str:
    """`text` itself. Raises ValueError when it is no SHA-256."""
    if _SHA256.fullmatch(text) is None:
        raise ValueError(f"not a SHA-256: {text[:80]!r}")
    return text


_UNFINISHED_PREFIX = ".unfinished-"

FRESH_BYTES = 32 * 2**20
"""So much of what was just put is kept at hand until it is first asked for."""


class BlobStore(Protocol):
    """Pictures by content. Every method raises StoreError when what keeps them fails, and ValueError for no SHA-256."""

    async def put(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256. Once this returns, the picture survives a power cut."""
        ...

    async def get(self, sha256: str) -> bytes | None:
        """The picture, or None when it is not here or damaged."""
        ...

    async def remove(self, sha256: str) -> None:
        """Forget a picture. One that is not here is no error."""
        ...

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        """Remove what is neither in `keep` nor younger than that. Returns how many.

        The age matters because a picture is put first and named in the books afterwards.
        """
        ...

    async def close(self) -> None:
        """Wait for what was begun. Of no use afterwards."""
        ...


class FileBlobStore:
    """Pictures by content, in a directory: `<first two hex digits>/<all 64>`.

    A file appears whole or not at all (written beside its place, synced, renamed), and one whose bytes do not match its
    name reads as missing. All disk work happens in threads of its own; a caller that is cancelled leaves nothing half
    done. Every method raises StoreError when the disk is full or fails, and ValueError for what is no SHA-256.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Not the loop's default pool: a slow disk there would also hold up every name lookup.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="pictures")
        # Between looking at a file's age and removing it, nobody may decide to keep it.
        self._removing = threading.Lock()
        self._fresh: OrderedDict[str, bytes] = OrderedDict()
        """What was put just now, oldest first: it is about to be shown, and need not be read back for that."""

    def path(self, sha256: str) -> Path:
        """Where a picture lies or would lie."""
        return self._directory / require_sha256(sha256)[:2] / sha256

    async def put(self, data: bytes) -> str:
        """Keep `data` and return its SHA-256. Once this returns, the picture survives a power cut."""
        sha256 = await self._run(lambda: self._put(data))
        self._fresh[sha256] = data
        while sum(map(len, self._fresh.values())) > FRESH_BYTES:
            self._fresh.popitem(last=False)
        return sha256

    async def get(self, sha256: str) -> bytes | None:
        """The picture, or None when it is not here or its file is damaged."""
        path = self.path(sha256)
        fresh = self._fresh.pop(sha256, None)
        return fresh if fresh is not None else await self._run(lambda: _read_intact(path))

    async def remove(self, sha256: str) -> None:
        """Forget a picture. One that is not here is no error."""
        path = self.path(sha256)
        self._fresh.pop(sha256, None)
        await self._run(lambda: path.unlink(missing_ok=True))

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        """Remove what is neither in `keep` nor younger than that, and what a crash left unfinished. Returns how many.

        The age matters because a picture is put first and named in the books afterwards.
        """
        names = frozenset(keep)
        for sha256 in self._fresh.keys() - names:
            del self._fresh[sha256]
        return await self._run(lambda: self._sweep(names, before=time.time() - older_than_seconds))

    async def close(self) -> None:
        """Wait for what was begun. The store is of no use afterwards."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise StoreError(f"picture store: {error}") from error

    def _put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        if self._renew(path, data):
            return sha256
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = path.parent / f"{_UNFINISHED_PREFIX}{secrets.token_hex(8)}"
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)
        return sha256

    def _renew(self, path: Path, data: bytes) -> bool:
        """Make a picture that is already here young again. False when it is not here, or damaged."""
        with self._removing, suppress(FileNotFoundError):
            if path.read_bytes() == data:
                os.utime(path)
                return True
        return False

    def _sweep(self, keep: frozenset[str], *, before: float) -> int:
        removed = 0
        for file in self._files():
            if file.name in keep:
                continue
            with self._removing, suppress(FileNotFoundError):
                if file.stat().st_mtime <= before:
                    file.unlink()
                    removed += 1
        return removed

    def _files(self) -> Iterator[Path]:
        """Every file that is ours: pictures and unfinished ones, nothing else that may lie here."""
        for file in self._directory.glob("[0-9a-f][0-9a-f]/*"):
            if _SHA256.fullmatch(file.name) or file.name.startswith(_UNFINISHED_PREFIX):
                yield file


def _read_intact(path: Path) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return data if hashlib.sha256(data).hexdigest() == path.name else None


def _sync_directory(directory: Path) -> None:
    """Without this the file's bytes are safe but its name may be lost with the power."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
