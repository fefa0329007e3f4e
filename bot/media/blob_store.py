"""Blob store: images under the SHA-256 of their bytes, so that none is stored twice or half written."""

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
    """Return `text`. Raises ValueError when it is no SHA-256."""
    if _SHA256.fullmatch(text) is None:
        raise ValueError(f"not a SHA-256: {text[:80]!r}")
    return text


_UNFINISHED_PREFIX = ".unfinished-"

MAX_CACHED_BYTES = 32 * 2**20
"""New images that are cached in memory until they are first read."""


class BlobStore(Protocol):
    """Images by content. Every method raises StoreError when the storage fails, and ValueError for no SHA-256."""

    async def put(self, data: bytes) -> str:
        """Store `data` and return its SHA-256. After the return the image survives a power cut."""
        ...

    async def get(self, sha256: str) -> bytes | None:
        """Return the image, or None when it is missing or damaged."""
        ...

    async def remove(self, sha256: str) -> None:
        """Remove an image. A missing one is no error."""
        ...

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        """Remove images that are neither in `keep` nor younger than that. Returns how many.

        The age matters because an image is put first and recorded in the database afterwards.
        """
        ...

    async def problem(self) -> str | None:
        """Return None when images can be read, or else what is in the way."""
        ...

    async def close(self) -> None:
        """Wait for operations in progress. The store cannot be used afterwards."""
        ...


class FileBlobStore:
    """Images by content, in a directory: `<first two hex digits>/<all 64>`.

    A file appears whole or not at all (written under another name, synced, renamed), and one whose bytes do not match
    its name reads as missing. All disk work runs in threads of its own; a cancelled caller leaves no partial file.
    Every method raises StoreError when the disk is full or fails, and ValueError for no SHA-256.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Not the loop's default threads: a slow disk there would also delay every name look-up.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="images")
        # Held from the check of a file's age to its removal, so that `put` cannot rely on the file in between.
        self._removing = threading.Lock()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        """New images, oldest first: they are about to be shown, and need not be read from disk for that."""

    def path(self, sha256: str) -> Path:
        """Return the path of an image, whether or not it is stored."""
        return self._directory / require_sha256(sha256)[:2] / sha256

    async def put(self, data: bytes) -> str:
        """Store `data` and return its SHA-256. After the return the image survives a power cut."""
        sha256 = await self._run(lambda: self._put(data))
        self._cache[sha256] = data
        while sum(map(len, self._cache.values())) > MAX_CACHED_BYTES:
            self._cache.popitem(last=False)
        return sha256

    async def get(self, sha256: str) -> bytes | None:
        """Return the image, or None when it is missing or its file is damaged."""
        path = self.path(sha256)
        cached = self._cache.pop(sha256, None)
        return cached if cached is not None else await self._run(lambda: _read_intact(path))

    async def remove(self, sha256: str) -> None:
        """Remove an image. A missing one is no error."""
        path = self.path(sha256)
        self._cache.pop(sha256, None)
        await self._run(lambda: path.unlink(missing_ok=True))

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        """Remove images that are neither in `keep` nor younger than that, and unfinished files. Returns how many.

        The age matters because an image is put first and recorded in the database afterwards.
        """
        names = frozenset(keep)
        for sha256 in self._cache.keys() - names:
            del self._cache[sha256]
        return await self._run(lambda: self._sweep(names, before=time.time() - older_than_seconds))

    async def problem(self) -> str | None:
        """Implement `BlobStore.problem`. The disk is checked by itself."""
        return None

    async def close(self) -> None:
        """Wait for operations in progress. The store cannot be used afterwards."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except OSError as error:
            raise StoreError(f"image store: {error}") from error

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
        """Set the age of a stored image to zero. False when it is missing or damaged."""
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
        """Yield images and unfinished files, and no foreign files."""
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
    """Sync a directory: otherwise a power cut may lose the name of a file whose bytes are safe."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
