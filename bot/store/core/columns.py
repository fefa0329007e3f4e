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


def to_micros(moment: datetime) -> int:
    """An aware time as it is stored: exact, no float in between."""
    return (moment - _EPOCH) // _MICROSECOND


def to_moment(micros: int) -> datetime:
    """A stored time as aware UTC."""
    return _EPOCH + timedelta(microseconds=micros)


def to_moment_or_none(micros: int | None) -> datetime | None:
    return None if micros is None else to_moment(micros)


def to_quarter(moment: datetime) -> int:
    """The quarter of an hour, counted from 1970, that contains `moment`."""
    return to_micros(moment) // QUARTER_MICROS


def to_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
