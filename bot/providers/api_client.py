"""Api: one hosted API as we reach it: origin, key, clocks, and what each way of failing says about what was sent.

Two kinds of call. An *order* costs money and is sent exactly once: whatever leaves its fate open becomes
`OutcomeUncertain`. A *question* costs nothing: whatever leaves it unanswered becomes `ProviderUnavailable`.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from bot.domain.errors import OutcomeUncertain, ProviderDenied, ProviderError, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import FailureReason
from bot.providers.parsing import read_error_body
from bot.runtime.retry import RetryBudget

_ANSWER_MAX_BYTES = 4 * 1024 * 1024
_PAUSE_MAX_SECONDS = 10.0

# Raised by aiohttp only while a connection is being made: name, connect, TLS. No byte of the request has left then.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ServerFingerprintMismatch)

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """How long each phase of a request may take. `connect` must be the shortest: a total time-out then means 'sent'."""

    connect_seconds: float
    silence_seconds: float
    """To the first byte of the answer, and between two pieces of it."""
    total_seconds: float

    def as_timeout(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            connect=self.connect_seconds, sock_read=self.silence_seconds, total=self.total_seconds
        )


# An order may take the provider a while to accept, and giving up early turns it into an uncertain one.
SUBMIT_TIMEOUTS = Timeouts(connect_seconds=10, silence_seconds=60, total_seconds=90)
READ_TIMEOUTS = Timeouts(connect_seconds=5, silence_seconds=15, total_seconds=30)
UPLOAD_TIMEOUTS = Timeouts(connect_seconds=10, silence_seconds=120, total_seconds=300)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiResponse:
    """What came back. `whole` is False when the body was cut short, too big or undecodable; the status holds anyway."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool

    @property
    def accepted(self) -> bool:
        return 200 <= self.status < 300

    def document(self) -> Any:
        """The JSON in the body, or None when there is none to be read."""
        if not self.whole:
            return None
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


_CLOCK_RESOLUTION = timedelta(seconds=2)
"""A `Date` header is cut to the second, and its answer took a while to arrive."""


def open_session(*, max_connections: int = 100, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
    """A session fit for providers: no cookies, no proxies from the environment, nothing on it that could leak."""
    return aiohttp.ClientSession(
        # An order on a connection that the server is just closing ends uncertain: do not keep idle ones long.
        connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=10),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        trace_configs=list(traces),
    )


class ApiClient:
    """Requests to one origin. The key goes on each request to that origin and nowhere else."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        name: str,
        base_url: str,
        key_header: str,
        key_prefix: str = "",
        api_key: str,
        submit_timeouts: Timeouts = SUBMIT_TIMEOUTS,
        read_timeouts: Timeouts = READ_TIMEOUTS,
        upload_timeouts: Timeouts = UPLOAD_TIMEOUTS,
        pause_seconds: float = 0.5,
    ) -> None:
        self.clock_ahead = timedelta()
        """How far the other side's clock is ahead of ours, as its last answer told."""
        self._retries = RetryBudget()
        self._session = session
        self._name = name
        self._base = base_url.rstrip("/")
        self._origin = URL(self._base).origin()
        self._api_key = api_key
        self._key_headers = {key_header: f"{key_prefix}{api_key}"}
        self._submit_timeouts = submit_timeouts
        self._read_timeouts = read_timeouts
        self._upload_timeouts = upload_timeouts
        self._pause_seconds = pause_seconds

    def __repr__(self) -> str:
        return f"Api({self._name!r}, {self._base!r})"

    # -- the two kinds of call ------------------------------------------------------------------------

    async def submit(self, path: str, document: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Any:
        """POST one order, once. Returns the JSON of a 2xx answer; every other ending is a `ProviderError`."""
        try:
            data = json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ProviderRejected(f"{self._name}: the order is not JSON: {error}") from error
        answer = await self._exchange(
            "POST",
            path,
            ordering=True,
            clocks=self._submit_timeouts,
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache", **(headers or {})},
            data=data,
        )
        if not answer.accepted:
            raise self._refusal(answer, ordering=True)
        found = answer.document()
        if found is None:
            raise OutcomeUncertain(f"{self._name}: {answer.status} without a readable body", status=answer.status)
        return found

    async def get(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, attempts: int = 1, empty: bool = False
    ) -> Any:
        """A call that buys nothing. Returns the JSON of a 2xx answer; with `empty`, whatever the body was (or None)."""

        async def once() -> Any:
            answer = await self._exchange(
                method, path, ordering=False, clocks=self._read_timeouts, headers={}, params=params
            )
            return self._found(answer, empty=empty)

        return await self._patiently(once, attempts=attempts)

    async def send_file(
        self, path: str, *, field: str, data: bytes, filename: str, content_type: str, attempts: int = 1
    ) -> Any:
        """POST one file as a form. Buys nothing, so it may be repeated."""

        async def once() -> Any:
            form = aiohttp.FormData()
            # As a file, so that it leaves in pieces: large bytes at once would hold up everybody else.
            form.add_field(field, io.BytesIO(data), filename=filename, content_type=content_type)
            answer = await self._exchange(
                "POST", path, ordering=False, clocks=self._upload_timeouts, headers={}, data=form
            )
            return self._found(answer, empty=False)

        return await self._patiently(once, attempts=attempts)

    # -- mechanics ------------------------------------------------------------------------------------

    def _found(self, answer: ApiResponse, *, empty: bool) -> Any:
        if not answer.accepted:
            raise self._refusal(answer, ordering=False)
        found = answer.document()
        if found is None and not empty:
            raise ProviderUnavailable(f"{self._name}: {answer.status} without a readable body", status=answer.status)
        return found

    async def _patiently(self, once: Callable[[], Awaitable[_Result]], *, attempts: int) -> _Result:
        self._retries.earn()
        for attempt in range(1, attempts):
            try:
                return await once()
            except ProviderUnavailable as error:
                if not self._retries.spend():
                    raise
                pause = self._pause_seconds * 2 ** (attempt - 1) * random.uniform(1, 2)  # noqa: S311 - only spreads load
                await asyncio.sleep(min(max(pause, error.retry_after_seconds or 0), _PAUSE_MAX_SECONDS))
        return await once()

    def _url(self, path: str) -> URL:
        url = URL(f"{self._base}{path}", encoded=True)
        # A path such as '@elsewhere' or '.elsewhere' would carry the key to another host.
        if not path.startswith("/") or url.origin() != self._origin:
            raise ProviderRejected(f"{self._name}: not a path of this API: {path!r}")
        return url

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        ordering: bool,
        clocks: Timeouts,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        data: bytes | aiohttp.FormData | None = None,
    ) -> ApiResponse:
        url = self._url(path)
        if params:
            url = url.update_query(params)
        if any(not value.isprintable() for value in headers.values()):
            raise ProviderRejected(f"{self._name}: a header holds control characters")
        if self._session.closed:
            raise ProviderUnavailable(f"{self._name}: the session is closed")
        try:
            async with self._session.request(
                method,
                url,
                headers={"Accept": "application/json", **headers, **self._key_headers},
                data=data,
                timeout=clocks.as_timeout(),
                # A followed 307 sends the order twice, and a subscription key along to whatever host is named.
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                self._compare_clock_to_date_header(response.headers.get("Date"))
                body, whole = await _read_capped(response)
                return ApiResponse(status=response.status, headers=response.headers, body=body, whole=whole)
        except _BEFORE_SENDING as error:
            cause: Exception | None = error
            problem: ProviderError = ProviderUnavailable(f"{self._name}: not reached ({type(error).__name__})")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # `repr` of this family holds the request's headers, and with them the key: it must not be anybody's cause.
            cause = None if isinstance(error, aiohttp.ClientResponseError) else error
            problem = self._no_answer(f"no answer ({type(error).__name__})", ordering=ordering)
        # Raised out here and not in the handlers, where Python would attach the caught exception all the same.
        raise problem from cause

    def _compare_clock_to_date_header(self, date: str | None) -> None:
        """Learn how far the other side's clock is ahead of ours. It speaks in whole seconds."""
        try:
            ahead = _moment(date or "") - datetime.now(UTC)
        except (ValueError, TypeError):
            return
        self.clock_ahead = ahead if abs(ahead) > _CLOCK_RESOLUTION else timedelta()

    def _no_answer(
        self, detail: str, *, ordering: bool, status: int | None = None, retry_after_seconds: float | None = None
    ) -> ProviderError:
        if ordering:
            return OutcomeUncertain(f"{self._name}: {detail}", status=status)
        return ProviderUnavailable(f"{self._name}: {detail}", status=status, retry_after_seconds=retry_after_seconds)

    def _refusal(self, answer: ApiResponse, *, ordering: bool) -> ProviderError:
        """The error an answer other than 2xx stands for. Here, and only here, a status decides about money."""
        status = answer.status
        error_body = read_error_body(answer.document(), secret=self._api_key)
        detail = f"{self._name}: {status} {error_body.summary}".rstrip()
        retry_after_seconds = _retry_after(answer.headers.get("Retry-After"))
        match status:
            case 400 | 403 | 422 if error_body.is_moderation:
                return ProviderRejected(detail, status=status, reason=FailureReason.MODERATED)
            case 403 if error_body.is_about_an_input:
                # One member's private style must not stop the provider for everybody.
                return ProviderRejected(detail, status=status, hint=error_body.hint)
            case 401 | 402 | 403:
                return ProviderDenied(detail, status=status, reason=FailureReason.PROVIDER_UNAVAILABLE)
            case 410:
                return ProviderRejected(
                    detail, status=status, reason=FailureReason.MODEL_RETIRED, hint=error_body.replacement
                )
            case 429:
                return ProviderUnavailable(detail, status=status, retry_after_seconds=retry_after_seconds)
            case 408:
                return self._no_answer(f"{status}", ordering=ordering, status=status)
            case _ if 400 <= status < 500:
                return ProviderRejected(detail, status=status, reason=FailureReason.REJECTED, hint=error_body.hint)
            case _:
                return self._no_answer(
                    f"{status} {error_body.summary}".rstrip(),
                    ordering=ordering,
                    status=status,
                    retry_after_seconds=retry_after_seconds,
                )


async def _read_capped(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    """The decoded body up to the cap, and whether that is all of it. The status is known already, so nothing raises."""
    pieces = bytearray()
    try:
        async for piece in response.content.iter_chunked(64 * 1024):
            pieces += piece
            if len(pieces) > _ANSWER_MAX_BYTES:
                response.close()
                return b"", False
    except (aiohttp.ClientError, TimeoutError, OSError):
        return bytes(pieces), False
    return bytes(pieces), True


@lru_cache(maxsize=4)
def _moment(date: str) -> datetime:
    """What a `Date` header says, which stays the same for a second. Raises ValueError."""
    return parsedate_to_datetime(date)


def _retry_after(value: str | None) -> float | None:
    """Seconds from a `Retry-After` of either kind: a number or an HTTP date. Capped by whoever waits."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = _moment(value)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
