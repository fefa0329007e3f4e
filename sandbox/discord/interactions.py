"""Interactions: what a member asked of the bot, the time limits that apply, and what the bot answered."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from sandbox.discord.feed import Feed
from sandbox.discord.files import Json
from sandbox.discord.messages import Messages, Uploads
from sandbox.discord.rules import ApiError, Limits, bad_form, check_choices, check_deferral, check_modal, require
from sandbox.discord.world import EPHEMERAL, LOADING, Channel, Message, User, World, fields, numbered, rows

COMMAND, COMPONENT, AUTOCOMPLETE, MODAL = 2, 3, 4, 5  # kinds of interaction
MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE, CHOICES, OPEN_MODAL = 4, 5, 6, 7, 8, 9  # kinds of answer

MAX_FOLLOW_UPS_OF_PERSON = 5
"""Follow-ups to one interaction where only a person installed the bot."""


@dataclass(kw_only=True, eq=False)
class Interaction:
    """One command, press, choice or filled-in form, with the bot's answer once there is one."""

    id: int
    token: str
    kind: int
    user: User
    channel: Channel
    data: Json
    feed: Feed
    message: Message | None = None
    opened_by: Interaction | None = None
    owners: Json = field(default_factory=dict[str, Any])
    """Who installed the bot where the interaction comes from: '0' a server, '1' a person."""
    opened_at: float = field(default_factory=time.monotonic)
    answer: int | None = None
    answered_after_seconds: float | None = None
    failed: bool = False
    reply: Message | None = None
    follow_ups: list[Message] = field(default_factory=list[Message])
    modal: Json | None = None
    choices: list[Json] | None = None

    @property
    def text(self) -> str:
        """Return all text of the reply in its present state."""
        return self.reply.text if self.reply is not None else ""

    async def wait(self, *, timeout_seconds: float = 20.0) -> Interaction:
        """Wait for the first answer, or until Discord's time limit for it ends (`failed`)."""
        await self.feed.until(
            lambda: self.answer is not None or self.failed,
            timeout_seconds=timeout_seconds,
            what=lambda: "the bot has not answered",
        )
        return self

    async def wait_for(self, text: str, *, timeout_seconds: float = 60.0) -> Message:
        """Wait until the reply contains these words."""
        await self.feed.until(
            lambda: text in self.text or self.failed,
            timeout_seconds=timeout_seconds,
            what=lambda: f"{text!r} is not in the reply: {self.text!r}",
        )
        if self.reply is None or text not in self.text:
            raise LookupError(f"{text!r} will not come: the application did not respond")
        return self.reply

    @property
    def command_path(self) -> str | None:
        """Return the command with its subcommand as members type it; None for other interactions."""
        if self.kind != COMMAND:
            return None
        words, options = [str(self.data["name"])], rows(self.data, "options")
        while options and options[0]["type"] in (1, 2):  # a subcommand or a group of them
            words.append(str(options[0]["name"]))
            options = rows(options[0], "options")
        return " ".join(words)

    @property
    def metadata(self) -> Json:
        """Return the field of a message that names the interaction which created it."""
        metadata: Json = {
            "id": str(self.id),
            "type": self.kind,
            "user": self.user.payload(),
            "authorizing_integration_owners": self.owners,
        }
        if self.kind == COMMAND:
            metadata |= {"name": self.data["name"], "command_type": self.data["type"]}
        if self.message is not None and self.kind == COMPONENT:
            metadata["interacted_message_id"] = str(self.message.id)
        if self.kind == MODAL and self.opened_by is not None:
            metadata["triggering_interaction_metadata"] = self.opened_by.metadata
        return metadata

    def payload(self, *, world: World, limits: Limits) -> Json:
        """Return the interaction as the gateway sends it to the bot."""
        server = self.channel.server
        payload: Json = {
            "id": str(self.id),
            "application_id": str(world.bot.id),
            "type": self.kind,
            "token": self.token,
            "version": 1,
            "channel_id": str(self.channel.id),
            "channel": self.channel.payload(),
            "data": self.data,
            "locale": self.user.locale,
            "app_permissions": str(int(world.may(world.bot, self.channel))),
            "entitlements": [],
            "authorizing_integration_owners": self.owners,
            "context": 0 if server else 2 if self.channel.group else 1,
            "attachment_size_limit": limits.file_bytes,
        }
        if server is None:
            payload["user"] = self.user.payload()
        else:
            payload |= {
                "guild_id": str(server.id),
                "guild": {"id": str(server.id), "locale": "en-US", "features": []},
                "guild_locale": "en-US",
                "member": server.members[self.user.id].payload(channel=self.channel),
            }
        if self.message is not None:
            payload["message"] = self.message.payload()
        return payload


class InteractionRegistry:
    """Accepts interactions from members and answers from the bot, and applies the time limits to both."""

    def __init__(self, world: World, messages: Messages, limits: Limits) -> None:
        self._world = world
        self._messages = messages
        self._limits = limits
        self._by_token: dict[str, Interaction] = {}
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def all(self) -> list[Interaction]:
        """Return every interaction so far, oldest first."""
        return list(self._by_token.values())

    def open(
        self,
        *,
        kind: int,
        user: User,
        channel: Channel,
        data: Json,
        message: Message | None = None,
        opened_by: Interaction | None = None,
    ) -> Interaction:
        """Send the interaction to the bot and start its time limit."""
        interaction = Interaction(
            id=self._world.new_id(),
            token=secrets.token_urlsafe(48),
            kind=kind,
            user=user,
            channel=channel,
            data=data,
            feed=self._world.feed,
            message=message,
            opened_by=opened_by,
            owners=self._owners(user, channel, message),
        )
        self._by_token[interaction.token] = interaction
        loop = asyncio.get_running_loop()
        self._timers = {timer for timer in self._timers if not timer.cancelled() and timer.when() > loop.time()}
        self._timers.add(loop.call_later(self._limits.acknowledge_seconds, self._give_up, interaction))
        self._world.feed.publish("interaction", interaction)
        return interaction

    def _owners(self, user: User, channel: Channel, message: Message | None) -> Json:
        """Return what is installed here; below a message, what it was posted by, and not by the person who clicks."""
        owners: Json = {}
        if channel.server is not None and channel.server.has_bot:
            owners["0"] = str(channel.server.id)
        elif channel.server is None and not channel.group:
            owners["0"] = "0"
        if message is None or message.author is not self._world.bot:
            return owners | ({"1": str(user.id)} if user.id in self._world.installed else {})
        by_person = fields(message.metadata or {}, "authorizing_integration_owners").get("1")
        return owners | ({"1": by_person} if by_person else {})

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _give_up(self, interaction: Interaction) -> None:
        if interaction.answer is None:
            interaction.failed = True
            self._world.feed.publish("failed", interaction)

    def by_token(self, token: str) -> Interaction:
        """Return the interaction of a token that is valid and was answered."""
        interaction = self._by_token.get(token)
        if interaction is None or interaction.answer is None:
            raise ApiError(404, 10015, "Unknown Webhook")
        if time.monotonic() - interaction.opened_at > self._limits.token_seconds:
            raise ApiError(401, 50027, "Invalid Webhook Token")
        return interaction

    def answer(self, interaction_id: int, token: str, body: Json, uploads: Uploads) -> Json:
        """Record the bot's first answer. A second one, or one after the time limit, is refused."""
        interaction = self._by_token.get(token)
        if interaction is None or interaction.id != interaction_id or interaction.failed:
            raise ApiError(404, 10062, "Unknown interaction")
        if interaction.answer is not None:
            raise ApiError(400, 40060, "Interaction has already been acknowledged.")
        kind, data = body.get("type"), fields(body, "data")
        if interaction.kind == AUTOCOMPLETE:
            require(kind == CHOICES, "type: autocomplete is answered with choices")
        if kind == MESSAGE:
            interaction.reply = self._write(interaction, data, uploads, ephemeral=_is_ephemeral(data))
        elif kind == DEFERRED:
            check_deferral(int(data.get("flags") or 0))
            interaction.reply = self._write(interaction, {}, {}, ephemeral=_is_ephemeral(data), loading=True)
        elif kind in (DEFERRED_UPDATE, UPDATE):
            if interaction.message is None:
                raise bad_form("type: there is no message to update")
            interaction.reply = interaction.message
            if kind == UPDATE:
                self._messages.edit(interaction.message, data, uploads)
        elif kind == CHOICES:
            require(interaction.kind == AUTOCOMPLETE, "type: choices answer autocomplete only")
            check_choices(rows(data, "choices"))
            interaction.choices = rows(data, "choices")
        elif kind == OPEN_MODAL:
            require(interaction.kind in (COMMAND, COMPONENT), "type: a modal cannot follow a modal")
            check_modal(data)
            interaction.modal = data | {"components": numbered(data["components"])}
        else:
            raise bad_form(f"type: {kind}")
        interaction.answer = kind
        interaction.answered_after_seconds = time.monotonic() - interaction.opened_at
        self._world.feed.publish("answered", interaction)
        return self._callback(interaction)

    def _callback(self, interaction: Interaction) -> Json:
        answer: Json = {"interaction": {"id": str(interaction.id), "type": interaction.kind}}
        resource: Json = {"type": interaction.answer}
        if interaction.reply is not None:
            answer["interaction"] |= {
                "response_message_id": str(interaction.reply.id),
                "response_message_loading": bool(interaction.reply.flags & LOADING),
                "response_message_ephemeral": bool(interaction.reply.flags & EPHEMERAL),
            }
            if interaction.answer in (MESSAGE, UPDATE, DEFERRED):
                resource["message"] = interaction.reply.payload()
        return answer | {"resource": resource}

    def follow_up(self, interaction: Interaction, body: Json, uploads: Uploads) -> Message:
        """Post a further message; the first one after a deferral replaces the deferred reply."""
        if interaction.reply is not None and interaction.reply.flags & LOADING:
            return self._messages.edit(interaction.reply, {k: v for k, v in body.items() if k != "nonce"}, uploads)
        if "0" not in interaction.owners and len(interaction.follow_ups) >= MAX_FOLLOW_UPS_OF_PERSON:
            raise ApiError(400, 40094, "This interaction has hit the maximum number of follow up messages")
        message = self._write(interaction, body, uploads, ephemeral=_is_ephemeral(body))
        interaction.follow_ups.append(message)
        return message

    def message_of(self, interaction: Interaction, name: str) -> Message:
        """Return the message that `@original` or an id names, if it belongs to this interaction."""
        own = [*([interaction.reply] if interaction.reply else []), *interaction.follow_ups]
        for message in own:
            wanted = message is interaction.reply if name == "@original" else str(message.id) == name
            if wanted and message.id in message.channel.messages:
                return message
        raise ApiError(404, 10008, "Unknown Message")

    def _write(
        self, interaction: Interaction, body: Json, uploads: Uploads, *, ephemeral: bool, loading: bool = False
    ) -> Message:
        target = interaction.message
        is_menu = interaction.kind == COMMAND and interaction.data.get("type") != 1
        return self._messages.post(
            channel=interaction.channel,
            author=self._world.bot,
            body=body,
            uploads=uploads,
            kind=23 if is_menu else 20 if target is None else 19,
            visible_to=interaction.user if ephemeral else None,
            metadata=interaction.metadata,
            command_name=interaction.command_path,
            reference=target if target is not None and not target.visible_to else None,
            loading=loading,
        )


def _is_ephemeral(body: Json) -> bool:
    return bool(int(body.get("flags") or 0) & EPHEMERAL)
