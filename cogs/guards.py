"""Guards: who may do what, checked by the bot itself (what Discord hides or shows is only a hint)."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands

from bot.quota import Member
from cogs import refusal_words


class NotAllowed(app_commands.CheckFailure):
    """The text says what is missing."""


def is_moderator(interaction: discord.Interaction[Any]) -> bool:
    """Manage Server, as Discord computed it for this very interaction."""
    if interaction.guild_id is None:
        return False
    permissions = interaction.permissions
    return permissions.manage_guild or permissions.administrator


def require_server(interaction: discord.Interaction[Any]) -> int:
    """The server's id. Raises NotAllowed in a direct message."""
    if interaction.guild_id is None:
        raise NotAllowed(refusal_words.SERVER_ONLY())
    return interaction.guild_id


def require_moderator(interaction: discord.Interaction[Any]) -> int:
    """The server's id. Raises NotAllowed for anybody else than a moderator of it."""
    guild_id = require_server(interaction)
    if not is_moderator(interaction):
        raise NotAllowed(refusal_words.MODERATORS_ONLY())
    return guild_id


def require_own_role(interaction: discord.Interaction[Any], role: discord.Role) -> None:
    """Raises NotAllowed for a role of another server, which only a tampered client can name."""
    if interaction.guild is None or interaction.guild.get_role(role.id) is None:
        raise NotAllowed(refusal_words.MEMBER_UNKNOWN())


def require_own_channel(
    interaction: discord.Interaction[Any], channel: app_commands.AppCommandChannel | app_commands.AppCommandThread
) -> None:
    """The same for a channel, or a thread in one; Discord tells the bot of every channel, also of hidden ones."""
    channel_id = channel.parent_id if isinstance(channel, app_commands.AppCommandThread) else channel.id
    if interaction.guild is None or interaction.guild.get_channel(channel_id) is None:
        raise NotAllowed(refusal_words.CHANNEL_UNKNOWN())


def member_of(interaction: discord.Interaction[Any], user: discord.abc.User | None = None) -> Member:
    """The member as plain values; role ids are known only for members of this server."""
    who = user or interaction.user
    return Member(guild_id=require_server(interaction), user_id=who.id, role_ids=role_ids_of(who))


def role_ids_of(user: discord.abc.User) -> tuple[int, ...]:
    """None for somebody who is not, or no longer, a member of the server."""
    return tuple(role.id for role in user.roles) if isinstance(user, discord.Member) else ()
