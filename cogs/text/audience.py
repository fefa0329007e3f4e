"""Audience: who reads something, and so which language it is said in.

What only one member sees speaks their language. What everybody sees speaks the server's: the one its moderators chose,
else the one Discord has for the server.
"""

from __future__ import annotations

from typing import Any

import discord

from bot.domain.policy import Policy
from cogs.text.locale import language_for, set_locale


def activate(interaction: discord.Interaction[Any]) -> None:
    """Speak the language of whoever acts, until this interaction is answered or somebody says otherwise."""
    set_locale(language_for(str(interaction.locale)))


def language_of_server(policy: Policy, locale: discord.Locale | None) -> str:
    """What everybody in a server is told in. `locale` is the server's own in Discord, None when that is not known."""
    return policy.language or language_for(None if locale is None else str(locale))


def language_of_answer(interaction: discord.Interaction[Any], policy: Policy, *, private: bool) -> str:
    """What the answer to a command is said in, for as long as it is kept up to date."""
    if private:
        return language_for(str(interaction.locale))
    return language_of_server(policy, interaction.guild_locale)
