"""The worker: sees one job through, from its place at the provider to the settled charge.

    follow      restartable at any point: every step first looks where the job stands
      submit    queued → submitting → running          the order is sent at most once
      look up   uncertain → running                    when the answer was lost
      watch     running → succeeded | failed | cancelled
      collect   the pictures first, then the charge

Another process may follow the same job, having taken this one for dead. Every step is one guarded move in the books,
from the states that whoever takes it has reason to expect, so the second of two changes nothing.

What an error does to the money is decided by its class, in `_send` and `_watch` and nowhere else:

    ProviderRejected, ProviderDenied   release
    ProviderUnavailable                429: back in line; else release when it keeps failing
    OutcomeUncertain                   keep the reservation, look again, never send again
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, aclosing
from datetime import datetime, timedelta
from functools import partial

from bot.catalogue.quotes import fill_image_urls
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.errors import (
    MediaError,
    OutcomeUncertain,
    ProviderDenied,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
)
from bot.domain.jobs import Failure, FailureReason, Job, JobStatus, ResultImage
from bot.media.blob_store import BlobStore
from bot.media.downloader import Downloader
from bot.media.image_pool import ImagePool
from bot.providers.base import Provider, ProviderRequest, RemoteJob, Update
from bot.providers.poller import DeadlineReached
from bot.runtime.interactive_priority import InteractivePriority
from bot.runtime.metrics import Metrics
from bot.runtime.retry import retry_storage_errors, retrying
from bot.runtime.supervisor import Supervisor
from bot.service.in_flight import InFlight, InFlightJobs
from bot.service.reconciliation import ClaimedElsewhere, SubmissionLost, SubmissionReconciler
from bot.service.views import ReplyPresenter
from bot.store.store import Store

_log = logging.getLogger(__name__)

SUBMIT_ATTEMPTS = 4
"""Only for orders that never left: connection refused, name not found."""

ENOUGH_SECONDS = 5.0
"""The pause after a 429 that names none (the provider's own advice)."""

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 60.0
QUEUED_FAILURES = 5
"""So often a job that was not yet sent is taken up again after an unexpected error."""

UNUSABLE_INPUT = 422
"""Krea's answer when it cannot read an input picture; documented as worth one new upload."""

RESULT_MAX_BYTES = 100 * 2**20
RESULT_ATTEMPTS = 6
RESULT_SECONDS = 300.0


_NOT_SENT = frozenset({JobStatus.QUEUED})
_NOT_CONFIRMED = frozenset({JobStatus.SUBMITTING, JobStatus.UNCERTAIN})
_LOST = frozenset({JobStatus.UNCERTAIN})
_RUNNING = frozenset({JobStatus.RUNNING})
_SENT = _NOT_CONFIRMED | _RUNNING


class JobRunner:
    """Follows jobs. One task per job that holds a place; none for those that wait in line."""

    def __init__(
        self,
        *,
        store: Store,
        in_flight: InFlightJobs,
        blob_store: BlobStore,
        downloader: Downloader,
        priority: InteractivePriority,
        image_pool: ImagePool,
        supervisor: Supervisor,
        job_log: Callable[[str], AbstractContextManager[object]],
        public_url: str | None,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._in_flight = in_flight
        self._blob_store = blob_store
        self._downloader = downloader
        self._priority = priority
        self._image_pool = image_pool
        self._supervisor = supervisor
        self._job_log = job_log
        self._public_url = public_url
        self._metrics = metrics
        self._clock = clock
        self._lost = SubmissionReconciler(store=store, clock=clock)
        self._presenter: ReplyPresenter | None = None

    def set_presenter(self, presenter: ReplyPresenter) -> None:
        """Set who is told of changes. Before the first job."""
        self._presenter = presenter

    async def run(self, dispatcher: ProviderDispatcher, job_id: str, job: Job | None = None) -> None:
        """See one job through from where it stands, which is as in `job` if that was read just now."""
        with self._job_log(job_id):
            try:
                await self._run_with_retries(dispatcher, job_id, job)
            finally:
                if job_id not in dispatcher.queue:
                    self._in_flight.remove(job_id)

    async def _run_with_retries(self, dispatcher: ProviderDispatcher, job_id: str, job: Job | None) -> None:
        """A defect or a failing disk must not leave a job where it stands: it is taken up again from the books."""
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
                pause_seconds = min(FIRST_PAUSE_SECONDS * 2**failures, MAX_PAUSE_SECONDS)
                failures += 1
                _log.exception("following failed and is taken up again in %.1f s", pause_seconds)
                await asyncio.sleep(pause_seconds)
            else:
                return

    async def _ends(self, job: Job, failures: int) -> bool:
        """After a failure: whether the job is at its end all the same, or has to be brought to one."""
        if job.status.is_final:
            self._show(job)  # perhaps it was this that failed
            return True
        if job.status is JobStatus.QUEUED and failures > QUEUED_FAILURES:
            # Nothing was sent, so nothing can be owed.
            await self.fail(job, Failure(reason=FailureReason.INTERNAL), expected=_NOT_SENT)
            return True
        if job.deadline_at is not None and job.deadline_at <= self._clock():
            await self.fail(job, Failure(reason=FailureReason.INTERNAL), expected=_SENT, at_operator_cost=True)
            return True
        return False

    async def _run_once(self, job: Job, dispatcher: ProviderDispatcher) -> None:
        current: Job | None = job
        if job.status is JobStatus.QUEUED:
            current = await self._submit(job, dispatcher)
        elif job.status is JobStatus.SUBMITTING:
            # We died, or were stopped, with the order half sent. It is never sent again.
            current = self._show(await self._store.mark_uncertain(job.id))
        if current is not None and current.webhook_token is not None:
            self._in_flight.register_webhook(current.id, current.webhook_token)
        if current is not None and current.status is JobStatus.UNCERTAIN:
            current = await self._reconcile(current, dispatcher)
        if current is not None and current.status is JobStatus.RUNNING:
            await self._watch(current, dispatcher)

    # -- submit -------------------------------------------------------------------------------------------

    async def _submit(self, job: Job, dispatcher: ProviderDispatcher) -> Job | None:
        """queued → running | uncertain | failed, or back in line. None when there is nothing more to do here."""
        if dispatcher.gave_up:
            return await self.fail(job, Failure(reason=FailureReason.PROVIDER_UNAVAILABLE), expected=_NOT_SENT)
        try:
            urls = await self._input_urls(job, dispatcher.provider)
        except ProviderError as error:
            if isinstance(error, ProviderDenied):
                dispatcher.record_failure(error)
            return await self.fail(job, failure_of(error), expected=_NOT_SENT)
        token = secrets.token_urlsafe(32) if self._public_url else None
        now = self._clock()
        deadline_at = now + timedelta(seconds=dispatcher.provider.deadline_seconds)
        places = dispatcher.slots if dispatcher.shares_slots else None  # else the lane itself counts them
        begun = await self._store.begin_submission(
            job.id, now=now, deadline_at=deadline_at, webhook_token=token, slots=places
        )
        dispatcher.slot_recorded(job.id)
        if begun is None:
            return None  # cancelled while we were uploading
        if begun.status is JobStatus.QUEUED:
            dispatcher.push(begun, at_front=True)  # another process was faster
            return begun
        if token is not None:
            self._in_flight.register_webhook(job.id, token)
        order = ProviderRequest(
            path=job.path,
            body=fill_image_urls(job.body, urls),
            webhook_url=f"{self._public_url}/hooks/{token}" if token else None,
        )
        # A task of its own: stopping this one must not cut the sending and the writing down in two.
        return await asyncio.shield(
            self._supervisor.start(f"submission {job.id}", self._send(begun, dispatcher, order))
        )

    async def _send(self, job: Job, dispatcher: ProviderDispatcher, order: ProviderRequest) -> Job | None:
        """Send the order and write down what came of it."""
        with self._job_log(job.id), dispatcher.submission():
            try:
                remote = await self._send_once(dispatcher, order)
            except ProviderRejected as error:
                _log.warning("refused: %s", error)
                if isinstance(error, ProviderDenied):
                    dispatcher.record_failure(error)
                else:
                    dispatcher.record_success()
                if error.status == UNUSABLE_INPUT and await self._forget_uploads(job):
                    again = await self._not_accepted(job)
                    return (
                        await self._submit(again, dispatcher) if again and again.status is JobStatus.QUEUED else again
                    )
                return await self.fail(job, failure_of(error), expected=_NOT_CONFIRMED)
            except ProviderUnavailable as error:
                _log.warning("not accepted: %s", error)
                if error.status == 429:
                    return await self._requeue(job, dispatcher, error.retry_after_seconds or ENOUGH_SECONDS)
                dispatcher.record_failure(error)
                return await self.fail(job, failure_of(error), expected=_NOT_CONFIRMED)
            except OutcomeUncertain as error:
                _log.warning("no usable answer: %s", error)
                dispatcher.record_failure(error)
                return self._show(await self._store.mark_uncertain(job.id))
            dispatcher.record_success()
            self._in_flight.get_or_create(job.id).progress = remote.progress
            running = await self._store.mark_running(job.id, remote_id=remote.remote_id)
            _log.info("submitted as %s", remote.remote_id)
            return self._show(running)

    async def _send_once(self, dispatcher: ProviderDispatcher, order: ProviderRequest) -> RemoteJob:
        """At most one order leaves. Only a connection that could not be made is tried again, and that not too often."""
        dispatcher.retries.earn()
        return await retrying(
            lambda: dispatcher.provider.submit(order),
            on=lambda error: _never_left(error) and dispatcher.retries.spend(),
            attempts=SUBMIT_ATTEMPTS,
            within_seconds=30,
            first_pause_seconds=0.5,
            longest_pause_seconds=8,
        )

    async def _requeue(self, job: Job, dispatcher: ProviderDispatcher, seconds: float) -> Job | None:
        """The provider has enough for now: nobody starts for a while, and this job is the next of its member."""
        dispatcher.pause(seconds)
        waiting = await self._not_accepted(job)
        if waiting is not None and waiting.status is JobStatus.QUEUED:
            dispatcher.push(waiting, at_front=True)
        return waiting

    async def _not_accepted(self, job: Job) -> Job | None:
        """submitting → queued, or cancelled where that was wanted meanwhile."""
        waiting = await self._store.requeue(job.id)
        if waiting is not None and self._in_flight.get_or_create(job.id).cancel_wanted:
            waiting = await self._store.mark_cancelled(job.id, expected=JobStatus.QUEUED, now=self._clock())
        return self._show(waiting)

    async def _input_urls(self, job: Job, provider: Provider) -> list[str]:
        """Where the provider finds each input picture: uploaded once per content, or its public address."""
        urls: list[str] = []
        for image in job.request.images:
            if not provider.takes_uploads:
                if image.public_url is None:
                    raise ProviderRejected("no public address for an input picture")
                urls.append(image.public_url)
                continue
            url = await self._store.uploaded_url(provider.name, image.sha256)
            if url is None:
                data = await self._blob_store.get(image.sha256)
                if data is None:
                    raise ProviderRejected("an input picture is no longer kept", reason=FailureReason.INPUT_GONE)
                url = await provider.upload(data, image.content_type)
                await self._store.remember_upload(provider.name, image.sha256, url, now=self._clock())
            urls.append(url)
        return urls

    async def _forget_uploads(self, job: Job) -> bool:
        """Whether an input picture can be uploaded once more: the address the provider gave may have expired."""
        in_flight = self._in_flight.get_or_create(job.id)
        if in_flight.uploaded_again:
            return False
        in_flight.uploaded_again = True
        hashes = [image.sha256 for image in job.request.images]
        return await self._store.forget_uploads(job.provider, hashes) > 0

    # -- look up ------------------------------------------------------------------------------------------

    async def _reconcile(self, job: Job, dispatcher: ProviderDispatcher) -> Job | None:
        """uncertain → running when the order is found beyond doubt, → failed when it cannot be known any more."""
        try:
            with dispatcher.slot_released():
                remote_id = await self._lost.find(job, dispatcher, self._in_flight.get_or_create(job.id))
        except SubmissionLost as error:
            _log.error("the order was not found again")
            failure = Failure(reason=FailureReason.OUTCOME_UNKNOWN)
            return await self.fail(job, failure, expected=_LOST, at_operator_cost=error.in_doubt)
        except ClaimedElsewhere:
            return await self._store.job(job.id)
        _log.info("found again as %s", remote_id)
        return self._show(await self._store.mark_running(job.id, remote_id=remote_id))

    # -- watch --------------------------------------------------------------------------------------------

    async def _watch(self, job: Job, dispatcher: ProviderDispatcher) -> None:
        """running → succeeded | failed | cancelled."""
        assert job.remote_id is not None, "a running job has a name at the provider"
        assert job.submitted_at is not None, "and was submitted"
        assert job.deadline_at is not None, "with a deadline"
        in_flight = self._in_flight.get_or_create(job.id)
        if in_flight.cancel_wanted:
            await cancel_at_provider(dispatcher, job.remote_id)
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
                    if await self._advance(job, update, in_flight):
                        return
        except DeadlineReached:
            _log.error("no end by the deadline; the house pays if the provider charges")
            failure = Failure(reason=FailureReason.TIMED_OUT)
            await self.fail(job, failure, expected=_RUNNING, at_operator_cost=True)

    async def _advance(self, job: Job, update: Update, in_flight: InFlight) -> bool:
        """Act on one reading; True when the job has ended."""
        match update.status:
            case JobStatus.SUCCEEDED:
                await self._collect(job, update)
            case JobStatus.FAILED:
                _log.warning("the provider failed it (%s): %s", update.provider_status, update.failure)
                failure = update.failure or Failure(reason=FailureReason.PROVIDER_FAILED)
                await self.fail(job, failure, expected=_RUNNING, at_operator_cost=update.may_be_charged)
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

    async def _collect(self, job: Job, update: Update) -> None:
        """Fetch the pictures of a completed job, then charge. A picture that cannot be had costs the member nothing."""
        try:
            if not update.result_urls:
                raise MediaError("completed without a result", transient=False)
            images = [await self._download_image(url) for url in update.result_urls]
        except MediaError as error:
            _log.error("completed, but no usable picture: %s", error)
            if self._presenter is not None:
                notice = f"Job {job.id} was completed without a usable picture: {error}"
                self._presenter.operator_notice("no usable picture", notice)
            failure = Failure(reason=FailureReason.NO_USABLE_RESULT)
            await self.fail(job, failure, expected=_RUNNING, at_operator_cost=True)
            return
        cost = job.reserved_usd_micros if update.cost_usd_micros is None else update.cost_usd_micros
        charged = min(cost, job.reserved_usd_micros)
        if cost > charged:
            _log.error("the provider charged %d micro-dollars, %d were reserved", cost, charged)
        succeeded = await self._store.succeed(
            job.id,
            charged_usd_micros=charged,
            operator_cost_usd_micros=cost - charged,
            images=images,
            took_seconds=update.took_seconds,
            now=self._clock(),
        )
        if succeeded is not None:
            self._metrics.job_ended(succeeded)
            if update.took_seconds is not None:
                self._in_flight.observe_durations([(job.request.model_id, update.took_seconds)])
        self._show(succeeded)
        _log.info("completed for %d micro-dollars", charged)

    async def _download_image(self, url: str) -> ResultImage:
        return await retrying(
            partial(self._download_image_once, url),
            on=_worth_another_try,
            attempts=RESULT_ATTEMPTS,
            within_seconds=RESULT_SECONDS,
            first_pause_seconds=0.5,
            longest_pause_seconds=30,
        )

    async def _download_image_once(self, url: str) -> ResultImage:
        data = await self._downloader.download(
            url, max_bytes=RESULT_MAX_BYTES, yield_if_busy=self._priority.yield_if_busy
        )
        checked = await self._image_pool.check_result(data)
        return ResultImage(
            sha256=await self._keep(data),
            content_type=checked.content_type,
            width=checked.width,
            height=checked.height,
            size_bytes=len(data),
            source_url=url,
        )

    @retry_storage_errors
    async def _keep(self, data: bytes) -> str:
        return await self._blob_store.put(data)

    # -- ends ---------------------------------------------------------------------------------------------

    async def fail(
        self, job: Job, failure: Failure, *, expected: Collection[JobStatus], at_operator_cost: bool = False
    ) -> Job | None:
        """`expected` → failed, the reservation released; what the provider may charge all the same is the house's."""
        operator_cost_usd_micros = job.reserved_usd_micros if at_operator_cost else 0
        failed = await self._store.fail(
            job.id,
            failure,
            now=self._clock(),
            operator_cost_usd_micros=operator_cost_usd_micros,
            expected=expected,
        )
        if failed is not None:
            self._metrics.job_ended(failed, operator_cost_usd_micros=operator_cost_usd_micros)
        return self._show(failed)

    def _show(self, job: Job | None) -> Job | None:
        """Tell the observer that a job changed; None (the move was not legal any more) changes nothing."""
        if job is not None and self._presenter is not None:
            self._presenter.reply_changed(job.reply_id)
        return job


async def cancel_at_provider(dispatcher: ProviderDispatcher, remote_id: str) -> bool:
    """Ask the provider to stop a job and look at once what it says. True when it agreed."""
    try:
        agreed = await dispatcher.provider.cancel(remote_id)
    except ProviderError as error:
        _log.info("cancelling failed: %s", error)
        agreed = False
    dispatcher.poller.poll_soon(remote_id)
    return agreed


def failure_of(error: ProviderError) -> Failure:
    """What the member is told about an order that was not accepted."""
    if isinstance(error, ProviderRejected) and not isinstance(error, ProviderDenied):
        return Failure(reason=FailureReason(error.reason), hint=error.hint)
    return Failure(reason=FailureReason.PROVIDER_UNAVAILABLE)


def _never_left(error: Exception) -> bool:
    return isinstance(error, ProviderUnavailable) and error.status is None


def _worth_another_try(error: Exception) -> bool:
    # What stands in for a picture right after the end, such as a page of the CDN's own, may be one a moment later.
    return isinstance(error, MediaError) and (error.transient or error.reason == "not_an_image")
