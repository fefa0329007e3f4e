"""A provider in trouble: unreachable, overloaded, refusing our key, down. And more jobs than it takes at a time."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from bot.dispatch import circuit_breaker
from bot.dispatch.circuit_breaker import BreakerState
from bot.dispatch.dispatcher import SUBMIT_ATTEMPTS, ProviderDispatcher
from bot.domain.deployment.process_role import Role
from bot.domain.errors import ProviderPaused, ProviderUnavailable, QuotaExceeded
from bot.domain.jobs import FailureReason, Job, JobStatus
from bot.domain.money.quota import Member
from bot.providers.base import ProviderRequest, RemoteJob
from bot.runtime.retry import RetryBudget
from bot.service.execution import job_runner
from sandbox.plans import Ending, How, Plan, Trouble
from tests.support.core import ADA, BEN, PIXAZO_LARGE, PRICE, Core, a_core
from tests.support.fakes import until
from tests.support.virtual_time import run_in_virtual_time

BUSY = Plan(trouble=Trouble(status=429, body={"error": "Too many concurrent jobs"}, headers={"Retry-After": "0.6"}))
BUSY_WITHOUT_HINT = Plan(trouble=Trouble(status=429, body={"error": "Too many concurrent jobs"}))
FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)


async def is_paused(core: Core) -> bool:
    try:
        core.service.quote((await core.ask("a fox", member=Member(guild_id=9, user_id=9))).reply.jobs[0].request)
    except ProviderPaused:
        return True
    return False


def reason_of(job: Job) -> FailureReason | None:
    return job.failure.reason if job.failure else None


# -- not reached --------------------------------------------------------------------------------------


@pytest.mark.f18
async def test_a_provider_that_cannot_be_reached_is_tried_four_times_and_the_money_given_back(tmp_path: Path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        async with a_core(tmp_path, krea_base=f"http://127.0.0.1:{unused.getsockname()[1]}") as core:
            job = await core.ended(await core.order())
            assert reason_of(job) is FailureReason.PROVIDER_UNAVAILABLE
            assert core.submissions == SUBMIT_ATTEMPTS == 4
            assert await core.money() == (0, 0, 0)


class Unreachable:
    """Refuses every connection, and records when one was tried."""

    def __init__(self) -> None:
        self.tried_at: list[float] = []

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        self.tried_at.append(asyncio.get_running_loop().time())
        raise ProviderUnavailable("krea: not reached")

    @property
    def pauses(self) -> Sequence[float]:
        return [later - earlier for earlier, later in itertools.pairwise(self.tried_at)]


@pytest.mark.f18
def test_the_pauses_between_attempts_grow_and_differ_between_jobs():
    async def main() -> None:
        providers = [Unreachable() for _ in range(5)]
        for provider in providers:
            dispatcher = SimpleNamespace(provider=provider, retries=RetryBudget())
            with pytest.raises(ProviderUnavailable):
                await ProviderDispatcher.submit(
                    cast("ProviderDispatcher", dispatcher), ProviderRequest(path="/", body={})
                )
            first, second, third = provider.pauses
            assert 0.5 <= first <= 1.5
            assert 1.0 <= second <= 2.0
            assert 2.0 <= third <= 3.0
        assert len({provider.pauses[0] for provider in providers}) == 5

    run_in_virtual_time(main())


# -- overloaded ---------------------------------------------------------------------------------------


@pytest.mark.f19
@pytest.mark.parametrize(("plan", "pause_seconds"), [(BUSY, 0.6), (BUSY_WITHOUT_HINT, 0.5)])
async def test_an_overloaded_provider_keeps_the_job_queued_and_is_not_hammered(
    core: Core, plan: Plan, pause_seconds: float
):
    core.sandbox.next_order(plan, plan)
    job = await core.order()
    behind = await core.order("behind")

    async def sent_back() -> bool:
        view = await core.service.view(job.reply_id)
        assert view is not None
        shown = view.jobs[0]
        return core.submissions > 0 and shown.job.status is JobStatus.QUEUED and shown.queue_position is not None

    await until(sent_back)
    assert await core.set_aside() == 2 * PRICE
    await core.ended(job, behind)
    assert await core.money() == (2 * PRICE, 0, 0)
    times = [sent.at_seconds for sent in core.sent if sent.path.startswith("/generate/")]
    assert times[-1] - times[0] >= pause_seconds
    assert len(times) <= 4, "each refusal costs one request at most"


async def test_an_overloaded_provider_is_not_called_broken(core: Core):
    core.sandbox.next_order(*[Plan(trouble=Trouble(status=429, headers={"Retry-After": "0.01"}))] * 8)
    await core.ended(await core.order())
    assert core.submissions == 9
    assert core.presenter.notices == []


@pytest.mark.hostile("G-13")
async def test_a_provider_that_is_only_busy_releases_the_job_after_fifteen_minutes(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(*[Plan(trouble=Trouble(status=429, headers={"Retry-After": "1"}))] * 50)
        first = await core.order("one")
        second = await core.order("two", member=Member(guild_id=9, user_id=9))
        third = await core.order("three", member=Member(guild_id=9, user_id=10))
        await until(lambda: core.submissions >= 1)
        core.clock.move(minutes=14)
        await core.restart()
        sent = core.submissions
        await until(lambda: core.submissions >= sent + 2)
        assert (await core.now(first)).status in (JobStatus.QUEUED, JobStatus.SUBMITTING)
        core.clock.move(minutes=1, seconds=5)
        for job in (second, third):
            view = await core.service.view(job.reply_id)
            assert view is not None
            assert [shown.queue_position for shown in view.jobs] == [None], "a position says nothing about this wait"
        assert reason_of(await core.ended(first)) is FailureReason.PROVIDER_BUSY
        assert await core.money() == (0, 0, 0)


@pytest.mark.hostile("G-13")
async def test_jobs_that_waited_behind_a_busy_provider_for_fifteen_minutes_do_not_wait_for_their_own(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(*[Plan(trouble=Trouble(status=429, headers={"Retry-After": "1"}))] * 50)
        jobs = [await core.order(f"{user_id}", member=Member(guild_id=9, user_id=user_id)) for user_id in range(1, 4)]
        await until(lambda: core.submissions >= 2)
        core.clock.move(minutes=16)
        await core.ended(*jobs)
        assert {reason_of(await core.now(job)) for job in jobs} == {FailureReason.PROVIDER_BUSY}
        assert core.submissions < 8


async def test_the_job_that_was_sent_back_is_the_next_of_its_member(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(BUSY)
        jobs = [await core.order(prompt) for prompt in ("one", "two", "three")]
        await core.ended(*jobs)
        assert [order.body["prompt"] for order in core.sandbox.orders] == ["one", "one", "two", "three"]


# -- our key or balance refused -----------------------------------------------------------------------


@pytest.mark.f21
@pytest.mark.f22
@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_stops_the_provider_clears_its_queue_and_tells_the_operator_once(
    tmp_path: Path, status: int
):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_answers("list", *[Trouble(status=status, body={"error": "no"})] * 10_000)
        core.sandbox.next_order(FOREVER, Plan(trouble=Trouble(status=status, body={"error": "no"})))
        first = await core.reached(await core.order("running"), JobStatus.RUNNING)
        refused = await core.order("refused")
        waiting = [await core.order(f"waiting {number}") for number in range(5)]
        core.sandbox.jobs[first.remote_id or ""].word = "completed"
        assert (await core.ended(first)).status is JobStatus.SUCCEEDED, "what runs goes on"
        for job in (refused, *waiting):
            assert reason_of(await core.ended(job)) is FailureReason.PROVIDER_UNAVAILABLE
        assert core.submissions == 2
        assert await core.money() == (PRICE, 0, 0)
        assert await is_paused(core)
        reason = "denied" if status == 401 else "empty"
        await until(lambda: [matter for matter, _ in core.presenter.notices] == [f"krea closed: {reason}"])
        assert core.sandbox.krea_key not in repr(core.presenter.notices)
        other = await core.ended(await core.order(model_id=PIXAZO_LARGE))
        assert other.status is JobStatus.SUCCEEDED, "other providers are unaffected"


@pytest.mark.f22
@pytest.mark.hostile("G-38")
async def test_an_empty_balance_is_noticed_and_recovers_by_an_order_when_it_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(circuit_breaker, "FIRST_TRIAL_SECONDS", 0.3)
    async with a_core(tmp_path, sandbox={"balance_usd_micros": 0}) as core:
        assert reason_of(await core.ended(await core.order())) is FailureReason.PROVIDER_UNAVAILABLE
        core.sandbox.balance_usd_micros = 10**6

        async def open_again() -> bool:
            return not await is_paused(core)

        await until(open_again)
        assert (await core.ended(await core.order())).status is JobStatus.SUCCEEDED


def refuse_orders(core: Core, *, minutes_ago: float) -> None:
    """Make the process a gateway that has read in the database that Krea refuses our orders."""
    core.service.role = Role.GATEWAY
    breaker = core.parts.dispatchers["krea"].breaker
    breaker.set_state(BreakerState.ORDERS_REFUSED, seconds_ago=60 * minutes_ago)


@pytest.mark.hostile("G-38")
async def test_a_gateway_lets_one_order_through_to_a_provider_that_refuses_them(core: Core):
    refuse_orders(core, minutes_ago=6)
    answers = await asyncio.gather(*[core.ask(f"fox {number}") for number in range(3)], return_exceptions=True)
    assert [isinstance(answer, ProviderPaused) for answer in answers] == [False, True, True]
    with pytest.raises(ProviderPaused):
        await core.ask("one more")
    assert await core.set_aside() == PRICE


@pytest.mark.hostile("G-38")
async def test_an_order_that_a_gateway_refuses_for_its_member_is_no_trial(tmp_path: Path):
    async with a_core(tmp_path, quota_usd_micros=PRICE) as core:
        refuse_orders(core, minutes_ago=6)
        with pytest.raises(QuotaExceeded):
            await core.ask("a fox", "a second fox")
        await core.ask("a fox")
        assert await core.set_aside() == PRICE


@pytest.mark.f21
async def test_a_job_admitted_just_before_the_breaker_opened_ends(core: Core):
    core.sandbox.next_answers("list", *[Trouble(status=401)] * 10_000)
    view = await core.ask("admitted in time")
    core.sandbox.next_order(Plan(trouble=Trouble(status=401)))
    await core.ended(await core.order("refused"))
    await core.service.accept(view.reply, message_id=99)
    assert reason_of(await core.ended(view.reply.jobs[0])) is FailureReason.PROVIDER_UNAVAILABLE
    assert core.submissions == 1
    assert await core.money() == (0, 0, 0)


async def test_a_key_refused_while_a_job_is_polled_stops_new_jobs_and_not_the_one_that_runs(core: Core):
    core.sandbox.next_answers("list", *[Trouble(status=401)] * 10_000)
    core.sandbox.next_order(FOREVER)
    await core.reached(await core.order(), JobStatus.RUNNING)
    core.sandbox.next_answers("read", Trouble(status=401))
    await until(lambda: is_paused(core))
    await until(lambda: [matter for matter, _ in core.presenter.notices] == ["krea closed: denied"])
    assert await core.set_aside() == PRICE


FORBIDDEN = Trouble(status=403, body={"error": "Forbidden"})


@pytest.mark.parametrize("operation", ["read", "upload"])
async def test_a_403_about_one_job_or_file_closes_the_provider_for_nobody(tmp_path: Path, operation: str):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_answers(operation, FORBIDDEN)
        images = (await core.an_input(),) if operation == "upload" else ()
        jobs = [await core.order("odd", images=images)]
        jobs += [await core.order(f"fox {number}", member=BEN) for number in range(3)]
        if operation == "read":
            core.parts.dispatchers["krea"].slots = 4  # the odd job is polled again after a minute
            core.parts.dispatchers["krea"].wake()
            jobs = jobs[1:]
        await core.ended(*jobs)
        assert [(await core.now(job)).status for job in jobs[-3:]] == [JobStatus.SUCCEEDED] * 3
        assert len(core.sandbox.seen("list")) == 1
        assert core.presenter.notices == []


@pytest.mark.f21
async def test_a_403_about_one_job_closes_the_provider_if_a_probe_is_denied_too(core: Core):
    core.sandbox.next_answers("list", *[FORBIDDEN] * 10_000)
    core.sandbox.next_order(FOREVER)
    await core.reached(await core.order(), JobStatus.RUNNING)
    core.sandbox.next_answers("read", FORBIDDEN)
    await until(lambda: [matter for matter, _ in core.presenter.notices] == ["krea closed: denied"])
    assert await is_paused(core)


async def test_queued_jobs_wait_while_the_key_is_checked(core: Core, monkeypatch: pytest.MonkeyPatch):
    dispatcher = core.parts.dispatchers["krea"]
    is_probed, may_answer = asyncio.Event(), asyncio.Event()

    async def probe() -> None:
        is_probed.set()
        await may_answer.wait()

    monkeypatch.setattr(dispatcher.provider, "probe", probe)
    core.sandbox.next_order(FOREVER)
    await core.reached(await core.order(), JobStatus.RUNNING)
    core.sandbox.next_answers("read", FORBIDDEN)
    await is_probed.wait()
    job = await core.order("a fox", member=BEN)
    await until(lambda: dispatcher.has(job.id))
    assert core.submissions == 1
    may_answer.set()
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED


# -- down ---------------------------------------------------------------------------------------------


def one_of_three(number: int) -> Member:
    """Return members in turn: failures of a few alone open a breaker only after a probe."""
    return Member(guild_id=ADA.guild_id, user_id=ADA.user_id + number % 3)


@pytest.mark.hostile("G-08")
async def test_five_prompts_of_one_member_answered_500_close_the_provider_for_nobody(core: Core):
    core.sandbox.next_order(*[Plan(trouble=Trouble(status=500))] * 10)
    lost = [await core.order(f"fox {number}") for number in range(10)]
    await until(lambda: core.submissions == 10)
    for job in lost:
        await core.reached(job, JobStatus.UNCERTAIN, JobStatus.FAILED)
    assert not await is_paused(core)
    served = await core.ended(await core.order(member=Member(guild_id=2, user_id=99)))
    assert served.status is JobStatus.SUCCEEDED
    assert core.presenter.notices == []
    core.clock.move(minutes=16)
    await core.ended(*lost)


@pytest.mark.f29
async def test_five_failures_in_a_row_open_the_breaker_and_a_probe_closes_it(core: Core):
    core.sandbox.next_answers("list", *[Trouble(status=503)] * 10_000)
    core.sandbox.next_order(*[Plan(trouble=Trouble(status=502))] * 5)
    jobs = [await core.order(f"fox {number}", member=one_of_three(number)) for number in range(5)]
    for job in jobs:
        await core.reached(job, JobStatus.UNCERTAIN)
    assert await is_paused(core)
    await until(lambda: [matter for matter, _ in core.presenter.notices] == ["krea closed: down"])
    asked = len(core.sent)
    started = asyncio.get_running_loop().time()
    with pytest.raises(ProviderPaused):
        await core.ask("one more")
    assert asyncio.get_running_loop().time() - started < 1
    assert all("/generate/" not in sent.path for sent in core.sent[asked:])
    core.sandbox._troubles["list"].clear()

    async def open_again() -> bool:
        return not await is_paused(core)

    await until(open_again)
    assert (await core.ended(await core.order("one more"))).status is JobStatus.SUCCEEDED
    core.clock.move(minutes=16)
    await core.ended(*jobs)
    assert core.submissions == 6, "nothing that was lost is sent again"


@pytest.mark.f29
async def test_jobs_queued_when_a_provider_goes_down_run_when_it_is_back(tmp_path: Path):
    async with a_core(
        tmp_path, max_concurrency=1
    ) as core:  # one after the other, so that the last one opens the breaker
        core.sandbox.next_answers("list", *[Trouble(status=503)] * 10_000)
        core.sandbox.next_order(*[Plan(trouble=Trouble(how=How.RESET))] * 5)
        lost = [await core.order(f"fox {number}", member=one_of_three(number)) for number in range(5)]
        waiting = await core.order("waiting")
        for job in lost:
            await core.reached(job, JobStatus.UNCERTAIN)
        assert (await core.now(waiting)).status is JobStatus.QUEUED
        core.sandbox._troubles["list"].clear()
        core.clock.move(minutes=16)
        assert (await core.ended(waiting)).status is JobStatus.SUCCEEDED


# -- more jobs than slots -----------------------------------------------------------------------------


@pytest.mark.f30
async def test_never_more_jobs_in_flight_than_allowed_and_no_member_starves(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=3) as core:
        core.sandbox.next_order(*[FOREVER] * 3)
        greedy = [await core.order(f"greedy {number}") for number in range(20)]
        modest = [await core.order(f"modest {n}", member=Member(guild_id=1, user_id=100 + n)) for n in range(4)]
        await until(lambda: len(core.sandbox.jobs) == 3)
        for remote in list(core.sandbox.jobs.values()):
            core.sandbox._queue.cancel(remote)
        await core.ended(*greedy, *modest, seconds=20)
        assert core.sandbox.peak_in_flight == 3
        prompts = [order.body["prompt"] for order in core.sandbox.orders]
        # Three ran already; then every member has a turn before the greedy one has a second.
        assert {f"modest {number}" for number in range(4)} < set(prompts[3:10])
        assert {prompt for prompt in prompts if prompt.startswith("greedy")} == {f"greedy {n}" for n in range(20)}


@pytest.mark.f34
async def test_a_stopped_service_starts_no_more_jobs_and_finishes_what_is_half_sent(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(FOREVER)
        core.disk.fill("mark_running")
        job = await core.order()
        waiting = await core.order("waiting")
        await until(lambda: core.disk.refused)
        core.service.stop()
        settling = asyncio.create_task(core.service.settle_submissions())
        await asyncio.sleep(0.02)
        assert not settling.done(), "its answer is not on disk yet"
        core.disk.make_room()
        await settling
        assert (await core.now(job)).status is JobStatus.RUNNING
        core.sandbox.jobs[(await core.now(job)).remote_id or ""].word = "completed"
        await core.ended(job)
        assert (await core.now(waiting)).status is JobStatus.QUEUED
        assert core.submissions == 1


def test_an_overloaded_provider_without_a_hint_is_given_five_seconds():
    assert job_runner.DEFAULT_RETRY_AFTER_SECONDS == 5.0
