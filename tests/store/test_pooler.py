"""A pooler in front of PostgreSQL: one that keeps sessions works, one that does not is refused with a sentence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import DatabaseBusy, DatabaseUnusable
from bot.store.admin.readiness import readiness
from bot.store.postgres import schema
from bot.store.store import Store
from tests.support.databases import rows
from tests.support.pooler import pooled
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import admitted, finished


@pytest.fixture
def empty(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    address = postgres.empty()
    yield address
    postgres.drop(address)


async def test_every_start_works_through_a_pooler_that_keeps_sessions(
    postgres: PostgresServer, empty: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pooled(postgres, empty, "session") as address:
        for _ in range(3):
            monkeypatch.setattr(schema, "_expected", {})  # as in a new process
            stores = await asyncio.gather(*(Store.open(address) for _ in range(4)))
            for store in stores:
                await finished(store, (await admitted(store)).jobs[0].id)
            await stores[0].database.lock_exclusively()
            with pytest.raises(DatabaseBusy):
                await stores[1].database.lock_shared()
            for store in stores:
                await store.close()
        assert readiness(address).room > 0


@pytest.mark.parametrize("mode", ["transaction", "transaction\nserver_round_robin = 1"])
async def test_a_pooler_that_changes_connections_is_refused_at_the_start_and_by_check(
    postgres: PostgresServer, empty: PostgresAddress, mode: str
) -> None:
    with pooled(postgres, empty, mode) as address:
        for attempt in (Store.open(address), asyncio.to_thread(readiness, address)):
            with pytest.raises(DatabaseUnusable, match="pool_mode = session") as refusal:
                await attempt
            assert PASSWORD not in str(refusal.value)
    assert rows(empty, "SELECT * FROM pg_tables WHERE schemaname = 'public'") == []
