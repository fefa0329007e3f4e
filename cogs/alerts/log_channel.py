"""Log channel: the final state of every order, posted in the channel that the moderators chose, without a ping."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

import aiohttp
import discord

from bot.domain.deletion import MessageKind
from bot.domain.policy import Policy
from bot.runtime.supervisor import Supervisor
from bot.service.job_service import JobService
from bot.service.views import ReplyView
from cogs.text import formatting, moderation
from cogs.text.locale import language_of_server, set_locale
from cogs.ui import card, components
from cogs.ui.components import Layout
from cogs.ui.discord_api.discord_errors import AUTOMOD_BLOCKED, is_too_large
from cogs.ui.discord_api.message_api import MessageApi, PostedMessage

_log = logging.getLogger(__name__)

MAX_ENTRIES_WITH_IMAGES, MAX_ENTRIES_WITH_IMAGES_OF_A_SERVER = 20, 10
"""Discord takes about one post a second in a channel; in a busy server further entries get a link and no images."""

Files = Callable[[], list[discord.File]]


class LogChannel:
    """Posts for moderators, in the background so that no member's card waits for them."""

    def __init__(
        self, *, client: discord.Client, service: JobService, messages: MessageApi, supervisor: Supervisor
    ) -> None:
        self._client = client
        self._service = service
        self._messages = messages
        self._supervisor = supervisor
        self._entries_with_images: Counter[int] = Counter()
        """Entries with images that Discord has not accepted yet, by server."""

    def finished(
        self,
        view: ReplyView,
        *,
        message_id: int | None,
        images: Sequence[card.ShownImage],
        files: Files,
        hide_prompt: bool = False,
    ) -> None:
        """Log a command whose final state is shown in `message_id`; None if it could not be shown.

        `hide_prompt` says that Discord refused the words of the prompt.
        """
        self._supervisor.start(
            f"log of {view.reply.id}", self._post_entry(view, message_id, images, files, hide_prompt)
        )

    async def _post_entry(
        self,
        view: ReplyView,
        message_id: int | None,
        images: Sequence[card.ShownImage],
        files: Files,
        hide_prompt: bool,
    ) -> None:
        policy = await self._service.store.policy(view.reply.address.guild_id)
        if policy.log_channel_id is None or await self._is_erased(view.reply.id):
            return
        nonce = f"log{view.reply.id}"
        # Only the member may see a private image; the moderators still see who ordered which model for how much.
        if view.reply.address.private or not self._takes_images(view.reply.address.guild_id):
            images = ()
        set_locale(self.language(policy, view.reply.address.guild_id))
        layout = entry(view, message_id=message_id, images=images, hide_prompt=hide_prompt)
        attached = files() if images else []
        del files  # frees the images, because posting may wait long
        self._entries_with_images[view.reply.address.guild_id] += bool(attached)
        try:
            posted = await self._messages.post(policy.log_channel_id, layout, files=attached, nonce=nonce)
        except discord.HTTPException as error:
            if not is_too_large(error) and error.code != AUTOMOD_BLOCKED:
                _log_not_posted(view, error)
                return
            hide_prompt = hide_prompt or error.code == AUTOMOD_BLOCKED
            layout = entry(view, message_id=message_id, images=(), hide_prompt=hide_prompt)
            posted = await self._post(policy.log_channel_id, layout, nonce=nonce)
        except (aiohttp.ClientError, OSError) as error:
            _log_not_posted(view, error)
            return
        finally:
            self._entries_with_images -= Counter({view.reply.address.guild_id: int(bool(attached))})
        if posted is not None:  # its id is needed to delete it with the order
            await self._service.store.record_copy(
                view.reply.id,
                kind=MessageKind.LOG,
                channel_id=posted.channel_id,
                message_id=posted.message_id,
                now=self._service.now(),
            )

    def _takes_images(self, guild_id: int) -> bool:
        return (
            self._entries_with_images.total() < MAX_ENTRIES_WITH_IMAGES
            and self._entries_with_images[guild_id] < MAX_ENTRIES_WITH_IMAGES_OF_A_SERVER
        )

    async def _is_erased(self, reply_id: str) -> bool:
        """Whether the order was deleted, or its member's data, before it could be logged."""
        reply = await self._service.store.reply(reply_id)
        return reply is None or reply.is_forgotten or reply.deleted_at is not None

    def language(self, policy: Policy, guild_id: int) -> str:
        """Return the language of a server's log channel."""
        guild = self._client.get_guild(guild_id)
        return language_of_server(policy, None if guild is None else guild.preferred_locale)

    async def post(self, channel_id: int, layout: Layout, *, nonce: str) -> bool:
        """Post a notice; False if Discord does not accept it."""
        return await self._post(channel_id, layout, nonce=nonce) is not None

    async def _post(self, channel_id: int, layout: Layout, *, nonce: str) -> PostedMessage | None:
        try:
            return await self._messages.post(channel_id, layout, nonce=nonce)
        except (discord.HTTPException, aiohttp.ClientError, OSError) as error:
            _log.warning("a notice was not posted in log channel %d: %s", channel_id, error)
            return None


def _log_not_posted(view: ReplyView, error: Exception) -> None:
    _log.warning(
        "reply %s was not posted in the log of server %d: %s", view.reply.id, view.reply.address.guild_id, error
    )


def missing_permissions(guild: discord.Guild | None, channel_id: int) -> list[str] | None:
    """Name the permissions that the bot lacks to post images in the channel; None if it knows no such channel.

    A category or a forum takes no messages, so it is none.
    """
    channel = guild.get_channel_or_thread(channel_id) if guild is not None else None
    if guild is None or not isinstance(channel, discord.abc.Messageable):
        return None
    has = channel.permissions_for(guild.me)
    send = "send_messages_in_threads" if isinstance(channel, discord.Thread) else "send_messages"
    names = [name for name in ("view_channel", send, "attach_files") if not getattr(has, name)]
    return [moderation.PERMISSIONS[name]() for name in names]


class LogAudience(StrEnum):
    """Who reads a log besides moderators."""

    EVERYBODY = "everybody"
    MEMBERS_WHO_ORDER = "members_who_order"


def audience(guild: discord.Guild | None, channel_id: int, *, takes_orders: bool) -> LogAudience | None:
    """Return who reads the log in this channel besides moderators; None if nobody does, as far as Discord tells.

    `takes_orders` says that members order images in the channel.
    """
    channel = guild.get_channel_or_thread(channel_id) if guild is not None else None
    # discord.py gives a private thread the readers of its channel, but only those see it who were added to it.
    is_open = not (isinstance(channel, discord.Thread) and channel.is_private())
    if guild and channel and is_open and channel.permissions_for(guild.default_role).view_channel:
        return LogAudience.EVERYBODY
    return LogAudience.MEMBERS_WHO_ORDER if takes_orders else None


def posting_warning(guild: discord.Guild | None, channel_id: int | None) -> str:
    """Say why the bot may not be able to post in a channel that moderators chose; '' if it can or none is chosen."""
    if channel_id is None:
        return ""
    missing = missing_permissions(guild, channel_id)
    if missing is not None:
        return moderation.LOG_WARNING(permissions=", ".join(missing)) if missing else ""
    is_known = guild is not None and guild.get_channel_or_thread(channel_id) is not None
    return moderation.TAKES_NO_MESSAGES() if is_known else moderation.CHANNEL_NOT_FOUND()


def entry(
    view: ReplyView, *, message_id: int | None, images: Sequence[card.ShownImage], hide_prompt: bool = False
) -> Layout:
    """Lay out an entry: who ordered in which channel, then what their card says, or less if the order is private."""
    address = view.reply.address
    heading = [f"<@{view.reply.user_id}>", f"<#{address.channel_id}>"]
    if address.private:
        heading.append(moderation.LOG_PRIVATE())
    elif message_id is not None:
        heading.append(formatting.link_to_message(address.guild_id, address.channel_id, message_id))
    status = card.status_of(view.reply)
    if address.private:
        parts = card.body_without_contents(view, status)
    else:
        parts = card.body(view, status, images=images, hide_prompt=hide_prompt)
    return components.container(
        [components.text_display(" · ".join(heading)), *parts], accent=card.accent(view.reply, status)
    )
