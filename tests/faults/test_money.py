"""Rows of the fault matrix about money that need a table of cases: prices, concurrent orders, clock changes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bot.catalogue.models import Model
from bot.domain.deployment.database_url import Location
from bot.domain.errors import BadOption, ModelUnavailable, OperatorCapReached, QuotaExceeded, ServerCapReached
from bot.domain.jobs import JobStatus
from bot.domain.money.quota import LimitSubject, Member, Period, Quota
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from sandbox.plans import Ending, Plan
from tests.support.catalogue_samples import CATALOGUE, EVERY_MODEL, plainest
from tests.support.core import ADA, PRICE, Core, a_core
from tests.support.store_samples import NOON, a_command, limits

DOLLAR = 1_000_000
FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Open a store whose ledger is verified when the test is over."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def admit(store: Store, member: Member, amount: int, *, now: datetime = NOON) -> None:
    await store.admit(member=member, reply=a_command(amount, member=member, now=now), limits=limits(), now=now)


# -- F-02, F-03 -------------------------------------------------------------------------------------------


async def test_f02_every_price_on_the_list_fits_into_exactly_as_much_and_not_into_a_micro_dollar_less(store: Store):
    prices = sorted({amount for model in CATALOGUE.models if model.orderable for _, amount in model.price_table()})
    assert len(prices) > 20
    for number, price in enumerate(prices):
        enough, too_little = Member(guild_id=1, user_id=1_000 + number), Member(guild_id=1, user_id=5_000 + number)
        for member, amount in ((enough, price), (too_little, price - 1)):
            quota = Quota(amount_usd_micros=amount, period=Period.DAY)
            await store.set_limit(1, LimitSubject.MEMBER, member.user_id, quota, actor_id=99, reason=None, now=NOON)
        await admit(store, enough, price)
        with pytest.raises(QuotaExceeded) as refusal:
            await admit(store, too_little, price)
        assert (refusal.value.asked_usd_micros, refusal.value.available_usd_micros) == (price, price - 1)


async def test_f03_in_shuffled_crowds_of_two_hundred_exactly_twelve_get_in(store: Store, location: Location):
    for run in range(20 if isinstance(location, Path) else 5):
        shuffled = random.Random(run)
        member = Member(guild_id=run + 1, user_id=7)

        async def ask(member: Member, pauses: int) -> bool:
            for _ in range(pauses):
                await asyncio.sleep(0)
            try:
                await admit(store, member, 80_000)
            except QuotaExceeded:
                return False
            return True

        answers = await asyncio.gather(*(ask(member, shuffled.randrange(20)) for _ in range(200)))
        assert sum(answers) == 12, run
        balance = await store.balance(member, default=limits().default_quota, now=NOON)
        assert (balance.set_aside_usd_micros, balance.available_usd_micros) == (960_000, 40_000)


@pytest.mark.f01
@pytest.mark.parametrize("what", ["member", "server", "operator"])
async def test_what_is_spent_hours_apart_adds_up_in_every_limit(store: Store, what: str):
    """Check that a limit counts every sum: they are stored per quarter of an hour."""
    dollar = Quota(amount_usd_micros=DOLLAR, period=Period.DAY)
    unlimited = Quota(amount_usd_micros=None, period=Period.DAY)
    for subject in (LimitSubject.DEFAULT, LimitSubject.SERVER):
        binds = what == {LimitSubject.DEFAULT: "member", LimitSubject.SERVER: "server"}[subject]
        await store.set_limit(1, subject, None, dollar if binds else unlimited, actor_id=9, reason=None, now=NOON)
    under = limits(operator_usd_micros=DOLLAR if what == "operator" else 10**12)
    refusal = {"member": QuotaExceeded, "server": ServerCapReached, "operator": OperatorCapReached}[what]

    async def order(amount: int, hours: int) -> None:
        now = NOON + timedelta(hours=hours)
        await store.admit(member=ADA, reply=a_command(amount, member=ADA, now=now), limits=under, now=now)

    for hours in range(4):
        await order(240_000, hours)
    with pytest.raises(refusal):
        await order(40_001, 5)
    await order(40_000, 5)


@pytest.mark.f01
async def test_an_order_that_fits_exactly_into_the_servers_cap_is_refused_by_the_operators(store: Store):
    cap = Quota(amount_usd_micros=80_000, period=Period.DAY)
    await store.set_limit(1, LimitSubject.SERVER, None, cap, actor_id=9, reason=None, now=NOON)
    with pytest.raises(OperatorCapReached):
        await store.admit(
            member=ADA,
            reply=a_command(80_000, member=ADA, now=NOON),
            limits=limits(operator_usd_micros=79_999),
            now=NOON,
        )


# -- F-04 -------------------------------------------------------------------------------------------------


async def test_f04_a_finished_job_has_one_reservation_and_one_charge_in_the_ledger(core: Core):
    job = await core.ended(await core.order())
    lines = await core.store.database.read(
        lambda db: db.execute("SELECT kind, amount_usd_micros FROM ledger WHERE job_id = ?", (job.id,)).fetchall()
    )
    assert [tuple(line) for line in lines] == [("reserve", PRICE), ("settle", PRICE)]


# -- F-09: the bot was not running when the period ended ----------------------------------------------------


def next_start(now: datetime, period: Period) -> datetime:
    midnight = datetime.combine(now.date(), time(), UTC)
    if period is Period.DAY:
        return midnight + timedelta(days=1)
    if period is Period.WEEK:
        return midnight + timedelta(days=7 - now.weekday())
    return (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)


@pytest.mark.parametrize("period", list(Period))
@pytest.mark.parametrize("late", [timedelta(seconds=1), timedelta(days=400)], ids=["just after", "a year after"])
async def test_f09_a_period_that_ended_while_the_bot_was_away_has_ended(
    tmp_path: Path, period: Period, late: timedelta
):
    async with a_core(tmp_path) as core:
        quota = Quota(amount_usd_micros=PRICE, period=period)
        await core.store.set_limit(1, LimitSubject.DEFAULT, None, quota, actor_id=1, reason=None, now=core.clock())
        await core.ended(await core.order())
        with pytest.raises(QuotaExceeded) as refusal:
            await core.ask("one too many")
        ends_at = next_start(core.clock(), period)
        assert refusal.value.resets_at == ends_at
        await core.kill()
        core.clock.move(seconds=(ends_at + late - core.clock()).total_seconds())
        await core.start()
        assert (await core.balance()).spent_usd_micros == 0
        assert (await core.ended(await core.order())).status is JobStatus.SUCCEEDED
        with pytest.raises(QuotaExceeded):
            await core.ask("one too many again")


# -- F-10: days that are not 24 hours long --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("America/New_York", date(2026, 3, 8), 23),
        ("America/New_York", date(2026, 11, 1), 25),
        ("America/Havana", date(2026, 3, 8), 23),
        ("America/Havana", date(2026, 11, 1), 25),
        ("Australia/Lord_Howe", date(2026, 10, 4), 23.5),
        ("Asia/Kathmandu", date(2026, 6, 1), 24),
    ],
)
async def test_f10_a_day_with_a_clock_change_is_reset_once_and_says_when(
    store: Store, zone: str, day: date, hours: float
):
    home = ZoneInfo(zone)
    await store.set_time_zone(1, home, actor_id=99, reason=None, now=NOON)
    moment = datetime.combine(day - timedelta(days=1), time(18), home).astimezone(UTC)
    end = datetime.combine(day + timedelta(days=1), time(6), home).astimezone(UTC)
    resets: list[datetime] = []
    promised = moment
    while moment < end:
        try:
            await admit(store, ADA, DOLLAR, now=moment)
            assert promised == moment, "a reset comes when it was promised"
            resets.append(moment)
        except QuotaExceeded as refusal:
            promised = refusal.resets_at
        moment += timedelta(minutes=15)
    on_that_day = [reset for reset in resets[1:] if reset.astimezone(home).date() == day]
    assert len(on_that_day) == 1
    assert resets[-1] - on_that_day[0] == timedelta(hours=hours)


# -- F-11 -------------------------------------------------------------------------------------------------


async def test_f11_a_quota_set_below_what_is_spent_lets_running_jobs_settle_and_refuses_new_ones(tmp_path: Path):
    async with a_core(tmp_path) as core:
        await core.ended(await core.order())
        core.sandbox.next_order(FOREVER)
        running = await core.reached(await core.order(), JobStatus.RUNNING)
        quota = Quota(amount_usd_micros=1, period=Period.DAY)
        await core.store.set_limit(1, LimitSubject.MEMBER, 7, quota, actor_id=1, reason=None, now=core.clock())
        balance = await core.balance()
        assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (PRICE, PRICE)
        assert balance.available_usd_micros == 0
        with pytest.raises(QuotaExceeded):
            await core.ask("one more")
        core.sandbox.jobs[running.remote_id or ""].word = "completed"
        assert (await core.ended(running)).status is JobStatus.SUCCEEDED
        assert await core.money() == (2 * PRICE, 0, 0)


# -- F-15 -------------------------------------------------------------------------------------------------


async def test_f15_an_order_without_a_known_price_is_reported_to_the_operator_and_sent_to_no_provider(core: Core):
    unpriced = next(model for model in CATALOGUE.models if not model.orderable and not model.retired)
    with pytest.raises(ModelUnavailable) as caught:
        await core.ask("a fox", model_id=unpriced.id, kind=plainest(unpriced).kind)
    assert caught.value.reason == "no_price"
    ((matter, text),) = core.presenter.notices
    assert matter == "no price"
    assert unpriced.id in text
    assert core.sent == []
    assert await core.money() == (0, 0, 0)


# -- F-50: the boundaries of every model's prompt -----------------------------------------------------------------

TAKES_A_PROMPT = [param for param in EVERY_MODEL if param.values[0].orderable and "prompt" in param.values[0].fields]  # type: ignore[union-attr]


@pytest.mark.parametrize("model", TAKES_A_PROMPT)
def test_f50_a_prompt_may_be_as_short_and_as_long_as_its_model_takes_and_not_one_letter_more(model: Model):
    field = model.fields["prompt"]
    least = field.min_length or (1 if field.required else 0)
    most = field.max_length
    for length in {least, least + 1} | ({most - 1, most} if most else {6_000}):
        prompt = "x" * length
        assert CATALOGUE.quote(plainest(model, prompt=prompt)).body.get("prompt", "") == prompt
    wrong = [" " * 20, "\n\t"] if least else []
    wrong += ["x" * (least - 1)] if least else []
    wrong += ["x" * (most + 1), "é" * (most + 1)] if most else []
    for prompt in wrong:
        with pytest.raises(BadOption) as refused:
            CATALOGUE.quote(plainest(model, prompt=prompt))
        assert refused.value.option == "prompt"
