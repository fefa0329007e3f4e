"""A connection to PostgreSQL with the interface of `bot.store.core.connection.Connection`, as SQLite's has it.

The placeholders `?` and `:name` are translated into the driver's own, once per statement text.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Self

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseUnusable, LedgerError, StoreError
from bot.store.core.connection import Cursor, Dialect, Parameters

_CONNECTION_SETTINGS = {
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    # A server that disappears without closing the connection is noticed after about ten seconds.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_SESSION_SETTINGS = """
SET synchronous_commit = on;
SET statement_timeout = '20s';
SET lock_timeout = '8s';
SET idle_in_transaction_session_timeout = '5s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3;
SELECT set_config('client_connection_check_interval', '2s', false) WHERE version() LIKE '%linux%'
"""
"""The server disconnects a stalled process after five seconds, which frees the write lock; other processes wait for it
for at most eight. A process whose machine has disappeared is disconnected after about ten. The statement of a killed
process is ended after two, where the server's system can tell: a migration would keep its tables locked to its end."""

CONNECTIONS_PER_PROCESS = 8
"""One writes, three read, two are for images, and one each for the reply queue and for notifications."""

_SESSION_TIMEOUT_SECONDS = 5.0
"""A pooler without a free connection accepts a client and lets its first statement wait, for minutes."""

_PLACEHOLDER = re.compile(r"'(?:[^']|'')*'|--[^\n]*|::|%|\?|:([a-z_]+)")


@cache
def _translated_placeholders(sql: str) -> bytes:
    def driver_placeholder(match: re.Match[str]) -> str:
        found = match[0]
        if match[1]:
            return f"%({match[1]})s"
        return "%s" if found == "?" else found.replace("%", "%%")

    return _PLACEHOLDER.sub(driver_placeholder, sql).encode()


class PostgresRow:
    """One row: indexed by position or by name, unpacked, or converted with `dict(row)`."""

    __slots__ = ("_positions", "_values")

    def __init__(self, positions: dict[str, int], values: Sequence[Any]) -> None:
        self._positions = positions
        self._values = values

    def __getitem__(self, key: int | str) -> Any:
        return self._values[self._positions[key] if isinstance(key, str) else key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        return list(self._positions)


def _row_factory(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], PostgresRow]:
    positions = {column.name: position for position, column in enumerate(cursor.description or ())}
    return lambda values: PostgresRow(positions, values)


def as_stored(text: str) -> str:
    """Replace NUL, the one character that PostgreSQL cannot store, with the symbol U+2400."""
    return text.replace("\0", "\u2400")


class _TextDumper(StrDumper):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(as_stored(obj))


class NotReplicatedError(Exception):
    """The server stopped waiting for its stand-bys: the transaction is committed there, and perhaps there alone."""


class PostgresConnection:
    """One connection, for use by one thread. Only `cut` may be called from another."""

    dialect = Dialect.POSTGRESQL

    def __init__(self, raw: psycopg.Connection[PostgresRow]) -> None:
        self.raw = raw
        self._socket = socket.socket(fileno=os.dup(raw.fileno()))
        self._warnings: list[str | None] = []
        raw.add_notice_handler(self._note_warning)

    @classmethod
    def open(cls, address: PostgresAddress) -> Self:
        """Connect and configure the session. Raises psycopg.Error."""
        raw = psycopg.Connection[PostgresRow].connect(_conninfo(address), autocommit=True, row_factory=_row_factory)
        try:
            dumpers: dict[type, type[Dumper]] = {int: Int8Dumper, str: _TextDumper}
            for kind, dumper in dumpers.items():
                raw.adapters.register_dumper(kind, dumper)
            raw.prepared_max = 400  # more than there are statements
            connection = cls(raw)
        except BaseException:
            raw.close()
            raise
        timer = threading.Timer(_SESSION_TIMEOUT_SECONDS, connection.cut)
        timer.start()
        try:
            raw.execute(_SESSION_SETTINGS.encode(), prepare=False)
            return connection
        except BaseException:
            connection.close()
            raise
        finally:
            timer.cancel()

    @property
    def in_transaction(self) -> bool:
        return self.raw.info.transaction_status in (
            TransactionStatus.ACTIVE,
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        if not parameters:
            # Never prepared: it may be several statements in one round trip, and most of them run only once.
            return self.raw.execute(sql.encode(), prepare=False)
        return self.raw.execute(_translated_placeholders(sql), parameters)

    def notify(self, channel: str, payload: str) -> None:
        """Send a notification to everybody who listens, when the transaction commits."""
        self.execute("SELECT pg_notify(?, ?)", (channel, payload))

    def stream(self, sql: str) -> Iterator[Any]:
        """Yield the rows of a result that may not fit in memory."""
        with self.raw.cursor() as cursor:
            yield from cursor.stream(sql.encode(), size=1_000)

    def _note_warning(self, notice: psycopg.errors.Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            self._warnings.append(notice.message_primary)

    def commit(self) -> bool:
        """Commit. Return False when the server rolled back instead. Raises psycopg.Error, NotReplicatedError.

        With `synchronous_standby_names`, COMMIT returns when a stand-by has the transaction. If it is cancelled while
        it waits, it succeeds with a warning, and the transaction is lost when a stand-by takes over.
        """
        self._warnings.clear()
        status = self.raw.execute(b"COMMIT", prepare=False).statusmessage
        if status != "COMMIT":  # only the status tells
            return False
        if self._warnings:  # COMMIT gives no other warning inside a transaction
            raise NotReplicatedError(self._warnings[0])
        return True

    def rollback(self) -> None:
        """Roll back the open transaction, if there is one. Close the connection when that fails."""
        if self.in_transaction:
            try:
                self.raw.execute(b"ROLLBACK", prepare=False)
            except psycopg.Error:
                self.close()

    def is_broken_by(self, error: psycopg.Error) -> bool:
        """Return whether the connection is unusable after `error`: the server is gone or has disconnected us."""
        if self.raw.closed:
            return True
        if error.sqlstate is None:  # raised by the driver, not by the server
            return isinstance(error, psycopg.OperationalError)
        if isinstance(error, psycopg.errors.FeatureNotSupported):
            # "cached plan must not change result type": prepared before a newer version added columns to the table.
            return True
        return error.diag.severity_nonlocalized in ("FATAL", "PANIC")

    def cut(self) -> None:
        """Shut down the socket, so that a thread that waits for the server's response fails at once."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self.raw.close()
        self._socket.close()


async def open_async_connection(address: PostgresAddress) -> psycopg.AsyncConnection:
    """Connect from a coroutine, for LISTEN. Raises psycopg.Error."""
    connection = await psycopg.AsyncConnection.connect(_conninfo(address), autocommit=True)
    try:
        async with asyncio.timeout(_SESSION_TIMEOUT_SECONDS):
            await connection.execute(_SESSION_SETTINGS.encode(), prepare=False)
    except TimeoutError:
        await connection.close()
        raise psycopg.OperationalError("no connection is free") from None
    except BaseException:
        await connection.close()
        raise
    return connection


def _conninfo(address: PostgresAddress) -> str:
    return make_conninfo(
        "", **{"application_name": "image-bot", **_CONNECTION_SETTINGS, **conninfo_to_dict(address.url)}
    )


def translated_error(error: psycopg.Error, address: PostgresAddress) -> StoreError:
    """Return the StoreError (LedgerError for a broken constraint) that callers of the store get for `error`."""
    # Without the server's DETAIL, which quotes the row and so what a member wrote.
    reason = address.hide(" ".join((error.diag.message_primary or str(error)).split())).rstrip(".")
    if isinstance(error, psycopg.errors.IntegrityError):  # a retry would be refused again
        return LedgerError(f"The database refused what was asked: {reason}.")
    return StoreError(f"The database did not do what was asked: {reason}.")


def no_room(address: PostgresAddress, error: StoreError) -> StoreError:
    """Return the StoreError for a server that was reached before and refuses a further connection."""
    return StoreError(
        f"The database {address} does not give this process the connections that it needs, up to "
        f"{CONNECTIONS_PER_PROCESS}. Raise max_connections of the server, the limit of its user, or the pool size of a "
        f"pooler, or run fewer processes. {error}"
    )


def unreachable(address: PostgresAddress, error: psycopg.Error) -> StoreError:
    """Return the StoreError for a failed connection attempt."""
    # libpq puts a hint, such as whether the server is running, on a line of its own.
    failure, *hints = (" ".join(line.split()) for line in str(error).strip().splitlines() or [""])
    reason = address.hide(failure.rstrip(".") + (f" ({' '.join(hints)})" if hints else ""))
    return StoreError(f"The database {address} cannot be reached: {reason}.")


_SESSION_SETTING = "image_bot.session"
_SESSION_ROUNDS = 3


def require_sessions(connection: PostgresConnection, address: PostgresAddress) -> None:
    """Check that a pooler before the server keeps sessions: the bot's locks and notices need them.

    Raises DatabaseUnusable when what one transaction sets in its session is gone in the next. Raises psycopg.Error.

    A pooler in transaction mode gives an idle client's connection to others, so a second client has to be busy.
    """
    with contextlib.closing(PostgresConnection.open(address)) as other:
        for count in range(_SESSION_ROUNDS):
            value = secrets.token_hex(8)
            connection.execute("SELECT set_config(?, ?, false)", (_SESSION_SETTING, value))
            for _ in range(count):  # a pooler that takes turns among its connections would pass every equal round
                other.execute("SELECT 1")
            other.execute(f"BEGIN; SET LOCAL {_SESSION_SETTING} = ''")
            found = connection.execute(f"SELECT current_setting('{_SESSION_SETTING}', true)").fetchone()[0]
            other.execute("ROLLBACK")
            if found != value:
                raise DatabaseUnusable(
                    f"The database {address} is reached through a pooler that changes the connection after each "
                    f"transaction, which loses the bot's locks and notices. Set pool_mode = session for this database "
                    f"in PgBouncer, or set DATABASE_URL to the server's own address."
                )
