"""Databases for the tests of every engine: a connection without threads, and direct access besides the store."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.store.admin import verify
from bot.store.core.connection import Connection
from bot.store.core.transaction_queue import Priority, TransactionResult
from bot.store.postgres.connection import PostgresConnection
from bot.store.postgres.pool import ConnectionThread
from bot.store.postgres.writer import PostgresWriter
from bot.store.sqlite import database, schema
from bot.store.sqlite.connection import SqliteConnection
from tests.support.postgres_server import the_server

T = TypeVar("T")

ENGINES = ("sqlite", "postgresql")


class Books(Protocol):
    """A database without threads: each transaction runs in the call. It replaces the database of a store."""

    is_shared: bool

    connection: Connection

    async def write(self, work: Callable[[Connection], T], priority: Priority = Priority.NORMAL) -> T: ...

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    def write_now(self, work: Callable[[Connection], T]) -> T: ...

    def findings(self) -> list[verify.Finding]: ...

    def close(self) -> None: ...


class _Books:
    is_shared = False

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _commit(self, work: Callable[[Connection], Any]) -> list[TransactionResult]:
        raise NotImplementedError

    def write_now(self, work: Callable[[Connection], T]) -> T:
        [outcome] = self._commit(work)
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.value)

    async def write(self, work: Callable[[Connection], T], priority: Priority = Priority.NORMAL) -> T:
        return self.write_now(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        return work(self.connection)


class _InMemory(_Books):
    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection)
        self.raw.row_factory = sqlite3.Row
        self.raw.execute("PRAGMA foreign_keys = ON")
        schema.migrate(self.raw)
        super().__init__(self.raw)

    def _commit(self, work: Callable[[Connection], Any]) -> list[TransactionResult]:
        return database.commit_batch(self.raw, [work])

    def findings(self) -> list[verify.Finding]:
        return verify.verify(self.raw)

    def close(self) -> None:
        self.raw.close()


class _ThisThread:
    """Stands in for the writer's `ConnectionThread`, without a thread."""

    def __init__(self, address: PostgresAddress) -> None:
        self.address = address
        self.open = PostgresConnection.open(address)

    def connection(self) -> PostgresConnection:
        return self.open

    def drop(self) -> None:
        raise AssertionError("the connection broke")


class _OnServer(_Books):
    def __init__(self) -> None:
        self._session = _ThisThread(the_server().fresh())
        self._writer = PostgresWriter(cast("ConnectionThread", self._session))
        super().__init__(self._session.open)

    def _commit(self, work: Callable[[Connection], Any]) -> list[TransactionResult]:
        return self._writer.commit([work])

    def findings(self) -> list[verify.Finding]:
        return verify.verify_location(self._session.address)

    def close(self) -> None:
        self._session.open.close()
        the_server().drop(self._session.address)


def new_database(engine: str) -> Books:
    """Create an empty database of this engine."""
    return _InMemory() if engine == "sqlite" else _OnServer()


@contextmanager
def new_databases_are_copies() -> Iterator[None]:
    """Make every new SQLite database of this process a copy of one that the migrations made: 30 ms less for each."""
    migrate, migrations = schema.migrate, schema.migrations
    lock = threading.Lock()
    with closing(
        sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection, check_same_thread=False)
    ) as (first):
        migrate(first)

        def copy_or_migrate(connection: SqliteConnection, name: str = "the database") -> None:
            is_new = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
            if not is_new or schema.migrations is not migrations:
                migrate(connection, name)
                return
            with lock:
                first.backup(connection)

        schema.migrate = copy_or_migrate
        try:
            yield
        finally:
            schema.migrate = migrate


# -- direct access, besides the store ---------------------------------------------------------------------


def rows(location: Location, query: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query, also while a store has the database open."""
    if isinstance(location, PostgresAddress):
        with closing(PostgresConnection.open(location)) as connection:
            return [tuple(row) for row in connection.execute(query)]
    with closing(sqlite3.connect(location)) as connection:
        return [tuple(row) for row in connection.execute(query)]


def execute(location: Location, *statements: str) -> None:
    """Run statements as any program could: triggers, checks and foreign keys hold."""
    if isinstance(location, PostgresAddress):
        with closing(PostgresConnection.open(location)) as connection:
            for statement in statements:
                connection.execute(statement)
        return
    with closing(sqlite3.connect(location, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def everything_in(location: Location) -> str:
    """Return every value of every row as text."""
    tables = "SELECT name FROM sqlite_schema WHERE type = 'table'"
    if isinstance(location, PostgresAddress):
        tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'schema_version'"
    names = [name for (name,) in rows(location, tables)]
    return "\n".join(repr(row) for name in names for row in rows(location, f"SELECT * FROM {name}"))


def tamper(location: Location, *statements: str) -> None:
    """Change the database in ways that the store prevents: without triggers, checks and foreign keys."""
    change = _tamper_with_file if isinstance(location, Path) else _tamper_with_server
    change(cast("Any", location), statements)


def _tamper_with_file(path: Path, statements: Sequence[str]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        for _, sql in triggers:
            connection.execute(sql)


def _tamper_with_server(address: PostgresAddress, statements: Sequence[str]) -> None:
    checks = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'c' AND connamespace = 'public'::regnamespace
    """
    with closing(PostgresConnection.open(address)) as connection:
        connection.execute("SET session_replication_role = replica")  # no triggers, no foreign keys
        dropped = [tuple(row) for row in connection.execute(checks)]
        for table, name, _ in dropped:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        for statement in statements:
            connection.execute(statement)
        for table, name, definition in dropped:
            connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition} NOT VALID")
            # Mark it as validated although the rows violate it.
            connection.execute(f"UPDATE pg_constraint SET convalidated = TRUE WHERE conname = '{name}'")
