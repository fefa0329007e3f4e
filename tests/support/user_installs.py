"""User installs: what Discord says of people who installed the bot themselves, in servers with and without the bot."""

from __future__ import annotations

from typing import Any

import pytest
from simcord.actors import MemberActor
from simcord.builders import GuildHandle

from tests.support.discord_stage import Stage


class UserInstalls:
    """Adds installations to every interaction, and a server that the bot is not in.

    The simulated Discord knows neither: there the bot is in every server.
    """

    def __init__(self, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
        self._stage = stage
        self._installed: set[int] = set()
        self._servers_without_bot: set[int] = set()
        self.group_channel_ids: set[int] = set()
        """Direct messages that are said to be those of a group of people."""
        self._emit = stage.env.backend.emit
        monkeypatch.setattr(stage.env.backend, "emit", self._send)

    def install(self, *people: Any) -> None:
        """Let people install the bot."""
        self._installed.update(person.id for person in people)

    def uninstall(self, person: Any) -> None:
        self._installed.discard(person.id)

    def server_without_bot(self, *names: str) -> tuple[GuildHandle, Any, list[MemberActor]]:
        """Create a server that the bot is not in; return it, a channel of it and its members."""
        guild = self._stage.env.create_guild("Somewhere")
        channel = guild.create_text_channel("general")
        members = [guild.add_member(self._stage.env.create_user(name)) for name in names]
        self.leave(guild)
        return guild, channel, members

    def leave(self, guild: Any) -> None:
        """Let the bot leave a server whose members go on in the simulation."""
        self._servers_without_bot.add(guild.id)
        known = self._stage.core.bot.get_guild(guild.id)
        assert known is not None
        self._stage.core.bot._connection._remove_guild(known)

    def rest_calls_in(self, channel: Any) -> list[str]:
        """Return what the bot asked of Discord about a channel with its own token."""
        part = f"/channels/{channel.id}"
        return [f"{call.method} {call.path}" for call in self._stage.env.http_requests if part in call.path]

    def _send(self, event: str, payload: Any, *more: Any, **options: Any) -> Any:
        if event == "INTERACTION_CREATE":
            self._add_owners(payload)
        return self._emit(event, payload, *more, **options)

    def _add_owners(self, payload: dict[str, Any]) -> None:
        owners: dict[str, str] = {}
        guild_id = payload.get("guild_id")
        is_group = int(payload["channel_id"]) in self.group_channel_ids
        if guild_id is None and not is_group:
            owners["0"] = "0"
        elif guild_id is not None and int(guild_id) not in self._servers_without_bot:
            owners["0"] = guild_id
        user_id = int((payload.get("user") or payload["member"]["user"])["id"])
        # A button below an answer is there because of who got that answer.
        metadata = (payload.get("message") or {}).get("interaction_metadata")
        installer_id = user_id if metadata is None else int(metadata["user"]["id"])
        if installer_id in self._installed and (payload.get("message") is None or metadata is not None):
            owners["1"] = str(installer_id)
        payload["authorizing_integration_owners"] = owners
        if is_group:
            payload["context"] = 2
