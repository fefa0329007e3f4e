"""What every test gets: no settings from the machine, no access to the internet, one Hypothesis profile."""

from __future__ import annotations

import ipaddress
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from bot.runtime.logs import Handler
from bot.settings import Settings
from tests.support.rows import RowMarks

if TYPE_CHECKING:
    from bot.domain.deployment.database_url import Location
    from tests.support.core import Core
    from tests.support.crashes import Nursery
    from tests.support.postgres_server import PostgresServer

# Shared, slow machines make deadlines per example meaningless; in CI a failure must be repeatable.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


def _is_here(host: Any) -> bool:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _stay_here(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse every connection and every name resolution that would leave this machine, in an audit hook."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and not _is_here(address[0]):
            raise OSError(f"tests do not leave this machine: connect to {address[0]}")
    elif event == "socket.getaddrinfo" and not _is_here(arguments[0]):
        try:
            ipaddress.ip_address(arguments[0])
        except ValueError:
            raise OSError(f"tests do not leave this machine: look up {arguments[0]}") from None


sys.addaudithook(_stay_here)


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin that records which test shows which row of the fault matrix."""
    config.pluginmanager.register(RowMarks(), "rows of the fault matrix")


@pytest.fixture(autouse=True)
def _no_settings_from_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session", autouse=True)
def _new_databases_are_copies() -> Iterator[None]:
    from tests.support.databases import new_databases_are_copies

    with new_databases_are_copies():
        yield


@pytest.fixture(scope="session", autouse=True)
def _image_processes_are_kept() -> Iterator[None]:
    from tests.support.kept_processes import processes_kept

    with processes_kept():
        yield


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Start the process that forks bots; each test that uses it ends its own bot."""
    from tests.support.crashes import Nursery

    with Nursery() as nursery:
        yield nursery


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    """Start a core; when the test is over, its ledger must balance."""
    from tests.support.core import a_core

    async with a_core(tmp_path) as core:
        yield core


def pytest_unconfigure() -> None:
    """Stop the PostgreSQL server that was started for the tests."""
    from tests.support.postgres_server import stop_the_server

    stop_the_server()


@pytest.fixture
def postgres() -> PostgresServer:
    """Return the PostgreSQL server of this process; skip the test where it cannot be started."""
    from tests.support.postgres_server import the_server

    return the_server()


@pytest.fixture(params=["sqlite", "postgresql"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """Yield the location of an empty database on each engine; what holds on one holds on the other."""
    if request.param == "sqlite":
        yield tmp_path / "bot.sqlite3"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.fresh()
    yield address
    server.drop(address)


@pytest.fixture(params=["sqlite", "postgresql"])
def location_without_tables(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """Yield where a database can be created on each engine, at a version that the test chooses."""
    if request.param == "sqlite":
        yield tmp_path / "bot.sqlite3"
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    address = server.empty()
    yield address
    server.drop(address)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what a test sets up as the program does: levels, and the handler whose stream ends with the test."""
    loggers = [logging.getLogger(name) for name in (None, "bot", "cogs", "sandbox")]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    for handler in [handler for handler in loggers[0].handlers if isinstance(handler, Handler)]:
        loggers[0].removeHandler(handler)
