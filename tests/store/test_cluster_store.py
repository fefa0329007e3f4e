"""Processes on one database: the notifications between them, and the limits that hold for all of them together."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import time_machine
from discord.utils import time_snowflake

from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.domain.jobs import Failure, FailureReason, JobStatus
from bot.media.blob_store import FileBlobStore
from bot.store.core.connection import Connection
from bot.store.postgres import listener
from bot.store.postgres.blob_store import PostgresBlobStore
from bot.store.postgres.connection import open_async_connection
from bot.store.store import Store
from bot.store.tables.shared.notifications import Notification, Topic
from bot.store.tables.shared.reply_queue_rows import ORPHANED_AFTER
from tests.support.databases import rows
from tests.support.fakes import until
from tests.support.postgres_server import PASSWORD, PostgresServer
from tests.support.store_samples import ADA, NOON, a_command, admitted, limits, running

CHANGE: dict[str, Any] = {"actor_id": 1, "reason": None, "now": NOON}
CLAIMS = """
SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
WHERE locktype = 'advisory' AND objsubid = 1 AND datname = current_database()
"""
QUEUED = "SELECT reply_id FROM reply_queue WHERE worker IS NULL ORDER BY reply_id"


@pytest.fixture
def address(postgres: PostgresServer) -> Iterator[PostgresAddress]:
    address = postgres.fresh()
    yield address
    postgres.drop(address)


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    async with await Store.open(location) as store:
        yield store


class Neighbour:
    """A process's store, and the notifications it received."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.heard: list[Notification] = []
        self.times_back = 0
        store.cluster.listen(self)

    def handle(self, notification: Notification) -> None:
        self.heard.append(notification)

    def catch_up(self) -> None:
        self.times_back += 1

    def has_heard(self, matter: Topic, subject: str) -> bool:
        return any((notice.topic, notice.subject) == (matter, subject) for notice in self.heard)


@pytest.fixture
async def two(address: PostgresAddress) -> AsyncIterator[tuple[Neighbour, Neighbour]]:
    async with AsyncExitStack() as stack:
        first, second = [Neighbour(await stack.enter_async_context(await Store.open(address))) for _ in range(2)]
        await until(lambda: first.times_back and second.times_back)
        yield first, second


# -- settings ---------------------------------------------------------------------------------------------


async def test_settings_changed_anywhere_are_seen_everywhere(two: tuple[Neighbour, Neighbour]) -> None:
    one, other = two
    for word in ("kraken", "squid"):
        assert word not in (await other.store.policy(1)).words
        await one.store.change_policy(1, lambda policy, word=word: policy.with_words([word], True), **CHANGE)

        async def is_seen(word: str = word) -> bool:
            return word in (await other.store.policy(1)).words

        await until(is_seen)


async def test_settings_are_read_once_while_no_process_changes_them(
    two: tuple[Neighbour, Neighbour], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, other = two
    asked = 0
    read = other.store.database.read

    async def counted(work: Callable[[Connection], Any]) -> Any:
        nonlocal asked
        asked += 1
        return await read(work)

    monkeypatch.setattr(other.store.database, "read", counted)
    for _ in range(3):
        await other.store.policy(1)
    assert asked == 1


async def test_nothing_is_cached_while_notifications_cannot_arrive(
    two: tuple[Neighbour, Neighbour], address: PostgresAddress
) -> None:
    one, other = two
    await other.store.policy(1)
    rows(address, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
    await until(lambda: not other.store._policies.remembers)
    await one.store.change_policy(1, lambda policy: policy.with_words(["kraken"], True), **CHANGE)
    assert "kraken" in (await other.store.policy(1)).words
    await until(lambda: other.times_back == 2)
    await one.store.change_policy(1, lambda policy: policy.with_words(["squid"], True), **CHANGE)
    await until(lambda: other.has_heard(Topic.POLICY, "1"))
    assert "squid" in (await other.store.policy(1)).words


# -- the queue --------------------------------------------------------------------------------------------


async def test_a_listener_that_is_cut_off_says_so_once_and_that_it_listens_again(
    postgres: PostgresServer,
    address: PostgresAddress,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts, listening = 0, asyncio.Event()

    async def counted(target: PostgresAddress) -> psycopg.AsyncConnection:
        nonlocal attempts
        attempts += 1
        return await open_async_connection(target)

    monkeypatch.setattr(listener, "_RECONNECT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(listener, "open_async_connection", counted)
    caplog.set_level(logging.INFO, logger="bot.store.postgres.listener")
    with postgres.a_modest_user(address.url.rpartition("/")[2]) as url:
        postgres.execute("ALTER ROLE modest PASSWORD 'rotated'")
        one = listener.Listener(
            PostgresAddress(url),
            "x",
            on_notification=lambda payload: None,
            on_listening=lambda is_listening: listening.set() if is_listening else None,
        )
        await until(lambda: attempts >= 5)
        postgres.execute(f"ALTER ROLE modest PASSWORD '{PASSWORD}'")
        await listening.wait()
        await one.close()
    assert [record.getMessage()[:52] for record in caplog.records] == [
        "not listening for notifications of other processes: ",
        "listening for notifications of other processes again",
    ]


async def test_a_listener_without_a_free_descriptor_tries_again(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts, listening = 0, asyncio.Event()

    async def connect(target: PostgresAddress) -> psycopg.AsyncConnection:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise OSError(errno.EMFILE, "Too many open files")
        return await open_async_connection(target)

    monkeypatch.setattr(listener, "_RECONNECT_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(listener, "open_async_connection", connect)
    one = listener.Listener(
        address,
        "x",
        on_notification=lambda payload: None,
        on_listening=lambda is_listening: listening.set() if is_listening else None,
    )
    async with asyncio.timeout(5):
        await listening.wait()
    await one.close()
    assert caplog.text.count("Too many open files") == 1


async def test_a_reply_is_in_the_queue_once_it_is_accepted_and_only_once(
    two: tuple[Neighbour, Neighbour], address: PostgresAddress
) -> None:
    one, other = two
    reply = a_command()
    await one.store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    assert rows(address, QUEUED) == []
    for process in (one, other):
        await process.store.accept(reply.id, message_id=9, for_others=True)
    await one.store.cluster.enqueue(reply.id)
    assert rows(address, QUEUED) == [(reply.id,)]
    await until(lambda: other.has_heard(Topic.REPLY, reply.id))


async def test_a_reply_that_no_process_runs_is_put_into_the_queue(
    two: tuple[Neighbour, Neighbour], address: PostgresAddress
) -> None:
    """The replies: admitted by a gateway that died; accepted by a process without a queue; ended and never shown."""
    one, _ = two
    never_accepted = a_command()
    await one.store.admit(member=ADA, reply=never_accepted, limits=limits(), now=NOON)
    accepted, not_shown = await admitted(one.store), await admitted(one.store)
    await one.store.fail(not_shown.jobs[0].id, Failure(reason=FailureReason.INTERNAL), now=NOON)
    assert await one.store.cluster.enqueue_orphaned(now=NOON) == 0, "they are new"
    later = NOON + ORPHANED_AFTER + timedelta(seconds=1)
    assert await one.store.cluster.enqueue_orphaned(now=later) == 3
    assert {row[0] for row in rows(address, QUEUED)} == {never_accepted.id, accepted.id, not_shown.id}
    assert await one.store.cluster.enqueue_orphaned(now=later) == 0, "they are in the queue"


# -- providers --------------------------------------------------------------------------------------------


async def test_no_job_is_sent_while_all_slots_are_in_use(store: Store) -> None:
    """Check this on both engines."""
    first, second, third = [await admitted(store) for _ in range(3)]

    async def begin(job_id: str, slots: int | None) -> JobStatus | None:
        job = await store.begin_submission(job_id, now=NOON, deadline_at=NOON, webhook_token=None, slots=slots)
        return None if job is None else job.status

    await running(store, first.jobs[0].id)
    assert await begin(second.jobs[0].id, slots=1) is JobStatus.QUEUED
    assert await begin(second.jobs[0].id, slots=2) is JobStatus.SUBMITTING
    assert await begin(third.jobs[0].id, slots=2) is JobStatus.QUEUED
    await store.mark_uncertain(second.jobs[0].id)
    assert await begin(third.jobs[0].id, slots=2) is JobStatus.SUBMITTING, "a lost order waits without a place"
    assert await begin(third.jobs[0].id, slots=2) is None, "it is on its way already"
    fourth = await admitted(store)
    assert await begin(fourth.jobs[0].id, slots=2) is JobStatus.QUEUED
    assert await store.mark_unfetched(first.jobs[0].id, now=NOON) is not None
    assert await store.mark_unfetched(first.jobs[0].id, now=NOON) is None, "once"
    assert await begin(fourth.jobs[0].id, slots=2) is JobStatus.SUBMITTING, "one that is made has no place"


async def test_of_many_processes_that_send_at_once_no_more_begin_than_there_are_slots(
    two: tuple[Neighbour, Neighbour],
) -> None:
    one, _ = two
    replies = [await admitted(one.store) for _ in range(12)]
    begun = await asyncio.gather(
        *(
            process.store.begin_submission(reply.jobs[0].id, now=NOON, deadline_at=NOON, webhook_token=None, slots=5)
            for process in two
            for reply in replies
        )
    )
    assert sum(job is not None and job.status is JobStatus.SUBMITTING for job in begun) == 5
    assert await one.store.cluster.slots_in_use("krea") == 5


async def test_a_slot_that_becomes_free_is_announced(two: tuple[Neighbour, Neighbour]) -> None:
    one, other = two
    reply = await admitted(one.store)
    await running(one.store, reply.jobs[0].id)
    assert not other.has_heard(Topic.SLOT, "krea")
    await one.store.cancel(reply.jobs[0].id, expected=JobStatus.RUNNING, now=NOON)
    await until(lambda: other.has_heard(Topic.SLOT, "krea"))


async def test_a_closed_provider_is_closed_once_for_all(two: tuple[Neighbour, Neighbour]) -> None:
    one, other = two
    assert await one.store.cluster.open_breaker("krea", "down", now=NOON)
    assert not await other.store.cluster.open_breaker("krea", "down", now=NOON)
    await until(lambda: other.has_heard(Topic.BREAKERS, "krea"))
    assert await other.store.cluster.open_breaker("krea", "denied", now=NOON), "which is worse"
    assert not await one.store.cluster.open_breaker("krea", "down", now=NOON)
    [closing] = await one.store.cluster.open_breakers()
    assert (closing.provider, closing.reason, closing.opened_at) == ("krea", "denied", NOON)
    await other.store.cluster.close_breaker("krea")
    assert await one.store.cluster.open_breakers() == []


async def test_a_call_is_passed_on_under_the_jobs_id_and_only_for_a_path_of_ours(
    two: tuple[Neighbour, Neighbour],
) -> None:
    one, other = two
    job = (await admitted(one.store)).jobs[0]
    await one.store.begin_submission(job.id, now=NOON, deadline_at=NOON, webhook_token="a-secret")
    assert not await one.store.cluster.forward_webhook("another", "remote", now=NOON)
    assert await one.store.cluster.forward_webhook("a-secret", "remote", now=NOON)
    assert await other.store.kept_callbacks(job.id) == ["remote"]
    await until(lambda: other.has_heard(Topic.WEBHOOK, job.id))
    assert [notice.detail for notice in other.heard if notice.topic is Topic.WEBHOOK] == ["remote"]


async def test_turns_of_all_processes_come_one_after_the_other(two: tuple[Neighbour, Neighbour]) -> None:
    pause = timedelta(seconds=5)
    waits = await asyncio.gather(
        *(process.store.cluster.acquire_turn("identify 0", pause=pause) for process in two for _ in range(3))
    )
    assert [round(wait / pause) for wait in sorted(waits)] == [0, 1, 2, 3, 4, 5]
    assert all(abs(wait - round(wait / pause) * pause) < pause / 2 for wait in waits)
    assert await two[0].store.cluster.acquire_turn("identify 1", pause=pause) == timedelta()


async def test_the_claims_of_a_long_handover_leave_room_in_the_lock_table_of_the_server(
    two: tuple[Neighbour, Neighbour], address: PostgresAddress
) -> None:
    one, other = two
    begin_at = datetime(2026, 11, 30, tzinfo=UTC)
    ids = [time_snowflake(begin_at + timedelta(seconds=second)) for second in range(100)]
    for interaction_id in ids:
        assert await one.store.cluster.claim_command(interaction_id)
    assert rows(address, CLAIMS) == [(11,)]
    assert [await other.store.cluster.claim_command(interaction_id) for interaction_id in ids[-11:]] == [False] * 11
    assert await one.store.cluster.claim_command(ids[-1]), "its own claim stays its own"
    assert not await other.store.cluster.claim_command(ids[-1])


async def test_a_process_whose_clock_is_hours_ahead_keeps_no_other_waiting(two: tuple[Neighbour, Neighbour]) -> None:
    pause = timedelta(minutes=1)
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=3)):
        await two[0].store.cluster.acquire_turn("identify 0", pause=pause)
    assert await two[1].store.cluster.acquire_turn("identify 0", pause=pause) <= pause


async def test_what_a_process_wrote_whose_clock_is_behind_is_not_taken_for_old(
    two: tuple[Neighbour, Neighbour], address: PostgresAddress
) -> None:
    """A start forgets the old rows of writers, by which a commit in doubt is looked up."""
    with time_machine.travel(datetime.now(UTC) - timedelta(days=60)):
        await two[0].store.set_value("a", "b")
        async with await Store.open(address):
            assert rows(address, "SELECT count(*) FROM writers") == [(1,)]


# -- images -----------------------------------------------------------------------------------------------


@pytest.fixture
async def images(
    address: PostgresAddress, tmp_path: Path
) -> AsyncIterator[tuple[PostgresBlobStore, PostgresBlobStore]]:
    """Yield the blob stores of two processes."""
    two = [PostgresBlobStore(address, earlier=FileBlobStore(tmp_path / "pictures")) for _ in range(2)]
    yield two[0], two[1]
    for store in two:
        await store.close()


async def test_an_image_put_by_one_process_can_be_got_by_another(
    images: tuple[PostgresBlobStore, PostgresBlobStore],
) -> None:
    one, other = images
    data = os.urandom(500_000)
    sha256 = await one.put(data)
    assert sha256 == hashlib.sha256(data).hexdigest() == await other.put(data)
    assert await one.get(sha256) == await other.get(sha256) == await other.get(sha256) == data
    assert await one.get("0" * 64) is None
    await one.remove(sha256)
    assert await one.get(sha256) is None
    with pytest.raises(ValueError):
        await one.get("../../etc/passwd")


async def test_what_was_kept_in_files_before_can_still_be_had(
    images: tuple[PostgresBlobStore, PostgresBlobStore], tmp_path: Path
) -> None:
    files = FileBlobStore(tmp_path / "pictures")
    sha256 = await files.put(b"from before")
    await files.close()
    assert await images[0].get(sha256) == b"from before"


async def test_a_damaged_image_reads_as_missing(
    images: tuple[PostgresBlobStore, PostgresBlobStore], address: PostgresAddress
) -> None:
    sha256 = await images[0].put(b"a picture")
    rows(address, "UPDATE picture_bytes SET data = 'another' RETURNING 1")
    assert await images[1].get(sha256) is None


async def test_images_of_processes_whose_clocks_differ_by_hours_are_kept(
    images: tuple[PostgresBlobStore, PostgresBlobStore],
) -> None:
    one, other = images
    early, late = datetime.now(UTC) - timedelta(hours=3), datetime.now(UTC) + timedelta(hours=3)
    with time_machine.travel(early):
        first = await one.put(b"a picture")
    assert await other.sweep(()) == 0
    with time_machine.travel(late):
        assert await other.sweep(()) == 0
    assert await other.get(first) == b"a picture"


async def test_images_are_swept_by_use_and_age(
    images: tuple[PostgresBlobStore, PostgresBlobStore], address: PostgresAddress
) -> None:
    one, _ = images
    kept, dropped, renewed = [await one.put(name) for name in (b"kept", b"dropped", b"renewed")]
    hour_ago = (time.time_ns() // 1_000) - 3_700 * 1_000_000
    rows(address, f"UPDATE picture_bytes SET put_at = {hour_ago} RETURNING 1")
    assert await one.put(b"renewed") == renewed
    young = await one.put(b"young")
    assert await one.sweep({kept}) == 1
    assert await one.get(dropped) is None
    assert all([await one.get(name) is not None for name in (kept, renewed, young)])
