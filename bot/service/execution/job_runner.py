"""JobRunner: runs one job from its slot at the provider to the settled charge.

    start       at the start of the process: from now on, each job that `ProviderDispatcher.push` queued and that
                `ProviderDispatcher.next_job` gives a slot is run, in a task of its own
    adopt       after a restart: a job that is at the provider already is run at once
    run         restartable at any point: every step first checks where the job stands
    upload      put input images where the provider fetches them; see input_images.py
    submit      queued → submitting → running          the order is sent at most once
    reconcile   uncertain → running | failed           when the answer to the order was lost
    watch       running → succeeded | failed | cancelled
    collect     download the images first, then settle the charge; while they are out of reach, try on
    follow      failed → succeeded                     when the image comes after all, free; see late_images.py

Another process may run the same job, because it took this one for dead. Every step is one guarded move in the database,
from the states that the step may expect, so the second of two changes nothing.

What an error does to the money is decided by its class, in `_send` and `_watch` (after the end, in late_images.py):

    ProviderRejected, ProviderDenied   release
    ProviderUnavailable                429: back into the queue, for 15 minutes; else release when it keeps failing
    OutcomeUncertain                   keep the reservation for 15 minutes, search for the order, never send it again
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Collection
from contextlib import aclosing
from datetime import datetime, timedelta

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.quotes import fill_image_urls
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import (
    ImagesNotHosted,
    MediaError,
    OutcomeUncertain,
    ProviderDenied,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
)
from bot.domain.jobs import Failure, FailureReason, Job, JobStatus, ResultImage
from bot.domain.money.quota import format_usd
from bot.media.downloader import Downloader
from bot.providers.base import ProviderRequest, Update
from bot.providers.poller import DeadlineReached, JobUnknown
from bot.runtime.logs import bind_job
from bot.runtime.retry import backoff_seconds
from bot.service.context import ServiceContext
from bot.service.execution.in_flight import InFlight
from bot.service.execution.late_images import LateImages
from bot.service.execution.reconciliation import ClaimedElsewhere, SubmissionLost, SubmissionReconciler
from bot.service.execution.results import ResultCollector, is_worth_another_try, late_until
from bot.service.input_images import InputUploads
from bot.service.maintenance.cost_alerts import CostAlerts
from bot.service.maintenance.model_watch import ModelWatch

_log = logging.getLogger(__name__)

BUSY_TIMEOUT = timedelta(minutes=15)
"""How long a job that the provider answers with 429 is sent again before its reservation is released."""

DEFAULT_RETRY_AFTER_SECONDS = 5.0
"""Pause after a 429 without Retry-After, as the provider advises."""

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0
"""Pauses before a job is run again after an unexpected error."""

MAX_QUEUED_FAILURES = 5
"""Unexpected errors after which a job that was not sent yet is run again; one more fails it."""

UNUSABLE_INPUT_STATUS = 422
"""Krea's status when it cannot read an input image; its documentation advises one new upload."""

_NOT_SENT = frozenset({JobStatus.QUEUED})
_NOT_CONFIRMED = frozenset({JobStatus.SUBMITTING, JobStatus.UNCERTAIN})
_LOST = frozenset({JobStatus.UNCERTAIN})
_RUNNING = frozenset({JobStatus.RUNNING})
_SENT = _NOT_CONFIRMED | _RUNNING


class JobRunner:
    """Runs jobs: one task per job that holds a slot, none for those that are queued."""

    def __init__(
        self,
        context: ServiceContext,
        *,
        catalogue: Catalogue,
        downloader: Downloader,
        cost_alerts: CostAlerts,
        model_watch: ModelWatch,
        public_url: str | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._store = context.store
        self._presenter = context.presenter
        self._in_flight = context.in_flight
        self._supervisor = context.supervisor
        self._metrics = context.metrics
        self._priority = context.priority
        self._clock = context.clock
        self._sealer = context.sealer
        self._uploads = InputUploads(context)
        self._results = ResultCollector(context, downloader=downloader)
        self._cost_alerts = cost_alerts
        self._model_watch = model_watch
        self._public_url = public_url
        self._reconciler = SubmissionReconciler(store=context.store, clock=context.clock)
        self._follower = LateImages(
            context, reconciler=self._reconciler, results=self._results, cost_alerts=cost_alerts
        )

    def start(self, dispatcher: ProviderDispatcher) -> None:
        """Run the jobs that are pushed to a dispatcher from now on, in the background."""
        self._supervisor.start_forever(f"{dispatcher.provider.name} dispatcher", lambda: self._run_queued(dispatcher))

    async def _run_queued(self, dispatcher: ProviderDispatcher) -> None:
        """Run each job that the dispatcher gives a slot in a task of its own, until the dispatcher is stopped."""
        while (next_job := await dispatcher.next_job()) is not None:
            self._start_job(dispatcher, next_job.id, next_job.job)
            await self._priority.yield_if_busy()

    def adopt(self, dispatcher: ProviderDispatcher, job: Job) -> None:
        """Run a job that is already at the provider (after a restart): it takes a slot without waiting."""
        dispatcher.adopt(job.id, job.request.requester)
        self._start_job(dispatcher, job.id, None)

    def _start_job(self, dispatcher: ProviderDispatcher, job_id: str, job: Job | None) -> None:
        self._supervisor.start(f"job {job_id}", self.run(dispatcher, job_id, job))

    async def end_without_provider(self, job: Job) -> None:
        """End a job whose provider has no key any more: at once if it was not sent, else when its time is over.

        Until then the key may come back. What the provider may have charged is the operator's cost.
        """
        current: Job | None = job
        if job.status is JobStatus.QUEUED:
            current = await self.fail(job, Failure(reason=FailureReason.PROVIDER_UNAVAILABLE), expected=_NOT_SENT)
        elif job.status in _NOT_CONFIRMED:
            await self._sleep_until(job.checked_until)
            failure = Failure(reason=FailureReason.OUTCOME_UNKNOWN)
            current = await self.fail(job, failure, expected=_NOT_CONFIRMED, follow_until=job.deadline_at)
        elif job.status is JobStatus.RUNNING:
            await self._sleep_until(job.deadline_at)
            failure, cost = Failure(reason=FailureReason.TIMED_OUT), job.reserved_usd_micros
            current = await self.fail(job, failure, expected=_RUNNING, operator_cost_usd_micros=cost)
        if current is not None and current.is_followed:
            await self._sleep_until(current.follow_until_at)
            await self._follower.end(current, current.reserved_usd_micros)

    async def _sleep_until(self, moment: datetime | None) -> None:
        """Sleep in pieces, because the clock may be set meanwhile."""
        assert moment is not None, "a job that was sent has its times on record"
        while True:
            left_seconds = (moment - self._clock()).total_seconds()
            if left_seconds <= 0:
                return
            await asyncio.sleep(min(left_seconds, MAX_PAUSE_SECONDS))

    async def run(self, dispatcher: ProviderDispatcher, job_id: str, job: Job | None = None) -> None:
        """Run a job that holds a slot from where it stands; `job` is given if it was read just now."""
        with dispatcher.slot_held(job_id), bind_job(job_id):
            try:
                await self._run_with_retries(dispatcher, job_id, job)
            finally:
                if job_id not in dispatcher.queue:
                    self._in_flight.remove(job_id)

    async def _run_with_retries(self, dispatcher: ProviderDispatcher, job_id: str, job: Job | None) -> None:
        """Run a job again, from what the database says, after a defect or a storage failure interrupted it."""
        failures = 0
        while True:
            try:
                job = job or await self._store.job(job_id)
                if job is None:
                    return
                if failures and await self._ends(job, failures):
                    return
                await self._run_once(job, dispatcher)
            except Exception:
                job = None
                failures += 1
                pause_seconds = backoff_seconds(
                    failures, first_seconds=FIRST_PAUSE_SECONDS, max_seconds=MAX_PAUSE_SECONDS
                )
                _log.exception("job %s failed unexpectedly and is run again in %.1f s", job_id, pause_seconds)
                await asyncio.sleep(pause_seconds)
            else:
                return

    async def _ends(self, job: Job, failures: int) -> bool:
        """Return whether a job is at its end after an unexpected error; fail it if it cannot be run again."""
        if job.is_followed:
            return False
        if job.status.is_final:
            self._show(job)  # the error may have come before this
            return True
        if job.status is JobStatus.QUEUED and failures > MAX_QUEUED_FAILURES:
            # Nothing was sent, so nothing can be owed.
            await self.fail(job, Failure(reason=FailureReason.INTERNAL), expected=_NOT_SENT)
            return True
        if job.status in _SENT and job.deadline_at is not None and job.deadline_at <= self._clock():
            failure = Failure(reason=FailureReason.INTERNAL)
            await self.fail(job, failure, expected=_SENT, operator_cost_usd_micros=job.reserved_usd_micros)
            return True
        return False

    async def _run_once(self, job: Job, dispatcher: ProviderDispatcher) -> None:
        current: Job | None = job
        if job.status is JobStatus.QUEUED:
            current = await self._submit(job, dispatcher)
        elif job.status is JobStatus.SUBMITTING:
            # The process ended with the order half sent. It is never sent again.
            current = self._show(await self._store.mark_uncertain(job.id))
        if current is not None and current.webhook_token is not None:
            self._in_flight.register_webhook(current.id, current.webhook_token)
        if current is not None and current.status is JobStatus.UNCERTAIN:
            current = await self._reconcile(current, dispatcher)
        if current is not None and current.status is JobStatus.RUNNING:
            current = await self._watch(current, dispatcher)
        if current is not None and current.is_followed:
            await self._follower.follow(current, dispatcher)

    # -- submit -------------------------------------------------------------------------------------------

    async def _submit(self, job: Job, dispatcher: ProviderDispatcher) -> Job | None:
        """Move queued → running | uncertain | failed, or back into the queue. Return None when nothing is left."""
        if (failure := self._why_not_sent(job)) is not None:
            _log.warning("job %s (%s) waited, and its model has changed: %s", job.id, _who(job), failure.reason)
            return await self.fail(job, failure, expected=_NOT_SENT)
        if dispatcher.breaker.gave_up and not dispatcher.breaker.begin_trial():
            return await self.fail(job, Failure(reason=FailureReason.PROVIDER_UNAVAILABLE), expected=_NOT_SENT)
        try:
            urls = await self._uploads.urls_for(job, dispatcher.provider)
        except ImagesNotHosted as error:
            _log.warning("job %s (%s): input images not hosted: %s", job.id, _who(job), error)
            return await self.fail(job, Failure(reason=FailureReason.INPUT_NOT_HOSTED), expected=_NOT_SENT)
        except ProviderError as error:
            if isinstance(error, ProviderDenied):
                dispatcher.breaker.record_denial_of_one(error)
            return await self.fail(job, failure_of(error), expected=_NOT_SENT)
        path = secrets.token_urlsafe(32) if self._public_url else None
        # The database need not know the path, only recognise it when it is called.
        token = self._sealer.digest(path) if path else None
        now = self._clock()
        deadline_at = now + timedelta(seconds=dispatcher.provider.deadline_seconds)
        # Where other processes order too, the database counts the slots; else the dispatcher has counted them.
        slots = dispatcher.slots if dispatcher.shares_slots else None
        begun = await self._store.begin_submission(
            job.id, now=now, deadline_at=deadline_at, webhook_token=token, slots=slots
        )
        dispatcher.slot_recorded(job.id)
        if begun is None:
            return None  # cancelled while input images were uploaded
        if begun.status is JobStatus.QUEUED:
            dispatcher.push(begun, at_front=True)  # another process took the last slot
            return begun
        if token is not None:
            self._in_flight.register_webhook(job.id, token)
        order = ProviderRequest(
            path=job.path,
            body=fill_image_urls(job.body, urls),
            webhook_url=f"{self._public_url}/hooks/{path}" if path else None,
        )
        # In a task of its own: cancelling this one must not separate sending the order from recording its answer.
        return await asyncio.shield(
            self._supervisor.start(
                f"submission {job.id}", self._send(begun, dispatcher, order, give_up_at=job.deadline_at)
            )
        )

    def _why_not_sent(self, job: Job) -> Failure | None:
        """Return why an order that waited cannot be sent as it was quoted: its model changed, is held or is gone.

        What did not change here since the order is not compared: another process quoted it, perhaps by a newer file.
        """
        if not self._catalogue.changed_since(job.request.model_id, job.created_at):
            return None
        model = self._catalogue.find(job.request.model_id)
        if model is not None and model.still_takes(
            job.body, images=len(job.request.images), amount_usd_micros=job.reserved_usd_micros
        ):
            return None
        if model is not None and model.stopped == "gone":
            return Failure(reason=FailureReason.MODEL_RETIRED, hint=model.heir)
        return Failure(reason=FailureReason.MODEL_CHANGED)

    async def _send(
        self, job: Job, dispatcher: ProviderDispatcher, order: ProviderRequest, *, give_up_at: datetime | None
    ) -> Job | None:
        """Send the order and record what came of it. `give_up_at` is set after an earlier 429."""
        with bind_job(job.id), dispatcher.submission():
            try:
                remote = await dispatcher.submit(order)
            except ProviderRejected as error:
                dispatcher.refused_since = None
                _log.warning("job %s (%s) was refused: %s", job.id, _who(job), error)
                if isinstance(error, ProviderDenied):
                    dispatcher.breaker.record_denial(error, of_order=True)
                else:
                    dispatcher.breaker.record_success()
                if error.reason == FailureReason.MODEL_RETIRED:
                    self._model_watch.gone(job.request.model_id, heir=error.hint)
                elif error.reason == FailureReason.REJECTED:
                    self._model_watch.doubted()
                if error.status == UNUSABLE_INPUT_STATUS and await self._uploads.forget(job):
                    again = await self._not_accepted(job)
                    return (
                        await self._submit(again, dispatcher) if again and again.status is JobStatus.QUEUED else again
                    )
                return await self.fail(job, failure_of(error), expected=_NOT_CONFIRMED)
            except ProviderUnavailable as error:
                _log.warning("job %s (%s) was not accepted: %s", job.id, _who(job), error)
                if error.status == 429:
                    return await self._requeue(job, dispatcher, error, give_up_at=give_up_at)
                dispatcher.breaker.record_failure(error, job.request.user_id)
                return await self.fail(job, failure_of(error), expected=_NOT_CONFIRMED)
            except OutcomeUncertain as error:
                _log.warning("job %s (%s) got no usable answer: %s", job.id, _who(job), error)
                dispatcher.breaker.record_failure(error, job.request.user_id)
                return self._show(await self._store.mark_uncertain(job.id))
            dispatcher.refused_since = None
            dispatcher.breaker.record_acceptance()
            self._model_watch.accepted(job.request.model_id, remote.withdrawal)
            self._in_flight.get_or_create(job.id).progress = remote.progress
            running = await self._store.mark_running(job.id, remote_id=remote.remote_id)
            _log.info(
                "job %s (%s) was submitted as %s for at most %s",
                job.id,
                _who(job),
                remote.remote_id,
                format_usd(job.reserved_usd_micros),
            )
            return self._show(running)

    async def _requeue(
        self, job: Job, dispatcher: ProviderDispatcher, error: ProviderUnavailable, *, give_up_at: datetime | None
    ) -> Job | None:
        """Pause the provider after a 429 and queue the job again, as the next one of its member, or give it up.

        It is given up when it got nothing but 429 for `BUSY_TIMEOUT`, also over restarts, or when it waited that long
        behind jobs that got nothing else.
        """
        dispatcher.pause(error.retry_after_seconds or DEFAULT_RETRY_AFTER_SECONDS)
        now = self._clock()
        dispatcher.refused_since = dispatcher.refused_since or now
        waiting_since = max(dispatcher.refused_since, job.created_at)
        give_up_at = min(give_up_at or now + BUSY_TIMEOUT, waiting_since + BUSY_TIMEOUT)
        if give_up_at <= now:
            return await self.fail(job, Failure(reason=FailureReason.PROVIDER_BUSY), expected=_NOT_CONFIRMED)
        waiting = await self._not_accepted(job, give_up_at=give_up_at)
        if waiting is not None and waiting.status is JobStatus.QUEUED:
            dispatcher.push(waiting, at_front=True)
        return waiting

    async def _not_accepted(self, job: Job, *, give_up_at: datetime | None = None) -> Job | None:
        """Move submitting → queued, or cancelled where that was asked for meanwhile."""
        waiting = await self._store.requeue(job.id, give_up_at=give_up_at)
        if waiting is not None and self._in_flight.get_or_create(job.id).cancel_wanted:
            waiting = await self._store.mark_cancelled(job.id, expected=JobStatus.QUEUED, now=self._clock())
        return self._show(waiting)

    # -- reconcile ----------------------------------------------------------------------------------------

    async def _reconcile(self, job: Job, dispatcher: ProviderDispatcher) -> Job | None:
        """Move uncertain → running when the order is found with proof, else → failed, and follow it on."""
        in_flight = self._in_flight.get_or_create(job.id)
        try:
            with dispatcher.slot_released(job.id):
                remote_id = await self._reconciler.find(job, dispatcher, in_flight, until=job.checked_until)
        except SubmissionLost:
            _log.error("job %s (%s) was not found at the provider yet", job.id, _who(job))
            failure = Failure(reason=FailureReason.OUTCOME_UNKNOWN)
            return await self.fail(job, failure, expected=_LOST, follow_until=job.deadline_at)
        except ClaimedElsewhere:
            return await self._store.job(job.id)
        _log.info("job %s (%s) was found at the provider as %s", job.id, _who(job), remote_id)
        return self._show(await self._store.mark_running(job.id, remote_id=remote_id))

    # -- watch --------------------------------------------------------------------------------------------

    async def _watch(self, job: Job, dispatcher: ProviderDispatcher) -> Job | None:
        """Move running → succeeded | failed | cancelled. Return a job that is to be followed."""
        assert job.remote_id is not None, "a running job has an id at the provider"
        assert job.submitted_at is not None, "a running job was submitted"
        assert job.deadline_at is not None, "a running job has a deadline"
        in_flight = self._in_flight.get_or_create(job.id)
        if in_flight.cancel_wanted:
            await dispatcher.cancel(job.remote_id)
        try:
            async with aclosing(
                dispatcher.poller.watch(
                    job.remote_id,
                    submitted_at=job.submitted_at,
                    deadline_at=job.deadline_at,
                    usual=self._in_flight.durations_of(job.request.model_id),
                )
            ) as updates:
                async for update in updates:
                    if update.status is JobStatus.SUCCEEDED:
                        return await self._collect(job, update, dispatcher)
                    if await self._advance(job, update, in_flight):
                        return None
        except JobUnknown:
            # It may know the job again, so an image that comes later is brought, and paid for by the operator.
            failure = Failure(reason=FailureReason.PROVIDER_FAILED)
            return await self.fail(job, failure, expected=_RUNNING, follow_until=job.deadline_at)
        except DeadlineReached:
            _log.error("job %s (%s) did not end by its deadline; the operator bears what it costs", job.id, _who(job))
            failure = Failure(reason=FailureReason.TIMED_OUT)
            follow_until = late_until(job, dispatcher.provider)
            return await self.fail(job, failure, expected=_RUNNING, follow_until=follow_until)
        return None

    async def _advance(self, job: Job, update: Update, in_flight: InFlight) -> bool:
        """Act on one update from the provider, without a result; True when the job has ended."""
        match update.status:
            case JobStatus.FAILED:
                reason = update.failure.reason if update.failure else "no reason given"
                _log.warning(
                    "job %s (%s) failed at the provider (%s): %s", job.id, _who(job), update.provider_status, reason
                )
                failure = update.failure or Failure(reason=FailureReason.PROVIDER_FAILED)
                if update.states_too_much(job.reserved_usd_micros):
                    self._cost_alerts.stated_too_much(job, update)
                cost = update.cost_of_failure_usd_micros(job.reserved_usd_micros)
                await self.fail(job, failure, expected=_RUNNING, operator_cost_usd_micros=cost)
            case JobStatus.CANCELLED:
                cancelled = await self._store.mark_cancelled(job.id, expected=JobStatus.RUNNING, now=self._clock())
                if cancelled is not None:
                    self._metrics.job_ended(cancelled)
                self._show(cancelled)
            case _:
                shown = (in_flight.progress, in_flight.preview_url)
                in_flight.progress, in_flight.preview_url = update.progress or in_flight.progress, update.preview_url
                if shown != (in_flight.progress, in_flight.preview_url):
                    self._show(job)
                return False
        return True

    # -- collect ------------------------------------------------------------------------------------------

    async def _collect(self, job: Job, update: Update, dispatcher: ProviderDispatcher) -> Job | None:
        """Download the images of a completed job, then charge. Without a usable image the member pays nothing.

        Return a job that is to be followed, because its image may be there later.
        """
        if update.states_too_much(job.reserved_usd_micros):
            self._cost_alerts.stated_too_much(job, update)
        cost = update.cost_usd_micros_or(job.reserved_usd_micros)
        try:
            images, lost_images = await self._fetch(job, update, dispatcher)
        except MediaError as error:
            _log.error("job %s was completed without a usable image: %s", job.id, error)
            notice = f"Job {job.id} was completed without a usable image: {error}"
            self._presenter.operator_notice("no usable picture", notice)
            failure = Failure(reason=FailureReason.NO_USABLE_RESULT)
            follow_until = late_until(job, dispatcher.provider) if is_worth_another_try(error) else None
            return await self.fail(
                job, failure, expected=_RUNNING, operator_cost_usd_micros=cost, follow_until=follow_until
            )
        charged = min(cost, job.reserved_usd_micros)
        if cost > charged:
            _log.error(
                "job %s (%s) cost %s, only %s was reserved: the operator bears the rest",
                job.id,
                _who(job),
                format_usd(cost),
                format_usd(charged),
            )
        succeeded = await self._store.succeed(
            job.id,
            charged_usd_micros=charged,
            operator_cost_usd_micros=cost - charged,
            images=images,
            lost_images=lost_images,
            took_seconds=update.took_seconds,
            now=self._clock(),
        )
        if succeeded is not None:
            self._metrics.job_ended(succeeded, operator_cost_usd_micros=cost - charged)
            if cost > charged:
                self._cost_alerts.job_cost_something(succeeded)
            if update.took_seconds is not None:
                self._in_flight.observe_durations([(job.request.model_id, update.took_seconds)])
        self._show(succeeded)
        _log.info("job %s (%s) was completed for %s", job.id, _who(job), format_usd(charged))
        return None

    async def _fetch(self, job: Job, update: Update, dispatcher: ProviderDispatcher) -> tuple[list[ResultImage], int]:
        """Return the results of a completed job and how many are lacking. Raises MediaError when none can be fetched.

        While they are out of reach, the reservation stays for a quarter of an hour and the slot is free.
        """
        try:
            return await self._results.collect(job, update, dispatcher.provider)
        except MediaError as error:
            if not error.is_out_of_reach:
                raise
            _log.warning("the image of job %s is made and out of reach: %s", job.id, error)
            with dispatcher.slot_released(job.id):
                unfetched = await self._store.mark_unfetched(job.id, now=self._clock()) or await self._store.job(job.id)
                self._show(unfetched)
                until = None if unfetched is None else unfetched.fetched_until
                return await self._results.collect_later(
                    job, update, dispatcher.provider, error, until=until or self._clock()
                )

    # -- ends ---------------------------------------------------------------------------------------------

    async def fail(
        self,
        job: Job,
        failure: Failure,
        *,
        expected: Collection[JobStatus],
        operator_cost_usd_micros: int = 0,
        follow_until: datetime | None = None,
    ) -> Job | None:
        """Move `expected` → failed and release the reservation; the operator may bear what the provider charges.

        Where it is not known yet whether it charges anything, the job is followed until then.
        """
        failed = await self._store.fail(
            job.id,
            failure,
            now=self._clock(),
            operator_cost_usd_micros=operator_cost_usd_micros,
            expected=expected,
            follow_until=follow_until,
        )
        if failed is not None:
            self._metrics.job_ended(failed, operator_cost_usd_micros=operator_cost_usd_micros)
            if operator_cost_usd_micros:
                self._cost_alerts.job_cost_something(failed)
        return self._show(failed)

    def _show(self, job: Job | None) -> Job | None:
        """Have a changed job shown and return it; None stands for a move that was not legal any more."""
        if job is not None:
            self._presenter.reply_changed(job.reply_id)
        return job


def _who(job: Job) -> str:
    """Describe a job in log lines."""
    return f"{job.request.model_id} for member {job.request.user_id} in server {job.request.guild_id}"


def failure_of(error: ProviderError) -> Failure:
    """Return what the member is told about an order that was not accepted."""
    if isinstance(error, ProviderRejected) and not isinstance(error, ProviderDenied):
        return Failure(reason=FailureReason(error.reason), hint=error.hint)
    return Failure(reason=FailureReason.PROVIDER_UNAVAILABLE)
