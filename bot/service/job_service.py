"""JobService: what a command can ask for. One accepted command in a straight line:

    admit      quote, then reserve and insert in one transaction     nothing leaves the process
    accept     Discord has shown the card; the jobs wait for places  (or `abandon`: everything is released)
    take up    see following.py                                      enter the line, or watch on
    follow     see worker.py                                         submit → watch → collect → settle

On start `resume` takes every unfinished reply down the same line from where it stood. Stopping releases nothing.

A process that does everything takes up itself what it has accepted. Where there are several, a gateway admits and
accepts, the reply goes into the queue in the same transaction, and some worker awaits `follow` for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum

from bot.catalogue.catalogue import Catalogue
from bot.catalogue.models import Model
from bot.catalogue.quotes import Quote
from bot.catalogue.styles import Styles
from bot.dispatch.coordinator import Coordinator, LocalCoordinator
from bot.dispatch.dispatcher import BreakerState, ProviderDispatcher
from bot.dispatch.queue_positions import QueuePositions
from bot.dispatch.rate_limit import SlidingWindowLimiter
from bot.domain.errors import ModelUnavailable, ProviderDenied, ProviderError, ProviderPaused, StoreError, TooFast
from bot.domain.jobs import (
    Delivery,
    Failure,
    FailureReason,
    Job,
    JobRequest,
    JobStatus,
    Reply,
    ReplyAddress,
    ResultImage,
    new_id,
)
from bot.domain.process_role import Role
from bot.domain.quota import Limits, Member
from bot.media.blob_store import BlobStore
from bot.media.downloader import Downloader
from bot.media.image_pool import ImagePool, ShrunkImage
from bot.providers import durations
from bot.providers.base import Provider
from bot.providers.poller import Poller
from bot.runtime.interactive_priority import InteractivePriority
from bot.runtime.metrics import Metrics
from bot.runtime.supervisor import Supervisor
from bot.service.cluster_coordinator import ClusterCoordinator
from bot.service.in_flight import InFlightJobs
from bot.service.job_runner import JobRunner, cancel_at_provider
from bot.service.reply_runner import ReplyRunner
from bot.service.views import JobView, ReplyPresenter, ReplyView
from bot.store.store import Store

_log = logging.getLogger(__name__)

MEMBER_TURNOVERS_PER_MINUTE = 20
SERVER_TURNOVERS_PER_MINUTE = 1_000
"""Orders per minute, as multiples of the jobs one member may have running: one setting for the operator, not three."""

SUBMISSION_POLL_SECONDS = 0.5
"""So often a gateway looks whether an order that is to be cancelled has reached its provider."""


class CancelOutcome(StrEnum):
    """What became of a wish to cancel."""

    CANCELLED = "cancelled"
    ASKED = "asked"
    """The provider agreed; the card follows when it says so itself."""
    TOO_LATE = "too_late"
    NOT_POSSIBLE = "not_possible"
    """This provider cannot cancel."""


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)


class JobService:
    """Takes requests, sees every job through to its end, and keeps the money right on the way."""

    def __init__(
        self,
        *,
        store: Store,
        catalogue: Catalogue,
        blob_store: BlobStore,
        result_downloader: Downloader,
        attachment_downloader: Downloader,
        image_pool: ImagePool,
        supervisor: Supervisor,
        limits: Limits,
        job_log: Callable[[str], AbstractContextManager[object]],
        public_url: str | None = None,
        metrics: Metrics | None = None,
        clock: Callable[[], datetime] = utc_now,
        role: Role = Role.ALL,
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self.blob_store = blob_store
        self.attachment_downloader = attachment_downloader
        self.image_pool = image_pool
        self.limits = limits
        self.metrics = metrics or Metrics()
        self.styles = Styles()
        self._supervisor = supervisor
        self._clock = clock
        self._in_flight = InFlightJobs()
        self._dispatchers: dict[str, ProviderDispatcher] = {}
        self._member_limiter = SlidingWindowLimiter(
            orders_per_minute=MEMBER_TURNOVERS_PER_MINUTE * limits.max_running_jobs, clock=clock
        )
        self._server_limiter = SlidingWindowLimiter(
            orders_per_minute=SERVER_TURNOVERS_PER_MINUTE * limits.max_running_jobs, clock=clock
        )
        self._priority = InteractivePriority()
        self._too_large = asyncio.Semaphore(image_pool.max_processes)
        self._presenter: ReplyPresenter | None = None
        self._reply_runner = ReplyRunner(
            store=store,
            dispatchers=self._dispatchers,
            in_flight=self._in_flight,
            supervisor=supervisor,
            clock=clock,
            notify=self._notify,
            cancel=self.cancel,
            abandon=self.abandon,
        )
        self.role = role
        self.cluster: ClusterCoordinator | None = None
        if role is not Role.ALL:
            self.cluster = ClusterCoordinator(
                store.cluster,
                dispatchers=self._dispatchers,
                in_flight=self._in_flight,
                supervisor=supervisor,
                following=self._reply_runner,
                clock=clock,
            )
        self._coordinator: Coordinator = self.cluster or LocalCoordinator()
        self.queue_positions = QueuePositions(
            dispatchers=self._dispatchers, coordinator=self._coordinator, store=store, notify=self._notify
        )
        self._job_runner = JobRunner(
            store=store,
            in_flight=self._in_flight,
            blob_store=blob_store,
            downloader=result_downloader,
            priority=self._priority,
            image_pool=image_pool,
            supervisor=supervisor,
            job_log=job_log,
            public_url=public_url,
            metrics=self.metrics,
            clock=clock,
        )

    # -- set up -------------------------------------------------------------------------------------------

    def add_provider(self, provider: Provider, poller: Poller, *, max_concurrency: int) -> None:
        """Open a lane to a provider and keep it served."""
        dispatcher = ProviderDispatcher(
            provider,
            poller,
            max_concurrency=max_concurrency,
            follow=self._job_runner.run,
            start=self._supervisor.start,
            on_closed=self._breaker_opened,
            priority=self._priority,
            on_opened=self._coordinator.close_breaker,
            taken=None if self.cluster is None else self.cluster.slots_in_use,
        )
        self._dispatchers[provider.name] = dispatcher
        if self.role is Role.GATEWAY:
            return  # nothing is sent from here
        self._supervisor.start_forever(f"{provider.name} line", dispatcher.run)
        self._supervisor.start_forever(f"{provider.name} probe", dispatcher.run_probes)

    def set_presenter(self, presenter: ReplyPresenter) -> None:
        """Set who shows replies. Before the first job."""
        self._presenter = presenter
        self._job_runner.set_presenter(presenter)
        self._reply_runner.set_presenter(presenter)

    @property
    def providers(self) -> frozenset[str]:
        """Names of the providers we have a key for."""
        return frozenset(self._dispatchers)

    def queue_lengths(self) -> dict[str, float]:
        """Jobs that wait for a place, by provider."""
        return {name: len(dispatcher.queue) for name, dispatcher in self._dispatchers.items()}

    def slots_in_use(self) -> dict[str, float]:
        """Jobs at each provider."""
        return {name: dispatcher.slots_in_use for name, dispatcher in self._dispatchers.items()}

    def open_breakers(self) -> dict[str, float]:
        """1 for each provider that takes no new jobs now, else 0."""
        return {name: float(dispatcher.closed is not None) for name, dispatcher in self._dispatchers.items()}

    def is_open(self, provider: str) -> bool:
        """Whether a provider we have a key for takes new jobs now."""
        return self._dispatchers[provider].closed is None

    def takes_uploads(self, model_id: str) -> bool:
        """Whether input pictures are given to the model's provider as bytes. Raises UnknownModel, ModelUnavailable."""
        model = self.catalogue.get(model_id)
        return self._dispatcher_for(model.provider, model.id).provider.takes_uploads

    def offered(self) -> list[Model]:
        """The models that can be ordered: with a price, of a provider we have a key for."""
        return [model for model in self.catalogue.models if model.orderable and model.provider in self._dispatchers]

    def model_label(self, model_id: str) -> str:
        """The name of a model, or its id when it has left the catalogue."""
        model = self.catalogue.find(model_id)
        return model.label if model else model_id

    async def image_for_upload(self, image: ResultImage, limit_bytes: int) -> ShrunkImage | None:
        """Our own copy of a result, ready to be posted in at most `limit_bytes`; None when it is not here or damaged.

        Raises StoreError, and MediaError for what is no picture after all or, `transient`, where another try may help.
        """
        # One that has to be made smaller waits on disk, not in memory, until the workshop has a hand free.
        async with self._too_large if image.size_bytes > limit_bytes else nullcontext():
            data = await self.blob_store.get(image.sha256)
            return None if data is None else await self.image_pool.shrink_to(data, limit_bytes)

    def _dispatcher_for(self, provider: str, model_id: str) -> ProviderDispatcher:
        dispatcher = self._dispatchers.get(provider)
        if dispatcher is None:
            raise ModelUnavailable(model_id, "no_key")
        return dispatcher

    # -- asking -------------------------------------------------------------------------------------------

    def quote(self, request: JobRequest) -> Quote:
        """What exactly would be ordered, and the most it may cost.

        Raises UnknownModel, ModelUnavailable, BadOption, ProviderPaused.
        """
        quote = self.catalogue.quote(request)
        if self._dispatcher_for(quote.provider, quote.model.id).closed is not None:
            raise ProviderPaused(quote.provider)
        return quote

    def cheapest(self, request: JobRequest, *, permits: Callable[[Model], bool]) -> Quote | None:
        """The least expensive order for `request` by any permitted model that can be had here; None for none."""
        return self.catalogue.cheapest(
            request, permits=lambda model: model.provider in self._dispatchers and permits(model)
        )

    async def admit(self, requests: Sequence[JobRequest], *, member: Member, address: ReplyAddress) -> ReplyView:
        """Reserve the price of every request and write the jobs down, all or nothing. Nothing leaves the process.

        Raises RequestRefused, or StoreError when the books cannot be written; either way nothing was reserved.
        """
        quotes = [self._quote_or_tell(request) for request in requests]
        orders = len(requests)
        for pace, key in self._limiters(member):
            if (free_at := pace.free_at(key, orders)) is not None:
                raise TooFast(free_at)
        now = self._clock()
        reply_id = new_id()
        reply = Reply(
            id=reply_id,
            user_id=member.user_id,
            role_ids=member.role_ids,
            address=address,
            created_at=now,
            accepted=False,
            delivery=Delivery.PENDING,
            jobs=tuple(
                _job(reply_id, ordinal, request, quote, now)
                for ordinal, (request, quote) in enumerate(zip(requests, quotes, strict=True))
            ),
        )
        self._priority.begin(reply_id)
        try:
            balance = await self.store.admit(member=member, reply=reply, limits=self.limits, now=now)
        except BaseException:
            self._priority.end(reply_id)
            raise
        for pace, key in self._limiters(member):
            pace.note(key, orders)
        places = [
            await self._coordinator.position_for(self._dispatchers[job.provider], job.request.user_id)
            for job in reply.jobs
        ]
        views = tuple(
            JobView(job=job, model_label=quote.model.label, queue_position=place)
            for job, quote, place in zip(reply.jobs, quotes, places, strict=True)
        )
        if self.role is Role.ALL:  # else the job waits elsewhere
            for view in views:
                self.queue_positions.record_shown(view.job.id, view.queue_position)
        return ReplyView(reply=reply, jobs=views, balance=balance)

    def _quote_or_tell(self, request: JobRequest) -> Quote:
        try:
            return self.quote(request)
        except ModelUnavailable as error:
            if error.reason == "no_price" and self._presenter is not None:
                wanted = ", ".join(f"{name}={value}" for name, value in request.options.items()) or "no options"
                notice = f"Somebody wanted {error.model_id} ({wanted}), whose price is not known: refused."
                self._presenter.operator_notice("no price", notice)
            raise

    def _limiters(self, member: Member) -> tuple[tuple[SlidingWindowLimiter, int], ...]:
        return (self._member_limiter, member.user_id), (self._server_limiter, member.guild_id)

    async def accept(self, reply: Reply, *, message_id: int | None) -> None:
        """Discord has shown the card: the jobs may go to the provider now."""
        self._priority.end(reply.id)
        is_ours = self.role is Role.ALL
        if is_ours:  # its jobs start in the same transaction as the next line, or wait until that one is through
            self._reply_runner.resume(replace(reply, accepted=True))
        await self.store.accept(reply.id, message_id=message_id, for_others=not is_ours)

    async def abandon(self, reply: Reply, *, surely_unseen: bool = True) -> None:
        """Discord did not take the card: release everything. If it may be visible after all, correct it."""
        self._priority.end(reply.id)
        for job in reply.jobs:
            failure = Failure(reason=FailureReason.NOT_SHOWN)
            await self.store.fail(job.id, failure, now=self._clock())
        if surely_unseen:
            await self.store.set_delivery(reply.id, Delivery.IMPOSSIBLE)
        else:
            self._notify(reply.id)

    async def view(self, reply_id: str) -> ReplyView | None:
        """How the reply should look now; None when it is not known (any more)."""
        found = await self.store.reply_and_balance(reply_id, default=self.limits.default_quota, now=self._clock())
        if found is None:
            return None
        reply, balance = found
        for dispatcher in {self._dispatchers.get(job.provider) for job in reply.jobs if job.status is JobStatus.QUEUED}:
            if dispatcher is not None:
                await self._coordinator.refresh_queue(dispatcher)
        return ReplyView(reply=reply, jobs=tuple(self._job_view(job) for job in reply.jobs), balance=balance)

    def _job_view(self, job: Job) -> JobView:
        in_flight = self._in_flight.get(job.id)
        dispatcher = self._dispatchers.get(job.provider)
        return JobView(
            job=job,
            model_label=self.model_label(job.request.model_id),
            progress=in_flight.progress if in_flight else None,
            preview_url=in_flight.preview_url if in_flight else None,
            queue_position=self._coordinator.queue_of(dispatcher).position(job.id) if dispatcher else None,
            expected_at=self._in_flight.expected_at(job),
        )

    # -- cancelling ---------------------------------------------------------------------------------------

    async def cancel(self, job: Job) -> CancelOutcome:
        """Try to stop a job. Money follows what really happened, not what was asked."""
        dispatcher = self._dispatchers.get(job.provider)
        if job.status is JobStatus.QUEUED:
            cancelled = await self.store.cancel(job.id, expected=JobStatus.QUEUED, now=self._clock())
            if cancelled is not None:
                if dispatcher is not None:
                    dispatcher.queue.remove(job.id)
                self._in_flight.remove(job.id)  # known from a first try, when the provider had enough
                self.metrics.job_ended(cancelled)
                self._notify(cancelled.reply_id)
                return CancelOutcome.CANCELLED
            job = await self.store.job(job.id) or job
        if job.status.is_final or dispatcher is None:
            return CancelOutcome.TOO_LATE
        if not dispatcher.provider.can_cancel:
            return CancelOutcome.NOT_POSSIBLE
        if job.remote_id is None and self.role is Role.GATEWAY and not job.status.is_final:
            self._supervisor.start(f"cancel {job.id}", self._cancel_when_sent(job))
            return CancelOutcome.ASKED
        if job.remote_id is None:
            self._in_flight.get_or_create(job.id).cancel_wanted = True
            # The provider may have answered just now, and the worker looked at our wish before it was there.
            job = await self.store.job(job.id) or job
        if job.status.is_final:
            self._in_flight.remove(job.id)
            return CancelOutcome.TOO_LATE
        if job.remote_id is None:
            return CancelOutcome.ASKED
        agreed = await cancel_at_provider(dispatcher, job.remote_id)
        await self._coordinator.notify_poll(job.id, job.remote_id)
        return CancelOutcome.ASKED if agreed else CancelOutcome.TOO_LATE

    async def _cancel_when_sent(self, job: Job) -> None:
        """A worker is sending the order: ask the provider as soon as it is known there."""
        current: Job | None = job
        while current is not None and not current.status.is_final:
            if current.status is JobStatus.QUEUED or current.remote_id is not None:
                await self.cancel(current)
                return
            await asyncio.sleep(SUBMISSION_POLL_SECONDS)
            with suppress(StoreError):
                current = await self.store.job(job.id)

    # -- webhooks -----------------------------------------------------------------------------------------

    def handle_webhook(self, token: str, remote_id: str | None) -> None:
        """A provider called. Unsigned, so only a hint: nothing changes before we asked the provider ourselves."""
        claims = self._in_flight.webhook_claims(token, remote_id)
        if not claims:
            self._coordinator.forward_webhook(token, remote_id)
        for claim in claims:
            for dispatcher in self._dispatchers.values():
                dispatcher.poller.poll_soon(claim)

    # -- starting and stopping ----------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take every unfinished job down the line from where it stood, and show every final state not yet shown.

        In a process that is not alone that comes about by the queue, a reply at a time.
        """
        self._in_flight.observe_durations(await self.store.recent_durations(durations.KEPT))
        if self.role is Role.ALL:
            await self._reply_runner.resume_all()

    async def run_reply(self, reply_id: str) -> bool:
        """See a reply through, wherever it stands, until its final state was shown; may be begun anew at any time.

        False when `let_go` came first: it is somebody else's to follow then.
        """
        return await self._reply_runner.run(reply_id)

    def reply_shown(self, reply_id: str) -> None:
        """Whoever shows replies is done with this one."""
        self._reply_runner.wake(reply_id)

    def release_all(self) -> None:
        """Whoever awaits `follow` hears now that somebody else is to go on. After `stop`, when nothing is at work."""
        self._reply_runner.release_all()

    def stop(self) -> None:
        """Start nothing new. What is under way stays on disk and goes on at the next start."""
        for dispatcher in self._dispatchers.values():
            dispatcher.stop()

    async def settle_submissions(self) -> None:
        """Wait until no order is half sent, so that the next start has nothing uncertain to look up."""
        for dispatcher in self._dispatchers.values():
            await dispatcher.submissions_settled()

    # -- weather ------------------------------------------------------------------------------------------

    def provider_denied(self, provider: str, error: ProviderDenied) -> None:
        """A provider refused our key while we asked after a running job: no new jobs go there."""
        self._dispatchers[provider].record_failure(error)

    def _breaker_opened(self, provider: str, reason: BreakerState, error: ProviderError) -> None:
        _log.error("%s closed (%s): %s", provider, reason, error)
        notice = f"{provider} takes no jobs ({reason}): {error}"
        self._supervisor.start(f"{provider} closed", self._close_for_all(provider, reason, notice))

    async def _close_for_all(self, provider: str, reason: BreakerState, notice: str) -> None:
        is_first = await self._coordinator.open_breaker(provider, reason)
        if is_first and self._presenter is not None:  # the others have nothing new to tell the operator
            self._presenter.operator_notice(f"{provider} closed", notice)

    # -- showing ------------------------------------------------------------------------------------------

    def _notify(self, reply_id: str) -> None:
        """Have the reply shown as it is now: by this process if it follows it, else by whichever does."""
        if not self._coordinator.delegates(reply_id) and self._presenter is not None:
            self._presenter.reply_changed(reply_id)


def _job(reply_id: str, ordinal: int, request: JobRequest, quote: Quote, now: datetime) -> Job:
    return Job(
        id=new_id(),
        reply_id=reply_id,
        ordinal=ordinal,
        request=request,
        provider=quote.provider,
        path=quote.path,
        body=quote.body,
        seed=quote.seed,
        reserved_usd_micros=quote.amount_usd_micros,
        status=JobStatus.QUEUED,
        created_at=now,
    )
