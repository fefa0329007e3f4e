"""The web server: health, readiness, metrics and webhooks, and how little it tells strangers."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import socket
from collections.abc import AsyncIterator

import aiohttp
import prometheus_client
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.errors import SettingsError
from bot.runtime.web import web_routes
from bot.runtime.web.web_routes import MAX_WEBHOOK_BYTES, Check, HealthRoutes, WebhookRoutes
from bot.runtime.web.web_server import IDLE_SECONDS, REQUEST_SECONDS, HttpServer

Seen = list[tuple[str, str | None]]


class Client:
    """A server under test and the webhooks that it forwarded."""

    def __init__(self, checks: dict[str, Check]) -> None:
        self.hooks: Seen = []
        self.registry = prometheus_client.CollectorRegistry()
        health = HealthRoutes(checks, self.registry)
        webhooks = WebhookRoutes(lambda token, body_id: self.hooks.append((token, body_id)))
        self.server = HttpServer([*health.routes(), *webhooks.routes()], host="127.0.0.1", port=0)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server.port}{path}"


@pytest.fixture
def checks() -> dict[str, Check]:
    return {}


@pytest.fixture
async def client(checks: dict[str, Check]) -> AsyncIterator[Client]:
    client = Client(checks)
    async with client.server:
        yield client


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_health_is_answered_while_the_event_loop_runs(client: Client, session: aiohttp.ClientSession):
    async with session.get(client.url("/healthz")) as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def fine() -> str | None:
    return None


async def broken() -> str | None:
    raise RuntimeError("secret detail")


@pytest.mark.parametrize(
    "checks", [{"database": fine, "discord": lambda: None}, {}], ids=["with checks", "without checks"]
)
async def test_it_is_ready_when_every_check_succeeds(client: Client, session: aiohttp.ClientSession):
    async with session.get(client.url("/readyz")) as response:
        assert (response.status, await response.json()) == (200, {"status": "ready", "failing": {}})


@pytest.mark.f43
@pytest.mark.parametrize("checks", [{"database": broken, "discord": lambda: "not connected", "workers": fine}])
async def test_it_names_what_is_not_ready_and_keeps_details_to_the_log(
    client: Client, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
):
    async with session.get(client.url("/readyz")) as response:
        assert response.status == 503
        text = await response.text()
    assert json.loads(text) == {
        "status": "not ready",
        "failing": {"database": "RuntimeError", "discord": "not connected"},
    }
    assert "secret detail" not in text
    assert "secret detail" in caplog.text


async def test_what_leaves_the_rest_working_is_named_by_a_process_that_is_ready():
    degraded: dict[str, Check] = {"providers": lambda: "krea (denied)"}
    health = HealthRoutes({"database": fine}, prometheus_client.CollectorRegistry(), degraded=degraded)
    async with (
        HttpServer(health.routes(), host="127.0.0.1", port=0) as server,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{server.port}/readyz") as response,
    ):
        assert response.status == 200
        assert await response.json() == {"status": "degraded", "failing": {"providers": "krea (denied)"}}


@pytest.mark.f43
@pytest.mark.parametrize("checks", [{"database": lambda: asyncio.sleep(60)}])
async def test_a_check_that_hangs_is_reported_after_its_time_limit(
    client: Client, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(web_routes, "_CHECK_SECONDS", 0.01)
    async with session.get(client.url("/readyz")) as response:
        assert response.status == 503
        assert (await response.json())["failing"] == {"database": "no answer within 0 s"}


async def test_metrics_are_those_of_the_registry(client: Client, session: aiohttp.ClientSession):
    prometheus_client.Counter("jobs", "Jobs", registry=client.registry).inc(3)
    async with session.get(client.url("/metrics")) as response:
        assert response.content_type == "text/plain"
        assert "jobs_total 3.0" in await response.text()


@pytest.mark.f57
@pytest.mark.parametrize(
    ("body", "body_id"),
    [
        (b'{"job_id": "j-1", "status": "completed"}', "j-1"),
        (b'{"request_id": "r-1"}', "r-1"),
        (b'{"job_id": 7}', None),
        (b'{"job_id": "' + b"x" * 201 + b'"}', None),
        (b'["job_id"]', None),
        (b"", None),
        (b"\xff\xfe", None),
        (b"[" * 100_000, None),
        (b'{"job_id": "j-1", "pad": "' + b"x" * (MAX_WEBHOOK_BYTES - 40) + b'"}', "j-1"),
        (b'{"job_id": "j-1", "pad": "' + b"x" * MAX_WEBHOOK_BYTES + b'"}', None),
    ],
    ids=lambda value: repr(value)[:24],
)
async def test_a_webhook_is_forwarded_and_its_response_tells_nothing(
    client: Client, session: aiohttp.ClientSession, body: bytes, body_id: str | None
):
    async with session.post(client.url("/hooks/t0ken"), data=body) as response:
        assert (response.status, await response.read()) == (204, b"")
    assert client.hooks == [("t0ken", body_id)]


@pytest.mark.f57
async def test_a_body_over_the_limit_is_cut_off(client: Client):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(b"POST /hooks/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    try:
        for _ in range(64):
            writer.write(chunk)
            await writer.drain()
    except ConnectionError:
        pass  # the server closed the connection, as it should
    else:
        assert b"204" in await reader.read(1024)
    writer.close()
    assert client.hooks == [("t", None)]


async def test_a_body_that_does_not_arrive_is_given_up_at_the_time_limit(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(web_routes, "_HOOK_READ_SECONDS", 0.01)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(b"POST /hooks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    answer = await asyncio.wait_for(reader.read(), 60)
    assert answer.startswith(b"HTTP/1.1 204")
    writer.close()


async def test_a_failing_listener_is_logged_and_not_shown(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
):
    def fail(_token: str, _body_id: str | None) -> None:
        raise RuntimeError("boom")

    server = HttpServer(WebhookRoutes(fail).routes(), host="127.0.0.1", port=0)
    async with server, session.post(f"http://127.0.0.1:{server.port}/hooks/t", data=b"{}") as response:
        assert response.status == 204
    assert [record.levelno for record in caplog.records if record.name == "bot.runtime.web.web_routes"] == [
        logging.ERROR
    ]


async def test_the_path_of_a_webhook_is_never_logged(
    client: Client, session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    async with session.post(client.url("/hooks/s3cret"), data=b"{}"):
        pass
    assert "s3cret" not in caplog.text


@given(st.binary(max_size=300))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_id_is_always_a_part_of_the_body(body: bytes):
    found = web_routes._id_in(body)
    assert found is None or found.encode() in body


async def test_a_port_in_use_is_an_error_of_one_line(client: Client):
    second = HttpServer([], host="127.0.0.1", port=client.server.port)
    with pytest.raises(SettingsError, match=rf"^HTTP_PORT {client.server.port} is taken") as caught:
        await second.start()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "error", "sentence"),
    [
        ("192.0.2.1", None, "^HTTP_HOST must be an address of this machine"),
        ("no.such.host", socket.gaierror(socket.EAI_NONAME, "not known"), "^HTTP_HOST must be"),
        ("127.0.0.1", PermissionError(13, "Permission denied"), "^HTTP_PORT 80 may not be used"),
        ("127.0.0.1", OSError(24, "Too many open files"), "cannot be used: Too many open files$"),
    ],
)
async def test_an_address_that_cannot_be_used_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, host: str, error: OSError | None, sentence: str
):
    if error is not None:

        async def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(asyncio.get_running_loop(), "create_server", fail)
    with pytest.raises(SettingsError, match=sentence):
        await HttpServer([], host=host, port=80).start()


async def test_closing_frees_the_port_and_may_be_repeated():
    server = HttpServer([], host="127.0.0.1", port=0)
    with pytest.raises(RuntimeError):
        _ = server.port
    await server.start()
    port = server.port
    await server.close()
    await server.close()
    async with HttpServer([], host="127.0.0.1", port=port) as again:
        assert again.port == port


# -- connections --------------------------------------------------------------------------------------------


async def connect(server: HttpServer, request: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request)
    await writer.drain()
    return reader, writer


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(), 30) == b""
    except ConnectionError:
        return True


class HeldRequest:
    """A route whose response waits until it is released."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.released = asyncio.Event()

    async def handle(self, _: web.Request) -> web.Response:
        self.arrived.set()
        await self.released.wait()
        return web.Response(text="done")


@pytest.mark.hostile("G-06")
@pytest.mark.parametrize(
    "sent", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "], ids=["nothing", "half a header"]
)
async def test_a_connection_without_a_whole_header_is_closed_after_ten_seconds(client: Client, sent: bytes):
    reader, writer = await connect(client.server, sent)
    now = asyncio.get_running_loop().time()
    await count_of(client.server, 1)
    client.server.close_old(now + IDLE_SECONDS - 1)
    assert client.server.connection_count == 1
    client.server.close_old(now + IDLE_SECONDS + 1)
    assert client.server.connection_count == 0
    assert await is_closed(reader)
    writer.close()


@pytest.mark.hostile("G-06")
async def test_a_request_that_is_handled_has_more_time_than_an_idle_connection():
    held = HeldRequest()
    async with HttpServer([web.get("/", held.handle)], host="127.0.0.1", port=0) as server:
        reader, writer = await connect(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await held.arrived.wait()
        now = asyncio.get_running_loop().time()
        server.close_old(now + IDLE_SECONDS + 1)
        assert server.connection_count == 1
        server.close_old(now + REQUEST_SECONDS + 1)
        assert server.connection_count == 0
        assert await is_closed(reader)
        writer.close()


@pytest.mark.hostile("G-06")
async def test_a_full_port_closes_its_oldest_idle_connection_and_answers_the_new_one(
    session: aiohttp.ClientSession, caplog: pytest.LogCaptureFixture
):
    routes = HealthRoutes({}, prometheus_client.CollectorRegistry()).routes()
    async with HttpServer(routes, host="127.0.0.1", port=0, max_connections=20) as server:
        idle = [await connect(server) for _ in range(20)]
        await count_of(server, 20)
        async with session.get(f"http://127.0.0.1:{server.port}/healthz") as response:
            assert response.status == 200
        assert await is_closed(idle[0][0])
        assert server.connection_count <= 20
        for _, writer in idle:
            writer.close()
    assert "HTTP_PORT has 20 connections, its limit" in caplog.text


@pytest.mark.hostile("G-06")
async def test_a_port_full_of_requests_that_are_handled_refuses_new_connections():
    held = [HeldRequest(), HeldRequest()]
    routes = [web.get(f"/{number}", each.handle) for number, each in enumerate(held)]
    async with HttpServer(routes, host="127.0.0.1", port=0, max_connections=2) as server:
        clients = [
            await connect(server, b"GET /%d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % number)
            for number in range(2)
        ]
        for each in held:
            await each.arrived.wait()
        refused, writer = await connect(server)
        assert await is_closed(refused)
        writer.close()
        for each in held:
            each.released.set()
        for reader, writer in clients:
            assert (await reader.read()).endswith(b"done")
            writer.close()


@pytest.mark.hostile("G-06")
async def test_bodies_that_do_not_arrive_keep_no_webhook_out(client: Client, session: aiohttp.ClientSession):
    handled = 0

    async def read_body(request: web.Request) -> web.Response:
        nonlocal handled
        handled += 1
        await request.read()
        return web.Response()

    hooks = WebhookRoutes(lambda token, body_id: client.hooks.append((token, body_id))).routes()
    async with HttpServer(
        [*hooks, web.post("/slow", read_body)], host="127.0.0.1", port=0, max_connections=20
    ) as server:
        slow = b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\na"
        clients = [await connect(server, slow) for _ in range(20)]
        async with asyncio.timeout(60):
            while handled < 20:
                await asyncio.sleep(0)
        async with session.post(f"http://127.0.0.1:{server.port}/hooks/t0ken", data=b'{"job_id": "j-1"}') as response:
            assert response.status == 204
        for _, writer in clients:
            writer.close()
    assert client.hooks == [("t0ken", "j-1")]


@pytest.mark.hostile("G-06")
async def test_a_flood_of_connections_that_are_closed_for_others_is_not_logged(caplog: pytest.LogCaptureFixture):
    async def send_part(server: HttpServer) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, TimeoutError):
            writer.write(b"POST /hooks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\na")
            await asyncio.wait_for(reader.read(), 0.5)  # those that are left when all were sent get no answer

    routes = WebhookRoutes(lambda *_: None).routes()
    async with HttpServer(routes, host="127.0.0.1", port=0, max_connections=20) as server:
        for _ in range(5):
            await asyncio.gather(*(send_part(server) for _ in range(200)))
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.hostile("G-06")
async def test_clients_that_leave_before_their_body_are_not_logged(client: Client, caplog: pytest.LogCaptureFixture):
    header = b"POST /hooks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    for rest in (b"\r\n", b"Expect: 100-continue\r\n\r\n"):
        for _ in range(20):
            _, writer = await connect(client.server, header + rest)
            writer.transport.abort()
    await count_of(client.server, 0)
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == []


async def count_of(server: HttpServer, count: int) -> None:
    """Wait until the server has accepted `count` connections."""
    async with asyncio.timeout(60):
        while server.connection_count != count:
            await asyncio.sleep(0)


@pytest.mark.hostile("G-06")
@pytest.mark.parametrize(
    "request_of_a_stranger",
    [
        b"\x16\x03\x01\x02\x00 s3cret\r\n\r\n",
        b"POST /hooks/s3cret HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST /hooks/s3cret HTTP/1.1\r\n" + b"".join(b"X%d: a\r\n" % number for number in range(10_000)) + b"\r\n",
        b"POST /hooks/s3cret" + b"%61" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /hooks/s3cret HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /hooks/s3cret HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    ],
    ids=["TLS", "a long header", "many headers", "a long path", "two lengths", "a negative length"],
)
async def test_what_is_not_http_is_answered_and_neither_logged_nor_repeated(
    client: Client, caplog: pytest.LogCaptureFixture, request_of_a_stranger: bytes
):
    reader, writer = await asyncio.open_connection("127.0.0.1", client.server.port)
    writer.write(request_of_a_stranger)
    answer = b""
    with contextlib.suppress(ConnectionError):  # the server closes without reading the rest
        while part := await asyncio.wait_for(reader.read(1024), 60):
            answer += part
    writer.close()
    assert answer == b"" or answer.startswith(b"HTTP/1.0 400")
    assert b"s3cret" not in answer
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert client.hooks == []


@pytest.mark.hostile("G-06")
async def test_a_body_in_very_many_chunks_is_cut_off(client: Client):
    """aiohttp would be busy with each of them, and with nothing else, for as long as there are more."""
    header = b"POST /hooks/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, writer = await connect(client.server, header + b"1\r\n \r\n" * 40 + b"0\r\n\r\n")
    assert b"204" in await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    reader, writer = await connect(client.server, header)
    with contextlib.suppress(ConnectionError):  # the server closed the connection, as it should
        for _ in range(1000):
            writer.write(b"1\r\n \r\n" * 100)
            await writer.drain()
    assert await is_closed(reader)
    writer.close()


@pytest.mark.hostile("G-06")
async def test_a_compressed_body_is_not_unpacked(client: Client, session: aiohttp.ClientSession):
    packed = gzip.compress(b'{"job_id": "j-1"}')
    async with session.post(client.url("/hooks/t"), data=packed, headers={"Content-Encoding": "gzip"}) as response:
        assert response.status == 204
    assert client.hooks == [("t", None)]


@pytest.mark.hostile("G-06")
async def test_of_many_requests_in_a_row_the_first_is_answered(client: Client):
    reader, writer = await connect(client.server, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    answers = b""
    with contextlib.suppress(ConnectionError):  # the others are not read
        while part := await asyncio.wait_for(reader.read(1024), 60):
            answers += part
    writer.close()
    assert answers.count(b"HTTP/1.1 200") <= 1


@pytest.mark.hostile("G-06")
async def test_metrics_are_made_at_most_once_a_second(
    client: Client, session: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
):
    made: list[object] = []
    make = web_routes.generate_latest

    def counted(registry: prometheus_client.CollectorRegistry) -> bytes:
        made.append(registry)
        return make(registry)

    monkeypatch.setattr(web_routes, "generate_latest", counted)
    monkeypatch.setattr(web_routes, "_METRICS_SECONDS", 1000.0)
    for _ in range(5):
        async with session.get(client.url("/metrics")) as response:
            assert response.status == 200
    assert len(made) == 1
