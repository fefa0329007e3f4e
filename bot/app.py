"""The composition root: opens everything in order, closes it in reverse. Only this and client.py know Discord."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
import discord
import stamina
import yarl

from bot.catalogue.catalogue import OVERRIDE_FILE, Catalogue
from bot.charts.renderer import ChartRenderer
from bot.discord_client import Bot, ShardedBot, aim_at
from bot.domain.database_url import PostgresAddress
from bot.domain.errors import SettingsError, UnknownModel
from bot.domain.process_role import Role, Shards
from bot.domain.quota import Limits, Quota, QuotaSource
from bot.media.blob_store import BlobStore, FileBlobStore
from bot.media.downloader import Downloader
from bot.media.image_pool import ImagePool
from bot.providers.api_client import open_session
from bot.providers.base import Provider
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.providers.poller import Poller
from bot.runtime.logs import bind_job
from bot.runtime.metrics import Metrics
from bot.runtime.supervisor import Supervisor
from bot.runtime.web_server import HttpServer
from bot.service.job_service import JobService
from bot.service.style_reader import StyleReader
from bot.settings import Settings
from bot.store.store import Store
from bot.store.tables.reply_queue_rows import QUEUE_CHANNEL

if TYPE_CHECKING:
    from bot.store.postgres.reply_queue import ReplyQueue  # takes time to import, and only a worker needs it

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
ORPHAN_SCAN_SECONDS = 5.0
"""So often a worker looks for replies that nobody follows."""

SETTLE_SECONDS = 5.0
"""So long a polite stop waits for orders that are half sent; everything else goes on at the next start."""


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


@asynccontextmanager
async def opened(settings: Settings, *, role: Role = Role.ALL, shards: Shards | None = None) -> AsyncGenerator[Bot]:
    """The whole application, ready to log in; closed in reverse order."""
    aim_at(settings.discord_api_base)
    catalogue = load_catalogue(settings)
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        store = await stack.enter_async_context(await Store.open(settings.database_url))
        await (store.lock_exclusively() if role is Role.ALL else store.lock_shared())
        images = _pictures(settings)
        stack.push_async_callback(images.close)
        image_pool = ImagePool()
        stack.push_async_callback(image_pool.close)
        charts = ChartRenderer()
        stack.push_async_callback(charts.close)
        # Two, because large bodies share the room of one: who sends an attachment need not wait for a provider.
        result_downloader, attachment_downloader = [
            await stack.enter_async_context(Downloader(allow_private_addresses=settings.media_allow_private_addresses))
            for _ in range(2)
        ]
        # Lanes and watchers bound what is under way; waiting for a connection would only use up an order's time.
        session = await stack.enter_async_context(
            open_session(max_connections=0, traces=[metrics.trace(_provider_names(settings))])
        )
        supervisor = await stack.enter_async_context(Supervisor())
        service = JobService(
            store=store,
            catalogue=catalogue,
            blob_store=images,
            result_downloader=result_downloader,
            attachment_downloader=attachment_downloader,
            image_pool=image_pool,
            supervisor=supervisor,
            limits=limits_of(settings),
            public_url=settings.public_url,
            job_log=bind_job,
            metrics=metrics,
            role=role,
        )
        for provider, poll_seconds, places in providers_of(settings, session):
            on_denied = partial(service.provider_denied, provider.name)
            poller = Poller(provider, poll_seconds=poll_seconds, on_denied=on_denied)
            service.add_provider(provider, poller, max_concurrency=places)
            if isinstance(provider, KreaProvider) and role is not Role.WORKER:
                reader = StyleReader(service.styles, provider, store, is_open=partial(service.is_open, provider.name))
                supervisor.start_forever("styles", reader.run)
        parts: dict[str, Any] = {"settings": settings, "service": service, "charts": charts, "supervisor": supervisor}
        bot = ShardedBot(store=store, shards=shards, **parts) if role is Role.GATEWAY else Bot(store=store, **parts)
        queue: ReplyQueue | None = None
        if role is Role.WORKER:
            bot.queue = queue = await stack.enter_async_context(_queue(settings, service))
        if service.cluster is not None:
            store.cluster.listen(
                service.cluster.handle_notification,
                on_back=service.cluster.catch_up,
                channels={} if queue is None else {QUEUE_CHANNEL: queue.handle_notification},
            )
        await stack.enter_async_context(_http_server(settings, bot, store, supervisor))
        if role is not Role.GATEWAY:
            supervisor.start_forever("places in line", service.queue_positions.run)
            supervisor.start_forever("hourly sweep", lambda: _sweep(store, images))
        if role is Role.WORKER:
            supervisor.start_forever("forgotten replies", lambda: _enqueue_orphaned(store))
        yield bot


def _pictures(settings: Settings) -> BlobStore:
    """Beside the books: in a directory, or in the database, so that any process can have them."""
    files = FileBlobStore(settings.data_folder / "pictures")
    location = settings.database_url
    if not isinstance(location, PostgresAddress):
        return files
    from bot.store.postgres.blob_store import PostgresBlobStore  # imports the driver, which a file does not need

    return PostgresBlobStore(location, earlier=files)


@asynccontextmanager
async def _queue(settings: Settings, service: JobService) -> AsyncGenerator[ReplyQueue]:
    from bot.store.postgres.reply_queue import ReplyQueue

    assert isinstance(settings.database_url, PostgresAddress), "workers have their books on a server"
    queue = ReplyQueue(settings.database_url, service.run_reply)
    try:
        yield queue
    finally:
        await queue.close()


def _http_server(settings: Settings, bot: Bot, store: Store, supervisor: Supervisor) -> HttpServer:
    """What machines are told: whether all is well, and the numbers."""
    service = bot.service
    metrics = service.metrics
    metrics.watch("line_length", "Jobs that wait for a place", "provider", service.queue_lengths)
    metrics.watch("places_taken", "Jobs at a provider", "provider", service.slots_in_use)
    metrics.watch("provider_closed", "1 while a provider takes no new jobs", "provider", service.open_breakers)
    return HttpServer(
        host=settings.http_host,
        port=settings.http_port,
        checks={
            "discord": bot.problem,
            "database": store.problem,
            "workers": lambda: ", ".join(supervisor.down()) or None,
            **({} if bot.queue is None else {"queue": bot.queue.problem}),
        },
        on_hook=service.handle_webhook,
        registry=metrics.registry,
    )


async def _sweep(store: Store, images: BlobStore) -> None:
    """Forget what has reached its age and drop pictures nobody needs any more: at the start, then once an hour."""
    while True:
        forgotten = await store.forget_old(now=datetime.now(UTC))
        if store.is_shared:
            await store.cluster.trim_queue_log()
        dropped = await images.sweep(await store.sha256_in_use())
        if forgotten or dropped:
            _log.info("forgot %d old prompts, dropped %d pictures that are no longer needed", forgotten, dropped)
        await asyncio.sleep(SWEEP_SECONDS)


async def _enqueue_orphaned(store: Store) -> None:
    """Whatever became of the process that should have seen to it: no reply stays where it is."""
    while True:
        found = await store.cluster.enqueue_orphaned(now=datetime.now(UTC))
        if found:
            _log.info("found %d replies that nobody followed", found)
        await asyncio.sleep(ORPHAN_SCAN_SECONDS)


async def run(settings: Settings, *, role: Role = Role.ALL, shards: Shards | None = None) -> None:
    """Run until SIGTERM, Ctrl-C or a failure that no retry can mend. Raises BotError, discord.LoginFailure."""
    if role is not Role.ALL and not isinstance(settings.database_url, PostgresAddress):
        raise SettingsError(
            f"DATABASE_URL must be postgresql://… for --role {role}: several processes cannot share a file "
            f"(python -m bot migrate-to moves the books)"
        )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopping.set)
    assert settings.discord_token is not None, "load_settings() made sure"
    async with opened(settings, role=role, shards=shards) as bot:
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
    if bot.queue is not None:
        _log.info("ready to follow what gateways accept, as %s", bot.queue.name)
        await bot.queue.run()
    else:
        await bot.connect()


async def _close(bot: Bot, client: asyncio.Task[None]) -> None:
    """No new commands, nobody without an answer, no half-sent orders, then goodbye."""
    _log.info("stopping")
    bot.order_flow.close()
    bot.service.stop()
    if bot.queue is not None:
        bot.queue.stop_claiming()
    await bot.charts.close()  # better a report without its picture than none
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SETTLE_SECONDS):
            await bot.order_flow.drain()
            await bot.service.settle_submissions()
    await bot.close()
    if bot.queue is not None:
        bot.service.release_all()  # nothing is at work on them here any more
        await bot.queue.return_unfinished(client)
    client.cancel()
    await asyncio.wait({client})
    _log.info("stopped; unfinished jobs go on at the next start")
