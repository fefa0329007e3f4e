"""SubmissionReconciler: finds orders whose answer was lost, beyond doubt, or gives them up; never sends them again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import ProviderDenied, ProviderError, ProviderRejected
from bot.domain.jobs import Job, JobStatus
from bot.runtime.retry import backoff_seconds
from bot.service.in_flight import InFlight
from bot.store.store import Store

_log = logging.getLogger(__name__)

RECONCILIATION_SECONDS = 60.0
"""How long after it left an order is searched in a provider's list. Not there by then: it was never accepted."""

MIN_RECONCILIATION_SECONDS = 20.0
"""The shortest search, also when it begins late, after a restart."""

SUBMISSION_SPAN = timedelta(seconds=90)
"""A lost order was created at the provider within this after it left: longer than any submission may take."""

CLOCK_SKEW = timedelta(seconds=5)
"""How far the provider's clock may be behind or ahead of ours."""

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
"""Pauses between two searches, unless a webhook call comes first."""


class SubmissionLost(Exception):
    """Raised when the search is over. `in_doubt`: the provider may have made the image, so the operator may pay."""

    def __init__(self, *, in_doubt: bool) -> None:
        super().__init__("the order was not found again")
        self.in_doubt = in_doubt


class ClaimedElsewhere(Exception):
    """Raised when the order is not lost any more: its sender was only slow, or another process has found it."""


class SubmissionReconciler:
    """Searches orders whose answer was lost."""

    def __init__(self, *, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def find(self, job: Job, dispatcher: ProviderDispatcher, in_flight: InFlight) -> str:
        """Return the remote id of a lost order. There are two ways to it, and both end with the provider's own word.

        Either a call on the job's secret webhook path names it, or it is the only job in the provider's list that was
        created at that time and is not known to us. Where more than one job would fit, none is taken.

        Raises SubmissionLost and ClaimedElsewhere.
        """
        give_up_at = _required(job.deadline_at)
        if dispatcher.provider.can_list:
            search_until = _required(job.submitted_at) + timedelta(seconds=RECONCILIATION_SECONDS)
            at_least_until = self._clock() + timedelta(seconds=MIN_RECONCILIATION_SECONDS)
            give_up_at = min(give_up_at, max(search_until, at_least_until))
        called = in_flight.claimed = asyncio.Event()
        searches, in_doubt = 1, True
        while True:
            if dispatcher.shares_slots and not await self._is_lost(job):
                raise ClaimedElsewhere
            if (claimed := await self._claimed(job, dispatcher, in_flight)) is not None:
                return claimed
            if dispatcher.provider.can_list:
                try:
                    candidates, rivals = await self._candidates(job, dispatcher)
                except ProviderError as error:
                    _log.info("job %s cannot be searched at %s now: %s", job.id, dispatcher.provider.name, error)
                    in_doubt = True
                else:
                    in_doubt = bool(candidates)
                    if len(candidates) == 1 and not rivals and not await self._has_rivals(job):
                        return candidates[0]
            left = (give_up_at - self._clock()).total_seconds()
            if left <= 0:
                raise SubmissionLost(in_doubt=in_doubt)
            pause = backoff_seconds(searches, first_seconds=FIRST_PAUSE_SECONDS, max_seconds=MAX_PAUSE_SECONDS)
            try:
                await asyncio.wait_for(called.wait(), min(pause, left))
            except TimeoutError:
                searches += 1
            called.clear()

    async def _is_lost(self, job: Job) -> bool:
        found = await self._store.job(job.id)
        return found is not None and found.status is JobStatus.UNCERTAIN

    async def _claimed(self, job: Job, dispatcher: ProviderDispatcher, in_flight: InFlight) -> str | None:
        """Return a remote id named on the job's webhook path, if the provider confirms it as a job of that time."""
        for remote_id in tuple(in_flight.claims):
            try:
                update = await dispatcher.provider.fetch(remote_id)
            except ProviderDenied:
                continue  # our key was refused, which says nothing about the job
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
        """Return the jobs at the provider that are unknown to us and were created when this order left.

        Also return whether some of them may belong to orders that other processes are sending now.
        """
        earliest = _required(job.submitted_at) - CLOCK_SKEW
        latest = _required(job.submitted_at) + SUBMISSION_SPAN
        listed = await dispatcher.provider.recent(since=earliest)
        # Orders under way now may own some of these; their answers are on disk once they settled.
        await dispatcher.submissions_settled()
        # So may orders of other processes. Checked before the known ids: one that ends in between is known by then.
        rivals = dispatcher.shares_slots and await self._store.is_another_leaving(job)
        ids = [
            remote.remote_id
            for remote in listed
            if remote.created_at is not None and earliest <= remote.created_at <= latest
        ]
        known = await self._store.known_remote_ids(dispatcher.provider.name, ids)
        return [remote_id for remote_id in ids if remote_id not in known], rivals

    async def _has_rivals(self, job: Job) -> bool:
        """Return whether another order to the provider was lost at about the same time, even if it was given up."""
        submitted_at, span = _required(job.submitted_at), SUBMISSION_SPAN + CLOCK_SKEW
        return await self._store.is_another_lost(job, earliest=submitted_at - span, latest=submitted_at + span)


def _required(moment: datetime | None) -> datetime:
    assert moment is not None, "a submitted job has its times on record"
    return moment
