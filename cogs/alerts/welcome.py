"""Welcome: one short message when the bot joins a server: what it does, who pays, and what to decide first."""

from __future__ import annotations

import logging

import aiohttp
import discord

from bot.domain.errors import StoreError
from bot.domain.money.quota import format_usd
from bot.service.job_service import JobService
from cogs.text import moderation, spending
from cogs.text.locale import language_of_server, use_locale
from cogs.ui import card
from cogs.ui.components import Layout
from cogs.ui.discord_api.message_api import MessageApi

_log = logging.getLogger(__name__)


class Welcome:
    """Introduces the bot in the system channel, else to the person who added it, else to the server's owner."""

    def __init__(self, *, service: JobService, messages: MessageApi) -> None:
        self._service = service
        self._messages = messages

    async def greet(self, guild: discord.Guild) -> None:
        """Post the message unless the moderators turned it off; once a day at most, however often the bot joins."""
        try:
            policy = await self._service.store.policy(guild.id)
            is_first = policy.greets and await self._service.store.claim_notice(
                f"welcome {guild.id}", now=self._service.now()
            )
        except StoreError:
            _log.exception("server %d was not greeted: the database is unavailable", guild.id)
            return
        if not is_first:
            return
        with use_locale(language_of_server(policy, guild.preferred_locale)):
            layout = self._layout()
        try:
            channel_id = _writable_channel(guild)
            if channel_id is None:
                channel_id = await self._messages.open_direct_channel(await _inviter_id(guild))
            await self._messages.post(channel_id, layout, nonce=f"hello{guild.id}")
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("server %d was not greeted: %s", guild.id, error)

    def _layout(self) -> Layout:
        limits = self._service.limits
        cap = min(limits.operator_server_cap_usd_micros, limits.operator_daily_cap_usd_micros)
        hello = moderation.WELCOME(quota=spending.quota(limits.default_quota), cap=format_usd(cap))
        steps = "\n".join([moderation.WELCOME_FIRST(), *(step() for step in moderation.FIRST_STEPS)])
        return card.note(hello, steps, moderation.WELCOME_OFF())


def _writable_channel(guild: discord.Guild) -> int | None:
    """Return the system channel if the bot may write in it."""
    channel = guild.system_channel
    if channel is None:
        return None
    may = channel.permissions_for(guild.me)
    return channel.id if may.view_channel and may.send_messages else None


async def _inviter_id(guild: discord.Guild) -> int:
    """Return who added the bot, as far as the server's own log tells it; else the owner."""
    if guild.me.guild_permissions.view_audit_log:
        try:
            async for entry in guild.audit_logs(action=discord.AuditLogAction.bot_add, limit=10):
                if entry.target is not None and entry.target.id == guild.me.id and entry.user_id is not None:
                    return entry.user_id
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("it is not known who added the bot to server %d: %s", guild.id, error)
    return guild.owner_id or 0
