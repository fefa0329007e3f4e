"""`migrate-to`: copies an SQLite file to a PostgreSQL server, every row or none, and retires the file."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from bot import cli
from bot.catalogue.provider_description.changes import ENTRY, Change, Edit
from bot.catalogue.provider_description.model_notices import ModelNotice, NoticeKind
from bot.domain.deletion import MessageKind
from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseBusy, DatabaseUnusable, StoreError
from bot.domain.jobs import Delivery, Failure, FailureReason, ImageInput, ImageRole, ReviewState, Visibility, new_id
from bot.domain.money.quota import LimitSubject, Member, Place
from bot.domain.presets import MemberDefaults, Preset
from bot.store.admin import migrate_to_postgres
from bot.store.admin.verify import verify_location
from bot.store.postgres.connection import PostgresConnection
from bot.store.sqlite.backup import copy_database
from bot.store.sqlite.moved_mark import mark_moved
from bot.store.store import Store
from tests.support.databases import rows, tamper
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    a_command,
    admitted,
    everything_kept,
    finished,
    limits,
    running,
)

SOURCE = ImageInput(sha256="cd" * 32, role=ImageRole.SOURCE, content_type="image/png", width=8, height=8)
BEN = Member(guild_id=2, user_id=8)
BY_ADA = {"actor_id": ADA.user_id, "reason": "x\0y", "now": NOON}


@pytest.fixture
def target(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    address = postgres.empty()
    yield address
    postgres.drop(address)


@pytest.fixture
async def source(tmp_path: Path) -> Path:
    """Return the path of a database with rows in every table."""
    path = tmp_path / "bot.sqlite3"
    async with await Store.open(path) as store:
        for _ in range(4):
            reply = await admitted(store, 50_000, member=replace(ADA, place=Place(channel_id=6, category_id=5)))
            await finished(store, reply.jobs[0].id, charged_usd_micros=40_000)
        reply = a_command(80_000, 7, images=(SOURCE,))
        await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
        await store.accept(reply.id, message_id=2**62)
        await running(store, reply.jobs[0].id)
        lost = (await admitted(store)).jobs[0].id
        await store.begin_submission(lost, now=NOON, deadline_at=NOON, webhook_token="a-secret")
        await store.keep_callback("a-secret", "theirs", now=NOON)
        failure = Failure(reason=FailureReason.OUTCOME_UNKNOWN)
        await store.fail(lost, failure, now=NOON, follow_until=NOON + timedelta(hours=2))
        await store.fail(
            reply.jobs[1].id, Failure(reason=FailureReason.TIMED_OUT), now=NOON, operator_cost_usd_micros=5
        )
        gone = await admitted(store, member=BEN)
        await finished(store, gone.jobs[0].id)
        await store.set_delivery(gone.id, Delivery.DELIVERED)
        card = await admitted(store)
        await finished(store, card.jobs[0].id)
        for reply_id, message_id in ((card.id, 2**61), (gone.id, 2**61 + 1)):
            await store.record_copy(reply_id, kind=MessageKind.LOG, channel_id=8, message_id=message_id, now=NOON)
        deleted = await admitted(store)
        await finished(store, deleted.jobs[0].id)
        await store.set_delivery(deleted.id, Delivery.DELIVERED)
        assert await store.delete_reply(deleted.id, actor_id=ADA.user_id, now=NOON) is not None
        await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
        await store.set_limit(1, LimitSubject.ROLE, 5, A_DOLLAR_A_DAY, **BY_ADA)
        await store.set_blocked(1, 99, True, **BY_ADA)
        withdrawn = Change(model_id="a/b", part=ENTRY, edits=(Edit(("retired",), None, True),), lines=("gone",))
        await store.record_catalogue_changes([withdrawn], now=NOON)
        await store.note_model(ModelNotice(model_id="a/b", kind=NoticeKind.GONE, noticed_at=NOON))
        await store.grant(ADA, 9, default=A_DOLLAR_A_DAY, **BY_ADA)
        await store.reset(ADA, default=A_DOLLAR_A_DAY, **BY_ADA)
        await store.change_policy(1, lambda policy: policy.with_words(["gore", "हिंसा"], True), **BY_ADA)
        compared = a_command(50_000, 50_000)
        await store.admit(member=ADA, reply=compared, limits=limits(), now=NOON)
        await store.accept(compared.id, message_id=2**61 + 2)
        for job in compared.jobs:
            await finished(store, job.id, charged_usd_micros=40_000)
        await store.set_delivery(compared.id, Delivery.DELIVERED)
        assert await store.vote(compared.jobs[0].id, user_id=ADA.user_id)
        await store.set_favourite(compared.id, user_id=ADA.user_id, is_favourite=True)
        assert await store.claim_share(compared.jobs[0].id, channel_id=5, now=NOON) is not None
        await store.record_share(compared.jobs[0].id, channel_id=5, message_id=2**62 + 1, now=NOON)
        reviewed = replace(a_command(80_000), review=ReviewState.WAITING, visibility=Visibility(review_channel_id=5))
        await store.admit(member=ADA, reply=reviewed, limits=limits(), now=NOON)
        await store.accept(reviewed.id, message_id=1)
        await finished(store, reviewed.jobs[0].id, charged_usd_micros=80_000)
        await store.set_delivery(reviewed.id, Delivery.DELIVERED)
        assert await store.claim_review(reviewed.id, channel_id=5, now=NOON) is not None
        noir = Preset(id=new_id(), guild_id=1, user_id=None, name="Film Noir", words_after="black and white")
        await store.set_preset(noir, actor_id=ADA.user_id, now=NOON)
        await store.set_member_defaults(MemberDefaults(preset_name="Film Noir"), guild_id=1, user_id=ADA.user_id)
        await store.credit(5, user_id=ADA.user_id, sku_id=3, amount_usd_micros=2**41, now=NOON)
        await store.mark_consumed(5, now=NOON)
        await finished(store, (await admitted(store, 1_100_000)).jobs[0].id, charged_usd_micros=1_000_000)
        unseen = await admitted(store)
        await finished(store, unseen.jobs[0].id)
        assert await store.lose_images(unseen.jobs[0].id, now=NOON) is not None
        await store.finish_weekly_report(1, "2026-11-16", now=NOON)
        await store.set_value("key", "value with \\ and \t and \n")
        await store.forget_member(BEN.user_id, now=NOON + timedelta(hours=1))
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_every_row_is_migrated_and_jobs_go_on_where_they_were(source: Path, target: PostgresAddress) -> None:
    copy = source.with_name("copy.sqlite3")  # the file itself cannot be opened afterwards
    copy_database(source, copy)
    counts = migrate_to_postgres.migrate(source, target)
    assert all(counts.values()), [table for table, count in counts.items() if not count]
    assert verify_location(target) == []
    async with await Store.open(copy) as old, await Store.open(target) as new:
        assert await new.unfinished() == await old.unfinished()
        for member in (ADA, BEN):
            ask = {"default": A_DOLLAR_A_DAY, "now": NOON}
            assert await new.balance(member, **ask) == await old.balance(member, **ask)
            copied, expected = await everything_kept(new, member.user_id), await everything_kept(old, member.user_id)
            assert str(copied).replace("␀", "\\x00") == str(expected)
        assert await new.policy(1) == await old.policy(1)
        assert await new.get_value("key") == await old.get_value("key")
        [reply] = [reply for reply in await new.unfinished() if len(reply.jobs) == 2]
        await new.succeed(reply.jobs[0].id, charged_usd_micros=80_000, images=[], now=NOON)
        await finished(new, (await admitted(new)).jobs[0].id)  # new ids follow the migrated ones
        await new.grant(ADA, 1, default=A_DOLLAR_A_DAY, **BY_ADA)
    broken = {finding.rule for finding in verify_location(target)}
    assert broken == {"a charge needs a picture"}, "the job above succeeded without an image"
    ids = [number for (number,) in rows(target, "SELECT id FROM ledger ORDER BY id")]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kept", ["ledger", "another program's table"])
async def test_a_database_that_is_not_empty_is_refused(
    source: Path, target: PostgresAddress, postgres: PostgresServer, kept: str
) -> None:
    if kept == "ledger":
        await (await Store.open(target)).close()
    else:
        postgres.execute("CREATE TABLE theirs (x INT)", database=target.url.rpartition("/")[2])
    with pytest.raises(DatabaseUnusable):
        migrate_to_postgres.migrate(source, target)


@pytest.mark.parametrize("trouble", ["a row is lost", "a row changes", "it does not balance"])
async def test_a_copy_that_differs_is_rolled_back(
    source: Path, target: PostgresAddress, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest(source)
    original_rows = migrate_to_postgres._Table.rows_of_file
    send = migrate_to_postgres._send

    def altered(table: migrate_to_postgres._Table, connection: object):
        found = list(original_rows(table, connection))  # type: ignore[arg-type]
        if table.name == "ledger" and trouble == "it does not balance":
            found[0] = (*found[0][:-2], found[0][-2] + 1, found[0][-1])
        return iter(found)

    def lossy(server: object, table: migrate_to_postgres._Table, every: object):
        copied = list(every)  # type: ignore[call-overload]
        count, digest_of_rows = len(copied), hashlib.sha256(b"".join(repr(row).encode() for row in copied)).digest()
        if table.name == "totals" and trouble == "a row is lost":
            copied.pop()
        if table.name == "totals" and trouble == "a row changes":
            copied[0] = (*copied[0][:2], copied[0][2] + 1, *copied[0][3:])
        send(server, table, copied)  # type: ignore[arg-type]
        return count, digest_of_rows

    monkeypatch.setattr(migrate_to_postgres._Table, "rows_of_file", altered)
    monkeypatch.setattr(migrate_to_postgres, "_send", lossy)
    with pytest.raises(StoreError, match="Nothing was kept"):
        migrate_to_postgres.migrate(source, target)
    assert rows(target, "SELECT * FROM pg_tables WHERE schemaname = 'public'") == []
    assert digest(source) == before


async def test_a_file_that_was_moved_is_refused_until_the_move_is_undone(source: Path, target: PostgresAddress) -> None:
    migrate_to_postgres.migrate(source, target)
    for attempt in (Store.open(source), asyncio.to_thread(migrate_to_postgres.migrate, source, target)):
        with pytest.raises(DatabaseUnusable, match=re.escape(f"was moved to {target}")) as refusal:
            await attempt
        assert PASSWORD not in str(refusal.value)
        assert "migrate-to --undo" in str(refusal.value)
    migrate_to_postgres.undo(source, target)
    async with await Store.open(source) as store:
        assert await store.unfinished()
    with pytest.raises(StoreError, match="was not moved"):
        migrate_to_postgres.undo(source, target)


async def test_a_move_is_not_undone_once_the_server_has_what_the_file_lacks(
    source: Path, target: PostgresAddress, postgres: PostgresServer
) -> None:
    migrate_to_postgres.migrate(source, target)
    async with await Store.open(target) as store:
        await admitted(store)
    with pytest.raises(StoreError, match="accepted commands"):
        migrate_to_postgres.undo(source, target)
    with pytest.raises(DatabaseUnusable, match="was moved to"):
        await Store.open(source)
    postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database=target.url.rpartition("/")[2])
    migrate_to_postgres.undo(source, target)
    assert sum(migrate_to_postgres.migrate(source, target).values()) > 0


async def test_a_copy_that_the_server_refuses_to_commit_leaves_the_file_in_use(
    source: Path, target: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill = migrate_to_postgres._fill

    def fill_with_an_orphan(file: sqlite3.Connection, server: PostgresConnection) -> dict[str, int]:
        counts = fill(file, server)
        server.execute("CREATE TABLE late (x INT REFERENCES late (y) DEFERRABLE INITIALLY DEFERRED, y INT UNIQUE)")
        server.execute("INSERT INTO late VALUES (1, 2)")
        return counts

    monkeypatch.setattr(migrate_to_postgres, "_fill", fill_with_an_orphan)
    monkeypatch.setattr(migrate_to_postgres.verify, "findings_of_server", lambda *_: [])
    with pytest.raises(StoreError, match="foreign key"):
        migrate_to_postgres.migrate(source, target)
    async with await Store.open(source) as store:
        assert await store.unfinished()


async def test_a_database_in_use_damaged_or_missing_is_not_migrated(
    source: Path, target: PostgresAddress, tmp_path: Path
) -> None:
    async with await Store.open(source):
        with pytest.raises(DatabaseBusy):
            migrate_to_postgres.migrate(source, target)
    tamper(source, "UPDATE totals SET held_usd_micros = held_usd_micros + 1")
    with pytest.raises(StoreError, match="findings"):
        migrate_to_postgres.migrate(source, target)
    with pytest.raises(StoreError, match="no database"):
        migrate_to_postgres.migrate(tmp_path / "nowhere", target)
    assert rows(target, "SELECT * FROM pg_tables WHERE schemaname = 'public'") == []


# -- the command line -----------------------------------------------------------------------------------------


async def test_the_command_migrates_and_says_what_to_do_next(
    source: Path, target: PostgresAddress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(source.parent)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{source}")
    assert cli.main(["migrate-to", target.url]) == 0
    output = capsys.readouterr().out
    assert "the ledger balances on both sides" in output
    assert PASSWORD not in output
    assert cli.main(["migrate-to", target.url]) == 1
    assert "was moved to" in capsys.readouterr().err
    assert cli.main(["migrate-to", "--undo", target.url]) == 0
    assert f"{source} is in use again" in capsys.readouterr().out
    assert cli.main(["migrate-to", target.url]) == 1
    assert "has tables of this program already" in capsys.readouterr().err
    assert cli.main(["migrate-to", f"postgresql:{PASSWORD}"]) == 2
    assert PASSWORD not in capsys.readouterr().err


def test_no_bot_begins_with_the_empty_database_of_an_interrupted_move(
    target: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fill() -> None:
        async with await Store.open(file) as store:
            await admitted(store)

    file = tmp_path / "data" / "bot.sqlite3"
    asyncio.run(fill())
    with monkeypatch.context() as killed:
        # The server rolls back when the connection ends without COMMIT.
        killed.setattr(migrate_to_postgres, "_commit", lambda source, _, target: mark_moved(source, str(target)))
        migrate_to_postgres.migrate(file, target)
    monkeypatch.chdir(tmp_path)
    for name, value in {"DATABASE_URL": target.url, "DISCORD_TOKEN": "a-token", "KREA_API_KEY": "a-key"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DISCORD_API_BASE", "http://127.0.0.1:9/api/v10")
    monkeypatch.setenv("KREA_API_BASE", "http://127.0.0.1:9")
    assert cli.main([]) == 2
    assert "the move was interrupted" in capsys.readouterr().err
    assert cli.main(["check"]) == 1
    assert re.search("^FAIL  database .* the move was interrupted", capsys.readouterr().out, re.MULTILINE)
    assert rows(target, "SELECT * FROM pg_tables WHERE schemaname = 'public'") == []
    migrate_to_postgres.undo(file, target)
    assert migrate_to_postgres.migrate(file, target)["jobs"] == 1
    assert verify_location(target) == []


async def test_the_ledger_and_backup_commands_support_a_server(
    source: Path, target: PostgresAddress, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(source.parent)
    monkeypatch.setenv("DATABASE_URL", target.url)
    assert cli.main(["ledger", "verify"]) == 1
    assert "There is no database of this program in" in capsys.readouterr().err
    migrate_to_postgres.migrate(source, target)
    assert cli.main(["ledger", "verify"]) == 0
    assert cli.main(["ledger", "house"]) == 0
    assert "the operator bore $0.080005 for 2 jobs" in capsys.readouterr().out
    for arguments, instead in ((["backup", "x"], "pg_dump"), (["restore", "x"], "pg_restore")):
        assert cli.main(arguments) == 1
        assert instead in capsys.readouterr().err
    tamper(target, "UPDATE totals SET held_usd_micros = held_usd_micros + 1")
    assert cli.main(["ledger", "verify"]) == 1
    assert "totals equal the reservations" in capsys.readouterr().out
