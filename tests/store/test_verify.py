"""Verification: a sound database has no finding, and every kind of tampering is found."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import DatabaseUnusable, StoreError
from bot.domain.jobs import Failure, FailureReason
from bot.domain.money.quota import Member, Place
from bot.store.admin import verify
from bot.store.store import Store
from tests.support.databases import tamper
from tests.support.store_samples import A_DOLLAR_A_DAY, ADA, NOON, admitted, finished

BOB = Member(guild_id=1, user_id=8)
ADA_IN_A_CHANNEL = replace(ADA, place=Place(channel_id=11, category_id=10))


@pytest.fixture
async def database(location: Location) -> Location:
    """Return the location of a database with a settled, a failed and an open job."""
    async with await Store.open(location) as store:
        settled = await admitted(store, 80_000, member=ADA_IN_A_CHANNEL)
        await finished(store, settled.jobs[0].id, charged_usd_micros=60_000)
        await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
        failed = await admitted(store, 70_000)
        await store.fail(
            failed.jobs[0].id, Failure(reason=FailureReason.TIMED_OUT), now=NOON, operator_cost_usd_micros=70_000
        )
        await admitted(store, 10_000, 20_000, member=ADA_IN_A_CHANNEL)
        await store.credit(5, user_id=ADA.user_id, sku_id=3, amount_usd_micros=500_000, now=NOON)
        await store.credit(6, user_id=BOB.user_id, sku_id=3, amount_usd_micros=500_000, now=NOON)
        await store.take_back(6, user_id=BOB.user_id, sku_id=3, now=NOON)
        paid = await admitted(store, 1_100_000, member=ADA_IN_A_CHANNEL)
        await finished(store, paid.jobs[0].id, charged_usd_micros=1_050_000)
        await admitted(store, 50_000, member=ADA_IN_A_CHANNEL)
        assert verify.verify_location(location) == []  # while it is in use
    return location


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("DELETE FROM reservations WHERE state = 'open'", "every job is reserved at its price"),
        ("UPDATE jobs SET reserved_usd_micros = 1 WHERE status = 'queued'", "every job is reserved at its price"),
        ("UPDATE jobs SET guild_id = 2", "every job is paid by its member, in its server"),
        ("UPDATE jobs SET user_id = 2", "every job is paid by its member, in its server"),
        (
            "UPDATE reservations SET state = 'released' WHERE state = 'open'",
            "a reservation ends exactly when its job does",
        ),
        ("UPDATE jobs SET charged_usd_micros = 1 WHERE status = 'succeeded'", "what is shown is what was charged"),
        ("DELETE FROM pictures", "a charge needs a picture"),
        (
            "UPDATE reservations SET settled_usd_micros = 80001 WHERE state = 'settled'",
            "never charged more than reserved",
        ),
        ("UPDATE replies SET accepted = FALSE", "nothing is sent before Discord accepted the reply"),
        ("UPDATE jobs SET ordinal = 5 WHERE ordinal = 1", "every reply has its jobs"),
        ("UPDATE ledger SET from_bucket = 'spent' WHERE kind = 'reserve'", "every transfer sums to zero"),
        ("UPDATE ledger SET amount_usd_micros = -1 WHERE kind = 'house'", "every transfer sums to zero"),
        ("UPDATE ledger SET amount_usd_micros = 1 WHERE kind = 'settle'", "reservations equal their ledger entries"),
        ("DELETE FROM ledger WHERE kind = 'release'", "reservations equal their ledger entries"),
        ("UPDATE ledger SET account_id = 1 WHERE kind = 'house'", "reservations equal their ledger entries"),
        ("DELETE FROM reservations WHERE state = 'settled'", "reservations equal their ledger entries"),
        ("UPDATE totals SET held_usd_micros = held_usd_micros + 1", "totals equal the reservations"),
        ("DELETE FROM totals WHERE account_id = 1", "totals equal the reservations"),
        ("UPDATE daily_totals SET forgiven_usd_micros = 5 WHERE account_id = 1", "days equal their quarters"),
        ("DELETE FROM daily_totals", "days equal their quarters"),
        ("UPDATE channel_totals SET held_usd_micros = 1", "totals of channels equal the reservations"),
        ("DELETE FROM channel_totals", "totals of channels equal the reservations"),
        ("UPDATE reservations SET category_id = 12", "totals of channels equal the reservations"),
        ("UPDATE channel_daily_totals SET settled_usd_micros = 1", "days of channels equal their quarters"),
        ("UPDATE wallet_ledger SET from_bucket = 'spent'", "every transfer of a wallet sums to zero, once"),
        ("UPDATE entitlements SET amount_usd_micros = 400000", "purchases equal their wallet entries"),
        ("DELETE FROM entitlements", "purchases equal their wallet entries"),
        ("UPDATE wallet_ledger SET wallet_id = 2 WHERE kind = 'credit'", "purchases equal their wallet entries"),
        (
            "UPDATE reservations SET wallet_usd_micros = 1 WHERE wallet_id IS NOT NULL",
            "what wallets pay equals their entries",
        ),
        ("DELETE FROM wallet_ledger WHERE kind = 'settle'", "what wallets pay equals their entries"),
        ("UPDATE wallets SET user_id = user_id + 100", "what wallets pay equals their entries"),
        ("UPDATE wallets SET available_usd_micros = 1000000", "wallets equal their entries"),
        ("UPDATE wallets SET held_usd_micros = 0", "wallets equal their entries"),
        ("UPDATE wallet_ledger SET amount_usd_micros = 1 WHERE kind = 'credit'", "no wallet was overdrawn"),
        ("UPDATE totals SET wallet_settled_usd_micros = 0", "totals equal the reservations"),
        ("UPDATE daily_totals SET wallet_held_usd_micros = 0", "days equal their quarters"),
        ("UPDATE reservations SET limit_usd_micros = 9999", verify.WITHIN_QUOTA),
        ("UPDATE totals SET forgiven_usd_micros = 5 WHERE account_id = 1", verify.FORGIVEN),
        ("DELETE FROM adjustments", verify.FORGIVEN),
        ("CREATE INDEX theirs ON jobs (prompt)", verify.SCHEMA),
        ("DROP INDEX jobs_by_server", verify.SCHEMA),
        ("DELETE FROM replies", verify.SOUND),
        ("UPDATE jobs SET status = 'gone'", verify.SOUND),
    ],
)
async def test_tampering_is_found(database: Location, statement: str, rule: str) -> None:
    tamper(database, statement)
    assert rule in {finding.rule for finding in verify.verify_location(database)}


@pytest.mark.parametrize(
    ("index", "statement", "rule"),
    [
        (
            "ledger_resolves_once",
            (
                "INSERT INTO ledger "
                "SELECT id + 1000, job_id, account_id, kind, from_bucket, to_bucket, amount_usd_micros, 1 "
                "FROM ledger WHERE kind = 'settle'"
            ),
            "every reservation is booked and resolved once",
        ),
        ("jobs_remote", "UPDATE jobs SET remote_id = 'same'", "a remote job belongs to one job"),
    ],
)
async def test_duplicates_that_a_missing_index_allowed_are_found(
    database: Location, index: str, statement: str, rule: str
) -> None:
    tamper(database, f"DROP INDEX {index}", statement)
    assert rule in {finding.rule for finding in verify.verify_location(database)}


async def test_a_forgotten_member_leaves_no_finding(database: Location) -> None:
    tamper(
        database,
        "UPDATE accounts SET user_id = NULL",
        "UPDATE jobs SET user_id = NULL",
        "UPDATE replies SET user_id = NULL",
    )
    assert verify.verify_location(database) == []


async def test_a_file_that_is_not_ours_cannot_be_verified(tmp_path: Path) -> None:
    path = tmp_path / "bot.sqlite3"
    await (await Store.open(path)).close()
    with pytest.raises(StoreError, match="no database"):
        verify.verify_file(tmp_path / "missing")
    (tmp_path / "not-a-database").write_bytes(b"not a database")
    with pytest.raises(DatabaseUnusable):
        verify.verify_file(tmp_path / "not-a-database")
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3_000)
    with pytest.raises(DatabaseUnusable):
        verify.verify_file(path)


def test_a_long_history_is_summed_over_the_window_only() -> None:
    account = verify._Account()
    for quarter in range(1_000):
        account.held[quarter] = 1
    assert account.used(10, 20) == 10
    assert account.used(0, 5_000) == 1_000


def test_sqlite_is_new_enough_for_strict_tables_and_upserts() -> None:
    assert sqlite3.sqlite_version_info >= (3, 37, 0)
