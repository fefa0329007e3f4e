"""Review: moderators see images before everybody else; spoilers cover images until they are clicked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from bot.domain.errors import ProviderRejected
from bot.domain.jobs import FailureReason, Job
from cogs.text import job_card, member_pages, moderation
from tests.support.catalogue_samples import FLUX
from tests.support.databases import rows
from tests.support.discord_stage import Card, Stage
from tests.support.store_samples import operator_cost
from tests.support.transport_double import TransportDouble, refused


async def reviewed(stage: Stage, **rule: Any) -> Any:
    """Have images of the channel, or of what `rule` says, reviewed; return the channel where moderators decide."""
    desk = stage.guild.create_text_channel("desk")
    said = await stage.settings(
        "review", action="add", review_channel=desk, reason="small children", **(rule or {"channel": stage.channel})
    )
    assert moderation.REVIEW_IS(channel=desk.mention) in said.text
    return desk


async def waiting(stage: Stage, desk: Any, **options: Any) -> tuple[Card, Card]:
    """Order an image; return its card, which waits, and the question."""
    before = len(stage.cards(desk))
    card = await stage.imagine(**options)
    await stage.until_says(card, "Waiting for review")
    await stage.until(lambda: len(stage.cards(desk)) > before)
    await stage.quiet()
    return card, stage.cards(desk)[-1]


async def refuse(stage: Stage, question: Card, reason: str = "too scary") -> None:
    form = await stage.press(stage.mo, question, "Refuse")
    await stage.mo.submit_modal(form, {"reason": reason})


async def approved(stage: Stage, job: Job, question: Card) -> None:
    """Record an approval without showing it."""
    decided = await stage.core.store.decide_review(
        job.reply_id,
        guild_id=stage.guild.id,
        message_id=question.message.id,
        approves=True,
        actor_id=stage.mo.id,
        reason=None,
        now=datetime.now(UTC),
    )
    assert decided is not None


def public_files(stage: Stage, *but: Any) -> list[str]:
    """List the files of every public message of the bot outside these channels."""
    hidden = {channel.id for channel in but}
    return [
        file["filename"]
        for channel_id in stage.env.backend.messages
        if channel_id not in hidden
        for card in stage.cards(type("Channel", (), {"id": channel_id}))
        for file in card.files
    ]


async def test_an_image_is_seen_by_moderators_first_and_by_everybody_once_one_approves(stage: Stage) -> None:
    log = stage.guild.create_text_channel("log")
    await stage.settings("log-channel", channel=log)
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    assert card.title.startswith("🔎 Waiting for review")
    assert job_card.REVIEW_WAITING() in card.text
    assert set(card.buttons) == {"Delete"}
    assert public_files(stage, desk) == []
    assert "cost **$0.08**" in card.text
    assert (await stage.balance()).spent_usd_micros == 80_000
    assert len(question.files) == 1
    assert "a red fox" in question.text
    assert len(stage.cards(log)) == 1, "only the greeting of the log"
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed")
    await stage.quiet()
    assert card.file() == question.file()
    assert "Share" in card.buttons
    assert job_card.APPROVED_BY(who=stage.mo.mention) in question.text
    assert question.buttons == {}
    assert len(stage.cards(log)[-1].files) == 1
    audit = (await stage.quota("audit")).text
    assert f"{stage.mo.mention} approved an image of {stage.ada.mention}" in audit


async def test_a_refused_image_is_never_public_and_is_charged_and_says_why(stage: Stage) -> None:
    log = stage.guild.create_text_channel("log")
    await stage.settings("log-channel", channel=log)
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    await refuse(stage, question)
    await stage.until_says(card, "🚫 Refused", "too scary")
    await stage.quiet()
    assert set(card.buttons) == {"Delete"}
    assert "a red fox" not in card.text
    assert public_files(stage, desk) == []
    assert job_card.REFUSED_BY_BECAUSE(who=stage.mo.mention, reason="too scary") in question.text
    assert question.buttons == {}
    assert "Refused" in stage.cards(log)[-1].text
    assert (await stage.balance()).spent_usd_micros == 80_000
    audit = (await stage.quota("audit")).text
    assert f"{stage.mo.mention} refused an image of {stage.ada.mention}" in audit
    assert "too scary" in audit


@pytest.mark.hostile("G-29")
async def test_a_decision_does_not_show_the_prompt_that_discord_refused_in_the_question(stage: Stage) -> None:
    desk = await reviewed(stage)
    blocked = [refused(400, 200000)]

    async def block_once(_method: str, _path: str, has_files: bool) -> None:
        if has_files and blocked:
            raise blocked.pop()

    TransportDouble(stage.core.bot).on_call = block_once
    _, question = await waiting(stage, desk, prompt="a naughty fox")
    assert job_card.PROMPT_HIDDEN() in question.text
    await stage.press(stage.mo, question, "Approve")
    await stage.quiet()
    assert job_card.APPROVED_BY(who=stage.mo.mention) in question.text
    assert job_card.PROMPT_HIDDEN() in question.text
    assert "naughty" not in str(question.components)


@pytest.mark.hostile("G-16")
async def test_a_card_that_waits_for_a_review_is_removed_with_the_data_of_its_member(stage: Stage) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    erase = stage.said(await stage.ada.slash(stage.channel, "privacy delete"))
    await stage.press(stage.ada, erase, member_pages.ERASE())
    await stage.core.bot.message_deletions.sweep(now=datetime.now(UTC))
    assert not card.is_there
    assert not question.is_there


async def test_its_member_finds_it_in_their_history_and_can_only_delete_it(stage: Stage) -> None:
    desk = await reviewed(stage)
    _, question = await waiting(stage, desk)
    for state in ("Waiting for review", "Refused"):
        page = stage.said(await stage.ada.slash(stage.channel, "history"))
        assert page.private
        assert f"{state}** · {job_card.REVIEW_OWN()}" in page.text
        assert "appears here" not in page.text, "it is here, and nobody else sees it"
        assert len(page.gallery) == 1
        assert set(page.buttons) == {"Delete", "☆ Favourite"}
        if state == "Waiting for review":
            await refuse(stage, question)
            await stage.quiet()


@pytest.mark.parametrize("decided", [False, True])
async def test_no_button_brings_an_image_out_before_it_is_approved(stage: Stage, decided: bool) -> None:
    hall = stage.guild.create_text_channel("hall")
    await stage.settings("showcase", channel=hall)
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    if decided:
        await refuse(stage, question)
        await stage.until_says(card, "Refused")
        await stage.quiet()
    said = job_card.REVIEW_NOT_PASSED if decided else job_card.REVIEW_NOT_YET
    (job,) = await stage.jobs()
    button = next(part for part in card.components if part.get("label") == "Delete")
    for custom_id in (
        f"share:{job.id}",
        f"upscale:{job.id}:0:900000",
        *(f"job:{action}:{job.id}" for action in ("remix", "recipe", "edit", "editone")),
        *(f"job:{action}:{job.id}:900000" for action in ("again", "vary", "varyone")),
    ):
        button["custom_id"] = custom_id
        for who in (stage.ada, stage.mo):
            answer = stage.said(await who.click(card.message, custom_id=custom_id))
            assert answer.text == said(), custom_id
    assert stage.cards(hall) == []
    assert len(await stage.jobs()) == 1


async def test_a_decision_survives_restarts_and_waits_for_as_long_as_it_takes(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    await stage.restart()
    in_two_months = datetime.now(UTC) + timedelta(days=60)
    await stage.core.store.forget_old(now=in_two_months)
    (job,) = await stage.jobs()
    assert job.images[0].sha256 in await stage.core.store.sha256_in_use(now=in_two_months)
    assert "a red fox" in card.text
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed", "a red fox")
    await stage.quiet()
    assert len(card.files) == 1
    assert len(stage.cards(desk)) == 1


async def test_a_process_that_ends_after_the_decision_leaves_the_card_to_the_next(stage: Stage) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    (job,) = await stage.jobs()
    await approved(stage, job, question)
    await stage.restart()
    await stage.until_says(card, "Completed")
    said = stage.said(await stage.press(stage.mo, question, "Refuse"))
    assert said.text == job_card.REVIEW_ALREADY_APPROVED()


async def test_a_question_whose_posting_had_no_answer_is_found_and_not_posted_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await reviewed(stage)
    post = stage.core.bot.messages.post

    async def unanswered(*args: Any, **options: Any) -> None:
        await post(*args, **options)
        raise aiohttp.ServerDisconnectedError

    with monkeypatch.context() as context:
        context.setattr(stage.core.bot.messages, "post", unanswered)
        card, question = await waiting(stage, desk)
    await stage.restart()
    requests = stage.core.bot.review_requests
    later = datetime.now(UTC) + timedelta(minutes=3)
    assert await requests.sweep(datetime.now(UTC)) == 0
    monkeypatch.setattr(stage.core.service, "now", lambda: later)
    assert await requests.sweep(later) == 1
    assert await requests.sweep(later) == 0
    assert len(stage.cards(desk)) == 1
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed")


async def test_a_review_channel_that_refuses_is_asked_again_and_another_one_can_take_its_place(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = await reviewed(stage)
    stage.env.inject_error("POST", f"/channels/{desk.id}/messages", status=403, code=50013, times=9)
    card = await stage.imagine()
    await stage.until_says(card, "Waiting for review")
    await stage.quiet()
    assert moderation.REVIEW_WAITING(1) in (await stage.settings("review")).text
    other = stage.guild.create_text_channel("other")
    await stage.settings("review", review_channel=other)
    later = datetime.now(UTC) + timedelta(minutes=6)
    monkeypatch.setattr(stage.core.service, "now", lambda: later)
    await stage.core.bot.review_requests.sweep(later)
    [question] = stage.cards(other)
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed")


@pytest.mark.parametrize("is_deleted", [True, False], ids=["deleted", "still there"])
async def test_what_waits_is_asked_about_in_the_channel_that_moderators_choose_next(
    stage: Stage, is_deleted: bool
) -> None:
    desk = await reviewed(stage)
    card, former = await waiting(stage, desk)
    decided_card, decided = await waiting(stage, desk)
    await stage.press(stage.mo, decided, "Approve")
    await stage.until_says(decided_card, "Completed")
    if is_deleted:
        stage.env.backend.delete_channel(desk.id)
    other = stage.guild.create_text_channel("other")
    await stage.settings("review", review_channel=other)
    await stage.core.bot.review_requests.sweep(datetime.now(UTC))
    [question] = stage.cards(other)
    if not is_deleted:
        said = stage.said(await stage.press(stage.mo, former, "Approve")).text
        assert said == job_card.REVIEW_ELSEWHERE()
        await stage.core.bot.message_deletions.sweep(now=datetime.now(UTC))
        assert [each.message.id for each in stage.cards(desk)] == [decided.message.id]
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed")
    assert len(card.files) == 1


async def test_only_moderators_decide_and_only_one_of_them(stage: Stage) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    for label in ("Approve", "Refuse"):
        assert stage.said(await stage.press(stage.ada, question, label)).private
    assert card.title.startswith("🔎 Waiting for review")
    form = await stage.press(stage.mo, question, "Refuse")
    max_ = stage.person("max", stage.keepers)
    await stage.press(max_, question, "Approve")
    said = stage.said(await stage.mo.submit_modal(form, {"reason": "no"}))
    assert said.text == job_card.REVIEW_ALREADY_APPROVED()
    assert job_card.APPROVED_BY(who=max_.mention) in question.text, "the later click takes no name away"
    await stage.until_says(card, "Completed")


async def test_a_click_while_a_decision_is_being_shown_leaves_the_question_to_the_first(stage: Stage) -> None:
    desk = await reviewed(stage)
    _, question = await waiting(stage, desk)
    (job,) = await stage.jobs()
    with stage.core.bot.review_requests.deciding_about(job.reply_id):  # as a click of another moderator does
        await approved(stage, job, question)
        said = stage.said(await stage.press(stage.mo, question, "Refuse"))
        assert said.text == job_card.REVIEW_ALREADY_APPROVED()
        assert set(question.buttons) == {"Approve", "Refuse"}, "the first click shows who decided"


@pytest.mark.parametrize("rule", ["role", "model"])
async def test_images_of_a_role_or_a_model_are_reviewed_and_no_others(stage: Stage, rule: str) -> None:
    cleo = stage.person("cleo", stage.artists)
    await reviewed(stage, **({"role": stage.artists} if rule == "role" else {"model": "krea/bfl/*"}))
    free = await stage.imagine(cleo if rule == "model" else stage.ada)
    await stage.until_says(free, "Completed")
    held = await stage.imagine(cleo if rule == "role" else stage.ada, model=FLUX)
    await stage.until_says(held, "Waiting for review")


async def test_several_images_are_reviewed_together_and_a_failed_order_is_not(stage: Stage) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk, model=FLUX, count=3)
    assert len(question.files) == 3
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed", "3 of 3")
    await stage.quiet()
    assert len(card.files) == 3
    stage.core.krea.troubles.append(ProviderRejected("unsafe", status=400))
    failed = await stage.imagine()
    await stage.until_says(failed, "Failed", "not charged")
    await stage.quiet()
    assert len(stage.cards(desk)) == 1
    assert await stage.core.store.waiting_reviews(stage.guild.id) == 0


async def test_a_private_image_is_not_reviewed_and_not_shared(stage: Stage) -> None:
    hall = stage.guild.create_text_channel("hall")
    await stage.settings("showcase", channel=hall)
    desk = await reviewed(stage)
    private = await stage.imagine(private=True)
    await stage.until_says(private, "Completed")
    await stage.quiet()
    assert stage.cards(desk) == []
    said = stage.said(await stage.press(stage.ada, private, "Share"))
    assert said.text == job_card.SHARE_NOT_REVIEWED()
    assert stage.cards(hall) == []


@pytest.mark.parametrize("when", ["before the question", "before the decision"])
@pytest.mark.parametrize("still_there", [True, False])
async def test_an_image_lost_meanwhile_is_fetched_again_or_named_as_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, when: str, still_there: bool
) -> None:
    desk = await reviewed(stage)
    told: list[str] = []
    monkeypatch.setattr(stage.core.bot.operator_alerts, "send", lambda matter, text: told.append(text))
    ask = stage.core.bot.review_requests.ask_soon
    if when == "before the question":
        monkeypatch.setattr(stage.core.bot.review_requests, "ask_soon", lambda reply_id: None)
        card = await stage.imagine()
        await stage.until_says(card, "Waiting for review")
        await stage.quiet()
    else:
        card, _ = await waiting(stage, desk)
    (job,) = await stage.jobs()
    await stage.core.service.blob_store.remove(job.images[0].sha256)
    if not still_there:
        stage.core.server.results.clear()
    if when == "before the question":
        ask(job.reply_id)
        await stage.until(lambda: stage.cards(desk))
        await stage.quiet()
    [question] = stage.cards(desk)
    lost_question = when == "before the question" and not still_there
    assert len(question.files) == (0 if lost_question else 1)
    assert (job_card.IMAGES_LOST(1) in question.text) is lost_question
    assert "appears here" not in question.text
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed" if still_there else "not charged")
    await stage.quiet()
    assert len(card.files) == still_there
    assert (job_card.FAILURES[FailureReason.IMAGE_LOST]() in card.text) is not still_there
    assert await operator_cost(stage.core.store) == (0 if still_there else job.reserved_usd_micros)
    assert any("is lost" in text for text in told) is not still_there


@pytest.mark.parametrize("how", ["card", "privacy"])
async def test_deleting_the_order_takes_the_question(stage: Stage, how: str) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    if how == "card":
        ask = stage.said(await stage.press(stage.ada, card, "Delete"))
        await stage.press(stage.ada, ask, "Delete")
    else:
        ask = stage.said(await stage.ada.slash(stage.channel, "privacy delete"))
        await stage.press(stage.ada, ask, member_pages.ERASE())
        await stage.core.bot.message_deletions.sweep(now=datetime.now(UTC))
    assert not question.is_there
    assert stage.cards(desk) == []
    assert rows(stage.core.settings.database_url, "SELECT 1 FROM reviews") == []


async def test_what_waits_can_be_decided_after_review_was_switched_off(stage: Stage) -> None:
    desk = await reviewed(stage)
    card, question = await waiting(stage, desk)
    said = await stage.settings("review", action="clear")
    assert moderation.REVIEW_IS_OFF() in said.text
    free = await stage.imagine()
    await stage.until_says(free, "Completed")
    assert card.title.startswith("🔎 Waiting for review")
    await stage.press(stage.mo, question, "Approve")
    await stage.until_says(card, "Completed")


async def test_settings_review_says_what_is_missing(stage: Stage) -> None:
    said = await stage.settings("review", action="add", channel=stage.channel)
    assert said.text == moderation.NAME_REVIEW_CHANNEL()
    assert (await stage.settings("review", action="add")).text == moderation.NAME_REVIEW()
    assert moderation.ACTION_FIRST() in (await stage.settings("review", channel=stage.channel)).text
    desk = await reviewed(stage)
    assert moderation.REVIEW_AUDIENCE(channel=desk.mention) in (await stage.settings("review")).text
    unknown = await stage.settings("review", action="add", model="krea/nothing/*")
    assert unknown.text == moderation.NO_MODEL_MATCHES(pattern="krea/nothing/*")
    shown = (await stage.settings("show")).text
    assert f"{stage.channel.mention} · in {desk.mention}" in shown
    audit = (await stage.quota("audit")).text
    assert "changed what moderators review" in audit
    await stage.settings("review", action="remove", channel=stage.channel)
    assert moderation.REVIEW_NAMES_NOTHING(channel=desk.mention) in (await stage.settings("review")).text


async def test_images_of_a_channel_with_spoilers_are_covered_everywhere(stage: Stage) -> None:
    hall, plain = stage.guild.create_text_channel("hall"), stage.guild.create_text_channel("plain")
    await stage.settings("showcase", channel=hall)
    place = stage.channel
    said = await stage.settings("spoilers", action="add", channel=place)
    assert place.mention in said.text
    card = await stage.imagine()
    await stage.until_says(card, "Completed")
    await stage.quiet()
    assert [item["spoiler"] for item in card.gallery] == [True]
    await stage.press(stage.ada, card, "Share")
    assert [item["spoiler"] for item in stage.cards(hall)[0].gallery] == [True]
    other = stage.ordered(await stage.ada.slash(plain, "imagine", prompt="a red fox"))
    await stage.until_says(other, "Completed")
    await stage.quiet()
    assert [item["spoiler"] for item in other.gallery] == [False]
    assert place.mention in (await stage.settings("show")).text
    assert "changed where images are covered" in (await stage.quota("audit")).text
    await stage.settings("spoilers", action="remove", channel=place)
    assert moderation.SPOILERS_ARE_OFF() in (await stage.settings("spoilers")).text
