"""Notes: small facts that the bot keeps about itself from one start to the next, and what is to be done only once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection

_GET = "SELECT value FROM notes WHERE key = ?"
_SET = "INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_REMOVE = "DELETE FROM notes WHERE key = ?"
_CLAIM_TURN = """
INSERT INTO notes (key, value) VALUES (:key, :now) ON CONFLICT (key) DO UPDATE SET value = excluded.value
WHERE CAST(notes.value AS BIGINT) <= CAST(:before AS BIGINT) OR CAST(notes.value AS BIGINT) > CAST(:now AS BIGINT)
"""
_CLAIM_NOTICE = """
INSERT INTO notes (key, value) VALUES (?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE notes.value < excluded.value
"""


def get(connection: Connection, key: str) -> str | None:
    """Return the value stored under `key`."""
    row = connection.execute(_GET, (key,)).fetchone()
    return None if row is None else str(row[0])


def set_(connection: Connection, key: str, value: str) -> None:
    """Store a small fact about the bot itself under `key`."""
    connection.execute(_SET, (key, value))


def remove(connection: Connection, key: str) -> None:
    """Remove what is stored under `key`, if anything is."""
    connection.execute(_REMOVE, (key,))


def claim_turn(connection: Connection, name: str, *, now: datetime, pause: timedelta) -> bool:
    """Return True for the one process that may do `name` now: none did within `pause`."""
    row = {"key": f"{name} at", "now": str(to_micros(now)), "before": str(to_micros(now - pause))}
    return connection.execute(_CLAIM_TURN, row).rowcount == 1


def claim_notice(connection: Connection, matter: str, *, now: datetime) -> bool:
    """Return True for the one who tells of a matter, such as a `CostLimit`, today (UTC)."""
    row = (f"told of {matter}", f"{now.astimezone(UTC):%Y-%m-%d}")
    return connection.execute(_CLAIM_NOTICE, row).rowcount == 1
