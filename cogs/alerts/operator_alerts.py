"""The operator's line: a direct message to the application's owner about what only they can mend, once per matter."""

from __future__ import annotations

import logging
import time

import aiohttp
import discord

from bot.runtime.supervisor import Supervisor
from cogs.text import formatting, limit_warnings
from cogs.ui import card
from cogs.ui.message_api import MessageApi

_log = logging.getLogger(__name__)

QUIET_SECONDS = 3600.0
"""The same matter is told again only after this."""


class OperatorAlerts:
    """Tells the owner of the application; never in the way of anything."""

    def __init__(self, *, messages: MessageApi, supervisor: Supervisor) -> None:
        self._messages = messages
        self._supervisor = supervisor
        self._owner_id: int | None = None
        self._told_at: dict[str, float] = {}

    def set_owner(self, application: discord.AppInfo) -> None:
        """Known once the bot is logged in. A team is represented by its owner."""
        team = application.team
        self._owner_id = team.owner_id if team is not None and team.owner_id is not None else application.owner.id

    def send(self, matter: str, text: str) -> None:
        """Send `text` unless `matter` was told within the last hour."""
        now = time.monotonic()
        if self._owner_id is None or now - self._told_at.get(matter, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._told_at[matter] = now
        self._supervisor.start("operator message", self._send(self._owner_id, matter, text))

    async def _send(self, owner_id: int, matter: str, text: str) -> None:
        try:
            channel_id = await self._messages.open_direct_channel(owner_id)
            layout = card.refused(limit_warnings.OPERATOR_NOTICE.format(text=formatting.block(text, 1_500)))
            await self._messages.post(channel_id, layout, nonce=f"{matter[:8]}{int(time.time())}", notify=owner_id)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("the operator could not be told: %s", error)
