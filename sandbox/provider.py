"""SandboxProvider: a simulated Krea and Pixazo over real HTTP on loopback, as strict as their documentation.

    async with SandboxProvider() as sandbox:
        KreaProvider(session, base_url=sandbox.krea_base, api_key=sandbox.krea_key)

What happens to an order is set by `next_order(Plan(...))` or by words in the prompt (plans.py). Without either
it succeeds within a few seconds. Every request and bill is kept for inspection.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

import aiohttp
from aiohttp import web

from sandbox.contracts import Contract, as_openapi, contracts, gone
from sandbox.form import fields_of
from sandbox.plans import FileTrouble, How, Plan, Trouble, plan_in
from sandbox.remote_job import JobQueue, RemoteJob
from sandbox.shelf import Shelf, UnusableResult

_log = logging.getLogger(__name__)

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
BUSY_ANSWERS = 3
"""Refusals of one order by `[busy]`, five seconds apart; then the order is taken."""

_KEY_HEADERS = ("Authorization", "Ocp-Apim-Subscription-Key")
_UPLOAD_MAX_BYTES = 75_000_000
_UPLOAD_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/heic"})
_STYLES: tuple[dict[str, Any], ...] = tuple(
    {
        "id": f"style-{name}",
        "title": name.replace("-", " ").title(),
        "urls": [],
        "public": True,
        "cover_url": None,
        "prompt": f"in {name} style",
        "models": ["krea-2", "flux_dev", "qwen", "z-image"],
        "owner": {"id": "u1", "name": "Krea", "avatar_url": None},
        "like_count": 100 - index,
        "created_at": "2026-03-01T00:00:00Z",
    }
    for index, name in enumerate(("watercolour", "paper-cut", "film-grain", "ukiyo-e", "clay", "pixel-art"))
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One request as it arrived."""

    operation: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: Any
    at: datetime


class SandboxProvider:
    """Both simulated APIs, their images and their bills, on one port of 127.0.0.1."""

    def __init__(
        self,
        *,
        port: int = 0,
        seconds_scale: float = 1.0,
        steps_by_reads: bool = False,
        concurrency: int = 8,
        backlog: int = 100,
        balance_usd_micros: int | None = None,
        unpublished_price_usd_micros: int = 50_000,
        krea_key: str | None = None,
        pixazo_key: str | None = None,
    ) -> None:
        """With `steps_by_reads` a job advances one step at each poll, whatever the time."""
        self.krea_key = krea_key or f"krea:{secrets.token_hex(16)}"
        self.pixazo_key = pixazo_key or secrets.token_hex(16)
        self.balance_usd_micros = balance_usd_micros
        self.requests: list[Seen] = []
        self.violations: list[str] = []
        """Errors of the client, such as a key sent to another host."""
        self.default_plan = Plan()
        self.lists_orders = True
        """Whether the list of jobs tells model and request body: that the real one does is not documented."""
        self.told_to_wait: Counter[str] = Counter()
        """How often orders with a prompt were answered 429, which is no acceptance."""
        self.unlisted: set[str] = set()
        """Ids of jobs that the list does not show (yet)."""
        self.styles = list(_STYLES)
        """What is listed and may be ordered."""
        self.odd: Callable[[str], Trouble | None] | None = None
        """Called with the operation of each request that has no answer of its own yet: the faulty answer, or None."""
        self._port = port
        self._unpublished_price_usd_micros = unpublished_price_usd_micros
        self._plans: deque[Plan] = deque()
        self._troubles: defaultdict[str, deque[Trouble]] = defaultdict(deque)
        self._shelf = Shelf()
        self._queue = JobQueue(
            seconds_scale=seconds_scale,
            steps_by_reads=steps_by_reads,
            concurrency=concurrency,
            backlog=backlog,
            on_end=self._ended,
        )
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None
        self._base = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_UPLOAD_MAX_BYTES + 1_000_000)
        app.add_routes(
            [
                web.get("/jobs", self._krea("list", self._list_jobs)),
                web.get("/jobs/{id}", self._krea("read", self._read_job)),
                web.delete("/jobs/{id}", self._krea("cancel", self._cancel_job)),
                web.post("/assets", self._krea("upload", self._upload)),
                web.get("/styles", self._krea("styles", self._list_styles)),
                web.get("/styles/{id}", self._krea("styles", self._read_style)),
                web.get("/openapi.json", self._open("openapi", self._openapi)),
                web.get("/v2/requests/status/{id}", self._pixazo("read", self._read_request)),
                web.get("/pictures/{name}", self._open("picture", self._picture)),
                web.get("/uploads/{name}", self._open("input", self._uploaded)),
                web.post("/generate/{rest:.+}", self._krea("order", self._order)),
                web.post("/{rest:.+}", self._pixazo("order", self._order)),
                web.route("*", "/{rest:.*}", self._open("nowhere", self._nowhere)),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self._base = f"http://127.0.0.1:{self._port}"
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15))
        self._shelf.open(self._base, self._session)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._queue.close()
        if self._session is not None:
            await self._session.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # -- for tests and the demo -----------------------------------------------------------------------

    @property
    def krea_base(self) -> str:
        return self._base

    @property
    def pixazo_base(self) -> str:
        return self._base

    @property
    def cdn_host(self) -> str:
        """Return where finished images are served, as `host:port`."""
        return self._base.removeprefix("http://")

    def next_order(self, *plans: Plan) -> None:
        """Set the plans of the next orders, one plan each."""
        self._plans.extend(plans)

    def next_answers(self, operation: str, *troubles: Trouble) -> None:
        """Set the answers to the next requests of a kind: 'read', 'list', 'cancel', 'upload', 'styles', 'openapi'."""
        self._troubles[operation].extend(troubles)

    @property
    def orders(self) -> list[Seen]:
        """Return every order that arrived, accepted or not."""
        return self.seen("order")

    def seen(self, operation: str) -> list[Seen]:
        return [request for request in self.requests if request.operation == operation]

    @property
    def jobs(self) -> Mapping[str, RemoteJob]:
        """Return every accepted job by its id."""
        return self._queue.jobs

    @property
    def peak_in_flight(self) -> int:
        """Return the highest number of jobs that were accepted and unfinished at one moment."""
        return self._queue.peak_in_flight

    @property
    def bill_usd_micros(self) -> int:
        """Return what the operator owes."""
        return sum(job.billed_usd_micros for job in self.jobs.values())

    def complete_all(self) -> None:
        """Complete and bill every job that is not at its end yet, whatever its plan."""
        for job in list(self.jobs.values()):
            self._queue.complete(job)

    # -- every request --------------------------------------------------------------------------------

    def _krea(self, operation: str, handler: _Handler) -> _Handler:
        def refusal(request: web.Request) -> web.Response | None:
            if request.headers.get("Authorization") == f"Bearer {self.krea_key}":
                return None
            return _says(401, {"message": "Unauthorized"})

        return self._guarded(operation, handler, refusal, foreign="Ocp-Apim-Subscription-Key")

    def _pixazo(self, operation: str, handler: _Handler) -> _Handler:
        def refusal(request: web.Request) -> web.Response | None:
            if request.headers.get("Ocp-Apim-Subscription-Key") == self.pixazo_key:
                return None
            return _says(401, {"error": "Unauthorized", "message": "Access denied due to invalid subscription key."})

        return self._guarded(operation, handler, refusal, foreign="Authorization")

    def _open(self, operation: str, handler: _Handler) -> _Handler:
        return self._guarded(operation, handler, lambda request: None, foreign=None)

    def _guarded(
        self,
        operation: str,
        handler: _Handler,
        refusal: Callable[[web.Request], web.Response | None],
        *,
        foreign: str | None,
    ) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            await self._note(operation, request)
            unwanted = _KEY_HEADERS if foreign is None else (foreign,)
            self.violations.extend(f"{name} sent to {request.path}" for name in unwanted if name in request.headers)
            if self._troubles[operation]:
                return await self._troubled(request, self._troubles[operation].popleft())
            if operation != "order" and self.odd is not None and (odd := self.odd(operation)) is not None:
                return await self._troubled(request, odd)
            return refusal(request) or await handler(request)

        return handle

    async def _note(self, operation: str, request: web.Request) -> None:
        body: Any = None
        if request.content_type == "application/json":
            try:
                body = json.loads(await request.read())
            except ValueError:
                body = None
        self.requests.append(
            Seen(
                operation=operation,
                method=request.method,
                path=request.path_qs,
                headers=dict(request.headers),
                body=body,
                at=datetime.now(UTC),
            )
        )

    def _plan_in(self, prompt: str) -> Plan | None:
        """Return the plan that a prompt asks for; a busy provider takes the order after a few refusals."""
        plan = plan_in(prompt)
        is_busy = plan is not None and plan.trouble is not None and plan.trouble.status == 429
        return None if is_busy and self.told_to_wait[prompt] >= BUSY_ANSWERS else plan

    async def _troubled(self, request: web.Request, trouble: Trouble) -> web.StreamResponse:
        """Send the faulty answer that was requested."""
        match trouble.how:
            case How.STATUS:
                return web.json_response(trouble.body, status=trouble.status, headers=dict(trouble.headers))
            case How.RESET:
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            case How.HANG:
                await asyncio.sleep(3600)
                return web.Response()
            case How.NOT_JSON:
                return web.Response(text="<html>Bad gateway</html>", content_type="text/html")
            case How.NO_ID:
                return web.json_response({"status": "queued"})
            case How.TOO_BIG:
                return web.Response(body=b'{"job_id": "' + b"x" * 6_000_000 + b'"}', content_type="application/json")
            case How.BAD_ENCODING:
                return web.Response(body=b"not gzip at all", headers={"Content-Encoding": "gzip"})
            case How.CUT_SHORT:
                response = web.StreamResponse(headers={"Content-Length": "5000", "Content-Type": "application/json"})
                await response.prepare(request)
                await response.write(b'{"job_id": "0000')
                if request.transport is not None:
                    request.transport.close()
                return response

    # -- orders ---------------------------------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.StreamResponse:
        contract = contracts().get(request.path)
        krea = request.path.startswith("/generate/")
        if contract is None:
            return self._no_such_model(request.path, krea=krea)
        try:
            body = json.loads(await request.read())
        except ValueError:
            return _says(400, {"error": "The body is not JSON"})
        if not isinstance(body, dict):
            return _says(400, {"error": "The body is not an object"})
        order = cast("dict[str, Any]", body)
        plan = self._plans.popleft() if self._plans else self._plan_in(str(order.get("prompt"))) or self.default_plan
        if plan.trouble is None and self.odd is not None:
            plan = replace(plan, trouble=self.odd("order"))
        if plan.trouble is not None and plan.trouble.status == 429 and plan.trouble.how is How.STATUS:
            self.told_to_wait[str(order.get("prompt"))] += 1
        if plan.trouble is not None and not plan.trouble.accepted:
            return await self._troubled(request, plan.trouble)
        refusal = self._refused(contract, order)
        if refusal is not None:
            return refusal
        try:
            images = [(role, await self._shelf.fetch(url)) for role, url in contract.image_urls(order) if url]
        except UnusableResult as error:
            return _says(422 if krea else 400, {"error": str(error)})
        job = self._queue.accept(
            RemoteJob(
                id=str(uuid.uuid4()) if krea else f"{contract.path.split('/')[1]}_{uuid.uuid4()}",
                contract=contract,
                body=order,
                plan=plan,
                price_usd_micros=self._price(contract, order),
                webhook_url=request.headers.get("X-Webhook-URL"),
                images=tuple(images),
                base=self._base,
            )
        )
        if job is None:
            self.told_to_wait[str(order.get("prompt"))] += 1
            return _says(429, {"error": "Too many concurrent jobs"}, headers={"Retry-After": "1"})
        if plan.trouble is not None:
            return await self._troubled(request, plan.trouble)
        return web.json_response(job.as_accepted(), status=200 if krea else 202)

    def _no_such_model(self, path: str, *, krea: bool) -> web.Response:
        if path in gone():
            return _says(
                410,
                {
                    "error": "model_unavailable",
                    "reason": "deprecated",
                    "message": "This model was retired.",
                    **gone()[path],
                },
            )
        if krea:
            return _says(404, {"error": "Not found"})
        return _says(400, {"error": "Model not found", "message": "The model does not exist or is disabled."})

    def _refused(self, contract: Contract, order: Mapping[str, Any]) -> web.Response | None:
        problems = contract.problems(order)
        known = {style["id"] for style in self.styles}
        styles = cast("list[Any]", order.get("styles")) if isinstance(order.get("styles"), list) else []
        problems += [
            f"styles[{index}]: no such style"
            for index, style in enumerate(styles)
            if isinstance(style, dict) and cast("dict[str, Any]", style).get("id") not in known
        ]
        if problems:
            return _says(400, {"error": "; ".join(problems)})
        if self.balance_usd_micros is not None and self._price(contract, order) > self.balance_usd_micros:
            body = {"error": "Insufficient Balance", "message": "Top up to go on."}
            return _says(402, body if contract.provider == "pixazo" else {"error": "Insufficient balance"})
        return None

    def _price(self, contract: Contract, order: Mapping[str, Any]) -> int:
        published = contract.price_usd_micros(order)
        return self._unpublished_price_usd_micros if published is None else published

    async def _ended(self, job: RemoteJob) -> None:
        """Record the bill and, where a callback was requested, send it."""
        if job.billed_usd_micros and self.balance_usd_micros is not None:
            self.balance_usd_micros -= job.billed_usd_micros
        if job.webhook_url is None or self._session is None:
            return
        for _ in range(job.plan.webhook_copies):
            try:
                async with self._session.post(job.webhook_url, json=job.as_document(), allow_redirects=False):
                    pass
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.info("Webhook for %s not delivered: %s", job.id, type(error).__name__)

    # -- Krea -----------------------------------------------------------------------------------------

    async def _read_job(self, request: web.Request) -> web.StreamResponse:
        return self._reading(request, "krea", {"error": "Job not found"})

    def _reading(self, request: web.Request, provider: str, unknown: Mapping[str, str]) -> web.Response:
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.contract.provider != provider:
            return _says(404, unknown)
        document = job.as_document()
        job.was_read.set()
        return web.json_response(document)

    async def _list_jobs(self, request: web.Request) -> web.StreamResponse:
        try:
            limit = int(request.query.get("limit", "100"))
            cursor = datetime.fromisoformat(request.query["cursor"]) if "cursor" in request.query else None
        except ValueError:
            return _says(400, {"error": "Invalid query"})
        if not 1 <= limit <= 1000:
            return _says(400, {"error": "limit: 1..1000"})
        status = request.query.get("status")
        mine = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: job.created_at, reverse=True)
            if job.contract.provider == "krea"
            and job.id not in self.unlisted
            and (cursor is None or job.created_at < cursor)
            and (status is None or job.word == status)
        ]
        page = mine[:limit]
        next_cursor = page[-1].as_document()["created_at"] if len(mine) > limit else None
        return web.json_response(
            {"items": [job.as_listed(self.lists_orders) for job in page], "next_cursor": next_cursor}
        )

    async def _cancel_job(self, request: web.Request) -> web.StreamResponse:
        job = self.jobs.get(request.match_info["id"])
        if job is None or job.word not in ("backlogged", "queued", "processing"):
            return _says(404, {"error": "Job not found or not cancellable"})
        self._queue.cancel(job)
        return web.json_response({"success": True})

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if not request.content_type.startswith("multipart/"):
            return _says(400, {"error": "Expected multipart/form-data"})
        file = {field.name: field async for field in fields_of(request)}.get("file")
        if file is None or file.filename is None:
            return _says(400, {"error": "file: required"})
        if file.content_type not in _UPLOAD_TYPES:
            return _says(400, {"error": f"Unsupported file type {file.content_type}"})
        if len(file.data) > _UPLOAD_MAX_BYTES:
            return _says(413, {"error": "File too large"})
        try:
            return web.json_response(await self._shelf.keep(file.data, file.content_type))
        except UnusableResult as error:
            return _says(400, {"error": str(error)})

    async def _list_styles(self, request: web.Request) -> web.StreamResponse:
        wanted, start, limit = (request.query.get(name) for name in ("ids", "cursor", "limit"))
        found = [style for style in self.styles if wanted is None or style["id"] in wanted.split(",")]
        if not all(number is None or number.isdigit() for number in (start, limit)):
            return _says(400, {"error": "Invalid query"})
        end = int(start or 0) + int(limit or 100)
        following = str(end) if end < len(found) else None
        return web.json_response({"items": found[int(start or 0) : end], "next_cursor": following})

    async def _read_style(self, request: web.Request) -> web.StreamResponse:
        found = next((style for style in self.styles if style["id"] == request.match_info["id"]), None)
        return web.json_response(found) if found else _says(404, {"error": "Style not found"})

    async def _openapi(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(as_openapi())

    # -- Pixazo ---------------------------------------------------------------------------------------

    async def _read_request(self, request: web.Request) -> web.StreamResponse:
        return self._reading(request, "pixazo", {"error": "Not found", "message": "Request not found"})

    # -- files ----------------------------------------------------------------------------------------

    async def _picture(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        is_preview = name.startswith("preview-")
        job = self.jobs.get(name.removeprefix("preview-").rpartition(".")[0])
        if job is None or (not is_preview and not job.succeeded):
            return _says(404, {"error": "Not found"})
        data = await self._shelf.picture_of(job, preview=is_preview)
        match FileTrouble.NONE if is_preview else job.plan.file_trouble:
            case FileTrouble.MISSING:
                return _says(404, {"error": "Not found"})
            case FileTrouble.HTML:
                return web.Response(text="<html>Sorry</html>", content_type="image/png")
            case FileTrouble.REDIRECT:
                return web.Response(status=302, headers={"Location": job.plan.redirect_to})
            case FileTrouble.SLOW:
                await asyncio.sleep(30)
            case FileTrouble.TRUNCATED:
                response = web.StreamResponse(headers={"Content-Length": str(len(data)), "Content-Type": "image/png"})
                await response.prepare(request)
                await response.write(data[: len(data) // 2])
                if request.transport is not None:
                    request.transport.close()
                return response
            case FileTrouble.HUGE:
                # A valid image followed by many bytes that viewers ignore.
                data += bytes(30_000_000)
            case FileTrouble.NONE:
                pass
        return web.Response(body=data, content_type=job.content_type)

    async def _uploaded(self, request: web.Request) -> web.StreamResponse:
        found = self._shelf.uploaded(request.match_info["name"])
        if found is None:
            return _says(404, {"error": "Not found"})
        return web.Response(body=found[0], content_type=found[1])

    async def _nowhere(self, request: web.Request) -> web.StreamResponse:
        self.violations.append(f"{request.method} {request.path} is no route of either provider")
        return _says(404, {"error": "Not found"})


def _says(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> web.Response:
    return web.json_response(body, status=status, headers=headers)
