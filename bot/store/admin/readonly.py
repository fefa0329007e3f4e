"""Read-only connections to a database that a running bot may have open.

The driver of PostgreSQL is imported where a server is opened: a bot with a file does without its 8 MB.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bot.catalogue.provider_description.changes import RecordedChange
from bot.catalogue.provider_description.model_notices import ModelNotice
from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.domain.errors import StoreError
from bot.store.core.connection import Connection, DialectSql
from bot.store.sqlite import schema
from bot.store.sqlite.connection import connect_for_reading
from bot.store.tables.shared import catalogue

if TYPE_CHECKING:
    from bot.store.postgres.connection import PostgresConnection

T = TypeVar("T")


@contextmanager
def open_readonly(location: Location) -> Generator[Connection]:
    """Open a connection for one consistent read. Raises StoreError, DatabaseUnusable."""
    if isinstance(location, PostgresAddress):
        with open_server_readonly(location) as connection:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield connection
        return
    if not location.exists():
        raise StoreError(f"There is no database {location}.")
    is_older = False
    try:
        schema.check_header(location)
        with closing(connect_for_reading(location)) as connection:
            schema.check_program(connection, location)
            is_older = schema.version_of(connection) < schema.newest_version()
            connection.execute("BEGIN")
            yield connection
    except (sqlite3.Error, OSError) as error:
        if is_older:  # what is asked for is not there yet
            raise older_version(location) from error
        raise StoreError(f"{location} cannot be read: {error}") from error


def older_version(location: Location) -> StoreError:
    """Return the error for a database that this program has yet to upgrade."""
    return StoreError(f"{location} is of an older version. Start the bot on it once, which makes a backup of a file.")


@contextmanager
def open_server_readonly(address: PostgresAddress) -> Generator[PostgresConnection]:
    """Open a connection without time limits to a database of this program's version or older.

    Raises StoreError for an empty database or an unreachable server, and DatabaseUnusable.
    """
    import psycopg

    from bot.store.postgres import schema as postgres_schema
    from bot.store.postgres.connection import PostgresConnection, translated_error, unreachable

    try:
        connection = PostgresConnection.open(address)
    except psycopg.Error as error:
        raise unreachable(address, error) from error
    try:
        if not postgres_schema.check_ours(connection, address):
            raise StoreError(f"There is no database of this program in {address} yet.")
        connection.execute("SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0")
        yield connection
    except psycopg.Error as error:
        raise translated_error(error, address) from error
    finally:
        connection.close()


def recorded_catalogue(location: Location) -> tuple[list[RecordedChange], list[ModelNotice]]:
    """Return the recorded changes of the catalogue and what providers say about models; nothing without a database.

    A database of an older version has none yet. Raises StoreError, DatabaseUnusable.
    """
    if not exists(location):
        return [], []
    with open_readonly(location) as connection:
        if connection.execute(_HAS_CATALOGUE.on(connection)).fetchone()[0] is None:
            return [], []
        return catalogue.changes(connection), catalogue.model_notices(connection)


_HAS_CATALOGUE = DialectSql(
    sqlite="SELECT max(name) FROM sqlite_schema WHERE name = 'model_notices'",
    postgresql="SELECT CAST(to_regclass('model_notices') AS TEXT)",
)


_OPEN_JOBS = """
SELECT provider, count(*) AS jobs FROM jobs WHERE finished_at IS NULL OR follow_until_at IS NOT NULL
GROUP BY provider ORDER BY provider
"""


def open_jobs(path: Path) -> dict[str, int]:
    """Return how many jobs of each provider are not at their end. Raises StoreError, DatabaseUnusable."""
    if not path.exists():
        return {}
    with open_readonly(path) as connection:
        return {row["provider"]: row["jobs"] for row in connection.execute(_OPEN_JOBS).fetchall()}


def write_beside(path: Path, work: Callable[[Connection], T]) -> T:
    """Run `work` as one transaction on a file that a running bot has open, which waits meanwhile.

    For decisions of the operator that take a moment. Raises StoreError.
    """
    try:
        with closing(connect_for_reading(path)) as connection:
            connection.execute("PRAGMA query_only = OFF")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            return result
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be written: {error}") from error


def exists(location: Location) -> bool:
    """Return whether the database exists and is not empty. Raises StoreError, DatabaseUnusable."""
    if isinstance(location, Path):
        return location.exists()
    import psycopg

    from bot.store.postgres import schema as postgres_schema
    from bot.store.postgres.connection import PostgresConnection, unreachable

    try:
        with closing(PostgresConnection.open(location)) as connection:
            return postgres_schema.check_ours(connection, location)
    except psycopg.Error as error:
        raise unreachable(location, error) from error
