"""The composition root: opens everything in order, closes it in reverse, and runs the bot until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import aiohttp
import discord
import stamina
import yarl

from bot.catalogue.catalogue import OVERRIDE_FILE, Catalogue
from bot.catalogue.provider_description.openapi import fetch_openapi
from bot.charts.renderer import ChartRenderer
from bot.dispatch.coordinator import ClusterCoordinator, Coordinator, LocalCoordinator
from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.deployment.fleet import ProcessInfo
from bot.domain.deployment.process_role import Role, Shards
from bot.domain.errors import MediaError, SettingsError, StoreError
from bot.gateway.discord_client import Bot, BotParts, aim_at
from bot.gateway.shard_handover import ShardHandover
from bot.gateway.sharded_bot import ShardedBot
from bot.media.blob_store import BlobStore, FileBlobStore
from bot.media.downloader import Downloader
from bot.media.image_pool import ImagePool
from bot.providers.api_client import open_session
from bot.providers.base import Provider
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.runtime.metrics import Metrics
from bot.runtime.sealing import Sealer
from bot.runtime.supervisor import Supervisor
from bot.runtime.trusted_clock import PROVIDERS, TrustedClock, utc_now
from bot.service.composition import ServiceParts
from bot.service.context import ServiceContext
from bot.service.maintenance.bill_reconciliation import BillReconciliation
from bot.service.maintenance.catalogue_keeper import CatalogueKeeper
from bot.service.maintenance.fleet_watch import FleetWatch
from bot.service.maintenance.retention import Retention
from bot.service.maintenance.style_reader import StyleReader
from bot.service.notifications import NotificationHandler
from bot.settings import ProviderSettings, Settings
from bot.startup.default_model import require_default_model, why_not_default
from bot.startup.fleet_check import describe_process
from bot.startup.http_servers import http_servers
from bot.store.admin.readonly import exists, recorded_catalogue
from bot.store.core.erasure_list import ErasureList
from bot.store.sqlite.moved_mark import refuse_half_move
from bot.store.store import Store

if TYPE_CHECKING:
    from bot.store.postgres.reply_queue import ReplyQueue  # takes time to import, and only a worker needs it

_log = logging.getLogger(__name__)

ERASURES_FILE = "erasures.jsonl"
"""In the data folder: what a restored backup has to erase again."""

ORPHAN_SCAN_SECONDS = 5.0
"""Interval at which a worker searches for replies that no process runs."""

AUTHENTICATION_FAILED = 4004
"""Close code of the gateway (Discord: opcodes and status codes): the token is not accepted any more."""

SETTLE_SECONDS = 5.0
"""How long a stop waits for orders that are half sent; everything else continues at the next start."""

REFUSE_SECONDS = 1.0
"""How long a stop takes to tell those whose command is not answered by then."""


_PROVIDER_CLASSES = {provider.name: provider for provider in (KreaProvider, PixazoProvider)}
"""A further provider is one more class here."""


def providers_of(
    settings: Settings, session: aiohttp.ClientSession, *, clock: Callable[[], datetime] = utc_now
) -> list[tuple[Provider, ProviderSettings]]:
    """Return the providers that we have a key for, each with what is set for it."""
    return [
        (
            _PROVIDER_CLASSES[each.name](
                session, base_url=each.api_base, api_key=each.api_key.get_secret_value(), clock=clock
            ),
            each,
        )
        for each in settings.providers
        if each.api_key is not None
    ]


def _provider_names(settings: Settings) -> Callable[[str], str]:
    """Return a function that names the provider of a host, for the metrics."""
    names = {yarl.URL(each.api_base).authority: each.name for each in settings.providers}
    return lambda authority: names.get(authority, "other")


def overrides_of(settings: Settings) -> Path:
    """Return where the operator's own prices, hidden models and changes are, if there are any."""
    return settings.data_folder / OVERRIDE_FILE


def load_catalogue(settings: Settings) -> Catalogue:
    """Return the catalogue that a bot with these settings has, without opening it. Raises SettingsError, StoreError."""
    changes, notices = recorded_catalogue(settings.database_url)
    return Catalogue.load(overrides_of(settings), changes=changes, notices=notices)


@asynccontextmanager
async def opened(settings: Settings, *, role: Role = Role.ALL, shards: Shards | None = None) -> AsyncGenerator[Bot]:
    """Open the whole application, ready to log in; close it in reverse order."""
    aim_at(settings.discord_api_base)
    catalogue = Catalogue.load(overrides_of(settings))
    if isinstance(settings.database_url, Path):
        with contextlib.suppress(StoreError):  # opening the database says better what is wrong with it
            require_default_model(settings, load_catalogue(settings))
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        clock = TrustedClock()
        metrics.watch("clock_ahead_seconds", "How far this machine's clock is ahead", "source", clock.skew_seconds)
        store = await stack.enter_async_context(await _opened_store(settings))
        await (store.lock_exclusively() if role is Role.ALL else store.lock_shared())
        blob_store = await stack.enter_async_context(_blob_store(settings))
        image_pool = ImagePool()
        stack.push_async_callback(image_pool.close)
        charts = ChartRenderer()
        stack.push_async_callback(charts.close)
        # Two, because large bodies share the memory limit of one: attachments need not wait for results.
        result_downloader, attachment_downloader = [
            await stack.enter_async_context(Downloader(allow_private_addresses=settings.media_allow_private_addresses))
            for _ in range(2)
        ]
        # Slots and pollers limit what is under way; waiting for a connection would only use up an order's time.
        trace = metrics.trace(_provider_names(settings))
        clock.attach(trace, PROVIDERS)
        session = await stack.enter_async_context(open_session(max_connections=0, traces=[trace]))
        supervisor = await stack.enter_async_context(Supervisor())
        assert settings.discord_token is not None, "load_settings() made sure"
        sealer = Sealer(settings.discord_token.get_secret_value())
        await store.seal_tokens(sealer=sealer)
        supervisor.start("old webhook paths", store.hash_old_paths(sealer))
        supervisor.start("confinement", _log_confinement(image_pool))

        context = ServiceContext(
            store=store,
            blob_store=blob_store,
            image_pool=image_pool,
            coordinator=_coordinator(store, role, supervisor, clock),
            supervisor=supervisor,
            sealer=sealer,
            metrics=metrics,
            clock=clock.now,
        )
        parts = ServiceParts.build(
            context,
            catalogue=catalogue,
            limits=settings.limits,
            result_downloader=result_downloader,
            attachment_downloader=attachment_downloader,
            public_url=settings.public_url,
            overrides=overrides_of(settings),
            default_model=settings.default_model,
        )
        service = parts.service
        keeper = parts.catalogue_keeper
        bot_parts = BotParts(
            settings=settings,
            store=store,
            service=service,
            charts=charts,
            supervisor=supervisor,
            catalogue_keeper=keeper,
            clock=clock,
        )
        bot = ShardedBot(bot_parts, shards=shards) if role is Role.GATEWAY else Bot(bot_parts)
        context.presenter.set(bot.replies)  # before anything starts that shows something

        for provider, chosen in providers_of(settings, session, clock=clock.now):
            dispatcher = parts.add_provider(
                provider, poll_seconds=chosen.poll_seconds, max_concurrency=chosen.max_concurrency
            )
            if provider.has_styles and role is not Role.WORKER:
                reader = StyleReader(service.styles, provider, store, breaker=dispatcher.breaker)
                supervisor.start_forever("styles", reader.run)
            if provider.lists_costs and role is not Role.GATEWAY:
                supervisor.start_forever("bill reconciliation", BillReconciliation(context, provider).run)

        await _load_catalogue(settings, keeper, catalogue)

        if role is Role.WORKER:
            bot.queue = await stack.enter_async_context(_reply_queue(settings, parts, store, blob_store))
        fleet_watch = None
        if role is not Role.ALL:
            own = describe_process(settings, role=role, shards=shards, overrides=overrides_of(settings))
            if isinstance(bot, ShardedBot):
                bot.handover = ShardHandover(bot, cluster=store.cluster, supervisor=supervisor, process_id=own.id)
                supervisor.start_forever("shards", bot.handover.run)
            _listen(store, parts, bot)
            fleet_watch = _fleet_watch(parts, own)
            stack.push_async_callback(fleet_watch.leave)
            supervisor.start_forever("fleet", fleet_watch.run)
        for server in http_servers(settings, bot, store, supervisor, parts.webhooks, fleet_watch):
            await stack.enter_async_context(server)
        supervisor.start_forever("catalogue", keeper.follow)
        if role is not Role.GATEWAY:
            _start_reading(settings, keeper, supervisor, session)
            supervisor.start_forever("models that are gone", parts.model_watch.run_probes)
            supervisor.start_forever("queue positions", parts.queue_positions.run)
            supervisor.start_forever("hourly sweep", Retention(store=store, blob_store=blob_store, clock=clock).run)
        if role is Role.ALL:
            supervisor.start_forever("replies in limbo", parts.reply_runner.watch_for_limbo)
        if role is Role.WORKER:
            supervisor.start_forever("orphaned replies", lambda: _enqueue_orphaned(store, clock))
        yield bot


async def _load_catalogue(settings: Settings, keeper: CatalogueKeeper, catalogue: Catalogue) -> None:
    """Take over what was accepted before. Raises SettingsError, StoreError."""
    await keeper.load()
    require_default_model(settings, catalogue)
    default = catalogue.find(settings.default_model)
    if (default is None or why_not_default(settings, default)) and (instead := keeper.instead_of_default()):
        _log.warning("the default model %s cannot be ordered now; %s takes its place", default, instead.id)


def _start_reading(
    settings: Settings, keeper: CatalogueKeeper, supervisor: Supervisor, session: aiohttp.ClientSession
) -> None:
    """Read the provider's description from time to time, and tell the operator what it changes."""
    supervisor.start_forever("catalogue questions", keeper.tell_forever)
    if settings.catalogue_refresh_hours and settings.krea_api_key is not None:
        every = timedelta(hours=settings.catalogue_refresh_hours)
        supervisor.start_forever(
            "catalogue refresh",
            lambda: keeper.read_forever(lambda: fetch_openapi(session, settings.krea_api_base), every=every),
        )


async def _opened_store(settings: Settings) -> Store:
    location = settings.database_url
    if isinstance(location, PostgresAddress) and not await asyncio.to_thread(exists, location):
        await asyncio.to_thread(refuse_half_move, settings.data_folder, str(location))
    return await Store.open(settings.database_url, erasures=ErasureList(settings.data_folder / ERASURES_FILE))


async def _log_confinement(image_pool: ImagePool) -> None:
    """Say once what the system could not forbid to the processes that read images of strangers."""
    try:
        missing = await image_pool.unconfined()
    except MediaError as error:
        _log.error("images cannot be read: %s", error)
        return
    if missing:
        _log.warning("image processes run without: %s", ", ".join(missing))
    else:
        _log.info("image processes are confined: no files, no network, no other process")


def _coordinator(store: Store, role: Role, supervisor: Supervisor, clock: TrustedClock) -> Coordinator:
    if role is Role.ALL:
        return LocalCoordinator()
    return ClusterCoordinator(store.cluster, role=role, supervisor=supervisor, clock=clock.now)


def _listen(store: Store, parts: ServiceParts, bot: Bot) -> None:
    """Act on the notifications of other processes from now on."""
    handler = NotificationHandler(
        parts.context,
        cluster=store.cluster,
        dispatchers=parts.dispatchers,
        reply_runner=parts.reply_runner,
        webhooks=parts.webhooks,
        catalogue_keeper=parts.catalogue_keeper,
        queue=bot.queue,
        shards=bot.handover,
    )
    store.cluster.listen(handler)


def _fleet_watch(parts: ServiceParts, own: ProcessInfo) -> FleetWatch:
    coordinator = parts.context.coordinator
    assert isinstance(coordinator, ClusterCoordinator), "a process that runs alone is no fleet"
    return FleetWatch(
        parts.context.store,
        own,
        coordinator=coordinator,
        reply_runner=parts.reply_runner,
        presenter=parts.context.presenter,
    )


@asynccontextmanager
async def _blob_store(settings: Settings) -> AsyncGenerator[BlobStore]:
    """Open where images are kept: beside a database file, or in PostgreSQL, where every process reaches them."""
    files = FileBlobStore(settings.data_folder / "pictures")
    location = settings.database_url
    blob_store: BlobStore = files
    try:
        if isinstance(location, PostgresAddress):
            from bot.store.postgres.blob_store import (
                PostgresBlobStore,
            )  # imports the driver, which a file does not need

            blob_store = on_server = PostgresBlobStore(location, earlier=files)
            await on_server.open()
        yield blob_store
    finally:
        await blob_store.close()


@asynccontextmanager
async def _reply_queue(
    settings: Settings, parts: ServiceParts, store: Store, blob_store: BlobStore
) -> AsyncGenerator[ReplyQueue]:
    from bot.store.postgres.reply_queue import ReplyQueue

    async def database_problem() -> str | None:
        return await store.problem() or await blob_store.problem()

    assert isinstance(settings.database_url, PostgresAddress), "workers share a PostgreSQL database"
    queue = ReplyQueue(
        settings.database_url,
        parts.reply_runner,
        providers=parts.dispatchers.keys(),
        database_problem=database_problem,
    )
    try:
        await queue.open()
        yield queue
    finally:
        await queue.close()


async def _enqueue_orphaned(store: Store, clock: TrustedClock) -> None:
    """Enqueue replies that no process runs, such as those of a process that died, until cancelled."""
    while True:
        # Before Discord said what time it is, a wrong clock would take every reply for an old one.
        found = await store.cluster.enqueue_orphaned(now=clock.now()) if clock.is_set else 0
        if found:
            _log.info("enqueued %d replies that no process ran", found)
        await asyncio.sleep(ORPHAN_SCAN_SECONDS)


def stop_event() -> asyncio.Event:
    """Return the event that SIGTERM and Ctrl-C set from now on.

    Not `loop.add_signal_handler`: it reads the signal's number from the socket that threads wake the event loop with,
    and loses it when some 300 wake-ups wait there, as in a burst.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    return stopping


async def run(settings: Settings, *, role: Role = Role.ALL, shards: Shards | None = None) -> None:
    """Run until SIGTERM, Ctrl-C or a failure that retrying cannot solve. Raises BotError, discord.LoginFailure."""
    if role is not Role.ALL and not isinstance(settings.database_url, PostgresAddress):
        raise SettingsError(
            f"DATABASE_URL must be postgresql://… for --role {role}: several processes cannot share a file "
            f"(python -m bot migrate-to moves the database)"
        )
    stopping = stop_event()
    assert settings.discord_token is not None, "load_settings() made sure"
    async with opened(settings, role=role, shards=shards) as bot:
        # What exists now stays until the end, so the garbage collector need not examine it again.
        gc.collect()
        gc.freeze()
        client = asyncio.create_task(_connect(bot, settings.discord_token.get_secret_value()), name="discord")
        stop = asyncio.create_task(stopping.wait(), name="stop signal")
        try:
            await asyncio.wait({client, stop}, return_when=asyncio.FIRST_COMPLETED)
            if client.done():
                client.result()
            elif bot.handover is not None:
                await bot.handover.hand_over()
        finally:
            stop.cancel()
            await _close(bot, client)


async def _connect(bot: Bot, token: str) -> None:
    """Log in, retrying without a limit, and stay connected. Raises discord.LoginFailure when the token is refused."""
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
    if bot.queue is not None:
        _log.info("ready to run what gateways accept, as %s", bot.queue.name)
        await bot.queue.run()
        return
    try:
        await bot.connect()
    except discord.ConnectionClosed as error:
        if error.code == AUTHENTICATION_FAILED:
            raise discord.LoginFailure("the token was reset while the bot ran") from error
        raise


async def _close(bot: Bot, client: asyncio.Task[None]) -> None:
    """Take no more commands, answer those under way, wait for half-sent orders, then log out."""
    _log.info("stopping")
    bot.order_flow.close()
    bot.service.stop()
    if bot.queue is not None:
        bot.queue.stop_claiming()
    await bot.charts.close()  # a report without its chart is better than none
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await bot.order_flow.drain()
            await bot.service.settle_submissions()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(REFUSE_SECONDS):
            await bot.order_flow.refuse_unanswered()
    await bot.close()
    if bot.queue is not None:
        bot.service.release_all()  # no job is at work on them any more
        await bot.queue.return_unfinished(client)
    client.cancel()
    await asyncio.wait({client})
    _log.info("stopped; unfinished jobs continue at the next start")
