"""/imagine: the card in each of its states, several images of one command, and everything that is refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.domain.errors import OutcomeUncertain, ProviderDenied, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import FailureReason, JobStatus, Progress
from bot.domain.money.quota import Limits, LimitSubject, Period, Quota
from bot.providers.base import RemoteJob
from bot.service.execution import results
from cogs.text import formatting, job_card, refusals
from tests.support.catalogue_samples import FLUX, KREA_LARGE, MOODBOARD, NANO_BANANA_2, PIXAZO_LARGE
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image

# -- the states of a card ------------------------------------------------------------------------------------


@pytest.mark.f04
async def test_one_message_goes_from_queued_to_completed_and_says_price_and_rest_all_the_way(stage: Stage) -> None:
    krea = stage.core.krea
    krea.waits = True
    krea.door.clear()
    card = await stage.imagine(prompt="a red fox")
    assert card.title == "⏳ Queued"
    assert "```\na red fox\n```" in card.text
    assert "**Nano Banana 2**" in card.text
    assert "costs **$0.08** · $0.92 left" in card.text
    assert list(card.buttons) == ["Cancel"]

    krea.door.set()
    text = await stage.until_says(card, "Processing")
    assert "started <t:" in text
    assert "$0.92 left" in text
    assert list(card.buttons) == ["Cancel"]

    krea.goes_on(Progress.SAMPLING)
    await stage.until_says(card, "🎨 Processing · Sampling")

    krea.goes_on(Progress.PREVIEW, preview_url="https://provider.invalid/preview.png")
    await stage.until_says(card, "preview")
    assert [item["media"]["url"] for item in card.gallery] == ["https://provider.invalid/preview.png"]

    krea.finishes()
    text = await stage.until_says(card, "✅ Completed")
    assert "cost **$0.08** · $0.92 left" in text
    buttons = [name.split(" ·")[0] for name in card.buttons]
    assert buttons == ["Again", "Vary", "Edit", "Remix", "Recipe", "Share", "Delete"]
    assert [item["description"] for item in card.gallery] == ["a red fox"]
    assert [(file["filename"][:9], file["description"]) for file in card.files] == [("a-red-fox", "a red fox")]
    assert len(stage.cards()) == 1
    assert (await stage.balance()).spent_usd_micros == 80_000


@pytest.mark.f30
@pytest.mark.parametrize("slots", [1])
async def test_a_waiting_card_says_its_place_in_line_and_moves_up(stage: Stage) -> None:
    stage.core.krea.waits = True
    first = await stage.imagine()
    await stage.until_says(first, "Processing")
    second, third = await stage.imagine(stage.bob), await stage.imagine(stage.mo)
    assert "Queued · place 1 in line" in second.text
    assert "Queued · place 2 in line" in third.text
    stage.core.krea.finishes(number=0)
    await stage.until_says(second, "Processing")
    stage.core.krea.finishes(number=1)
    await stage.until_says(third, "Processing")
    stage.core.krea.finishes(number=2)
    await stage.until_says(third, "Completed")


async def test_a_model_that_was_used_before_tells_when_it_is_usually_done(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until_says(card, "Processing", "expected <t:")
    stage.core.krea.finishes()
    await stage.until_says(card, "Completed")


@pytest.mark.f05
@pytest.mark.f06
@pytest.mark.f28
@pytest.mark.f32
@pytest.mark.parametrize("reason", [reason for reason in FailureReason if reason is not FailureReason.NOT_SHOWN])
async def test_a_failed_card_says_why_in_plain_words_and_not_charged(stage: Stage, reason: FailureReason) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(prompt="a secret wish")
    await stage.until(lambda: stage.core.krea.accepted)
    stage.core.krea.fails(reason, hint="Use `fewer` words @everyone")
    text = await stage.until_says(card, "⚠️ Failed")
    assert job_card.FAILURES[reason]() in text
    assert "**not charged** ($0.08) · $1.00 left" in text
    assert "-# Use ˋfewerˋ words @everyone" in text or "`Use ˋfewerˋ words @everyone`" in text
    assert list(card.buttons) == ["Again · $0.08"]
    assert ("a secret wish" in text) == (reason is not FailureReason.MODERATED)
    assert (await stage.balance()).available_usd_micros == 1_000_000


@pytest.mark.f06
@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (ProviderRejected("422", status=422, hint="too long"), job_card.FAILURES[FailureReason.REJECTED]()),
        (ProviderRejected("nsfw", status=400, reason="moderated"), job_card.FAILURES[FailureReason.MODERATED]()),
        (ProviderDenied("402", status=402), job_card.FAILURES[FailureReason.PROVIDER_UNAVAILABLE]()),
        (ProviderUnavailable("503", status=503), job_card.FAILURES[FailureReason.PROVIDER_UNAVAILABLE]()),
    ],
)
async def test_an_order_the_provider_does_not_take_costs_nothing(
    stage: Stage, trouble: Exception, sentence: str
) -> None:
    stage.core.krea.troubles.append(trouble)
    card = await stage.imagine()
    text = await stage.until_says(card, "Failed", "not charged")
    assert sentence in text
    assert "402" not in text
    assert (await stage.balance()).available_usd_micros == 1_000_000


@pytest.mark.f23
async def test_a_lost_answer_reads_checking_and_ends_well_when_the_order_is_found(stage: Stage) -> None:
    krea = stage.core.krea
    krea.troubles.append(OutcomeUncertain("connection lost"))
    card = await stage.imagine()
    text = await stage.until_says(card, "🔎 Checking")
    assert card.buttons == {}
    job = (await stage.jobs())[0]
    assert job.submitted_at is not None
    ends_at = formatting.clock_time(job.submitted_at + timedelta(minutes=15))
    assert job_card.CHECKING_EXPLAINED(when=ends_at) in text
    await krea.submit(krea.orders[0])
    model = job.request.model_id.removeprefix("krea/")
    krea.listed.append(RemoteJob(remote_id=krea.remote_id(), created_at=job.submitted_at, model=model, input=job.body))
    await stage.until_says(card, "Completed")
    assert (await stage.balance()).spent_usd_micros == 80_000


@pytest.mark.f26
async def test_a_completed_job_without_a_usable_image_is_not_charged(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "RESULT_ATTEMPTS", 1)
    stage.core.krea.waits = True
    card = await stage.imagine()
    await stage.until(lambda: stage.core.krea.accepted)
    stage.core.krea.finishes(stage.core.server.keep("page.png", b"<html>not a picture"))
    await stage.until_says(card, job_card.FAILURES[FailureReason.NO_USABLE_RESULT](), "not charged")
    assert (await stage.balance()).spent_usd_micros == 0


async def test_the_provider_may_charge_less_than_was_reserved_and_never_more(stage: Stage) -> None:
    stage.core.krea.waits = True
    cards = [await stage.imagine(), await stage.imagine()]
    await stage.until(lambda: stage.core.krea.accepted == 2)
    stage.core.krea.finishes(number=0, cost_usd_micros=50_000)
    stage.core.krea.finishes(number=1, cost_usd_micros=999_000)
    assert {(await stage.until_says(card, "Completed")).count("cost **$0.05**") for card in cards} == {0, 1}
    assert (await stage.balance()).spent_usd_micros == 130_000


# -- several images ------------------------------------------------------------------------------------


async def test_four_images_come_in_one_message_at_four_times_the_price(stage: Stage) -> None:
    card = await stage.imagine(count=4, model=FLUX, seed=7)
    assert "costs **$0.028**" in card.text
    assert "0 of 4 done" in card.text
    text = await stage.until_says(card, "Completed · 4 of 4 done")
    assert "cost **$0.028**" in text
    assert len(card.gallery) == len(card.files) == 4
    assert len({file["filename"] for file in card.files}) == 4
    assert len(stage.cards()) == 1
    assert (await stage.balance()).spent_usd_micros == 28_000


async def test_of_four_images_only_those_that_were_made_are_paid(stage: Stage) -> None:
    krea = stage.core.krea
    krea.waits = True
    card = await stage.imagine(count=4)
    await stage.until(lambda: krea.accepted == 4)
    krea.finishes(number=0)
    await stage.until_says(card, "Processing · 1 of 4 done")
    krea.fails(FailureReason.PROVIDER_FAILED, number=1)
    krea.fails(FailureReason.MODERATED, number=2)
    krea.finishes(number=3)
    text = await stage.until_says(card, "Completed · 2 of 4 done")
    assert "2 of 4 failed, not charged" in text
    assert job_card.FAILURES[FailureReason.PROVIDER_FAILED]() in text
    assert "cost **$0.16** · $0.84 left" in text
    assert len(card.gallery) == 2
    assert (await stage.balance()).spent_usd_micros == 160_000


async def test_four_images_are_refused_together_when_only_three_can_be_paid(stage: Stage) -> None:
    await stage.quota("default", amount="0.30")
    card = await stage.imagine(count=4)
    assert card.private
    assert (await stage.balance()).set_aside_usd_micros == 0
    assert stage.core.krea.orders == []


async def test_when_all_of_several_images_fail_nothing_is_charged(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(count=2)
    await stage.until(lambda: stage.core.krea.accepted == 2)
    for number in (0, 1):
        stage.core.krea.fails(FailureReason.PROVIDER_FAILED, number=number)
    assert "**not charged** ($0.16) · $1.00 left" in await stage.until_says(card, "Failed")


# -- options ------------------------------------------------------------------------------------

PLAIN: dict[str, Any] = {}
TAKEN = [
    pytest.param(PLAIN, {"prompt": "a red fox", "resolution": "1K"}, "$0.08", id="nothing chosen"),
    pytest.param({"model": NANO_BANANA_2, "resolution": "4K"}, {"resolution": "4K"}, "$0.16", id="resolution"),
    pytest.param({"model": "Nano Banana 2", "resolution": "2k"}, {"resolution": "2K"}, "$0.12", id="label, small k"),
    pytest.param({"aspect_ratio": "16:9"}, {"aspect_ratio": "16:9"}, "$0.08", id="aspect ratio"),
    pytest.param({"model": FLUX, "aspect_ratio": "1:1"}, {"width": 1024, "height": 1024}, "$0.007", id="as a size"),
    pytest.param({"model": FLUX, "seed": 42}, {"seed": 42}, "$0.007", id="seed"),
    pytest.param({"model": KREA_LARGE, "creativity": "raw"}, {"creativity": "raw"}, "$0.06", id="creativity"),
    pytest.param({"model": KREA_LARGE, "style": "style-clay"}, {}, "$0.06", id="style"),
    pytest.param({"model": KREA_LARGE, "moodboard": MOODBOARD}, {}, "$0.07", id="moodboard"),
    pytest.param({"model": KREA_LARGE, "reference": ("fox.png", image("PNG"))}, {}, "$0.065", id="reference"),
    pytest.param({"model": PIXAZO_LARGE, "reference": ("fox.png", image("PNG"))}, {}, "$0.065", id="pixazo"),
    pytest.param({"model": PIXAZO_LARGE, "creativity": "high", "seed": 1}, {"seed": 1}, "$0.06", id="pixazo options"),
]


@pytest.mark.f14
@pytest.mark.parametrize(("options", "sent", "price"), TAKEN)
async def test_every_option_reaches_the_provider_at_its_price(
    stage: Stage, options: dict[str, Any], sent: dict[str, Any], price: str
) -> None:
    card = await stage.imagine(**options)
    text = await stage.until_says(card, "Completed")
    assert f"cost **{price}**" in text
    order = (stage.core.krea.orders + stage.core.pixazo.orders)[0]
    assert {name: order.body.get(name) for name in sent} == sent
    if options.get("style"):
        assert "style-clay" in str(order.body)
    if options.get("moodboard"):
        assert MOODBOARD in str(order.body)
    if options.get("reference"):
        address = "provider.invalid/uploads" if stage.core.krea.orders else f"{stage.core.server.base}/attachments"
        assert address in str(order.body)
        assert "1 image given" in text


async def test_the_seed_is_shown_so_that_an_image_can_be_made_again(stage: Stage) -> None:
    card = await stage.imagine(model=FLUX)
    text = await stage.until_says(card, "Completed")
    assert f"seed {stage.core.krea.orders[0].body['seed']}" in text
    assert "Vary · $0.007" in card.buttons


# -- limits ------------------------------------------------------------------------------------


@pytest.mark.f01
async def test_without_quota_the_refusal_names_price_rest_and_reset(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.10")
    await stage.until_says(await stage.imagine(), "Completed")
    card = await stage.imagine()
    assert card.private
    assert "This costs $0.08 and you have $0.02 left. Your quota resets <t:" in card.text
    assert "A cheaper model may still fit" in card.text
    assert len(stage.cards()) == 1


async def test_a_servers_cap_binds_whatever_a_members_own_quota_is(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="unlimited")
    await stage.quota("server", amount="0.10", period="month")
    card = await stage.imagine()
    assert "costs **$0.08** · $0.02 left for this server" in card.text
    await stage.until_says(card, "Completed")
    refused = await stage.imagine()
    assert "this server has $0.02 left for everybody" in refused.text
    assert refused.private


def limited(stage: Stage, **changes: Any) -> Limits:
    return replace(stage.core.service.limits, **changes)


async def test_the_operators_daily_cap_always_binds(stage: Stage) -> None:
    stage.core.service.limits = limited(stage, operator_daily_cap_usd_micros=79_999)
    card = await stage.imagine()
    assert "The bot has reached its spending limit for today. Please try again <t:" in card.text
    await stage.assert_nothing_reserved()


@pytest.mark.f58
async def test_a_member_with_enough_running_jobs_waits(stage: Stage) -> None:
    stage.core.krea.waits = True
    cards = [await stage.imagine() for _ in range(4)]
    assert "You have 3 images in progress; you can start another once fewer than 3 are left." in cards[3].text
    assert cards[3].private
    assert "Queued" in (await stage.imagine(stage.bob)).text


async def test_a_blocked_member_is_told_so(stage: Stage) -> None:
    await stage.quota("block", member=stage.ada)
    assert "A moderator has paused image orders for you" in (await stage.imagine()).text
    await stage.assert_nothing_reserved()
    await stage.quota("unblock", member=stage.ada)
    await stage.until_says(await stage.imagine(), "Completed")


async def test_the_most_generous_role_counts_and_a_members_own_limit_beats_it(stage: Stage) -> None:
    generous = stage.person("gil", stage.artists)
    await stage.quota("role", role=stage.artists, amount="5")
    assert "$4.92 left" in (await stage.imagine(generous)).text
    await stage.quota("set", member=generous, amount="0.2")
    assert "$0.04 left" in (await stage.imagine(generous)).text


@pytest.mark.f21
async def test_new_jobs_are_refused_while_a_provider_is_paused(stage: Stage) -> None:
    stage.core.krea.troubles.append(ProviderDenied("401", status=401))
    await stage.until_says(await stage.imagine(), "Failed")
    card = await stage.imagine(stage.bob)
    assert "This image service is temporarily unavailable" in card.text
    assert card.private
    await stage.until_says(await stage.imagine(stage.bob, model=PIXAZO_LARGE), "Completed")


# -- privacy, prompts ------------------------------------------------------------------------------------


async def test_only_the_member_sees_a_private_image(stage: Stage) -> None:
    card = await stage.imagine(private=True)
    assert card.private
    await stage.until_says(card, "Completed")
    assert len(card.files) == 1
    assert stage.cards() == []


@pytest.mark.f49
@pytest.mark.parametrize(
    "prompt",
    [
        "``` @everyone <@&1> <#2> </quota set:3> <t:1:R>",
        "[free nitro](https://evil.invalid) **bold** # title",
        "\u202egnp.elif\u202c \u2066x\u2069 \u200bzero\x07",
        "`single` ``double`` ```four````",
        "> quote\n\n\n- list\n-# small\n||spoiler||",
        "🏳️‍🌈 naïve 漢字 العربية",
    ],
)
async def test_a_prompt_is_shown_as_plain_text_and_notifies_no_one(stage: Stage, prompt: str) -> None:
    card = await stage.imagine(prompt=prompt)
    text = await stage.until_says(card, "Completed")
    before, block, after = text.split("```")
    assert "everyone" not in before + after
    assert "evil" not in before + after
    assert not set(block) & set("`\u202e\u2066\u200b")
    assert stage.core.krea.orders[0].body["prompt"] == prompt.strip()


@pytest.mark.f50
async def test_the_longest_prompt_stays_within_what_discord_takes(stage: Stage) -> None:
    prompt = "a fox, " * 857 + "x"
    assert len(prompt) == 6_000
    card = await stage.imagine(prompt=prompt)
    await stage.until_says(card, "Completed")
    assert len(card.text) <= 4_000
    assert len(card.components) <= 40
    assert len(card.files[0]["description"]) <= 1_024
    assert len(card.files[0]["filename"]) < 80
    assert stage.core.krea.orders[0].body["prompt"] == prompt
    recipe = stage.said(await stage.press(stage.ada, card, "Recipe"))
    assert len(recipe.text) <= 4_000


# -- while stopping, with the database closed -----------------------------------------------------------


@pytest.mark.f34
async def test_a_command_that_arrives_while_the_bot_stops_is_refused(stage: Stage) -> None:
    stage.core.bot.order_flow.close()
    card = await stage.imagine()
    assert card.reason == refusals.SHUTTING_DOWN()
    assert card.private
    await stage.assert_nothing_reserved()


@pytest.mark.f16
async def test_when_the_database_cannot_be_written_nothing_is_ordered(stage: Stage, core: Any) -> None:
    await core.store.close()
    card: Card = await stage.imagine()
    assert card.reason == refusals.BOOKS_UNAVAILABLE()
    assert card.private
    assert core.krea.orders == []


async def test_a_card_of_an_unlimited_member_names_the_cap_that_binds(stage: Stage) -> None:
    await stage.core.store.set_limit(
        stage.guild.id,
        LimitSubject.MEMBER,
        stage.ada.id,
        Quota(amount_usd_micros=None, period=Period.DAY),
        actor_id=stage.mo.id,
        reason=None,
        now=stage.env.now(),
    )
    card = await stage.imagine()
    await stage.until_says(card, "Completed", "left of the bot's cap")
    assert (await stage.jobs())[0].status is JobStatus.SUCCEEDED
