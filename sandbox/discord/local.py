"""LocalDiscord: the simulated Discord on one port of 127.0.0.1, and what people in it can do."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from sandbox.discord.files import Json, Upload
from sandbox.discord.gateway import Gateway
from sandbox.discord.interactions import AUTOCOMPLETE, COMMAND, COMPONENT, MODAL, Interaction, InteractionRegistry
from sandbox.discord.messages import Messages
from sandbox.discord.options import NotOffered, Options, find_command, is_offered
from sandbox.discord.rest import PREFIX, Rest, Trouble
from sandbox.discord.rules import FILE_UPLOAD, IN_LABEL, LABEL, SELECTS, TEXT_INPUT, Limits
from sandbox.discord.world import (
    Channel,
    Entitlement,
    Member,
    Message,
    Permission,
    Role,
    Server,
    Sku,
    User,
    World,
    rows,
)

NOTHING = Permission.none()
BODY_BYTES = 120 * 1024 * 1024


class LocalDiscord:
    """A simulated Discord: start it, add people, start a bot with `token` and `api_base`, act for the people.

    Everything is in memory while the context is open; a bot may be killed and started again meanwhile.
    """

    def __init__(self, *, limits: Limits | None = None, bot_name: str = "Image Bot", port: int = 0) -> None:
        self.limits = limits or Limits()
        self.token = f"sandbox.{secrets.token_urlsafe(24)}"
        self.world = World()
        self.world.bot.name = bot_name
        self._port = port
        self._messages = Messages(self.world, self.limits)
        self._interactions = InteractionRegistry(self.world, self._messages, self.limits)
        self.gateway = Gateway(self.world, self.limits, token=self.token)
        self.rest = Rest(self.world, self._messages, self._interactions, self.limits, token=self.token)
        self.app = web.Application(client_max_size=BODY_BYTES)
        self.app.router.add_get("/gateway/", self.gateway.connect)
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.5)
        self.base = ""

    async def __aenter__(self) -> Self:
        self.rest.add_to(self.app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        host = f"127.0.0.1:{self._runner.addresses[0][1]}"
        self.base, self.world.cdn_base = f"http://{host}", f"http://{host}"
        self.world.link_seconds = self.limits.link_seconds
        self.gateway.url = self.rest.gateway_url = f"ws://{host}/gateway/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._interactions.close()
        await self.gateway.disconnect(code=1001)
        await self._runner.cleanup()

    # -- what a bot needs to know --

    @property
    def api_base(self) -> str:
        return self.base + PREFIX

    @property
    def cdn_host(self) -> str:
        return self.base.removeprefix("http://")

    async def bot_ready(self, *, timeout_seconds: float = 120.0) -> None:
        """Wait until a bot is connected and has registered its commands."""
        await self.world.feed.until(
            lambda: self.gateway.connected and bool(self.commands()),
            timeout_seconds=timeout_seconds,
            what=lambda: f"connected: {self.gateway.connected}, commands: {len(self.commands())}",
        )

    # -- observation --

    @property
    def interactions(self) -> list[Interaction]:
        return self._interactions.all

    @property
    def unknown_routes(self) -> list[str]:
        return self.rest.unknown_routes

    def commands(self, server: Server | None = None) -> list[Json]:
        """Return the registered commands: global ones and those of the server."""
        of_server = self.rest.commands.get(server.id, []) if server else []
        return [*(self.rest.commands.get(None) or []), *of_server]

    def offered(self, member: Member | User, channel: Channel) -> list[Json]:
        """Return the commands that Discord would list for this person in this channel."""
        may = self.world.may(_user(member), channel)
        installed = _user(member).id in self.world.installed
        return [
            command
            for command in self.commands(channel.server)
            if is_offered(command, channel, may, is_installed=installed)
        ]

    # -- building the world --

    def server(self, name: str, *, owner: str = "Owner", with_bot: bool = True) -> Server:
        return self.world.add_server(name, owner=self.world.add_user(owner), with_bot=with_bot)

    def group(self, name: str, *people: Member | User) -> Channel:
        """Return a new channel of direct messages between several people, which the bot is not in."""
        channel = self.world.add_channel(name)
        channel.group = [_user(person) for person in people]
        return channel

    def install(self, *people: Member | User) -> None:
        """Let people install the bot themselves."""
        self.world.installed.update(_user(person).id for person in people)

    def uninstall(self, person: Member | User) -> None:
        self.world.installed.discard(_user(person).id)

    def channel(self, server: Server, name: str, *, age_restricted: bool = False, topic: str = "") -> Channel:
        channel = self.world.add_channel(name, server=server)
        channel.age_restricted, channel.topic = age_restricted, topic
        self.gateway.tell("CHANNEL_CREATE", channel.payload(), intent=1)
        return channel

    def sku(self, name: str, *, price: str) -> Sku:
        """Let the application sell a consumable."""
        return self.world.add_sku(name, price)

    def buy(self, member: Member | User, sku: Sku) -> Entitlement:
        """Buy a consumable, which the bot is told of if it is connected."""
        user = _user(member)
        for earlier in self.world.entitlements.values():
            if earlier.user is user and earlier.sku is sku and not earlier.consumed and not earlier.deleted:
                raise ValueError("bought already, and not used up")
        entitlement = Entitlement(id=self.world.new_id(), sku=sku, user=user)
        self.world.entitlements[entitlement.id] = entitlement
        self.world.feed.publish("entitlement_create", entitlement)
        return entitlement

    def refund(self, entitlement: Entitlement) -> None:
        """Give a purchase back, as Discord does on request."""
        entitlement.deleted = True
        self.world.feed.publish("entitlement_delete", entitlement)

    def role(self, server: Server, name: str, *, permissions: Permission = NOTHING, colour: int = 0) -> Role:
        position = len(server.roles) + 1
        role = Role(id=self.world.new_id(), name=name, permissions=permissions, colour=colour, position=position)
        server.roles.append(role)
        self.gateway.tell("GUILD_ROLE_CREATE", {"guild_id": str(server.id), "role": role.payload()}, intent=1)
        return role

    def member(self, server: Server, name: str, *, roles: Sequence[Role] = (), colour: int = 0x7C8CFF) -> Member:
        return self.join(server, self.world.add_user(name, colour=colour), roles=roles)

    def join(self, server: Server, user: User, *, roles: Sequence[Role] = ()) -> Member:
        member = server.members[user.id] = Member(user=user, server=server, roles=list(roles))
        self.gateway.tell("GUILD_MEMBER_ADD", member.payload() | {"guild_id": str(server.id)}, intent=2)
        return member

    def set_roles(self, member: Member, *roles: Role) -> None:
        member.roles = list(roles)
        self.world.feed.publish("member_changed", member)

    def set_locale(self, member: Member, locale: str) -> None:
        """Set the language of a person's own Discord, such as 'de' or 'pt-BR'."""
        member.user.locale = locale
        self.world.feed.publish("locale_changed", member)  # Discord sends no event for this

    def direct(self, member: Member | User) -> Channel:
        """Return the channel of direct messages between a person and the bot."""
        return self.world.direct_channel(_user(member))

    def trouble(self, method: str, part: str, **how: Any) -> Trouble:
        """Make the next matching requests fail; see `Trouble`."""
        trouble = Trouble(method=method, part=part, **how)
        self.rest.troubles.append(trouble)
        return trouble

    # -- what people do --

    async def say(
        self, author: Member | User, channel: Channel, text: str = "", *, files: Sequence[Upload] = ()
    ) -> Message:
        body: Json = {"content": text}
        return self._messages.post(channel=channel, author=_user(author), body=body, uploads=dict(enumerate(files)))

    async def bot_says(self, channel: Channel, body: Json, *, files: Sequence[Upload] = ()) -> Message:
        """Post a message as the bot without a bot process, such as an earlier welcome message."""
        uploads = dict(enumerate(files))
        return self._messages.post(channel=channel, author=self.world.bot, body=body, uploads=uploads)

    async def slash(
        self, member: Member | User, channel: Channel, command: str, /, *, overridden: bool = False, **options: Any
    ) -> Interaction:
        """Run a slash command: `slash(alice, studio, "quota set", member=bob, amount="2")`.

        Options are strings, numbers, booleans, `Upload`s, members, roles and channels. `overridden` runs a command that
        Discord would not offer by its default permissions, as a server's owner can allow in the settings.
        """
        data = self._command_data(member, channel, command, options, overridden=overridden)
        return self._interactions.open(kind=COMMAND, user=_user(member), channel=channel, data=data)

    async def autocomplete(
        self, member: Member | User, channel: Channel, command: str, /, *, focused: str, **options: Any
    ) -> list[Json]:
        """Return the choices offered while the option `focused` is typed, with the present values of the others."""
        data = self._command_data(member, channel, command, options, overridden=True, focused=focused)
        interaction = self._interactions.open(kind=AUTOCOMPLETE, user=_user(member), channel=channel, data=data)
        await interaction.wait(timeout_seconds=self.limits.acknowledge_seconds + 1)
        return interaction.choices or []

    async def menu(self, member: Member | User, message: Message, name: str) -> Interaction:
        """Choose an entry of a message's Apps menu."""
        channel = message.channel
        command = find_command(self.commands(channel.server), name, kind=3)
        shown = message.payload()
        data: Json = {"id": command["id"], "name": command["name"], "type": 3, "target_id": str(message.id)}
        data["resolved"] = {"messages": {str(message.id): shown}}
        return self._interactions.open(kind=COMMAND, user=_user(member), channel=channel, data=data)

    async def click(self, member: Member | User, message: Message, button: str) -> Interaction:
        """Press the button with this label or custom id."""
        part = message.component(button)
        if part.get("disabled"):
            raise NotOffered(f"the button {button!r} is disabled")
        data: Json = {"component_type": 2, "custom_id": part["custom_id"], "id": part["id"]}
        return self._on_message(member, message, data)

    async def select(self, member: Member | User, message: Message, menu: str, values: Sequence[Any]) -> Interaction:
        """Choose from a menu: values of a text menu, or members, roles and channels."""
        part = message.component(menu)
        options = Options(self.world, message.channel)
        chosen = [options.plain(value) for value in values]
        if part["type"] == 3 and not set(chosen) <= {option["value"] for option in part["options"]}:
            raise NotOffered(f"{chosen} is not among the options of {menu!r}")
        data: Json = {"component_type": part["type"], "custom_id": part["custom_id"], "id": part["id"]}
        data |= {"values": chosen} | ({"resolved": options.resolved} if options.resolved else {})
        return self._on_message(member, message, data)

    async def submit(self, opened: Interaction, values: Mapping[str, Any]) -> Interaction:
        """Fill in the form that `opened` showed: custom ids to texts, lists of values or lists of `Upload`s."""
        modal = opened.modal
        if modal is None:
            raise NotOffered("no form was opened")
        options = Options(self.world, opened.channel)
        components = [_filled(part, values, options) for part in modal["components"] if part["type"] in (1, LABEL)]
        data: Json = {"custom_id": modal["custom_id"], "components": components}
        data |= {"resolved": options.resolved} if options.resolved else {}
        return self._interactions.open(
            kind=MODAL,
            user=opened.user,
            channel=opened.channel,
            data=data,
            message=opened.message,
            opened_by=opened,
        )

    def dismiss(self, message: Message) -> None:
        """Dismiss a message that only its reader sees. The bot receives no event."""
        if message.visible_to is not None:
            self._messages.delete(message)

    def _on_message(self, member: Member | User, message: Message, data: Json) -> Interaction:
        if message.visible_to not in (None, _user(member)):
            raise NotOffered("somebody else's private message cannot be pressed")
        return self._interactions.open(
            kind=COMPONENT, user=_user(member), channel=message.channel, data=data, message=message
        )

    def _command_data(
        self,
        member: Member | User,
        channel: Channel,
        path: str,
        values: Mapping[str, Any],
        *,
        overridden: bool,
        focused: str | None = None,
    ) -> Json:
        name, *rest = path.split(" ")
        command = find_command(self.commands(channel.server), name)
        is_listed = any(listed["id"] == command["id"] for listed in self.offered(member, channel))
        if not overridden and not is_listed:
            raise NotOffered(f"/{path} is not offered to {member.name} here")
        options = Options(self.world, channel)
        data: Json = {"id": command["id"], "name": command["name"], "type": 1}
        data["options"] = options.nested(command, rest, values, focused=focused)
        return data | ({"resolved": options.resolved} if options.resolved else {})


def _user(somebody: Member | User) -> User:
    return somebody.user if isinstance(somebody, Member) else somebody


def _filled(part: Json, values: Mapping[str, Any], options: Options) -> Json:
    """Return one part of a form as submitted: the value entered, else its default."""
    inner: Json = part["component"] if part["type"] == LABEL else part["components"][0]
    custom_id, kind = inner["custom_id"], inner["type"]
    if kind not in IN_LABEL:
        raise NotOffered(f"a form cannot hold a component of type {kind}")
    filled: Json = {"type": kind, "id": inner.get("id", 0), "custom_id": custom_id}
    if kind == TEXT_INPUT:
        text = str(values.get(custom_id, inner.get("value") or ""))
        if inner.get("required", True) and not text:
            raise NotOffered(f"{custom_id} is required")
        if not (inner.get("min_length") or 0) <= len(text) <= (inner.get("max_length") or 4000):
            raise NotOffered(f"{custom_id} is too short or too long")
        filled["value"] = text
    elif kind in SELECTS or kind in (FILE_UPLOAD, 22):
        preset = [option["value"] for option in rows(inner, "options") if option.get("default")]
        chosen = [options.plain(value) for value in values.get(custom_id, preset)]
        least, most = inner.get("min_values"), inner.get("max_values")
        least = (1 if least is None else least) if inner.get("required", True) else 0
        if not least <= len(chosen) <= (most or (10 if kind == 22 else 1)):
            raise NotOffered(f"{custom_id} takes another number of values")
        filled["values"] = chosen
    else:
        filled["value"] = values.get(custom_id, inner.get("default"))
    if part["type"] == LABEL:
        return {"type": LABEL, "id": part.get("id", 0), "component": filled}
    return {"type": 1, "id": part.get("id", 0), "components": [filled]}
