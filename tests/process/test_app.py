"""The bot as a process: `python -m bot` beside a local Discord and a provider, ended by SIGKILL and by SIGTERM.

Every connection is real. Asserts what the member sees, what the provider bills, and that the ledger agrees.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from bot import app
from bot.app import stop_event
from bot.gateway import discord_client
from bot.store.admin.verify import verify_file
from sandbox.contracts import as_openapi
from sandbox.discord import Channel, LocalDiscord, Member
from sandbox.discord.world import Permission
from sandbox.plans import LOST_ANSWER, Ending, Plan, Trouble
from sandbox.provider import SandboxProvider
from tests.support.child_processes import STOP_TIMEOUT_SECONDS
from tests.support.fakes import until
from tests.support.read_only import ReadOnly

PROJECT = Path(__file__).resolve().parents[2]
PRICE = 7_000
FOREVER = Plan(words=(("processing", 0.01),), ending=Ending.NEVER)


@dataclass(kw_only=True)
class Scene:
    """A server with one member, a provider, and the bot that serves both."""

    directory: Path
    discord: LocalDiscord
    provider: SandboxProvider
    studio: Channel
    alice: Member
    bot: asyncio.subprocess.Process | None = None
    lives: int = 0
    http_port: int = 0
    webhook_port: int | None = None
    max_descriptors: int | None = None
    environment: dict[str, str] = field(default_factory=dict[str, str])
    """Settings that differ from the usual ones."""

    @property
    def database(self) -> Path:
        return self.directory / "bot.sqlite3"

    @property
    def log(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.directory.glob("bot.*.log")))

    def settings(self) -> Mapping[str, str]:
        # The coverage of the bot is measured together with that of the tests, in their folder.
        measuring = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
        webhooks = {} if self.webhook_port is None else {"WEBHOOK_PORT": str(self.webhook_port)}
        return (
            measuring
            | webhooks
            | {
                "DISCORD_TOKEN": self.discord.token,
                "DISCORD_API_BASE": self.discord.api_base,
                "DISCORD_CDN_HOSTS": self.discord.cdn_host,
                "KREA_API_KEY": self.provider.krea_key,
                "KREA_API_BASE": self.provider.krea_base,
                "KREA_POLL_SECONDS": "0.1",
                "PIXAZO_API_KEY": self.provider.pixazo_key,
                "PIXAZO_API_BASE": self.provider.pixazo_base,
                "PIXAZO_POLL_SECONDS": "0.1",
                "DATABASE_URL": f"sqlite:///{self.database}",
                "DEFAULT_MODEL": "krea/bfl/flux-1-dev",
                "HTTP_PORT": str(self.http_port),
                "MEDIA_ALLOW_PRIVATE_ADDRESSES": "true",
                "PATH": os.environ.get("PATH", ""),
                "PYTHONPATH": str(PROJECT),
                "PYTHONUNBUFFERED": "1",
            }
            | self.environment
        )

    async def start(self) -> None:
        self.lives += 1
        with (self.directory / f"bot.{self.lives}.log").open("wb") as output:
            self.bot = await asyncio.create_subprocess_exec(
                *self._limits(), sys.executable, "-m", "bot", cwd=self.directory, stdout=output, stderr=output,
                env=self.settings(),
            )  # fmt: skip
        try:
            await self.discord.bot_ready()
        except Exception as error:
            raise AssertionError(self.log) from error

    def _limits(self) -> tuple[str, ...]:
        return () if self.max_descriptors is None else ("prlimit", f"--nofile={self.max_descriptors}")

    async def kill(self) -> None:
        assert self.bot is not None
        self.bot.kill()
        await self.bot.wait()

    def charged_and_open(self) -> tuple[int, int]:
        """Return what members were charged, and how many reservations are open."""
        with closing(sqlite3.connect(self.database)) as connection:
            charged = connection.execute("SELECT coalesce(sum(charged_usd_micros), 0) FROM jobs").fetchone()[0]
            return charged, connection.execute("SELECT count(*) FROM jobs WHERE finished_at IS NULL").fetchone()[0]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with a_scene(tmp_path) as scene:
        await scene.start()
        yield scene


@asynccontextmanager
async def a_scene(directory: Path) -> AsyncIterator[Scene]:
    """Start everything but the bot. At the end the ledger balances and no secret was logged."""
    async with SandboxProvider(seconds_scale=0.05) as provider, LocalDiscord() as discord:
        server = discord.server("Atelier")
        scene = Scene(
            directory=directory,
            discord=discord,
            provider=provider,
            studio=discord.channel(server, "studio"),
            alice=discord.member(server, "Alice"),
        )
        try:
            yield scene
        finally:
            if scene.bot is not None and scene.bot.returncode is None:
                await scene.kill()
        if scene.database.exists():
            assert verify_file(scene.database) == []
        assert provider.violations == []
        assert discord.unknown_routes == []
        for secret in (provider.krea_key, provider.pixazo_key, discord.token):
            assert secret not in scene.log


@pytest.mark.f33
async def test_killed_while_the_provider_works_the_picture_still_arrives_and_is_paid_once(scene: Scene):
    scene.provider.next_order(FOREVER)
    interaction = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
    await interaction.wait_for("Processing")
    await scene.kill()
    scene.provider.complete_all()
    await scene.start()
    message = await interaction.wait_for("Completed")
    assert len(message.attachments) == 1
    assert list(scene.studio.messages.values()) == [message]
    assert len(scene.provider.orders) == 1
    assert scene.provider.bill_usd_micros == PRICE
    assert scene.charged_and_open() == (PRICE, 0)


@pytest.mark.f23
@pytest.mark.f33
async def test_killed_right_after_the_order_left_it_is_found_again_and_not_sent_twice(scene: Scene):
    scene.provider.next_order(Plan(trouble=LOST_ANSWER, seconds_factor=3))
    interaction = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
    await until(lambda: scene.provider.jobs)
    await scene.kill()
    await scene.start()
    await interaction.wait_for("Completed")
    assert len(scene.provider.orders) == 1
    assert scene.charged_and_open() == (PRICE, 0)


@pytest.mark.f34
async def test_a_polite_stop_is_quick_and_work_goes_on_at_the_next_start(scene: Scene):
    scene.provider.next_order(FOREVER)
    interaction = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
    await interaction.wait_for("Processing")
    assert scene.bot is not None
    scene.bot.send_signal(signal.SIGTERM)
    async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
        assert await scene.bot.wait() == 0
    longest_seconds = app.SETTLE_SECONDS + app.REFUSE_SECONDS + discord_client.TASKS_END_TIMEOUT_SECONDS
    assert longest_seconds < 10, "what it waits for at most"
    assert scene.charged_and_open() == (0, 1), "stopping releases nothing"
    scene.provider.complete_all()
    await scene.start()
    await interaction.wait_for("Completed")
    assert scene.charged_and_open() == (PRICE, 0)


async def test_a_report_that_is_being_drawn_at_a_polite_stop_comes_without_its_chart(scene: Scene):
    order = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
    await order.wait_for("Completed")
    server = scene.alice.server
    moderators = scene.discord.role(server, "moderators", permissions=Permission.MANAGE_SERVER)
    mo = scene.discord.member(server, "Mo", roles=[moderators])
    report = await scene.discord.slash(mo, scene.studio, "quota report")
    await until(lambda: report.answer)
    assert scene.bot is not None
    scene.bot.send_signal(signal.SIGTERM)
    message = await report.wait_for("$0.007")
    assert [file.upload.filename for file in message.attachments] == ["spending.csv", "spending-by-day.csv"]
    assert await scene.bot.wait() == 0
    assert "Traceback" not in scene.log


@pytest.mark.f40
async def test_a_second_copy_on_the_same_data_refuses_to_start_and_the_first_goes_on(scene: Scene):
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", cwd=scene.directory, stderr=asyncio.subprocess.PIPE,
        env=scene.settings(),
    )  # fmt: skip
    _, words = await asyncio.wait_for(second.communicate(), 120)
    assert second.returncode == 1
    assert words.decode().strip().endswith("Stop it first.")
    assert len(words.decode().strip().splitlines()) == 1
    interaction = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
    await interaction.wait_for("Completed")


async def test_a_token_that_discord_does_not_take_ends_the_start_with_one_line(tmp_path: Path):
    async with a_scene(tmp_path) as scene:
        bot = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bot", cwd=tmp_path, stderr=asyncio.subprocess.PIPE,
            env={**scene.settings(), "DISCORD_TOKEN": "not.the.token"},
        )  # fmt: skip
        _, words = await asyncio.wait_for(bot.communicate(), 120)
        assert bot.returncode == 2
        assert words.decode().strip().splitlines()[-1].startswith("DISCORD_TOKEN is not accepted")
        assert b"not.the.token" not in words


@pytest.mark.hostile("G-26")
async def test_a_token_that_was_reset_while_the_bot_runs_ends_it_with_the_same_line_and_loses_no_order(scene: Scene):
    scene.provider.next_order(FOREVER)
    interaction = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
    await interaction.wait_for("Processing")
    await scene.discord.gateway.disconnect(code=4004)
    assert scene.bot is not None
    assert await asyncio.wait_for(scene.bot.wait(), 60) == 2
    lines = scene.log.strip().splitlines()
    assert lines[-1].startswith("DISCORD_TOKEN is not accepted")
    assert "Traceback" not in scene.log
    scene.provider.complete_all()
    await scene.start()  # with the new token
    await interaction.wait_for("Completed")
    assert scene.charged_and_open() == (PRICE, 0)


# -- a read-only container ------------------------------------------------------------------------------------------


def a_newer_program(folder: Path, *, flux_usd_micros: int) -> Path:
    """Copy the program with another price in the catalogue that it ships."""
    for package in ("bot", "cogs"):
        shutil.copytree(PROJECT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    file = folder / "bot" / "catalogue" / "catalogue.json"
    shipped = json.loads(file.read_text(encoding="utf-8"))
    (flux,) = [model for model in shipped["models"] if model["id"] == FLUX]
    flux["price"] = {"complete": True, "points": [{"when": {}, "usd_micros": flux_usd_micros}]}
    file.write_text(json.dumps(shipped), encoding="utf-8")
    return folder


async def test_with_everything_read_only_but_the_data_folder_a_price_is_held_accepted_ordered_and_kept(tmp_path: Path):
    async with a_scene(tmp_path) as scene:
        data = tmp_path / "data"
        outside = ReadOnly(tmp_path / "start", data)
        scene.environment = {**outside.environment(PROJECT), "DATABASE_URL": f"sqlite:///{data}/bot.sqlite3"}
        document = as_openapi()
        flux = document["paths"]["/generate/image/bfl/flux-1-dev"]["post"]
        flux["x-krea-pricing"]["price_points"] = [{"amount": 0.02, "dimensions": {}}]
        scene.provider.next_answers("openapi", *[Trouble(status=200, body=document)] * 100)
        await scene.start()
        await until(lambda: "$0.02 is more than twice what it was" in scene.log)
        held = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a fox", model=FLUX)
        await held.wait_for("takes no orders for now")
        assert "held, no orders until you decide" in await said_by(scene, "catalogue", "--refresh")
        before = scene.log.count("models that can be ordered")
        assert f"accepted, change 1: ~ {FLUX}: price $0.007 → $0.02" in await said_by(
            scene, "catalogue", "--accept", FLUX
        )
        await until(lambda: scene.log.count("models that can be ordered") > before)
        await cost_is(scene, "$0.02")
        await scene.kill()
        await scene.start()
        await cost_is(scene, "$0.02")
        await scene.kill()
        scene.environment |= outside.environment(a_newer_program(tmp_path / "newer", flux_usd_micros=9_000))
        await scene.start()
        await cost_is(scene, "$0.02")
        overridden = f"{FLUX}: price stays as accepted (change 1); the program ships"
        assert overridden in scene.log
        assert overridden in await said_by(scene, "catalogue")
        assert outside.refused == []
        assert verify_file(data / "bot.sqlite3") == []


async def test_a_write_outside_the_data_folder_would_be_seen(tmp_path: Path):
    outside = ReadOnly(tmp_path / "start", tmp_path / "data")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "open('x', 'w')", cwd=tmp_path, stderr=asyncio.subprocess.DEVNULL,
        env=outside.environment(PROJECT),
    )  # fmt: skip
    assert await process.wait() == 1
    assert outside.refused == ["open x"]


FLUX = "krea/bfl/flux-1-dev"


async def said_by(scene: Scene, *arguments: str) -> str:
    """Run another command beside the bot and return what it says."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bot", *arguments, cwd=scene.directory, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, env=scene.settings(),
    )  # fmt: skip
    words, _ = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, words
    return words.decode()


async def cost_is(scene: Scene, amount: str) -> None:
    """Order an image of Flux and see what it costs."""
    ordered = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a fox", model=FLUX)
    await ordered.wait_for(f"cost **{amount}**")


# -- the HTTP port --------------------------------------------------------------------------------------------

IDLE_SOCKETS = 620


@pytest.mark.hostile("G-06")
async def test_idle_sockets_and_slow_headers_do_not_keep_members_from_their_images(tmp_path: Path):
    async with a_scene(tmp_path) as scene:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            scene.http_port = probe.getsockname()[1]
        scene.max_descriptors = 160
        await scene.start()
        flood: list[asyncio.StreamWriter] = []
        try:
            for number in range(IDLE_SOCKETS):
                # The system queues what the bot has not accepted yet, so a flood waits for its turn as well.
                _, writer = await asyncio.open_connection("127.0.0.1", scene.http_port)
                writer.write(b"GET /healthz HTTP/1.1\r\nX-Slow: " if number % 2 else b"")
                flood.append(writer)
            interaction = await scene.discord.slash(scene.alice, scene.studio, "imagine", prompt="a red fox")
            await interaction.wait_for("Completed")
            address = f"http://127.0.0.1:{scene.http_port}/healthz"
            async with aiohttp.ClientSession() as session, session.get(address) as response:
                assert response.status == 200
        finally:
            for writer in flood:
                writer.close()
        assert "HTTP_PORT has 20 connections, its limit" in scene.log
        assert "Too many open files" not in scene.log


async def test_webhooks_with_a_port_of_their_own_are_served_there_and_nowhere_else(tmp_path: Path):
    async with a_scene(tmp_path) as scene:
        ports: list[int] = []
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.bind(("127.0.0.1", 0))
                ports.append(each.getsockname()[1])
        scene.http_port, scene.webhook_port = ports
        await scene.start()
        statuses = dict[tuple[str, int], int]()
        async with aiohttp.ClientSession() as session:
            for number, port in enumerate(ports):
                for method, path in (("POST", "/hooks/x"), ("GET", "/healthz"), ("GET", "/metrics")):
                    async with session.request(method, f"http://127.0.0.1:{port}{path}") as response:
                        statuses[path, number] = response.status
        assert statuses == {
            ("/hooks/x", 0): 404, ("/healthz", 0): 200, ("/metrics", 0): 200,
            ("/hooks/x", 1): 204, ("/healthz", 1): 404, ("/metrics", 1): 404,
        }  # fmt: skip


async def test_a_stop_signal_is_not_lost_among_many_wake_ups() -> None:
    before = [signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)]
    try:
        stopping = stop_event()
        loop = asyncio.get_running_loop()
        for _ in range(5_000):  # more than the socket holds that wakes the event loop
            loop.call_soon_threadsafe(lambda: None)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await stopping.wait()
    finally:
        for name, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
            signal.signal(name, handler)
