"""Delete: asks once, then the message, the data, the files and the copies are gone, whatever Discord says."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from simcord.results import InteractionResult

from cogs.text import job_card, member_pages, moderation
from cogs.ui import delete_question
from cogs.ui.discord_api import message_deletions
from cogs.ui.discord_api.message_deletions import RETRY_PAUSES
from tests.support.catalogue_samples import FLUX
from tests.support.databases import everything_in, rows
from tests.support.discord_stage import Card, Stage
from tests.support.store_samples import everything_kept

PROMPT = "a walrus in a bathtub"


async def completed(stage: Stage, who: Any = None, **options: Any) -> Card:
    card = await stage.imagine(who, **{"prompt": PROMPT, **options})
    await stage.until_says(card, "Completed")
    await stage.quiet_editors()
    return card


async def asked(stage: Stage, card: Card, who: Any = None) -> Card:
    """Press Delete under a card and return the question."""
    question = stage.said(await stage.press(who or stage.ada, card, "Delete"))
    assert question.private
    assert "cannot be undone" in question.text
    assert list(question.buttons) == ["Delete", "Keep it"]
    return question


async def delete(stage: Stage, card: Card, who: Any = None) -> str:
    """Delete the order of a card and return what was said then."""
    question = await asked(stage, card, who)
    await stage.press(who or stage.ada, question, "Delete")
    return question.text


async def logged(stage: Stage) -> Any:
    """Set a log channel; return it."""
    log = stage.guild.create_text_channel("log")
    await stage.settings("log-channel", channel=log)
    return log


async def recorded_copies(stage: Stage, number: int = 1) -> None:
    """Wait until the ids of the log's entries are recorded."""
    database = stage.core.settings.database_url
    await stage.until(lambda: len(rows(database, "SELECT 1 FROM reply_copies")) == number)


def pending(stage: Stage) -> list[tuple[Any, ...]]:
    return rows(stage.core.settings.database_url, "SELECT attempts FROM message_deletions")


def in_files(stage: Stage, word: str) -> bool:
    """Whether the word is in the database file or its write-ahead log."""
    path = stage.core.settings.database_url
    assert isinstance(path, Path)
    files = [path, path.with_name(f"{path.name}-wal")]
    return any(word.encode() in file.read_bytes() for file in files if file.exists())


async def sweep(stage: Stage, *, after: timedelta) -> None:
    await stage.core.bot.message_deletions.sweep(now=datetime.now(UTC) + after)


# -- what goes and what stays -----------------------------------------------------------------------------


@pytest.mark.hostile("G-51")
async def test_delete_removes_message_history_files_log_copy_and_every_word_of_the_order(stage: Stage) -> None:
    log = await logged(stage)
    card = await completed(stage, model=FLUX, seed=918273)
    await recorded_copies(stage)
    entry = stage.cards(log)[-1]
    (job,) = await stage.jobs()
    spent = (await stage.balance()).spent_usd_micros
    assert in_files(stage, "walrus")

    assert await delete(stage, card) == job_card.DELETE_DONE()

    assert not card.is_there
    assert not entry.is_there
    assert pending(stage) == []
    history = stage.said(await stage.ada.slash(stage.channel, "history"))
    assert history.text == member_pages.HISTORY_EMPTY()
    assert await stage.core.service.blob_store.get(job.images[0].sha256) is None
    left = everything_in(stage.core.settings.database_url)
    assert not [word for word in ("walrus", "918273", str(card.message.id), str(entry.message.id)) if word in left]
    assert not in_files(stage, "walrus")
    assert (await stage.balance()).spent_usd_micros == spent  # it frees no quota
    usage = stage.said(await stage.ada.slash(stage.channel, "usage"))
    assert "Completed · Flux 1 Dev · $0.007" in usage.text


@pytest.mark.hostile("G-51")
async def test_delete_asks_and_a_member_who_keeps_it_loses_nothing(stage: Stage) -> None:
    card = await completed(stage)
    question = await asked(stage, card)
    assert card.is_there
    await stage.press(stage.ada, question, "Keep it")
    assert question.text == job_card.DELETE_KEPT()
    assert card.is_there
    assert (await stage.jobs())[0].request.prompt == PROMPT
    assert await delete(stage, card) == job_card.DELETE_DONE()


@pytest.mark.hostile("G-51")
async def test_an_image_that_another_order_has_stays_stored(stage: Stage) -> None:
    first, second = await completed(stage), await completed(stage)
    newest, oldest = await stage.jobs()
    assert newest.images[0].sha256 == oldest.images[0].sha256
    await delete(stage, first)
    assert await stage.core.service.blob_store.get(newest.images[0].sha256) is not None
    await delete(stage, second)
    assert await stage.core.service.blob_store.get(newest.images[0].sha256) is None


@pytest.mark.hostile("G-51")
async def test_all_images_of_a_command_go_together(stage: Stage) -> None:
    card = await completed(stage, count=3, model=FLUX)
    await delete(stage, card)
    assert not card.is_there
    assert [(job.request.prompt, job.images, job.seed) for job in await stage.jobs()] == [("", (), None)] * 3


@pytest.mark.hostile("G-51")
async def test_a_private_card_is_deleted_too(stage: Stage) -> None:
    card = await completed(stage, private=True)
    assert await delete(stage, card) == job_card.DELETE_DONE()
    assert not card.is_there
    assert "walrus" not in everything_in(stage.core.settings.database_url)


@pytest.mark.hostile("G-51")
async def test_a_private_card_is_deleted_from_history_too_while_its_token_lives(stage: Stage) -> None:
    card = await completed(stage, private=True)
    history = stage.said(await stage.ada.slash(stage.channel, "history"))
    await stage.press(stage.ada, history, "Delete")
    said = stage.said(await stage.press(stage.ada, history, "Delete"))
    assert said.text == job_card.DELETE_DONE()
    assert not card.is_there


@pytest.mark.hostile("G-51")
async def test_a_private_card_whose_click_is_forgotten_is_said_to_stay_until_a_reload(stage: Stage) -> None:
    card = await completed(stage, private=True)
    question = await asked(stage, card)
    await stage.restart()
    stage.env.inject_error("DELETE", "/webhooks/*", status=404, code=10015, times=None)
    await stage.press(stage.ada, question, "Delete")
    assert question.text.splitlines() == [job_card.DELETE_DONE(), job_card.DELETE_PRIVATE_CARD()]
    assert card.is_there
    assert "walrus" not in everything_in(stage.core.settings.database_url)


@pytest.mark.hostile("G-51")
async def test_a_card_handed_over_by_direct_message_is_deleted_in_both_places(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(prompt=PROMPT)
    await stage.until_says(card, "Processing")
    stage.env.backend.clock.advance(16 * 60)  # the token has died, and the channel takes no edit
    stage.env.inject_error("PATCH", "/webhooks/*", status=404, code=10015, times=None)
    stage.env.inject_error("PATCH", f"/channels/{stage.channel.id}/messages/*", status=403, code=50001, times=None)
    stage.core.krea.finishes()
    reply_id = (await stage.jobs())[0].reply_id
    await stage.until(lambda: rows(stage.core.settings.database_url, "SELECT 1 FROM reply_copies"))
    reply = await stage.core.store.reply(reply_id)
    assert reply is not None
    direct = reply.address
    assert direct.channel_id != stage.channel.id
    assert direct.message_id is not None
    assert direct.message_id in stage.env.backend.messages[direct.channel_id]
    stage.env.backend.faults.clear()

    history = stage.said(await stage.ada.slash(stage.channel, "history"))
    await stage.press(stage.ada, history, "Delete")
    await stage.press(stage.ada, history, "Delete")

    assert not card.is_there
    assert direct.message_id not in stage.env.backend.messages[direct.channel_id]
    assert pending(stage) == []


# -- /history -----------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-51")
async def test_history_deletes_the_order_it_shows_and_goes_on_with_its_neighbour(stage: Stage) -> None:
    cards = [await completed(stage, prompt=prompt) for prompt in ("first", "second", "third")]
    page = stage.said(await stage.ada.slash(stage.channel, "history"))
    await stage.press(stage.ada, page, "Older")
    assert "prompt: second" in page.text
    await stage.press(stage.ada, page, "Delete")
    assert "cannot be undone" in page.text
    await stage.press(stage.ada, page, "Keep it")
    assert "prompt: second" in page.text
    await stage.press(stage.ada, page, "Delete")
    result = stage.said(await stage.press(stage.ada, page, "Delete"))
    assert result.text == job_card.DELETE_DONE()
    assert "prompt: first" in page.text
    assert page.title.endswith("2 of 2")
    assert [card.is_there for card in cards] == [True, False, True]


@pytest.mark.hostile("G-51")
async def test_history_of_one_model_stays_with_that_model(stage: Stage) -> None:
    await completed(stage, prompt="flux one", model=FLUX)
    await completed(stage, prompt="banana")
    await completed(stage, prompt="flux two", model=FLUX)
    page = stage.said(await stage.ada.slash(stage.channel, "history", model=FLUX))
    await stage.press(stage.ada, page, "Delete")
    await stage.press(stage.ada, page, "Delete")
    assert "prompt: flux one" in page.text
    assert page.title.endswith("1 of 1")


@pytest.mark.hostile("G-51")
async def test_an_order_whose_prompt_has_reached_its_age_can_still_be_deleted(stage: Stage) -> None:
    log = await logged(stage)
    card = await completed(stage)
    await recorded_copies(stage)
    await stage.core.store.forget_old(now=datetime.now(UTC) + timedelta(days=31))
    page = stage.said(await stage.ada.slash(stage.channel, "history"))
    await stage.press(stage.ada, page, "Delete")
    await stage.press(stage.ada, page, "Delete")
    assert not card.is_there
    assert [entry.text for entry in stage.cards(log)] == [moderation.LOG_HELLO()]


# -- who may ---------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-51")
async def test_a_moderators_delete_does_the_same_and_is_on_record(stage: Stage) -> None:
    log = await logged(stage)
    card = await completed(stage)
    await recorded_copies(stage)
    assert await delete(stage, card, stage.mo) == job_card.DELETE_DONE()
    assert not card.is_there
    assert [entry.text for entry in stage.cards(log)] == [moderation.LOG_HELLO()]
    assert "walrus" not in everything_in(stage.core.settings.database_url)
    entry = (await stage.core.store.audit(stage.guild.id))[0]
    assert (entry.action, entry.actor_id, entry.subject_id, entry.reason) == (
        "delete",
        stage.mo.id,
        stage.ada.id,
        None,
    )
    assert f"{stage.mo.mention} deleted an image of {stage.ada.mention}" in (await stage.quota("audit")).text


@pytest.mark.hostile("G-51")
async def test_a_members_own_delete_is_not_on_the_moderators_record(stage: Stage) -> None:
    await delete(stage, await completed(stage))
    assert await stage.core.store.audit(stage.guild.id) == []


@pytest.mark.hostile("G-51")
async def test_a_moderator_deletes_an_order_from_the_list_of_jobs(stage: Stage) -> None:
    private = await completed(stage, private=True)
    page = stage.said(await stage.mo.slash(stage.channel, "jobs"))
    assert "walrus" not in page.text
    (select,) = [part for part in page.components if part.get("custom_id") == "jobs:delete"]
    chosen = await stage.mo.select(page.message, [select["options"][0]["value"]], custom_id="jobs:delete")
    question = stage.said(chosen)
    await stage.press(stage.mo, question, "Delete")
    assert question.text == job_card.DELETE_DONE()
    assert "walrus" not in everything_in(stage.core.settings.database_url)
    page = stage.said(await stage.mo.slash(stage.channel, "jobs"))
    assert page.text.endswith("private · deleted")
    assert not [part for part in page.components if part.get("custom_id") == "jobs:delete"]
    assert not private.is_there


async def forged(stage: Stage, who: Any, custom_id: str) -> InteractionResult:
    """Click a button that the bot never made for this member, as a modified client could."""
    card = await completed(stage, who)
    stored = card.stored.components
    (container,) = stored
    container["components"][-1]["components"][0]["custom_id"] = custom_id
    return await who.click(card.message, custom_id=custom_id)


@pytest.mark.hostile("G-51")
@pytest.mark.parametrize("place", ["c", "h", "o"])
@pytest.mark.parametrize("choice", ["ask", "yes", "no"])
async def test_a_forged_answer_of_a_stranger_deletes_nothing(stage: Stage, choice: str, place: str) -> None:
    card = await completed(stage)
    job_id = (await stage.jobs())[0].id
    result = await forged(stage, stage.bob, delete_question.custom_id(choice, job_id, place))
    assert stage.said(result).text == job_card.NOT_YOURS()
    assert card.is_there
    assert (await stage.jobs(stage.ada))[0].request.prompt == PROMPT


@pytest.mark.hostile("G-51")
async def test_a_running_order_is_not_deleted_by_a_forged_answer(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(prompt=PROMPT)
    await stage.until_says(card, "Processing")
    job_id = (await stage.jobs())[0].id
    stage.core.krea.waits = False
    result = await forged(stage, stage.ada, delete_question.custom_id("yes", job_id, "c"))
    assert stage.said(result).text == job_card.DELETE_NOT_YET()
    assert card.is_there


# -- again and again, and what Discord says ---------------------------------------------------------------------


@pytest.mark.hostile("G-51")
async def test_two_answers_at_once_delete_once_and_the_second_reads_so(stage: Stage) -> None:
    card = await completed(stage)
    first, second = await asked(stage, card), await asked(stage, card)
    await stage.press(stage.ada, first, "Delete")
    assert first.text == job_card.DELETE_DONE()
    said = stage.said(await stage.press(stage.ada, second, "Delete"))
    assert job_card.DELETE_ALREADY() in (said.text, second.text)
    assert not card.is_there


@pytest.mark.hostile("G-51")
async def test_the_question_works_after_a_restart(stage: Stage) -> None:
    card = await completed(stage)
    question = await asked(stage, card)
    await stage.restart()
    await stage.press(stage.ada, question, "Delete")
    assert question.text == job_card.DELETE_DONE()
    assert not card.is_there


@pytest.mark.hostile("G-51")
async def test_a_card_that_is_gone_already_is_no_trouble(stage: Stage) -> None:
    card = await completed(stage)
    question = await asked(stage, card)
    stage.env.backend.delete_message(stage.channel.id, card.message.id)
    await stage.press(stage.ada, question, "Delete")
    assert question.text == job_card.DELETE_DONE()
    assert pending(stage) == []


@pytest.mark.hostile("G-51")
@pytest.mark.parametrize(
    ("status", "code", "words"),
    [(403, 50001, "I cannot see that channel"), (500, 0, "did not remove"), (403, 40333, "cannot see")],
)
async def test_what_discord_does_not_delete_is_named_the_data_go_all_the_same_and_it_is_tried_again(
    stage: Stage, status: int, code: int, words: str
) -> None:
    log = await logged(stage)
    card = await completed(stage)
    await recorded_copies(stage)
    stage.env.inject_error("DELETE", f"/channels/{log.id}/messages/*", status=status, code=code, times=None)
    said = await delete(stage, card)
    assert said.startswith(job_card.DELETE_DONE())
    assert f"<#{log.id}>" in said
    assert words in said
    assert not card.is_there
    assert "walrus" not in everything_in(stage.core.settings.database_url)
    assert len(stage.cards(log)) == 2
    stage.env.backend.faults.clear()
    await stage.restart()
    await sweep(stage, after=timedelta(minutes=2))
    assert len(stage.cards(log)) == 1
    assert pending(stage) == []


@pytest.mark.hostile("G-51")
async def test_a_card_that_could_not_be_removed_goes_with_another_press_on_its_delete(stage: Stage) -> None:
    card = await completed(stage)
    question = await asked(stage, card)
    await stage.restart()  # the click, whose token could delete the card, is forgotten
    stage.env.inject_error("DELETE", f"/channels/{stage.channel.id}/messages/*", status=403, code=50001, times=None)
    await stage.press(stage.ada, question, "Delete")
    assert "Press Delete under the message once more" in question.text
    assert card.is_there
    assert stage.said(await stage.press(stage.ada, card, "Recipe")).text == job_card.JOB_GONE()
    assert stage.said(await stage.press(stage.bob, card, "Delete")).text == job_card.NOT_YOURS()
    await stage.press(stage.ada, card, "Delete")
    assert not card.is_there


@pytest.mark.hostile("G-51")
async def test_a_message_that_never_goes_is_given_up_after_some_days(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    log = await logged(stage)
    card = await completed(stage)
    await recorded_copies(stage)
    stage.env.inject_error("DELETE", f"/channels/{log.id}/messages/*", status=403, code=50001, times=None)
    await delete(stage, card)
    elapsed = timedelta(minutes=2)
    for number, pause in enumerate(RETRY_PAUSES, start=1):
        await sweep(stage, after=elapsed)
        assert pending(stage) == [(number,)]
        await sweep(stage, after=elapsed)  # not due
        assert pending(stage) == [(number,)]
        elapsed += pause + timedelta(seconds=1)
    await sweep(stage, after=elapsed)
    assert pending(stage) == []
    assert timedelta(days=2) < elapsed < timedelta(days=5)
    assert "given up" in caplog.text


@pytest.mark.hostile("G-51")
async def test_discord_that_does_not_answer_keeps_nobody_waiting(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    log = await logged(stage)
    card = await completed(stage)
    await recorded_copies(stage)

    async def silent(channel_id: int, message_id: int) -> None:
        raise TimeoutError

    monkeypatch.setattr(stage.core.bot.messages, "delete", silent)
    said = await delete(stage, card)
    assert job_card.DELETE_LATER(channel=f"<#{log.id}>") in said
    assert pending(stage) == [(0,)]
    assert message_deletions.FIRST_ATTEMPTS_TIMEOUT_SECONDS <= 10


@pytest.mark.hostile("G-51")
async def test_a_log_copy_that_is_posted_after_the_deletion_is_deleted_too(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = await logged(stage)
    post = stage.core.bot.messages.post
    deleted: list[str] = []

    async def after_the_deletion(channel_id: int, layout: Any, **options: Any) -> Any:
        if channel_id == log.id:
            reply_id = (await stage.jobs())[0].reply_id
            assert await stage.core.service.delete_order(reply_id, actor_id=stage.ada.id) is not None
            deleted.append(reply_id)
        return await post(channel_id, layout, **options)

    monkeypatch.setattr(stage.core.bot.messages, "post", after_the_deletion)
    await completed(stage)
    await stage.until(lambda: deleted)
    await stage.until(lambda: len(pending(stage)) == 2)  # the card, and the copy
    await sweep(stage, after=timedelta(minutes=2))
    assert [entry.text for entry in stage.cards(log)] == [moderation.LOG_HELLO()]


@pytest.mark.hostile("G-51")
async def test_copies_whose_id_was_not_recorded_are_named(stage: Stage) -> None:
    card = await completed(stage)
    log = await logged(stage)  # as if the order had been logged before the bot recorded the copies
    said = await delete(stage, card)
    assert said.splitlines() == [job_card.DELETE_DONE(), job_card.DELETE_LOG_UNKNOWN(channel=f"<#{log.id}>")]


@pytest.mark.hostile("G-51")
async def test_privacy_delete_takes_the_log_copies_too(stage: Stage) -> None:
    log = await logged(stage)
    await completed(stage)
    await completed(stage, private=True)
    others = await completed(stage, stage.bob)
    await recorded_copies(stage, 3)
    question = stage.said(await stage.ada.slash(stage.channel, "privacy delete"))
    await stage.press(stage.ada, question, member_pages.ERASE())
    await sweep(stage, after=timedelta())
    entries = [entry.text for entry in stage.cards(log)]
    assert len(entries) == 2
    assert stage.bob.mention in entries[1]
    assert others.is_there


@pytest.mark.hostile("G-51")
async def test_the_export_of_a_member_has_no_word_of_a_deleted_order(stage: Stage) -> None:
    await delete(stage, await completed(stage))
    kept = await everything_kept(stage.core.store, stage.ada.id)
    assert re.search("walrus", str(kept)) is None
    assert kept["commands"][0]["deleted_at"] is not None
    assert kept["commands"][0]["jobs"][0]["charged_usd"] == "$0.08"


def test_discord_is_asked_for_as_long_as_the_texts_say() -> None:
    assert sum(RETRY_PAUSES, timedelta()) == timedelta(days=4)
    assert "four days" in job_card.DELETE_LATER(channel="#log")


# -- private orders -----------------------------------------------------------------------------------------


@pytest.mark.hostile("G-55")
@pytest.mark.parametrize("action", ["recipe", "again", "vary", "edit"])
async def test_a_moderator_learns_nothing_of_a_private_order_from_a_forged_button(stage: Stage, action: str) -> None:
    await completed(stage, private=True)
    job_id = (await stage.jobs(stage.ada))[0].id
    suffix = ":80000" if action in ("again", "vary") else ""
    result = await forged(stage, stage.mo, f"job:{action}:{job_id}{suffix}")
    assert result.modal is None
    assert stage.said(result).text == job_card.PRIVATE_ORDER()
    assert len(stage.core.krea.orders) == 2


@pytest.mark.hostile("G-55")
async def test_a_moderator_cannot_upscale_a_private_order(stage: Stage) -> None:
    await completed(stage, private=True)
    job_id = (await stage.jobs(stage.ada))[0].id
    result = await forged(stage, stage.mo, f"upscale:{job_id}:1:9000000")
    assert stage.said(result).text == job_card.PRIVATE_ORDER()


@pytest.mark.hostile("G-55")
async def test_a_moderator_may_cancel_a_private_order(stage: Stage) -> None:
    stage.core.krea.waits = True
    await stage.imagine(private=True, prompt=PROMPT)
    await stage.until(lambda: stage.core.krea.accepted)
    job_id = (await stage.jobs(stage.ada))[0].id
    stage.core.krea.waits = False
    result = await forged(stage, stage.mo, f"job:cancel:{job_id}")
    assert stage.said(result).text == job_card.CANCEL_ASKED()
