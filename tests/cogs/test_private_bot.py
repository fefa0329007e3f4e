"""A bot for chosen servers: elsewhere everything answers that it is private, and nothing is read or written."""

from __future__ import annotations

from typing import Any

import pytest

from bot.store.store import Store
from cogs.text import refusals
from cogs.ui.checks import is_server_allowed
from tests.support.databases import everything_in
from tests.support.discord_stage import Card, Stage
from tests.support.image_samples import image

pytestmark = pytest.mark.hostile("G-03")

COMMANDS: dict[str, dict[str, Any]] = {
    "imagine": {"prompt": "a red fox"},
    "edit": {"image": ("fox.png", image("PNG")), "prompt": "blue"},
    "usage": {},
    "history": {},
    "models": {},
    "help": {},
    "jobs": {},
    "privacy export": {},
    "privacy delete": {},
    "quota default": {"amount": "unlimited"},
    "quota report": {},
    "quota audit": {},
    "settings show": {},
    "settings channels": {},
}


def make_private(stage: Stage) -> None:
    """Allow another server than the one of the stage."""
    stage.core.bot.allowed_servers = frozenset({stage.guild.id + 1})


@pytest.fixture
def untouched(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that makes the bot private and fails the test if the database is used from then on."""

    def begin() -> str:
        make_private(stage)

        async def used(*_: Any, **__: Any) -> Any:
            raise AssertionError("the database was used for a server that is not allowed")

        monkeypatch.setattr(type(stage.core.store.database), "read", used)
        monkeypatch.setattr(type(stage.core.store.database), "write", used)
        return everything_in(stage.core.settings.database_url)

    return begin


@pytest.mark.parametrize("command", COMMANDS)
async def test_every_command_elsewhere_says_that_the_bot_is_private(stage: Stage, untouched: Any, command: str) -> None:
    before = untouched()
    said = stage.said(await stage.mo.slash(stage.channel, command, **COMMANDS[command]))
    # What was typed for an order is given back below.
    assert said.text.split("\n```")[0] == refusals.PRIVATE_BOT()
    assert said.private
    assert len(stage.env.errors) == 1
    assert everything_in(stage.core.settings.database_url) == before


@pytest.mark.parametrize(("command", "option"), [("imagine", "model"), ("imagine", "style"), ("models", "model")])
async def test_autocomplete_elsewhere_offers_nothing(stage: Stage, untouched: Any, command: str, option: str) -> None:
    assert await stage.ada.autocomplete(stage.channel, command, option, "") != [] or option == "style"
    untouched()
    assert await stage.ada.autocomplete(stage.channel, command, option, "") == []


async def test_a_menu_elsewhere_opens_no_form(stage: Stage, untouched: Any) -> None:
    message = await stage.bob.send(stage.channel, "look", attachments=[("fox.png", image("PNG"))])
    untouched()
    shown = await stage.ada.context_menu(stage.channel, "Edit this image", message)
    assert shown.modal is None
    assert len(stage.env.errors) == 1
    assert stage.said(shown).text == refusals.PRIVATE_BOT()


async def test_a_form_that_was_open_is_refused(stage: Stage, untouched: Any) -> None:
    message = await stage.bob.send(stage.channel, "look", attachments=[("fox.png", image("PNG"))])
    shown = await stage.ada.context_menu(stage.channel, "Edit this image", message)
    untouched()
    said = stage.said(await stage.ada.submit_modal(shown, {"prompt": "make it blue"}))
    assert said.text.split("\n```")[0] == refusals.PRIVATE_BOT()
    assert len(stage.env.errors) == 1


@pytest.mark.parametrize("label", ["Again", "Recipe", "Edit", "Delete"])
async def test_the_buttons_of_a_card_answer_the_same_once_its_server_is_not_allowed(
    stage: Stage, untouched: Any, label: str
) -> None:
    card: Card = await stage.imagine()
    await stage.until_says(card, "Completed")
    await stage.quiet()
    untouched()
    assert stage.said(await stage.press(stage.ada, card, label)).text == refusals.PRIVATE_BOT()


async def test_a_chosen_server_is_served(stage: Stage) -> None:
    stage.core.bot.allowed_servers = frozenset({stage.guild.id})
    await stage.until_says(await stage.imagine(), "Completed")


async def test_a_direct_message_is_no_server(stage: Stage) -> None:
    """What works there concerns the member alone, and orders are refused in any case."""
    make_private(stage)
    stage.env.backend.get_dm_channel(stage.ada.id)
    assert "Nano Banana 2" in stage.said(await stage.ada.user.slash("models")).text


async def test_the_operator_is_warned_once_a_day_that_anybody_may_add_the_bot(stage: Stage) -> None:
    bot = stage.core.bot
    assert bot.application is not None
    person = stage.env.create_user("olga")
    application: Any = bot.application
    application.team, application.owner, application.bot_public = None, person, True
    bot.operator_alerts.set_owner(application)
    stage.env.backend.get_dm_channel(person.id)
    store: Store = stage.core.store
    await store.set_value("told of public bot", "2026-01-01")
    for _ in range(2):
        bot.operator_alerts._sent_at.clear()
        await bot._warn_if_public(application)
        await stage.quiet()
    [card] = stage.cards(person.dm_channel)
    assert "Public Bot is on and ALLOWED_SERVERS is empty" in card.text
    await store.set_value("told of public bot", "2026-01-01")
    bot.operator_alerts._sent_at.clear()
    for is_public, servers in [(False, frozenset[int]()), (True, frozenset({stage.guild.id}))]:
        application.bot_public, bot.allowed_servers = is_public, servers
        await bot._warn_if_public(application)
        await stage.quiet()
    assert len(stage.cards(person.dm_channel)) == 1


async def test_without_a_choice_every_server_is_allowed(stage: Stage) -> None:
    class Anywhere:
        client = stage.core.bot
        guild_id = 12345

    assert is_server_allowed(Anywhere())  # type: ignore[arg-type]
