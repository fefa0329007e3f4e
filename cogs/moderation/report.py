"""Reports: what a server spent, shown to a moderator, who may then post it in the channel."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import discord
from discord import ui

from bot.charts.chart import Label
from bot.charts.renderer import ChartRenderer
from bot.domain.money.quota import Period, SpendReport, Window
from bot.domain.requester import Requester
from bot.service.job_service import JobService
from cogs.moderation import report_page
from cogs.moderation.report_page import Spending
from cogs.text import formatting, spending_report
from cogs.text.locale import language_of_server, use_locale
from cogs.ui.attachments import upload
from cogs.ui.checks import requester_of, require_moderator
from cogs.ui.client import Interaction
from cogs.ui.components import Layout, View
from cogs.ui.discord_api.message_api import NO_MENTIONS
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

_log = logging.getLogger(__name__)

NAMES_TIMEOUT_SECONDS = 3.0
NAMES_PER_QUESTION = 100
MAX_NAMES = 1_000
"""Members whose names are asked for; those who spent most come first."""


class Reports:
    """Responds with reports. Every response is deferred first, because a report may outlast Discord's timeout."""

    def __init__(self, *, service: JobService, charts: ChartRenderer) -> None:
        self._service = service
        self._charts = charts

    async def show(self, interaction: discord.Interaction[Any], period: Period) -> None:
        """Show the current period to the moderator alone, with a button to post it."""
        guild_id = require_moderator(interaction)
        with self._service.heavy_work.report(requester_of(interaction)):
            await interaction.response.defer(ephemeral=True, thinking=True)
            spending = await self._spending(interaction.guild, guild_id, period, self._service.now())
            layout, files = await self._made(spending, requester_of(interaction))
            if files:
                layout.append(report_page.post_row(spending))
            await respond_privately(interaction, layout, files=files)

    async def post(self, interaction: discord.Interaction[Any], period: Period, moment: datetime) -> None:
        """Post the period that contains `moment` in the channel, with the current amounts."""
        guild_id = require_moderator(interaction)
        with self._service.heavy_work.report(requester_of(interaction)):
            await interaction.response.defer(thinking=True)
            policy = await self._service.store.policy(guild_id)
            spending = await self._spending(interaction.guild, guild_id, period, moment)
            with use_locale(language_of_server(policy, interaction.guild_locale)):
                layout, files = await self._made(spending, requester_of(interaction))
            await interaction.followup.send(view=View(layout), files=files, allowed_mentions=NO_MENTIONS)

    async def _spending(self, guild: discord.Guild | None, guild_id: int, period: Period, moment: datetime) -> Spending:
        zone = await self._service.store.time_zone(guild_id)
        window = Window.containing(moment, period, zone)
        parts = window.hours() if period is Period.DAY else window.days(zone)
        report = await self._service.store.spend_report(guild_id, parts)
        return Spending(
            period=period,
            zone=zone,
            window=window,
            parts=parts,
            report=report,
            model_labels={line.model_id: self._service.model_label(line.model_id) for line in report.lines},
            member_names={} if guild is None else await names_of(guild, _members_of(report)),
            channel_names={} if guild is None else _channel_names(guild, report),
        )

    async def of_week(self, guild: discord.Guild, window: Window) -> tuple[Layout, list[discord.File]]:
        """Build the report of a week that has ended, to be posted without anybody asking for it."""
        spending = await self._spending(guild, guild.id, Period.WEEK, window.start)
        return await self._made(
            spending,
            Requester(guild.id, guild.id),
            title=spending_report.WEEK_TITLE(start=formatting.date(window.start)),
        )

    async def _made(
        self, spending: Spending, requester: Requester, *, title: str = ""
    ) -> tuple[Layout, list[discord.File]]:
        """Build the page and its files; no files when nothing was spent."""
        files = report_page.tables(spending) if spending.report.lines else {}
        if files:
            image = await self._charts.draw(report_page.chart(spending), requester=requester)
            if image is not None:
                files[report_page.CHART_FILE] = image
        layout = report_page.page(spending, files, title=title)
        return layout, [upload(data, name) for name, data in files.items()]


def _members_of(report: SpendReport) -> list[int]:
    """Return the members in a report, those who spent most first."""
    spent = Counter[int]()
    for line in report.lines:
        if line.user_id is not None:
            spent[line.user_id] += line.spent_usd_micros
    return [user_id for user_id, _ in spent.most_common(MAX_NAMES)]


def _channel_names(guild: discord.Guild, report: SpendReport) -> dict[int, str]:
    found = (guild.get_channel(line.channel_id) for line in report.lines if line.channel_id is not None)
    return {channel.id: channel.name for channel in found if channel is not None}


async def names_of(guild: discord.Guild, user_ids: Sequence[int]) -> dict[int, Label]:
    """Ask Discord for the names of members, within a few seconds. The bot itself stores no members."""
    names: dict[int, Label] = {}
    try:
        async with asyncio.timeout(NAMES_TIMEOUT_SECONDS):
            for start in range(0, len(user_ids), NAMES_PER_QUESTION):
                asked = list(user_ids[start : start + NAMES_PER_QUESTION])
                for member in await guild.query_members(user_ids=asked, limit=NAMES_PER_QUESTION, cache=False):
                    # A user name has only plain letters; a display name may have any.
                    names[member.id] = Label(text=member.display_name, plain=member.name)
    except (TimeoutError, discord.DiscordException, aiohttp.ClientError, OSError) as error:
        _log.info("no names for some members of server %d: %s", guild.id, error or type(error).__name__)
    return names


class PostButton(DynamicComponent[ui.Button[Any]], template=report_page.POST_CUSTOM_ID):
    """'Post here' under a report."""

    async def handle(self, interaction: Interaction) -> None:
        """Post the report; only for moderators of this server."""
        start = datetime.fromtimestamp(int(self._match["start"]), UTC)
        await interaction.client.reports.post(interaction, Period(self._match["period"]), start)
