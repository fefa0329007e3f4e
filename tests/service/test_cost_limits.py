"""Jobs that cost the operator something and no member: what they come to a day, and what the operator reads of it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from bot.domain.errors import MemberCostReached, OperatorCostCapReached, OperatorServerCapReached, TooMuchAtRisk
from bot.domain.jobs import Job, JobStatus
from bot.domain.money.quota import CostLimit, Member
from bot.store.store import Store
from sandbox.plans import Ending, FileTrouble, Plan, Shape
from tests.support import store_samples
from tests.support.core import ADA, NANO_BANANA_2, PIXAZO_LARGE, PRICES, Core, a_core
from tests.support.fakes import until
from tests.support.store_samples import operator_cost

PRICE = PRICES[PIXAZO_LARGE]
LIMIT = 250_000
EVE = Member(guild_id=3, user_id=9)
LIMITS = store_samples.limits(cost_per_member_usd_micros=LIMIT, max_running_jobs=3)


async def drain(core: Core, plan: Plan, *, model_id: str = PIXAZO_LARGE, member: Member = ADA) -> int:
    """Order one image after the other until the member is refused; return how many were taken."""
    for taken in range(50):
        try:
            view = await core.ask("a red fox", member=member, model_id=model_id)
        except (MemberCostReached, OperatorCostCapReached):
            return taken
        core.sandbox.next_order(plan)
        await core.service.accept(view.reply, message_id=99)
        await core.ended(*view.reply.jobs)
    raise AssertionError("nothing was refused")


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize(
    "plan",
    [
        Plan(ending=Ending.FAILED),
        Plan(shape=Shape.EMPTY),
        Plan(file_trouble=FileTrouble.MISSING),
        Plan(file_trouble=FileTrouble.HTML),
    ],
    ids=["failed", "no address", "dead link", "unusable bytes"],
)
async def test_one_member_cannot_drain_the_operator(tmp_path: Path, plan: Plan) -> None:
    async with a_core(tmp_path, limits=LIMITS) as core:
        assert await drain(core, plan) == 5
        assert LIMIT <= await operator_cost(core.store) < LIMIT + PRICE
        assert (await core.money())[:2] == (0, 0)
        served = await core.ended(await core.order(member=EVE, model_id=PIXAZO_LARGE))
        assert served.status is JobStatus.SUCCEEDED
        await until(lambda: core.presenter.notices, what=lambda: "a notice")
        told = [text for matter, text in core.presenter.notices if matter.startswith("member cost limit")]
        assert len(told) == 1
        assert f"member {ADA.user_id} " in told[0]
        assert "$0.25" in told[0]


@pytest.mark.hostile("G-02")
async def test_images_that_are_made_and_out_of_reach_count_as_what_may_cost_the_operator(tmp_path: Path) -> None:
    jobs: list[Job] = []
    async with a_core(tmp_path, limits=replace(LIMITS, max_running_jobs=10)) as core:
        with pytest.raises(TooMuchAtRisk):
            await order_out_of_reach(core, jobs)
        core.clock.move(minutes=16)
        await core.ended(*jobs)
        assert LIMIT <= await operator_cost(core.store) < LIMIT + PRICE


async def order_out_of_reach(core: Core, jobs: list[Job]) -> None:
    """Order images, one after the other, whose address nobody can reach, and append their jobs to `jobs`."""
    while len(jobs) < 8:
        core.sandbox.next_order(Plan(urls=("http://127.0.0.1:1/picture.png",)))
        jobs.append(await core.order(model_id=PIXAZO_LARGE))
        await until(partial(is_unfetched, core, jobs[-1]))


async def is_unfetched(core: Core, job: Job) -> bool:
    return (await core.now(job)).unfetched_since_at is not None


@pytest.mark.hostile("G-02")
async def test_failures_that_cost_nothing_hold_nobody_back(tmp_path: Path) -> None:
    """Krea does not bill for a job that failed, so any number of such failures is no cost."""
    async with a_core(tmp_path, limits=LIMITS) as core:
        for _ in range(8):
            core.sandbox.next_order(Plan(ending=Ending.FAILED))
            await core.ended(await core.order(model_id=NANO_BANANA_2))
        assert await operator_cost(core.store) == 0
        await core.order(model_id=NANO_BANANA_2)


@pytest.mark.hostile("G-02")
async def test_the_card_of_the_last_failure_knows_that_no_more_is_taken(tmp_path: Path) -> None:
    async with a_core(tmp_path, limits=LIMITS) as core:
        core.sandbox.next_order(Plan(ending=Ending.FAILED))
        first = await core.ended(await core.order(model_id=PIXAZO_LARGE))
        view = await core.service.view(first.reply_id)
        assert view is not None
        assert view.no_orders_until is None
        await drain(core, Plan(ending=Ending.FAILED))
        view = await core.service.view(first.reply_id)
        assert view is not None
        assert view.no_orders_until is not None
        assert view.no_orders_until > core.clock()
        core.clock.move(hours=24)
        view = await core.service.view(first.reply_id)
        assert view is not None
        assert view.no_orders_until is None


@pytest.mark.hostile("G-02")
async def test_the_operator_is_told_once_a_day_of_members_and_of_the_cap_over_all(tmp_path: Path) -> None:
    async with a_core(tmp_path, limits=replace(LIMITS, operator_cost_daily_cap_usd_micros=500_000)) as core:
        await drain(core, Plan(ending=Ending.FAILED))
        await drain(core, Plan(ending=Ending.FAILED), member=Member(guild_id=4, user_id=20))
        core.sandbox.next_order(Plan(ending=Ending.FAILED))
        await core.ended(await core.order(member=EVE, model_id=PIXAZO_LARGE))
        await until(lambda: len(core.presenter.notices) >= 2, what=lambda: "two notices")
        kinds = sorted(matter.partition(" of ")[0] for matter, _ in core.presenter.notices)
        assert kinds == ["all members cost limit", "member cost limit"]


@pytest.mark.hostile("G-02")
@pytest.mark.parametrize(
    ("limit", "cap", "taken"), [(CostLimit.MEMBER, 10 * LIMIT, 5), (CostLimit.ALL_MEMBERS, PRICE, 1)]
)
async def test_the_operator_is_told_at_the_next_refusal_where_it_failed_after_the_cost(
    tmp_path: Path, limit: CostLimit, cap: int, taken: int
) -> None:
    """After the cost that reaches a limit, the member causes none that could tell of it."""
    async with a_core(tmp_path, limits=replace(LIMITS, operator_cost_daily_cap_usd_micros=cap)) as core:
        core.disk.fill("cost_limits_reached")
        core.expected_failures = taken
        assert await drain(core, Plan(ending=Ending.FAILED)) == taken
        await until(lambda: len(core.failures.lines) == taken, what=lambda: "failures in the log")
        assert core.presenter.notices == []
        core.disk.make_room()
        for _ in range(3):
            with pytest.raises((MemberCostReached, OperatorCostCapReached)) as refusal:
                await core.order(model_id=PIXAZO_LARGE)
            core.service.cost_alerts.order_refused(ADA.guild_id, ADA.user_id, refusal.value)
        await until(lambda: core.presenter.notices, what=lambda: "a notice")
        [(matter, text)] = core.presenter.notices
        assert matter.startswith(f"{limit} cost limit")
        assert "Failed jobs" in text


@pytest.mark.hostile("G-02")
async def test_soon_after_midnight_the_operator_is_told_of_the_new_day(tmp_path: Path) -> None:
    """Notices of one matter are sent once an hour, and what was told counts as told for its whole day."""
    async with a_core(tmp_path, limits=LIMITS) as core:
        await drain(core, Plan(ending=Ending.FAILED))
        await until(lambda: core.presenter.notices, what=lambda: "a notice")
        core.clock.move(days=1)
        await drain(core, Plan(ending=Ending.FAILED))
        await until(lambda: len(core.presenter.notices) == 2, what=lambda: "two notices")
        [(yesterday, _), (today, _)] = core.presenter.notices
        assert yesterday != today


@pytest.mark.hostile("G-03")
async def test_the_operator_is_told_once_a_day_that_a_server_has_used_its_share(tmp_path: Path) -> None:
    async with a_core(tmp_path, limits=replace(LIMITS, operator_server_cap_usd_micros=PRICE)) as core:
        await core.ended(await core.order(model_id=PIXAZO_LARGE))
        for _ in range(3):
            with pytest.raises(OperatorServerCapReached) as refusal:
                await core.order(model_id=PIXAZO_LARGE)
            core.service.cost_alerts.order_refused(ADA.guild_id, ADA.user_id, refusal.value)
        await until(lambda: core.presenter.notices, what=lambda: "a notice")
        await core.ended(await core.order(member=EVE, model_id=PIXAZO_LARGE))
        [(matter, text)] = core.presenter.notices
        assert matter.startswith("server cost limit")
        assert f"Server {ADA.guild_id} " in text
        assert "OPERATOR_SERVER_CAP_USD" in text


@pytest.mark.hostile("G-02")
async def test_a_database_that_cannot_say_whether_a_limit_is_reached_stops_no_job(tmp_path: Path) -> None:
    async with a_core(tmp_path, limits=LIMITS) as core:
        core.disk.fill("cost_limits_reached")
        core.expected_failures = 5
        assert await drain(core, Plan(ending=Ending.FAILED)) == 5
        await until(lambda: len(core.failures.lines) == 5, what=lambda: "five failures in the log")
        assert core.presenter.notices == []
    async with await Store.open(core.path) as store:
        assert await operator_cost(store) == 5 * PRICE
