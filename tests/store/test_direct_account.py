"""The account of a person outside servers: its own quota, and one cap for all of them, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import DirectBusy, OperatorDirectCapReached, QuotaExceeded, TooManyRunning
from bot.domain.jobs import DIRECT_GUILD_ID, NO_CHANNEL_ID, Delivery, Reply
from bot.domain.money.quota import Limits, Member, Period, Quota, QuotaSource
from bot.domain.money.spendable import BindingLimit
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from tests.support.store_samples import ADA, NOON, a_command, an_image, finished, limits

DIRECT = Member(guild_id=DIRECT_GUILD_ID, user_id=ADA.user_id)
BOB = Member(guild_id=DIRECT_GUILD_ID, user_id=8)


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


def open_limits(*, quota: int | None = 200_000, cap: int = 10**13, max_running_jobs: int = 10_000) -> Limits:
    direct = None
    if quota is not None:
        direct = Quota(amount_usd_micros=quota, period=Period.DAY, source=QuotaSource.SETTINGS)
    return replace(limits(max_running_jobs=max_running_jobs), direct_quota=direct, operator_direct_cap_usd_micros=cap)


async def order(store: Store, member: Member, *amounts: int, bounds: Limits) -> Reply:
    reply = a_command(*amounts, member=member)
    await store.admit(member=member, reply=reply, limits=bounds, now=NOON)
    return reply


async def test_its_quota_is_the_one_for_people_and_not_that_of_a_server(store: Store) -> None:
    bounds = open_limits()
    await order(store, DIRECT, 150_000, bounds=bounds)
    with pytest.raises(QuotaExceeded) as refused:
        await order(store, DIRECT, 80_000, bounds=bounds)
    assert refused.value.available_usd_micros == 50_000
    await order(store, ADA, 900_000, bounds=bounds)  # the same person in a server
    elsewhere = await store.spendable(DIRECT, limits=bounds, now=NOON)
    assert elsewhere.left_usd_micros == 50_000


async def test_nothing_can_be_reserved_while_people_may_not_order(store: Store) -> None:
    with pytest.raises(QuotaExceeded) as refused:
        await order(store, DIRECT, 1, bounds=open_limits(quota=None))
    assert refused.value.available_usd_micros == 0


async def test_all_people_share_one_cap_of_the_operator(store: Store) -> None:
    bounds = open_limits(cap=250_000)
    await order(store, DIRECT, 200_000, bounds=bounds)
    with pytest.raises(OperatorDirectCapReached) as refused:
        await order(store, BOB, 80_000, bounds=bounds)
    assert refused.value.available_usd_micros == 50_000
    spendable = await store.spendable(BOB, limits=bounds, now=NOON)
    assert (spendable.binding, spendable.left_usd_micros) == (BindingLimit.OPERATOR_DIRECT_CAP, 50_000)
    with pytest.raises(OperatorDirectCapReached):
        await store.check_admission(member=BOB, amounts_usd_micros=[80_000], limits=bounds, now=NOON)
    await order(store, ADA, 500_000, bounds=bounds)


async def test_two_hundred_orders_at_once_buy_exactly_what_the_quota_allows(store: Store) -> None:
    bounds = open_limits()
    outcomes = await asyncio.gather(
        *(order(store, DIRECT, 10_000, bounds=bounds) for _ in range(200)), return_exceptions=True
    )
    assert sum(isinstance(outcome, Reply) for outcome in outcomes) == 20
    assert sum(isinstance(outcome, QuotaExceeded) for outcome in outcomes) == 180


async def test_the_number_of_running_jobs_counts_over_servers_and_direct_messages(store: Store) -> None:
    bounds = open_limits(quota=10_000_000, max_running_jobs=2)
    await order(store, ADA, 80_000, bounds=bounds)
    await order(store, DIRECT, 80_000, bounds=bounds)
    with pytest.raises(TooManyRunning):
        await order(store, DIRECT, 80_000, bounds=bounds)


async def test_outside_servers_only_so_much_runs_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bot.domain.money.quota.SERVER_RUNS", 1)
    bounds = open_limits(quota=10_000_000, max_running_jobs=1)
    await order(store, DIRECT, 80_000, bounds=bounds)
    with pytest.raises(DirectBusy):
        await order(store, BOB, 80_000, bounds=bounds)


async def test_the_copy_of_an_image_in_a_channel_without_access_is_kept_for_the_history(store: Store) -> None:
    reply = a_command(80_000, member=DIRECT)
    reply = replace(reply, address=replace(reply.address, channel_id=NO_CHANNEL_ID))
    await store.admit(member=DIRECT, reply=reply, limits=open_limits(), now=NOON)
    await store.accept(reply.id, message_id=99)
    await finished(store, reply.jobs[0].id)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    assert an_image().sha256 in await store.sha256_in_use(now=NOON + timedelta(days=1))


async def test_no_message_in_a_channel_without_access_is_put_down_for_deletion(store: Store) -> None:
    reply = a_command(80_000, member=DIRECT)
    reply = replace(reply, address=replace(reply.address, channel_id=NO_CHANNEL_ID))
    await store.admit(member=DIRECT, reply=reply, limits=open_limits(), now=NOON)
    await store.accept(reply.id, message_id=99)
    await finished(store, reply.jobs[0].id)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    deleted = await store.delete_reply(reply.id, actor_id=DIRECT.user_id, now=NOON)
    assert deleted is not None
    assert deleted.messages == ()
    assert await store.due_deletions(now=NOON + timedelta(days=9), limit=9) == []


async def test_a_person_without_servers_has_data_in_none(store: Store) -> None:
    await order(store, DIRECT, 80_000, bounds=open_limits())
    footprint = await store.footprint(DIRECT.user_id)
    assert (footprint.commands, footprint.servers) == (1, 0)
