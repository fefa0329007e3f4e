"""Message deletions: has Discord delete the messages of erased orders, and tries again later what did not work.

What is still to be deleted is in the database, so it goes on after a restart. The sweep runs in one process or in each
worker; the click of a member or moderator makes the first attempt itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import aiohttp
import discord

from bot.domain.jobs import ReplyAddress
from bot.service.job_service import JobService
from cogs.ui.discord_api.message_api import MessageApi

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 30.0
BATCH = 50
ATTEMPT_TIMEOUT_SECONDS = 20.0
"""Time limit of one call, including discord.py's own waiting for a rate limit."""

FIRST_ATTEMPTS_TIMEOUT_SECONDS = 8.0
"""Time limit of all calls that a member waits for."""

RETRY_PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 360, 924, 1440, 1440, 1440))
"""Pauses after each failed attempt: several on the first day, then one a day. After four days it is given up."""

CLICK_SECONDS = 14 * 60
"""How long the token of a click can delete the message that was clicked (Discord: 15 minutes)."""

_GONE = frozenset({10003, 10008})
"""Unknown channel, unknown message."""


class Outcome(StrEnum):
    """What became of an attempt to delete a message."""

    GONE = "gone"
    """Deleted, or not there any more."""
    REFUSED = "refused"
    """The bot has no access to the message's channel."""
    FAILED = "failed"
    """Discord did not answer, or not with a decision."""


class MessageDeletions:
    """Deletes messages at once where that works, else from the list in the database until they are gone."""

    def __init__(self, *, service: JobService, messages: MessageApi) -> None:
        self._service = service
        self._store = service.store
        self._messages = messages
        self._clicks: dict[tuple[str, int], tuple[discord.Interaction[Any], float]] = {}
        """Clicks on Delete under a card, by job and member."""

    def remember_click(self, job_id: str, interaction: discord.Interaction[Any]) -> None:
        """Keep a click on Delete under a card: its token can delete the card for some minutes, wherever it is."""
        now = time.monotonic()
        self._clicks = {key: click for key, click in self._clicks.items() if now - click[1] < CLICK_SECONDS}
        self._clicks[job_id, interaction.user.id] = (interaction, now)

    async def delete_clicked(self, job_id: str, user_id: int) -> int | None:
        """Delete the card that this member clicked some minutes ago; return its message id, or None if that fails."""
        interaction, clicked_at = self._clicks.pop((job_id, user_id), (None, 0.0))
        if interaction is None or interaction.message is None or time.monotonic() - clicked_at >= CLICK_SECONDS:
            return None
        try:
            async with asyncio.timeout(FIRST_ATTEMPTS_TIMEOUT_SECONDS):
                await interaction.delete_original_response()
        except discord.NotFound:
            return None  # an unknown message, or an expired token: the bot's own token finds out
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.info("a card could not be deleted by the token of a click: %s", error)
            return None
        return interaction.message.id

    async def delete_by_token(self, address: ReplyAddress) -> bool:
        """Delete a card that only the token of its order reaches, while that is valid; return whether it is gone."""
        if not address.is_token_only or not address.token_is_usable(self._service.now()):
            return False
        try:
            async with asyncio.timeout(FIRST_ATTEMPTS_TIMEOUT_SECONDS):
                await self._messages.delete_by_token(address)
        except (discord.HTTPException, aiohttp.ClientError, OSError, discord.RateLimited) as error:
            _log.info("a card could not be deleted by the token of its order: %s", error)
            return False
        return True

    async def delete_now(
        self, places: Iterable[tuple[int, int]], *, gone_message_id: int | None
    ) -> dict[tuple[int, int], Outcome]:
        """Try once to delete messages that are on the list, given as channel and message id.

        The one with `gone_message_id` is gone already. What does not work stays on the list. Raises StoreError.
        """
        outcomes = dict.fromkeys(places, Outcome.FAILED)
        try:
            async with asyncio.timeout(FIRST_ATTEMPTS_TIMEOUT_SECONDS):
                for channel_id, message_id in outcomes:
                    is_gone = message_id == gone_message_id
                    outcomes[channel_id, message_id] = (
                        Outcome.GONE if is_gone else await self._attempt(channel_id, message_id)
                    )
        except TimeoutError:
            _log.warning("Discord did not delete the messages of an order in time; they are tried again")
        for (channel_id, message_id), outcome in outcomes.items():
            if outcome is Outcome.GONE:
                await self._store.finish_deletion(channel_id, message_id)
        return outcomes

    async def run(self) -> None:
        """Delete what is on the list, until cancelled."""
        while True:
            while await self.sweep(now=self._service.now()) == BATCH:
                pass
            await asyncio.sleep(SWEEP_SECONDS)

    async def sweep(self, *, now: datetime) -> int:
        """Try the messages that are due, one after another. Returns how many there were, at most `BATCH`."""
        due = await self._store.due_deletions(now=now, limit=BATCH)
        for deletion in due:
            outcome = Outcome.FAILED
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT_SECONDS):
                    outcome = await self._attempt(deletion.channel_id, deletion.message_id)
            except TimeoutError:
                _log.info("Discord did not delete message %d in time", deletion.message_id)
            if outcome is Outcome.GONE:
                await self._store.finish_deletion(deletion.channel_id, deletion.message_id)
            elif deletion.attempts >= len(RETRY_PAUSES):
                _log.warning(
                    "message %d in channel %d shows an erased order and could not be deleted in %d attempts: given up",
                    deletion.message_id,
                    deletion.channel_id,
                    deletion.attempts + 1,
                )
                await self._store.finish_deletion(deletion.channel_id, deletion.message_id)
            else:
                await self._store.postpone_deletion(deletion, until=now + RETRY_PAUSES[deletion.attempts])
        return len(due)

    async def _attempt(self, channel_id: int, message_id: int) -> Outcome:
        try:
            await self._messages.delete(channel_id, message_id)
        except discord.HTTPException as error:
            if error.code in _GONE or (error.status == 404 and error.code == 0):
                return Outcome.GONE
            _log.info("message %d in channel %d was not deleted: %s", message_id, channel_id, error)
            return Outcome.REFUSED if error.status == 403 else Outcome.FAILED
        except (aiohttp.ClientError, OSError, discord.RateLimited) as error:
            _log.info("message %d in channel %d was not deleted: %s", message_id, channel_id, error)
            return Outcome.FAILED
        return Outcome.GONE
