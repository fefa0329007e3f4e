"""/quota channel: a cap for a channel or category, which threads count for, and every place that shows it."""

from __future__ import annotations

from typing import Any

import discord
from simcord.builders import ChannelHandle

from bot.domain.money.quota import Place
from cogs.text import spending
from cogs.ui.checks import place_of
from tests.support.discord_stage import Card, Stage


async def cap(stage: Stage, channel: Any, amount: str, **options: Any) -> Card:
    return await stage.quota("channel", channel=channel, amount=amount, **options)


async def test_a_cap_of_a_channel_refuses_with_what_is_left_and_is_shown_everywhere(stage: Stage) -> None:
    art = f"<#{stage.channel.id}>"
    said = await cap(stage, stage.channel, "0.10", period="week", reason="trial")
    assert said.text == f"{art}: **$0.10 per week** (was not set)."
    card = await stage.imagine()
    await stage.until_says(card, "Completed", f"cost **$0.08** · $0.02 left for {art}")
    refusal = await stage.imagine()
    assert refusal.private
    assert f"This costs $0.08 and {art} has $0.02 left for everybody. Its cap resets <t:" in refusal.text
    usage = stage.said(await stage.ada.slash(stage.channel, "usage")).text
    assert f"The cap of {art} applies: it has **$0.02** left for everybody" in usage
    shown = (await stage.quota("show", member=stage.ada)).text
    assert f"What limits this now: the cap of {art} has **$0.02** left" in shown
    assert f"{art}: $0.08 used of $0.10 per week" in shown
    assert "`trial`" in (await stage.quota("audit")).text
    cleared = await stage.quota("clear", channel=stage.channel)
    assert cleared.text == f"{art}: limit removed (was $0.10 per week)."
    newest = (await stage.quota("audit")).text.splitlines()[1]
    assert f"<@{stage.mo.id}> removed the cap of {art}: $0.10 per week → not set" in newest
    await stage.until_says(await stage.imagine(), "Completed")


async def test_a_category_binds_its_channels_and_a_thread_counts_for_its_channel(stage: Stage) -> None:
    category = stage.guild.create_category("Studio")
    sketches = stage.guild.create_text_channel("sketches", category=category)
    guild = stage.core.bot.get_guild(stage.guild.id)
    assert guild is not None
    channel = guild.get_channel(sketches.id)
    assert isinstance(channel, discord.TextChannel)
    thread = await channel.create_thread(name="a thread", type=discord.ChannelType.public_thread)
    place = Place(channel_id=sketches.id, category_id=category.id)
    assert place_of(guild, sketches.id) == place_of(guild, thread.id) == place
    await cap(stage, category, "0.20")
    for _ in range(2):
        card = stage.ordered(await stage.ada.slash(sketches, "imagine", prompt="a fox"))
        await stage.until_says(card, "Completed")
    refusal = stage.ordered(await stage.bob.slash(sketches, "imagine", prompt="a fox"))
    assert f"This costs $0.08 and <#{category.id}> has $0.04 left" in refusal.text
    await stage.until_says(await stage.imagine(stage.bob), "Completed")  # outside of the category
    said = await cap(stage, ChannelHandle(stage.env, stage.guild, stage.env.backend.get_channel(thread.id)), "1")
    assert said.text == spending.THREAD_HAS_NO_CAP(thread=f"<#{thread.id}>", channel=f"<#{sketches.id}>")


async def test_moderators_are_warned_of_a_channel_once(stage: Stage) -> None:
    log = stage.guild.create_text_channel("log")
    await stage.settings("log-channel", channel=log)
    await cap(stage, stage.channel, "0.20")
    for _ in range(2):
        await stage.until_says(await stage.imagine(), "Completed")
    await stage.quiet_editors()
    warnings = [card.text for card in stage.cards(log) if "of its cap" in card.text]
    assert len(warnings) == 1
    assert f"<#{stage.channel.id}> has used 80% of its cap: $0.04 of $0.20 per day left." in warnings[0]


async def test_exactly_one_subject_is_cleared(stage: Stage) -> None:
    for chosen in ({}, {"member": stage.ada, "channel": stage.channel}):
        assert (await stage.quota("clear", None, **chosen)).text == spending.CLEAR_ONE()
