"""A PostgreSQL server for the tests: on a loopback port, in a temporary directory, with a fresh database for each test.

It refuses to run as root, so there it runs as the user that Debian's package makes for it, or as nobody.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest

from bot.domain.database_url import PostgresAddress
from bot.store.postgres import database as postgres_database

_numbers = count(1)
PASSWORD = "a-long-password"


@cache
def _programs() -> Path | None:
    """The directory of the server's programs, the newest where there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    return None if beside is None else Path(beside).parent


@cache
def _somebody_else() -> str | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


class PostgresServer:
    """One server; `stop` and `start` as often as a test wants."""

    def __init__(self, *, is_durable: bool = False) -> None:
        programs = _programs()
        if programs is None:
            pytest.skip("there is no PostgreSQL server here: no initdb")
        self._programs = programs
        self._as_somebody: Sequence[str] = ()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.geteuid() == 0:
            user = _somebody_else()
            if user is None or not shutil.which("setpriv"):
                pytest.skip("PostgreSQL does not run as root, and there is nobody else to run it as")
            entry = pwd.getpwnam(user)
            self._as_somebody = ("setpriv", f"--reuid={user}", f"--regid={entry.pw_gid}", "--clear-groups")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._call(
            "initdb",
            f"--pgdata={self.folder}/data",
            "--username=bot",
            "--encoding=UTF8",
            "--no-locale",
            "--auth=password",  # a hash that is slow on purpose would be most of many a test
            f"--pwfile={secret}",
            "--no-sync",
        )
        (self.folder / "data" / "postgresql.auto.conf").write_text(
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
            f"shared_buffers = 16MB\nmax_connections = 60\nautovacuum_naptime = 5\nlog_min_messages = warning\n"
            + ("" if is_durable else "fsync = off\nfull_page_writes = off\n")
        )
        self.start()

    def _call(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self._as_somebody, str(self._programs / program), *arguments], cwd="/", capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    # -- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self._as_somebody, str(self._programs / "postgres"), "-D", f"{self.folder}/data"],
                cwd="/",
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def kill(self) -> None:
        """As if the machine had lost its power: no good-bye, the log is replayed at the next start."""
        assert self._process is not None
        self._call("pg_ctl", "stop", f"--pgdata={self.folder}/data", "--mode=immediate", "--wait")
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Nobody gets an answer, and nobody is told why."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """To the server and every process that it has made."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (*map(int, children), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder)

    # -- databases --------------------------------------------------------------------------------------------

    def url(self, database: str, *, port: int | None = None) -> str:
        return f"postgresql://bot:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def address(self, database: str, *, port: int | None = None) -> PostgresAddress:
        return PostgresAddress(self.url(database, port=port))

    def empty(self) -> PostgresAddress:
        """A database with nothing in it."""
        return self._create("template0")

    def fresh(self) -> PostgresAddress:
        """A database with empty books."""
        self._template()
        return self._create("books")

    @cache  # noqa: B019 - there is one server, and it lives as long as the tests
    def _template(self) -> None:
        self.execute("CREATE DATABASE books TEMPLATE template0")
        postgres_database._prepare(self.address("books"))

    def _create(self, template: str) -> PostgresAddress:
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.address(name)

    def drop(self, address: PostgresAddress) -> None:
        name = address.url.rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


_running: list[PostgresServer] = []


def the_server() -> PostgresServer:
    """The one server of this process, started at the first use; without its programs the test is skipped."""
    if not _running:
        _running.append(PostgresServer())
    return _running[0]


def stop_the_server() -> None:
    """At the end of all tests."""
    while _running:
        _running.pop().close()
