"""Backup and restore: a copy contains everything committed, and restoring one loses nothing newer."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest

from bot.domain.errors import DatabaseBusy, DatabaseUnusable, StoreError
from bot.store.admin.verify import verify_file
from bot.store.sqlite import schema
from bot.store.sqlite.backup import copy_database, restore
from bot.store.sqlite.connection import connect
from bot.store.store import Store
from tests.support.store_samples import admitted, finished


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.sqlite3"


async def replies(path: Path) -> set[str]:
    async with await Store.open(path) as store:
        return {reply.id for reply in await store.unfinished()}


@pytest.mark.f39
async def test_a_backup_taken_while_jobs_run_holds_everything_committed_before_it(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        committed = {(await admitted(store, 1)).id for _ in range(50)}
        later = [asyncio.create_task(admitted(store, 1)) for _ in range(200)]
        await store.backup_to(backup)
        await asyncio.gather(*later)
    assert verify_file(backup) == []
    target = tmp_path / "restored" / "bot.sqlite3"
    restore(backup, target)
    assert committed <= await replies(target)
    assert backup.stat().st_mode & 0o077 == 0


@pytest.mark.f39
async def test_restoring_puts_back_an_older_state_only_when_nothing_would_be_lost(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        reply = await admitted(store)
        await store.backup_to(backup)
    restore(backup, path)
    assert await replies(path) == {reply.id}
    async with await Store.open(path) as store:
        await finished(store, reply.jobs[0].id)
    with pytest.raises(DatabaseUnusable, match=r"newer than the backup \(orders sent.*ledger entries"):
        restore(backup, path)
    assert verify_file(path) == []
    assert list(tmp_path.glob("*restoring*")) == [], "a refusal leaves no copy"


async def test_restoring_over_a_running_database_is_refused(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        await store.backup_to(backup)
        with pytest.raises(DatabaseBusy):
            restore(backup, path)
        await admitted(store)


async def test_a_damaged_database_is_replaced_and_kept_aside_with_its_log(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        reply = await admitted(store)
        await store.backup_to(backup)
    path.write_bytes(b"rubbish")
    Path(f"{path}-wal").write_bytes(b"stale")
    restore(backup, path)
    assert await replies(path) == {reply.id}
    assert Path(f"{path}.replaced").read_bytes() == b"rubbish"
    assert Path(f"{path}.replaced-wal").read_bytes() == b"stale"


async def test_a_log_left_by_a_crash_counts_as_something_to_lose(path: Path, tmp_path: Path) -> None:
    backup, crashed = tmp_path / "backup.sqlite3", tmp_path / "crashed.sqlite3"
    async with await Store.open(path) as store:
        await store.backup_to(backup)
        await admitted(store)
        for suffix in ("", "-wal"):
            Path(f"{crashed}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    with pytest.raises(DatabaseUnusable, match="newer than the backup"):
        restore(backup, crashed)
    assert len(await replies(crashed)) == 1


async def test_a_target_of_a_newer_version_is_not_replaced(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        await store.backup_to(backup)
    connection = connect(path)
    connection.execute(f"PRAGMA user_version = {max(schema.migrations()) + 1}")
    connection.close()
    with pytest.raises(DatabaseUnusable, match="schema version"):
        restore(backup, path)


@pytest.mark.parametrize("damage", ["missing", "rubbish", "not ours", "cut short", "orphans"])
async def test_a_backup_that_cannot_be_trusted_is_refused_and_the_target_stays(
    path: Path, tmp_path: Path, damage: str
) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        await admitted(store)
        await store.backup_to(backup)
    before = path.read_bytes()
    match damage:
        case "missing":
            backup.unlink()
        case "rubbish":
            backup.write_bytes(b"rubbish")
        case "cut short":
            backup.write_bytes(backup.read_bytes()[: 20 * 4096])
        case _:
            connection = connect(backup)
            statement = {"not ours": "PRAGMA application_id = 1", "orphans": "DELETE FROM replies"}[damage]
            connection.execute(statement)
            connection.close()
    with pytest.raises(StoreError):
        restore(backup, path)
    assert path.read_bytes() == before
    assert not Path(f"{path}.replaced").exists()


async def test_a_copy_that_cannot_be_written_is_a_sentence_and_leaves_nothing(path: Path, tmp_path: Path) -> None:
    await (await Store.open(path)).close()
    with pytest.raises(StoreError, match=r"There is no folder .*nowhere for the copy"):
        copy_database(path, tmp_path / "nowhere" / "backup.sqlite3")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(StoreError, match="is no backup"):
        copy_database(path, tmp_path / "a folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be replaced"):
        restore(path, tmp_path / "file" / "bot.sqlite3")
    (tmp_path / "directory" / "inside").mkdir(parents=True)
    with pytest.raises(StoreError, match="directory cannot be read: Is a directory"):
        restore(path, tmp_path / "directory")


async def test_a_copy_replaces_older_copies_and_nothing_else(path: Path, tmp_path: Path) -> None:
    backup, settings, fifo = tmp_path / "backup.sqlite3", tmp_path / ".env", tmp_path / "pipe"
    settings.write_text("DISCORD_TOKEN=x")
    os.mkfifo(fifo)
    async with await Store.open(path) as store:
        reply = await admitted(store)
        for _ in range(2):
            await store.backup_to(backup)
        another = tmp_path / "another.sqlite3"
        async with await Store.open(another):
            for target in (Path(f"{path}-wal"), settings, fifo, another):
                with pytest.raises(StoreError, match="Name another file for the copy"):
                    copy_database(path, target)
    assert fifo.is_fifo()
    assert settings.read_text() == "DISCORD_TOKEN=x"
    assert verify_file(path) == []
    assert await replies(path) == {reply.id}


async def test_a_copy_of_nothing_does_not_replace_a_good_one(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.sqlite3"
    async with await Store.open(path) as store:
        reply = await admitted(store)
        await store.backup_to(backup)
    foreign = tmp_path / "foreign.sqlite3"
    with closing(connect(foreign)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
    path.write_bytes(b"")
    for source, sentence in ((path, "is damaged"), (foreign, "another program"), (tmp_path / "none", "no database")):
        with pytest.raises(StoreError, match=sentence):
            copy_database(source, backup)
    assert await replies(backup) == {reply.id}
