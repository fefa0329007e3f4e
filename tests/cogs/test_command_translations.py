"""Commands in the languages of members, as registered at Discord."""

from __future__ import annotations

import gettext

import pytest

from cogs.text import command_translations
from cogs.text.locale import ENGLISH
from tests.support.discord_stage import Stage

pytestmark = pytest.mark.parametrize("registers_commands", [True])


class Loud(gettext.NullTranslations):
    """A made-up language: English in upper case."""

    def gettext(self, message: str) -> str:
        return message.upper()

    def pgettext(self, context: str, message: str) -> str:
        return f"{message}-{context}"


def registrations(stage: Stage) -> int:
    return sum(request.method == "PUT" for request in stage.env.http_requests)


async def test_new_translations_are_registered_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registrations(stage) == 1
    said = {"de": Loud(), ENGLISH: gettext.NullTranslations()}
    monkeypatch.setattr(command_translations, "translations_of", lambda tag: said.get(tag, said[ENGLISH]))
    await stage.restart()
    assert registrations(stage) == 2
    await stage.restart()
    assert registrations(stage) == 2


async def test_descriptions_options_choices_and_the_menu_are_translated_but_no_name_of_a_command(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        command_translations,
        "translations_of",
        lambda tag: Loud() if tag in ("es", "pt") else gettext.NullTranslations(),
    )
    await stage.restart()
    registered = {name: command for (name, _), command in stage.env.backend.commands[None].items()}
    usage, quota, menu = registered["usage"], registered["quota"], registered["Edit this image"]
    assert usage["name_localizations"] == {}
    loud = usage["description"].upper()
    assert usage["description_localizations"] == {"es-ES": loud, "es-419": loud, "pt-BR": loud}
    period = usage["options"][0]
    assert period["name_localizations"]["pt-BR"] == "period-option"
    assert period["choices"][0]["name_localizations"]["es-419"] == f"{period['choices'][0]['name']}-choice"
    assert quota["name_localizations"] == {}
    assert quota["options"][0]["name_localizations"] == {}
    assert quota["options"][0]["description_localizations"]["es-ES"] == quota["options"][0]["description"].upper()
    assert menu["name_localizations"] == dict.fromkeys(("es-ES", "es-419", "pt-BR"), "Edit this image-menu")
