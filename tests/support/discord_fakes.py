"""Fakes of the outside: an image API that a test controls, and a server of images."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from aiohttp import web

from bot.domain.errors import ProviderRejected
from bot.domain.jobs import Failure, FailureReason, JobStatus, Progress
from bot.domain.money.bill import JobList
from bot.providers.base import ProviderRequest, RemoteJob, StylePage, Update


class FakeProvider:
    """An image API of our own. Its jobs are finished at the first poll, unless `waits` is set: then the test decides.

    Jobs are numbered in the order in which they were accepted, from 0; -1 is the latest.
    """

    deadline_seconds = 120.0
    late_seconds = 120.0
    can_list = True
    lists_costs = has_styles = False

    def __init__(
        self, name: str, *, image_url: Callable[[], str], takes_uploads: bool = True, can_cancel: bool = True
    ) -> None:
        self.name = name
        self.takes_uploads = takes_uploads
        self.can_cancel = can_cancel
        self.waits = False
        self.agrees_to_cancel = True
        self.orders: list[ProviderRequest] = []
        self.uploads: list[bytes] = []
        self.cancelled: list[str] = []
        self.listed: list[RemoteJob] = []
        self.troubles: deque[Exception | None] = deque()
        """The errors of the next orders, one each; None accepts one."""
        self.door = asyncio.Event()
        """Orders are answered only while it is set."""
        self.door.set()
        self._jobs: dict[str, Update] = {}
        self._image_url = image_url

    # -- for tests --------------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        return len(self._jobs)

    def remote_id(self, number: int = -1) -> str:
        return list(self._jobs)[number]

    def goes_on(self, progress: Progress, *, number: int = -1, preview_url: str | None = None) -> None:
        self._say(number, status=JobStatus.RUNNING, progress=progress, preview_url=preview_url)

    def finishes(self, *result_urls: str, number: int = -1, cost_usd_micros: int | None = None) -> None:
        urls = result_urls or (self._image_url(),)
        self._say(number, status=JobStatus.SUCCEEDED, result_urls=urls, cost_usd_micros=cost_usd_micros)

    def fails(self, reason: FailureReason, *, number: int = -1, hint: str = "", may_be_charged: bool = False) -> None:
        failure = Failure(reason=reason, hint=hint)
        self._say(number, status=JobStatus.FAILED, failure=failure, may_be_charged=may_be_charged)

    def gives_up(self, *, number: int = -1) -> None:
        self._say(number, status=JobStatus.CANCELLED)

    def _say(self, number: int, **news: object) -> None:
        remote_id = self.remote_id(number)
        blank = Update(remote_id=remote_id, status=JobStatus.RUNNING, provider_status="test")
        self._jobs[remote_id] = replace(blank, **news)

    # -- the Provider protocol --------------------------------------------------------------------------

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        self.orders.append(request)
        await self.door.wait()
        trouble = self.troubles.popleft() if self.troubles else None
        if trouble is not None:
            raise trouble
        remote_id = f"{self.name}-{len(self._jobs)}"
        self._jobs[remote_id] = Update(remote_id=remote_id, status=JobStatus.RUNNING, provider_status="accepted")
        if not self.waits:
            self.finishes()
        return RemoteJob(remote_id=remote_id, created_at=datetime.now(UTC), progress=Progress.WAITING)

    async def fetch(self, remote_id: str) -> Update:
        update = self._jobs.get(remote_id)
        if update is None:
            raise ProviderRejected("no such job", status=404)
        return update

    async def cancel(self, remote_id: str) -> bool:
        self.cancelled.append(remote_id)
        if self.agrees_to_cancel:
            self._jobs[remote_id] = Update(
                remote_id=remote_id, status=JobStatus.CANCELLED, provider_status="cancelled by us"
            )
        return self.agrees_to_cancel

    async def upload(self, data: bytes, content_type: str) -> str:
        self.uploads.append(data)
        return f"https://provider.invalid/uploads/{len(self.uploads)}"

    async def recent(self, *, since: datetime, until: datetime | None = None) -> Sequence[RemoteJob]:
        return list(self.listed)

    async def listed_costs(self, *, since: datetime, now: datetime) -> JobList:
        raise NotImplementedError

    async def styles(self, cursor: str | None) -> StylePage:
        raise NotImplementedError

    async def has_model(self, path: str) -> bool:
        return True

    async def probe(self) -> None:
        return


class ImageServer:
    """Serves images on 127.0.0.1: finished ones as a provider would, and what Discord's content network holds."""

    def __init__(self) -> None:
        self.results: dict[str, bytes] = {}
        self.attachments: Callable[[str], bytes | None] = lambda url: None
        """Returns the file on Discord's CDN at an address."""
        self.delay_seconds = 0.0
        self.base = ""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.add_routes([web.get("/results/{name}", self._result), web.get("/attachments/{rest:.+}", self._attachment)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def host(self) -> str:
        """Return the address as `host:port`."""
        return self.base.removeprefix("http://")

    def keep(self, name: str, data: bytes) -> str:
        """Serve a finished image and return its URL."""
        self.results[name] = data
        return f"{self.base}/results/{name}"

    async def _result(self, request: web.Request) -> web.Response:
        data = self.results.get(request.match_info["name"])
        return _last_response(data, missing_status=410)

    async def _attachment(self, request: web.Request) -> web.Response:
        await asyncio.sleep(self.delay_seconds)
        data = self.attachments(f"{self.base}{request.path}")
        return _last_response(data, missing_status=404)


def _last_response(data: bytes | None, *, missing_status: int) -> web.Response:
    """Return a response after which the connection is closed.

    A client keeps an open connection with a timer of 15 seconds, and the simulated Discord waits for timers of what a
    command did: tests took up to 30 seconds each.
    """
    response = web.Response(body=data) if data is not None else web.Response(status=missing_status)
    response.force_close()
    return response
