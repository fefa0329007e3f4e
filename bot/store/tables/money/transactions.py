"""Jobs and money in one transaction: changes of both together, or of neither, and all limits at one moment.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from bot.domain.errors import LedgerError, MemberBlocked
from bot.domain.jobs import Failure, FailureReason, Job, JobStatus, Reply, ResultImage
from bot.domain.money.quota import Limits, Member
from bot.domain.money.spendable import Spendable
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables import audit_log, jobs
from bot.store.tables.members import reviews
from bot.store.tables.money import balances, ledger
from bot.store.tables.money.limits import terms_for
from bot.store.tables.money.spendable import spendable
from bot.store.tables.shared import reply_queue_rows
from bot.store.tables.shared.notifications import Topic, notify, notify_slot_free


def admit(connection: Connection, *, member: Member, reply: Reply, limits: Limits, now: datetime) -> Spendable:
    """Reserve every job of `reply` and insert reply, jobs, reservations and ledger entries: all or nothing.

    One guarded INSERT … SELECT per job holds the amount against the member's quota, the caps of the channel, of its
    category and of the server, the operator's caps for the server and for all servers (UTC day), the number of running
    jobs (the member, over all servers, must have fewer than `limits.max_running_jobs` unfinished jobs before this
    command), and what uncharged jobs of the member and of all members may cost the operator. Returns what the
    member may spend after the reservation.

    Raises DuplicateCommand (same interaction id), and what `check_admission` raises, and StoreError.
    """
    _require_one_owner(member, reply)
    terms = terms_for(connection, member, default=limits.default_quota_of(member.guild_id))
    if terms.blocked:
        raise MemberBlocked
    jobs.insert_reply(connection, reply)
    orders = [ledger.Hold(job_id=job.id, amount_usd_micros=job.reserved_usd_micros) for job in reply.jobs]
    return ledger.reserve(connection, orders, reply_id=reply.id, member=member, terms=terms, limits=limits, now=now)


def check_admission(
    connection: Connection, *, member: Member, amounts_usd_micros: Sequence[int], limits: Limits, now: datetime
) -> None:
    """Raise what `admit` would raise now for a command of `member` with jobs at these amounts. Writes nothing.

    Raises MemberBlocked, ServerBusy, MemberCostReached, OperatorCostCapReached, TooManyRunning, TooMuchAtRisk,
    QuotaExceeded, ChannelCapReached, ServerCapReached, OperatorServerCapReached, OperatorCapReached.
    """
    terms = terms_for(connection, member, default=limits.default_quota_of(member.guild_id))
    if terms.blocked:
        raise MemberBlocked
    ledger.check_reservation(connection, amounts_usd_micros, member=member, terms=terms, limits=limits, now=now)


def _require_one_owner(member: Member, reply: Reply) -> None:
    owners = {(job.request.guild_id, job.request.user_id) for job in reply.jobs}
    owners.add((reply.address.guild_id, reply.user_id))
    if owners != {(member.guild_id, member.user_id)}:
        raise LedgerError(f"reply {reply.id} is not the one of the member who pays")


def accept(connection: Connection, reply_id: str, *, message_id: int | None, for_others: bool = False) -> None:
    """Record that Discord has shown the reply: from now on its jobs may be submitted.

    `for_others` enqueues it for a worker in the same transaction. Raises StoreError when there is no such reply.
    """
    jobs.accept(connection, reply_id, message_id=message_id)
    if for_others:
        reply_queue_rows.enqueue(connection, [reply_id])


def enqueue(connection: Connection, reply_id: str) -> None:
    """Wake the process that runs this reply, or enqueue the reply for a worker when none does."""
    reply_queue_rows.enqueue(connection, [reply_id])
    notify(connection, Topic.REPLY, reply_id)


def succeed(
    connection: Connection,
    job_id: str,
    *,
    charged_usd_micros: int,
    images: Sequence[ResultImage],
    now: datetime,
    operator_cost_usd_micros: int = 0,
    took_seconds: float | None = None,
    lost_images: int = 0,
) -> Job | None:
    """Move the job from running to succeeded, store its images, settle `charged_usd_micros` (at most the reservation).

    A charge of 0 releases it. The operator bears `operator_cost_usd_micros`, which the provider charges beyond that.
    `took_seconds` is how long the provider worked on it, as far as that is known. `lost_images` are results that could
    not be fetched.
    """
    changes = {
        "status": JobStatus.SUCCEEDED,
        "charged_usd_micros": charged_usd_micros,
        "took_micros": _took_micros(took_seconds),
        "finished_at": to_micros(now),
        "lost_images": lost_images,
    }
    job = jobs.move(connection, job_id, [JobStatus.RUNNING], changes)
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
    now: datetime,
    operator_cost_usd_micros: int = 0,
    expected: Collection[JobStatus] | None = None,
    follow_until: datetime | None = None,
) -> Job | None:
    """Move any unfinished job, or only one in a state of `expected`, to failed, and release the reservation.

    The operator bears `operator_cost_usd_micros`, which the provider may charge all the same. With `follow_until` the
    outcome is not known: the job is followed until then, and what it costs is booked by `deliver_late` or `end_follow`.
    """
    changes = {
        "status": JobStatus.FAILED,
        "failure_reason": failure.reason,
        "failure_hint": failure.hint,
        "finished_at": to_micros(now),
        "follow_until_at": None if follow_until is None else to_micros(follow_until),
    }
    legal = [state for state in jobs.sources_of(JobStatus.FAILED) if expected is None or state in expected]
    job = jobs.move(connection, job_id, legal, changes)
    if job is None:
        return None
    ledger.release(connection, job_id, operator_cost_usd_micros=operator_cost_usd_micros, now=now)
    return notify_slot_free(connection, job)


def deliver_late(
    connection: Connection,
    job_id: str,
    *,
    operator_cost_usd_micros: int,
    images: Sequence[ResultImage],
    now: datetime,
    took_seconds: float | None = None,
    lost_images: int = 0,
) -> Job | None:
    """Move a job that is followed from failed to succeeded, free for its member, and have its reply shown again.

    The operator bears `operator_cost_usd_micros`.
    """
    changes = {
        "status": JobStatus.SUCCEEDED,
        "failure_reason": None,
        "failure_hint": "",
        "charged_usd_micros": 0,
        "took_micros": _took_micros(took_seconds),
        "finished_at": to_micros(now),
        "late_at": to_micros(now),
        "lost_images": lost_images,
    }
    job = jobs.move_followed(connection, job_id, changes)
    if job is None:
        return None
    ledger.book_late_cost(connection, job_id, operator_cost_usd_micros, now=now)
    jobs.insert_images(connection, job_id, images)
    jobs.show_again(connection, job.reply_id)
    reviews.ask_again(connection, job.reply_id, now=now)
    return replace(job, images=tuple(images))


def end_follow(connection: Connection, job_id: str, *, operator_cost_usd_micros: int, now: datetime) -> Job | None:
    """Follow a failed job no longer: no image comes. The operator bears what the provider charges or may charge."""
    job = jobs.move_followed(connection, job_id, {})
    if job is not None:
        ledger.book_late_cost(connection, job_id, operator_cost_usd_micros, now=now)
    return job


def lose_images(connection: Connection, job_id: str, *, now: datetime) -> Job | None:
    """Move a job whose images are lost from succeeded to failed, and give its charge back; the operator bears it.

    None when its reply was shown meanwhile, or the job is not succeeded any more.
    """
    before = jobs.job(connection, job_id)
    changes = {
        "status": JobStatus.FAILED,
        "failure_reason": FailureReason.IMAGE_LOST,
        "charged_usd_micros": None,
        "late_at": None,
        "lost_images": 0,
    }
    lost = jobs.move_unseen(connection, job_id, changes)
    if before is None or lost is None:
        return None
    jobs.forget_images(connection, job_id)
    if before.charged_usd_micros:
        ledger.refund(connection, job_id, now=now)
    return lost


def _took_micros(took_seconds: float | None) -> int | None:
    return None if took_seconds is None else max(1, round(took_seconds * 1_000_000))


def ask_to_cancel(
    connection: Connection, reply_id: str, *, actor_id: int, reason: str | None, now: datetime
) -> Reply | None:
    """Store on the reply why a moderator wants it cancelled, and record that; None when all of it has ended."""
    reply = jobs.reply(connection, reply_id)
    if reply is None or reply.is_final:
        return None
    change = audit_log.Change(actor_id=actor_id, reason=reason, now=now)
    jobs.set_cancel_reason(connection, reply_id, reason)
    audit_log.record_about_order(connection, reply, "cancel", change)
    return jobs.reply(connection, reply_id)


def cancel(connection: Connection, job_id: str, *, expected: JobStatus, now: datetime) -> Job | None:
    """Move the job from `expected` (queued or running) to cancelled and release the reservation; None when it is in
    another state by now."""
    changes = {"status": JobStatus.CANCELLED, "finished_at": to_micros(now)}
    job = jobs.move(connection, job_id, [expected], changes)
    if job is None:
        return None
    ledger.release(connection, job_id, operator_cost_usd_micros=0, now=now)
    if expected is JobStatus.QUEUED:
        notify(connection, Topic.REPLY, job.reply_id)
    return notify_slot_free(connection, job)


def reply_and_spendable(
    connection: Connection, reply_id: str, *, limits: Limits, now: datetime
) -> tuple[Reply, Spendable] | None:
    """Return a reply and what the member who ordered it may spend, both of the same moment."""
    reply = jobs.reply(connection, reply_id)
    if reply is None:
        return None
    member = Member(
        guild_id=reply.address.guild_id,
        user_id=reply.user_id,
        role_ids=reply.role_ids,
        place=balances.place_of_job(connection, reply.jobs[0].id),
    )
    return reply, spendable(connection, member, limits=limits, now=now)
