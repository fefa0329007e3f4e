"""SubmissionReconciler: finds orders whose answer was lost, with proof, or gives them up; never sends them again."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from bot.catalogue.quotes import fill_image_urls
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import ProviderDenied, ProviderError, ProviderRejected, StoreError
from bot.domain.jobs import Job
from bot.providers.base import RemoteJob
from bot.providers.matching import Match, match
from bot.runtime.retry import backoff_seconds
from bot.service.execution.in_flight import InFlight
from bot.store.store import Store

_log = logging.getLogger(__name__)

MIN_RECONCILIATION_SECONDS = 20.0
"""The shortest search, also when it begins late, after a restart."""

SUBMISSION_SPAN = timedelta(seconds=90)
"""A lost order was created at the provider within this after it left: longer than any submission may take."""

CLOCK_SKEW = timedelta(seconds=5)
"""How far the provider's clock may be behind or ahead of ours."""

OLD_SPAN = timedelta(minutes=10)
"""A span that ended longer ago is not listed from the newest job on."""

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
"""Pauses between two searches, unless a webhook call comes first."""

MAX_MISSES = 3
"""How often a job that a call named may be unknown to the provider, which may be a moment behind its own call, or seem
to be of another time, because a single answer is dated wrong. Another call lets it be checked as often again."""


class SubmissionLost(Exception):
    """Raised when the search is over. `in_doubt`: the provider may have made the image, so the operator may pay."""

    def __init__(self, *, in_doubt: bool) -> None:
        super().__init__("the order was not found again")
        self.in_doubt = in_doubt


class ClaimedElsewhere(Exception):
    """Raised when the order is not lost any more: its sender was only slow, or another process has found it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Listed:
    """What a list shows of an order: the one job that is proven to be it, and whether any may be it and be billed."""

    proven: str | None
    is_possible: bool


class SubmissionReconciler:
    """Searches orders whose answer was lost."""

    def __init__(self, *, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def find(self, job: Job, dispatcher: ProviderDispatcher, in_flight: InFlight, *, until: datetime) -> str:
        """Return the remote id of a lost order, searched until a time. Not finding it before then proves nothing.

        There are two proofs. A call on the job's secret webhook path names it and the provider confirms it; an order
        that was sent with such a path is found in no other way. Or it is the only job in the provider's list with
        exactly this model, request body and time, and no other order of ours can be it.

        Raises SubmissionLost and ClaimedElsewhere.
        """
        until = max(until, self._clock() + timedelta(seconds=MIN_RECONCILIATION_SECONDS))
        called = in_flight.claimed = asyncio.Event()
        misses: Counter[str] = Counter()
        searches = 1
        while True:
            if dispatcher.shares_slots and not await self._is_still_lost(job):
                raise ClaimedElsewhere
            if (claimed := await self._claimed(job, dispatcher, in_flight, misses)) is not None:
                return claimed
            left = (until - self._clock()).total_seconds()
            in_doubt = True
            if dispatcher.provider.can_list and (job.webhook_token is None or left <= 0):
                try:
                    listed = await self._listed(job, dispatcher)
                except ProviderError as error:
                    _log.info("job %s cannot be searched at %s now: %s", job.id, dispatcher.provider.name, error)
                else:
                    in_doubt = listed.is_possible
                    if job.webhook_token is None and listed.proven is not None:
                        return listed.proven
            if left <= 0:
                raise SubmissionLost(in_doubt=in_doubt)
            pause = backoff_seconds(searches, first_seconds=FIRST_PAUSE_SECONDS, max_seconds=MAX_PAUSE_SECONDS)
            try:
                await asyncio.wait_for(called.wait(), min(pause, left))
            except TimeoutError:
                searches += 1
            else:
                misses.clear()
            called.clear()

    async def _is_still_lost(self, job: Job) -> bool:
        found = await self._store.job(job.id)
        if found is None or found.remote_id is not None:
            return False
        return found.status is job.status and found.is_followed == job.is_followed

    async def _claimed(
        self, job: Job, dispatcher: ProviderDispatcher, in_flight: InFlight, misses: Counter[str]
    ) -> str | None:
        """Return a remote id named on the job's webhook path, if the provider confirms it as a job of that time."""
        for remote_id in dict.fromkeys((*in_flight.claims, *await self._kept_callbacks(job))):
            if misses[remote_id] >= MAX_MISSES:
                continue
            try:
                update = await dispatcher.provider.fetch(remote_id)
            except ProviderDenied:
                continue  # our key was refused, which says nothing about the job
            except ProviderRejected:
                misses[remote_id] += 1
            except ProviderError:
                continue
            else:
                in_time = update.created_at is None or update.created_at >= _required(job.submitted_at) - CLOCK_SKEW
                if await self._store.known_remote_ids(dispatcher.provider.name, [remote_id]):
                    misses[remote_id] = MAX_MISSES
                elif in_time:
                    return remote_id
                else:
                    misses[remote_id] += 1
            if misses[remote_id] >= MAX_MISSES and remote_id in in_flight.claims:
                in_flight.claims.remove(remote_id)
        return None

    async def _kept_callbacks(self, job: Job) -> list[str]:
        """Return what calls named that came to another process, or to one that has ended since."""
        if job.webhook_token is None:
            return []
        try:
            return await self._store.kept_callbacks(job.id)
        except StoreError as error:
            _log.info("the calls about job %s cannot be read now: %s", job.id, error)
            return []

    async def _listed(self, job: Job, dispatcher: ProviderDispatcher) -> _Listed:
        """Compare the order with the jobs at the provider that are unknown to us and were created when it left."""
        earliest = _required(job.submitted_at) - CLOCK_SKEW
        latest = _required(job.submitted_at) + SUBMISSION_SPAN
        is_old = latest + OLD_SPAN < self._clock()
        jobs = await dispatcher.provider.recent(since=earliest, until=latest + CLOCK_SKEW if is_old else None)
        # Orders under way now may own some of these; their answers are on disk once they settled.
        await dispatcher.submissions_settled()
        # So may orders of other processes. Checked before the known ids: one that ends in between is known by then.
        is_owned = dispatcher.shares_slots and await self._store.is_another_leaving(job)
        jobs = [remote for remote in jobs if remote.created_at is None or earliest <= remote.created_at <= latest]
        known = await self._store.known_remote_ids(dispatcher.provider.name, [remote.remote_id for remote in jobs])
        body = await self._sent_body(job)
        fitting: list[RemoteJob] = []
        is_possible = False
        for remote in jobs:
            found = match(remote, path=job.path, body=body)
            if remote.remote_id in known or found is Match.EXCLUDED:
                continue
            if found is Match.FITS and remote.created_at is not None:
                fitting.append(remote)
            else:
                is_possible = is_possible or remote.may_be_billed
        others = await self._others_lost(job)
        # Of several lost orders that are the same, no more may be billed than jobs are listed: the earliest.
        is_possible = is_possible or sum(remote.may_be_billed for remote in fitting) > sum(
            other < job.id for other in others
        )
        proven = fitting[0].remote_id if len(fitting) == 1 and not others and not is_owned else None
        return _Listed(proven=proven, is_possible=is_possible)

    async def _sent_body(self, job: Job) -> Mapping[str, Any] | None:
        """Return the request body that was sent; None when the address of an input image is not known any more."""
        urls: list[str] = []
        for image in job.request.images:
            url = await self._store.uploaded_url(job.provider, image.sha256)
            if url is None:
                return None
            urls.append(url)
        return fill_image_urls(job.body, urls)

    async def _others_lost(self, job: Job) -> list[str]:
        """Return the other orders like this one that were lost at about the same time, even if they were given up."""
        submitted_at, span = _required(job.submitted_at), SUBMISSION_SPAN + CLOCK_SKEW
        return await self._store.others_lost(job, earliest=submitted_at - span, latest=submitted_at + span)


def _required(moment: datetime | None) -> datetime:
    assert moment is not None, "a submitted job has its times on record"
    return moment
