"""Oddities of Discord: events that cannot be read, refused registrations, images in unusual places, lost files."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import discord
import pytest

from bot.gateway import discord_client
from cogs.ui.attachments import images_of
from tests.support.discord_stage import Stage
from tests.support.image_samples import image

PNG = image("PNG")

# -- events -------------------------------------------------------------------------------------------------------


def a_voice_channel(stage: Stage, channel_id: int, **fields: Any) -> dict[str, Any]:
    """Return a channel as an event names it; without `bitrate` the library cannot read it."""
    channel = {"id": str(channel_id), "type": 2, "name": "talk", "position": 9, "guild_id": str(stage.guild.id)}
    return channel | {"user_limit": 0, "permission_overwrites": [], "parent_id": None} | fields


def told(caplog: pytest.LogCaptureFixture) -> int:
    return sum("cannot be read" in record.getMessage() for record in caplog.records)


@pytest.mark.hostile("G-25")
async def test_a_live_event_that_cannot_be_read_is_told_once_and_skipped(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    parse = stage.core.bot._connection.parsers["CHANNEL_CREATE"]
    with caplog.at_level(logging.ERROR):
        parse(a_voice_channel(stage, 901))
        parse(a_voice_channel(stage, 902))
    assert told(caplog) == 1
    parse(a_voice_channel(stage, 903, bitrate=64_000))
    guild = stage.core.bot.get_guild(stage.guild.id)
    assert guild is not None
    assert guild.get_channel(903) is not None
    await stage.until_says(await stage.imagine(), "Completed")


async def test_an_event_that_the_library_sends_after_the_client_was_closed_is_dropped(stage: Stage) -> None:
    ready = asyncio.Event()
    stage.core.bot.add_listener(AsyncMock(side_effect=ready.set), "on_ready")
    stage.core.bot.dispatch("ready")
    await asyncio.wait_for(ready.wait(), 60)
    await stage.core.bot.close()
    ready.clear()
    stage.core.bot.dispatch("ready")
    await asyncio.sleep(0)
    assert not ready.is_set()


@pytest.mark.hostile("G-25")
async def test_a_server_with_a_channel_that_cannot_be_read_is_there_with_its_other_channels(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    server = {
        "id": "77", "name": "Other", "owner_id": "1", "roles": [], "emojis": [], "stickers": [], "features": [],
        "verification_level": 0, "default_message_notifications": 0, "explicit_content_filter": 0, "mfa_level": 0,
        "premium_tier": 0, "nsfw_level": 0, "system_channel_flags": 0, "preferred_locale": "en-US", "afk_timeout": 60,
        "channels": [a_voice_channel(stage, 78), a_voice_channel(stage, 79, bitrate=64_000)], "threads": [],
        "members": [], "presences": [], "voice_states": [], "stage_instances": [], "guild_scheduled_events": [],
        "soundboard_sounds": [], "member_count": 1, "large": False, "unavailable": False,
    }  # fmt: skip
    with caplog.at_level(logging.ERROR):
        stage.core.bot._connection.parsers["GUILD_CREATE"](server)
    guild = stage.core.bot.get_guild(77)
    assert guild is not None
    assert [channel.id for channel in guild.channels] == [79]
    assert told(caplog) == 1


# -- registration -------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-24")
async def test_a_refused_registration_of_commands_is_told_and_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices: list[str] = []
    monkeypatch.setattr(stage.core.bot.operator_alerts, "send", lambda topic, text: notices.append(text))
    monkeypatch.setattr(discord_client, "REGISTRATION_MAX_PAUSE_SECONDS", 0.01)
    refusals = [discord.RateLimited(5_000), discord.RateLimited(5_000)]
    registered = asyncio.Event()

    async def register(application_id: int, payload: object) -> None:
        if refusals:
            raise refusals.pop()
        registered.set()

    monkeypatch.setattr(stage.core.bot.http, "bulk_upsert_global_commands", register)
    await stage.core.store.set_value(f"commands of {stage.core.bot.application_id}", "of another version")
    await asyncio.wait_for(stage.core.bot._register_commands(), 30)
    assert registered.is_set()
    assert len(notices) == 2
    assert "Members have those of last time" in notices[0]


# -- where images are -----------------------------------------------------------------------------------------------

URL = "https://cdn.discordapp.com/attachments/1/2/fox.png"


def an_attachment(number: int, **fields: Any) -> dict[str, Any]:
    name = fields.get("filename", "fox.png")
    return {"id": str(number), "filename": name, "size": 9, "url": URL, "proxy_url": URL, "flags": 0} | fields


def a_message(stage: Stage, **fields: Any) -> discord.Message:
    """Return a message of a member as the library reads it."""
    bot = stage.core.bot
    channel: Any = bot.get_channel(stage.channel.id)
    data: Any = {
        "id": "5", "channel_id": str(stage.channel.id), "content": "", "attachments": [], "embeds": [], "flags": 0,
        "author": {"id": "9", "username": "bob", "discriminator": "0", "avatar": None}, "mentions": [], "type": 0,
        "timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None, "tts": False, "mention_everyone": False,
        "mention_roles": [], "pinned": False, "components": [],
    } | fields  # fmt: skip
    return discord.Message(state=bot._connection, channel=channel, data=data)


def forwarded(**fields: Any) -> dict[str, Any]:
    snapshot = {
        "content": "", "attachments": [], "embeds": [], "flags": 0, "mentions": [], "mention_roles": [], "type": 0,
        "timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None, "components": [],
    } | fields  # fmt: skip
    reference = {"type": 1, "message_id": "4", "channel_id": "3"}
    return {"message_snapshots": [{"message": snapshot}], "message_reference": reference}


@pytest.mark.hostile("G-27")
@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"attachments": [an_attachment(2)]}, ["fox.png"]),
        ({"attachments": [an_attachment(2, content_type="image/png")]}, ["fox.png"]),
        ({"attachments": [an_attachment(2, filename="FOX.JPEG")]}, ["FOX.JPEG"]),
        ({"attachments": [an_attachment(2, filename="a.mp4", content_type="video/mp4", width=9, height=9)]}, []),
        ({"attachments": [an_attachment(2, filename="a.mov", width=9, height=9)]}, []),
        ({"attachments": [an_attachment(2, filename="notes.txt")]}, []),
        (forwarded(attachments=[an_attachment(2)]), ["fox.png"]),
        (forwarded(embeds=[{"type": "image", "thumbnail": {"url": URL, "proxy_url": URL}}]), ["fox.png"]),
        ({"embeds": [{"type": "rich", "image": {"url": URL, "proxy_url": URL}}]}, ["fox.png"]),
        ({"embeds": [{"type": "video", "video": {"url": URL}, "thumbnail": {"url": URL, "proxy_url": URL}}]}, []),
        ({"embeds": [{"type": "gifv", "thumbnail": {"url": URL, "proxy_url": URL}}]}, []),
        ({"embeds": [{"type": "rich", "title": "words alone"}]}, []),
    ],
)
async def test_images_are_found_where_people_see_them_and_videos_never(
    stage: Stage, fields: dict[str, Any], names: list[str]
) -> None:
    assert [found.filename for found in images_of(a_message(stage, **fields))] == names


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.hostile("G-30")
async def test_an_attachment_that_discord_does_not_hand_out_at_once_is_read_again(stage: Stage) -> None:
    served: Callable[[str], bytes | None] = stage.core.server.attachments
    misses = [None, None]

    def stumbling(url: str) -> bytes | None:
        return misses.pop() if misses else served(url)

    stage.core.server.attachments = stumbling
    await stage.until_says(await stage.edit(image=("fox.png", PNG)), "Completed")
    assert misses == []
    assert len(stage.core.krea.orders) == 1
