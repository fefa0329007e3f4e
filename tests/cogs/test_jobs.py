"""/jobs: moderators list the jobs of their server and cancel them, with a reason that is shown to the member."""

from __future__ import annotations

from typing import Any

import pytest

from bot.domain.jobs import FailureReason, JobStatus
from cogs.moderation import jobs_page
from cogs.text import job_card, moderation, refusals
from tests.cogs.test_job_buttons import forge
from tests.support.catalogue_samples import FLUX, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage


async def jobs(stage: Stage) -> Card:
    return stage.said(await stage.mo.slash(stage.channel, "jobs"))


def choices(card: Card) -> dict[str, str]:
    """Return values by label of what can be cancelled."""
    found = [part for part in card.components if part["type"] == 3 and part["custom_id"] == "jobs:cancel"]
    return {option["label"]: option["value"] for part in found for option in part["options"]}


async def cancel(stage: Stage, page: Card, *, choice: int = 0, reason: str = "not here") -> Card:
    shown = await stage.mo.select(page.message, [list(choices(page).values())[choice]], custom_id="jobs:cancel")
    return stage.said(await stage.mo.submit_modal(shown, {"reason": reason}))


# -- looking -------------------------------------------------------------------------------------------------


async def test_a_quiet_server_has_nothing_to_show(stage: Stage) -> None:
    card = await jobs(stage)
    assert card.private
    assert moderation.JOBS_NONE_RUNNING() in card.text
    assert moderation.JOBS_NONE() in card.text
    assert card.buttons == {}


async def test_what_is_under_way_and_what_has_ended_are_shown_with_member_model_price_and_link(stage: Stage) -> None:
    done = await stage.imagine(model=FLUX)
    await stage.until_says(done, "Completed")
    stage.core.krea.waits = True
    failed = await stage.imagine(stage.bob)
    await stage.until(lambda: stage.core.krea.accepted == 2)
    stage.core.krea.fails(FailureReason.PROVIDER_FAILED)
    await stage.until_says(failed, "Failed")
    await stage.imagine(stage.bob, count=2)
    await stage.until(lambda: stage.core.krea.accepted == 4)

    card = await jobs(stage)
    running, recent = card.text.split(moderation.JOBS_RECENT())
    assert f") · {stage.bob.mention} · 2 × Nano Banana 2 · $0.16 · <t:" in running
    first, second = recent.strip().splitlines()
    channel = f"https://discord.com/channels/{stage.guild.id}/{stage.channel.id}"
    failure = f"[⚠️ Failed]({channel}/{failed.message.id})"
    assert first.startswith(f"1. {failure} · {stage.bob.mention} · Nano Banana 2 · not charged · <t:")
    result = f"[✅ Completed]({channel}/{done.message.id})"
    assert second.startswith(f"2. {result} · {stage.ada.mention} · Flux 1 Dev · $0.007 · <t:")
    assert "a red fox" not in card.text
    assert list(choices(card)) == ["1. 2 × Nano Banana 2 · $0.16"]


async def test_a_private_order_has_no_link(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(private=True), "Completed")
    line = (await jobs(stage)).text.splitlines()[-1]
    assert line.endswith("· private")


async def test_pages_lead_to_everything_once(stage: Stage) -> None:
    total = 2 * jobs_page.PAGE + 3
    await stage.quota("default", amount="unlimited")
    for _ in range(total):
        await stage.until_says(await stage.imagine(model=FLUX), "Completed")
    page, seen = await jobs(stage), list[str]()
    for number in range(3):
        lines = [line for line in page.text.splitlines() if "Completed" in line]
        assert len(lines) == (jobs_page.PAGE if number < 2 else 3)
        seen.extend(lines)
        if number < 2:
            await stage.press(stage.mo, page, "Older")
    assert len(set(seen)) == total
    assert "Older" not in page.buttons
    await stage.press(stage.mo, page, "Newest")
    assert [line for line in page.text.splitlines() if "Completed" in line] == seen[: jobs_page.PAGE]
    assert moderation.JOBS_RUNNING() in page.text


@pytest.mark.parametrize("slots", [1])
async def test_everything_under_way_can_be_reached(stage: Stage) -> None:
    stage.core.krea.waits = True
    people = [stage.person(f"p{number}") for number in range(jobs_page.PAGE + 2)]
    for who in people:
        await stage.imagine(who)
    page = await jobs(stage)
    assert len(choices(page)) == jobs_page.PAGE
    await stage.press(stage.mo, page, "More in progress")
    assert len(choices(page)) == 2
    assert people[0].mention in page.text
    assert moderation.JOBS_RECENT() not in page.text
    assert "Cancelled" in (await cancel(stage, page, choice=0)).text


@pytest.mark.f52
async def test_another_servers_jobs_are_never_shown_or_cancelled(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    eve, elsewhere = stage.elsewhere()
    other = stage.ordered(await eve.slash(elsewhere, "imagine", prompt="a red fox"))
    await stage.until_says(other, "Processing")
    page = stage.said(await eve.slash(elsewhere, "jobs"))
    assert stage.ada.mention not in page.text
    assert len(choices(page)) == 1
    # A modified client can choose a job of another server.
    foreign = (await stage.jobs())[0].reply_id
    select = next(part for part in _parts(page.stored.components) if part.get("custom_id") == "jobs:cancel")
    select["options"][0]["value"] = foreign
    shown = await eve.select(page.message, [foreign], custom_id="jobs:cancel")
    assert stage.said(await eve.submit_modal(shown, {"reason": "mine now"})).text == job_card.JOB_GONE()
    assert (await stage.jobs())[0].status is JobStatus.RUNNING
    assert stage.core.krea.cancelled == []


def _parts(components: Any) -> Any:
    for part in components:
        yield part
        yield from _parts(part.get("components", []))


# -- cancelling ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slots", [1])
async def test_a_waiting_job_is_cancelled_and_the_member_reads_why(stage: Stage) -> None:
    stage.core.krea.waits = True
    await stage.until_says(await stage.imagine(stage.bob), "Processing")
    card = await stage.imagine()
    said = await cancel(stage, await jobs(stage), choice=0, reason="no `foxes` @everyone, please")
    assert said.text == moderation.CANCELLED_FOR_MEMBER()
    assert said.private
    text = await stage.until_says(card, "🚫 Cancelled", "**not charged**")
    assert "Cancelled by a moderator: `no ˋfoxesˋ @everyone, please`" in text
    assert (await stage.balance()).available_usd_micros == 1_000_000
    entry = (await stage.core.store.audit(stage.guild.id))[0]
    assert (entry.action, entry.actor_id, entry.subject_id) == ("cancel", stage.mo.id, stage.ada.id)
    assert entry.reason == "no `foxes` @everyone, please"
    assert f"cancelled an image of {stage.ada.mention}" in (await stage.quota("audit")).text


async def test_a_running_job_is_cancelled_at_the_provider_and_the_reason_survives_a_restart(stage: Stage) -> None:
    stage.core.krea.waits = True
    stage.core.krea.agrees_to_cancel = False
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    said = await cancel(stage, await jobs(stage), reason="too late for today")
    assert said.text == job_card.CANCEL_TOO_LATE()
    await stage.restart()
    stage.core.krea.gives_up()
    await stage.until_says(card, "Cancelled by a moderator: `too late for today`", "**not charged**")


async def test_a_running_job_that_the_provider_stops_is_not_charged(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    assert (await cancel(stage, await jobs(stage))).text == moderation.CANCEL_UNDER_WAY()
    await stage.until_says(card, "Cancelled by a moderator: `not here`")
    assert (await stage.balance()).spent_usd_micros == 0


async def test_a_reason_that_cannot_be_seen_reads_as_none(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    await cancel(stage, await jobs(stage), reason="\u200b \u2060")
    await stage.until_says(card, "Cancelled")
    assert f"`{moderation.NO_REASON()}`" in card.text


async def test_a_job_that_cannot_be_stopped_goes_on_and_says_nothing_of_a_reason(stage: Stage) -> None:
    stage.core.pixazo.waits = True
    card = await stage.imagine(model=PIXAZO_LARGE)
    await stage.until_says(card, "Processing")
    assert (await cancel(stage, await jobs(stage))).text == job_card.CANCEL_NOT_POSSIBLE()
    stage.core.pixazo.finishes()
    assert "moderator" not in await stage.until_says(card, "Completed")


async def test_what_is_done_of_several_pictures_stays_and_is_charged(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(count=3)
    await stage.until(lambda: stage.core.krea.accepted == 3)
    stage.core.krea.finishes(number=0)
    await stage.until_says(card, "1 of 3 done")
    await cancel(stage, await jobs(stage))
    await stage.until_says(card, "Completed · 1 of 3 done", "Cancelled by a moderator: `not here`", "cost **$0.08**")
    assert (await stage.balance()).spent_usd_micros == 80_000


async def test_a_job_that_ended_while_the_reason_was_typed_says_so(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    page = await jobs(stage)
    shown = await stage.mo.select(page.message, list(choices(page).values()), custom_id="jobs:cancel")
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")
    assert stage.said(await stage.mo.submit_modal(shown, {"reason": "x"})).text == moderation.CANCEL_GONE()
    assert await stage.core.store.audit(stage.guild.id) == []


@pytest.mark.f51
async def test_a_former_moderator_turns_no_page_and_cancels_nothing(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing")
    page = await jobs(stage)
    shown = await stage.mo.select(page.message, list(choices(page).values()), custom_id="jobs:cancel")
    stage.env.backend.get_guild(stage.guild.id).members[stage.mo.id].role_ids.clear()
    assert stage.said(await stage.mo.submit_modal(shown, {"reason": "x"})).text == refusals.MODERATORS_ONLY()
    again = await stage.mo.select(page.message, list(choices(page).values()), custom_id="jobs:cancel")
    assert stage.said(again).text == refusals.MODERATORS_ONLY()
    assert stage.core.krea.cancelled == []
    assert len(stage.env.errors) <= 1


@pytest.mark.f51
async def test_a_page_of_a_forged_number_is_a_page_of_nothing(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    card = stage.cards()[0]
    custom_id = "jobs:recent:9999999999999999"
    forge(card, custom_id)
    result = await stage.ada.click(card.message, custom_id=custom_id)
    assert stage.said(result).text == refusals.MODERATORS_ONLY()
