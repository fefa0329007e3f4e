"""REST: version 10 of the routes that a bot of slash commands uses, and the CDN. Other routes are answered 404."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from sandbox.discord.files import Json, Upload
from sandbox.discord.interactions import COMMAND, COMPONENT, MODAL, InteractionRegistry
from sandbox.discord.messages import Messages, Uploads
from sandbox.discord.rules import ApiError, Limits, check_command, require
from sandbox.discord.world import Channel, Message, Permission, World, fields, rows
from sandbox.form import fields_of

PREFIX = "/api/v10"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request the bot made. `route` has placeholders where the path has ids."""

    method: str
    route: str
    path: str
    status: int
    at: float


@dataclass(kw_only=True, eq=False)
class Trouble:
    """A fault: the next `times` requests of this method whose path contains `part` fail.

    With a status they are refused; without one the connection breaks. Either `after` the request has taken effect or
    before.
    """

    method: str
    part: str
    times: int = 1
    status: int | None = None
    code: int = 0
    message: str = "made to fail"
    after: bool = False
    page: str | None = None
    """Instead of Discord's JSON: a page of something in between, with the status, or one that breaks off without it."""


def answer(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return JSON with a content type without parameters: discord.py parses no other."""
    return web.Response(body=json.dumps(data).encode(), status=status, content_type="application/json", headers=headers)


class Buckets:
    """Rate limits per route and channel, in the headers that clients read."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._windows: dict[str, tuple[float, int]] = {}

    def take(self, kind: str, key: str) -> tuple[dict[str, str], float]:
        """Return the response headers, and the seconds to wait if this request exceeds the limit (else 0)."""
        webhook = kind == "webhook"
        allowed = self._limits.webhook_requests if webhook else self._limits.channel_requests
        window = self._limits.webhook_window_seconds if webhook else self._limits.channel_window_seconds
        now = time.time()
        ends, used = self._windows.get(key, (0.0, 0))
        if now >= ends:
            ends, used = now + window, 0
        over = used >= allowed
        used = used if over else used + 1
        self._windows[key] = (ends, used)
        if len(self._windows) > 10_000:
            self._windows = {key: value for key, value in self._windows.items() if value[0] > now}
        headers = {
            "X-RateLimit-Limit": str(allowed),
            "X-RateLimit-Remaining": str(allowed - used),
            "X-RateLimit-Reset": f"{ends:.3f}",
            "X-RateLimit-Reset-After": f"{ends - now:.3f}",
            "X-RateLimit-Bucket": hashlib.sha256(kind.encode()).hexdigest()[:16],
            "Via": "1.1 sandbox",
        }
        return headers, ends - now if over else 0.0


class Rest:
    """The handlers of all routes: each finds its objects, checks, changes and answers."""

    def __init__(
        self, world: World, messages: Messages, interactions: InteractionRegistry, limits: Limits, *, token: str
    ) -> None:
        self._world = world
        self._messages = messages
        self._interactions = interactions
        self._limits = limits
        self._token = token
        self._buckets = Buckets(limits)
        self.gateway_url = ""
        self.commands: dict[int | None, list[Json]] = {None: []}
        self.calls: list[Call] = []
        self.unknown_routes: list[str] = []
        self.troubles: list[Trouble] = []
        self.odd: Callable[[str, str], Trouble | None] | None = None
        """Called with method and route of each request that `troubles` leave alone: the fault it meets, or None."""

    def add_to(self, app: web.Application) -> None:
        route = app.router.add_route
        hook, own = "/webhooks/{application}/{token}", "/applications/{application}/commands"
        of_server = "/applications/{application}/guilds/{server}/commands"
        for method, path, handler in (
            ("GET", "/gateway", self._gateway),
            ("GET", "/gateway/bot", self._gateway),
            ("GET", "/users/@me", self._me),
            ("GET", "/users/{user}", self._user),
            ("POST", "/users/@me/channels", self._open_direct),
            ("GET", "/applications/@me", self._application),
            ("GET", "/oauth2/applications/@me", self._application),
            ("GET", "/applications/{application}/skus", self._list_skus),
            ("GET", "/applications/{application}/entitlements", self._list_entitlements),
            ("POST", "/applications/{application}/entitlements/{entitlement}/consume", self._consume),
            ("GET", own, self._list_commands),
            ("PUT", own, self._put_commands),
            ("GET", of_server, self._list_commands),
            ("PUT", of_server, self._put_commands),
            ("POST", "/interactions/{interaction}/{token}/callback", self._answer_interaction),
            ("POST", hook, self._follow_up),
            ("GET", hook + "/messages/{message}", self._get_reply),
            ("PATCH", hook + "/messages/{message}", self._edit_reply),
            ("DELETE", hook + "/messages/{message}", self._delete_reply),
            ("GET", "/channels/{channel}", self._get_channel),
            ("GET", "/channels/{channel}/messages", self._list_messages),
            ("POST", "/channels/{channel}/messages", self._post_message),
            ("GET", "/channels/{channel}/messages/{message}", self._get_message),
            ("PATCH", "/channels/{channel}/messages/{message}", self._edit_message),
            ("DELETE", "/channels/{channel}/messages/{message}", self._delete_message),
            ("POST", "/channels/{channel}/typing", self._typing),
            ("POST", "/attachments/refresh-urls", self._refresh_urls),
            ("GET", "/guilds/{server}", self._get_server),
            ("GET", "/guilds/{server}/channels", self._list_channels),
            ("GET", "/guilds/{server}/roles", self._list_roles),
            ("GET", "/guilds/{server}/members", self._list_members),
            ("GET", "/guilds/{server}/members/{user}", self._get_member),
        ):
            route(method, PREFIX + path, self._guarded(path, handler))
        route("*", "/api/{rest:.*}", self._guarded("unknown", self._unknown))
        route("GET", "/attachments/{channel}/{attachment}/{filename}", self._cdn)

    # -- around every route --

    def _guarded(self, route: str, handler: Handler) -> Handler:
        """Record the call, apply a requested fault, check the token and the rate limit, turn errors into JSON."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            trouble = self._trouble_for(request)
            if trouble is None and self.odd is not None:
                trouble = self.odd(request.method, route)
            if trouble is not None and trouble.page is not None and not trouble.after:
                return await self._page(request, route, trouble)
            if trouble is not None and trouble.status is None and not trouble.after:
                return self._broken(request, route)
            headers: dict[str, str] = {}
            try:
                if trouble is not None and trouble.status is not None and trouble.page is None:
                    raise ApiError(trouble.status, trouble.code, trouble.message)
                self._check_token(request, route)
                headers = self._check_rate(request, route)
                response = await handler(request)
            except ApiError as error:
                retry = {"Retry-After": headers.get("X-RateLimit-Reset-After", "1")} if error.status == 429 else {}
                response = answer(error.payload(), status=error.status, headers=retry | {"Via": "1.1 sandbox"})
            except _TooFast as error:
                body = {"message": "You are being rate limited.", "retry_after": error.wait_seconds, "global": False}
                extra = {"Retry-After": f"{error.wait_seconds:.3f}", "X-RateLimit-Scope": "user"}
                response = answer(body, status=429, headers=error.headers | extra)
            if trouble is not None and trouble.page is not None:
                return await self._page(request, route, trouble)
            if trouble is not None and trouble.after:
                return self._broken(request, route)
            response.headers.update(headers)
            self._record(request, route, response.status)
            return response

        return guarded

    def _record(self, request: web.Request, route: str, status: int) -> None:
        self.calls.append(
            Call(method=request.method, route=route, path=request.path, status=status, at=time.monotonic())
        )

    def _broken(self, request: web.Request, route: str) -> web.StreamResponse:
        self._record(request, route, 0)
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=500)

    async def _page(self, request: web.Request, route: str, trouble: Trouble) -> web.StreamResponse:
        """Answer with a page, or with the beginning of one."""
        self._record(request, route, trouble.status or 0)
        page = (trouble.page or "").encode()
        if trouble.status is not None:
            return web.Response(status=trouble.status, body=page, content_type="text/html")
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Content-Length": str(len(page) + 100)}
        )
        await response.prepare(request)
        await response.write(page)
        if request.transport is not None:
            request.transport.close()
        return response

    def _trouble_for(self, request: web.Request) -> Trouble | None:
        for trouble in self.troubles:
            if trouble.times > 0 and trouble.method == request.method and trouble.part in request.path:
                trouble.times -= 1
                return trouble
        return None

    def _check_token(self, request: web.Request, route: str) -> None:
        if route.startswith(("/webhooks", "/interactions")):
            return  # the token in the path is the key
        if request.headers.get("Authorization") != f"Bot {self._token}":
            raise ApiError(401, 0, "401: Unauthorized")

    def _check_rate(self, request: web.Request, route: str) -> dict[str, str]:
        if "/messages" not in route and not route.startswith("/webhooks"):
            return {}
        kind = "webhook" if route.startswith("/webhooks") else request.method + route
        place = request.match_info.get("token") or request.match_info.get("channel", "")
        headers, wait_seconds = self._buckets.take(kind, f"{kind} {place}")
        if wait_seconds:
            raise _TooFast(headers, wait_seconds)
        return headers

    async def _unknown(self, request: web.Request) -> web.StreamResponse:
        self.unknown_routes.append(f"{request.method} {request.path}")
        raise ApiError(404, 0, "404: Not Found")

    # -- reading a request --

    async def _body(self, request: web.Request) -> tuple[Json, Uploads]:
        if not request.content_type.startswith("multipart/"):
            try:
                return (await request.json() if request.can_read_body else {}), {}
            except json.JSONDecodeError:
                raise ApiError(400, 50109, "The request body contains invalid JSON.") from None
        payload = "{}"
        uploads: Uploads = {}
        async for field in fields_of(request):
            if field.filename is not None and field.name.startswith("files["):
                uploads[int(field.name[6:-1])] = Upload(filename=field.filename, data=field.data)
            elif field.name == "payload_json":
                require(field.filename is None, "payload_json: text")
                payload = field.text
        return json.loads(payload), uploads

    def _channel(self, request: web.Request, *needs: Permission) -> Channel:
        channel = self._world.channels.get(_number(request, "channel"))
        if channel is None:
            raise ApiError(404, 10003, "Unknown Channel")
        may = self._world.may(self._world.bot, channel)
        if not may & Permission.VIEW_CHANNEL:
            raise ApiError(403, 50001, "Missing Access")
        if any(not may & need for need in needs):
            raise ApiError(403, 50013, "Missing Permissions")
        return channel

    def _message(self, request: web.Request, channel: Channel) -> Message:
        message = channel.messages.get(_number(request, "message"))
        if message is None or message.visible_to is not None:
            raise ApiError(404, 10008, "Unknown Message")
        return message

    # -- users and channels --

    async def _gateway(self, request: web.Request) -> web.StreamResponse:
        start: Json = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return answer({"url": self.gateway_url, "shards": 1, "session_start_limit": start})

    async def _me(self, request: web.Request) -> web.StreamResponse:
        return answer(self._world.bot.payload() | {"verified": True, "mfa_enabled": False, "flags": 0})

    async def _user(self, request: web.Request) -> web.StreamResponse:
        user = self._world.users.get(_number(request, "user"))
        if user is None:
            raise ApiError(404, 10013, "Unknown User")
        return answer(user.payload())

    async def _application(self, request: web.Request) -> web.StreamResponse:
        bot = self._world.bot
        owner = next((s.members[s.owner_id].user for s in self._world.servers.values()), bot)
        facts: Json = {"id": str(bot.id), "name": bot.name, "description": "", "icon": None, "verify_key": "0" * 64}
        flags: Json = {"bot_public": self._world.bot_is_public, "bot_require_code_grant": False, "flags": 0}
        flags["integration_types_config"] = {"0": {}} | ({"1": {}} if self._world.takes_people else {})
        return answer(facts | flags | {"owner": owner.payload(), "team": None, "bot": bot.payload()})

    async def _get_server(self, request: web.Request) -> web.StreamResponse:
        return answer(self._server(request).payload())

    def _server(self, request: web.Request) -> Any:
        server = self._world.servers.get(_number(request, "server"))
        if server is None:
            raise ApiError(404, 10004, "Unknown Guild")
        return server

    async def _list_channels(self, request: web.Request) -> web.StreamResponse:
        return answer([channel.payload() for channel in self._server(request).channels])

    async def _list_roles(self, request: web.Request) -> web.StreamResponse:
        server = self._server(request)
        return answer([role.payload() for role in [server.everyone, *server.roles]])

    async def _list_members(self, request: web.Request) -> web.StreamResponse:
        limit, after = int(request.query.get("limit", "1")), int(request.query.get("after", "0"))
        members = [member for member in self._server(request).members.values() if member.id > after]
        return answer([member.payload() for member in sorted(members, key=lambda member: member.id)[:limit]])

    async def _get_member(self, request: web.Request) -> web.StreamResponse:
        member = self._server(request).members.get(_number(request, "user"))
        if member is None:
            raise ApiError(404, 10007, "Unknown Member")
        return answer(member.payload())

    async def _get_channel(self, request: web.Request) -> web.StreamResponse:
        return answer(self._channel(request).payload())

    async def _open_direct(self, request: web.Request) -> web.StreamResponse:
        body, _ = await self._body(request)
        user = self._world.users.get(int(body["recipient_id"]))
        if user is None or user.bot:
            raise ApiError(400, 50007, "Cannot send messages to this user")
        return answer(self._world.direct_channel(user).payload())

    # -- what is sold --

    async def _list_skus(self, request: web.Request) -> web.StreamResponse:
        return answer([sku.payload() for sku in self._world.skus.values()])

    async def _list_entitlements(self, request: web.Request) -> web.StreamResponse:
        after, limit = int(request.query.get("after", "0")), int(request.query.get("limit", "100"))
        require(1 <= limit <= 100, "limit: 1 to 100")
        skus = {int(sku_id) for sku_id in request.query.get("sku_ids", "").split(",") if sku_id}
        leaves_deleted_out = request.query.get("exclude_deleted", "1").lower() in ("1", "true")
        found = [
            entitlement.payload()
            for entitlement in sorted(self._world.entitlements.values(), key=lambda entitlement: entitlement.id)
            if entitlement.id > after
            and (not skus or entitlement.sku.id in skus)
            and not (leaves_deleted_out and entitlement.deleted)
        ]
        return answer(found[:limit])

    async def _consume(self, request: web.Request) -> web.StreamResponse:
        entitlement = self._world.entitlements.get(_number(request, "entitlement"))
        if entitlement is None or entitlement.deleted:
            raise ApiError(404, 10066, "Unknown Entitlement")
        entitlement.consumed = True
        entitlement.times_consumed += 1
        self._world.feed.publish("entitlement_update", entitlement)
        return web.Response(status=204)

    # -- commands --

    async def _list_commands(self, request: web.Request) -> web.StreamResponse:
        return answer(self.commands.get(self._scope(request), []))

    async def _put_commands(self, request: web.Request) -> web.StreamResponse:
        body: Any = (await self._body(request))[0]
        require(isinstance(body, list), "commands: a list")
        scope = self._scope(request)
        known = {(old.get("type", 1), old["name"]): old for old in self.commands.get(scope, [])}
        commands: list[Json] = []
        for new in body:
            check_command(new)
            kind, name = new.get("type", 1), new["name"]
            kept = known.get((kind, name))
            facts: Json = {"type": kind, "description": "", "options": [], "default_member_permissions": None}
            ids: Json = {"id": kept["id"] if kept else str(self._world.new_id()), "version": str(self._world.new_id())}
            ids |= {"application_id": str(self._world.bot.id)} | ({"guild_id": str(scope)} if scope else {})
            commands.append(facts | {"nsfw": False, "contexts": None, "integration_types": None} | new | ids)
        require(len({(c["type"], c["name"]) for c in commands}) == len(commands), "commands: names must differ")
        for kind, most in ((1, 100), (2, 15), (3, 15)):
            require(sum(c["type"] == kind for c in commands) <= most, f"commands: {most} of type {kind} at most")
        self.commands[scope] = commands
        self._world.feed.publish("commands", commands)
        return answer(commands)

    def _scope(self, request: web.Request) -> int | None:
        return _number(request, "server") if "server" in request.match_info else None

    # -- interactions and their messages --

    async def _answer_interaction(self, request: web.Request) -> web.StreamResponse:
        body, uploads = await self._body(request)
        said = self._interactions.answer(_number(request, "interaction"), request.match_info["token"], body, uploads)
        if request.query.get("with_response", "").lower() in ("true", "1"):
            return answer(said)
        return web.Response(status=204)

    async def _follow_up(self, request: web.Request) -> web.StreamResponse:
        interaction = self._interactions.by_token(request.match_info["token"])
        require(interaction.kind in (COMMAND, COMPONENT, MODAL), "no messages follow autocomplete")
        body, uploads = await self._body(request)
        return answer(self._interactions.follow_up(interaction, body, uploads).payload())

    def _reply(self, request: web.Request) -> Message:
        return self._interactions.message_of(
            self._interactions.by_token(request.match_info["token"]), request.match_info["message"]
        )

    async def _get_reply(self, request: web.Request) -> web.StreamResponse:
        return answer(self._reply(request).payload())

    async def _edit_reply(self, request: web.Request) -> web.StreamResponse:
        self._interactions.by_token(request.match_info["token"])
        body, uploads = await self._body(request)
        return answer(self._messages.edit(self._reply(request), body, uploads).payload())

    async def _delete_reply(self, request: web.Request) -> web.StreamResponse:
        self._messages.delete(self._reply(request))
        return web.Response(status=204)

    # -- messages in channels --

    async def _list_messages(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel(request, Permission.READ_HISTORY)
        limit, before = int(request.query.get("limit", "50")), int(request.query.get("before", str(1 << 63)))
        after = int(request.query.get("after", "0"))
        seen = [m for m in channel.messages.values() if m.visible_to is None and after < m.id < before]
        return answer([message.payload() for message in reversed(seen[-limit:])])

    async def _post_message(self, request: web.Request) -> web.StreamResponse:
        body, uploads = await self._body(request)
        needs = (Permission.SEND_MESSAGES, *([Permission.ATTACH_FILES] if uploads else []))
        channel = self._channel(request, *needs)
        about = fields(body, "message_reference").get("message_id")
        reference = channel.messages.get(int(about)) if about else None
        message = self._messages.post(
            channel=channel, author=self._world.bot, body=body, uploads=uploads, reference=reference
        )
        return answer(message.payload())

    async def _get_message(self, request: web.Request) -> web.StreamResponse:
        return answer(self._message(request, self._channel(request, Permission.READ_HISTORY)).payload())

    async def _edit_message(self, request: web.Request) -> web.StreamResponse:
        message = self._message(request, self._channel(request))
        if message.author is not self._world.bot:
            raise ApiError(403, 50005, "Cannot edit a message authored by another user")
        body, uploads = await self._body(request)
        return answer(self._messages.edit(message, body, uploads).payload())

    async def _delete_message(self, request: web.Request) -> web.StreamResponse:
        channel = self._channel(request)
        message = self._message(request, channel)
        if message.author is not self._world.bot:
            self._channel(request, Permission.MANAGE_MESSAGES)
        self._messages.delete(message)
        return web.Response(status=204)

    async def _typing(self, request: web.Request) -> web.StreamResponse:
        self._channel(request, Permission.SEND_MESSAGES)
        return web.Response(status=204)

    # -- files --

    async def _refresh_urls(self, request: web.Request) -> web.StreamResponse:
        body, _ = await self._body(request)
        fresh: list[Json] = []
        for url in rows(body, "attachment_urls"):
            parts = str(url).partition("?")[0].split("/")
            attachment = self._world.attachments.get(int(parts[-2])) if parts[-2].isdigit() else None
            fresh.append({"original": url, "refreshed": attachment.url if attachment else None})
        return answer({"refreshed_urls": fresh})

    async def _cdn(self, request: web.Request) -> web.StreamResponse:
        attachment = self._world.attachments.get(_number(request, "attachment"))
        expires = request.query.get("ex", "0")
        signed = attachment is not None and request.query.get("hm") == attachment.secret
        if attachment is None or not signed or int(expires, 16) < time.time():
            return web.Response(status=404, text="This content is no longer available.")
        safe = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, max-age=3600"}
        if attachment.upload.content_type in ("image/svg+xml", "text/html"):
            safe["Content-Disposition"] = "attachment"  # an uploaded file must not run in the page's origin
        return web.Response(body=attachment.upload.data, content_type=attachment.upload.content_type, headers=safe)


class _TooFast(Exception):
    def __init__(self, headers: dict[str, str], wait_seconds: float) -> None:
        super().__init__(wait_seconds)
        self.headers, self.wait_seconds = headers, wait_seconds


def _number(request: web.Request, name: str) -> int:
    text = request.match_info[name]
    if not text.isdigit():
        raise ApiError(400, 50035, "Invalid Form Body", where=f"{name}: {text!r} is not snowflake")
    return int(text)
