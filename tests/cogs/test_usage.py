"""/usage and /models: what was spent, what is left, what can be ordered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from bot.catalogue.models import Model
from bot.catalogue.provider_description.model_notices import Withdrawal
from bot.domain.jobs import FailureReason
from bot.domain.money.quota import parse_usd
from cogs.members import usage_page
from cogs.text import refusals, spending
from tests.support.catalogue_samples import CATALOGUE, FLUX, KREA_LARGE, NANO_BANANA_2
from tests.support.discord_stage import Card, Stage
from tests.support.layouts import assert_fits


async def usage(stage: Stage, **options: str) -> Card:
    card = stage.said(await stage.ada.slash(stage.channel, "usage", **options))
    assert card.private
    return card


def amounts(card: Card) -> tuple[int, int, int]:
    """Return the amounts spent, reserved and left."""
    line = next(line for line in card.text.splitlines() if "set aside" in line)
    spent, set_aside, left = (parse_usd(part.split("**")[1]) for part in line.split(" · "))
    return spent, set_aside, left


async def test_a_member_who_ordered_nothing_has_everything_left(stage: Stage) -> None:
    card = await usage(stage)
    assert amounts(card) == (0, 0, 1_000_000)
    assert "Quota: **$1.00 per day** (the bot's default)" in card.text
    assert "Resets <t:" in card.text
    assert spending.NO_JOBS() in card.text
    assert "`░░░░░░░░░░░░░░░░░░░░`" in card.text


@pytest.mark.f17
async def test_spent_set_aside_and_left_add_up_while_jobs_run(stage: Stage) -> None:
    krea = stage.core.krea
    await stage.until_says(await stage.imagine(), "Completed")
    krea.waits = True
    failing = await stage.imagine(prompt="will fail")
    await stage.until(lambda: krea.accepted == 2)
    krea.fails(FailureReason.PROVIDER_FAILED)
    await stage.until_says(failing, "Failed")
    running = await stage.imagine(resolution="4K", prompt="is running")
    await stage.until_says(running, "Processing")
    card = await usage(stage)
    assert amounts(card) == (80_000, 160_000, 760_000)
    assert sum(amounts(card)) == 1_000_000
    assert "`██▒▒▒░░░░░░░░░░░░░░░`" in card.text
    lines = card.text.split(spending.JOBS())[1].strip("*\n").splitlines()
    assert [line.split(" · ")[:3] for line in lines[::2]] == [
        ["🎨 Processing", "Nano Banana 2", "$0.16"],
        ["⚠️ Failed", "Nano Banana 2", "$0.00"],
        ["✅ Completed", "Nano Banana 2", "$0.08"],
    ]
    assert lines[1::2] == ["-# `is running`", "-# `will fail`", "-# `a red fox`"]
    krea.finishes()
    await stage.until_says(running, "Completed", "$0.76 left")
    assert amounts(await usage(stage)) == (240_000, 0, 760_000)


async def test_only_the_last_few_jobs_are_listed_and_other_peoples_never(stage: Stage) -> None:
    for number in range(6):
        await stage.until_says(await stage.imagine(prompt=f"mine {number}", model=FLUX), "Completed")
    await stage.until_says(await stage.imagine(stage.bob, prompt="not mine"), "Completed")
    text = (await usage(stage)).text
    assert [f"mine {number}" in text for number in range(6)] == [False, True, True, True, True, True]
    assert "not mine" not in text


@pytest.mark.f32
async def test_the_prompt_of_a_moderated_job_is_not_repeated(stage: Stage) -> None:
    stage.core.krea.waits = True
    card = await stage.imagine(prompt="something vile")
    await stage.until(lambda: stage.core.krea.accepted)
    stage.core.krea.fails(FailureReason.MODERATED)
    await stage.until_says(card, "Failed")
    assert "vile" not in (await usage(stage)).text
    assert "vile" not in card.text


async def test_the_previous_period_is_told_apart_from_this_one(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(prompt="yesterday's fox"), "Completed")
    assert amounts(await usage(stage, period="this")) == (80_000, 0, 920_000)
    previous = await usage(stage, period="previous")
    assert amounts(previous) == (0, 0, 1_000_000)
    assert "Nothing was spent." in previous.text
    assert "Try" not in previous.text, "nothing can be ordered in a period that has ended"
    with time_machine.travel(stage.env.now() + timedelta(days=1)):
        assert amounts(await usage(stage)) == (0, 0, 1_000_000)
        previous = await usage(stage, period="previous")
    assert spending.PREVIOUS_TITLE() in previous.title
    assert amounts(previous) == (80_000, 0, 920_000)
    assert "yesterday's fox" in previous.text
    assert "Ended <t:" in previous.text


@pytest.mark.parametrize(
    ("command", "options", "sentence"),
    [
        ("set", {"amount": "5", "period": "week"}, "Quota: **$5.00 per week** (set for you)"),
        ("default", {"amount": "2", "period": "month"}, "Quota: **$2.00 per month** (this server's default)"),
        ("set", {"amount": "unlimited"}, "Quota: **unlimited** (set for you)"),
        ("set", {"amount": "0"}, "Quota: **$0.00 per day** (set for you)"),
        ("grant", {"amount": "2.50"}, "Extra this period: **$2.50**"),
    ],
)
async def test_a_member_sees_where_the_limit_comes_from(
    stage: Stage, command: str, options: dict[str, str], sentence: str
) -> None:
    whose = {} if command == "default" else {"member": stage.ada}
    await stage.quota(command, None, **whose, **options)
    assert sentence in (await usage(stage)).text


async def test_a_limit_from_a_role_names_the_role(stage: Stage) -> None:
    gil = stage.person("gil", stage.artists)
    await stage.quota("role", role=stage.artists, amount="5")
    card = stage.said(await gil.slash(stage.channel, "usage"))
    assert f"(from the role <@&{stage.artists.id}>)" in card.text


@pytest.mark.f52
async def test_spending_elsewhere_does_not_count_here(stage: Stage) -> None:
    eve, channel = stage.elsewhere()
    card = stage.said(await eve.slash(channel, "imagine", prompt="a red fox"))
    await stage.until_says(card, "Completed")
    here = stage.guild.add_member(eve.user)
    assert "**$0.00** spent" in stage.said(await here.slash(stage.channel, "usage")).text
    assert "**$0.08** spent" in stage.said(await eve.slash(channel, "usage")).text


# -- models ------------------------------------------------------------------------------------------


async def test_everything_that_can_be_ordered_is_listed_cheapest_first(stage: Stage) -> None:
    card = stage.said(await stage.ada.slash(stage.channel, "models"))
    assert card.private
    offered = [model for model in CATALOGUE.models if model.orderable]
    assert all(f"`{model.id}`" in card.text for model in offered)
    assert card.text.index("Flux 1 Dev") < card.text.index("Nano Banana 2") < card.text.index("GPT Image")
    assert "**Nano Banana 2** · $0.08 – $0.16" in card.text
    assert len(card.text) <= 4_000


async def test_models_lists_what_the_rules_of_the_server_allow(stage: Stage) -> None:
    await stage.settings("models", action="deny", model="krea/google/*")
    text = stage.said(await stage.ada.slash(stage.channel, "models")).text
    assert "krea/google/" not in text
    assert FLUX in text


async def test_models_offers_what_the_rules_allow_and_says_why_another_one_is_not(stage: Stage) -> None:
    await stage.settings("models", action="deny", model="krea/google/*")
    offered = [choice["value"] for choice in await stage.ada.autocomplete(stage.channel, "models", "model", "")]
    assert FLUX in offered
    assert not any(name.startswith("krea/google/") for name in offered)
    text = stage.said(await stage.ada.slash(stage.channel, "models", model=NANO_BANANA_2)).text
    assert "$0.08 · 1K" in text
    assert refusals.MODEL_NOT_ALLOWED(model="Nano Banana 2") in text
    text = stage.said(await stage.ada.slash(stage.channel, "models", model=FLUX)).text
    assert "/settings models" not in text


async def test_what_attached_images_are_called_is_said_of_the_command_that_calls_them_so(stage: Stage) -> None:
    text = stage.said(await stage.ada.slash(stage.channel, "models", model=KREA_LARGE)).text
    lines = text.splitlines()
    assert "-# `/imagine` `reference`" in lines
    assert any(line.startswith("-# `/edit` `reference`: at most 10 of the attached images") for line in lines)
    assert any(line.startswith("-# `/imagine` `source`: one of the attached images: `reference`") for line in lines)
    assert any(line.startswith("-# `creativity`: ") for line in lines), "the same in both"


@pytest.mark.parametrize("model", CATALOGUE.models, ids=lambda model: model.id)
async def test_what_a_model_can_do_and_costs_is_told_within_discords_limits(model: Model) -> None:
    layout = usage_page.model(model)
    assert_fits(layout)


async def test_one_model_tells_what_it_takes_and_each_price(stage: Stage) -> None:
    text = stage.said(await stage.ada.slash(stage.channel, "models", model=NANO_BANANA_2)).text
    assert "Makes images from text, edits images" in text
    assert "`resolution`: 1K, 2K, 4K" in text
    assert "$0.08 · 1K\n$0.12 · 2K\n$0.16 · 4K" in text
    assert "`seed`" not in text
    text = stage.said(await stage.ada.slash(stage.channel, "models", model="krea 2 large")).text
    assert f"`{KREA_LARGE}`" in text
    assert "$0.065 · with reference" in text


async def test_a_model_that_its_provider_withdraws_says_when_and_takes_orders(stage: Stage) -> None:
    ends_at = datetime(2027, 1, 31, 12, tzinfo=UTC)
    stage.core.parts.model_watch.accepted(NANO_BANANA_2, Withdrawal(ends_at=ends_at))
    await stage.until(lambda: stage.core.service.catalogue.get(NANO_BANANA_2).ends_at)
    word = f"withdrawn by its image service on <t:{int(ends_at.timestamp())}:D>"
    for options in (dict[str, str](), {"model": NANO_BANANA_2}):
        text = stage.said(await stage.ada.slash(stage.channel, "models", **options)).text
        assert f"`{NANO_BANANA_2}` · {word}" in text
        assert text.count(word) == 1
    await stage.until_says(await stage.imagine(model=NANO_BANANA_2), "Completed")


async def test_a_model_without_a_price_says_so(stage: Stage) -> None:
    text = stage.said(await stage.ada.slash(stage.channel, "models", model="krea/google/nano-banana-2.1")).text
    assert spending.MODEL_NO_PRICE() in text


async def test_an_unknown_model_is_refused_with_suggestions(stage: Stage) -> None:
    card = stage.said(await stage.ada.slash(stage.channel, "models", model="nano-banan"))
    assert "There is no model `nano-banan`. Did you mean `krea/google/nano-banana" in card.text
    assert card.private
    assert len(stage.env.errors) == 1
