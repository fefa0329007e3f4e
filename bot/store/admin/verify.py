"""Verification of the ledger: checks every rule over the whole database and lists what breaks one.

Whether a reservation was within its quota when it was granted is checked by replaying the ledger.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.domain.errors import StoreError
from bot.domain.money.quota import format_usd
from bot.store.admin.ledger_rules import RULES
from bot.store.admin.readonly import older_version, open_server_readonly
from bot.store.core.columns import QUARTER_MICROS
from bot.store.core.connection import Connection, Row
from bot.store.postgres import schema as postgres_schema
from bot.store.postgres.connection import PostgresConnection
from bot.store.sqlite import schema
from bot.store.sqlite.connection import SqliteConnection, connect_for_reading


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One violation of an invariant: the rule and where it is broken."""

    rule: str
    detail: str


WITHIN_QUOTA = "no reservation exceeded its quota when it was granted"
FORGIVEN = "forgiven is what the resets forgave"
SOUND = "the database is sound"
SCHEMA = "the schema is the program's"

_HISTORY = """
SELECT ledger.kind, ledger.amount_usd_micros AS amount, ledger.id AS ledger_id, reservations.job_id,
    reservations.member_account_id AS account_id, reservations.quarter, reservations.limit_usd_micros,
    reservations.window_start_at, reservations.window_end_at
FROM ledger JOIN reservations ON reservations.job_id = ledger.job_id
WHERE ledger.kind <> 'house' ORDER BY ledger.id
"""
_RESETS = "SELECT * FROM adjustments WHERE kind = 'reset' ORDER BY through_ledger_id, id"
_REFUNDS = """
SELECT member_account_id AS account_id, quarter, usd_micros - refunds.wallet_usd_micros AS amount,
    forgiven_usd_micros AS forgiven, refunds.through_ledger_id
FROM refunds JOIN reservations ON reservations.job_id = refunds.job_id ORDER BY refunds.through_ledger_id
"""
_FORGIVEN = "SELECT account_id, quarter, forgiven_usd_micros FROM totals"


def verify_location(location: Location) -> list[Finding]:
    """Check a database that may be in use. Raises StoreError, DatabaseUnusable."""
    return verify_file(location) if isinstance(location, Path) else verify_server(location)


def verify_file(path: Path) -> list[Finding]:
    """Check a file that may be in use. Raises StoreError, and DatabaseUnusable for a file that is not ours."""
    if not path.is_file():
        raise StoreError(f"There is no database {path}.")
    schema.check_header(path)
    try:
        with closing(connect_for_reading(path)) as connection:
            schema.check_ours(connection, path)
            if schema.version_of(connection) < schema.newest_version():
                raise older_version(path)
            return verify(connection)
    except sqlite3.DatabaseError as error:
        if not schema.is_damage(error):
            raise StoreError(f"{path} cannot be read: {error}.") from error
        raise schema.unusable(path, f"is damaged ({error})") from error


def verify_server(address: PostgresAddress) -> list[Finding]:
    """Check a database on a server, as `verify_file` does a file."""
    with open_server_readonly(address) as connection:
        if postgres_schema.version_of(connection) < postgres_schema.newest_version():
            raise older_version(address)
        expected = postgres_schema.expected_objects(connection)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return findings_of_server(connection, expected)


def findings_of_server(connection: PostgresConnection, expected: Mapping[str, str]) -> list[Finding]:
    """Check every invariant in the caller's transaction, and that the schema is `expected`."""
    findings = list(_schema_findings(expected, postgres_schema.objects(connection)))
    findings += [Finding(rule=SOUND, detail=detail) for detail in postgres_schema.violations(connection)]
    return [*findings, *_ledger_findings(connection, connection.stream)]


def verify(connection: SqliteConnection) -> list[Finding]:
    """Check every invariant of a file in one transaction."""
    connection.execute("BEGIN")
    try:
        return [*_file_findings(connection), *_ledger_findings(connection, connection.execute)]
    finally:
        connection.execute("ROLLBACK")


def _file_findings(connection: sqlite3.Connection) -> Iterator[Finding]:
    for (message,) in connection.execute("PRAGMA integrity_check"):
        if message != "ok":
            yield Finding(rule=SOUND, detail=message)
    for row in connection.execute("PRAGMA foreign_key_check"):
        yield Finding(rule=SOUND, detail=f"row {row[1]} of {row[0]} refers to a missing row of {row[2]}")
    yield from _schema_findings(schema.expected_objects(), schema.schema_objects(connection))


def _schema_findings(expected: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            yield Finding(rule=SCHEMA, detail=f"{name} is missing, changed or not ours")


def _ledger_findings(connection: Connection, stream: Callable[[str], Iterable[Any]]) -> Iterator[Finding]:
    """Check every rule. `stream` runs a query whose result may not fit in memory."""
    for rule, query in RULES.items():
        for (detail,) in connection.execute(query):
            yield Finding(rule=rule, detail=detail)
    yield from _replay(connection, stream)


@dataclass(slots=True)
class _Account:
    """One member's amounts per quarter hour while the ledger is replayed."""

    held: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    settled: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    forgiven: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def used(self, first: int, end: int) -> int:
        """Return the amount that counts against the quota in the quarters from `first` up to but without `end`."""
        if end - first < len(self.held):
            quarters = [quarter for quarter in range(first, end) if quarter in self.held]
        else:
            quarters = [quarter for quarter in self.held if first <= quarter < end]
        return sum(self.held[quarter] + self.settled[quarter] - self.forgiven[quarter] for quarter in quarters)

    def forgive(self, first: int, end: int) -> None:
        """Count nothing that was settled in these quarters: a moderator reset the quota."""
        for quarter, amount in self.settled.items():
            if first <= quarter < end:
                self.forgiven[quarter] = amount


def _replay(connection: Connection, stream: Callable[[str], Iterable[Any]]) -> Iterator[Finding]:
    """Replay the ledger entry by entry, and check that each reservation was within its quota when it was granted."""
    accounts: defaultdict[int, _Account] = defaultdict(_Account)
    # A reset forgives what is settled then, so it does not matter that a refund comes before one of the same time.
    resets = connection.execute(_RESETS).fetchall()[::-1]
    refunds = connection.execute(_REFUNDS).fetchall()[::-1]
    for row in stream(_HISTORY):
        _correct(accounts, resets, refunds, before_ledger_id=row["ledger_id"])
        account, quarter, amount = accounts[row["account_id"]], row["quarter"], row["amount"]
        if row["kind"] == "reserve":
            limit = row["limit_usd_micros"]
            if limit is not None and (used := account.used(*_quarters(row))) + amount > limit:
                detail = f"{row['job_id']}: {format_usd(amount)} after {format_usd(used)} of {format_usd(limit)}"
                yield Finding(rule=WITHIN_QUOTA, detail=detail)
            account.held[quarter] += amount
        else:
            account.held[quarter] -= amount
        if row["kind"] == "settle":
            account.settled[quarter] += amount
    _correct(accounts, resets, refunds, before_ledger_id=None)
    for account_id, quarter, forgiven in connection.execute(_FORGIVEN).fetchall():
        expected = accounts[account_id].forgiven[quarter] if account_id in accounts else 0
        if forgiven != expected:
            detail = f"account {account_id}, quarter {quarter}: {format_usd(forgiven)}, not {format_usd(expected)}"
            yield Finding(rule=FORGIVEN, detail=detail)


def _correct(
    accounts: defaultdict[int, _Account], resets: list[Row], refunds: list[Row], *, before_ledger_id: int | None
) -> None:
    """Take resets and refunds from the ends of their lists and apply them, in the order of their times."""
    while True:
        reset_at = resets[-1]["through_ledger_id"] if resets else None
        refund_at = refunds[-1]["through_ledger_id"] if refunds else None
        is_refund = refund_at is not None and (reset_at is None or refund_at <= reset_at)
        next_at = refund_at if is_refund else reset_at
        if next_at is None or (before_ledger_id is not None and next_at >= before_ledger_id):
            return
        if is_refund:
            refund = refunds.pop()
            account, quarter = accounts[refund["account_id"]], refund["quarter"]
            account.settled[quarter] -= refund["amount"]
            account.forgiven[quarter] -= refund["forgiven"]
        else:
            _forgive(accounts, resets.pop())


def _forgive(accounts: defaultdict[int, _Account], reset: Row) -> None:
    accounts[reset["account_id"]].forgive(*_quarters(reset))


def _quarters(row: Row) -> tuple[int, int]:
    return row["window_start_at"] // QUARTER_MICROS, row["window_end_at"] // QUARTER_MICROS
