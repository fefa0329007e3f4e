"""Migration of an SQLite file into an empty PostgreSQL database: every row or none, verified on both sides.

The file keeps its rows, and is marked so that nothing starts with it any more (see moved_mark.py). The mark is written
before the copy is committed: whenever this process dies, at most one of the two databases can be used.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseUnusable, StoreError
from bot.store.admin import verify
from bot.store.postgres import schema as postgres_schema
from bot.store.postgres.connection import PostgresConnection, as_stored, translated_error, unreachable
from bot.store.sqlite import moved_mark, schema
from bot.store.sqlite.backup import progress
from bot.store.sqlite.connection import SqliteConnection, connect_for_reading
from bot.store.sqlite.file_lock import ProcessLock

# In the order of creation, so that a row is copied after those it refers to. Wallets came later than the reservations
# that refer to them.
_TABLES = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name <> 'wallets', rowid"
_FLAGS = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = ? AND data_type = 'boolean'
"""
_IDENTITIES = """
SELECT table_name FROM information_schema.columns
WHERE table_schema = current_schema() AND is_identity = 'YES' AND column_name = 'id' ORDER BY table_name
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    flags: frozenset[str]

    @property
    def query(self) -> str:
        """The query for every row by key. Both engines order text by its bytes."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} ORDER BY {', '.join(self.key)}"  # noqa: S608

    def rows_of_file(self, connection: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as the server has to return them: flags as booleans, NUL as its symbol (see `as_stored`)."""
        for row in connection.execute(self.query):
            yield tuple(
                as_stored(value)
                if isinstance(value, str)
                else bool(value)
                if column in self.flags and value is not None
                else value
                for column, value in zip(self.columns, row, strict=True)
            )


def migrate(source: Path, target: PostgresAddress) -> dict[str, int]:
    """Copy every table in one transaction. Return the number of rows by table.

    Raises DatabaseBusy when a process uses `source`, DatabaseUnusable when it is damaged or not ours, or when `target`
    is not empty, and StoreError. After an error `target` is unchanged, unless the error says otherwise.
    """
    lock = _lock(source)
    try:
        findings = verify.verify_file(source)
        if findings:
            raise StoreError(f"{source} has {len(findings)} findings, see: python -m bot ledger verify")
        with closing(connect_for_reading(source)) as file:
            if schema.version_of(file) != schema.newest_version():
                raise StoreError(f"{source} is of an older version. Start the bot on it once, then move it.")
            return _copy(source, file, target)
    except sqlite3.Error as error:
        raise StoreError(f"{source} cannot be read: {error}.") from error
    finally:
        lock.release()


def undo(source: Path, target: PostgresAddress) -> None:
    """Make a file usable again that was moved to `target`. `target` is only read.

    Raises DatabaseBusy when a process uses `source`, and StoreError when `source` was not moved there, or when `target`
    has anything that `source` lacks: what the server has ordered would be ordered again.
    """
    lock = _lock(source)
    try:
        schema.check_header(source)
        with closing(connect_for_reading(source)) as file:
            if moved_mark.moved_to(file) != str(target):
                raise StoreError(f"{source} was not moved to {target}.")
            lost = _only_on_server(file, target)
        if lost:
            raise StoreError(
                f"{target} has what {source} lacks ({', '.join(lost)}): going back would lose that. If it is to be "
                f"lost, empty that database first."
            )
        moved_mark.remove_mark(source)
    except sqlite3.Error as error:
        raise StoreError(f"{source} cannot be changed: {error}.") from error
    finally:
        lock.release()


def _only_on_server(file: SqliteConnection, target: PostgresAddress) -> list[str]:
    server = _open_server(target)
    try:
        if not postgres_schema.check_ours(server, target):
            return []
        in_file = progress(file, version=schema.version_of(file))
        on_server = progress(server, version=postgres_schema.version_of(server))
        return [name for name, count in on_server.items() if count > in_file[name]]
    except psycopg.Error as error:
        raise translated_error(error, target) from error
    finally:
        server.close()


def _lock(source: Path) -> ProcessLock:
    if not source.is_file():
        raise StoreError(f"There is no database {source}.")
    try:
        return ProcessLock(source)
    except OSError as error:
        raise StoreError(f"{source} cannot be opened: {error.strerror}.") from error


def _open_server(target: PostgresAddress) -> PostgresConnection:
    try:
        return PostgresConnection.open(target)
    except psycopg.Error as error:
        raise unreachable(target, error) from error


def _copy(source: Path, file: sqlite3.Connection, target: PostgresAddress) -> dict[str, int]:
    server = _open_server(target)
    try:
        _require_empty(server, target)
        server.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        expected = postgres_schema.expected_objects(server)
        server.execute("BEGIN")
        with postgres_schema.migration_lock(server):
            _require_empty(server, target)
            for version, script in postgres_schema.migrations().items():
                postgres_schema.apply_migration(server, target, version, script)
            counts = _fill(file, server)
            server.execute(
                "ANALYZE"
            )  # or the queries of `verify`, and the first of the bot, would be planned for empty tables
            findings = verify.findings_of_server(server, expected)
            if findings:
                raise StoreError(f"The copy in {target} does not balance ({findings[0].detail}). Nothing was kept.")
            file.execute("ROLLBACK")  # the transaction that read it
            _commit(source, server, target)
        return counts
    except psycopg.Error as error:
        raise translated_error(error, target) from error
    finally:
        server.close()


def _commit(source: Path, server: PostgresConnection, target: PostgresAddress) -> None:
    moved_mark.mark_moved(source, str(target))
    try:
        server.execute("COMMIT")
    except psycopg.Error as error:
        if server.is_broken_by(error):
            raise StoreError(
                f"The connection to {target} broke at the last step, and {source} is marked as moved. If "
                f"`python -m bot check` finds no database at the new address, run `python -m bot migrate-to --undo "
                f"ADDRESS` and move again."
            ) from error
        moved_mark.remove_mark(source)
        raise


def _require_empty(server: PostgresConnection, target: PostgresAddress) -> None:
    if postgres_schema.check_ours(server, target):
        raise DatabaseUnusable(f"The database {target} has tables of this program already. Name an empty one.")


def _fill(file: sqlite3.Connection, server: PostgresConnection) -> dict[str, int]:
    file.execute("BEGIN")
    tables = [_table(file, server, row[0]) for row in file.execute(_TABLES).fetchall()]
    for table in tables:
        # Rows that triggers would write are copied like all others. CHECKs and foreign keys stay on.
        server.execute(f"ALTER TABLE {table.name} DISABLE TRIGGER USER")
    server.execute("DELETE FROM accounts")  # the two that the migrations insert
    counts: dict[str, int] = {}
    for table in tables:
        counts[table.name], digest_of_file = _send(server, table, table.rows_of_file(file))
        if _digest(server.stream(table.query)) != (counts[table.name], digest_of_file):
            raise StoreError(f"The copy of {table.name} is not what stands in the file. Nothing was kept.")
    for table in tables:
        server.execute(f"ALTER TABLE {table.name} ENABLE TRIGGER USER")
    for (name,) in server.execute(_IDENTITIES).fetchall():
        server.execute(
            f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name} HAVING max(id) IS NOT NULL"  # noqa: S608
        )
    return counts


def _table(file: sqlite3.Connection, server: PostgresConnection, name: str) -> _Table:
    columns = file.execute(f"PRAGMA table_info({name})").fetchall()
    key = sorted((column for column in columns if column["pk"]), key=lambda column: column["pk"])
    return _Table(
        name=name,
        columns=tuple(column["name"] for column in columns),
        key=tuple(column["name"] for column in key),
        flags=frozenset(row[0] for row in server.execute(_FLAGS, (name,))),
    )


def _send(server: PostgresConnection, table: _Table, rows: Iterable[tuple[Any, ...]]) -> tuple[int, bytes]:
    """Copy the rows to the server. Return their number and a digest of them."""
    columns = sql.SQL(", ").join(map(sql.Identifier, table.columns))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
    count, digest = 0, hashlib.sha256()
    with server.raw.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
            count += 1
            digest.update(repr(row).encode())
    return count, digest.digest()


def _digest(rows: Iterable[Iterable[Any]]) -> tuple[int, bytes]:
    count, digest = 0, hashlib.sha256()
    for row in rows:
        count += 1
        digest.update(repr(tuple(row)).encode())
    return count, digest.digest()
