"""Opening a PostgreSQL database: an empty one is set up, another program's is not changed, errors hide the password."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bot.domain.deployment.database_url import PostgresAddress, parse_location
from bot.domain.errors import DatabaseBusy, DatabaseUnusable, StoreError
from bot.domain.jobs import LEGAL_MOVES, JobStatus
from bot.domain.money.quota import LimitSubject
from bot.store.admin.readiness import readiness
from bot.store.admin.readonly import exists
from bot.store.admin.verify import verify_location
from bot.store.postgres import schema as postgres_schema
from bot.store.postgres.connection import PostgresConnection, _translated_placeholders
from bot.store.sqlite import schema
from bot.store.store import Store
from tests.support.databases import execute, new_database, rows
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import A_DOLLAR_A_DAY, ADA, NOON, a_command, admitted, finished, limits


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    address = postgres.empty()
    yield address
    postgres.drop(address)


async def test_processes_that_start_at_once_create_the_tables_once(empty: PostgresAddress) -> None:
    stores = await asyncio.gather(*(Store.open(empty) for _ in range(6)))
    await asyncio.gather(*(store.set_value(str(number), "x") for number, store in enumerate(stores)))
    for store in stores:
        await store.close()
    assert rows(empty, "SELECT count(*) FROM notes") == [(6,)]
    assert rows(empty, "SELECT version FROM schema_version ORDER BY version") == [
        (version,) for version in postgres_schema.migrations()
    ]
    assert rows(empty, "SELECT * FROM writers") == []
    assert verify_location(empty) == []


async def test_older_processes_work_on_while_a_newer_version_adds_columns(
    empty: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a rolling upgrade. The server has prepared frequent statements for the tables as they were."""
    known = postgres_schema.migrations()
    tables = ("replies", "jobs", "accounts", "reservations", "ledger", "limits", "audit", "server_settings", "inputs")
    migration = "".join(f"ALTER TABLE {table} ADD COLUMN added_later TEXT;\n" for table in tables)
    async with await Store.open(empty) as older:
        for _ in range(8):
            await run_one_order(older)
        with monkeypatch.context() as patch:
            patch.setattr(postgres_schema, "migrations", lambda: {**known, max(known) + 1: migration})
            async with await Store.open(empty) as newer_store:
                await asyncio.gather(*(run_one_order(store) for store in (older, newer_store) * 4))
        await run_one_order(older)
    assert rows(empty, "SELECT count(*) FROM jobs WHERE status = 'succeeded'") == [(17,)]


async def run_one_order(store: Store) -> None:
    """Run an order from its admission to its image, with the reads on the way."""
    reply = await admitted(store, 10_000)
    await finished(store, reply.jobs[0].id, charged_usd_micros=10_000)
    assert (await store.reply(reply.id)) is not None
    assert (await store.policy(1)) is not None
    await store.reply_and_spendable(reply.id, limits=limits(), now=NOON)
    await store.set_limit(1, LimitSubject.MEMBER, 8, A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)


async def test_a_migration_that_fails_halfway_changes_nothing(
    empty: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await Store.open(empty) as store:
        await admitted(store)
    known = postgres_schema.migrations()
    newest = max(known)
    change = "ALTER TABLE blocks ADD COLUMN why TEXT;\n"
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "migrations", lambda: {**known, newest + 1: f"{change}SELECT 1 / 0;\n"})
        with pytest.raises(StoreError, match="division by zero"):
            await Store.open(empty)
    assert verify_location(empty) == []
    with monkeypatch.context() as patch:
        patch.setattr(postgres_schema, "migrations", lambda: {**known, newest + 1: change})
        async with await Store.open(empty) as store:
            assert len(await store.unfinished()) == 1
        assert verify_location(empty) == []
    with pytest.raises(
        DatabaseUnusable, match=f"version {newest + 1}, newer than this program, which knows up to {newest}"
    ):
        await Store.open(empty)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("CREATE TABLE theirs (x INT)", "tables of another program"),
        ("CREATE TABLE schema_version (version INT)", "tables of another program"),
        ("DROP SCHEMA public", "has no schema to use"),
    ],
)
async def test_a_database_of_another_program_is_not_changed(
    empty: PostgresAddress, postgres: PostgresServer, statement: str, message: str
) -> None:
    name = empty.url.rpartition("/")[2]
    postgres.execute(statement, database=name)
    before = rows(empty, "SELECT relname FROM pg_class ORDER BY oid")
    with pytest.raises(DatabaseUnusable, match=message):
        await Store.open(empty)
    assert rows(empty, "SELECT relname FROM pg_class ORDER BY oid") == before


@pytest.mark.parametrize("missing", ["INDEX jobs_by_server", "TRIGGER ledger_rows_stay ON ledger", "TABLE notes"])
async def test_a_database_that_lacks_an_object_stops_the_start(
    empty: PostgresAddress, postgres: PostgresServer, missing: str
) -> None:
    await (await Store.open(empty)).close()
    postgres.execute(f"DROP {missing}", database=empty.url.rpartition("/")[2])
    with pytest.raises(DatabaseUnusable, match=f"is damaged: .*{missing.split()[1]}"):
        await Store.open(empty)


async def test_a_database_that_cannot_store_every_character_is_refused(postgres: PostgresServer) -> None:
    postgres.execute("CREATE DATABASE narrow TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'")
    with pytest.raises(DatabaseUnusable, match="ENCODING 'UTF8'"):
        await Store.open(postgres.address("narrow"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda url: url.replace(PASSWORD, f"not-{PASSWORD}"),
        lambda url: url.replace("/test_", "/no_such_"),
        lambda url: f"{url}?password={PASSWORD}&nonsense=1",
    ],
)
async def test_a_wrong_address_is_a_readable_error_without_the_password(
    empty: PostgresAddress, wrong: Callable[[str], str]
) -> None:
    with pytest.raises(StoreError, match=r"^The database postgresql://127\.0\.0\.1") as error:
        await Store.open(PostgresAddress(wrong(empty.url)))
    assert PASSWORD not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("default_transaction_read_only = on", "is read-only for this user"),
        ("session_replication_role = replica", "runs no triggers for this user"),
    ],
)
async def test_a_user_who_cannot_write_safely_is_refused_at_the_start_and_by_check(
    postgres: PostgresServer, setting: str, sentence: str
) -> None:
    fresh = postgres.fresh()
    name = fresh.url.rpartition("/")[2]
    postgres.execute(f"ALTER DATABASE {name} SET {setting}")
    for attempt in (Store.open(fresh), asyncio.to_thread(readiness, fresh)):
        with pytest.raises(StoreError, match=sentence):
            await attempt
    postgres.drop(fresh)


async def test_what_a_server_sets_for_its_users_changes_nothing(postgres: PostgresServer) -> None:
    fresh = postgres.fresh()
    name = fresh.url.rpartition("/")[2]
    for setting in (
        *("statement_timeout = '1ms'", "lock_timeout = '1ms'", "idle_in_transaction_session_timeout = '1ms'"),
        *("synchronous_commit = off", "default_transaction_isolation = serializable", "TimeZone = 'Asia/Kathmandu'"),
        *("DateStyle = 'SQL, DMY'", "bytea_output = escape", "standard_conforming_strings = off"),
        *("client_encoding = LATIN1", "extra_float_digits = -15", "transform_null_equals = on"),
    ):
        postgres.execute(f"ALTER DATABASE {name} SET {setting}")
    async with await Store.open(fresh) as store:
        await store.set_value("a", "\u00fc\u65e5\u672c")
        await run_one_order(store)
        assert await store.get_value("a") == "\u00fc\u65e5\u672c"
    assert verify_location(fresh) == []
    postgres.drop(fresh)


async def test_a_user_without_rights_on_the_tables_is_told_to_own_them(postgres: PostgresServer) -> None:
    fresh = postgres.fresh()
    with postgres.a_modest_user(fresh.url.rpartition("/")[2]) as url:
        postgres.execute("REVOKE ALL ON schema_version FROM modest", database=fresh.url.rpartition("/")[2])
        for attempt in (Store.open(PostgresAddress(url)), asyncio.to_thread(exists, PostgresAddress(url))):
            with pytest.raises(DatabaseUnusable, match=r"has to own the database .*: permission denied for table"):
                await attempt
    postgres.drop(fresh)


async def test_an_upgrade_that_the_user_has_no_right_to_changes_nothing(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = postgres.fresh()
    known = postgres_schema.migrations()
    newer = {**known, max(known) + 1: "CREATE TABLE later (x INT); ALTER TABLE jobs ADD COLUMN added_later TEXT"}
    with postgres.a_modest_user(fresh.url.rpartition("/")[2]) as url:
        with monkeypatch.context() as patch:
            patch.setattr(postgres_schema, "migrations", lambda: newer)
            with pytest.raises(DatabaseUnusable, match="has to own the database"):
                await Store.open(PostgresAddress(url))
        assert rows(fresh, "SELECT to_regclass('later')") == [(None,)]
        async with await Store.open(PostgresAddress(url)) as store:
            await run_one_order(store)
    assert verify_location(fresh) == []
    postgres.drop(fresh)


async def test_the_reachable_one_of_several_servers_is_used(postgres: PostgresServer) -> None:
    url = postgres.fresh().url.replace("127.0.0.1:", "127.0.0.1:1,127.0.0.1:")
    address = parse_location(url)
    async with await Store.open(address) as store:
        assert await store.problem() is None


async def test_after_closing_every_call_is_refused(empty: PostgresAddress) -> None:
    store = await Store.open(empty)
    last = asyncio.create_task(store.set_value("last", "value"))
    await asyncio.sleep(0)
    await store.close()
    await store.close()
    assert await last is None
    for call in (store.set_value("a", "b"), store.get_value("a")):
        with pytest.raises(StoreError, match="is closed"):
            await call
    assert rows(empty, "SELECT value FROM notes") == [("value",)]
    assert rows(empty, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'image-bot'") == [(1,)]


async def test_the_exclusive_lock_allows_one_bot_at_a_time(empty: PostgresAddress) -> None:
    async with await Store.open(empty) as first, await Store.open(empty) as second:
        await first.lock_exclusively()
        with pytest.raises(DatabaseBusy, match="Another bot works with the database") as refusal:
            await second.lock_exclusively()
        assert PASSWORD not in str(refusal.value)
        await admitted(second)
        with pytest.raises(DatabaseBusy, match="has to be alone"):
            await second.lock_shared()
        await first.close()
        await second.lock_exclusively()


async def test_the_shared_lock_allows_several_processes_and_no_exclusive_one(empty: PostgresAddress) -> None:
    async with await Store.open(empty) as first, await Store.open(empty) as second, await Store.open(empty) as third:
        await first.lock_shared()
        await second.lock_shared()
        with pytest.raises(DatabaseBusy, match="Another bot works with the database"):
            await third.lock_exclusively()


async def test_a_backup_is_refused_and_names_pg_dump(empty: PostgresAddress, tmp_path: Path) -> None:
    async with await Store.open(empty) as store:
        with pytest.raises(StoreError, match="pg_dump"):
            await store.backup_to(tmp_path / "copy")


# -- the same on both engines --------------------------------------------------------------------------------


def test_both_engines_have_the_same_tables_and_columns() -> None:
    file, server = new_database("sqlite"), new_database("postgresql")
    try:
        in_file = {
            (table, column[1])
            for (table,) in file.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
            for column in file.connection.execute(f"PRAGMA table_info({table})")
        }
        on_server = {
            tuple(row)
            for row in server.connection.execute(
                "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
            )
        }
        shared = ("closings", "picture_bytes", "processes", "reply_queue", "schema_version", "turns", "writers")
        own = {(table, column) for table, column in on_server if table in shared or table.startswith("pgqueuer")}
        assert on_server - own == in_file
        indexes = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL"
        in_file = {row[0] for row in file.connection.execute(indexes)}
        on_server = {row[0] for row in server.connection.execute("SELECT indexname FROM pg_indexes")}
        assert in_file - on_server == set()
        triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        # Bounds of amounts are triggers in a file and CHECKs on a server.
        in_file = {row[0] for row in file.connection.execute(triggers) if not row[0].endswith("within_bounds")}
        on_server = {
            row[0] for row in server.connection.execute("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal")
        }
        assert in_file - on_server == set()
    finally:
        file.close()
        server.close()


async def test_verify_finds_a_bound_that_was_widened(empty: PostgresAddress) -> None:
    await (await Store.open(empty)).close()
    name = "ledger_amounts_in_bounds"
    execute(
        empty,
        f"ALTER TABLE ledger DROP CONSTRAINT {name}",
        f"ALTER TABLE ledger ADD CONSTRAINT {name} CHECK (amount_usd_micros BETWEEN 1 AND 99999999999999)",
    )
    assert [finding.detail.partition(" is ")[0] for finding in verify_location(empty)] == [f"constraint ledger.{name}"]


def test_the_schema_allows_the_legal_transitions_and_no_others() -> None:
    _, _, rest = "".join(postgres_schema.migrations().values()).rpartition("CREATE TRIGGER jobs_move_legally")
    trigger = rest.partition("EXECUTE")[0]
    in_schema = {part for part in trigger.split("'") if " to " in part and len(part.split()) == 3}
    legal = {f"{source} to {target}" for source, targets in LEGAL_MOVES.items() for target in targets}
    assert in_schema == legal - {"failed to succeeded"}
    assert "OLD.follow_until_at IS NOT NULL AND NEW.late_at IS NOT NULL" in trigger, "for a failed job that is followed"
    assert len(schema.migrations()) == len(postgres_schema.migrations())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("SELECT ? + :name", "SELECT %s + %(name)s"),
        ("SELECT 'a ? b: :c %' || ?", "SELECT 'a ? b: :c %%' || %s"),
        ("SELECT 'it''s :x', a::text -- why :y?\n, :z", "SELECT 'it''s :x', a::text -- why :y?\n, %(z)s"),
        ("SELECT 5 % :n", "SELECT 5 %% %(n)s"),
    ],
)
def test_placeholders_become_those_of_the_driver(ours: str, theirs: str) -> None:
    assert _translated_placeholders(ours).decode() == theirs


def test_values_come_back_as_they_were_given(postgres: PostgresServer) -> None:
    connection = PostgresConnection.open(postgres.address("postgres"))
    values = {"a": 2**63 - 1, "b": -(2**63), "c": True, "d": None, "e": "„ö“ 🌊 \\ % ' ?", "f": JobStatus.QUEUED}
    query = "SELECT :a AS a, :b AS b, :c AS c, CAST(:d AS TEXT) AS d, :e AS e, :f AS f"
    row = connection.execute(query, values).fetchone()
    for _ in range(8):  # prepared from the fifth execution on
        row = connection.execute(query, values).fetchone()
        assert dict(row) == values
        assert (row[0], row["c"], len(row)) == (2**63 - 1, True, 6)
    first, *_, last = row
    assert (first, last) == (2**63 - 1, "queued")
    assert connection.execute("SELECT ?", ("a\0b",)).fetchone()[0] == "a␀b"  # PostgreSQL cannot store NUL
    connection.close()


async def test_a_prompt_with_a_nul_is_stored(empty: PostgresAddress) -> None:
    async with await Store.open(empty) as store:
        reply = a_command()
        job = reply.jobs[0]
        changed = replace(job, request=replace(job.request, prompt="a\0b", options={"x": "\0"}))
        await store.admit(member=ADA, reply=replace(reply, jobs=(changed,)), limits=limits(), now=NOON)
        found = await store.job(job.id)
        assert found is not None
        assert (found.request.prompt, found.request.options) == ("a␀b", {"x": "\0"})
