"""Buttons: who may press them, what they do, and when they stop working."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bot.catalogue.catalogue import Catalogue
from bot.domain.errors import OutcomeUncertain
from bot.domain.jobs import FailureReason, JobStatus, new_id
from cogs.text import job_card, refusals
from tests.support.catalogue_samples import CATALOGUE, FLUX, KREA_LARGE, PIXAZO_LARGE, overridden
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image, open_image

PNG = image("PNG")


async def completed(stage: Stage, **options: Any) -> Card:
    card = await stage.imagine(**options)
    await stage.until_says(card, "Completed")
    return card


def forge(card: Card, custom_id: str) -> None:
    """Replace the custom id of a button by one that the bot never made, as a modified client could."""
    button = next(part for part in card.components if part["type"] == 2)
    stored = card.stored
    _replace(stored.components, button["custom_id"], custom_id)


def _replace(parts: Any, old: str, new: str) -> None:
    for part in parts:
        if part.get("custom_id") == old:
            part["custom_id"] = new
        _replace(part.get("components", []), old, new)


# -- who may press ----------------------------------------------------------------------------------------

LABELS = ["Again", "Edit", "Vary", "Delete"]


@pytest.mark.f53
@pytest.mark.parametrize("label", LABELS)
async def test_a_stranger_is_told_privately_that_the_button_is_not_theirs(stage: Stage, label: str) -> None:
    card = await completed(stage, model=FLUX)
    result = await stage.press(stage.bob, card, label)
    assert result.modal is None
    assert stage.said(result).text == job_card.NOT_YOURS()
    assert stage.said(result).private
    assert card.is_there
    assert len(stage.core.krea.orders) == 1


@pytest.mark.f53
async def test_a_stranger_cannot_cancel(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until(lambda: stage.core.krea.accepted)
    assert stage.said(await stage.press(stage.bob, card, "Cancel")).text == job_card.NOT_YOURS()
    assert stage.core.krea.cancelled == []


async def test_a_moderator_may_press_any_button_and_pays_for_what_they_order(stage: Stage) -> None:
    card = await completed(stage)
    again = stage.said(await stage.press(stage.mo, card, "Again"))
    await stage.until_says(again, "Completed")
    assert (await stage.balance(stage.ada)).spent_usd_micros == 80_000
    assert (await stage.balance(stage.mo)).spent_usd_micros == 80_000
    await stage.press(stage.mo, stage.said(await stage.press(stage.mo, card, "Delete")), "Delete")
    assert not card.is_there


@pytest.mark.f53
async def test_a_former_moderator_may_not_use_the_buttons_of_others(stage: Stage) -> None:
    card = await completed(stage)
    stage.env.backend.get_guild(stage.guild.id).members[stage.mo.id].role_ids.clear()
    assert stage.said(await stage.press(stage.mo, card, "Delete")).text == job_card.NOT_YOURS()
    assert card.is_there


@pytest.mark.parametrize(
    "custom_id",
    [
        pytest.param(f"job:delete:{new_id()}", id="unknown job"),
        pytest.param(f"job:again:{'0' * 24}", id="no job"),
        pytest.param(f"job:cancel:{'f' * 24}", id="another job"),
    ],
)
async def test_a_button_for_an_unknown_job_says_so(stage: Stage, custom_id: str) -> None:
    card = await completed(stage)
    forge(stage.cards()[0], custom_id)
    result = await stage.ada.click(card.message, custom_id=custom_id)
    assert stage.said(result).text == job_card.JOB_GONE()
    assert stage.said(result).private
    assert card.is_there


async def test_a_button_with_an_unknown_action_says_so(stage: Stage) -> None:
    card = await completed(stage)
    custom_id = f"job:steal:{(await stage.jobs())[0].id}"
    forge(stage.cards()[0], custom_id)
    assert stage.said(await stage.ada.click(card.message, custom_id=custom_id)).text == job_card.JOB_GONE()


@pytest.mark.parametrize("custom_id", ["job:delete:1 OR 1=1", "job::", "job:again:" + "A" * 24, "vote:1"])
async def test_what_is_no_button_of_ours_is_left_alone(stage: Stage, custom_id: str) -> None:
    card = await completed(stage)
    forge(stage.cards()[0], custom_id)
    result = await stage.ada.click(card.message, custom_id=custom_id)
    assert not result.acknowledged
    assert card.is_there


@pytest.mark.f52
async def test_a_job_of_another_server_cannot_be_touched_from_here(stage: Stage) -> None:
    eve, channel = stage.elsewhere()
    foreign = await completed(stage)
    own = Card(stage.env, stage.said(await eve.slash(channel, "imagine", prompt="a red fox")).message)
    await stage.until_says(own, "Completed")
    for action in ("delete", "again", "recipe", "edit", "cancel"):
        custom_id = f"job:{action}:{foreign.buttons['Delete'].split(':')[2]}"
        forge(stage.cards(channel)[0], custom_id)
        result = await eve.click(own.message, custom_id=custom_id)
        assert stage.said(result).text == job_card.JOB_GONE()
        forge(stage.cards(channel)[0], custom_id)
    assert foreign.is_there
    assert len(stage.core.krea.orders) == 2


# -- cancel -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1])
async def test_a_waiting_job_is_cancelled_at_once_and_leaves_the_line(stage: Stage) -> None:
    stage.core.krea.waits = True
    first = await stage.imagine()
    await stage.until_says(first, "Processing")
    second, third = await stage.imagine(stage.bob), await stage.imagine(stage.mo)
    result = await stage.press(stage.bob, second, "Cancel")
    assert stage.said(result).text == job_card.CANCEL_DONE()
    assert stage.said(result).private
    await stage.until_says(second, "🚫 Cancelled", "**not charged** ($0.08) · $1.00 left")
    assert list(second.buttons) == ["Again · $0.08"]
    stage.core.krea.finishes(number=0)
    await stage.until_says(third, "Processing")
    assert len(stage.core.krea.orders) == 2
    assert (await stage.balance(stage.bob)).available_usd_micros == 1_000_000


@pytest.mark.f31
async def test_a_running_job_is_cancelled_through_the_provider(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_ASKED()
    await stage.until_says(card, "Cancelled", "not charged")
    assert (await stage.balance()).available_usd_micros == 1_000_000


async def test_a_job_that_is_just_being_sent_is_cancelled_as_soon_as_it_is_known(stage: Stage) -> None:
    stage.core.krea.waits = True
    stage.core.krea.door.clear()
    card = await stage.imagine()
    await stage.until(lambda: stage.core.krea.orders)
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_ASKED()
    stage.core.krea.door.set()
    await stage.until_says(card, "Cancelled", "not charged")


@pytest.mark.f31
async def test_when_the_provider_does_not_agree_it_is_too_late(stage: Stage) -> None:
    stage.core.krea.waits = True
    stage.core.krea.agrees_to_cancel = False
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_TOO_LATE()
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")


async def test_a_provider_that_cannot_cancel_is_named_honestly(stage: Stage) -> None:
    stage.core.pixazo.waits = True
    card = await stage.imagine(model=PIXAZO_LARGE)
    await stage.until_says(card, "Processing")
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_NOT_POSSIBLE()
    stage.core.pixazo.finishes()
    await stage.until_says(card, "Completed")


@pytest.mark.f31
async def test_a_job_that_finished_meanwhile_is_too_late_to_cancel(stage: Stage) -> None:
    card = await completed(stage)
    custom_id = f"job:cancel:{(await stage.jobs())[0].id}"
    forge(stage.cards()[0], custom_id)
    assert stage.said(await stage.ada.click(card.message, custom_id=custom_id)).text == job_card.CANCEL_TOO_LATE()
    assert (await stage.balance()).spent_usd_micros == 80_000


async def test_a_lost_order_is_not_said_to_be_cancelled(stage: Stage) -> None:
    stage.core.krea.troubles.append(OutcomeUncertain("lost"))
    card = await stage.imagine()
    await stage.until_says(card, "Checking")
    custom_id = f"job:cancel:{(await stage.jobs())[0].id}"
    result = await _old_button(stage, custom_id)
    assert stage.said(result).text != job_card.CANCEL_DONE()
    assert (await stage.balance()).set_aside_usd_micros == 80_000


async def _old_button(stage: Stage, custom_id: str) -> Any:
    """Press a button that the card no longer has, as a client with an outdated view can."""
    card = await completed(stage)
    forge(Card(stage.env, stage.cards()[-1].message), custom_id)
    return await stage.ada.click(card.message, custom_id=custom_id)


async def test_all_images_of_a_command_are_cancelled_together(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(count=3)
    await stage.until(lambda: stage.core.krea.accepted == 3)
    stage.core.krea.finishes(number=1)
    await stage.until_says(card, "1 of 3 done")
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_ASKED()
    text = await stage.until_says(card, "Completed · 1 of 3 done", "2 of 3 cancelled, not charged")
    assert "cost **$0.08**" in text
    assert (await stage.balance()).spent_usd_micros == 80_000


# -- again, vary, edit, recipe, delete ----------------------------------------------------------------------------


async def test_again_places_the_same_order_at_the_price_on_the_button(stage: Stage) -> None:
    options = {"model": KREA_LARGE, "aspect_ratio": "16:9", "creativity": "raw", "seed": 5, "prompt": "a fox"}
    card = await completed(stage, **options)
    again = stage.said(await stage.press(stage.ada, card, "Again · $0.06"))
    await stage.until_says(again, "Completed")
    first, second = (order.body for order in stage.core.krea.orders)
    assert first == second
    assert len(stage.cards()) == 2


async def test_vary_changes_only_the_seed(stage: Stage) -> None:
    card = await completed(stage, model=FLUX, seed=5, prompt="a fox")
    varied = stage.said(await stage.press(stage.ada, card, "Vary · $0.007"))
    await stage.until_says(varied, "Completed")
    first, second = (dict(order.body) for order in stage.core.krea.orders)
    assert first.pop("seed") == 5
    assert second.pop("seed") != 5
    assert first == second


async def test_a_model_without_a_seed_offers_to_vary_as_well(stage: Stage) -> None:
    card = await completed(stage, prompt="a fox")
    assert list(card.buttons) == ["Again · $0.08", "Vary · $0.08", "Edit", "Remix", "Recipe", "Share", "Delete"]
    varied = stage.said(await stage.press(stage.ada, card, "Vary"))
    await stage.until_says(varied, "Completed")
    first, second = (order.body for order in stage.core.krea.orders)
    assert first == second


async def test_again_keeps_number_images_and_privacy(stage: Stage) -> None:
    card = await stage.edit(image=("fox.png", PNG), private=True)
    await stage.until_says(card, "Completed")
    again = stage.said(await stage.press(stage.ada, card, "Again"))
    assert again.private
    await stage.until_says(again, "Completed", "1 image given")
    assert len(stage.core.krea.uploads) == 1
    several = await completed(stage, count=2, model=FLUX)
    again = stage.said(await stage.press(stage.ada, several, "Again · $0.014"))
    await stage.until_says(again, "2 of 2 done")


@pytest.mark.parametrize("label", ["Again", "Vary"])
async def test_what_became_dearer_asks_again_with_the_new_price(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, label: str
) -> None:
    card = await completed(stage, model=FLUX, count=2)
    dearer = overridden({"prices": {FLUX: "0.25"}}, tmp_path=tmp_path)
    monkeypatch.setattr(stage.core.service, "catalogue", dearer)
    question = stage.said(await stage.press(stage.ada, card, f"{label} · $0.014"))
    assert question.private
    assert question.text == job_card.DEARER()
    assert list(question.buttons) == [f"{label} · $0.50"]
    await stage.quiet()
    assert len(stage.core.krea.orders) == 2
    again = stage.said(await stage.press(stage.ada, question, label))
    await stage.until_says(again, "2 of 2 done", "cost **$0.50**")


async def test_what_became_cheaper_is_ordered_at_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = await completed(stage, model=FLUX)
    monkeypatch.setattr(stage.core.service, "catalogue", overridden({"prices": {FLUX: "0.001"}}, tmp_path=tmp_path))
    again = stage.said(await stage.press(stage.ada, card, "Again · $0.007"))
    await stage.until_says(again, "Completed", "cost **$0.001**")


async def test_what_is_no_longer_to_be_had_says_so_instead_of_asking(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = await completed(stage, model=FLUX)
    retired = Catalogue(replace(model, retired=model.id == FLUX) for model in CATALOGUE.models)
    monkeypatch.setattr(stage.core.service, "catalogue", retired)
    refusal = stage.said(await stage.press(stage.ada, card, "Again"))
    assert refusal.private
    assert "`Flux 1 Dev` has been retired" in refusal.text


async def test_a_forged_price_asks_again(stage: Stage) -> None:
    card = await completed(stage, model=FLUX)
    for forged in (f"job:again:{(await stage.jobs())[0].id}", f"job:again:{(await stage.jobs())[0].id}:1"):
        forge(card, forged)
        assert stage.said(await stage.ada.click(card.message, custom_id=forged)).text == job_card.DEARER()
    await stage.quiet()
    assert len(stage.core.krea.orders) == 1


async def test_again_is_refused_when_the_quota_is_used_up(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.10")
    card = await completed(stage)
    refusal = stage.said(await stage.press(stage.ada, card, "Again"))
    assert refusal.private
    assert "This costs $0.08 and you have $0.02 left" in refusal.text
    assert card.title.startswith("✅ Completed")


@pytest.mark.parametrize("reason", [FailureReason.PROVIDER_FAILED, FailureReason.MODERATED])
async def test_a_failed_job_can_be_tried_again(stage: Stage, reason: FailureReason) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until(lambda: stage.core.krea.accepted)
    stage.core.krea.fails(reason)
    await stage.until_says(card, "Failed")
    stage.core.krea.waits = False
    again = stage.said(await stage.press(stage.ada, card, "Again · $0.08"))
    await stage.until_says(again, "Completed")


async def test_edit_asks_what_to_change_and_works_on_the_image_of_the_card(stage: Stage) -> None:
    card = await completed(stage, prompt="a fox")
    shown = await stage.press(stage.ada, card, "Edit")
    second = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night"}))
    await stage.until_says(second, "Completed", "at night", "1 image given")
    assert open_image(stage.core.krea.uploads[0]).size == open_image(card.file()).size
    assert card.title.startswith("✅ Completed")


async def test_edit_of_a_card_made_by_a_model_that_cannot_edit_uses_the_default_model(stage: Stage) -> None:
    card = await completed(stage, model="krea/bfl/flux-1.1-pro")
    shown = await stage.press(stage.ada, card, "Edit")
    second = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night"}))
    await stage.until_says(second, "Completed", "Nano Banana 2")


async def test_edit_of_a_card_whose_image_was_removed_says_so(stage: Stage) -> None:
    card = await completed(stage)
    card.stored.attachments.clear()
    (container,) = card.stored.components
    container["components"] = [part for part in container["components"] if part["type"] != 12]
    result = await stage.press(stage.ada, card, "Edit")
    assert stage.said(result).text == job_card.NO_PICTURE_IN_MESSAGE()


async def test_the_recipe_is_private_and_holds_all_it_takes(stage: Stage) -> None:
    card = await completed(stage, model=FLUX, aspect_ratio="16:9", prompt="a `red` fox @everyone")
    recipe = stage.said(await stage.press(stage.ada, card, "Recipe"))
    assert recipe.private
    seed = stage.core.krea.orders[0].body["seed"]
    assert f"/imagine prompt: a ˋredˋ fox @everyone model: Flux 1 Dev aspect_ratio: 16:9 seed: {seed}" in recipe.text


async def test_the_recipe_of_several_images_has_a_line_for_each_seed(stage: Stage) -> None:
    card = await completed(stage, model=KREA_LARGE, count=3, seed=7, prompt="word " * 700)
    recipe = stage.said(await stage.press(stage.ada, card, "Recipe"))
    lines = re.findall(r"/imagine prompt: word .*", recipe.text)
    assert [line.rpartition(" seed: ")[2] for line in lines] == ["7", "8", "9"]
    assert len({line.rpartition(" seed: ")[0] for line in lines}) == 1
    assert len(recipe.text) <= 4_000


async def test_a_recipe_that_a_code_block_shortens_or_changes_is_attached_as_a_file(stage: Stage) -> None:
    for prompt in ("word " * 900 + "the end", "a `red` fox"):
        card = await completed(stage, prompt=prompt)
        recipe = stage.said(await stage.press(stage.ada, card, "Recipe"))
        (file,) = recipe.files
        assert file["filename"] == "recipe.txt"
        assert recipe.file().decode().startswith(f"/imagine prompt: {prompt} model: Nano Banana 2 resolution: ")


async def test_a_recipe_that_is_shown_whole_has_no_file(stage: Stage) -> None:
    card = await completed(stage, model=FLUX)
    assert stage.said(await stage.press(stage.ada, card, "Recipe")).files == []


async def test_the_recipe_of_equal_images_is_told_once(stage: Stage) -> None:
    card = await completed(stage, count=2)
    recipe = stage.said(await stage.press(stage.ada, card, "Recipe"))
    assert recipe.text.count("/imagine prompt:") == 1


async def test_a_running_job_is_not_deleted(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    custom_id = card.buttons["Cancel"].replace("cancel", "delete")
    forge(stage.cards()[0], custom_id)
    assert stage.said(await stage.ada.click(card.message, custom_id=custom_id)).text == job_card.DELETE_NOT_YET()
    assert card.is_there


# -- after a restart ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", LABELS)
async def test_every_button_of_a_finished_card_works_after_a_restart(stage: Stage, label: str) -> None:
    card = await completed(stage, model=FLUX)
    await stage.quiet_editors()  # the delivery is recorded a moment after the card says Completed
    await stage.restart()
    result = await stage.press(stage.ada, card, label)
    assert result.acknowledged
    match label:
        case "Again" | "Vary":
            await stage.until_says(stage.said(result), "Completed")
        case "Edit":
            assert result.modal is not None
        case "Recipe":
            assert "/imagine" in stage.said(result).text
        case _:
            await stage.press(stage.ada, stage.said(result), "Delete")
            assert not card.is_there


async def test_a_running_job_goes_on_after_a_restart_in_the_same_message(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    await stage.restart()
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed", "cost **$0.08**")
    assert len(stage.core.krea.orders) == 1
    assert len(stage.cards()) == 1
    assert len(card.files) == 1


async def test_a_running_job_can_be_cancelled_after_a_restart(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    await stage.restart()
    assert stage.said(await stage.press(stage.ada, card, "Cancel")).text == job_card.CANCEL_ASKED()
    await stage.until_says(card, "Cancelled")
    assert (await stage.jobs())[0].status is JobStatus.CANCELLED


async def test_a_button_that_breaks_says_so_instead_of_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(job_id: str) -> None:
        raise RuntimeError("a defect")

    card = await completed(stage)
    monkeypatch.setattr(stage.core.store, "reply_of_job", broken)
    refusal = stage.said(await stage.press(stage.ada, card, "Recipe"))
    assert refusal.text == refusals.UNEXPECTED()
    assert refusal.private


async def test_a_button_while_the_database_is_closed_says_so(stage: Stage) -> None:
    card = await completed(stage)
    await stage.core.store.close()
    assert stage.said(await stage.press(stage.ada, card, "Again")).text == refusals.BOOKS_UNAVAILABLE()
