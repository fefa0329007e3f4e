"""SettingsCog: what the commands of /settings share, whatever they set."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any

import discord
from discord import app_commands
from discord.ext import commands

from bot.catalogue.catalogue import Catalogue
from bot.domain.jobs import JobKind
from bot.domain.policy import Policy, PolicyEdit, is_pattern, matches
from bot.service.job_service import JobService
from cogs.alerts import log_channel
from cogs.alerts.log_channel import LogChannel
from cogs.generate.ordering import autocomplete as suggestions
from cogs.generate.ordering.permissions import channel_context, default_model
from cogs.moderation import settings_page
from cogs.moderation.weekly_reports import WeeklyReports
from cogs.text import formatting, moderation
from cogs.ui import card
from cogs.ui.checks import is_moderator, require_moderator
from cogs.ui.client import Interaction
from cogs.ui.initial_response import respond_privately

ALLOW, DENY, ADD, REMOVE, CLEAR, LIST = "allow", "deny", "add", "remove", "clear", "list"
RULE_ACTIONS = [
    app_commands.Choice(name="Allow", value=ALLOW),
    app_commands.Choice(name="Deny", value=DENY),
    app_commands.Choice(name="Forget the rule, or all of them", value=CLEAR),
    app_commands.Choice(name="List", value=LIST),
]
LIST_ACTIONS = [
    app_commands.Choice(name="Add", value=ADD),
    app_commands.Choice(name="Remove", value=REMOVE),
    app_commands.Choice(name="Remove all", value=CLEAR),
    app_commands.Choice(name="List", value=LIST),
]
ABOUT_LIST = {"action": "What to do (default: list)", "reason": "Reason, shown in the audit log"}
_MODEL_PATTERN = re.compile(r"[a-z0-9._/*?-]{1,100}")

Channel = app_commands.AppCommandChannel | app_commands.AppCommandThread
Action = app_commands.Choice[str]


class _PostChannel(app_commands.Transformer):
    """A channel that takes messages: no category, and no forum, which takes posts alone."""

    @property
    def type(self) -> discord.AppCommandOptionType:
        return discord.AppCommandOptionType.channel

    @property
    def channel_types(self) -> list[discord.ChannelType]:
        types = discord.ChannelType
        threads = [types.news_thread, types.public_thread, types.private_thread]
        return [types.text, types.news, types.voice, types.stage_voice, *threads]

    async def transform(self, interaction: discord.Interaction[Any], value: Channel, /) -> Channel:
        """Return the channel. Raises TransformerError for one that a modified or outdated client sends."""
        if value.type not in self.channel_types:
            raise app_commands.TransformerError(value, self.type, self)
        return value


PostChannel = app_commands.Transform[Channel, _PostChannel]

group = app_commands.Group(
    name="settings",
    description="Where images can be ordered, with which models, and what is logged",
    default_permissions=discord.Permissions(manage_guild=True),
    guild_only=True,
)
"""/settings. Discord lists its commands in the order in which `settings.py` imports their files."""


def model_pattern(text: str, catalogue: Catalogue, known: Collection[str]) -> str | None:
    """Return the id of a model, or the pattern if it matches a model or is `known`; None if it matches nothing.

    Raises UnknownModel.
    """
    typed = text.strip().casefold()
    if typed in known:
        return typed
    if not is_pattern(typed):
        return catalogue.get(text).id
    if not _MODEL_PATTERN.fullmatch(typed):
        return None
    return typed if any(matches(typed, model.id) for model in catalogue.models) else None


class SettingsCog(commands.Cog):
    """Shows and changes the policy of a server, for moderators."""

    def __init__(self, *, service: JobService, log: LogChannel, weekly_reports: WeeklyReports) -> None:
        self._weekly_reports = weekly_reports
        self._service = service
        self._store = service.store
        self._catalogue = service.catalogue
        self._server_log = log

    async def interaction_check(self, interaction: discord.Interaction[Any]) -> bool:
        """Refuse members who are no moderators: a server's settings in Discord may show them the commands."""
        require_moderator(interaction)
        return True

    async def _policy(self, interaction: discord.Interaction[Any]) -> Policy:
        return await self._store.policy(require_moderator(interaction))

    async def _list(
        self, interaction: discord.Interaction[Any], page: settings_page.Page, *, meant_more: bool = False
    ) -> None:
        """Show a list; `meant_more` if the member named an entry but no action."""
        text = page(await self._policy(interaction))
        await respond_privately(interaction, card.note(f"{moderation.ACTION_FIRST()}\n{text}" if meant_more else text))

    async def _change(
        self,
        interaction: discord.Interaction[Any],
        alter: PolicyEdit,
        reason: str | None,
        page: settings_page.Page,
        *,
        warn: Callable[[discord.Interaction[Any], Policy], str] | None = None,
    ) -> None:
        """Change the policy and show the changed part, with what `warn` says about it."""
        old, new = await self._store.change_policy(
            require_moderator(interaction), alter, actor_id=interaction.user.id, reason=reason, now=self._service.now()
        )
        lines = [moderation.UNCHANGED() if old == new else moderation.CHANGED(), page(new)]
        if warn is not None:
            lines.append(warn(interaction, new))
        if old.channels != new.channels:
            lines.append(self._log_audience(interaction, new))
        if old.model_rules != new.model_rules or old.age_restricted != new.age_restricted:
            default = self._catalogue.get(self._default_of(new))
            if not new.model_verdict(default.id, ()).allowed or new.is_age_restricted(default.id):
                lines.append(moderation.DEFAULT_NOT_ALLOWED(model=default.label))
        await respond_privately(
            interaction,
            card.note(formatting.shorten("\n".join(filter(None, lines)), settings_page.TEXT_CHARACTERS)),
        )

    async def _set(
        self, interaction: discord.Interaction[Any], reason: str | None, page: settings_page.Page, **fields: Any
    ) -> None:
        """Change fields of the policy and show the changed part."""
        await self._change(interaction, lambda policy: replace(policy, **fields), reason, page)

    def _log_audience(self, interaction: discord.Interaction[Any], policy: Policy) -> str:
        """Say that prompts and images of the log are read by more than moderators, if they are."""
        channel_id = policy.log_channel_id
        if channel_id is None:
            return ""
        context = channel_context(interaction.guild, channel_id)
        is_here = channel_id == interaction.channel_id
        is_allowed = any(policy.channels.values()) and policy.channel_verdict(context).allowed
        audience = log_channel.audience(interaction.guild, channel_id, takes_orders=is_here or is_allowed)
        return settings_page.log_audience(audience, channel_id)

    def _default_of(self, policy: Policy) -> str:
        return default_model(self._service, policy, JobKind.IMAGINE)


def known_entries(
    entries: Callable[[Policy], Iterable[str]], *, when: str, otherwise: suggestions.Completion | None = None
) -> suggestions.Completion:
    """Return a completion by the entries of a list of this server, to moderators alone, when this action is chosen."""

    async def complete(interaction: Interaction, text: str) -> suggestions.Choices:
        if interaction.namespace.action != when:
            return [] if otherwise is None else await otherwise(interaction, text)
        if not is_moderator(interaction):
            return []
        policy = await interaction.client.service.store.policy(require_moderator(interaction))
        return suggestions.plain(entry for entry in dict.fromkeys(entries(policy)) if text.strip().casefold() in entry)

    return complete
