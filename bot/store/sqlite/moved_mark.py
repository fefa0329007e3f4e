"""The mark on a file whose database was moved to a server: no program starts with it, or orders would be sent twice."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from bot.domain.errors import DatabaseUnusable
from bot.store.core.connection import APPLICATION_ID
from bot.store.sqlite.connection import connect, connect_for_reading
from bot.store.tables.shared import notes

# Versions of the bot that do not know the mark take the file for one of another program, and refuse it as well.
_APPLICATION_ID_OF_MOVED = APPLICATION_ID + 1
_MOVED_TO = "moved to"


def mark_moved(path: Path, target: str) -> None:
    """Mark the file as moved to `target`, which must be an address without a password. On disk when this returns."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        notes.set_(connection, _MOVED_TO, target)
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID_OF_MOVED}")
        connection.execute("COMMIT")


def remove_mark(path: Path) -> None:
    """Make the file usable again."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        notes.remove(connection, _MOVED_TO)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")


def moved_to(connection: sqlite3.Connection) -> str | None:
    """Return where the database was moved to; None when it was not moved."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID_OF_MOVED:
        return None
    row = connection.execute("SELECT value FROM notes WHERE key = ?", (_MOVED_TO,)).fetchone()
    return "a PostgreSQL server" if row is None else row[0]


def refuse_half_move(folder: Path, target: str) -> None:
    """Raise DatabaseUnusable when a file of `folder` was moved to `target`. Call it when there is no database there.

    A move marks the file before it commits on the server. One that was killed in between leaves everything in the file,
    and a bot that starts with the empty database would know neither what members spent nor what is under way.
    """
    for path in sorted(folder.glob("*.sqlite3")):
        with suppress(sqlite3.Error), closing(connect_for_reading(path)) as connection:
            if moved_to(connection) == target:
                raise DatabaseUnusable(
                    f"The database {path} was moved to {target}, but there is none: the move was interrupted. Set "
                    f"DATABASE_URL to the file, run `python -m bot migrate-to --undo ADDRESS`, and move it again."
                )


def check_not_moved(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseUnusable for a file that was moved, with where it is now and the way back."""
    target = moved_to(connection)
    if target is not None:
        raise DatabaseUnusable(
            f"The database {path} was moved to {target} and must not be used any more: what it has in line would be "
            f"ordered again. Set DATABASE_URL to that address. To go back to the file, or if the move was "
            f"interrupted, stop every bot and run `python -m bot migrate-to --undo ADDRESS`."
        )
