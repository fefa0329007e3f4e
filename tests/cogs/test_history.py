"""/history: a member's own images of this server, from Discord or from our own copies."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain.jobs import Delivery, GalleryFilter, GalleryPage, JobStatus
from cogs.members import history_page
from cogs.text import formatting, job_card, member_pages
from tests.support.discord_stage import Card, Stage
from tests.support.layouts import assert_fits
from tests.support.store_samples import a_command, an_image


async def completed(stage: Stage, who: Any = None, **options: Any) -> Card:
    card = await stage.imagine(who, **options)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    return card


async def history(stage: Stage, who: Any = None, **options: Any) -> Card:
    return stage.said(await (who or stage.ada).slash(stage.channel, "history", **options))


async def test_without_pictures_it_says_how_to_make_some(stage: Stage) -> None:
    answer = await history(stage)
    assert answer.private
    assert answer.text == member_pages.HISTORY_EMPTY()


async def test_the_newest_picture_comes_first_with_its_recipe_its_buttons_and_a_fresh_link(stage: Stage) -> None:
    await completed(stage, prompt="a red fox")
    card = await completed(stage, prompt="a blue whale")
    answer = await history(stage)
    assert answer.private
    assert answer.title.endswith("Your images · 1 of 2")
    assert "/imagine prompt: a blue whale model: Nano Banana 2" in answer.text
    assert "**Nano Banana 2** · 1K" in answer.text
    assert "cost $0.08" in answer.text
    assert f"/{stage.channel.id}/{card.message.id})" in answer.text
    (image,) = answer.gallery
    assert image["description"] == "a blue whale"
    assert image["media"]["url"].startswith(card.files[0]["url"].partition("?")[0])
    assert answer.files == []
    assert [label.split(" ·")[0] for label in answer.buttons] == [
        "Again",
        "Vary",
        "Edit",
        "Remix",
        "Recipe",
        "Share",
        "Delete",
        "☆ Favourite",
        "Older",
    ]


async def test_pages_are_turned_in_place_by_their_owner_also_after_a_restart(stage: Stage) -> None:
    for prompt in ("first", "second", "third"):
        await completed(stage, prompt=prompt)
    answer = await history(stage)
    await stage.press(stage.ada, answer, "Older")
    assert answer.title.endswith("2 of 3")
    assert "prompt: second" in answer.text
    assert {"Newer", "Older"} < set(answer.buttons)
    await stage.restart()
    await stage.press(stage.ada, answer, "Older")
    assert "prompt: first" in answer.text
    assert "Older" not in answer.buttons
    await stage.press(stage.ada, answer, "Newer")
    assert answer.title.endswith("2 of 3")


@pytest.mark.f53
async def test_a_member_cannot_turn_the_pages_of_another_member(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await completed(stage, prompt="first")
    await completed(stage, prompt="second")
    assert (await history(stage, stage.bob)).text == member_pages.HISTORY_EMPTY()
    own = history_page.custom_id

    def forged(target: history_page.Target) -> str:
        return own(replace(target, user_id=stage.bob.id))

    monkeypatch.setattr(history_page, "custom_id", forged)
    answer = await history(stage)
    refusal = stage.said(await stage.press(stage.ada, answer, "Older"))
    assert refusal.private
    assert refusal.text == member_pages.HISTORY_NOT_YOURS()
    assert answer.title.endswith("1 of 2")


async def test_one_model_only(stage: Stage) -> None:
    await completed(stage, prompt="whale")
    await completed(stage, prompt="fox", model="krea/bfl/flux-1-dev")
    await completed(stage, prompt="owl")
    answer = await history(stage, model="krea/google/nano-banana-2")
    assert answer.title.endswith("1 of 2")
    assert "prompt: owl" in answer.text
    await stage.press(stage.ada, answer, "Older")
    assert "prompt: whale" in answer.text
    none = await history(stage, model="krea/bfl/`flux`")
    assert none.text == member_pages.HISTORY_NONE_OF_MODEL(model="krea/bfl/ˋfluxˋ")


async def test_the_models_are_offered_while_typing(stage: Stage) -> None:
    choices = await stage.ada.autocomplete(stage.channel, "history", "model", "nano")
    assert any(choice["value"] == "krea/google/nano-banana-2" for choice in choices)


async def test_f46_a_picture_that_could_not_be_shown_can_be_had_here(stage: Stage) -> None:
    await completed(stage)
    (job,) = await stage.jobs(stage.ada)
    await stage.core.store.set_delivery(job.reply_id, Delivery.IMPOSSIBLE)
    for card in stage.cards():
        stage.env.backend.delete_message(stage.channel.id, card.message.id)
    answer = await history(stage)
    assert len(answer.files) == 1
    assert answer.gallery[0]["media"]["url"].startswith("attachment://") or answer.files[0]["url"]
    assert "Edit" in answer.buttons


async def test_a_private_picture_is_attached_again(stage: Stage) -> None:
    await completed(stage, prompt="a secret", private=True)
    answer = await history(stage)
    assert answer.private
    assert len(answer.files) == 1
    assert "[go to message]" not in answer.text


async def test_a_page_with_a_file_gives_way_to_one_without(stage: Stage) -> None:
    await completed(stage, prompt="open")
    await completed(stage, prompt="a secret", private=True)
    answer = await history(stage)
    assert len(answer.files) == 1
    await stage.press(stage.ada, answer, "Older")
    assert answer.files == []


async def test_a_deleted_picture_reads_gone_and_offers_no_edit(stage: Stage) -> None:
    card = await completed(stage)
    (job,) = await stage.jobs(stage.ada)
    await stage.core.service.blob_store.remove(job.images[0].sha256)
    stage.env.backend.delete_message(stage.channel.id, card.message.id)
    answer = await history(stage)
    assert member_pages.HISTORY_PICTURE_GONE() in answer.text
    assert [label.split(" ·")[0] for label in answer.buttons] == [
        "Again",
        "Vary",
        "Remix",
        "Recipe",
        "Delete",
        "☆ Favourite",
    ]


async def test_while_discord_does_not_answer_the_page_says_to_try_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await completed(stage)
    (job,) = await stage.jobs(stage.ada)
    await stage.core.service.blob_store.remove(job.images[0].sha256)

    async def broken(channel_id: int, message_id: int) -> None:
        raise OSError("connection reset")

    monkeypatch.setattr(stage.core.bot.messages, "files", broken)
    assert member_pages.HISTORY_UNREACHABLE() in (await history(stage)).text


async def test_several_pictures_of_one_command_share_a_page(stage: Stage) -> None:
    await completed(stage, count=3)
    answer = await history(stage)
    assert answer.title.endswith("1 of 1")
    assert len(answer.gallery) == 3
    assert "cost $0.24" in answer.text


async def test_the_buttons_of_a_page_do_what_those_of_the_card_do(stage: Stage) -> None:
    await completed(stage, prompt="a red fox")
    answer = await history(stage)
    assert "a red fox" in stage.said(await stage.press(stage.ada, answer, "Recipe")).text
    form = await stage.press(stage.ada, answer, "Edit")
    assert form.modal is not None
    again = stage.said(await stage.press(stage.ada, answer, "Again"))
    await stage.until_says(again, "Completed", "a red fox")


async def test_a_prompt_past_its_age_leaves_the_picture(stage: Stage) -> None:
    await completed(stage, prompt="a red fox")
    await stage.core.store.forget_old(now=datetime.now(UTC) + timedelta(days=31))
    answer = await history(stage)
    assert "fox" not in answer.text
    assert len(answer.gallery) == 1
    assert list(answer.buttons) == ["Edit", "Share", "Delete", "☆ Favourite"]


async def test_a_page_that_was_erased_meanwhile_is_gone(stage: Stage) -> None:
    await completed(stage, prompt="first")
    await completed(stage, prompt="second")
    answer = await history(stage)
    await stage.core.store.forget_member(stage.ada.id, now=datetime.now(UTC))
    await stage.press(stage.ada, answer, "Older")
    assert answer.text == member_pages.HISTORY_PAGE_GONE()


def test_a_page_stays_within_discords_limits_whatever_the_prompt_and_the_ids() -> None:
    reply = a_command(*[80_000] * 4)
    long_prompt = replace(reply.jobs[0].request, prompt="ß" * 4_000)
    done = [
        replace(job, status=JobStatus.SUCCEEDED, request=long_prompt, charged_usd_micros=80_000, images=(an_image(),))
        for job in reply.jobs
    ]
    reply = replace(reply, user_id=2**63 - 1, jobs=tuple(done))
    page = GalleryPage(reply=reply, number=2, total=3, newer_id=reply.id, older_id=reply.id)
    shown = [history_page.GalleryImage(url="https://cdn.example/1.png", alt_text="x" * 1_000)] * 4
    layout = history_page.page_of(
        page, ["A model"] * 4, [{}] * 4, shown, chosen=GalleryFilter(model_id="x", words="w" * 40)
    )
    assert_fits(layout)
    longest = history_page.Target(
        reply_id=reply.id, user_id=2**63 - 1, one_model=True, favourites=True, words="w" * 40, marks=False
    )
    assert len(history_page.custom_id(longest)) <= 100


@pytest.mark.hostile("G-07")
@pytest.mark.parametrize(
    ("number", "total", "title"),
    [
        (2, 3, member_pages.HISTORY_TITLE(number=2, total=3)),
        (2, None, member_pages.HISTORY_TITLE_OF_MANY(number=2)),
        (None, None, member_pages.HISTORY_TITLE_FAR_BACK()),
    ],
)
def test_the_title_says_which_page_it_is_as_far_as_pages_are_counted(
    number: int | None, total: int | None, title: str
) -> None:
    page = GalleryPage(reply=a_command(), number=number, total=total, newer_id=None, older_id=None)
    assert history_page._title(page) == title


async def test_history_finds_by_words_and_favourites(stage: Stage) -> None:
    await completed(stage, prompt="a red fox")
    await completed(stage, prompt="a blue whale")
    await completed(stage, prompt="another red fox")
    found = await history(stage, words="Fox red")
    assert "1 of 2" in found.text
    assert "another red fox" in found.text
    older = stage.said(await stage.press(stage.ada, found, "Older"))
    assert "2 of 2" in older.text
    await stage.press(stage.ada, older, "☆ Favourite")
    assert "★ Favourite" in older.buttons
    favourites = await history(stage, favourites=True)
    assert "1 of 1" in favourites.text
    await stage.press(stage.ada, favourites, "★ Favourite")
    assert favourites.text == member_pages.HISTORY_NO_FAVOURITES()
    nothing = await history(stage, words="elephant")
    assert "`elephant`" in nothing.text


async def test_a_private_image_is_shared_from_the_page(stage: Stage) -> None:
    hall = stage.guild.create_text_channel("hall")
    await stage.settings("showcase", channel=hall)
    await completed(stage, private=True)
    page = await history(stage)
    said = stage.said(await stage.press(stage.ada, page, "Share"))
    [copy] = stage.cards(hall)
    assert copy.gallery
    link = formatting.link_to_message(stage.guild.id, hall.id, copy.message.id)
    assert said.text.startswith(job_card.SHARE_DONE(channel=hall.mention, link=link))


async def test_a_model_without_images_is_named_by_its_label(stage: Stage) -> None:
    nothing = await history(stage, model="krea/google/nano-banana")
    assert nothing.text == member_pages.HISTORY_NONE_OF_MODEL(model="Nano Banana")
