"""Locale: the language in use and the translation of phrases.

Phrases are written in English in the source and translated when they are called, with gettext catalogues that are read
once (`locales/<tag>.mo`, compiled from the `.po` beside them by `make languages`). The language is set where an
interaction, a card or a post begins; tasks started there inherit it.
"""

from __future__ import annotations

import gettext
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

import discord

from bot.domain.policy import Policy

FOLDER = Path(__file__).parent / "locales"
ENGLISH = "en"
LANGUAGES = {
    ENGLISH: "English",
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    "pt": "Português",
    "ja": "日本語",
}
"""The name of each language in that language, by tag."""

_THIN_SPACE = "\u202f"
_BETWEEN_THOUSANDS = {ENGLISH: ",", "ja": ","}
"""Other languages put a thin space there: to them a comma is what a point is in English."""

OPTION = "option"
"""The context (gettext: msgctxt) of the names of options, which follow rules of their own."""

# Discord's limits in characters, for a phrase with its facts filled in.
MAX_BUTTON_CHARACTERS = 80
MAX_MODAL_CHARACTERS = 45
"""The title of a modal, and each label in it."""

MAX_PLACEHOLDER_CHARACTERS = 150
MAX_CHOICE_CHARACTERS = 100

_spoken: ContextVar[str] = ContextVar("language", default=ENGLISH)


def language_for(locale: str | None) -> str:
    """Return the tag of our language for a Discord locale ('de', 'es-419', 'pt-BR', 'en-GB'); else English."""
    tag = (locale or ENGLISH).split("-")[0]
    return tag if tag in LANGUAGES else ENGLISH


def get_locale() -> str:
    """Return the tag of the current language."""
    return _spoken.get()


def set_locale(tag: str) -> None:
    """Use this language until this task ends or another one is set."""
    _spoken.set(language_for(tag))


@contextmanager
def use_locale(tag: str) -> Generator[None]:
    """Use this language inside the `with` block."""
    before = _spoken.set(language_for(tag))
    try:
        yield
    finally:
        _spoken.reset(before)


def set_locale_of(interaction: discord.Interaction[Any]) -> None:
    """Use the language of the member who acts, until this task ends or another one is set."""
    set_locale(language_for(str(interaction.locale)))


def language_of_server(policy: Policy, locale: discord.Locale | None) -> str:
    """Return the language of public messages in a server: the moderators' choice, else the server's own in Discord.

    `locale` is None when Discord does not say it.
    """
    return policy.language or language_for(None if locale is None else str(locale))


def language_of_answer(interaction: discord.Interaction[Any], policy: Policy, *, private: bool) -> str:
    """Return the language of the response to a command, kept until its last update."""
    if private:
        return language_for(str(interaction.locale))
    return language_of_server(policy, interaction.guild_locale)


def grouped(number: float) -> str:
    """Write a number with what the current language puts between thousands; the decimal point stays as it is typed."""
    return f"{number:,}".replace(",", _BETWEEN_THOUSANDS.get(_spoken.get(), _THIN_SPACE))


class Phrase:
    """A text in English with `{names}` for its facts. Call it with the facts to get the translation.

    `longest` is the number of characters that Discord accepts, where that is few.
    """

    __slots__ = ("longest", "text")

    def __init__(self, text: str, *, longest: int | None = None) -> None:
        self.text = text
        self.longest = longest

    def __call__(self, **facts: object) -> str:
        said = translations_of(_spoken.get()).gettext(self.text)
        return said.format(**facts) if facts else said

    def __repr__(self) -> str:
        return f"Phrase({self.text!r})"

    # A phrase that was not called would be shown in English, or as its repr.
    def __str__(self) -> str:
        raise TypeError(f"{self!r} was not said: call it")

    def __format__(self, format_spec: str) -> str:
        return str(self)


class Plural:
    """A counted text: its form follows `count` by the plural rules of the language."""

    __slots__ = ("plural", "singular")

    def __init__(self, singular: str, plural: str) -> None:
        self.singular = singular
        self.plural = plural

    def __call__(self, count: int, **facts: object) -> str:
        said = translations_of(_spoken.get()).ngettext(self.singular, self.plural, count)
        return said.format(count=grouped(count), **facts)

    def __repr__(self) -> str:
        return f"Plural({self.singular!r}, {self.plural!r})"

    def __str__(self) -> str:
        raise TypeError(f"{self!r} was not said: call it")

    def __format__(self, format_spec: str) -> str:
        return str(self)


def option_name(name: str) -> str:
    """Return the name of an option in the current language, as the member sees it in the command."""
    return translations_of(_spoken.get()).pgettext(OPTION, name)


@cache
def translations_of(tag: str) -> gettext.NullTranslations:
    """Read the translations into a language, once. English is the source itself and has none."""
    if tag == ENGLISH:
        return gettext.NullTranslations()
    with (FOLDER / f"{tag}.mo").open("rb") as file:
        return gettext.GNUTranslations(file)
