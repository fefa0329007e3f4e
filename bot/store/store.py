"""Store: every question to the books and every change of them, one transaction each.

All changes run on the one writer connection (see database.py), so a caller that is cancelled leaves nothing half done:
the transaction it asked for happens whole or not at all. Times are aware UTC, amounts integer micro-dollars.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from bot.jobs import Delivery, Failure, Job, JobStatus, Picture, Progress, Reply, ReplyAddress
from bot.quota import AuditEntry, Balance, Limits, LimitSubject, Member, Quota, SpendLine, Window


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerCap:
    """The server's cap in its window, and what of it is left (None: no cap)."""

    quota: Quota | None
    window: Window
    spent_usd_micros: int
    set_aside_usd_micros: int


class Store:
    # -- admission ------------------------------------------------------------------------------------

    async def admit(self, *, member: Member, reply: Reply, limits: Limits, now: datetime) -> Balance:
        """Reserve every job of `reply` and insert reply, jobs, reservations and ledger entries: all or nothing.

        One guarded INSERT … SELECT per job holds the amount against the member's quota, the server's cap, the operator's
        daily cap (UTC day) and the number of running jobs (the member, over all servers, must have fewer than
        `limits.max_running_jobs` unfinished jobs before this command). Returns the balance after the reservation.

        Raises DuplicateCommand (same interaction id), MemberBlocked, TooManyRunning, QuotaExceeded, ServerCapReached,
        OperatorCapReached, StoreError.
        """
        raise NotImplementedError

    async def accept(self, reply_id: str, *, message_id: int | None) -> None:
        """Discord has shown the reply: from now on its jobs may be submitted."""
        raise NotImplementedError

    # -- the life of a job: every method is one conditional update ------------------------------------
    # Each returns the job as it is afterwards, or None when the move was not legal any more (somebody else was first).

    async def begin_submission(
        self, job_id: str, *, now: datetime, deadline_at: datetime, webhook_token: str | None
    ) -> Job | None:
        """queued → submitting, committed before the order leaves."""
        raise NotImplementedError

    async def back_to_line(self, job_id: str) -> Job | None:
        """submitting → queued: the provider never accepted it."""
        raise NotImplementedError

    async def mark_running(self, job_id: str, *, remote_id: str) -> Job | None:
        """submitting | uncertain → running."""
        raise NotImplementedError

    async def mark_uncertain(self, job_id: str) -> Job | None:
        """submitting → uncertain."""
        raise NotImplementedError

    async def succeed(
        self, job_id: str, *, charged_usd_micros: int, pictures: Sequence[Picture], now: datetime
    ) -> Job | None:
        """running → succeeded, and the reservation settled at `charged_usd_micros` (at most what was reserved)."""
        raise NotImplementedError

    async def fail(
        self, job_id: str, failure: Failure, *, now: datetime, house_usd_micros: int = 0
    ) -> Job | None:
        """any unfinished → failed, the reservation released; what the provider may charge goes to the house account."""
        raise NotImplementedError

    async def cancel(self, job_id: str, *, expected: JobStatus, now: datetime) -> Job | None:
        """`expected` (queued or running) → cancelled, the reservation released. None when it stands elsewhere by now."""
        raise NotImplementedError

    # -- delivery -----------------------------------------------------------------------------------------

    async def set_delivery(
        self, reply_id: str, delivery: Delivery, *, attachment_ids: dict[str, int] | None = None,
        message_id: int | None = None, channel_id: int | None = None
    ) -> None:
        """The final state was shown (or never can be). `attachment_ids` maps a picture's sha256 to Discord's id.

        `message_id`/`channel_id` replace the address when a new message had to be posted."""
        raise NotImplementedError

    # -- reading --------------------------------------------------------------------------------------------

    async def reply(self, reply_id: str) -> Reply | None:
        raise NotImplementedError

    async def reply_of_job(self, job_id: str) -> Reply | None:
        raise NotImplementedError

    async def unfinished(self) -> list[Reply]:
        """Replies with an unfinished job, or whose final state was never shown (delivery pending), oldest first."""
        raise NotImplementedError

    async def known_remote_ids(self, provider: str, remote_ids: Sequence[str]) -> set[str]:
        """Those of `remote_ids` that already belong to a job of ours."""
        raise NotImplementedError

    async def recent_jobs(
        self, *, guild_id: int, user_id: int | None, limit: int, before: datetime | None = None,
        status: JobStatus | None = None
    ) -> list[Job]:
        """Newest first; of one member, or of the whole server when `user_id` is None."""
        raise NotImplementedError

    async def sha256_in_use(self) -> set[str]:
        """Pictures that must stay in the picture store: results not yet delivered, inputs of unfinished jobs,
        inputs of jobs younger than the retention time (30 days)."""
        raise NotImplementedError

    async def address_of(self, job_id: str) -> ReplyAddress | None:
        raise NotImplementedError

    # -- uploaded inputs ----------------------------------------------------------------------------------------

    async def uploaded_url(self, provider: str, sha256: str) -> str | None:
        """The address the provider gave for this content before."""
        raise NotImplementedError

    async def remember_upload(self, provider: str, sha256: str, url: str, *, now: datetime) -> None:
        raise NotImplementedError

    # -- quotas -------------------------------------------------------------------------------------------------

    async def balance(self, member: Member, *, default: Quota, now: datetime, previous: bool = False) -> Balance:
        """The member's balance in the current window of their effective quota, or in the one before."""
        raise NotImplementedError

    async def server_cap(self, guild_id: int, *, now: datetime) -> ServerCap | None:
        raise NotImplementedError

    async def limit(self, guild_id: int, subject: LimitSubject, subject_id: int | None) -> Quota | None:
        """The limit set for a member, role, the default or the server, or None where none is set."""
        raise NotImplementedError

    async def limits_of(self, guild_id: int) -> list[tuple[LimitSubject, int | None, Quota]]:
        raise NotImplementedError

    async def set_limit(
        self, guild_id: int, subject: LimitSubject, subject_id: int | None, quota: Quota | None, *,
        actor_id: int, reason: str | None, now: datetime
    ) -> Quota | None:
        """Set or (None) remove a limit and record it. Returns the old one. A server has no cap until one is set."""
        raise NotImplementedError

    async def grant(
        self, member: Member, amount_usd_micros: int, *, default: Quota, actor_id: int, reason: str | None, now: datetime
    ) -> Balance:
        """A one-off extra in the current window."""
        raise NotImplementedError

    async def reset(
        self, member: Member, *, default: Quota, actor_id: int, reason: str | None, now: datetime
    ) -> Balance:
        """What was settled so far in the current window stops counting; open reservations still count."""
        raise NotImplementedError

    async def set_blocked(
        self, guild_id: int, user_id: int, blocked: bool, *, actor_id: int, reason: str | None, now: datetime
    ) -> bool:
        """Returns whether that changed anything."""
        raise NotImplementedError

    async def is_blocked(self, guild_id: int, user_id: int) -> bool:
        raise NotImplementedError

    async def audit(
        self, guild_id: int, *, user_id: int | None = None, limit: int = 10, before_id: int | None = None
    ) -> list[AuditEntry]:
        """The record of changes, newest first; about one member when `user_id` is given."""
        raise NotImplementedError

    async def spend(self, guild_id: int, window: Window) -> list[SpendLine]:
        """Settled spending by member and model in the window, dearest first."""
        raise NotImplementedError

    async def time_zone(self, guild_id: int) -> ZoneInfo:
        """The server's time zone; UTC until a moderator sets another."""
        raise NotImplementedError

    # -- the operator's side --------------------------------------------------------------------------------------

    async def house_usd_micros(self, *, since: datetime | None = None) -> int:
        """What the house account bore."""
        raise NotImplementedError
