"""Operator alerts: direct messages to the owner of the application about what only they can repair."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
import discord

from bot.runtime.retry import backoff_seconds
from bot.runtime.supervisor import Supervisor
from cogs.text import formatting, limit_warnings
from cogs.ui import card, components
from cogs.ui.components import Component
from cogs.ui.discord_api.discord_errors import may_pass
from cogs.ui.discord_api.message_api import MessageApi

_log = logging.getLogger(__name__)

MAX_CHARACTERS = 3_000
"""Discord takes 4,000 in one message."""

MAX_NONCE_CHARACTERS = 25

REPEAT_SECONDS = 3600.0
"""Pause between two alerts about the same topic."""


MAX_WAITING = 100
"""Alerts that wait for the login, or for Discord, at a time."""

FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 10.0, 300.0
"""Pauses before an alert that did not arrive is sent again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Alert:
    """A message to the operator. Discord takes two messages of one nonce for the same one."""

    topic: str
    text: str
    nonce: str


class OperatorAlerts:
    """Sends alerts to the owner of the application, in the background, one after the other until each has arrived."""

    def __init__(self, *, messages: MessageApi, supervisor: Supervisor) -> None:
        self._messages = messages
        self._supervisor = supervisor
        self._owner_id: int | None = None
        self._operator_ids: frozenset[int] = frozenset()
        self._sent_at: dict[str, float] = {}
        self._waiting: dict[str, _Alert] = {}
        """By topic, the oldest first."""
        self._is_sending = False
        """Whether alerts are being sent, or will be once a pause is over."""
        self._failures = 0

    def set_owner(self, application: discord.AppInfo) -> None:
        """Set who receives the alerts, known after the login. The owner of a team receives its alerts."""
        team = application.team
        self._owner_id = team.owner_id if team is not None and team.owner_id is not None else application.owner.id
        members = [] if team is None else team.members
        accepted = {member.id for member in members if member.membership_state is discord.TeamMembershipState.accepted}
        self._operator_ids = frozenset({self._owner_id, *accepted})
        self._start_sending()

    def is_operator(self, user_id: int) -> bool:
        """Whether the user owns the application or is in the team that does."""
        return user_id in self._operator_ids

    def send(self, topic: str, text: str) -> None:
        """Send `text` unless an alert about `topic` waits or was sent within the last hour."""
        now = time.monotonic()
        if topic in self._waiting or now - self._sent_at.get(topic, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        if len(self._waiting) >= MAX_WAITING:
            _log.error("too many alerts to the operator wait; the one about %s is dropped: %s", topic, text)
            return
        self._waiting[topic] = _alert(topic, text)
        self._start_sending()

    def _start_sending(self) -> None:
        if not self._is_sending and self._waiting and self._owner_id is not None:
            self._is_sending = True
            self._start_task()

    def _start_task(self) -> None:
        if not self._supervisor.closed:
            self._supervisor.start("operator alerts", self._send_waiting())

    async def _send_waiting(self) -> None:
        while self._waiting:
            alert = next(iter(self._waiting.values()))
            if await self._may_pass_later(alert):
                self._failures += 1
                pause_seconds = backoff_seconds(
                    self._failures, first_seconds=FIRST_RETRY_SECONDS, max_seconds=MAX_RETRY_SECONDS
                )
                asyncio.get_running_loop().call_later(pause_seconds, self._start_task)
                return
            self._failures = 0
            self._sent_at[alert.topic] = time.monotonic()
            del self._waiting[alert.topic]
        self._is_sending = False

    async def _may_pass_later(self, alert: _Alert) -> bool:
        """Send an alert; return whether it did not arrive and another try may help."""
        try:
            await self._post(alert)
        except Exception as error:  # a defect in one alert must not hold up those behind it
            _log.warning("could not send the operator an alert about %s: %r", alert.topic, error)
            return may_pass(error)
        return False

    async def ask(self, topic: str, text: str, buttons: Sequence[Component]) -> bool:
        """Send a message with buttons; return whether it arrived."""
        if self._owner_id is None:
            return False
        try:
            await self._post(_alert(topic, text), buttons)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("could not send the operator an alert about %s: %s", topic, error)
            return False
        return True

    async def _post(self, alert: _Alert, buttons: Sequence[Component] = ()) -> None:
        assert self._owner_id is not None, "alerts are sent after the login"
        channel_id = await self._messages.open_direct_channel(self._owner_id)
        words = limit_warnings.OPERATOR_NOTICE.format(text=formatting.block(alert.text, MAX_CHARACTERS))
        layout = components.container([components.text_display(words), *buttons], accent=card.REFUSAL_ACCENT)
        await self._messages.post(channel_id, layout, nonce=alert.nonce, notify=self._owner_id)


def _alert(topic: str, text: str) -> _Alert:
    # The time belongs to it, or an alert that says the same as one of some minutes ago would not be shown.
    nonce = hashlib.sha256(f"{topic} {text} {int(time.time())}".encode()).hexdigest()[:MAX_NONCE_CHARACTERS]
    return _Alert(topic=topic, text=text, nonce=nonce)
