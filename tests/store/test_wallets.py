"""Wallets: what members paid in is credited once, spent after the quota, and taken back at most as far as left."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import (
    ChannelCapReached,
    MemberBlocked,
    MemberCostReached,
    OperatorCapReached,
    OperatorServerCapReached,
    QuotaExceeded,
    RequestRefused,
    ServerCapReached,
)
from bot.domain.jobs import Delivery, Failure, FailureReason, JobStatus
from bot.domain.money.quota import Limits, LimitSubject, Member, Period, Place, Quota, Wallet
from bot.domain.money.spendable import BindingLimit
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from tests.support.databases import everything_in, rows
from tests.support.postgres_server import PostgresServer
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    a_command,
    admitted,
    everything_kept,
    finished,
    limits,
)

BOB = Member(guild_id=1, user_id=8)
ADA_ELSEWHERE = Member(guild_id=2, user_id=ADA.user_id)
SKU = 1_100
NOTHING = Quota(amount_usd_micros=0, period=Period.DAY)


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def pay_in(store: Store, amount_usd_micros: int = 500_000, *, entitlement_id: int = 5, user_id: int = 7) -> bool:
    """Credit a purchase; return whether that was new."""
    return (
        await store.credit(entitlement_id, user_id=user_id, sku_id=SKU, amount_usd_micros=amount_usd_micros, now=NOON)
        is not None
    )


async def taken_back(store: Store, entitlement_id: int = 5, *, user_id: int = 7) -> int | None:
    purchase = await store.take_back(entitlement_id, user_id=user_id, sku_id=SKU, now=NOON)
    return None if purchase is None else purchase.taken_back_usd_micros


async def wallet(store: Store, user_id: int = ADA.user_id) -> tuple[int, int]:
    """Return what is available and what is set aside."""
    found = await store.wallet_of(user_id)
    assert found.total_usd_micros == found.available_usd_micros + found.set_aside_usd_micros
    return found.available_usd_micros, found.set_aside_usd_micros


async def set_limit(store: Store, subject: LimitSubject, amount: int, subject_id: int | None = None) -> None:
    quota = Quota(amount_usd_micros=amount, period=Period.DAY)
    await store.set_limit(1, subject, subject_id, quota, actor_id=99, reason=None, now=NOON)


async def admit(store: Store, *amounts: int, member: Member = ADA, limits: Limits = limits()) -> str:  # noqa: B008
    """Admit a command with one job per amount, and return the id of the first."""
    reply = a_command(*amounts, member=member)
    await store.admit(member=member, reply=reply, limits=limits, now=NOON)
    await store.accept(reply.id, message_id=9)
    return reply.jobs[0].id


async def test_a_purchase_is_credited_once_by_its_id(store: Store) -> None:
    calls = (store.credit(5, user_id=ADA.user_id, sku_id=SKU, amount_usd_micros=500_000, now=NOON) for _ in range(5))
    answers = await asyncio.gather(*calls)
    assert [answer.amount_usd_micros for answer in answers if answer is not None] == [500_000]
    assert await wallet(store) == (500_000, 0)
    assert await store.to_consume() == [5]
    await store.mark_consumed(5, now=NOON)
    assert await store.to_consume() == []
    assert await pay_in(store, 250_000, entitlement_id=6)
    assert await wallet(store) == (750_000, 0)


async def test_who_never_paid_in_has_an_empty_wallet(store: Store) -> None:
    assert await store.wallet_of(ADA.user_id) == Wallet()


@pytest.mark.parametrize("seed", range(3))
async def test_two_gateways_that_hear_of_purchases_at_once_credit_each_once(
    postgres: PostgresServer, seed: int
) -> None:
    address = postgres.fresh()
    news = [(entitlement_id, 7 + entitlement_id % 3) for entitlement_id in range(1, 31)] * 4
    random.Random(seed).shuffle(news)
    async with await Store.open(address) as one, await Store.open(address) as other:
        calls = [
            gateway.credit(entitlement_id, user_id=user_id, sku_id=SKU, amount_usd_micros=500_000, now=NOON)
            for entitlement_id, user_id in news
            for gateway in (one, other)
        ]
        ends = [gateway.take_back(30, user_id=7, sku_id=SKU, now=NOON) for gateway in (one, other)]
        credited = await asyncio.gather(*calls)
        assert len([purchase for purchase in credited if purchase is not None]) == 30
        assert [(await one.wallet_of(user_id)).available_usd_micros for user_id in (7, 8, 9)] == [5_000_000] * 3
        ended = await asyncio.gather(*ends)
        assert [purchase.taken_back_usd_micros for purchase in ended if purchase is not None] == [500_000]
        assert (await other.wallet_of(7)).available_usd_micros == 4_500_000
    assert verify_location(address) == []
    postgres.drop(address)


@pytest.mark.parametrize("seed", range(3))
async def test_200_commands_at_once_buy_exactly_what_quota_and_wallet_allow(store: Store, seed: int) -> None:
    """$1.00 and $0.50 at $0.08 are 18 jobs: one is paid by both, because the quota's last four cents are spent too."""
    await pay_in(store)
    order = random.Random(seed)

    async def one() -> bool:
        for _ in range(order.randrange(4)):
            await asyncio.sleep(0)
        reply = a_command()
        try:
            await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
        except QuotaExceeded as refusal:
            assert refusal.available_usd_micros < 80_000  # noqa: PT017
            return False
        return True

    assert sum(await asyncio.gather(*(one() for _ in range(200)))) == 18
    balance = await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)
    assert balance.set_aside_usd_micros == 1_000_000
    assert await wallet(store) == (60_000, 440_000)


async def test_a_job_is_paid_from_the_quota_first_and_what_is_not_charged_goes_back_to_the_wallet(
    store: Store,
) -> None:
    await pay_in(store)
    job_id = await admit(store, 1_200_000)
    assert await wallet(store) == (300_000, 200_000)
    await finished(store, job_id, charged_usd_micros=1_050_000)
    assert await wallet(store) == (450_000, 0)
    balance = await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)
    assert (balance.spent_usd_micros, balance.available_usd_micros) == (1_000_000, 0)


async def test_a_charge_within_the_quotas_part_leaves_the_wallet_whole(store: Store) -> None:
    await pay_in(store)
    await finished(store, await admit(store, 1_200_000), charged_usd_micros=900_000)
    assert await wallet(store) == (500_000, 0)
    assert (await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)).available_usd_micros == 100_000


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_job_that_is_not_charged_gives_everything_back(store: Store, is_cancelled: bool) -> None:
    await pay_in(store)
    job_id = await admit(store, 1_200_000)
    if is_cancelled:
        assert await store.cancel(job_id, expected=JobStatus.QUEUED, now=NOON) is not None
    else:
        failure = Failure(reason=FailureReason.PROVIDER_FAILED)
        assert await store.fail(job_id, failure, now=NOON, operator_cost_usd_micros=1_200_000) is not None
    assert await wallet(store) == (500_000, 0)


async def test_jobs_of_one_command_are_paid_together_or_not_at_all(store: Store) -> None:
    await pay_in(store)
    with pytest.raises(QuotaExceeded) as refusal:
        await admit(store, 500_000, 500_000, 500_001)
    facts = (refusal.value.asked_usd_micros, refusal.value.available_usd_micros, refusal.value.wallet_usd_micros)
    assert facts == (1_500_001, 1_500_000, 500_000)
    assert await wallet(store) == (500_000, 0)
    await admit(store, 700_000, 700_000, 100_000)
    assert await wallet(store) == (0, 500_000)


async def test_a_wallet_is_one_persons_over_all_servers_and_never_expires(store: Store) -> None:
    await pay_in(store)
    nothing = limits(default=NOTHING)
    await admit(store, 200_000, limits=nothing)
    await admit(store, 200_000, member=ADA_ELSEWHERE, limits=nothing)
    with pytest.raises(QuotaExceeded):
        await admit(store, 1, member=BOB, limits=nothing)
    later = NOON + timedelta(days=900)
    spendable = await store.spendable(ADA, limits=nothing, now=later)
    assert spendable.left_usd_micros == 100_000
    assert spendable.wallet == Wallet(available_usd_micros=100_000, set_aside_usd_micros=400_000)


async def test_the_operators_caps_bind_what_the_operator_pays_and_not_the_wallet(store: Store) -> None:
    await pay_in(store)
    capped = limits(operator_usd_micros=300_000, server_usd_micros=200_000)
    await admit(store, 250_000, limits=capped)
    assert await wallet(store) == (450_000, 50_000)
    await admit(store, 250_000, limits=capped)
    assert await wallet(store) == (200_000, 300_000)
    with pytest.raises(OperatorServerCapReached) as refusal:
        await admit(store, 200_001, limits=capped)
    assert refusal.value.available_usd_micros == 200_000
    await admit(store, 100_000, member=replace(BOB, guild_id=2), limits=capped)
    with pytest.raises(OperatorCapReached):
        await admit(store, 1, member=replace(BOB, guild_id=2), limits=capped)
    assert (await store.operator_cap(capped, now=NOON)).used_usd_micros == 300_000


async def test_the_caps_of_moderators_bind_a_wallet_as_well(store: Store) -> None:
    await pay_in(store)
    here = replace(ADA, place=Place(channel_id=11))
    nothing = limits(default=NOTHING)
    await set_limit(store, LimitSubject.CHANNEL, 100_000, 11)
    await set_limit(store, LimitSubject.SERVER, 150_000)
    with pytest.raises(ChannelCapReached):
        await admit(store, 100_001, member=here, limits=nothing)
    await admit(store, 100_000, member=here, limits=nothing)
    with pytest.raises(ServerCapReached):
        await admit(store, 50_001, limits=nothing)
    spendable = await store.spendable(ADA, limits=nothing, now=NOON)
    assert (spendable.binding, spendable.left_usd_micros) == (BindingLimit.SERVER_CAP, 50_000)


async def test_a_block_and_the_limits_on_uncharged_costs_bind_a_wallet(store: Store) -> None:
    await pay_in(store)
    careful = limits(default=NOTHING, cost_per_member_usd_micros=80_000)
    job_id = await admit(store, 80_000, limits=careful)
    failure = Failure(reason=FailureReason.PROVIDER_FAILED)
    await store.fail(job_id, failure, now=NOON, operator_cost_usd_micros=80_000)
    with pytest.raises(MemberCostReached):
        await admit(store, 1, limits=careful)
    await store.set_blocked(1, ADA.user_id, True, actor_id=99, reason=None, now=NOON)
    with pytest.raises(MemberBlocked):
        await admit(store, 1)


async def test_a_reset_forgives_what_the_quota_paid_and_leaves_the_wallet(store: Store) -> None:
    await pay_in(store)
    await finished(store, await admit(store, 1_200_000), charged_usd_micros=1_200_000)
    after = await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    assert (after.spent_usd_micros, after.available_usd_micros) == (0, 1_000_000)
    assert await wallet(store) == (300_000, 0)


async def test_a_question_before_an_order_is_answered_as_the_order_is(store: Store, location: Location) -> None:
    await pay_in(store)
    question = {"member": ADA, "limits": limits(), "now": NOON}
    before = everything_in(location)
    await store.check_admission(amounts_usd_micros=[1_500_000], **question)
    with pytest.raises(QuotaExceeded):
        await store.check_admission(amounts_usd_micros=[1_500_001], **question)
    assert everything_in(location) == before
    await admit(store, 1_500_000)
    with pytest.raises(RequestRefused):
        await admit(store, 1)


async def test_a_refund_takes_back_at_most_what_is_left(store: Store) -> None:
    await pay_in(store)
    await admit(store, 1_400_000)
    assert await taken_back(store) == 100_000
    assert await wallet(store) == (0, 400_000)
    assert await taken_back(store) is None
    assert not await pay_in(store)
    assert await store.to_consume() == []


async def test_a_purchase_that_was_refunded_before_it_was_seen_is_never_credited(store: Store) -> None:
    assert await taken_back(store) == 0
    assert not await pay_in(store)
    assert await wallet(store) == (0, 0)


async def test_a_refund_waits_until_the_operator_was_told_and_one_of_nothing_does_not(store: Store) -> None:
    await pay_in(store)
    await pay_in(store, entitlement_id=6, user_id=BOB.user_id)
    for entitlement_id, user_id in ((5, ADA.user_id), (5, ADA.user_id), (6, BOB.user_id), (7, ADA.user_id)):
        await taken_back(store, entitlement_id, user_id=user_id)
    untold = [(purchase.entitlement_id, user_id) for purchase, user_id in await store.untold_refunds()]
    assert untold == [(5, ADA.user_id), (6, BOB.user_id)]
    await store.refund_told(5)
    await store.forget_member(BOB.user_id, now=NOON)
    assert [(purchase.entitlement_id, user_id) for purchase, user_id in await store.untold_refunds()] == [(6, None)]
    await store.refund_told(6)
    assert await store.untold_refunds() == []


async def test_money_survives_the_wish_to_be_forgotten_and_an_empty_wallet_forgets_its_owner(
    store: Store, location: Location
) -> None:
    await pay_in(store)
    await store.forget_member(ADA.user_id, now=NOON)
    assert await wallet(store) == (500_000, 0)
    job = (await admitted(store, 1_500_000)).jobs[0]
    await finished(store, job.id, charged_usd_micros=1_500_000)
    await store.set_delivery(job.reply_id, Delivery.DELIVERED)
    await store.forget_member(ADA.user_id, now=NOON)
    assert rows(location, "SELECT user_id FROM wallets") == [(None,)]
    assert not await pay_in(store)
    assert await taken_back(store) == 0
    assert rows(location, "SELECT user_id FROM wallets") == [(None,)]


async def test_the_export_has_the_wallet_its_purchases_and_its_entries(store: Store) -> None:
    await pay_in(store)
    await finished(store, await admit(store, 1_200_000), charged_usd_micros=1_200_000)
    await taken_back(store)
    kept = await everything_kept(store, ADA.user_id)
    assert kept["wallet"] == [
        {
            "available_usd_micros": 0,
            "available_usd": "$0.00",
            "set_aside_usd_micros": 0,
            "set_aside_usd": "$0.00",
        }
    ]
    (purchase,) = kept["purchases"]
    assert (purchase["entitlement_id"], purchase["paid_in_usd"], purchase["taken_back_usd"]) == ("5", "$0.50", "$0.30")
    assert [(entry["what"], entry["amount_usd"]) for entry in kept["wallet_entries"]] == [
        ("credit", "$0.50"),
        ("reserve", "$0.20"),
        ("settle", "$0.20"),
        ("take_back", "$0.30"),
    ]
    assert kept["commands"][0]["jobs"][0]["charged_to_your_wallet_usd"] == "$0.20"
    assert (await everything_kept(store, BOB.user_id))["purchases"] == []
