"""/help: the commands that the reader may use here, in a few lines."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.service.job_service import JobService
from cogs.generate.ordering.permissions import permissions_of
from cogs.text import formatting, member_pages, spending
from cogs.text.command_translations import described, menu_name
from cogs.ui import card
from cogs.ui.checks import requester_of, server_of
from cogs.ui.initial_response import respond_privately

Command = app_commands.Command[Any, ..., Any] | app_commands.Group


class Help(commands.Cog):
    """The command /help. It reads the registered commands, so that it is never out of date."""

    def __init__(self, service: JobService, tree: app_commands.CommandTree[Any]) -> None:
        self._service = service
        self._tree = tree

    @app_commands.command(description="What this bot can do for you")
    async def help(self, interaction: discord.Interaction[Any]) -> None:
        """Show privately which commands the member may use here."""
        self._service.heavy_work.count_page(requester_of(interaction))
        members: list[str] = []
        moderators: list[str] = []
        for command in self._tree.get_commands():
            if isinstance(command, app_commands.ContextMenu):
                if server_of(interaction) is not None or not command.guild_only:
                    members.append(member_pages.HELP_MENU(name=menu_name(command.name)))
            elif command.name != "help" and _may_use(interaction, command):
                lines = members if command.default_permissions is None else moderators
                lines.append(f"`/{command.name}` — {described(command.description)}")
        parts = ["\n".join([f"### {member_pages.HELP_TITLE()}", *members])]
        if moderators:
            hints = [f"-# {member_pages.HELP_FIRST()}", f"-# {member_pages.HELP_BOOSTERS()}"]
            parts.append("\n".join([member_pages.HELP_MODERATORS(), *moderators, *hints]))
        if where := await self._where(interaction):
            parts.append(f"-# {where}")
        await respond_privately(interaction, card.note(*parts))

    async def _where(self, interaction: discord.Interaction[Any]) -> str:
        """Return a sentence about where images can be made; '' if they can be made here."""
        if server_of(interaction) is None:
            return self._outside_servers(interaction)
        permissions = await permissions_of(self._service, interaction)
        if permissions.policy.channel_verdict(permissions.channel).allowed:
            return ""
        allowed = [f"<#{channel_id}>" for channel_id, allows in permissions.policy.channels.items() if allows]
        return (
            member_pages.HELP_ELSEWHERE(channels=", ".join(allowed[: formatting.MAX_MENTIONS]))
            if allowed
            else member_pages.HELP_NOT_HERE()
        )

    def _outside_servers(self, interaction: discord.Interaction[Any]) -> str:
        quota = self._service.limits.direct_quota
        if quota is None:
            return member_pages.HELP_DIRECT()
        if not interaction.is_user_integration():
            return member_pages.HELP_ADD_APP()
        return member_pages.HELP_OWN_ACCOUNT(quota=spending.quota(quota))


def _may_use(interaction: discord.Interaction[Any], command: Command) -> bool:
    if server_of(interaction) is None:
        return not command.guild_only
    needed = command.default_permissions
    return needed is None or interaction.permissions.administrator or needed <= interaction.permissions
