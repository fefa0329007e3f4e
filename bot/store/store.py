"""Store: every question to the database and every change of it, one transaction each.

What each method does is documented at the SQL function that it is made of. All changes run on one writing connection,
so a caller that is cancelled leaves nothing half done: the transaction it asked for happens whole or not at all. Times
are aware UTC, amounts integer micro-dollars.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, Self, TypeVar

from bot.domain.deletion import DeletedOrder
from bot.domain.deployment.database_url import Location
from bot.domain.errors import BotError, StillUnderWay, StoreError
from bot.domain.policy import Policy, PolicyEdit
from bot.runtime.sealing import Sealer
from bot.store.cluster_store import ClusterStore
from bot.store.core.erasure_list import Erasure, ErasureList
from bot.store.core.transaction_queue import Priority
from bot.store.database import Database, DatabaseUser, open_database, reads, writes, writes_with_retry
from bot.store.tables import audit_log, callbacks, guild_settings, job_lists, jobs
from bot.store.tables.guild_settings import PolicyMemory
from bot.store.tables.members import (
    deletion,
    erasures,
    gallery,
    marks,
    posted_messages,
    presets,
    privacy,
    privacy_export,
    reviews,
    shared_images,
)
from bot.store.tables.money import (
    adjustments,
    balances,
    limits,
    operator_costs,
    spend_reports,
    spendable,
    transactions,
    wallets,
    weekly_reports,
)
from bot.store.tables.shared import catalogue, notes, sealing

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)

LIST_TURN_SECONDS = 30.0
"""How long an erasure waits for another process that has the list of erasures."""
LIST_PAUSE_SECONDS = 0.05


class Store(DatabaseUser):
    """Open with `await Store.open(location)`; close with `await store.close()`, or use it with `async with`."""

    def __init__(
        self, database: Database, location: Location | None = None, *, erasures: ErasureList | None = None
    ) -> None:
        super().__init__(database)
        self._erasures = erasures
        self._erasing = asyncio.Lock()
        self._policies = PolicyMemory(remembers=not database.is_shared)
        self.cluster = ClusterStore(database, self._policies, location)
        """What processes on one database tell and ask each other."""

    @classmethod
    async def open(cls, location: Location, *, erasures: ErasureList | None = None) -> Self:
        """Open the database; what is erased is also written to the list `erasures`.

        Raises DatabaseBusy, DatabaseUnusable or StoreError; `str()` of each says what to do.
        """
        return cls(await open_database(location), location, erasures=erasures)

    @property
    def is_shared(self) -> bool:
        """Whether other processes may use the same database."""
        return self.database.is_shared

    async def close(self) -> None:
        """Finish the transactions that wait, then close the database."""
        await self.cluster.close()
        await self.database.close()

    async def lock_exclusively(self) -> None:
        """Keep every other process from running the jobs in this database. Raises DatabaseBusy when one does."""
        await self.database.lock_exclusively()

    async def lock_shared(self) -> None:
        """Keep every process from running the jobs in this database alone. Raises DatabaseBusy when one does."""
        await self.database.lock_shared()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def backup_to(self, target: Path) -> None:
        """Write a consistent copy of everything committed so far, without stopping writes. Replaces `target`."""
        await self.database.backup_to(target)

    async def problem(self) -> str | None:
        """Return None when a transaction can be written and read now, else what is in the way."""
        try:
            await self._write_nothing()
            await self._read_nothing()
        except StoreError as error:
            return str(error)
        return None

    _write_nothing = writes(lambda connection: None)
    _read_nothing = reads(lambda connection: None)

    def missing_connections(self) -> str | None:
        """Return None, or say that the server gives fewer connections than this process needs."""
        missing = self.database.missing_connections
        return f"the server refuses {missing} connections: raise max_connections" if missing else None

    # -- the life of a job --------------------------------------------------------------------------------
    # Each is one conditional update that returns the job as it is afterwards, or None when the move was not legal any
    # more, because another caller was first.

    admit = writes(transactions.admit, Priority.INTERACTIVE)
    accept = writes_with_retry(transactions.accept, Priority.LOW)
    begin_submission = writes_with_retry(jobs.begin_submission)
    requeue = writes_with_retry(jobs.requeue)
    mark_running = writes_with_retry(jobs.mark_running)
    mark_uncertain = writes_with_retry(jobs.mark_uncertain)
    mark_found = writes_with_retry(jobs.mark_found)
    mark_unfetched = writes_with_retry(jobs.mark_unfetched)
    lose_images = writes_with_retry(transactions.lose_images)
    deliver_late = writes_with_retry(transactions.deliver_late)
    end_follow = writes_with_retry(transactions.end_follow)
    succeed = writes_with_retry(transactions.succeed)
    fail = writes_with_retry(transactions.fail)
    cancel = writes(transactions.cancel)
    mark_cancelled = writes_with_retry(transactions.cancel)
    ask_to_cancel = writes(transactions.ask_to_cancel)
    set_delivery = writes_with_retry(jobs.set_delivery, Priority.LOW)

    not_in_use = reads(deletion.not_in_use)
    check_admission = reads(transactions.check_admission)
    job = reads(jobs.job)
    reply = reads(jobs.reply)
    reply_of_job = reads(jobs.reply_of_job)
    reply_and_spendable = reads(transactions.reply_and_spendable)
    unfinished = reads(job_lists.unfinished)
    in_limbo = reads(job_lists.in_limbo)
    known_remote_ids = reads(job_lists.known_remote_ids)
    others_lost = reads(job_lists.others_lost)
    is_another_leaving = reads(job_lists.is_another_leaving)
    keep_callback = writes(callbacks.keep)
    kept_callbacks = reads(callbacks.of_job)
    recent_jobs = reads(job_lists.recent_jobs)
    replies_of_server = reads(job_lists.replies_of_server)
    recent_durations = reads(job_lists.recent_durations)
    gallery_page = reads(gallery.gallery_page)

    # -- uploaded inputs ----------------------------------------------------------------------------------

    uploaded_url = reads(jobs.uploaded_url)
    remember_upload = writes(jobs.remember_upload)
    forget_uploads = writes_with_retry(jobs.forget_uploads)

    # -- presets, defaults and marks ----------------------------------------------------------------------

    presets_of = reads(presets.presets)
    set_preset = writes(presets.set_preset)
    remove_preset = writes(presets.remove_preset)
    member_defaults = reads(presets.member_defaults)
    member_profile = reads(presets.member_profile)
    set_member_defaults = writes(presets.set_member_defaults)
    vote = writes(marks.vote)
    star = writes(marks.star)
    votes = reads(marks.votes)
    set_favourite = writes(marks.set_favourite)

    # -- quotas -------------------------------------------------------------------------------------------

    balance = reads(balances.balance)
    ledger_jobs = reads(operator_costs.ledger_jobs)
    spendable = reads(spendable.spendable)
    server_cap = reads(balances.server_cap)
    operator_cap = reads(balances.operator_cap)
    cost_limits_reached = writes(operator_costs.cost_limits_reached)
    spend_report = reads(spend_reports.spend_report)
    first_warning = writes(adjustments.first_warning)
    server_was_warned = reads(adjustments.server_was_warned)
    channel_cap = reads(balances.channel_cap)
    caps_of_channels = reads(balances.caps_of_channels)
    first_warning_of_channel = writes(balances.first_warning_of_channel)
    channel_was_warned = reads(balances.channel_was_warned)
    grant = writes(adjustments.grant)
    reset = writes(adjustments.reset)
    limit = reads(limits.limit)
    limits_of = reads(limits.limits_of)
    set_limit = writes(limits.set_limit)
    is_blocked = reads(limits.is_blocked)
    set_blocked = writes(limits.set_blocked)
    time_zone = reads(limits.time_zone)
    set_time_zone = writes(limits.set_time_zone)
    audit = reads(audit_log.entries)
    claim_weekly_report = writes(weekly_reports.claim_weekly_report)
    finish_weekly_report = writes_with_retry(weekly_reports.finish_weekly_report)
    is_weekly_report_done = reads(weekly_reports.is_weekly_report_done)

    # -- wallets ------------------------------------------------------------------------------------------

    wallet_of = reads(balances.wallet_of)
    credit = writes_with_retry(wallets.credit)
    take_back = writes_with_retry(wallets.take_back)
    mark_consumed = writes_with_retry(wallets.mark_consumed)
    purchase = reads(wallets.purchase)
    to_consume = reads(wallets.to_consume)
    sold_skus = reads(wallets.sold_skus)
    untold_refunds = reads(wallets.untold_refunds)
    refund_told = writes(wallets.refund_told)

    # -- policy -------------------------------------------------------------------------------------------

    _read_policy = reads(guild_settings.policy)
    _write_policy = writes(guild_settings.change_policy)

    async def policy(self, guild_id: int) -> Policy:
        """Return what the server's moderators allow; read from the database once, then from memory."""
        policy = self._policies.get(guild_id)
        if policy is None:
            asked_at = self._policies.age
            policy = await self._read_policy(guild_id)
            self._policies.read(guild_id, policy, asked_at)
        return policy

    async def change_policy(
        self, guild_id: int, alter: PolicyEdit, *, actor_id: int, reason: str | None, now: datetime
    ) -> tuple[Policy, Policy]:
        """Change the policy to what `alter` makes of it, recorded line by line. Returns the old and the new one.

        Raises ListFull.
        """
        self._policies.changing(guild_id)
        try:
            old, new = await self._write_policy(guild_id, alter, actor_id=actor_id, reason=reason, now=now)
        except BotError:
            self._policies.changed(guild_id, None)
            raise
        self._policies.changed(guild_id, new)
        return old, new

    # -- the catalogue ------------------------------------------------------------------------------------

    catalogue_changes = reads(catalogue.changes)
    catalogue_token = reads(catalogue.catalogue_token)
    record_catalogue_changes = writes(catalogue.record_changes)
    decide_catalogue_changes = writes(catalogue.decide_changes)
    take_untold_changes = writes(catalogue.take_untold)
    put_back_untold_changes = writes_with_retry(catalogue.put_back_untold)
    model_notices = reads(catalogue.model_notices)
    note_model = writes_with_retry(catalogue.note_model)
    remove_model_notice = writes(catalogue.remove_model_notice)

    # -- privacy ------------------------------------------------------------------------------------------

    footprint = reads(privacy.footprint)
    sha256_in_use = reads(privacy.sha256_in_use)
    _export_start = reads(privacy_export.export_start)
    _exported_orders = reads(privacy_export.exported_orders)
    _exported_span = reads(privacy_export.exported_span)
    _write_forget_member = writes(erasures.forget_member)
    _write_forget_names_on_record = writes(privacy.forget_names_on_record)
    _write_forget_old = writes(privacy.forget_old)

    # Discord has posted a copy already, so its id must be recorded.
    record_copy = writes_with_retry(posted_messages.record_copy, Priority.LOW)
    shared_image = reads(shared_images.shared_image)
    claim_share = writes(shared_images.claim_share)
    record_share = writes_with_retry(shared_images.record_share)
    release_share = writes_with_retry(shared_images.release_share)
    remove_share = writes(shared_images.remove_share)
    reviews_to_ask = reads(reviews.reviews_to_ask)
    waiting_reviews = reads(reviews.waiting_reviews)
    claim_review = writes(reviews.claim_review)
    record_review = writes_with_retry(reviews.record_review)
    postpone_review = writes_with_retry(reviews.postpone_review)
    decide_review = writes(reviews.decide_review)
    due_deletions = reads(posted_messages.due_deletions)
    finish_deletion = writes_with_retry(posted_messages.finish_deletion)
    postpone_deletion = writes_with_retry(posted_messages.postpone_deletion, Priority.LOW)
    _write_delete_reply = writes(erasures.delete_reply)

    async def delete_reply(self, reply_id: str, *, actor_id: int, now: datetime) -> DeletedOrder | None:
        """Erase one finished order; the ledger keeps its amounts. None if there is none, or it was deleted before."""
        async with self._listed(now, reply_id=reply_id) as erasure:
            deleted = await self._write_delete_reply(reply_id, erasure=erasure, actor_id=actor_id, now=now)
            if deleted is None:
                await self._withdraw(erasure)
        if deleted is not None:
            await self.database.overwrite_forgotten()
        return deleted

    async def forget_member(self, user_id: int, *, now: datetime) -> set[str]:
        """Erase what a member asked for and got, everywhere; the ledger keeps its amounts, without a name.

        Returns the sha256 of the images that nothing needs any more. Raises StillUnderWay.
        """
        async with self._listed(now, user_id=user_id) as erasure:
            unneeded = await self._write_forget_member(user_id, erasure=erasure, now=now)
        await self.database.overwrite_forgotten()
        return unneeded

    @asynccontextmanager
    async def _listed(
        self, now: datetime, *, user_id: int | None = None, reply_id: str | None = None
    ) -> AsyncGenerator[Erasure | None]:
        """Write an erasure down first, and withdraw it if it is refused. An unwritable list does not prevent it."""
        if self._erasures is None:
            yield None
            return
        async with AsyncExitStack() as stack:
            erasure = None
            try:
                await stack.enter_async_context(self._turn(self._erasures))
                latest, known_until = await asyncio.to_thread(self._erasures.latest), await self._last_erasure_at()
                if latest is not None and (known_until is None or latest > known_until):
                    # The database remembers one moment, up to which all erasures are done or known to wait.
                    await self._repeat_missing(self._erasures, now=now)
                erasure = await _finished(self._erasures.add, now=now, user_id=user_id, reply_id=reply_id)
            except (OSError, StoreError):
                _log.exception("an erasure is done but not listed, so a restored backup would bring it back")
            try:
                yield erasure
            except StillUnderWay:
                await self._withdraw(erasure)
                raise

    @asynccontextmanager
    async def _turn(self, erasures: ErasureList) -> AsyncGenerator[None]:
        """Have the list, which no other process has meanwhile. Raises OSError if one has it for too long."""
        async with self._erasing:
            for _ in range(int(LIST_TURN_SECONDS / LIST_PAUSE_SECONDS)):
                if (turn := erasures.begin_turn()) is not None:
                    break
                await asyncio.sleep(LIST_PAUSE_SECONDS)
            else:
                raise OSError(f"another process has had {erasures.path} for {LIST_TURN_SECONDS:.0f} s")
            try:
                yield
            finally:
                erasures.end_turn(turn)

    async def _withdraw(self, erasure: Erasure | None) -> None:
        if self._erasures is None or erasure is None:
            return
        try:
            await _finished(self._erasures.withdraw, erasure)
        except OSError:
            _log.exception("a refused erasure is still listed")

    async def repeat_erasures(self, *, now: datetime) -> tuple[int, int]:
        """Erase again what a restored backup brought back. Return how many are done, and how many wait.

        They wait while a job of theirs is running. Raises StoreError, OSError.
        """
        if self._erasures is None:
            return 0, 0
        async with self._turn(self._erasures):
            done, waiting = await self._repeat_missing(self._erasures, now=now)
            await _finished(self._erasures.trim, now)
        if done:
            await self.database.overwrite_forgotten()
        return done, waiting

    async def _repeat_missing(self, erasures: ErasureList, *, now: datetime) -> tuple[int, int]:
        known_until, waiting = await self._last_erasure_at(), await self._waiting_erasures()
        missing = await asyncio.to_thread(erasures.since, known_until, waiting=waiting)
        done = 0
        for erasure in missing:
            done += await self._repeat_erasure(erasure, now=now)
        return done, len(missing) - done

    async def lacks_listed_erasures(self, *, now: datetime) -> bool:
        """Return whether the list lacks an erasure that was done: it was lost, or others write one elsewhere.

        Raises StoreError, OSError.
        """
        if self._erasures is None:
            return False
        return await asyncio.to_thread(self._erasures.lacks, await self._last_erasure_at(), now=now)

    _last_erasure_at = reads(erasures.last_erasure_at)
    _waiting_erasures = reads(erasures.waiting_erasures)
    _repeat_erasure = writes(erasures.repeat)

    async def kept_about(self, user_id: int) -> AsyncGenerator[tuple[str, list[dict[str, Any]]], None]:
        """Yield everything kept about a member at this moment, in small parts: the name of a list, and items for it.

        Each part is a transaction of its own, so that others need not wait for all of it. What is erased meanwhile is
        left out.
        """
        start = await self._export_start(user_id)
        yield "commands", []
        for index in range(0, len(start.order_ids), privacy_export.EXPORT_ORDERS):
            ids = start.order_ids[index : index + privacy_export.EXPORT_ORDERS]
            finished = await self._exported_orders(user_id, [key for key in ids if key not in start.under_way])
            orders = {**start.under_way, **finished}
            yield "commands", [orders[key] for key in ids if key in orders]
        for name, items in start.facts.items():
            yield name, items
        for name, last_id in start.last_ids.items():
            yield name, []
            for after in range(0, last_id, privacy_export.EXPORT_SPAN):
                through = min(after + privacy_export.EXPORT_SPAN, last_id)
                yield name, await self._exported_span(user_id, name, after=after, through=through)

    async def forget_old(self, *, now: datetime) -> int:
        """Erase what has reached its age (see privacy.py), a few jobs per transaction; returns how many jobs."""
        forgotten = 0
        while (count := await self._write_forget_old(now=now)) == privacy.BATCH_JOBS:
            forgotten += count
        await self.database.overwrite_forgotten()
        return forgotten + count

    async def forget_names_on_record(self, *, now: datetime) -> int:
        """Forget who changed what and why where that is old enough (see privacy.py); returns how many entries."""
        forgotten = 0
        while (count := await self._write_forget_names_on_record(now=now)) == privacy.BATCH_JOBS:
            forgotten += count
        if forgotten + count:
            await self.database.overwrite_forgotten()
        return forgotten + count

    # -- secrets at rest ----------------------------------------------------------------------------------

    seal_tokens = writes(sealing.seal_tokens)
    _hash_old_paths = writes(sealing.hash_old_paths, Priority.LOW)

    async def hash_old_paths(self, sealer: Sealer) -> None:
        """Replace the webhook paths of finished jobs, which an older version kept readable, by digests."""
        after: str | None = ""
        while after is not None:
            after = await self._hash_old_paths(sealer=sealer, after=after)

    # -- notes of the bot itself --------------------------------------------------------------------------

    newest_order_if_restored = writes(erasures.newest_order_if_restored)
    get_value = reads(notes.get)
    set_value = writes(notes.set_)
    remove_value = writes(notes.remove)
    claim_turn = writes(notes.claim_turn)
    claim_notice = writes(notes.claim_notice)


async def _finished(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run blocking work on a thread, and wait until it has ended also when cancelled: it needs the caller's turn."""
    running = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
