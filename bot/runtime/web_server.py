"""HttpServer: health, readiness, metrics, and the webhooks of providers."""

from __future__ import annotations

import asyncio
import errno
import inspect
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self, cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from bot.domain.errors import SettingsError

_log = logging.getLogger(__name__)

MAX_WEBHOOK_BYTES = 256 * 1024
_HOOK_READ_SECONDS = 10.0
_CHECK_SECONDS = 2.0
_MAX_ID_CHARACTERS = 200

Check = Callable[[], "str | Awaitable[str | None] | None"]
"""Returns None when the part is ready, otherwise a few words on why it is not."""

OnHook = Callable[[str, "str | None"], None]
"""Receives the token of the path and the id that the body names, if any. Both are unauthenticated."""


class HttpServer:
    """Serves `/healthz`, `/readyz`, `/metrics` and `POST /hooks/{token}`.

    Every webhook gets the same empty response, whether or not its token is known, so that callers cannot find out valid
    tokens. `on_hook` must return at once.
    """

    def __init__(
        self,
        *,
        host: str,
        port: int,
        checks: Mapping[str, Check],
        on_hook: OnHook,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._host = host
        self._requested_port = port
        self._port: int | None = None
        self._checks = dict(checks)
        self._on_hook = on_hook
        self._registry = registry
        application = web.Application()
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        if registry is not None:
            application.router.add_get("/metrics", self._metrics)
        application.router.add_post("/hooks/{token}", self._hook)
        # No access log: the path of a webhook is a secret.
        self._runner = web.AppRunner(application, access_log=None, lingering_time=1.0, shutdown_timeout=2.0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port it listens on, also when the setting is 0 (any free port)."""
        if self._port is None:
            raise RuntimeError("the server has not started")
        return self._port

    async def start(self) -> None:
        """Listen. Raises SettingsError, naming the variable, when the address cannot be used."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._requested_port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(_explain(error, self._host, self._requested_port)) from error
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening after the requests in progress. May be repeated."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        # A response shows that the process lives and its event loop runs; everything else is part of /readyz.
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        answers = await asyncio.gather(*(self._ask(name, check) for name, check in self._checks.items()))
        failing = {name: answer for name, answer in zip(self._checks, answers, strict=True) if answer is not None}
        status = "not ready" if failing else "ready"
        return web.json_response({"status": status, "failing": failing}, status=503 if failing else 200)

    async def _ask(self, name: str, check: Check) -> str | None:
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                answer = check()
                return await answer if inspect.isawaitable(answer) else answer
        except TimeoutError:
            return f"no answer within {_CHECK_SECONDS:.0f} s"
        except Exception as error:
            _log.warning("the readiness check of %s failed", name, exc_info=True)
            # The text of the error may hold an address or a key; its class tells the operator where to look.
            return type(error).__name__

    async def _metrics(self, _: web.Request) -> web.Response:
        assert self._registry is not None, "the route exists only with a registry"
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _hook(self, request: web.Request) -> web.Response:
        answer = web.Response(status=204)
        body = await _read(request)
        if body is None:
            answer.force_close()  # otherwise the rest of the body would be read as the next request
        try:
            self._on_hook(request.match_info["token"], _id_in(body or b""))
        except Exception:
            _log.exception("a webhook could not be handled")
        return answer


async def _read(request: web.Request) -> bytes | None:
    """Read the body. None when it is too long, too slow or incomplete."""
    body = bytearray()
    try:
        async with asyncio.timeout(_HOOK_READ_SECONDS):
            async for chunk in request.content.iter_any():
                body += chunk
                if len(body) > MAX_WEBHOOK_BYTES:
                    return None
    except (TimeoutError, OSError, web.HTTPException, ValueError):
        return None
    return bytes(body)


def _id_in(body: bytes) -> str | None:
    """Return the job id that the body of a webhook names: `job_id` or `request_id`."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    fields = cast("dict[str, Any]", parsed)
    for name in ("job_id", "request_id"):
        value = fields.get(name)
        if isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARACTERS:
            return value
    return None


def _explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"HTTP_PORT {port} is taken by another program on {host}: choose another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"HTTP_PORT {port} may not be used by this user: choose one from 1024 up"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"HTTP_HOST must be an address of this machine such as 127.0.0.1, and {host} is none"
    return f"HTTP_HOST and HTTP_PORT cannot be used: {error.strerror or type(error).__name__}"
