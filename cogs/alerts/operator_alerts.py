"""Operator alerts: direct messages to the owner of the application about what only they can repair."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence

import aiohttp
import discord

from bot.runtime.supervisor import Supervisor
from cogs.text import formatting, limit_warnings
from cogs.ui import card, components
from cogs.ui.components import Component
from cogs.ui.discord_api.message_api import MessageApi

_log = logging.getLogger(__name__)

MAX_CHARACTERS = 3_000
"""Discord takes 4,000 in one message."""

MAX_NONCE_CHARACTERS = 25

REPEAT_SECONDS = 3600.0
"""Pause between two alerts about the same topic."""


class OperatorAlerts:
    """Sends alerts to the owner of the application, in the background."""

    def __init__(self, *, messages: MessageApi, supervisor: Supervisor) -> None:
        self._messages = messages
        self._supervisor = supervisor
        self._owner_id: int | None = None
        self._operator_ids: frozenset[int] = frozenset()
        self._sent_at: dict[str, float] = {}

    def set_owner(self, application: discord.AppInfo) -> None:
        """Set who receives the alerts, known after the login. The owner of a team receives its alerts."""
        team = application.team
        self._owner_id = team.owner_id if team is not None and team.owner_id is not None else application.owner.id
        members = [] if team is None else team.members
        accepted = {member.id for member in members if member.membership_state is discord.TeamMembershipState.accepted}
        self._operator_ids = frozenset({self._owner_id, *accepted})

    def is_operator(self, user_id: int) -> bool:
        """Whether the user owns the application or is in the team that does."""
        return user_id in self._operator_ids

    def send(self, topic: str, text: str) -> None:
        """Send `text` unless an alert about `topic` was sent within the last hour."""
        now = time.monotonic()
        if self._owner_id is None or now - self._sent_at.get(topic, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._sent_at[topic] = now
        self._supervisor.start("operator alert", self._send(self._owner_id, topic, text))

    async def ask(self, topic: str, text: str, buttons: Sequence[Component]) -> bool:
        """Send a message with buttons; return whether it arrived."""
        return self._owner_id is not None and await self._send(self._owner_id, topic, text, buttons)

    async def _send(self, owner_id: int, topic: str, text: str, buttons: Sequence[Component] = ()) -> bool:
        try:
            channel_id = await self._messages.open_direct_channel(owner_id)
            words = limit_warnings.OPERATOR_NOTICE.format(text=formatting.block(text, MAX_CHARACTERS))
            layout = components.container([components.text_display(words), *buttons], accent=card.REFUSAL_ACCENT)
            # Discord takes two messages of one nonce for the same one, so different texts have different ones.
            nonce = hashlib.sha256(f"{topic} {text} {int(time.time())}".encode()).hexdigest()[:MAX_NONCE_CHARACTERS]
            await self._messages.post(channel_id, layout, nonce=nonce, notify=owner_id)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("could not send the operator an alert about %s: %s", topic, error)
            return False
        return True
