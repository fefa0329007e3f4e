"""The gateway: the websocket on which the bot receives events. Sessions survive a dropped connection and resume."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

from sandbox.discord.files import Json
from sandbox.discord.interactions import Interaction
from sandbox.discord.rules import Limits
from sandbox.discord.world import Channel, Entitlement, Member, Message, World, rows

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT = 0, 1, 2, 6, 7
REQUEST_MEMBERS, INVALID_SESSION, HELLO, HEARTBEAT_ACK = 8, 9, 10, 11
GUILDS, GUILD_MEMBERS, GUILD_MESSAGES, DIRECT_MESSAGES, MESSAGE_CONTENT = 1, 1 << 1, 1 << 9, 1 << 12, 1 << 15
REMEMBERED_EVENTS = 10_000
NETWORK_SECONDS = 0.02


@dataclass(kw_only=True, eq=False)
class Session:
    """One identified bot. `sent` is what a resume replays; `socket` is None while the connection is gone."""

    id: str
    intents: int
    shard: list[int]
    sequence: int = 0
    sent: list[Json] = field(default_factory=list[Json])
    outbox: asyncio.Queue[Json] = field(default_factory=asyncio.Queue[Json])
    socket: web.WebSocketResponse | None = None

    def serves(self, server_id: int) -> bool:
        """Whether events of this server (0: direct messages) go to this session's shard."""
        number, count = self.shard
        return (server_id >> 22) % count == number

    def dispatch(self, event: str, data: Json) -> None:
        self.sequence += 1
        packet: Json = {"op": DISPATCH, "s": self.sequence, "t": event, "d": data}
        self.sent.append(packet)
        del self.sent[:-REMEMBERED_EVENTS]
        if self.socket is not None:
            self.outbox.put_nowait(packet)


class Gateway:
    """Accepts connections and sends every session the events that it subscribed to.

    discord.py asks for a compressed stream but takes text frames as they are; text keeps the traffic readable.
    """

    def __init__(self, world: World, limits: Limits, *, token: str) -> None:
        self._world = world
        self._limits = limits
        self._token = token
        self._sessions: dict[str, Session] = {}
        self.url = ""
        self.is_silent = False
        """While it is set, connections stay open and nothing is sent, not even the response to a heartbeat."""
        world.feed.hooks.append(self._on_news)

    @property
    def connected(self) -> bool:
        return any(session.socket is not None for session in self._sessions.values())

    @property
    def shards(self) -> list[tuple[int, int]]:
        """Return (number, count) of every connected shard."""
        connected = [session.shard for session in self._sessions.values() if session.socket is not None]
        return sorted((number, count) for number, count in connected)

    async def disconnect(self, *, code: int = 4000, forget: bool = False) -> None:
        """Drop every connection, as Discord does occasionally; with `forget` the sessions cannot be resumed."""
        for session in list(self._sessions.values()):
            if session.socket is not None:
                await session.socket.close(code=code)
        if forget:
            self._sessions.clear()

    def tell(self, event: str, data: Json, *, intent: int = 0) -> None:
        """Send an event to the sessions that asked for its kind; none about a server without the bot."""
        server = self._world.servers.get(int(data.get("guild_id") or 0))
        if server is not None and not server.has_bot:
            return
        for session in self._sessions.values():
            if session.intents & intent == intent:
                session.dispatch(event, data)

    # -- changes of the world, as gateway events --

    def _on_news(self, kind: str, subject: Any) -> None:
        if isinstance(subject, Interaction):
            if kind == "interaction":
                self._tell_interaction("INTERACTION_CREATE", subject.payload(world=self._world, limits=self._limits))
        elif isinstance(subject, Message) and subject.visible_to is None:
            self._tell_message(kind, subject)
        elif isinstance(subject, Entitlement):
            self._to_shards_of(0, kind.upper(), subject.payload())
        elif isinstance(subject, Member) and kind == "member_changed":
            payload = subject.payload() | {"guild_id": str(subject.server.id)}
            self.tell("GUILD_MEMBER_UPDATE", payload, intent=GUILD_MEMBERS)
        elif isinstance(subject, Channel) and kind == "channel_changed":
            self.tell("CHANNEL_UPDATE", subject.payload(), intent=GUILDS)

    def _tell_interaction(self, event: str, data: Json) -> None:
        """Send an interaction to every session that is connected for the server's shard."""
        server_id = int(data.get("guild_id") or 0)
        for session in self._sessions.values():
            if session.socket is not None and session.serves(server_id):
                session.dispatch(event, data)

    def _to_shards_of(self, server_id: int, event: str, data: Json) -> None:
        """Send an event to all sessions of one shard: that of a server, or (0) of direct messages and purchases."""
        for session in self._sessions.values():
            if session.serves(server_id):
                session.dispatch(event, data)

    def _tell_message(self, kind: str, message: Message) -> None:
        server = message.channel.server
        if message.channel.group or (server is not None and not server.has_bot):
            return
        place: Json = {"guild_id": str(server.id)} if server else {}
        intent = GUILD_MESSAGES if server else DIRECT_MESSAGES
        if kind == "message_deleted":
            gone = {"id": str(message.id), "channel_id": str(message.channel.id)}
            self.tell("MESSAGE_DELETE", gone | place, intent=intent)
            return
        event = {"message": "MESSAGE_CREATE", "message_edited": "MESSAGE_UPDATE"}.get(kind)
        if event is None:
            return
        payload = message.payload() | place
        if server and message.author.id in server.members:
            payload["member"] = server.members[message.author.id].payload(with_user=False)
        for session in self._sessions.values():
            if not session.intents & intent:
                continue
            readable = session.intents & MESSAGE_CONTENT or message.author is self._world.bot or server is None
            readable = readable or self._world.bot in message.mentions
            hidden: Json = {} if readable else {"content": "", "embeds": [], "attachments": [], "components": []}
            session.dispatch(event, payload | hidden)

    # -- one connection --

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Handle one websocket: hello, identify or resume, then packets both ways until it closes."""
        socket = web.WebSocketResponse(max_msg_size=1 << 20, autoping=True)
        await socket.prepare(request)
        await socket.send_json({"op": HELLO, "d": {"heartbeat_interval": int(self._limits.heartbeat_seconds * 1000)}})
        session: Session | None = None
        writer: asyncio.Task[None] | None = None
        try:
            async for frame in socket:
                if frame.type is not WSMsgType.TEXT:
                    continue
                packet: Json = json.loads(frame.data)
                operation: int = packet["op"]
                data: Any = packet.get("d")
                if self.is_silent:
                    continue
                if operation == HEARTBEAT:
                    # discord.py records the time of a heartbeat after sending it; an earlier response would look late.
                    await asyncio.sleep(NETWORK_SECONDS)
                    await socket.send_json({"op": HEARTBEAT_ACK})
                elif operation in (IDENTIFY, RESUME):
                    if data["token"] != self._token:
                        await socket.close(code=4004, message=b"Authentication failed.")
                        break
                    session = self._identified(data) if operation == IDENTIFY else self._resumed(data)
                    if session is None:
                        await socket.send_json({"op": INVALID_SESSION, "d": False})
                        continue
                    session.socket = socket
                    writer = asyncio.create_task(self._write(session, socket), name=f"gateway {session.id}")
                    self._greet(session, resumed_from=data["seq"] if operation == RESUME else None)
                elif session is None:
                    await socket.close(code=4003, message=b"Not authenticated.")
                elif operation == REQUEST_MEMBERS:
                    self._send_members(session, data)
        finally:
            if session is not None and session.socket is socket:
                session.socket = None
                self._world.feed.publish("bot_offline", session)
            if writer is not None:
                writer.cancel()
                await asyncio.wait([writer])
        return socket

    async def _write(self, session: Session, socket: web.WebSocketResponse) -> None:
        with contextlib.suppress(ConnectionError):  # the task that reads detects this and ends the connection
            while not socket.closed:
                packet = await session.outbox.get()
                if not self.is_silent:
                    await socket.send_json(packet)

    def _identified(self, data: Json) -> Session:
        session = Session(id=secrets.token_hex(16), intents=int(data["intents"]), shard=data.get("shard") or [0, 1])
        # A bot has one session per shard; a new one replaces the session of a killed process.
        self._sessions = {key: old for key, old in self._sessions.items() if old.socket is not None}
        self._sessions[session.id] = session
        return session

    def _resumed(self, data: Json) -> Session | None:
        session = self._sessions.get(str(data["session_id"]))
        oldest = session.sent[0]["s"] if session is not None and session.sent else 0
        return session if session is not None and int(data["seq"]) >= oldest - 1 else None

    def _greet(self, session: Session, *, resumed_from: int | None) -> None:
        session.outbox = asyncio.Queue()
        if resumed_from is not None:
            for packet in session.sent:
                if packet["s"] > resumed_from:
                    session.outbox.put_nowait(packet)
            session.dispatch("RESUMED", {"_trace": []})
        else:
            session.dispatch("READY", self._ready(session))
            for server in self._world.servers.values():
                if server.has_bot and session.serves(server.id):
                    session.dispatch("GUILD_CREATE", server.created_payload())
        self._world.feed.publish("bot_online", session)

    def _ready(self, session: Session) -> Json:
        return {
            "v": 10,
            "user": self._world.bot.payload() | {"verified": True, "mfa_enabled": False, "flags": 0},
            "guilds": [
                {"id": str(server_id), "unavailable": True}
                for server_id, server in self._world.servers.items()
                if server.has_bot and session.serves(server_id)
            ],
            "session_id": session.id,
            "resume_gateway_url": self.url,
            "shard": session.shard,
            "application": {"id": str(self._world.bot.id), "flags": 0},
            "private_channels": [],
        }

    def _send_members(self, session: Session, data: Json) -> None:
        server = self._world.servers.get(int(data["guild_id"]))
        if server is None:
            return
        wanted = {int(one) for one in rows(data, "user_ids")}
        begin = str(data.get("query") or "").lower()
        found = [
            member
            for member in server.members.values()
            if (member.id in wanted if wanted else member.name.lower().startswith(begin))
        ]
        chunk: Json = {
            "guild_id": str(server.id),
            "members": [member.payload() for member in found],
            "chunk_index": 0,
            "chunk_count": 1,
            "not_found": [str(one) for one in wanted if one not in server.members],
        }
        session.dispatch("GUILD_MEMBERS_CHUNK", chunk | ({"nonce": data["nonce"]} if data.get("nonce") else {}))
