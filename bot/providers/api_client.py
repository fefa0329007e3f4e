"""HTTP client of one hosted API: origin, key, time-outs, and what each failure says about the request.

There are two kinds of requests. A submission costs money and is sent exactly once: when its outcome is not known, it
raises `OutcomeUncertain`. All others cost nothing: without a usable response they raise `ProviderUnavailable`.

What counts as a refusal is a closed list: any other status may be that of something in front of the provider, which may
have taken the order or may know the job.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from bot.domain.errors import (
    ForeignAnswer,
    OutcomeUncertain,
    ProviderDenied,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
)
from bot.domain.jobs import FailureReason
from bot.domain.json_values import as_object
from bot.providers.parsing import ApiErrorBody, parse_json, read_error_body
from bot.runtime.logs import Redactor
from bot.runtime.retry import RetryBudget, backoff_seconds
from bot.runtime.trusted_clock import utc_now
from bot.runtime.web.capped_body import read_capped

_MAX_RESPONSE_BYTES = 1024 * 1024
_MAX_BYTES_PARSED_ON_THE_LOOP = 64 * 1024
_MAX_PAUSE_SECONDS = 10.0

_REFUSALS = frozenset({400, 404, 405, 410, 413, 415, 422})
"""Statuses of a request that the provider did not carry out, beside those for our key, our balance and our rate."""

_REFUSALS_OF_A_READ = frozenset({404, 410})
"""Statuses that say there is nothing of that id."""

_REFUSALS_IN_JSON = frozenset({400, 404, 422})
"""Those that pages of a server in front of the API have as well; from the API itself they come as JSON."""

# aiohttp raises these only while connecting (DNS, TCP, TLS): no byte of the request was sent.
_BEFORE_SENDING = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ServerFingerprintMismatch)

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True, slots=True)
class Timeouts:
    """Time-outs of a request. `connect_seconds` must be the shortest, so that a total time-out means it was sent."""

    connect_seconds: float
    silence_seconds: float
    """To the first byte of the response, and between two chunks of it."""
    total_seconds: float

    def for_aiohttp(self) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(
            connect=self.connect_seconds, sock_read=self.silence_seconds, total=self.total_seconds
        )


# A provider may be slow to accept an order, and a time-out makes its outcome uncertain.
_SUBMIT_TIMEOUTS = Timeouts(connect_seconds=10, silence_seconds=60, total_seconds=90)
_READ_TIMEOUTS = Timeouts(connect_seconds=5, silence_seconds=15, total_seconds=30)
_UPLOAD_TIMEOUTS = Timeouts(connect_seconds=10, silence_seconds=120, total_seconds=300)


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """How long requests to a provider may take, and the pause before a read is tried again."""

    submit: Timeouts = _SUBMIT_TIMEOUTS
    read: Timeouts = _READ_TIMEOUTS
    upload: Timeouts = _UPLOAD_TIMEOUTS
    pause_seconds: float = 0.5


USUAL_TIMING = Timing()


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiResponse:
    """A response. `document` is the JSON in the body; None when it was cut short, too big or undecodable.

    `is_ambiguous`: a key that decides about a job is written twice in the body, with different values, so it counts as
    null in `document`.
    """

    status: int
    headers: Mapping[str, str]
    document: Any
    is_ambiguous: bool = False

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_page(self) -> bool:
        """Whether the body is text for people, as what stands in front of an API sends it."""
        return isinstance(self.document, str) or self.headers.get("Content-Type", "").startswith("text/html")

    @property
    def is_json(self) -> bool:
        """Whether the API itself seems to have sent the body, even if it was cut short."""
        announced = self.headers.get("Content-Type", "").startswith("application/json")
        return not self.is_page and (announced or isinstance(self.document, dict))


_MIN_CLOCK_DIFFERENCE = timedelta(seconds=2)
"""A `Date` header is in whole seconds, and the response took time to arrive."""

_MAX_CLOCK_DIFFERENCE = timedelta(days=366)
"""A `Date` header that is further away than this from our clock says nothing."""

_MIN_RETRY_AFTER_SECONDS = 1.0
_MAX_RETRY_AFTER_SECONDS = 3600.0


def open_session(*, max_connections: int = 100, traces: Sequence[aiohttp.TraceConfig] = ()) -> aiohttp.ClientSession:
    """Open a session for requests to providers: without cookies, proxies from the environment or default headers."""
    return aiohttp.ClientSession(
        # An order sent while the server closes an idle connection ends uncertain, so they are not kept long.
        connector=aiohttp.TCPConnector(limit=max_connections, keepalive_timeout=10),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        trace_configs=list(traces),
    )


class ApiClient:
    """Sends requests to one origin. Only requests to that origin carry the key."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        name: str,
        base_url: str,
        key_header: str,
        key_prefix: str = "",
        api_key: str,
        timing: Timing = USUAL_TIMING,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self.clock_ahead = timedelta()
        """By how much the provider's clock is ahead of ours, according to its latest response."""
        self._retries = RetryBudget()
        self._session = session
        self._name = name
        self._base = base_url.rstrip("/")
        self._origin = URL(self._base).origin()
        self.redact = Redactor([api_key])
        """Removes the key from what the provider wrote."""
        self._key_headers = {key_header: f"{key_prefix}{api_key}"}
        self._timing = timing

    def __repr__(self) -> str:
        return f"ApiClient({self._name!r}, {self._base!r})"

    # -- requests ------------------------------------------------------------------------------------

    async def submit(
        self, path: str, document: Mapping[str, Any], *, headers: Mapping[str, str] | None = None
    ) -> ApiResponse:
        """POST one order, exactly once, and return a 2xx response with its JSON. Raises a `ProviderError` otherwise."""
        try:
            data = json.dumps(document, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ProviderRejected(f"{self._name}: the order cannot be written as JSON: {error}") from error
        response = await self._send(
            "POST",
            path,
            is_order=True,
            timeouts=self._timing.submit,
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache", **(headers or {})},
            data=data,
        )
        if not response.is_success:
            raise self._error_of(response, is_order=True)
        # An answer that says one thing twice may still hold the id: without a usable one the outcome is uncertain.
        if response.document is None:
            raise OutcomeUncertain(f"{self._name}: {response.status} without a readable body", status=response.status)
        return response

    async def has_model(self, path: str) -> bool:
        """Return whether orders are taken on this path: one without any field is refused, but not as unknown.

        Raises ProviderDenied or ProviderUnavailable when the answer tells nothing about the model.
        """
        headers = {"Content-Type": "application/json"}
        response = await self._send(
            "POST", path, is_order=False, timeouts=self._timing.read, headers=headers, data=b"{}"
        )
        error = self._error_of(response, is_order=True)
        if response.is_success or not isinstance(error, ProviderRejected):
            raise ProviderUnavailable(f"{self._name}: {response.status} to an order without fields")
        if isinstance(error, ProviderDenied):
            raise error
        return error.reason != FailureReason.MODEL_RETIRED

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        attempts: int = 1,
        allow_empty: bool = False,
    ) -> Any:
        """Send a request that costs nothing, and return the JSON of a 2xx response.

        With `allow_empty`, an unreadable body returns None instead of raising ProviderUnavailable.
        """

        async def send() -> Any:
            response = await self._send(
                method, path, is_order=False, timeouts=self._timing.read, headers={}, params=params
            )
            return self._json_of(response, allow_empty=allow_empty, is_read=method == "GET")

        return await self._with_retries(send, attempts=attempts)

    async def send_file(
        self, path: str, *, field: str, data: bytes, filename: str, content_type: str, attempts: int = 1
    ) -> Any:
        """POST one file as a form. It costs nothing, so it may be repeated."""

        async def send() -> Any:
            form = aiohttp.FormData()
            # As a file, so that it is sent in chunks: large bytes at once would block the event loop.
            form.add_field(field, io.BytesIO(data), filename=filename, content_type=content_type)
            response = await self._send(
                "POST", path, is_order=False, timeouts=self._timing.upload, headers={}, data=form
            )
            return self._json_of(response, allow_empty=False, is_read=False)

        return await self._with_retries(send, attempts=attempts)

    def require_about(self, document: Any, *, key: str, remote_id: str) -> None:
        """Raise ForeignAnswer when the body names another job: a cache or proxy may mix up answers."""
        named = as_object(document).get(key)
        if named is not None and named != remote_id:
            raise ForeignAnswer(f"{self._name}: asked for {remote_id}, answered about another job")

    # -- sending --------------------------------------------------------------------------------------

    def _json_of(self, response: ApiResponse, *, allow_empty: bool, is_read: bool) -> Any:
        if not response.is_success:
            raise self._error_of(response, is_order=False, is_read=is_read)
        if response.is_ambiguous:
            raise ProviderUnavailable(
                f"{self._name}: {response.status} with a key written twice", status=response.status
            )
        body = response.document
        if body is None and not allow_empty:
            raise ProviderUnavailable(
                f"{self._name}: {response.status} without a readable body", status=response.status
            )
        return body

    async def _with_retries(self, send: Callable[[], Awaitable[_Result]], *, attempts: int) -> _Result:
        self._retries.earn()
        for attempt in range(1, attempts):
            try:
                return await send()
            except ProviderUnavailable as error:
                if not self._retries.spend():
                    raise
                pause_seconds = backoff_seconds(
                    attempt, first_seconds=2 * self._timing.pause_seconds, max_seconds=_MAX_PAUSE_SECONDS, jitter=0.5
                )
                await asyncio.sleep(min(max(pause_seconds, error.retry_after_seconds or 0), _MAX_PAUSE_SECONDS))
        return await send()

    def _url(self, path: str) -> URL:
        url = URL(f"{self._base}{path}", encoded=True)
        # A path such as '@example.com' or '.example.com' would send the key to another host.
        if not path.startswith("/") or url.origin() != self._origin:
            raise ProviderRejected(f"{self._name}: not a path of this API: {path!r}")
        return url

    async def _send(
        self,
        method: str,
        path: str,
        *,
        is_order: bool,
        timeouts: Timeouts,
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
                timeout=timeouts.for_aiohttp(),
                # Following a 307 would send the order twice, and the key to any host that it names.
                allow_redirects=False,
                raise_for_status=False,
            ) as response:
                self._compare_clock_to_date_header(response.headers.get("Date"))
                body = await _read_whole(response)
                document, is_ambiguous = (None, False) if body is None else await _parsed(body)
                return ApiResponse(
                    status=response.status, headers=response.headers, document=document, is_ambiguous=is_ambiguous
                )
        except _BEFORE_SENDING as error:
            cause: Exception | None = error
            problem: ProviderError = ProviderUnavailable(f"{self._name}: not reached ({type(error).__name__})")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # The `repr` of ClientResponseError contains the request's headers and so the key: it must not be a cause.
            cause = None if isinstance(error, aiohttp.ClientResponseError) else error
            problem = self._no_response(f"no response ({type(error).__name__})", is_order=is_order)
        # Raised outside the handlers, where Python would attach the caught exception as the context.
        raise problem from cause

    def _compare_clock_to_date_header(self, date: str | None) -> None:
        """Set `clock_ahead` from the `Date` header of a response."""
        try:
            ahead = _parse_http_date(date or "") - self._clock()
        except (ValueError, TypeError, OverflowError):
            return
        if abs(ahead) > _MAX_CLOCK_DIFFERENCE:
            return
        self.clock_ahead = ahead if abs(ahead) > _MIN_CLOCK_DIFFERENCE else timedelta()

    def _no_response(
        self, detail: str, *, is_order: bool, status: int | None = None, retry_after_seconds: float | None = None
    ) -> ProviderError:
        if is_order:
            return OutcomeUncertain(f"{self._name}: {detail}", status=status)
        return ProviderUnavailable(f"{self._name}: {detail}", status=status, retry_after_seconds=retry_after_seconds)

    def _error_of(self, response: ApiResponse, *, is_order: bool, is_read: bool = False) -> ProviderError:
        """Return the error for a status other than 2xx. Its class decides about the money: see job_runner.py."""
        status = response.status
        error_body = read_error_body(response.document, redact=self.redact)
        detail = f"{self._name}: {status} {error_body.summary}".rstrip()
        retry_after_seconds = _retry_after(response.headers.get("Retry-After"))
        is_refused = status in (_REFUSALS_OF_A_READ if is_read else _REFUSALS)
        if (is_read or status in _REFUSALS_IN_JSON) and not response.is_json:
            is_refused = False
        match status:
            case 400 | 403 | 422 if error_body.is_moderation and (is_refused or (status == 403 and not is_read)):
                return ProviderRejected(detail, status=status, reason=FailureReason.MODERATED)
            case 403 if error_body.is_about_an_input and not is_read:
                # The private style of one member must not stop the provider for all.
                return ProviderRejected(detail, status=status, hint=error_body.hint)
            case 403 if response.is_page or error_body.is_about_an_input or error_body.is_moderation:
                # A page of something in front of the provider: it says nothing about our key, and may pass.
                return ProviderUnavailable(detail, status=status, retry_after_seconds=retry_after_seconds)
            case 401 | 402 | 403:
                return ProviderDenied(detail, status=status, reason=FailureReason.PROVIDER_UNAVAILABLE)
            case 400 | 404 | 422 if is_order and is_refused and error_body.is_about_the_model:
                return self._model_gone(detail, status, error_body)
            case 404 if is_order and is_refused and error_body.summary:  # orders have one path for each model
                return self._model_gone(detail, status, error_body)
            case 410 if is_refused:
                return self._model_gone(detail, status, error_body)
            case 429:
                return ProviderUnavailable(detail, status=status, retry_after_seconds=retry_after_seconds)
            case _ if is_refused:
                return ProviderRejected(detail, status=status, reason=FailureReason.REJECTED, hint=error_body.hint)
            case _:
                return self._no_response(
                    f"{status} {error_body.summary}".rstrip(),
                    is_order=is_order,
                    status=status,
                    retry_after_seconds=retry_after_seconds,
                )

    @staticmethod
    def _model_gone(detail: str, status: int, error_body: ApiErrorBody) -> ProviderRejected:
        return ProviderRejected(
            detail, status=status, reason=FailureReason.MODEL_RETIRED, hint=error_body.replacement
        )  # fmt: skip


async def _parsed(body: bytes) -> tuple[Any, bool]:
    """Parse JSON, in a thread when it is large; see `parse_json`."""
    if len(body) <= _MAX_BYTES_PARSED_ON_THE_LOOP:
        return parse_json(body)
    return await asyncio.to_thread(parse_json, body)


async def _read_whole(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body; None when it is cut short or too large. Never raises, since the status is known."""
    try:
        return await read_capped(response, max_bytes=_MAX_RESPONSE_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return None


@lru_cache(maxsize=4)
def _parse_http_date(date: str) -> datetime:
    """Parse an HTTP date; cached, because a `Date` header changes once a second. Raises ValueError."""
    return parsedate_to_datetime(date)


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a `Retry-After` header, a number or an HTTP date: from a second to an hour, or None."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            date_time = _parse_http_date(value)
        except (ValueError, TypeError, OverflowError):
            return None
        if date_time.tzinfo is None:
            date_time = date_time.replace(tzinfo=UTC)
        seconds = (date_time - datetime.now(UTC)).total_seconds()
    if not math.isfinite(seconds):
        return None
    return min(max(_MIN_RETRY_AFTER_SECONDS, seconds), _MAX_RETRY_AFTER_SECONDS)
