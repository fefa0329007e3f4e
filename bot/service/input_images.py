"""Input images: what members attach is stored before their order is admitted, and removed at once if it is refused."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Collection
from weakref import WeakValueDictionary

from bot.domain.errors import StoreError
from bot.media.blob_store import BlobStore
from bot.store.store import Store

_log = logging.getLogger(__name__)


class InputImages:
    """Counts the orders of this process that hold an image and are not decided yet; the database knows all others."""

    def __init__(self, store: Store, blob_store: BlobStore) -> None:
        self._store = store
        self._blob_store = blob_store
        self._holders: Counter[str] = Counter()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """One for each image that is being stored or removed, so that neither happens during the other."""

    async def hold(self, sha256: str, data: bytes) -> None:
        """Store an image for an order that is not decided yet. Call `keep` or `discard` later. Raises StoreError."""
        self._holders[sha256] += 1
        try:
            async with self._lock(sha256):
                await self._blob_store.put(data)
        except BaseException:
            await self.discard([sha256])
            raise

    def keep(self, contents: Collection[str]) -> None:
        """Note that an order with these images was admitted."""
        for sha256 in contents:
            self._release(sha256)

    async def discard(self, contents: Collection[str]) -> None:
        """Remove the images of an order that was refused, unless another order uses them.

        What fails is left to the hourly sweep.
        """
        for sha256 in contents:
            self._release(sha256)
        for sha256 in set(contents):
            async with self._lock(sha256):
                # Asked first: an order that begins to hold it now stores it after this, and one that held it before
                # may be admitted during the question below.
                if self._holders[sha256]:
                    continue
                try:
                    if await self._store.not_in_use([sha256]):
                        await self._blob_store.remove(sha256)
                except StoreError:
                    _log.warning("an image of a refused order could not be removed yet", exc_info=True)

    def _release(self, sha256: str) -> None:
        self._holders[sha256] -= 1
        if self._holders[sha256] <= 0:
            del self._holders[sha256]

    def _lock(self, sha256: str) -> asyncio.Lock:
        lock = self._locks.get(sha256)
        if lock is None:
            lock = self._locks[sha256] = asyncio.Lock()
        return lock
