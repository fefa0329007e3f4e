"""Connection protocols: what SQL functions need, so that the same ones run on SQLite and PostgreSQL.

One statement for both wherever both understand it. Parameters are `?` or `:name`, flags are compared as what they are
(`WHERE private`), a sum of BIGINT is cast back to BIGINT, and where nothing else tells PostgreSQL the type of a
parameter that may be NULL, a CAST does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, Self

APPLICATION_ID = 0x1A6E_B075
"""Written into every database of ours, so that one of another program is never used by mistake."""

Parameters = Sequence[Any] | Mapping[str, Any]


class Row(Protocol):
    """One row: its columns by position, by name, unpacked or, with `dict(row)`, all of them."""

    def __getitem__(self, key: Any, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def keys(self) -> list[str]: ...


class Cursor(Protocol):
    """The result of one statement. `rowcount` counts the rows that a change has hit."""

    @property
    def rowcount(self) -> int: ...

    def fetchone(self) -> Any: ...

    def fetchall(self) -> list[Any]: ...

    def __iter__(self) -> Iterator[Any]: ...


class Dialect(StrEnum):
    """The SQL that a connection understands."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


class Connection(Protocol):
    """A connection inside the caller's transaction."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def in_transaction(self) -> bool: ...

    def execute(self, sql: str, parameters: Parameters = ..., /) -> Cursor: ...

    def notify(self, channel: str, payload: str) -> None:
        """Send a notification to the other processes when the transaction commits; on SQLite there are none."""
        ...


Work = Callable[[Connection], Any]
"""A whole transaction, as a function."""

_IN_LIST = re.compile(r"IN \((:\w+)\)")


@dataclass(frozen=True, kw_only=True, slots=True)
class DialectSql:
    """A statement that needs a different text on each engine."""

    sqlite: str
    postgresql: str

    @classmethod
    def with_lists(cls, sql: str) -> Self:
        """Return a statement in which each `IN (:name)` stands for a list of strings, given as JSON."""
        return cls(
            sqlite=_IN_LIST.sub(r"IN (SELECT value FROM json_each(\1))", sql),
            postgresql=_IN_LIST.sub(r"IN (SELECT json_array_elements_text(CAST(\1 AS JSON)))", sql),
        )

    def on(self, connection: Connection) -> str:
        """Return the text that this connection understands."""
        return self.sqlite if connection.dialect is Dialect.SQLITE else self.postgresql
