"""The stage: a simulated server with members and the real bot, and everything that was posted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import discord
import simcord
from simcord.actors import MemberActor
from simcord.components import walk_components
from simcord.results import InteractionResult, ResponseMessage

from bot.domain.jobs import Job
from bot.domain.money.quota import Balance, Member
from tests.support.discord_core import Core

PATIENCE_SECONDS = 30.0  # on a busy machine


class RunningClock:
    """The clock of the simulated Discord: the real time, plus what the test adds."""

    def __init__(self) -> None:
        self.elapsed = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.elapsed)

    def advance(self, seconds: float) -> None:
        self.elapsed += seconds


@dataclass(frozen=True, slots=True)
class Card:
    """A message of the bot, read from the simulated Discord at each access."""

    env: simcord.Env
    message: ResponseMessage | discord.Message

    @property
    def stored(self) -> Any:
        channel_id = self.message.channel_id if isinstance(self.message, ResponseMessage) else self.message.channel.id
        return self.env.backend.get_message(channel_id, self.message.id)

    @property
    def components(self) -> list[dict[str, Any]]:
        return list(walk_components(self.stored.components))

    @property
    def text(self) -> str:
        return "\n".join(part["content"] for part in self.components if part["type"] == 10)

    @property
    def reason(self) -> str:
        """Return what a refusal says, without the command that it gives back."""
        return self.text.partition("\n```")[0]

    @property
    def title(self) -> str:
        return next(line for line in self.text.splitlines() if line.startswith("### ")).removeprefix("### ")

    @property
    def buttons(self) -> dict[str, str]:
        """Return the custom ids of the enabled buttons, by label."""
        return {p["label"]: p["custom_id"] for p in self.components if p["type"] == 2 and not p.get("disabled")}

    @property
    def gallery(self) -> list[dict[str, Any]]:
        return [item for part in self.components if part["type"] == 12 for item in part["items"]]

    @property
    def files(self) -> list[dict[str, Any]]:
        return self.stored.attachments

    def file(self, index: int = 0) -> bytes:
        data = self.env.backend.cdn.get(self.files[index]["url"])
        assert data is not None
        return data

    @property
    def private(self) -> bool:
        return self.stored.is_ephemeral

    @property
    def is_there(self) -> bool:
        try:
            return self.stored is not None
        except simcord.BackendError:
            return False


class Stage:
    """One server with a channel, Ada and Bob who are members, and Mo who moderates."""

    def __init__(self, core: Core, env: simcord.Env) -> None:
        self.core = core
        self.env = env
        self.guild = env.create_guild("Studio")
        self.channel = self.guild.create_text_channel("pictures")
        self.keepers = self.guild.create_role("Keepers", permissions=discord.Permissions(manage_guild=True))
        self.artists = self.guild.create_role("Artists")
        self.ada = self.person("ada")
        self.bob = self.person("bob")
        self.mo = self.person("mo", self.keepers)

    def person(self, name: str, *roles: Any) -> MemberActor:
        return self.guild.add_member(self.env.create_user(name), roles=roles)

    def elsewhere(self) -> tuple[MemberActor, Any]:
        """Create another server; return its moderator and a channel there."""
        guild = self.env.create_guild("Elsewhere")
        role = guild.create_role("Keepers", permissions=discord.Permissions(manage_guild=True))
        return guild.add_member(self.env.create_user("eve"), roles=[role]), guild.create_text_channel("general")

    # -- actions ----------------------------------------------------------------------------------------

    async def imagine(self, who: MemberActor | None = None, prompt: str = "a red fox", **options: Any) -> Card:
        """Run /imagine and return the resulting message: the card, or a refusal."""
        with self.core.providers_wait():
            return self.ordered(await (who or self.ada).slash(self.channel, "imagine", prompt=prompt, **options))

    async def edit(self, who: MemberActor | None = None, prompt: str = "make it blue", **options: Any) -> Card:
        with self.core.providers_wait():
            return self.ordered(await (who or self.ada).slash(self.channel, "edit", prompt=prompt, **options))

    async def quota(self, command: str, who: MemberActor | None = None, **options: Any) -> Card:
        return self.said(await (who or self.mo).slash(self.channel, f"quota {command}", **options))

    async def press(self, who: MemberActor, card: Card, label: str) -> InteractionResult:
        """Press the button whose label begins with this text."""
        custom_id = next(value for name, value in card.buttons.items() if name.startswith(label))
        with self.core.providers_wait():
            return await who.click(card.message, custom_id=custom_id)

    async def settings(self, command: str, who: MemberActor | None = None, **options: Any) -> Card:
        return self.said(await (who or self.mo).slash(self.channel, f"settings {command}", **options))

    def ordered(self, result: InteractionResult) -> Card:
        """Return the card or refusal of an order; a warning about the quota may have followed it."""
        return Card(self.env, result.response) if result.response else self.said(result)

    def said(self, result: InteractionResult) -> Card:
        """Return the last message sent in answer to an interaction."""
        message = result.followups[-1] if result.followups else result.response
        assert message is not None, f"nothing was said: {result}"
        return Card(self.env, message)

    async def restart(self) -> None:
        """Start another process with the same database and Discord."""
        await self.core.end()
        self.core.begin()
        await self.env.restart_bot(self.core.bot)

    # -- reading ----------------------------------------------------------------------------------------

    async def until(self, holds: Callable[[], object], *, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a condition holds, while background tasks run."""
        async with asyncio.timeout(seconds):
            while not holds():
                await asyncio.sleep(0.005)

    async def until_says(self, card: Card, *words: str, seconds: float = PATIENCE_SECONDS) -> str:
        try:
            await self.until(lambda: all(word in card.text for word in words), seconds=seconds)
        except TimeoutError:
            raise AssertionError(f"the card never said {words}:\n{card.text}") from None
        return card.text

    async def quiet(self) -> None:
        """Wait until only the permanent tasks still run; fail with the names of those that do not end."""
        running = await self.core.supervisor.drain(timeout_seconds=PATIENCE_SECONDS)
        assert not running, f"still running after {PATIENCE_SECONDS:.0f} s: {', '.join(running)}"

    async def quiet_editors(self) -> None:
        """Wait until every message shows the newest state."""
        presenter: Any = self.core.service.presenter.current
        await self.until(lambda: not any(editor.is_running for editor in presenter._editors.values()))

    async def channel_chatter(self, messages: int) -> None:
        for number in range(messages):
            await self.bob.send(self.channel, f"chat {number}")

    def cards(self, channel: Any = None) -> list[Card]:
        """Return every public message of the bot in a channel, oldest first."""
        channel_id = (channel or self.channel).id
        stored = self.env.backend.messages.get(channel_id, {}).values()
        bot_id = self.env.backend.bot_user.id
        return [
            Card(self.env, ResponseMessage(self.env, message))
            for message in stored
            if message.author_id == bot_id and not message.is_ephemeral
        ]

    async def balance(self, who: MemberActor | None = None) -> Balance:
        member = Member(guild_id=self.guild.id, user_id=(who or self.ada).id)
        default = self.core.service.limits.default_quota
        return await self.core.store.balance(member, default=default, now=datetime.now(UTC))

    async def jobs(self, who: MemberActor | None = None) -> list[Job]:
        """Return the jobs of a member, or of all, newest first."""
        store = self.core.store
        # Those that end between the two are on both pages, and the second one is right.
        pages = [await store.replies_of_server(self.guild.id, finished=ended, limit=100) for ended in (False, True)]
        replies = {reply.id: reply for page in pages for reply in page if who is None or reply.user_id == who.id}
        jobs = [job for reply in replies.values() for job in reply.jobs]
        return sorted(jobs, key=lambda job: (job.created_at, job.id), reverse=True)

    async def assert_nothing_reserved(self) -> None:
        balance = await self.balance()
        assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (0, 0)
        assert await self.jobs() == []
        assert self.core.krea.orders == self.core.pixazo.orders == []

    def outgoing(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the body of every message or edit that was sent, with its path."""
        for request in self.env.http_requests:
            if request.method not in ("POST", "PATCH") or not isinstance(request.json, dict):
                continue
            body = request.json.get("data") if request.path.endswith("/callback") else request.json
            if isinstance(body, dict) and "components" in body and "title" not in body:
                yield request.path, body
