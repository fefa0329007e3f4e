"""The simulation: the service with its lanes, watcher and books as they are, a crowd that orders, and a virtual clock.

Real: everything from an order's admission to its charge, every transaction on a real file or server, the schedule of
questions, the fair line. Not there: Discord, sockets, JSON, pictures (see standins.py). A transaction takes no virtual
time, and processor time is none of the clock's business: it is measured beside it.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import cast

from benchmarks.books_read import Kept, kept
from benchmarks.counted import CountedDatabase
from benchmarks.queueing import LogNormal
from benchmarks.standins import Cards, Delays, DrawnProvider, IdleFetcher, IdleWorkshop, NoPictures
from benchmarks.virtual_time import VirtualLoop, run, this_loop
from bot.catalogue import Catalogue
from bot.errors import RequestRefused
from bot.fetch import Fetcher
from bot.images import ImageWorkshop
from bot.jobs import JobKind, JobRequest, ReplyAddress
from bot.location import Location
from bot.providers.watcher import Watcher
from bot.quota import MICROS_PER_USD, Limits, Member, Period, Quota, QuotaSource
from bot.service import JobService
from bot.store.database import open_database
from bot.store.store import Store
from bot.store.verify import verify_location
from bot.supervisor import Supervisor

MODEL_ID = "krea/google/nano-banana-2"
PROMPT = "a quiet harbour at dawn, fishing boats, long exposure, muted colours, mist over the water, wide angle"
PLENTY_USD_MICROS = 10_000 * MICROS_PER_USD
OPERATOR_USD_MICROS = 9_000_000 * MICROS_PER_USD
RUNNING_PER_MEMBER = 3
SAMPLES = 2_000
LONGEST_AFTER_SECONDS = 7_200.0
"""Virtual ones, for what was ordered to come to its end once nobody orders any more."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Crowd:
    """Who orders how much, for how long, and what it meets at the provider."""

    orders_per_second: float
    sizes: Mapping[int, float]
    """Pictures of an order, and the share of orders that want so many."""
    members: int
    servers: int
    places: int
    seconds: LogNormal
    lasts_seconds: float
    warm_up_seconds: float
    """What is ordered before that is not looked at."""
    failing_share: float = 0.02
    poll_seconds: float = 2.0
    delays: Delays = field(default_factory=Delays)
    seed: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Observed:
    """What came of it. Means are over what was ordered after the warm-up."""

    commands: int
    jobs: int
    refusals: int
    waits: Sequence[float]
    arrivals: Sequence[tuple[float, float]]
    """When each job came into line, and how long it then held its place; warm-up and all."""
    warm_up_seconds: float
    hold_seconds: float
    mean_places_busy: float
    mean_line_length: float
    longest_line: int
    looks_per_job: float
    discord_calls_per_order: float
    written: Mapping[str, int]
    read_from: Mapping[str, int]
    kept: Kept
    on_file: bool
    """Whether the books are a file, and not on a server."""
    processor_seconds: float
    real_seconds: float
    problems: Sequence[str]

    @property
    def processor_ms(self) -> float:
        """Of this process, for one order."""
        return self.processor_seconds / self.commands * 1000

    @property
    def wait_seconds(self) -> float:
        return sum(self.waits) / len(self.waits)


def simulate(crowd: Crowd, location: Location) -> Observed:
    """Let the crowd in, and wait until everybody has what they ordered."""
    return run(_simulated(crowd, location))


def line_memory_kib(location: Location, *, jobs: int = 2_000) -> float:
    """What Python holds for each job that waits in line behind one that takes for ever."""
    crowd = Crowd(
        orders_per_second=1.0,
        sizes={1: 1.0},
        members=10 * jobs,
        servers=10,
        places=1,
        seconds=LogNormal(mean_seconds=1e9, spread=0.1),
        lasts_seconds=0.0,
        warm_up_seconds=0.0,
    )
    return run(_line_memory_kib(crowd, location, jobs))


async def _line_memory_kib(crowd: Crowd, location: Location, jobs: int) -> float:
    async with _stage(crowd, location) as (scene, _):
        await scene.fill(100)  # what is made once
        gc.collect()
        tracemalloc.start()
        try:
            await scene.fill(jobs)
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / 1024 / jobs
        finally:
            tracemalloc.stop()


async def _simulated(crowd: Crowd, location: Location) -> Observed:
    async with _stage(crowd, location) as (scene, database):
        begun_at, processor_at = time.perf_counter(), time.process_time()
        await scene.play()
        real_seconds, processor_seconds = time.perf_counter() - begun_at, time.process_time() - processor_at
    problems = [*scene.problems(), *(f"{found.rule}: {found.detail}" for found in verify_location(location))]
    return scene.observed(
        kept=kept(location),
        on_file=isinstance(location, Path),
        database=database,
        processor_seconds=processor_seconds,
        real_seconds=real_seconds,
        problems=problems,
    )


@asynccontextmanager
async def _stage(crowd: Crowd, location: Location) -> AsyncGenerator[tuple[_Scene, CountedDatabase]]:
    """Everything set up, and taken down again."""
    loop = this_loop()
    async with AsyncExitStack() as stack:
        with loop.real_work():
            database = CountedDatabase(await open_database(location), loop)
        store = await stack.enter_async_context(Store(database, location))
        supervisor = await stack.enter_async_context(Supervisor())
        yield _Scene(crowd=crowd, loop=loop, store=store, supervisor=supervisor), database


class _Scene:
    """Everything on the stage."""

    def __init__(self, *, crowd: Crowd, loop: VirtualLoop, store: Store, supervisor: Supervisor) -> None:
        self._crowd = crowd
        self._loop = loop
        self._chance = Random(crowd.seed)
        draws = Random(crowd.seed + 1)
        self._provider = DrawnProvider(
            loop=loop,
            draw=lambda: crowd.seconds.quantile(draws.uniform(1e-9, 1 - 1e-9)),
            chance=Random(crowd.seed + 2),
            failing_share=crowd.failing_share,
            delays=crowd.delays,
        )
        quota = Quota(amount_usd_micros=PLENTY_USD_MICROS, period=Period.DAY, source=QuotaSource.SETTINGS)
        fetcher = cast("Fetcher", IdleFetcher(seconds=crowd.delays.download))
        self._service = JobService(
            store=store,
            catalogue=Catalogue.load(),
            pictures=NoPictures(),
            result_fetcher=fetcher,
            attachment_fetcher=fetcher,
            workshop=cast("ImageWorkshop", IdleWorkshop()),
            supervisor=supervisor,
            limits=Limits(
                default_quota=quota,
                operator_daily_cap_usd_micros=OPERATOR_USD_MICROS,
                max_running_jobs=RUNNING_PER_MEMBER,
            ),
            job_log=lambda _: nullcontext(),
            clock=loop.now,
        )
        self._cards = Cards(loop=loop, service=self._service, supervisor=supervisor, upload_seconds=crowd.delays.upload)
        self._service.observe(self._cards)
        watcher = Watcher(
            self._provider,
            poll_seconds=crowd.poll_seconds,
            clock=loop.now,
            random_source=Random(crowd.seed + 3).random,
        )
        self._service.add_provider(self._provider, watcher, max_concurrency=crowd.places)
        self._supervisor = supervisor
        self._accepted: list[str] = []
        self._jobs = 0
        self._refusals = 0
        self._busy: list[float] = []
        self._lengths: list[float] = []
        self._most_busy = 0.0

    # -- the play -----------------------------------------------------------------------------------------

    async def play(self) -> None:
        self._supervisor.start_forever("places in line", self._service.places.keep_true)
        sampling = self._supervisor.start("samples", self._sample())
        commands: list[asyncio.Task[None]] = []
        while True:
            await asyncio.sleep(self._chance.expovariate(self._crowd.orders_per_second))
            if self._loop.time() >= self._crowd.lasts_seconds:
                break
            commands.append(self._supervisor.start(f"command {len(commands)}", self._command(len(commands) + 1)))
        sampling.cancel()
        if commands:
            await asyncio.wait(commands)
        await self._cards.all_ended(len(self._accepted), within_seconds=LONGEST_AFTER_SECONDS)
        self._service.stop()

    async def fill(self, orders: int) -> None:
        """So many orders, one after the other."""
        for _ in range(orders):
            await self._command(len(self._accepted) + 1)

    async def _command(self, number: int) -> None:
        """One member orders, and Discord shows the card."""
        sizes = self._crowd.sizes
        (size,) = self._chance.choices(list(sizes), weights=list(sizes.values()))
        user_id = self._chance.randrange(self._crowd.members) + 1
        member = Member(guild_id=user_id % self._crowd.servers + 1, user_id=user_id)
        request = JobRequest(
            kind=JobKind.IMAGINE,
            guild_id=member.guild_id,
            user_id=user_id,
            model_id=MODEL_ID,
            prompt=PROMPT,
            options={"resolution": "1K"},
        )
        try:
            view = await self._service.admit([request] * size, member=member, address=self._address(member, number))
        except RequestRefused:
            self._refusals += 1
            return
        await asyncio.sleep(self._crowd.delays.card)
        await self._service.accept(view.reply, message_id=number)
        self._accepted.append(view.reply.id)
        self._jobs += size

    def _address(self, member: Member, number: int) -> ReplyAddress:
        return ReplyAddress(
            application_id=5,
            interaction_id=1_400_000_000_000_000_000 + number,
            token="t" * 180,
            token_expires_at=self._loop.now() + timedelta(minutes=15),
            guild_id=member.guild_id,
            channel_id=1_300_000_000_000_000_000,
            message_id=None,
            private=False,
            file_limit_bytes=10_485_760,
            locale="en-US",
        )

    async def _sample(self) -> None:
        """How many places are taken and how long the line is, evenly over the time that counts."""
        await asyncio.sleep(self._crowd.warm_up_seconds)
        apart_seconds = (self._crowd.lasts_seconds - self._crowd.warm_up_seconds) / SAMPLES
        while True:
            self._busy.append(sum(self._service.places_taken().values()))
            self._lengths.append(sum(self._service.line_lengths().values()))
            await asyncio.sleep(apart_seconds)

    # -- what is to be seen -----------------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What must not be: an order without an end, or with two; an order sent twice; more at work than places."""
        ended = self._cards.ended
        found = [f"{reply_id} came to {ended[reply_id]} ends" for reply_id in self._accepted if ended[reply_id] != 1]
        if len(self._provider.jobs) != self._jobs:
            found.append(f"{len(self._provider.jobs)} orders were sent for {self._jobs} jobs")
        if max(self._busy, default=0) > self._crowd.places:
            found.append(f"{max(self._busy):.0f} of {self._crowd.places} places were taken")
        return [*found, *self._cards.notices]

    def observed(
        self,
        *,
        kept: Kept,
        on_file: bool,
        database: CountedDatabase,
        processor_seconds: float,
        real_seconds: float,
        problems: Sequence[str],
    ) -> Observed:
        """All of it as one value."""
        counted_from = self._crowd.warm_up_seconds
        came_after = self._crowd.delays.card
        lives = sorted(kept.lives, key=lambda life: life.admitted_at)
        arrivals = [(life.admitted_at + came_after, life.ended_at - life.sent_at) for life in lives]
        counting = [life for life in lives if life.admitted_at >= counted_from]
        looks = [remote.looks for remote in self._provider.jobs.values() if remote.began_at >= counted_from]
        return Observed(
            commands=len(self._accepted),
            jobs=self._jobs,
            refusals=self._refusals,
            waits=[life.sent_at - life.admitted_at - came_after for life in counting],
            arrivals=arrivals,
            warm_up_seconds=counted_from,
            hold_seconds=sum(life.ended_at - life.sent_at for life in counting) / len(counting),
            mean_places_busy=sum(self._busy) / len(self._busy),
            mean_line_length=sum(self._lengths) / len(self._lengths),
            longest_line=int(max(self._lengths)),
            looks_per_job=sum(looks) / len(looks),
            discord_calls_per_order=1 + self._cards.edits / len(self._accepted),
            on_file=on_file,
            written=database.written,
            read_from=database.read_from,
            kept=kept,
            processor_seconds=processor_seconds,
            real_seconds=real_seconds,
            problems=problems,
        )
