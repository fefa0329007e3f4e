"""The queue of replies: each is leased to one worker, and what an older version had queued is taken over."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from bot.domain.deployment.database_url import PostgresAddress
from bot.store.postgres import reply_queue, schema
from bot.store.postgres.connection import PostgresConnection
from bot.store.postgres.reply_queue import ReplyQueue
from bot.store.store import Store
from bot.store.tables.shared.reply_queue_rows import claim, enqueue, give_back, leave, remove, renew
from tests.support.databases import rows
from tests.support.fakes import until
from tests.support.postgres_server import PostgresServer
from tests.support.store_samples import NOON, admitted, finished

LEASE = timedelta(seconds=15)
KREA = ("krea",)
EXPIRE = "UPDATE reply_queue SET claimable_at = now() - INTERVAL '1 second' RETURNING 1"
OWNERS = "SELECT reply_id, worker FROM reply_queue ORDER BY reply_id"


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    address = postgres.fresh()
    yield address
    postgres.drop(address)


@pytest.fixture
async def store(address: PostgresAddress) -> AsyncIterator[Store]:
    async with await Store.open(address) as store:
        yield store


@pytest.fixture
def server(address: PostgresAddress) -> Iterator[PostgresConnection]:
    connection = PostgresConnection.open(address)
    yield connection
    connection.close()


def claimed_by(
    connection: PostgresConnection,
    worker: str,
    *,
    limit: int = 50,
    providers: tuple[str, ...] = KREA,
    takes_over: bool = True,
) -> list[str]:
    return claim(
        connection,
        worker,
        lease=LEASE,
        limit=limit,
        providers=providers,
        takes_over_until=datetime.max.replace(tzinfo=UTC) if takes_over else None,
    )


async def queued(store: Store, count: int) -> list[str]:
    reply_ids = [(await admitted(store)).id for _ in range(count)]
    for reply_id in reply_ids:
        await store.cluster.enqueue(reply_id)
    return reply_ids


# -- leases -----------------------------------------------------------------------------------------------


async def test_a_reply_is_leased_to_one_worker_until_it_is_finished(store: Store, server: PostgresConnection) -> None:
    first, second, third = await queued(store, 3)
    assert claimed_by(server, "a", limit=2) == [first, second], "those that waited longest"
    assert claimed_by(server, "b") == [third]
    remove(server, "b", [first])
    remove(server, "a", [second])
    give_back(server, "b", [third, first])
    enqueue(server, [first, third])
    assert claimed_by(server, "c") == [third]
    assert [tuple(row) for row in server.execute(OWNERS).fetchall()] == [(first, "a"), (third, "c")]


async def test_only_an_expired_lease_is_taken_over_and_its_worker_has_lost_it(
    store: Store, server: PostgresConnection
) -> None:
    [reply_id] = await queued(store, 1)
    claimed_by(server, "a")
    server.execute(EXPIRE)
    renew(server, "a", [reply_id], lease=LEASE)
    assert claimed_by(server, "b") == []
    server.execute(EXPIRE)
    assert claimed_by(server, "b", takes_over=False) == [], "after an outage every lease has expired"
    assert claimed_by(server, "b") == [reply_id]
    server.execute(EXPIRE)
    renew(server, "a", [reply_id], lease=LEASE)
    remove(server, "a", [reply_id])
    assert claimed_by(server, "c") == [reply_id]


async def test_a_lease_is_renewed_only_for_what_the_worker_runs(store: Store, server: PostgresConnection) -> None:
    """A claim whose answer was lost is not run, so another worker has to get it."""
    runs, was_lost = await queued(store, 2)
    claimed_by(server, "a")
    server.execute(EXPIRE)
    renew(server, "a", [runs], lease=LEASE)
    assert claimed_by(server, "b") == [was_lost]


async def test_workers_that_claim_at_the_same_time_get_different_replies_and_do_not_wait(
    store: Store, server: PostgresConnection, address: PostgresAddress
) -> None:
    first, second = await queued(store, 2)
    other = PostgresConnection.open(address)
    try:
        other.execute("BEGIN")
        assert claimed_by(other, "a", limit=1) == [first]
        server.execute("SET lock_timeout = '100ms'")
        assert claimed_by(server, "b") == [second]
        other.execute("COMMIT")
    finally:
        other.close()


async def test_a_worker_leaves_what_it_has_no_key_for_and_takes_what_only_has_to_be_shown(
    store: Store, server: PostgresConnection
) -> None:
    [waiting, to_show] = [await admitted(store) for _ in range(2)]
    await finished(store, to_show.jobs[0].id)
    enqueue(server, [waiting.id, to_show.id])
    assert claimed_by(server, "a", providers=("pixazo",)) == [to_show.id]
    assert claimed_by(server, "b", providers=("pixazo", "krea")) == [waiting.id]


async def test_a_reply_is_left_to_others_unless_its_job_is_being_sent_or_is_of_another_provider(
    store: Store, server: PostgresConnection
) -> None:
    [waiting, being_sent, to_show] = [await admitted(store) for _ in range(3)]
    await store.begin_submission(being_sent.jobs[0].id, now=NOON, deadline_at=NOON, webhook_token=None, slots=None)
    await finished(store, to_show.jobs[0].id)
    replies = [waiting.id, being_sent.id, to_show.id]
    enqueue(server, replies)
    assert claimed_by(server, "a") == sorted(replies)
    assert leave(server, "b", replies, providers=KREA) == []
    assert leave(server, "a", replies, providers=["pixazo"]) == []
    assert leave(server, "a", replies, providers=KREA) == [waiting.id]
    assert claimed_by(server, "b") == [waiting.id]


# -- the worker -------------------------------------------------------------------------------------------


class Replies:
    """Runs replies: each fails `failures` times and then ends, or is released when the worker stops."""

    def __init__(self, *, failures: int = 0, are_endless: bool = False) -> None:
        self.started: list[str] = []
        self._failures = failures
        self._are_endless = are_endless
        self.released = asyncio.Event()
        self.left: frozenset[str] = frozenset()

    @property
    def run_count(self) -> int:
        return len(self.started)

    async def run(self, reply_id: str) -> bool:
        self.started.append(reply_id)
        if self.run_count <= self._failures:
            raise RuntimeError("a defect")
        if self._are_endless:
            await self.released.wait()
        return not self._are_endless

    def release(self, reply_id: str) -> None:
        self.released.set()

    def left_to_others(self) -> frozenset[str]:
        return self.left


@asynccontextmanager
async def a_worker(
    address: PostgresAddress, store: Store, replies: Replies, *, renewed_at: float | None = None
) -> AsyncIterator[ReplyQueue]:
    queue = ReplyQueue(address, replies, providers=KREA, database_problem=store.problem)
    queue._renewed_at = renewed_at
    await queue.open()
    running = asyncio.create_task(queue.run())
    try:
        yield queue
    finally:
        queue.stop_claiming()
        replies.released.set()
        await queue.return_unfinished(running)
        await queue.close()


async def test_a_reply_whose_run_failed_is_run_again(
    store: Store, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_queue, "LEASE", timedelta(seconds=0.3))
    monkeypatch.setattr(reply_queue, "CLAIM_INTERVAL_SECONDS", 0.1)
    replies = Replies(failures=2)
    await queued(store, 1)
    async with a_worker(address, store, replies) as queue:
        await until(lambda: rows(address, OWNERS) == [])
        assert queue.problem() is None
    assert replies.run_count == 3


async def test_a_worker_that_runs_a_reply_keeps_it_and_returns_it_at_once_when_it_stops(
    store: Store, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_queue, "CLAIM_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(reply_queue, "LEASE", timedelta(seconds=1))
    replies = Replies(are_endless=True)
    [reply_id] = await queued(store, 1)
    async with a_worker(address, store, replies) as queue:
        queue._takes_over_from = math.inf  # so it cannot claim its own reply once more
        await until(lambda: rows(address, OWNERS) == [(reply_id, queue.name)])
        [(ends_at,)] = rows(address, "SELECT claimable_at FROM reply_queue")
        await until(
            lambda: rows(address, "SELECT claimable_at FROM reply_queue")[0][0] > ends_at + timedelta(seconds=1)
        )
    assert rows(address, OWNERS) == [(reply_id, None)]
    assert replies.run_count == 1


async def test_a_worker_returns_the_replies_of_a_provider_that_it_leaves_to_others_and_claims_no_more_of_them(
    store: Store, address: PostgresAddress
) -> None:
    replies = Replies(are_endless=True)
    [reply_id] = await queued(store, 1)
    async with a_worker(address, store, replies) as queue:
        await until(lambda: replies.run_count == 1)
        replies.left = frozenset(KREA)
        queue.wake()
        await until(replies.released.is_set)
        assert rows(address, OWNERS) == [(reply_id, None)]
        to_show = await admitted(store)
        await finished(store, to_show.jobs[0].id)
        await store.cluster.enqueue(to_show.id)
        queue.wake()
        await until(lambda: replies.run_count == 2)
        assert replies.started == [reply_id, to_show.id], "what only has to be shown needs no provider"


async def test_after_an_outage_other_workers_have_time_to_renew_before_anything_is_taken_over(
    store: Store, server: PostgresConnection, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reply_queue, "CLAIM_INTERVAL_SECONDS", 0.05)
    monkeypatch.setattr(reply_queue, "TAKEOVER_DELAY_AFTER_OUTAGE_SECONDS", 1.0)
    leased, new = await queued(store, 2)
    claimed_by(server, "another", limit=1)
    server.execute(EXPIRE)
    replies = Replies(are_endless=True)
    started_at = asyncio.get_running_loop().time()
    async with a_worker(address, store, replies, renewed_at=started_at - reply_queue.OUTAGE.total_seconds()):
        await until(lambda: replies.run_count == 2)
        assert asyncio.get_running_loop().time() - started_at >= 1.0
    assert replies.started == [new, leased]


async def test_a_claim_that_a_silent_server_carries_out_later_takes_over_nothing(
    store: Store, server: PostgresConnection, address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then every lease has expired, because no worker could renew its own."""
    [leased] = await queued(store, 1)
    claimed_by(server, "another")
    server.execute(EXPIRE)
    replies = Replies()
    queue = ReplyQueue(address, replies, providers=KREA, database_problem=store.problem)
    await queue.open()
    await queue._renew()
    [(server_time,)] = rows(address, "SELECT now()")
    assert queue._takes_over_until is not None
    assert queue._takes_over_until < server_time + reply_queue.OUTAGE
    monkeypatch.setattr(queue, "_takes_over_until", server_time)
    await queue._claim()
    assert rows(address, OWNERS) == [(leased, "another")]
    monkeypatch.setattr(queue, "_takes_over_until", server_time + timedelta(hours=1))
    await queue._claim()
    assert rows(address, OWNERS) == [(leased, queue.name)]
    await until(lambda: replies.started == [leased])
    await queue.close()


# -- an older version, which had the queue of the library pgqueuer ----------------------------------------
# The statements are those of the library, shortened to what the bot used of them.

OLD_ENQUEUE = """
INSERT INTO pgqueuer (priority, entrypoint, payload, dedupe_key, status)
SELECT 0, 'reply', convert_to(key, 'UTF8'), key, 'queued' FROM unnest(CAST(? AS TEXT[])) AS key
ON CONFLICT (dedupe_key) WHERE status IN ('queued', 'picked') AND dedupe_key IS NOT NULL DO NOTHING
RETURNING dedupe_key
"""
OLD_CLAIM = """
WITH eligible AS (
    SELECT id FROM pgqueuer
    WHERE status = 'queued' OR (status = 'picked' AND heartbeat < now() - INTERVAL '15 seconds')
    FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE pgqueuer SET status = 'picked', updated = now(), heartbeat = now(), queue_manager_id = CAST(? AS UUID)
    WHERE id IN (SELECT id FROM eligible) RETURNING *
)
SELECT dedupe_key FROM claimed ORDER BY id
"""
OLD_HEARTBEAT = "UPDATE pgqueuer SET heartbeat = now() WHERE dedupe_key = ?"
OLD_FINISH = "DELETE FROM pgqueuer WHERE dedupe_key = ?"
OLD_RETURN = """
UPDATE pgqueuer SET status = 'queued', execute_after = now(), attempts = attempts + 1, updated = now(),
    queue_manager_id = NULL WHERE dedupe_key = ?
"""
OLD_WORKER, OTHER_OLD_WORKER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
OLD_DIES = "UPDATE pgqueuer SET heartbeat = now() - INTERVAL '16 seconds' WHERE dedupe_key = ?"


def old_claim(server: PostgresConnection, worker: str = OLD_WORKER) -> list[str]:
    return [row[0] for row in server.execute(OLD_CLAIM, (worker,)).fetchall()]


@pytest.fixture
def before(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[PostgresAddress]:
    """Yield a database of the version before the new queue, which the next store upgrades."""
    address = postgres.empty()
    known = schema.migrations()
    connection = PostgresConnection.open(address)
    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrations", lambda: {number: sql for number, sql in known.items() if number < 22})
        schema.prepare(connection, address)
    connection.close()
    yield address
    postgres.drop(address)


async def test_an_upgrade_takes_over_what_was_queued_and_leaves_what_an_older_worker_runs(
    before: PostgresAddress,
) -> None:
    old = PostgresConnection.open(before)
    old.execute(OLD_ENQUEUE, (["running", "left"],))
    assert old_claim(old) == ["running", "left"]
    old.execute(OLD_DIES, ("left",))
    old.execute(OLD_ENQUEUE, (["waiting"],))
    async with await Store.open(before):
        pass
    assert claimed_by(old, "new") == ["left", "waiting"]
    assert old_claim(old, OTHER_OLD_WORKER) == [], "an older worker gets nothing more"
    old.execute(OLD_HEARTBEAT, ("running",))
    assert claimed_by(old, "new") == []
    old.execute(OLD_FINISH, ("running",))
    old.execute(OLD_FINISH, ("left",))
    assert [tuple(row) for row in old.execute(OWNERS).fetchall()] == [("left", "new"), ("waiting", "new")]
    old.close()


async def test_beside_older_processes_a_reply_is_run_by_one_worker(before: PostgresAddress) -> None:
    old = PostgresConnection.open(before)
    old.execute(OLD_ENQUEUE, (["returned", "of a dead worker"],))
    old_claim(old)
    async with await Store.open(before):
        pass
    # An older gateway accepts an order, and an older worker takes one that a newer worker runs for orphaned.
    assert len(old.execute(OLD_ENQUEUE, (["accepted"],)).fetchall()) == 1
    assert old_claim(old) == []
    assert claimed_by(old, "new") == ["accepted"]
    old.execute(OLD_ENQUEUE, (["accepted", "returned"],))
    assert old_claim(old) == []
    remove(old, "new", ["accepted"])
    old.execute(OLD_ENQUEUE, (["accepted"],))  # to have it shown once more
    assert claimed_by(old, "new") == ["accepted"]
    # An older worker stops, another one dies.
    old.execute(OLD_RETURN, ("returned",))
    assert claimed_by(old, "new") == ["returned"]
    old.execute(EXPIRE)
    renew(old, "new", ["accepted", "returned"], lease=LEASE)
    old.execute(OLD_HEARTBEAT, ("of a dead worker",))
    assert claimed_by(old, "new") == []
    old.execute(EXPIRE)
    renew(old, "new", ["accepted", "returned"], lease=LEASE)
    assert claimed_by(old, "new") == ["of a dead worker"]
    old.execute(OLD_HEARTBEAT, ("of a dead worker",))  # it had only stalled
    old.execute(OLD_FINISH, ("of a dead worker",))
    assert len(old.execute(OWNERS).fetchall()) == 3
    old.close()


async def test_the_commit_of_an_older_gateway_wakes_newer_workers(before: PostgresAddress) -> None:
    old = PostgresConnection.open(before)
    async with await Store.open(before) as store:
        replies = Replies(are_endless=True)
        async with a_worker(before, store, replies) as queue:
            heard = asyncio.Event()

            class Receiver:
                def handle(self, notification: object) -> None:
                    if "QUEUE" in repr(notification):
                        heard.set()

                def catch_up(self) -> None:
                    queue.wake()

            store.cluster.listen(Receiver())
            await until(lambda: rows(before, "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'LISTEN%'") != [])
            old.execute(OLD_ENQUEUE, (["accepted"],))
            async with asyncio.timeout(10):
                await heard.wait()
    old.close()
