"""PgBouncer for the tests: on a loopback port, in front of the tests' PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from bot.domain.deployment.database_url import PostgresAddress
from tests.support.postgres_server import PASSWORD, PostgresServer

_PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Pooler:
    """A PgBouncer in front of every database of the server."""

    def __init__(self, server: PostgresServer, mode: str, *, pool_size: int = 40) -> None:
        """Start it. Skip the test where there is none."""
        if _PROGRAM is None:
            pytest.skip("there is no pooler here: no pgbouncer")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port: int = free.getsockname()[1]
        settings = server.folder / f"pgbouncer-{self._port}.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port} user=bot password={PASSWORD}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self._port}\nunix_socket_dir =\nauth_type = any\n"
            f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
        )
        settings.chmod(0o644)
        self._server = server
        self._command = [*server.run_as, _PROGRAM, str(settings)]
        self.start()

    def start(self) -> None:
        output = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, cwd="/", stdout=output, stderr=output)

    def kill(self) -> None:
        """Send SIGKILL: every connection through it breaks."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()

    def address(self, of: PostgresAddress) -> PostgresAddress:
        """Return the address through the pooler of the database at `of`, once that can be reached."""
        through = self._server.address(of.url.rpartition("/")[2], port=self._port)
        _wait_until_up(self._process, through)
        return through


@contextmanager
def pooled(
    server: PostgresServer, address: PostgresAddress, mode: str, *, pool_size: int = 40
) -> Iterator[PostgresAddress]:
    """Yield the address of the same database through a pooler. Skip the test where there is none."""
    pooler = Pooler(server, mode, pool_size=pool_size)
    try:
        yield pooler.address(address)
    finally:
        pooler.close()


def _wait_until_up(process: subprocess.Popen[bytes], address: PostgresAddress) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(address.url).close()
            return
        except psycopg.OperationalError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
