"""The schema on PostgreSQL: checks that it is this program's and of a known version, and applies migrations.

Every table is in the first schema of the connection's search path: `public`, unless the operator sets another.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psycopg

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseUnusable, StoreError
from bot.store.core.connection import APPLICATION_ID
from bot.store.core.ledger_guard import GUARD_TIMEOUT_SECONDS, UNFINISHED, check_ledger
from bot.store.postgres.connection import PostgresConnection

_log = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parents[1] / "migrations" / "postgresql"
_MIN_SERVER_VERSION = 14

_MIGRATION_LOCK = (APPLICATION_ID, 1)
WRITE_LOCK = (APPLICATION_ID, 2)
BOT_LOCK = (APPLICATION_ID, 3)
"""Advisory locks. The first number is the one in the header of our SQLite files, so other programs do not use it."""

_SERVER_AND_SCHEMA = """
SELECT current_schema() AS schema, pg_encoding_to_char(encoding) AS encoding,
    CAST(current_setting('server_version_num') AS INT) / 10000 AS version,
    to_regclass('schema_version') IS NOT NULL AS has_versions,
    EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema()) AS has_tables
FROM pg_database WHERE datname = current_database()
"""
_CREATE_VERSIONS_TABLE = """
CREATE TABLE schema_version (
    version        BIGINT PRIMARY KEY,
    application_id BIGINT NOT NULL,
    applied_at     TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""
# Not from information_schema, which lists what the user has rights on.
_IS_OURS = """
SELECT EXISTS (
    SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('schema_version') AND attname = 'application_id'
)
"""
_SESSION = """
SELECT pg_is_in_recovery() AS is_stand_by, current_setting('transaction_read_only') = 'on' AS is_read_only,
    current_setting('session_replication_role') AS replication_role
"""
_VERSION = "SELECT coalesce(max(version), 0) FROM schema_version WHERE application_id = ?"
_APPLIED = "INSERT INTO schema_version (version, application_id) VALUES (?, ?)"
_DELETE_OLD_WRITERS = """
DELETE FROM writers WHERE seen_at < CAST(extract(epoch FROM now() - INTERVAL '30 days') * 1000000 AS BIGINT)
"""

# The objects of the schema and their definitions, without the schema's name, so that equal schemas of different names
# compare equal. Constraints, indexes and triggers are included by their table.
# Of constraints without parentheses: after pg_dump and pg_restore PostgreSQL prints those of nested ANDs otherwise.
_OBJECTS = """
WITH ours AS (
    SELECT oid, relname FROM pg_class WHERE relnamespace = CAST(current_schema() AS REGNAMESPACE) AND relkind = 'r'
)
SELECT 'column ' || relname || '.' || attname AS name, concat_ws(' ', format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN 'NOT NULL' END, attidentity, (SELECT collname FROM pg_collation WHERE oid = attcollation),
    (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)) AS definition
FROM pg_attribute JOIN ours ON ours.oid = attrelid WHERE attnum > 0 AND NOT attisdropped
UNION ALL
SELECT 'table ' || relname, 'table' FROM ours
UNION ALL
SELECT 'constraint ' || relname || '.' || conname, translate(pg_get_constraintdef(pg_constraint.oid), '()', '')
FROM pg_constraint JOIN ours ON ours.oid = conrelid
UNION ALL
SELECT 'index ' || index.relname, replace(pg_get_indexdef(index.oid), ' ON ' || current_schema() || '.', ' ON ')
FROM pg_index JOIN ours ON ours.oid = indrelid JOIN pg_class index ON index.oid = indexrelid
UNION ALL
SELECT 'trigger ' || tgname,
    replace(pg_get_triggerdef(pg_trigger.oid), ' ON ' || current_schema() || '.', ' ON ')
        || ' ' || CAST(tgenabled AS TEXT)
FROM pg_trigger JOIN ours ON ours.oid = tgrelid WHERE NOT tgisinternal
UNION ALL
SELECT 'function ' || proname, prosrc FROM pg_proc WHERE pronamespace = CAST(current_schema() AS REGNAMESPACE)
"""
_CHECKS = """
SELECT conrelid::regclass::text AS child, conname, pg_get_expr(conbin, conrelid) AS condition
FROM pg_constraint WHERE contype = 'c' AND connamespace = CAST(current_schema() AS REGNAMESPACE) AND conrelid <> 0
ORDER BY conname
"""
_FOREIGN_KEYS = """
SELECT conrelid::regclass::text AS child, confrelid::regclass::text AS parent,
    (SELECT attname FROM pg_attribute WHERE attrelid = conrelid AND attnum = conkey[1]) AS child_column,
    (SELECT attname FROM pg_attribute WHERE attrelid = confrelid AND attnum = confkey[1]) AS parent_column
FROM pg_constraint WHERE contype = 'f' AND connamespace = CAST(current_schema() AS REGNAMESPACE)
ORDER BY conname
"""


_expected: dict[tuple[int | str, ...], dict[str, str]] = {}


@cache
def migrations() -> dict[int, str]:
    """Return the SQL of every migration by its number: `0001_initial.sql` is 1."""
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in sorted(_MIGRATIONS.glob("[0-9]*.sql"))}


def newest_version() -> int:
    """Return the version that this program needs."""
    return max(migrations())


def require_writable(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Raise StoreError for a stand-by and for a user who may only read, DatabaseUnusable where triggers are off."""
    found = connection.execute(_SESSION).fetchone()
    if found["is_stand_by"]:
        raise StoreError(
            f"The database {address} is on a stand-by, which takes no writes. Set DATABASE_URL to the primary server, "
            f"or name both hosts and add ?target_session_attrs=read-write."
        )
    if found["is_read_only"]:
        raise StoreError(
            f"The database {address} is read-only for this user: reset default_transaction_read_only of the user, the "
            f"database or the server."
        )
    if found["replication_role"] != "origin":
        raise DatabaseUnusable(
            f"The database {address} runs no triggers for this user, and they protect the ledger: reset "
            f"session_replication_role."
        )


def prepare(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Create the schema or migrate it to the newest version, also when several processes start at once.

    Raises DatabaseUnusable and psycopg.Error.
    """
    if not check_ours(connection, address) or version_of(connection) < newest_version():
        _migrate(connection, address)
    else:
        _check(connection, address, expected_objects(connection))
    connection.execute(_DELETE_OLD_WRITERS)


def _check(connection: PostgresConnection, address: PostgresAddress, expected: Mapping[str, str]) -> None:
    """Raise DatabaseUnusable when the schema lacks an object, and LedgerTampered when the ledger does not balance."""
    missing = expected.keys() - objects(connection).keys()
    if missing:
        raise DatabaseUnusable(
            f"The database {address} is damaged: {', '.join(sorted(missing))} missing. Nothing was changed. Restore it "
            f"from the newest backup with pg_restore or psql."
        )
    if connection.in_transaction:
        check_ledger(connection, str(address))
        return
    # In one snapshot, because other processes may be writing.
    connection.execute(
        f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = '{GUARD_TIMEOUT_SECONDS}s'"
    )
    try:
        check_ledger(connection, str(address))
    except psycopg.errors.QueryCanceled:
        _log.warning(UNFINISHED, GUARD_TIMEOUT_SECONDS)
    finally:
        connection.rollback()


def check_ours(connection: PostgresConnection, address: PostgresAddress) -> bool:
    """Return False for an empty database. Raises DatabaseUnusable unless the schema is ours and not newer than us."""
    found = connection.execute(_SERVER_AND_SCHEMA).fetchone()
    if found["version"] < _MIN_SERVER_VERSION:
        raise DatabaseUnusable(
            f"The server of {address} is PostgreSQL {found['version']}; the bot needs {_MIN_SERVER_VERSION} or newer."
        )
    if found["schema"] is None:
        raise DatabaseUnusable(
            f"The database {address} has no schema to use. Create the one that the search path names, `public` unless "
            f"it was set, and let the bot's user create tables in it."
        )
    if found["encoding"] != "UTF8":
        raise DatabaseUnusable(
            f"The database {address} is encoded in {found['encoding']}, which cannot hold every prompt. Create another "
            f"one with ENCODING 'UTF8'."
        )
    if not found["has_tables"]:
        return False
    is_ours = found["has_versions"] and connection.execute(_IS_OURS).fetchone()[0]
    try:
        version = version_of(connection) if is_ours else 0
    except psycopg.errors.InsufficientPrivilege as error:
        raise no_rights(address, error) from error
    if not version:
        raise DatabaseUnusable(
            f"The database {address} holds tables of another program. Set DATABASE_URL to a database of this bot or to "
            f"an empty one."
        )
    if version > newest_version():
        raise DatabaseUnusable(
            f"The database {address} has version {version}, newer than this program, which knows up to "
            f"{newest_version()}. Start the newer program again, or restore a copy made before the upgrade."
        )
    return True


def no_rights(address: PostgresAddress, error: psycopg.Error) -> DatabaseUnusable:
    """Return the DatabaseUnusable for a user who lacks a right."""
    return DatabaseUnusable(
        f"The user of DATABASE_URL has to own the database {address} and its tables: {error.diag.message_primary}."
    )


def version_of(connection: PostgresConnection) -> int:
    """Return the number of the last migration that was applied; 0 when none was."""
    return connection.execute(_VERSION, (APPLICATION_ID,)).fetchone()[0]


def _migrate(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Apply the missing migrations in one transaction, checked before it ends: a failed upgrade changes nothing."""
    expected = expected_objects(connection)
    connection.execute("BEGIN")
    with migration_lock(connection):
        # No other process writes between what a migration reads and what it writes.
        connection.execute(f"SELECT pg_advisory_xact_lock({WRITE_LOCK[0]}, {WRITE_LOCK[1]})")
        for version, script in migrations().items():
            apply_migration(connection, address, version, script)
        _check(connection, address, expected)
        connection.execute("COMMIT")


@contextmanager
def migration_lock(connection: PostgresConnection) -> Generator[None]:
    """Hold the lock for migrations until the end of the open transaction, and roll back what was not committed.

    A process that waited for the lock finds the migration applied.
    """
    try:
        connection.execute("SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = 0")
        connection.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK[0]}, {_MIGRATION_LOCK[1]})")
        yield
    finally:
        connection.rollback()


def apply_migration(connection: PostgresConnection, address: PostgresAddress, version: int, script: str) -> None:
    """Apply one migration in the caller's transaction, unless it was applied before."""
    if not check_ours(connection, address):
        connection.execute(_CREATE_VERSIONS_TABLE)
    elif version_of(connection) >= version:
        return
    connection.execute(script)
    connection.execute(_APPLIED, (version, APPLICATION_ID))


def objects(connection: PostgresConnection) -> dict[str, str]:
    """Return the tables, columns, constraints, indexes, triggers and functions by name, with their definitions."""
    return {row["name"]: row["definition"] for row in connection.execute(_OBJECTS)}


def expected_objects(connection: PostgresConnection) -> dict[str, str]:
    """Return what `objects` has to return for the newest version, from a temporary schema that is rolled back.

    Cached by the migrations and by the server's version, which decides how definitions are printed.
    """
    key = (connection.raw.info.server_version, *migrations().values())
    if key not in _expected:
        _expected[key] = _make_expected_objects(connection)
    return _expected[key]


def _make_expected_objects(connection: PostgresConnection) -> dict[str, str]:
    schema = f"image_bot_expected_{secrets.token_hex(8)}"  # several processes may start at once
    connection.execute("BEGIN")
    try:
        connection.execute(f"CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}")
        connection.execute(_CREATE_VERSIONS_TABLE)
        for script in migrations().values():
            connection.execute(script)
        return objects(connection)
    finally:
        connection.rollback()


def violations(connection: PostgresConnection) -> list[str]:
    """Count rows that break a CHECK or a foreign key. The server refuses them unless its checks are turned off."""
    found: list[str] = []
    for child, parent, child_column, parent_column in connection.execute(_FOREIGN_KEYS).fetchall():
        count = connection.execute(
            f"SELECT count(*) FROM {child} WHERE {child_column} IS NOT NULL AND NOT EXISTS "  # noqa: S608 - our own names
            f"(SELECT 1 FROM {parent} WHERE {parent}.{parent_column} = {child}.{child_column})"
        ).fetchone()[0]
        if count:
            found.append(f"{count} rows of {child} refer to a missing row of {parent}")
    for table, name, condition in connection.execute(_CHECKS).fetchall():
        count = connection.execute(f"SELECT count(*) FROM {table} WHERE NOT ({condition})").fetchone()[0]  # noqa: S608
        if count:
            found.append(f"{count} rows of {table} break {name}")
    return found
