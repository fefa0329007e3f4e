"""/edit and the message menu: images that a member attached, valid and invalid ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import discord
import pytest
from simcord import interactions

from bot.dispatch.heavy_work import MemberTurns
from bot.domain.errors import StoreError
from bot.domain.jobs import FailureReason
from bot.domain.requester import Requester
from bot.store.sqlite.database import SqliteDatabase
from cogs.generate.delivery import hosted_images
from cogs.generate.ordering import order_flow
from cogs.text import job_card, refusals
from tests.support.catalogue_samples import FLUX, KREA_LARGE, NANO_BANANA_2, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import (
    SECRET,
    animated,
    encode,
    image,
    laden,
    noise,
    open_image,
    photo,
    png_of_zeros,
)

PNG = image("PNG")
MENU = "Edit this image"


async def test_an_attached_image_is_uploaded_and_changed(stage: Stage) -> None:
    card = await stage.edit(image=("fox.png", PNG), prompt="make it blue")
    assert "costs **$0.08** · $0.92 left" in card.text
    assert "1 image given" in card.text
    await stage.until_says(card, "Completed")
    (order,) = stage.core.krea.orders
    assert order.body["prompt"] == "make it blue"
    assert "https://provider.invalid/uploads/1" in str(order.body)
    assert open_image(stage.core.krea.uploads[0]).size == open_image(PNG).size


async def test_up_to_four_images_go_along_in_the_order_given(stage: Stage) -> None:
    sizes = [(40, 30), (50, 30), (60, 30), (70, 30)]
    files = [(f"{width}.png", encode(photo(width, height), "PNG")) for width, height in sizes]
    options = dict(zip(("image", "image2", "image3", "image4"), files, strict=True))
    card = await stage.edit(model="krea/google/nano-banana-pro", **options)
    await stage.until_says(card, "Completed", "4 images given", "$0.15")
    assert [open_image(data).size for data in stage.core.krea.uploads] == sizes
    addresses = [f"https://provider.invalid/uploads/{number}" for number in (1, 2, 3, 4)]
    assert any(value == addresses for value in stage.core.krea.orders[0].body.values())


async def test_the_same_image_is_uploaded_only_once(stage: Stage) -> None:
    for _ in range(2):
        await stage.until_says(await stage.edit(image=("fox.png", PNG)), "Completed")
    assert len(stage.core.krea.uploads) == 1
    assert len(stage.core.krea.orders) == 2


@pytest.mark.f56
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
async def test_nothing_but_the_pixels_of_an_image_leaves(stage: Stage, image_format: str) -> None:
    await stage.until_says(await stage.edit(image=("any.name", laden(image_format))), "Completed")
    (uploaded,) = stage.core.krea.uploads
    assert b"secret" not in uploaded
    assert b"GPS" not in uploaded


async def test_every_option_of_edit_reaches_the_provider(stage: Stage) -> None:
    card = await stage.edit(image=("fox.png", PNG), aspect_ratio="16:9", resolution="4K", private=True)
    assert card.private
    await stage.until_says(card, "Completed", "$0.16")
    card = await stage.edit(image=("fox.png", PNG), model=FLUX, seed=9)
    await stage.until_says(card, "Completed", "seed 9")
    first, second = (order.body for order in stage.core.krea.orders)
    assert (first["aspect_ratio"], first["resolution"], second["seed"]) == ("16:9", "4K", 9)


BAD = [
    pytest.param("a.txt", b"not a picture at all", "Attach a PNG, JPEG, WebP", id="text"),
    pytest.param("a.png", b"", "Attach a PNG, JPEG, WebP", id="empty"),
    pytest.param("a.png", b"<html>" + PNG, "Attach a PNG, JPEG, WebP", id="html in front"),
    pytest.param("a.png", PNG[: len(PNG) // 2], "is damaged or cut short", id="cut short"),
    pytest.param("a.gif", animated("GIF"), "is animated", id="gif"),
    pytest.param("a.webp", animated("WEBP"), "is animated", id="animated"),
    pytest.param("a.psd", b"8BPS" + bytes(99), "I can't use this file type. Attach a PNG, JPEG, WebP, HEIC", id="psd"),
    pytest.param("a.png", png_of_zeros(12_000, 12_000), "has too many pixels", id="bomb"),
    pytest.param("a.png", png_of_zeros(1, 1), "is too small", id="one pixel"),
]


@pytest.mark.f54
@pytest.mark.parametrize(("name", "data", "sentence"), BAD)
async def test_a_file_that_cannot_be_used_is_refused_by_name(
    stage: Stage, name: str, data: bytes, sentence: str
) -> None:
    card = await stage.edit(image=("fox.png", PNG), image2=(name, data))
    assert card.private
    assert card.text.startswith((f"`{name}` ", f"`{name}`: "))
    assert sentence in card.text
    await stage.assert_nothing_reserved()


async def test_a_file_name_cannot_break_out_of_its_sentence(stage: Stage) -> None:
    card = await stage.edit(image=("` @everyone [x](http://evil.invalid)\n.png", b"no"))
    assert card.text.startswith("`ˋ @everyone")
    assert card.reason.count("`") == 2


@pytest.mark.f54
async def test_a_file_that_is_too_large_is_refused_before_it_is_fetched(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_flow, "INPUT_MAX_BYTES", 100)
    card = await stage.edit(image=("fox.png", PNG))
    assert "`fox.png` is too large: at most 0 MB." in card.text
    await stage.assert_nothing_reserved()


async def test_a_file_that_discord_does_not_give_out_is_asked_for_again(stage: Stage) -> None:
    stage.core.server.attachments = lambda url: None
    card = await stage.edit(image=("fox.png", PNG))
    assert "`fox.png` could not be fetched from Discord. Please attach it again." in card.text
    await stage.assert_nothing_reserved()


@pytest.mark.f55
async def test_a_file_from_elsewhere_than_discord_is_never_fetched(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage.core.bot.order_flow, "_cdn_hosts", ("cdn.discordapp.com",))
    card = await stage.edit(image=("fox.png", PNG))
    assert "`fox.png` does not come from Discord." in card.text
    await stage.assert_nothing_reserved()


@pytest.mark.f56
@pytest.mark.hostile("G-44")
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
async def test_a_provider_that_fetches_images_itself_gets_a_cleaned_copy_under_another_name(
    stage: Stage, image_format: str, *, private: bool
) -> None:
    stage.core.pixazo.waits = True
    original = laden(image_format)
    card = await stage.imagine(model=PIXAZO_LARGE, reference=("My home.jpg", original), private=private)
    await stage.until(lambda: stage.core.pixazo.accepted)
    url = stage.core.pixazo.orders[0].body["image_style_references"][0]["image_url"]
    copy = stage.env.backend.cdn.get(url)
    assert copy is not None
    assert "home" not in url
    for trace in (SECRET, b"Exif", b"Photoshop", b"PK\3\4"):
        assert trace in original or image_format != "JPEG"
        assert trace not in copy
    assert not card.gallery
    stage.core.pixazo.finishes()
    await stage.until_says(card, "Completed")
    assert len(card.gallery) == 1
    assert all("input-" not in file["filename"] for file in card.files)


async def test_the_addresses_kept_for_orders_that_other_processes_may_finish_are_bounded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted_images, "MAX_REPLIES", 1, raising=False)
    stage.core.pixazo.waits = True
    cards = [await stage.imagine(model=PIXAZO_LARGE, reference=("a.png", PNG)) for _ in range(3)]
    await stage.until(lambda: stage.core.pixazo.accepted == len(cards))
    presenter: Any = stage.core.service.presenter.current
    assert len(presenter._hosted_images._urls) == 1
    for number, card in enumerate(cards):
        stage.core.pixazo.finishes(number=number)
        await stage.until_says(card, "Completed")


@pytest.mark.hostile("G-44")
async def test_a_copy_that_is_made_smaller_for_discord_is_not_said_to_be_made_by_a_machine(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = interactions.base_payload

    def with_a_low_limit(*args: Any, **more: Any) -> Any:
        record, payload = build(*args, **more)
        return record, payload | {"attachment_size_limit": 100_000}

    monkeypatch.setattr(interactions, "base_payload", with_a_low_limit)
    stage.core.pixazo.waits = True
    await stage.imagine(model=PIXAZO_LARGE, reference=("a.png", encode(noise(400, 300), "PNG")))
    await stage.until(lambda: stage.core.pixazo.accepted)
    url = stage.core.pixazo.orders[0].body["image_style_references"][0]["image_url"]
    copy = stage.env.backend.cdn.get(url)
    assert copy is not None
    assert len(copy) <= 100_000
    assert b"digitalsourcetype" not in copy.lower()


@pytest.mark.hostile("G-44")
async def test_the_copy_for_a_provider_is_removed_from_the_message_of_a_failed_order(stage: Stage) -> None:
    stage.core.pixazo.waits = True
    card = await stage.imagine(model=PIXAZO_LARGE, reference=("a.png", PNG))
    await stage.until(lambda: stage.core.pixazo.accepted)
    assert len(card.files) == 1
    stage.core.pixazo.fails(FailureReason.PROVIDER_FAILED)
    await stage.until_says(card, "Failed")
    assert card.files == []


@pytest.mark.hostile("G-44")
async def test_images_of_one_command_share_the_copies_for_the_provider(stage: Stage) -> None:
    stage.core.pixazo.waits = True
    await stage.imagine(model=PIXAZO_LARGE, reference=("a.png", PNG), count=3)
    await stage.until(lambda: len(stage.core.pixazo.orders) == 3)
    urls = {str(order.body["image_style_references"]) for order in stage.core.pixazo.orders}
    assert len(urls) == 1


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("krea/ideogram/ideogram-2-turbo", "does not work with this command"),
        (PIXAZO_LARGE, "does not work with this command"),
        ("krea/nobody/nothing", "There is no model"),
        ("krea/bytedance/seededit", "its price"),
    ],
)
async def test_a_model_that_cannot_edit_is_refused(stage: Stage, model: str, sentence: str) -> None:
    card = await stage.edit(image=("fox.png", PNG), model=model)
    assert sentence in card.text
    assert card.private
    await stage.assert_nothing_reserved()


async def test_more_images_than_the_model_takes_are_refused_by_name(stage: Stage) -> None:
    card = await stage.edit(image=("a.png", PNG), image2=("b.png", image("JPEG")), model=KREA_LARGE)
    assert "Krea 2 Large takes only 1 image. Remove `image2` or pick another model." in card.text
    assert "Or say in `more` what else it is for: `reference=image2`." in card.text
    await stage.assert_nothing_reserved()
    other = await stage.edit(
        image=("a.png", PNG), image2=("b.png", image("JPEG")), model=KREA_LARGE, more="reference=image2"
    )
    assert "2 images given" in other.text


async def test_when_the_blob_store_is_full_nothing_is_ordered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(data: bytes) -> str:
        raise StoreError("no space left")

    monkeypatch.setattr(stage.core.service.blob_store, "put", full)
    card = await stage.edit(image=("fox.png", PNG))
    assert card.reason == refusals.BOOKS_UNAVAILABLE()
    await stage.assert_nothing_reserved()


# -- the message menu ---------------------------------------------------------------------------------


async def menu(stage: Stage, *files: tuple[str, bytes], who: Any = None) -> Any:
    message = await stage.bob.send(stage.channel, "look", attachments=files)
    return await (who or stage.ada).context_menu(stage.channel, MENU, message)


async def test_the_menu_asks_for_the_prompt_and_edits_the_only_image(stage: Stage) -> None:
    shown = await menu(stage, ("notes.txt", b"hello"), ("fox.png", PNG))
    assert shown.modal is not None
    assert shown.modal["title"] == job_card.EDIT_MODAL_TITLE()
    assert [label["component"]["custom_id"] for label in shown.modal["components"]] == [
        *("prompt", "uploads", "model", "more")
    ]
    card = stage.said(await stage.ada.submit_modal(shown, {"prompt": "make it blue"}))
    assert not card.private
    await stage.until_says(card, "Completed", "make it blue")
    assert len(stage.core.krea.uploads) == 1


async def test_a_form_that_was_opened_before_a_restart_gives_back_what_was_typed(stage: Stage) -> None:
    shown = await menu(stage, ("fox.png", PNG))
    await stage.restart()
    refusal = stage.said(await stage.ada.submit_modal(shown, {"prompt": "make it blue"}))
    assert refusal.private
    assert refusals.FORM_CLOSED() in refusal.text
    assert "make it blue" in refusal.text
    assert await stage.jobs() == []


async def test_of_several_images_one_to_four_are_chosen(stage: Stage) -> None:
    files = [(f"{width}.png", encode(photo(width, 40), "PNG")) for width in (50, 60, 70, 80, 90)]
    shown = await menu(stage, *files)
    select = shown.modal["components"][1]["component"]
    assert [option["label"] for option in select["options"]] == [
        f"{number}. {name}" for number, (name, _) in enumerate(files, start=1)
    ]
    assert select["max_values"] == 4
    chosen = [select["options"][index]["value"] for index in (1, 3)]
    card = stage.said(await stage.ada.submit_modal(shown, {"prompt": "make it blue", "pictures": chosen}))
    await stage.until_says(card, "Completed", "2 images given")
    assert [open_image(data).width for data in stage.core.krea.uploads] == [60, 80]


async def test_other_images_can_be_attached_to_the_form(stage: Stage) -> None:
    shown = await menu(stage, ("fox.png", encode(photo(50, 40), "PNG")))
    upload = shown.modal["components"][1]["component"]
    assert (upload["type"], upload["required"], upload["min_values"], upload["max_values"]) == (19, False, 0, 3)
    others = [(f"{width}.jpg", encode(photo(width, 40), "JPEG")) for width in (60, 70, 80)]
    card = stage.said(await stage.ada.submit_modal(shown, {"prompt": "all on one wall", "uploads": others}))
    await stage.until_says(card, "Completed", "4 images given")
    assert [open_image(data).width for data in stage.core.krea.uploads] == [50, 60, 70, 80]


async def test_chosen_and_attached_images_together_are_at_most_four(stage: Stage) -> None:
    shown = await menu(stage, *[(f"{width}.png", encode(photo(width, 40), "PNG")) for width in (50, 60, 70)])
    chosen = [option["value"] for option in shown.modal["components"][1]["component"]["options"]]
    others = [("a.png", PNG), ("b.png", PNG)]
    values = {"prompt": "all on one wall", "pictures": chosen, "uploads": others}
    refusal = stage.said(await stage.ada.submit_modal(shown, values))
    assert refusal.private
    assert refusal.reason == job_card.EDIT_TOO_MANY(5, most=4)
    assert "all on one wall" in refusal.text
    await stage.assert_nothing_reserved()
    copied = stage.said(await stage.press(stage.ada, refusal, "Copy prompt"))
    assert copied.text == "```\nall on one wall\n```"
    ordered = stage.ordered(await stage.press(stage.ada, refusal, "Order with the first 4 images · $0.08"))
    await stage.until_says(ordered, "Completed", "4 images given", "cost **$0.08**")


async def test_for_more_images_than_the_cards_model_takes_another_is_picked_in_the_form(stage: Stage) -> None:
    card = await stage.imagine(model=FLUX)
    await stage.until_says(card, "Completed")
    shown = await stage.press(stage.ada, card, "Edit")
    second = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night"}))
    await stage.until_says(second, "Completed", "Flux 1 Dev", "1 image given")
    shown = await stage.press(stage.ada, card, "Edit")
    two = {"prompt": "together", "uploads": [("a.png", PNG)]}
    refusal = stage.said(await stage.ada.submit_modal(shown, two))
    assert "Flux 1 Dev takes only 1 image. Choose just one, or pick another model." in refusal.text
    shown = await stage.press(stage.ada, card, "Edit")
    third = stage.said(await stage.ada.submit_modal(shown, {**two, "model": [NANO_BANANA_2]}))
    await stage.until_says(third, "Completed", "Nano Banana 2", "2 images given")


async def test_an_attached_file_that_is_no_image_is_named(stage: Stage) -> None:
    shown = await menu(stage, ("fox.png", PNG))
    values = {"prompt": "make it snow", "uploads": [("notes.txt", b"hello")]}
    refusal = stage.said(await stage.ada.submit_modal(shown, values))
    assert refusal.private
    assert "`notes.txt` is not an image" in refusal.text
    await stage.assert_nothing_reserved()


async def test_of_ones_own_card_with_several_images_each_can_be_chosen_by_its_number(stage: Stage) -> None:
    card = await stage.imagine(count=3)
    await stage.until_says(card, "Completed", "3 of 3 done")
    shown = await stage.press(stage.ada, card, "Edit")
    assert shown.modal is not None
    select = shown.modal["components"][1]["component"]
    assert [option["label"] for option in select["options"]] == ["Image 1", "Image 2", "Image 3"]
    assert [option["default"] for option in select["options"]] == [True, False, False]
    chosen = [select["options"][2]["value"]]
    second = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night", "pictures": chosen}))
    await stage.until_says(second, "Completed", "1 image given")


async def test_a_message_without_an_image_is_refused_privately(stage: Stage) -> None:
    for files in ([], [("notes.txt", b"hello")]):
        result = await menu(stage, *files)
        assert result.modal is None
        assert stage.said(result).text == job_card.NO_PICTURE_IN_MESSAGE()
        assert stage.said(result).private


async def test_an_image_that_is_gone_by_the_time_of_the_modal_is_refused(stage: Stage) -> None:
    shown = await menu(stage, ("fox.png", PNG))
    stage.core.server.attachments = lambda url: None
    refusal = stage.said(await stage.ada.submit_modal(shown, {"prompt": "make it blue"}))
    assert "could not be fetched" in refusal.text
    assert refusal.private
    await stage.assert_nothing_reserved()


async def test_a_result_can_be_edited_further_from_its_own_card(stage: Stage) -> None:
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    shown = await stage.ada.context_menu(stage.channel, MENU, stage.cards()[0].message)
    second: Card = stage.said(await stage.ada.submit_modal(shown, {"prompt": "at night"}))
    await stage.until_says(second, "Completed", "at night")
    assert len(stage.cards()) == 2


async def test_a_modal_that_breaks_says_so_instead_of_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any, **kwargs: Any) -> None:
        raise discord.ClientException("a defect")

    shown = await menu(stage, ("fox.png", PNG))
    monkeypatch.setattr(stage.core.bot.order_flow, "submit_order", broken)
    card = stage.said(await stage.ada.submit_modal(shown, {"prompt": "make it blue"}))
    assert card.reason == refusals.UNEXPECTED()
    assert len(stage.env.errors) == 1


# -- permission before cost ------------------------------------------------------------------------------------


def _kept_files(stage: Stage) -> list[Path]:
    directory: Any = stage.core.service.blob_store
    return [file for file in directory._directory.rglob("*") if file.is_file()]


@pytest.mark.hostile("G-05")
@pytest.mark.hostile("I-11")
@pytest.mark.parametrize("why", ["blocked", "word", "option", "quota"])
async def test_nothing_is_fetched_for_an_order_that_can_be_refused_without_it(stage: Stage, why: str) -> None:
    stage.core.server.attachments = lambda url: pytest.fail("fetched")
    options: dict[str, Any] = {}
    match why:
        case "blocked":
            await stage.quota("block", member=stage.ada)
            sentence = "A moderator has paused"
        case "word":
            await stage.settings("words", action="add", words="blue")
            sentence = "does not allow"
        case "option":
            options, sentence = {"resolution": "8K"}, "`resolution`"
        case _:
            await stage.quota("set", member=stage.ada, amount="0.01")
            sentence = "$0.01"
    assert sentence in (await stage.edit(prompt="make it blue", image=("fox.png", PNG), **options)).text
    assert _kept_files(stage) == []


@pytest.mark.hostile("G-05")
async def test_the_image_of_an_order_that_is_refused_after_reading_is_not_kept(stage: Stage) -> None:
    card = await stage.edit(image=("fox.png", PNG), image2=("a.txt", b"no image"))
    assert "`a.txt`" in card.text
    assert _kept_files(stage) == []


@pytest.mark.hostile("G-05")
@pytest.mark.hostile("I-11")
async def test_refused_attempts_count_towards_the_pace(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.quota("block", member=stage.ada)
    allowed = stage.core.service._attempt_limiter._limit
    stage.core.service._attempt_limiter.note(stage.ada.id, allowed - 1)
    assert "A moderator has paused" in (await stage.imagine()).text
    # From now on nothing is read for it: what it costs, others wait for.
    with monkeypatch.context() as patch:
        for method in ("read", "write"):
            patch.setattr(SqliteDatabase, method, None)
        assert "That was a lot in one minute" in (await stage.imagine()).text
    await stage.until_says(await stage.imagine(stage.bob), "Completed")


@pytest.mark.hostile("G-05")
async def test_files_of_other_servers_are_read_between_the_files_of_a_command(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = MemberTurns(at_a_time=1, waiting=3, clock=stage.env.now)
    monkeypatch.setattr(stage.core.bot.service, "reading_turns", turns)
    download = stage.core.bot.order_flow.download
    read: list[str] = []
    others: list[asyncio.Task[None]] = []

    async def read_for_another_server() -> None:
        async with turns.turn(Requester(2, 2)):
            read.append("another server")

    async def counted(url: str, requester: Requester) -> bytes:
        read.append("a file of the command")
        others.append(asyncio.create_task(read_for_another_server()))
        await asyncio.sleep(0)
        return await download(url, requester)

    monkeypatch.setattr(stage.core.bot.order_flow, "download", counted)
    await stage.edit(image=("fox.png", PNG), image2=("owl.png", image("JPEG")))
    await asyncio.gather(*others)
    assert read == ["a file of the command", "another server"] * 2
