"""Store: every question to the books and every change of them, one transaction each.

All changes run on the one writer connection (see database.py), so a caller that is cancelled leaves nothing half done:
the transaction it asked for happens whole or not at all. Times are aware UTC, amounts integer micro-dollars.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from bot.domain.audit import AuditEntry
from bot.domain.database_url import Location
from bot.domain.errors import BotError, StoreError
from bot.domain.jobs import Delivery, Failure, GalleryPage, Job, JobStatus, Reply, ResultImage
from bot.domain.policy import Policy, PolicyEdit
from bot.domain.quota import Balance, Cap, Limits, LimitSubject, Member, Quota, SpendReport, Window
from bot.store.cluster_store import ClusterStore
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.database import Database, open_database
from bot.store.tables import audit_log, gallery, guild_settings, jobs, key_value, ledger, privacy, transactions
from bot.store.tables import limits as limits_table
from bot.store.tables.audit_log import Change
from bot.store.tables.guild_settings import PolicyMemory
from bot.store.tables.privacy import BATCH_JOBS, RETENTION, Footprint


class Store:
    """Open with `await Store.open(location)`; close with `await store.close()`, or use it with `async with`."""

    def __init__(self, database: Database, location: Location | None = None) -> None:
        self._database = database
        self._write = database.write
        self._write_soon = database.write_soon
        self._write_along = database.write_along
        self._read = database.read
        self._policies = PolicyMemory(remembers=not database.is_shared)
        self.cluster = ClusterStore(database, self._policies, location)
        """What is asked and told where other processes use the same books."""

    @classmethod
    async def open(cls, location: Location) -> Self:
        """Raises DatabaseBusy, DatabaseUnusable or StoreError; `str()` of each says what to do."""
        return cls(await open_database(location), location)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may use the same books."""
        return self._database.is_shared

    async def close(self) -> None:
        """Finish the transactions that wait, then let go of the database."""
        await self.cluster.close()
        await self._database.close()

    async def lock_exclusively(self) -> None:
        """From now on no other process follows the jobs in these books. Raises DatabaseBusy when one does already."""
        await self._database.lock_exclusively()

    async def lock_shared(self) -> None:
        """From now on no process follows the jobs in these books alone. Raises DatabaseBusy when one does."""
        await self._database.lock_shared()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def backup_to(self, target: Path) -> None:
        """A consistent copy of everything committed so far, made while the work goes on. Replaces `target`."""
        await self._database.backup_to(target)

    # -- admission ------------------------------------------------------------------------------------

    async def admit(self, *, member: Member, reply: Reply, limits: Limits, now: datetime) -> Balance:
        """Reserve every job of `reply` and insert reply, jobs, reservations and ledger entries: all or nothing.

        One guarded INSERT … SELECT per job holds the amount against the member's quota, the server's cap, the
        operator's daily cap (UTC day) and the number of running jobs (the member, over all servers, must have fewer
        than `limits.max_running_jobs` unfinished jobs before this command). Returns the balance after the reservation.

        Raises DuplicateCommand (same interaction id), MemberBlocked, TooManyRunning, QuotaExceeded, ServerCapReached,
        OperatorCapReached, StoreError.
        """
        return await self._write_soon(
            partial(transactions.admit, member=member, reply=reply, operator_limits=limits, now=now)
        )

    async def accept(self, reply_id: str, *, message_id: int | None, for_others: bool = False) -> None:
        """Discord has shown the reply: from now on its jobs may be submitted.

        `for_others` when it is a worker's to follow: that is asked for in the same transaction.
        """
        work = partial(transactions.accept, reply_id=reply_id, message_id=message_id, for_others=for_others)
        await self._write_along(work)

    # -- the life of a job: every method is one conditional update ------------------------------------
    # Each returns the job as it is afterwards, or None when the move was not legal any more (somebody else was first).

    async def begin_submission(
        self,
        job_id: str,
        *,
        now: datetime,
        deadline_at: datetime,
        webhook_token: str | None,
        slots: int | None = None,
    ) -> Job | None:
        """queued → submitting, committed before the order leaves.

        With `places` only while fewer jobs than that are at the provider; else the job, still queued, is returned.
        """
        changes = {
            "status": JobStatus.SUBMITTING,
            "submitted_at": to_micros(now),
            "deadline_at": to_micros(deadline_at),
            "webhook_token": webhook_token,
        }
        work = partial(transactions.begin_submission, job_id=job_id, changes=changes, slots=slots)
        return await self._write(work)

    async def requeue(self, job_id: str) -> Job | None:
        """submitting → queued: the provider never accepted it."""
        changes = {"status": JobStatus.QUEUED, "submitted_at": None, "deadline_at": None, "webhook_token": None}
        return await self._write(partial(transactions.leave_provider, job_id=job_id, changes=changes))

    async def mark_running(self, job_id: str, *, remote_id: str) -> Job | None:
        """submitting | uncertain → running."""
        return await self._move(job_id, {"status": JobStatus.RUNNING, "remote_id": remote_id})

    async def mark_uncertain(self, job_id: str) -> Job | None:
        """submitting → uncertain."""
        changes = {"status": JobStatus.UNCERTAIN}
        return await self._write(partial(transactions.leave_provider, job_id=job_id, changes=changes))

    async def succeed(
        self,
        job_id: str,
        *,
        charged_usd_micros: int,
        images: Sequence[ResultImage],
        now: datetime,
        operator_cost_usd_micros: int = 0,
        took_seconds: float | None = None,
    ) -> Job | None:
        """running → succeeded, and the reservation settled at `charged_usd_micros` (at most what was reserved).

        A charge of 0 releases it. What the provider charges beyond that goes to the house account. `took_seconds` is
        how long the provider worked on it, as far as can be told.
        """
        return await self._write(
            partial(
                transactions.succeed,
                job_id=job_id,
                charged_usd_micros=charged_usd_micros,
                operator_cost_usd_micros=operator_cost_usd_micros,
                images=images,
                took_seconds=took_seconds,
                now=now,
            )
        )

    async def fail(
        self,
        job_id: str,
        failure: Failure,
        *,
        now: datetime,
        operator_cost_usd_micros: int = 0,
        expected: Collection[JobStatus] | None = None,
    ) -> Job | None:
        """any unfinished → failed, the reservation released; what the provider may charge goes to the house account.

        With `expected` only from one of these states.
        """
        return await self._write(
            partial(
                transactions.fail,
                job_id=job_id,
                failure=failure,
                operator_cost_usd_micros=operator_cost_usd_micros,
                now=now,
                expected=expected,
            )
        )

    async def cancel(self, job_id: str, *, expected: JobStatus, now: datetime) -> Job | None:
        """`expected` (queued or running) → cancelled, the reservation released.

        None when it stands elsewhere by now.
        """
        return await self._write(partial(transactions.cancel, job_id=job_id, expected=expected, now=now))

    async def _move(self, job_id: str, changes: dict[str, Any]) -> Job | None:
        return await self._write(partial(transactions.move, job_id=job_id, changes=changes))

    async def ask_to_cancel(self, reply_id: str, *, actor_id: int, reason: str, now: datetime) -> Reply | None:
        """Note on the reply why a moderator wants it cancelled, and record that; None when all of it has ended."""
        change = Change(actor_id=actor_id, reason=reason, now=now)
        return await self._write(partial(transactions.ask_to_cancel, reply_id=reply_id, change=change))

    # -- delivery -----------------------------------------------------------------------------------------

    async def set_delivery(
        self,
        reply_id: str,
        delivery: Delivery,
        *,
        attachment_ids: dict[str, int] | None = None,
        message_id: int | None = None,
        channel_id: int | None = None,
    ) -> bool:
        """The final state was shown (or never can be). `attachment_ids` maps a picture's sha256 to Discord's id.

        `message_id`/`channel_id` replace the address when a new message had to be posted. False when it had been set
        before."""
        return await self._write_along(
            partial(
                jobs.set_delivery,
                reply_id=reply_id,
                delivery=delivery,
                attachment_ids=attachment_ids or {},
                message_id=message_id,
                channel_id=channel_id,
            )
        )

    # -- reading --------------------------------------------------------------------------------------------

    async def job(self, job_id: str) -> Job | None:
        return await self._read(partial(jobs.job, job_id=job_id))

    async def reply(self, reply_id: str) -> Reply | None:
        return await self._read(partial(jobs.reply, reply_id=reply_id))

    async def reply_of_job(self, job_id: str) -> Reply | None:
        return await self._read(partial(jobs.reply_of_job, job_id=job_id))

    async def unfinished(self) -> list[Reply]:
        """Replies with an unfinished job, or whose final state was never shown (delivery pending), oldest first."""
        return await self._read(jobs.unfinished)

    async def known_remote_ids(self, provider: str, remote_ids: Sequence[str]) -> set[str]:
        """Those of `remote_ids` that already belong to a job of ours."""
        return await self._read(partial(jobs.known_remote_ids, provider=provider, remote_ids=remote_ids))

    async def is_another_lost(self, job: Job, *, earliest: datetime, latest: datetime) -> bool:
        """True when another order to the job's provider left in that span and its answer was lost.

        It counts for ever: also when nobody looks for it any more, a remote job may be its.
        """
        return await self._read(partial(jobs.is_another_lost, job=job, earliest=earliest, latest=latest))

    async def is_another_leaving(self, job: Job) -> bool:
        """True while another order to the job's provider is being sent, by whichever process."""
        return await self._read(partial(jobs.is_another_leaving, job=job))

    async def recent_jobs(
        self, *, guild_id: int, user_id: int, limit: int, before: datetime | None = None
    ) -> list[Job]:
        """Of one member in one server, newest first."""
        return await self._read(partial(jobs.recent, guild_id=guild_id, user_id=user_id, limit=limit, before=before))

    async def replies_of_server(
        self, guild_id: int, *, finished: bool, limit: int, before: datetime | None = None
    ) -> list[Reply]:
        """Commands of all members, newest first: those that still have a job under way, or those that have none."""
        work = partial(jobs.replies_of_server, guild_id=guild_id, finished=finished, limit=limit, before=before)
        return await self._read(work)

    async def recent_durations(self, per_model: int) -> list[tuple[str, float]]:
        """Model id and the seconds that the provider took for the last `per_model` jobs of each model, oldest first."""
        return await self._read(partial(jobs.recent_durations, per_model=per_model))

    async def sha256_in_use(self, *, now: datetime | None = None) -> set[str]:
        """Pictures that must stay in the picture store: results not yet delivered, inputs of unfinished jobs, and for
        30 days the inputs of all jobs and the results that could not be shown or were shown privately."""
        kept_since = (now or datetime.now(UTC)) - RETENTION
        return await self._read(partial(jobs.sha256_in_use, kept_since=kept_since))

    async def gallery_page(
        self, guild_id: int, user_id: int, *, model_id: str | None = None, reply_id: str | None = None
    ) -> GalleryPage | None:
        """A member's own pictures, of one model or of all: the page that shows `reply_id`, or the newest."""
        work = partial(gallery.page, guild_id=guild_id, user_id=user_id, model_id=model_id, reply_id=reply_id)
        return await self._read(work)

    # -- uploaded inputs ----------------------------------------------------------------------------------------

    async def uploaded_url(self, provider: str, sha256: str) -> str | None:
        """The address the provider gave for this content before."""
        return await self._read(partial(jobs.uploaded_url, provider=provider, sha256=sha256))

    async def forget_uploads(self, provider: str, hashes: Sequence[str]) -> int:
        """The addresses given for these contents are no good any more. Returns how many were known."""
        return await self._write(partial(jobs.forget_uploads, provider=provider, hashes=hashes))

    async def remember_upload(self, provider: str, sha256: str, url: str, *, now: datetime) -> None:
        await self._write(partial(jobs.remember_upload, provider=provider, sha256=sha256, url=url, now=now))

    # -- quotas -------------------------------------------------------------------------------------------------

    async def balance(self, member: Member, *, default: Quota, now: datetime, previous: bool = False) -> Balance:
        """The member's balance in the current window of their effective quota, or in the one before."""

        return await self._read(partial(_balance, member=member, default=default, now=now, previous=previous))

    async def reply_and_balance(self, reply_id: str, *, default: Quota, now: datetime) -> tuple[Reply, Balance] | None:
        """A reply and the balance of whoever ordered it, of the same moment."""

        def work(connection: Connection) -> tuple[Reply, Balance] | None:
            reply = jobs.reply(connection, reply_id)
            if reply is None:
                return None
            member = Member(guild_id=reply.address.guild_id, user_id=reply.user_id, role_ids=reply.role_ids)
            return reply, _balance(connection, member, default=default, now=now)

        return await self._read(work)

    async def server_cap(self, guild_id: int, *, now: datetime) -> Cap | None:
        """None where the moderators have set no cap."""

        def work(connection: Connection) -> Cap | None:
            cap = limits_table.limit(connection, guild_id, LimitSubject.SERVER, None)
            if cap is None:
                return None
            window = Window.containing(now, cap.period, limits_table.time_zone(connection, guild_id))
            spent, held = ledger.server_sums(connection, guild_id, window)
            return Cap(quota=cap, window=window, spent_usd_micros=spent, set_aside_usd_micros=held)

        return await self._read(work)

    async def operator_cap(self, limits: Limits, *, now: datetime) -> Cap:
        """The operator's cap of today (UTC), and what all servers together have used of it."""
        return await self._read(partial(ledger.operator_cap, limits=limits, now=now))

    async def first_warning(self, *, guild_id: int | None, user_id: int | None, window: Window) -> bool:
        """Note that a member, a server (no user) or the operator (neither) was told that little is left in `window`.

        True the first time, False when they were told before.
        """
        work = partial(ledger.first_warning, guild_id=guild_id, user_id=user_id, until=window.end)
        return await self._write(work)

    async def server_was_warned(self, guild_id: int, window: Window) -> bool:
        """Whether it is on record that the server's moderators were told that little is left in `window`."""
        return await self._read(partial(ledger.server_was_warned, guild_id=guild_id, until=window.end))

    async def limit(self, guild_id: int, subject: LimitSubject, subject_id: int | None) -> Quota | None:
        """The limit set for a member, role, the default or the server, or None where none is set."""
        work = partial(limits_table.limit, guild_id=guild_id, subject=subject, subject_id=subject_id)
        return await self._read(work)

    async def limits_of(self, guild_id: int) -> list[tuple[LimitSubject, int | None, Quota]]:
        return await self._read(partial(limits_table.limits_of, guild_id=guild_id))

    async def set_limit(
        self,
        guild_id: int,
        subject: LimitSubject,
        subject_id: int | None,
        quota: Quota | None,
        *,
        actor_id: int,
        reason: str | None,
        now: datetime,
    ) -> Quota | None:
        """Set or (None) remove a limit and record it. Returns the old one. A server has no cap until one is set."""
        change = Change(actor_id=actor_id, reason=reason, now=now)
        return await self._write(
            partial(
                limits_table.set_limit,
                guild_id=guild_id,
                subject=subject,
                subject_id=subject_id,
                quota=quota,
                change=change,
            )
        )

    async def grant(
        self,
        member: Member,
        amount_usd_micros: int,
        *,
        default: Quota,
        actor_id: int,
        reason: str | None,
        now: datetime,
    ) -> Balance:
        """A one-off extra in the current window."""
        change = Change(actor_id=actor_id, reason=reason, now=now)

        def work(connection: Connection) -> Balance:
            terms = limits_table.terms_for(connection, member, default=default)
            return ledger.grant(connection, member, amount_usd_micros, terms=terms, change=change)

        return await self._write(work)

    async def reset(
        self, member: Member, *, default: Quota, actor_id: int, reason: str | None, now: datetime
    ) -> Balance:
        """What was settled so far in the current window stops counting; open reservations still count."""
        change = Change(actor_id=actor_id, reason=reason, now=now)

        def work(connection: Connection) -> Balance:
            terms = limits_table.terms_for(connection, member, default=default)
            return ledger.reset(connection, member, terms=terms, change=change)

        return await self._write(work)

    async def set_blocked(
        self, guild_id: int, user_id: int, blocked: bool, *, actor_id: int, reason: str | None, now: datetime
    ) -> bool:
        """Returns whether that changed anything."""
        change = Change(actor_id=actor_id, reason=reason, now=now)
        work = partial(limits_table.set_blocked, guild_id=guild_id, user_id=user_id, blocked=blocked, change=change)
        return await self._write(work)

    async def is_blocked(self, guild_id: int, user_id: int) -> bool:
        return await self._read(partial(limits_table.is_blocked, guild_id=guild_id, user_id=user_id))

    async def audit(
        self, guild_id: int, *, user_id: int | None = None, limit: int = 10, before_id: int | None = None
    ) -> list[AuditEntry]:
        """The record of changes, newest first; about one member when `user_id` is given."""
        work = partial(audit_log.entries, guild_id=guild_id, user_id=user_id, limit=limit, before_id=before_id)
        return await self._read(work)

    async def spend_report(self, guild_id: int, parts: Sequence[Window]) -> SpendReport:
        """Settled spending of a server, by member and model and by part and model. The parts do not overlap."""
        return await self._read(partial(ledger.spend_report, guild_id=guild_id, parts=parts))

    async def time_zone(self, guild_id: int) -> ZoneInfo:
        """The server's time zone; UTC until a moderator sets another."""
        return await self._read(partial(limits_table.time_zone, guild_id=guild_id))

    async def set_time_zone(
        self, guild_id: int, zone: ZoneInfo, *, actor_id: int, reason: str | None, now: datetime
    ) -> None:
        """Periods are this zone's calendar periods from now on."""
        change = Change(actor_id=actor_id, reason=reason, now=now)
        await self._write(partial(limits_table.set_time_zone, guild_id=guild_id, zone=zone, change=change))

    # -- policy ---------------------------------------------------------------------------------------------------

    async def policy(self, guild_id: int) -> Policy:
        """What the server's moderators allow; read from the file once, then from memory."""
        policy = self._policies.get(guild_id)
        if policy is None:
            asked_at = self._policies.age
            policy = await self._read(partial(guild_settings.policy, guild_id=guild_id))
            self._policies.read(guild_id, policy, asked_at)
        return policy

    async def change_policy(
        self, guild_id: int, alter: PolicyEdit, *, actor_id: int, reason: str | None, now: datetime
    ) -> tuple[Policy, Policy]:
        """Change the policy to what `alter` makes of it, recorded line by line. Returns the old and the new one.

        Raises ListFull.
        """
        change = Change(actor_id=actor_id, reason=reason, now=now)
        self._policies.changing(guild_id)
        try:
            work = partial(guild_settings.change_policy, guild_id=guild_id, alter=alter, change=change)
            old, new = await self._write(work)
        except BotError:
            self._policies.changed(guild_id, None)
            raise
        self._policies.changed(guild_id, new)
        return old, new

    # -- privacy --------------------------------------------------------------------------------------------------

    async def footprint(self, user_id: int) -> Footprint:
        """How much is kept about a member, over all servers."""
        return await self._read(partial(privacy.footprint, user_id=user_id))

    async def kept_about(self, user_id: int) -> dict[str, Any]:
        """Everything kept about a member, and about nobody else, as plain values for JSON; no credentials."""
        return await self._read(partial(privacy.kept_about, user_id=user_id))

    async def forget_member(self, user_id: int, *, now: datetime) -> set[str]:
        """Forget what a member asked for and got, everywhere; the ledger keeps its amounts, without a name.

        Returns the pictures that nobody needs any more. Raises StillUnderWay.
        """
        unneeded = await self._write(partial(privacy.forget_member, user_id=user_id, now=now))
        await self._database.overwrite_forgotten()
        return unneeded

    async def forget_old(self, *, now: datetime) -> int:
        """Forget what has reached its age (see privacy.py), a few jobs to a transaction; returns how many jobs."""
        forgotten = 0
        while (count := await self._write(partial(privacy.forget_old, now=now))) == BATCH_JOBS:
            forgotten += count
        await self._database.overwrite_forgotten()
        return forgotten + count

    # -- the operator's side --------------------------------------------------------------------------------------

    async def operator_cost_usd_micros(self, *, since: datetime | None = None) -> int:
        """What the house account bore."""
        return await self._read(partial(ledger.operator_cost_usd_micros, since=since))

    async def get_value(self, key: str) -> str | None:
        """A small fact noted with `remember`."""
        return await self._read(partial(key_value.get, key=key))

    async def set_value(self, key: str, value: str) -> None:
        """Note a small fact about the bot itself."""
        await self._write(partial(key_value.set_, key=key, value=value))

    async def problem(self) -> str | None:
        """None when a transaction can be written now, else what is in the way."""
        try:
            await self._write(lambda connection: None)
        except StoreError as error:
            return str(error)
        return None


def _balance(
    connection: Connection, member: Member, *, default: Quota, now: datetime, previous: bool = False
) -> Balance:
    terms = limits_table.terms_for(connection, member, default=default)
    window = ledger.window_of(terms, terms.quota, now)
    if previous:
        window = window.before(terms.quota.period, terms.time_zone)
    return ledger.balance(connection, member, terms.quota, window)
