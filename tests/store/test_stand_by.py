"""A server that has to wait for a stand-by: what it has alone is in doubt, and a stand-by that takes over is used."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseBusy, StoreError
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from tests.support.databases import rows
from tests.support.fakes import until
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import admitted, finished

WAITING = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
VALUES = "SELECT value FROM notes WHERE key = 'a'"


def commits_wait(server: PostgresServer) -> bool:
    return server.execute(f"SELECT 1 {WAITING}") == [(1,)]


async def waiting_change(store: Store, server: PostgresServer) -> asyncio.Task[None]:
    """Make changes until one waits for a stand-by: the server reads its new configuration a moment later."""
    async with asyncio.timeout(60):
        while True:
            change = asyncio.create_task(store.set_value("a", "b"))
            await until(lambda: change.done() or commits_wait(server))  # noqa: B023 - awaited in this round
            if not change.done():
                return change


@contextmanager
def waiting_for_a_stand_by(server: PostgresServer) -> Iterator[None]:
    server.execute("ALTER SYSTEM SET synchronous_standby_names = stand_by")
    server.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        if server.is_up:
            server.execute("ALTER SYSTEM RESET synchronous_standby_names")
            server.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("interruption", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_a_change_that_no_stand_by_has_is_in_doubt_until_one_has_it(
    postgres: PostgresServer, interruption: str
) -> None:
    """An end of the wait for a stand-by does not make the change safe."""
    address = postgres.fresh()
    async with await Store.open(address) as store:
        with waiting_for_a_stand_by(postgres):
            change = await waiting_change(store, postgres)
            for _ in range(2):
                postgres.execute(f"SELECT {interruption}(pid) {WAITING}")
                await until(lambda: change.done() or commits_wait(postgres))
                assert not change.done()
        await change
    assert rows(address, VALUES) == [("b",)]
    postgres.drop(address)


@pytest.mark.slow
async def test_a_change_that_the_stand_by_lacks_is_made_once_when_it_takes_over() -> None:
    first = PostgresServer()
    try:
        name = first.empty().url.rpartition("/")[2]
        second = first.stand_by()
        both = PostgresAddress(
            f"postgresql://bot:{PASSWORD}@127.0.0.1:{first.port},127.0.0.1:{second.port}/{name}"
            "?target_session_attrs=read-write"
        )
        try:
            async with await Store.open(both) as store:
                await store.database.lock_exclusively()
                with waiting_for_a_stand_by(first):
                    before = await admitted(store)
                    with pytest.raises(StoreError, match="is on a stand-by"):
                        await Store.open(second.address(name))
                    second.kill()
                    change = asyncio.create_task(finished(store, before.jobs[0].id))
                    await until(lambda: commits_wait(first))
                    first.execute(f"SELECT pg_cancel_backend(pid) {WAITING}")
                    await until(lambda: change.done() or commits_wait(first))
                    assert not change.done()
                    first.kill()
                second.start()
                second.promote()
                await change
                await finished(store, (await admitted(store)).jobs[0].id)
                async with await Store.open(both) as another:
                    with pytest.raises(DatabaseBusy):
                        await another.database.lock_shared()
            assert verify_location(second.address(name)) == []
            charged = "SELECT count(*) FROM ledger WHERE kind = 'settle'"
            assert rows(second.address(name), charged) == [(2,)]
        finally:
            second.close()
    finally:
        first.close()
