"""Share: a finished image goes to the showcase channel once, with credit, and can be taken back."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import discord
import pytest

from cogs.text import formatting, job_card, member_pages, moderation
from tests.support.catalogue_samples import FLUX
from tests.support.databases import rows
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import open_image


async def showcase(stage: Stage) -> Any:
    """Let the moderators choose a showcase channel; return it."""
    hall = stage.guild.create_text_channel("hall")
    said = await stage.settings("showcase", channel=hall, reason="to look at")
    assert moderation.SHOWCASE_IS(channel=hall.mention) in said.text
    return hall


async def completed(stage: Stage, **options: Any) -> Card:
    card = await stage.imagine(**options)
    await stage.until_says(card, "Completed")
    await stage.quiet_editors()
    return card


async def share(stage: Stage, card: Card, who: Any = None) -> str:
    return stage.said(await stage.press(who or stage.ada, card, "Share")).text


def link(stage: Stage, hall: Any, copy: Card) -> str:
    return formatting.link_to_message(stage.guild.id, hall.id, copy.message.id)


async def test_an_image_is_shared_once_with_credit_however_often_it_is_pressed(stage: Stage) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    first = await share(stage, card, stage.bob)
    [copy] = stage.cards(hall)
    assert first == job_card.SHARE_DONE(channel=hall.mention, link=link(stage, hall, copy))
    for words in (stage.ada.mention, "Nano Banana 2", str(card.message.id)):
        assert words in copy.text
    assert open_image(copy.file()).size == open_image(card.file()).size
    already = job_card.SHARE_ALREADY(channel=hall.mention, link=link(stage, hall, copy))
    assert await share(stage, card) == already
    await stage.restart()
    assert await share(stage, card, stage.bob) == already
    assert len(stage.cards(hall)) == 1


async def test_with_a_star_threshold_it_takes_several_members_or_a_moderator(stage: Stage) -> None:
    hall = await showcase(stage)
    said = await stage.settings("showcase", stars=2)
    assert moderation.SHOWCASE_STARS(needed=2) in said.text
    card = await completed(stage)
    for _ in range(2):
        assert await share(stage, card) == job_card.SHARE_STARS(stars=1, needed=2)
    assert stage.cards(hall) == []
    await stage.restart()
    await share(stage, card, stage.bob)
    [copy] = stage.cards(hall)
    assert stage.ada.mention in copy.text
    at_once = await completed(stage)
    await share(stage, at_once, stage.mo)
    assert len(stage.cards(hall)) == 2
    private = await completed(stage, private=True)
    assert await share(stage, private) == job_card.SHARE_STARS_PRIVATE(needed=2)
    assert "`1` → `2`" in (await stage.quota("audit")).text
    await stage.settings("showcase", stars=1)
    await share(stage, private)
    assert len(stage.cards(hall)) == 3


async def test_an_image_that_is_no_longer_stored_is_shared_from_its_card(stage: Stage) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    (job,) = await stage.jobs()
    await stage.core.service.blob_store.remove(job.images[0].sha256)
    await share(stage, card)
    [copy] = stage.cards(hall)
    assert copy.file() == card.file()


async def test_an_image_whose_posting_had_no_answer_is_found_later_and_not_posted_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    post = stage.core.bot.messages.post

    async def unanswered(*args: Any, **options: Any) -> None:
        await post(*args, **options)
        raise aiohttp.ServerDisconnectedError

    with monkeypatch.context() as context:
        context.setattr(stage.core.bot.messages, "post", unanswered)
        assert await share(stage, card) == job_card.SHARE_UNKNOWN(channel=hall.mention)
    [copy] = stage.cards(hall)
    await stage.restart()
    assert await share(stage, card) == job_card.SHARE_UNDER_WAY()  # by the process that ended, as far as is known
    later = datetime.now(UTC) + timedelta(minutes=3)
    monkeypatch.setattr(stage.core.service, "now", lambda: later)
    done = job_card.SHARE_DONE(channel=hall.mention, link=link(stage, hall, copy))
    assert await share(stage, card) == f"{done} {job_card.SHARE_UNDO()}", "its author can take it back"
    assert len(stage.cards(hall)) == 1


@pytest.mark.parametrize("before", ["posted", "not posted", "in a channel that is gone"])
async def test_an_image_goes_to_the_channel_chosen_meanwhile_unless_it_is_in_the_former_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    post = stage.core.bot.messages.post

    async def unanswered(*args: Any, **options: Any) -> None:
        if before == "posted":
            await post(*args, **options)
        raise aiohttp.ServerDisconnectedError

    with monkeypatch.context() as context:
        context.setattr(stage.core.bot.messages, "post", unanswered)
        assert await share(stage, card) == job_card.SHARE_UNKNOWN(channel=hall.mention)
    other = stage.guild.create_text_channel("other")
    await stage.settings("showcase", channel=other)
    if before == "in a channel that is gone":
        stage.env.backend.delete_channel(hall.id)
    later = datetime.now(UTC) + timedelta(minutes=3)
    monkeypatch.setattr(stage.core.service, "now", lambda: later)
    where = hall if before == "posted" else other
    said = await share(stage, card)
    [copy] = stage.cards(where)
    assert link(stage, where, copy) in said
    assert len(stage.cards(other)) == (where is other)
    assert (await share(stage, card)).startswith(
        job_card.SHARE_ALREADY(channel=where.mention, link=link(stage, where, copy))
    )


async def test_an_archived_thread_takes_shared_images_and_a_deleted_one_is_named(stage: Stage) -> None:
    hall = await showcase(stage)
    channel = stage.core.bot.get_channel(hall.id)
    assert isinstance(channel, discord.TextChannel)
    thread = await channel.create_thread(name="best of", type=discord.ChannelType.public_thread)
    await stage.core.store.change_policy(
        stage.guild.id,
        lambda policy: replace(policy, showcase_channel_id=thread.id),
        actor_id=stage.mo.id,
        reason=None,
        now=datetime.now(UTC),
    )
    card, other = await completed(stage), await completed(stage, prompt="a blue fox")
    channel.guild._remove_thread(thread)  # as Discord's event of an archived thread does
    await share(stage, card)
    [copy] = [each for each in stage.cards(thread) if each.files]
    assert len(copy.files) == 1
    stage.env.backend.delete_channel(thread.id)
    assert await share(stage, other) == job_card.SHARE_NO_ACCESS(channel=thread.mention)


async def test_anybody_shares_a_public_image_and_each_of_several_by_itself(stage: Stage) -> None:
    hall = await showcase(stage)
    card = await completed(stage, model=FLUX, count=2)
    assert "Share" not in card.buttons
    select = next(part for part in card.components if part["type"] == 3)
    for option in select["options"]:
        panel = stage.said(await stage.bob.select(card.message, [option["value"]], custom_id=select["custom_id"]))
        await share(stage, panel, stage.bob)
    copies = stage.cards(hall)
    assert [len(copy.files) for copy in copies] == [1, 1]
    assert all(stage.ada.mention in copy.text for copy in copies)


@pytest.mark.hostile("G-55")
async def test_a_private_image_is_shared_by_its_author_alone_and_without_its_prompt(stage: Stage) -> None:
    hall = await showcase(stage)
    private = await completed(stage, private=True, prompt="my secret")
    (job,) = await stage.jobs()
    public = await completed(stage, who=stage.bob)
    button = next(part for part in public.components if part.get("label") == "Share")
    button["custom_id"] = f"share:{job.id}"
    for who, refusal in ((stage.bob, job_card.NOT_YOURS), (stage.mo, job_card.PRIVATE_ORDER)):
        said = stage.said(await who.click(public.message, custom_id=button["custom_id"]))
        assert said.text == refusal()
    assert stage.cards(hall) == []
    await share(stage, private)
    [copy] = stage.cards(hall)
    assert stage.ada.mention in copy.text
    assert "secret" not in str(copy.stored.components) + str(copy.files)


async def test_without_a_showcase_channel_a_sentence_says_who_can_choose_one(stage: Stage) -> None:
    card = await completed(stage)
    assert await share(stage, card) == job_card.SHARE_NO_CHANNEL()
    hall = await showcase(stage)
    assert hall.mention in (await stage.settings("show")).text
    await stage.settings("showcase", clear=True)
    assert await share(stage, card) == job_card.SHARE_NO_CHANNEL()
    assert stage.cards(hall) == []
    assert "changed where images are shared: not set → <#" in (await stage.quota("audit")).text


async def test_a_channel_in_which_the_bot_may_not_post_is_refused_when_it_is_chosen_and_later(stage: Stage) -> None:
    bot = stage.core.bot.user
    assert bot is not None
    silent: dict[Any, discord.PermissionOverwrite] = {bot: discord.PermissionOverwrite(send_messages=False)}
    lacking = "Send Messages, Attach Files"
    locked = stage.guild.create_text_channel("locked", overwrites=silent)
    said = (await stage.settings("showcase", channel=locked)).text
    assert said == moderation.LOG_PERMISSIONS(channel=locked.mention, permissions=lacking)

    await stage.core.store.change_policy(
        stage.guild.id,
        lambda policy: replace(policy, showcase_channel_id=locked.id),
        actor_id=stage.mo.id,
        reason=None,
        now=datetime.now(UTC),
    )
    card = await completed(stage)
    assert await share(stage, card) == job_card.SHARE_PERMISSIONS(channel=locked.mention, permissions=lacking)


async def test_an_image_that_discord_refuses_can_be_shared_later(stage: Stage) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    stage.env.inject_error("POST", f"/channels/{hall.id}/messages", status=403, code=50013, times=1)
    assert await share(stage, card) == job_card.SHARE_REFUSED(channel=hall.mention)
    await share(stage, card)
    assert len(stage.cards(hall)) == 1


async def test_an_image_of_an_age_restricted_channel_stays_in_such_channels(stage: Stage) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    here, there = (stage.core.bot.get_channel(channel.id) for channel in (stage.channel, hall))
    assert isinstance(here, discord.TextChannel)
    assert isinstance(there, discord.TextChannel)
    here.nsfw = True
    assert await share(stage, card) == job_card.SHARE_AGE_RESTRICTED(channel=hall.mention)
    there.nsfw = True
    await share(stage, card)
    assert len(stage.cards(hall)) == 1


@pytest.mark.parametrize("who", ["ada", "mo"])
async def test_its_author_or_a_moderator_takes_it_back_for_good(stage: Stage, who: str) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    await share(stage, card, stage.bob)
    [copy] = stage.cards(hall)
    assert stage.said(await stage.press(stage.bob, copy, "Remove")).text == job_card.NOT_YOURS()
    assert copy.is_there
    assert stage.said(await stage.press(getattr(stage, who), copy, "Remove")).text == job_card.UNSHARE_DONE()
    assert not copy.is_there
    assert card.is_there
    assert await share(stage, card, stage.bob) == job_card.SHARE_REMOVED()
    assert stage.cards(hall) == []


@pytest.mark.hostile("G-51")
async def test_delete_of_the_order_takes_the_shared_copy(stage: Stage) -> None:
    hall = await showcase(stage)
    card = await completed(stage)
    await share(stage, card)
    question = stage.said(await stage.press(stage.ada, card, "Delete"))
    await stage.press(stage.ada, question, "Delete")
    assert question.text == job_card.DELETE_DONE()
    assert stage.cards(hall) == []
    assert rows(stage.core.settings.database_url, "SELECT 1 FROM shared_images") == []


@pytest.mark.hostile("G-51")
async def test_privacy_delete_takes_the_shared_copies(stage: Stage) -> None:
    hall = await showcase(stage)
    await share(stage, await completed(stage))
    await share(stage, await completed(stage, who=stage.bob), stage.bob)
    question = stage.said(await stage.ada.slash(stage.channel, "privacy delete"))
    await stage.press(stage.ada, question, member_pages.ERASE())
    await stage.core.bot.message_deletions.sweep(now=datetime.now(UTC))
    [left] = stage.cards(hall)
    assert stage.bob.mention in left.text
