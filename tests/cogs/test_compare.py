"""/compare: one image per model on one card, paid all or nothing and settled one by one, with votes."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.errors import ProviderRejected
from cogs.text import job_card
from tests.support.catalogue_samples import FLUX, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage
from tests.support.transport_double import TransportDouble, refused

NANO = "krea/google/nano-banana-2"


async def compare(stage: Stage, who: Any = None, **options: Any) -> Card:
    with stage.core.providers_wait():
        chosen = {"prompt": "a red fox", "model1": NANO, "model2": FLUX} | options
        return stage.ordered(await (who or stage.ada).slash(stage.channel, "compare", **chosen))


def votes_of(card: Card) -> list[str]:
    return [label for label in card.buttons if label.startswith("Vote")]


def choices_of(form: Any) -> list[str]:
    """Return the images that an edit form offers."""
    inputs = [label["component"] for label in form.modal["components"]]
    return [option["label"] for part in inputs if part["custom_id"] == "pictures" for option in part["options"]]


async def vote(stage: Stage, who: Any, card: Card, number: int) -> None:
    custom_ids = [part["custom_id"] for part in card.components if str(part.get("label", "")).startswith("Vote")]
    result = await who.click(card.message, custom_id=custom_ids[number])
    assert not result.followups, stage.said(result).text


async def test_one_card_shows_one_image_per_model_and_the_total_price_first(stage: Stage) -> None:
    card = await compare(stage, model3=PIXAZO_LARGE, aspect_ratio="1:1")
    total = sum(job.reserved_usd_micros for job in await stage.jobs())
    assert f"costs **${total / 1e6:.3f}".rstrip("0") in card.text
    assert "**Nano Banana 2** $0.08" in card.text
    await stage.until_says(card, "Completed", "3 of 3 done")
    assert len(card.gallery) == len(card.files) == 3
    assert len([part for part in card.components if str(part.get("label", "")).startswith("Vote")]) == 3
    rows = [part for part in card.components if part["type"] == 1]
    assert all(len(row["components"]) <= 5 for row in rows)


async def test_each_image_says_which_model_made_it_wherever_it_is_named(stage: Stage) -> None:
    card = await compare(stage)
    await stage.until_says(card, "Completed")
    names = ["Nano Banana 2", "Flux 1 Dev"]
    assert [image["description"] for image in card.gallery] == [f"{name} · a red fox" for name in names]
    select = next(part for part in card.components if part["type"] == 3)
    assert [option["label"] for option in select["options"]] == [
        f"Image {number} · {name}" for number, name in enumerate(names, start=1)
    ]
    chosen = stage.said(
        await stage.ada.select(card.message, [select["options"][1]["value"]], custom_id=select["custom_id"])
    )
    assert "Image 2 · Flux 1 Dev" in chosen.text
    form = await stage.press(stage.ada, card, "Edit")
    assert choices_of(form) == [option["label"] for option in select["options"]]
    # The menu finds no job, only what the message says of its images.
    menu = await stage.bob.context_menu(stage.channel, "Edit this image", card.message)
    assert choices_of(menu) == [f"{number}. {name} · a red fox" for number, name in enumerate(names, start=1)]
    page = stage.said(await stage.ada.slash(stage.channel, "history"))
    assert [image["description"] for image in page.gallery] == [f"{name} · a red fox" for name in names]


async def test_all_or_nothing_is_admitted(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.086")
    card = await compare(stage)
    assert card.private
    assert "$0.087" in card.text
    await stage.assert_nothing_reserved()


async def test_each_image_is_settled_for_itself(stage: Stage) -> None:
    stage.core.krea.troubles.extend([ProviderRejected("no", status=400)])
    card = await compare(stage)
    text = await stage.until_says(card, "Completed", "1 of 2 failed, not charged")
    assert "Failed, not charged" in text
    (spent,) = {(await stage.balance()).spent_usd_micros}
    assert spent in (7_000, 80_000)
    assert len(card.gallery) == 1


async def test_each_member_has_one_vote_and_the_winner_is_marked(stage: Stage) -> None:
    card = await compare(stage)
    await stage.until_says(card, "Completed")
    await vote(stage, stage.ada, card, 0)
    assert f"**Nano Banana 2** · $0.08 · 🏆 {job_card.WINNER()}" in card.text
    await vote(stage, stage.bob, card, 1)
    assert job_card.WINNER() not in card.text
    await vote(stage, stage.mo, card, 1)
    assert f"**Flux 1 Dev** · $0.007 · 🏆 {job_card.WINNER()}" in card.text
    assert votes_of(card) == ["Vote · 1", "Vote · 2"]
    assert len(card.gallery) == len(card.files) == 2
    await vote(stage, stage.ada, card, 1)
    assert votes_of(card) == ["Vote · 0", "Vote · 3"]


@pytest.mark.hostile("G-29")
async def test_a_vote_does_not_show_the_prompt_that_discord_refused(stage: Stage) -> None:
    blocked = [refused(400, 200000)]

    async def block_once(_method: str, _path: str, has_files: bool) -> None:
        if has_files and blocked:
            raise blocked.pop()

    TransportDouble(stage.core.bot).on_call = block_once
    card = await compare(stage, prompt="a naughty fox")
    await stage.until_says(card, "Completed", job_card.PROMPT_HIDDEN())
    await vote(stage, stage.bob, card, 0)
    assert votes_of(card) == ["Vote · 1", "Vote · 0"]
    assert job_card.PROMPT_HIDDEN() in card.text
    assert "naughty" not in str(card.components)
    assert len(card.gallery) == 2


async def test_again_orders_the_whole_comparison(stage: Stage) -> None:
    card = await compare(stage)
    await stage.until_says(card, "Completed")
    again = stage.ordered(await stage.press(stage.ada, card, "Again · $0.087"))
    await stage.until_says(again, "Completed", "2 of 2 done", "Flux 1 Dev")


async def test_again_of_a_comparison_with_a_denied_model_offers_one_image_of_the_other(stage: Stage) -> None:
    card = await compare(stage)
    await stage.until_says(card, "Completed")
    await stage.settings("models", action="deny", model=NANO)
    refused_again = stage.said(await stage.press(stage.ada, card, "Again"))
    again = stage.ordered(await stage.press(stage.ada, refused_again, "Order with Flux 1 Dev · $0.007"))
    await stage.until_says(again, "Completed")
    assert len(again.files) == 1


async def test_recipe_history_and_jobs_name_each_model_of_a_comparison(stage: Stage) -> None:
    card = await compare(stage, aspect_ratio="1:1")
    await stage.until_says(card, "Completed")
    recipe = stage.said(await stage.press(stage.ada, card, "Recipe")).text
    assert "Recipe · Nano Banana 2, Flux 1 Dev" in recipe
    assert [
        line.split(" model: ")[1].split(" aspect_ratio")[0] for line in recipe.splitlines() if "/imagine" in line
    ] == [
        "Nano Banana 2",
        "Flux 1 Dev",
    ]
    page = stage.said(await stage.ada.slash(stage.channel, "history")).text
    assert "/compare prompt: a red fox model1: Nano Banana 2 model2: Flux 1 Dev aspect_ratio: 1:1" in page
    assert "**Nano Banana 2** · **Flux 1 Dev**" in page
    jobs = stage.said(await stage.mo.slash(stage.channel, "jobs")).text
    assert f" · {stage.ada.mention} · Nano Banana 2, Flux 1 Dev · $0.087 · " in jobs


async def test_only_what_holds_for_every_model_is_said_of_the_comparison(stage: Stage) -> None:
    for models in ({"model1": NANO, "model2": FLUX}, {"model1": FLUX, "model2": NANO}):
        card = await compare(stage, aspect_ratio="16:9", **models)
        await stage.until_says(card, "Completed")
        page = stage.said(await stage.ada.slash(stage.channel, "history")).text
        for text in (card.text, page):
            assert " · 16:9" in text
            # The size of Flux 1 Dev, and the resolution of Nano Banana 2.
            assert "1280 × 720" not in text
            assert "· 1K" not in text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model2": NANO}, "Nano Banana 2 is named twice"),
        ({"model2": "krea/no/such"}, "There is no model"),
        ({"aspect_ratio": "7:1"}, "aspect_ratio"),
        ({"prompt": " "}, "Describe the image in at least 3 characters"),
    ],
)
async def test_bad_input_is_refused_with_a_sentence(stage: Stage, options: dict[str, Any], words: str) -> None:
    card = await compare(stage, **options)
    assert card.private
    assert words in card.text
    await stage.assert_nothing_reserved()


@pytest.mark.parametrize(
    ("quota", "options", "offered"),
    [
        ("0.10", {"model3": PIXAZO_LARGE}, ["Order without Nano Banana 2 · $0.067", "Order without Krea 2 Large"]),
        ("0.05", {"model3": PIXAZO_LARGE}, ["Order with Flux 1 Dev · $0.007"]),
        ("0.086", {}, ["Order with Flux 1 Dev · $0.007", "Order with Nano Banana 2 · $0.08"]),
        ("1", {"model2": NANO}, ["Order with Nano Banana 2 · $0.08"]),
        ("1", {"model2": "krea/bfl/flux-1-devv"}, ["Order with Nano Banana 2, Flux 1 Dev · $0.087"]),
        ("1", {"model3": "zzzz"}, ["Order with Nano Banana 2, Flux 1 Dev · $0.087"]),
        ("1", {"aspect_ratio": "7:1"}, ["Order without aspect_ratio · $0.087"]),
        ("0", {}, []),
    ],
)
async def test_a_refused_comparison_offers_the_nearest_possible_one(
    stage: Stage, quota: str, options: dict[str, Any], offered: list[str]
) -> None:
    await stage.quota("set", member=stage.ada, amount=quota)
    card = await compare(stage, **options)
    found = [label for label in card.buttons if label.startswith("Order")]
    assert [label[: len(wanted)] for label, wanted in zip(found, offered, strict=True)] == offered, found
    assert "Copy prompt" in card.buttons
    await stage.assert_nothing_reserved()
    if offered:
        ordered = stage.ordered(await stage.press(stage.ada, card, found[0]))
        await stage.until_says(ordered, "Completed")
        price = found[0].rpartition("$")[2]
        assert f"${(await stage.balance()).spent_usd_micros / 1e6:.4f}".rstrip("0") == f"${price}"


async def test_a_model_that_moderators_deny_is_refused(stage: Stage) -> None:
    await stage.settings("models", action="deny", model=FLUX)
    card = await compare(stage)
    assert "Flux 1 Dev may not be used here" in card.text
    assert "Order with Nano Banana 2 · $0.08" in card.buttons
    await stage.assert_nothing_reserved()
