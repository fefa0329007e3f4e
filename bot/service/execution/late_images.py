"""LateImages: follows jobs that have failed for their members, because their outcome was not known in time.

The reservation is released already and never charged. What turns up until the provider can no longer have the job is
brought to the member free, and the operator bears its cost.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from datetime import datetime, timedelta

from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import MediaError
from bot.domain.jobs import FailureReason, Job, JobStatus, ResultImage
from bot.domain.money.quota import format_usd
from bot.providers.base import Provider, Update
from bot.providers.poller import DeadlineReached
from bot.service.context import ServiceContext
from bot.service.execution.reconciliation import ClaimedElsewhere, SubmissionLost, SubmissionReconciler
from bot.service.execution.results import ResultCollector
from bot.service.maintenance.cost_alerts import CostAlerts

_log = logging.getLogger(__name__)


class LateImages:
    """Follows failed jobs, each from where it stands, until its image has come or can no longer come."""

    def __init__(
        self,
        context: ServiceContext,
        *,
        reconciler: SubmissionReconciler,
        results: ResultCollector,
        cost_alerts: CostAlerts,
    ) -> None:
        self._store = context.store
        self._presenter = context.presenter
        self._in_flight = context.in_flight
        self._metrics = context.metrics
        self._clock = context.clock
        self._reconciler = reconciler
        self._results = results
        self._cost_alerts = cost_alerts

    async def follow(self, job: Job, dispatcher: ProviderDispatcher) -> None:
        """Follow a failed job to its end: failed → succeeded, or nothing came."""
        with dispatcher.slot_released(job.id):
            found = job if job.remote_id is not None else await self._find(job, dispatcher)
            if found is not None:
                await self._watch(found, dispatcher)

    async def _find(self, job: Job, dispatcher: ProviderDispatcher) -> Job | None:
        """Search an order whose answer was lost until its provider can no longer have it."""
        assert job.follow_until_at is not None, "a followed job has an end"
        in_flight = self._in_flight.get_or_create(job.id)
        try:
            remote_id = await self._reconciler.find(job, dispatcher, in_flight, until=job.follow_until_at)
        except SubmissionLost as error:
            await self.end(job, job.reserved_usd_micros if error.in_doubt else 0)
            return None
        except ClaimedElsewhere:
            return None
        _log.info("job %s was found late at the provider as %s", job.id, remote_id)
        until = job.follow_until_at + timedelta(seconds=dispatcher.provider.late_seconds)
        return await self._store.mark_found(job.id, remote_id=remote_id, follow_until=until)

    async def _watch(self, job: Job, dispatcher: ProviderDispatcher) -> None:
        """Poll a job whose name at the provider is known until it ends, or no longer can."""
        assert job.remote_id is not None, "a job that was found has an id at the provider"
        assert job.submitted_at is not None, "a followed job was submitted"
        assert job.follow_until_at is not None, "a followed job has an end"
        try:
            watch = dispatcher.poller.watch(
                job.remote_id,
                submitted_at=job.submitted_at,
                deadline_at=job.follow_until_at,
                until_deadline=True,
            )
            async with aclosing(watch) as updates:
                async for update in updates:
                    if update.status.is_final and update.states_too_much(job.reserved_usd_micros):
                        self._cost_alerts.stated_too_much(job, update)
                    match update.status:
                        case JobStatus.SUCCEEDED:
                            await self._deliver(job, update, dispatcher.provider)
                        case JobStatus.FAILED:
                            await self.end(job, update.cost_of_failure_usd_micros(job.reserved_usd_micros))
                        case JobStatus.CANCELLED:
                            await self.end(job, 0)
                        case _:
                            continue
                    return
        except DeadlineReached:
            await self.end(job, job.reserved_usd_micros)

    async def _deliver(self, job: Job, update: Update, provider: Provider) -> None:
        assert job.follow_until_at is not None, "a followed job has an end"
        cost = _still_to_book(job, update.cost_usd_micros_or(job.reserved_usd_micros))
        try:
            images, lost_images = await self._collect(job, update, provider, until=job.follow_until_at)
        except MediaError as error:
            _log.error("job %s was completed without a usable image: %s", job.id, error)
            await self.end(job, cost)
            return
        delivered = await self._store.deliver_late(
            job.id,
            operator_cost_usd_micros=cost,
            images=images,
            lost_images=lost_images,
            took_seconds=update.took_seconds,
            now=self._clock(),
        )
        if delivered is not None:
            self._record_cost(delivered, cost)
            _log.warning("the image of job %s came late; the operator bears %s", job.id, format_usd(cost))
            self._presenter.reply_changed(delivered.reply_id)

    async def _collect(
        self, job: Job, update: Update, provider: Provider, *, until: datetime
    ) -> tuple[list[ResultImage], int]:
        try:
            return await self._results.collect(job, update, provider)
        except MediaError as error:
            return await self._results.collect_later(job, update, provider, error, until=until)

    async def end(self, job: Job, cost_usd_micros: int) -> None:
        """Follow the job no longer; the operator bears what the provider charges or may charge."""
        cost_usd_micros = _still_to_book(job, cost_usd_micros)
        ended = await self._store.end_follow(job.id, operator_cost_usd_micros=cost_usd_micros, now=self._clock())
        if ended is not None:
            self._record_cost(ended, cost_usd_micros)
            _log.warning(
                "job %s is followed no longer, no image came; the operator bears %s",
                job.id,
                format_usd(cost_usd_micros),
            )

    def _record_cost(self, job: Job, cost_usd_micros: int) -> None:
        self._metrics.cost_late(job, operator_cost_usd_micros=cost_usd_micros)
        if cost_usd_micros:
            self._cost_alerts.job_cost_something(job)


def _still_to_book(job: Job, cost_usd_micros: int) -> int:
    """Return what of a cost is not booked yet: nothing once the image was made and given up."""
    made = job.failure is not None and job.failure.reason is FailureReason.NO_USABLE_RESULT
    return 0 if made else cost_usd_micros
