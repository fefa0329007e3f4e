"""Notes: small facts the bot keeps about itself from one start to the next, by key."""

from __future__ import annotations

import sqlite3

_RECALL = "SELECT value FROM notes WHERE key = ?"
_REMEMBER = "INSERT INTO notes (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"


def recall(connection: sqlite3.Connection, key: str) -> str | None:
    row = connection.execute(_RECALL, (key,)).fetchone()
    return None if row is None else str(row[0])


def remember(connection: sqlite3.Connection, key: str, value: str) -> None:
    connection.execute(_REMEMBER, (key, value))
