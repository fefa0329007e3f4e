"""People who install the bot themselves, in the local Discord, with the real discord.py in a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from sandbox.discord.options import NotOffered
from tests.sandbox.test_discord import Scene, a_bot, a_scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with a_scene() as scene, a_bot(scene.discord):
        yield scene


async def test_a_command_for_people_is_offered_where_they_installed_the_bot_and_nowhere_else(scene: Scene) -> None:
    discord = scene.discord
    elsewhere = discord.server("Elsewhere", with_bot=False)
    general = discord.channel(elsewhere, "general")
    discord.join(elsewhere, scene.alice.user)
    group = discord.group("friends", scene.alice, scene.bob)
    places = (general, group)
    for place in places:
        assert "own" not in [command["name"] for command in discord.offered(scene.alice, place)], place.name
    discord.install(scene.alice)
    for place in places:
        assert "own" in [command["name"] for command in discord.offered(scene.alice, place)], place.name
    discord.uninstall(scene.alice)
    with pytest.raises(NotOffered):
        await discord.slash(scene.alice, general, "own")


async def test_the_bot_learns_who_installed_it_and_reaches_no_channel_there(scene: Scene) -> None:
    discord = scene.discord
    elsewhere = discord.server("Elsewhere", with_bot=False)
    general = discord.channel(elsewhere, "general")
    discord.join(elsewhere, scene.alice.user)
    discord.install(scene.alice)
    told = await discord.slash(scene.alice, general, "own")
    message = await told.wait_for("follow-ups")
    assert f"{{1: {scene.alice.id}}}" in message.text
    assert "knows the server: False" in message.text
    assert "the channel: 403" in message.text
    assert "follow-ups: 5 then 40094" in message.text


async def test_a_button_there_names_the_person_whose_command_it_came_from(scene: Scene) -> None:
    discord = scene.discord
    group = discord.group("friends", scene.alice, scene.bob)
    discord.install(scene.alice, scene.bob)
    card = await (await discord.slash(scene.alice, group, "own")).wait_for("the channel")
    pressed = await discord.click(scene.bob, card, "Again")
    assert pressed.owners == {"1": str(scene.alice.id)}


async def test_where_the_server_has_the_bot_both_are_named(scene: Scene) -> None:
    scene.discord.install(scene.alice)
    told = await scene.discord.slash(scene.alice, scene.studio, "own")
    await told.wait_for("knows the server: True")
    assert told.owners == {"0": str(scene.server.id), "1": str(scene.alice.id)}
