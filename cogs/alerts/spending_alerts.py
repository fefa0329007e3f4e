"""Spending alerts: one warning in each window when most of a limit is used.

A member is warned privately after an order, moderators in the log channel, the operator by direct message.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

import aiohttp
import discord

from bot.domain.errors import OperatorCapReached, RequestRefused, StoreError
from bot.domain.money.quota import Cap, Window, nearly_used
from bot.domain.money.spendable import BindingLimit
from bot.domain.policy import Policy
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.alerts.log_channel import LogChannel
from cogs.alerts.operator_alerts import OperatorAlerts
from cogs.text import limit_warnings
from cogs.text.locale import use_locale
from cogs.ui import card
from cogs.ui.client import Interaction
from cogs.ui.initial_response import respond_privately

_log = logging.getLogger(__name__)

OPERATOR_CHECK_DELAY_SECONDS = 1.0
"""Delay that lets one check of the operator's cap serve all orders of a second."""

_Owner = tuple[int | None, int | None, int | None]
"""Server, member, and channel or category; without a member or a channel the server, and without that the operator."""


class SpendingAlerts:
    """Checks four limits after each order, and the operator's cap after a refusal as well.

    The database records who was warned; this object caches it.
    """

    def __init__(
        self,
        *,
        service: JobService,
        log_channel: LogChannel,
        operator_alerts: OperatorAlerts,
        supervisor: Supervisor,
    ) -> None:
        self._service = service
        self._supervisor = supervisor
        self._store = service.store
        self._log_channel = log_channel
        self._operator_alerts = operator_alerts
        self._warned: dict[_Owner, datetime] = {}
        """End of the window in which a warning was sent, by whose limit it is; past windows are dropped."""
        self._operator_check_is_due = False

    async def check(self, interaction: Interaction, view: ReplyView) -> None:
        """Warn after an accepted order. Failures are only logged, since the member's card is shown already."""
        try:
            await self._warn_member(interaction, view)
            await self._warn_moderators(view)
        except StoreError:
            _log.exception(
                "spending alerts for member %d in server %d failed: the database is unavailable",
                view.reply.user_id,
                view.reply.address.guild_id,
            )
        self._check_operator_soon()

    def order_refused(self, error: RequestRefused) -> None:
        """Warn the operator if an order was refused because of the daily cap and they were not warned.

        The process may have ended before the check after the last order, and then no more are accepted.
        """
        if isinstance(error, OperatorCapReached):
            self._check_operator_soon()

    def _check_operator_soon(self) -> None:
        if not self._operator_check_is_due:
            self._operator_check_is_due = True
            self._supervisor.start("operator's daily cap", self._warn_operator())

    async def _warn_member(self, interaction: Interaction, view: ReplyView) -> None:
        balance = view.spendable.balance
        if not nearly_used(balance.used_usd_micros, balance.limit_usd_micros):
            return
        if await self._is_first(view.reply.address.guild_id, view.reply.user_id, balance.window):
            try:
                await respond_privately(interaction, card.note(limit_warnings.member_warning(balance)))
            except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
                _log.info(
                    "could not warn member %d in server %d that little of the quota is left: %s",
                    view.reply.user_id,
                    view.reply.address.guild_id,
                    error,
                )

    async def _warn_moderators(self, view: ReplyView) -> None:
        """Warn moderators if most of the cap of the server, of the order's channel or of its category is used."""
        guild_id = view.reply.address.guild_id
        for limit in (BindingLimit.SERVER_CAP, BindingLimit.CHANNEL_CAP, BindingLimit.CATEGORY_CAP):
            cap = view.spendable.caps.get(limit)
            if cap is None or not _is_nearly_used(cap):
                continue
            owner = (guild_id, None, cap.channel_id)
            if self._was_warned(owner, cap.window):
                continue
            policy = await self._store.policy(guild_id)
            if policy.log_channel_id is None:
                return
            self._remember(owner, cap.window)  # at once: others may order before the warning is posted
            was_warned = False
            try:
                was_warned = await self._warn_of_cap(guild_id, policy.log_channel_id, policy, cap)
            finally:
                if not was_warned:  # the next order tries again
                    self._warned.pop(owner, None)

    async def _warn_of_cap(self, guild_id: int, log_channel_id: int, policy: Policy, cap: Cap) -> bool:
        """Post the warning unless it was posted before; True if it is posted by now.

        It is posted before it is recorded: after a crash in between it is posted again, and the nonce prevents a second
        message for some minutes.
        """
        channel_id, window = cap.channel_id, cap.window
        if channel_id is None:
            was_warned = await self._store.server_was_warned(guild_id, window)
        else:
            was_warned = await self._store.channel_was_warned(guild_id, channel_id, window=window)
        if was_warned:
            return True
        words = limit_warnings.server_warning if channel_id is None else limit_warnings.channel_warning
        with use_locale(self._log_channel.language(policy, guild_id)):
            layout = card.refused(words(cap))
        if not await self._log_channel.post(log_channel_id, layout, nonce=f"cap{channel_id or guild_id}"):
            return False
        if channel_id is None:
            await self._store.first_warning(guild_id=guild_id, user_id=None, window=window)
        else:
            await self._store.first_warning_of_channel(guild_id, channel_id, window=window)
        return True

    async def _warn_operator(self) -> None:
        """Warn the operator if most of the daily cap is used."""
        await asyncio.sleep(OPERATOR_CHECK_DELAY_SECONDS)
        self._operator_check_is_due = False
        try:
            cap = await self._store.operator_cap(self._service.limits, now=self._service.now())
            if _is_nearly_used(cap) and await self._is_first(None, None, cap.window):
                # The day belongs to the matter, or a warning soon after midnight would seem to be sent already.
                self._operator_alerts.send(f"daily cap until {cap.window.end}", limit_warnings.operator_warning(cap))
        except StoreError:
            _log.exception("the operator's daily cap could not be checked: the database is unavailable")

    async def _is_first(self, guild_id: int | None, user_id: int | None, window: Window) -> bool:
        owner = (guild_id, user_id, None)
        if self._was_warned(owner, window):
            return False
        is_first = await self._store.first_warning(guild_id=guild_id, user_id=user_id, window=window)
        self._remember(owner, window)
        return is_first

    def _was_warned(self, owner: _Owner, window: Window) -> bool:
        return self._warned.get(owner) == window.end

    def _remember(self, owner: _Owner, window: Window) -> None:
        now = self._service.now()
        self._warned = {other: until for other, until in self._warned.items() if until > now}
        self._warned[owner] = window.end


def _is_nearly_used(cap: Cap) -> bool:
    return nearly_used(cap.used_usd_micros, cap.quota.amount_usd_micros)
