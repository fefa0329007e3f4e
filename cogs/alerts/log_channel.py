"""Server log: what became of every order, posted in the channel that the moderators chose. It notifies nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import aiohttp
import discord

from bot.domain.policy import Policy
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.text import formatting, moderation
from cogs.text.locale import language_of_server, set_locale
from cogs.ui import card, components
from cogs.ui.components import Layout
from cogs.ui.message_api import MessageApi, is_too_large

_log = logging.getLogger(__name__)

MAX_ENTRIES_WITH_IMAGES = 20
"""A channel takes about one post a second. What a busy server makes beyond that is logged with a link instead."""

Files = Callable[[], list[discord.File]]


class LogChannel:
    """Posts for moderators; never in the way of a member's own card."""

    def __init__(
        self, *, client: discord.Client, service: JobService, messages: MessageApi, supervisor: Supervisor
    ) -> None:
        self._client = client
        self._service = service
        self._messages = messages
        self._supervisor = supervisor
        self._with_pictures = 0
        """Posts with pictures that Discord has not taken yet."""

    def finished(
        self, view: ReplyView, *, message_id: int | None, images: Sequence[card.ShownImage], files: Files
    ) -> None:
        """Log a command whose final state was shown in `message_id`, or (None) could not be shown."""
        self._supervisor.start(f"log of {view.reply.id}", self._finished(view, message_id, images, files))

    async def _finished(
        self, view: ReplyView, message_id: int | None, images: Sequence[card.ShownImage], files: Files
    ) -> None:
        policy = await self._service.store.policy(view.reply.address.guild_id)
        if policy.log_channel_id is None:
            return
        nonce = f"log{view.reply.id}"
        # What is private was promised to the member alone; the moderators still see who ordered what for how much.
        if view.reply.address.private or self._with_pictures >= MAX_ENTRIES_WITH_IMAGES:
            images = ()
        set_locale(self.language(policy, view.reply.address.guild_id))
        layout = entry(view, message_id=message_id, images=images)
        attached = files() if images else []
        del files  # it holds the pictures, and this may wait long
        self._with_pictures += bool(attached)
        try:
            await self._messages.post(policy.log_channel_id, layout, files=attached, nonce=nonce)
        except discord.HTTPException as error:
            if is_too_large(error):
                await self.post(policy.log_channel_id, entry(view, message_id=message_id, images=()), nonce=nonce)
            else:
                _log.warning("reply %s was not logged in the server: %s", view.reply.id, error)
        except (aiohttp.ClientError, OSError) as error:
            _log.warning("reply %s was not logged in the server: %s", view.reply.id, error)
        finally:
            self._with_pictures -= bool(attached)

    def language(self, policy: Policy, guild_id: int) -> str:
        """What is said in the log of a server."""
        guild = self._client.get_guild(guild_id)
        return language_of_server(policy, None if guild is None else guild.preferred_locale)

    async def post(self, channel_id: int, layout: Layout, *, nonce: str) -> bool:
        """Post a notice; False when Discord does not take it."""
        try:
            await self._messages.post(channel_id, layout, nonce=nonce)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("a notice was not posted in the server's log: %s", error)
            return False
        return True


def lacking(guild: discord.Guild | None, channel_id: int) -> list[str] | None:
    """Names of the permissions the bot lacks for posting pictures there; None when it does not know the channel."""
    channel = guild.get_channel_or_thread(channel_id) if guild is not None else None
    if guild is None or channel is None:
        return None
    has = channel.permissions_for(guild.me)
    send = "send_messages_in_threads" if isinstance(channel, discord.Thread) else "send_messages"
    names = [name for name in ("view_channel", send, "attach_files") if not getattr(has, name)]
    return [moderation.PERMISSIONS[name]() for name in names]


def trouble(guild: discord.Guild | None, policy: Policy) -> str:
    """What is in the way of the log, in a few words; '' when nothing is."""
    if policy.log_channel_id is None:
        return ""
    missing = lacking(guild, policy.log_channel_id)
    if missing is None:
        missing = [moderation.PERMISSIONS["view_channel"]()]
    return moderation.LOG_WARNING(permissions=", ".join(missing)) if missing else ""


def entry(view: ReplyView, *, message_id: int | None, images: Sequence[card.ShownImage]) -> Layout:
    """Who and where, then what their card says."""
    address = view.reply.address
    who = [f"<@{view.reply.user_id}>", f"<#{address.channel_id}>"]
    if address.private:
        who.append(moderation.LOG_PRIVATE())
    elif message_id is not None:
        who.append(formatting.link_to_message(address.guild_id, address.channel_id, message_id))
    status = card.status_of(view.reply)
    parts = card.body(view, status, images=images, hide_prompt=address.private)
    return components.container([components.text_display(" · ".join(who)), *parts], accent=card.accent(status))
