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


@contextmanager
def pooled(
    server: PostgresServer, address: PostgresAddress, mode: str, *, pool_size: int = 40
) -> Iterator[PostgresAddress]:
    """Yield the address of the same database through a pooler. Skip the test where there is none."""
    if _PROGRAM is None:
        pytest.skip("there is no pooler here: no pgbouncer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    settings = server.folder / f"pgbouncer-{port}.ini"
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=bot password={PASSWORD}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\ndefault_pool_size = {pool_size}\n"
    )
    settings.chmod(0o644)
    output = subprocess.DEVNULL
    process = subprocess.Popen([*server.run_as, _PROGRAM, str(settings)], cwd="/", stdout=output, stderr=output)
    through = server.address(address.url.rpartition("/")[2], port=port)
    try:
        _wait_until_up(process, through)
        yield through
    finally:
        process.terminate()
        process.wait()


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
