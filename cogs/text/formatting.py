"""Building blocks of every text: Discord timestamps, links, user text made harmless, counts and amounts.

Prices always carry a dollar sign. Times are Discord timestamps, which each reader sees in their own zone and language.
"""

from __future__ import annotations

import re
from datetime import datetime

import discord

from bot.domain.jobs import DIRECT_GUILD_ID
from bot.domain.money.quota import format_usd
from cogs.text.locale import Phrase, Plural

LEFT = Phrase("{left} left")
NO_LIMIT = Phrase("no limit")

MESSAGE = Phrase("go to message")
"""What a link to a message is called."""

COMMANDS = Plural("{count} command", "{count} commands")
PICTURES = Plural("{count} image", "{count} images")
SERVERS = Plural("{count} server", "{count} servers")

MAX_MENTIONS = 3
"""Channels or roles named in one sentence."""


def moment(when: datetime) -> str:
    """Return a Discord timestamp relative to now, kept current by the client: 'in 3 hours', '2 minutes ago'."""
    return discord.utils.format_dt(when, "R")


def clock_time(when: datetime) -> str:
    """Return a Discord timestamp with the time of day in the reader's own zone: '16:20'."""
    return discord.utils.format_dt(when, "t")


def day(when: datetime) -> str:
    """Return a Discord timestamp with date and time in the reader's own zone."""
    return discord.utils.format_dt(when, "f")


def date(when: datetime) -> str:
    """Return a Discord timestamp with the date in the reader's own zone."""
    return discord.utils.format_dt(when, "D")


def channel(channel_id: int) -> str:
    """Return a channel or category as Discord shows its name."""
    return f"<#{channel_id}>"


def message_link(guild_id: object, channel_id: object, message_id: object) -> str:
    """Return the URL of a message; of one in direct messages for server 0, as outside servers."""
    place = "@me" if str(guild_id) == str(DIRECT_GUILD_ID) else guild_id
    return f"https://discord.com/channels/{place}/{channel_id}/{message_id}"


def link_to_message(guild_id: object, channel_id: object, message_id: object) -> str:
    """Return a link to a message: '[message](…)'."""
    return f"[{MESSAGE()}]({message_link(guild_id, channel_id, message_id)})"


def amount_left(available_usd_micros: int | None) -> str:
    """Return '$0.92 left', or 'no limit'."""
    return left(available_usd_micros, LEFT, NO_LIMIT)


def left(available_usd_micros: int | None, some: Phrase, unlimited: Phrase, **facts: object) -> str:
    """Return a sentence about what is left of a limit: `some` with the amount, or `unlimited` if there is no limit."""
    if available_usd_micros is None:
        return unlimited(**facts)
    return some(left=format_usd(available_usd_micros), **facts)


# Controls other than tab and line break, soft hyphen, direction marks and characters of no width.
_INVISIBLE = dict.fromkeys(
    [
        *range(0x09),
        *range(0x0B, 0x20),
        *range(0x7F, 0xA0),
        *(0xAD, 0x061C, 0xFEFF),
        *range(0x200B, 0x2010),
        *range(0x202A, 0x202F),
        *range(0x2060, 0x2070),
    ]
)


_PLAIN_WORDS = re.compile(r"(?:[^\W_]|[ .,:;×%+-]|(?<!_)_(?!_))*")


def inline(text: str, limit: int = 100) -> str:
    """Return user text for the inside of `code`: no backticks, line breaks or controls, at most `limit` characters."""
    return shorten(one_line(text).replace("`", "ˋ"), limit) or " "


def one_line(text: str) -> str:
    """Return user text as it is seen in one line: without controls, characters of no width and repeated blanks."""
    return " ".join(text.translate(_INVISIBLE).split())


def quoted(text: str, limit: int = 100) -> str:
    """Return user text for the middle of a line, as `code` if it has anything that Discord could take for more.

    Words and numbers stay as they are: they can be neither link, mention nor markup.
    """
    plain = inline(text, limit)
    return plain if _PLAIN_WORDS.fullmatch(plain) else f"`{plain}`"


def block(text: str, limit: int) -> str:
    """Return user text as a code block: markdown, links, mentions and timestamps in it stay plain text.

    Backticks are replaced, direction marks and other invisible controls removed (they could disguise the text).
    """
    plain = text.translate(_INVISIBLE).replace("`", "ˋ").strip()
    return f"```\n{shorten(plain, limit) or ' '}\n```"


def shorten(text: str, limit: int) -> str:
    """Cut at a word where possible, with an ellipsis."""
    if len(text) <= limit:
        return text
    cut = text[: limit - 1]
    space = cut.rfind(" ")
    return (cut[:space] if space > limit // 2 else cut).rstrip() + "…"
