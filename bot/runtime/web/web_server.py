"""HttpServer: one port, open to strangers, that gives them a bounded number of connections for a bounded time.

aiohttp accepts as many connections as there are file descriptors, and waits for the header of a request without a
limit. Idle sockets could thus take the descriptors that Discord, the providers and the database need.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Self, cast

from aiohttp import web
from aiohttp.typedefs import Handler

from bot.domain.errors import SettingsError
from bot.runtime.processes.file_descriptors import descriptor_limit

_log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""How long a connection may be open without a complete request header, and may take to receive its response."""

REQUEST_SECONDS = 30.0
"""How long a request may be handled."""

MAX_CONNECTIONS = 256
_DESCRIPTORS_PER_CONNECTION = 8
"""A port takes at most one descriptor in eight. The others stay for Discord, providers, files and the database."""

_ACCEPTED_AT_ONCE = 16
"""Connections that asyncio accepts before other code runs: the limit may be exceeded by this many for a moment."""

RECEIVE_BUFFER_BYTES = 8 * 1024
"""What the kernel keeps of a connection, and so what is parsed of it before other code runs. Linux takes it twice.

asyncio reads up to 256 KiB at once, which may be tens of thousands of chunks or lines, from each of all connections.
"""

MAX_LINES = 100
"""Lines of a connection's header and chunks together. The header of a webhook has about twenty, its body a few.

aiohttp needs as much as a tenth of a millisecond for a chunk, however small, and keeps the event loop for as long as
there are more.
"""

_SCAN_SECONDS = 1.0
_WARNING_SECONDS = 60.0
"""Pauses between two searches for old connections, and between two log lines about a full port."""


class HttpServer:
    """Serves `routes` on one address.

    At the limit of connections, the one that has been idle for longest is closed for the new one; one whose body is
    not complete is as idle. A flood of slow senders therefore does not keep out a provider's webhook or a health check.
    `setting_prefix` is HTTP or WEBHOOK.
    """

    def __init__(
        self,
        routes: Iterable[web.AbstractRouteDef],
        *,
        host: str,
        port: int,
        setting_prefix: str = "HTTP",
        max_connections: int | None = None,
    ) -> None:
        self._host = host
        self._requested_port = port
        self._port: int | None = None
        self._setting_prefix = setting_prefix
        self._max_connections = max_connections or max(
            1, min(MAX_CONNECTIONS, descriptor_limit() // _DESCRIPTORS_PER_CONNECTION)
        )
        application = web.Application(middlewares=[_note_handling])
        application.add_routes(routes)
        self._runner = web.AppRunner(application, shutdown_timeout=2.0)
        self._listener: asyncio.Server | None = None
        self._scan_task: asyncio.Task[None] | None = None
        self._open: dict[_Connection, None] = {}
        """Open connections, in the order of `changed_at`."""
        self._warned_at = float("-inf")

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The port it listens on, also when the setting is 0 (any free port)."""
        if self._port is None:
            raise RuntimeError("the server has not started")
        return self._port

    @property
    def connection_count(self) -> int:
        """How many connections are open."""
        return len(self._open)

    async def start(self) -> None:
        """Listen. Raises SettingsError, naming the variable, when the address cannot be used."""
        await self._runner.setup()
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._connection, self._host, self._requested_port, backlog=_ACCEPTED_AT_ONCE
            )
        except OSError as error:
            await self._runner.cleanup()
            raise SettingsError(_explain(error, self._setting_prefix, self._host, self._requested_port)) from error
        for listening in self._listener.sockets:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._port = self._listener.sockets[0].getsockname()[1]
        self._scan_task = asyncio.create_task(self._scan(), name=f"old connections at {self._setting_prefix}_PORT")

    async def close(self) -> None:
        """Stop listening after the requests in progress. May be repeated."""
        if self._scan_task is not None:
            self._scan_task.cancel()
        if self._listener is not None:
            self._listener.close()
        await self._runner.cleanup()

    def _connection(self) -> _Connection:
        handlers = self._runner.server
        assert handlers is not None, "set up by `start`"
        return _Connection(self, handlers)

    def opened(self, connection: _Connection) -> None:
        """Count a new connection; at the limit, close the one that has been idle for longest, or else this one."""
        if len(self._open) >= self._max_connections:
            self._warn()
            idle = next((other for other in self._open if other.is_idle), connection)
            idle.abort()
            if idle is connection:
                return
            self.closed(idle)
        self._open[connection] = None

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        self._open.pop(connection, None)

    def changed(self, connection: _Connection) -> None:
        """Note that a connection began or ended to handle a request."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def close_old(self, now: float) -> None:
        """Close every connection that has been in its state for too long at `now`, in seconds of the event loop."""
        for connection in tuple(self._open):
            if now - connection.changed_at >= (REQUEST_SECONDS if connection.handles_request else IDLE_SECONDS):
                connection.abort()
                self.closed(connection)

    async def _scan(self) -> None:
        while True:
            await asyncio.sleep(_SCAN_SECONDS)
            self.close_old(asyncio.get_running_loop().time())

    def _warn(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= _WARNING_SECONDS:
            self._warned_at = now
            _log.warning(
                "%s_PORT has %d connections, its limit: idle ones are closed for new ones",
                self._setting_prefix,
                len(self._open),
            )


class _Connection(web.RequestHandler):
    """aiohttp's protocol for one connection; knows since when it waits for a request or handles one."""

    __slots__ = ("_http_server", "_lines_left", "_request", "_socket_transport", "changed_at")

    def __init__(self, http_server: HttpServer, handlers: web.Server) -> None:
        loop = asyncio.get_running_loop()
        # No access log: the path of a webhook is a secret.
        options: dict[str, Any] = {"access_log": None, "lingering_time": 1.0, "keepalive_timeout": IDLE_SECONDS}
        # A compressed body stays so: 30 KB may become 30 MB, and unpacking takes the time of the event loop.
        options["auto_decompress"] = False
        super().__init__(handlers, loop=loop, **options)
        self._http_server = http_server
        self._socket_transport: asyncio.Transport | None = None
        self._lines_left = MAX_LINES
        self._request: web.Request | None = None
        self.changed_at = loop.time()

    @property
    def handles_request(self) -> bool:
        """Whether a request is handled, complete or not."""
        return self._request is not None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for its client: for a request, or for the rest of one."""
        return self._request is None or not self._request.content.is_eof()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._socket_transport = cast("asyncio.Transport", transport)
        self._http_server.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._http_server.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        # Those that a body holds are counted too; one that was written for machines has none.
        self._lines_left -= data.count(b"\r\n")
        if self._lines_left < 0:
            self.abort()
        else:
            super().data_received(data)

    def note_handling(self, request: web.Request | None) -> None:
        """Note which request is handled from now on; None after it."""
        self._request = request
        self.changed_at = asyncio.get_running_loop().time()
        self._http_server.changed(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that is not HTTP, and log nothing: a flood would fill the disk, and its path may be secret.

        aiohttp logs a traceback with the first bytes of each, and sends them back; and one for each client that is gone
        before it was asked for its body. Our own errors are still logged.
        """
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(exc, ConnectionError):
            return super().handle_error(request, status, exc, message)
        response = web.Response(status=status)
        response.force_close()
        return response

    def abort(self) -> None:
        """Close the connection at once, without waiting for data to be sent."""
        if self._socket_transport is not None:
            self._socket_transport.abort()


@web.middleware
async def _note_handling(request: web.Request, handler: Handler) -> web.StreamResponse:
    connection = cast("_Connection", request.protocol)
    connection.note_handling(request)
    try:
        response = await handler(request)
        # One request for each connection, or thousands in a row would be answered before other code runs.
        response.force_close()
        return response
    finally:
        connection.note_handling(None)


def _explain(error: OSError, prefix: str, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{prefix}_PORT {port} is taken by another program on {host}: choose another one, or 0 for any free one"
    if error.errno == errno.EACCES:
        return f"{prefix}_PORT {port} may not be used by this user: choose one from 1024 up"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{prefix}_HOST must be an address of this machine such as 127.0.0.1, and {host} is none"
    return f"{prefix}_HOST and {prefix}_PORT cannot be used: {error.strerror or type(error).__name__}"
