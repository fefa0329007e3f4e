"""Collecting: the image first, then the charge; without a usable image the member pays nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.errors import MediaError
from bot.domain.jobs import FailureReason, Job, JobStatus
from bot.domain.requester import Requester
from bot.media.image_pool import CheckedImage, ImageGivenUp, ImagePool
from bot.service.execution import results
from sandbox.plans import Ending, FileTrouble, How, Plan, Shape, Trouble
from tests.support import store_samples
from tests.support.core import PIXAZO_LARGE, PRICE, PRICES, Core, a_core
from tests.support.fakes import until

FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)


@pytest.mark.parametrize("shape", [Shape.LIST, Shape.STRING, Shape.TYPED, Shape.NAMED])
async def test_every_documented_shape_of_a_result_leads_to_the_finished_image(core: Core, shape: Shape):
    core.sandbox.next_order(Plan(shape=shape))
    job = await core.ended(await core.order())
    assert [image.source_url.rpartition("/")[2] for image in job.images] == [f"{job.remote_id}.png"]
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.f26
@pytest.mark.parametrize(
    "plan",
    [
        Plan(shape=Shape.EMPTY),
        Plan(shape=Shape.MISSING),
        Plan(file_trouble=FileTrouble.MISSING),
        Plan(file_trouble=FileTrouble.HTML),
        Plan(file_trouble=FileTrouble.REDIRECT, redirect_to="http://169.254.169.254/latest/meta-data"),
        Plan(file_trouble=FileTrouble.REDIRECT, redirect_to="file:///etc/passwd"),
    ],
    ids=lambda plan: f"{plan.shape}, {plan.file_trouble} {plan.redirect_to}",
)
async def test_completed_without_a_usable_image_is_paid_by_the_operator_who_is_told(core: Core, plan: Plan):
    core.sandbox.next_order(plan)
    job = await core.ended(await core.order())
    assert job.failure is not None
    assert job.failure.reason is FailureReason.NO_USABLE_RESULT
    assert await core.money() == (0, 0, PRICE)
    assert [matter for matter, _ in core.presenter.notices] == ["no usable picture"]
    assert core.submissions == 1


async def test_an_unusable_image_whose_cost_the_provider_states_costs_the_operator_that(core: Core):
    plan = Plan(words=(("processing", 0.01),), ending=Ending.NEVER, states_cost=True, file_trouble=FileTrouble.MISSING)
    core.sandbox.next_order(plan)
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]
    remote.price_usd_micros, remote.word = 5_000, "completed"
    await core.ended(job)
    assert await core.money() == (0, 0, 5_000)


async def unending_check(_: ImagePool, data: bytes, *, requester: Requester) -> CheckedImage:
    await asyncio.Event().wait()
    raise AssertionError(len(data), requester)


@pytest.mark.hostile("G-04")
async def test_a_result_whose_check_was_cut_off_twice_is_given_up_after_the_restart(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "COUNTED_CHECK_SECONDS", 0.05)
    monkeypatch.setattr(ImagePool, "check_result", unending_check)
    job = await core.order()
    for cut_off in ("1", "2"):

        async def counted(number: str = cut_off) -> bool:
            return await core.store.get_value(f"check {job.id}") == number

        await until(counted)
        await core.restart()
    ended = await core.ended(job)
    assert ended.failure is not None
    assert ended.failure.reason is FailureReason.NO_USABLE_RESULT
    assert await core.money() == (0, 0, PRICE)
    assert await core.store.get_value(f"check {job.id}") is None


@pytest.mark.hostile("G-04")
@pytest.mark.parametrize(
    "error",
    [
        ImageGivenUp("given up: its process died twice"),
        MediaError("not a usable image: too_many_pixels", transient=False, reason="too_many_pixels"),
    ],
    ids=["killed its process twice", "too large to decode"],
)
async def test_a_result_that_no_other_try_makes_usable_is_fetched_no_more(
    core: Core, error: MediaError, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unusable(_: ImagePool, data: bytes, *, requester: Requester) -> CheckedImage:
        raise error if data else AssertionError(requester)

    monkeypatch.setattr(ImagePool, "check_result", unusable)
    job = await core.ended(await core.order())
    assert not job.is_followed
    assert await core.money() == (0, 0, PRICE)
    assert len(core.sandbox.seen("picture")) == 1
    told = [text for _, text in core.presenter.notices]
    assert told == [f"Job {job.id} was completed without a usable image: {error}"]


@pytest.mark.hostile("G-04")
async def test_a_check_that_takes_long_and_ends_leaves_no_count(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "COUNTED_CHECK_SECONDS", 0.0)
    job = await core.ended(await core.order())
    assert job.status is JobStatus.SUCCEEDED
    assert await core.store.get_value(f"check {job.id}") is None


async def test_an_image_that_is_not_there_at_once_is_downloaded_again(core: Core):
    core.sandbox.next_answers("picture", Trouble(status=404), Trouble(status=503), Trouble(how=How.RESET))
    assert (await core.ended(await core.order())).status is JobStatus.SUCCEEDED
    assert len(core.sandbox.seen("picture")) == 4
    assert await core.money() == (PRICE, 0, 0)


GONE = "{base}/pictures/gone.png"
MADE = "{base}/pictures/{id}.png"


@pytest.mark.hostile("G-32")
@pytest.mark.parametrize(
    ("urls", "operator_is_told"),
    [
        ((GONE, MADE), True),
        ((MADE, GONE), True),
        (("{base}/pictures/{id}.mp4", MADE), False),
        (({"type": "video", "url": GONE}, {"type": "thumbnail", "url": GONE}, {"type": "image", "url": MADE}), False),
        ((MADE, "{base}/pictures/preview-{id}.png"), False),
    ],
)
async def test_the_usable_ones_of_several_results_are_delivered_and_charged(
    core: Core, urls: tuple[str | dict[str, str], ...], *, operator_is_told: bool
):
    core.sandbox.next_order(Plan(urls=urls))
    job = await core.ended(await core.order())
    assert job.status is JobStatus.SUCCEEDED
    assert [image.source_url.rpartition("/")[2] for image in job.images][:1] == [f"{job.remote_id}.png"]
    assert await core.money() == (PRICE, 0, 0)
    assert [matter for matter, _ in core.presenter.notices] == ["unusable results"] * operator_is_told
    assert job.lost_images == operator_is_told, "the card tells it"


@pytest.mark.hostile("G-33")
@pytest.mark.parametrize("status", [202, 204, 403])
async def test_a_result_that_is_not_ready_for_some_seconds_is_tried_again(core: Core, status: int):
    core.sandbox.next_answers("picture", *[Trouble(status=status)] * 3)
    assert (await core.ended(await core.order())).status is JobStatus.SUCCEEDED
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.hostile("G-33")
async def test_the_provider_is_asked_once_more_for_the_address_of_a_dead_link(core: Core):
    core.sandbox.next_order(Plan(first_urls=(GONE,)))
    job = await core.ended(await core.order())
    assert [image.source_url.rpartition("/")[2] for image in job.images] == [f"{job.remote_id}.png"]
    assert await core.money() == (PRICE, 0, 0)
    assert (job.lost_images, core.presenter.notices) == (0, []), "nothing is lacking"


@pytest.mark.hostile("G-35")
async def test_of_many_addresses_no_more_than_one_beyond_what_was_ordered_is_fetched(core: Core):
    core.sandbox.next_order(Plan(urls=tuple(f"{MADE}?number={number}" for number in range(150))))
    job = await core.ended(await core.order())
    assert job.status is JobStatus.SUCCEEDED
    assert len(core.sandbox.seen("picture")) == 2
    assert await core.money() == (PRICE, 0, 0)


@pytest.mark.hostile("G-35")
async def test_dead_addresses_are_tried_within_one_deadline_for_all(core: Core, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(results, "RESULT_TIMEOUT_SECONDS", 0.05)
    core.sandbox.next_order(Plan(urls=tuple(f"{GONE}?number={number}" for number in range(150))))
    job = await core.ended(await core.order())
    assert job.failure is not None
    assert job.failure.reason is FailureReason.NO_USABLE_RESULT
    assert len({request.path for request in core.sandbox.seen("picture")}) <= 8
    assert await core.money() == (0, 0, PRICE)


# -- out of reach -------------------------------------------------------------------------------------

OUT_OF_REACH = Plan(urls=("http://127.0.0.1:1/picture.png",))
"""The provider names an address where nobody listens."""


async def out_of_reach(core: Core, plan: Plan = OUT_OF_REACH) -> Job:
    """Order an image that is made and cannot be fetched."""
    core.sandbox.next_order(plan)
    job = await core.order()

    async def is_known() -> bool:
        return (await core.now(job)).unfetched_since_at is not None

    await until(is_known)
    return await core.now(job)


def heal(core: Core, job: Job) -> None:
    """Have the provider name an address that works."""
    core.sandbox.jobs[job.remote_id or ""].plan = Plan()


@pytest.mark.hostile("G-33")
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("plan", [OUT_OF_REACH, Plan(file_trouble=FileTrouble.TRUNCATED)], ids=["refused", "cut short"])
async def test_an_image_out_of_reach_is_tried_on_and_charged_once_it_is_there(core: Core, plan: Plan, *, restart: bool):
    job = await out_of_reach(core, plan)
    assert await core.money() == (0, PRICE, 0), "the money stays as it is"
    core.clock.move(minutes=14)
    if restart:
        await core.restart()
    assert (await core.now(job)).status is JobStatus.RUNNING
    heal(core, job)
    assert (await core.ended(job)).status is JobStatus.SUCCEEDED
    assert await core.money() == (PRICE, 0, 0)
    assert core.presenter.notices == []


@pytest.mark.hostile("G-33")
@pytest.mark.parametrize("restart", [False, True])
async def test_an_image_out_of_reach_for_a_quarter_of_an_hour_comes_free(core: Core, *, restart: bool):
    job = await out_of_reach(core)
    core.clock.move(minutes=16)
    failed = await core.ended(job)
    assert failed.failure is not None
    assert failed.failure.reason is FailureReason.NO_USABLE_RESULT
    assert failed.is_followed
    assert await core.money() == (0, 0, PRICE)
    core.clock.move(hours=3)
    if restart:
        await core.restart()
    heal(core, job)
    late = await core.reached(job, JobStatus.SUCCEEDED)
    assert (late.charged_usd_micros, len(late.images), late.late_at is not None) == (0, 1, True)
    assert await core.money() == (0, 0, PRICE) == (0, 0, core.sandbox.bill_usd_micros), "its cost was booked before"


@pytest.mark.hostile("G-33")
@pytest.mark.parametrize("plan", [OUT_OF_REACH, Plan(urls=("{base}/pictures/gone.png",))], ids=["refused", "not found"])
async def test_an_image_that_never_comes_is_given_up_and_costs_once(
    core: Core, plan: Plan, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(results, "FIRST_PAUSE_SECONDS", 0.01)
    if plan is OUT_OF_REACH:
        job = await out_of_reach(core)
        core.clock.move(minutes=16)
    else:
        core.sandbox.next_order(plan)
        job = await core.order()
    assert (await core.ended(job)).is_followed
    core.clock.move(hours=5)
    await core.unfollowed(job)
    assert (await core.now(job)).status is JobStatus.FAILED
    assert await core.money() == (0, 0, PRICE) == (0, 0, core.sandbox.bill_usd_micros)
    assert [matter for matter, _ in core.presenter.notices] == ["no usable picture"]


@pytest.mark.hostile("G-33")
async def test_an_image_out_of_reach_takes_no_place_from_other_orders(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        job = await out_of_reach(core)
        assert (await core.ended(await core.order("another"))).status is JobStatus.SUCCEEDED
        assert (await core.now(job)).status is JobStatus.RUNNING


@pytest.mark.hostile("G-02")
async def test_what_an_image_that_was_given_up_costs_is_counted_once(tmp_path: Path):
    limits = store_samples.limits(cost_per_member_usd_micros=2 * PRICE + 1)
    async with a_core(tmp_path, limits=limits) as core:
        core.sandbox.next_order(Plan(urls=("{base}/pictures/gone.png",)))
        assert (await core.ended(await core.order())).is_followed
        assert (await core.ended(await core.order("another"))).status is JobStatus.SUCCEEDED
        assert (await core.ended(*await core.orders("one", "two"))).status is JobStatus.SUCCEEDED


# -- lost here ----------------------------------------------------------------------------------------


async def lost_here(core: Core) -> Job:
    """Finish an image, and lose it on disk before it was shown."""
    job = await core.ended(await core.order())
    await core.images.remove(job.images[0].sha256)
    return job


async def test_a_lost_image_out_of_reach_is_asked_for_until_its_provider_can_no_longer_have_it(core: Core):
    job = await lost_here(core)
    image = replace(job.images[0], source_url="http://127.0.0.1:1/picture.png")
    core.sandbox.jobs[job.remote_id or ""].plan = OUT_OF_REACH
    with pytest.raises(MediaError) as out_of_reach:
        await core.service.recover_image(job, image)
    assert out_of_reach.value.transient
    core.clock.move(hours=5)
    assert not await core.service.recover_image(job, image)


async def test_a_lost_image_is_found_where_its_provider_says_it_is_now(core: Core):
    job = await lost_here(core)
    assert await core.service.recover_image(job, replace(job.images[0], source_url="http://127.0.0.1:1/picture.png"))
    assert await core.images.get(job.images[0].sha256) is not None


async def test_a_lost_image_is_not_replaced_by_another_one(core: Core):
    job, other = await lost_here(core), await core.ended(await core.order("another"))
    core.sandbox.jobs[job.remote_id or ""].plan = Plan(urls=(other.images[0].source_url,))
    assert not await core.service.recover_image(job, replace(job.images[0], source_url=other.images[0].source_url))


@pytest.mark.parametrize("how", [How.RESET, How.STATUS])
async def test_a_provider_that_cannot_be_asked_for_a_lost_image_is_asked_again(core: Core, how: How):
    job = await lost_here(core)
    core.sandbox.next_answers("read", *[Trouble(how=how)] * 20)
    with pytest.raises(MediaError) as out_of_reach:
        await core.service.recover_image(job, replace(job.images[0], source_url=""))
    assert out_of_reach.value.transient


async def test_an_image_with_a_long_tail_is_kept_as_it_is(core: Core):
    core.sandbox.next_order(Plan(file_trouble=FileTrouble.HUGE))
    job = await core.ended(await core.order())
    assert job.images[0].size_bytes > 30_000_000


# -- the same news twice ------------------------------------------------------------------------------


async def _call(core: Core, path: str, body: object) -> int:
    async with aiohttp.ClientSession() as session, session.post(path, json=body) as response:
        return response.status


@pytest.mark.f07
@pytest.mark.f57
async def test_polls_and_repeated_callbacks_lead_to_one_charge(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        core.sandbox.next_order(Plan(webhook_copies=5))
        job = await core.ended(await core.order(model_id=PIXAZO_LARGE))
        callbacks = core.sandbox.jobs[job.remote_id or ""]
        assert callbacks.webhook_url is not None
        for _ in range(3):
            await _call(core, callbacks.webhook_url, callbacks.as_document())
        assert await core.money() == (PRICES[PIXAZO_LARGE], 0, 0)
        assert core.sandbox.bill_usd_micros == PRICES[PIXAZO_LARGE]


async def test_a_callback_brings_the_image_without_waiting_for_the_next_poll(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True, poll_seconds=30.0) as core:
        job = await core.ended(await core.order(), seconds=5)
        assert job.status is JobStatus.SUCCEEDED


@pytest.mark.f57
async def test_a_callback_that_lies_changes_nothing(tmp_path: Path):
    async with a_core(tmp_path, with_webhooks=True) as core:
        core.sandbox.next_order(FOREVER)
        job = await core.reached(await core.order(), JobStatus.RUNNING)
        remote = core.sandbox.jobs[job.remote_id or ""]
        assert remote.webhook_url is not None
        reads = len(core.sandbox.seen("read"))
        lie = remote.as_document() | {"status": "completed", "result": {"urls": ["http://127.0.0.1:1/evil.png"]}}
        known = await _call(core, remote.webhook_url, lie)
        unknown = await _call(core, remote.webhook_url[:-1] + "x", lie)
        assert known == unknown, "a stranger learns nothing"
        await until(lambda: len(core.sandbox.seen("read")) > reads + 2)
        assert (await core.now(job)).status is JobStatus.RUNNING
        assert await core.set_aside() == PRICE


@pytest.mark.f07
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(st.sampled_from(["callback", "hint", "word"]), min_size=1, max_size=6))
@pytest.mark.f07
def test_any_interleaving_of_the_same_updates_is_one_charge(tmp_path: Path, calls: list[str]):
    async def main() -> None:
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        async with a_core(directory, with_webhooks=True) as core:
            core.sandbox.next_order(FOREVER)
            job = await core.reached(await core.order(), JobStatus.RUNNING)
            remote = core.sandbox.jobs[job.remote_id or ""]
            assert remote.webhook_url is not None
            token = remote.webhook_url.rpartition("/")[2]
            for call in calls:
                match call:
                    case "callback":
                        await _call(core, remote.webhook_url, remote.as_document() | {"status": "completed"})
                    case "hint":
                        await core.parts.webhooks.handle(token, remote.id)
                    case _:
                        remote.word = "completed"
            remote.word = "completed"
            await core.ended(job)
            await core.parts.webhooks.handle(token, remote.id)
            assert await core.money() == (PRICE, 0, 0)

    asyncio.run(main())


# -- what is counted ----------------------------------------------------------------------------------


async def test_every_end_of_a_job_is_counted_once_with_what_it_cost(core: Core):
    core.sandbox.next_order(
        Plan(), Plan(ending=Ending.FAILED), Plan(ending=Ending.CANCELLED), Plan(file_trouble=FileTrouble.HTML)
    )
    for _ in range(4):
        await core.ended(await core.order())
    counted: dict[tuple[str, str], float] = {}
    sums: dict[str, float] = {}
    for family in core.service.metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "image_bot_jobs_total":
                counted[sample.labels["status"], sample.labels["reason"]] = sample.value
            elif sample.name.endswith("_usd_micros_total"):
                sums[sample.name] = sample.value
    assert counted == {
        ("succeeded", ""): 1,
        ("failed", "provider_failed"): 1,
        ("cancelled", ""): 1,
        ("failed", "no_usable_result"): 1,
    }
    assert sorted(sums.values()) == [PRICE, PRICE], "one for the member, one for the operator"
