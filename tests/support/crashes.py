"""The harness for crash tests: a Discord and providers that keep running, a bot that is restarted, and the audit."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from unittest.mock import patch

import time_machine
from PIL import Image

from bot.domain.jobs import Delivery, JobStatus
from bot.store.admin.verify import Finding, verify_file
from bot.store.sqlite.connection import connect_for_reading
from cogs.text import job_card
from sandbox import shelf
from sandbox.discord import Channel, Interaction, Limits, LocalDiscord, Member, Message, Server, Upload
from sandbox.discord.world import EPHEMERAL, LOADING, walk
from sandbox.provider import SandboxProvider
from tests.support.core import small_image

PROJECT = Path(__file__).resolve().parents[2]
SIX_MINUTES = 360.0
"""The default pause between two starts: a lost order that is not found by then was never accepted."""

IMPATIENT = {"IMPATIENT": "1"}
"""A setting of the crashing bot, for tests that it does not weaken. Torture runs without it."""

PATIENT = Limits(channel_requests=50, acknowledge_seconds=30.0)
"""Limits of the local Discord for tests that are not about answering within three seconds: a machine may be busy."""

UNFINISHED = """
SELECT count(*) FROM replies
WHERE delivery = 'pending' OR id IN (SELECT reply_id FROM jobs WHERE finished_at IS NULL)
"""
_WORD_OF = {
    JobStatus.SUCCEEDED: job_card.COMPLETED(),
    JobStatus.FAILED: job_card.FAILED(),
    JobStatus.CANCELLED: job_card.CANCELLED(),
}


class Nursery:
    """A process that has imported everything and forks bots, so that a start does not include Python's imports."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.crashing_bot", "--warm"],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(timeout=90)

    async def start(self, environment: Mapping[str, str], log: Path) -> int:
        """Start a bot and return its process id. At most one runs at a time."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"environment": dict(environment), "log": str(log)}) + "\n")
        self._process.stdin.flush()
        return await self._number()

    async def ended(self) -> int:
        """Wait for the end of the bot and return its exit status: -9 when it was killed."""
        return await self._number()

    async def _number(self) -> int:
        assert self._process.stdout is not None
        return int(await asyncio.to_thread(self._process.stdout.readline))


@dataclass(kw_only=True, eq=False)
class World:
    """One server with a member and a channel, both providers, and at most one bot."""

    nursery: Nursery
    discord: LocalDiscord
    provider: SandboxProvider
    folder: Path
    clock: time_machine.Traveller
    server: Server
    member: Member
    moderator: Member
    channel: Channel
    ahead_seconds: float = 0.0
    settings: dict[str, str] = field(default_factory=dict[str, str])
    pid: int | None = None
    _ending: asyncio.Task[int] | None = None

    @property
    def database(self) -> Path:
        return self.folder / "bot.sqlite3"

    @property
    def log(self) -> Path:
        return self.folder / "bot.log"

    # -- the bot ------------------------------------------------------------------------------------------

    async def start(self, **crash: str) -> float:
        """Start the bot (CRASH_AT and so on as arguments) and wait until it is connected or dead.

        Returns the seconds that took.
        """
        assert self.pid is None, "one bot at a time"
        begun_at = time.monotonic()
        ready = asyncio.create_task(self.discord.bot_ready(), name="bot is ready")
        self.pid = await self.nursery.start(self._environment() | crash, self.log)
        self._ending = asyncio.create_task(self.nursery.ended(), name="bot has ended")
        await asyncio.wait({ready, self._ending}, return_when=asyncio.FIRST_COMPLETED)
        if not ready.done():
            ready.cancel()
        await asyncio.wait({ready})
        if not ready.cancelled():
            ready.result()
        return time.monotonic() - begun_at

    async def dead(self, *, timeout_seconds: float = 90.0) -> int:
        """Wait for the end of the bot and return its exit status."""
        assert self._ending is not None, "no bot was started"
        async with asyncio.timeout(timeout_seconds):
            status = await asyncio.shield(self._ending)
        self.pid = self._ending = None
        await self.discord.world.feed.until(
            lambda: not self.discord.gateway.connected, timeout_seconds=30, what=lambda: "the gateway holds a dead bot"
        )
        return status

    @property
    def is_dead(self) -> bool:
        return self._ending is None or self._ending.done()

    def kill(self) -> None:
        """Send SIGKILL."""
        if self.pid is not None and not self.is_dead:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    async def stop(self, *, politely: bool = False) -> int:
        """Kill the bot, or ask it to end; return its exit status."""
        if politely and self.pid is not None:
            os.kill(self.pid, signal.SIGTERM)
        else:
            self.kill()
        return await self.dead()

    def pass_time(self, seconds: float) -> None:
        """Move the time ahead: the clocks, and the age of command tokens. Only while no bot runs."""
        assert self.pid is None, "a running bot would not notice"
        self.ahead_seconds += seconds
        self.clock.shift(seconds)
        for interaction in self.discord.interactions:
            interaction.opened_at -= seconds

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        return kept | {
            "DISCORD_TOKEN": self.discord.token,
            "DISCORD_API_BASE": self.discord.api_base,
            "DISCORD_CDN_HOSTS": self.discord.cdn_host,
            "KREA_API_KEY": self.provider.krea_key,
            "KREA_API_BASE": self.provider.krea_base,
            "KREA_POLL_SECONDS": "0.1",
            "KREA_MAX_CONCURRENCY": "16",
            "PIXAZO_API_KEY": self.provider.pixazo_key,
            "PIXAZO_API_BASE": self.provider.pixazo_base,
            "PIXAZO_POLL_SECONDS": "0.1",
            "DATABASE_URL": f"sqlite:///{self.database}",
            "DEFAULT_QUOTA_USD": "1000",
            "OPERATOR_DAILY_CAP_USD": "100000",
            "OPERATOR_SERVER_CAP_USD": "100000",
            "OPERATOR_COST_PER_MEMBER_USD": "100000",
            "MAX_RUNNING_JOBS_PER_USER": "50",
            "HTTP_PORT": "0",
            "MEDIA_ALLOW_PRIVATE_ADDRESSES": "true",
            "CLOCK_AHEAD_SECONDS": str(self.ahead_seconds),
            **self.settings,
        }

    # -- observation --------------------------------------------------------------------------------------

    def query(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """Query the database on a connection of its own."""
        with closing(connect_for_reading(self.database)) as connection:
            return connection.execute(sql, parameters).fetchall()

    @property
    def has_books(self) -> bool:
        return self.database.exists()

    def findings(self) -> list[Finding]:
        return verify_file(self.database)

    @property
    def unfinished(self) -> int:
        """Return the number of commands that have not ended, or whose end was not shown."""
        if not self.database.exists():
            return 0
        return self.query(UNFINISHED)[0][0]

    async def settled(self, *, timeout_seconds: float = 120.0) -> float:
        """Wait until every command has ended and its end is shown. Return the seconds."""
        begun_at = time.monotonic()
        while self.unfinished:
            if time.monotonic() - begun_at > timeout_seconds or self.is_dead:
                where = [tuple(row) for row in self.query("SELECT status, count(*) FROM jobs GROUP BY status")]
                raise AssertionError(f"{self.unfinished} commands not at their end: {where}\n{self.last_words()}")
            await asyncio.sleep(0.03)
        return time.monotonic() - begun_at

    def last_words(self, lines: int = 40) -> str:
        """Return the end of the bot's log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


@asynccontextmanager
async def world(
    nursery: Nursery, folder: Path, *, seconds_scale: float = 0.02, limits: Limits | None = None
) -> AsyncGenerator[World]:
    """Create a new world without a bot; a bot that still runs at the end is killed."""
    async with AsyncExitStack() as stack:
        # The bot and the simulated servers must use the same clock.
        clock = stack.enter_context(time_machine.travel(datetime.now(UTC), tick=True))
        # Large images take more time to draw than everything else together.
        stack.enter_context(patch.object(shelf, "_drawn", small_image))
        provider = await stack.enter_async_context(SandboxProvider(seconds_scale=seconds_scale))
        discord = await stack.enter_async_context(LocalDiscord(limits=limits or PATIENT))
        server = discord.server("Atelier")
        folder.mkdir(parents=True, exist_ok=True)
        here = World(
            nursery=nursery,
            discord=discord,
            provider=provider,
            folder=folder,
            clock=clock,
            server=server,
            member=discord.member(server, "Ada"),
            moderator=discord.join(server, server.members[server.owner_id].user),
            channel=discord.channel(server, "studio"),
        )
        try:
            yield here
        finally:
            if here.pid is not None:
                await here.stop()


async def seen(here: World, happened: Callable[[], bool]) -> bool:
    """Wait until a condition holds; return False when the bot died first."""
    async with asyncio.timeout(90):
        while not happened():
            if here.is_dead:
                return False
            await asyncio.sleep(0.01)
    return True


def a_file() -> Upload:
    """Return a small image to be edited."""
    data = io.BytesIO()
    Image.new("RGB", (96, 64), "teal").save(data, "PNG")
    return Upload(filename="in.png", data=data.getvalue())


# -- the audit --------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Audit:
    """The findings of an audit of the ledger, Discord and the providers' bill. All lists must be empty."""

    books: list[str] = field(default_factory=list[str])
    """Rules that the file breaks."""
    sent_twice: list[str] = field(default_factory=list[str])
    shown_twice: list[str] = field(default_factory=list[str])
    lost: list[str] = field(default_factory=list[str])
    """Accepted commands without a final state that the member can see, and images that were not delivered."""
    stuck: list[str] = field(default_factory=list[str])
    """Reservations that are still open."""
    overspent: list[str] = field(default_factory=list[str])
    """Charges above the provider's price, and bills that no account bears."""
    outcomes: Counter[str] = field(default_factory=Counter[str])
    commands: int = 0
    jobs: int = 0
    orders: int = 0
    bill_usd_micros: int = 0
    charged_usd_micros: int = 0
    operator_cost_usd_micros: int = 0
    followed_usd_micros: int = 0
    """What orders that are still followed may cost the operator."""

    @property
    def problems(self) -> list[str]:
        return [*self.books, *self.sent_twice, *self.shown_twice, *self.lost, *self.stuck, *self.overspent]

    @property
    def operator_overestimate_usd_micros(self) -> int:
        """Return the operator cost of orders of which it is unknown whether they were accepted."""
        return self.charged_usd_micros + self.operator_cost_usd_micros - self.bill_usd_micros


class Audited(Protocol):
    """What an audit reads."""

    @property
    def discord(self) -> LocalDiscord: ...

    @property
    def provider(self) -> SandboxProvider: ...

    @property
    def has_books(self) -> bool: ...

    def findings(self) -> list[Finding]: ...

    def query(self, sql: str, *parameters: Any) -> list[Any]: ...


def audit(world: Audited) -> Audit:
    """Compare what the members see, the ledger and the provider's bill. Each command has a prompt of its own."""
    found = Audit()
    if not world.has_books:
        return found
    found.books = [f"{finding.rule}: {finding.detail}" for finding in world.findings()]
    found.books += [f"unknown route: {route}" for route in world.discord.unknown_routes]
    found.books += [f"provider: {violation}" for violation in world.provider.violations]
    replies = {row["interaction_id"]: row for row in world.query("SELECT * FROM replies")}
    jobs = world.query("SELECT * FROM jobs ORDER BY created_at")
    messages = {
        message.id: message
        for channel in world.discord.world.channels.values()
        for message in channel.messages.values()
    }
    cards = [message for message in messages.values() if not is_warning(message)]
    made_by = Counter(message.metadata["id"] for message in cards if message.metadata)
    posted = Counter(job_id for message in messages.values() if not message.metadata for job_id in _job_ids(message))
    jobs_of: defaultdict[str, list[sqlite3.Row]] = defaultdict(list)
    for job in jobs:
        jobs_of[job["reply_id"]].append(job)
    sent = Counter(order.body["prompt"] for order in world.provider.orders)
    ordered = Counter(_prompt_of(world, job) for job in jobs)
    accepted = Counter(job.body["prompt"] for job in world.provider.jobs.values())
    for prompt, count in sent.items():
        again = world.provider.told_to_wait[prompt]  # a 429 is no order and may be repeated
        if max(accepted[prompt], count - again) > ordered[prompt]:
            found.sent_twice.append(f"{prompt!r}: {count} orders, {accepted[prompt]} accepted, {ordered[prompt]} jobs")
    for interaction in world.discord.interactions:
        if interaction.command_path not in ("imagine", "edit"):
            continue
        found.commands += 1
        prompt = next(option["value"] for option in interaction.data["options"] if option["name"] == "prompt")
        if made_by[str(interaction.id)] > 1:
            found.shown_twice.append(f"{prompt!r}: {made_by[str(interaction.id)]} messages")
        reply = replies.get(interaction.id)
        if reply is None:
            _audit_unwritten(found, interaction, prompt, sent)
        else:
            own_jobs = jobs_of[reply["id"]]
            _audit_written(found, world, interaction, reply, own_jobs, messages)
            again = max(posted[job["id"]] for job in own_jobs)
            if again > 1 or (again and interaction.reply is not None and not reply["private"]):
                found.shown_twice.append(f"{prompt!r}: posted {again} times beside its card")
    found.stuck = [
        f"job {row[0]} is held" for row in world.query("SELECT job_id FROM reservations WHERE state = 'open'")
    ]
    found.jobs, found.orders = len(jobs), len(world.provider.jobs)
    found.bill_usd_micros = world.provider.bill_usd_micros
    sums = dict(
        map(tuple, world.query("SELECT kind, CAST(sum(amount_usd_micros) AS BIGINT) FROM ledger GROUP BY kind"))
    )
    found.charged_usd_micros, found.operator_cost_usd_micros = sums.get("settle", 0), sums.get("house", 0)
    found.followed_usd_micros = world.query(
        "SELECT coalesce(sum(reserved_usd_micros), 0) FROM jobs WHERE follow_until_at IS NOT NULL"
    )[0][0]
    if found.operator_overestimate_usd_micros + found.followed_usd_micros < 0:
        found.overspent.append(f"{-found.operator_overestimate_usd_micros} micro-dollars billed that no account bears")
    billed = {job.id: job.billed_usd_micros for job in world.provider.jobs.values()}
    for job in jobs:
        if (job["charged_usd_micros"] or 0) > billed.get(job["remote_id"], 0):
            found.overspent.append(f"job {job['id']} was charged {job['charged_usd_micros']}")
    return found


def is_warning(message: Message) -> bool:
    """Return whether this is the warning that little of a member's quota is left."""
    return bool(message.flags & EPHEMERAL) and "of your quota" in message.text


def _prompt_of(world: Audited, job: sqlite3.Row) -> str:
    """Return the prompt of a job; that of an erased job is known only to the provider."""
    remote = world.provider.jobs.get(job["remote_id"] or "")
    return job["prompt"] if remote is None else remote.body["prompt"]


def _job_ids(message: Message) -> set[str]:
    """Return the ids of the jobs whose buttons a message has."""
    custom_ids = [str(part.get("custom_id", "")).split(":") for part in walk(message.components)]
    return {parts[2] for parts in custom_ids if parts[0] == "job"}


def _audit_unwritten(found: Audit, interaction: Interaction, prompt: str, sent: Counter[str]) -> None:
    """Check a command that is not in the database: nothing was bought, and no card is shown."""
    found.outcomes["not taken"] += 1
    if sent[prompt]:
        found.lost.append(f"{prompt!r} was ordered and is not in the books")
    reply = interaction.reply
    # A command that waited for the database shows something first, and is refused in private.
    is_refused = any(message.flags & EPHEMERAL and message.text for message in interaction.follow_ups)
    if reply is not None and reply.text == "Answered privately." and is_refused:
        return
    if reply is not None and not reply.flags & (EPHEMERAL | LOADING):
        found.lost.append(f"{prompt!r} has a card and is not in the books: {reply.text[:80]!r}")


def _audit_written(
    found: Audit,
    world: Audited,
    interaction: Interaction,
    reply: sqlite3.Row,
    jobs: list[sqlite3.Row],
    messages: Mapping[int, Message],
) -> None:
    """Check a command in the database: it has ended, and the member sees how."""
    name = f"{jobs[0]['prompt']!r}"
    statuses = [JobStatus(job["status"]) for job in jobs]
    found.outcomes.update(job["failure_reason"] or job["status"] for job in jobs)
    if not all(status.is_final for status in statuses) or reply["delivery"] == Delivery.PENDING:
        found.lost.append(f"{name} is {statuses}, {reply['delivery']}")
        return
    if reply["delivery"] == Delivery.IMPOSSIBLE:
        # Discord never showed it (and says so itself), so nothing was bought either.
        if {job["failure_reason"] for job in jobs} != {"not_shown"} or (interaction.reply is not None):
            found.lost.append(f"{name} could not be shown: {statuses}, {interaction.text[:80]!r}")
        return
    headline = next(status for status in _WORD_OF if status in statuses)
    images = statuses.count(JobStatus.SUCCEEDED)
    places = {reply["message_id"], interaction.reply.id if interaction.reply else None}
    shown = [messages[place] for place in places if place in messages]
    if not any(_WORD_OF[headline] in message.text and len(message.attachments) == images for message in shown):
        cards = [(message.text[:60], len(message.attachments)) for message in shown]
        found.lost.append(f"{name} is {headline} with {images} pictures, but the member sees {cards}")
    for job in jobs:
        remote = world.provider.jobs.get(job["remote_id"] or "")
        if remote is not None and remote.succeeded and job["status"] != JobStatus.SUCCEEDED:
            found.lost.append(f"{name} was made, but is {job['status']} ({job['failure_reason']})")
