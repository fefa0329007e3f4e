"""Engine: what the functions of this package ask of a connection, so that the same ones run on SQLite and PostgreSQL.

One text for both wherever both understand it. Parameters are `?` or `:name`, flags are compared as what they are
(`WHERE private`), a sum of BIGINT is cast back to BIGINT, and where nothing else tells PostgreSQL the type of a
parameter that may be NULL, a CAST does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Parameters = Sequence[Any] | Mapping[str, Any]


class Row(Protocol):
    """One row: its columns by position, by name, unpacked or, with `dict(row)`, all of them."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def keys(self) -> list[str]: ...


class Cursor(Protocol):
    """The answer to one statement. `rowcount` counts the rows that a change has hit."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection inside the caller's transaction. `sqlite3.Connection` is one as it is."""

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor: ...


Work = Callable[[Connection], Any]
"""A whole transaction, as a function."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DialectSql:
    """A statement that the engines do not understand in one wording."""

    sqlite: str
    postgresql: str

    def on(self, connection: Connection) -> str:
        """The wording that this connection understands."""
        return self.sqlite if isinstance(connection, sqlite3.Connection) else self.postgresql
