"""/privacy: a member exports their own data as a file, and erases them after a confirmation."""

from __future__ import annotations

import gzip
import json
import secrets
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain.errors import OutcomeUncertain, StoreError
from bot.domain.jobs import Delivery
from cogs.members import export_file, privacy
from cogs.text import formatting, job_card, member_pages
from tests.support.discord_stage import Card, Stage


async def ask(stage: Stage, command: str, who: Any = None) -> Card:
    return stage.said(await (who or stage.ada).slash(stage.channel, f"privacy {command}"))


async def completed(stage: Stage, who: Any = None, **options: Any) -> Card:
    card = await stage.imagine(who, **options)
    await stage.until_says(card, "Completed")
    await stage.quiet()
    return card


# -- export -------------------------------------------------------------------------------------------


async def test_f59_the_export_is_a_private_file_with_what_was_asked_and_paid(stage: Stage) -> None:
    card = await completed(stage, prompt="a red fox")
    await completed(stage, stage.bob, prompt="a blue whale")
    answer = await ask(stage, "export")
    assert answer.private
    assert "Only you can see this message" in answer.text
    assert [file["filename"] for file in answer.files] == ["privacy-export.json"]
    data = json.loads(answer.file())
    (command,) = data["commands"]
    assert command["message_link"] == (
        f"https://discord.com/channels/{stage.guild.id}/{stage.channel.id}/{card.message.id}"
    )
    assert [(job["prompt"], job["charged_usd"]) for job in command["jobs"]] == [("a red fox", "$0.08")]
    assert "a blue whale" not in answer.file().decode()
    assert [job["paid_by_the_operator_usd"] for job in command["jobs"]] == ["$0.00"]
    token = (await stage.core.store.reply_of_job(command["jobs"][0]["id"])).address.token  # pyright: ignore[reportOptionalMemberAccess]
    assert token is not None
    assert token not in answer.file().decode()


async def test_a_long_export_is_packed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_file, "MAX_PLAIN_BYTES", 3_000)
    await completed(stage, prompt="fox " * 500)
    answer = await ask(stage, "export")
    assert [file["filename"] for file in answer.files] == ["privacy-export.json.gz"]
    assert len(answer.file()) < 3_000
    data = json.loads(gzip.decompress(answer.file()))
    assert data["commands"][0]["jobs"][0]["prompt"].startswith("fox fox")


@pytest.mark.hostile("G-07")
async def test_an_export_that_fits_nowhere_says_so_and_reads_no_further(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = 0

    async def endless(user_id: int) -> AsyncGenerator[tuple[str, list[dict[str, Any]]], None]:
        nonlocal parts
        while True:
            parts += 1
            yield "ledger", [{"noise": secrets.token_hex(6_000_000)}]

    monkeypatch.setattr(stage.core.store, "kept_about", endless)
    assert member_pages.EXPORT_TOO_LARGE() in (await ask(stage, "export")).text
    assert parts <= 5


# -- delete --------------------------------------------------------------------------------------------


async def test_f59_erasing_asks_first_and_then_the_card_is_no_longer_known(stage: Stage) -> None:
    card = await completed(stage, prompt="a red fox")
    others = await completed(stage, stage.bob)
    question = await ask(stage, "delete")
    assert question.private
    assert "1 command, 1 image, 1 server" in question.text
    assert list(question.buttons) == [member_pages.ERASE(), member_pages.ERASE_NOT()]
    spent = (await stage.balance()).spent_usd_micros

    await stage.press(stage.ada, question, member_pages.ERASE())

    assert question.text == member_pages.ERASE_DONE()
    assert question.buttons == {}
    assert await stage.jobs(stage.ada) == []
    assert len(await stage.jobs(stage.bob)) == 1
    assert (await stage.balance()).spent_usd_micros == spent  # the quota does not start again
    assert card.is_there
    for label in ("Again", "Edit", "Recipe", "Delete"):
        assert stage.said(await stage.press(stage.ada, card, label)).text == job_card.JOB_GONE()
    assert "Recipe" in stage.said(await stage.press(stage.bob, others, "Recipe")).text
    assert member_pages.HISTORY_EMPTY() in stage.said(await stage.ada.slash(stage.channel, "history")).text


async def test_the_files_go_with_the_rest(stage: Stage) -> None:
    await completed(stage)
    (job,) = await stage.jobs(stage.ada)
    sha256 = job.images[0].sha256
    assert await stage.core.service.blob_store.get(sha256) is not None
    await stage.press(stage.ada, await ask(stage, "delete"), member_pages.ERASE())
    assert await stage.core.service.blob_store.get(sha256) is None


async def test_who_keeps_their_data_loses_nothing(stage: Stage) -> None:
    await completed(stage)
    question = await ask(stage, "delete")
    await stage.press(stage.ada, question, member_pages.ERASE_NOT())
    assert question.text == member_pages.ERASE_KEPT()
    assert len(await stage.jobs(stage.ada)) == 1


async def test_nothing_is_erased_while_a_job_runs_and_the_refusal_says_how_to_go_on(stage: Stage) -> None:
    question = await ask(stage, "delete")
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    refusal = await ask(stage, "delete")
    assert "still have orders in progress (1)" in refusal.text
    assert "press Cancel" in refusal.text
    assert refusal.buttons == {}
    await stage.press(stage.ada, question, member_pages.ERASE())  # asked before the job was ordered
    assert "still have orders in progress" in question.text
    assert len(await stage.jobs(stage.ada)) == 1
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")


async def test_who_waits_for_a_lost_order_is_told_until_when(stage: Stage) -> None:
    stage.core.krea.troubles.append(OutcomeUncertain("lost"))
    await stage.until_says(await stage.imagine(), "Checking")
    job = (await stage.jobs(stage.ada))[0]
    assert job.deadline_at is not None
    refusal = await ask(stage, "delete")
    assert "Those that say **Checking** cannot be cancelled" in refusal.text
    assert formatting.moment(job.deadline_at) in refusal.text


async def test_an_old_question_is_not_taken_for_a_yes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await completed(stage)
    question = await ask(stage, "delete")
    monkeypatch.setattr(privacy, "CONFIRM_SECONDS", -1)
    await stage.press(stage.ada, question, member_pages.ERASE())
    assert question.text == member_pages.ERASE_STALE()
    assert len(await stage.jobs(stage.ada)) == 1


async def test_a_question_is_still_answered_after_a_restart(stage: Stage) -> None:
    await completed(stage)
    question = await ask(stage, "delete")
    await stage.restart()
    await stage.press(stage.ada, question, member_pages.ERASE())
    assert question.text == member_pages.ERASE_DONE()


@pytest.mark.hostile("G-52")
async def test_the_record_keeps_a_former_member_for_ninety_days_and_the_report_does_not(stage: Stage) -> None:
    await completed(stage)
    await stage.quota("set", member=stage.ada, amount="5", reason="a fan of foxes")
    await stage.press(stage.ada, await ask(stage, "delete"), member_pages.ERASE())
    change = "not set → $5.00 per day"
    record = await stage.quota("audit")
    assert f"{stage.mo.mention} set the limit of {stage.ada.mention}: {change} · `a fan of foxes`" in record.text
    await stage.core.store.forget_names_on_record(now=datetime.now(UTC) + timedelta(days=91))
    record = await stage.quota("audit")
    assert f"a former member set the limit of a former member: {change}" in record.text
    assert "foxes" not in record.text
    assert "a former member" in (await stage.quota("report")).text
    assert "$5.00" in (await stage.quota("show", member=stage.ada)).text  # what a moderator decided stays


async def test_a_prompt_past_its_age_cannot_be_ordered_again_and_is_not_shown(stage: Stage) -> None:
    card = await completed(stage, prompt="a red fox")
    await stage.core.store.forget_old(now=datetime.now(UTC) + timedelta(days=31))
    for label in ("Again", "Recipe"):
        assert stage.said(await stage.press(stage.ada, card, label)).text == job_card.PROMPT_ERASED()
    usage = stage.said(await stage.ada.slash(stage.channel, "usage"))
    assert "Completed · Nano Banana 2 · $0.08" in usage.text
    assert "fox" not in usage.text


def test_the_question_fits_into_a_button_whatever_the_ids() -> None:
    custom_id = privacy.custom_id("erase", 2**64 - 1, 99_999_999_999)
    assert len(custom_id) <= 100
    assert privacy.CUSTOM_ID.fullmatch(custom_id)


async def test_a_picture_that_cannot_be_removed_now_stops_nothing(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await completed(stage)
    (job,) = await stage.jobs(stage.ada)
    reply = await stage.core.store.reply(job.reply_id)
    assert reply is not None
    assert reply.delivery is Delivery.DELIVERED

    async def broken(sha256: str) -> None:
        raise StoreError("disk")

    monkeypatch.setattr(stage.core.service.blob_store, "remove", broken)
    question = await ask(stage, "delete")
    await stage.press(stage.ada, question, member_pages.ERASE())
    assert question.text == member_pages.ERASE_DONE()
    assert job.images[0].sha256 not in await stage.core.store.sha256_in_use()


async def test_both_commands_work_in_a_direct_message_too(stage: Stage) -> None:
    await completed(stage, prompt="a red fox")
    stage.env.backend.get_dm_channel(stage.ada.id)
    answer = stage.said(await stage.ada.user.slash("privacy export"))
    assert json.loads(answer.file())["commands"][0]["jobs"][0]["prompt"] == "a red fox"
    question = stage.said(await stage.ada.user.slash("privacy delete"))
    custom_id = question.buttons[member_pages.ERASE()]
    await stage.ada.user.click(question.message, custom_id=custom_id)
    assert question.text == member_pages.ERASE_DONE()
    assert await stage.jobs(stage.ada) == []
