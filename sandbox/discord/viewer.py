"""The viewer: serves the page in which people act in the local Discord, and sends it each change."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from sandbox.discord.files import Json, Upload
from sandbox.discord.interactions import Interaction
from sandbox.discord.local import LocalDiscord
from sandbox.discord.options import ATTACHMENT, CHANNEL, MENTIONABLE, ROLE, USER, NotOffered, find_command
from sandbox.discord.rest import answer
from sandbox.discord.rules import FILE_UPLOAD, SELECTS, ApiError
from sandbox.discord.world import LOADING, Channel, Member, Message, Server, fields, rows, walk
from sandbox.form import fields_of

PAGE = Path(__file__).parent.parent / "page"
CONTENT_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
KEEP_ALIVE_SECONDS = 15.0
# Previews come from the simulated provider, which listens on another port of this machine.
POLICY = "default-src 'self'; img-src 'self' blob: data: http://127.0.0.1:*; frame-ancestors 'none'"

ENGLISH = "en-US"

Files = dict[str, list[Upload]]
Act = Callable[[Member, Json, Files], Awaitable[Json]]


class Viewer:
    """Adds its routes to a LocalDiscord that has not been started yet. The page acts as any of `people`."""

    def __init__(self, discord: LocalDiscord, server: Server, people: list[Member]) -> None:
        self._discord = discord
        self._server = server
        self._people = {member.id: member for member in people}
        self._acts: dict[str, Act] = {
            "message": self._say,
            "command": self._command,
            "autocomplete": self._autocomplete,
            "menu": self._menu,
            "component": self._component,
            "modal": self._modal,
            "dismiss": self._dismiss,
            "language": self._language,
            "buy": self._buy,
        }
        router = discord.app.router
        router.add_get("/", self._page)
        router.add_get("/page/{name}", self._page)
        router.add_get("/live", self._in_flight)
        router.add_post("/act/{what}", self._act)

    # -- the page --

    async def _page(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info.get("name", "index.html")
        path = PAGE / name
        if path.parent != PAGE or path.suffix not in CONTENT_TYPES or not path.is_file():
            raise web.HTTPNotFound
        return web.Response(
            body=path.read_bytes(),
            content_type=CONTENT_TYPES[path.suffix],
            charset="utf-8",
            headers={"Cache-Control": "no-store", "Content-Security-Policy": POLICY},
        )

    # -- what a person sees --

    async def _in_flight(self, request: web.Request) -> web.StreamResponse:
        """Send server-sent events: first the complete state, then each change."""
        viewer = self._viewer(request, request.query.get("as", ""))
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        with self._discord.world.feed.listen() as news, contextlib.suppress(ConnectionError):
            await response.prepare(request)
            await self._send(response, "about", self._about(viewer))
            await self._send(response, "messages", self._messages(viewer))
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        kind, subject = await news.get()
                except TimeoutError:
                    await response.write(b": still here\n\n")
                    continue
                for event, data in self._told(viewer, kind, subject):
                    await self._send(response, event, data)
        return response

    async def _send(self, response: web.StreamResponse, event: str, data: Any) -> None:
        await response.write(f"event: {event}\ndata: {json.dumps(data)}\n\n".encode())

    def _told(self, viewer: Member, kind: str, subject: Any) -> list[tuple[str, Any]]:
        if isinstance(subject, Message):
            if not self._sees(viewer, subject):
                return []
            if kind == "message_deleted":
                return [("gone", {"id": str(subject.id)})]
            return [("message", self._shown(subject))]
        if isinstance(subject, Interaction):
            mine = subject.user is viewer.user and kind in ("answered", "failed")
            return [(kind, {"id": str(subject.id), "modal": subject.modal})] if mine else []
        return [("about", self._about(viewer))]

    def _sees(self, viewer: Member, message: Message) -> bool:
        return message.channel in self._channels(viewer) and message.visible_to in (None, viewer.user)

    def _channels(self, viewer: Member) -> list[Channel]:
        shown = [channel for channel in self._server.channels if self._discord.world.may(viewer.user, channel)]
        return [*shown, self._discord.direct(viewer)]

    def _about(self, viewer: Member) -> Json:
        world = self._discord.world
        return {
            "me": str(viewer.id),
            "locale": viewer.user.locale,
            "locales": sorted(
                {ENGLISH}.union(*(fields(c, "description_localizations") for c in self._discord.commands()))
            ),
            "server": {"id": str(self._server.id), "name": self._server.name},
            "bot": {"id": str(world.bot.id), "name": world.bot.name, "online": self._discord.gateway.connected},
            "people": [self._person(member) for member in self._server.members.values()],
            "actors": [str(member_id) for member_id in self._people],
            "roles": [role.payload() for role in self._server.roles],
            "shop": [{"id": str(sku.id), "name": sku.name, "price": sku.price} for sku in world.skus.values()],
            "channels": [
                channel.payload()
                | {"commands": [_shown_in(viewer.user.locale, item) for item in self._discord.offered(viewer, channel)]}
                for channel in self._channels(viewer)
            ],
        }

    def _person(self, member: Member) -> Json:
        colour = next((role.colour for role in reversed(member.roles) if role.colour), 0)
        roles = [role.name for role in member.roles]
        facts: Json = {"id": str(member.id), "name": member.name, "bot": member.user.bot, "roles": roles}
        return facts | {"colour": f"#{member.user.colour:06x}", "name_colour": f"#{colour:06x}" if colour else None}

    def _messages(self, viewer: Member) -> list[Json]:
        channels = self._channels(viewer)
        return [
            self._shown(message)
            for channel in channels
            for message in channel.messages.values()
            if self._sees(viewer, message)
        ]

    def _shown(self, message: Message) -> Json:
        shown = message.payload()
        shown |= {"private": message.visible_to is not None, "loading": bool(message.flags & LOADING)}
        shown["command"] = message.command_name
        if message.reference is not None:
            about = message.reference
            shown["reply_to"] = {"id": str(about.id), "author": str(about.author.id), "text": about.text[:120]}
        return shown

    # -- what a person does --

    async def _act(self, request: web.Request) -> web.StreamResponse:
        body: Json = {}
        files: Files = {}
        async for field in fields_of(request):
            if field.filename is not None:
                files.setdefault(field.name, []).append(Upload(filename=field.filename, data=field.data))
            elif field.name == "body":
                body = json.loads(field.text)
        viewer = self._viewer(request, str(body.get("as")))
        act = self._acts.get(request.match_info["what"])
        if act is None:
            raise web.HTTPNotFound
        try:
            return answer(await act(viewer, body, files))
        except (NotOffered, LookupError, ValueError) as error:
            return answer({"error": str(error)}, status=400)
        except ApiError as error:
            return answer({"error": error.where or error.message}, status=error.status)

    def _viewer(self, request: web.Request, name: str) -> Member:
        """Return who acts. Pages of other origins in the same browser may neither read nor act."""
        ours = self._discord.base
        origin = request.headers.get("Origin", ours)
        if request.host != self._discord.cdn_host or origin != ours:
            raise web.HTTPForbidden
        if not name:
            return next(iter(self._people.values()))
        member = self._people.get(int(name)) if name.isdigit() else None
        if member is None:
            raise web.HTTPNotFound
        return member

    def _channel(self, viewer: Member, body: Json) -> Channel:
        for channel in self._channels(viewer):
            if str(channel.id) == body.get("channel"):
                return channel
        raise LookupError("no such channel")

    def _message(self, viewer: Member, body: Json) -> Message:
        for channel in self._channels(viewer):
            message = channel.messages.get(int(body["message"]))
            if message is not None and self._sees(viewer, message):
                return message
        raise LookupError("the message is gone")

    async def _say(self, viewer: Member, body: Json, files: Files) -> Json:
        channel = self._channel(viewer, body)
        message = await self._discord.say(viewer, channel, str(body["text"]), files=files.get("files", []))
        return {"message": str(message.id)}

    async def _command(self, viewer: Member, body: Json, files: Files) -> Json:
        channel = self._channel(viewer, body)
        values = self._values(channel, body, files)
        interaction = await self._discord.slash(viewer, channel, str(body["command"]), **values)
        return {"interaction": str(interaction.id)}

    async def _autocomplete(self, viewer: Member, body: Json, files: Files) -> Json:
        channel = self._channel(viewer, body)
        values = self._values(channel, body, {})
        command, focused = str(body["command"]), str(body["focused"])
        choices = await self._discord.autocomplete(viewer, channel, command, focused=focused, **values)
        return {"choices": choices}

    async def _menu(self, viewer: Member, body: Json, files: Files) -> Json:
        interaction = await self._discord.menu(viewer, self._message(viewer, body), str(body["name"]))
        return {"interaction": str(interaction.id)}

    async def _component(self, viewer: Member, body: Json, files: Files) -> Json:
        message, custom_id = self._message(viewer, body), str(body["custom_id"])
        part = message.component(custom_id)
        if part["type"] in SELECTS:
            chosen = [self._subject(part["type"], value) for value in body["values"]]
            interaction = await self._discord.select(viewer, message, custom_id, chosen)
        else:
            interaction = await self._discord.click(viewer, message, custom_id)
        return {"interaction": str(interaction.id)}

    async def _modal(self, viewer: Member, body: Json, files: Files) -> Json:
        opened = next((i for i in self._discord.interactions if str(i.id) == body["interaction"]), None)
        if opened is None or opened.user is not viewer.user or opened.modal is None:
            raise LookupError("the form is gone")
        values: dict[str, Any] = dict(body["values"])
        for part in walk(opened.modal["components"]):
            custom_id, kind = part.get("custom_id"), part.get("type")
            if custom_id is None:
                continue
            if kind == FILE_UPLOAD:
                values[custom_id] = files.get(custom_id, [])
            elif kind in SELECTS and custom_id in values:
                values[custom_id] = [self._subject(kind, value) for value in values[custom_id]]
        interaction = await self._discord.submit(opened, values)
        return {"interaction": str(interaction.id)}

    async def _language(self, viewer: Member, body: Json, files: Files) -> Json:
        if body["locale"] not in self._about(viewer)["locales"]:
            raise LookupError("no command is translated into this language")
        self._discord.set_locale(viewer, body["locale"])
        return {}

    async def _buy(self, viewer: Member, body: Json, files: Files) -> Json:
        """Buy what a button of a message that the person sees sells."""
        message = self._message(viewer, body)
        if not any(part.get("sku_id") == body["sku"] for part in walk(message.components)):
            raise LookupError("it is not for sale here")
        self._discord.buy(viewer, self._discord.world.skus[int(body["sku"])])
        return {}

    async def _dismiss(self, viewer: Member, body: Json, files: Files) -> Json:
        self._discord.dismiss(self._message(viewer, body))
        return {}

    # -- from the page's ids to objects --

    def _values(self, channel: Channel, body: Json, files: Files) -> dict[str, Any]:
        name, *path = str(body["command"]).split(" ")
        declared = find_command(self._discord.commands(channel.server), name)
        for step in path:
            declared = next(option for option in declared["options"] if option["name"] == step)
        kinds = {option["name"]: option["type"] for option in rows(declared, "options")}
        values = {
            option: self._by_option(kinds[option], value)
            for option, value in body["options"].items()
            if option in kinds and kinds[option] != ATTACHMENT
        }
        return values | {option: uploads[0] for option, uploads in files.items() if kinds.get(option) == ATTACHMENT}

    def _by_option(self, kind: int, value: Any) -> Any:
        select = {USER: 5, ROLE: 6, MENTIONABLE: 7, CHANNEL: 8}.get(kind)
        return self._subject(select, value) if select else value

    def _subject(self, select_type: int, value: Any) -> Any:
        """Return the person, role or channel that an id from a menu of this type names; else the value itself."""
        if not str(value).isdigit() or select_type == 3:
            return value
        wanted = int(value)
        if select_type in (5, 7) and wanted in self._server.members:
            return self._server.members[wanted]
        if select_type in (6, 7):
            return next((role for role in self._server.roles if role.id == wanted), value)
        if select_type == 8:
            return next((channel for channel in self._server.channels if channel.id == wanted), value)
        return value


def _shown_in(locale: str, item: Json) -> Json:
    """Return a command, option or choice as the client shows it: `label` for its name, and texts translated."""
    shown = item | {"label": fields(item, "name_localizations").get(locale, item["name"])}
    if "description" in item:
        shown["description"] = fields(item, "description_localizations").get(locale, item["description"])
    for inner in {"options", "choices"} & item.keys():
        shown[inner] = [_shown_in(locale, one) for one in rows(item, inner)]
    return shown
