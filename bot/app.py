"""The composition root: opens everything in order, closes it in reverse. The only file of bot/ that knows Discord."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import json
import logging
import signal
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp
import discord
import stamina
import yarl
from discord import app_commands
from discord.ext import commands
from discord.gateway import DiscordWebSocket, KeepAliveHandler
from discord.http import Route

from bot.catalogue import OVERRIDE_FILE, Catalogue
from bot.chart_maker import ChartMaker
from bot.errors import SettingsError, UnknownModel
from bot.fetch import Fetcher
from bot.http import HttpServer
from bot.images import ImageWorkshop
from bot.log import bind_job
from bot.metrics import Metrics
from bot.pictures import PictureStore
from bot.providers.base import Provider
from bot.providers.http import open_session
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.providers.watcher import Watcher
from bot.quota import Limits, Quota, QuotaSource
from bot.service import JobService
from bot.settings import Settings
from bot.store.store import Store
from bot.style_reader import StyleReader
from bot.supervisor import Supervisor
from cogs import audience, buttons, failures, history, jobs, privacy, quota, report, upscale
from cogs.desk import Desk
from cogs.edit import Edit
from cogs.help import Help
from cogs.history import History
from cogs.imagine import Imagine
from cogs.jobs import Jobs
from cogs.messages import NOBODY, Messages
from cogs.operator import OperatorLine
from cogs.privacy import Privacy
from cogs.quota import QuotaCommands
from cogs.reply import Replies
from cogs.report import Reports
from cogs.server_log import ServerLog
from cogs.settings import SettingsCommands
from cogs.translator import CommandTranslator
from cogs.upscale import Upscales
from cogs.usage import Usage
from cogs.warnings import Warnings

_log = logging.getLogger(__name__)

OFFICIAL_API_BASE = "https://discord.com/api/v10"
SWEEP_SECONDS = 3600.0
HEARTBEAT_LATE_SECONDS = 12.0
"""So long after its time an unanswered heartbeat counts as none: with Discord's 41 seconds that is within a minute."""

SETTLE_SECONDS = 5.0
"""So long a polite stop waits for orders that are half sent; everything else goes on at the next start."""

LET_GO_SECONDS = 2.0
"""So long background tasks have to end once they were told to."""


class Tree(app_commands.CommandTree["Bot"]):
    """The command tree; it answers in the language of whoever asks, and failures become sentences."""

    async def interaction_check(self, interaction: discord.Interaction[Any], /) -> bool:
        """Before every command, menu and autocomplete."""
        audience.address(interaction)
        self.client.desk.remember_to_answer()
        return True

    async def on_error(self, interaction: discord.Interaction[Any], error: app_commands.AppCommandError, /) -> None:
        """Whatever escapes a command ends here."""
        if interaction.type is discord.InteractionType.autocomplete:
            _log.warning("autocomplete failed", exc_info=error)
            return
        await failures.report(interaction, error)


class Bot(commands.Bot):
    """The Discord client. It caches next to nothing: commands bring all they need with them."""

    def __init__(
        self,
        *,
        settings: Settings,
        store: Store,
        service: JobService,
        charts: ChartMaker,
        supervisor: Supervisor,
    ) -> None:
        super().__init__(
            command_prefix=commands.when_mentioned,
            help_command=None,
            tree_cls=Tree,
            intents=discord.Intents(guilds=True),
            allowed_mentions=NOBODY,
            max_messages=None,
            member_cache_flags=discord.MemberCacheFlags.none(),
            chunk_guilds_at_startup=False,
            http_trace=service.metrics.trace("discord"),
        )
        self._settings = settings
        self._store = store
        self._supervisor = supervisor
        self.service = service
        messages = Messages(self)
        self.operator = OperatorLine(messages=messages, supervisor=supervisor)
        self.server_log = ServerLog(client=self, service=service, messages=messages, supervisor=supervisor)
        self.desk = Desk(
            service=service,
            messages=messages,
            warnings=Warnings(
                service=service, server_log=self.server_log, operator=self.operator, supervisor=supervisor
            ),
            cdn_hosts=settings.discord_cdn_hosts,
            default_model=settings.default_model,
        )
        self.charts = charts
        self._reports = Reports(service=service, charts=charts)
        replies = Replies(
            service=service,
            messages=messages,
            supervisor=supervisor,
            operator=self.operator,
            server_log=self.server_log,
            upscales=Upscales(client=self, service=service),
        )
        service.observe(replies)

    async def setup_hook(self) -> None:
        """Logged in, not yet connected: commands, buttons and old jobs are in place before anybody asks."""
        if self._settings.discord_api_base != OFFICIAL_API_BASE:
            gateway: dict[str, Any] = await self.http.request(Route("GET", "/gateway/bot"))
            DiscordWebSocket.DEFAULT_GATEWAY = yarl.URL(gateway["url"])
        if self.application is not None:
            self.operator.set_owner(self.application)
        await self._add_commands()
        await self.tree.set_translator(CommandTranslator())
        await self.service.resume()
        if self._settings.sync_commands:
            try:
                await self._sync_commands()
            except (discord.HTTPException, app_commands.AppCommandError) as error:
                # Members still have the commands registered last time, and jobs are on their way.
                _log.exception("commands could not be registered")
                self.operator.tell("commands", f"Slash commands could not be registered: {error}")

    async def _add_commands(self) -> None:
        edit = Edit(self.desk)
        cogs = (Imagine(self.desk), edit, Usage(self.desk), History(self.desk), Privacy(self.desk))
        moderators = (
            QuotaCommands(self.desk, self._reports),
            SettingsCommands(self.desk, self.server_log),
            Jobs(self.desk),
        )
        for cog in (*cogs, *moderators, Help(self.desk, self.tree)):
            await self.add_cog(cog)
        edit.install(self.tree)
        for module in (buttons, quota, history, jobs, privacy, upscale):
            module.install(self, self.desk)
        report.install(self, self._reports)

    async def _sync_commands(self) -> None:
        """Register commands only when they or their translations changed: Discord allows 200 registrations a day."""
        translator = CommandTranslator()
        payload = [await command.get_translated_payload(self.tree, translator) for command in self.tree.get_commands()]
        digest = hashlib.sha256(json.dumps(payload, sort_keys=True).encode()).hexdigest()
        key = f"commands of {self.application_id}"
        registered = {command.name for command in await self.tree.fetch_commands()}
        if await self._store.recall(key) == digest and registered == {command["name"] for command in payload}:
            _log.info("commands are registered already")
            return
        await self.tree.sync()
        await self._store.remember(key, digest)
        _log.info("commands registered")

    async def close(self) -> None:
        """End what speaks to Discord before the connection goes, or it would fail loudly instead."""
        await self._supervisor.close(timeout_seconds=LET_GO_SECONDS)
        await super().close()

    def problem(self) -> str | None:
        """None while the gateway delivers: ready, connected, and heartbeats are answered.

        The client's own latency is that of the last answer, however long ago it came, and a client that cannot connect
        again calls itself ready.
        """
        if self.is_closed() or not self.is_ready() or not self.ws.open:
            return "not connected"
        heart: KeepAliveHandler | None = self.ws._keep_alive  # pyright: ignore[reportPrivateUsage]
        if heart is None or heart.interval is None:
            return "not connected"
        silent_seconds = time.perf_counter() - heart._last_ack  # pyright: ignore[reportPrivateUsage]
        return "heartbeats are not answered" if silent_seconds > heart.interval + HEARTBEAT_LATE_SECONDS else None

    async def on_ready(self) -> None:
        """A line for the operator."""
        _log.info("ready in %d servers", len(self.guilds))


def providers_of(settings: Settings, session: aiohttp.ClientSession) -> list[tuple[Provider, float, int]]:
    """The providers we have a key for, with their poll interval in seconds and their number of places."""
    found: list[tuple[Provider, float, int]] = []
    if settings.krea_api_key is not None:
        krea = KreaProvider(session, base_url=settings.krea_api_base, api_key=settings.krea_api_key.get_secret_value())
        found.append((krea, settings.krea_poll_seconds, settings.krea_max_concurrency))
    if settings.pixazo_api_key is not None:
        pixazo = PixazoProvider(
            session, base_url=settings.pixazo_api_base, api_key=settings.pixazo_api_key.get_secret_value()
        )
        found.append((pixazo, settings.pixazo_poll_seconds, settings.pixazo_max_concurrency))
    return found


def _provider_names(settings: Settings) -> Callable[[str], str]:
    """Which provider a host belongs to, for the metrics."""
    names = {
        yarl.URL(settings.krea_api_base).authority: "krea",
        yarl.URL(settings.pixazo_api_base).authority: "pixazo",
    }
    return lambda authority: names.get(authority, "other")


def load_catalogue(settings: Settings) -> Catalogue:
    """The catalogue with the operator's own prices, if there is such a file beside the database."""
    overrides = settings.data_folder / OVERRIDE_FILE
    catalogue = Catalogue.load(overrides if overrides.exists() else None)
    try:
        catalogue.get(settings.default_model)
    except UnknownModel as error:
        raise SettingsError(
            "DEFAULT_MODEL must be the id of a model in the catalogue (see: python -m bot catalogue)"
        ) from error
    return catalogue


def limits_of(settings: Settings) -> Limits:
    """What binds where a server's moderators set nothing, and what always binds."""
    return Limits(
        default_quota=Quota(
            amount_usd_micros=settings.default_quota_usd,
            period=settings.default_quota_period,
            source=QuotaSource.SETTINGS,
        ),
        operator_daily_cap_usd_micros=settings.operator_daily_cap_usd,
        max_running_jobs=settings.max_running_jobs_per_user,
    )


def aim_at(api_base: str) -> None:
    """Point discord.py at this REST base. One assignment covers interactions and webhooks too."""
    Route.BASE = api_base
    # This bot never speaks; no need to be warned at every start that it could not.
    discord.VoiceClient.warn_nacl = False
    discord.VoiceClient.warn_dave = False


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Bot]:
    """The whole application, ready to log in; closed in reverse order."""
    aim_at(settings.discord_api_base)
    catalogue = load_catalogue(settings)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        store = await stack.enter_async_context(await Store.open(settings.database_url))
        await store.be_alone()
        pictures = PictureStore(settings.data_folder / "pictures")
        stack.push_async_callback(pictures.close)
        workshop = ImageWorkshop()
        stack.push_async_callback(workshop.close)
        charts = ChartMaker()
        stack.push_async_callback(charts.close)
        fetcher = await stack.enter_async_context(
            Fetcher(allow_private_addresses=settings.media_allow_private_addresses)
        )
        # Lanes and watchers bound what is under way; waiting for a connection would only use up an order's time.
        session = await stack.enter_async_context(
            open_session(max_connections=0, traces=[metrics.trace(_provider_names(settings))])
        )
        supervisor = await stack.enter_async_context(Supervisor())
        service = JobService(
            store=store,
            catalogue=catalogue,
            pictures=pictures,
            fetcher=fetcher,
            workshop=workshop,
            supervisor=supervisor,
            limits=limits_of(settings),
            public_url=settings.public_url,
            job_log=bind_job,
            metrics=metrics,
        )
        for provider, poll_seconds, places in providers_of(settings, session):
            on_denied = partial(service.provider_denied, provider.name)
            watcher = Watcher(provider, poll_seconds=poll_seconds, on_denied=on_denied)
            service.add_provider(provider, watcher, max_concurrency=places)
            if isinstance(provider, KreaProvider):
                reader = StyleReader(service.styles, provider, store, is_open=partial(service.is_open, provider.name))
                supervisor.start_forever("styles", reader.run)
        bot = Bot(settings=settings, store=store, service=service, charts=charts, supervisor=supervisor)
        await stack.enter_async_context(_http_server(settings, bot, store, supervisor))
        supervisor.start_forever("places in line", service.keep_places_true)
        supervisor.start_forever("hourly sweep", lambda: _sweep(store, pictures))
        yield bot


def _http_server(settings: Settings, bot: Bot, store: Store, supervisor: Supervisor) -> HttpServer:
    """What machines are told: whether all is well, and the numbers."""
    service = bot.service
    metrics = service.metrics
    metrics.watch("line_length", "Jobs that wait for a place", "provider", service.line_lengths)
    metrics.watch("places_taken", "Jobs at a provider", "provider", service.places_taken)
    metrics.watch("provider_closed", "1 while a provider takes no new jobs", "provider", service.closed)
    return HttpServer(
        host=settings.http_host,
        port=settings.http_port,
        checks={
            "discord": bot.problem,
            "database": store.problem,
            "workers": lambda: ", ".join(supervisor.down()) or None,
        },
        on_hook=service.hook,
        registry=metrics.registry,
    )


async def _sweep(store: Store, pictures: PictureStore) -> None:
    """Forget what has reached its age and drop pictures nobody needs any more: at the start, then once an hour."""
    while True:
        forgotten = await store.forget_old(now=datetime.now(UTC))
        dropped = await pictures.sweep(await store.sha256_in_use())
        if forgotten or dropped:
            _log.info("forgot %d old prompts, dropped %d pictures that are no longer needed", forgotten, dropped)
        await asyncio.sleep(SWEEP_SECONDS)


async def run(settings: Settings) -> None:
    """Run until SIGTERM, Ctrl-C or a failure that no retry can mend. Raises BotError, discord.LoginFailure."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    assert settings.discord_token is not None, "load_settings() made sure"
    async with opened(settings) as bot:
        # What is there now stays for good: the collector need not look through it again and again.
        gc.collect()
        gc.freeze()
        client = asyncio.create_task(_connect(bot, settings.discord_token.get_secret_value()), name="discord")
        stop = asyncio.create_task(stopping.wait(), name="stop signal")
        try:
            await asyncio.wait({client, stop}, return_when=asyncio.FIRST_COMPLETED)
            if client.done():
                client.result()
        finally:
            stop.cancel()
            await _close(bot, client)


async def _connect(bot: Bot, token: str) -> None:
    """Log in, however long that takes, and stay connected. Raises discord.LoginFailure when the token is refused."""
    async for attempt in stamina.retry_context(
        on=(aiohttp.ClientError, OSError, discord.DiscordServerError),
        attempts=None,
        timeout=None,
        wait_initial=1,
        wait_max=60,
    ):
        with attempt:
            try:
                await bot.login(token)
            except BaseException:
                # The next attempt opens a session and a connector of its own.
                await bot.http.close()
                bot.http.connector = discord.utils.MISSING
                raise
    await bot.connect()


async def _close(bot: Bot, client: asyncio.Task[None]) -> None:
    """No new commands, nobody without an answer, no half-sent orders, then goodbye."""
    _log.info("stopping")
    bot.desk.close()
    bot.service.stop()
    await bot.charts.close()  # better a report without its picture than none
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await bot.desk.answered()
            await bot.service.settle_submissions()
    await bot.close()
    client.cancel()
    await asyncio.wait({client})
    _log.info("stopped; unfinished jobs go on at the next start")
