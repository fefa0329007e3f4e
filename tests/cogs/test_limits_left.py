"""What is said to be left is what really binds, and a limit that looks like a slip is explained."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import discord
import pytest
from simcord.builders import ChannelHandle

from cogs.text import limits_left, moderation, spending
from tests.support.catalogue_samples import FLUX
from tests.support.discord_stage import Card, Stage


async def usage(stage: Stage) -> str:
    return stage.said(await stage.ada.slash(stage.channel, "usage")).text


async def completed(stage: Stage, **options: Any) -> Card:
    card = await stage.imagine(**options)
    await stage.until_says(card, "Completed")
    return card


def limited(stage: Stage, **amounts: int) -> None:
    """Replace limits of the operator, in micro-dollars."""
    service = stage.core.service
    service.limits = replace(service.limits, **amounts)


# -- the least of all limits ---------------------------------------------------------------------------------


@pytest.mark.hostile("G-53")
async def test_a_server_cap_below_the_quota_is_what_is_shown_as_left_everywhere(stage: Stage) -> None:
    await stage.quota("server", amount="0.10", period="month")
    card = await completed(stage)
    assert "cost **$0.08** · $0.02 left for this server" in card.text
    text = await usage(stage)
    assert "**$0.02** left" in text
    assert "The cap of this server applies: it has **$0.02** left for everybody" in text
    shown = (await stage.quota("show", member=stage.ada)).text
    assert "**$0.02** left" in shown
    assert "What limits this now: the cap of the server has **$0.02** left until <t:" in shown
    assert ":f>." in shown, "until a time, not 'until in an hour'"
    choices = await stage.ada.autocomplete(stage.channel, "imagine", "model", "banana")
    assert all("over your $0.02 left" in choice["name"] for choice in choices)


@pytest.mark.hostile("G-53")
async def test_a_blocked_member_reads_that_they_are_blocked(stage: Stage) -> None:
    await stage.quota("block", member=stage.ada)
    text = await usage(stage)
    assert "**$0.00** left" in text
    assert limits_left.BLOCKED() in text
    shown = await stage.settings("show", member=stage.ada)
    assert moderation.MAY_NOT_ORDER(why=limits_left.BLOCKED_FOR_MODERATORS()) in shown.text
    assert "Can order here" not in shown.text
    choices = await stage.ada.autocomplete(stage.channel, "imagine", "model", "")
    assert all("over your $0.00 left" in choice["name"] for choice in choices)


@pytest.mark.hostile("G-53")
async def test_a_zero_quota_is_said_and_not_called_permission(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0")
    assert limits_left.NO_QUOTA() in await usage(stage)
    shown = await stage.settings("show", member=stage.ada)
    assert moderation.MAY_NOT_ORDER(why=limits_left.NO_QUOTA_FOR_MODERATORS()) in shown.text


@pytest.mark.hostile("G-53")
@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("operator_server_cap_usd_micros", "The bot's own cap for this server applies: it has **$0.02** left"),
        ("operator_daily_cap_usd_micros", "The bot's own daily cap applies: it has **$0.02** left"),
    ],
)
async def test_the_operators_caps_are_what_is_left_when_they_bind(stage: Stage, limit: str, words: str) -> None:
    limited(stage, **{limit: 100_000})
    card = await completed(stage)
    assert "$0.02 left of the bot's cap" in card.text
    assert words in await usage(stage)


@pytest.mark.hostile("G-53")
async def test_may_order_here_is_said_only_where_a_model_could_be_ordered(stage: Stage) -> None:
    assert "✅ Can order here" in (await stage.settings("show", member=stage.ada)).text
    await stage.settings("models", action="deny", model="*")
    shown = (await stage.settings("show", member=stage.ada)).text
    assert moderation.MAY_NOT_ORDER(why=moderation.NO_MODEL_HERE()) in shown
    await stage.settings("models", action="clear")
    await stage.settings("age-restricted", action="add", model="*")
    shown = (await stage.settings("show", member=stage.ada)).text
    assert moderation.MAY_NOT_ORDER(why=moderation.NO_MODEL_HERE()) in shown
    await stage.settings("age-restricted", action="clear")
    await stage.quota("server", amount="0.001")
    shown = (await stage.settings("show", member=stage.ada)).text
    assert "🚫 Can't order here: the cap of the server has **$0.001** left" in shown


@pytest.mark.hostile("G-53")
async def test_a_quota_that_binds_alone_is_shown_as_before(stage: Stage) -> None:
    text = await usage(stage)
    assert "**$1.00** left" in text
    assert "applies" not in text


# -- slips ------------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-54")
@pytest.mark.parametrize("command", ["set", "default", "server", "role"])
async def test_a_limit_above_the_bots_own_cap_is_set_and_the_answer_says_what_binds(stage: Stage, command: str) -> None:
    whose = {"set": {"member": stage.ada}, "role": {"role": stage.artists}}.get(command, {})
    said = (await stage.quota(command, amount="5000", **whose)).text
    assert "**$5,000.00 per day**" in said
    assert spending.ABOVE_BOT_CAP(cap="$5.00") in said
    said = (await stage.quota(command, amount="unlimited", **whose)).text
    assert spending.BOT_CAP_BINDS(cap="$5.00") in said
    said = (await stage.quota(command, amount="0", **whose)).text
    assert spending.ZERO_MEANS() in said
    said = (await stage.quota(command, amount="0.50", **whose)).text
    assert "⚠️" not in said


@pytest.mark.hostile("G-54")
@pytest.mark.parametrize("command", ["set", "server"])
async def test_a_limit_below_what_is_spent_is_set_and_the_answer_says_that_ordering_stops(
    stage: Stage, command: str
) -> None:
    await completed(stage)
    whose = {"member": stage.ada} if command == "set" else {}
    said = (await stage.quota(command, amount="0.05", **whose)).text
    assert "⚠️ $0.08 is spent or set aside already: ordering stops now until <t:" in said
    assert ":f>." in said
    assert "applies" in await usage(stage) or "**$0.00** left" in await usage(stage)


@pytest.mark.hostile("G-54")
@pytest.mark.parametrize("command", ["set", "default", "server", "role"])
async def test_the_same_limit_again_is_no_change_and_not_on_record(stage: Stage, command: str) -> None:
    whose = {"set": {"member": stage.ada}, "role": {"role": stage.artists}}.get(command, {})
    for amount in ("0.50", "unlimited"):
        await stage.quota(command, amount=amount, **whose)
        before = await stage.core.store.audit(stage.guild.id)
        said = (await stage.quota(command, amount=f" {amount}", reason="again", **whose)).text
        assert "already. Nothing changed." in said
        assert await stage.core.store.audit(stage.guild.id) == before


@pytest.mark.hostile("G-54")
async def test_a_reset_of_nothing_is_no_change(stage: Stage) -> None:
    said = (await stage.quota("reset", member=stage.ada)).text
    assert said == spending.RESET_NOTHING(subject=stage.ada.mention)
    assert await stage.core.store.audit(stage.guild.id) == []


@pytest.mark.hostile("G-54")
async def test_settings_that_are_in_force_already_are_not_on_record(stage: Stage) -> None:
    log = stage.guild.create_text_channel("log")
    changes: list[tuple[str, dict[str, Any]]] = [
        ("channels", {"action": "allow", "channel": stage.channel}),
        ("models", {"action": "deny", "model": FLUX}),
        ("words", {"action": "add", "words": "gore"}),
        ("log-channel", {"channel": log}),
        ("time-zone", {"zone": "Europe/Berlin"}),
    ]
    for command, options in changes:
        await stage.settings(command, **options)
    before = await stage.core.store.audit(stage.guild.id, limit=50)
    for command, options in changes:
        await stage.settings(command, **options)
    assert await stage.core.store.audit(stage.guild.id, limit=50) == before
    assert [card.text for card in stage.cards(log)] == [moderation.LOG_HELLO()]  # greeted once


# -- a log that others read ---------------------------------------------------------------------------------------


def hidden(stage: Stage) -> Any:
    """Create a channel that only moderators see."""
    seen, unseen = (discord.PermissionOverwrite(view_channel=view) for view in (True, False))
    bot = stage.core.bot.user
    assert bot is not None
    overwrites = {stage.guild.default_role: unseen, stage.keepers: seen, bot: seen}
    return stage.guild.create_text_channel("mods", overwrites=overwrites)


@pytest.mark.hostile("G-56")
async def test_a_log_in_a_channel_that_everybody_reads_is_set_and_said(stage: Stage) -> None:
    log = stage.guild.create_text_channel("log")
    for channel in (log, stage.channel):
        said = (await stage.settings("log-channel", channel=channel)).text
        assert moderation.LOG_AUDIENCES["everybody"](channel=f"<#{channel.id}>") in said
        policy = await stage.core.store.policy(stage.guild.id)
        assert policy.log_channel_id == channel.id
    assert (
        moderation.LOG_AUDIENCES["everybody"](channel=f"<#{stage.channel.id}>") in (await stage.settings("show")).text
    )


@pytest.mark.hostile("G-56")
async def test_a_log_that_only_moderators_read_is_set_without_a_warning_until_images_are_ordered_there(
    stage: Stage,
) -> None:
    log = hidden(stage)
    said = (await stage.settings("log-channel", channel=log)).text
    assert f"posted in <#{log.id}>" in said
    assert "⚠️" not in said
    said = (await stage.settings("channels", action="allow", channel=log)).text
    assert moderation.LOG_AUDIENCES["members_who_order"](channel=f"<#{log.id}>") in said


async def test_a_private_thread_is_read_by_those_who_were_added_to_it(stage: Stage) -> None:
    guild = stage.core.bot.get_guild(stage.guild.id)
    channel = guild and guild.get_channel(stage.channel.id)
    assert isinstance(channel, discord.TextChannel)
    for kind in (discord.ChannelType.public_thread, discord.ChannelType.private_thread):
        thread = await channel.create_thread(name="the desk", type=kind)
        await thread.add_user(discord.Object(stage.mo.id))
        place = ChannelHandle(stage.env, stage.guild, stage.env.backend.get_channel(thread.id))
        is_public = kind is discord.ChannelType.public_thread
        said = (await stage.settings("log-channel", channel=place)).text
        assert (moderation.LOG_AUDIENCES["everybody"](channel=thread.mention) in said) is is_public
        said = (await stage.settings("review", action="add", channel=stage.channel, review_channel=place)).text
        assert (moderation.REVIEW_AUDIENCE(channel=thread.mention) in said) is is_public


@pytest.mark.hostile("G-53")
async def test_no_reset_is_promised_where_the_limit_itself_is_zero(stage: Stage) -> None:
    limited: list[tuple[str, dict[str, Any]]] = [
        ("set", {"member": stage.ada}),
        ("server", {}),
        ("channel", {"channel": stage.channel}),
    ]
    for command, whose in limited:
        await stage.quota(command, amount="0", **whose)
        refused = (await stage.imagine()).text
        assert re.search(r"This costs \$0\.08 and .* \$0\.00 left.* is zero", refused)
        assert "resets" not in refused
        await stage.quota(command, amount="0.05", **whose)
        assert re.search(r"\$0\.05 left.* resets <t:", (await stage.imagine()).text)
        await stage.quota(command, amount="5", **whose)


@pytest.mark.hostile("G-53")
async def test_a_zero_quota_has_no_reset_in_usage(stage: Stage) -> None:
    assert "Resets" in await usage(stage)
    await stage.quota("set", member=stage.ada, amount="0")
    said = await usage(stage)
    assert limits_left.NO_QUOTA() in said
    assert "Resets" not in said


@pytest.mark.hostile("G-53")
async def test_a_refusal_names_the_limit_that_leaves_least(stage: Stage) -> None:
    await stage.quota("set", member=stage.ada, amount="0.05")
    await stage.quota("server", amount="0.02")
    assert "this server has $0.02 left for everybody" in (await stage.imagine()).text
    await stage.quota("server", amount="0.06")
    assert "you have $0.05 left" in (await stage.imagine()).text
