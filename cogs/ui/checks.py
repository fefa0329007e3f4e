"""Checks: who may do what. The bot checks itself: what Discord hides can be changed in the server's settings."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any, cast

import discord
from discord import app_commands

from bot.domain.jobs import DIRECT_GUILD_ID, Reply
from bot.domain.money.quota import Member, Place
from bot.domain.requester import Requester
from bot.domain.texts import is_possible
from cogs.text import refusals
from cogs.ui.client import BotClient

DOUBLE_CLICK_SECONDS = 2.0
"""Interval in which a second click on the same button is taken for an accident."""

_WITH_IDS = frozenset(
    {
        discord.AppCommandOptionType.user.value,
        discord.AppCommandOptionType.role.value,
        discord.AppCommandOptionType.mentionable.value,
        discord.AppCommandOptionType.channel.value,
        discord.AppCommandOptionType.attachment.value,
    }
)
_TYPES: dict[int, type | tuple[type, ...]] = {
    discord.AppCommandOptionType.string.value: str,
    discord.AppCommandOptionType.integer.value: int,
    discord.AppCommandOptionType.number.value: (int, float),
    discord.AppCommandOptionType.boolean.value: bool,
}
"""What the value of an option of each type is, where it is no id."""

_ATTACHMENT = discord.AppCommandOptionType.attachment.value
_NUMBERS = (discord.AppCommandOptionType.integer.value, discord.AppCommandOptionType.number.value)
_ID = re.compile(r"[0-9]{1,20}")


class NotAllowed(app_commands.CheckFailure):
    """The text says what is missing."""


class ClickDebouncer:
    """Recognises a double click on a button."""

    def __init__(self) -> None:
        self._latest: dict[tuple[int, int, str], tuple[int, float]] = {}
        """Interaction and time of the first recent click, by user, message and button."""

    def is_double(self, interaction: discord.Interaction[Any]) -> bool:
        """Return whether the same user clicked the same button a moment ago, and remember this click."""
        now = time.monotonic()
        self._latest = {key: click for key, click in self._latest.items() if now - click[1] < DOUBLE_CLICK_SECONDS}
        message_id = interaction.message.id if interaction.message else 0
        key = (interaction.user.id, message_id, str((interaction.data or {}).get("custom_id")))
        before = self._latest.setdefault(key, (interaction.id, now))
        # An interaction that Discord delivers twice is refused when its order is admitted.
        return before[0] != interaction.id


def server_of(interaction: discord.Interaction[Any]) -> int | None:
    """Return the server whose rules and money apply; None in direct messages and in servers without the bot.

    There only a person may have installed it, which concerns no server.
    """
    guild_id = interaction.guild_id
    if guild_id is None:
        return None
    client: BotClient = interaction.client
    return guild_id if interaction.is_guild_integration() or client.get_guild(guild_id) is not None else None


def server_or_direct(interaction: discord.Interaction[Any]) -> int:
    """Return the server whose rules apply, or DIRECT_GUILD_ID where none does. It says nothing about who may order."""
    return server_of(interaction) or DIRECT_GUILD_ID


def requester_of(interaction: discord.Interaction[Any]) -> Requester:
    """Return the user of the interaction as one who takes turns with others."""
    return Requester.of(server_or_direct(interaction), interaction.user.id)


def account_of(interaction: discord.Interaction[Any]) -> int:
    """Return where an order counts: in the server, or DIRECT_GUILD_ID for the account of the person's own.

    Raises NotAllowed outside the servers that have the bot, unless the operator lets people order there and this person
    has installed the bot. That of another person does not count, as with a button under a message of theirs.
    """
    if (guild_id := server_of(interaction)) is not None:
        return guild_id
    if not takes_direct_orders(interaction):
        raise NotAllowed(_not_here(interaction))
    if not (interaction.is_user_integration() or _is_button_in_own_messages(interaction)):
        raise NotAllowed(refusals.DIRECT_NOT_INSTALLED())
    return DIRECT_GUILD_ID


def require_account_of(interaction: discord.Interaction[Any], reply: Reply) -> None:
    """Raise NotAllowed unless a button under the reply would order for the account that the reply was ordered with."""
    if account_of(interaction) != reply.address.guild_id:
        raise NotAllowed(refusals.DIRECT_ORDER() if reply.address.is_direct else refusals.SERVER_ORDER())


def takes_direct_orders(interaction: discord.Interaction[Any]) -> bool:
    """Return whether the operator lets people order with an account of their own."""
    client: BotClient = interaction.client
    return client.service.limits.direct_quota is not None


def _is_button_in_own_messages(interaction: discord.Interaction[Any]) -> bool:
    """Whether it is a button or form between the person and the bot alone, below what the bot sent them there.

    Discord names no installation for messages that the bot sent by itself. No other account is reached this way: a
    button orders only for the account that its message came from.
    """
    is_command = interaction.type in (discord.InteractionType.application_command, discord.InteractionType.autocomplete)
    return interaction.guild_id is None and interaction.context.dm_channel and not is_command


def _not_here(interaction: discord.Interaction[Any]) -> str:
    return refusals.SERVER_ONLY() if interaction.guild_id is None else refusals.BOT_NOT_IN_SERVER()


def is_moderator(interaction: discord.Interaction[Any]) -> bool:
    """Return whether the user has Manage Server, as Discord computed it, in a server that has the bot."""
    if server_of(interaction) is None:
        return False
    permissions = interaction.permissions
    return permissions.manage_guild or permissions.administrator


def is_server_allowed(interaction: discord.Interaction[Any]) -> bool:
    """Return whether the bot may be used where the interaction comes from; direct messages are no server."""
    client: BotClient = interaction.client
    allowed = client.allowed_servers
    return not allowed or interaction.guild_id is None or interaction.guild_id in allowed


def require_allowed_server(interaction: discord.Interaction[Any]) -> None:
    """Raise NotAllowed in a server that the operator did not choose. Call it before anything is read or written."""
    if not is_server_allowed(interaction):
        raise NotAllowed(refusals.PRIVATE_BOT())


def require_possible_text(interaction: discord.Interaction[Any]) -> None:
    """Raise NotAllowed if anything that was typed, chosen or clicked cannot be encoded or stored.

    Only a modified client sends such text. Call it before anything of the interaction is used.
    """
    if not has_possible_text(interaction):
        raise NotAllowed(refusals.TEXT_IMPOSSIBLE())


def has_possible_text(interaction: discord.Interaction[Any]) -> bool:
    """Return whether everything that was typed, chosen or clicked can be encoded and stored."""
    data = cast("dict[str, Any]", interaction.data or {})
    return _is_possible({key: value for key, value in data.items() if key != "resolved"})


def require_ids(interaction: discord.Interaction[Any]) -> None:
    """Raise NotAllowed if an option for a member, role, channel or file holds no id, or another a wrong type of value.

    discord.py expects an id there and fails before any command runs; other values it passes on as they are. Call it
    before the options are used.
    """
    data = cast("dict[str, Any]", interaction.data or {})
    if not _has_types(data):
        raise NotAllowed(refusals.COMMAND_CHANGED())
    kind = _kind_without_id(data, files=data.get("resolved", {}).get("attachments", {}))
    if kind == discord.AppCommandOptionType.channel.value:
        raise NotAllowed(refusals.CHANNEL_UNKNOWN())
    if kind == _ATTACHMENT:
        raise NotAllowed(refusals.COMMAND_CHANGED())
    if kind is not None:
        raise NotAllowed(refusals.MEMBER_UNKNOWN())


def has_ids(interaction: discord.Interaction[Any]) -> bool:
    """Return whether every option for a member, role, channel or file holds an id."""
    return _kind_without_id(cast("dict[str, Any]", interaction.data or {})) is None


def _kind_without_id(options_of: dict[str, Any], *, files: Collection[str] | None = None) -> int | None:
    """Return the type of the first option, here or in a subcommand, that should hold an id and does not.

    `files` are those that came along; None while a command is typed, when Discord sends none.
    """
    for option in cast("list[dict[str, Any]]", options_of.get("options") or ()):
        kind: int = option["type"]
        if kind in _WITH_IDS and not _ID.fullmatch(str(option.get("value"))):
            return kind
        if kind == _ATTACHMENT and files is not None and option["value"] not in files:
            return kind
        if (found := _kind_without_id(option, files=files)) is not None:
            return found
    return None


def require_choice(interaction: discord.Interaction[Any]) -> None:
    """Raise NotAllowed if nothing is chosen in a select, which only a modified client can send."""
    data = cast("dict[str, Any]", interaction.data or {})
    if data.get("component_type") == discord.ComponentType.string_select.value and not data.get("values"):
        raise NotAllowed(refusals.COMMAND_CHANGED())


def require_lengths(interaction: discord.Interaction[Any]) -> None:
    """Raise NotAllowed if an option holds a longer text than its command takes.

    discord.py tells Discord the limit and does not check it, and a modified client does not either.
    """
    command = interaction.command
    if not isinstance(command, app_commands.Command):
        return
    options = cast("dict[str, Any]", interaction.data or {})
    while options.get("options") and "value" not in options["options"][0]:
        options = options["options"][0]  # a subcommand
    max_lengths = _max_lengths(command)
    for option in options.get("options") or ():
        value = option.get("value")
        if isinstance(value, str) and len(value) > max_lengths.get(option["name"], math.inf):
            raise NotAllowed(refusals.COMMAND_CHANGED())


@lru_cache(maxsize=256)
def _max_lengths(command: app_commands.Command[Any, ..., Any]) -> Mapping[str, float]:
    """Return the longest text that each option takes, by the name that Discord sends."""
    return {
        str(parameter.display_name): parameter.max_value
        for parameter in command.parameters
        if parameter.max_value is not None
    }


def _has_types(options_of: dict[str, Any]) -> bool:
    """Return whether each option for a text, a number or yes and no, here or in a subcommand, holds one."""
    return all(
        isinstance(option.get("value"), _TYPES.get(option["type"], object))
        and not (option["type"] in _NUMBERS and isinstance(option.get("value"), bool))
        and _has_types(option)
        for option in cast("list[dict[str, Any]]", options_of.get("options") or ())
    )


def _is_possible(part: object) -> bool:
    if isinstance(part, str):
        return is_possible(part)
    if isinstance(part, dict):
        fields = cast("dict[str, object]", part)
        return all(map(_is_possible, fields.values()))
    if isinstance(part, list):
        return all(map(_is_possible, cast("list[object]", part)))
    return True


def require_server(interaction: discord.Interaction[Any]) -> int:
    """Return the server's id. Raises NotAllowed in a direct message and in a server without the bot."""
    guild_id = server_of(interaction)
    if guild_id is None:
        raise NotAllowed(_not_here(interaction))
    return guild_id


def require_moderator(interaction: discord.Interaction[Any]) -> int:
    """Return the server's id. Raises NotAllowed unless the user is a moderator of it."""
    guild_id = require_server(interaction)
    if not is_moderator(interaction):
        raise NotAllowed(refusals.MODERATORS_ONLY())
    return guild_id


def require_own_role(interaction: discord.Interaction[Any], role: discord.Role) -> None:
    """Raise NotAllowed for a role of another server, which only a modified client can send."""
    if interaction.guild is None or interaction.guild.get_role(role.id) is None:
        raise NotAllowed(refusals.MEMBER_UNKNOWN())


def require_own_channel(
    interaction: discord.Interaction[Any], channel: app_commands.AppCommandChannel | app_commands.AppCommandThread
) -> None:
    """Raise NotAllowed for a channel, or a thread in a channel, of another server.

    Discord tells the bot of every channel, also of those that the bot cannot see.
    """
    channel_id = channel.parent_id if isinstance(channel, app_commands.AppCommandThread) else channel.id
    if interaction.guild is None or interaction.guild.get_channel(channel_id) is None:
        raise NotAllowed(refusals.CHANNEL_UNKNOWN())


def member_of(interaction: discord.Interaction[Any], user: discord.abc.User | None = None) -> Member:
    """Return the user of the interaction, with the account that their orders count in, or another member of the server.

    Raises NotAllowed.
    """
    guild_id = account_of(interaction) if user is None else require_server(interaction)
    user = user or interaction.user
    if guild_id == DIRECT_GUILD_ID:  # neither roles nor caps of a server without the bot count
        return Member(guild_id=guild_id, user_id=user.id)
    return Member(
        guild_id=guild_id,
        user_id=user.id,
        role_ids=role_ids_of(user),
        place=place_of(interaction.guild, interaction.channel_id, interaction.channel),
    )


def place_of(guild: discord.Guild | None, channel_id: int | None, channel: object = None) -> Place | None:
    """Return which channel's and which category's caps apply in a channel; a thread counts as the channel it is in.

    `channel` is what the interaction says of it, for a private thread that the bot was not told of otherwise.
    """
    if guild is None or channel_id is None:
        return None
    known = guild.get_channel_or_thread(channel_id) or channel
    if isinstance(known, discord.Thread):
        known, channel_id = guild.get_channel(known.parent_id), known.parent_id
    category_id = known.category_id if isinstance(known, discord.abc.GuildChannel) else None
    return Place(channel_id=channel_id, category_id=category_id)


def role_ids_of(user: discord.abc.User) -> tuple[int, ...]:
    """Return the role ids of a member; () for a user who is not, or no longer, in the server."""
    return tuple(role.id for role in user.roles) if isinstance(user, discord.Member) else ()
