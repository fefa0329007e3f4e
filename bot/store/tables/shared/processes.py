"""The processes that share a PostgreSQL database, as each says of itself. By the clock of the server, not of a process.

Synchronous functions inside the caller's transaction, on PostgreSQL alone.
"""

from __future__ import annotations

import json

from bot.domain.deployment.fleet import ProcessInfo
from bot.domain.deployment.process_role import Role
from bot.store.core.columns import SERVER_NOW
from bot.store.core.connection import Connection

_RECORD = f"""
INSERT INTO processes (id, role, version, shards, provider_keys, settings, seen_at)
VALUES (:id, :role, :version, :shards, :provider_keys, :settings, {SERVER_NOW})
ON CONFLICT (id) DO UPDATE
SET provider_keys = excluded.provider_keys, settings = excluded.settings, seen_at = excluded.seen_at
"""  # noqa: S608 - no values of others
_FORGET_OLD = f"DELETE FROM processes WHERE seen_at < {SERVER_NOW} - 3600000000"  # noqa: S608
_FORGET = "DELETE FROM processes WHERE id = ?"
_EXISTS = "SELECT to_regclass('processes') IS NOT NULL"
_ALL = f"""
SELECT id, role, version, shards, provider_keys, settings, CAST({SERVER_NOW} - seen_at AS BIGINT) AS age
FROM processes ORDER BY role, shards, id
"""  # noqa: S608


def record(connection: Connection, process: ProcessInfo) -> None:
    """Note that the process is alive, and forget those that were not seen for an hour."""
    parameters = {
        "id": process.id,
        "role": process.role.value,
        "version": process.version,
        "shards": process.shards,
        "provider_keys": ",".join(process.provider_keys),
        "settings": json.dumps(dict(process.settings)),
    }
    connection.execute(_RECORD, parameters)
    connection.execute(_FORGET_OLD)


def forget(connection: Connection, process_id: str) -> None:
    """Remove a process that stops."""
    connection.execute(_FORGET, (process_id,))


def every(connection: Connection) -> list[ProcessInfo]:
    """Return the processes that were seen within the last hour; none where an older version keeps no such list."""
    if not connection.execute(_EXISTS).fetchone()[0]:
        return []
    return [
        ProcessInfo(
            id=row["id"],
            role=Role(row["role"]),
            version=row["version"],
            shards=row["shards"],
            provider_keys=tuple(filter(None, row["provider_keys"].split(","))),
            settings=json.loads(row["settings"]),
            age_seconds=row["age"] / 1_000_000,
        )
        for row in connection.execute(_ALL).fetchall()
    ]
