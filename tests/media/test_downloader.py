"""Downloads over real HTTP on this machine: what arrives, what is refused, and that refused hosts are not contacted."""

from __future__ import annotations

import asyncio
import gzip
import random
import socket
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from bot.domain.errors import MediaError
from bot.domain.requester import Requester
from bot.media import downloader
from bot.media.downloader import LARGE_BYTES, Downloader
from tests.support.fakes import until

BODY = bytes(range(256)) * 40

# -- which hosts were contacted -------------------------------------------------------------------------

_attempts: list[tuple[object, ...]] = []


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.connect":
        _attempts.append(arguments)


sys.addaudithook(_watch)


@pytest.fixture
def attempts() -> list[tuple[object, ...]]:
    """Return every connection that this process tries, as the interpreter reports it."""
    _attempts.clear()
    return _attempts


class FixedNames(AbstractResolver):
    """A resolver that returns the given addresses for every name."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Do nothing: no resource was opened."""


# -- a server to fetch from ---------------------------------------------------------------------------

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ImageServer:
    """An HTTP server on loopback with the paths that a test adds."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self._handlers: dict[str, Handler] = {}
        self._runner: web.ServerRunner | None = None
        self.host = ""

    def on(self, path: str, handler: Handler) -> str:
        self._handlers[path] = handler
        return f"http://{self.host}{path}"

    def responds(
        self, path: str, body: bytes = b"", *, status: int = 200, headers: dict[str, str] | None = None
    ) -> str:
        async def respond(_: web.Request) -> web.Response:
            return web.Response(body=body, status=status, headers=headers)

        return self.on(path, respond)

    def redirects(self, path: str, location: str, *, status: int = 302) -> str:
        return self.responds(path, status=status, headers={"Location": location})

    async def start(self) -> None:
        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            assert isinstance(request, web.BaseRequest)
            self.requests.append(request)  # type: ignore[arg-type]
            return await self._handlers[request.path](request)  # type: ignore[arg-type]

        self._runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.host = f"127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        assert self._runner is not None
        await self._runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[ImageServer]:
    server = ImageServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def raw_server() -> AsyncIterator[Callable[[list[bytes]], Awaitable[str]]]:
    """Start a server that sends exactly these bytes and closes the connection."""
    servers: list[asyncio.Server] = []

    async def start(pieces: list[bytes]) -> str:
        async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.writelines(pieces)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(send, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/image.png"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def local() -> AsyncIterator[Downloader]:
    """Open a downloader as in local development: private addresses and plain http are allowed."""
    async with Downloader(allow_private_addresses=True) as downloader:
        yield downloader


@pytest.fixture
async def strict() -> AsyncIterator[Downloader]:
    async with Downloader(allow_private_addresses=False) as downloader:
        yield downloader


async def refusal(fetch: Awaitable[bytes]) -> MediaError:
    with pytest.raises(MediaError) as caught:
        await fetch
    return caught.value


# -- what arrives -------------------------------------------------------------------------------------


async def test_an_image_arrives_byte_for_byte(local: Downloader, server: ImageServer) -> None:
    url = server.responds("/image.png", BODY)
    assert await local.download(url, max_bytes=len(BODY)) == BODY


async def test_nothing_but_the_address_is_sent_to_the_server(local: Downloader, server: ImageServer) -> None:
    url = server.responds("/image.png", BODY, headers={"Set-Cookie": "who=you"})
    for _ in range(2):
        await local.download(f"{url}#fragment", max_bytes=len(BODY))
    headers = server.requests[1].headers
    assert headers["Accept-Encoding"] == "identity"
    for name in ("Cookie", "Authorization", "Referer", "Proxy-Authorization"):
        assert name not in headers


async def test_a_signed_address_is_sent_unchanged(local: Downloader, server: ImageServer) -> None:
    url = server.responds("/a b/image.png", BODY)
    query = "?ex=6a&path=%2Fa%2f&sig=a+b%2B%3D%3D~'()"
    await local.download(f"{url.replace('a b', 'a%20b')}{query}", max_bytes=len(BODY))
    assert server.requests[0].raw_path == f"/a%20b/image.png{query}"


async def test_proxies_of_the_environment_are_not_used(
    server: ImageServer, monkeypatch: pytest.MonkeyPatch, attempts: list[tuple[object, ...]]
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    url = server.responds("/image.png", BODY)
    async with Downloader(allow_private_addresses=True) as downloader:
        assert await downloader.download(url, max_bytes=len(BODY)) == BODY
    assert [address for _, address in attempts if address[1] == 9] == []  # type: ignore[index]


async def test_a_large_download_yields_after_each_piece(local: Downloader, server: ImageServer) -> None:
    body, yields = bytes(1_000_000), 0

    async def yield_if_busy() -> None:
        nonlocal yields
        yields += 1

    url = server.responds("/image.png", body)
    assert await local.download(url, max_bytes=len(body), yield_if_busy=yield_if_busy) == body
    assert yields >= len(body) // (256 * 1024), "at most 256 KiB are read from a socket at once"


@pytest.fixture
def large_body(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Set the limit to two large bodies at a time, and return such a body."""
    body = random.Random(1).randbytes(LARGE_BYTES + 1)
    monkeypatch.setattr(downloader, "MAX_LARGE_BODIES_BYTES", 2 * len(body))
    monkeypatch.setattr(downloader, "MAX_LARGE_BODIES_OF_A_SERVER_BYTES", 2 * len(body))
    return body


async def test_large_bodies_are_read_up_to_the_limit_and_small_ones_beside_them(
    large_body: bytes, server: ImageServer
) -> None:
    begun, go_on = list[str](), asyncio.Event()

    async def download(name: str) -> bytes:
        async def yield_if_busy() -> None:
            if name not in begun:
                begun.append(name)
            await go_on.wait()

        url = server.responds(f"/{name}.png", large_body)
        return await downloader.download(url, max_bytes=len(large_body), yield_if_busy=yield_if_busy)

    names = [f"{number}" for number in range(5)]
    async with Downloader(allow_private_addresses=True) as downloader, asyncio.TaskGroup() as together:
        downloads: list[asyncio.Task[bytes]] = []
        for name in names:
            downloads.append(together.create_task(download(name)))
            await until(lambda name=name: f"/{name}.png" in [request.path for request in server.requests])
        assert await downloader.download(server.responds("/small.png", BODY), max_bytes=len(BODY)) == BODY
        await until(lambda: len(begun) == 2)
        assert await downloader.download(server.responds("/small.png", BODY), max_bytes=len(BODY)) == BODY
        assert len(begun) == 2
        go_on.set()
    assert [download.result() for download in downloads] == [large_body] * len(names)
    assert sorted(begun) == names


@pytest.mark.hostile("G-05")
async def test_large_bodies_that_come_slowly_for_one_server_hold_up_no_other_server(
    large_body: bytes, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader, "MAX_LARGE_BODIES_OF_A_SERVER_BYTES", len(large_body))
    url, go_on, begun = server.responds("/image.png", large_body), asyncio.Event(), 0

    async def yield_if_busy() -> None:
        nonlocal begun
        begun += 1
        await go_on.wait()

    async with Downloader(allow_private_addresses=True) as fetches, asyncio.TaskGroup() as together:
        for user_id in range(6):
            requester = Requester(1, user_id)
            together.create_task(
                fetches.download(url, max_bytes=len(large_body), requester=requester, yield_if_busy=yield_if_busy)
            )
        await until(lambda: begun == 1)
        assert await fetches.download(url, max_bytes=len(large_body), requester=Requester(2, 9)) == large_body
        assert begun == 1
        go_on.set()


async def test_a_waiting_download_holds_no_connection(large_body: bytes, server: ImageServer) -> None:
    url, small_url = server.responds("/image.png", large_body), server.responds("/small.png", BODY)
    go_on = asyncio.Event()

    async def yield_if_busy() -> None:
        await go_on.wait()

    count = 40
    async with (
        Downloader(allow_private_addresses=True, connect_seconds=5) as downloader,
        asyncio.TaskGroup() as together,
    ):
        downloads = [
            together.create_task(downloader.download(url, max_bytes=len(large_body), yield_if_busy=yield_if_busy))
            for _ in range(count)
        ]
        await until(lambda: len(server.requests) == count)
        assert await downloader.download(small_url, max_bytes=len(BODY)) == BODY
        go_on.set()
    assert [download.result() for download in downloads] == [large_body] * count
    assert count + 1 < len(server.requests) <= 1 + 2 + 2 * (count - 2), "those that had to wait asked once more"


async def test_the_time_limit_of_a_large_body_begins_after_its_wait(large_body: bytes, server: ImageServer) -> None:
    async def never_returns() -> None:
        await asyncio.Event().wait()

    async with (
        Downloader(allow_private_addresses=True, total_seconds=3) as downloader,
        asyncio.TaskGroup() as together,
    ):
        url = server.responds("/image.png", large_body)
        stuck = [
            refusal(downloader.download(url, max_bytes=len(large_body), yield_if_busy=never_returns)) for _ in range(2)
        ]
        refusals = [together.create_task(each) for each in stuck]
        await until(lambda: len(server.requests) == 2)
        assert await downloader.download(url, max_bytes=len(large_body)) == large_body
    assert all(refused.result().transient for refused in refusals)


async def test_a_body_larger_than_the_limit_is_read_alone(
    local: Downloader, server: ImageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloader, "MAX_LARGE_BODIES_BYTES", 1)
    monkeypatch.setattr(downloader, "MAX_LARGE_BODIES_OF_A_SERVER_BYTES", 1)
    body = bytes(LARGE_BYTES + 1)
    async with Downloader(allow_private_addresses=True) as opened:
        url = server.responds("/image.png", body)
        assert await asyncio.gather(*(opened.download(url, max_bytes=len(body)) for _ in range(3))) == [body] * 3


async def test_a_body_in_tiny_pieces_takes_no_more_memory_than_another(local: Downloader) -> None:
    pieces = 250_000
    body = bytes(4 * pieces)
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4\r\n\0\0\0\0\r\n" * pieces + b"0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        host, port = listening.sockets[0].getsockname()
        tracemalloc.start()
        try:
            assert await local.download(f"http://{host}:{port}/image.png", max_bytes=len(body)) == body
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak_bytes < 12 * len(body)


# -- limits of size and time ----------------------------------------------------------------------------


@pytest.mark.f54
@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_may_have_as_many_bytes_as_allowed_and_not_one_more(
    local: Downloader, server: ImageServer, *, announced: bool
) -> None:
    async def respond(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(BODY))} if announced else {})
        await response.prepare(request)
        await response.write(BODY)
        return response

    url = server.on("/image.png", respond)
    assert await local.download(url, max_bytes=len(BODY)) == BODY
    error = await refusal(local.download(url, max_bytes=len(BODY) - 1))
    assert (error.reason, error.transient) == ("too_many_bytes", False)


async def test_an_endless_body_is_cut_off(local: Downloader, server: ImageServer) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 100_000)
            sent += 100_000

    error = await refusal(local.download(server.on("/image.png", endless), max_bytes=1_000_000))
    assert error.reason == "too_many_bytes"
    assert sent < 20_000_000


@pytest.mark.f54
async def test_a_gzip_bomb_is_counted_decompressed_and_takes_no_memory(local: Downloader, server: ImageServer) -> None:
    bomb = gzip.compress(gzip.compress(bytes(500_000_000), 1), 9)  # twice, so that making it here stays cheap
    bomb = gzip.decompress(bomb)
    assert len(bomb) < 3_000_000
    url = server.responds("/image.png", bomb, headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    try:
        error = await refusal(local.download(url, max_bytes=5_000_000))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (error.reason, error.transient) == ("too_many_bytes", False)
    assert peak_bytes < 30_000_000


async def test_a_compressed_body_is_decompressed(local: Downloader, server: ImageServer) -> None:
    url = server.responds("/image.png", gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    assert await local.download(url, max_bytes=len(BODY)) == BODY


async def test_a_server_that_stops_sending_is_given_up(server: ImageServer) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    async with Downloader(allow_private_addresses=True, idle_seconds=0.2) as downloader:
        error = await refusal(downloader.download(server.on("/image.png", silent), max_bytes=1000))
    assert error.transient


async def test_a_slow_server_is_given_up_at_the_time_limit(server: ImageServer) -> None:
    async def dripping(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x")
            await asyncio.sleep(0.02)

    async with Downloader(allow_private_addresses=True, total_seconds=0.4) as downloader:
        error = await refusal(downloader.download(server.on("/image.png", dripping), max_bytes=1000))
    assert error.transient


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"x" * 99],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Le"],
        [],
    ],
    ids=["short body", "missing last chunk", "short header", "nothing"],
)
async def test_a_response_that_ends_too_early_is_a_transient_error(
    local: Downloader, raw_server: Callable[[list[bytes]], Awaitable[str]], pieces: list[bytes]
) -> None:
    error = await refusal(local.download(await raw_server(pieces), max_bytes=1000))
    assert (error.reason, error.transient) == ("unreachable", True)


async def test_a_response_that_is_not_http_is_an_error(
    local: Downloader, raw_server: Callable[[list[bytes]], Awaitable[str]]
) -> None:
    await refusal(local.download(await raw_server([b"\x89PNG\r\n\x1a\n" * 10]), max_bytes=1000))


async def test_a_refused_connection_is_a_transient_error(local: Downloader) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    assert (await refusal(local.download(f"http://127.0.0.1:{port}/", max_bytes=10))).transient


@pytest.mark.parametrize(
    ("status", "transient"),
    [(202, True), (204, True), (403, True), (404, True), (408, True),
     (425, True), (429, True), (500, True), (502, True), (503, True), (599, True),
     (206, True), (304, True), (409, True), (418, True), (400, True), (401, True), (451, True), (410, False)],
)  # fmt: skip
async def test_the_status_decides_whether_an_error_is_transient(
    local: Downloader, server: ImageServer, status: int, *, transient: bool
) -> None:
    url = server.responds("/image.png", b"", status=status)
    assert (await refusal(local.download(url, max_bytes=1000))).transient is transient


# -- which addresses may be reached ----------------------------------------------------------------------

FORBIDDEN_URLS = [
    "https://127.0.0.1/", "https://127.0.0.1:8443/", "https://localhost/", "https://[::1]/", "https://0.0.0.0/",
    "https://10.0.0.1/", "https://192.168.0.1/", "https://172.16.0.1/", "https://100.64.0.1/", "https://[fd00::1]/",
    "https://169.254.169.254/latest/meta-data/", "https://[fe80::1]/", "https://224.0.0.1/", "https://[ff02::1]/",
    "https://255.255.255.255/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:a9fe:a9fe]/", "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/", "https://[64:ff9b:1::7f00:1]/", "https://[2002:7f00:1::]/", "https://[2001::7f00:1]/",
    "https://2130706433/", "https://0x7f000001/", "https://0177.0.0.1/", "https://127.1/", "https://[::]/",
    "https://LOCALHOST/", "https://localhost./",
    "http://127.0.0.1/", "http://1.1.1.1/", "http://example.com/image.png",
    "ftp://1.1.1.1/", "file:///etc/passwd", "data:image/png;base64,AAAA", "//1.1.1.1/", "/etc/passwd", "", "https://",
    "https:///x", "https://user:pass@1.1.1.1/", "https://user@1.1.1.1/", "https://1.1.1.1:99999/", "https://a b/",
    "https://[::1/", "https://1.1.1.1\r\nHost: x/", "https://" + "a" * 300 + "/", "https://..../", "https://\u2488/",
]  # fmt: skip


@pytest.mark.f55
@pytest.mark.parametrize("url", FORBIDDEN_URLS)
async def test_a_forbidden_address_is_never_contacted(
    strict: Downloader, url: str, attempts: list[tuple[object, ...]]
) -> None:
    error = await refusal(strict.download(url, max_bytes=1000))
    assert attempts == []
    if url.startswith(("https://127.0", "https://[64")):
        assert (error.reason, error.transient) == ("foreign_host", False)


@pytest.mark.f55
@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.1.2.3"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["127.0.0.1", "::1", "10.0.0.1"]],
    ids=",".join,
)
async def test_a_name_of_a_private_address_is_never_contacted(
    addresses: list[str], attempts: list[tuple[object, ...]]
) -> None:
    async with Downloader(allow_private_addresses=False, resolver=FixedNames(*addresses)) as downloader:
        error = await refusal(downloader.download("https://images.example/a.png", max_bytes=1000))
    assert (error.reason, error.transient) == ("foreign_host", False)
    assert attempts == []


@pytest.mark.f55
@pytest.mark.parametrize("address", ["169.254.169.254", "0.0.0.0", "fe80::1", "224.0.0.1", "100.100.100.200"])
async def test_even_local_development_never_reaches_metadata_services(
    address: str, attempts: list[tuple[object, ...]]
) -> None:
    async with Downloader(allow_private_addresses=True, resolver=FixedNames(address)) as downloader:
        error = await refusal(downloader.download("http://images.example/a.png", max_bytes=1000))
    assert error.reason == "foreign_host"
    assert attempts == []


async def test_a_name_of_a_loopback_address_is_allowed_in_local_development(server: ImageServer) -> None:
    server.responds("/image.png", BODY)
    port = server.host.partition(":")[2]
    async with Downloader(allow_private_addresses=True, resolver=FixedNames("127.0.0.1")) as downloader:
        assert await downloader.download(f"http://images.example:{port}/image.png", max_bytes=len(BODY)) == BODY


# -- redirects ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_up_to_three_redirects_are_followed(local: Downloader, server: ImageServer, status: int) -> None:
    server.responds("/image.png", BODY)
    server.redirects("/3", "image.png", status=status)
    server.redirects("/2", "/3", status=status)
    url = server.redirects("/1", f"http://{server.host}/2", status=status)
    assert await local.download(url, max_bytes=len(BODY)) == BODY
    error = await refusal(local.download(server.redirects("/0", "/1", status=status), max_bytes=len(BODY)))
    assert error.transient


async def test_a_redirect_loop_ends(local: Downloader, server: ImageServer) -> None:
    error = await refusal(local.download(server.redirects("/loop", "/loop"), max_bytes=1000))
    assert len(server.requests) == 4
    assert error.transient


async def test_a_redirect_that_names_no_address_may_pass(local: Downloader, server: ImageServer) -> None:
    url = server.responds("/image.png", b"", status=302)
    error = await refusal(local.download(url, max_bytes=1000))
    assert error.transient
    assert not error.is_out_of_reach, "the server works"


@pytest.mark.f55
@pytest.mark.parametrize(
    "location",
    ["https://127.0.0.1:1/", "https://[::1]:1/", "https://169.254.169.254/", "http://1.1.1.1/", "file:///etc/passwd",
     "https://user:pass@1.1.1.1/", "ftp://1.1.1.1/", "//127.0.0.1:1/x", "https://other.example/"],
)  # fmt: skip
async def test_a_redirect_is_checked_like_the_first_address(
    server: ImageServer, location: str, attempts: list[tuple[object, ...]]
) -> None:
    url = server.redirects("/image.png", location)
    async with Downloader(allow_private_addresses=False, resolver=FixedNames("127.0.0.1")) as downloader:
        error = await refusal(downloader.download(url, max_bytes=1000, allowed_hosts=(server.host,)))
    assert not error.transient
    assert len(server.requests) == 1
    assert len(attempts) == 1, "only the server that redirected was contacted"


# -- allowed hosts ------------------------------------------------------------------------------------


async def test_a_host_that_the_operator_listed_with_its_port_is_trusted(
    strict: Downloader, server: ImageServer
) -> None:
    url = server.responds("/image.png", BODY)
    assert await strict.download(url, max_bytes=len(BODY), allowed_hosts=("cdn.example", server.host)) == BODY


@pytest.mark.f55
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://evil.example/a.png", "cdn.example"),
        ("https://cdn.example.evil.example/a.png", "cdn.example"),
        ("https://evilcdn.example/a.png", "cdn.example"),
        ("https://cdn.example:8443/a.png", "cdn.example"),
        ("https://cdn.example/a.png", "cdn.example:8443"),
        ("https://cdn.example./a.png", "cdn.example"),
        ("https://cdn.example@evil.example/a.png", "cdn.example"),
        ("https://evil.example/cdn.example/a.png", "cdn.example"),
        ("https://evil.example#cdn.example", "cdn.example"),
        ("http://cdn.example/a.png", "cdn.example"),
        ("https://cdn.example/a.png", "cdn.example"),  # listed, but its name leads to this machine
    ],
)
async def test_a_host_that_is_not_listed_is_never_contacted(
    url: str, allowed: str, attempts: list[tuple[object, ...]]
) -> None:
    async with Downloader(allow_private_addresses=False, resolver=FixedNames("127.0.0.1")) as downloader:
        error = await refusal(downloader.download(url, max_bytes=1000, allowed_hosts=(allowed,)))
    assert not error.transient
    assert attempts == []


async def test_the_case_of_a_host_does_not_matter(server: ImageServer) -> None:
    server.responds("/image.png", BODY)
    port = server.host.partition(":")[2]
    async with Downloader(allow_private_addresses=False, resolver=FixedNames("127.0.0.1")) as downloader:
        body = await downloader.download(
            f"http://CDN.Example:{port}/image.png", max_bytes=len(BODY), allowed_hosts=(f"cdn.example:{port}",)
        )
    assert body == BODY


async def test_no_address_appears_in_the_text_of_an_error(local: Downloader, server: ImageServer) -> None:
    url = server.responds("/secret-path", status=500)
    assert "secret" not in str(await refusal(local.download(f"{url}?token=secret", max_bytes=10)))
