"""A PostgreSQL server restored to a point in time, from a base backup and the archived log."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from bot.domain.jobs import Delivery, JobStatus
from bot.domain.money.quota import Member
from bot.store.admin.verify import verify_location
from bot.store.core.erasure_list import ErasureList
from bot.store.store import Store
from tests.support.postgres_server import PostgresServer
from tests.support.store_samples import ADA, NOON, admitted, finished

pytestmark = pytest.mark.slow

BOB = Member(guild_id=1, user_id=8)
ARCHIVED = """
wal_level = replica
archive_mode = on
archive_command = 'mkdir -p {folder}/archive && cp %p {folder}/unfinished && mv {folder}/unfinished {folder}/archive/%f'
"""
RESTORED = """
restore_command = 'cp {folder}/archive/%f %p'
recovery_target_time = '{time}'
recovery_target_action = promote
"""


@pytest.fixture
def archiving() -> Iterator[PostgresServer]:
    server = PostgresServer(settings=ARCHIVED)
    yield server
    server.close()


def go_back(server: PostgresServer, moment: str) -> None:
    """Archive what there is, then replace the server's data by the base backup and recover until `moment`."""
    ((last,),) = server.execute("SELECT pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + 60
    while not (server.folder / "archive" / str(last)).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    server.kill()
    shutil.rmtree(server.folder / "data")
    shutil.move(server.folder / "base", server.folder / "data")
    with (server.folder / "data" / "postgresql.auto.conf").open("a") as settings:
        settings.write(RESTORED.format(folder=server.folder, time=moment))
    (server.folder / "data" / "recovery.signal").touch()
    server.start()
    while server.execute("SELECT pg_is_in_recovery()") == [(True,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


async def test_a_server_restored_to_a_point_in_time_says_what_it_lacks_and_erases_again(
    archiving: PostgresServer, tmp_path: Path
) -> None:
    address = archiving.fresh()
    erasures = ErasureList(tmp_path / "erasures.jsonl")
    async with await Store.open(address, erasures=erasures) as store:
        assert await store.newest_order_if_restored() is None
        adas = await admitted(store, now=NOON)
        await finished(store, adas.jobs[0].id)
        await store.set_delivery(adas.id, Delivery.DELIVERED)
        archiving.call(
            "pg_basebackup",
            f"--dbname={archiving.url('postgres')}",
            f"--pgdata={archiving.folder}/base",
            "--checkpoint=fast",
        )
        bobs = await admitted(store, member=BOB, now=NOON + timedelta(minutes=1))
        assert await store.newest_order_if_restored() is None
        ((moment,),) = archiving.execute("SELECT CAST(clock_timestamp() AS TEXT)")
        late = await admitted(store, member=BOB, now=NOON + timedelta(minutes=2))
        await store.forget_member(ADA.user_id, now=NOON + timedelta(minutes=3))
    go_back(archiving, str(moment))
    async with await Store.open(address, erasures=erasures) as store:
        assert await store.reply(late.id) is None
        assert await store.newest_order_if_restored() == NOON + timedelta(minutes=1)
        assert await store.newest_order_if_restored() is None, "it is told once"
        before = await store.reply(adas.id)
        assert before is not None
        assert before.jobs[0].request.prompt
        assert await store.repeat_erasures(now=NOON + timedelta(days=1)) == (1, 0)
        after = await store.reply(adas.id)
        assert after is None or after.jobs[0].request.prompt == ""
        # What stood in line then stands in line again: gateways first, so that it can be cancelled (docs/scaling.md).
        found = await store.reply(bobs.id)
        assert found is not None
        assert found.jobs[0].status is JobStatus.QUEUED
    assert verify_location(address) == []
