"""What a command can ask for: admission, acceptance, giving up, and what its reply shows meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from bot.domain.errors import (
    BadOption,
    DuplicateCommand,
    ModelUnavailable,
    ProviderPaused,
    QuotaExceeded,
    StoreError,
    TooFast,
    TooManyRunning,
    UnknownModel,
)
from bot.domain.jobs import Delivery, FailureReason, ImageRole, JobStatus, Progress, Reply, ResultImage
from bot.domain.money.quota import Member
from bot.domain.requester import Requester
from bot.media.image_pool import ShrunkImage
from bot.service import job_service, queue_positions
from sandbox.plans import Ending, How, Plan, Trouble
from tests.support.core import ADA, BEN, FLUX, NANO_BANANA_2, PIXAZO_LARGE, PRICE, PRICES, Core, a_core
from tests.support.fakes import until
from tests.support.image_samples import encode, noise, open_image

FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)


# -- the straight line --------------------------------------------------------------------------------


@pytest.mark.f04
@pytest.mark.parametrize("model_id", [FLUX, NANO_BANANA_2, PIXAZO_LARGE])
async def test_an_image_costs_the_member_its_listed_price_and_the_provider_bills_the_same(core: Core, model_id: str):
    job = await core.ended(await core.order("a red fox", model_id=model_id))
    assert job.status is JobStatus.SUCCEEDED
    assert job.charged_usd_micros == PRICES[model_id]
    assert await core.money() == (PRICES[model_id], 0, 0)
    assert core.sandbox.bill_usd_micros == PRICES[model_id]
    assert len(core.sandbox.orders) == 1
    image = await core.images.get(job.images[0].sha256)
    assert image is not None
    assert job.images[0].size_bytes == len(image)


@pytest.mark.f44
async def test_nothing_leaves_the_process_before_the_reply_is_shown(core: Core):
    view = await core.ask("a red fox")
    job = view.reply.jobs[0]
    assert view.jobs[0].queue_position is None, "it would start at once"
    assert view.spendable.balance.set_aside_usd_micros == PRICE
    assert (await core.now(job)).status is JobStatus.QUEUED
    assert core.sent == []
    await core.service.accept(view.reply, message_id=99)
    await core.ended(job)
    reply = await core.store.reply(view.reply.id)
    assert reply is not None
    assert reply.address.message_id == 99


async def test_several_images_of_one_command_are_separate_orders_under_one_reply(core: Core):
    jobs = await core.orders("one", "two", "three", "four")
    await core.ended(*jobs)
    assert len({job.reply_id for job in jobs}) == 1
    assert [order.body["prompt"] for order in core.sandbox.orders] == ["one", "two", "three", "four"]
    assert await core.money() == (4 * PRICE, 0, 0)


async def test_what_is_ordered_is_what_was_quoted_and_can_be_made_again(core: Core):
    job = await core.ended(await core.order("a red fox", options={"seed": 42}))
    assert job.seed == 42
    assert core.sandbox.orders[0].body == dict(job.body)
    assert core.sandbox.orders[0].body["seed"] == 42


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.f01
async def test_a_refused_request_reaches_no_provider_and_reserves_nothing(tmp_path: Path):
    async with a_core(tmp_path, quota_usd_micros=PRICE, without=frozenset({"pixazo"})) as core:
        with pytest.raises(UnknownModel):
            await core.ask("a fox", model_id="krea/no/such-model")
        with pytest.raises(BadOption):
            await core.ask("a fox", options={"resolution": "9K"})
        with pytest.raises(ModelUnavailable) as unavailable:
            await core.ask("a fox", model_id=PIXAZO_LARGE)
        assert unavailable.value.reason == "no_key"
        with pytest.raises(QuotaExceeded) as exceeded:
            await core.ask("a fox", "another fox")
        assert exceeded.value.available_usd_micros in (0, PRICE)
        assert core.sent == []
        assert await core.money() == (0, 0, 0)
        await core.ask("a fox")  # exactly what is left


@pytest.mark.f08
async def test_the_same_command_is_accepted_once(core: Core):
    await core.ask("a fox", interaction_id=10**9)
    for _ in range(4):
        with pytest.raises(DuplicateCommand):
            await core.ask("a fox", interaction_id=10**9)
    assert await core.set_aside() == PRICE


@pytest.mark.f58
async def test_the_jobs_a_member_has_running_are_limited(tmp_path: Path):
    async with a_core(tmp_path, max_running_jobs=1) as core:
        core.sandbox.default_plan = FOREVER
        await core.order("a fox")
        with pytest.raises(TooManyRunning):
            await core.ask("another fox")
        await core.ask("a fox", member=BEN)


@pytest.mark.f03
async def test_simultaneous_commands_never_spend_more_than_the_quota(tmp_path: Path):
    async with a_core(tmp_path, max_running_jobs=200) as core:
        asked = [core.ask("a fox", model_id=NANO_BANANA_2) for _ in range(200)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, QuotaExceeded)]
        assert len(answers) - len(refusals) == 12
        assert len(refusals) == 188
        assert await core.set_aside() == 960_000


@pytest.mark.f58
async def test_a_flood_of_commands_is_slowed_down_before_anything_is_reserved(tmp_path: Path):
    async with a_core(tmp_path, max_running_jobs=1) as core:

        async def until_refused() -> None:
            for _ in range(100):
                await core.service.abandon((await core.ask("a fox")).reply)

        with pytest.raises(TooFast):
            await until_refused()
        assert await core.money() == (0, 0, 0)
        await core.ask("a fox", member=BEN)
        core.clock.move(minutes=1)
        await core.ask("a fox")


# -- giving up ----------------------------------------------------------------------------------------


@pytest.mark.f44
async def test_a_reply_that_discord_did_not_take_costs_nothing_and_buys_nothing(core: Core):
    view = await core.ask("a fox", "another fox")
    await core.service.abandon(view.reply)
    reply = await core.store.reply(view.reply.id)
    assert reply is not None
    assert reply.delivery is Delivery.IMPOSSIBLE
    assert [job.failure and job.failure.reason for job in reply.jobs] == [FailureReason.NOT_SHOWN] * 2
    assert await core.money() == (0, 0, 0)
    assert core.sent == []
    assert core.presenter.changed == []


async def test_a_reply_that_may_be_visible_after_all_is_corrected(core: Core):
    view = await core.ask("a fox")
    await core.service.abandon(view.reply, surely_unseen=False)
    assert core.presenter.changed == [view.reply.id]
    shown = await core.service.view(view.reply.id)
    assert shown is not None
    assert shown.reply.delivery is Delivery.PENDING
    assert shown.reply.is_final


@pytest.mark.f44
async def test_what_was_given_up_is_not_ordered_when_discord_shows_it_later(core: Core):
    view = await core.ask("a fox")
    await core.service.abandon(view.reply)
    await core.service.accept(view.reply, message_id=99)
    next_job = await core.order("another fox")
    await core.ended(next_job)
    assert [order.body["prompt"] for order in core.sandbox.orders] == ["another fox"]


# -- views --------------------------------------------------------------------------------------------


@pytest.mark.f30
async def test_a_view_tells_where_each_job_stands_and_what_is_left(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.default_plan = FOREVER
        first = await core.order("one", member=BEN)
        await core.reached(first, JobStatus.RUNNING)
        job = await core.order("two")
        other = await core.order("three")
        assert core.service.queue_lengths() == {"krea": 2, "pixazo": 0}
        assert core.service.slots_in_use() == {"krea": 1, "pixazo": 0}
        assert core.service.open_breakers() == {"krea": 0, "pixazo": 0}
        for waiting, position in ((job, 1), (other, 2)):
            view = await core.service.view(waiting.reply_id)
            assert view is not None
            assert view.jobs[0].queue_position == position
            assert view.jobs[0].model_label == "Flux 1 Dev"
            assert view.spendable.balance.set_aside_usd_micros == 2 * PRICE
        assert (await core.ask("four", member=BEN)).jobs[0].queue_position == 2


@pytest.mark.f27
async def test_progress_and_previews_are_shown_as_the_provider_tells_them(core: Core):
    core.sandbox.default_plan = FOREVER
    job = await core.reached(await core.order("a fox"), JobStatus.RUNNING)
    remote = core.sandbox.jobs[job.remote_id or ""]

    async def shown() -> tuple[Progress | None, str | None]:
        view = await core.service.view(job.reply_id)
        assert view is not None
        return view.jobs[0].progress, view.jobs[0].preview_url

    told_before = 0
    for word, look in (
        ("scheduled", (Progress.WAITING, None)),
        ("sampling", (Progress.SAMPLING, None)),
        ("intermediate-complete", (Progress.PREVIEW, remote.preview_url)),
        ("processing", (Progress.PROCESSING, None)),
    ):
        remote.word = word
        await until(lambda look=look: _equal(shown, look), what=lambda word=word: word)
        await until(lambda told=told_before: core.presenter.changed.count(job.reply_id) > told)
        told_before = core.presenter.changed.count(job.reply_id)
    assert (await core.now(job)).status is JobStatus.RUNNING, "a preview is never final"


async def _equal(look: Callable[[], Awaitable[object]], wanted: object) -> bool:
    return await look() == wanted


async def test_after_a_first_image_the_end_of_the_next_is_expected(core: Core):
    await core.ended(await core.order("a fox"))
    core.sandbox.default_plan = FOREVER
    job = await core.reached(await core.order("another fox"), JobStatus.RUNNING)
    view = await core.service.view(job.reply_id)
    assert view is not None
    assert view.jobs[0].expected_at is not None
    assert job.submitted_at is not None
    assert view.jobs[0].expected_at > job.submitted_at


async def test_an_unknown_reply_has_no_view(core: Core):
    assert await core.service.view("none") is None


async def test_models_and_providers_are_known_by_name(tmp_path: Path):
    async with a_core(tmp_path, without=frozenset({"pixazo"})) as core:
        assert core.service.providers == {"krea"}
        assert core.service.model_label(FLUX) == "Flux 1 Dev"
        assert core.service.model_label("krea/gone/long-ago") == "krea/gone/long-ago"


# -- a full disk at admission --------------------------------------------------------------------------


@pytest.mark.f16
async def test_nothing_is_bought_while_the_database_cannot_be_written_and_orders_work_when_it_can(core: Core):
    core.disk.fill("admit")
    with pytest.raises(StoreError):
        await core.ask("a fox")
    assert core.sent == []
    assert await core.money() == (0, 0, 0)
    core.disk.make_room()
    assert (await core.ended(await core.order("a fox"))).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize(("call", "status"), [("accept", JobStatus.SUCCEEDED), ("fail", JobStatus.FAILED)])
async def test_what_discord_did_is_recorded_however_long_the_disk_is_full(core: Core, call: str, status: JobStatus):
    view = await core.ask("a fox")
    core.disk.fill(call, times=3)
    if call == "accept":
        await core.service.accept(view.reply, message_id=99)
    else:
        core.disk.fill("set_delivery", times=3)
        await core.service.abandon(view.reply)
    assert core.disk.refused.count(call) == 3
    assert (await core.ended(view.reply.jobs[0])).status is status


# -- a provider that cannot be used -------------------------------------------------------------------


@pytest.mark.f29
async def test_jobs_for_a_closed_provider_are_refused_at_once_and_other_providers_go_on(core: Core):
    core.sandbox.next_answers("list", *[Trouble(status=503)] * 1000)
    core.sandbox.next_order(*[Plan(trouble=Trouble(status=500))] * 5)
    for number in range(5):
        await core.order(f"fox {number}")

    async def closed() -> bool:
        try:
            await core.ask("a fox")
        except ProviderPaused:
            return True
        return False

    await until(closed)
    assert core.service.open_breakers() == {"krea": 1, "pixazo": 0}
    before = await core.set_aside()
    with pytest.raises(ProviderPaused):
        await core.ask("a fox")
    assert await core.set_aside() == before
    job = await core.ended(await core.order("a fox", model_id=PIXAZO_LARGE, member=Member(guild_id=2, user_id=7)))
    assert job.status is JobStatus.SUCCEEDED


async def test_input_images_are_uploaded_once_and_named_in_the_order(core: Core):
    image = await core.an_input()
    await core.ended(await core.order("brighter", images=(image,)))
    await core.ended(await core.order("darker", images=(image,), member=ADA))
    uploads = core.sandbox.seen("upload")
    assert len(uploads) == 1
    assert all("/uploads/" in order.body["image_url"] for order in core.sandbox.orders)
    assert image.role is ImageRole.SOURCE


async def test_the_first_queued_jobs_are_shown_their_new_position_when_the_queue_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue_positions, "UPDATE_SECONDS", 0.01)
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(FOREVER)
        running = await core.reached(await core.order(), JobStatus.RUNNING)
        first, second = await core.order("first"), await core.order("second")
        showing = asyncio.create_task(core.parts.queue_positions.run())
        try:
            assert await core.service.cancel(first) is job_service.CancelOutcome.CANCELLED
            await until(lambda: second.reply_id in core.presenter.changed)
            view = await core.service.view(second.reply_id)
            assert view is not None
            assert [job.queue_position for job in view.jobs] == [1]
        finally:
            showing.cancel()
            await core.service.cancel(await core.now(second))
            await core.service.cancel(await core.now(running))


async def test_an_order_that_has_to_be_found_again_frees_its_slot(tmp_path: Path):
    async with a_core(tmp_path, max_concurrency=1) as core:
        core.sandbox.next_order(Plan(trouble=Trouble(how=How.RESET)))
        lost = await core.reached(await core.order(model_id=PIXAZO_LARGE), JobStatus.UNCERTAIN)
        assert (await core.ended(await core.order(model_id=PIXAZO_LARGE))).status is JobStatus.SUCCEEDED
        assert (await core.now(lost)).status is JobStatus.UNCERTAIN


# -- run by one of several processes ----------------------------------------------------------------------------


async def test_a_reply_is_released_also_when_its_worker_stops_while_it_is_read(
    core: Core, monkeypatch: pytest.MonkeyPatch
):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order(), JobStatus.RUNNING)

    async def reply_meanwhile(reply_id: str) -> Reply | None:
        found = await core.store.reply(reply_id)
        core.service.release_all()
        return found

    monkeypatch.setattr(core.disk, "reply", reply_meanwhile, raising=False)
    async with asyncio.timeout(5):
        assert not await core.parts.reply_runner.run(job.reply_id)


async def test_a_wake_while_a_reply_is_read_makes_its_worker_read_it_again(core: Core, monkeypatch: pytest.MonkeyPatch):
    core.sandbox.next_order(Plan(words=(("processing", 0.01),), ending=Ending.NEVER))
    job = await core.reached(await core.order(), JobStatus.RUNNING)
    readings = 0

    async def reply_meanwhile(reply_id: str) -> Reply | None:
        nonlocal readings
        readings += 1
        if readings > 1:
            return None  # it is over
        found = await core.store.reply(reply_id)
        core.service._reply_runner.wake(reply_id)
        return found

    monkeypatch.setattr(core.disk, "reply", reply_meanwhile, raising=False)
    async with asyncio.timeout(5):
        assert await core.parts.reply_runner.run(job.reply_id)


# -- images to be posted ---------------------------------------------------------------------------------------


async def test_images_that_are_too_large_wait_on_disk_until_they_can_be_made_smaller(
    core: Core, monkeypatch: pytest.MonkeyPatch
):
    read, go_on = list[str](), asyncio.Event()
    get, fit = core.images.get, core.service.image_pool.shrink_to

    async def get_noting(sha256: str) -> bytes | None:
        read.append(sha256)
        return await get(sha256)

    async def fit_later(data: bytes, limit_bytes: int, *, requester: Requester) -> ShrunkImage:
        if len(data) > limit_bytes:
            await go_on.wait()
        return await fit(data, limit_bytes, requester=requester)

    monkeypatch.setattr(core.images, "get", get_noting)
    monkeypatch.setattr(core.service.image_pool, "shrink_to", fit_later)
    large = [await kept(core, encode(noise(100, 100 + number), "PNG")) for number in range(4)]
    small = await kept(core, encode(noise(20, 20), "PNG"))
    async with asyncio.TaskGroup() as together:
        waiting = [
            together.create_task(core.service.image_for_upload(image, 20_000, requester=Requester(server_id, 1)))
            for server_id, image in zip((1, 1, 2, 2), large, strict=True)
        ]
        posted = await core.service.image_for_upload(small, 20_000)
        assert posted is not None
        assert not posted.changed
        await until(lambda: len(read) == 3)
        assert set(read) == {large[0].sha256, large[2].sha256, small.sha256}  # one of each server
        go_on.set()
    for each in waiting:
        made = each.result()
        assert made is not None
        assert made.changed
        assert len(made.data) <= 20_000


async def kept(core: Core, data: bytes) -> ResultImage:
    sha256 = await core.images.put(data)
    size = open_image(data).size
    return ResultImage(
        sha256=sha256,
        content_type="image/png",
        width=size[0],
        height=size[1],
        size_bytes=len(data),
        source_url="https://images.example/1.png",
    )
