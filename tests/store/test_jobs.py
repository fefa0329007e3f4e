"""Replies and jobs in the store: rows are read back as inserted, and only legal transitions happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bot.domain.audit import Amount, Limit, Name, Standing, as_limit
from bot.domain.deployment.database_url import Location
from bot.domain.errors import StoreError
from bot.domain.jobs import (
    LEGAL_MOVES,
    Delivery,
    Failure,
    FailureReason,
    ImageInput,
    ImageRole,
    Job,
    JobStatus,
    Reply,
)
from bot.domain.money.quota import LimitSubject, Member, Period, Quota
from bot.store.admin.verify import verify_location
from bot.store.sqlite import schema
from bot.store.sqlite.connection import connect
from bot.store.store import Store
from bot.store.tables import job_lists
from bot.store.tables.members.privacy import RETENTION
from tests.support.retries import one_attempt
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    a_command,
    admitted,
    an_image,
    finished,
    limits,
    running,
)

FAILURE = Failure(reason=FailureReason.MODERATED, hint="try other words")
SOURCE = ImageInput(
    sha256="cd" * 32,
    role=ImageRole.SOURCE,
    content_type="image/webp",
    width=10,
    height=20,
)
REFERENCE = replace(SOURCE, sha256="ef" * 32, role=ImageRole.REFERENCE)


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def the_job(store: Store, job_id: str) -> Job:
    job = await store.job(job_id)
    assert job is not None
    return job


async def test_an_admitted_command_is_read_back_as_it_was(store: Store) -> None:
    member = Member(guild_id=1, user_id=7, role_ids=(3, 9))
    reply = a_command(80_000, 70_000, member=member, images=(SOURCE, REFERENCE))
    await store.admit(member=member, reply=reply, limits=limits(), now=NOON)
    assert await store.reply(reply.id) == reply
    assert await store.reply_of_job(reply.jobs[1].id) == reply
    assert await store.unfinished() == [reply]


async def test_what_is_not_there_is_none_or_a_store_error(store: Store) -> None:
    assert await store.reply("x") is None
    assert await store.reply_of_job("x") is None
    assert await store.job("x") is None
    assert await store.cancel("x", expected=JobStatus.QUEUED, now=NOON) is None
    with pytest.raises(StoreError):
        await one_attempt(store).accept("x", message_id=1)
    with pytest.raises(StoreError):
        await one_attempt(store).set_delivery("x", Delivery.DELIVERED)


async def test_nothing_is_submitted_before_discord_accepted_the_reply(store: Store) -> None:
    reply = a_command()
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    job_id, deadline = reply.jobs[0].id, NOON + timedelta(minutes=5)
    with pytest.raises(StoreError, match="not recorded yet that Discord shows"):
        await one_attempt(store).begin_submission(job_id, now=NOON, deadline_at=deadline, webhook_token="w")
    await store.accept(reply.id, message_id=77)
    job = await store.begin_submission(job_id, now=NOON, deadline_at=deadline, webhook_token="w")
    assert job is not None
    assert (job.status, job.submitted_at, job.deadline_at, job.webhook_token) == (
        JobStatus.SUBMITTING,
        NOON,
        deadline,
        "w",
    )
    shown = await store.reply(reply.id)
    assert shown is not None
    assert shown.address.message_id == 77


async def test_an_order_the_provider_never_accepted_goes_back_to_the_queue_as_new(store: Store) -> None:
    reply = await admitted(store)
    job_id = reply.jobs[0].id
    await store.begin_submission(job_id, now=NOON, deadline_at=NOON, webhook_token="w")
    job = await store.requeue(job_id)
    assert job == reply.jobs[0]


async def test_a_finished_job_shows_its_image_its_charge_and_its_time(store: Store) -> None:
    reply = await admitted(store)
    later = NOON + timedelta(seconds=30, microseconds=1)
    job = await finished(store, reply.jobs[0].id, charged_usd_micros=70_000, now=later)
    assert job == await the_job(store, job.id)
    assert (job.finished_at, job.charged_usd_micros, job.images) == (later, 70_000, (an_image(),))
    await store.set_delivery(
        reply.id, Delivery.DELIVERED, attachment_ids={an_image().sha256: 5}, message_id=8, channel_id=9
    )
    shown = await store.reply(reply.id)
    assert shown is not None
    assert shown.jobs[0].images[0].attachment_id == 5
    assert (shown.delivery, shown.address.message_id, shown.address.channel_id) == (Delivery.DELIVERED, 8, 9)


async def test_a_failed_job_says_why(store: Store) -> None:
    reply = await admitted(store)
    job = await store.fail(reply.jobs[0].id, FAILURE, now=NOON)
    assert job is not None
    assert (job.status, job.failure, job.finished_at) == (JobStatus.FAILED, FAILURE, NOON)


MOVES: dict[JobStatus, Callable[[Store, str], Awaitable[Job | None]]] = {
    JobStatus.QUEUED: lambda store, job_id: store.requeue(job_id),
    JobStatus.SUBMITTING: lambda store, job_id: store.begin_submission(
        job_id, now=NOON, deadline_at=NOON, webhook_token=None
    ),
    JobStatus.RUNNING: lambda store, job_id: store.mark_running(job_id, remote_id=f"r{job_id}"),
    JobStatus.UNCERTAIN: lambda store, job_id: store.mark_uncertain(job_id),
    JobStatus.SUCCEEDED: lambda store, job_id: store.succeed(
        job_id, charged_usd_micros=80_000, images=[an_image()], now=NOON
    ),
    JobStatus.FAILED: lambda store, job_id: store.fail(job_id, FAILURE, now=NOON),
}
PATHS = {
    JobStatus.QUEUED: [],
    JobStatus.SUBMITTING: [JobStatus.SUBMITTING],
    JobStatus.RUNNING: [JobStatus.SUBMITTING, JobStatus.RUNNING],
    JobStatus.UNCERTAIN: [JobStatus.SUBMITTING, JobStatus.UNCERTAIN],
    JobStatus.SUCCEEDED: [JobStatus.SUBMITTING, JobStatus.RUNNING, JobStatus.SUCCEEDED],
    JobStatus.FAILED: [JobStatus.FAILED],
    JobStatus.CANCELLED: [],
}


async def job_in(store: Store, status: JobStatus) -> str:
    job_id = (await admitted(store, member=Member(guild_id=1, user_id=100 + list(JobStatus).index(status)))).jobs[0].id
    for step in PATHS[status]:
        assert await MOVES[step](store, job_id) is not None
    if status is JobStatus.CANCELLED:
        await store.cancel(job_id, expected=JobStatus.QUEUED, now=NOON)
    return job_id


@pytest.mark.f27
@pytest.mark.parametrize("start", JobStatus)
async def test_a_move_happens_exactly_where_it_is_legal(store: Store, start: JobStatus) -> None:
    for target, move in MOVES.items():
        job_id = await job_in(store, start)
        moved = await move(store, job_id)
        legal = target in LEGAL_MOVES[start] and start is not JobStatus.FAILED  # that one moves only while followed
        assert (moved is not None) == legal, (start, target)
        assert (await the_job(store, job_id)).status is (target if moved else start)
    for expected in (JobStatus.QUEUED, JobStatus.RUNNING):
        job_id = await job_in(store, start)
        moved = await store.cancel(job_id, expected=expected, now=NOON)
        assert (moved is not None) == (start is expected)


@pytest.mark.f27
async def test_a_failed_job_succeeds_once_and_only_while_it_is_followed(store: Store) -> None:
    late: dict[str, Any] = {"operator_cost_usd_micros": 70_000, "images": [an_image()], "now": NOON}
    for start in JobStatus:
        assert await store.deliver_late(await job_in(store, start), **late) is None, start
    job_id = await job_in(store, JobStatus.UNCERTAIN)
    until = NOON + timedelta(hours=2)
    await store.fail(job_id, FAILURE, now=NOON, follow_until=until)
    assert await store.mark_found(job_id, remote_id="theirs", follow_until=until) is not None
    moved = await store.deliver_late(job_id, **late)
    assert moved is not None
    assert (moved.status, moved.charged_usd_micros) == (JobStatus.SUCCEEDED, 0)
    assert await store.deliver_late(job_id, **late) is None


def test_the_schema_allows_the_legal_moves_and_no_others() -> None:
    connection = connect(":memory:")
    schema.migrate(connection)
    sql = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'jobs_move_legally'").fetchone()[0]
    connection.close()
    in_schema = {word for word in sql.split("'") if " to " in word and len(word.split()) == 3}
    legal = {f"{source} to {target}" for source, targets in LEGAL_MOVES.items() for target in targets}
    assert in_schema == legal - {"failed to succeeded"}
    assert "OLD.follow_until_at IS NOT NULL AND NEW.late_at IS NOT NULL" in sql, "for a failed job that is followed"
    assert "OLD.status = 'succeeded' AND NEW.status = 'failed' AND NEW.failure_reason = 'image_lost'" in sql


@pytest.mark.f07
async def test_of_many_bringing_the_same_news_exactly_one_is_first(store: Store) -> None:
    reply = await admitted(store)
    job_id = reply.jobs[0].id
    await running(store, job_id)
    answers = await asyncio.gather(
        *(MOVES[JobStatus.SUCCEEDED](store, job_id) for _ in range(5)),
        *(MOVES[JobStatus.FAILED](store, job_id) for _ in range(5)),
        *(store.cancel(job_id, expected=JobStatus.RUNNING, now=NOON) for _ in range(5)),
    )
    assert sum(answer is not None for answer in answers) == 1
    balance = await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)
    assert (balance.spent_usd_micros, balance.set_aside_usd_micros) == (80_000, 0)


async def test_a_remote_job_belongs_to_one_job(store: Store) -> None:
    first, second = (await admitted(store, 1, 1)).jobs
    for job in (first, second):
        await store.begin_submission(job.id, now=NOON, deadline_at=NOON, webhook_token=None)
    await store.mark_running(first.id, remote_id="r1")
    with pytest.raises(StoreError):
        await store.mark_running(second.id, remote_id="r1")
    assert await store.known_remote_ids("krea", ["r1", "r2"]) == {"r1"}
    assert await store.known_remote_ids("pixazo", ["r1"]) == set()


async def test_unfinished_are_those_with_work_left_or_never_shown_oldest_first(store: Store) -> None:
    async def at(minute: int) -> Reply:
        return await admitted(store, 1, now=NOON + timedelta(minutes=minute))

    late, early, done, shown, impossible = [await at(minute) for minute in (9, 1, 5, 2, 3)]
    for reply in (done, shown, impossible):
        await finished(store, reply.jobs[0].id, charged_usd_micros=1)
    await store.set_delivery(shown.id, Delivery.DELIVERED)
    await store.set_delivery(impossible.id, Delivery.IMPOSSIBLE)
    assert [reply.id for reply in await store.unfinished()] == [early.id, done.id, late.id]


async def test_recent_jobs_of_a_member_come_newest_first(store: Store) -> None:
    ids = [(await admitted(store, 1, now=NOON + timedelta(minutes=minute))).jobs[0].id for minute in range(3)]
    await admitted(store, 1, member=Member(guild_id=1, user_id=8))
    await admitted(store, 1, member=Member(guild_id=2, user_id=7))
    await finished(store, ids[1], charged_usd_micros=1)

    async def found(limit: int = 9, before: datetime | None = None) -> list[str]:
        return [job.id for job in await store.recent_jobs(guild_id=1, user_id=7, limit=limit, before=before)]

    assert await found() == ids[::-1]
    assert await found(limit=2) == [ids[2], ids[1]]
    assert await found(before=NOON + timedelta(minutes=1)) == [ids[0]]


async def test_durations_of_the_last_jobs_of_each_model_oldest_first(store: Store) -> None:
    for seconds in (10.0, None, 20.5, 30.0):
        job_id = (await admitted(store, 1)).jobs[0].id
        await running(store, job_id)
        await store.succeed(job_id, charged_usd_micros=1, images=[an_image()], took_seconds=seconds, now=NOON)
    model = "krea/google/nano-banana-2"
    assert await store.recent_durations(2) == [(model, 20.5), (model, 30.0)]


async def test_a_start_does_not_search_all_jobs_there_ever_were_for_durations(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_lists, "DURATIONS_LOOKED_AT", 2)
    for seconds in (10.0, 20.5, None):
        job_id = (await admitted(store, 1)).jobs[0].id
        await running(store, job_id)
        await store.succeed(job_id, charged_usd_micros=1, images=[an_image()], took_seconds=seconds, now=NOON)
    assert await store.recent_durations(25) == [("krea/google/nano-banana-2", 20.5)]


async def test_images_are_kept_while_they_may_be_needed(store: Store) -> None:
    reply = a_command(1, images=(SOURCE,))
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    await store.accept(reply.id, message_id=1)
    much_later = NOON + RETENTION + timedelta(seconds=1)
    assert await store.sha256_in_use(now=much_later) == {SOURCE.sha256}
    await finished(store, reply.jobs[0].id, charged_usd_micros=1)
    assert await store.sha256_in_use(now=much_later) == {an_image().sha256}
    await store.set_delivery(reply.id, Delivery.IMPOSSIBLE)
    assert await store.sha256_in_use(now=much_later) == set()
    assert await store.sha256_in_use(now=NOON + RETENTION) == {SOURCE.sha256, an_image().sha256}
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    assert await store.sha256_in_use(now=NOON) == {SOURCE.sha256}


async def test_an_uploaded_image_has_an_address_per_provider(store: Store) -> None:
    assert await store.uploaded_url("krea", "ab") is None
    for url in ("http://127.0.0.1/1", "http://127.0.0.1/2"):
        await store.remember_upload("krea", "ab", url, now=NOON)
    assert await store.uploaded_url("krea", "ab") == "http://127.0.0.1/2"
    assert await store.uploaded_url("pixazo", "ab") is None


async def test_small_facts_are_remembered(store: Store) -> None:
    assert await store.get_value("commands") is None
    await store.set_value("commands", "a")
    await store.set_value("commands", "b")
    assert await store.get_value("commands") == "b"
    assert await store.problem() is None
    await store.close()
    assert await store.problem() == "The database is closed."


# -- what moderators do ------------------------------------------------------------------------------------


@pytest.mark.f13
async def test_every_change_of_a_limit_is_recorded(store: Store) -> None:
    async def set_limit(subject: LimitSubject, subject_id: int | None, quota: Quota | None) -> Quota | None:
        return await store.set_limit(1, subject, subject_id, quota, actor_id=99, reason="because", now=NOON)

    five = Quota(amount_usd_micros=5_000_000, period=Period.DAY)
    assert await set_limit(LimitSubject.MEMBER, 7, five) is None
    old = await set_limit(LimitSubject.MEMBER, 7, Quota(amount_usd_micros=None, period=Period.WEEK))
    assert old is not None
    assert old.amount_usd_micros == 5_000_000
    await set_limit(LimitSubject.MEMBER, 7, None)
    await set_limit(LimitSubject.SERVER, None, Quota(amount_usd_micros=0, period=Period.MONTH))
    entries = await store.audit(1)
    assert [(e.action, e.subject, e.subject_id, e.old_value, e.new_value) for e in entries] == [
        ("set", "server", None, Standing.NOT_SET, Limit(amount_usd_micros=0, period=Period.MONTH)),
        ("clear", "member", 7, Limit(amount_usd_micros=None, period=Period.WEEK), Standing.NOT_SET),
        ("set", "member", 7, as_limit(five), Limit(amount_usd_micros=None, period=Period.WEEK)),
        ("set", "member", 7, Standing.NOT_SET, as_limit(five)),
    ]
    assert {(e.guild_id, e.actor_id, e.reason, e.created_at) for e in entries} == {(1, 99, "because", NOON)}
    assert await store.limit(1, LimitSubject.MEMBER, 7) is None
    [(subject, subject_id, quota)] = await store.limits_of(1)
    assert (subject, subject_id, quota.amount_usd_micros) == (LimitSubject.SERVER, None, 0)
    assert await store.limits_of(2) == []


@pytest.mark.f13
async def test_grants_resets_blocks_and_time_zones_are_recorded_too(store: Store) -> None:
    reply = await admitted(store)
    await finished(store, reply.jobs[0].id)
    await store.grant(ADA, 2_000_000, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    assert [
        await store.set_blocked(1, 7, blocked, actor_id=99, reason=None, now=NOON)
        for blocked in (False, True, True, False)
    ] == [False, True, False, True]
    assert not await store.is_blocked(1, 7)
    await store.set_time_zone(1, ZoneInfo("Asia/Kathmandu"), actor_id=99, reason=None, now=NOON)
    assert [(e.action, e.old_value, e.new_value) for e in await store.audit(1)] == [
        ("time_zone", Name(name="UTC"), Name(name="Asia/Kathmandu")),
        ("unblock", Standing.BLOCKED, Standing.NOT_BLOCKED),
        ("block", Standing.NOT_BLOCKED, Standing.BLOCKED),
        ("reset", Amount(amount_usd_micros=80_000), Amount(amount_usd_micros=0)),
        ("grant", None, Amount(amount_usd_micros=2_000_000)),
    ]


async def test_the_record_is_read_a_page_at_a_time_and_by_member(store: Store) -> None:
    for user_id in (7, 8, 7, 7):
        member = Member(guild_id=1, user_id=user_id)
        await store.grant(member, user_id, default=A_DOLLAR_A_DAY, actor_id=99, reason=None, now=NOON)
    first = await store.audit(1, user_id=7, limit=2)
    rest = await store.audit(1, user_id=7, limit=2, before_id=first[-1].id)
    assert [len(first), len(rest)] == [2, 1]
    assert [e.id for e in first + rest] == sorted((e.id for e in first + rest), reverse=True)
    assert len(await store.audit(1, limit=2)) == 2
    assert await store.audit(2) == []


async def test_times_are_exact_to_the_microsecond(store: Store) -> None:
    moment = datetime(2026, 11, 21, 12, 0, 0, 123_457, tzinfo=UTC)
    reply = await admitted(store, now=moment)
    stored = await store.reply(reply.id)
    assert stored is not None
    assert stored.created_at == moment
