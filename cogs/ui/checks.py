"""Guards: who may do what, checked by the bot itself (what Discord hides or shows is only a hint)."""

from __future__ import annotations

import time
from typing import Any

import discord
from discord import app_commands

from bot.domain.quota import Member
from cogs.text import refusals

DOUBLE_PRESS_SECONDS = 2.0
"""Nobody looks at what came of a press and decides to press again in so short a time."""


class NotAllowed(app_commands.CheckFailure):
    """The text says what is missing."""


class ClickDebouncer:
    """Tells a double press on a button that costs money from two orders."""

    def __init__(self) -> None:
        self._latest: dict[tuple[int, int, str], tuple[int, float]] = {}
        """Interaction and time of the latest press, by person, message and button."""

    def is_double(self, interaction: discord.Interaction[Any]) -> bool:
        """Whether the same person pressed the same button a moment ago. Either way this press is remembered."""
        now = time.monotonic()
        self._latest = {key: press for key, press in self._latest.items() if now - press[1] < DOUBLE_PRESS_SECONDS}
        message_id = interaction.message.id if interaction.message else 0
        key = (interaction.user.id, message_id, str((interaction.data or {}).get("custom_id")))
        before = self._latest.setdefault(key, (interaction.id, now))
        # The same event delivered twice is told apart where orders are written down.
        return before[0] != interaction.id


def is_moderator(interaction: discord.Interaction[Any]) -> bool:
    """Manage Server, as Discord computed it for this very interaction."""
    if interaction.guild_id is None:
        return False
    permissions = interaction.permissions
    return permissions.manage_guild or permissions.administrator


def require_server(interaction: discord.Interaction[Any]) -> int:
    """The server's id. Raises NotAllowed in a direct message."""
    if interaction.guild_id is None:
        raise NotAllowed(refusals.SERVER_ONLY())
    return interaction.guild_id


def require_moderator(interaction: discord.Interaction[Any]) -> int:
    """The server's id. Raises NotAllowed for anybody else than a moderator of it."""
    guild_id = require_server(interaction)
    if not is_moderator(interaction):
        raise NotAllowed(refusals.MODERATORS_ONLY())
    return guild_id


def require_own_role(interaction: discord.Interaction[Any], role: discord.Role) -> None:
    """Raises NotAllowed for a role of another server, which only a tampered client can name."""
    if interaction.guild is None or interaction.guild.get_role(role.id) is None:
        raise NotAllowed(refusals.MEMBER_UNKNOWN())


def require_own_channel(
    interaction: discord.Interaction[Any], channel: app_commands.AppCommandChannel | app_commands.AppCommandThread
) -> None:
    """The same for a channel, or a thread in one; Discord tells the bot of every channel, also of hidden ones."""
    channel_id = channel.parent_id if isinstance(channel, app_commands.AppCommandThread) else channel.id
    if interaction.guild is None or interaction.guild.get_channel(channel_id) is None:
        raise NotAllowed(refusals.CHANNEL_UNKNOWN())


def member_of(interaction: discord.Interaction[Any], user: discord.abc.User | None = None) -> Member:
    """The member as plain values; role ids are known only for members of this server."""
    who = user or interaction.user
    return Member(guild_id=require_server(interaction), user_id=who.id, role_ids=role_ids_of(who))


def role_ids_of(user: discord.abc.User) -> tuple[int, ...]:
    """None for somebody who is not, or no longer, a member of the server."""
    return tuple(role.id for role in user.roles) if isinstance(user, discord.Member) else ()
