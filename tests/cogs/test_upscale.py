"""Upscale: who is offered it, at what price, for which image, and what a click does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bot.catalogue.catalogue import Catalogue
from bot.domain.jobs import JobKind
from cogs.generate import upscale
from cogs.text import job_card, member_pages, refusals
from tests.support import discord_core
from tests.support.catalogue_samples import FLUX, KREA_LARGE, TOPAZ, overridden
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import encode, open_image, photo

BLOOM = "krea/enhance/topaz/bloom-enhance"


@pytest.fixture(autouse=True)
def prices(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Set prices for two of the models, as the operator can."""
    set_prices(stage, monkeypatch, overridden({"prices": {TOPAZ: "0.10", BLOOM: "0.25"}}, tmp_path=tmp_path))


def set_prices(stage: Stage, monkeypatch: pytest.MonkeyPatch, catalogue: Catalogue) -> None:
    monkeypatch.setattr(discord_core, "CATALOGUE", catalogue)
    monkeypatch.setattr(stage.core.service, "catalogue", catalogue)


async def completed(stage: Stage, **options: Any) -> Card:
    card = await stage.imagine(**{"model": FLUX, **options})
    await stage.until_says(card, "Completed")
    await stage.quiet()  # until it is recorded which file is which image
    return card


def sizes_ordered(stage: Stage) -> list[tuple[int, int]]:
    """Return the sizes of the upscales ordered at the provider."""
    bodies = [order.body for order in stage.core.krea.orders if "/enhance/" in order.path]
    return [(body["width"], body["height"]) for body in bodies]


# -- the button ---------------------------------------------------------------------------------------------------


async def test_a_finished_image_is_made_twice_as_large_at_the_price_on_the_button(stage: Stage) -> None:
    card = await completed(stage, prompt="a red fox")
    width, height = open_image(card.file()).size
    assert list(card.buttons)[:3] == ["Again · $0.007", "Vary · $0.007", "Upscale · $0.10"]
    larger = stage.said(await stage.press(stage.ada, card, "Upscale"))
    await stage.until_says(larger, "Completed", "Topaz Standard", "a red fox", "cost **$0.10**")
    assert sizes_ordered(stage) == [(width * 2, height * 2)]
    assert len(stage.core.krea.uploads) == 1
    assert (await stage.balance()).spent_usd_micros == 107_000
    assert len(stage.cards()) == 2


async def test_an_upscaled_card_says_its_size_and_can_be_had_again_varied_and_enlarged_further(stage: Stage) -> None:
    card = await completed(stage)
    larger = stage.said(await stage.press(stage.ada, card, "Upscale"))
    text = await stage.until_says(larger, "Completed")
    width, height = open_image(larger.file()).size
    assert f"Topaz Standard** · {width} × {height} · model Standard V2 · seed" in text
    assert list(larger.buttons) == [
        "Again · $0.10",
        "Vary · $0.10",
        "Upscale · $0.10",
        "Edit",
        "Remix",
        "Recipe",
        "Share",
        "Delete",
    ]
    again = stage.said(await stage.press(stage.ada, larger, "Again"))
    await stage.until_says(again, "Completed")
    first, second = sizes_ordered(stage)
    assert first == second
    recipe = stage.said(await stage.press(stage.ada, larger, "Recipe")).text
    assert "/edit prompt: a red fox model: Topaz Standard seed: " in recipe
    assert f"width={first[0]}, height={first[1]}, model=Standard V2" in recipe


async def test_an_edited_image_and_a_private_one_can_be_enlarged_too(stage: Stage) -> None:
    edited = await stage.edit(image=("fox.png", encode(photo(64, 48), "PNG")), private=True)
    await stage.until_says(edited, "Completed")
    larger = stage.said(await stage.press(stage.ada, edited, "Upscale · $0.10"))
    assert larger.private
    await stage.until_says(larger, "Completed")


async def test_without_a_known_price_there_is_no_button(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    set_prices(stage, monkeypatch, Catalogue.load())
    card = await completed(stage)
    assert list(card.buttons) == ["Again · $0.007", "Vary · $0.007", "Edit", "Remix", "Recipe", "Share", "Delete"]
    assert not any(label.startswith("Upscale") for label in (await history(stage)).buttons)


async def history(stage: Stage) -> Card:
    return stage.said(await stage.ada.slash(stage.channel, "history"))


async def test_the_price_of_this_very_size_counts(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other_size = [{"when": {"width": 10, "height": 10}, "amount_usd": "0.01"}]
    set_prices(stage, monkeypatch, overridden({"prices": {TOPAZ: other_size, BLOOM: "0.25"}}, tmp_path=tmp_path))
    assert "Upscale · $0.25" in (await completed(stage)).buttons


async def test_an_image_that_is_already_large_is_not_offered_for_upscaling(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upscale, "MAX_SIDE_PIXELS", 8)
    card = await completed(stage)
    assert not any(label.startswith("Upscale") for label in card.buttons)


async def test_an_unfinished_or_failed_job_has_nothing_to_enlarge(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(model=FLUX)
    await stage.until_says(card, "Processing")
    assert list(card.buttons) == ["Cancel"]
    stage.core.krea.gives_up()
    await stage.until_says(card, "Cancelled")
    assert list(card.buttons) == ["Again · $0.007"]


# -- who, where, and at whose cost ----------------------------------------------------------------------------------


async def test_a_stranger_is_told_that_it_is_not_theirs(stage: Stage) -> None:
    card = await completed(stage)
    refusal = stage.said(await stage.press(stage.bob, card, "Upscale"))
    assert refusal.private
    assert refusal.text == job_card.NOT_YOURS()
    assert sizes_ordered(stage) == []


async def test_a_moderator_pays_for_what_they_have_enlarged(stage: Stage) -> None:
    card = await completed(stage)
    larger = stage.said(await stage.press(stage.mo, card, "Upscale"))
    await stage.until_says(larger, "Completed")
    assert (await stage.balance(stage.ada)).spent_usd_micros == 7_000
    assert (await stage.balance(stage.mo)).spent_usd_micros == 100_000


async def test_the_cheapest_model_that_is_allowed_here_is_taken(stage: Stage) -> None:
    await stage.settings("models", model=TOPAZ, action="deny")
    card = await completed(stage)
    larger = stage.said(await stage.press(stage.ada, card, "Upscale · $0.25"))
    await stage.until_says(larger, "Completed", "Topaz Bloom")


async def test_a_model_that_was_denied_since_is_not_used(stage: Stage) -> None:
    card = await completed(stage)
    await stage.settings("models", model="krea/enhance/*", action="deny")
    refusal = stage.said(await stage.press(stage.ada, card, "Upscale"))
    assert refusal.private
    assert refusal.text == job_card.UPSCALE_NOT_POSSIBLE()
    assert sizes_ordered(stage) == []


async def test_too_little_left_is_refused_like_any_order(stage: Stage) -> None:
    card = await completed(stage)
    await stage.quota("set", member=stage.ada, amount="0.05")
    refusal = stage.said(await stage.press(stage.ada, card, "Upscale"))
    assert refusal.private
    assert "This costs $0.10 and you have $0.043 left" in refusal.text


async def test_what_became_dearer_asks_again_with_the_new_price(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    card = await completed(stage)
    set_prices(stage, monkeypatch, overridden({"prices": {TOPAZ: "0.40"}}, tmp_path=tmp_path))
    question = stage.said(await stage.press(stage.ada, card, "Upscale · $0.10"))
    assert question.private
    assert question.text == job_card.DEARER()
    assert sizes_ordered(stage) == []
    larger = stage.said(await stage.press(stage.ada, question, "Upscale · $0.40"))
    await stage.until_says(larger, "Completed", "cost **$0.40**")


# -- one press, one order ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["Again", "Vary", "Upscale"])
async def test_a_double_press_orders_once(stage: Stage, label: str) -> None:
    card = await completed(stage)
    await stage.press(stage.ada, card, label)
    second = await stage.press(stage.ada, card, label)
    assert second.acknowledged
    assert second.deferred  # acknowledged, without a message or a change
    assert second.followups == []
    await stage.quiet()
    assert len(stage.cards()) == len(stage.core.krea.orders) == 2


async def test_two_people_and_two_moments_are_two_orders(stage: Stage) -> None:
    card = await completed(stage)
    await stage.press(stage.ada, card, "Upscale")
    await stage.press(stage.mo, card, "Upscale")
    stage.core.bot.click_debouncer._latest.clear()  # as after the interval of the debouncer
    await stage.press(stage.ada, card, "Upscale")
    await stage.quiet()
    assert len(sizes_ordered(stage)) == 3


# -- after a long time -------------------------------------------------------------------------------------------------


async def test_it_works_after_a_restart_and_from_the_gallery(stage: Stage) -> None:
    card = await completed(stage)
    await stage.restart()
    larger = stage.said(await stage.press(stage.ada, card, "Upscale"))
    await stage.until_says(larger, "Completed")
    page = await history(stage)
    assert "Upscale · $0.10" in page.buttons
    enlarged = stage.said(await stage.press(stage.ada, page, "Upscale"))
    await stage.until_says(enlarged, "Completed")
    assert len(sizes_ordered(stage)) == 2


async def test_what_discord_and_we_have_lost_cannot_be_enlarged(stage: Stage) -> None:
    card = await completed(stage)
    card.stored.attachments.clear()
    (container,) = card.stored.components
    container["components"] = [part for part in container["components"] if part["type"] != 12]
    job = (await stage.jobs())[0]
    await stage.core.service.blob_store.remove(job.images[0].sha256)
    refusal = stage.said(await stage.press(stage.ada, card, "Upscale"))
    assert refusal.private
    assert refusal.text == member_pages.HISTORY_PICTURE_GONE()


async def test_our_own_copy_serves_when_discord_has_none(stage: Stage) -> None:
    card = await completed(stage)
    card.stored.attachments.clear()
    larger = stage.said(await stage.press(stage.ada, card, "Upscale"))
    await stage.until_says(larger, "Completed")


async def test_the_copy_in_discord_serves_when_we_have_none(stage: Stage) -> None:
    card = await completed(stage)
    await stage.core.service.blob_store.remove((await stage.jobs())[0].images[0].sha256)
    larger = stage.said(await stage.press(stage.ada, card, "Upscale"))
    await stage.until_says(larger, "Completed")


# -- several images ----------------------------------------------------------------------------------------


def results(stage: Stage, *sides: int) -> None:
    """Serve the next images, each with its own size."""
    names = iter(sides)

    def result() -> str:
        side = next(names, 64)
        return stage.core.server.keep(f"{side}.png", encode(photo(side, side), "PNG"))

    stage.core.krea._image_url = result


async def test_of_several_images_one_is_chosen(stage: Stage) -> None:
    results(stage, 80, 90, 100)
    card = await completed(stage, count=3)
    question = stage.said(await stage.press(stage.ada, card, "Upscale · $0.10"))
    assert question.private
    assert question.text == job_card.UPSCALE_WHICH()
    assert list(question.buttons) == ["Image 1 · $0.10", "Image 2 · $0.10", "Image 3 · $0.10"]
    assert sizes_ordered(stage) == []
    jobs = sorted(await stage.jobs(), key=lambda job: job.ordinal)
    made = [job.images[0].width for job in jobs]
    larger = stage.said(await stage.press(stage.ada, question, "Image 2"))
    await stage.until_says(larger, "Completed")
    assert sizes_ordered(stage) == [(made[1] * 2, made[1] * 2)]
    assert len(stage.core.krea.uploads) == 1


async def test_the_question_is_answered_even_when_only_discord_has_the_images(stage: Stage) -> None:
    card = await completed(stage, count=2)
    question = stage.said(await stage.press(stage.ada, card, "Upscale"))
    for job in await stage.jobs():
        await stage.core.service.blob_store.remove(job.images[0].sha256)
    larger = stage.said(await stage.press(stage.ada, question, "Image 1"))
    await stage.until_says(larger, "Completed")


async def test_of_several_of_which_one_succeeded_that_one_is_taken(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(model=FLUX, count=2)
    await stage.until(lambda: stage.core.krea.accepted == 2)
    stage.core.krea.gives_up(number=0)
    stage.core.krea.finishes(number=1)
    await stage.until_says(card, "Completed · 1 of 2 done")
    stage.core.krea.waits = False
    larger = stage.said(await stage.press(stage.ada, card, "Upscale · $0.10"))
    await stage.until_says(larger, "Completed")


@pytest.mark.parametrize("custom_id", ["upscale:{id}:9:100000", "upscale:{id}:1:1", f"upscale:{'0' * 24}:0:100000"])
async def test_a_forged_button_orders_nothing(stage: Stage, custom_id: str) -> None:
    card = await completed(stage)
    forged = custom_id.format(id=(await stage.jobs())[0].id)
    button = next(part for part in _all_parts(card.stored.components) if "upscale" in part.get("custom_id", ""))
    button["custom_id"] = forged
    said = stage.said(await stage.ada.click(card.message, custom_id=forged))
    assert said.text in (job_card.UPSCALE_NOT_POSSIBLE(), job_card.DEARER(), job_card.JOB_GONE())
    assert sizes_ordered(stage) == []


def _all_parts(parts: list[Any]) -> list[Any]:
    return [found for part in parts for found in (part, *_all_parts(part.get("components", [])))]


async def test_no_command_takes_an_upscaling_model(stage: Stage) -> None:
    refusal = await stage.imagine(model=TOPAZ)
    assert "does not work with this command" in refusal.text
    assert refusal.text != refusals.UNEXPECTED()
    offered = await stage.ada.autocomplete(stage.channel, "imagine", "model", "topaz")
    assert offered == []
    assert stage.core.service.catalogue.get(KREA_LARGE).supports(JobKind.IMAGINE)


# -- /edit with a model that only enlarges ------------------------------------------------------------------------


async def test_edit_enlarges_with_such_a_model_and_everything_it_takes_can_be_set(stage: Stage) -> None:
    models = await stage.ada.autocomplete(stage.channel, "edit", "model", "topaz")
    assert TOPAZ in [choice["value"] for choice in models]
    texts = await stage.ada.autocomplete(stage.channel, "edit", "more", "sharp", model=TOPAZ)
    assert [choice["value"] for choice in texts] == ["sharpen=0.5"]
    card = await stage.edit(
        prompt="a fox", model=TOPAZ, image=("fox.png", encode(photo(200, 100), "PNG")), more="sharpen=0.9, width=1000"
    )
    await stage.until_says(card, "Completed", "Topaz Standard", "sharpen 0.9", "cost **$0.10**")
    (body,) = [order.body for order in stage.core.krea.orders]
    assert (body["width"], body["height"], body["sharpen"], body["prompt"]) == (1000, 500, 0.9, "a fox")


async def test_no_option_that_an_enlarging_model_lacks_is_taken(stage: Stage) -> None:
    card = await stage.edit(model=TOPAZ, image=("fox.png", encode(photo(200, 100), "PNG")), aspect_ratio="1:1")
    assert "Topaz Standard" in card.reason
    assert "aspect_ratio" in card.reason
    assert stage.core.krea.orders == []
