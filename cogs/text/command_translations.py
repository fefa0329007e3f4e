"""The translator: what our commands say of themselves, in the languages of our catalogues.

Commands keep their names: people tell each other `/imagine`, whatever their Discord speaks. Descriptions, options,
choices and the message menu are said in the reader's language.
"""

from __future__ import annotations

from discord import Locale, app_commands
from discord.app_commands import TranslationContextLocation as Location
from discord.app_commands import TranslationContextTypes, locale_str

from cogs.text.locale import OPTION, catalogue, get_locale, language_for

CHOICE = "choice"
MENU = "menu"
"""The contexts (gettext: msgctxt) of the names of choices and of the message menu."""

DESCRIPTIONS = {Location.group_description, Location.command_description, Location.parameter_description}
NAMES = {Location.parameter_name: OPTION, Location.choice_name: CHOICE}


class CommandTranslator(app_commands.Translator):
    """Answers discord.py from the catalogues when it registers commands."""

    async def translate(self, string: locale_str, locale: Locale, context: TranslationContextTypes) -> str | None:
        """None where the reader gets the English: for what we do not speak, and for names of commands."""
        words = catalogue(language_for(locale.value))
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
    """The description of a command or option in the language spoken: what the member sees beside its name."""
    return catalogue(get_locale()).gettext(description)


def menu_name(name: str) -> str:
    """The message menu as it is called in the language spoken."""
    return catalogue(get_locale()).pgettext(MENU, name)
