"""What the bot serves over HTTP: health, readiness, metrics, and the webhooks of providers."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_log = logging.getLogger(__name__)

MAX_WEBHOOK_BYTES = 256 * 1024
_HOOK_READ_SECONDS = 10.0
_HOOK_HANDLE_SECONDS = 5.0
_CHECK_SECONDS = 2.0
_METRICS_SECONDS = 1.0
"""How old the metrics may be: making them takes milliseconds, and strangers may ask for them without end."""

_MAX_ID_CHARACTERS = 200

Check = Callable[[], "str | Awaitable[str | None] | None"]
"""Returns None when the part is ready, otherwise a few words on why it is not."""

OnHook = Callable[[str, "str | None"], "Awaitable[None] | None"]
"""Receives the token of the path and the id that the body names, if any. Both are unauthenticated."""


class HealthRoutes:
    """`/healthz`, `/readyz` and `/metrics`: for the operator and the programs that watch the bot."""

    def __init__(
        self, checks: Mapping[str, Check], registry: CollectorRegistry, *, degraded: Mapping[str, Check] | None = None
    ) -> None:
        """Create the routes. What fails in `degraded` alone is named, and leaves the process ready."""
        self._checks = dict(checks)
        self._degraded = dict(degraded or {})
        self._registry = registry
        self._page = b""
        self._page_made_at = float("-inf")

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for an HttpServer."""
        return [
            web.get("/healthz", self._healthz),
            web.get("/readyz", self._readyz),
            web.get("/metrics", self._metrics),
        ]

    async def _healthz(self, _: web.Request) -> web.Response:
        # A response shows that the process lives and its event loop runs; everything else is part of /readyz.
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        failing, degraded = await asyncio.gather(self._failing(self._checks), self._failing(self._degraded))
        status = "not ready" if failing else "degraded" if degraded else "ready"
        return web.json_response({"status": status, "failing": degraded | failing}, status=503 if failing else 200)

    async def _failing(self, checks: Mapping[str, Check]) -> dict[str, str]:
        answers = await asyncio.gather(*(self._ask(name, check) for name, check in checks.items()))
        return {name: answer for name, answer in zip(checks, answers, strict=True) if answer is not None}

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
        now = asyncio.get_running_loop().time()
        if now - self._page_made_at >= _METRICS_SECONDS:
            self._page, self._page_made_at = generate_latest(self._registry), now
        return web.Response(body=self._page, headers={"Content-Type": CONTENT_TYPE_LATEST})


class WebhookRoutes:
    """`POST /hooks/{token}`: for providers, and for everybody else who reaches the port.

    Every call gets the same empty response, whether or not its token is known, so that callers cannot find out valid
    tokens. It is sent when what `on_hook` returns is done, so that a call that was answered is not lost.
    """

    def __init__(self, on_hook: OnHook) -> None:
        self._on_hook = on_hook

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, for an HttpServer."""
        return [web.post("/hooks/{token}", self._hook)]

    async def _hook(self, request: web.Request) -> web.Response:
        answer = web.Response(status=204)
        body = await _read(request)
        if body is None:
            answer.force_close()  # otherwise the rest of the body would be read as the next request
        try:
            handled = self._on_hook(request.match_info["token"], _id_in(body or b""))
            if handled is not None:
                async with asyncio.timeout(_HOOK_HANDLE_SECONDS):
                    await handled
        except TimeoutError:
            _log.warning("a webhook was not handled within %.0f s", _HOOK_HANDLE_SECONDS)
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
    except (TimeoutError, OSError, web.HTTPException, ValueError, RuntimeError):
        return None  # aiohttp raises RuntimeError where the connection was closed before its body is asked for
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
