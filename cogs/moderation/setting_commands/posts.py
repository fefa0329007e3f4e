"""/settings log-channel, weekly-report, showcase, review, spoilers: what is posted where, and who sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import discord
from discord import app_commands

from bot.domain.policy import Policy
from cogs.alerts import log_channel
from cogs.generate.ordering import autocomplete as suggestions
from cogs.moderation import settings_page
from cogs.moderation.quota import Reason
from cogs.moderation.setting_commands.base import (
    ABOUT_LIST,
    ADD,
    CLEAR,
    LIST,
    LIST_ACTIONS,
    REMOVE,
    Action,
    Channel,
    PostChannel,
    SettingsCog,
    group,
    known_entries,
    model_pattern,
)
from cogs.text import formatting, moderation
from cogs.text.locale import use_locale
from cogs.ui import card
from cogs.ui.checks import require_moderator, require_own_channel, require_own_role
from cogs.ui.initial_response import refuse_privately, respond_privately

MAX_STARS = 25


class PostSettings(SettingsCog):
    """Sets where the bot posts what."""

    @group.command(name="log-channel", description="Where every finished order is posted for moderators")
    @app_commands.describe(channel="Channel", clear="Stop logging", reason="Reason, shown in the audit log")
    async def log_channel(
        self,
        interaction: discord.Interaction[Any],
        channel: PostChannel | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the log channel, after a first post in it shows that the bot may post there."""
        page, warn = settings_page.log_channel, self._log_audience
        if channel is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif channel is None and not clear:
            await self._list(interaction, page)
        elif channel is None:
            await self._change(
                interaction, lambda policy: replace(policy, log_channel_id=None), reason, page, warn=warn
            )
        elif (refusal := _why_not_in(interaction.guild, channel.id)) is not None:
            await refuse_privately(interaction, refusal)
        elif not await self._greet(interaction, channel.id):
            await refuse_privately(interaction, moderation.LOG_REFUSED(channel=f"<#{channel.id}>"))
        else:
            await self._change(
                interaction, lambda policy: replace(policy, log_channel_id=channel.id), reason, page, warn=warn
            )

    @group.command(name="weekly-report", description="Where each week's spending is posted, with a chart")
    @app_commands.describe(channel="Channel", clear="Stop posting it", reason="Reason, shown in the audit log")
    async def weekly_report(
        self,
        interaction: discord.Interaction[Any],
        channel: PostChannel | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the channel of the weekly report. The first one is of the week that is under way now."""
        page = settings_page.weekly_report
        if channel is not None and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif channel is None and not clear:
            await self._list(interaction, page)
        elif channel is None:
            await self._set(interaction, reason, page, weekly_report_channel_id=None)
        elif (refusal := _why_not_in(interaction.guild, channel.id)) is not None:
            await refuse_privately(interaction, refusal)
        else:
            if (await self._policy(interaction)).weekly_report_channel_id is None:
                await self._weekly_reports.begin(require_moderator(interaction), self._service.now())
            await self._set(interaction, reason, page, weekly_report_channel_id=channel.id)

    @group.command(name="showcase", description="Where members share finished images")
    @app_commands.describe(
        channel="Channel",
        stars="How many members must press Share (default: 1)",
        clear="No more sharing",
        reason="Reason, shown in the audit log",
    )
    async def showcase(
        self,
        interaction: discord.Interaction[Any],
        channel: PostChannel | None = None,
        stars: app_commands.Range[int, 1, MAX_STARS] | None = None,
        clear: bool = False,
        reason: Reason | None = None,
    ) -> None:
        """Set or clear the channel in which members share images. What was shared stays where it is."""
        page = settings_page.showcase
        changes: dict[str, Any] = {}
        if channel is not None:
            changes["showcase_channel_id"] = channel.id
        if stars is not None:
            changes["showcase_stars"] = stars
        if changes and clear:
            await refuse_privately(interaction, moderation.EITHER())
        elif clear:
            await self._set(interaction, reason, page, showcase_channel_id=None)
        elif not changes:
            await self._list(interaction, page)
        elif channel is not None and (refusal := _why_not_in(interaction.guild, channel.id)) is not None:
            await refuse_privately(interaction, refusal)
        else:
            await self._set(interaction, reason, page, **changes)

    @group.command(name="review", description="Images that moderators see and approve before everybody else")
    @app_commands.describe(
        channel="A channel, thread or category whose images are reviewed",
        role="A role whose members' images are reviewed",
        model="A model, or a pattern such as krea/openai/*, whose images are reviewed",
        review_channel="Where moderators see the images and decide",
        **ABOUT_LIST,
    )
    @app_commands.choices(action=LIST_ACTIONS)
    @app_commands.autocomplete(
        model=known_entries(
            lambda policy: policy.reviewed_models, when=REMOVE, otherwise=suggestions.models_and_patterns
        )
    )
    async def review(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        channel: Channel | None = None,
        role: discord.Role | None = None,
        model: str | None = None,
        review_channel: PostChannel | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Choose whose images are reviewed, and where. What waits for a decision keeps waiting, whatever changes."""
        policy = await self._policy(interaction)
        is_named = channel is not None or role is not None or model is not None
        what = action.value if action else ADD if review_channel is not None and not is_named else LIST
        if what == LIST:
            waiting = await self._store.waiting_reviews(require_moderator(interaction))
            text = "\n".join(
                filter(
                    None,
                    (
                        moderation.ACTION_FIRST() if is_named else "",
                        settings_page.review(policy),
                        moderation.REVIEW_WAITING(waiting) if waiting else "",
                        self._review_trouble(interaction, policy),
                    ),
                )
            )
            await respond_privately(interaction, card.note(text))
            return
        if what == CLEAR:
            nothing: dict[str, Any] = {"reviewed_channels": (), "reviewed_roles": (), "reviewed_models": ()}
            await self._change(
                interaction,
                lambda old: replace(old, review_channel_id=None, **nothing),
                reason,
                settings_page.review,
                warn=self._review_trouble,
            )
            return
        pattern = None if model is None else model_pattern(model, self._catalogue, policy.reviewed_models)
        if (refusal := self._why_no_review(interaction, policy, what, is_named, review_channel)) is not None:
            await refuse_privately(interaction, refusal)
            return
        if model is not None and pattern is None:
            await refuse_privately(interaction, moderation.NO_MODEL_MATCHES(pattern=formatting.inline(model)))
            return
        if what == ADD and channel is not None:
            require_own_channel(interaction, channel)
        if what == ADD and role is not None:
            require_own_role(interaction, role)

        def changed(old: Policy) -> Policy:
            new = old.with_reviewed(
                channel_id=channel.id if channel else None,
                role_id=role.id if role else None,
                model=pattern,
                reviewed=what == ADD,
            )
            return new if review_channel is None else replace(new, review_channel_id=review_channel.id)

        await self._change(interaction, changed, reason, settings_page.review, warn=self._review_trouble)

    def _why_no_review(
        self,
        interaction: discord.Interaction[Any],
        policy: Policy,
        what: str,
        is_named: bool,
        review_channel: Channel | None,
    ) -> str | None:
        """Return what is missing or wrong in a change of what is reviewed; None if nothing is."""
        if not is_named and (what == REMOVE or review_channel is None):
            return moderation.NAME_REVIEW()
        if what == ADD and review_channel is None and policy.review_channel_id is None:
            return moderation.NAME_REVIEW_CHANNEL()
        return None if review_channel is None else _why_not_in(interaction.guild, review_channel.id)

    def _review_trouble(self, interaction: discord.Interaction[Any], policy: Policy) -> str:
        """Say why the bot cannot post in the review channel, or who else sees the images there; '' if nothing."""
        channel_id = policy.review_channel_id
        if channel_id is None:
            return ""
        if (trouble := _why_not_in(interaction.guild, channel_id)) is not None:
            return f"⚠️ {trouble}"
        if log_channel.audience(interaction.guild, channel_id, takes_orders=False) is None:
            return ""
        return moderation.REVIEW_AUDIENCE(channel=formatting.channel(channel_id))

    @group.command(name="spoilers", description="Channels in which images are covered until they are clicked")
    @app_commands.describe(channel="A channel, thread or category", **ABOUT_LIST)
    @app_commands.choices(action=LIST_ACTIONS)
    async def spoilers(
        self,
        interaction: discord.Interaction[Any],
        action: Action | None = None,
        channel: Channel | None = None,
        reason: Reason | None = None,
    ) -> None:
        """Cover the images of a channel, or no longer."""
        what = action.value if action else LIST
        page = settings_page.spoilers
        if what == LIST:
            await self._list(interaction, page, meant_more=action is None and channel is not None)
        elif what == CLEAR:
            await self._set(interaction, reason, page, spoiler_channels=())
        elif channel is None:
            await refuse_privately(interaction, moderation.NAME_CHANNEL())
        else:
            if what == ADD:
                require_own_channel(interaction, channel)
            await self._change(interaction, lambda policy: policy.with_spoilers(channel.id, what == ADD), reason, page)

    async def _greet(self, interaction: discord.Interaction[Any], channel_id: int) -> bool:
        """Post the first entry of a new log, in its language; False if Discord does not accept it."""
        policy = await self._policy(interaction)
        if policy.log_channel_id == channel_id:
            return True
        with use_locale(self._server_log.language(policy, require_moderator(interaction))):
            hello = card.note(moderation.LOG_HELLO())
        return await self._server_log.post(channel_id, hello, nonce=f"hello{interaction.id}")


def _why_not_in(guild: discord.Guild | None, channel_id: int) -> str | None:
    """Return why the bot cannot post images in a channel; None if it can."""
    missing = log_channel.missing_permissions(guild, channel_id)
    if missing is None:
        return moderation.LOG_UNKNOWN_CHANNEL(channel=formatting.channel(channel_id))
    if missing:
        return moderation.LOG_PERMISSIONS(channel=formatting.channel(channel_id), permissions=", ".join(missing))
    return None
