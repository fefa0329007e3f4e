"""Weekly reports: posts what a server spent in the week that has ended, in the channel that its moderators chose.

Every process with a gateway connection looks at its servers once a minute. The database says who posts a week; one that
was killed meanwhile may have posted it, so the next one looks for it in the channel first.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime, timedelta

import aiohttp
import discord

from bot.domain.errors import StoreError
from bot.domain.money.quota import Period, Window
from bot.domain.policy import Policy
from bot.service.job_service import JobService
from cogs.moderation.report import Reports
from cogs.text import formatting
from cogs.text.locale import language_of_server, use_locale
from cogs.ui.discord_api.message_api import MessageApi

_log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
POST_TIMEOUT_SECONDS = 90.0
"""Shorter than a claim, so that no two attempts overlap."""

CLOCK_SKEW = timedelta(minutes=5)
_FINAL_REFUSALS = (discord.Forbidden, discord.NotFound)


class WeeklyReports:
    """Posts the report of the last full week once per server."""

    def __init__(self, *, client: discord.Client, service: JobService, messages: MessageApi, reports: Reports) -> None:
        self._client = client
        self._service = service
        self._store = service.store
        self._messages = messages
        self._reports = reports
        self._done: dict[int, str] = {}
        """The last week of each server that is known to be reported."""

    async def run(self) -> None:
        """Post what is due, until the process ends."""
        await self._client.wait_until_ready()
        while True:
            await self.post_due(self._service.now())
            await asyncio.sleep(LOOK_SECONDS)

    async def post_due(self, now: datetime) -> None:
        """Post the report of the week before `now` in every server that wants one and has none yet."""
        for guild in self._client.guilds:
            try:
                policy = await self._store.policy(guild.id)
                if policy.weekly_report_channel_id is not None:
                    await self._post_once(guild, policy, policy.weekly_report_channel_id, now)
            except StoreError:
                _log.exception("the weekly report of server %d was put off: the database is unavailable", guild.id)

    async def _post_once(self, guild: discord.Guild, policy: Policy, channel_id: int, now: datetime) -> None:
        window, week = await self.last_week(guild.id, now)
        if self._done.get(guild.id) == week:
            return
        if await self._store.is_weekly_report_done(guild.id, week):
            self._done[guild.id] = week
            return
        claim = await self._store.claim_weekly_report(guild.id, week, now=now)
        if claim is None:
            return
        try:
            async with asyncio.timeout(POST_TIMEOUT_SECONDS):
                if claim.is_first or not await self._is_posted(channel_id, window, claim.first_claimed_at):
                    await self._post(guild, policy, channel_id, window)
        except _FINAL_REFUSALS as error:
            _log.warning(
                "the weekly report of server %d cannot be posted in channel %d: %s", guild.id, channel_id, error
            )
        except (TimeoutError, discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("the weekly report of server %d was put off: %s", guild.id, error)
            return
        await self._store.finish_weekly_report(guild.id, week, now=self._service.now())
        self._done[guild.id] = week

    async def begin(self, guild_id: int, now: datetime) -> None:
        """Count the last full week as reported: the first report is of the week that is under way."""
        _, week = await self.last_week(guild_id, now)
        await self._store.finish_weekly_report(guild_id, week, now=now)

    async def last_week(self, guild_id: int, now: datetime) -> tuple[Window, str]:
        """Return the last full week in the server's time zone, and the date on which it began there."""
        zone = await self._store.time_zone(guild_id)
        window = Window.containing(now, Period.WEEK, zone).before(Period.WEEK, zone)
        return window, f"{window.start.astimezone(zone):%Y-%m-%d}"

    async def _post(self, guild: discord.Guild, policy: Policy, channel_id: int, window: Window) -> None:
        with use_locale(language_of_server(policy, guild.preferred_locale)):
            layout, files = await self._reports.of_week(guild, window)
        await self._messages.post(channel_id, layout, files=files, nonce=_nonce(guild.id, window))

    async def _is_posted(self, channel_id: int, window: Window, since: datetime) -> bool:
        """Return whether an attempt that was cut off has posted the report."""
        after = discord.utils.time_snowflake(since - CLOCK_SKEW)
        title = formatting.date(window.start)
        return await self._messages.posted(channel_id, job_id=title, after=after) is not None


def _nonce(guild_id: int, window: Window) -> str:
    """Return what Discord posts once within some minutes; at most 25 characters."""
    return f"{guild_id % 10**12}w{int(window.start.timestamp())}"
