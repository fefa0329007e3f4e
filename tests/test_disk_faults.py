"""Disks that fail: at any statement the change is refused as a whole, and works again by itself when the disk does."""

from __future__ import annotations

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bot.errors import StoreError
from bot.store import database
from bot.store.file import connect
from bot.store.store import Store
from bot.store.verify import verify_file
from sandbox.plans import Plan
from tests.crashes import Nursery, World, audit, seen, world
from tests.store_calls import CALLS, contents
from tests.store_samples import ADA, NOON, a_command, admitted, limits

UNTIL_HEALED = 10_000
MOST_STATEMENTS = 300


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


class FaultyConnection(sqlite3.Connection):
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

    monkeypatch.setattr(database, "connect", connect_faulty)


async def give(store: Store, disk: Disk, *, reader: bool = False) -> None:
    """From now on the store's writing (or reading) connection lies on this disk."""
    chosen = store._database._reader if reader else store._database._writer

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
    call, disk, path = CALLS[name], Disk(), tmp_path / "books.sqlite3"
    error, gives_up = ERRORS[kind]
    async with await Store.open(path) as store:
        reply = await call.prepare(store)
        before = contents(path)
        await give(store, disk)
        for nth in range(1, MOST_STATEMENTS):
            disk.fail(error, nth=nth, times=times, gives_up_the_transaction=gives_up)
            try:
                await call.make(store, reply)
            except StoreError:
                assert disk.failed
                assert contents(path) == before
                disk.heal()
                continue
            break
        else:
            raise AssertionError("it never worked")
        assert not disk.failed, "a fault was swallowed"
        assert nth > 4, "BEGIN, SAVEPOINT, RELEASE and COMMIT can fail, and what is between them"
        assert contents(path) != before
        disk.heal()
        assert await store.problem() is None
    assert verify_file(path) == []


@pytest.mark.usefixtures("faulty")
@pytest.mark.parametrize("kind", ERRORS)
async def test_f16_a_fault_while_reading_is_an_error_and_passes(tmp_path: Path, kind: str) -> None:
    error, gives_up = ERRORS[kind]
    disk = Disk()
    async with await Store.open(tmp_path / "books.sqlite3") as store:
        reply = await admitted(store)
        await give(store, disk, reader=True)
        found, nth = None, 0
        for nth in range(1, MOST_STATEMENTS):
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
async def test_f16_neighbours_in_one_commit_all_hear_of_its_failure_and_nothing_is_written(tmp_path: Path) -> None:
    path, disk = tmp_path / "books.sqlite3", Disk()
    error, _ = ERRORS["I/O error"]
    async with await Store.open(path) as store:
        await admitted(store)
        before = contents(path)
        await give(store, disk)
        outcomes: list[Any] = []
        for nth in range(1, MOST_STATEMENTS):
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


# -- a real disk that takes no more ---------------------------------------------------------------------------


@contextmanager
def no_file_longer_than(size_bytes: int, *, pid: int = 0) -> Iterator[None]:
    """The kernel itself refuses to make files longer, in this process or another."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


async def test_f16_the_kernel_refuses_at_any_byte_and_the_next_order_works_when_it_does_not(tmp_path: Path) -> None:
    path = tmp_path / "books.sqlite3"
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
async def here(tmp_path: Path) -> AsyncIterator[World]:
    with Nursery() as nursery:
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
