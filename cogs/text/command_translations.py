"""Translations of the commands: descriptions, options, choices and the message menu.

The names of commands are not translated, so that members with different languages can refer to the same command.
All other texts are said in the language of the reader.
"""

from __future__ import annotations

from discord import Locale, app_commands
from discord.app_commands import TranslationContextLocation as Location
from discord.app_commands import TranslationContextTypes, locale_str

from cogs.text.locale import ENGLISH, OPTION, get_locale, language_for, translations_of

CHOICE = "choice"
MENU = "menu"
"""The contexts (gettext: msgctxt) of the names of choices and of the message menu."""

DESCRIPTIONS = {Location.group_description, Location.command_description, Location.parameter_description}
NAMES = {Location.parameter_name: OPTION, Location.choice_name: CHOICE}


class CommandTranslator(app_commands.Translator):
    """Translates the texts of commands from the catalogues when discord.py registers them."""

    async def translate(self, string: locale_str, locale: Locale, context: TranslationContextTypes) -> str | None:
        """Return the translation; None, which means English, for other languages and for names of commands."""
        language = language_for(locale.value)
        if language == ENGLISH:  # as for most of Discord's languages; thousands of texts are asked for at each start
            return None
        words = translations_of(language)
        text = string.message
        if context.location in DESCRIPTIONS:
            said = words.gettext(text)
        elif isinstance(context.data, app_commands.ContextMenu):
            said = words.pgettext(MENU, text)
        elif context.location in NAMES:
            said = words.pgettext(NAMES[context.location], text)
        else:
            return None
        return said if said != text else None


def described(description: str) -> str:
    """Return the description of a command or option in the current language, as the member sees it."""
    return translations_of(get_locale()).gettext(description)


def menu_name(name: str) -> str:
    """Return the name of the message menu in the current language."""
    return translations_of(get_locale()).pgettext(MENU, name)
