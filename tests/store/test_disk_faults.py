"""Disk faults: at any statement the whole change is refused, and works again without a restart when the disk does."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bot.domain.errors import StoreError
from bot.store.admin.verify import verify_file
from bot.store.sqlite import database as sqlite_database
from bot.store.sqlite import schema
from bot.store.sqlite.backup import copy_database, restore
from bot.store.sqlite.connection import SqliteConnection, connect
from bot.store.store import Store
from sandbox.plans import Plan
from tests.support.crashes import Nursery, World, audit, seen, world
from tests.support.retries import one_attempt
from tests.support.store_calls import CALLS, contents
from tests.support.store_samples import ADA, NOON, a_command, admitted, file_of, limits

UNTIL_HEALED = 10_000
MAX_STATEMENTS = 300


class Disk:
    """Decides which statements fail: `times` of them from the `nth` on."""

    def __init__(self) -> None:
        self.error: sqlite3.Error | None = None
        self.nth = 0
        self.times = 0
        self.gives_up_the_transaction = False
        self.failed = 0

    def fail(self, error: sqlite3.Error, *, nth: int, times: int, gives_up_the_transaction: bool) -> None:
        self.error, self.nth, self.times, self.failed = error, nth, times, 0
        self.gives_up_the_transaction = gives_up_the_transaction

    def heal(self) -> None:
        self.error = None

    def before(self, connection: FaultyConnection) -> None:
        if self.error is None:
            return
        self.nth -= 1
        if self.nth > 0 or self.failed >= self.times:
            return
        self.failed += 1
        if self.gives_up_the_transaction and connection.in_transaction:
            sqlite3.Connection.execute(connection, "ROLLBACK")  # as SQLite does by itself when the disk is full
        raise self.error


class FaultyConnection(SqliteConnection):
    """A real connection to a real file, on a disk that may fail."""

    disk: Disk | None = None

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        if self.disk is not None:
            self.disk.before(self)
        return super().execute(*arguments)


ERRORS = {
    "I/O error": (sqlite3.OperationalError("disk I/O error"), False),
    "full": (sqlite3.OperationalError("database or disk is full"), True),
    "locked": (sqlite3.OperationalError("database is locked"), False),
    "read-only": (sqlite3.OperationalError("attempt to write a readonly database"), False),
    "damaged": (sqlite3.DatabaseError("database disk image is malformed"), False),
}


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect_faulty(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=256, factory=FaultyConnection)
        connection.row_factory = sqlite3.Row
        return connection

    monkeypatch.setattr(sqlite_database, "connect", connect_faulty)


async def give(store: Store, disk: Disk, *, reader: bool = False) -> None:
    """Put the store's writing (or reading) connection on this disk from now on."""
    chosen = file_of(store)._reader if reader else file_of(store)._writer

    def lay(connection: sqlite3.Connection) -> None:
        assert isinstance(connection, FaultyConnection)
        connection.disk = disk

    await chosen.run(lay)


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("times", [1, UNTIL_HEALED], ids=["once", "until healed"])
@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("name", CALLS)
async def test_f16_a_fault_at_any_statement_refuses_the_whole_change(
    tmp_path: Path, name: str, kind: str, times: int
) -> None:
    call, disk, path = CALLS[name], Disk(), tmp_path / "bot.sqlite3"
    error, gives_up = ERRORS[kind]
    async with await Store.open(path) as store:
        reply = await call.prepare(store)
        before = contents(path)
        await give(store, disk)
        for nth in range(1, MAX_STATEMENTS):
            disk.fail(error, nth=nth, times=times, gives_up_the_transaction=gives_up)
            try:
                await call.make(one_attempt(store), reply)
            except StoreError:
                assert disk.failed
                assert contents(path) == before
                disk.heal()
                continue
            break
        else:
            raise AssertionError("it never worked")
        assert not disk.failed, "a fault was swallowed"
        assert nth > 3, "BEGIN and COMMIT can fail, and what is between them"
        assert contents(path) != before
        disk.heal()
        assert await store.problem() is None
    assert verify_file(path) == []


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("kind", ERRORS)
async def test_f16_a_fault_while_reading_is_an_error_and_passes(tmp_path: Path, kind: str) -> None:
    error, gives_up = ERRORS[kind]
    disk = Disk()
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        reply = await admitted(store)
        await give(store, disk, reader=True)
        found, nth = None, 0
        for nth in range(1, MAX_STATEMENTS):
            disk.fail(error, nth=nth, times=1, gives_up_the_transaction=gives_up)
            try:
                found = await store.reply(reply.id)
            except StoreError:
                assert disk.failed
                disk.heal()
                assert await store.reply(reply.id) is not None
                continue
            break
        assert found is not None
        assert nth > 3


@pytest.mark.usefixtures("faulty")
async def test_f16_all_callers_of_one_commit_get_its_error_and_nothing_is_written(tmp_path: Path) -> None:
    path, disk = tmp_path / "bot.sqlite3", Disk()
    error, _ = ERRORS["I/O error"]
    async with await Store.open(path) as store:
        await admitted(store)
        before = contents(path)
        await give(store, disk)
        outcomes: list[Any] = []
        for nth in range(1, MAX_STATEMENTS):
            disk.fail(error, nth=nth, times=UNTIL_HEALED, gives_up_the_transaction=False)
            commands = [a_command() for _ in range(5)]
            outcomes = await asyncio.gather(
                *(store.admit(member=ADA, reply=reply, limits=limits(), now=NOON) for reply in commands),
                return_exceptions=True,
            )
            disk.heal()
            if not disk.failed:
                break
            assert all(isinstance(outcome, StoreError) for outcome in outcomes)
            assert contents(path) == before
        assert not any(isinstance(outcome, BaseException) for outcome in outcomes)
    assert verify_file(path) == []


# -- at the start ---------------------------------------------------------------------------------------------


class FaultyFromTheStart(FaultyConnection):
    """Put every connection that is opened on the faulty disk."""

    disk = Disk()


@pytest.fixture
def faulty_from_the_start(monkeypatch: pytest.MonkeyPatch) -> Disk:
    def connect_faulty(path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, cached_statements=256, factory=FaultyFromTheStart)
        connection.row_factory = sqlite3.Row
        return connection

    monkeypatch.setattr(sqlite_database, "connect", connect_faulty)
    monkeypatch.setattr(FaultyFromTheStart, "disk", disk := Disk())
    return disk


async def opened_at_last(path: Path, disk: Disk, error: sqlite3.Error, check: Callable[[], object]) -> int:
    """Open with a fault at the first statement, the second, and so on until it works. Return the number of faults."""
    for nth in range(1, MAX_STATEMENTS):
        disk.fail(error, nth=nth, times=UNTIL_HEALED, gives_up_the_transaction=False)
        try:
            store = await Store.open(path)
        except StoreError:
            disk.heal()
            check()
            continue
        disk.heal()
        await store.close()
        return nth - 1
    raise AssertionError("it never opened")


@pytest.mark.parametrize("kind", ["I/O error", "full", "damaged"])
async def test_f36_a_fault_while_opening_stops_the_start_and_changes_nothing(
    tmp_path: Path, faulty_from_the_start: Disk, kind: str
) -> None:
    path = tmp_path / "bot.sqlite3"
    async with await Store.open(path) as store:
        await admitted(store)
    before = contents(path)
    faults = await opened_at_last(path, faulty_from_the_start, ERRORS[kind][0], lambda: None)
    assert faults > 10
    assert contents(path) == before
    assert verify_file(path) == []


@pytest.mark.parametrize("kind", ["I/O error", "full"])
async def test_f36_a_new_file_is_made_whole_or_not_at_all(
    tmp_path: Path, faulty_from_the_start: Disk, kind: str
) -> None:
    path = tmp_path / "bot.sqlite3"
    seen_whole: list[bool] = []

    def whole_or_absent() -> None:
        seen_whole.append(path.exists())
        assert not path.exists() or verify_file(path) == []

    faults = await opened_at_last(path, faulty_from_the_start, ERRORS[kind][0], whole_or_absent)
    assert faults > 50
    assert seen_whole[0] is False
    assert verify_file(path) == []


async def test_f37_an_upgrade_that_fails_at_any_step_leaves_the_old_file_and_a_backup(
    tmp_path: Path, faulty_from_the_start: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bot.sqlite3"
    async with await Store.open(path) as store:
        reply = await admitted(store)
    old_version, before = version(path), contents(path)
    new_version = old_version + 1
    steps = "ALTER TABLE blocks ADD COLUMN why TEXT;\nCREATE TABLE later (x TEXT) STRICT;\nDROP TABLE notes;\n"
    steps += "CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;\n"
    migrations = {**schema.migrations(), new_version: steps}
    monkeypatch.setattr(schema, "migrations", lambda: migrations)
    states: list[int] = []
    backup = Path(f"{path}.before-{new_version}.bak")

    def old_or_new() -> None:
        states.append(version(path))
        if states[-1] == old_version:
            assert contents(path) == before
        else:
            assert same(backup, before)

    await opened_at_last(path, faulty_from_the_start, ERRORS["I/O error"][0], old_or_new)
    assert states.count(old_version) > 10, "before and in the middle of the upgrade"
    assert states == sorted(states)
    assert version(path) == new_version
    assert same(backup, before)
    async with await Store.open(path) as store:
        assert await store.reply(reply.id) is not None


def same(path: Path, expected: str) -> bool:
    """Return whether the rows are equal in any order, because a backup holds them in a different one."""
    return sorted(contents(path).splitlines()) == sorted(expected.splitlines())


def version(path: Path) -> int:
    connection = connect(path)
    try:
        return schema.version_of(connection)
    finally:
        connection.close()


# -- a real disk that is full ----------------------------------------------------------------------------------


@contextmanager
def no_file_longer_than(size_bytes: int, *, pid: int = 0) -> Iterator[None]:
    """Make the kernel refuse to lengthen files, in this process or another."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_f16_the_kernel_refuses_at_any_byte_and_the_next_order_works_when_it_does_not(tmp_path: Path) -> None:
    path = tmp_path / "bot.sqlite3"
    log = Path(f"{path}-wal")
    refused = 0
    async with await Store.open(path) as store:
        while not log.exists() or log.stat().st_size <= path.stat().st_size:
            await admitted(store, 1)
        for room_bytes in range(0, 60_000, 1_500):
            before = contents(path)
            with no_file_longer_than(log.stat().st_size + room_bytes):
                try:
                    await store.admit(member=ADA, reply=a_command(1), limits=limits(), now=NOON)
                except StoreError:
                    refused += 1
            if refused and room_bytes == 0:
                assert contents(path) == before
            assert await store.problem() is None
            await admitted(store, 1)
    assert refused > 3
    assert verify_file(path) == []
    connection = connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
    connection.close()


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nursery, tmp_path) as here:
        yield here


def fullness(here: World) -> int:
    return max(here.database.stat().st_size, Path(f"{here.database}-wal").stat().st_size)


async def test_f16_a_full_disk_refuses_orders_and_buys_nothing_until_there_is_room(here: World) -> None:
    await here.start()
    assert here.pid is not None
    await here.discord.slash(here.member, here.channel, "usage")
    with no_file_longer_than(min(fullness(here), 4096), pid=here.pid):
        refused = await here.discord.slash(here.member, here.channel, "imagine", prompt="a drought")
        await refused.wait()
        assert refused.reply is not None
        assert refused.reply.visible_to is here.member.user
        assert here.provider.orders == []
    again = await here.discord.slash(here.member, here.channel, "imagine", prompt="a spring")
    await again.wait_for("Completed")
    await here.settled()
    await here.stop()
    found = audit(here)
    assert found.problems == []
    assert found.outcomes == {"succeeded": 1, "not taken": 1}


@pytest.mark.parametrize("killed", [False, True], ids=["goes on", "is killed meanwhile"])
async def test_f16_a_disk_that_fills_up_while_a_job_runs_loses_nothing(here: World, killed: bool) -> None:
    here.provider.next_order(Plan(seconds_factor=8))
    await here.start()
    assert here.pid is not None
    order = await here.discord.slash(here.member, here.channel, "imagine", prompt="a flood")
    assert await seen(here, lambda: "Processing" in order.text)
    with no_file_longer_than(4096, pid=here.pid):
        assert await seen(here, lambda: all(job.is_final for job in here.provider.jobs.values()))
        await asyncio.sleep(0.5)
        if killed:
            here.kill()
    if killed:
        await here.dead()
        here.pass_time(60)
        await here.start()
    await here.settled()
    await here.stop()
    found = audit(here)
    assert found.problems == []
    assert found.outcomes == {"succeeded": 1}
    assert len(here.provider.orders) == 1


# -- when the file is lost --------------------------------------------------------------------------------------


async def test_f39_a_backup_taken_while_jobs_run_brings_each_of_them_to_its_end_after_a_restore(here: World) -> None:
    backup = here.folder / "backup.sqlite3"
    here.provider.default_plan = Plan(seconds_factor=8)
    await here.start()
    orders = [
        await here.discord.slash(here.member, here.channel, "imagine", prompt=f"a buoy {number}") for number in range(4)
    ]
    assert await seen(here, lambda: all("Processing" in order.text or "Completed" in order.text for order in orders))
    assert await asyncio.to_thread(copy_database, here.database, backup) is None
    await here.stop()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{here.database}{suffix}").unlink(missing_ok=True)
    restore(backup, here.database)
    here.pass_time(60)
    await here.start()
    await here.settled()
    await here.stop()
    found = audit(here)
    assert found.problems == []
    assert found.outcomes == {"succeeded": 4}
    assert len(here.provider.orders) == 4
