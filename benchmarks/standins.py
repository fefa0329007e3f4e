"""Stand-ins: what lies outside the core, inside the process and without a byte on any wire.

A provider whose jobs last as long as they are drawn to, a download and a check that take their time and do nothing, a
picture store that keeps nothing, and cards that are edited as often and as late as those in Discord.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from random import Random

from benchmarks.virtual_time import VirtualLoop
from bot.images import CheckedPicture
from bot.jobs import Delivery, Failure, FailureReason, JobStatus, Progress, Reply
from bot.observer import ReplyView
from bot.patience import written
from bot.providers.base import ProviderRequest, RemoteJob, Update
from bot.service import JobService
from bot.supervisor import Supervisor

EDIT_INTERVAL_SECONDS = 1.0
"""As in cogs/reply.py."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Delays:
    """How long the outside takes to answer, in seconds."""

    card: float = 0.15
    """Discord, to show a card."""
    order: float = 0.3
    """The provider, to accept an order."""
    look: float = 0.1
    """The provider, to say how a job is doing."""
    download: float = 0.4
    """A finished picture, until it is here and checked."""
    upload: float = 0.6
    """Discord, to take the last edit with the picture."""


@dataclass(kw_only=True, slots=True)
class Remote:
    """A job at the provider."""

    number: int
    began_at: float
    ends_at: float
    looks: int = 0


@dataclass(kw_only=True)
class DrawnProvider:
    """`Provider` whose jobs end after the seconds that `draw` says; every so many fail, as a refused picture does."""

    loop: VirtualLoop
    draw: Callable[[], float]
    chance: Random
    failing_share: float
    delays: Delays
    name: str = "krea"
    deadline_seconds: float = 2 * 3600.0
    takes_uploads: bool = True
    can_cancel: bool = True
    can_list: bool = True
    jobs: dict[str, Remote] = field(default_factory=dict[str, Remote])

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        await asyncio.sleep(self.delays.order)
        now, number = self.loop.time(), len(self.jobs)
        remote_id = f"job-{number}"
        self.jobs[remote_id] = Remote(number=number, began_at=now, ends_at=now + self.draw())
        return RemoteJob(remote_id=remote_id, created_at=self.loop.now(), progress=Progress.WAITING)

    async def fetch(self, remote_id: str) -> Update:
        job = self.jobs[remote_id]
        job.looks += 1
        is_done = self.loop.time() >= job.ends_at
        await asyncio.sleep(self.delays.look)
        if not is_done:
            return Update(
                remote_id=remote_id,
                status=JobStatus.RUNNING,
                provider_word="processing",
                progress=Progress.PROCESSING,
            )
        if self.chance.random() < self.failing_share:
            failure = Failure(reason=FailureReason.MODERATED)
            return Update(remote_id=remote_id, status=JobStatus.FAILED, provider_word="failed", failure=failure)
        return Update(
            remote_id=remote_id,
            status=JobStatus.SUCCEEDED,
            provider_word="completed",
            result_urls=(f"https://pictures.invalid/{remote_id}.png",),
            took_seconds=job.ends_at - job.began_at,
        )

    async def cancel(self, remote_id: str) -> bool:
        return False

    async def upload(self, data: bytes, content_type: str) -> str:
        return "https://pictures.invalid/input.png"

    async def recent(self, *, since: datetime) -> Sequence[RemoteJob]:
        return ()

    async def probe(self) -> None:
        """It always answers."""


@dataclass(kw_only=True)
class IdleFetcher:
    """Takes the time of a download and brings the address instead of the picture."""

    seconds: float

    async def download(
        self, url: str, *, max_bytes: int, give_way: Callable[[], Awaitable[None]] | None = None
    ) -> bytes:
        await asyncio.sleep(self.seconds)
        return url.encode()


class IdleWorkshop:
    """Believes of everything that it is a picture."""

    workers = 2

    async def check_result(self, data: bytes) -> CheckedPicture:
        return CheckedPicture(content_type="image/png", width=1024, height=1024)


class NoPictures:
    """`Pictures` that knows what it was given by its content, and keeps none of it."""

    async def put(self, data: bytes) -> str:
        return hashlib.sha256(data).hexdigest()

    async def get(self, sha256: str) -> bytes | None:
        return None

    async def remove(self, sha256: str) -> None:
        pass

    async def sweep(self, keep: Collection[str], older_than_seconds: float = 3600) -> int:
        return 0

    async def close(self) -> None:
        pass


class Cards:
    """`Observer` that edits cards as cogs/reply.py does: once a second at most, nothing twice, the end at once."""

    def __init__(
        self, *, loop: VirtualLoop, service: JobService, supervisor: Supervisor, upload_seconds: float
    ) -> None:
        self.edits = 0
        """Of every kind, the last one of each card included."""
        self.ended: Counter[str] = Counter()
        """How often each reply was brought to its end."""
        self.notices: list[str] = []
        self._loop = loop
        self._service = service
        self._supervisor = supervisor
        self._upload_seconds = upload_seconds
        self._shown: dict[str, tuple[object, float]] = {}
        """What each unfinished card shows, and when it may be edited again."""
        self._news: set[str] = set()
        self._at_work: set[str] = set()
        self._one_ended = asyncio.Condition()

    async def all_ended(self, count: int, *, within_seconds: float) -> None:
        """Wait until that many have ended, but not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within_seconds), self._one_ended:
                await self._one_ended.wait_for(lambda: len(self.ended) >= count)

    def reply_changed(self, reply_id: str) -> None:
        self._news.add(reply_id)
        if reply_id not in self._at_work:
            self._at_work.add(reply_id)
            self._supervisor.start(f"card {reply_id}", self._edit(reply_id))

    def operator_notice(self, matter: str, text: str) -> None:
        self.notices.append(f"{matter}: {text}")

    async def find_message(self, reply: Reply) -> int | None:
        return None

    async def _edit(self, reply_id: str) -> None:
        try:
            while reply_id in self._news:
                self._news.discard(reply_id)
                view = await self._service.view(reply_id)
                assert view is not None, "it was admitted"
                if view.reply.is_final:
                    await self._end(view.reply)
                else:
                    self._keep_shown(view)
        finally:
            self._at_work.discard(reply_id)

    async def _end(self, reply: Reply) -> None:
        if reply.delivery is not Delivery.PENDING:
            return
        self.edits += 1
        await asyncio.sleep(self._upload_seconds)
        found = {picture.sha256: 1 for job in reply.jobs for picture in job.pictures}
        store = self._service.store
        await written(partial(store.set_delivery, reply.id, Delivery.DELIVERED, attachment_ids=found))
        self.ended[reply.id] += 1
        async with self._one_ended:
            self._one_ended.notify_all()
        self._shown.pop(reply.id, None)

    def _keep_shown(self, view: ReplyView) -> None:
        reply_id = view.reply.id
        looks = tuple((job.job.status, job.progress, job.place_in_line) for job in view.jobs)
        shown, next_edit_at = self._shown.get(reply_id, (None, 0.0))
        if looks == shown:
            return
        if self._loop.time() < next_edit_at:
            self._loop.call_at(next_edit_at, self.reply_changed, reply_id)
            return
        self.edits += 1
        self._shown[reply_id] = looks, self._loop.time() + EDIT_INTERVAL_SECONDS
