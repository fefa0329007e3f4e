"""The core as tests run it: a real database and a simulated provider over HTTP on loopback.

    async with a_core(tmp_path) as core:
        job = await core.order("a red fox")
        assert (await core.ended(job)).status is JobStatus.SUCCEEDED

Pauses that last seconds in production are milliseconds here. At the end of every test the ledger must balance.
"""

from __future__ import annotations

import asyncio
import io
import logging
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import aiohttp
import stamina
from PIL import Image

from bot.catalogue.catalogue import Catalogue
from bot.dispatch import circuit_breaker
from bot.dispatch.coordinator import LocalCoordinator
from bot.domain.jobs import ImageInput, ImageRole, Job, JobKind, JobRequest, JobStatus, ReplyAddress
from bot.domain.money.quota import Balance, Limits, Member, Period, Quota, QuotaSource
from bot.media.blob_store import FileBlobStore
from bot.media.downloader import Downloader
from bot.providers.api_client import Timeouts, Timing
from bot.providers.krea import KreaProvider
from bot.providers.pixazo import PixazoProvider
from bot.runtime.sealing import Sealer
from bot.runtime.supervisor import Supervisor
from bot.runtime.web.web_routes import WebhookRoutes
from bot.runtime.web.web_server import HttpServer
from bot.service.composition import ServiceParts
from bot.service.context import ServiceContext
from bot.service.execution import job_runner, reconciliation, results
from bot.service.views import ReplyView
from bot.store.admin.verify import verify_file
from bot.store.store import Store
from sandbox import shelf
from sandbox.provider import SandboxProvider
from sandbox.remote_job import RemoteJob
from tests.support import store_samples
from tests.support.fakes import FakeClock, FakePresenter, FullDisk, until
from tests.support.kept_processes import KeepingImagePool
from tests.support.store_samples import operator_cost

ADA = Member(guild_id=1, user_id=7)
BEN = Member(guild_id=1, user_id=8)

FLUX = "krea/bfl/flux-1-dev"
NANO_BANANA_2 = "krea/google/nano-banana-2"
PIXAZO_LARGE = "pixazo/krea-2-large"
PRICES = {FLUX: 7_000, NANO_BANANA_2: 80_000, PIXAZO_LARGE: 60_000}
PRICE = PRICES[FLUX]
"""The price of the default order of a test, in micro-dollars."""

_QUICK = Timeouts(connect_seconds=2, silence_seconds=1.5, total_seconds=5)
_interaction_ids = count(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One HTTP request of the core, whether or not it arrived."""

    method: str
    path: str
    at_seconds: float


class _Failures(logging.Handler):
    """Collects what was logged with a traceback: in these tests nothing may fail unexpectedly."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.lines.append(f"{record.getMessage()}: {record.exc_info[1]!r}")


@dataclass(kw_only=True)
class Core:
    """The core with everything around it. `kill` and `start` make a restart; the sandbox keeps running."""

    directory: Path
    sandbox: SandboxProvider
    max_concurrency: int = 8
    poll_seconds: float = 0.02
    with_webhooks: bool = False
    krea_base: str | None = None
    without: frozenset[str] = frozenset()
    limits: Limits
    clock: FakeClock = field(default_factory=FakeClock)
    presenter: FakePresenter = field(default_factory=FakePresenter)
    sent: list[Sent] = field(default_factory=list[Sent])
    expected_failures: int = 0
    """How many unexpected errors a test provokes on purpose."""
    failures: _Failures = field(default_factory=_Failures)

    @property
    def path(self) -> Path:
        return self.directory / "bot.sqlite3"

    # -- start and end ------------------------------------------------------------------------------------

    async def start(self, *, resume: bool = True) -> None:
        """Open everything, as app.py does, and resume the replies of an earlier process."""
        self._stack = stack = AsyncExitStack()
        self.store = await stack.enter_async_context(await Store.open(self.path))
        self.disk = FullDisk(self.store)
        self.images = FileBlobStore(self.directory / "pictures")
        stack.push_async_callback(self.images.close)
        image_pool = KeepingImagePool()
        stack.push_async_callback(image_pool.close)
        downloader = await stack.enter_async_context(Downloader(allow_private_addresses=True, idle_seconds=2))
        session = await stack.enter_async_context(aiohttp.ClientSession(trace_configs=[self._trace()]))
        self.supervisor = await stack.enter_async_context(Supervisor(first_pause_seconds=0.01))
        self.public_url = public_url = None
        if self.with_webhooks:
            server = HttpServer(WebhookRoutes(self._hook).routes(), host="127.0.0.1", port=0)
            await stack.enter_async_context(server)
            self.public_url = public_url = f"http://127.0.0.1:{server.port}"
        context = ServiceContext(
            store=cast("Store", self.disk),
            blob_store=self.images,
            image_pool=image_pool,
            coordinator=LocalCoordinator(),
            supervisor=self.supervisor,
            sealer=Sealer("a bot token"),
            clock=self.clock,
        )
        self.parts = ServiceParts.build(
            context,
            catalogue=Catalogue.load(),
            limits=self.limits,
            result_downloader=downloader,
            attachment_downloader=downloader,
            public_url=public_url,
        )
        self.service = self.parts.service
        self.service.presenter.set(self.presenter)
        for provider in self._providers(session):
            self.parts.add_provider(provider, poll_seconds=self.poll_seconds, max_concurrency=self.max_concurrency)
        if resume:
            await self.service.resume()

    def _providers(self, session: aiohttp.ClientSession) -> list[KreaProvider | PixazoProvider]:
        timing = Timing(submit=_QUICK, read=_QUICK, pause_seconds=0.01)
        krea_base, pixazo_base = self.krea_base or self.sandbox.krea_base, self.sandbox.pixazo_base
        krea = KreaProvider(session, base_url=krea_base, api_key=self.sandbox.krea_key, timing=timing)
        pixazo = PixazoProvider(session, base_url=pixazo_base, api_key=self.sandbox.pixazo_key, timing=timing)
        return [provider for provider in (krea, pixazo) if provider.name not in self.without]

    async def _hook(self, token: str, remote_id: str | None) -> None:
        # The service is made after the server: it has to know the server's address.
        await self.parts.webhooks.handle(token, remote_id)

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()

        async def note(session: Any, context: Any, request: aiohttp.TraceRequestStartParams) -> None:
            now = asyncio.get_running_loop().time()
            self.sent.append(Sent(method=request.method, path=request.url.path, at_seconds=now))

        trace.on_request_start.append(note)
        return trace

    async def kill(self) -> None:
        """End this process in the middle of its work. Only what is on disk is left."""
        await self._stack.aclose()

    async def restart(self) -> None:
        await self.kill()
        await self.start()

    # -- what members do ------------------------------------------------------------------------------------

    async def ask(
        self,
        *prompts: str,
        member: Member = ADA,
        model_id: str = FLUX,
        images: tuple[ImageInput, ...] = (),
        options: Mapping[str, str | int | float | bool] | None = None,
        kind: JobKind | None = None,
        interaction_id: int | None = None,
    ) -> ReplyView:
        """Admit a command for one image of each prompt, which is not yet shown."""
        requests = [
            JobRequest(
                kind=kind or (JobKind.EDIT if images else JobKind.IMAGINE),
                guild_id=member.guild_id,
                user_id=member.user_id,
                model_id=model_id,
                prompt=prompt,
                options=options or {},
                images=images,
            )
            for prompt in prompts
        ]
        address = an_address(self.clock(), member, interaction_id or next(_interaction_ids))
        return await self.service.admit(requests, member=member, address=address)

    async def order(self, prompt: str = "a red fox", **how: Any) -> Job:
        """Admit a command for one image and mark it as shown by Discord."""
        (job,) = await self.orders(prompt, **how)
        return job

    async def orders(self, *prompts: str, **how: Any) -> tuple[Job, ...]:
        """Admit and show a command for several images under one reply."""
        view = await self.ask(*prompts, **how)
        await self.service.accept(view.reply, message_id=99)
        return view.reply.jobs

    async def an_input(self, *, role: ImageRole = ImageRole.SOURCE) -> ImageInput:
        """Store an attached image in the blob store."""
        data = a_png("input")
        return ImageInput(
            sha256=await self.images.put(data),
            role=role,
            content_type="image/png",
            width=32,
            height=32,
        )

    # -- observation ------------------------------------------------------------------------------------------

    async def now(self, job: Job) -> Job:
        """Return the job as it is stored."""
        found = await self.store.job(job.id)
        assert found is not None
        return found

    async def reached(self, job: Job, *statuses: JobStatus, seconds: float = 10) -> Job:
        """Wait until the job has one of these statuses and return it."""

        async def there() -> bool:
            return (await self.now(job)).status in statuses

        await until(there, seconds=seconds, what=lambda: f"{job.id} at {statuses}")
        return await self.now(job)

    async def ended(self, *jobs: Job, seconds: float = 10) -> Job:
        """Wait until all of them are final; returns the last."""
        found = [
            await self.reached(job, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED, seconds=seconds)
            for job in jobs
        ]
        return found[-1]

    async def unfollowed(self, *jobs: Job, seconds: float = 10) -> None:
        """Wait until none of them is followed any more."""

        async def is_over() -> bool:
            return not any([(await self.now(job)).is_followed for job in jobs])

        await until(is_over, seconds=seconds)

    async def balance(self, member: Member = ADA) -> Balance:
        return await self.store.balance(member, default=self.limits.default_quota, now=self.clock())

    async def spent(self, member: Member = ADA) -> int:
        return (await self.money(member))[0]

    async def set_aside(self, member: Member = ADA) -> int:
        return (await self.money(member))[1]

    async def money(self, member: Member = ADA) -> tuple[int, int, int]:
        """Return (spent, set aside, operator cost), in micro-dollars, of all days: a test may run past midnight."""
        of_all_days = """
            SELECT CAST(coalesce(sum(settled_usd_micros), 0) AS BIGINT),
                CAST(coalesce(sum(held_usd_micros), 0) AS BIGINT)
            FROM reservations JOIN accounts ON accounts.id = member_account_id WHERE guild_id = ? AND user_id = ?
        """
        [(spent, set_aside)] = await self.store.database.read(
            lambda connection: connection.execute(of_all_days, (member.guild_id, member.user_id)).fetchall()
        )
        return spent, set_aside, await operator_cost(self.store)

    @property
    def submissions(self) -> int:
        """Return the orders that were sent, whether or not they arrived."""
        return sum(request.path.startswith("/generate/") or request.path.endswith("-request") for request in self.sent)


@asynccontextmanager
async def a_core(
    directory: Path,
    *,
    quota_usd_micros: int = 1_000_000,
    max_running_jobs: int = 100,
    limits: Limits | None = None,
    sandbox: Mapping[str, Any] | None = None,
    **how: Any,
) -> AsyncIterator[Core]:
    """Start a core and its provider. At the end the ledger must balance and no unexpected error may be logged."""
    quota = Quota(amount_usd_micros=quota_usd_micros, period=Period.DAY, source=QuotaSource.SETTINGS)
    limits = limits or store_samples.limits(default=quota, max_running_jobs=max_running_jobs)
    with brisk():
        async with SandboxProvider(**{"seconds_scale": 0.01, **(sandbox or {})}) as provider:
            core = Core(directory=directory, sandbox=provider, limits=limits, **how)
            logging.getLogger("bot").addHandler(core.failures)
            try:
                await core.start()
                try:
                    yield core
                finally:
                    await core.kill()
            finally:
                logging.getLogger("bot").removeHandler(core.failures)
            assert verify_file(core.path) == []
            assert provider.violations == []
            assert len(core.failures.lines) == core.expected_failures, core.failures.lines[:5]


@contextmanager
def brisk() -> Iterator[None]:
    """Turn seconds into milliseconds and make images small: the tests are about results, not durations."""
    with (
        patch.object(circuit_breaker, "FIRST_PROBE_SECONDS", 0.05),
        patch.object(circuit_breaker, "MAX_PROBE_SECONDS", 0.1),
        patch.object(reconciliation, "FIRST_PAUSE_SECONDS", 0.02),
        patch.object(reconciliation, "MAX_PAUSE_SECONDS", 0.05),
        patch.object(reconciliation, "MIN_RECONCILIATION_SECONDS", 0.0),
        patch.object(job_runner, "DEFAULT_RETRY_AFTER_SECONDS", 0.5),
        patch.object(job_runner, "FIRST_PAUSE_SECONDS", 0.01),
        patch.object(job_runner, "MAX_PAUSE_SECONDS", 0.05),
        patch.object(results, "FIRST_PAUSE_SECONDS", 0.02),
        patch.object(results, "MAX_PAUSE_SECONDS", 0.05),
        patch.object(shelf, "_drawn", small_image),
        stamina.set_testing(True, attempts=10**9, cap=True),
    ):
        stamina.instrumentation.set_on_retry_hooks([])
        yield


def a_png(name: str) -> bytes:
    """Return a small image, a different one for each name."""
    data = io.BytesIO()
    Image.new("RGB", (32, 24), zlib.crc32(name.encode()) & 0xFFFFFF).save(data, "PNG")
    return data.getvalue()


def small_image(job: RemoteJob, unfinished: bool) -> bytes:
    return a_png(f"{job.id} {unfinished}")


def an_address(now: datetime, member: Member, interaction_id: int) -> ReplyAddress:
    """Return the address at which the reply to a command would be."""
    return ReplyAddress(
        application_id=5,
        interaction_id=interaction_id,
        token="a-token",
        token_expires_at=now + timedelta(minutes=15),
        guild_id=member.guild_id,
        channel_id=6,
        message_id=None,
        private=False,
        file_limit_bytes=10_485_760,
        locale="en-US",
    )
