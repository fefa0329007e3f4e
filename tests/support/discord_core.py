"""The core of the bot as the tests compose it: everything real but the image APIs, around one database file."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar, cast

from bot.catalogue.catalogue import Catalogue
from bot.charts.renderer import ChartRenderer
from bot.dispatch.coordinator import LocalCoordinator
from bot.domain.money.quota import format_usd
from bot.gateway.discord_client import Bot, BotParts
from bot.media.blob_store import FileBlobStore
from bot.media.downloader import Downloader
from bot.media.image_pool import ImagePool
from bot.runtime.sealing import Sealer
from bot.runtime.supervisor import Supervisor
from bot.runtime.trusted_clock import TrustedClock
from bot.service.composition import ServiceParts
from bot.service.context import ServiceContext
from bot.settings import Settings
from bot.store.store import Store
from tests.support.discord_fakes import FakeProvider, ImageServer
from tests.support.image_samples import image

_T = TypeVar("_T")

CATALOGUE = Catalogue.load()


class OutsideSupervisor(Supervisor):
    """A supervisor whose tasks run in a context of their own, so that the simulated Discord does not wait for them."""

    def start(self, name: str, coroutine: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        return contextvars.Context().run(super().start, name, coroutine)


class Core:
    """Store, service, supervisor and bot. `restarted` makes new ones, as a new process would, over the same file."""

    def __init__(self, *, store: Store, settings: Settings, server: ImageServer, tools: _Tools, slots: int) -> None:
        self.store = store
        self.settings = settings
        self.server = server
        self.krea = FakeProvider("krea", image_url=self._a_result)
        self.pixazo = FakeProvider("pixazo", image_url=self._a_result, takes_uploads=False, can_cancel=False)
        self._tools = tools
        self._slots = slots
        self._results = 0
        self.begin()

    def begin(self) -> None:
        """Create a new service and bot."""
        self.supervisor = OutsideSupervisor()
        context = ServiceContext(
            store=self.store,
            blob_store=self._tools.images,
            image_pool=self._tools.image_pool,
            coordinator=LocalCoordinator(),
            supervisor=self.supervisor,
            sealer=Sealer("a bot token"),
        )
        catalogue = Catalogue(CATALOGUE.all_models)
        self.parts = ServiceParts.build(
            context,
            catalogue=catalogue,
            limits=self.settings.limits,
            result_downloader=self._tools.downloader,
            attachment_downloader=self._tools.downloader,
            default_model=self.settings.default_model,
        )
        self.service = self.parts.service
        self.catalogue_keeper = self.parts.catalogue_keeper
        self.bot = Bot(
            BotParts(
                settings=self.settings,
                store=self.store,
                service=self.service,
                charts=self._tools.charts,
                supervisor=self.supervisor,
                catalogue_keeper=self.catalogue_keeper,
                clock=TrustedClock(),
            )
        )
        context.presenter.set(self.bot.replies)
        for provider in (self.krea, self.pixazo):
            self.parts.add_provider(provider, poll_seconds=0.01, max_concurrency=self._slots)

    @contextmanager
    def providers_wait(self) -> Generator[None]:
        """Let no provider accept an order in the meantime, so that a job's next state comes after the assertions."""
        shut = [provider.door for provider in (self.krea, self.pixazo) if provider.door.is_set()]
        for door in shut:
            door.clear()
        try:
            yield
        finally:
            for door in shut:
                door.set()

    async def end(self) -> None:
        """Stop all tasks, as if the process had died."""
        await self.supervisor.close()

    def _a_result(self) -> str:
        self._results += 1
        return self.server.keep(f"{self._results}.png", image("PNG"))


class _Tools:
    """What a process opens besides the database."""

    def __init__(
        self, *, images: FileBlobStore, downloader: Downloader, image_pool: ImagePool, charts: ChartRenderer
    ) -> None:
        self.images = images
        self.charts = charts
        self.downloader = downloader
        self.image_pool = image_pool


@asynccontextmanager
async def opened_core(
    directory: Path,
    image_pool: ImagePool,
    *,
    slots: int,
    registers_commands: bool = True,
    direct_quota_usd_micros: int = 0,
) -> AsyncGenerator[Core]:
    """Open in the order of the real composition root, and close in reverse."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(ImageServer())
        settings = Settings(
            database_url=directory / "bot.sqlite3",
            discord_cdn_hosts=(server.host,),
            krea_api_key=None,
            sync_commands=registers_commands,
            direct_quota_usd=cast("Any", format_usd(direct_quota_usd_micros)),  # as in the environment
        )
        store = await stack.enter_async_context(await Store.open(settings.database_url))
        # The simulated application is public, which the operator would be told of at every start.
        await store.claim_notice("public bot", now=datetime.now(UTC))
        images = FileBlobStore(directory / "pictures")
        stack.push_async_callback(images.close)
        downloader = await stack.enter_async_context(Downloader(allow_private_addresses=True))
        charts = ChartRenderer()
        stack.push_async_callback(charts.close)
        tools = _Tools(images=images, downloader=downloader, image_pool=image_pool, charts=charts)
        core = Core(store=store, settings=settings, server=server, tools=tools, slots=slots)
        try:
            yield core
        finally:
            await core.end()
