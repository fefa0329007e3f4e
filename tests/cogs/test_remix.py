"""Remix, forms that show models with prices, and actions on one image of several."""

from __future__ import annotations

from typing import Any

import pytest

from cogs.text import job_card
from tests.support.catalogue_samples import FLUX
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import encode, photo

NANO = "krea/google/nano-banana-2"


async def completed(stage: Stage, **options: Any) -> Card:
    card = await stage.imagine(**options)
    await stage.until_says(card, "Completed")
    return card


def parts_of(shown: Any) -> dict[str, dict[str, Any]]:
    """Return the inputs of a form by custom id."""
    assert shown.modal is not None
    return {label["component"]["custom_id"]: label["component"] for label in shown.modal["components"]}


def offered(shown: Any) -> list[str]:
    return [option["label"] for option in parts_of(shown)["model"]["options"]]


async def test_a_form_filled_with_the_recipe_shows_prices_before_it_is_sent(stage: Stage) -> None:
    card = await completed(stage, model=NANO, aspect_ratio="16:9", resolution="2K")
    shown = await stage.press(stage.ada, card, "Remix")
    inputs = parts_of(shown)
    assert inputs["prompt"]["value"] == "a red fox"
    assert inputs["more"]["value"] == "aspect_ratio=16:9, resolution=2K"
    assert offered(shown)[0] == "Nano Banana 2 · $0.12"
    assert "Flux 1 Dev · $0.007" in offered(shown)
    remixed = stage.said(await stage.ada.submit_modal(shown, {"prompt": "a blue fox", "more": inputs["more"]["value"]}))
    await stage.until_says(remixed, "Completed", "cost **$0.12**", "16:9")
    assert stage.core.krea.orders[-1].body["prompt"] == "a blue fox"


async def test_options_that_the_other_model_does_not_take_are_left_out(stage: Stage) -> None:
    card = await completed(stage, model=NANO, aspect_ratio="16:9", resolution="2K")
    shown = await stage.press(stage.ada, card, "Remix")
    remixed = stage.said(await stage.ada.submit_modal(shown, {"prompt": "a blue fox", "model": [FLUX]}))
    await stage.until_says(remixed, "Completed", "Flux 1 Dev", "cost **$0.007**")


async def test_options_that_cost_more_than_the_form_showed_are_asked_about(stage: Stage) -> None:
    card = await completed(stage, model=NANO)
    shown = await stage.press(stage.ada, card, "Remix")
    values = {"prompt": "a blue fox", "more": "resolution=4K"}
    asked = stage.said(await stage.ada.submit_modal(shown, values))
    assert asked.private
    assert "more than was shown" in asked.text
    assert "prompt: a blue fox more: resolution=4K" in asked.text
    assert (await stage.balance()).spent_usd_micros == 80_000
    ordered = stage.ordered(await stage.press(stage.ada, asked, "Order · $0.16"))
    await stage.until_says(ordered, "Completed", "4K")


async def test_anybody_may_remix_and_read_the_recipe_of_a_public_image_at_their_own_cost(stage: Stage) -> None:
    card = await completed(stage, model=FLUX, seed=5)
    recipe = stage.said(await stage.press(stage.bob, card, "Recipe"))
    assert "a red fox" in recipe.text
    assert recipe.private
    shown = await stage.press(stage.bob, card, "Remix")
    remixed = stage.said(await stage.bob.submit_modal(shown, {"prompt": "a blue fox", "more": "seed=5"}))
    await stage.until_says(remixed, "Completed", "seed 5")
    assert (await stage.balance(stage.ada)).spent_usd_micros == 7_000
    assert (await stage.balance(stage.bob)).spent_usd_micros == 7_000


async def test_attached_images_stay_with_their_member_when_another_member_remixes(stage: Stage) -> None:
    card = await stage.edit(image=("secret.png", encode(photo(40, 30), "PNG")))
    await stage.until_says(card, "Completed")
    uploads = len(stage.core.krea.uploads)
    shown = await stage.press(stage.bob, card, "Remix")
    remixed = stage.said(await stage.bob.submit_modal(shown, {"prompt": "at night"}))
    await stage.until_says(remixed, "Completed")
    (job,) = await stage.jobs(stage.bob)
    assert [source.sha256 for source in job.request.images] != []
    (own,) = await stage.jobs(stage.ada)
    assert job.request.images[0].sha256 != own.request.images[0].sha256
    assert len(stage.core.krea.uploads) == uploads + 1


@pytest.mark.hostile("G-55")
async def test_a_private_image_is_only_its_members(stage: Stage) -> None:
    await completed(stage, private=True, prompt="my secret")
    (job,) = await stage.jobs(stage.ada)
    public = await completed(stage, model=FLUX)
    button = next(part for part in public.components if part.get("label") == "Recipe")
    for action in ("recipe", "recipeone", "remix", "editone"):
        button["custom_id"] = f"job:{action}:{job.id}"
        for who in (stage.bob, stage.mo):
            result = await who.click(public.message, custom_id=button["custom_id"])
            assert result.modal is None
            assert "my secret" not in stage.said(result).text


async def test_an_edit_form_offers_models_that_take_images_with_their_prices(stage: Stage) -> None:
    card = await completed(stage, model=NANO)
    shown = await stage.press(stage.ada, card, "Edit")
    assert offered(shown)[0] == "Nano Banana 2 · $0.08"
    kontext = next(o["value"] for o in parts_of(shown)["model"]["options"] if o["label"].startswith("Flux Kontext"))
    edited = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night", "model": [kontext]}))
    await stage.until_says(edited, "Completed", "Flux Kontext")


async def test_one_image_of_several_is_chosen_in_a_select(stage: Stage) -> None:
    card = await completed(stage, model=FLUX, count=3, seed=7)
    select = next(part for part in card.components if part["type"] == 3)
    assert [option["label"] for option in select["options"]] == ["Image 1", "Image 2", "Image 3"]
    rows = [part for part in card.components if part["type"] == 1]
    assert len([row for row in rows if row["components"][0]["type"] == 2]) <= 2
    chosen = select["options"][1]["value"]
    panel = stage.said(await stage.ada.select(card.message, [chosen], custom_id=select["custom_id"]))
    assert panel.private
    assert next(iter(panel.buttons)) == "Vary · $0.007"
    assert "seed: 8" in stage.said(await stage.press(stage.ada, panel, "Recipe")).text
    varied = stage.ordered(await stage.press(stage.ada, panel, "Vary"))
    await stage.until_says(varied, "Completed", "cost **$0.007**")
    shown = await stage.press(stage.ada, panel, "Edit")
    defaults = [option.get("default", False) for option in parts_of(shown)["pictures"]["options"]]
    assert defaults == [False, True, False]
    for_bob = stage.said(await stage.bob.select(card.message, [chosen], custom_id=select["custom_id"]))
    assert list(for_bob.buttons) == [job_card.REMIX(), job_card.RECIPE(), job_card.SHARE()]


async def test_an_edit_form_takes_further_options_and_says_what_is_wrong_with_them(stage: Stage) -> None:
    card = await completed(stage, model=NANO)
    shown = await stage.press(stage.ada, card, "Edit")
    edited = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night", "more": "aspect_ratio=16:9"}))
    await stage.until_says(edited, "Completed", "16:9")
    shown = await stage.press(stage.ada, card, "Edit")
    refused = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night", "more": "resolution=9K"}))
    assert refused.private
    assert "resolution" in refused.reason
    assert "more: resolution=9K" in refused.text


async def test_what_is_too_long_for_a_form_is_never_ordered_in_part(stage: Stage) -> None:
    prompt = "word " * 820 + "the end"
    card = await completed(stage, model=NANO, prompt=prompt)
    shown = await stage.press(stage.bob, card, "Remix")
    assert shown.modal is None
    refused = stage.said(shown)
    assert refused.private
    assert refused.text.startswith("`prompt` has 4,107 characters. Remix takes: 1 to 4,000 characters.\n### Recipe")
    assert f"/imagine prompt: {prompt} model: Nano Banana 2" in refused.file().decode()


async def test_long_options_reach_the_form_whole_or_not_at_all(stage: Stage) -> None:
    for count, fits in ((22, True), (24, False)):
        style = "+".join(f"{'s' * 80}{number:03}:0.5" for number in range(count))
        card = await completed(stage, model=FLUX, style=style, more="guidance_scale=12")
        shown = await stage.press(stage.bob, card, "Remix")
        if fits:
            assert parts_of(shown)["more"]["value"] == f"style={style}, guidance_scale=12"
            values = {name: parts_of(shown)[name]["value"] for name in ("prompt", "more")}
            remixed = stage.said(await stage.bob.submit_modal(shown, values))
            await stage.until_says(remixed, "Completed")
            assert stage.core.krea.orders[-1].body["guidance_scale"] == 12
            assert len(stage.core.krea.orders[-1].body["styles"]) == count
        else:
            refused = stage.said(shown)
            assert "`more` has 2,136 characters. Remix takes: 1 to 2,000 characters." in refused.text
            assert f"style: {style}" in refused.text
