"""The one message of a command: the newest state wins, and the image arrives whatever Discord does."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sized
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
import stamina
import time_machine
from simcord import interactions
from simcord.results import InteractionResult

from bot.domain.errors import MediaError, StoreError
from bot.domain.jobs import Delivery, FailureReason, Progress
from cogs.generate.delivery import reply_updater
from cogs.text import job_card, refusals
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import encode, exif_with_location, noise, open_image, photo, png_of_zeros
from tests.support.store_samples import operator_cost
from tests.support.transport_double import IN_CHANNEL, ORIGINAL, POSTED, TransportDouble, refused


@pytest.fixture
def transport(stage: Stage) -> TransportDouble:
    return TransportDouble(stage.core.bot)


@pytest.fixture
def _hurried() -> Generator[None]:
    """Remove the pauses between attempts."""
    with stamina.set_testing(True, attempts=30):
        yield


async def delivery(stage: Stage) -> Delivery:
    """Return how the newest reply was delivered, once nothing runs any more."""
    await stage.quiet()
    return await recorded_delivery(stage)


async def recorded_delivery(stage: Stage) -> Delivery:
    job = (await stage.jobs())[0]
    found = await stage.core.store.reply(job.reply_id)
    assert found is not None
    return found.delivery


def editors_kept(stage: Stage) -> Sized:
    presenter: Any = stage.core.service.presenter.current
    return presenter._editors


async def waiting(stage: Stage, **options: Any) -> Card:
    """Order an image and return its card once it shows the job as processing."""
    stage.core.krea.waits = True
    stage.core.krea.deadline_seconds = 7_200
    card = await stage.imagine(**options)
    await stage.until_says(card, "Processing")
    await stage.quiet_editors()
    return card


# -- pace -----------------------------------------------------------------------------------------------


async def test_status_edits_come_at_most_once_a_second_and_stale_ones_never(
    stage: Stage, transport: TransportDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_updater, "EDIT_INTERVAL_SECONDS", 0.4)
    card = await waiting(stage)
    seen: list[str] = []

    async def note(method: str, path: str, files: bool) -> None:
        if path == ORIGINAL:
            seen.append("image" if files else "status")

    transport.on_call = note
    for number in range(30):
        stage.core.krea.goes_on((Progress.PROCESSING, Progress.SAMPLING)[number % 2])
        await asyncio.sleep(0.02)
    await stage.until_says(card, "Sampling")
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    await stage.quiet()
    assert seen[-1] == "image"
    assert seen.count("image") == 1
    assert 1 <= seen.count("status") <= 4


async def test_a_state_that_looks_the_same_is_not_sent_again(stage: Stage, transport: TransportDouble) -> None:
    await waiting(stage)
    before = len(transport.calls)
    for _ in range(3):
        job = (await stage.jobs())[0]
        presenter: Any = stage.core.service.presenter.current
        presenter.reply_changed(job.reply_id)
        await stage.quiet_editors()
    assert len(transport.calls) == before


async def test_a_finished_image_does_not_wait_behind_a_status_edit_that_hangs(
    stage: Stage, transport: TransportDouble
) -> None:
    hanging = asyncio.Event()

    async def hold_status(method: str, path: str, files: bool) -> None:
        if path == ORIGINAL and not files and not hanging.is_set():
            await hanging.wait()

    transport.on_call = hold_status
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until(lambda: transport.count("PATCH", ORIGINAL) == 1)
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    hanging.set()  # the old edit arrives after the image, and is replaced
    await stage.quiet()
    assert "Completed" in card.text
    assert len(card.gallery) == len(card.files) == 1
    assert transport.calls[-1] == ("PATCH", ORIGINAL, False)
    assert await delivery(stage) is Delivery.DELIVERED


@pytest.mark.hostile("G-21")
@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("trouble", [refused(400, 99_999), refused(403), refused(503)], ids=repr)
async def test_a_status_edit_that_came_late_is_replaced_whatever_discord_answers(
    stage: Stage, transport: TransportDouble, trouble: Exception
) -> None:
    hanging, troubles = asyncio.Event(), [trouble] * 8

    async def hold_status(method: str, path: str, files: bool) -> None:
        if path == ORIGINAL and not files:
            if not hanging.is_set():
                await hanging.wait()
            elif troubles:
                raise troubles.pop()

    transport.on_call = hold_status
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until(lambda: transport.count("PATCH", ORIGINAL) == 1)
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    hanging.set()
    assert await delivery(stage) is Delivery.DELIVERED
    assert troubles == []
    assert "Completed" in card.text
    assert len(card.gallery) == 1


async def test_a_status_edit_that_fails_costs_nothing_but_itself(stage: Stage, transport: TransportDouble) -> None:
    async def break_status(method: str, path: str, files: bool) -> None:
        if path == ORIGINAL and not files:
            raise refused(500)

    transport.on_call = break_status
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until(lambda: transport.count("PATCH", ORIGINAL))
    assert "Queued" in card.text
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")


@pytest.mark.hostile("G-21")
async def test_a_state_that_discord_did_not_take_is_shown_later_although_nothing_changes(
    stage: Stage, transport: TransportDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_updater, "FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(reply_updater, "MAX_RETRY_SECONDS", 0.05)
    troubles: list[Exception] = [refused(403), refused(502), TypeError("200 with HTML"), refused(429)]

    async def break_status(method: str, path: str, files: bool) -> None:
        if path == ORIGINAL and troubles:
            raise troubles.pop(0)

    transport.on_call = break_status
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    assert troubles == []
    await stage.quiet_editors()
    edits = transport.count("PATCH", ORIGINAL)
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    assert transport.count("PATCH", ORIGINAL) >= edits


# -- an unwilling Discord ------------------------------------------------------------------------------


PASSING = [refused(500), refused(502), refused(503), refused(429), aiohttp.ServerDisconnectedError(), TimeoutError()]


@pytest.mark.f47
@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("trouble", PASSING, ids=repr)
@pytest.mark.f47
async def test_the_image_is_offered_until_discord_takes_it(
    stage: Stage, transport: TransportDouble, trouble: Exception
) -> None:
    troubles = [trouble] * 4

    async def refuse_at_first(method: str, path: str, files: bool) -> None:
        if files and troubles:
            raise troubles.pop()

    transport.on_call = refuse_at_first
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    assert len(card.files) == 1
    assert len(stage.cards()) == 1
    assert await delivery(stage) is Delivery.DELIVERED
    assert len(stage.core.krea.orders) == 1


@pytest.mark.usefixtures("_hurried")
async def test_what_discord_does_not_take_for_a_day_is_given_up_and_stays_paid(
    stage: Stage, transport: TransportDouble
) -> None:
    async def refuse(method: str, path: str, files: bool) -> None:
        if files:
            raise refused(503)

    transport.on_call = refuse
    await stage.imagine()
    assert await delivery(stage) is Delivery.IMPOSSIBLE
    assert sum(call[2] for call in transport.calls) == 90, "each of three ways is tried for a day"
    assert (await stage.balance()).spent_usd_micros == 80_000
    assert await stage.core.store.sha256_in_use()


@pytest.mark.f46
@pytest.mark.hostile("G-28")
async def test_the_image_of_a_message_that_was_deleted_goes_to_its_owner_and_not_to_the_channel(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)
    stage.env.backend.delete_message(stage.channel.id, card.message.id)
    stage.core.krea.finishes()
    assert await delivery(stage) is Delivery.DELIVERED
    assert stage.cards() == []
    (message,) = stage.cards(stage.ada.user.dm_channel)
    assert len(message.files) == 1
    assert (await stage.balance()).spent_usd_micros == 80_000


@pytest.mark.parametrize("by_operator", [True, False])
async def test_the_image_of_a_model_for_age_restricted_channels_does_not_go_to_direct_messages(
    stage: Stage, transport: TransportDouble, by_operator: bool
) -> None:
    card = await waiting(stage)
    if by_operator:
        catalogue = stage.core.service.catalogue
        restricted = [replace(each, age_restricted=True) for each in catalogue.all_models]
        stage.core.service.catalogue.replace(restricted)
    else:
        await stage.settings("age-restricted", action="add", model="krea/google/*")
    stage.env.backend.delete_message(stage.channel.id, card.message.id)
    stage.core.krea.finishes()
    assert await delivery(stage) is Delivery.DELIVERED
    (message,) = stage.cards(stage.ada.user.dm_channel)
    assert message.files == []
    assert job_card.IN_HISTORY(1) in message.text


async def test_a_prompt_that_automod_blocks_is_left_out_and_the_image_shown(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage, prompt="a naughty fox")
    blocked = [refused(400, 200000)]

    async def block_once(method: str, path: str, files: bool) -> None:
        if files and blocked:
            raise blocked.pop()

    transport.on_call = block_once
    stage.core.krea.finishes()
    text = await stage.until_says(card, "Completed", job_card.PROMPT_HIDDEN())
    assert "naughty" not in text
    assert len(card.files) == 1


async def test_of_images_that_automod_blocks_in_any_form_the_card_says_where_they_are(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)

    async def block(method: str, path: str, files: bool) -> None:
        if files:
            raise refused(400, 200000)

    transport.on_call = block
    stage.core.krea.finishes()
    await stage.until_says(card, job_card.IN_HISTORY(1))
    assert await delivery(stage) is Delivery.DELIVERED
    assert sum(call[2] for call in transport.calls) == 4


# -- size -------------------------------------------------------------------------------------------------


@pytest.mark.f48
async def test_an_image_over_the_file_limit_is_shown_smaller_with_a_link_to_the_original(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = interactions.base_payload

    def with_a_low_limit(*args: Any, **more: Any) -> Any:
        record, payload = build(*args, **more)
        return record, payload | {"attachment_size_limit": 100_000}

    monkeypatch.setattr(interactions, "base_payload", with_a_low_limit)
    card = await waiting(stage)
    original = encode(noise(400, 300), "PNG")
    assert len(original) > 300_000
    url = stage.core.server.keep("large.png", original)
    stage.core.krea.finishes(url)
    text = await stage.until_says(card, "Completed", "Shown smaller than it was made")
    assert f"[{job_card.ORIGINAL()}]({url})" in text
    assert len(card.file()) <= 100_000
    assert card.files[0]["filename"].endswith((".webp", ".jpg"))


@pytest.mark.f48
async def test_an_image_too_large_to_be_made_smaller_is_charged_and_linked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = interactions.base_payload

    def with_a_low_limit(*args: Any, **more: Any) -> Any:
        record, payload = build(*args, **more)
        return record, payload | {"attachment_size_limit": 5000}

    monkeypatch.setattr(interactions, "base_payload", with_a_low_limit)
    card = await waiting(stage)
    url = stage.core.server.keep("huge.png", png_of_zeros(8000, 8000))
    stage.core.krea.finishes(url)
    text = await stage.until_says(card, "Completed")
    assert f"Too large to be shown here. [{job_card.ORIGINAL()}]({url})" in text
    assert "cost **$0.08**" in text
    assert not card.files
    assert await delivery(stage) is Delivery.DELIVERED
    page = stage.said(await stage.ada.slash(stage.channel, "history"))
    assert f"Too large to be shown here. [{job_card.ORIGINAL()}]({url})" in page.text


@pytest.mark.hostile("G-45")
async def test_an_image_that_fits_is_posted_bit_for_bit_with_its_metadata(stage: Stage) -> None:
    card = await waiting(stage)
    lying = encode(photo(96, 64), "JPEG", exif=exif_with_location(orientation=6))
    stage.core.krea.finishes(stage.core.server.keep("lying.jpg", lying))
    text = await stage.until_says(card, "Completed")
    assert card.file() == lying
    assert "smaller" not in text


@pytest.mark.f48
async def test_an_image_that_discord_finds_too_large_is_made_smaller_until_it_fits(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)
    responses = [refused(413), refused(400, 40005)]

    async def refuse_twice(method: str, path: str, files: bool) -> None:
        if files and responses:
            raise responses.pop()

    transport.on_call = refuse_twice
    original = encode(noise(500, 400), "PNG")
    stage.core.krea.finishes(stage.core.server.keep("large.png", original))
    await stage.until_says(card, "Completed", "Shown smaller")
    assert len(card.file()) <= len(original) // 4
    assert open_image(card.file()).size[0] <= 500


async def test_of_an_image_that_discord_finds_too_large_in_every_size_the_card_says_where_it_is(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)

    async def refuse(method: str, path: str, files: bool) -> None:
        if files:
            raise refused(413)

    transport.on_call = refuse
    stage.core.krea.finishes(stage.core.server.keep("large.png", encode(noise(500, 400), "PNG")))
    await stage.until_says(card, job_card.IN_HISTORY(1))
    assert await delivery(stage) is Delivery.DELIVERED
    assert 2 <= sum(call[2] for call in transport.calls) <= 8


@pytest.mark.usefixtures("_hurried")
@pytest.mark.parametrize("trouble", [StoreError("the disk"), MediaError("no worker", transient=True)])
async def test_an_image_that_cannot_be_had_at_once_is_shown_when_it_can(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    images, refused = stage.core.service.blob_store, list[str]()
    get = images.get

    async def slowly(sha256: str) -> bytes | None:
        if len(refused) < 3:
            refused.append(sha256)
            raise trouble
        return await get(sha256)

    monkeypatch.setattr(images, "get", slowly)
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    assert len(card.gallery) == 1
    assert await delivery(stage) is Delivery.DELIVERED
    assert not editors_kept(stage)


async def test_an_editor_that_met_a_defect_is_not_kept(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(reply_id: str) -> None:
        raise KeyError(reply_id)

    monkeypatch.setattr(stage.core.service, "view", broken)
    await stage.imagine()
    await stage.quiet()
    assert not editors_kept(stage)


async def test_what_is_kept_for_replies_that_other_processes_may_finish_is_bounded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_updater, "MAX_IDLE_EDITORS", 1, raising=False)
    cards = [await waiting(stage), await waiting(stage), await waiting(stage)]
    assert len(editors_kept(stage)) == 1
    for number, card in enumerate(cards):
        stage.core.krea.finishes(number=number)
        await stage.until_says(card, "Completed")
    await stage.quiet()
    assert not editors_kept(stage)


# -- when the token has died --------------------------------------------------------------------------------


@pytest.mark.f45
async def test_after_thirteen_minutes_the_message_is_edited_as_the_bot(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)
    before = transport.count("PATCH", ORIGINAL)
    with time_machine.travel(stage.env.now() + timedelta(minutes=14)):
        stage.core.krea.goes_on(Progress.SAMPLING)
        await stage.until_says(card, "Sampling")
        stage.core.krea.finishes()
        await stage.until_says(card, "Completed")
        assert await delivery(stage) is Delivery.DELIVERED
    assert transport.count("PATCH", ORIGINAL) == before
    assert transport.count("PATCH", IN_CHANNEL) == 2
    assert len(card.files) == 1
    assert len(stage.cards()) == 1


@pytest.mark.f45
async def test_a_token_that_died_early_is_noticed_and_the_message_edited_as_the_bot(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage)
    stage.env.backend.clock.elapsed += 16 * 60  # Discord's clock, not ours
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    assert await delivery(stage) is Delivery.DELIVERED
    assert transport.count("PATCH", IN_CHANNEL) == 1
    assert len(stage.cards()) == 1


@pytest.mark.f45
async def test_a_failure_told_by_direct_message_is_not_called_an_image(stage: Stage) -> None:
    await waiting(stage, private=True)
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.fails(FailureReason.MODERATED)
        assert await delivery(stage) is Delivery.DELIVERED
        (message,) = stage.cards(stage.ada.user.dm_channel)
    assert f"{stage.ada.mention} your order has ended." in message.text


@pytest.mark.f45
async def test_a_private_image_goes_to_its_owner_alone_when_the_token_has_died(
    stage: Stage, transport: TransportDouble
) -> None:
    card = await waiting(stage, private=True)
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.goes_on(Progress.SAMPLING)
        stage.core.krea.finishes()
        assert await delivery(stage) is Delivery.DELIVERED
        (message,) = stage.cards(stage.ada.user.dm_channel)
    assert f"{stage.ada.mention} your image is ready." in message.text
    assert "Completed" in message.text
    assert len(message.files) == 1
    assert stage.cards() == []
    assert transport.count("PATCH", IN_CHANNEL) == 0
    assert "Processing" in card.text
    (body,) = [body for path, body in stage.outgoing() if path.startswith("/channels/")]
    assert body["allowed_mentions"]["users"] == [stage.ada.id]


@pytest.mark.f46
@pytest.mark.parametrize("code", [50001, 50013])
async def test_an_image_that_cannot_be_shown_in_its_channel_any_more_goes_to_its_owner(
    stage: Stage, transport: TransportDouble, code: int
) -> None:
    await waiting(stage)

    async def locked_out(method: str, path: str, files: bool) -> None:
        if path == IN_CHANNEL:
            raise refused(403, code)

    transport.on_call = locked_out
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.finishes()
        assert await delivery(stage) is Delivery.DELIVERED
        (message,) = stage.cards(stage.ada.user.dm_channel)
    assert len(message.files) == 1


async def test_buttons_of_an_image_that_moved_are_answered_where_it_is_now(stage: Stage) -> None:
    await waiting(stage, private=True, prompt="a red fox")
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.finishes()
        await stage.quiet()
        (message,) = stage.cards(stage.ada.user.dm_channel)

        async def press(label: str) -> InteractionResult:
            custom_id = next(value for name, value in message.buttons.items() if name.startswith(label))
            return await stage.ada.user.click(message.message, custom_id=custom_id)

        assert "/imagine prompt: a red fox" in stage.said(await press("Recipe")).text
        for label in ("Again", "Edit"):  # what is ordered is ordered in a server
            assert stage.said(await press(label)).text == refusals.SERVER_ONLY()
        question = stage.said(await press("Delete"))
        await stage.ada.user.click(question.message, custom_id=question.buttons["Delete"])
        assert not message.is_there


@pytest.mark.hostile("G-12")
@pytest.mark.parametrize("private", [False, True])
async def test_an_image_that_comes_after_its_card_has_failed_is_shown_free(stage: Stage, *, private: bool) -> None:
    card = await waiting(stage, private=private)
    stage.core.krea.late_seconds = 7_200
    with time_machine.travel(stage.env.now() + timedelta(hours=3)):
        await stage.until(lambda: stage.cards(stage.ada.user.dm_channel) or not private)
        shown = stage.cards(stage.ada.user.dm_channel)[0] if private else card
        await stage.until_says(shown, job_card.FAILURES[FailureReason.TIMED_OUT]())
        await stage.quiet_editors()  # not `quiet`: the job runs on, to look for its image
        assert await recorded_delivery(stage) is Delivery.DELIVERED
        stage.core.krea.finishes()
        text = await stage.until_says(shown, "Completed", job_card.CAME_LATE(1))
        assert "cost **$0.00**" in text
        assert len(shown.files) == 1
        await stage.quiet()
        assert len(stage.cards(stage.ada.user.dm_channel if private else None)) == 1
        assert await operator_cost(stage.core.store) == 80_000
        assert (await stage.balance()).spent_usd_micros == 0


@pytest.mark.f46
async def test_a_member_who_takes_no_direct_messages_loses_only_the_message(
    stage: Stage, transport: TransportDouble
) -> None:
    await waiting(stage, private=True)

    async def closed(method: str, path: str, files: bool) -> None:
        if path == POSTED:
            raise refused(403, 50007)

    transport.on_call = closed
    with time_machine.travel(stage.env.now() + timedelta(minutes=16)):
        stage.core.krea.finishes()
        assert await delivery(stage) is Delivery.IMPOSSIBLE
    assert await stage.core.store.sha256_in_use()


# -- restarts -----------------------------------------------------------------------------------------------


async def test_an_image_that_was_not_shown_before_the_restart_is_shown_after_it(
    stage: Stage, transport: TransportDouble
) -> None:
    async def dead(method: str, path: str, files: bool) -> None:
        if files:
            await asyncio.Event().wait()

    before, transport.on_call = transport.on_call, dead
    card = await stage.imagine()
    await stage.until(lambda: any(call[2] for call in transport.calls))
    transport.on_call = before
    await stage.restart()
    await stage.until_says(card, "Completed")
    assert len(card.files) == 1
    assert len(stage.cards()) == 1
    assert len(stage.core.krea.orders) == 1


@pytest.mark.parametrize("minutes", [0, 14])
async def test_a_card_that_discord_showed_before_a_crash_is_found_again_and_its_job_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    async def crash(*args: Any, **more: Any) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(stage.core.service, "accept", crash)
        await stage.channel_chatter(3)
        card = await stage.imagine()
    with time_machine.travel(stage.env.now() + timedelta(minutes=minutes)):
        await stage.restart()
        await stage.until_says(card, "Completed")
    assert len(stage.cards()) == 1
    assert (await stage.balance()).spent_usd_micros == 80_000


@pytest.mark.f44
@pytest.mark.parametrize(("minutes", "private"), [(0, False), (14, False), (14, True)])
async def test_a_card_that_discord_never_showed_before_a_crash_is_given_up_and_costs_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, minutes: int, private: bool
) -> None:
    async def crash(*args: Any, **more: Any) -> None:
        return

    # Discord takes neither the card nor, later, the refusal: the interaction is unknown to it.
    stage.env.inject_error("POST", "/interactions/*/callback", status=404, code=10062, times=2)
    with monkeypatch.context() as patch:
        patch.setattr(stage.core.service, "abandon", crash)
        await stage.ada.slash(stage.channel, "imagine", prompt="a red fox", private=private)
    assert (await stage.balance()).set_aside_usd_micros == 80_000
    with time_machine.travel(stage.env.now() + timedelta(minutes=minutes)):
        await stage.restart()
        await stage.quiet()
    (job,) = await stage.jobs()
    assert job.failure is not None
    assert job.failure.reason is FailureReason.NOT_SHOWN
    assert stage.core.krea.orders == []
    assert stage.cards() == []
    assert (await stage.balance()).available_usd_micros == 1_000_000


@pytest.mark.usefixtures("_hurried")
async def test_while_discord_cannot_be_asked_a_card_is_neither_given_up_nor_bought(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(*args: Any, **more: Any) -> None:
        return

    with monkeypatch.context() as patch:
        patch.setattr(stage.core.service, "accept", crash)
        card = await stage.imagine()
    stage.env.inject_error("GET", "/webhooks/*/messages/@original", status=503, times=5)
    await stage.restart()
    await stage.until_says(card, "Completed")
    assert len(stage.core.krea.orders) == 1


# -- lost images ----------------------------------------------------------------------------------------


async def test_an_image_lost_before_it_was_shown_is_given_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(sha256: str) -> None:
        stage.core.server.results.clear()

    monkeypatch.setattr(stage.core.service.blob_store, "get", lost)
    card = await stage.imagine()
    await stage.until_says(card, job_card.FAILURES[FailureReason.IMAGE_LOST](), "not charged")
    assert await delivery(stage) is Delivery.DELIVERED
    [job] = await stage.jobs()
    assert (job.charged_usd_micros, job.images) == (None, ())
    assert await operator_cost(stage.core.store) == job.reserved_usd_micros
