"""The ledger: which member may spend how much, with real transactions on a real file."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import (
    DuplicateCommand,
    LedgerError,
    MemberBlocked,
    OperatorCapReached,
    QuotaExceeded,
    RequestRefused,
    ServerBusy,
    ServerCapReached,
    StoreError,
    TooManyRunning,
)
from bot.domain.jobs import Failure, FailureReason, JobStatus
from bot.domain.money import quota
from bot.domain.money.quota import (
    Balance,
    Limits,
    LimitSubject,
    Member,
    Period,
    Quota,
    QuotaSource,
    SpendReport,
    Window,
)
from bot.domain.money.spendable import Spendable
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from bot.store.tables.money import balances, ledger, operator_costs, spend_reports
from tests.support.catalogue_samples import FLUX, NANO_BANANA_2
from tests.support.databases import everything_in
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    a_command,
    admitted,
    an_image,
    finished,
    limits,
    operator_cost,
    running,
)

BOB = Member(guild_id=1, user_id=8)
FAILED = Failure(reason=FailureReason.PROVIDER_FAILED, hint="try again")


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def admit(
    store: Store,
    *amounts: int,
    member: Member = ADA,
    now: datetime = NOON,
    limits: Limits = limits(),  # noqa: B008 - frozen
) -> Balance:
    """Admit a command, and see that the question whether it would be admitted is answered with the same refusal."""
    reply = a_command(*amounts, member=member, now=now)
    prices = [job.reserved_usd_micros for job in reply.jobs]
    foreseen = None
    try:
        await store.check_admission(member=member, amounts_usd_micros=prices, limits=limits, now=now)
    except RequestRefused as refusal:
        foreseen = (type(refusal), vars(refusal))
    try:
        after = await store.admit(member=member, reply=reply, limits=limits, now=now)
    except RequestRefused as refusal:
        assert (type(refusal), vars(refusal)) == foreseen  # noqa: PT017 - both outcomes are right, each at its time
        raise
    assert foreseen is None
    assert after == await store.spendable(member, limits=limits, now=now)
    return after.balance


async def balance(store: Store, member: Member = ADA, *, now: datetime = NOON, previous: bool = False) -> Balance:
    return await store.balance(member, default=A_DOLLAR_A_DAY, now=now, previous=previous)


async def set_limit(
    store: Store, subject: LimitSubject, amount: int | None, subject_id: int | None = None, period: Period = Period.DAY
) -> None:
    quota = Quota(amount_usd_micros=amount, period=period)
    await store.set_limit(1, subject, subject_id, quota, actor_id=99, reason=None, now=NOON)


async def test_a_reservation_is_set_aside_and_nothing_is_spent(store: Store) -> None:
    after = await admit(store, 80_000)
    assert (after.spent_usd_micros, after.set_aside_usd_micros, after.available_usd_micros) == (0, 80_000, 920_000)
    assert after == await balance(store)


async def test_asking_whether_a_command_would_be_admitted_writes_nothing(store: Store, location: Location) -> None:
    await admit(store, 80_000)
    before = everything_in(location)
    question = {"member": BOB, "limits": limits(), "now": NOON}
    await store.check_admission(amounts_usd_micros=[500_000, 500_000], **question)
    with pytest.raises(QuotaExceeded) as refusal:
        await store.check_admission(amounts_usd_micros=[500_000, 500_001], **question)
    assert (refusal.value.asked_usd_micros, refusal.value.available_usd_micros) == (1_000_001, 1_000_000)
    assert everything_in(location) == before


@pytest.mark.f02
async def test_a_price_equal_to_what_is_left_is_admitted(store: Store) -> None:
    await admit(store, 920_000)
    assert (await admit(store, 80_000)).available_usd_micros == 0


@pytest.mark.f01
@pytest.mark.f02
async def test_a_price_one_micro_dollar_above_what_is_left_is_refused_with_the_figures(store: Store) -> None:
    await admit(store, 920_001)
    with pytest.raises(QuotaExceeded) as refusal:
        await admit(store, 80_000)
    assert refusal.value.asked_usd_micros == 80_000
    assert refusal.value.available_usd_micros == 79_999
    assert refusal.value.resets_at == datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.f01
async def test_a_refused_command_leaves_no_trace(store: Store) -> None:
    reply = a_command(1_000_001)
    with pytest.raises(QuotaExceeded):
        await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    assert await store.reply(reply.id) is None
    assert await store.unfinished() == []
    assert (await balance(store)).set_aside_usd_micros == 0


async def test_four_jobs_of_one_command_are_admitted_together_or_not_at_all(store: Store) -> None:
    with pytest.raises(QuotaExceeded) as refusal:
        await admit(store, 300_000, 300_000, 300_000, 100_001)
    assert (refusal.value.asked_usd_micros, refusal.value.available_usd_micros) == (1_000_001, 1_000_000)
    assert (await admit(store, 300_000, 300_000, 300_000, 100_000)).available_usd_micros == 0


@pytest.mark.f03
@pytest.mark.parametrize("seed", range(5))
async def test_of_200_simultaneous_commands_at_8_cents_exactly_12_fit_into_a_dollar(store: Store, seed: int) -> None:
    order = random.Random(seed)
    commands = [a_command() for _ in range(200)]
    order.shuffle(commands)

    async def one(index: int) -> bool:
        for _ in range(order.randrange(4)):
            await asyncio.sleep(0)
        try:
            await store.admit(member=ADA, reply=commands[index], limits=limits(), now=NOON)
        except QuotaExceeded as refusal:
            return refusal.available_usd_micros >= 80_000
        return True

    assert sum(await asyncio.gather(*(one(index) for index in range(200)))) == 12
    assert (await balance(store)).set_aside_usd_micros == 960_000


@pytest.mark.f08
async def test_the_same_command_event_is_accepted_once(store: Store) -> None:
    commands = [a_command(interaction_id=42) for _ in range(5)]
    answers = await asyncio.gather(
        *(store.admit(member=ADA, reply=reply, limits=limits(), now=NOON) for reply in commands),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [Spendable] + [DuplicateCommand] * 4
    assert len(await store.unfinished()) == 1


async def test_a_blocked_member_gets_no_new_jobs_and_another_does(store: Store) -> None:
    assert await store.set_blocked(1, ADA.user_id, True, actor_id=99, reason="spam", now=NOON)
    with pytest.raises(MemberBlocked):
        await admit(store)
    await admit(store, member=BOB)
    await admit(store, member=Member(guild_id=2, user_id=ADA.user_id))


@pytest.mark.f58
async def test_running_jobs_are_counted_over_all_servers_and_before_this_command(store: Store) -> None:
    three = limits(max_running_jobs=3)
    await admit(store, 1, 1, limits=three)
    await admit(store, 1, 1, member=Member(guild_id=2, user_id=ADA.user_id), limits=three)
    with pytest.raises(TooManyRunning) as refusal:
        await admit(store, 1, limits=three)
    assert (refusal.value.running, refusal.value.limit) == (4, 3)
    await admit(store, 1, member=BOB, limits=three)


@pytest.mark.f58
async def test_a_server_has_a_bound_of_its_own_that_leaves_other_servers_alone(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "SERVER_RUNS", 2)
    one = limits(max_running_jobs=1)
    await admit(store, 1, limits=one)
    await admit(store, 1, limits=one, member=BOB)
    with pytest.raises(ServerBusy) as refusal:
        await admit(store, 1, limits=one, member=Member(guild_id=1, user_id=77))
    assert (refusal.value.running, refusal.value.limit) == (2, 2)
    await admit(store, 1, limits=one, member=Member(guild_id=2, user_id=77))


async def test_a_finished_job_makes_room_for_another(store: Store) -> None:
    reply = await admitted(store)
    one = limits(max_running_jobs=1)
    with pytest.raises(TooManyRunning):
        await admit(store, limits=one)
    await finished(store, reply.jobs[0].id)
    await admit(store, limits=one)


async def test_the_servers_cap_binds_members_that_have_quota_left(store: Store) -> None:
    assert await store.server_cap(1, now=NOON) is None
    await set_limit(store, LimitSubject.SERVER, 1_500_000)
    await admit(store, 1_000_000)
    with pytest.raises(ServerCapReached) as refusal:
        await admit(store, 500_001, member=BOB)
    assert (refusal.value.asked_usd_micros, refusal.value.available_usd_micros) == (500_001, 500_000)
    assert refusal.value.resets_at == datetime(2026, 11, 22, tzinfo=UTC)
    await admit(store, 500_000, member=BOB)
    cap = await store.server_cap(1, now=NOON)
    assert cap is not None
    assert (cap.spent_usd_micros, cap.set_aside_usd_micros, cap.available_usd_micros) == (0, 1_500_000, 0)
    await admit(store, 1_000_000, member=Member(guild_id=2, user_id=7))


async def test_an_unlimited_server_cap_does_not_bind_but_the_operators_does(store: Store) -> None:
    await set_limit(store, LimitSubject.SERVER, None)
    await set_limit(store, LimitSubject.DEFAULT, None)
    capped = limits(operator_usd_micros=2_000_000)
    assert (await admit(store, 2_000_000, limits=capped)).available_usd_micros is None
    for member in (ADA, Member(guild_id=2, user_id=3)):
        with pytest.raises(OperatorCapReached) as refusal:
            await admit(store, 1, member=member, limits=capped)
        assert refusal.value.resets_at == datetime(2026, 11, 22, tzinfo=UTC)
    await admit(store, 2_000_000, limits=capped, now=datetime(2026, 11, 22, tzinfo=UTC))


async def test_the_operators_cap_binds_where_the_servers_cap_has_room(store: Store) -> None:
    await set_limit(store, LimitSubject.SERVER, 500_000)
    with pytest.raises(OperatorCapReached):
        await admit(store, 100_000, limits=limits(operator_usd_micros=99_999))


async def test_the_operators_cap_includes_what_all_servers_together_have_used_of_it_today(store: Store) -> None:
    elsewhere = Member(guild_id=2, user_id=9)
    await admit(store, 300_000, now=NOON - timedelta(days=1))
    await admit(store, 200_000)
    (job,) = (await admitted(store, 100_000, member=elsewhere)).jobs
    await finished(store, job.id)
    cap = await store.operator_cap(limits(operator_usd_micros=1_000_000), now=NOON)
    assert cap.quota.amount_usd_micros == 1_000_000
    assert (cap.spent_usd_micros, cap.set_aside_usd_micros) == (80_000, 200_000)


async def test_the_operators_cap_binds_where_the_members_quota_is_just_enough(store: Store) -> None:
    await set_limit(store, LimitSubject.DEFAULT, 100_000)
    with pytest.raises(OperatorCapReached):
        await admit(store, 100_000, limits=limits(operator_usd_micros=99_999))


async def test_what_the_operator_pays_beyond_its_own_cap_counts_for_the_operators_cap_and_for_no_member(
    store: Store,
) -> None:
    reply = await admitted(store, 500_000)
    await store.fail(reply.jobs[0].id, FAILED, now=NOON, operator_cost_usd_micros=500_000)
    assert (await balance(store)).available_usd_micros == 1_000_000
    assert await operator_cost(store) == 500_000
    assert await operator_cost(store, since=NOON) == 500_000
    assert await operator_cost(store, since=NOON + timedelta(microseconds=1)) == 0
    [line] = await store.database.read(operator_costs.operator_cost_lines)
    assert (line.at, line.job_id, line.amount_usd_micros, line.failure) == (
        NOON,
        reply.jobs[0].id,
        500_000,
        FailureReason.PROVIDER_FAILED,
    )
    with pytest.raises(OperatorCapReached):
        await admit(store, 600_000, member=BOB, limits=limits(operator_usd_micros=1_000_000, cost_cap_usd_micros=0))


async def test_a_charge_is_spent_and_the_rest_becomes_available(store: Store) -> None:
    reply = await admitted(store, 80_000)
    job = await finished(store, reply.jobs[0].id, charged_usd_micros=60_000)
    assert (job.status, job.charged_usd_micros) == (JobStatus.SUCCEEDED, 60_000)
    after = await balance(store)
    assert (after.spent_usd_micros, after.set_aside_usd_micros, after.available_usd_micros) == (60_000, 0, 940_000)


@pytest.mark.parametrize("charged", [80_001, -1])
async def test_a_charge_that_was_not_reserved_is_an_impossible_move_and_changes_nothing(
    store: Store, charged: int
) -> None:
    reply = await admitted(store, 80_000)
    await running(store, reply.jobs[0].id)
    with pytest.raises(LedgerError):
        await store.succeed(reply.jobs[0].id, charged_usd_micros=charged, images=[an_image()], now=NOON)
    assert (await balance(store)).set_aside_usd_micros == 80_000
    unchanged = await store.reply(reply.id)
    assert unchanged is not None
    assert unchanged.jobs[0].status is JobStatus.RUNNING


async def test_a_charge_of_nothing_is_a_release_and_the_operator_may_pay(store: Store) -> None:
    reply = await admitted(store, 80_000)
    await running(store, reply.jobs[0].id)
    job = await store.succeed(
        reply.jobs[0].id, charged_usd_micros=0, images=[an_image()], now=NOON, operator_cost_usd_micros=80_000
    )
    assert job is not None
    assert job.charged_usd_micros == 0
    assert (await balance(store)).available_usd_micros == 1_000_000
    assert await operator_cost(store) == 80_000


async def test_a_reservation_is_never_released_twice(store: Store) -> None:
    reply = await admitted(store)
    await store.cancel(reply.jobs[0].id, expected=JobStatus.QUEUED, now=NOON)

    with pytest.raises(LedgerError):
        await store.database.write(
            lambda connection: ledger.release(connection, reply.jobs[0].id, operator_cost_usd_micros=0, now=NOON)
        )


async def test_a_free_job_is_admitted_even_when_nothing_is_left(store: Store) -> None:
    await admit(store, 1_000_000)
    reply = await admitted(store, 0)
    await finished(store, reply.jobs[0].id, charged_usd_micros=0)
    assert (await balance(store)).available_usd_micros == 0


async def test_the_reply_of_another_member_is_never_admitted(store: Store) -> None:
    with pytest.raises(LedgerError):
        await store.admit(member=BOB, reply=a_command(member=ADA), limits=limits(), now=NOON)


@pytest.mark.f11
async def test_lowering_a_quota_below_what_is_spent_leaves_nothing_and_lets_running_jobs_settle(store: Store) -> None:
    reply = await admitted(store, 500_000, 300_000)
    await finished(store, reply.jobs[0].id, charged_usd_micros=500_000)
    await set_limit(store, LimitSubject.MEMBER, 100_000, ADA.user_id)
    assert (await balance(store)).available_usd_micros == 0
    with pytest.raises(QuotaExceeded) as refusal:
        await admit(store, 1)
    assert refusal.value.available_usd_micros == 0
    await finished(store, reply.jobs[1].id, charged_usd_micros=300_000)
    assert (await balance(store)).spent_usd_micros == 800_000


@pytest.mark.f12
async def test_a_quota_of_zero_means_no_spending(store: Store) -> None:
    await set_limit(store, LimitSubject.DEFAULT, 0)
    with pytest.raises(QuotaExceeded):
        await admit(store, 1)


async def test_own_limit_beats_roles_and_the_best_role_beats_the_default(store: Store) -> None:
    member = Member(guild_id=1, user_id=7, role_ids=(20, 21))
    assert (await balance(store, member)).quota == A_DOLLAR_A_DAY
    await set_limit(store, LimitSubject.DEFAULT, 2_000_000)
    assert (await balance(store, member)).quota.source is QuotaSource.DEFAULT
    for role_id, amount in ((20, 3_000_000), (21, 4_000_000), (22, 9_000_000)):
        await set_limit(store, LimitSubject.ROLE, amount, role_id)
    by_role = (await balance(store, member)).quota
    assert (by_role.amount_usd_micros, by_role.source, by_role.role_id) == (4_000_000, QuotaSource.ROLE, 21)
    await set_limit(store, LimitSubject.MEMBER, 500_000, 7)
    assert (await balance(store, member)).quota.source is QuotaSource.MEMBER


async def test_a_job_counts_in_the_window_in_which_it_was_reserved(store: Store) -> None:
    before_midnight, after = datetime(2026, 11, 21, 23, 59, 59, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)
    reply = await admitted(store, 700_000, now=before_midnight)
    assert (await admit(store, 1_000_000, now=after)).available_usd_micros == 0
    await finished(store, reply.jobs[0].id, charged_usd_micros=700_000, now=after)
    assert (await balance(store, now=after)).spent_usd_micros == 0
    assert (await balance(store, now=after, previous=True)).spent_usd_micros == 700_000


@pytest.mark.f10
async def test_the_window_follows_the_servers_time_zone(store: Store) -> None:
    await admit(store, 1_000_000, now=datetime(2026, 11, 21, 22, 59, tzinfo=UTC))
    midnight_in_berlin = datetime(2026, 11, 21, 23, 0, tzinfo=UTC)
    with pytest.raises(QuotaExceeded):
        await admit(store, 1, now=midnight_in_berlin)
    berlin = ZoneInfo("Europe/Berlin")
    await store.set_time_zone(1, berlin, actor_id=99, reason="home", now=NOON)
    assert await store.time_zone(1) == berlin
    assert (await admit(store, 1, now=midnight_in_berlin)).window == Window(
        start=midnight_in_berlin, end=midnight_in_berlin + timedelta(days=1)
    )


async def test_a_grant_counts_in_its_own_window_only(store: Store) -> None:
    after = await store.grant(ADA, 500_000, default=A_DOLLAR_A_DAY, actor_id=99, reason="thanks", now=NOON)
    assert (after.limit_usd_micros, after.available_usd_micros) == (1_500_000, 1_500_000)
    await admit(store, 1_500_000)
    assert (await balance(store, now=NOON + timedelta(days=1))).limit_usd_micros == 1_000_000


async def test_a_grant_whose_command_reaches_two_gateways_counts_once(store: Store) -> None:
    for command_id, available in ((5, 1_500_000), (5, 1_500_000), (6, 2_000_000)):
        after = await store.grant(
            ADA, 500_000, default=A_DOLLAR_A_DAY, actor_id=99, reason="thanks", now=NOON, command_id=command_id
        )
        assert after.available_usd_micros == available
    assert [entry.action for entry in await store.audit(1)] == ["grant", "grant"]


async def test_a_reset_forgives_what_was_settled_and_keeps_open_reservations_and_grants(store: Store) -> None:
    reply = await admitted(store, 300_000, 200_000)
    await store.grant(ADA, 50_000, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    await finished(store, reply.jobs[0].id, charged_usd_micros=300_000)
    after = await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason="our mistake", now=NOON)
    assert (after.spent_usd_micros, after.set_aside_usd_micros, after.granted_usd_micros) == (0, 200_000, 50_000)
    await finished(store, reply.jobs[1].id, charged_usd_micros=200_000)
    assert (await balance(store)).spent_usd_micros == 200_000
    assert (await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)).spent_usd_micros == 0


async def test_after_a_reset_the_whole_quota_can_be_spent_again_and_not_a_micro_dollar_more(store: Store) -> None:
    reply = await admitted(store, 1_000_000)
    await finished(store, reply.jobs[0].id, charged_usd_micros=1_000_000)
    await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    with pytest.raises(QuotaExceeded):
        await admit(store, 1_000_001)
    assert (await admit(store, 1_000_000)).available_usd_micros == 0


async def test_the_first_quarter_of_an_hour_of_a_window_counts_in_it_and_not_in_the_one_before(store: Store) -> None:
    """Check this, also for a clock set back over midnight: what was ordered after it belongs to the day after."""
    midnight = datetime(2026, 11, 22, tzinfo=UTC)
    evening = midnight - timedelta(microseconds=1)
    await set_limit(store, LimitSubject.SERVER, 1_200_000)
    reply = await admitted(store, 900_000, now=midnight)
    await store.grant(ADA, 50_000, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=midnight)
    for amount in (150_001, 150_000):
        if amount == 150_001:
            with pytest.raises(QuotaExceeded):
                await admit(store, amount, now=midnight)
        else:
            await admit(store, amount, now=midnight)
    with pytest.raises(ServerCapReached) as refusal:
        await admit(store, 150_001, member=BOB, now=midnight)
    assert refusal.value.available_usd_micros == 150_000
    await finished(store, reply.jobs[0].id, charged_usd_micros=900_000, now=midnight)
    before = await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=evening)
    assert (before.granted_usd_micros, before.spent_usd_micros, before.set_aside_usd_micros) == (0, 0, 0)
    assert (await balance(store, now=midnight, previous=True)).set_aside_usd_micros == 0
    assert (await balance(store, now=midnight)).spent_usd_micros == 900_000
    tight = limits(operator_usd_micros=1_000_000)
    assert (await admit(store, 1_000_000, limits=tight, now=evening)).available_usd_micros == 0
    with pytest.raises(OperatorCapReached):
        await admit(store, 1, member=Member(guild_id=2, user_id=8), limits=tight, now=midnight)


async def test_what_is_set_aside_and_spent_hours_apart_adds_up(store: Store) -> None:
    later = NOON + timedelta(hours=2)
    first, second = await admitted(store, 300_000), await admitted(store, 400_000, now=later)
    assert (await balance(store)).set_aside_usd_micros == 700_000
    await finished(store, first.jobs[0].id, charged_usd_micros=300_000)
    await finished(store, second.jobs[0].id, charged_usd_micros=400_000, now=later)
    assert (await balance(store)).spent_usd_micros == 700_000


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
async def test_a_month_counts_its_first_and_its_last_quarter_of_an_hour_and_whole_days_between(
    store: Store, zone: str
) -> None:
    """Where the server's midnight is not that of UTC a month ends in the middle of the days that are summed up."""
    local = ZoneInfo(zone)
    await store.set_time_zone(1, local, actor_id=99, reason=None, now=NOON)
    await set_limit(store, LimitSubject.DEFAULT, 25_000_000, period=Period.MONTH)
    await set_limit(store, LimitSubject.SERVER, 25_000_000, period=Period.MONTH)
    moment = timedelta(microseconds=1)
    first, end = datetime(2026, 11, 1, tzinfo=local), datetime(2026, 12, 1, tzinfo=local)
    outside = [first.astimezone(UTC) - moment, end.astimezone(UTC)]
    inside = [first, first + timedelta(hours=13), NOON, end - timedelta(hours=11), end.astimezone(UTC) - moment]
    for number, at in enumerate([*outside, *inside]):
        reply = await admitted(store, 1_000_000 * (number + 1), now=at.astimezone(UTC))
        if number % 2:
            await finished(store, reply.jobs[0].id, charged_usd_micros=1_000_000 * (number + 1), now=at.astimezone(UTC))
    here = await balance(store)
    assert (here.set_aside_usd_micros, here.spent_usd_micros) == (15_000_000, 10_000_000)
    cap = await store.server_cap(1, now=NOON)
    assert cap is not None
    assert (cap.set_aside_usd_micros, cap.spent_usd_micros) == (15_000_000, 10_000_000)
    with pytest.raises(ServerCapReached):
        await admit(store, 1, member=BOB)


async def test_what_a_reset_forgave_stays_forgiven_when_the_period_changes(store: Store) -> None:
    await set_limit(store, LimitSubject.DEFAULT, 1_000_000, period=Period.MONTH)
    for day in (3, 21):
        reply = await admitted(store, 400_000, now=NOON.replace(day=day))
        await finished(store, reply.jobs[0].id, charged_usd_micros=400_000, now=NOON.replace(day=day))
    await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    await set_limit(store, LimitSubject.DEFAULT, 1_000_000, period=Period.DAY)
    assert (await balance(store)).available_usd_micros == 1_000_000
    with pytest.raises(QuotaExceeded):
        await admit(store, 1_000_001)


async def test_a_reset_and_a_grant_for_a_member_who_never_ordered_anything(store: Store) -> None:
    after = await store.reset(BOB, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    assert after.available_usd_micros == 1_000_000


async def test_the_cap_of_a_server_without_an_order_is_unused(store: Store) -> None:
    await set_limit(store, LimitSubject.SERVER, 1_000_000)
    cap = await store.server_cap(1, now=NOON)
    assert cap is not None
    assert (cap.spent_usd_micros, cap.set_aside_usd_micros) == (0, 0)


async def test_a_server_was_warned_when_that_was_itself_and_in_this_window(store: Store) -> None:
    today = Window.containing(NOON, Period.DAY, ZoneInfo("UTC"))
    yesterday = today.before(Period.DAY, ZoneInfo("UTC"))
    for guild_id, user_id, window in ((1, ADA.user_id, today), (2, None, today), (1, None, yesterday)):
        assert await store.first_warning(guild_id=guild_id, user_id=user_id, window=window)
    assert not await store.server_was_warned(1, today)
    assert await store.first_warning(guild_id=1, user_id=None, window=today)
    assert await store.server_was_warned(1, today)


async def test_a_negative_grant_is_refused(store: Store) -> None:
    with pytest.raises(StoreError):
        await store.grant(ADA, -1, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    assert await store.audit(1) == []


async def test_a_report_shows_settled_spending_by_member_and_model_dearest_first(store: Store) -> None:
    window = Window.containing(NOON, Period.DAY, ZoneInfo("UTC"))
    assert await store.spend_report(1, [window]) == SpendReport(lines=(), parts=())
    for member, charge in ((ADA, 80_000), (ADA, 70_000), (BOB, 200_000), (Member(guild_id=2, user_id=7), 500_000)):
        reply = await admitted(store, 900_000 if member.guild_id == 2 else charge, member=member)
        await finished(store, reply.jobs[0].id, charged_usd_micros=charge)
    await admitted(store, 10_000)
    await admitted(store, 10_000, now=NOON + timedelta(days=1))
    lines = (await store.spend_report(1, [window])).lines
    assert [(line.user_id, line.jobs, line.spent_usd_micros) for line in lines] == [(8, 1, 200_000), (7, 2, 150_000)]


async def test_a_report_also_says_when_it_was_spent_in_the_days_of_the_server(store: Store) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    days = Window.containing(NOON, Period.WEEK, berlin).days(berlin)
    assert await store.spend_report(1, days) == SpendReport(lines=(), parts=())
    monday = days[0].start
    spendings = [
        (ADA, FLUX, 70_000, monday),
        (BOB, FLUX, 200_000, monday + timedelta(hours=23, minutes=59)),
        (ADA, NANO_BANANA_2, 80_000, monday + timedelta(days=1)),
        (ADA, NANO_BANANA_2, 60_000, days[-1].end - timedelta(seconds=1)),
        (ADA, NANO_BANANA_2, 500_000, days[-1].end),
        (ADA, NANO_BANANA_2, 500_000, monday - timedelta(seconds=1)),
        (Member(guild_id=2, user_id=7), FLUX, 400_000, monday),
    ]
    for member, model_id, charge, at in spendings:
        reply = a_command(charge, member=member, now=at, model_id=model_id)
        await store.admit(member=member, reply=reply, limits=limits(), now=at)
        await store.accept(reply.id, message_id=99)
        await finished(store, reply.jobs[0].id, charged_usd_micros=charge, now=at)
    report = await store.spend_report(1, days)
    assert [(part.part, part.model_id, part.jobs, part.spent_usd_micros) for part in report.parts] == [
        (0, FLUX, 2, 270_000),
        (1, NANO_BANANA_2, 1, 80_000),
        (6, NANO_BANANA_2, 1, 60_000),
    ]
    assert [(line.user_id, line.model_id, line.jobs, line.spent_usd_micros) for line in report.lines] == [
        (8, FLUX, 1, 200_000),
        (7, NANO_BANANA_2, 2, 140_000),
        (7, FLUX, 1, 70_000),
    ]


async def test_in_a_report_who_spent_the_same_stand_in_a_fixed_order(store: Store) -> None:
    days = Window.containing(NOON, Period.WEEK, ZoneInfo("UTC")).days(ZoneInfo("UTC"))
    for member, day in ((BOB, days[0]), (ADA, days[1])):
        reply = await admitted(store, member=member, now=day.start)
        await finished(store, reply.jobs[0].id, now=day.start)
    assert [line.user_id for line in (await store.spend_report(1, days)).lines] == [ADA.user_id, BOB.user_id]


async def test_a_report_reads_the_jobs_of_its_own_server_and_time_and_no_others(tmp_path: Path) -> None:
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        plan = await store.database.read(
            lambda connection: [
                row["detail"]
                for row in connection.execute(
                    f"EXPLAIN QUERY PLAN {spend_reports._SPEND_BY_PART.sqlite}", {"account_id": 1, "parts": "[[0, 1]]"}
                )
            ]
        )
    of_the_server = "SEARCH reservations USING INDEX reservations_by_server (server_account_id=? AND reserved_at>? AND"
    assert plan[0].startswith("SCAN parts")
    assert plan[1].startswith(of_the_server)
    assert not [step for step in plan[2:] if step.startswith("SCAN")]
    assert any(step.startswith("SEARCH jobs USING INDEX") for step in plan)


async def test_prices_up_to_ten_million_dollars_are_exact(store: Store) -> None:
    dear = 9_999_999_999_999
    await set_limit(store, LimitSubject.MEMBER, dear, ADA.user_id, Period.MONTH)
    after = await admit(store, dear, limits=limits(operator_usd_micros=10**15))
    assert after.available_usd_micros == 0


async def test_the_ledger_refuses_every_change_and_deletion(store: Store) -> None:
    reply = await admitted(store)
    await finished(store, reply.jobs[0].id)
    for statement in (
        "UPDATE ledger SET amount_usd_micros = 1",
        "DELETE FROM ledger",
        "DELETE FROM reservations",
        "DELETE FROM jobs",
        "UPDATE reservations SET state = 'open', held_usd_micros = reserved_usd_micros, settled_usd_micros = 0",
        "UPDATE reservations SET reserved_usd_micros = 1",
        "UPDATE adjustments SET amount_usd_micros = 1 WHERE id = 1",
        "UPDATE jobs SET status = 'queued'",
    ):
        if "adjustments" in statement:
            await store.grant(ADA, 5, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
        with pytest.raises(StoreError):
            await store.database.write(lambda connection, sql=statement: connection.execute(sql))


# -- what must not happen -------------------------------------------------------------------------------------------


async def test_money_that_is_not_there_is_neither_charged_nor_booked(store: Store) -> None:
    job_id = (await admitted(store, 50_000)).jobs[0].id
    write = store.database.write
    with pytest.raises(LedgerError, match=r"cannot be settled at \$0.01"):
        await write(
            lambda connection: ledger.settle(
                connection, "no job", charged_usd_micros=10_000, operator_cost_usd_micros=0, now=NOON
            )
        )
    with pytest.raises(LedgerError, match=r"cannot cost the operator \$0.01 late"):
        await write(lambda connection: ledger.book_late_cost(connection, job_id, 10_000, now=NOON))
    await write(lambda connection: ledger.book_late_cost(connection, job_id, 0, now=NOON))
    balance = await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)
    assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (0, 50_000)


async def test_the_jobs_that_were_sent_are_listed_with_what_was_paid(store: Store) -> None:
    await admitted(store, 70_000)  # never sent
    job = (await admitted(store, 50_000)).jobs[0]
    await finished(store, job.id, charged_usd_micros=40_000)
    (listed,) = await store.ledger_jobs(since=NOON - timedelta(hours=1))
    assert (listed.job_id, listed.paid_usd_micros, listed.status) == (job.id, 40_000, JobStatus.SUCCEEDED)


async def test_where_an_order_without_a_known_channel_was_made_is_not_guessed(store: Store) -> None:
    assert await store.database.read(lambda connection: balances.place_of_job(connection, "no job")) is None
