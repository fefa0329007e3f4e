"""Cancelling: the charge follows what the provider did, not what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bot.domain.jobs import JobStatus
from bot.service.job_service import CancelOutcome
from sandbox.plans import Ending, How, Plan, Trouble
from tests.support.core import PIXAZO_LARGE, PRICE, PRICES, Core, a_core
from tests.support.fakes import until

FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)
SAMPLING = Plan(words=(("sampling", 0.01),), ending=Ending.NEVER)
"""Too late to cancel, as far as the provider is concerned."""


@pytest.mark.f31
async def test_a_queued_job_is_cancelled_at_once_and_frees_its_money_and_its_position(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(FOREVER)
        await core.reached(await core.order("in front"), JobStatus.RUNNING)
        job = await core.order("waiting")
        behind = await core.order("behind")
        assert await core.service.cancel(job) is CancelOutcome.CANCELLED
        assert (await core.now(job)).status is JobStatus.CANCELLED
        assert await core.set_aside() == 2 * PRICE
        assert job.reply_id in core.presenter.changed
        view = await core.service.view(behind.reply_id)
        assert view is not None
        assert view.jobs[0].queue_position == 1
        assert core.submissions == 1


@pytest.mark.f31
async def test_nothing_is_remembered_of_a_job_that_is_cancelled_while_the_provider_is_overloaded(core: Core):
    core.sandbox.next_order(Plan(trouble=Trouble(status=429, headers={"Retry-After": "30"})))
    job = await core.order()
    await until(lambda: job.id in core.service._dispatchers[job.provider].queue and core.submissions == 1)
    await until(lambda: not core.service._dispatchers[job.provider].slots_in_use)
    assert await core.service.cancel(job) is CancelOutcome.CANCELLED
    assert core.service._in_flight.get(job.id) is None
    assert await core.money() == (0, 0, 0)


@pytest.mark.f31
async def test_a_running_job_is_cancelled_when_the_provider_agrees(core: Core):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]
    await until(lambda: remote.word == "processing")
    assert await core.service.cancel(job) is CancelOutcome.ASKED
    assert (await core.ended(job)).status is JobStatus.CANCELLED
    assert await core.money() == (0, 0, 0)
    assert core.sandbox.bill_usd_micros == 0


@pytest.mark.f31
async def test_a_job_that_was_finished_first_is_delivered_and_charged(core: Core):
    core.sandbox.next_order(SAMPLING)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]
    await until(lambda: remote.word == "sampling")
    assert await core.service.cancel(job) is CancelOutcome.TOO_LATE
    assert (await core.now(job)).status is JobStatus.RUNNING
    remote.word, remote.billed_usd_micros = "completed", remote.price_usd_micros
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.f31
async def test_a_provider_that_agreed_and_finished_all_the_same_is_paid_for_its_image(core: Core):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    core.sandbox.next_answers("cancel", Trouble(status=200, body={"success": True}))
    assert await core.service.cancel(job) is CancelOutcome.ASKED
    core.sandbox.jobs[job.remote_id or ""].word = "completed"
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert await core.money() == (PRICE, 0, 0)


async def test_a_cancellation_during_the_submission_is_sent_as_soon_as_possible(core: Core):
    core.sandbox.next_order(FOREVER)
    core.disk.fill("mark_running")  # the answer has arrived but is not stored yet
    job = await core.reached(await core.order(), JobStatus.SUBMITTING)
    await until(lambda: core.disk.refused)
    (remote,) = core.sandbox.jobs.values()
    await until(lambda: remote.word == "processing")
    assert await core.service.cancel(job) is CancelOutcome.ASKED
    core.disk.make_room()
    assert (await core.ended(job)).status is JobStatus.CANCELLED
    assert await core.money() == (0, 0, 0)


async def test_a_cancellation_that_crosses_the_providers_answer_is_not_lost(core: Core):
    core.sandbox.next_order(FOREVER)
    job = await core.order()
    running = await core.reached(job, JobStatus.RUNNING)
    (remote,) = core.sandbox.jobs.values()
    await until(lambda: remote.word == "processing" and len(core.sandbox.seen("read")) > 1)
    # What the button's handler read a moment ago, before the provider's answer was on disk.
    stale = replace(running, status=JobStatus.SUBMITTING, remote_id=None)
    assert await core.service.cancel(stale) is CancelOutcome.ASKED
    assert (await core.ended(job)).status is JobStatus.CANCELLED


async def test_a_cancellation_of_an_order_that_the_provider_sent_back_needs_no_provider(core: Core):
    core.sandbox.next_order(Plan(trouble=Trouble(status=429, headers={"Retry-After": "0.2"})), FOREVER)
    core.disk.fill("requeue")
    job = await core.order()
    await until(lambda: core.disk.refused)
    assert await core.service.cancel(await core.now(job)) is CancelOutcome.ASKED
    core.disk.make_room()
    assert (await core.ended(job)).status is JobStatus.CANCELLED
    assert core.submissions == 1
    assert await core.money() == (0, 0, 0)


async def test_a_job_that_left_the_queue_meanwhile_is_cancelled_at_the_provider(core: Core):
    core.sandbox.next_order(FOREVER)
    queued = await core.order()
    await core.reached(queued, JobStatus.RUNNING)
    (remote,) = core.sandbox.jobs.values()
    await until(lambda: remote.word == "processing")
    assert await core.service.cancel(queued) is CancelOutcome.ASKED
    assert (await core.ended(queued)).status is JobStatus.CANCELLED


async def test_an_order_whose_answer_was_lost_is_cancelled_once_it_is_found(core: Core):
    core.sandbox.next_order(
        Plan(trouble=Trouble(how=How.RESET, accepted=True), words=FOREVER.words, ending=Ending.NEVER)
    )
    core.sandbox.next_answers("list", *[Trouble(status=503)] * 50)
    job = await core.reached(await core.order(), JobStatus.UNCERTAIN)
    (remote,) = core.sandbox.jobs.values()
    await until(lambda: remote.word == "processing")
    assert await core.service.cancel(job) is CancelOutcome.ASKED
    assert (await core.ended(job)).status is JobStatus.CANCELLED
    assert await core.money() == (0, 0, 0)


async def test_it_is_too_late_for_a_job_that_has_ended(core: Core):
    job = await core.order()
    await core.ended(job)
    assert await core.service.cancel(await core.now(job)) is CancelOutcome.TOO_LATE
    assert await core.service.cancel(job) is CancelOutcome.TOO_LATE, "also when it was last seen queued"
    just_sent = replace(job, status=JobStatus.SUBMITTING)
    assert await core.service.cancel(just_sent) is CancelOutcome.TOO_LATE, "also when it was seen on its way"
    assert core.service._in_flight.get(job.id) is None
    assert core.sandbox.seen("cancel") == []
    assert await core.money() == (PRICE, 0, 0)


async def test_a_provider_without_cancelling_says_so_and_the_job_goes_on(core: Core):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(model_id=PIXAZO_LARGE), JobStatus.RUNNING)
    assert await core.service.cancel(job) is CancelOutcome.NOT_POSSIBLE
    core.sandbox.jobs[job.remote_id or ""].word = "completed"
    await core.ended(job)
    assert await core.money() == (PRICES[PIXAZO_LARGE], 0, 0)


async def test_a_provider_that_cannot_be_asked_to_cancel_goes_on(core: Core):
    core.sandbox.next_order(FOREVER)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    core.sandbox.next_answers("cancel", *[Trouble(status=503)] * 3)
    assert await core.service.cancel(job) is CancelOutcome.UNANSWERED, "the image may go on, and may be stopped yet"
    assert (await core.now(job)).status is JobStatus.RUNNING


async def test_a_job_whose_provider_has_no_key_any_more_can_be_cancelled_only_while_queued(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.default_plan = FOREVER
        running = await core.reached(await core.order(), JobStatus.RUNNING)
        waiting = await core.order()
        await core.kill()
        core.without = frozenset({"krea"})
        await core.start()
        assert await core.service.cancel(waiting) is CancelOutcome.CANCELLED
        assert await core.service.cancel(running) is CancelOutcome.TOO_LATE
        assert await core.set_aside() == PRICE
