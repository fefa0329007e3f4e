"""The picture store on PostgreSQL: pictures under the SHA-256 of their bytes, for processes that share no disk.

Beside the books and not through their writer: a picture is megabytes, and writers wait for each other.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Collection
from functools import partial

from bot.domain.database_url import PostgresAddress
from bot.media.blob_store import FRESH_BYTES, BlobStore, require_sha256
from bot.store.postgres.connection import PostgresConnection
from bot.store.postgres.pool import ConnectionPool

_SESSIONS = 2

_RENEW = "UPDATE picture_bytes SET put_at = ? WHERE sha256 = ?"
_PUT = """
INSERT INTO picture_bytes (sha256, data, put_at) VALUES (?, ?, ?)
ON CONFLICT (sha256) DO UPDATE SET put_at = excluded.put_at
"""
_GET = "SELECT data FROM picture_bytes WHERE sha256 = ?"
_REMOVE = "DELETE FROM picture_bytes WHERE sha256 = ?"
# A picture that is put again at this moment is young by the time its row can be removed, and stays.
_SWEEP = "DELETE FROM picture_bytes WHERE put_at <= ? AND NOT sha256 = ANY (?)"


class PostgresBlobStore:
    """Implements `Pictures`. What lies in `earlier`, from the time before the books moved, can still be had."""

    def __init__(self, address: PostgresAddress, earlier: BlobStore) -> None:
        self._earlier = earlier
        # Each statement is a transaction of its own that may be done twice.
        self._sessions = ConnectionPool(address, "pictures", _SESSIONS)
        self._fresh: OrderedDict[str, bytes] = OrderedDict()
        """What was put just now, oldest first: it is about to be shown, and need not be read back for that."""

    async def put(self, data: bytes) -> str:
        """As `Pictures.put`."""
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(data).hexdigest())
        await self._sessions.run(partial(_put, sha256=sha256, data=data))
        self._fresh[sha256] = data
        while sum(map(len, self._fresh.values())) > FRESH_BYTES:
            self._fresh.popitem(last=False)
        return sha256

    async def get(self, sha256: str) -> bytes | None:
        """As `Pictures.get`."""
        require_sha256(sha256)
        fresh = self._fresh.pop(sha256, None)
        if fresh is not None:
            return fresh
        found = await self._sessions.run(partial(_get, sha256=sha256))
        return found if found is not None else await self._earlier.get(sha256)

    async def remove(self, sha256: str) -> None:
        """As `Pictures.remove`."""
        require_sha256(sha256)
        self._fresh.pop(sha256, None)
        await self._sessions.run(lambda connection: connection.execute(_REMOVE, (sha256,)).rowcount)
        await self._earlier.remove(sha256)

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        """As `Pictures.sweep`."""
        names = list(keep)
        for sha256 in self._fresh.keys() - set(names):
            del self._fresh[sha256]
        before = _now_micros() - round(older_than_seconds * 1_000_000)
        removed = await self._sessions.run(lambda connection: connection.execute(_SWEEP, (before, names)).rowcount)
        return removed + await self._earlier.sweep(keep, older_than_seconds)

    async def close(self) -> None:
        """As `Pictures.close`."""
        await self._sessions.close()
        await self._earlier.close()


def _put(connection: PostgresConnection, sha256: str, data: bytes) -> None:
    # Most inputs are put again and again; their bytes need not travel for that.
    if connection.execute(_RENEW, (_now_micros(), sha256)).rowcount == 0:
        connection.execute(_PUT, (sha256, data, _now_micros()))


def _get(connection: PostgresConnection, sha256: str) -> bytes | None:
    row = connection.execute(_GET, (sha256,)).fetchone()
    data = None if row is None else bytes(row["data"])
    return data if data is not None and hashlib.sha256(data).hexdigest() == sha256 else None


def _now_micros() -> int:
    return time.time_ns() // 1_000
