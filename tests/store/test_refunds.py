"""Refunds: an image that is lost before it was shown costs its member nothing, and its operator what it was charged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import LedgerError, StoreError
from bot.domain.jobs import Delivery, FailureReason, JobStatus
from bot.domain.money.quota import Place, Window
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from bot.store.tables.money import ledger, operator_costs
from tests.support.databases import rows, tamper
from tests.support.store_samples import A_DOLLAR_A_DAY, ADA, NOON, admitted, finished, operator_cost

HERE = replace(ADA, place=Place(channel_id=6, category_id=5))
TODAY = Window.containing(NOON, A_DOLLAR_A_DAY.period, ZoneInfo("UTC"))


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def spent(store: Store) -> int:
    return (await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)).spent_usd_micros


async def test_the_whole_charge_is_given_back_once_and_the_operator_bears_it(store: Store) -> None:
    kept, lost = [(await admitted(store, member=HERE)).jobs[0].id for _ in range(2)]
    await finished(store, kept, charged_usd_micros=30_000)
    await finished(store, lost, charged_usd_micros=40_000)
    moved = await store.lose_images(lost, now=NOON)
    assert moved is not None
    assert moved.failure is not None
    assert (moved.status, moved.failure.reason, moved.charged_usd_micros, moved.images) == (
        JobStatus.FAILED,
        FailureReason.IMAGE_LOST,
        None,
        (),
    )
    assert await store.lose_images(lost, now=NOON) is None
    assert await spent(store) == 30_000
    assert await operator_cost(store) == 40_000
    assert await operator_cost(store, since=NOON + timedelta(days=1)) == 0
    [line] = await store.database.read(operator_costs.operator_cost_lines)
    assert (line.job_id, line.amount_usd_micros, line.failure) == (lost, 40_000, FailureReason.IMAGE_LOST)
    assert {job.job_id: job.paid_usd_micros for job in await store.ledger_jobs(since=NOON)} == {
        kept: 30_000,
        lost: 40_000,
    }, "the bill is the same"
    report = await store.spend_report(ADA.guild_id, [TODAY])
    assert [line.spent_usd_micros for line in report.lines] == [30_000]


async def test_two_processes_that_miss_the_same_image_give_its_charge_back_once(
    store: Store, location: Location
) -> None:
    job_id = (await admitted(store)).jobs[0].id
    await finished(store, job_id)
    moved = await asyncio.gather(*(store.lose_images(job_id, now=NOON) for _ in range(4)))
    assert sum(job is not None for job in moved) == 1
    assert await operator_cost(store) == 80_000


async def test_what_a_wallet_paid_returns_to_it(store: Store) -> None:
    await store.credit(5, user_id=ADA.user_id, sku_id=3, amount_usd_micros=500_000, now=NOON)
    job_id = (await admitted(store, 1_300_000)).jobs[0].id
    await finished(store, job_id, charged_usd_micros=1_200_000)
    assert (await store.wallet_of(ADA.user_id)).available_usd_micros == 300_000
    await store.lose_images(job_id, now=NOON)
    assert (await store.wallet_of(ADA.user_id)).available_usd_micros == 500_000
    assert await spent(store) == 0


@pytest.mark.parametrize("when", ["before the charge", "after the charge", "after the refund"])
async def test_a_reset_counts_a_refund_neither_twice_nor_against_the_member(store: Store, when: str) -> None:
    job_id = (await admitted(store)).jobs[0].id
    reset = {"default": A_DOLLAR_A_DAY, "actor_id": 9, "reason": None, "now": NOON}
    if when == "before the charge":
        await store.reset(ADA, **reset)
    await finished(store, job_id)
    if when == "after the charge":
        await store.reset(ADA, **reset)
    await store.lose_images(job_id, now=NOON)
    if when == "after the refund":
        await store.reset(ADA, **reset)
    assert await spent(store) == 0
    await finished(store, (await admitted(store)).jobs[0].id, charged_usd_micros=10_000)
    assert await spent(store) == 10_000


async def test_an_image_that_was_shown_is_not_given_back(store: Store) -> None:
    reply = await admitted(store)
    await finished(store, reply.jobs[0].id)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    assert await store.lose_images(reply.jobs[0].id, now=NOON) is None
    assert await spent(store) == 80_000


async def test_a_free_image_that_is_lost_gives_nothing_back(store: Store) -> None:
    job_id = (await admitted(store)).jobs[0].id
    await finished(store, job_id, charged_usd_micros=0)
    assert await store.lose_images(job_id, now=NOON) is not None
    assert await operator_cost(store) == 0
    with pytest.raises(LedgerError, match="no charge to give back"):
        await store.database.write(lambda connection: ledger.refund(connection, job_id, now=NOON))


@pytest.mark.hostile("G-17")
async def test_a_refund_that_was_tampered_with_is_found(location: Location) -> None:
    store = await Store.open(location)
    job_id = (await admitted(store)).jobs[0].id
    await finished(store, job_id)
    with pytest.raises(StoreError):
        await store.database.write(
            lambda connection: connection.execute("INSERT INTO refunds VALUES (?, 70000, 0, 0, 0, 0, 0)", (job_id,))
        )
    await store.lose_images(job_id, now=NOON)
    await store.close()
    tamper(location, "UPDATE refunds SET usd_micros = 70000")
    assert "a refund is of the whole charge for a lost image" in {finding.rule for finding in verify_location(location)}
    assert rows(location, "SELECT usd_micros FROM refunds") == [(70_000,)]
