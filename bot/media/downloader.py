"""Downloader: the one way images are fetched from addresses that users or providers wrote."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from bot.domain.errors import MediaError
from bot.domain.requester import NOBODY, Requester
from bot.media.ip_policy import AddressScope, address_scope
from bot.runtime.fair_slots import FairSlots

MAX_REDIRECTS = 3
_ENCODED_URL = re.compile(r"[!-~]+")
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_GONE_STATUS = 410
"""Every other status may pass: after completion a result may not have reached every server (202, 204, 401, 403, 404),
and unknown ones say nothing about the file."""

LARGE_BYTES = 2 * 2**20
"""A larger body counts against MAX_LARGE_BODIES_BYTES, and is joined in a thread."""

MAX_LARGE_BODIES_BYTES = 48 * 2**20
"""Large bodies that are read at a time: two of 20 MB, or a dozen of 4 MB, which a fixed number of two would read at a
sixth of that rate. Twenty of 20 MB at once would fill the memory of a small machine, and where the system grants memory
slowly every megabyte may take 30 ms."""

MAX_LARGE_BODIES_OF_A_SERVER_BYTES = 40 * 2**20
"""What the members of one server may take of that: bodies that arrive slowly leave room for those of others."""

_UNANNOUNCED_BYTES = 4 * 2**20
"""Assumed length of a body without Content-Length."""

MAX_CONNECTIONS = 64
MAX_CONNECTIONS_PER_HOST = 32
"""A server that does not answer keeps its connections for many seconds; other servers have as many of their own."""

_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


class AddressRefused(OSError):
    """The address is on a network that downloads may not reach. Raised before connecting."""


class Downloader:
    """Fetches an image into memory, with a limit on its size and its time, from public networks only.

    The IP address is checked when the socket is opened, so the check covers names, numbers in any notation and
    redirects, and a second DNS look-up cannot change its result. Proxies, cookies and credentials of the environment
    are never used.

    https only, except where the operator allows more: `allow_private_addresses`, or an allowed host that was listed
    with its port. Even these do not reach link-local, metadata or multicast addresses.
    """

    def __init__(
        self,
        *,
        allow_private_addresses: bool,
        total_seconds: float = 60,
        idle_seconds: float = 15,
        connect_seconds: float = 10,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._allow_private_addresses = allow_private_addresses
        self._total_seconds = total_seconds
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_read=idle_seconds)
        self._resolver = resolver
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._large_bodies = FairSlots(MAX_LARGE_BODIES_BYTES, per_server=MAX_LARGE_BODIES_OF_A_SERVER_BYTES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()

    async def download(
        self,
        url: str,
        *,
        max_bytes: int,
        requester: Requester = NOBODY,
        allowed_hosts: tuple[str, ...] | None = None,
        yield_if_busy: Callable[[], Awaitable[None]] | None = None,
    ) -> bytes:
        """Return the body at `url`, at most `max_bytes` after decompression, over at most three redirects.

        Each redirect is checked like the first address. `allowed_hosts` are `host` (its default port) or `host:port`
        (exactly that port); None allows any public host. `yield_if_busy` is awaited after each piece: many large files
        at once would take the processor from interactive work. Raises MediaError: `transient` when another try may
        help; reason 'too_many_bytes', 'foreign_host' (not allowed, or not a public address) or 'unreachable'. Does not
        retry.
        """
        try:
            async with asyncio.timeout(self._total_seconds) as deadline:
                return await self._follow_redirects(
                    _parse(url), max_bytes, requester, allowed_hosts, yield_if_busy, deadline
                )
        except TimeoutError as error:
            raise MediaError("the download took too long", transient=True) from error
        except aiohttp.ClientError as error:
            raise _media_error(error) from error
        except (OSError, ValueError) as error:  # ValueError: names that cannot be encoded, headers that make no sense
            raise MediaError(
                f"{type(error).__name__} while downloading", transient=isinstance(error, OSError)
            ) from error

    async def _follow_redirects(
        self,
        url: URL,
        max_bytes: int,
        requester: Requester,
        allowed_hosts: tuple[str, ...] | None,
        yield_if_busy: Callable[[], Awaitable[None]] | None,
        deadline: asyncio.Timeout,
    ) -> bytes:
        redirects, held_bytes = 0, 0
        try:
            while redirects <= MAX_REDIRECTS:
                session = self._session_for(url, allowed_hosts)
                async with session.get(url, allow_redirects=False) as response:
                    if response.status in _REDIRECT_STATUSES:
                        if not (location := response.headers.get("Location")):
                            raise MediaError("a redirect without an address", transient=True, answered=True)
                        url = _parse(location, base=url)
                        redirects += 1
                        continue
                    announced_bytes = _announced_bytes(response, max_bytes)
                    needed_bytes = min(announced_bytes, MAX_LARGE_BODIES_OF_A_SERVER_BYTES)
                    if (
                        announced_bytes > LARGE_BYTES
                        and not held_bytes
                        and self._large_bodies.acquire_now(requester, needed_bytes)
                    ):
                        held_bytes = needed_bytes
                    # A request that has waited once does not wait again, whatever length is announced the second time.
                    if announced_bytes <= LARGE_BYTES or held_bytes:
                        return await _read_body(response, max_bytes, yield_if_busy)
                # Wait without the connection: other downloads need one, and servers drop clients that do not read for a
                # minute. The server is not to blame for the wait, so its time begins after it.
                deadline.reschedule(None)
                await self._large_bodies.acquire(requester, needed_bytes)
                held_bytes = needed_bytes
                deadline.reschedule(asyncio.get_running_loop().time() + self._total_seconds)
        finally:
            if held_bytes:
                self._large_bodies.release(requester, held_bytes)
        raise MediaError("too many redirects", transient=True, answered=True)

    def _session_for(self, url: URL, allowed_hosts: tuple[str, ...] | None) -> aiohttp.ClientSession:
        """Return the session that may fetch `url`. Raises MediaError when none may."""
        host, port = (url.host or "").lower(), url.port
        named = allowed_hosts is not None and _with_port(host, port) in allowed_hosts
        if allowed_hosts is not None and not named and not (host in allowed_hosts and url.is_default_port()):
            raise MediaError(f"not an allowed host: {host}", transient=False, reason="foreign_host")
        trusted = named or self._allow_private_addresses
        if url.scheme != "https" and not trusted:
            raise MediaError("only https addresses are fetched", transient=False, reason="foreign_host")
        if trusted not in self._sessions:
            self._sessions[trusted] = self._open_session(trusted=trusted)
        return self._sessions[trusted]

    def _open_session(self, *, trusted: bool) -> aiohttp.ClientSession:
        reachable = frozenset({AddressScope.PUBLIC, AddressScope.PRIVATE} if trusted else {AddressScope.PUBLIC})

        def open_socket(address: tuple[Any, Any, Any, Any, tuple[Any, ...]]) -> socket.socket:
            family, kind, protocol, _, socket_address = address
            if (
                family not in (socket.AF_INET, socket.AF_INET6)
                or address_scope(str(socket_address[0])) not in reachable
            ):
                raise AddressRefused("the address is not on a public network")
            return socket.socket(family=family, type=kind, proto=protocol)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=open_socket,
                resolver=self._resolver,
                limit=MAX_CONNECTIONS,
                limit_per_host=MAX_CONNECTIONS_PER_HOST,
            ),
            timeout=self._timeout,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


def _parse(text: str, *, base: URL | None = None) -> URL:
    """Parse an absolute http(s) address. Raises MediaError, also for one with credentials."""
    try:
        # A signed address must be sent unchanged, so only one with characters that URLs do not have is encoded.
        url = URL(text, encoded=_ENCODED_URL.fullmatch(text) is not None)
        url = url if base is None else base.join(url)
        complete = url.scheme in ("http", "https") and bool(url.host) and bool(text) and url.port is not None
    except ValueError:
        raise MediaError("not an address", transient=False) from None
    if not complete:
        raise MediaError("not an http(s) address", transient=False)
    if url.user is not None or url.password is not None:
        raise MediaError("an address with credentials", transient=False)
    return url.with_fragment(None)


def _with_port(host: str, port: int | None) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _announced_bytes(response: aiohttp.ClientResponse, max_bytes: int) -> int:
    """Return the announced length of the body, which is that of the compressed body, assumed where there is none.

    Raises MediaError for a status other than 200 and for a length above `max_bytes`. The server may announce less than
    it sends.
    """
    if response.status != 200:
        transient = response.status != _GONE_STATUS
        answered = response.status < 500 and response.status != 429
        raise MediaError(f"the server answered {response.status}", transient=transient, answered=answered)
    announced = response.content_length
    if announced is None:
        return min(_UNANNOUNCED_BYTES, max_bytes)
    if announced > max_bytes:
        raise _too_many_bytes(max_bytes)
    return announced


async def _read_body(
    response: aiohttp.ClientResponse, max_bytes: int, yield_if_busy: Callable[[], Awaitable[None]] | None
) -> bytes:
    pieces, size_bytes = list[bytes](), 0
    async for piece in response.content.iter_any():  # as received: joined once, at the end
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise _too_many_bytes(max_bytes)
        if yield_if_busy is not None:
            await yield_if_busy()
    if size_bytes <= LARGE_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)  # releases the interpreter lock while it copies


def _too_many_bytes(max_bytes: int) -> MediaError:
    return MediaError(f"more than {max_bytes} bytes", transient=False, reason="too_many_bytes")


def _media_error(error: aiohttp.ClientError) -> MediaError:
    """Translate an error of aiohttp. Its text is dropped: it may hold the whole address, which must not be logged."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, AddressRefused):
        return MediaError("not on a public network", transient=False, reason="foreign_host")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return MediaError("the server's certificate is not valid", transient=False)
    return MediaError(f"{type(error).__name__} while downloading", transient=not isinstance(error, aiohttp.InvalidURL))
