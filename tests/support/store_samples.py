"""Plain values for the tests of the store: a command with its jobs, a member, limits, an image."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from bot.domain.jobs import (
    Delivery,
    ImageInput,
    Job,
    JobKind,
    JobRequest,
    JobStatus,
    Reply,
    ReplyAddress,
    ResultImage,
    new_id,
)
from bot.domain.money.quota import Limits, Member, Period, Quota, QuotaSource
from bot.store.sqlite.database import SqliteDatabase
from bot.store.store import Store
from bot.store.tables.money import operator_costs

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ADA = Member(guild_id=1, user_id=7)
A_DOLLAR_A_DAY = Quota(amount_usd_micros=1_000_000, period=Period.DAY, source=QuotaSource.SETTINGS)

_interaction_ids = count(1_000)


def limits(
    *,
    default: Quota = A_DOLLAR_A_DAY,
    operator_usd_micros: int = 10**13,
    server_usd_micros: int = 10**13,
    cost_per_member_usd_micros: int = 10**13,
    cost_cap_usd_micros: int = 10**13,
    max_running_jobs: int = 10_000,
) -> Limits:
    """Return limits of which none binds but the member's quota."""
    return Limits(
        default_quota=default,
        operator_daily_cap_usd_micros=operator_usd_micros,
        operator_server_cap_usd_micros=server_usd_micros,
        operator_cost_per_member_usd_micros=cost_per_member_usd_micros,
        operator_cost_daily_cap_usd_micros=cost_cap_usd_micros,
        max_running_jobs=max_running_jobs,
    )


def a_command(
    *amounts_usd_micros: int,
    member: Member = ADA,
    now: datetime = NOON,
    interaction_id: int | None = None,
    model_id: str = "krea/google/nano-banana-2",
    images: tuple[ImageInput, ...] = (),
) -> Reply:
    """Return a command of one job at $0.08, or of one job per amount."""
    reply_id = new_id()
    jobs = tuple(
        Job(
            id=new_id(),
            reply_id=reply_id,
            ordinal=ordinal,
            request=JobRequest(
                kind=JobKind.EDIT if images else JobKind.IMAGINE,
                guild_id=member.guild_id,
                user_id=member.user_id,
                model_id=model_id,
                prompt="a lighthouse, „bei Nacht“ 🌊",
                options={"resolution": "1K", "creativity": 0.5, "seed": 3},
                images=images,
            ),
            provider="krea",
            path="/generate/image/google/nano-banana-2",
            body={"prompt": "a lighthouse", "image_urls": [{"$picture": 0}]},
            seed=3,
            reserved_usd_micros=amount,
            status=JobStatus.QUEUED,
            created_at=now,
        )
        for ordinal, amount in enumerate(amounts_usd_micros or (80_000,))
    )
    return Reply(
        id=reply_id,
        user_id=member.user_id,
        role_ids=member.role_ids,
        address=ReplyAddress(
            application_id=5,
            interaction_id=next(_interaction_ids) if interaction_id is None else interaction_id,
            token="a-token",
            token_expires_at=now + timedelta(minutes=15),
            guild_id=member.guild_id,
            channel_id=6,
            message_id=None,
            private=False,
            file_limit_bytes=10_485_760,
            locale="pt-BR",
            language="pt",
        ),
        created_at=now,
        accepted=False,
        delivery=Delivery.PENDING,
        jobs=jobs,
    )


def file_of(store: Store) -> SqliteDatabase:
    """Return the SQLite database of a store."""
    assert isinstance(store.database, SqliteDatabase)
    return store.database


def an_image(sha256: str = "ab" * 32) -> ResultImage:
    return ResultImage(
        sha256=sha256,
        content_type="image/png",
        width=64,
        height=48,
        size_bytes=1_234,
        source_url="http://127.0.0.1/result.png",
    )


async def admitted(store: Store, *amounts_usd_micros: int, member: Member = ADA, now: datetime = NOON) -> Reply:
    """Admit a command and mark its reply as shown by Discord."""
    reply = a_command(*amounts_usd_micros, member=member, now=now)
    await store.admit(member=member, reply=reply, limits=limits(), now=now)
    await store.accept(reply.id, message_id=99)
    return reply


async def running(store: Store, job_id: str, *, now: datetime = NOON) -> None:
    """Move a queued job to the state in which the provider runs it."""
    begun = await store.begin_submission(job_id, now=now, deadline_at=now + timedelta(minutes=10), webhook_token=None)
    assert begun is not None
    assert await store.mark_running(job_id, remote_id=f"remote of {job_id}") is not None


async def finished(store: Store, job_id: str, *, charged_usd_micros: int = 80_000, now: datetime = NOON) -> Job:
    """Move a queued job to the state in which its image is finished."""
    await running(store, job_id, now=now)
    job = await store.succeed(job_id, charged_usd_micros=charged_usd_micros, images=[an_image()], now=now)
    assert job is not None
    return job


async def everything_kept(store: Store, user_id: int) -> dict[str, list[dict[str, Any]]]:
    """Return the whole export of a member, as its file has it."""
    kept: dict[str, list[dict[str, Any]]] = {}
    async for name, items in store.kept_about(user_id):
        kept.setdefault(name, []).extend(items)
    return kept


async def operator_cost(store: Store, *, since: datetime | None = None) -> int:
    """Return what the operator paid since then, or in all."""
    lines = await store.database.read(operator_costs.operator_cost_lines)
    return sum(line.amount_usd_micros for line in lines if since is None or line.at >= since)
