"""Warnings before the wall: who may spend is told once in a window when little of it is left.

A member privately at the answer to their order, moderators in the log channel, the operator by direct message.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import aiohttp
import discord

from bot.domain.errors import StoreError
from bot.domain.policy import Policy
from bot.domain.quota import Cap, Window, nearly_used
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.text import limit_warnings
from cogs.text.locale import use_locale
from cogs.ui import card
from cogs.ui.initial_response import respond_privately

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class SpendingAlerts:
    """Looks at the three limits after each order. The books remember who was told, this object only spares asking."""

    def __init__(
        self, *, service: JobService, server_log: LogChannel, operator: OperatorAlerts, supervisor: Supervisor
    ) -> None:
        self._service = service
        self._supervisor = supervisor
        self._store = service.store
        self._server_log = server_log
        self._operator = operator
        self._told: dict[tuple[int | None, int | None], datetime] = {}
        """Ends of windows by server and member, those that are still to come."""
        self._about_to_look = False

    async def after(self, interaction: discord.Interaction[Any], view: ReplyView) -> None:
        """An order was accepted and its card is shown: whatever goes wrong in here must not say otherwise."""
        now = datetime.now(UTC)
        try:
            await self._warn_member(interaction, view)
            await self._warn_server(view.reply.address.guild_id, now)
        except StoreError:
            _log.exception("nobody could be told what is left")
        if not self._about_to_look:
            self._about_to_look = True
            self._supervisor.start("operator's daily cap", self._warn_operator())

    async def _warn_member(self, interaction: discord.Interaction[Any], view: ReplyView) -> None:
        balance = view.balance
        if not nearly_used(balance.used_usd_micros, balance.limit_usd_micros):
            return
        if await self._is_first(view.reply.address.guild_id, view.reply.user_id, balance.window):
            try:
                await respond_privately(interaction, card.note(limit_warnings.member_warning(balance)))
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                _log.info("a member could not be told that little is left: %s", error)

    async def _warn_server(self, guild_id: int, now: datetime) -> None:
        policy = await self._store.policy(guild_id)
        channel_id = policy.log_channel_id
        cap = None if channel_id is None else await self._store.server_cap(guild_id, now=now)
        if channel_id is None or cap is None:
            return
        if not _is_nearly_used(cap) or self._was_told(guild_id, None, cap.window):
            return
        self._remember(guild_id, None, cap.window)  # at once: others may order before this one is posted
        know = False
        try:
            know = await self._tell_moderators(guild_id, channel_id, policy, cap)
        finally:
            if not know:  # the next order tries again
                self._told.pop((guild_id, None), None)

    async def _tell_moderators(self, guild_id: int, channel_id: int, policy: Policy, cap: Cap) -> bool:
        """True when they know by now. Discord has it before the books do: who dies in between posts it again, which the
        nonce makes harmless for minutes.
        """
        if await self._store.server_was_warned(guild_id, cap.window):
            return True
        with use_locale(self._server_log.language(policy, guild_id)):
            layout = card.refused(limit_warnings.server_warning(cap))
        if not await self._server_log.post(channel_id, layout, nonce=f"cap{guild_id}"):
            return False
        await self._store.first_warning(guild_id=guild_id, user_id=None, window=cap.window)
        return True

    async def _warn_operator(self) -> None:
        """One look for all orders of a second: this cap is the same for all of them."""
        await asyncio.sleep(LOOK_SECONDS)
        self._about_to_look = False
        try:
            cap = await self._store.operator_cap(self._service.limits, now=datetime.now(UTC))
            if _is_nearly_used(cap) and await self._is_first(None, None, cap.window):
                self._operator.send("daily cap", limit_warnings.operator_warning(cap))
        except StoreError:
            _log.exception("the operator could not be told what is left")

    async def _is_first(self, guild_id: int | None, user_id: int | None, window: Window) -> bool:
        if self._was_told(guild_id, user_id, window):
            return False
        is_first = await self._store.first_warning(guild_id=guild_id, user_id=user_id, window=window)
        self._remember(guild_id, user_id, window)
        return is_first

    def _was_told(self, guild_id: int | None, user_id: int | None, window: Window) -> bool:
        return self._told.get((guild_id, user_id)) == window.end

    def _remember(self, guild_id: int | None, user_id: int | None, window: Window) -> None:
        now = datetime.now(UTC)
        self._told = {owner: until for owner, until in self._told.items() if until > now}
        self._told[guild_id, user_id] = window.end


def _is_nearly_used(cap: Cap) -> bool:
    return nearly_used(cap.used_usd_micros, cap.quota.amount_usd_micros)
