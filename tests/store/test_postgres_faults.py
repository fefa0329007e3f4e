"""Faults of PostgreSQL: after a fault at any moment each transaction is committed once or not at all."""

from __future__ import annotations

import asyncio
import errno
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import BotError, DatabaseBusy, StoreError
from bot.domain.money.quota import LimitSubject, Period, Quota
from bot.store.admin.verify import verify_location
from bot.store.core.connection import Connection
from bot.store.postgres import connection as postgres_connection
from bot.store.postgres import database as postgres_database
from bot.store.postgres import pool, writer
from bot.store.postgres.connection import PostgresConnection
from bot.store.postgres.schema import WRITE_LOCK
from bot.store.postgres.writer import PostgresWriter
from bot.store.store import Store
from tests.support.databases import rows
from tests.support.fakes import until
from tests.support.postgres_proxy import Moment, Proxy
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import ADA, NOON, a_command, admitted, finished, limits

PLENTY = Quota(amount_usd_micros=None, period=Period.DAY)
END_OWN_SESSION = "SELECT pg_terminate_backend(pg_backend_pid())"
WRITE_LOCK_HELD = f"SELECT 1 FROM pg_locks WHERE classid = {WRITE_LOCK[0]} AND objid = {WRITE_LOCK[1]}"
NOTES = "SELECT key FROM notes ORDER BY key"


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    address = postgres.fresh()
    yield address
    assert verify_location(address) == []
    postgres.drop(address)


@pytest.fixture
async def proxy(postgres: PostgresServer) -> AsyncIterator[Proxy]:
    async with Proxy(postgres.port) as proxy:
        yield proxy


def through(proxy: Proxy, address: PostgresAddress) -> PostgresAddress:
    database = address.url.rpartition("/")[2]
    return PostgresAddress(f"postgresql://bot:{PASSWORD}@127.0.0.1:{proxy.port}/{database}")


def add_row(number: str) -> Callable[[Connection], None]:
    """Return a change that breaks the table's key when it is made twice."""

    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO blocks (guild_id, user_id, created_at) VALUES (1, ?, 0)", (int(number),))

    return work


# -- the response to COMMIT ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before COMMIT arrives", "after COMMIT was executed"])
async def test_a_connection_that_breaks_at_commit_leaves_the_change_once(
    address: PostgresAddress, proxy: Proxy, moment: Moment
) -> None:
    async with await Store.open(through(proxy, address)) as store:
        for number in range(5):
            proxy.cut_at = moment
            changes = (store.database.write(add_row(f"{number}{position}")) for position in range(3))
            await asyncio.gather(*changes)
    assert proxy.cuts == 5
    assert len(rows(address, "SELECT * FROM blocks")) == 15


async def test_money_is_reserved_once_when_the_response_to_commit_is_lost(
    address: PostgresAddress, proxy: Proxy
) -> None:
    async with await Store.open(through(proxy, address)) as store:
        proxy.cut_at = "after COMMIT was executed"
        reply = a_command(80_000)
        after = await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
        assert after.balance.set_aside_usd_micros == 80_000
        await store.accept(reply.id, message_id=9)
        proxy.cut_at = "after COMMIT was executed"
        await finished(store, reply.jobs[0].id)
    assert proxy.cuts == 2


@pytest.mark.parametrize("moment", ["before COMMIT arrives", "after COMMIT was executed"])
async def test_while_a_commit_is_in_doubt_its_caller_waits_and_others_are_refused(
    address: PostgresAddress, proxy: Proxy, moment: Moment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_RECONNECT_TIMEOUT_SECONDS", 0.2)
    async with await Store.open(through(proxy, address)) as store:
        proxy.cut_at, proxy.closes_when_cutting = moment, True
        in_doubt = asyncio.create_task(store.database.write(add_row("1")))
        while proxy.cuts == 0:
            await asyncio.sleep(0.01)
        with pytest.raises(StoreError, match=r"cannot be reached: [^\n]*[Cc]onnection refused \(Is the server running"):
            await store.database.write(add_row("2"))
        assert not in_doubt.done()
        await proxy.open()
        await in_doubt
    assert rows(address, "SELECT user_id FROM blocks") == [(1,)]


async def test_closing_while_a_commit_is_in_doubt_says_so(
    address: PostgresAddress, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_RECONNECT_TIMEOUT_SECONDS", 0.1)
    monkeypatch.setattr("bot.store.postgres.database._CLOSE_TIMEOUT_SECONDS", 0.3)
    store = await Store.open(through(proxy, address))
    proxy.cut_at, proxy.closes_when_cutting = "after COMMIT was executed", True
    in_doubt = asyncio.create_task(store.database.write(add_row("1")))
    while proxy.cuts == 0:
        await asyncio.sleep(0.01)
    await store.close()
    with pytest.raises(StoreError, match="is not known"):
        await in_doubt


# -- the server goes away ------------------------------------------------------------------------------------


async def test_an_unreachable_server_is_a_readable_error_and_work_resumes_when_it_is_back(
    address: PostgresAddress, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_RECONNECT_TIMEOUT_SECONDS", 0.2)
    async with await Store.open(through(proxy, address)) as store:
        await admitted(store)
        await proxy.close()
        for call in (store.set_value("a", "b"), store.get_value("a"), store.problem()):
            message = str((await asyncio.gather(call, return_exceptions=True))[0])
            assert message.startswith(f"The database postgresql://127.0.0.1:{proxy.port}/")
            assert "cannot be reached" in message
            assert PASSWORD not in message
        await proxy.open()
        await store.set_value("a", "c")
        assert await store.get_value("a") == "c"
        assert await store.problem() is None


async def test_a_short_outage_only_delays_callers(address: PostgresAddress, proxy: Proxy) -> None:
    async with await Store.open(through(proxy, address)) as store:
        await store.get_value("a")
        await proxy.close()
        calls = asyncio.gather(store.set_value("a", "b"), store.get_value("nothing"))
        await asyncio.sleep(0.5)
        await proxy.open()
        assert await calls == [None, None]
        assert await store.get_value("a") == "b"


async def test_a_connection_without_a_response_is_cut_and_replaced(
    address: PostgresAddress, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_RESPONSE_TIMEOUT_SECONDS", 0.3)
    async with await Store.open(through(proxy, address)) as store:
        await asyncio.gather(store.set_value("a", "b"), store.get_value("a"))
        proxy.hold()
        calls = asyncio.gather(store.set_value("a", "c"), store.get_value("b"))
        await asyncio.sleep(0.5)
        proxy.cut()
        proxy.resume()
        assert await calls == [None, None]
        assert await store.get_value("a") == "c"


@pytest.mark.slow
async def test_a_killed_server_loses_nothing_and_does_nothing_twice() -> None:
    server = PostgresServer(is_durable=True)
    try:
        address = server.fresh()
        done: list[str] = []
        refused: list[str] = []
        stop = asyncio.Event()

        async def member() -> None:
            while not stop.is_set():
                reply = a_command(1_000)
                try:
                    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
                except StoreError:
                    refused.append(reply.id)
                    continue
                done.append(reply.id)

        async def more_done(count: int) -> None:
            goal = len(done) + count
            await until(lambda: len(done) >= goal)

        async with await Store.open(address) as store:
            await store.set_limit(1, LimitSubject.MEMBER, ADA.user_id, PLENTY, actor_id=1, reason=None, now=NOON)
            members = [asyncio.create_task(member()) for _ in range(5)]
            for _ in range(3):
                await more_done(random.randrange(5, 40))
                await asyncio.to_thread(server.kill)
                await asyncio.sleep(random.uniform(0, 0.5))
                await asyncio.to_thread(server.start)
            await more_done(5)
            stop.set()
            await asyncio.gather(*members)
            assert await store.problem() is None
        stored = {reply_id for (reply_id,) in rows(address, "SELECT id FROM replies")}
        assert stored == set(done)
        assert not stored & set(refused)
        assert verify_location(address) == []
    finally:
        server.close()


# -- the lock of the bot that runs the jobs ----------------------------------------------------------------------


@pytest.mark.slow
async def test_after_a_restart_of_the_server_the_lock_is_held_again_also_by_an_idle_bot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_database, "BOT_LOCK_CHECK_SECONDS", 0.05)
    server = PostgresServer(is_durable=True)
    try:
        address = server.fresh()
        async with await Store.open(address) as store:
            await store.lock_exclusively()
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND granted"
            await until(lambda: rows(address, held) == [(1,)])
            async with await Store.open(address) as second:
                with pytest.raises(DatabaseBusy):
                    await second.lock_shared()
    finally:
        server.close()


async def test_a_process_without_a_free_descriptor_goes_on_looking_after_its_lock(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(postgres_database, "BOT_LOCK_CHECK_SECONDS", 0.01)
    caplog.set_level(logging.INFO, logger=postgres_database.__name__)
    async with await Store.open(address) as store:
        renew, attempts = PostgresWriter.renew_bot_lock, 0

        def renewed(postgres_writer: PostgresWriter) -> None:
            nonlocal attempts
            attempts += 1
            if attempts in {2, 3}:  # the first takes the lock
                raise OSError(errno.EMFILE, "Too many open files")
            renew(postgres_writer)

        monkeypatch.setattr(PostgresWriter, "renew_bot_lock", renewed)
        await store.lock_exclusively()
        await until(lambda: attempts >= 5)
    assert [record.getMessage() for record in caplog.records] == [
        "nothing is written until this bot has its lock on the database again: [Errno 24] Too many open files",
        "this bot has its lock on the database again",
    ]


@pytest.mark.parametrize("is_alone", [True, False])
async def test_a_process_that_lost_the_lock_to_another_bot_writes_nothing_until_it_has_it_again(
    address: PostgresAddress, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, is_alone: bool
) -> None:
    monkeypatch.setattr(writer, "_BOT_LOCK_TIMEOUT_SECONDS", 0.1)
    async with await Store.open(through(proxy, address)) as first, await Store.open(address) as second:
        await (first.lock_exclusively() if is_alone else first.lock_shared())
        await first.set_value("before", "x")
        await proxy.close()

        async def is_free() -> bool:
            with suppress(DatabaseBusy):
                await second.lock_exclusively()
                return True
            return False

        await until(is_free)
        await proxy.open()
        with pytest.raises(DatabaseBusy, match="Another bot works with" if is_alone else "has to be alone"):
            await first.set_value("meanwhile", "x")
        assert "Stop it first" in (await first.problem() or "")
        await second.close()

        async def works_again() -> bool:
            return await first.problem() is None

        await until(works_again)
        await first.set_value("after", "x")
        assert rows(address, NOTES) == [("after",), ("before",)]


# -- other processes ------------------------------------------------------------------------------------------


async def test_two_processes_together_never_exceed_a_quota(address: PostgresAddress) -> None:
    script = (
        "import asyncio, sys\n"
        "from bot.domain.errors import QuotaExceeded\n"
        "from bot.domain.deployment.database_url import PostgresAddress\n"
        "from bot.store.store import Store\n"
        "from tests.support.store_samples import ADA, NOON, a_command, limits\n"
        "async def main(address, first):\n"
        "    async with await Store.open(PostgresAddress(address)) as store:\n"
        "        print('ready', flush=True); sys.stdin.readline()\n"
        "        async def one(number):\n"
        "            try:\n"
        "                await store.admit(member=ADA, reply=a_command(80_000, interaction_id=first + number),\n"
        "                    limits=limits(), now=NOON)\n"
        "                return 1\n"
        "            except QuotaExceeded: return 0\n"
        "        print(sum(await asyncio.gather(*map(one, range(20)))))\n"
        "asyncio.run(main(sys.argv[1], int(sys.argv[2])))\n"
    )
    pipe = asyncio.subprocess.PIPE
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, address.url, str(first), stdin=pipe, stdout=pipe
        )
        for first in (1, 1_001)
    ]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    answers = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    admitted_by = [int(answer) for answer, _ in answers]
    assert sum(admitted_by) == 12  # a dollar holds twelve times eight cents
    assert len(rows(address, "SELECT * FROM reservations")) == 12


async def test_a_process_whose_server_is_slow_lets_others_write_between_its_transactions(
    address: PostgresAddress,
) -> None:
    """As one that is far away from the server, where each statement takes its time, in a burst of commands."""
    ended: list[str] = []
    slow, other = [await postgres_database.PostgresDatabase.open(address) for _ in range(2)]
    try:

        async def write(database: postgres_database.PostgresDatabase, name: str, seconds: float) -> None:
            def work(connection: Connection) -> None:
                add_row(name)(connection)
                connection.execute("SELECT pg_sleep(?)", (seconds,))

            await database.write(work)
            ended.append(name)

        burst = [asyncio.create_task(write(slow, f"1{number}", 0.3)) for number in range(10)]
        await until(lambda: rows(address, WRITE_LOCK_HELD) != [])
        await write(other, "2", 0)
        assert len(ended) < 10
        await asyncio.gather(*burst)
        assert [name for name in ended if name != "2"] == [f"1{number}" for number in range(10)]
        assert len(rows(address, "SELECT user_id FROM blocks")) == 11
    finally:
        await slow.close()
        await other.close()


async def test_a_stalled_process_is_disconnected_and_writes_nothing_when_it_resumes(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_timeout = postgres_connection._SESSION_SETTINGS.replace(
        "transaction_session_timeout = '5s'", "transaction_session_timeout = '300ms'"
    )
    with monkeypatch.context() as patch:
        patch.setattr(postgres_connection, "_SESSION_SETTINGS", short_timeout)
        stalled = PostgresConnection.open(address)
    stalled.execute(f"BEGIN; {writer._TAKE_LOCK}; INSERT INTO notes VALUES ('from', 'the stalled process')")
    async with await Store.open(address) as store:
        await store.set_value("from", "the other process")  # without the session's timeout it would never end
        with pytest.raises(psycopg.Error) as error:
            stalled.execute("COMMIT")
        assert stalled.is_broken_by(error.value)
        stalled.close()
        assert await store.get_value("from") == "the other process"


async def test_a_statement_whose_process_was_killed_keeps_its_locks_for_two_seconds_only(
    address: PostgresAddress, postgres: PostgresServer
) -> None:
    """As in an upgrade that was killed: the server alone would go on with what it was told."""
    killed = PostgresConnection.open(address)
    killed.execute("BEGIN; LOCK TABLE jobs")
    work = asyncio.create_task(asyncio.to_thread(killed.execute, "SELECT pg_sleep(19)"))
    await until(lambda: postgres.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == [(1,)])
    killed.cut()
    with pytest.raises(psycopg.OperationalError):
        await work
    killed.close()
    async with await Store.open(address) as store:
        await finished(store, (await admitted(store)).jobs[0].id)


async def test_a_lock_that_is_never_released_is_an_error_for_waiting_writers(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        postgres_connection,
        "_SESSION_SETTINGS",
        postgres_connection._SESSION_SETTINGS.replace("lock_timeout = '8s'", "lock_timeout = '100ms'"),
    )
    with closing(psycopg.connect(address.url)) as holder:
        holder.execute(writer._TAKE_LOCK.encode())
        async with await Store.open(address) as store:
            with pytest.raises(StoreError, match="lock timeout"):
                await store.set_value("a", "b")
            assert await store.get_value("a") is None
            holder.rollback()
            await store.set_value("a", "b")


async def test_terminated_sessions_are_replaced_without_an_error(
    address: PostgresAddress, postgres: PostgresServer
) -> None:
    name = address.url.rpartition("/")[2]
    async with await Store.open(address) as store:
        for number in range(10):
            await asyncio.gather(
                *(store.set_value(f"{number} {position}", "x") for position in range(3)), store.get_value("0 0")
            )
            postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    assert len(rows(address, NOTES)) == 30


async def test_a_server_that_turned_read_only_refuses_and_is_connected_to_again(
    address: PostgresAddress, postgres: PostgresServer
) -> None:
    name = address.url.rpartition("/")[2]
    async with await Store.open(address) as store:
        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        with pytest.raises(StoreError, match="read-only"):
            await store.set_value("a", "b")
        postgres.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")
        await store.set_value("a", "b")


async def test_500_callers_cancelled_at_random_moments_leave_whole_transactions_only(address: PostgresAddress) -> None:
    def pair(number: int) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            for guild_id in (1, 2):
                connection.execute(
                    "INSERT INTO blocks (guild_id, user_id, created_at) VALUES (?, ?, 0)", (guild_id, number)
                )

        return work

    async with await Store.open(address) as store:
        tasks = [asyncio.create_task(store.database.write(pair(number))) for number in range(500)]
        for task in random.Random(3).sample(tasks, 250):
            await asyncio.sleep(0)
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert await store.problem() is None
    counts = dict(rows(address, "SELECT user_id, count(*) FROM blocks GROUP BY user_id"))
    assert set(counts.values()) == {2}
    assert {number for number, outcome in enumerate(outcomes) if outcome is None} <= counts.keys()


async def test_one_callers_error_reaches_no_other_caller(address: PostgresAddress) -> None:
    def fails(connection: Connection) -> None:
        connection.execute("INSERT INTO notes VALUES ('mine', 'x')")
        raise BotError("only for its caller")

    async with await Store.open(address) as store:
        outcomes = await asyncio.gather(
            store.set_value("before", "x"),
            store.database.write(fails),
            store.database.write(lambda connection: connection.execute("INSERT INTO notes VALUES ('before', 'again')")),
            store.database.write(lambda connection: connection.execute("nonsense")),
            store.set_value("after", "x"),
            return_exceptions=True,
        )
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "NoneType", "BotError", "LedgerError", "StoreError", "NoneType",
    ]  # fmt: skip
    assert rows(address, NOTES) == [("after",), ("before",)]
    assert "again" not in str(outcomes[2])  # errors quote nothing that members write


async def test_a_read_sees_one_consistent_snapshot_while_others_write(address: PostgresAddress) -> None:
    def twice(connection: Connection) -> tuple[int, int]:
        first = connection.execute("SELECT count(*) FROM notes").fetchone()[0]
        time.sleep(0.05)
        return first, connection.execute("SELECT count(*) FROM notes").fetchone()[0]

    async with await Store.open(address) as store:
        counting = [asyncio.create_task(store.database.read(twice)) for _ in range(5)]
        for number in range(50):
            await store.set_value(str(number), "x")
        for first, second in await asyncio.gather(*counting):
            assert first == second
        with pytest.raises(StoreError, match="read-only"):
            await store.database.read(lambda connection: connection.execute("DELETE FROM notes"))


async def test_work_that_breaks_every_connection_fails_and_blocks_no_other_work(address: PostgresAddress) -> None:
    async with await Store.open(address) as store:
        with pytest.raises(StoreError, match="terminating connection"):
            await store.database.write(
                lambda connection: connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            )
        with pytest.raises(StoreError, match="terminating connection"):
            await store.database.read(
                lambda connection: connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            )
        await store.set_value("a", "b")
        assert await store.get_value("a") == "b"
