"""The schema on PostgreSQL: whether it is ours and of a version we know, and the migrations that make it the newest.

Everything lies in the first schema of the connection's search path: `public`, unless the operator says otherwise.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from bot.domain.database_url import PostgresAddress
from bot.domain.errors import DatabaseUnusable
from bot.store.postgres.connection import PostgresConnection
from bot.store.sqlite.schema import APPLICATION_ID

_MIGRATIONS = Path(__file__).parents[1] / "migrations" / "postgresql"
_OLDEST_SERVER = 14

_MIGRATION_LOCK = (APPLICATION_ID, 1)
WRITE_LOCK = (APPLICATION_ID, 2)
BOT_LOCK = (APPLICATION_ID, 3)
"""Advisory locks, told apart from other programs' by the number that stands in the header of our files."""

_ABOUT = """
SELECT current_schema() AS schema, pg_encoding_to_char(encoding) AS encoding,
    CAST(current_setting('server_version_num') AS INT) / 10000 AS version,
    to_regclass('schema_version') IS NOT NULL AS has_versions,
    EXISTS (SELECT 1 FROM pg_tables WHERE schemaname = current_schema()) AS has_tables
FROM pg_database WHERE datname = current_database()
"""
_VERSIONS = """
CREATE TABLE schema_version (
    version        BIGINT PRIMARY KEY,
    application_id BIGINT NOT NULL,
    applied_at     TIMESTAMPTZ NOT NULL DEFAULT now()
)
"""
_IS_OURS = """
SELECT EXISTS (
    SELECT 1 FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name = 'schema_version' AND column_name = 'application_id'
)
"""
_VERSION = "SELECT coalesce(max(version), 0) FROM schema_version WHERE application_id = ?"
_APPLIED = "INSERT INTO schema_version (version, application_id) VALUES (?, ?)"
_FORGET_OLD_WRITERS = """
DELETE FROM writers WHERE seen_at < CAST(extract(epoch FROM now() - INTERVAL '30 days') * 1000000 AS BIGINT)
"""

# The names of a schema of ours and what stands behind each, without the schema's own name: two schemas that hold the
# same look the same. Whatever hangs on one of our tables belongs to it; other tables are nobody's business.
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
SELECT 'constraint ' || relname || '.' || conname, pg_get_constraintdef(pg_constraint.oid)
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
    """The SQL of every migration by its number: `0001_initial.sql` is 1."""
    return {int(file.name[:4]): file.read_text(encoding="utf-8") for file in sorted(_MIGRATIONS.glob("[0-9]*.sql"))}


def newest_version() -> int:
    return max(migrations())


def prepare(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Make sure that sound books of the newest version lie there, also when several processes start at once.

    Raises DatabaseUnusable and psycopg.Error.
    """
    _migrate(connection, address)
    missing = expected_objects(connection).keys() - objects(connection).keys()
    if missing:
        raise DatabaseUnusable(
            f"The database {address} is damaged: {', '.join(sorted(missing))} missing. Nothing was changed. Restore it "
            f"from the newest backup with pg_restore or psql."
        )
    connection.execute(_FORGET_OLD_WRITERS)


def check_ours(connection: PostgresConnection, address: PostgresAddress) -> bool:
    """False when there is nothing at all yet. Raises DatabaseUnusable unless it is ours and not newer than we are."""
    about = connection.execute(_ABOUT).fetchone()
    if about["version"] < _OLDEST_SERVER:
        raise DatabaseUnusable(
            f"The server of {address} is PostgreSQL {about['version']}; the bot needs {_OLDEST_SERVER} or newer."
        )
    if about["schema"] is None:
        raise DatabaseUnusable(
            f"The database {address} has no schema to use. Create the one that the search path names, `public` unless "
            f"it was set, and let the bot's user create tables in it."
        )
    if about["encoding"] != "UTF8":
        raise DatabaseUnusable(
            f"The database {address} is encoded in {about['encoding']}, which cannot hold every prompt. Create it anew "
            f"with ENCODING 'UTF8'."
        )
    if not about["has_tables"]:
        return False
    if not about["has_versions"] or not connection.execute(_IS_OURS).fetchone()[0] or not version_of(connection):
        raise DatabaseUnusable(
            f"The database {address} holds tables of another program. Set DATABASE_URL to a database of this bot or to "
            f"an empty one."
        )
    if version_of(connection) > newest_version():
        raise DatabaseUnusable(
            f"The database {address} has version {version_of(connection)}, newer than this program, which knows up to "
            f"{newest_version()}. Start the newer program again, or restore a copy made before the upgrade."
        )
    return True


def version_of(connection: PostgresConnection) -> int:
    """The number of the last migration that was applied; 0 when none was."""
    return connection.execute(_VERSION, (APPLICATION_ID,)).fetchone()[0]


def _migrate(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Apply what is missing, each migration in one transaction of its own: an interrupted one leaves no trace."""
    if check_ours(connection, address) and version_of(connection) == newest_version():
        return
    for version, script in migrations().items():
        connection.execute("BEGIN")
        with alone(connection):
            apply(connection, address, version, script)
            connection.execute("COMMIT")


@contextmanager
def alone(connection: PostgresConnection) -> Generator[None]:
    """The rest of this transaction, while no other process migrates: one that waited here finds the work done."""
    try:
        connection.execute("SET LOCAL lock_timeout = '120s'; SET LOCAL statement_timeout = 0")
        connection.execute(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK[0]}, {_MIGRATION_LOCK[1]})")
        yield
    finally:
        connection.rollback()


def apply(connection: PostgresConnection, address: PostgresAddress, version: int, script: str) -> None:
    """One migration in the caller's transaction, unless it was applied before."""
    if not check_ours(connection, address):
        connection.execute(_VERSIONS)
    elif version_of(connection) >= version:
        return
    connection.execute(script)
    connection.execute(_APPLIED, (version, APPLICATION_ID))


def objects(connection: PostgresConnection) -> dict[str, str]:
    """Every table, column, condition, index, trigger and function of the schema by name, with its definition."""
    return {row["name"]: row["definition"] for row in connection.execute(_OBJECTS)}


def expected_objects(connection: PostgresConnection) -> dict[str, str]:
    """What `objects` has to hold in books of the newest version: made for a moment, in a transaction that is undone.

    Kept for these migrations and the server's version, which words the definitions.
    """
    key = (connection.raw.info.server_version, *migrations().values())
    if key not in _expected:
        _expected[key] = _make_expected_objects(connection)
    return _expected[key]


def _make_expected_objects(connection: PostgresConnection) -> dict[str, str]:
    schema = f"image_bot_expected_{connection.raw.info.backend_pid}"
    connection.execute("BEGIN")
    try:
        connection.execute(f"CREATE SCHEMA {schema}; SET LOCAL search_path = {schema}")
        connection.execute(_VERSIONS)
        for script in migrations().values():
            connection.execute(script)
        return objects(connection)
    finally:
        connection.rollback()


def unsound(connection: PostgresConnection) -> list[str]:
    """Rows that break a condition or refer to a row that is not there. The server lets none in unless it is told to."""
    found: list[str] = []
    for child, parent, child_column, parent_column in connection.execute(_FOREIGN_KEYS).fetchall():
        count = connection.execute(
            f"SELECT count(*) FROM {child} WHERE {child_column} IS NOT NULL AND NOT EXISTS "  # noqa: S608 - our names
            f"(SELECT 1 FROM {parent} WHERE {parent}.{parent_column} = {child}.{child_column})"
        ).fetchone()[0]
        if count:
            found.append(f"{count} rows of {child} refer to a missing row of {parent}")
    for table, name, condition in connection.execute(_CHECKS).fetchall():
        count = connection.execute(f"SELECT count(*) FROM {table} WHERE NOT ({condition})").fetchone()[0]  # noqa: S608
        if count:
            found.append(f"{count} rows of {table} break {name}")
    return found
