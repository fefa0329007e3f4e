"""The world: people, servers, channels and messages of the local Discord, and their form as JSON."""

from __future__ import annotations

import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntFlag
from typing import Any

from sandbox.discord.feed import Feed
from sandbox.discord.files import Attachment, Json, Upload

DISCORD_EPOCH_MILLISECONDS = 1_420_070_400_000
EPHEMERAL, LOADING, COMPONENTS_V2 = 1 << 6, 1 << 7, 1 << 15


class Permission(IntFlag):
    """The permissions that matter to a bot that posts images."""

    ADMINISTRATOR = 1 << 3
    MANAGE_CHANNELS = 1 << 4
    MANAGE_SERVER = 1 << 5
    VIEW_CHANNEL = 1 << 10
    SEND_MESSAGES = 1 << 11
    MANAGE_MESSAGES = 1 << 13
    EMBED_LINKS = 1 << 14
    ATTACH_FILES = 1 << 15
    READ_HISTORY = 1 << 16
    USE_EXTERNAL_EMOJIS = 1 << 18
    USE_COMMANDS = 1 << 31

    @classmethod
    def none(cls) -> Permission:
        return cls(0)

    @classmethod
    def usual(cls) -> Permission:
        """Return what @everyone may do in an ordinary server."""
        return (
            cls.VIEW_CHANNEL
            | cls.SEND_MESSAGES
            | cls.EMBED_LINKS
            | cls.ATTACH_FILES
            | cls.READ_HISTORY
            | cls.USE_EXTERNAL_EMOJIS
            | cls.USE_COMMANDS
        )

    @classmethod
    def every(cls) -> Permission:
        return Permission(sum(cls))


@dataclass(kw_only=True, eq=False)
class User:
    id: int
    name: str
    colour: int = 0x7C8CFF
    bot: bool = False
    locale: str = "en-US"
    """The language their own Discord is set to."""

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "username": self.name.lower().replace(" ", "_"),
            "global_name": None if self.bot else self.name,
            "discriminator": "0000" if self.bot else "0",
            "avatar": None,
            "bot": self.bot,
            "public_flags": 0,
        }


@dataclass(kw_only=True, eq=False)
class Role:
    id: int
    name: str
    permissions: Permission
    colour: int = 0
    position: int = 0

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "name": self.name,
            "permissions": str(int(self.permissions)),
            "color": self.colour,
            "colors": {"primary_color": self.colour, "secondary_color": None, "tertiary_color": None},
            "position": self.position,
            "hoist": bool(self.colour),
            "managed": False,
            "mentionable": True,
            "flags": 0,
        }


@dataclass(kw_only=True, eq=False)
class Member:
    """A user in a server. `roles` does not list @everyone, which everybody has."""

    user: User
    server: Server
    roles: list[Role] = field(default_factory=list[Role])
    joined_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def id(self) -> int:
        return self.user.id

    @property
    def name(self) -> str:
        return self.user.name

    def permissions_in(self, channel: Channel | None) -> Permission:
        """Return what the member may do in a channel of the server, or in general."""
        if self.server.owner_id == self.id:
            return Permission.every()
        granted = self.server.everyone.permissions
        for role in self.roles:
            granted |= role.permissions
        if granted & Permission.ADMINISTRATOR:
            return Permission.every()
        if channel is not None:
            for role in [self.server.everyone, *self.roles]:
                granted &= ~channel.denied.get(role.id, Permission.none())
        return granted if granted & Permission.VIEW_CHANNEL or channel is None else Permission.none()

    def payload(self, *, channel: Channel | None = None, with_user: bool = True) -> Json:
        payload: Json = {
            "roles": [str(role.id) for role in self.roles],
            "joined_at": self.joined_at.isoformat(),
            "nick": None,
            "avatar": None,
            "premium_since": None,
            "deaf": False,
            "mute": False,
            "pending": False,
            "communication_disabled_until": None,
            "flags": 0,
        }
        if channel is not None:
            payload["permissions"] = str(int(self.permissions_in(channel)))
        return payload | ({"user": self.user.payload()} if with_user else {})


@dataclass(kw_only=True, eq=False)
class Channel:
    """A text channel of a server, the direct messages between the bot and `recipient`, or a group of people."""

    id: int
    name: str
    server: Server | None = None
    recipient: User | None = None
    group: list[User] = field(default_factory=list[User])
    """People in a group of their own, which the bot is not in."""
    topic: str = ""
    age_restricted: bool = False
    position: int = 0
    denied: dict[int, Permission] = field(default_factory=dict[int, Permission])
    messages: dict[int, Message] = field(default_factory=dict[int, "Message"])

    def payload(self) -> Json:
        last = next(reversed(self.messages), None)
        payload: Json = {"id": str(self.id), "last_message_id": str(last) if last else None, "flags": 0}
        if self.group:
            return (
                payload
                | {"type": 3, "name": self.name, "icon": None}
                | {
                    "owner_id": str(self.group[0].id),
                    "recipients": [user.payload() for user in self.group],
                }
            )
        if self.server is None:
            return payload | {"type": 1, "recipients": [self.recipient.payload()] if self.recipient else []}
        overwrites = [
            {"id": str(role_id), "type": 0, "allow": "0", "deny": str(int(denied))}
            for role_id, denied in self.denied.items()
        ]
        return payload | {
            "type": 0,
            "guild_id": str(self.server.id),
            "name": self.name,
            "topic": self.topic or None,
            "nsfw": self.age_restricted,
            "position": self.position,
            "parent_id": None,
            "rate_limit_per_user": 0,
            "permission_overwrites": overwrites,
        }


@dataclass(kw_only=True, eq=False)
class Server:
    id: int
    name: str
    owner_id: int
    everyone: Role
    roles: list[Role] = field(default_factory=list[Role])
    members: dict[int, Member] = field(default_factory=dict[int, Member])
    channels: list[Channel] = field(default_factory=list[Channel])
    has_bot: bool = True

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "name": self.name,
            "owner_id": str(self.owner_id),
            "icon": None,
            "roles": [role.payload() for role in [self.everyone, *self.roles]],
            "emojis": [],
            "stickers": [],
            "features": [],
            "verification_level": 0,
            "default_message_notifications": 0,
            "explicit_content_filter": 0,
            "afk_timeout": 300,
            "afk_channel_id": None,
            "system_channel_id": None,
            "system_channel_flags": 0,
            "mfa_level": 0,
            "nsfw_level": 0,
            "premium_tier": 0,
            "preferred_locale": "en-US",
            "member_count": len(self.members),
        }

    def created_payload(self) -> Json:
        """Return the server as the gateway announces it: with its channels and members."""
        return self.payload() | {
            "joined_at": datetime.now(UTC).isoformat(),
            "large": False,
            "unavailable": False,
            "members": [member.payload() for member in self.members.values()],
            "channels": [channel.payload() for channel in self.channels],
            "threads": [],
            "presences": [],
            "voice_states": [],
            "stage_instances": [],
            "guild_scheduled_events": [],
            "soundboard_sounds": [],
        }


@dataclass(kw_only=True, eq=False)
class Message:
    """One message. `components` is as the bot sent it; addresses of files are filled in for each reader."""

    id: int
    channel: Channel
    author: User
    kind: int = 0
    content: str = ""
    embeds: list[Json] = field(default_factory=list[Json])
    components: list[Json] = field(default_factory=list[Json])
    attachments: list[Attachment] = field(default_factory=list[Attachment])
    flags: int = 0
    visible_to: User | None = None
    mentions: list[User] = field(default_factory=list[User])
    mentioned_roles: list[Role] = field(default_factory=list[Role])
    mentions_everyone: bool = False
    allowed_mentions: Json | None = None
    metadata: Json | None = None
    command_name: str | None = None
    reference: Message | None = None
    nonce: str | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    edited_at: datetime | None = None
    revisions: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """Return all the text that a reader sees, in order: content, embeds, text displays and labels of buttons."""
        parts = [self.content]
        for embed in self.embeds:
            parts += [embed.get("title") or "", embed.get("description") or ""]
            parts += [f"{item['name']} {item['value']}" for item in rows(embed, "fields")]
            parts.append(fields(embed, "footer").get("text", ""))
        parts += [part.get("content") or part.get("label") or "" for part in walk(self.components)]
        return "\n".join(part for part in parts if part)

    def component(self, wanted: str) -> Json:
        """Return the button or menu with this custom id or this label."""
        for part in walk(self.components):
            if wanted in (part.get("custom_id"), part.get("label")) and "custom_id" in part:
                return part
        raise LookupError(f"no component {wanted!r} in message {self.id}: {self.text!r}")

    def payload(self) -> Json:
        files = {attachment.upload.filename: attachment for attachment in self.attachments}
        components = [_with_files(component, files) for component in self.components]
        shown = _files_in(components)
        payload: Json = {
            "id": str(self.id),
            "type": self.kind,
            "channel_id": str(self.channel.id),
            "author": self.author.payload(),
            "content": self.content,
            "timestamp": self.created_at.isoformat(),
            "edited_timestamp": self.edited_at.isoformat() if self.edited_at else None,
            "tts": False,
            "mention_everyone": self.mentions_everyone,
            "mentions": [user.payload() for user in self.mentions],
            "mention_roles": [str(role.id) for role in self.mentioned_roles],
            # What a component shows is left out here, on purpose (discord-api-docs, issue 8277).
            "attachments": [file.payload() for file in self.attachments if str(file.id) not in shown],
            "embeds": self.embeds,
            "pinned": False,
            "flags": self.flags,
            "components": components,
        }
        if self.metadata is not None:
            payload |= {"interaction_metadata": self.metadata}
        if self.author.bot:
            payload |= {"application_id": str(self.author.id)}
        if self.metadata is not None:
            payload |= {"webhook_id": str(self.author.id)}
        if self.nonce is not None:
            payload["nonce"] = self.nonce
        if self.reference is not None:
            payload["message_reference"] = {
                "type": 0,
                "message_id": str(self.reference.id),
                "channel_id": str(self.reference.channel.id),
            }
        return payload


def rows(item: Json, key: str) -> list[Any]:
    """Return the list under a key; empty where it is missing or null."""
    return item.get(key) or []


def fields(item: Json, key: str) -> Json:
    """Return the object under a key; empty where it is missing or null."""
    return item.get(key) or {}


def walk(components: list[Json]) -> Iterator[Json]:
    """Yield every component of a message or a modal, parents before children."""
    for component in components:
        yield component
        yield from walk(rows(component, "components"))
        yield from walk([component[slot] for slot in ("accessory", "component") if component.get(slot)])


def numbered(components: list[Json]) -> list[Json]:
    """Return a copy in which every component has an id of its own, as Discord assigns them."""
    copies = deepcopy(components)
    taken = {part["id"] for part in walk(copies) if part.get("id")}
    following = 1
    for part in walk(copies):
        if not part.get("id"):
            while following in taken:
                following += 1
            taken.add(following)
            part["id"] = following
    return copies


def _with_files(component: Json, files: dict[str, Attachment]) -> Json:
    """Return a copy in which `attachment://name` is replaced by the address of that file."""

    def resolved(media: Json) -> Json:
        file = files.get(str(media.get("url", "")).removeprefix("attachment://"))
        if file is None:
            return media
        facts: Json = {key: value for key, value in file.payload().items() if key in _MEDIA_FACTS}
        return media | facts | {"attachment_id": str(file.id), "loading_state": 2, "placeholder": "", "flags": 0}

    copy = dict(component)
    for slot in ("media", "file"):
        if isinstance(copy.get(slot), dict):
            copy[slot] = resolved(copy[slot])
    if copy.get("type") == 13 and "url" in copy.get("file", {}):
        file = files.get(str(component["file"].get("url", "")).removeprefix("attachment://"))
        if file is not None:
            copy |= {"name": file.upload.filename, "size": len(file.upload.data)}
    for slot in ("components", "items"):
        if slot in copy:
            copy[slot] = [_with_files(child, files) for child in copy[slot]]
    if "accessory" in copy:
        copy["accessory"] = _with_files(copy["accessory"], files)
    return copy


def _files_in(components: list[Json]) -> set[str]:
    """Return the ids of the uploaded files that components show."""
    holders = [holder for part in walk(components) for holder in (part, *rows(part, "items"))]
    shown = [fields(holder, slot).get("attachment_id") for holder in holders for slot in ("media", "file")]
    return {file_id for file_id in shown if file_id}


_MEDIA_FACTS = frozenset({"url", "proxy_url", "width", "height", "content_type"})


@dataclass(kw_only=True, eq=False)
class Sku:
    """Something that the application sells."""

    id: int
    name: str
    price: str
    application_id: int
    consumable: bool = True

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "type": 3 if self.consumable else 2,
            "application_id": str(self.application_id),
            "name": self.name,
            "slug": self.name.lower().replace(" ", "-"),
            "flags": 1 << 2,
        }


@dataclass(kw_only=True, eq=False)
class Entitlement:
    """A purchase."""

    id: int
    sku: Sku
    user: User
    consumed: bool = False
    deleted: bool = False
    times_consumed: int = 0

    def payload(self) -> Json:
        return {
            "id": str(self.id),
            "sku_id": str(self.sku.id),
            "application_id": str(self.sku.application_id),
            "user_id": str(self.user.id),
            "type": 1,
            "deleted": self.deleted,
            "consumed": self.consumed,
            "starts_at": None,
            "ends_at": None,
        }


class World:
    """Everything that exists, by id."""

    def __init__(self) -> None:
        self.feed = Feed()
        self.users: dict[int, User] = {}
        self.servers: dict[int, Server] = {}
        self.channels: dict[int, Channel] = {}
        self.attachments: dict[int, Attachment] = {}
        self.skus: dict[int, Sku] = {}
        self.entitlements: dict[int, Entitlement] = {}
        self.cdn_base = ""
        self.link_seconds = 86_400.0
        self.bot_is_public = False
        self.installed: set[int] = set()
        """Ids of the people who installed the bot themselves."""
        self.takes_people = True
        """Whether people can install the bot themselves, as its owner chose at Discord."""
        self._last_id = 0
        self.bot = self.add_user("Image Bot", bot=True)

    def new_id(self) -> int:
        """Return a new snowflake: later ones are greater, and the time can be read from it."""
        now = (int(time.time() * 1000) - DISCORD_EPOCH_MILLISECONDS) << 22
        self._last_id = max(now, self._last_id + 1)
        return self._last_id

    def add_user(self, name: str, *, colour: int = 0x7C8CFF, bot: bool = False) -> User:
        user = User(id=self.new_id(), name=name, colour=colour, bot=bot)
        self.users[user.id] = user
        return user

    def add_sku(self, name: str, price: str) -> Sku:
        sku = Sku(id=self.new_id(), name=name, price=price, application_id=self.bot.id)
        self.skus[sku.id] = sku
        return sku

    def add_server(self, name: str, *, owner: User, with_bot: bool = True) -> Server:
        server_id = self.new_id()
        everyone = Role(id=server_id, name="@everyone", permissions=Permission.usual())
        server = Server(id=server_id, name=name, owner_id=owner.id, everyone=everyone, has_bot=with_bot)
        self.servers[server.id] = server
        for user in (owner, self.bot) if with_bot else (owner,):
            server.members[user.id] = Member(user=user, server=server)
        return server

    def add_channel(self, name: str, *, server: Server | None = None, recipient: User | None = None) -> Channel:
        channel = Channel(id=self.new_id(), name=name, server=server, recipient=recipient)
        self.channels[channel.id] = channel
        if server is not None:
            channel.position = len(server.channels)
            server.channels.append(channel)
        return channel

    def direct_channel(self, user: User) -> Channel:
        for channel in self.channels.values():
            if channel.recipient is user:
                return channel
        return self.add_channel(user.name, recipient=user)

    def keep(self, upload: Upload, channel: Channel, *, description: str | None = None) -> Attachment:
        attachment = Attachment(
            id=self.new_id(),
            channel_id=channel.id,
            upload=upload,
            cdn_base=self.cdn_base,
            lives_seconds=self.link_seconds,
            description=description if description is not None else upload.description,
        )
        self.attachments[attachment.id] = attachment
        return attachment

    def may(self, user: User, channel: Channel) -> Permission:
        """Return what a person may do in a channel. In direct messages both may do everything of their own."""
        if channel.group:
            return Permission.usual() if user in channel.group else Permission.none()
        if channel.server is None:
            return Permission.usual() if user in (channel.recipient, self.bot) else Permission.none()
        member = channel.server.members.get(user.id)
        return member.permissions_in(channel) if member else Permission.none()
