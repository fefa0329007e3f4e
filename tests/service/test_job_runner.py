"""What an error does to the money, row by row, and that an order is sent at most once whatever happens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.domain.jobs import FailureReason, ImageInput, ImageRole, Job, JobKind, JobStatus
from sandbox.plans import Ending, ErrorForm, How, Plan, Trouble
from tests.support.core import BEN, NANO_BANANA_2, PIXAZO_LARGE, PRICE, PRICES, Core, a_core
from tests.support.fakes import until

NOTHING = (0, 0, 0)


async def ended_badly(core: Core, plan: Plan, **how: Any) -> tuple[FailureReason, str]:
    """Order one image under this plan; return the reason and the hint of its failure."""
    core.sandbox.next_order(plan)
    job = await core.ended(await core.order(**how))
    assert job.status is JobStatus.FAILED
    assert job.failure is not None
    return job.failure.reason, job.failure.hint


# -- refused: released, sent once ---------------------------------------------------------------------

DOCUMENTED_REFUSALS = [
    (400, {"error": "width: out of range"}, FailureReason.REJECTED, "width: out of range"),
    (400, {"error": {"code": "bad", "message": "No such style"}}, FailureReason.REJECTED, "No such style"),
    (405, None, FailureReason.REJECTED, ""),
    (415, {"message": "Only JSON"}, FailureReason.REJECTED, "Only JSON"),
    (413, {"error": "Too large"}, FailureReason.REJECTED, "Too large"),
    (422, {"error": "Invalid asset URL"}, FailureReason.REJECTED, "Invalid asset URL"),
    (422, {"detail": [{"loc": ["body", "seed"], "msg": "too big"}]}, FailureReason.REJECTED, "seed: too big"),
    (422, {"error": "Prompt flagged by moderation"}, FailureReason.MODERATED, ""),
    (403, {"error": "This style is private"}, FailureReason.REJECTED, "This style is private"),
]


@pytest.mark.f06
@pytest.mark.parametrize(("status", "body", "reason", "hint"), DOCUMENTED_REFUSALS)
async def test_a_rejected_request_gives_the_reservation_back_and_says_what_to_change(
    core: Core, status: int, body: object, reason: FailureReason, hint: str
):
    told = await ended_badly(core, Plan(trouble=Trouble(status=status, body=body)))
    assert told[0] is reason
    assert hint in told[1]
    assert core.submissions == 1
    assert await core.money() == NOTHING
    assert core.presenter.notices == []
    await core.ask("the provider is still asked")


async def test_refusals_in_a_row_are_answers_and_close_nothing(core: Core):
    for _ in range(6):
        await ended_badly(core, Plan(trouble=Trouble(status=422, body={"error": "No"})))
    await core.ask("still open")


async def test_a_redirect_is_not_followed_and_its_order_counts_as_uncertain(core: Core):
    core.sandbox.next_answers("list", *[Trouble(status=503)] * 20)
    core.sandbox.next_order(Plan(trouble=Trouble(status=307, headers={"Location": "/generate/elsewhere"})))
    await core.reached(await core.order(), JobStatus.UNCERTAIN)
    assert core.submissions == 1


# -- answers about another job ------------------------------------------------------------------------


async def test_an_answer_about_another_members_job_is_neither_delivered_nor_charged(core: Core):
    private = await core.ended(await core.order("a private image"))
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order("another", member=BEN), JobStatus.RUNNING)
    mixed_up = core.sandbox.jobs[private.remote_id or ""].as_document()
    core.sandbox.next_answers("read", *[Trouble(status=200, body=mixed_up)] * 3)
    await until(lambda: not core.sandbox._troubles["read"])
    assert (await core.now(job)).status is JobStatus.RUNNING
    assert [matter for matter, _ in core.presenter.notices] == ["krea answers about other jobs"] * 3
    core.sandbox.complete_all()
    done = await core.ended(job)
    assert done.images
    assert not {image.sha256 for image in done.images} & {image.sha256 for image in private.images}
    assert await core.money(BEN) == (PRICE, 0, 0)


# -- failed at the provider: released -----------------------------------------------------------------


@pytest.mark.f05
@pytest.mark.parametrize("form", list(ErrorForm))
async def test_a_failed_job_gives_the_reservation_back_and_says_why(core: Core, form: ErrorForm):
    reason, hint = await ended_badly(core, Plan(ending=Ending.FAILED, error_form=form))
    assert reason is FailureReason.PROVIDER_FAILED
    assert hint == ("" if form is ErrorForm.NONE else "The model could not finish this image.")
    assert await core.money() == NOTHING


@pytest.mark.f32
async def test_a_moderated_job_gives_the_reservation_back_and_does_not_repeat_the_prompt(core: Core):
    core.sandbox.next_order(Plan(ending=Ending.MODERATED))
    job = await core.ended(await core.order("something unspeakable"))
    assert job.failure is not None
    assert (job.failure.reason, job.failure.hint) == (FailureReason.MODERATED, "")
    assert await core.money() == NOTHING


@pytest.mark.f05
async def test_a_job_cancelled_by_the_provider_gives_the_reservation_back(core: Core):
    core.sandbox.next_order(Plan(ending=Ending.CANCELLED))
    assert (await core.ended(await core.order())).status is JobStatus.CANCELLED
    assert await core.money() == NOTHING


@pytest.mark.parametrize(("ending", "operator_cost"), [(Ending.ERROR, 0), (Ending.FAILED, PRICES[PIXAZO_LARGE])])
async def test_where_a_failure_may_be_charged_the_operator_pays_and_not_the_member(
    core: Core, ending: Ending, operator_cost: int
):
    """Pixazo says that ERROR is free, and nothing about FAILED."""
    await ended_badly(core, Plan(ending=ending), model_id=PIXAZO_LARGE)
    assert await core.money() == (0, 0, operator_cost)


@pytest.mark.parametrize("ending", ["completed", "failed", "late"])
async def test_a_stated_price_far_above_the_reserved_one_is_told_and_not_booked(core: Core, ending: str):
    plan = Plan(words=(("processing", 0.01),), ending=Ending.NEVER, states_cost=True, bills_failure=True)
    core.sandbox.next_order(plan)
    job = await core.reached(await core.order(model_id=PIXAZO_LARGE), JobStatus.RUNNING)
    if ending == "late":
        core.clock.move(hours=3)
        assert (await core.ended(job)).is_followed
    remote = core.sandbox.jobs[job.remote_id or ""]
    core.sandbox.complete_all()
    remote.price_usd_micros = 80_000_000
    if ending == "failed":
        remote.word = "failed"
    await core.ended(job)
    await core.unfollowed(job)
    price = PRICES[PIXAZO_LARGE]
    assert await core.money() == ((price, 0, 0) if ending == "completed" else (0, 0, price))
    (notice,) = [text for matter, text in core.presenter.notices if matter == "stated cost"]
    assert "$80.00" in notice


async def test_a_stated_price_of_up_to_three_times_the_reserved_one_is_booked(core: Core):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER, states_cost=True))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]
    remote.price_usd_micros, remote.word = 3 * PRICE, "completed"
    await core.ended(job)
    assert await core.money() == (PRICE, 0, 2 * PRICE)


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_failure_whose_cost_the_provider_states_costs_the_operator_that(core: Core, *, is_late: bool):
    plan = Plan(words=(("processing", 0.01),), ending=Ending.NEVER, states_cost=True, bills_failure=True)
    core.sandbox.next_order(plan)
    job = await core.reached(await core.order(model_id=PIXAZO_LARGE), JobStatus.RUNNING)
    if is_late:
        core.clock.move(hours=3)
        assert (await core.ended(job)).is_followed
    remote = core.sandbox.jobs[job.remote_id or ""]
    remote.price_usd_micros, remote.word = 5_000, "failed"
    await core.ended(job)
    await core.unfollowed(job)
    assert await core.money() == (0, 0, 5_000)


async def unknown(core: Core) -> Job:
    """Return a job that has failed because the provider has not known it for a while."""
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    core.sandbox.next_answers("read", *[Trouble(status=404, body={"error": "Job not found"})] * 5)
    failed = await core.ended(job)
    assert failed.failure is not None
    assert failed.failure.reason is FailureReason.PROVIDER_FAILED
    assert failed.is_followed
    assert await core.money() == NOTHING
    return failed


async def test_a_job_the_provider_does_not_know_any_more_costs_the_member_nothing(core: Core):
    job = await unknown(core)
    core.sandbox.next_answers("read", *[Trouble(status=404, body={"error": "Job not found"})] * 1000)
    core.clock.move(hours=3)
    await core.unfollowed(job)
    assert await core.money() == (0, 0, PRICE)


@pytest.mark.hostile("G-12")
@pytest.mark.parametrize("restart", [False, True])
async def test_the_image_of_a_job_that_was_unknown_for_a_while_is_brought_free(core: Core, *, restart: bool):
    job = await unknown(core)
    if restart:
        await core.restart()
    core.sandbox.next_answers("read", *[Trouble(status=404, body={"error": "Job not found"})] * 3)
    core.sandbox.jobs[job.remote_id or ""].word = "completed"
    late = await core.reached(job, JobStatus.SUCCEEDED)
    assert (late.charged_usd_micros, len(late.images)) == (0, 1)
    assert await core.money() == (0, 0, PRICE)


# -- the price ----------------------------------------------------------------------------------------


@pytest.mark.f04
@pytest.mark.parametrize(("stated", "charged"), [(1, 1), (PRICE - 1, PRICE - 1), (PRICE, PRICE), (PRICE + 1, PRICE)])
async def test_the_member_pays_what_the_provider_states_and_never_more_than_was_reserved(
    core: Core, stated: int, charged: int
):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER, states_cost=True))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]
    remote.price_usd_micros, remote.word = stated, "completed"
    assert (await core.ended(job)).charged_usd_micros == charged
    spent, set_aside, operator_cost = await core.money()
    assert (spent, set_aside) == (charged, 0)
    assert operator_cost == stated - charged, "the operator bears the rest"


async def test_an_image_that_is_free_is_delivered_and_charges_nothing(core: Core):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER, states_cost=True))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]
    remote.price_usd_micros, remote.word = 0, "completed"
    done = await core.ended(job)
    assert (done.status, done.charged_usd_micros) == (JobStatus.SUCCEEDED, 0)
    assert await core.money() == NOTHING


# -- unusual words ------------------------------------------------------------------------------------


@pytest.mark.f25
async def test_unknown_status_words_mean_still_running(core: Core):
    words = (("sleeping", 1.0), ("COMPLETED?", 1.0), ("", 1.0), ("succeeded", 1.0))
    core.sandbox.next_order(Plan(words=words))
    assert (await core.ended(await core.order())).status is JobStatus.SUCCEEDED
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.hostile("G-31")
async def test_the_operator_is_told_of_a_new_status_word_once(core: Core):
    core.sandbox.next_order(*[Plan(words=(("dreaming", 0.01),), ending=Ending.NEVER)] * 2)
    await core.reached(await core.order("one"), JobStatus.RUNNING)
    await until(lambda: core.presenter.notices)
    reads = len(core.sandbox.seen("read"))
    await core.reached(await core.order("two"), JobStatus.RUNNING)
    await until(lambda: len(core.sandbox.seen("read")) > reads + 6)
    assert [(matter, '"dreaming"' in text) for matter, text in core.presenter.notices] == [
        ("new status dreaming", True)
    ]


@pytest.mark.f25
async def test_a_job_with_an_unknown_status_word_still_ends_at_its_deadline(core: Core):
    core.sandbox.next_order(Plan(words=(("dreaming", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    core.clock.move(hours=3)
    failed = await core.ended(job)
    assert failed.failure is not None
    assert failed.failure.reason is FailureReason.TIMED_OUT


# -- deadline -----------------------------------------------------------------------------------------


@pytest.mark.f28
async def test_a_job_that_never_ends_fails_at_its_deadline_and_is_paid_by_the_operator_when_no_image_can_come(
    core: Core,
):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    core.clock.move(hours=2)
    reads = len(core.sandbox.seen("read"))
    await until(lambda: len(core.sandbox.seen("read")) > reads + 2)
    assert (await core.now(job)).status is JobStatus.RUNNING, "ten minutes are left"
    core.clock.move(minutes=11)
    failed = await core.ended(job)
    assert failed.failure is not None
    assert failed.failure.reason is FailureReason.TIMED_OUT
    assert failed.is_followed
    assert await core.money() == (0, 0, 0)
    core.clock.move(hours=2)
    await core.unfollowed(job)
    assert await core.money() == (0, 0, PRICE)
    reads = len(core.sandbox.seen("read"))
    await core.ended(await core.order("another"))
    assert all(str(job.remote_id) not in seen.path for seen in core.sandbox.seen("read")[reads:]), "polling has stopped"


@pytest.mark.hostile("G-12")
@pytest.mark.parametrize("restart", [False, True])
async def test_an_image_that_comes_after_the_deadline_is_brought_free(core: Core, *, restart: bool):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    core.clock.move(hours=2, minutes=11)
    assert (await core.ended(job)).is_followed
    if restart:
        await core.restart()
    remote = core.sandbox.jobs[job.remote_id or ""]
    remote.word = "completed"
    late = await core.reached(job, JobStatus.SUCCEEDED)
    assert (late.charged_usd_micros, len(late.images)) == (0, 1)
    assert await core.money() == (0, 0, PRICE)


# -- passing faults while polling ---------------------------------------------------------------------


@pytest.mark.f20
async def test_ten_failures_in_a_row_while_polling_fail_no_job(tmp_path: Path):
    async with a_core(tmp_path, poll_seconds=0.002) as core:
        faults = [Trouble(status=status) for status in (500, 502, 503, 504, 500)]
        faults += [Trouble(how=how) for how in (How.RESET, How.NOT_JSON, How.CUT_SHORT, How.BAD_ENCODING, How.RESET)]
        core.sandbox.next_answers("read", *faults)
        assert (await core.ended(await core.order())).status is JobStatus.SUCCEEDED
        assert core.submissions == 1
        assert await core.money() == (PRICE, 0, 0)


# -- input images -------------------------------------------------------------------------------------


async def test_an_upload_that_fails_for_a_moment_is_tried_again(core: Core):
    core.sandbox.next_answers("upload", Trouble(status=503), Trouble(how=How.RESET))
    job = await core.ended(await core.order(images=(await core.an_input(),)))
    assert job.status is JobStatus.SUCCEEDED
    assert core.submissions == 1


@pytest.mark.parametrize(
    ("troubles", "reason"),
    [
        ([Trouble(status=503)] * 3, FailureReason.PROVIDER_UNAVAILABLE),
        ([Trouble(status=400, body={"error": "Unsupported file"})], FailureReason.REJECTED),
        ([Trouble(status=401)], FailureReason.PROVIDER_UNAVAILABLE),
    ],
)
async def test_an_order_whose_image_cannot_be_uploaded_is_never_sent(
    core: Core, troubles: list[Trouble], reason: FailureReason
):
    core.sandbox.next_answers("upload", *troubles)
    job = await core.ended(await core.order(images=(await core.an_input(),)))
    assert job.failure is not None
    assert job.failure.reason is reason
    assert core.submissions == 0
    assert await core.money() == NOTHING


async def test_an_order_whose_image_is_gone_is_never_sent(core: Core):
    image = await core.an_input()
    await core.images.remove(image.sha256)
    job = await core.ended(await core.order(images=(image,)))
    assert job.failure is not None
    assert job.failure.reason is FailureReason.INPUT_GONE
    assert core.sent == []
    assert await core.money() == NOTHING


@pytest.mark.hostile("G-44")
async def test_a_provider_that_only_fetches_is_given_the_address_of_the_kept_copy(core: Core):
    image = await core.an_input(role=ImageRole.REFERENCE)
    core.presenter.host_url = await _uploaded(core, image)
    job = await core.ended(await core.order(model_id=PIXAZO_LARGE, images=(image,), kind=JobKind.IMAGINE))
    assert job.status is JobStatus.SUCCEEDED
    assert core.presenter.host_url in str(core.sandbox.orders[-1].body)
    assert [hosted.data for hosted in core.presenter.hosted] == [await core.images.get(image.sha256)]


async def _uploaded(core: Core, image: ImageInput) -> str:
    """Upload the image and return the address at which it can be fetched."""
    source = replace(image, role=ImageRole.SOURCE)
    await core.ended(await core.order(images=(source,), model_id=NANO_BANANA_2))
    address = await core.store.uploaded_url("krea", image.sha256)
    assert address is not None
    return address


@pytest.mark.hostile("G-44")
async def test_a_provider_that_only_fetches_gets_no_order_while_discord_hosts_no_copy(core: Core):
    image = await core.an_input(role=ImageRole.REFERENCE)
    job = await core.ended(await core.order(model_id=PIXAZO_LARGE, images=(image,), kind=JobKind.IMAGINE))
    assert job.failure is not None
    assert job.failure.reason is FailureReason.INPUT_NOT_HOSTED
    assert core.submissions == 0
    assert await core.money() == NOTHING


async def test_a_job_cancelled_while_its_image_is_uploaded_is_not_sent(core: Core):
    core.sandbox.next_answers("upload", Trouble(how=How.RESET), Trouble(how=How.RESET))
    job = await core.order(images=(await core.an_input(),))
    await until(lambda: core.sandbox.seen("upload"))
    await core.service.cancel(job)
    await until(lambda: len(core.sandbox.seen("upload")) == 3)
    await core.ended(await core.order("another"))
    assert [order.body["prompt"] for order in core.sandbox.orders] == ["another"]
    assert (await core.now(job)).status is JobStatus.CANCELLED


UNREADABLE = Trouble(status=422, body={"error": "Invalid asset URL"})


async def test_an_input_whose_address_the_provider_no_longer_takes_is_uploaded_once_more(core: Core):
    image = await core.an_input()
    first = await core.ended(await core.order(kind=JobKind.EDIT, images=(image,)))
    core.sandbox.next_order(Plan(trouble=UNREADABLE))
    again = await core.ended(await core.order(kind=JobKind.EDIT, images=(image,)))
    assert (first.status, again.status) == (JobStatus.SUCCEEDED, JobStatus.SUCCEEDED)
    assert len(core.sandbox.seen("upload")) == 2
    assert core.submissions == 3


async def test_an_input_the_provider_cannot_use_at_all_is_uploaded_twice_at_most(core: Core):
    image = await core.an_input()
    core.sandbox.next_order(Plan(trouble=UNREADABLE), Plan(trouble=UNREADABLE))
    job = await core.ended(await core.order(kind=JobKind.EDIT, images=(image,)))
    assert job.status is JobStatus.FAILED
    assert len(core.sandbox.seen("upload")) == 2
    assert await core.money() == (0, 0, 0)
