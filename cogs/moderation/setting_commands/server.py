"""/settings welcome, language, time-zone: what is not about orders."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import discord
from discord import app_commands

from bot.domain.money.quota import LimitSubject, Window
from cogs.generate.ordering import autocomplete as suggestions
from cogs.moderation import settings_page, time_zones
from cogs.moderation.quota import Reason
from cogs.moderation.setting_commands.base import Action, SettingsCog, group
from cogs.text import formatting, moderation
from cogs.text.locale import LANGUAGES
from cogs.ui import card
from cogs.ui.checks import require_moderator
from cogs.ui.initial_response import refuse_privately, respond_privately

LANGUAGE_CHOICES = [app_commands.Choice(name=name, value=tag) for tag, name in LANGUAGES.items()]


class ServerSettings(SettingsCog):
    """Sets how the bot presents itself in a server, and by which clock."""

    async def cog_load(self) -> None:
        """Read the names of time zones before the first member types one."""
        await asyncio.to_thread(time_zones.load)

    @group.command(name="welcome", description="Whether I introduce myself when I join this server")
    @app_commands.describe(on="On or off (default: show)", reason="Reason, shown in the audit log")
    async def welcome(
        self, interaction: discord.Interaction[Any], on: bool | None = None, reason: Reason | None = None
    ) -> None:
        """Show or set whether the bot introduces itself when it joins the server."""
        if on is None:
            await self._list(interaction, settings_page.welcome)
        else:
            await self._set(interaction, reason, settings_page.welcome, greets=on)

    @group.command(name="language", description="Language of public cards and of the log")
    @app_commands.describe(
        language="Language",
        clear="Back to the language of this server in Discord",
        reason="Reason, shown in the audit log",
    )
    @app_commands.choices(language=LANGUAGE_CHOICES)
    async def language(
        self,
        interaction: discord.Interaction[Any],
        language: Action | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set the language of public cards and of the log. Existing cards and private responses keep their own."""
        page = partial(settings_page.language, locale=interaction.guild_locale)
        if language is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif language is None and not clear:
            await self._list(interaction, page)
        else:
            tag = None if language is None else language.value
            await self._set(interaction, reason, page, language=tag)

    @group.command(name="time-zone", description="When days, weeks and months begin for quotas")
    @app_commands.describe(zone="A city in that time zone, such as Berlin", reason="Reason, shown in the audit log")
    async def time_zone(
        self, interaction: discord.Interaction[Any], zone: str | None = None, reason: Reason | None = None
    ) -> None:
        """Set the time zone, and show when the next period begins."""
        guild_id = require_moderator(interaction)
        now = self._service.now()
        current = await self._store.time_zone(guild_id)
        if zone is not None:
            found = time_zones.find(zone)
            if found is None:
                await refuse_privately(interaction, moderation.ZONE_UNKNOWN(zone=formatting.inline(zone)))
                return
            if found.key != current.key:
                await self._store.set_time_zone(guild_id, found, actor_id=interaction.user.id, reason=reason, now=now)
            current = found
        limit = await self._store.limit(guild_id, LimitSubject.DEFAULT, None) or self._service.limits.default_quota
        reset = Window.containing(now, limit.period, current).end
        text = moderation.ZONE_IS[limit.period](
            zone=current.key,
            when=formatting.moment(reset),
            exactly=formatting.day(reset),
        )
        await respond_privately(interaction, card.note(text))

    @time_zone.autocomplete("zone")
    async def _zones(self, interaction: discord.Interaction[Any], text: str) -> suggestions.Choices:
        now = self._service.now()
        names = time_zones.search(text, limit=suggestions.MAX_CHOICES)
        return [app_commands.Choice(name=time_zones.described(name, now), value=name) for name in names]
