"""The local Discord, tested with the real discord.py in a process of its own over real sockets."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from sandbox.discord import Channel, Limits, LocalDiscord, Member, Permission, Server, Upload
from sandbox.discord.options import NotOffered

BOT = Path(__file__).parents[1] / "support" / "sandbox_bot.py"


def png(size: tuple[int, int] = (40, 30)) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, "teal").save(data, "PNG")
    return data.getvalue()


@dataclass(kw_only=True)
class Scene:
    discord: LocalDiscord
    server: Server
    studio: Channel
    alice: Member
    bob: Member
    mona: Member


@asynccontextmanager
async def a_bot(discord: LocalDiscord) -> AsyncGenerator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(BOT),
        env={"DISCORD_TOKEN": discord.token, "DISCORD_API_BASE": discord.api_base, "PATH": ""},
    )
    try:
        await discord.bot_ready()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def a_scene(limits: Limits | None = None) -> AsyncGenerator[Scene]:
    async with LocalDiscord(limits=limits) as discord:
        server = discord.server("Atelier")
        keepers = discord.role(server, "Keepers", permissions=Permission.MANAGE_SERVER)
        yield Scene(
            discord=discord,
            server=server,
            studio=discord.channel(server, "studio"),
            alice=discord.member(server, "Alice"),
            bob=discord.member(server, "Bob"),
            mona=discord.member(server, "Mona", roles=[keepers]),
        )


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with a_scene() as scene, a_bot(scene.discord):
        yield scene


async def test_one_reply_goes_from_queued_to_the_picture_and_its_file_can_be_fetched(scene: Scene) -> None:
    interaction = await scene.discord.slash(scene.alice, scene.studio, "paint", colour="navy")
    await interaction.wait_for("Queued")
    message = await interaction.wait_for("Completed")

    assert [words.split("**")[1] for words in message.revisions] == ["Queued", "Processing", "Completed"]
    assert list(scene.studio.messages.values()) == [message]
    assert message.attachments[0].description == "all navy"
    shown = message.payload()["components"][0]["components"][1]["items"][0]["media"]
    assert (message.payload()["attachments"], shown["attachment_id"]) == ([], str(message.attachments[0].id))
    async with aiohttp.ClientSession() as session, session.get(shown["url"]) as response:
        assert await response.read() == message.attachments[0].upload.data
        assert response.content_type == "image/png"
    assert scene.discord.unknown_routes == []


async def test_a_button_press_reaches_the_bot_and_is_answered_to_the_presser_alone(scene: Scene) -> None:
    interaction = await scene.discord.slash(scene.alice, scene.studio, "paint", colour="navy")
    press = await scene.discord.click(scene.bob, await interaction.wait_for("Completed"), "Again")
    answer = await press.wait_for("Again in navy")
    assert answer.visible_to is scene.bob.user


async def test_a_button_still_works_when_the_bot_was_killed_in_between() -> None:
    async with a_scene() as scene:
        async with a_bot(scene.discord) as process:
            painted = await scene.discord.slash(scene.alice, scene.studio, "paint", colour="navy")
            card = await painted.wait_for("Completed")
            process.kill()
            await process.wait()
        async with a_bot(scene.discord):
            press = await scene.discord.click(scene.alice, card, "Again")
            await press.wait_for("Again in navy")


async def test_what_is_typed_is_completed_by_the_bot(scene: Scene) -> None:
    choices = await scene.discord.autocomplete(scene.alice, scene.studio, "paint", focused="colour", colour="g")
    assert choices == [{"name": "Green", "value": "green"}]


async def test_an_uploaded_file_reaches_the_bot_and_a_deferred_answer_keeps_its_privacy(scene: Scene) -> None:
    upload = Upload(filename="in.png", data=png())
    interaction = await scene.discord.slash(scene.alice, scene.studio, "measure", file=upload)
    reply = await interaction.wait_for(f"in.png: {len(upload.data)} bytes, 40 by 30")
    assert reply.visible_to is scene.alice.user
    assert interaction.follow_ups == []


async def test_a_form_opened_from_a_message_comes_back_filled_in(scene: Scene) -> None:
    posted = await scene.discord.say(scene.bob, scene.studio, files=[Upload(filename="b.png", data=png())])
    opened = await (await scene.discord.menu(scene.alice, posted, "Edit this image")).wait()
    upload = Upload(filename="more.png", data=b"123")
    sent = await scene.discord.submit(opened, {"prompt": "brighter", "file": [upload]})
    await sent.wait_for("brighter [3]")


async def test_commands_for_moderators_are_offered_to_moderators(scene: Scene) -> None:
    with pytest.raises(NotOffered):
        await scene.discord.slash(scene.alice, scene.studio, "quota set", member=scene.bob, amount="2")
    asked = await scene.discord.slash(
        scene.alice, scene.studio, "quota set", overridden=True, member=scene.bob, amount="2"
    )
    await asked.wait_for(f"<@{scene.bob.id}> 2 False")
    set_by_mona = await scene.discord.slash(scene.mona, scene.studio, "quota set", member=scene.bob, amount="2")
    reply = await set_by_mona.wait_for("2 True")
    assert reply.mentions == []


async def test_an_interaction_without_an_answer_fails_when_its_time_is_up() -> None:
    async with a_scene(Limits(acknowledge_seconds=0.4)) as scene, a_bot(scene.discord):
        interaction = await scene.discord.slash(scene.alice, scene.studio, "silence")
        await interaction.wait()
        assert interaction.failed


async def test_a_dropped_connection_is_resumed_and_nothing_is_missed(scene: Scene) -> None:
    await scene.discord.gateway.disconnect()
    await scene.discord.bot_ready()
    interaction = await scene.discord.slash(scene.alice, scene.studio, "paint", colour="navy")
    await interaction.wait_for("Completed")


# -- rules, asked directly over HTTP --


class Caller:
    """Sends requests to the local Discord as a bot would, without a library."""

    def __init__(self, discord: LocalDiscord, session: aiohttp.ClientSession) -> None:
        self._discord = discord
        self._session = session
        self.headers: dict[str, str] = {}

    async def __call__(self, method: str, path: str, **body: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bot {self._discord.token}"}
        url = self._discord.api_base + path
        async with self._session.request(method, url, json=body or None, headers=headers) as response:
            self.headers = dict(response.headers)
            return response.status, await response.json() if response.status != 204 else None


@dataclass(kw_only=True)
class Asked:
    """A command waiting for its answer, without any bot."""

    scene: Scene
    call: Caller
    callback: str
    hook: str


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    limits = Limits(acknowledge_seconds=1.0, token_seconds=1.0, webhook_requests=50)
    async with a_scene(limits) as scene, aiohttp.ClientSession() as session:
        call = Caller(scene.discord, session)
        bot = scene.discord.world.bot.id
        scene.discord.rest.commands[None] = [{"id": "1", "name": "paint", "type": 1, "description": "x"}]
        interaction = await scene.discord.slash(scene.alice, scene.studio, "paint")
        yield Asked(
            scene=scene,
            call=call,
            callback=f"/interactions/{interaction.id}/{interaction.token}/callback",
            hook=f"/webhooks/{bot}/{interaction.token}",
        )


def text(content: str) -> dict[str, Any]:
    return {"type": 10, "content": content}


async def test_there_is_one_first_answer(asked: Asked) -> None:
    assert await asked.call("POST", asked.callback, type=4, data={"content": "hello"}) == (204, None)
    status, error = await asked.call("POST", asked.callback, type=4, data={"content": "again"})
    assert (status, error["code"]) == (400, 40060)


async def test_an_answer_after_the_time_for_it_is_unknown(asked: Asked) -> None:
    await asked.scene.discord.interactions[0].wait()
    status, error = await asked.call("POST", asked.callback, type=4, data={"content": "late"})
    assert (status, error["code"]) == (404, 10062)


async def test_a_token_dies(asked: Asked) -> None:
    await asked.call("POST", asked.callback, type=4, data={"content": "hello"})
    interaction = asked.scene.discord.interactions[0]
    interaction.opened_at -= 2  # as if two seconds had passed
    status, error = await asked.call("PATCH", asked.hook + "/messages/@original", content="too late")
    assert (status, error["code"]) == (401, 50027)
    # The bot's own token still edits the message in the channel, as long as everybody can see it.
    assert interaction.reply is not None
    path = f"/channels/{asked.scene.studio.id}/messages/{interaction.reply.id}"
    assert (await asked.call("PATCH", path, content="in time"))[0] == 200


async def test_a_private_reply_cannot_be_reached_through_its_channel(asked: Asked) -> None:
    await asked.call("POST", asked.callback, type=4, data={"content": "psst", "flags": 64})
    reply = asked.scene.discord.interactions[0].reply
    assert reply is not None
    status, error = await asked.call("GET", f"/channels/{asked.scene.studio.id}/messages/{reply.id}")
    assert (status, error["code"]) == (404, 10008)


@pytest.mark.parametrize(
    "data",
    [
        {"flags": 1 << 15, "content": "words", "components": [text("more")]},
        {"flags": 1 << 15, "components": [text(str(n)) for n in range(41)]},
        {"flags": 1 << 15, "components": [{"type": 12, "items": [{"media": {"url": "attachment://none.png"}}]}]},
        {"components": [text("without the flag")]},
        {"content": "x" * 2001},
        {"components": [{"type": 1, "components": [{"type": 2, "style": 1, "label": "x", "custom_id": "y" * 101}]}]},
        {"content": "twice", "components": [
            {"type": 1, "components": [{"type": 2, "style": 1, "label": "x", "custom_id": "same"}] * 2}
        ]},
    ],
)  # fmt: skip
async def test_a_message_that_breaks_the_rules_is_refused(asked: Asked, data: dict[str, Any]) -> None:
    status, error = await asked.call("POST", asked.callback, type=4, data=data)
    assert (status, error["code"]) == (400, 50035)
    assert asked.scene.discord.interactions[0].reply is None


async def test_a_deferral_carries_no_flag_but_the_private_one(asked: Asked) -> None:
    status, _ = await asked.call("POST", asked.callback, type=5, data={"flags": 1 << 15})
    assert status == 400
    status, _ = await asked.call("POST", asked.callback, type=5, data={"flags": 64})
    assert status == 204


async def test_a_layout_stays_a_layout(asked: Asked) -> None:
    await asked.call("POST", asked.callback, type=4, data={"flags": 1 << 15, "components": [text("one")]})
    original = asked.hook + "/messages/@original"
    assert (await asked.call("PATCH", original, content="plain"))[0] == 400
    status, message = await asked.call("PATCH", original, components=[text("two")])
    assert (status, message["flags"]) == (200, 1 << 15)


async def test_messages_tell_their_rate_limit_and_refuse_what_is_too_fast(asked: Asked) -> None:
    path = f"/channels/{asked.scene.studio.id}/messages"
    statuses = [(await asked.call("POST", path, content="hi"))[0] for _ in range(6)]
    assert statuses == [200] * 5 + [429]
    assert float(asked.call.headers["Retry-After"]) > 0
    assert "Via" in asked.call.headers


async def test_a_repeated_nonce_posts_once(asked: Asked) -> None:
    path = f"/channels/{asked.scene.studio.id}/messages"
    _, first = await asked.call("POST", path, content="hi", nonce="7", enforce_nonce=True)
    _, second = await asked.call("POST", path, content="hi", nonce="7", enforce_nonce=True)
    assert first["id"] == second["id"]


async def test_a_route_that_does_not_exist_is_recorded(asked: Asked) -> None:
    assert (await asked.call("GET", "/guilds/1/bans"))[0] == 404
    assert asked.scene.discord.unknown_routes == ["GET /api/v10/guilds/1/bans"]


async def test_trouble_can_be_made_before_and_after_the_effect(asked: Asked) -> None:
    asked.scene.discord.trouble("POST", "/callback", status=500)
    assert (await asked.call("POST", asked.callback, type=4, data={"content": "a"}))[0] == 500
    asked.scene.discord.trouble("POST", "/callback", after=True)
    with pytest.raises(aiohttp.ClientError):
        await asked.call("POST", asked.callback, type=4, data={"content": "b"})
    assert asked.scene.discord.interactions[0].text == "b"


async def test_without_access_to_the_channel_the_bot_is_refused(asked: Asked) -> None:
    studio = asked.scene.studio
    studio.denied[asked.scene.server.id] = Permission.VIEW_CHANNEL
    status, error = await asked.call("POST", f"/channels/{studio.id}/messages", content="hi")
    assert (status, error["code"]) == (403, 50001)
