"""Key-value pairs: small facts that the bot keeps about itself from one start to the next."""

from __future__ import annotations

from bot.store.core.connection import Connection

_GET = "SELECT value FROM notes WHERE key = ?"
_SET = "INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
_REMOVE = "DELETE FROM notes WHERE key = ?"


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
