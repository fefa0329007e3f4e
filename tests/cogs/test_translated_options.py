"""Options under the names that members read in their language: in `more`, as flags and in presets."""

from __future__ import annotations

from typing import Any

import pytest
from simcord import interactions

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.order_text import expand
from cogs.text.locale import LANGUAGES, get_locale, option_name, use_locale
from tests.support.catalogue_samples import CATALOGUE, FLUX, NANO_BANANA_2, a_request
from tests.support.discord_stage import Stage
from tests.support.image_samples import encode, photo

every_language = pytest.mark.parametrize("tag", LANGUAGES)
IMAGE = ("a.png", encode(photo(40, 30), "PNG"))


def in_language(tag: str, name: str) -> str:
    with use_locale(tag):
        return option_name(name)


@pytest.fixture
def speaks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> dict[int, str]:
    """Return the members' languages by user id, which a test may change."""
    found: dict[int, str] = {}
    base_payload = interactions.base_payload

    def localised(backend: Any, *, guild_id: int | None, user_id: int, **more: Any) -> Any:
        record, payload = base_payload(backend, guild_id=guild_id, user_id=user_id, **more)
        payload["locale"] = found.get(user_id, "en-US")
        return record, payload

    monkeypatch.setattr(interactions, "base_payload", localised)
    return found


@every_language
async def test_members_order_with_the_names_of_their_language(stage: Stage, speaks: dict[int, str], tag: str) -> None:
    speaks[stage.ada.id] = tag
    resolution, ratio = in_language(tag, "resolution"), in_language(tag, "aspect_ratio")
    card = await stage.imagine(more=f"{resolution.upper()}=2K, {ratio}=16:9")
    await stage.until_says(card, "Completed", "cost **$0.12**", "16:9")
    card = await stage.imagine(prompt=f"a red fox --{resolution} 2K --{ratio} 1:1")
    await stage.until_says(card, "Completed", "cost **$0.12**", "1:1")
    assert stage.core.krea.orders[-1].body["prompt"] == "a red fox"
    card = await stage.imagine(more="resolution=2K")
    await stage.until_says(card, "Completed", "cost **$0.12**")


@every_language
async def test_what_a_preset_says_in_one_language_counts_in_every_other(
    stage: Stage, speaks: dict[int, str], tag: str
) -> None:
    speaks[stage.mo.id] = tag
    options = f"{in_language(tag, 'resolution')}=2K"
    stage.said(await stage.mo.slash(stage.channel, "preset add", name="large", model=NANO_BANANA_2, options=options))
    card = await stage.imagine(preset="large")
    await stage.until_says(card, "Completed", "cost **$0.12**")


@every_language
async def test_attached_images_have_the_names_of_the_language_too(
    stage: Stage, speaks: dict[int, str], tag: str
) -> None:
    speaks[stage.ada.id] = tag
    reference, image2 = in_language(tag, "reference"), in_language(tag, "image2")
    card = await stage.edit(image=IMAGE, image2=IMAGE, model=FLUX, more=f"{reference}={image2}, {image2}_strength=0.5")
    await stage.until_says(card, "Completed")
    (element,) = stage.core.krea.orders[-1].body["image_style_references"]
    assert element["strength"] == 0.5


async def test_more_completes_what_is_typed_in_the_members_language(stage: Stage, speaks: dict[int, str]) -> None:
    speaks[stage.ada.id] = "de"

    async def first(text: str) -> str:
        offered = await stage.ada.autocomplete(stage.channel, "imagine", "more", text, model=NANO_BANANA_2)
        return offered[0]["value"]

    assert await first("auflösung=4") == "resolution=4K"
    assert await first("auflö") == "resolution=1K"
    assert await first("seitenverhältnis=1:1, auflö") == "aspect_ratio=1:1, resolution=1K"


async def test_a_remix_takes_the_names_of_the_members_language(stage: Stage, speaks: dict[int, str]) -> None:
    card = await stage.imagine(model=NANO_BANANA_2, aspect_ratio="16:9", resolution="2K")
    await stage.until_says(card, "Completed")
    speaks[stage.ada.id] = "de"
    shown = await stage.press(stage.ada, card, "Remix")
    values = {"prompt": "a blue fox", "model": [FLUX], "more": "seitenverhältnis=1:1, auflösung=2K"}
    remixed = stage.said(await stage.ada.submit_modal(shown, values))
    await stage.until_says(remixed, "Completed", "1024 × 1024")


async def test_a_name_that_nothing_has_is_named_in_the_refusal_whatever_its_letters(
    stage: Stage, speaks: dict[int, str]
) -> None:
    speaks[stage.ada.id] = "de"
    refused = await stage.imagine(model=FLUX, more="größe=5")
    assert refused.private
    assert "`größe`" in refused.reason
    assert "`stil`" in refused.reason


def test_a_name_that_an_option_has_itself_keeps_its_meaning():
    words = {"aspect_ratio": "seed", "seed": "graine", "mask": "masque", "image2": "bild2", "style": "stil"}
    names = Catalogue(CATALOGUE.models).translated_names("xx", lambda name: words.get(name, name))
    assert names.more("seed=5, Graine=6, stil_strength=1") == "seed=5, seed=6, style_strength=1"
    assert names.more('mask=bild2+image3, negative_prompt="bild2", other=bild2') == (
        'mask=image2+image3, negative_prompt="bild2", other=bild2'
    )
    assert names.prompt("a stil fox --graine 5 --stil noir --neu x") == "a stil fox --seed 5 --style noir --neu x"
    assert names.prompt("a fox") == "a fox"


def test_names_are_translated_once_for_each_language_until_the_catalogue_changes():
    catalogue = Catalogue(CATALOGUE.models)
    asked: list[str] = []

    def translate(name: str) -> str:
        asked.append(name)
        return name

    catalogue.translated_names("de", translate)
    once = len(asked)
    assert once > 0
    catalogue.translated_names("de", translate)
    assert len(asked) == once
    catalogue.translated_names("fr", translate)
    assert len(asked) == 2 * once
    catalogue.replace(CATALOGUE.models)
    catalogue.translated_names("de", translate)
    assert len(asked) == 3 * once


def test_every_name_that_a_refusal_lists_is_accepted():
    catalogue = Catalogue.load()
    for tag in LANGUAGES:
        with use_locale(tag):
            names = catalogue.translated_names(get_locale(), option_name)
            for model in catalogue.models:
                for name in model.option_names:
                    said = names.more(f"{option_name(name)}=1")
                    assert expand(model, a_request(model.id), more=said).options.keys() == {model.option_name(name)}
