"""Lost answers: an order whose answer never came is found with certainty or given up, and never sent again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bot.domain.jobs import FailureReason, Job, JobStatus
from bot.service.execution.reconciliation import MAX_MISSES
from sandbox.contracts import contracts
from sandbox.plans import LOST_ANSWER, Ending, How, Plan, Trouble
from sandbox.remote_job import RemoteJob
from tests.support.core import PIXAZO_LARGE, PRICE, PRICES, Core, a_core
from tests.support.fakes import until

LOST = Plan(trouble=LOST_ANSWER)
NEVER_TAKEN = Plan(trouble=Trouble(how=How.RESET))
SAME: dict[str, Any] = {"options": {"seed": 7}}
"""Two orders with the same prompt are the same order only with the same seed."""
LIST_IS_DOWN = [Trouble(status=503)] * 10_000
AFTER_THE_SEARCH = {"minutes": 16}
AFTER_THE_WATCH = {"hours": 2}


async def calls(core: Core, url: str, remote_id: str) -> None:
    """Call a webhook path, as a stranger or the provider would."""
    body = {"request_id": remote_id, "status": "COMPLETED"}
    async with aiohttp.ClientSession() as session, session.post(url, json=body):
        pass


async def lost_order(core: Core, plan: Plan = LOST, **how: Any) -> tuple[Job, RemoteJob]:
    """Send an order that the provider accepts, but whose answer is lost."""
    core.sandbox.next_order(plan)
    before = set(core.sandbox.jobs)
    job = await core.reached(await core.order(**how), JobStatus.UNCERTAIN, JobStatus.RUNNING, JobStatus.SUCCEEDED)
    (remote_id,) = set(core.sandbox.jobs) - before
    return job, core.sandbox.jobs[remote_id]


async def followed_to_the_end(core: Core, *jobs: Job) -> None:
    """Let the search and the watch end without an image."""
    core.clock.move(**AFTER_THE_SEARCH)
    await core.ended(*jobs)
    core.clock.move(**AFTER_THE_WATCH)
    await core.unfollowed(*jobs)


def moved(core: Core, url: str) -> str:
    """Return the address of a webhook path at the server of the process that runs now."""
    return f"{core.public_url}/hooks/{url.rpartition('/')[2]}"


def reason_of(job: Job) -> FailureReason | None:
    return job.failure.reason if job.failure else None


# -- one way: the provider's list ---------------------------------------------------------------------


@pytest.mark.f23
@pytest.mark.f24
@pytest.mark.parametrize(
    "how", [How.RESET, How.HANG, How.NOT_JSON, How.CUT_SHORT, How.NO_ID, How.TOO_BIG, How.BAD_ENCODING]
)
async def test_a_lost_answer_is_found_in_the_list_and_the_order_was_sent_once(core: Core, how: How):
    job, remote = await lost_order(core, Plan(trouble=Trouble(how=how, accepted=True)))
    done = await core.ended(job)
    assert (done.status, done.remote_id) == (JobStatus.SUCCEEDED, remote.id)
    assert core.submissions == len(core.sandbox.orders) == 1
    assert await core.money() == (PRICE, 0, 0)
    assert core.sandbox.bill_usd_micros == PRICE


@pytest.mark.f23
@pytest.mark.parametrize("status", [500, 502, 503, 504, 408, 409, 418, 425, 499])
async def test_an_error_after_the_order_was_taken_is_a_lost_answer(core: Core, status: int):
    job, _ = await lost_order(core, Plan(trouble=Trouble(status=status, accepted=True)))
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert core.submissions == 1


@pytest.mark.f23
async def test_the_money_stays_reserved_during_the_search(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    job, _ = await lost_order(core)
    await until(lambda: len(core.sandbox.seen("list")) > 3)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    assert await core.money() == (0, PRICE, 0)


@pytest.mark.f23
async def test_an_order_that_is_in_no_list_was_never_accepted_and_costs_nothing(core: Core):
    core.sandbox.next_order(NEVER_TAKEN)
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    await until(lambda: len(core.sandbox.seen("list")) > 3)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN, "it may appear in the list later"
    core.clock.move(minutes=14)
    await until(lambda: len(core.sandbox.seen("list")) > 6)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    await followed_to_the_end(core, job)
    assert reason_of(await core.now(job)) is FailureReason.OUTCOME_UNKNOWN
    assert await core.money() == (0, 0, 0)
    assert core.submissions == 1


@pytest.mark.f23
async def test_an_order_that_cannot_be_searched_is_given_up_at_the_operators_risk(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    job, remote = await lost_order(core)
    core.clock.move(**AFTER_THE_SEARCH)
    assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
    assert await core.money() == (0, 0, 0), "nothing is known yet"
    await followed_to_the_end(core, job)
    assert await core.money() == (0, 0, PRICE)
    await until(lambda: remote.is_final)
    assert core.sandbox.bill_usd_micros == PRICE, "the provider did charge it"


@pytest.mark.f23
async def test_of_two_orders_lost_at_the_same_time_none_is_taken_for_the_other(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    first, _ = await lost_order(core, **SAME)
    second, _ = await lost_order(core, **SAME)
    core.sandbox._troubles["list"].clear()
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen + 5)
    for job in (first, second):
        assert (await core.now(job)).status is JobStatus.UNCERTAIN
    await followed_to_the_end(core, first, second)
    assert await core.money() == (0, 0, 2 * PRICE)
    assert core.submissions == 2


async def test_a_lost_order_that_was_given_up_still_makes_the_next_one_ambiguous(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    core.sandbox.next_order(NEVER_TAKEN)
    first = await core.reached(await core.order(**SAME), JobStatus.UNCERTAIN)
    core.clock.move(seconds=50)
    core.sandbox.next_order(NEVER_TAKEN)
    second = await core.reached(await core.order(**SAME), JobStatus.UNCERTAIN)
    core.clock.move(minutes=14, seconds=20)
    assert reason_of(await core.ended(first)) is FailureReason.OUTCOME_UNKNOWN
    assert second.submitted_at is not None
    remote = a_job_at_the_provider(core, second, second.submitted_at)
    await core.restart()
    core.sandbox._troubles["list"].clear()
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen + 3)
    assert remote.id in core.sandbox.jobs
    assert (await core.now(second)).status is JobStatus.UNCERTAIN, "it may be the image of the first"


async def test_one_of_two_lost_orders_that_was_never_accepted_is_not_given_the_others_image(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    taken, _ = await lost_order(core, **SAME)
    core.sandbox.next_order(NEVER_TAKEN)
    not_taken = await core.reached(await core.order(**SAME), JobStatus.UNCERTAIN)
    core.sandbox._troubles["list"].clear()
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen + 5)
    assert (await core.now(taken)).status is JobStatus.UNCERTAIN
    assert (await core.now(not_taken)).status is JobStatus.UNCERTAIN
    await followed_to_the_end(core, taken, not_taken)
    assert await core.money() == (0, 0, PRICE), "one of them was billed"


async def test_a_job_ordered_with_the_same_key_elsewhere_at_the_same_time_makes_it_ambiguous(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    job, remote = await lost_order(core)
    a_job_at_the_provider(core, job, remote.created_at + timedelta(seconds=1))
    core.sandbox._troubles["list"].clear()
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen + 3)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    await followed_to_the_end(core, job)
    assert await core.money() == (0, 0, PRICE)


@pytest.mark.hostile("G-11")
async def test_a_strangers_job_of_the_same_time_is_never_taken_for_a_lost_order(core: Core):
    """The order never arrived, and the only new job in the list is another client's."""
    core.sandbox.next_order(NEVER_TAKEN)
    job = await core.reached(await core.order("a red fox"), JobStatus.UNCERTAIN)
    assert job.submitted_at is not None
    a_job_at_the_provider(core, replace(job, body={**job.body, "prompt": "a bank statement"}), job.submitted_at)
    a_job_at_the_provider(core, replace(job, path="/generate/image/google/nano-banana-2"), job.submitted_at)
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen + 3)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    await followed_to_the_end(core, job)
    assert await core.money() == (0, 0, 0), "neither job can be this order"


@pytest.mark.hostile("G-11")
async def test_a_list_that_does_not_tell_what_was_ordered_proves_nothing(core: Core):
    core.sandbox.lists_orders = False
    job, remote = await lost_order(core)
    await until(lambda: remote.is_final and len(core.sandbox.seen("list")) > 4)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    await followed_to_the_end(core, job)
    assert (await core.now(job)).remote_id is None
    assert await core.money() == (0, 0, PRICE)
    assert core.sandbox.bill_usd_micros == PRICE


@pytest.mark.hostile("G-11")
async def test_with_webhooks_the_path_alone_decides(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        plan = Plan(trouble=LOST_ANSWER, words=(("processing", 0.01),), ending=Ending.NEVER)
        job, remote = await lost_order(core, plan)
        assert remote.webhook_url is not None
        await core.restart()
        assert (await core.now(job)).status is JobStatus.UNCERTAIN
        assert core.sandbox.seen("list") == [], "the list would prove it"
        await calls(core, moved(core, remote.webhook_url), remote.id)
        assert (await core.reached(job, JobStatus.RUNNING)).remote_id == remote.id


# -- late evidence ------------------------------------------------------------------------------------


@pytest.mark.hostile("G-12")
async def test_an_order_that_is_listed_after_a_minute_is_found_and_charged_as_usual(core: Core):
    core.sandbox.next_order(LOST)
    core.sandbox.unlisted = everything = AnyId()
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    core.clock.move(minutes=5)
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen + 2)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    everything.is_over = True
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.hostile("G-12")
@pytest.mark.parametrize("restart", [False, True])
async def test_an_order_that_is_listed_after_a_quarter_of_an_hour_brings_its_image_free(core: Core, *, restart: bool):
    core.sandbox.next_order(LOST)
    core.sandbox.unlisted = everything = AnyId()
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    core.clock.move(**AFTER_THE_SEARCH)
    assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
    assert await core.money() == (0, 0, 0)
    if restart:
        await core.restart()
    everything.is_over = True
    late = await core.reached(job, JobStatus.SUCCEEDED)
    assert (late.charged_usd_micros, len(late.images), late.failure) == (0, 1, None)
    assert late.late_at is not None
    assert await core.money() == (0, 0, PRICE) == (0, 0, core.sandbox.bill_usd_micros)
    reply = await core.store.reply(job.reply_id)
    assert reply is not None
    assert reply.is_to_be_shown


@pytest.mark.hostile("G-12")
async def test_a_call_after_a_quarter_of_an_hour_brings_the_image_free(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        plan = Plan(trouble=LOST_ANSWER, webhook_copies=0)
        job, remote = await lost_order(core, plan, model_id=PIXAZO_LARGE)
        assert remote.webhook_url is not None
        core.clock.move(**AFTER_THE_SEARCH)
        await core.ended(job)
        await calls(core, remote.webhook_url, remote.id)
        late = await core.reached(job, JobStatus.SUCCEEDED)
        assert late.charged_usd_micros == 0
        assert await core.money() == (0, 0, PRICES[PIXAZO_LARGE])


@pytest.mark.hostile("G-12")
@pytest.mark.parametrize(("ending", "cost"), [(Ending.FAILED, 0), (Ending.CANCELLED, 0), (Ending.NEVER, PRICE)])
async def test_a_late_job_that_brings_nothing_costs_what_the_provider_charges(core: Core, ending: Ending, cost: int):
    core.sandbox.next_order(Plan(trouble=LOST_ANSWER, words=(("processing", 0.01),), ending=ending))
    core.sandbox.unlisted = everything = AnyId()
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    core.clock.move(**AFTER_THE_SEARCH)
    await core.ended(job)
    everything.is_over = True

    async def is_found_or_over() -> bool:
        now = await core.now(job)
        return now.remote_id is not None or not now.is_followed

    await until(is_found_or_over)
    core.clock.move(hours=5)
    await core.unfollowed(job)
    assert (await core.now(job)).status is JobStatus.FAILED
    assert await core.money() == (0, 0, cost)


class AnyId(set[str]):
    """Every id there is, until that is over."""

    is_over = False

    def __contains__(self, _: object) -> bool:
        return not self.is_over


async def test_jobs_of_another_time_and_jobs_of_ours_are_no_candidates(core: Core):
    await core.ended(await core.order("before"))
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    job, remote = await lost_order(core)
    for seconds in (-30, 200):
        a_job_at_the_provider(core, job, datetime.now(UTC) + timedelta(seconds=seconds))
    core.sandbox._troubles["list"].clear()
    assert (await core.ended(job)).remote_id == remote.id


def a_job_at_the_provider(core: Core, like: Job, created_at: datetime) -> RemoteJob:
    """Add a job like this one, which the bot did not order, to the provider's list."""
    job = RemoteJob(
        id=f"unheard-of-{created_at.timestamp()}", contract=contracts()[like.path], body=like.body, plan=Plan(),
        price_usd_micros=0, webhook_url=None, images=(), base=core.sandbox.krea_base, created_at=created_at,
    )  # fmt: skip
    core.sandbox._queue.jobs[job.id] = job
    return job


async def test_an_order_under_way_is_not_taken_for_a_lost_one(core: Core):
    """Two orders at the same moment, one lost: the other's answer must be on disk before the list is judged."""
    core.sandbox.next_order(LOST)
    lost = await core.reached(await core.order("lost"), JobStatus.UNCERTAIN, JobStatus.RUNNING, JobStatus.SUCCEEDED)
    slow = await core.order("slow")
    await core.ended(lost, slow)
    assert (await core.now(lost)).remote_id != (await core.now(slow)).remote_id
    by_prompt = {job.body["prompt"]: job.id for job in core.sandbox.jobs.values()}
    assert (await core.now(lost)).remote_id == by_prompt["lost"]
    assert await core.money() == (2 * PRICE, 0, 0)


async def test_an_answer_that_is_still_being_recorded_owns_its_job(core: Core):
    core.sandbox.next_answers("list", *LIST_IS_DOWN)
    core.sandbox.next_order(NEVER_TAKEN)
    lost = await core.reached(await core.order("lost"), JobStatus.UNCERTAIN)
    core.disk.fill("mark_running")
    owner = await core.order("owner")
    await until(lambda: core.disk.refused)
    core.sandbox._troubles["list"].clear()
    seen = len(core.sandbox.seen("list"))
    await until(lambda: len(core.sandbox.seen("list")) > seen)
    assert (await core.now(lost)).status is JobStatus.UNCERTAIN
    core.disk.make_room()
    assert (await core.ended(owner)).status is JobStatus.SUCCEEDED
    assert (await core.now(lost)).status is JobStatus.UNCERTAIN


# -- the other way: a call on the job's own webhook path ----------------------------------------------


@pytest.mark.f23
async def test_without_a_list_a_call_on_the_jobs_own_path_finds_the_order(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        job, remote = await lost_order(core, LOST, model_id=PIXAZO_LARGE)
        done = await core.ended(job)
        assert (done.status, done.remote_id) == (JobStatus.SUCCEEDED, remote.id)
        assert core.submissions == 1
        assert await core.money() == (PRICES[PIXAZO_LARGE], 0, 0)


@pytest.mark.f57
async def test_a_forged_claim_is_ignored_and_the_true_one_still_counts(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        other_job = await core.ended(await core.order("another order", model_id=PIXAZO_LARGE))
        plan = Plan(trouble=LOST_ANSWER, words=(("processing", 0.01),), ending=Ending.NEVER)
        job, remote = await lost_order(core, plan, model_id=PIXAZO_LARGE)
        assert remote.webhook_url is not None
        reads = len(core.sandbox.seen("read"))
        await calls(core, remote.webhook_url, "krea-2-large_no-such-request")
        await until(lambda: len(core.sandbox.seen("read")) > reads)
        await calls(core, remote.webhook_url, other_job.remote_id or "")
        await until(lambda: len(core.sandbox.seen("read")) > reads + 1)
        await calls(core, remote.webhook_url[:-1] + "x", remote.id)  # not the job's path
        assert (await core.now(job)).status is JobStatus.UNCERTAIN
        await calls(core, remote.webhook_url, remote.id)
        assert (await core.reached(job, JobStatus.RUNNING)).remote_id == remote.id


@pytest.mark.f57
async def test_a_job_from_before_the_order_cannot_be_claimed(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        plan = Plan(trouble=LOST_ANSWER, words=(("processing", 0.01),), ending=Ending.NEVER)
        job, remote = await lost_order(core, plan, model_id=PIXAZO_LARGE)
        assert remote.webhook_url is not None
        older = a_job_at_the_provider(core, job, datetime.now(UTC) - timedelta(minutes=1))
        reads = len(core.sandbox.seen("read"))
        await calls(core, remote.webhook_url, older.id)
        await until(lambda: len(core.sandbox.seen("read")) > reads)
        await calls(core, remote.webhook_url, remote.id)
        assert (await core.reached(job, JobStatus.RUNNING)).remote_id == remote.id


@pytest.mark.parametrize("misdated", [1, 5])
async def test_answers_that_are_dated_wrong_do_not_hide_a_job_that_the_next_call_names(tmp_path: Path, misdated: int):
    async with a_core(tmp_path, with_webhooks=True) as core:
        plan = Plan(trouble=LOST_ANSWER, words=(("processing", 0.01),), ending=Ending.NEVER)
        job, remote = await lost_order(core, plan)
        assert remote.webhook_url is not None
        date = format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)
        wrong = Trouble(status=200, body=remote.as_document(), headers={"Date": date})
        core.sandbox.next_answers("read", *[wrong] * misdated)
        while core.sandbox._troubles["read"]:
            left = len(core.sandbox._troubles["read"])
            await calls(core, remote.webhook_url, remote.id)
            await until(lambda left=left: len(core.sandbox._troubles["read"]) < left)
        if misdated > MAX_MISSES:
            await calls(core, remote.webhook_url, remote.id)
        assert (await core.reached(job, JobStatus.RUNNING)).remote_id == remote.id


@pytest.mark.parametrize("trouble", [Trouble(status=503), Trouble(status=401), Trouble(status=402)])
async def test_a_claim_that_cannot_be_checked_now_is_checked_later(tmp_path: Path, trouble: Trouble):
    async with a_core(tmp_path, with_webhooks=True) as core:
        core.sandbox.next_answers("read", trouble, trouble)
        job, remote = await lost_order(core, LOST, model_id=PIXAZO_LARGE)
        assert (await core.ended(job)).remote_id == remote.id
        assert await core.money() == (PRICES[PIXAZO_LARGE], 0, 0)


@pytest.mark.hostile("G-37")
async def test_a_call_before_the_answer_is_kept_over_a_restart(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        core.sandbox.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=True), webhook_copies=0))
        job = await core.reached(await core.order(model_id=PIXAZO_LARGE), JobStatus.SUBMITTING)
        await until(lambda: core.sandbox.jobs)
        (remote,) = core.sandbox.jobs.values()
        assert remote.webhook_url is not None
        await calls(core, remote.webhook_url, remote.id)
        await calls(core, remote.webhook_url[:-1] + "x", "not-our-path")
        await core.restart()
        done = await core.ended(job)
        assert (done.status, done.remote_id) == (JobStatus.SUCCEEDED, remote.id)
        assert await core.money() == (PRICES[PIXAZO_LARGE], 0, 0)


@pytest.mark.f23
async def test_without_a_list_and_without_a_call_the_watch_ends_at_the_operators_risk(core: Core):
    job, _ = await lost_order(core, LOST, model_id=PIXAZO_LARGE)
    core.clock.move(minutes=14)
    assert (await core.now(job)).status is JobStatus.UNCERTAIN
    core.clock.move(minutes=2)
    assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
    core.clock.move(minutes=100)
    assert (await core.now(job)).is_followed
    assert await core.money() == (0, 0, 0)
    core.clock.move(minutes=15)
    await core.unfollowed(job)
    assert await core.money() == (0, 0, PRICES[PIXAZO_LARGE])
    assert core.submissions == 1
