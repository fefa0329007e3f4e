"""Transactions: those that change a job and its money together, or neither. Synchronous, on the writing connection."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from bot.domain.audit import Name
from bot.domain.errors import LedgerError, MemberBlocked, StoreError
from bot.domain.jobs import Failure, Job, JobStatus, Reply, ResultImage
from bot.domain.quota import Balance, Limits, LimitSubject, Member
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables import audit_log, jobs, ledger, limits, reply_queue_rows
from bot.store.tables.notifications import Topic, notify, notify_slot_free


def admit(connection: Connection, *, member: Member, reply: Reply, operator_limits: Limits, now: datetime) -> Balance:
    """Insert the reply with its jobs and reserve each of them, or raise and leave no trace."""
    _require_one_owner(member, reply)
    terms = limits.terms_for(connection, member, default=operator_limits.default_quota)
    if terms.blocked:
        raise MemberBlocked
    jobs.insert_reply(connection, reply)
    orders = [ledger.Hold(job_id=job.id, amount_usd_micros=job.reserved_usd_micros) for job in reply.jobs]
    return ledger.reserve(
        connection, orders, reply_id=reply.id, member=member, terms=terms, limits=operator_limits, now=now
    )


def _require_one_owner(member: Member, reply: Reply) -> None:
    owners = {(job.request.guild_id, job.request.user_id) for job in reply.jobs}
    owners.add((reply.address.guild_id, reply.user_id))
    if owners != {(member.guild_id, member.user_id)}:
        raise LedgerError(f"reply {reply.id} is not the one of the member who pays")


def accept(connection: Connection, reply_id: str, *, message_id: int | None, for_others: bool) -> None:
    """Discord has shown the reply; `for_others` when a worker is to follow it, and not this process itself."""
    jobs.accept(connection, reply_id, message_id=message_id)
    if for_others:
        reply_queue_rows.enqueue(connection, [reply_id])


def enqueue(connection: Connection, reply_id: str) -> None:
    """Whoever follows the reply looks at it anew; where nobody does, somebody will."""
    reply_queue_rows.enqueue(connection, [reply_id])
    notify(connection, Topic.REPLY, reply_id)


def move(connection: Connection, job_id: str, changes: dict[str, Any]) -> Job | None:
    """Move the job to `changes["status"]` from wherever that is legal; None when it is not any more."""
    legal = jobs.sources_of(changes["status"])
    return jobs.move(connection, job_id, legal, changes)


def leave_provider(connection: Connection, job_id: str, changes: dict[str, Any]) -> Job | None:
    """The same, for a move that leaves a place to others."""
    return notify_slot_free(connection, move(connection, job_id, changes))


def begin_submission(connection: Connection, job_id: str, changes: dict[str, Any], *, slots: int | None) -> Job | None:
    """queued → submitting, unless all `places` are taken: then the job, still queued. None when it is not any more.

    Nothing is bought before Discord has shown the reply: raises StoreError while that is not written down.
    """
    if begun := jobs.begin(connection, job_id, changes, slots=slots):
        return begun
    job = jobs.job(connection, job_id)
    if job is None or job.status is not JobStatus.QUEUED:
        return None
    if not jobs.is_accepted(connection, job_id):
        raise StoreError(f"nobody has written down yet that Discord shows job {job_id}")
    return job


def succeed(
    connection: Connection,
    job_id: str,
    *,
    charged_usd_micros: int,
    operator_cost_usd_micros: int,
    images: Sequence[ResultImage],
    took_seconds: float | None,
    now: datetime,
) -> Job | None:
    """The outcome, its pictures and the charge."""
    status = JobStatus.SUCCEEDED
    changes = {
        "status": status,
        "charged_usd_micros": charged_usd_micros,
        "took_micros": None if took_seconds is None else max(1, round(took_seconds * 1_000_000)),
        "finished_at": to_micros(now),
    }
    job = jobs.move(connection, job_id, jobs.sources_of(status), changes)
    if job is None:
        return None
    ledger.settle(
        connection,
        job_id,
        charged_usd_micros=charged_usd_micros,
        operator_cost_usd_micros=operator_cost_usd_micros,
        now=now,
    )
    jobs.insert_images(connection, job_id, images)
    return notify_slot_free(connection, replace(job, images=tuple(images)))


def fail(
    connection: Connection,
    job_id: str,
    failure: Failure,
    *,
    operator_cost_usd_micros: int,
    now: datetime,
    expected: Collection[JobStatus] | None = None,
) -> Job | None:
    """The outcome and the release; the house bears what the provider charges all the same."""
    changes = {
        "status": JobStatus.FAILED,
        "failure_reason": failure.reason,
        "failure_hint": failure.hint,
        "finished_at": to_micros(now),
    }
    legal = [state for state in jobs.sources_of(JobStatus.FAILED) if expected is None or state in expected]
    job = jobs.move(connection, job_id, legal, changes)
    if job is None:
        return None
    ledger.release(connection, job_id, operator_cost_usd_micros=operator_cost_usd_micros, now=now)
    return notify_slot_free(connection, job)


def ask_to_cancel(connection: Connection, reply_id: str, change: audit_log.Change) -> Reply | None:
    """Note a moderator's reason on the reply while something of it is under way, and record it."""
    reply = jobs.reply(connection, reply_id)
    if reply is None or reply.is_final:
        return None
    jobs.set_cancel_reason(connection, reply_id, change.reason)
    what = Name(name=", ".join(dict.fromkeys(job.request.model_id for job in reply.jobs)))
    guild_id, user_id = reply.address.guild_id, reply.user_id
    audit_log.record(connection, guild_id, "cancel", LimitSubject.MEMBER, user_id, old=None, new=what, change=change)
    return jobs.reply(connection, reply_id)


def cancel(connection: Connection, job_id: str, *, expected: JobStatus, now: datetime) -> Job | None:
    """The outcome and the release."""
    changes = {"status": JobStatus.CANCELLED, "finished_at": to_micros(now)}
    job = jobs.move(connection, job_id, [expected], changes)
    if job is None:
        return None
    ledger.release(connection, job_id, operator_cost_usd_micros=0, now=now)
    if expected is JobStatus.QUEUED:
        notify(connection, Topic.REPLY, job.reply_id)
    return notify_slot_free(connection, job)
