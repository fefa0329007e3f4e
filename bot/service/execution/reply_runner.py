"""ReplyRunner: runs accepted replies to their end, from wherever they stand; resumes, cancels and abandons them.

Restartable at any point: a reply is read from the database before it is resumed, and a job that is queued or running in
this process already is left alone.

A process that runs alone resumes every unfinished reply on start (`resume_all`) and each new one when it is accepted
(`resume`). A worker runs the replies that the reply queue assigns to it (`run`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum

from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.deployment.process_role import Role
from bot.domain.errors import StoreError
from bot.domain.jobs import Delivery, Failure, FailureReason, Job, JobStatus, Reply
from bot.runtime.retry import retry_storage_errors
from bot.service.context import ServiceContext
from bot.service.execution.job_runner import JobRunner

_log = logging.getLogger(__name__)

REREAD_SECONDS = 60.0
"""Interval at which a running reply is read again although no notification arrived."""

LIMBO_SCAN_SECONDS = 30.0

LIMBO_AFTER = timedelta(seconds=60)
"""Age at which a command has its first answer, and an ended one its last edit, unless something went wrong."""

SUBMISSION_POLL_SECONDS = 0.5
"""Interval at which a gateway checks whether a job that is to be cancelled has reached its provider."""


class CancelOutcome(StrEnum):
    """What came of the attempt to cancel a job."""

    CANCELLED = "cancelled"
    ASKED = "asked"
    """The provider agreed; the card changes when the provider reports the job cancelled."""
    UNANSWERED = "unanswered"
    """The provider gave no usable answer; the job may go on."""
    TOO_LATE = "too_late"
    NOT_POSSIBLE = "not_possible"
    """This provider cannot cancel."""


class ReplyRunner:
    """Runs the replies of this process: hands their jobs to the dispatchers and waits for what changes them."""

    def __init__(
        self, context: ServiceContext, *, dispatchers: Mapping[str, ProviderDispatcher], job_runner: JobRunner
    ) -> None:
        self._store = context.store
        self._coordinator = context.coordinator
        self._presenter = context.presenter
        self._in_flight = context.in_flight
        self._supervisor = context.supervisor
        self._metrics = context.metrics
        self._clock = context.clock
        self._dispatchers = dispatchers
        self._job_runner = job_runner
        self._releasing = False
        self._released: set[str] = set()
        """Replies that other workers run from now on."""
        self._running: dict[str, asyncio.Event] = {}
        """Replies that `run` is awaited for, each with the event that makes it read the reply again."""
        self._finding_message: set[str] = set()
        """Replies for which Discord is being asked whether it showed them."""
        self._without_key: set[str] = set()
        """Jobs that are ended because their provider has no key any more."""

    # -- running ------------------------------------------------------------------------------------------

    async def resume_all(self) -> None:
        """Resume every reply that is not at its end, and show every final state that was not shown yet."""
        replies = await self._store.unfinished()
        # First of all, because the search for a lost order depends on which other orders are lost.
        for reply in replies:
            await self._mark_half_sent_uncertain(reply)
        for reply in replies:
            self.resume(reply)

    async def watch_for_limbo(self) -> None:
        """End or deliver replies that nothing works on, until cancelled.

        Discord's answer to the first card was lost to an unexpected error, or that error ended the last edit. With
        several processes, the search for orphaned replies finds them.
        """
        while True:
            await asyncio.sleep(LIMBO_SCAN_SECONDS)
            for reply in await self._store.in_limbo(before=self._clock() - LIMBO_AFTER):
                self.resume(reply)

    async def run(self, reply_id: str) -> bool:
        """Run a reply until its final state was shown; may be started again at any time.

        Returns False when `release_all` or `release` came first: another process continues the reply then.
        """
        self._running[reply_id] = changed = asyncio.Event()
        try:
            while not self._releasing:
                was_woken = changed.is_set()
                changed.clear()  # before the reply is read: a change during the reading makes it be read again
                reply = await self._read(reply_id)
                if reply is None or reply.is_over:
                    return True
                if reply_id in self._released:
                    self._forget_queued(reply)
                    return False
                await self._mark_half_sent_uncertain(reply)
                self.resume(reply)
                if was_woken:
                    self.show(reply_id)
                with suppress(TimeoutError):
                    # At random, so that replies that were resumed together are not read together.
                    async with asyncio.timeout(REREAD_SECONDS * random.uniform(0.7, 1.3)):  # noqa: S311
                        await changed.wait()
            return False
        finally:
            self._released.discard(reply_id)
            if self._running.get(reply_id) is changed:
                del self._running[reply_id]

    @retry_storage_errors
    async def _read(self, reply_id: str) -> Reply | None:
        return await self._store.reply(reply_id)

    def wake(self, reply_id: str | None) -> None:
        """Have `run` read a reply again because something about it may have changed; None for every running reply."""
        for running_id in self._running if reply_id is None else (reply_id,):
            if (changed := self._running.get(running_id)) is not None:
                changed.set()

    def left_to_others(self) -> frozenset[str]:
        """Return the providers that answer other workers, and not this one."""
        return frozenset(name for name, each in self._dispatchers.items() if each.breaker.is_left_to_others)

    def release(self, reply_id: str) -> None:
        """Have `run` end for a reply that other workers may claim already. Jobs at their provider are polled on."""
        if reply_id in self._running:
            self._released.add(reply_id)
            self.wake(reply_id)

    def _forget_queued(self, reply: Reply) -> None:
        for job in reply.jobs:
            dispatcher = self._dispatchers.get(job.provider)
            if dispatcher is not None and dispatcher.queue.remove(job.id):
                self._in_flight.remove(job.id)

    def release_all(self) -> None:
        """Release all running replies to other workers. Call it when no job is at work in this process any more."""
        self._releasing = True
        self.wake(None)

    def show(self, reply_id: str) -> None:
        """Have a reply shown as it is now, by this process if the reply runs here, else by the process that runs it."""
        if reply_id in self._running or not self._coordinator.enqueue(reply_id):
            self._presenter.reply_changed(reply_id)

    def resume(self, reply: Reply) -> None:
        """Continue a reply from where it stands: find out whether Discord showed it, or queue and run its jobs."""
        if not reply.accepted:
            if reply.id not in self._finding_message:
                self._finding_message.add(reply.id)
                self._supervisor.start(f"reply {reply.id}", self._resume_unaccepted(reply))
            return
        for job in reply.jobs:
            self._resume_job(reply, job)
        # The process may have ended before it showed that an order is looked for.
        unclear = (JobStatus.SUBMITTING, JobStatus.UNCERTAIN)
        if reply.is_to_be_shown or any(job.status in unclear for job in reply.jobs):
            self.show(reply.id)

    def _resume_job(self, reply: Reply, job: Job) -> None:
        dispatcher = self._dispatchers.get(job.provider)
        if job.status.is_final and not job.is_followed:
            # Another process may have ended the job while it was queued here.
            if dispatcher is not None and dispatcher.queue.remove(job.id):
                self._in_flight.remove(job.id)
                self.show(reply.id)
            return
        if dispatcher is not None and dispatcher.has(job.id):
            return
        if dispatcher is None:
            self._end_without_key(job)
        elif job.status is JobStatus.QUEUED:
            dispatcher.push(job)
        else:
            self._job_runner.adopt(dispatcher, job)
        if reply.cancel_reason is not None and not job.status.is_final:
            # A moderator cancelled the reply, and the process may have ended before it asked the provider.
            self._supervisor.start(f"cancel {job.id}", self.cancel(job))

    def _end_without_key(self, job: Job) -> None:
        """Have a job end whose provider has no key any more; with several processes, another one may have the key."""
        if self._coordinator.role is not Role.ALL or job.id in self._without_key:
            return
        self._without_key.add(job.id)
        _log.error("job %s waits for %s, which has no key any more", job.id, job.provider)
        self._presenter.operator_notice(
            f"{job.provider} has no key",
            f"{job.provider} has no key any more, and orders of it are not at their end. Those that were not sent are "
            "given up now; those at the provider go on if the key is back before their time is over, and else fail and "
            "count as your cost.",
        )
        self._supervisor.start(f"job {job.id}", self._job_runner.end_without_provider(job))

    async def _resume_unaccepted(self, reply: Reply) -> None:
        """Continue a reply that was admitted but never confirmed by Discord: the process ended in between."""
        try:
            message_id = await self._presenter.find_message(reply)
            if message_id is None:
                # A card that only its token reaches cannot be looked for once that has expired: it may be shown.
                could_look = not reply.address.is_token_only or reply.address.token_is_usable(self._clock())
                await self.abandon(reply, surely_unseen=could_look)
                return
            await self._store.accept(reply.id, message_id=message_id)
            # The reply may be final: the process ended while it abandoned the reply, which is visible after all.
            self.resume(replace(reply, accepted=True))
        finally:
            self._finding_message.discard(reply.id)
            self.wake(reply.id)

    async def _mark_half_sent_uncertain(self, reply: Reply) -> None:
        """Have an order searched that was being sent when its process ended; it is never sent again."""
        for job in reply.jobs:
            dispatcher = self._dispatchers.get(job.provider)
            if job.status is JobStatus.SUBMITTING and not (dispatcher is not None and dispatcher.has(job.id)):
                await self._store.mark_uncertain(job.id)

    # -- ending early -------------------------------------------------------------------------------------

    async def abandon(self, reply: Reply, *, surely_unseen: bool = True) -> None:
        """Release the reservations of a reply that Discord did not show, or (`surely_unseen` is False) perhaps did.

        A reply that may be visible is corrected.
        """
        for job in reply.jobs:
            await self._store.fail(job.id, Failure(reason=FailureReason.NOT_SHOWN), now=self._clock())
        if surely_unseen:
            await self._store.set_delivery(reply.id, Delivery.IMPOSSIBLE)
        else:
            self.show(reply.id)

    async def cancel(self, job: Job) -> CancelOutcome:
        """Try to stop a job. The charge follows what the provider did, not what was asked."""
        dispatcher = self._dispatchers.get(job.provider)
        if job.status is JobStatus.QUEUED:
            cancelled = await self._store.cancel(job.id, expected=JobStatus.QUEUED, now=self._clock())
            if cancelled is not None:
                if dispatcher is not None:
                    dispatcher.queue.remove(job.id)
                self._in_flight.remove(job.id)  # there is an entry when the provider sent the job back to the queue
                self._metrics.job_ended(cancelled)
                self.show(cancelled.reply_id)
                return CancelOutcome.CANCELLED
            job = await self._store.job(job.id) or job
        if job.status.is_final or dispatcher is None:
            return CancelOutcome.TOO_LATE
        if not dispatcher.provider.can_cancel:
            return CancelOutcome.NOT_POSSIBLE
        if job.remote_id is None and self._coordinator.role is Role.GATEWAY:
            self._supervisor.start(f"cancel {job.id}", self._cancel_when_sent(job))
            return CancelOutcome.ASKED
        if job.remote_id is None:
            self._in_flight.get_or_create(job.id).cancel_wanted = True
            # The provider may have answered just now, before the job runner could see `cancel_wanted`.
            job = await self._store.job(job.id) or job
        if job.status.is_final:
            self._in_flight.remove(job.id)
            return CancelOutcome.TOO_LATE
        if job.remote_id is None:
            return CancelOutcome.ASKED
        agreed = await dispatcher.cancel(job.remote_id)
        await self._coordinator.notify_poll(job.id, job.remote_id)
        if agreed is None:
            return CancelOutcome.UNANSWERED
        return CancelOutcome.ASKED if agreed else CancelOutcome.TOO_LATE

    async def _cancel_when_sent(self, job: Job) -> None:
        """Cancel a job that a worker is sending, as soon as the provider's id of it is known."""
        current: Job | None = job
        while current is not None and not current.status.is_final:
            if current.status is JobStatus.QUEUED or current.remote_id is not None:
                await self.cancel(current)
                return
            await asyncio.sleep(SUBMISSION_POLL_SECONDS)
            with suppress(StoreError):
                current = await self._store.job(job.id)
