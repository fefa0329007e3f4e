"""The SQLite database: one process, one writer, atomic transactions, and recovery from temporary faults."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from bot.domain.errors import DatabaseBusy, DatabaseUnusable, LedgerError, StoreError
from bot.store.admin.readonly import open_readonly
from bot.store.admin.verify import verify_file
from bot.store.core.connection import Connection
from bot.store.core.transaction_queue import MAX_BATCH_SIZE
from bot.store.sqlite import schema
from bot.store.sqlite.connection import SqliteConnection, connect
from bot.store.sqlite.database import MAX_BATCHES_PER_TURN, READ_BATCH_SECONDS, SqliteDatabase, commit_batch
from bot.store.store import Store
from tests.support.store_samples import ADA, NOON, a_command, admitted, file_of, limits

NEXT_VERSION = max(schema.migrations()) + 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "bot.sqlite3"


@pytest.fixture
async def database(path: Path) -> AsyncIterator[SqliteDatabase]:
    database = await SqliteDatabase.open(path)
    try:
        await database.write(lambda connection: connection.execute("CREATE TABLE words (word TEXT UNIQUE NOT NULL)"))
        yield database
    finally:
        await database.close()


def note(word: str | None) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO words VALUES (?)", (word,))

    return work


async def words(database: SqliteDatabase) -> set[str]:
    return await database.read(lambda connection: {row[0] for row in connection.execute("SELECT word FROM words")})


async def open_transaction(database: SqliteDatabase) -> bool:
    return await database._writer.run(lambda connection: connection.in_transaction)


# -- opening ---------------------------------------------------------------------------------------------


async def test_a_missing_file_is_made_with_its_directory_and_private_to_the_owner(path: Path) -> None:
    await (await Store.open(path)).close()
    assert path.stat().st_mode & 0o077 == 0
    assert {file.name for file in path.parent.iterdir()} == {"bot.sqlite3", "bot.sqlite3.lock"}
    assert verify_file(path) == []


async def test_the_pragmas_that_keep_the_database_safe_are_set(database: SqliteDatabase) -> None:
    def pragmas(connection: sqlite3.Connection) -> list[Any]:
        names = (
            *("journal_mode", "synchronous", "foreign_keys", "recursive_triggers", "busy_timeout", "trusted_schema"),
            "application_id",
        )
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert await database._writer.run(pragmas) == ["wal", 2, 1, 1, 5000, 0, schema.APPLICATION_ID]
    with pytest.raises(StoreError, match="readonly"):
        await database.read(note("x"))


@pytest.mark.f40
async def test_a_second_opener_is_refused_and_the_first_goes_on(database: SqliteDatabase, path: Path) -> None:
    with pytest.raises(DatabaseBusy):
        await SqliteDatabase.open(path)
    await database.write(note("still here"))
    assert await words(database) == {"still here"}


@pytest.mark.f40
async def test_a_second_process_is_refused(database: SqliteDatabase, path: Path) -> None:
    program = (
        "import asyncio, pathlib; from bot.store.store import Store; "
        f"asyncio.run(Store.open(pathlib.Path({str(path)!r})))"
    )
    process = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True)
    assert process.returncode != 0
    assert "DatabaseBusy: Another process uses the database" in process.stderr


async def test_after_closing_the_next_one_may_open_and_the_closed_one_refuses(path: Path) -> None:
    first = await SqliteDatabase.open(path)
    await first.close()
    await first.close()
    for call in (first.write, first.read):
        with pytest.raises(StoreError, match="closed"):
            await call(lambda _: None)
    await (await SqliteDatabase.open(path)).close()


async def test_a_path_where_no_file_can_be_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        await SqliteDatabase.open(tmp_path / "file" / "bot.sqlite3")
    (tmp_path / "directory").mkdir()
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        await SqliteDatabase.open(tmp_path / "directory")


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("make", [os.mkfifo, a_socket])
async def test_a_pipe_or_a_socket_is_no_database_and_nothing_waits_for_it(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("db"))
    with pytest.raises(StoreError, match="cannot be read: it is not a file but a pipe"):
        await asyncio.wait_for(SqliteDatabase.open(tmp_path / "db"), 60)
    with pytest.raises(StoreError, match="cannot be read: it is not a file but a pipe"), open_readonly(tmp_path / "db"):
        pass


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten_in_front(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"x" * 50)


def cut_short(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwritten_inside(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(b"\xff" * (path.stat().st_size - 8192))


def without_a_trigger(path: Path) -> None:
    connection = connect(path)
    connection.execute("DROP TRIGGER reservations_are_reserved")
    connection.close()


def gone_but_for_its_log(path: Path) -> None:
    path.rename(f"{path}-wal")


DAMAGES = [emptied, overwritten_in_front, cut_short, overwritten_inside, without_a_trigger, gone_but_for_its_log]


@pytest.mark.f36
@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_file_stops_the_start_with_the_steps_to_take(
    path: Path, damage: Callable[[Path], None]
) -> None:
    async with await Store.open(path) as store:
        for _ in range(40):
            await admitted(store, 1)
    damage(path)
    before = path.read_bytes() if path.exists() else None
    for _ in range(2):
        with pytest.raises(DatabaseUnusable, match=r"python -m bot restore"):
            await Store.open(path)
    assert (path.read_bytes() if path.exists() else None) == before


async def test_a_big_file_is_checked_at_its_ends_only(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await Store.open(path)).close()
    monkeypatch.setattr(schema, "_SMALL_FILE_BYTES", 0)
    await (await Store.open(path)).close()
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 4096)
    with pytest.raises(DatabaseUnusable, match="is damaged"):
        await Store.open(path)


@pytest.mark.f38
async def test_a_newer_database_stops_the_start(path: Path) -> None:
    await (await Store.open(path)).close()
    connection = connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="newer than this program"):
        await Store.open(path)


async def test_another_programs_database_is_not_touched(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (x)")
    connection.commit()
    connection.close()
    with pytest.raises(DatabaseUnusable, match="another program"):
        await Store.open(path)


# -- migrations ------------------------------------------------------------------------------------------


@pytest.mark.f37
async def test_a_migration_makes_a_backup_first(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with await Store.open(path) as store:
        reply = await admitted(store)
    migrations = {**schema.migrations(), NEXT_VERSION: "ALTER TABLE blocks ADD COLUMN why TEXT;\n"}
    monkeypatch.setattr(schema, "migrations", lambda: migrations)
    async with await Store.open(path) as store:
        assert await store.reply(reply.id) is not None
    backup = Path(f"{path}.before-{NEXT_VERSION}.bak")
    connection = connect(backup)
    assert schema.version_of(connection) == NEXT_VERSION - 1
    assert connection.execute("SELECT id FROM replies").fetchone()[0] == reply.id
    connection.close()


@pytest.mark.f37
async def test_a_migration_that_fails_halfway_leaves_everything_as_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Store.open(path) as store:
        reply = await admitted(store)
    broken = "ALTER TABLE blocks ADD COLUMN why TEXT;\nDELETE FROM inputs;\nALTER TABLE nothing ADD COLUMN x TEXT;\n"
    with monkeypatch.context() as patch:
        migrations = {**schema.migrations(), NEXT_VERSION: broken}
        patch.setattr(schema, "migrations", lambda: migrations)
        for _ in range(2):
            with pytest.raises(StoreError, match="nothing"):
                await Store.open(path)
    assert Path(f"{path}.before-{NEXT_VERSION}.bak").exists()
    async with await Store.open(path) as store:
        assert await store.reply(reply.id) is not None
    assert verify_file(path) == []


async def test_every_table_is_strict() -> None:
    connection = connect(":memory:")
    schema.migrate(connection)
    loose = connection.execute("SELECT name FROM pragma_table_list WHERE schema = 'main' AND NOT strict").fetchall()
    connection.close()
    assert [name for (name,) in loose if not name.startswith("sqlite_")] == []


# -- transactions ----------------------------------------------------------------------------------------


async def test_one_callers_error_is_his_alone(database: SqliteDatabase) -> None:
    def fail_after_writing(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('lost')")
        raise ValueError("no")

    answers = await asyncio.gather(
        database.write(note("a")),
        database.write(fail_after_writing),
        database.write(note("a")),
        database.write(note(None)),
        database.write(note("b")),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [type(None), ValueError, LedgerError, LedgerError, type(None)]
    assert isinstance(answers[2], LedgerError)
    assert isinstance(answers[2].__cause__, sqlite3.IntegrityError)
    assert await words(database) == {"a", "b"}


def refuse(connection: Connection) -> None:
    raise ValueError("no")


def refuse_after_writing(connection: Connection) -> None:
    connection.execute("INSERT INTO words VALUES ('lost')")
    refuse(connection)


@pytest.mark.parametrize(
    ("refusal", "makes_savepoints"), [(note(None), False), (refuse, False), (refuse_after_writing, True)]
)
def test_a_batch_shares_one_commit_and_makes_savepoints_only_when_one_work_wrote_and_then_failed(
    refusal: Callable[[Connection], None], makes_savepoints: bool
) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection)
    connection.execute("CREATE TABLE words (word TEXT UNIQUE NOT NULL)")
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    outcomes = commit_batch(connection, [note("a"), refusal, note("b")])
    connection.set_trace_callback(None)
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert statements.count("COMMIT") == 1
    assert ("SAVEPOINT work" in statements) is makes_savepoints
    assert {row[0] for row in connection.execute("SELECT word FROM words")} == {"a", "b"}
    connection.close()


@pytest.mark.parametrize("position", [0, 1, 2])
def test_the_rest_of_a_batch_is_written_when_an_error_aborts_the_whole_transaction(position: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection)
    connection.execute("CREATE TABLE words (word TEXT UNIQUE NOT NULL)")

    def abort_everything(connection: Connection) -> None:
        connection.execute("INSERT INTO words VALUES ('lost')")
        connection.execute("INSERT OR ROLLBACK INTO words VALUES (NULL)")

    group = [note("a"), note("b")]
    group.insert(position, abort_everything)
    outcomes = commit_batch(connection, group)
    assert [outcome.error is None for outcome in outcomes] == [index != position for index in range(3)]
    assert {row[0] for row in connection.execute("SELECT word FROM words")} == {"a", "b"}
    assert not connection.in_transaction
    connection.close()


def test_a_transaction_left_open_by_a_failed_rollback_does_not_stop_the_next() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=SqliteConnection)
    connection.execute("CREATE TABLE words (word TEXT)")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO words VALUES ('left over')")
    assert commit_batch(connection, [note("a")])[0].error is None
    assert [row[0] for row in connection.execute("SELECT word FROM words")] == ["a"]
    connection.close()


async def test_a_caller_cancelled_while_waiting_never_reaches_the_database(database: SqliteDatabase) -> None:
    waiting = asyncio.create_task(database.write(note("never")))
    await asyncio.sleep(0)
    waiting.cancel()
    await database.write(note("after"))
    assert await words(database) == {"after"}
    assert waiting.cancelled()


async def test_500_callers_cancelled_at_random_moments_leave_whole_transactions_only(database: SqliteDatabase) -> None:
    order = random.Random(3)

    def pair(index: int) -> Callable[[Connection], None]:
        def work(connection: Connection) -> None:
            connection.execute("INSERT INTO words VALUES (?)", (f"{index} left",))
            connection.execute("INSERT INTO words VALUES (?)", (f"{index} right",))

        return work

    async def caller(index: int) -> int:
        for _ in range(order.randrange(50)):
            await asyncio.sleep(0)
        await database.write(pair(index))
        return index

    callers = [asyncio.create_task(caller(index)) for index in range(500)]
    while any(not task.done() for task in callers):
        await asyncio.sleep(0)
        order.choice(callers).cancel()
    told = {task.result() for task in callers if not task.cancelled()}
    await database.write(note("the end"))
    written = await words(database)
    assert not await open_transaction(database)
    left = {word.removesuffix(" left") for word in written if word.endswith(" left")}
    assert left == {word.removesuffix(" right") for word in written if word.endswith(" right")}
    assert {str(index) for index in told} <= left
    assert len(told) < 500


async def test_closing_finishes_what_waits(path: Path) -> None:
    database = await SqliteDatabase.open(path)
    await database.write(lambda connection: connection.execute("CREATE TABLE words (word TEXT)"))
    waiting = [asyncio.create_task(database.write(note(str(index)))) for index in range(200)]
    await asyncio.sleep(0)
    await database.close()
    assert all(task.done() and task.exception() is None for task in waiting)
    connection = connect(path)
    assert connection.execute("SELECT count(*) FROM words").fetchone()[0] == 200
    connection.close()


async def test_a_read_sees_one_consistent_snapshot_while_others_write(database: SqliteDatabase) -> None:
    def count_twice(connection: sqlite3.Connection) -> tuple[int, int]:
        first = connection.execute("SELECT count(*) FROM words").fetchone()[0]
        for _ in range(2_000):
            connection.execute("SELECT max(word) FROM words").fetchone()
        return first, connection.execute("SELECT count(*) FROM words").fetchone()[0]

    reading = asyncio.create_task(database.read(count_twice))
    await asyncio.gather(*(database.write(note(str(index))) for index in range(100)))
    first, second = await reading
    assert first == second


# -- faults ----------------------------------------------------------------------------------------------


@pytest.mark.f16
async def test_a_full_disk_refuses_and_the_next_write_works_when_there_is_room_again(path: Path) -> None:
    async with await Store.open(path) as store:
        writer = file_of(store)._writer
        await admitted(store)
        pages = await writer.run(lambda c: c.execute("PRAGMA page_count").fetchone()[0])
        await writer.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}").fetchone())
        answers = await asyncio.gather(
            *(store.admit(member=ADA, reply=a_command(1), limits=limits(), now=NOON) for _ in range(100)),
            return_exceptions=True,
        )
        full = [answer for answer in answers if isinstance(answer, Exception)]
        assert full
        assert all(isinstance(error, StoreError) and "full" in str(error) for error in full)
        assert not await writer.run(lambda c: c.in_transaction)
        await writer.run(lambda c: c.execute("PRAGMA max_page_count = 1000000").fetchone())
        await admitted(store)
        assert len(await store.unfinished()) == 102 - len(full)
    assert verify_file(path) == []


@pytest.mark.f16
async def test_a_read_only_database_refuses_and_recovers(database: SqliteDatabase) -> None:
    await database._writer.run(lambda c: c.execute("PRAGMA query_only = ON"))
    with pytest.raises(StoreError, match="readonly"):
        await database.write(note("a"))
    await database._writer.run(lambda c: c.execute("PRAGMA query_only = OFF"))
    await database.write(note("b"))
    assert await words(database) == {"b"}


@pytest.mark.f16
async def test_a_locked_database_refuses_every_caller_of_the_batch_and_recovers(
    database: SqliteDatabase, path: Path
) -> None:
    await database._writer.run(lambda c: c.execute("PRAGMA busy_timeout = 10").fetchone())
    intruder = connect(path)
    intruder.execute("BEGIN IMMEDIATE")
    answers = await asyncio.gather(*(database.write(note(str(i))) for i in range(3)), return_exceptions=True)
    assert all(isinstance(answer, StoreError) and "locked" in str(answer) for answer in answers)
    intruder.execute("ROLLBACK")
    intruder.close()
    await database.write(note("b"))
    assert await words(database) == {"b"}


async def test_a_defect_in_a_thread_reaches_the_callers_and_does_not_stop_the_queue(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bot.store.sqlite.database._commit_alone", lambda *_, **__: 1 / 0)
        patch.setattr("bot.store.sqlite.database._read", lambda *_, **__: 1 / 0)
        for call in (database.write, database.read):
            with pytest.raises(ZeroDivisionError):
                await call(note("a"))
    await database.write(note("b"))
    assert await words(database) == {"b"}


async def test_reads_that_wait_together_share_one_snapshot_and_one_visit_to_their_thread(
    database: SqliteDatabase,
) -> None:
    begun, may_go_on = threading.Event(), threading.Event()

    def hold_up(_: Connection) -> None:
        begun.set()
        assert may_go_on.wait(30)

    visits: list[str] = []
    await database._reader.run(
        lambda c: c.set_trace_callback(lambda sql: visits.append(sql) if sql == "BEGIN" else None)
    )
    first = asyncio.ensure_future(database.read(hold_up))
    await asyncio.to_thread(begun.wait, 30)
    rest = [asyncio.ensure_future(database.read(lambda c: c.in_transaction)) for _ in range(3)]
    wrong = asyncio.ensure_future(database.read(lambda c: c.execute("SELECT no_such_column FROM words")))
    last = asyncio.ensure_future(words(database))
    await asyncio.sleep(0)  # they wait now
    may_go_on.set()
    assert await asyncio.gather(*rest) == [True, True, True]
    with pytest.raises(StoreError, match="no_such_column"):
        await wrong
    assert await last == set()
    await first
    assert len(visits) == 3, "the first, one for those who waited, and one after the read that failed"


async def test_a_slow_read_does_not_keep_the_results_of_those_before_it(database: SqliteDatabase) -> None:
    begun, may_go_on, slow_begun, slow_may_end = (threading.Event() for _ in range(4))

    def hold_up(_: Connection) -> None:
        begun.set()
        assert may_go_on.wait(30)

    def lasting(_: Connection) -> int:
        ends_at = time.monotonic() + 2 * READ_BATCH_SECONDS
        while time.monotonic() < ends_at:
            pass
        return 1

    def slow(_: Connection) -> None:
        slow_begun.set()
        assert slow_may_end.wait(30)

    first = asyncio.ensure_future(database.read(hold_up))
    await asyncio.to_thread(begun.wait, 30)
    before, after = asyncio.ensure_future(database.read(lasting)), asyncio.ensure_future(database.read(slow))
    await asyncio.sleep(0)  # both wait now, for the same visit
    may_go_on.set()
    async with asyncio.timeout(30):
        assert await before == 1
        await asyncio.to_thread(slow_begun.wait, 30)
    assert not after.done()
    slow_may_end.set()
    await after
    await first


async def test_without_its_connection_the_writer_answers_every_caller_and_the_database_closes(
    database: SqliteDatabase,
) -> None:
    await database._writer.close()
    for _ in range(2):  # also those who come after the first failure
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(database.write(note(str(i))) for i in range(3)), return_exceptions=True)
        assert all(isinstance(answer, StoreError) for answer in answers)
    async with asyncio.timeout(10):
        await database.close()


async def test_who_comes_while_others_are_written_is_next_however_busy_the_event_loop_is(
    database: SqliteDatabase,
) -> None:
    begun, may_end, next_one_ran = threading.Event(), threading.Event(), threading.Event()

    def hold_up(_: Connection) -> None:
        begun.set()
        may_end.wait(10)

    held = asyncio.create_task(database.write(hold_up))
    await asyncio.to_thread(begun.wait, 10)
    behind = asyncio.create_task(database.write(lambda _: next_one_ran.set()))
    await asyncio.sleep(0)
    may_end.set()
    assert next_one_ran.wait(10), "it waited for the event loop, which does nothing but wait here"
    await asyncio.gather(held, behind)


async def test_an_endless_row_of_transactions_lets_others_have_the_writer_now_and_then(
    database: SqliteDatabase,
) -> None:
    begun, may_end = threading.Event(), threading.Event()
    written: list[str] = []
    await database._writer.run(lambda _: None)  # the row in which the table was made is over

    def hold_up(_: Connection) -> None:
        begun.set()
        may_end.wait(10)

    held = asyncio.create_task(database.write(hold_up))
    await asyncio.to_thread(begun.wait, 10)
    row = [
        asyncio.create_task(database.write(lambda _: written.append("one of the row")))
        for _ in range(MAX_BATCH_SIZE * MAX_BATCHES_PER_TURN + 1)
    ]
    await asyncio.sleep(0)
    other = asyncio.create_task(database._writer.run(lambda _: written.append("the other")))
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(held, other, *row)
    assert written.index("the other") == MAX_BATCH_SIZE * (MAX_BATCHES_PER_TURN - 1)


async def test_aiosqlite_still_runs_a_function_on_its_own_thread_and_hands_back_what_it_raises(path: Path) -> None:
    """Check the protected method of aiosqlite that `Worker.run` uses."""
    database = await SqliteDatabase.open(path)
    thread = await database._writer.run(lambda _: threading.current_thread())
    assert thread is database._writer._thread
    assert thread is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await database._writer.run(lambda _: 1 / 0)
    await database.close()


@pytest.mark.f33
async def test_a_process_killed_in_the_middle_leaves_whole_transactions(path: Path, tmp_path: Path) -> None:
    async with await Store.open(path) as store:
        await admitted(store)
        for suffix in ("", "-wal"):  # what a killed process leaves behind
            await asyncio.to_thread(shutil.copy, f"{path}{suffix}", f"{tmp_path / 'copy'}{suffix}")
    async with await Store.open(tmp_path / "copy") as store:
        assert len(await store.unfinished()) == 1
