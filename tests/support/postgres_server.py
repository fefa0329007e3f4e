"""A PostgreSQL server for the tests: on a loopback port, in a temporary directory, with a fresh database for each test.

PostgreSQL refuses to run as root; then it runs as the user of Debian's package, or as the user `nobody`.
"""

from __future__ import annotations

import contextlib
import copy
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest

from bot.domain.deployment.database_url import PostgresAddress
from bot.store.postgres import database as postgres_database

_numbers = count(1)
PASSWORD = "a-long-password"
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'modest'"


@cache
def _programs() -> Path | None:
    """Return the directory of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    if found:
        return found[-1].parent
    beside = shutil.which("initdb")
    return None if beside is None else Path(beside).parent


@cache
def _unprivileged_user() -> str | None:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class PostgresServer:
    """One server, which tests may kill, start, freeze and thaw."""

    def __init__(self, *, is_durable: bool = False, settings: str = "", in_folder: Path | None = None) -> None:
        """Start a server. `settings` are further lines of its configuration, with {folder} for its folder."""
        programs = _programs()
        if programs is None:
            pytest.skip("there is no PostgreSQL server here: no initdb")
        self._programs = programs
        self.run_as: Sequence[str] = ()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=in_folder))
        if os.geteuid() == 0:
            user = _unprivileged_user()
            if user is None or not shutil.which("setpriv"):
                pytest.skip("PostgreSQL does not run as root, and there is no other user to run it as")
            entry = pwd.getpwnam(user)
            self.run_as = ("setpriv", f"--reuid={user}", f"--regid={entry.pw_gid}", "--clear-groups")
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        password_file = self.folder / "password"
        password_file.write_text(PASSWORD)
        password_file.chmod(0o644)
        self.call(
            "initdb",
            f"--pgdata={self.folder}/data",
            "--username=bot",
            "--encoding=UTF8",
            "--no-locale",
            "--auth=password",  # SCRAM is slow on purpose, and tests connect often
            f"--pwfile={password_file}",
            "--no-sync",
        )
        (self.folder / "data" / "postgresql.auto.conf").write_text(
            f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
            f"shared_buffers = 16MB\nmax_connections = 60\nautovacuum_naptime = 5\nlog_min_messages = warning\n"
            + ("" if is_durable else "fsync = off\nfull_page_writes = off\n")
            + settings.replace("{folder}", str(self.folder))
        )
        self.start()

    def stand_by(self) -> PostgresServer:
        """Start a stand-by of this server, which it knows by the name `stand_by`."""
        other = copy.copy(self)
        other.folder = self.folder / "stand_by"
        other.port = _free_port()
        data = other.folder / "data"
        source = f"--dbname={self.url('postgres')}"
        self.call(
            "pg_basebackup", source, f"--pgdata={data}", "--checkpoint=fast", "--write-recovery-conf", "--no-sync"
        )
        with (data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"port = {other.port}\ncluster_name = stand_by\n")
        other.start()
        return other

    def promote(self) -> None:
        """Make a stand-by take over."""
        self.call("pg_ctl", "promote", f"--pgdata={self.folder}/data", "--wait")

    def call(self, program: str, *arguments: str) -> None:
        """Run one of the server's programs as its user."""
        done = subprocess.run(
            [*self.run_as, str(self._programs / program), *arguments], cwd="/", capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    # -- start and stop -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [*self.run_as, str(self._programs / "postgres"), "-D", f"{self.folder}/data"],
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

    @property
    def is_up(self) -> bool:
        """Whether the server was started and neither killed nor ended by itself."""
        return self._process is not None and not self.has_ended

    @property
    def has_ended(self) -> bool:
        """Whether the server ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def kill(self) -> None:
        """Stop at once, as in a power failure: the next start replays the log."""
        assert self._process is not None
        self.call("pg_ctl", "stop", f"--pgdata={self.folder}/data", "--mode=immediate", "--wait")
        self._process.wait()
        self._process = None

    def freeze(self) -> None:
        """Stop every process of the server, so that connections stay open without a response."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to every process that it started."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in (*map(int, children), self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def close(self) -> None:
        if self.is_up:
            self.kill()
        shutil.rmtree(self.folder)

    # -- databases --------------------------------------------------------------------------------------------

    def url(self, database: str, *, port: int | None = None) -> str:
        return f"postgresql://bot:{PASSWORD}@127.0.0.1:{port or self.port}/{database}"

    def address(self, database: str, *, port: int | None = None) -> PostgresAddress:
        return PostgresAddress(self.url(database, port=port))

    def empty(self) -> PostgresAddress:
        """Create an empty database."""
        return self._create("template0")

    def fresh(self) -> PostgresAddress:
        """Create a database with the newest schema and no rows."""
        self._template()
        return self._create("prepared")

    @cache  # noqa: B019 - there is one server, and it lives as long as the tests
    def _template(self) -> None:
        self.execute("CREATE DATABASE prepared TEMPLATE template0")
        postgres_database._prepare(self.address("prepared"))

    def _create(self, template: str) -> PostgresAddress:
        name = f"test_{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.address(name)

    def drop(self, address: PostgresAddress) -> None:
        name = address.url.rpartition("/")[2]
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    @contextlib.contextmanager
    def a_modest_user(self, database: str) -> Iterator[str]:
        """Yield the URL of a database for `modest`, a user without special rights, whose connections can be limited."""
        self.execute(f"CREATE ROLE modest LOGIN PASSWORD '{PASSWORD}'")
        self.execute(f"GRANT CREATE ON DATABASE {database} TO modest")
        for kind in ("TABLES", "SEQUENCES"):
            self.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO modest", database=database)
        try:
            yield self.url(database).replace("//bot:", "//modest:")
        finally:
            self.execute(_END_SESSIONS)
            self.execute("DROP OWNED BY modest", database=database)
            self.execute("DROP ROLE modest")

    def execute(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []


_running: list[PostgresServer] = []


def the_server() -> PostgresServer:
    """Return the one server of this process, started at the first call. Skip the test without PostgreSQL's programs."""
    if not _running:
        _running.append(PostgresServer())
    return _running[0]


def stop_the_server() -> None:
    """Stop the server of `the_server`. Called after the last test."""
    while _running:
        _running.pop().close()
