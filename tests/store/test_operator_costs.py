"""What no member is charged for: its limits per member, per day and per server, with real transactions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import (
    MemberCostReached,
    OperatorCapReached,
    OperatorCostCapReached,
    OperatorServerCapReached,
    RequestRefused,
    StoreError,
    TooManyRunning,
    TooMuchAtRisk,
)
from bot.domain.jobs import Delivery, Failure, FailureReason
from bot.domain.money.quota import Cap, CostLimit, Limits, LimitSubject, Member, Period, Quota
from bot.domain.money.spendable import BindingLimit
from bot.store.admin.verify import verify_location
from bot.store.postgres import schema as postgres_schema
from bot.store.sqlite import schema as sqlite_schema
from bot.store.store import Store
from bot.store.tables.money import operator_costs, spendable
from tests.support.databases import execute, rows, tamper
from tests.support.postgres_server import PostgresServer
from tests.support.store_samples import ADA, NOON, a_command, an_image, finished, limits, operator_cost

BOB = Member(guild_id=1, user_id=8)
ADA_ELSEWHERE = Member(guild_id=2, user_id=ADA.user_id)
EVE = Member(guild_id=3, user_id=9)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
FAILED = Failure(reason=FailureReason.PROVIDER_FAILED)
UNLIMITED = Quota(amount_usd_micros=None, period=Period.DAY)
PRICE = 80_000


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


def bounds(**changed: Any) -> Limits:
    """Return limits of which none binds but that on what one member costs: $0.25 a day."""
    return limits(**{"default": UNLIMITED, "cost_per_member_usd_micros": 250_000, **changed})


async def order(
    store: Store,
    *amounts: int,
    member: Member = ADA,
    now: datetime = NOON,
    limits: Limits = bounds(),  # noqa: B008
) -> list[str]:
    """Order, ask before whether that will be admitted, and return the ids of the jobs."""
    reply = a_command(*amounts, member=member, now=now)
    prices = [job.reserved_usd_micros for job in reply.jobs]
    question = store.check_admission(member=member, amounts_usd_micros=prices, limits=limits, now=now)
    foreseen = (await asyncio.gather(question, return_exceptions=True))[0]
    try:
        await store.admit(member=member, reply=reply, limits=limits, now=now)
    except RequestRefused as refusal:
        assert (type(refusal), vars(refusal)) == (type(foreseen), vars(foreseen))  # noqa: PT017
        raise
    assert foreseen is None
    await store.accept(reply.id, message_id=99)
    return [job.id for job in reply.jobs]


async def server_cap(store: Store, caps: Limits) -> Cap:
    """Return the operator's cap of today for the server, and what is used of it."""
    return (await store.spendable(ADA, limits=caps, now=NOON)).caps[BindingLimit.OPERATOR_SERVER_CAP]


async def fail(store: Store, *job_ids: str, now: datetime = NOON, cost: int = PRICE) -> None:
    for job_id in job_ids:
        assert await store.fail(job_id, FAILED, now=now, operator_cost_usd_micros=cost) is not None


async def lose(store: Store, job_id: str, *, now: datetime = NOON) -> None:
    """Send an order and lose its answer."""
    await store.begin_submission(job_id, now=now, deadline_at=now + timedelta(hours=2), webhook_token=None)
    assert await store.mark_uncertain(job_id) is not None


# -- one member ------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-02")
async def test_one_member_costs_at_most_the_limit_and_one_job_a_day(store: Store) -> None:
    for _ in range(4):
        await fail(store, *await order(store))
    with pytest.raises(MemberCostReached) as refusal:
        await order(store)
    assert await operator_cost(store) == 320_000
    assert refusal.value.resets_at == MIDNIGHT
    await order(store, member=BOB)
    await order(store, now=MIDNIGHT)


@pytest.mark.hostile("G-02")
async def test_a_member_with_three_failures_a_day_goes_on_ordering(store: Store) -> None:
    for _ in range(3):
        await fail(store, *await order(store))
    for _ in range(20):
        [job_id] = await order(store)
        await finished(store, job_id)


@pytest.mark.hostile("G-02")
async def test_a_member_without_uncharged_jobs_may_have_any_amount_running(store: Store) -> None:
    for _ in range(5):
        await order(store, 400_000, 400_000, 400_000, 400_000)


@pytest.mark.hostile("G-02")
async def test_what_a_member_costs_counts_over_all_servers(store: Store) -> None:
    await fail(store, *await order(store, 250_000, member=ADA_ELSEWHERE), cost=250_000)
    with pytest.raises(MemberCostReached):
        await order(store)


@pytest.mark.hostile("G-02")
async def test_a_price_above_the_published_one_is_a_cost_of_the_member_too(store: Store) -> None:
    [job_id] = await order(store)
    await store.begin_submission(job_id, now=NOON, deadline_at=NOON, webhook_token=None)
    await store.mark_running(job_id, remote_id="remote")
    await store.succeed(
        job_id, charged_usd_micros=PRICE, operator_cost_usd_micros=250_000, images=[an_image()], now=NOON
    )
    with pytest.raises(MemberCostReached):
        await order(store)


@pytest.mark.hostile("G-02")
async def test_a_free_job_is_refused_as_well_because_it_may_cost_something_all_the_same(store: Store) -> None:
    await fail(store, *await order(store, 250_000), cost=250_000)
    with pytest.raises(MemberCostReached):
        await order(store, 0)


@pytest.mark.hostile("G-02")
async def test_with_a_limit_of_nothing_the_first_uncharged_job_is_the_last(store: Store) -> None:
    none = bounds(cost_per_member_usd_micros=0)
    await fail(store, *await order(store, limits=none), cost=1)
    with pytest.raises(MemberCostReached):
        await order(store, limits=none)
    await order(store, member=BOB, limits=none)


@pytest.mark.hostile("G-02")
async def test_after_a_failure_no_more_may_run_than_could_fail_within_the_limit(store: Store) -> None:
    """$0.08 are booked, so that two more at work make $0.24, a third $0.32: the limit and not a whole job more."""
    await fail(store, *await order(store))
    with pytest.raises(TooMuchAtRisk) as refusal:
        await order(store, PRICE, PRICE, PRICE, PRICE)
    assert refusal.value.resets_at == MIDNIGHT
    first, *_ = await order(store, PRICE, PRICE)
    await order(store, member=ADA_ELSEWHERE)
    with pytest.raises(TooMuchAtRisk):
        await order(store)
    await finished(store, first)
    await order(store)


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize("seed", range(4))
async def test_commands_of_up_to_four_jobs_side_by_side_cost_at_most_the_limit_and_one_job(
    store: Store, seed: int
) -> None:
    chance = random.Random(seed)
    await fail(store, *await order(store))

    async def one() -> None:
        member = chance.choice([ADA, ADA_ELSEWHERE])
        reply = a_command(*[PRICE] * chance.randint(1, 4), member=member)
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        try:
            await store.admit(member=member, reply=reply, limits=bounds(), now=NOON)
        except (TooMuchAtRisk, MemberCostReached):
            return
        for job in reply.jobs:
            await asyncio.sleep(0)
            await fail(store, job.id)

    for _ in range(4):
        await asyncio.gather(*(one() for _ in range(25)))
    assert 250_000 <= await operator_cost(store) < 250_000 + PRICE


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize("seed", range(3))
async def test_the_first_failures_of_a_day_cost_at_most_what_may_run_at_once(store: Store, seed: int) -> None:
    """Until the first failure nothing holds a member back but the running jobs: 3, and 4 of a command that begins."""
    chance = random.Random(seed)
    three = bounds(max_running_jobs=3)

    async def one() -> None:
        reply = a_command(*[PRICE] * chance.randint(1, 4))
        try:
            await store.admit(member=ADA, reply=reply, limits=three, now=NOON)
        except RequestRefused:
            return
        for job in reply.jobs:
            await asyncio.sleep(0)
            await fail(store, job.id)

    for _ in range(5):
        await asyncio.gather(*(one() for _ in range(20)))
    assert await operator_cost(store) <= max(250_000 + PRICE, (2 + 4) * PRICE)
    with pytest.raises(MemberCostReached):
        await order(store, limits=three)


@pytest.mark.hostile("G-02")
async def test_until_when_a_member_gets_nothing_can_be_asked_for(store: Store) -> None:
    caps = bounds(cost_cap_usd_micros=330_000)
    assert (await store.spendable(ADA, limits=caps, now=NOON)).paused_until is None
    await fail(store, *await order(store, 250_000), cost=250_000)
    assert (await store.spendable(ADA, limits=caps, now=NOON)).paused_until == MIDNIGHT
    assert (await store.spendable(ADA, limits=caps, now=MIDNIGHT)).paused_until is None
    [job_id] = await order(store, member=BOB)
    assert (await store.spendable(BOB, limits=caps, now=NOON)).paused_until is None
    await fail(store, job_id)
    assert (await store.spendable(BOB, limits=caps, now=NOON)).paused_until == MIDNIGHT
    assert (await store.spendable(EVE, limits=caps, now=NOON)).paused_until is None


# -- erasing and leaving -----------------------------------------------------------------------------------------


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_erasing_does_not_reset_what_a_member_cost_today(store: Store, zone: str) -> None:
    """The name goes when no period of the server is left that counts it: in some time zones before the UTC day ends."""
    await store.set_time_zone(1, ZoneInfo(zone), actor_id=99, reason=None, now=NOON)
    await fail(store, *await order(store, 250_000), cost=250_000)
    for reply in await store.unfinished():
        await store.set_delivery(reply.id, Delivery.DELIVERED)
    await store.forget_member(ADA.user_id, now=NOON)
    for hour in range(12):
        await store.forget_old(now=NOON + timedelta(hours=hour))
        for member in (ADA, ADA_ELSEWHERE):
            with pytest.raises(MemberCostReached):
                await order(store, member=member, now=NOON + timedelta(hours=hour, minutes=59))
    await order(store, now=MIDNIGHT)


@pytest.mark.hostile("G-02")
async def test_a_name_is_kept_until_the_utc_day_is_over_where_every_local_period_ends_before(store: Store) -> None:
    """On Kiritimati, Monday 1 June 2026 begins at 10:00 UTC on 31 May: day, week and month begin with it."""
    nine, noon = (datetime(2026, 5, 31, hour, tzinfo=UTC) for hour in (9, 12))
    await store.set_time_zone(1, ZoneInfo("Pacific/Kiritimati"), actor_id=99, reason=None, now=nine)
    await fail(store, *await order(store, 250_000, now=nine), now=nine, cost=250_000)
    for reply in await store.unfinished():
        await store.set_delivery(reply.id, Delivery.DELIVERED)
    await store.forget_member(ADA.user_id, now=nine)
    await store.forget_old(now=noon)
    with pytest.raises(MemberCostReached):
        await order(store, now=noon)
    await store.forget_old(now=noon + timedelta(hours=12))
    [line] = await store.database.read(operator_costs.operator_cost_lines)
    assert line.user_id is None


# -- all members ---------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-02")
async def test_uncharged_costs_use_up_nothing_of_what_paying_members_may_spend(store: Store) -> None:
    caps = bounds(operator_usd_micros=1_000_000, cost_cap_usd_micros=200_000)
    for user_id in (20, 21, 22):
        await fail(
            store, *await order(store, 60_000, member=Member(guild_id=4, user_id=user_id), limits=caps), cost=60_000
        )
    await order(store, 1_000_000, member=EVE, limits=caps)
    with pytest.raises(OperatorCapReached):
        await order(store, 1, member=EVE, limits=caps)


@pytest.mark.hostile("G-02")
async def test_at_the_cap_on_uncharged_costs_those_who_caused_some_wait_and_others_go_on(store: Store) -> None:
    caps = bounds(operator_usd_micros=1_000_000, cost_cap_usd_micros=160_000)
    for member in (ADA, BOB):
        await fail(store, *await order(store, member=member, limits=caps))
    for member in (ADA, ADA_ELSEWHERE, BOB):
        with pytest.raises(OperatorCostCapReached) as refusal:
            await order(store, member=member, limits=caps)
        assert refusal.value.resets_at == MIDNIGHT
    [job_id] = await order(store, 500_000, member=EVE, limits=caps)
    await order(store, limits=caps, now=MIDNIGHT)
    # When the provider fails for everybody, what exceeds the cap counts with what members spend.
    await fail(store, job_id, cost=500_000)
    cap = await store.operator_cap(caps, now=NOON)
    assert (cap.spent_usd_micros, cap.available_usd_micros) == (500_000, 500_000)
    with pytest.raises(OperatorCapReached):
        await order(store, 500_001, member=Member(guild_id=5, user_id=30), limits=caps)
    await order(store, 500_000, member=Member(guild_id=5, user_id=30), limits=caps)


@pytest.mark.hostile("G-02")
async def test_a_provider_that_fails_for_everybody_costs_at_most_both_caps_a_day(store: Store) -> None:
    caps = bounds(operator_usd_micros=1_000_000, cost_cap_usd_micros=200_000)
    for user_id in range(100, 130):
        try:
            await fail(store, *await order(store, member=Member(guild_id=user_id, user_id=user_id), limits=caps))
        except OperatorCapReached:
            break
    assert 1_200_000 - PRICE < await operator_cost(store) <= 1_200_000


# -- one server ------------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-03")
async def test_one_server_uses_at_most_its_share_whatever_its_moderators_set(store: Store) -> None:
    caps = bounds(operator_usd_micros=1_000_000, server_usd_micros=200_000)
    for subject in (LimitSubject.DEFAULT, LimitSubject.SERVER):
        await store.set_limit(1, subject, None, UNLIMITED, actor_id=99, reason=None, now=NOON)
    spent, failed = await order(store, 60_000, 50_000, limits=caps)
    await finished(store, spent, charged_usd_micros=60_000)
    await fail(store, failed, cost=50_000)
    await order(store, 40_000, member=BOB, limits=caps)
    with pytest.raises(OperatorServerCapReached) as refusal:
        await order(store, 50_001, member=BOB, limits=caps)
    assert (refusal.value.asked_usd_micros, refusal.value.available_usd_micros) == (50_001, 50_000)
    assert refusal.value.resets_at == MIDNIGHT
    await order(store, 50_000, member=BOB, limits=caps)
    await order(store, 200_000, member=EVE, limits=caps)
    cap = await server_cap(store, caps)
    assert (cap.spent_usd_micros, cap.set_aside_usd_micros, cap.available_usd_micros) == (110_000, 90_000, 0)
    await order(store, 200_000, limits=caps, now=MIDNIGHT)


@pytest.mark.hostile("G-03")
async def test_commands_side_by_side_do_not_exceed_the_share_of_a_server(store: Store) -> None:
    caps = bounds(server_usd_micros=1_000_000)
    commands = [a_command(member=Member(guild_id=1, user_id=50 + number % 5)) for number in range(40)]
    answers = await asyncio.gather(
        *(
            store.admit(member=Member(guild_id=1, user_id=reply.user_id), reply=reply, limits=caps, now=NOON)
            for reply in commands
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, OperatorServerCapReached) for answer in answers) == 40 - 12
    assert (await server_cap(store, caps)).set_aside_usd_micros == 12 * PRICE


# -- jobs in doubt ---------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-08")
async def test_a_job_in_doubt_counts_as_running_for_a_quarter_of_an_hour(store: Store) -> None:
    """Then it keeps its member from nothing but what its price at risk does: the search for it may take hours."""
    one = bounds(max_running_jobs=1)
    [job_id] = await order(store, limits=one)
    await lose(store, job_id)
    with pytest.raises(TooManyRunning):
        await order(store, limits=one)
    with pytest.raises(TooManyRunning):
        await order(store, limits=one, now=NOON + spendable.MAX_RUNNING_IN_DOUBT)
    await order(store, limits=one, now=NOON + spendable.MAX_RUNNING_IN_DOUBT + timedelta(microseconds=1))


@pytest.mark.hostile("G-02")
async def test_orders_in_doubt_count_as_a_cost_that_may_come(store: Store) -> None:
    later, doubtful = NOON, list[str]()
    for _ in range(4):
        doubtful += await order(store, now=later)
        await lose(store, doubtful[-1], now=later)
        later += timedelta(minutes=16)
    with pytest.raises(TooMuchAtRisk):
        await order(store, now=later)
    await order(store, member=BOB, now=later)
    await store.fail(doubtful[0], FAILED, now=later)
    await order(store, now=later)


# -- the operator ----------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-02")
async def test_the_operator_is_told_once_per_limit_and_day_over_all_processes(store: Store, location: Location) -> None:
    caps = bounds(cost_cap_usd_micros=400_000)

    async def told(user_id: int, now: datetime = NOON) -> list[CostLimit]:
        return await store.cost_limits_reached(user_id, limits=caps, now=now)

    await fail(store, *await order(store))
    assert await told(ADA.user_id) == []
    await fail(store, *await order(store, 250_000, limits=bounds(cost_per_member_usd_micros=10**9)), cost=250_000)
    answers = await asyncio.gather(*(told(ADA.user_id) for _ in range(5)))
    assert sorted(map(len, answers)) == [0, 0, 0, 0, 1]
    await fail(store, *await order(store, 250_000, member=BOB), cost=250_000)
    assert await told(BOB.user_id) == [CostLimit.ALL_MEMBERS]
    assert await told(BOB.user_id) == []
    assert await store.claim_notice(CostLimit.SERVER, now=NOON)
    assert not await store.claim_notice(CostLimit.SERVER, now=NOON)
    assert await store.claim_notice(CostLimit.SERVER, now=MIDNIGHT)
    await fail(store, *await order(store, 250_000, now=MIDNIGHT), cost=250_000, now=MIDNIGHT)
    assert await told(ADA.user_id, MIDNIGHT) == [CostLimit.MEMBER]


@pytest.mark.hostile("G-02")
async def test_the_lines_of_what_the_operator_bore_say_who_and_where(store: Store) -> None:
    [job_id] = await order(store, member=ADA_ELSEWHERE)
    await fail(store, job_id, now=MIDNIGHT)
    [line] = await store.database.read(operator_costs.operator_cost_lines)
    assert (line.ordered_at, line.at, line.guild_id, line.user_id) == (NOON, MIDNIGHT, 2, ADA.user_id)
    assert (line.job_id, line.amount_usd_micros, line.failure) == (job_id, PRICE, FailureReason.PROVIDER_FAILED)


@pytest.mark.hostile("G-02")
async def test_verify_finds_a_total_of_costs_that_does_not_match(location: Location) -> None:
    async with await Store.open(location) as store:
        await fail(store, *await order(store))
    tamper(location, "UPDATE totals SET operator_cost_usd_micros = 0 WHERE account_id = 1")
    rules = {finding.rule for finding in verify_location(location)}
    assert {"totals equal the reservations", "days equal their quarters"} <= rules


# -- upgrading -------------------------------------------------------------------------------------------------------

_OLD_ROWS = """
INSERT INTO accounts (id, kind, guild_id, user_id) VALUES (10, 'member', 1, 7), (11, 'server', 1, NULL);
INSERT INTO replies (id, user_id, role_ids, application_id, interaction_id, token_expires_at, guild_id, channel_id,
    private, file_limit_bytes, locale, language, accepted, delivery, created_at)
VALUES ('r', 7, '[]', 5, 42, 0, 1, 6, {no}, 0, 'en-US', 'en', {yes}, 'delivered', {now});
INSERT INTO jobs (id, reply_id, ordinal, guild_id, user_id, kind, model_id, prompt, options, provider, path, body,
    reserved_usd_micros, status, created_at)
VALUES ('a', 'r', 0, 1, 7, 'imagine', 'm', 'p', '{{}}', 'krea', '/', '{{}}', 80000, 'queued', {now}),
    ('b', 'r', 1, 1, 7, 'imagine', 'm', 'p', '{{}}', 'krea', '/', '{{}}', 90000, 'queued', {now});
INSERT INTO reservations (job_id, member_account_id, server_account_id, quarter, window_start_at, window_end_at,
    reserved_usd_micros, held_usd_micros, reserved_at)
SELECT id, 10, 11, {now} / 900000000, {now}, {now} + 1, reserved_usd_micros, reserved_usd_micros, {now} FROM jobs;
UPDATE jobs SET status = 'failed', failure_reason = 'timed_out', finished_at = {now} WHERE id = 'a';
UPDATE reservations SET state = 'released', held_usd_micros = 0, house_usd_micros = 70000, resolved_at = {now}
WHERE job_id = 'a';
"""


@pytest.mark.hostile("G-02")
async def test_an_upgrade_counts_what_members_have_cost_so_far(
    location_without_tables: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = location_without_tables
    schema = sqlite_schema if isinstance(location, Path) else postgres_schema
    known = schema.migrations()
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: {number: known[number] for number in (1, 2, 3)})
        patch.setattr(schema, "check_ledger", lambda *_: None)  # it reads what only the newest schema has
        await (await Store.open(location)).close()
    flags = {"yes": "1", "no": "0"} if isinstance(location, Path) else {"yes": "TRUE", "no": "FALSE"}
    now = int(NOON.timestamp()) * 1_000_000
    execute(location, *_OLD_ROWS.format(now=now, **flags).split(";\n")[:-1])
    assert rows(location, "SELECT settled_usd_micros FROM totals WHERE account_id = 1") == [(70_000,)]
    with pytest.raises(StoreError, match="older version"):
        verify_location(location)
    async with await Store.open(location) as store:
        with pytest.raises(MemberCostReached):
            await order(store, limits=bounds(cost_per_member_usd_micros=70_000))
        await order(store, limits=bounds(cost_per_member_usd_micros=160_001))
        cap = await store.operator_cap(bounds(cost_cap_usd_micros=60_000), now=NOON)
        assert (cap.spent_usd_micros, cap.set_aside_usd_micros) == (10_000, 170_000)
        assert (await server_cap(store, bounds())).spent_usd_micros == 70_000
    assert verify_location(location) == []


@pytest.mark.hostile("G-02")
async def test_several_processes_on_postgresql_hold_the_limits_and_tell_of_them_together(
    postgres: PostgresServer,
) -> None:
    address = postgres.fresh()
    stores = [await Store.open(address) for _ in range(3)]
    await fail(stores[0], *await order(stores[0]))

    async def one(number: int) -> None:
        store, reply = stores[number % 3], a_command(*[PRICE] * (1 + number % 4))
        try:
            await store.admit(member=ADA, reply=reply, limits=bounds(), now=NOON)
        except (TooMuchAtRisk, MemberCostReached):
            return
        for job in reply.jobs:
            await fail(stores[(number + 1) % 3], job.id)

    for _ in range(4):
        await asyncio.gather(*(one(number) for number in range(24)))
    assert 250_000 <= await operator_cost(stores[0]) < 250_000 + PRICE
    told = await asyncio.gather(
        *(store.cost_limits_reached(ADA.user_id, limits=bounds(), now=NOON) for store in stores)
    )
    assert sorted(map(len, told)) == [0, 0, 1]
    for store in stores:
        await store.close()
    assert verify_location(address) == []
    postgres.drop(address)
