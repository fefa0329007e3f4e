"""Columns: how values are written into SQLite columns and read back. Times are microseconds since 1970 in UTC."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
QUARTER_MICROS = 900_000_000
"""A quarter of an hour. Every time zone's offset is a multiple of it."""

QUARTERS_PER_DAY = 96

SERVER_NOW = "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"
"""SQL for the time on PostgreSQL, by the clock of the server: what processes compare must not depend on theirs."""


def to_micros(moment: datetime) -> int:
    """Return an aware time as the integer that is stored, computed without floats."""
    return (moment - _EPOCH) // _MICROSECOND


def to_moment(micros: int) -> datetime:
    """Return a stored time as aware UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def to_moment_or_none(micros: int | None) -> datetime | None:
    return None if micros is None else to_moment(micros)


def to_quarter(moment: datetime) -> int:
    """Return the number, counted from 1970, of the quarter of an hour that contains `moment`."""
    return to_micros(moment) // QUARTER_MICROS


def to_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
