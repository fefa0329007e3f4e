"""The blob store on PostgreSQL: images by the SHA-256 of their bytes, for processes that share no disk.

It does not write through the database's writer, because an image is megabytes and writers wait for each other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Collection
from functools import partial

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.media.blob_store import MAX_CACHED_BYTES, BlobStore, require_sha256
from bot.store.core.columns import SERVER_NOW
from bot.store.postgres.connection import PostgresConnection
from bot.store.postgres.pool import ConnectionPool

_CONNECTIONS = 2

_RENEW = f"UPDATE picture_bytes SET put_at = {SERVER_NOW} WHERE sha256 = ?"  # noqa: S608 - no values of others
_PUT = f"""
INSERT INTO picture_bytes (sha256, data, put_at) VALUES (?, ?, {SERVER_NOW})
ON CONFLICT (sha256) DO UPDATE SET put_at = excluded.put_at
"""  # noqa: S608
_GET = "SELECT data FROM picture_bytes WHERE sha256 = ?"
_REMOVE = "DELETE FROM picture_bytes WHERE sha256 = ?"
# An image that is put again during this statement has a new `put_at` when its row lock is granted, and stays.
_SWEEP = f"DELETE FROM picture_bytes WHERE put_at <= {SERVER_NOW} - ? AND NOT sha256 = ANY (?)"  # noqa: S608


class PostgresBlobStore:
    """A `BlobStore` on PostgreSQL. `earlier` holds the images from before the migration from SQLite."""

    def __init__(self, address: PostgresAddress, earlier: BlobStore) -> None:
        self._earlier = earlier
        # Each statement is a transaction of its own and idempotent, as the pool requires.
        self._pool = ConnectionPool(address, "images", _CONNECTIONS)
        self._fresh: OrderedDict[str, bytes] = OrderedDict()
        """Images put most recently, oldest first: they are shown next and need not be read back for that."""

    async def put(self, data: bytes) -> str:
        """Implement `BlobStore.put`."""
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        await self._pool.run(partial(_put, sha256=sha256, data=data))
        self._fresh[sha256] = data
        while sum(map(len, self._fresh.values())) > MAX_CACHED_BYTES:
            self._fresh.popitem(last=False)
        return sha256

    async def get(self, sha256: str) -> bytes | None:
        """Implement `BlobStore.get`."""
        require_sha256(sha256)
        fresh = self._fresh.pop(sha256, None)
        if fresh is not None:
            return fresh
        found = await self._pool.run(partial(_get, sha256=sha256))
        return found if found is not None else await self._earlier.get(sha256)

    async def remove(self, sha256: str) -> None:
        """Implement `BlobStore.remove`."""
        require_sha256(sha256)
        self._fresh.pop(sha256, None)
        await self._pool.run(lambda connection: connection.execute(_REMOVE, (sha256,)).rowcount)
        await self._earlier.remove(sha256)

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        """Implement `BlobStore.sweep`."""
        kept = list(keep)
        for sha256 in self._fresh.keys() - set(kept):
            del self._fresh[sha256]
        age_micros = round(older_than_seconds * 1_000_000)
        removed = await self._pool.run(lambda connection: connection.execute(_SWEEP, (age_micros, kept)).rowcount)
        return removed + await self._earlier.sweep(keep, older_than_seconds)

    async def open(self) -> None:
        """Open the connections. Raises StoreError when the server gives none."""
        await self._pool.open()

    async def problem(self) -> str | None:
        """Implement `BlobStore.problem`."""
        try:
            await self._pool.run(lambda connection: connection.execute("SELECT 1").fetchone())
        except StoreError as error:
            return str(error)
        return None

    async def close(self) -> None:
        """Implement `BlobStore.close`."""
        await self._pool.close()
        await self._earlier.close()


def _put(connection: PostgresConnection, sha256: str, data: bytes) -> None:
    # Most inputs are put many times; a renewal does not send their bytes again.
    if connection.execute(_RENEW, (sha256,)).rowcount == 0:
        connection.execute(_PUT, (sha256, data))


def _get(connection: PostgresConnection, sha256: str) -> bytes | None:
    row = connection.execute(_GET, (sha256,)).fetchone()
    data = None if row is None else bytes(row["data"])
    return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None
