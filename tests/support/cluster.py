"""The harness for several processes on one PostgreSQL: starts and stops gateways and workers, and audits the result."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from bot.domain.deployment.database_url import PostgresAddress
from bot.store.admin.verify import Finding, verify_location
from bot.store.postgres.connection import PostgresConnection
from sandbox import shelf
from sandbox.discord import Channel, Interaction, LocalDiscord, Member
from sandbox.provider import SandboxProvider
from tests.support.core import small_image
from tests.support.crashes import PATIENT, UNFINISHED, audit
from tests.support.fakes import until
from tests.support.pooler import Pooler
from tests.support.postgres_server import the_server

PROJECT = Path(__file__).resolve().parents[2]
KILLED = -signal.SIGKILL
SHARDS = 2


@dataclass(kw_only=True, eq=False)
class Process:
    """One process of the bot."""

    name: str
    log: Path
    inner: asyncio.subprocess.Process
    starts_at: int = 0
    """Where its words begin in the log, which those of the same name before it share."""

    @property
    def is_dead(self) -> bool:
        return self.inner.returncode is not None

    def said(self, words: str) -> bool:
        return words.encode() in self.log.read_bytes()[self.starts_at :]

    def kill(self) -> None:
        """Send SIGKILL."""
        self.inner.kill()

    async def stop(self) -> tuple[int, float]:
        """Send SIGTERM. Return the exit status and the seconds until the end."""
        started_at = time.monotonic()
        self.inner.terminate()
        return await self.dead(), time.monotonic() - started_at

    async def dead(self) -> int:
        async with asyncio.timeout(60):
            return await self.inner.wait()


@dataclass(kw_only=True, eq=False)
class Cluster:
    """One database, a local Discord with one server for each of two shards, a provider, and any number of processes."""

    discord: LocalDiscord
    provider: SandboxProvider
    address: PostgresAddress
    folder: Path
    members: Sequence[Member]
    moderators: Sequence[Member]
    channels: Sequence[Channel]
    settings: dict[str, str] = field(default_factory=dict[str, str])
    pooler: Pooler | None = None
    """What all processes reach the server through."""
    processes: dict[str, Process] = field(default_factory=dict[str, Process])
    _started: list[Process] = field(default_factory=list[Process])
    _connection: PostgresConnection | None = None

    # -- processes ----------------------------------------------------------------------------------------

    async def start(self, *names: str, **settings: str) -> None:
        """Start processes named `gateway-0`, `gateway-1` or `worker-…`, and wait until all of them serve."""
        started = [await self.spawn(name, **settings) for name in names]
        for process in started:
            await until(lambda process=process: self._serves(process), seconds=120, what=self.last_words)

    async def spawn(self, name: str, **settings: str) -> Process:
        """Start a process without waiting for it."""
        kind, _, number = name.partition("-")
        shards = ["--shards", f"{number}/{SHARDS}"] if kind == "gateway" else []
        log = self.folder / f"{name}.log"
        starts_at = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            inner = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.support.crashing_bot", "--role", kind, *shards,
                cwd=self.folder, env={**self._environment(), **settings}, stdout=output, stderr=output,
            )  # fmt: skip
        process = self.processes[name] = Process(name=name, log=log, inner=inner, starts_at=starts_at)
        self._started.append(process)
        return process

    def _serves(self, process: Process) -> bool:
        assert not process.is_dead, self.last_words()
        if process.name.startswith("worker"):
            return process.said("ready to run")
        return process.said("ready in") and bool(self.discord.commands())

    def _environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TZ") if name in os.environ}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        return kept | {
            "PYTHONPATH": str(PROJECT),
            "PYTHONUNBUFFERED": "1",
            "DISCORD_TOKEN": self.discord.token,
            "DISCORD_API_BASE": self.discord.api_base,
            "DISCORD_CDN_HOSTS": self.discord.cdn_host,
            "KREA_API_KEY": self.provider.krea_key,
            "KREA_API_BASE": self.provider.krea_base,
            "KREA_POLL_SECONDS": "0.2",
            "KREA_MAX_CONCURRENCY": "16",
            "DATABASE_URL": self.address.url,
            "DEFAULT_MODEL": "krea/bfl/flux-1-dev",
            "DEFAULT_QUOTA_USD": "1000",
            "OPERATOR_DAILY_CAP_USD": "100000",
            "OPERATOR_SERVER_CAP_USD": "100000",
            "OPERATOR_COST_PER_MEMBER_USD": "100000",
            "MAX_RUNNING_JOBS_PER_USER": "1000",
            "HTTP_PORT": "0",
            "MEDIA_ALLOW_PRIVATE_ADDRESSES": "true",
            "LOG_LEVEL": "INFO",
            **self.settings,
        }

    async def close(self) -> None:
        for process in self._started:
            if not process.is_dead:
                process.kill()
                await process.dead()
        if self._connection is not None:
            self._connection.close()

    # -- observation -------------------------------------------------------------------------------------

    @property
    def has_books(self) -> bool:
        return True

    def findings(self) -> list[Finding]:
        return verify_location(self.address)

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        """Query the database on a connection of the harness."""
        if self._connection is None:
            self._connection = PostgresConnection.open(self.address)
        return self._connection.execute(sql, parameters).fetchall()

    def forget_connection(self) -> None:
        """Close the harness's connection, before a test stops the server."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def count(self, sql: str, *parameters: Any) -> int:
        return self.query(sql, *parameters)[0][0]

    @property
    def unfinished(self) -> int:
        """The number of commands that have not ended, or whose end was not shown."""
        return self.count(UNFINISHED)

    async def imagine(self, prompt: str, *, server: int = 0, **options: Any) -> Interaction:
        """Send an order and wait for its response."""
        order = await self.send(prompt, server=server, **options)
        await until(lambda: order.answer is not None or order.failed, what=self.last_words)
        return order

    async def send(self, prompt: str, *, server: int = 0, **options: Any) -> Interaction:
        """Send an order without waiting for its response."""
        member, channel = self.members[server], self.channels[server]
        return await self.discord.slash(member, channel, "imagine", prompt=prompt, **options)

    async def settled(self, *, seconds: float = 120) -> float:
        """Wait until every command has ended and its end is shown. Return the seconds."""
        started_at = time.monotonic()
        await until(lambda: not self.unfinished, seconds=seconds, what=self.last_words)
        return time.monotonic() - started_at

    def last_words(self, lines: int = 15) -> str:
        """Return the last lines of every log and the number of jobs by status."""
        by_status = [tuple(row) for row in self.query("SELECT status, count(*) FROM jobs GROUP BY status")]
        lines_of_logs = [f"jobs: {by_status}"]
        for name, process in self.processes.items():
            lines_of_logs += [f"-- {name}", *process.log.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join(lines_of_logs)

    def logged_failures(self) -> list[str]:
        return [
            f"{name}: {line}"
            for name, process in self.processes.items()
            for line in process.log.read_text(errors="replace").splitlines()
            if "Traceback" in line
        ]

    def audit(self) -> None:
        """Assert that every command has ended, was sent, charged and shown once, and that the ledger balances."""
        found = audit(self)
        assert found.problems == [], "\n".join([*found.problems, self.last_words()])


@asynccontextmanager
async def a_cluster(
    folder: Path,
    *processes: str,
    seconds_scale: float = 0.02,
    concurrency: int = 8,
    is_pooled: bool = False,
    **settings: str,
) -> AsyncGenerator[Cluster]:
    """Start a cluster of these processes. Kill those that still run at the end."""
    address = the_server().fresh()
    try:
        async with AsyncExitStack() as stack:
            # Large images take more time to draw than everything else together.
            stack.enter_context(patch.object(shelf, "_drawn", small_image))
            provider = await stack.enter_async_context(
                SandboxProvider(seconds_scale=seconds_scale, concurrency=concurrency)
            )
            discord = await stack.enter_async_context(LocalDiscord(limits=PATIENT))
            servers = [discord.server("Atelier")]
            while len(servers) < SHARDS:
                another = discord.server("Bureau")
                if another.id >> 22 & 1 != servers[0].id >> 22 & 1:
                    servers.append(another)
            servers.sort(key=lambda server: server.id >> 22 & 1)
            here = Cluster(
                discord=discord,
                provider=provider,
                address=address,
                folder=folder,
                members=[discord.member(server, "Ada") for server in servers],
                moderators=[discord.join(server, server.members[server.owner_id].user) for server in servers],
                channels=[discord.channel(server, "studio") for server in servers],
                settings=settings,
            )
            if is_pooled:
                here.pooler = Pooler(the_server(), "session")
                stack.callback(here.pooler.close)
                here.settings["DATABASE_URL"] = here.pooler.address(address).url
            stack.push_async_callback(here.close)
            await here.start(*processes)
            yield here
    finally:
        the_server().drop(address)
