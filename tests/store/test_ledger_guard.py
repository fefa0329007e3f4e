"""Ledger guard: a start refuses a ledger that another program changed, and the schema bounds every amount."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from bot import cli
from bot.domain.deployment.database_url import Location
from bot.domain.errors import DatabaseUnusable, LedgerTampered
from bot.domain.jobs import Failure, FailureReason
from bot.store.sqlite import database as database_module
from bot.store.sqlite.database import SqliteDatabase
from bot.store.store import Store
from tests.support.databases import execute, tamper
from tests.support.store_samples import A_DOLLAR_A_DAY, ADA, NOON, admitted, finished

pytestmark = pytest.mark.hostile("G-17")


@pytest.fixture
async def database(location: Location) -> Location:
    """Return the location of a database with a settled, a failed and two open jobs."""
    async with await Store.open(location) as store:
        settled = await admitted(store, 80_000)
        await finished(store, settled.jobs[0].id, charged_usd_micros=60_000)
        await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
        failed = await admitted(store, 70_000)
        await store.fail(
            failed.jobs[0].id, Failure(reason=FailureReason.TIMED_OUT), now=NOON, operator_cost_usd_micros=70_000
        )
        await admitted(store, 10_000, 20_000)
        await store.credit(5, user_id=ADA.user_id, sku_id=3, amount_usd_micros=500_000, now=NOON)
        paid = await admitted(store, 1_100_000)
        await finished(store, paid.jobs[0].id, charged_usd_micros=1_100_000)
        await admitted(store, 50_000)
    return location


async def test_a_sound_ledger_starts(database: Location) -> None:
    async with await Store.open(database) as store:
        assert len(await store.unfinished()) > 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger SET amount_usd_micros = 1 WHERE kind = 'settle'",
        "UPDATE ledger SET amount_usd_micros = -1 WHERE kind = 'house'",
        "UPDATE ledger SET account_id = 1 WHERE kind = 'settle'",
        "UPDATE ledger SET kind = 'release', to_bucket = 'available' WHERE kind = 'settle'",
        (
            "UPDATE ledger SET amount_usd_micros ="
            " amount_usd_micros + CASE amount_usd_micros WHEN 10000 THEN 1 ELSE -1 END"
            " WHERE kind = 'reserve' AND amount_usd_micros IN (10000, 20000)"
        ),
        "DELETE FROM ledger WHERE kind = 'release'",
        "DELETE FROM ledger WHERE kind = 'house'",
        "DELETE FROM reservations WHERE state = 'settled'",
        "UPDATE reservations SET settled_usd_micros = 1 WHERE state = 'settled'",
        "UPDATE totals SET settled_usd_micros = 0",
        "UPDATE daily_totals SET settled_usd_micros = 0",
        "DELETE FROM daily_totals",
        "UPDATE totals SET held_usd_micros = 90000000000000 WHERE account_id = 1",
        "UPDATE adjustments SET amount_usd_micros = -5",
        "UPDATE jobs SET charged_usd_micros = 1 WHERE status = 'succeeded'",
        "UPDATE wallets SET available_usd_micros = available_usd_micros + 1",
        "UPDATE entitlements SET amount_usd_micros = 600000",
        "UPDATE wallet_ledger SET amount_usd_micros = 1 WHERE kind = 'settle'",
        "DELETE FROM wallet_ledger WHERE kind = 'reserve'",
        "UPDATE totals SET wallet_settled_usd_micros = 0",
    ],
)
async def test_a_ledger_that_was_tampered_with_stops_the_start(database: Location, statement: str) -> None:
    tamper(database, statement)
    for _ in range(2):
        with pytest.raises(LedgerTampered, match=r"was changed by something else.*python -m bot ledger verify"):
            await Store.open(database)


async def test_a_start_does_not_wait_for_the_sums_of_a_huge_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bot.sqlite3"
    await (await Store.open(path)).close()
    monkeypatch.setattr(database_module, "GUARD_TIMEOUT_SECONDS", 0)
    monkeypatch.setattr(database_module, "_OPCODES_BETWEEN_LOOKS", 1)
    await (await Store.open(path)).close()
    assert "too large to be checked as a whole" in caplog.text


def test_the_program_ends_with_exit_code_2_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(**_: object) -> int:
        raise LedgerTampered("The ledger was changed.")

    monkeypatch.setattr(cli, "run_bot", refuse)
    assert cli.main([]) == 2
    assert capsys.readouterr().err == "The ledger was changed.\n"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE jobs SET reserved_usd_micros = 10000000000000",
        "UPDATE jobs SET charged_usd_micros = 80001 WHERE status = 'succeeded'",
        (
            "UPDATE reservations SET house_usd_micros = 10000000000000, state = 'released', held_usd_micros = 0,"
            " resolved_at = 1 WHERE state = 'open'"
        ),
        "UPDATE wallets SET available_usd_micros = -1",
        "UPDATE wallets SET held_usd_micros = 10000000000000",
        "INSERT INTO entitlements (id, wallet_id, sku_id, amount_usd_micros, credited_at) VALUES (9, 1, 3, -1, 0)",
        "UPDATE totals SET held_usd_micros = 10000000000000",
        "UPDATE totals SET operator_cost_usd_micros = 10000000000000",
        "UPDATE daily_totals SET settled_usd_micros = 10000000000000",
        (
            "INSERT INTO totals (account_id, quarter, held_usd_micros, settled_usd_micros)"
            " VALUES (1, 5, 10000000000000, 0)"
        ),
        (
            "INSERT INTO daily_totals (account_id, day, held_usd_micros, settled_usd_micros, forgiven_usd_micros)"
            " VALUES (1, 5, 10000000000000, 0, 0)"
        ),
        (
            "INSERT INTO adjustments (account_id, kind, amount_usd_micros, window_start_at, window_end_at,"
            " through_ledger_id, created_at) VALUES (1, 'grant', 10000000000000, 0, 0, 0, 0)"
        ),
        (
            "INSERT INTO ledger (job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, created_at)"
            " SELECT id, 2, 'house', 'available', 'spent', 10000000000000, 1 FROM jobs WHERE status = 'queued'"
        ),
    ],
)
async def test_no_amount_beyond_the_bounds_can_be_written_by_any_program(database: Location, statement: str) -> None:
    with pytest.raises((sqlite3.IntegrityError, psycopg.errors.CheckViolation)):
        execute(database, statement)
    async with await Store.open(database):
        pass


async def test_a_row_of_the_ledger_cannot_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "bot.sqlite3"
    async with await Store.open(path) as store:
        await admitted(store, 10_000)
        database = store.database
        assert isinstance(database, SqliteDatabase)
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            await database._writer.run(
                lambda connection: connection.execute("INSERT OR REPLACE INTO ledger SELECT * FROM ledger")
            )


async def test_a_trigger_that_was_changed_stops_the_start(tmp_path: Path) -> None:
    path = tmp_path / "bot.sqlite3"
    await (await Store.open(path)).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER ledger_rows_stay")
        connection.execute("CREATE TRIGGER ledger_rows_stay BEFORE DELETE ON ledger BEGIN SELECT 1; END")
        connection.commit()
    with pytest.raises(DatabaseUnusable, match="ledger_rows_stay changed"):
        await Store.open(path)
