"""Fewer connections than the processes need: who gets none does not start, and who loses some leaves work to others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.admin.readiness import readiness
from bot.store.postgres import connection as postgres_connection
from bot.store.postgres import pool, reply_queue
from bot.store.postgres.reply_queue import ReplyQueue
from bot.store.store import Store
from tests.support.fakes import until
from tests.support.pooler import pooled
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import admitted

STORE_CONNECTIONS = 4
"""One writes, three read."""


@pytest.fixture
def limited(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    """Yield the address of a database for a user whose connections a test can limit."""
    address = postgres.fresh()
    with postgres.a_modest_user(address.url.rpartition("/")[2]) as url:
        yield PostgresAddress(url)
    postgres.drop(address)


def allow(postgres: PostgresServer, connections: int) -> None:
    postgres.execute(f"ALTER ROLE modest CONNECTION LIMIT {connections}")


def end_sessions(postgres: PostgresServer) -> None:
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'modest'")


@pytest.mark.parametrize("connections", [1, 3])
async def test_a_process_that_gets_too_few_connections_does_not_start_and_keeps_none(
    postgres: PostgresServer, limited: PostgresAddress, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_RECONNECT_TIMEOUT_SECONDS", 0.2)
    allow(postgres, connections)
    with pytest.raises(StoreError, match=r"connection|Raise max_connections") as refusal:
        await Store.open(limited)
    assert "too many connections" in str(refusal.value)
    assert PASSWORD not in str(refusal.value)
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'modest'"
    await until(lambda: postgres.execute(sessions) == [(0,)])


async def test_check_says_when_there_is_no_room_for_another_process(
    postgres: PostgresServer, limited: PostgresAddress
) -> None:
    allow(postgres, postgres_connection.CONNECTIONS_PER_PROCESS)
    assert (await asyncio.to_thread(readiness, limited)).room > 0
    allow(postgres, postgres_connection.CONNECTIONS_PER_PROCESS - 1)
    with pytest.raises(
        StoreError, match="Raise max_connections of the server, the limit of its user, or the pool size"
    ):
        await asyncio.to_thread(readiness, limited)


async def test_a_pooler_with_too_few_connections_is_named_instead_of_waited_for(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_connection, "_SESSION_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(pool, "_RECONNECT_TIMEOUT_SECONDS", 0.2)
    address = postgres.fresh()
    try:
        with pooled(postgres, address, "session", pool_size=3) as through:
            for attempt in (Store.open(through), asyncio.to_thread(readiness, through)):
                with pytest.raises(StoreError, match="the pool size of a pooler"):
                    async with asyncio.timeout(30):
                        await attempt
    finally:
        postgres.drop(address)


async def test_a_process_that_gets_fewer_connections_back_goes_on_with_those_and_says_so(
    postgres: PostgresServer, limited: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_REOPEN_PAUSE_SECONDS", 0.2)
    async with await Store.open(limited) as store:
        assert store.missing_connections() is None
        allow(postgres, STORE_CONNECTIONS - 2)  # the writer and one that reads
        end_sessions(postgres)
        await store.set_value("a", "b")
        async with asyncio.timeout(30):
            found = await asyncio.gather(*(store.get_value("a") for _ in range(20)))
        assert found == ["b"] * 20
        assert await store.problem() is None
        assert store.missing_connections() == "the server refuses 2 connections: raise max_connections"
        allow(postgres, -1)
        await until(lambda: store.missing_connections() is None)


async def test_a_worker_that_cannot_follow_its_replies_leaves_them_to_another(
    postgres: PostgresServer, limited: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It still has the connection of the queue, so it could renew the lease forever."""
    monkeypatch.setattr(pool, "_RECONNECT_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr(reply_queue, "LEASE", timedelta(seconds=3))
    monkeypatch.setattr(reply_queue, "DATABASE_CHECK_SECONDS", 0.1)
    monkeypatch.setattr(reply_queue, "UNFIT_SECONDS", 1.0)
    monkeypatch.setattr(reply_queue, "TAKEOVER_DELAY_AFTER_OUTAGE_SECONDS", 0.5)
    elsewhere = PostgresAddress(limited.url.replace("//modest:", "//bot:"))
    async with await Store.open(limited) as short, await Store.open(elsewhere) as store:
        reply = await admitted(store)
        await store.cluster.enqueue(reply.id)
        async with a_worker(limited, short) as first:
            await until(lambda: first.claimed == [reply.id])
            allow(postgres, 1)
            end_sessions(postgres)
            async with a_worker(elsewhere, store) as second:
                await until(lambda: second.claimed == [reply.id], seconds=60)
                await until(lambda: first.queue.problem() is not None)
            allow(postgres, -1)
            await until(lambda: first.queue.problem() is None, seconds=60)
            another = await admitted(store)
            await store.cluster.enqueue(another.id)
            await until(lambda: another.id in first.claimed)


@dataclass
class Worker:
    """A worker whose replies never end, and those that it claimed."""

    queue: ReplyQueue
    claimed: list[str]


class EndlessReplies:
    """Runs replies that do not end before `released` is set."""

    def __init__(self) -> None:
        self.claimed: list[str] = []
        self.released = asyncio.Event()

    async def run(self, reply_id: str) -> bool:
        self.claimed.append(reply_id)
        await self.released.wait()
        return False

    def release(self, reply_id: str) -> None:
        raise AssertionError("nothing is left to other workers")

    def left_to_others(self) -> frozenset[str]:
        return frozenset()


@asynccontextmanager
async def a_worker(address: PostgresAddress, store: Store) -> AsyncGenerator[Worker]:
    replies = EndlessReplies()
    queue = ReplyQueue(address, replies, providers=["krea"], database_problem=store.problem)
    await queue.open()
    running = asyncio.create_task(queue.run())
    try:
        yield Worker(queue, replies.claimed)
    finally:
        replies.released.set()
        await queue.return_unfinished(running)
        await queue.close()
