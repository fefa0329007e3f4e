"""What the books keep: rows and bytes of each table, and when each job came, left and ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.virtual_time import BEGINNING
from bot.location import Location
from bot.store.columns import to_micros
from bot.store.engine import Connection
from bot.store.reading import reading

TABLES = ("replies", "jobs", "pictures", "reservations", "ledger", "accounts", "totals", "daily_totals")


@dataclass(frozen=True, kw_only=True, slots=True)
class Life:
    """When one job was admitted, sent to the provider and brought to its end, in seconds since the beginning."""

    admitted_at: float
    sent_at: float
    ended_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Books after everything has ended."""

    rows: Mapping[str, int]
    table_bytes: Mapping[str, int]
    """Each table with its indexes."""
    lives: tuple[Life, ...]

    @property
    def size_bytes(self) -> int:
        return sum(self.table_bytes.values())


def kept(location: Location) -> Kept:
    """Raises StoreError when the books cannot be read."""
    with reading(location) as books:
        return Kept(
            rows={table: books.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES},
            table_bytes={table: _bytes(books, location, table) for table in TABLES},
            lives=tuple(
                Life(admitted_at=_seconds(row[0]), sent_at=_seconds(row[1]), ended_at=_seconds(row[2]))
                for row in books.execute(
                    "SELECT created_at, submitted_at, finished_at FROM jobs"
                    " WHERE submitted_at IS NOT NULL AND finished_at IS NOT NULL"
                )
            ),
        )


def _bytes(books: Connection, location: Location, table: str) -> int:
    if isinstance(location, Path):
        pages = """
        SELECT coalesce(sum(pgsize), 0) FROM dbstat
        WHERE aggregate = TRUE AND name IN (SELECT name FROM sqlite_schema WHERE tbl_name = ?)
        """
        return books.execute(pages, (table,)).fetchone()[0]
    return books.execute("SELECT pg_total_relation_size(CAST(? AS TEXT)::regclass)", (table,)).fetchone()[0]


def _seconds(micros: int) -> float:
    return (micros - to_micros(BEGINNING)) / 1_000_000
