"""Downloads: the one way pictures are fetched from addresses that somebody else wrote."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from bot.domain.errors import MediaError
from bot.media.ip_policy import AddressScope, address_scope

MAX_REDIRECTS = 3
_PLAIN = re.compile(r"[!-~]+")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WORTH_ANOTHER_TRY = frozenset({404, 408, 425, 429})
"""Besides 5xx. 404: right after completion a picture may not have reached every corner of the provider's network."""

LARGE_BYTES = 2 * 2**20
"""A body larger than this needs room, and is put together off the event loop."""

ROOM_BYTES = 48 * 2**20
"""So much of large bodies is read at a time: two of the largest pictures, or a dozen of 4 MB. Twenty of the largest at
once would fill the memory of a small machine, and on one that hands memory out slowly every megabyte may take 30 ms."""

_UNTOLD_BYTES = 4 * 2**20
"""What a body is taken for whose length nobody tells."""

_HEADERS = {"Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity"}


class AddressRefused(OSError):
    """The name leads to a network that downloads may not reach. No connection was tried."""


class _Room:
    """Bytes that may be read at a time; who comes first is served first."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._taken_bytes = 0
        self._first_in_line = asyncio.Lock()
        self._given_back = asyncio.Event()

    @contextmanager
    def share(self) -> Generator[_Share]:
        """Nothing of it at first. Whatever it becomes is given back at the end."""
        share = _Share(self)
        try:
            yield share
        finally:
            self._taken_bytes -= share.held_bytes
            self._given_back.set()

    def take_at_once(self, size_bytes: int) -> bool:
        """Whether there was so much, and nobody before us who waits for it."""
        if self._first_in_line.locked() or not self._has(size_bytes):
            return False
        self._taken_bytes += size_bytes
        return True

    async def take(self, size_bytes: int) -> None:
        async with self._first_in_line:
            while not self._has(size_bytes):
                self._given_back.clear()
                await self._given_back.wait()
            self._taken_bytes += size_bytes

    def _has(self, size_bytes: int) -> bool:
        return self._taken_bytes + size_bytes <= self._most_bytes or self._taken_bytes == 0


class _Share:
    """One download's part of the room."""

    def __init__(self, room: _Room) -> None:
        self._room = room
        self.held_bytes = 0

    def is_enough_for(self, size_bytes: int) -> bool:
        """Whether the body may be read now. Who has waited once does not wait again, whatever is announced by then."""
        if size_bytes > LARGE_BYTES and not self.held_bytes and self._room.take_at_once(size_bytes):
            self.held_bytes = size_bytes
        return size_bytes <= LARGE_BYTES or self.held_bytes > 0

    async def wait_for(self, size_bytes: int) -> None:
        """Until there is so much room."""
        await self._room.take(size_bytes)
        self.held_bytes = size_bytes


class Downloader:
    """Fetches a picture into memory, with a cap on its size and its time, from public networks only.

    The address is judged when the socket is made, so names, numbers in any spelling and redirects are all held against
    it, and no second look-up can change it. Proxies, cookies and credentials of the environment are never used.

    https only, except where the operator said otherwise: `allow_private_addresses`, or an allowed host that was listed
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
        self._room = _Room(ROOM_BYTES)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        allowed_hosts: tuple[str, ...] | None = None,
        yield_if_busy: Callable[[], Awaitable[None]] | None = None,
    ) -> bytes:
        """The body at `url`, at most `max_bytes` after unpacking. At most three redirects, each judged like the first.

        `allowed_hosts` are `host` (its usual port) or `host:port` (exactly that one); None allows any public host.
        `give_way` is awaited after each piece: many large files at once would take the processor from everybody else.
        Raises MediaError: `transient` when another try may help; reason 'too_many_bytes', 'foreign_host' (not allowed,
        or not a public address) or 'unreachable'. Never tries again by itself.
        """
        try:
            async with asyncio.timeout(self._total_seconds) as clock:
                return await self._follow(_parsed(url), max_bytes, allowed_hosts, yield_if_busy, clock)
        except TimeoutError as error:
            raise MediaError("the download took too long", transient=True) from error
        except aiohttp.ClientError as error:
            raise _translated(error) from error
        except (OSError, ValueError) as error:  # ValueError: names that cannot be encoded, headers that make no sense
            raise MediaError(
                f"{type(error).__name__} while downloading", transient=isinstance(error, OSError)
            ) from error

    async def _follow(
        self,
        url: URL,
        max_bytes: int,
        allowed_hosts: tuple[str, ...] | None,
        yield_if_busy: Callable[[], Awaitable[None]] | None,
        clock: asyncio.Timeout,
    ) -> bytes:
        redirects = 0
        with self._room.share() as share:
            while redirects <= MAX_REDIRECTS:
                session = self._session_for(url, allowed_hosts)
                async with session.get(url, allow_redirects=False) as response:
                    if response.status in _REDIRECTS:
                        url = _parsed(response.headers.get("Location", ""), base=url)
                        redirects += 1
                        continue
                    size_bytes = _announced_bytes(response, max_bytes)
                    if share.is_enough_for(size_bytes):
                        return await _body(response, max_bytes, yield_if_busy)
                # Without the connection: others need one, and a server hangs up on whoever does not read for a minute.
                # That it is late is not the server's fault either: its time begins when there is room.
                clock.reschedule(None)
                await share.wait_for(size_bytes)
                clock.reschedule(asyncio.get_running_loop().time() + self._total_seconds)
        raise MediaError("too many redirects", transient=False)

    def _session_for(self, url: URL, allowed_hosts: tuple[str, ...] | None) -> aiohttp.ClientSession:
        """The session that may fetch from there. Raises MediaError when none may."""
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
            family, kind, protocol, _, where = address
            if family not in (socket.AF_INET, socket.AF_INET6) or address_scope(str(where[0])) not in reachable:
                raise AddressRefused("the address is not on a public network")
            return socket.socket(family=family, type=kind, proto=protocol)

        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=open_socket, resolver=self._resolver, limit=32),
            timeout=self._timeout,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )


def _parsed(text: str, *, base: URL | None = None) -> URL:
    """An absolute http(s) address without credentials, or MediaError."""
    try:
        # A signed address must arrive letter for letter; only one that is no proper address yet is made into one.
        url = URL(text, encoded=_PLAIN.fullmatch(text) is not None)
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
    """How long the body of a good answer will be. An early word: it is that of the packed body, and may be a guess or a
    lie."""
    if response.status != 200:
        transient = response.status >= 500 or response.status in _WORTH_ANOTHER_TRY
        raise MediaError(f"the server answered {response.status}", transient=transient)
    announced = response.content_length
    if announced is None:
        return min(_UNTOLD_BYTES, max_bytes)
    if announced > max_bytes:
        raise _too_many_bytes(max_bytes)
    return announced


async def _body(
    response: aiohttp.ClientResponse, max_bytes: int, yield_if_busy: Callable[[], Awaitable[None]] | None
) -> bytes:
    pieces, size_bytes = list[bytes](), 0
    async for piece in response.content.iter_any():  # whatever is there: put together once, at the end
        pieces.append(piece)
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise _too_many_bytes(max_bytes)
        if yield_if_busy is not None:
            await yield_if_busy()
    if size_bytes <= LARGE_BYTES:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)  # which lets go of the interpreter while it copies


def _too_many_bytes(max_bytes: int) -> MediaError:
    return MediaError(f"more than {max_bytes} bytes", transient=False, reason="too_many_bytes")


def _translated(error: aiohttp.ClientError) -> MediaError:
    """What the client says, as ours. Its own text may hold the whole address, which is nobody's business in a log."""
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, AddressRefused):
        return MediaError("not on a public network", transient=False, reason="foreign_host")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return MediaError("the server's certificate is not valid", transient=False)
    return MediaError(f"{type(error).__name__} while downloading", transient=not isinstance(error, aiohttp.InvalidURL))
