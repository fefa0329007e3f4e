"""A connection to PostgreSQL that the functions of this package can use as they use SQLite's.

A statement's `?` and `:name` are turned into the driver's own marks once, however often it runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
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

from bot.domain.database_url import PostgresAddress
from bot.domain.errors import LedgerError, StoreError
from bot.store.core.connection import Cursor, Parameters

_CONNECT = {
    "client_encoding": "UTF8",
    "connect_timeout": "5",
    # A server that has vanished without a word is noticed after some ten seconds.
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
_SESSION = """
SET synchronous_commit = on;
SET statement_timeout = '20s';
SET lock_timeout = '8s';
SET idle_in_transaction_session_timeout = '5s';
SET tcp_keepalives_idle = 5;
SET tcp_keepalives_interval = 2;
SET tcp_keepalives_count = 3
"""
"""A stalled process is thrown off after five seconds, and gives back the lock that the others wait for up to eight; one
whose machine has vanished after some ten."""

_MARK = re.compile(r"'(?:[^']|'')*'|--[^\n]*|::|%|\?|:([a-z_]+)")


@cache
def _translated(sql: str) -> bytes:
    def driver_mark(match: re.Match[str]) -> str:
        found = match[0]
        if match[1]:
            return f"%({match[1]})s"
        return "%s" if found == "?" else found.replace("%", "%%")

    return _MARK.sub(driver_mark, sql).encode()


class PostgresRow:
    """One row, read by position, by name, unpacked, or as a whole with `dict(row)`."""

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


def _rows_of(cursor: psycopg.Cursor[Any]) -> Callable[[Sequence[Any]], PostgresRow]:
    positions = {column.name: position for position, column in enumerate(cursor.description or ())}
    return lambda values: PostgresRow(positions, values)


def as_stored(text: str) -> str:
    """The one character that SQLite keeps and PostgreSQL cannot is kept as its picture."""
    return text.replace("\0", "\u2400")


class _TextDumper(StrDumper):
    def dump(self, obj: str) -> Buffer | None:
        return super().dump(as_stored(obj))


class PostgresConnection:
    """One connection, used by one thread; `cut` alone may be called from another."""

    def __init__(self, raw: psycopg.Connection[PostgresRow]) -> None:
        self.raw = raw
        self._line = socket.socket(fileno=os.dup(raw.fileno()))

    @classmethod
    def open(cls, address: PostgresAddress) -> Self:
        """Raises psycopg.Error."""
        raw = psycopg.Connection[PostgresRow].connect(_conninfo(address), autocommit=True, row_factory=_rows_of)
        try:
            dumpers: dict[type, type[Dumper]] = {int: Int8Dumper, str: _TextDumper}
            for kind, dumper in dumpers.items():
                raw.adapters.register_dumper(kind, dumper)
            raw.prepared_max = 400  # more than there are statements
            raw.execute(_SESSION.encode(), prepare=False)
            return cls(raw)
        except BaseException:
            raw.close()
            raise

    @property
    def in_transaction(self) -> bool:
        return self.raw.info.transaction_status in (
            TransactionStatus.ACTIVE,
            TransactionStatus.INTRANS,
            TransactionStatus.INERROR,
        )

    def execute(self, sql: str, parameters: Parameters = (), /) -> Cursor:
        if not parameters:
            # Never prepared: it may be several statements in one trip, and most of these do not come twice.
            return self.raw.execute(sql.encode(), prepare=False)
        return self.raw.execute(_translated(sql), parameters)

    def stream(self, sql: str) -> Iterator[Any]:
        """The rows of an answer that may be too big to be held as a whole."""
        with self.raw.cursor() as cursor:
            yield from cursor.stream(sql.encode(), size=1_000)

    def rollback(self) -> None:
        """End a transaction that is open; a connection that cannot even do that is no good any more."""
        if self.in_transaction:
            try:
                self.raw.execute(b"ROLLBACK", prepare=False)
            except psycopg.Error:
                self.close()

    def is_broken_by(self, error: psycopg.Error) -> bool:
        """Whether the connection is of no use after `error`: the server is gone, or has thrown us off."""
        if self.raw.closed:
            return True
        if error.sqlstate is None:  # not the server's word
            return isinstance(error, psycopg.OperationalError)
        if isinstance(error, psycopg.errors.FeatureNotSupported):
            # "cached plan must not change result type": prepared for tables to which a newer version has added since.
            return True
        return error.diag.severity_nonlocalized in ("FATAL", "PANIC")

    def cut(self) -> None:
        """Make whoever waits for the server's answer fail at once."""
        with contextlib.suppress(OSError):
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Safe to call twice."""
        self.raw.close()
        self._line.close()


async def open_async_connection(address: PostgresAddress) -> psycopg.AsyncConnection:
    """Connect from a coroutine, for LISTEN. Raises psycopg.Error."""
    connection = await psycopg.AsyncConnection.connect(_conninfo(address), autocommit=True)
    try:
        await connection.execute(_SESSION.encode(), prepare=False)
    except BaseException:
        await connection.close()
        raise
    return connection


def _conninfo(address: PostgresAddress) -> str:
    return make_conninfo("", **{"application_name": "image-bot", **_CONNECT, **conninfo_to_dict(address.url)})


def translated_error(error: psycopg.Error, address: PostgresAddress) -> StoreError:
    """What the callers of the store are told."""
    # Not what the server adds in detail: that quotes the row, with what a member wrote.
    what = address.hide(" ".join((error.diag.message_primary or str(error)).split())).rstrip(".")
    if isinstance(error, psycopg.errors.IntegrityError):  # the schema refused it, and will again
        return LedgerError(f"The database refused what was asked: {what}.")
    return StoreError(f"The database did not do what was asked: {what}.")


def unreachable(address: PostgresAddress, error: psycopg.Error) -> StoreError:
    what = address.hide(" ".join(str(error).split())).rstrip(".")
    return StoreError(f"The database {address} cannot be reached: {what}.")
