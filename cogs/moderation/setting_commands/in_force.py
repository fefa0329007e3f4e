"""/settings show: what is in force, and which rule decides."""

from __future__ import annotations

from typing import Any

import discord
from discord import app_commands

from bot.domain.money.quota import LimitSubject, Member, Window
from cogs.alerts import log_channel
from cogs.generate.ordering import autocomplete as suggestions
from cogs.generate.ordering.permissions import Permissions, channel_context
from cogs.moderation import settings_page
from cogs.moderation.setting_commands.base import Channel, SettingsCog, group
from cogs.ui.checks import place_of, requester_of, require_moderator, role_ids_of
from cogs.ui.initial_response import respond_privately


class InForceSettings(SettingsCog):
    """Shows all settings of a server."""

    @group.command(name="show", description="What is in force here, and which rule decides")
    @app_commands.describe(
        channel="Look at this channel instead of here",
        member="Look at what this member may do",
        model="Look at this model instead of the default one",
    )
    @app_commands.autocomplete(model=suggestions.any_models)
    async def show(
        self,
        interaction: discord.Interaction[Any],
        channel: Channel | None = None,
        member: discord.Member | None = None,
        model: str | None = None,
    ) -> None:
        """Show the effective settings; before the first decision, list what to decide."""
        guild_id = require_moderator(interaction)
        self._service.heavy_work.count_page(requester_of(interaction))
        policy = await self._store.policy(guild_id)
        who = member or interaction.user
        context = channel_context(interaction.guild, channel.id if channel else interaction.channel_id or 0)
        permissions = Permissions(policy=policy, channel=context, role_ids=role_ids_of(who))
        default_id = self._default_of(policy)
        asked = self._catalogue.get(model or default_id)
        zone = await self._store.time_zone(guild_id)
        limits = await self._store.limits_of(guild_id)
        own = {subject: quota for subject, subject_id, quota in limits if subject_id is None}
        server_default = own.get(LimitSubject.DEFAULT)
        bot_default = self._service.limits.default_quota
        seen = settings_page.Overview(
            policy=policy,
            zone=zone.key,
            next_reset=Window.containing(self._service.now(), (server_default or bot_default).period, zone).end,
            default_model=self._service.model_label(default_id),
            default_is_ours=default_id != policy.default_model_id,
            models=self._service.offered(),
            server_default=server_default,
            bot_default=bot_default,
            cap=own.get(LimitSubject.SERVER),
            role_limits=[
                (role_id, quota) for subject, role_id, quota in limits if subject is LimitSubject.ROLE and role_id
            ],
            channel_caps=[
                (place, quota) for subject, place, quota in limits if subject is LimitSubject.CHANNEL and place
            ],
            warnings={
                channel_id: warning
                for channel_id in (
                    policy.log_channel_id,
                    policy.showcase_channel_id,
                    policy.review_channel_id,
                    policy.weekly_report_channel_id,
                )
                if channel_id is not None and (warning := log_channel.posting_warning(interaction.guild, channel_id))
            },
            log_readers=self._log_audience(interaction, policy),
            locale=interaction.guild_locale,
        )
        spendable = await self._store.spendable(
            Member(
                guild_id=guild_id,
                user_id=who.id,
                role_ids=role_ids_of(who),
                place=place_of(interaction.guild, channel.id if channel else interaction.channel_id),
            ),
            limits=self._service.limits,
            now=self._service.now(),
        )
        case = settings_page.case_lines(
            permissions, member=who.mention, model=asked, models=self._service.offered(), spendable=spendable
        )
        await respond_privately(interaction, settings_page.overview(seen, case))
