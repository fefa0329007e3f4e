"""Lost orders: sent, but no usable answer came back. Found again beyond doubt, or given up; never sent again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import ProviderDenied, ProviderError, ProviderRejected
from bot.domain.jobs import Job, JobStatus
from bot.service.in_flight import InFlight
from bot.store.store import Store

_log = logging.getLogger(__name__)

RECONCILIATION_SECONDS = 60.0
"""So long after it left an order is looked for in a provider's list. Not there by then: it was never accepted."""

MIN_RECONCILIATION_SECONDS = 20.0
"""And at least so long after a restart."""

SUBMISSION_SPAN = timedelta(seconds=90)
"""A lost order was created at the provider within this after it left: longer than any submission may take."""

CLOCK_SKEW = timedelta(seconds=5)
FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0


class SubmissionLost(Exception):
    """The search is over. `in_doubt` when the provider may have made the picture all the same, so the house may pay."""

    def __init__(self, *, in_doubt: bool) -> None:
        super().__init__("the order was not found again")
        self.in_doubt = in_doubt


class ClaimedElsewhere(Exception):
    """The order is not lost any more: whoever sent it was only slow, or another process has found it."""


class SubmissionReconciler:
    """Looks for orders whose answer was lost."""

    def __init__(self, *, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def find(self, job: Job, dispatcher: ProviderDispatcher, in_flight: InFlight) -> str:
        """The remote id of a lost order. Two ways lead there, and both end with the provider's own word:

        a call on the job's own secret webhook path names it, or it is the only job in the provider's list that was
        created at that time and belongs to nobody. Where more than one would fit, none is taken.

        Raises NotFoundAgain, and FoundByAnother.
        """
        give_up_at = _required(job.deadline_at)
        if dispatcher.provider.can_list:
            look_up_until = _required(job.submitted_at) + timedelta(seconds=RECONCILIATION_SECONDS)
            at_least_until = self._clock() + timedelta(seconds=MIN_RECONCILIATION_SECONDS)
            give_up_at = min(give_up_at, max(look_up_until, at_least_until))
        called = in_flight.claimed = asyncio.Event()
        pause, in_doubt = FIRST_PAUSE_SECONDS, True
        while True:
            if dispatcher.shares_slots and not await self._is_lost(job):
                raise ClaimedElsewhere
            if (claimed := await self._claimed(job, dispatcher, in_flight)) is not None:
                return claimed
            if dispatcher.provider.can_list:
                try:
                    candidates, rivals = await self._candidates(job, dispatcher)
                except ProviderError as error:
                    _log.info("cannot look for the order: %s", error)
                    in_doubt = True
                else:
                    in_doubt = bool(candidates)
                    if len(candidates) == 1 and not rivals and not await self._has_rivals(job):
                        return candidates[0]
            left = (give_up_at - self._clock()).total_seconds()
            if left <= 0:
                raise SubmissionLost(in_doubt=in_doubt)
            try:
                await asyncio.wait_for(called.wait(), min(pause, left))
            except TimeoutError:
                pause = min(pause * 2, MAX_PAUSE_SECONDS)
            called.clear()

    async def _is_lost(self, job: Job) -> bool:
        found = await self._store.job(job.id)
        return found is not None and found.status is JobStatus.UNCERTAIN

    async def _claimed(self, job: Job, dispatcher: ProviderDispatcher, in_flight: InFlight) -> str | None:
        """A remote id named on the job's webhook path, once the provider confirms that it is a job of that time."""
        for remote_id in tuple(in_flight.claims):
            try:
                update = await dispatcher.provider.fetch(remote_id)
            except ProviderDenied:
                continue  # it is our key that is refused, which says nothing about the job
            except ProviderRejected:
                in_flight.claims.remove(remote_id)
                continue
            except ProviderError:
                continue
            in_time = update.created_at is None or update.created_at >= _required(job.submitted_at) - CLOCK_SKEW
            if in_time and not await self._store.known_remote_ids(dispatcher.provider.name, [remote_id]):
                return remote_id
            in_flight.claims.remove(remote_id)
        return None

    async def _candidates(self, job: Job, dispatcher: ProviderDispatcher) -> tuple[list[str], bool]:
        """Jobs at the provider that nobody of ours owns and that were created when this order left.

        And whether some of them may belong to orders that other processes are sending now.
        """
        earliest = _required(job.submitted_at) - CLOCK_SKEW
        latest = _required(job.submitted_at) + SUBMISSION_SPAN
        listed = await dispatcher.provider.recent(since=earliest)
        # Orders under way now may own some of these; their answers are on disk once they settled.
        await dispatcher.submissions_settled()
        # Other processes' orders as well. Asked before who owns what: one that ends in between is known by then.
        rivals = dispatcher.shares_slots and await self._store.is_another_leaving(job)
        ids = [
            remote.remote_id
            for remote in listed
            if remote.created_at is not None and earliest <= remote.created_at <= latest
        ]
        known = await self._store.known_remote_ids(dispatcher.provider.name, ids)
        return [remote_id for remote_id in ids if remote_id not in known], rivals

    async def _has_rivals(self, job: Job) -> bool:
        """True when another order to the same provider was lost at about the same time, be it given up by now."""
        submitted_at, span = _required(job.submitted_at), SUBMISSION_SPAN + CLOCK_SKEW
        return await self._store.is_another_lost(job, earliest=submitted_at - span, latest=submitted_at + span)


def _required(moment: datetime | None) -> datetime:
    assert moment is not None, "a submitted job has its times on record"
    return moment
