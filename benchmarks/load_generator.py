"""The load generator: Discord and Krea on loopback, as lean as possible, with the times of every command.

It answers the requests of a correct client and checks nothing, so that its own work does not affect the results. It
runs in the benchmark's process, the bot in another one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp import web

Json = dict[str, Any]

HELLO, IDENTIFY, HEARTBEAT, HEARTBEAT_ACK, RESUME, DISPATCH = 10, 2, 1, 11, 6, 0
BOT_ID, OWNER_ID, SERVER_ID, FIRST_ID = 100, 101, 200, 10_000
EVERY_PERMISSION = str(2**53 - 1)
_FILENAME = re.compile(rb'name="files\[\d+\]"; filename="([^"]+)"')
_CHUNK_BYTES = 256 * 1024
_NUMBER = re.compile(r"image (\d+)")
_EPOCH_MILLISECONDS = 1_420_070_400_000


@dataclass(kw_only=True, slots=True)
class Command:
    """One order as Discord and the provider see it. Times are of the monotonic clock."""

    number: int
    sent_at: float
    answered_at: float | None = None
    ordered_at: float | None = None
    done_at: float | None = None
    """When the provider had the image."""
    reported_at: float | None = None
    """When the bot was first informed of that."""
    shown_at: float | None = None
    """When Discord had the message with the image."""
    discord_calls: int = 0
    reads: int = 0
    """How many times the job was polled."""
    same_edits: int = 0
    """Edits that changed nothing."""
    last_body: bytes = b""
    shown: asyncio.Event = field(default_factory=asyncio.Event)


class LoadGenerator:
    """Both servers that a bot talks to: Discord and Krea."""

    def __init__(
        self,
        *,
        image: bytes,
        job_seconds: Callable[[int], float],
        members: int = 200,
        webhooks: bool = False,
        network_seconds: float = 0.0,
    ) -> None:
        """Make order number n take `job_seconds(n)` seconds, and delay every response by `network_seconds`."""
        self.commands: dict[int, Command] = {}
        self.heartbeats_at: list[float] = []
        self.heartbeat_seconds = 41.25
        self.registered: list[Json] = []
        self.calls = 0
        self.ready = asyncio.Event()
        self.url = ""
        self._image = image
        self._job_seconds = job_seconds
        self._members = members
        self._webhooks = webhooks
        self._network_seconds = network_seconds
        self._socket: web.WebSocketResponse | None = None
        self._sequence = itertools.count(1)
        self._ids = itertools.count(FIRST_ID)
        self._calling: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**27)
        app.middlewares.append(self._counted)
        hook = "/api/v10/webhooks/{application}/{token}/messages/@original"
        app.add_routes(
            [
                web.get("/gateway", self._gateway),
                web.get("/api/v10/gateway/bot", self._gateway_bot),
                web.get("/api/v10/users/@me", self._me),
                web.get("/api/v10/oauth2/applications/@me", self._application),
                web.get("/api/v10/applications/@me", self._application),
                web.get("/api/v10/applications/{application}/commands", self._list_commands),
                web.put("/api/v10/applications/{application}/commands", self._put_commands),
                web.post("/api/v10/interactions/{interaction}/{token}/callback", self._answer),
                web.patch(hook, self._edit),
                web.patch("/api/v10/webhooks/{application}/{token}/messages/{message}", self._edit),
                web.get(hook, self._original),
                web.post("/generate/image/{vendor}/{model}", self._order),
                web.get("/jobs/{id}", self._read_job),
                web.get("/images/{name}", self._read_image),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=4096).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._calling:
            task.cancel()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    def environment(self, database: str) -> Mapping[str, str]:
        """Return the settings with which a bot connects to these servers."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        return kept | {
            "DISCORD_TOKEN": "MTAw.benchmark.token",
            "DISCORD_API_BASE": f"{self.url}/api/v10",
            "KREA_API_KEY": "benchmark",
            "KREA_API_BASE": self.url,
            "DATABASE_URL": f"sqlite:///{database}",
            "DEFAULT_QUOTA_USD": "1000000",
            "OPERATOR_DAILY_CAP_USD": "9000000",
            "OPERATOR_SERVER_CAP_USD": "9000000",
            "OPERATOR_COST_PER_MEMBER_USD": "9000000",
            "MAX_RUNNING_JOBS_PER_USER": "10000",
            "KREA_MAX_CONCURRENCY": "100000",
            "MEDIA_ALLOW_PRIVATE_ADDRESSES": "true",
            "HTTP_PORT": "0",
            "LOG_LEVEL": "WARNING",
        }

    # -- members ------------------------------------------------------------------------------------------

    async def send(self, *, prompt: str = "a quiet harbour at dawn, long exposure") -> Command:
        """Send one /imagine of one member."""
        number = len(self.commands)
        command = Command(number=number, sent_at=time.monotonic())
        self.commands[number] = command
        await self._dispatch("INTERACTION_CREATE", self._interaction(number, f"image {number}: {prompt}"))
        return command

    async def invite(self, number: int, *, channels: int, roles: int) -> None:
        """Add the bot to one more server."""
        await self._dispatch("GUILD_CREATE", _another_server(number, channels=channels, roles=roles))

    def _interaction(self, number: int, prompt: str) -> Json:
        now = int(time.time() * 1000) - _EPOCH_MILLISECONDS
        member = 1_000 + number % self._members
        channel = SERVER_ID + 1 + number % 20
        return {
            "id": str((now << 22) + number),
            "application_id": str(BOT_ID),
            "type": 2,
            "token": f"token-{number}",
            "version": 1,
            "guild_id": str(SERVER_ID),
            "guild": {"id": str(SERVER_ID), "locale": "en-US", "features": []},
            "guild_locale": "en-US",
            "locale": "en-US",
            "channel_id": str(channel),
            "channel": _channel(channel),
            "member": _member(member) | {"permissions": EVERY_PERMISSION},
            "data": {
                "id": "900",
                "name": "imagine",
                "type": 1,
                "options": [
                    {"name": "prompt", "type": 3, "value": prompt},
                    {"name": "model", "type": 3, "value": "krea/bfl/flux-1-dev"},
                ],
            },
            "app_permissions": EVERY_PERMISSION,
            "entitlements": [],
            "authorizing_integration_owners": {"0": str(SERVER_ID)},
            "context": 0,
            "attachment_size_limit": 10 * 2**20,
        }

    async def _dispatch(self, event: str, data: Json) -> None:
        assert self._socket is not None, "the bot is not connected"
        await self._socket.send_str(
            json.dumps({"op": DISPATCH, "t": event, "s": next(self._sequence), "d": data}, separators=(",", ":"))
        )

    # -- Discord ------------------------------------------------------------------------------------------

    @web.middleware
    async def _counted(self, request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        self.calls += 1
        if self._network_seconds:
            await asyncio.sleep(self._network_seconds)
        return await handler(request)

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(max_msg_size=2**20)
        await socket.prepare(request)
        await socket.send_json({"op": HELLO, "d": {"heartbeat_interval": int(self.heartbeat_seconds * 1000)}})
        self._socket = socket
        async for frame in socket:
            packet: Json = json.loads(frame.data)
            if packet["op"] == HEARTBEAT:
                self.heartbeats_at.append(time.monotonic())
                await socket.send_json({"op": HEARTBEAT_ACK})
            elif packet["op"] in (IDENTIFY, RESUME):
                await self._send_ready()
        return socket

    async def _send_ready(self) -> None:
        ready: Json = {
            "v": 10,
            "user": _user(BOT_ID, bot=True),
            "guilds": [{"id": str(SERVER_ID), "unavailable": True}],
            "session_id": "benchmark",
            "resume_gateway_url": f"{self.url}/gateway".replace("http", "ws"),
            "application": {"id": str(BOT_ID), "flags": 0},
        }
        await self._dispatch("READY", ready)
        await self._dispatch("GUILD_CREATE", _server())
        self.ready.set()

    async def _gateway_bot(self, _: web.Request) -> web.StreamResponse:
        start: Json = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return _json({"url": f"{self.url}/gateway".replace("http", "ws"), "shards": 1, "session_start_limit": start})

    async def _me(self, _: web.Request) -> web.StreamResponse:
        return _json(_user(BOT_ID, bot=True) | {"verified": True, "mfa_enabled": False, "flags": 0})

    async def _application(self, _: web.Request) -> web.StreamResponse:
        facts: Json = {"id": str(BOT_ID), "name": "bot", "description": "", "icon": None, "verify_key": "0" * 64}
        owner: Json = {"owner": _user(OWNER_ID), "team": None, "bot": _user(BOT_ID, bot=True)}
        return _json(facts | owner | {"bot_public": True, "bot_require_code_grant": False, "flags": 0})

    async def _list_commands(self, _: web.Request) -> web.StreamResponse:
        return _json(self.registered)

    async def _put_commands(self, request: web.Request) -> web.StreamResponse:
        facts: Json = {"application_id": str(BOT_ID), "version": "1"}
        self.registered = [
            {"description": ""} | command | facts | {"id": str(901 + index)}
            for index, command in enumerate(await request.json())
        ]
        return _json(self.registered)

    def _command_of(self, request: web.Request) -> Command:
        return self.commands[int(request.match_info["token"].removeprefix("token-"))]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        command = self._command_of(request)
        command.last_body = await request.read()
        command.answered_at = time.monotonic()
        command.discord_calls += 1
        message = _message(command)
        interaction: Json = {
            "id": request.match_info["interaction"],
            "type": 2,
            "response_message_id": message["id"],
            "response_message_loading": False,
            "response_message_ephemeral": False,
        }
        return _limited({"interaction": interaction, "resource": {"type": 4, "message": message}})

    async def _edit(self, request: web.Request) -> web.StreamResponse:
        command = self._command_of(request)
        body = await request.read()
        command.discord_calls += 1
        command.same_edits += body == command.last_body
        command.last_body = body
        filenames = [name.decode() for name in _FILENAME.findall(body)]
        if filenames:
            command.shown_at = time.monotonic()
            command.last_body = b""
            command.shown.set()
        return _limited(_message(command, filenames))

    async def _original(self, request: web.Request) -> web.StreamResponse:
        command = self._command_of(request)
        command.discord_calls += 1
        return _limited(_message(command))

    # -- Krea ---------------------------------------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.StreamResponse:
        order: Json = await request.json()
        found = _NUMBER.search(order["prompt"])
        assert found is not None, "prompts are numbered"
        number = int(found[1])
        command = self.commands[number]
        command.ordered_at = time.monotonic()
        command.done_at = command.ordered_at + self._job_seconds(number)
        hook = request.headers.get("X-Webhook-URL")
        if hook is not None and self._webhooks:
            task = asyncio.create_task(self._call_back(hook, command), name=f"webhook {number}")
            self._calling.add(task)
            task.add_done_callback(self._calling.discard)
        return _json(self._job(command))

    async def _call_back(self, hook: str, command: Command) -> None:
        assert command.done_at is not None
        assert self._session is not None
        await asyncio.sleep(max(0.0, command.done_at - time.monotonic()))
        path = hook.partition("/hooks/")[2]
        async with self._session.post(f"{self.hooks_at}/hooks/{path}", json=self._job(command)) as response:
            await response.read()

    hooks_at: str = ""
    """Base URL of the bot's own HTTP server."""

    async def _read_job(self, request: web.Request) -> web.StreamResponse:
        command = self.commands[int(request.match_info["id"].removeprefix("job-"))]
        command.reads += 1
        job = self._job(command)
        if job["result"] is not None and command.reported_at is None:
            command.reported_at = time.monotonic()
        return _json(job)

    def _job(self, command: Command) -> Json:
        assert command.done_at is not None
        is_done = time.monotonic() >= command.done_at
        created_at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        return {
            "job_id": f"job-{command.number}",
            "status": "completed" if is_done else "processing",
            "created_at": created_at,
            "completed_at": created_at if is_done else None,
            "result": {"urls": [f"{self.url}/images/{command.number}.png"]} if is_done else None,
        }

    async def _read_image(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "image/png"
        response.content_length = len(self._image)
        await response.prepare(request)
        body = memoryview(self._image)
        with suppress(ConnectionError):  # a client whose downloads are at their limit hangs up and retries
            for start in range(0, len(body), _CHUNK_BYTES):  # written whole, 20 MB would be copied for each reader
                await response.write(body[start : start + _CHUNK_BYTES])
        return response


def _json(data: Any) -> web.Response:
    return web.Response(body=json.dumps(data).encode(), content_type="application/json")


def _limited(data: Any) -> web.Response:
    """Return a response with rate limit headers as Discord sends them."""
    response = _json(data)
    response.headers.update(
        {
            "X-RateLimit-Limit": "5",
            "X-RateLimit-Remaining": "4",
            "X-RateLimit-Reset-After": "1.000",
            "X-RateLimit-Bucket": "benchmark",
        }
    )
    return response


def _user(user_id: int, *, bot: bool = False) -> Json:
    name = f"member{user_id}"
    return {"id": str(user_id), "username": name, "global_name": name, "discriminator": "0", "avatar": None, "bot": bot}


def _member(user_id: int) -> Json:
    joined: Json = {"roles": [], "joined_at": "2026-01-01T00:00:00+00:00", "premium_since": None, "nick": None}
    return joined | {"user": _user(user_id), "deaf": False, "mute": False, "pending": False, "avatar": None, "flags": 0}


def _channel(channel_id: int) -> Json:
    return {
        "id": str(channel_id),
        "type": 0,
        "guild_id": str(SERVER_ID),
        "name": f"studio-{channel_id}",
        "topic": None,
        "nsfw": False,
        "position": 0,
        "parent_id": None,
        "rate_limit_per_user": 0,
        "permission_overwrites": [],
        "last_message_id": None,
        "flags": 0,
    }


def _server() -> Json:
    everyone: Json = {"id": str(SERVER_ID), "name": "@everyone", "permissions": EVERY_PERMISSION, "color": 0}
    role = everyone | {"position": 0, "hoist": False, "managed": False, "mentionable": False, "flags": 0}
    lists = ("emojis", "stickers", "features", "threads", "presences", "voice_states", "stage_instances")
    levels = ("verification_level", "default_message_notifications", "explicit_content_filter", "mfa_level")
    more = ("nsfw_level", "premium_tier", "system_channel_flags")
    return {
        "id": str(SERVER_ID),
        "name": "Benchmark",
        "owner_id": str(OWNER_ID),
        "icon": None,
        "roles": [role],
        "channels": [_channel(SERVER_ID + 1 + index) for index in range(20)],
        "members": [_member(BOT_ID)],
        "guild_scheduled_events": [],
        "soundboard_sounds": [],
        "afk_timeout": 300,
        "afk_channel_id": None,
        "system_channel_id": None,
        "preferred_locale": "en-US",
        "member_count": 200,
        "joined_at": "2026-01-01T00:00:00+00:00",
        "large": False,
        "unavailable": False,
        **{name: list[Any]() for name in lists},
        **dict.fromkeys((*levels, *more), 0),
    }


def _another_server(number: int, *, channels: int, roles: int) -> Json:
    first_id = SERVER_ID + (number + 1) * 10_000
    server = _server()
    (everyone,) = server["roles"]
    return server | {
        "id": str(first_id),
        "name": f"Server {number}",
        "roles": [everyone | {"id": str(first_id + index), "name": f"role {index}"} for index in range(roles)],
        "channels": [
            _channel(first_id + 1 + index)
            | {
                "guild_id": str(first_id),
                "permission_overwrites": [{"id": str(first_id), "type": 0, "allow": "0", "deny": "2048"}],
            }
            for index in range(channels)
        ],
    }


def _message(command: Command, filenames: list[str] | None = None) -> Json:
    attachments = [
        {
            "id": str(5_000_000 + command.number),
            "filename": name,
            "size": 1,
            "url": "http://x/",
            "proxy_url": "http://x/",
        }
        for name in filenames or []
    ]
    return {
        "id": str(3_000_000 + command.number),
        "type": 20,
        "channel_id": str(SERVER_ID + 1 + command.number % 20),
        "author": _user(BOT_ID, bot=True),
        "content": "",
        "timestamp": "2026-01-01T00:00:00+00:00",
        "edited_timestamp": None,
        "tts": False,
        "mention_everyone": False,
        "mentions": [],
        "mention_roles": [],
        "attachments": attachments,
        "embeds": [],
        "pinned": False,
        "flags": 0,
        "components": [],
        "application_id": str(BOT_ID),
        "webhook_id": str(BOT_ID),
    }
