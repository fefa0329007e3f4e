"""Schema: whether a file is a sound database of ours, and the migrations that bring it to the newest version."""

from __future__ import annotations

import errno
import sqlite3
import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from bot.domain.errors import DatabaseUnusable, StoreError
from bot.store.core.connection import APPLICATION_ID
from bot.store.core.ledger_guard import check_ledger, tampered
from bot.store.sqlite.connection import SqliteConnection, connect
from bot.store.sqlite.moved_mark import check_not_moved

_MIGRATIONS = Path(__file__).parents[1] / "migrations" / "sqlite"
_MAGIC = b"SQLite format 3\0"
_SMALL_FILE_BYTES = 64 * 1024 * 1024


@cache
def migrations() -> dict[int, str]:
    """Return the SQL of every migration by its number: `0001_initial.sql` is 1."""
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in sorted(_MIGRATIONS.glob("[0-9]*.sql"))}


def newest_version() -> int:
    return max(migrations())


def version_of(connection: sqlite3.Connection) -> int:
    """Return the number of the last migration that was applied."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: SqliteConnection, name: str = "the database") -> None:
    """Apply the missing migrations in one transaction, checked before it ends: a failed upgrade changes nothing.

    Raises LedgerTampered, and DatabaseUnusable when the result is not what this program needs.
    """
    missing = {version: script for version, script in migrations().items() if version > version_of(connection)}
    if not missing:
        return
    # Not executescript(): it would commit before it begins.
    connection.execute("BEGIN IMMEDIATE")
    try:
        for script in missing.values():
            for statement in _statements(script):
                connection.execute(statement)
        if orphan := connection.execute("PRAGMA foreign_key_check").fetchone():
            raise DatabaseUnusable(
                f"{name} cannot be upgraded: a row of {orphan[0]} refers to a missing row of {orphan[2]}. Nothing was "
                f"changed. Start the older program again, or restore a backup with `python -m bot restore BACKUP_FILE`."
            )
        check_ledger(connection, name)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {max(missing)}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def unusable(path: Path, what: str) -> DatabaseUnusable:
    """Return the error for a file that must not be used, with the steps to take."""
    return DatabaseUnusable(
        f"The database {path} {what}. Nothing was changed. Restore the newest backup with "
        f"`python -m bot restore BACKUP_FILE` (those made before an upgrade lie beside it, {path.name}.before-*.bak); "
        f"keep the old file and its -wal file until the restored one is seen to work."
    )


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether it is the file's fault: not a lock, a full or read-only disk, or a missing permission."""
    # A missing table is an OperationalError too, with the general code; errors of the driver itself have none.
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    return not isinstance(error, sqlite3.OperationalError) or code == sqlite3.SQLITE_ERROR


def check_header(path: Path) -> None:
    """Raise DatabaseUnusable unless the file begins like an SQLite database. An emptied file is a damaged one.

    Raises StoreError when it cannot be read.
    """
    try:
        is_database = has_header(path)
    except OSError as error:
        raise StoreError(f"The database {path} cannot be read: {error.strerror}.") from error
    if not is_database:
        raise unusable(path, "is damaged: it does not begin like an SQLite file")


def has_header(path: Path) -> bool:
    """Return whether the file begins like an SQLite database. Raises OSError."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe would wait for a writer without a limit
        raise OSError(errno.EINVAL, "it is not a file but a pipe, a device or a socket")
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def check_ours(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseUnusable unless the file is ours, was not moved to a server and is not newer than this program."""
    check_not_moved(connection, path)
    check_program(connection, path)
    if version_of(connection) > newest_version():
        raise DatabaseUnusable(
            f"The database {path} has version {version_of(connection)}, newer than this program, which knows up to "
            f"{newest_version()}. Start the newer program again, or restore a backup made before the upgrade with "
            f"`python -m bot restore BACKUP_FILE`."
        )


def check_program(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseUnusable unless the file is ours, of whatever version."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise DatabaseUnusable(
            f"The file {path} is a database of another program. Set DATABASE_URL to a file of this bot or to a new one."
        )


def check_sound(connection: sqlite3.Connection, path: Path, *, thoroughly: bool) -> None:
    """Raise DatabaseUnusable when the file is damaged.

    A big file is not read as a whole at every start: there, its length (which SQLite checks itself) and both ends of
    the tables have to be right, and damage further inside shows on the statement that meets it, which writes nothing.
    """
    if thoroughly or path.stat().st_size < _SMALL_FILE_BYTES:
        findings = [row[0] for row in connection.execute("PRAGMA quick_check(5)")]
        if all(finding.startswith("CHECK constraint failed") for finding in findings):
            raise tampered(str(path), findings[0])  # the file is whole, but no program of ours can have written that
        if findings != ["ok"]:
            raise unusable(path, f"is damaged ({'; '.join(findings)[:200]})")
        return
    for table in ("replies", "jobs", "ledger", "reservations", "accounts"):
        for end in ("min", "max"):  # asked one by one: both at once would read the whole table
            connection.execute(f"SELECT {end}(rowid) FROM {table}").fetchone()  # noqa: S608 - our own names


def schema_objects(connection: sqlite3.Connection) -> dict[str, str]:
    """Return every table, index and trigger by name, with its SQL."""
    rows = connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL")
    return {row[0]: row[1] for row in rows}


_expected: dict[tuple[str, ...], dict[str, str]] = {}
"""What `expected_objects` found, by migrations: they take longer than all else about opening a small database."""


def expected_objects() -> dict[str, str]:
    """Return what `schema_objects` has to return for a database of the newest version."""
    key = tuple(migrations().values())
    if key not in _expected:
        connection = connect(":memory:")
        try:
            migrate(connection)
            _expected[key] = schema_objects(connection)
        finally:
            connection.close()
    return _expected[key]


def check_complete(connection: sqlite3.Connection, path: Path) -> None:
    """Raise DatabaseUnusable when a table, index or trigger of ours is missing or was changed."""
    expected, found = expected_objects(), schema_objects(connection)
    if missing := expected.keys() - found.keys():
        raise unusable(path, f"is damaged: {', '.join(sorted(missing))} missing")
    if changed := [name for name, definition in expected.items() if found[name] != definition]:
        raise unusable(path, f"is damaged: {', '.join(sorted(changed))} changed")
