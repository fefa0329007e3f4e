"""Restarts and full disks: every job goes on from where it stood; nothing is sent, charged or lost twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.domain.jobs import Delivery, FailureReason, Job, JobStatus
from bot.runtime.trusted_clock import TrustedClock
from sandbox.plans import LOST_ANSWER, Ending, How, Plan, Trouble
from tests.support.core import BEN, PRICE, Core, a_core
from tests.support.fakes import until

FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)


async def finish_at_provider(core: Core) -> None:
    for remote in core.sandbox.jobs.values():
        if not remote.is_final:
            remote.word = "completed"
            remote.billed_usd_micros = remote.price_usd_micros


def reason_of(job: Job) -> FailureReason | None:
    return job.failure.reason if job.failure else None


# -- resume, state by state ---------------------------------------------------------------------------


async def test_queued_jobs_are_sent_after_the_restart(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(FOREVER)
        await core.reached(await core.order("in front"), JobStatus.RUNNING)
        waiting = [await core.order(f"waiting {number}") for number in range(3)]
        await core.kill()
        await finish_at_provider(core)
        await core.start()
        await core.ended(*waiting)
        assert core.submissions == len(core.sandbox.orders) == 4
        assert await core.money() == (4 * PRICE, 0, 0)


async def test_a_running_job_is_polled_again_and_delivered(core: Core):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    await core.kill()
    await finish_at_provider(core)
    core.presenter.changed.clear()
    await core.start()
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    await until(lambda: job.reply_id in core.presenter.changed)
    assert core.submissions == 1
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.f35
@pytest.mark.parametrize("away", [{"minutes": 1}, {"minutes": 20}, {"hours": 3}])
async def test_an_image_that_was_finished_while_the_bot_was_away_is_delivered(core: Core, away: dict[str, float]):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    await core.kill()
    await finish_at_provider(core)
    core.clock.move(**away)
    await core.start()
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert await core.spent() in (0, PRICE), "its day may be over"
    assert core.sandbox.bill_usd_micros == PRICE


@pytest.mark.f33
async def test_killed_while_the_order_was_on_its_way_it_is_searched_and_not_sent_again(core: Core):
    core.sandbox.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=True)))
    job = await core.reached(await core.order(), JobStatus.SUBMITTING)
    await until(lambda: core.sandbox.jobs)
    await core.restart()
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert core.submissions == len(core.sandbox.orders) == 1
    assert await core.money() == (PRICE, 0, 0)


async def test_killed_before_the_order_arrived_it_is_given_up_and_not_sent_again(core: Core):
    core.sandbox.next_order(Plan(trouble=Trouble(how=How.HANG)))
    job = await core.reached(await core.order(), JobStatus.SUBMITTING)
    await until(lambda: core.sandbox.orders)
    await core.kill()
    core.clock.move(minutes=16)
    await core.start()
    assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
    assert core.submissions == 1
    assert await core.money() == (0, 0, 0)


async def test_of_two_orders_half_sent_at_a_kill_none_is_taken_for_the_other(core: Core):
    core.sandbox.next_order(Plan(trouble=Trouble(how=How.HANG, accepted=True)), Plan(trouble=Trouble(how=How.HANG)))
    same: dict[str, Any] = {"options": {"seed": 7}}
    first = await core.reached(await core.order(**same), JobStatus.SUBMITTING)
    second = await core.reached(await core.order(**same), JobStatus.SUBMITTING)
    await until(lambda: len(core.sandbox.orders) == 2)
    await core.kill()
    core.sandbox.requests.clear()
    await core.start()
    await until(lambda: len(core.sandbox.seen("list")) > 6)
    for job in (first, second):
        assert (await core.now(job)).status is JobStatus.UNCERTAIN
    core.clock.move(minutes=16)
    await core.ended(first, second)
    core.clock.move(hours=2)
    await core.unfollowed(first, second)
    assert core.submissions == 2
    assert await core.money() == (0, 0, PRICE) == (0, 0, core.sandbox.bill_usd_micros)


async def test_the_search_for_a_lost_order_goes_on_after_the_restart(core: Core):
    core.sandbox.next_answers("list", *[Trouble(status=503)] * 10_000)
    core.sandbox.next_order(Plan(trouble=LOST_ANSWER))
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    await core.kill()
    core.sandbox._troubles["list"].clear()
    await core.start()
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert core.submissions == 1


async def test_a_webhook_path_from_before_the_restart_still_leads_to_its_job(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True, poll_seconds=30.0) as core:
        core.sandbox.next_order(FOREVER)
        job = await core.reached(await core.order(), JobStatus.RUNNING)
        await core.restart()
        await until(lambda: core.service._in_flight.get(job.id) is not None)
        url = core.sandbox.jobs[job.remote_id or ""].webhook_url
        assert url is not None
        await finish_at_provider(core)
        await core.parts.webhooks.handle(url.rpartition("/")[2], job.remote_id)
        assert (await core.ended(job, seconds=5)).status is JobStatus.SUCCEEDED


@pytest.mark.hostile("G-15")
@pytest.mark.parametrize("jump", [timedelta(seconds=3), timedelta(days=40), timedelta(days=-40)], ids=str)
async def test_a_paid_image_is_delivered_although_the_clock_jumps_meanwhile(tmp_path: Path, jump: timedelta):
    ahead = timedelta()
    clock = TrustedClock(wall_clock=lambda: datetime.now(UTC) + ahead)
    async with a_core(tmp_path, clock=clock.now) as core:
        core.sandbox.next_order(FOREVER)
        job = await core.reached(await core.order(), JobStatus.RUNNING)
        ahead = jump
        await finish_at_provider(core)
        assert (await core.ended(job)).status is JobStatus.SUCCEEDED
        assert await core.money() == (PRICE, 0, 0)


async def test_a_final_state_that_was_not_shown_is_shown_after_the_restart(core: Core):
    job = await core.ended(await core.order())
    delivered = await core.ended(await core.order())
    await core.store.set_delivery(delivered.reply_id, Delivery.DELIVERED)
    await core.kill()
    core.presenter.changed.clear()
    await core.start()
    assert core.presenter.changed == [job.reply_id]


async def test_a_reply_that_discord_had_shown_after_all_continues(core: Core):
    view = await core.ask("a fox")
    core.presenter.messages[view.reply.id] = 77
    await core.restart()
    assert (await core.ended(view.reply.jobs[0])).status is JobStatus.SUCCEEDED
    reply = await core.store.reply(view.reply.id)
    assert reply is not None
    assert reply.address.message_id == 77


async def test_a_reply_that_discord_never_showed_is_given_up(core: Core):
    view = await core.ask("a fox")
    await core.restart()
    assert reason_of(await core.ended(view.reply.jobs[0])) is FailureReason.NOT_SHOWN
    assert core.sent == []
    assert await core.money() == (0, 0, 0)


async def test_a_reply_that_was_being_given_up_and_is_visible_all_the_same_is_corrected(core: Core):
    view = await core.ask("a fox")
    core.disk.fill("set_delivery")
    giving_up = core.supervisor.start("giving up", core.service.abandon(view.reply))
    await until(lambda: core.disk.refused)
    giving_up.cancel()
    core.presenter.messages[view.reply.id] = 77
    await core.restart()
    await until(lambda: view.reply.id in core.presenter.changed)
    assert core.sent == []


async def test_a_job_of_a_provider_without_a_key_waits_for_the_key(core: Core, caplog: pytest.LogCaptureFixture):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    await core.kill()
    core.without = frozenset({"krea"})
    await core.start()
    assert f"job {job.id} waits for krea, which has no key any more" in caplog.text
    assert (await core.now(job)).status is JobStatus.RUNNING
    await core.kill()
    core.without = frozenset()
    await finish_at_provider(core)
    await core.start()
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("stage", [JobStatus.QUEUED, JobStatus.UNCERTAIN, JobStatus.RUNNING])
async def test_orders_of_a_provider_whose_key_is_removed_end(tmp_path: Path, stage: JobStatus):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_answers("list", *[Trouble(status=503)] * 10_000)
        if stage is JobStatus.QUEUED:
            core.sandbox.next_order(FOREVER)
            await core.reached(await core.order("in front"), JobStatus.RUNNING)
        core.sandbox.next_order(Plan(trouble=LOST_ANSWER) if stage is JobStatus.UNCERTAIN else FOREVER)
        job = await core.reached(await core.order(member=BEN), stage)
        await core.kill()
        core.without = frozenset({"krea"})
        core.presenter.changed.clear()
        await core.start()
        if stage is JobStatus.QUEUED:
            assert reason_of(await core.ended(job)) is FailureReason.PROVIDER_UNAVAILABLE
        elif stage is JobStatus.UNCERTAIN:
            core.clock.move(minutes=16)
            assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
            core.clock.move(hours=3)
            await core.unfollowed(job)
        else:
            core.clock.move(hours=3)
            assert reason_of(await core.ended(job)) is FailureReason.TIMED_OUT
        assert await core.money(BEN) == (0, 0, 0 if stage is JobStatus.QUEUED else PRICE)
        await until(lambda: job.reply_id in core.presenter.changed)
        assert {matter for matter, _ in core.presenter.notices} >= {"krea has no key"}


@pytest.mark.f31
@pytest.mark.f33
@pytest.mark.parametrize("stage", [JobStatus.QUEUED, JobStatus.UNCERTAIN, JobStatus.RUNNING])
async def test_what_a_moderator_cancelled_is_cancelled_after_the_restart(core: Core, stage: JobStatus):
    lost = LOST_ANSWER if stage is JobStatus.UNCERTAIN else None
    core.sandbox.next_order(replace(FOREVER, trouble=lost))
    if lost:
        core.sandbox.next_answers("list", *[Trouble(status=503)] * 10_000)
    job = (await core.ask("a fox")).reply.jobs[0] if stage is JobStatus.QUEUED else await core.order()
    if stage is JobStatus.QUEUED:
        await core.store.accept(job.reply_id, message_id=77)
    await core.reached(job, stage)
    assert await core.store.ask_to_cancel(job.reply_id, actor_id=99, reason="not here", now=core.clock())
    await core.kill()
    core.sandbox._troubles["list"].clear()
    await core.start()
    assert (await core.ended(job)).status is JobStatus.CANCELLED
    assert core.submissions == (stage is not JobStatus.QUEUED)
    assert await core.money() == (0, 0, 0)


STAGES = [JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.UNCERTAIN, JobStatus.RUNNING, JobStatus.SUCCEEDED]


@pytest.mark.f33
@pytest.mark.parametrize("stage", [JobStatus.QUEUED, JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.SUCCEEDED])
async def test_killed_again_and_again_there_is_one_order_and_one_charge_at_most(core: Core, stage: JobStatus):
    core.sandbox.default_plan = Plan(seconds_factor=20.0)
    job = await core.order()
    for _ in range(5):
        await core.reached(job, *STAGES[STAGES.index(stage) :])
        await core.restart()
    core.clock.move(minutes=16)  # in case the order was never sent and is searched for
    done = await core.ended(job)
    assert core.submissions <= 1
    if done.status is JobStatus.SUCCEEDED:
        assert await core.money() == (PRICE, 0, 0)
        assert len(core.sandbox.jobs) == 1
    else:
        assert reason_of(done) is FailureReason.OUTCOME_UNKNOWN
        assert await core.money() == (0, 0, 0)
        assert len(core.sandbox.jobs) == 0


# -- the disk is full at each write -------------------------------------------------------------------

WRITES = {
    "begin_submission": Plan(),
    "mark_running": Plan(),
    "mark_uncertain": Plan(trouble=LOST_ANSWER),
    "requeue": Plan(trouble=Trouble(status=429, headers={"Retry-After": "0.01"})),
    "succeed": Plan(),
}


@pytest.mark.f16
@pytest.mark.parametrize("write", WRITES)
async def test_a_disk_that_is_full_for_a_while_loses_nothing(core: Core, write: str):
    core.sandbox.next_order(WRITES[write])
    core.disk.fill(write, times=7)
    job = await core.ended(await core.order())
    assert core.disk.refused == [write] * 7
    assert job.status is JobStatus.SUCCEEDED
    assert len(core.sandbox.jobs) == 1
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.f16
@pytest.mark.f33
@pytest.mark.parametrize("write", WRITES)
async def test_killed_while_the_disk_is_full_nothing_is_bought_or_charged_twice(core: Core, write: str):
    core.sandbox.next_order(WRITES[write])
    core.disk.fill(write)
    job = await core.order()
    await until(lambda: len(core.disk.refused) > 3)
    await core.restart()
    if write == "requeue":
        # The refusal was received but could not be stored, so the order has to be searched for.
        core.clock.move(minutes=16)
        assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
        assert await core.money() == (0, 0, 0)
        return
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert len(core.sandbox.jobs) == core.submissions == 1
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.parametrize(
    ("write", "plan"),
    [
        ("fail", Plan(trouble=Trouble(status=422, body={"error": "No"}))),
        ("fail", Plan(ending=Ending.FAILED)),
        ("mark_cancelled", Plan(ending=Ending.CANCELLED)),
    ],
)
async def test_the_end_of_a_job_is_recorded_when_the_disk_has_room_again(core: Core, write: str, plan: Plan):
    core.sandbox.next_order(plan)
    core.disk.fill(write)
    job = await core.order()
    await until(lambda: len(core.disk.refused) > 3)
    assert await core.set_aside() == PRICE
    core.disk.make_room()
    await core.ended(job)
    assert await core.money() == (0, 0, 0)


async def test_the_upload_of_an_image_that_cannot_be_remembered_is_repeated_and_not_the_order(core: Core):
    core.disk.fill("remember_upload", times=2)
    core.expected_failures = 2
    job = await core.ended(await core.order(images=(await core.an_input(),)))
    assert job.status is JobStatus.SUCCEEDED
    assert core.submissions == 1


@pytest.mark.parametrize("read", ["known_remote_ids", "others_lost", "uploaded_url"])
async def test_a_table_that_cannot_be_read_for_a_while_strands_no_job(core: Core, read: str):
    core.sandbox.next_order(Plan(trouble=LOST_ANSWER))
    core.disk.fill(read, times=2)
    job = await core.order(images=(await core.an_input(),))
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert core.disk.refused == [read] * 2
    core.expected_failures = len(core.failures.lines)
    await until(lambda: job.reply_id in core.presenter.changed)
    assert len(core.sandbox.jobs) == core.submissions == 1
    assert await core.money() == (PRICE, 0, 0)


async def test_a_queued_job_that_cannot_be_read_for_a_while_is_read_again(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(FOREVER)
        await core.reached(await core.order("first"), JobStatus.RUNNING)
        core.disk.fill("job", times=2)
        waiting = await core.order("second")
        await finish_at_provider(core)
        assert (await core.ended(waiting)).status is JobStatus.SUCCEEDED
        assert core.disk.refused == ["job"] * 2
        core.expected_failures = len(core.failures.lines)


async def test_a_final_state_whose_announcement_failed_is_announced_again(core: Core, monkeypatch: pytest.MonkeyPatch):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    await until(lambda: len(core.sandbox.seen("read")) > 1)
    refused: list[str] = []

    def refuse(reply_id: str) -> None:
        monkeypatch.undo()
        refused.append(reply_id)
        raise ValueError("a defect")

    monkeypatch.setattr(core.presenter, "reply_changed", refuse)
    core.presenter.changed.clear()
    await finish_at_provider(core)
    await core.ended(job)
    await until(lambda: core.presenter.changed == [job.reply_id])
    assert refused == [job.reply_id]
    core.expected_failures = len(core.failures.lines)


# -- defects of our own -------------------------------------------------------------------------------


async def test_a_job_that_keeps_failing_unexpectedly_before_it_is_sent_is_released_after_a_few_tries(
    core: Core, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("bot.service.input_images.InputUploads.urls_for", broken)
    job = await core.ended(await core.order())
    assert reason_of(job) is FailureReason.INTERNAL
    assert await core.money() == (0, 0, 0)
    assert core.submissions == 0
    core.expected_failures = len(core.failures.lines)
    assert 3 < core.expected_failures < 10


@pytest.mark.f41
async def test_a_job_that_keeps_failing_unexpectedly_while_it_runs_is_run_again_until_its_deadline(
    core: Core, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: object, **__: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr("bot.service.execution.job_runner.JobRunner._watch", broken)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    other = await core.order("another")
    await until(lambda: len(core.failures.lines) > 8)
    assert await core.set_aside() == 2 * PRICE
    core.clock.move(hours=3)
    for failed in (job, other):
        assert reason_of(await core.ended(failed)) is FailureReason.INTERNAL
    assert await core.money() == (0, 0, 2 * PRICE)
    core.expected_failures = len(core.failures.lines)


async def test_a_provider_that_names_one_job_twice_leads_to_one_image_and_no_endless_retries(core: Core):
    first = await core.ended(await core.order())
    remote = core.sandbox.jobs[first.remote_id or ""]
    core.sandbox.next_order(Plan(trouble=Trouble(status=200, body=remote.as_accepted())))
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    core.clock.move(minutes=16)
    assert reason_of(await core.ended(job)) is FailureReason.OUTCOME_UNKNOWN
    core.expected_failures = len(core.failures.lines)
    assert (await core.money())[0] == PRICE
