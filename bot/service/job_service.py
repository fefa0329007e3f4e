"""JobService: what a command can ask for. One accepted command in a straight line:

    JobService.admit          quote, then reserve and insert in one transaction; nothing leaves the process
    JobService.accept         Discord has shown the card (or `abandon`: everything is released)
    ReplyRunner.resume        queue the reply's jobs, or continue them from where they stand
    ProviderDispatcher.push   queue a job, until `next_job` gives it a free slot, in fair order
    JobRunner.run             submit → poll → download → settle
    ReplyPresenter            shows every change

On start, `resume` takes every unfinished reply down the same line from where it stands. Stopping releases nothing.

A process with the role ALL does all of this. Where there are several processes, a gateway admits and accepts, the
reply goes into the reply queue in the same transaction, and a worker awaits `ReplyRunner.run` for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime

from bot.catalogue import order_text
from bot.catalogue.catalogue import Catalogue
from bot.catalogue.models import Model
from bot.catalogue.order_text import Options, OptionValue, Template
from bot.catalogue.quotes import Quote, sent_options
from bot.catalogue.styles import Styles
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.dispatch.heavy_work import HeavyWork, MemberTurns
from bot.dispatch.rate_limit import MINUTE, SlidingWindowLimiter
from bot.domain.deletion import DeletedOrder
from bot.domain.deployment.process_role import Role
from bot.domain.errors import MemberBlocked, ModelUnavailable, ProviderPaused, StoreError, TooFast
from bot.domain.jobs import (
    Delivery,
    Job,
    JobRequest,
    JobStatus,
    Reply,
    ReplyAddress,
    ResultImage,
    ReviewState,
    Visibility,
    new_id,
)
from bot.domain.money.quota import Limits, Member, format_usd
from bot.domain.requester import NOBODY, Requester
from bot.media.downloader import Downloader
from bot.media.image_pool import ShrunkImage
from bot.providers import durations
from bot.runtime.fair_slots import FairSlots
from bot.service.context import ServiceContext
from bot.service.execution.reply_runner import CancelOutcome, ReplyRunner
from bot.service.execution.results import ResultCollector
from bot.service.input_images import InputImages
from bot.service.maintenance.cost_alerts import CostAlerts
from bot.service.queue_positions import QueuePositions
from bot.service.views import JobView, ReplyView

__all__ = ["CancelOutcome", "JobService"]

_log = logging.getLogger(__name__)

MEMBER_TURNOVERS_PER_MINUTE = 20
SERVER_TURNOVERS_PER_MINUTE = 1_000
"""Orders per minute, as multiples of the jobs one member may have running: one setting for the operator, not three."""

MEMBER_ATTACHED_MEGABYTES_PER_MINUTE = 400
"""Attached files that are read for one member: four commands with four files of the largest size."""

EVERYBODY = Visibility()

READING_AT_A_TIME = 4
"""Members whose attached files are read at a time."""

WAITING_PER_MEMBER = 3
"""Commands of one member that wait until the files of an earlier one have been read."""


class JobService:
    """Takes requests, has every job run to its end, and answers what commands ask about them."""

    def __init__(
        self,
        context: ServiceContext,
        *,
        catalogue: Catalogue,
        limits: Limits,
        cost_alerts: CostAlerts,
        attachment_downloader: Downloader,
        results: ResultCollector,
        dispatchers: Mapping[str, ProviderDispatcher],
        reply_runner: ReplyRunner,
        queue_positions: QueuePositions,
        default_model: str,
    ) -> None:
        self.store = context.store
        self.blob_store = context.blob_store
        self.image_pool = context.image_pool
        self.metrics = context.metrics
        self.presenter = context.presenter
        self.role = context.coordinator.role
        self._coordinator = context.coordinator
        self.catalogue = catalogue
        self.limits = limits
        self.default_model = default_model
        """The id of the model that is ordered where nobody chooses."""
        self.cost_alerts = cost_alerts
        self.attachment_downloader = attachment_downloader
        self._results = results
        self.styles = Styles()
        self._in_flight = context.in_flight
        self.priority = context.priority
        self.sealer = context.sealer
        self._clock = context.clock
        self._dispatchers = dispatchers
        self._reply_runner = reply_runner
        self._queue_positions = queue_positions
        self._member_limiter = self._limiter(MEMBER_TURNOVERS_PER_MINUTE)
        self._server_limiter = self._limiter(SERVER_TURNOVERS_PER_MINUTE)
        self._attempt_limiter = self._limiter(MEMBER_TURNOVERS_PER_MINUTE)
        self._server_attempt_limiter = self._limiter(SERVER_TURNOVERS_PER_MINUTE)
        self._attachment_limiter = SlidingWindowLimiter(
            limit=MEMBER_ATTACHED_MEGABYTES_PER_MINUTE, window=MINUTE, clock=self._clock
        )
        self.heavy_work = HeavyWork(clock=self._clock)
        self.input_images = InputImages(context.store, context.blob_store)
        self.reading_turns = MemberTurns(at_a_time=READING_AT_A_TIME, waiting=WAITING_PER_MEMBER, clock=self._clock)
        self._shrinking = FairSlots(
            context.image_pool.max_processes, per_server=max(1, context.image_pool.max_processes - 1)
        )

    def _limiter(self, turnovers_per_minute: int) -> SlidingWindowLimiter:
        orders_per_minute = turnovers_per_minute * self.limits.max_running_jobs
        return SlidingWindowLimiter(limit=orders_per_minute, window=MINUTE, clock=self._clock)

    def now(self) -> datetime:
        """Return the time of day, which a wrong clock of this machine does not move."""
        return self._clock()

    # -- what there is ------------------------------------------------------------------------------------

    @property
    def providers(self) -> frozenset[str]:
        """Names of the providers we have a key for."""
        return frozenset(self._dispatchers)

    def queue_lengths(self) -> dict[str, float]:
        """Count the queued jobs of each provider."""
        return {name: len(dispatcher.queue) for name, dispatcher in self._dispatchers.items()}

    def slots_in_use(self) -> dict[str, float]:
        """Count the jobs at each provider."""
        return {name: dispatcher.slots_in_use for name, dispatcher in self._dispatchers.items()}

    def open_breakers(self) -> dict[str, float]:
        """Return 1 for each provider that takes no new jobs now, else 0."""
        return {name: float(dispatcher.breaker.is_open) for name, dispatcher in self._dispatchers.items()}

    def closed_providers(self) -> str | None:
        """Say which providers take no new jobs now, and why; None if each of them does."""
        closed = {
            name: dispatcher.breaker for name, dispatcher in self._dispatchers.items() if dispatcher.breaker.is_open
        }
        return ", ".join(f"{name} ({breaker.state})" for name, breaker in closed.items()) or None

    @property
    def all_providers_closed(self) -> bool:
        """Whether no provider takes new jobs now."""
        return bool(self._dispatchers) and all(self.open_breakers().values())

    def offered(self) -> list[Model]:
        """Return the models that can be ordered: with a price, of a provider we have a key for."""
        return [model for model in self.catalogue.models if model.orderable and model.provider in self._dispatchers]

    def model_label(self, model_id: str) -> str:
        """Return the name of a model, or its id when it has left the catalogue."""
        model = self.catalogue.find(model_id)
        return model.label if model else model_id

    def sent_options(self, job: Job) -> dict[str, OptionValue]:
        """Return everything that is sent with the prompt of a job, with titles of styles."""
        return sent_options(self.catalogue.find(job.request.model_id), job, style_name=self.styles.name_of)

    async def image_for_upload(
        self, image: ResultImage, limit_bytes: int, *, requester: Requester = NOBODY
    ) -> ShrunkImage | None:
        """Return our copy of a result in at most `limit_bytes`; None when it is not kept or damaged.

        Raises StoreError, and MediaError for what is no image after all or, `transient`, where another try may help.
        """
        # An image that has to be made smaller waits on disk, not in memory, until a worker of the image pool is free.
        async with self._shrinking.slot(requester) if image.size_bytes > limit_bytes else nullcontext():
            data = await self.blob_store.get(image.sha256)
            return None if data is None else await self.image_pool.shrink_to(data, limit_bytes, requester=requester)

    async def recover_image(self, job: Job, image: ResultImage) -> bool:
        """Keep again a result that was lost or damaged here, while its provider still has it.

        Raises StoreError, and a transient MediaError while it may still be there and is out of reach.
        """
        dispatcher = self._dispatchers.get(job.provider)
        return await self._results.recover(job, image, None if dispatcher is None else dispatcher.provider)

    async def give_up_images(self, job: Job) -> None:
        """Fail a job whose images are lost before they were shown, and give its charge back. Raises StoreError."""
        lost = await self.store.lose_images(job.id, now=self._clock())
        if lost is None:
            return
        charged = job.charged_usd_micros or 0
        _log.error("the images of job %s are lost; %s is given back to its member", job.id, format_usd(charged))
        self.metrics.cost_late(lost, operator_cost_usd_micros=charged)
        if charged:
            self.cost_alerts.job_cost_something(lost)

    async def delete_order(self, reply_id: str, *, actor_id: int) -> DeletedOrder | None:
        """Erase one finished order and its stored images; None if there is none, or it was deleted before.

        The messages at Discord are scheduled for deletion. Raises StoreError when the database cannot be written.
        """
        deleted = await self.store.delete_reply(reply_id, actor_id=actor_id, now=self._clock())
        if deleted is not None:
            await self.remove_images(deleted.unneeded_sha256)
        return deleted

    async def remove_images(self, contents: Collection[str]) -> None:
        """Remove stored images that nothing needs any more. What fails is left to the hourly sweep."""
        for sha256 in contents:
            try:
                await self.blob_store.remove(sha256)
            except StoreError:
                _log.warning("an image could not be removed yet; the hourly sweep tries again", exc_info=True)

    def _dispatcher_for(self, provider: str, model_id: str) -> ProviderDispatcher:
        dispatcher = self._dispatchers.get(provider)
        if dispatcher is None:
            raise ModelUnavailable(model_id=model_id, model_label=self.model_label(model_id), reason="no_key")
        return dispatcher

    # -- admitting ----------------------------------------------------------------------------------------

    def expand(
        self,
        request: JobRequest,
        *,
        more: str = "",
        template: Template | None = None,
        defaults: Options | None = None,
    ) -> JobRequest:
        """Return the order that a command means: its options, `more`, the flags of its prompt, a preset, defaults.

        Raises UnknownModel, BadOption.
        """
        return order_text.expand(
            self.catalogue.get(request.model_id),
            request,
            more=more,
            flag_names=self.catalogue.flag_names,
            template=template,
            defaults=defaults,
            style_id=self.styles.id_of,
        )

    def quote(self, request: JobRequest) -> Quote:
        """Return what exactly would be ordered, and the most it may cost.

        Raises UnknownModel, ModelUnavailable, BadOption, ProviderPaused.
        """
        quote = self.catalogue.quote(request, providers=self.providers)
        if self._dispatcher_for(quote.provider, quote.model.id).breaker.refuses_orders:
            raise ProviderPaused(quote.provider)
        return quote

    def cheapest(self, request: JobRequest, *, permits: Callable[[Model], bool]) -> Quote | None:
        """Return the least expensive order for `request` by a permitted model that can be ordered; None for none."""
        return self.catalogue.cheapest(
            request, permits=lambda model: model.provider in self._dispatchers and permits(model)
        )

    def count_attempt(self, requester: Requester) -> None:
        """Count a command before anything is read for it; refused ones count as well. Raises TooFast."""
        limits = ((self._attempt_limiter, requester.user_id), (self._server_attempt_limiter, requester.server_id))
        for limiter, key in limits:
            if (free_at := limiter.free_at(key)) is not None:
                raise TooFast(free_at)
        for limiter, key in limits:
            limiter.note(key)

    def check_member(self, member: Member, *, is_blocked: bool, orders: int) -> None:
        """Refuse a member who is blocked or orders too fast. Raises MemberBlocked, TooFast."""
        if is_blocked:
            raise MemberBlocked
        self._check_pace(member, orders)

    async def check_admission(self, requests: Sequence[JobRequest], *, member: Member) -> None:
        """Raise what `admit` would raise now. Its images may be stand-ins for those that are attached."""
        amounts = [self._quote_or_notify(request).amount_usd_micros for request in requests]
        await self.store.check_admission(
            member=member, amounts_usd_micros=amounts, limits=self.limits, now=self._clock()
        )

    def begin_reading(self, member: Member, size_bytes: int) -> None:
        """Count attached files that are about to be read for the member. Raises TooFast."""
        megabytes = max(1, -(-size_bytes // 1_000_000))
        if (free_at := self._attachment_limiter.free_at(member.user_id, megabytes)) is not None:
            raise TooFast(free_at)
        self._attachment_limiter.note(member.user_id, megabytes)

    def _check_pace(self, member: Member, orders: int) -> None:
        for limiter, key in self._limiters(member):
            if (free_at := limiter.free_at(key, orders)) is not None:
                raise TooFast(free_at)

    async def admit(
        self,
        requests: Sequence[JobRequest],
        *,
        member: Member,
        address: ReplyAddress,
        preset_name: str | None = None,
        visibility: Visibility = EVERYBODY,
    ) -> ReplyView:
        """Reserve the price of every request and insert the jobs, all or nothing. Nothing leaves the process.

        Raises RequestRefused, or StoreError when the database cannot be written; either way nothing was reserved.
        """
        quotes = [self._quote_or_notify(request) for request in requests]
        orders = len(requests)
        self._check_pace(member, orders)
        now = self._clock()
        reply_id = new_id()
        reply = Reply(
            id=reply_id,
            user_id=member.user_id,
            role_ids=member.role_ids,
            address=replace(address, token=None if address.token is None else self.sealer.seal(address.token)),
            created_at=now,
            accepted=False,
            delivery=Delivery.PENDING,
            preset_name=preset_name,
            visibility=visibility,
            review=None if visibility.review_channel_id is None else ReviewState.WAITING,
            jobs=tuple(
                _job(reply_id, ordinal, request, quote, now)
                for ordinal, (request, quote) in enumerate(zip(requests, quotes, strict=True))
            ),
        )
        self.priority.begin(reply_id)
        try:
            with self._trials(quotes):
                spendable = await self.store.admit(member=member, reply=reply, limits=self.limits, now=now)
        except BaseException:
            self.priority.end(reply_id)
            raise
        for limiter, key in self._limiters(member):
            limiter.note(key, orders)
        positions = [
            await self._dispatchers[job.provider].position_for(job.request.requester, now=now) for job in reply.jobs
        ]
        views = tuple(
            JobView(job=job, model_label=quote.model.label, sent=self.sent_options(job), queue_position=position)
            for job, quote, position in zip(reply.jobs, quotes, positions, strict=True)
        )
        if self.role is Role.ALL:  # else another process queues the jobs and updates the positions
            for view in views:
                self._queue_positions.record_shown(view.job.id, view.queue_position)
        return ReplyView(
            reply=reply,
            jobs=views,
            spendable=spendable,
            waits_for_operator=self._waits_for_operator(reply),
        )

    def _quote_or_notify(self, request: JobRequest) -> Quote:
        try:
            return self.quote(request)
        except ModelUnavailable as error:
            if error.reason == "no_price":
                wanted = ", ".join(f"{name}={value}" for name, value in request.options.items()) or "no options"
                notice = f"Somebody wanted {error.model_id} ({wanted}), whose price is not known: refused."
                self.presenter.operator_notice("no price", notice)
            raise

    @contextmanager
    def _trials(self, quotes: Sequence[Quote]) -> Generator[None]:
        """Let no other order through to a provider that refused the last one, where another process sends them.

        Where this process sends them, `JobRunner` begins the trial.
        """
        with ExitStack() as trials:
            if self.role is not Role.ALL:
                for name in {quote.provider for quote in quotes}:
                    trials.enter_context(self._dispatchers[name].breaker.trial())
            yield

    def _limiters(self, member: Member) -> tuple[tuple[SlidingWindowLimiter, int], ...]:
        return (self._member_limiter, member.user_id), (self._server_limiter, member.guild_id)

    async def accept(self, reply: Reply, *, message_id: int | None) -> None:
        """Start the jobs of a reply whose card Discord has shown: from now on they may be bought."""
        self.priority.end(reply.id)
        runs_here = self.role is Role.ALL
        if runs_here:
            # Before it is recorded, so that acceptance and the first step of a job can share a transaction.
            self._reply_runner.resume(replace(reply, accepted=True))
        await self.store.accept(reply.id, message_id=message_id, for_others=not runs_here)

    async def abandon(self, reply: Reply, *, surely_unseen: bool = True) -> None:
        """Release a reply whose card Discord did not take. A card that may be visible after all is corrected."""
        self.priority.end(reply.id)
        await self._reply_runner.abandon(reply, surely_unseen=surely_unseen)

    # -- showing and cancelling ---------------------------------------------------------------------------

    async def view(self, reply_id: str) -> ReplyView | None:
        """Return how the reply should look now; None when it is not known (any more)."""
        now = self._clock()
        found = await self.store.reply_and_spendable(reply_id, limits=self.limits, now=now)
        if found is None:
            return None
        reply, spendable = found
        has_failed = any(job.status is JobStatus.FAILED for job in reply.jobs)
        for dispatcher in {self._dispatchers.get(job.provider) for job in reply.jobs if job.status is JobStatus.QUEUED}:
            if dispatcher is not None:
                await dispatcher.refresh_queue()
        return ReplyView(
            reply=reply,
            jobs=tuple(self._job_view(job) for job in reply.jobs),
            spendable=spendable,
            no_orders_until=spendable.paused_until if has_failed else None,
            votes=await self.store.votes(reply_id) if reply.is_comparison and reply.is_final else {},
            waits_for_operator=self._waits_for_operator(reply),
        )

    def _waits_for_operator(self, reply: Reply) -> bool:
        return any(job.status is JobStatus.QUEUED and not self._coordinator.serves(job.provider) for job in reply.jobs)

    def _job_view(self, job: Job) -> JobView:
        in_flight = self._in_flight.get(job.id)
        dispatcher = self._dispatchers.get(job.provider)
        return JobView(
            job=job,
            model_label=self.model_label(job.request.model_id),
            sent=self.sent_options(job),
            progress=in_flight.progress if in_flight else None,
            preview_url=in_flight.preview_url if in_flight else None,
            queue_position=dispatcher.position(job.id, now=self._clock()) if dispatcher else None,
            expected_at=self._in_flight.expected_at(job),
        )

    async def cancel(self, job: Job) -> CancelOutcome:
        """Try to stop a job. The charge follows what the provider did, not what was asked."""
        return await self._reply_runner.cancel(job)

    async def decide_review(
        self, reply_id: str, *, guild_id: int, message_id: int, approves: bool, actor_id: int, reason: str | None = None
    ) -> Reply | None:
        """Approve or refuse the images of an order, and have its card shown again; None if another was first."""
        decided = await self.store.decide_review(
            reply_id,
            guild_id=guild_id,
            message_id=message_id,
            approves=approves,
            actor_id=actor_id,
            reason=reason,
            now=self._clock(),
        )
        if decided is not None:
            self._reply_runner.show(reply_id)
        return decided

    def reply_shown(self, reply_id: str) -> None:
        """Note that the presenter has shown the final state of a reply."""
        self._reply_runner.wake(reply_id)

    # -- starting and stopping ----------------------------------------------------------------------------

    async def resume(self) -> None:
        """Resume every unfinished job from where it stands, and show every final state that was not shown yet.

        With several processes, the reply queue does this instead, one reply at a time (`ReplyRunner.run`).
        """
        self._in_flight.observe_durations(await self.store.recent_durations(durations.KEPT))
        if self.role is Role.ALL:
            await self._reply_runner.resume_all()

    def release_all(self) -> None:
        """Release all running replies to other workers. Call after `stop`, when no job is at work any more."""
        self._reply_runner.release_all()

    def stop(self) -> None:
        """Start no more jobs. Jobs under way stay in the database and continue at the next start."""
        for dispatcher in self._dispatchers.values():
            dispatcher.stop()

    async def settle_submissions(self) -> None:
        """Wait until no order is half sent, so that the next start has no uncertain order to search."""
        for dispatcher in self._dispatchers.values():
            await dispatcher.submissions_settled()


def _job(reply_id: str, ordinal: int, request: JobRequest, quote: Quote, now: datetime) -> Job:
    return Job(
        id=new_id(),
        reply_id=reply_id,
        ordinal=ordinal,
        request=replace(request, model_id=quote.model.id),  # not as a member spelled it: reports count by it
        provider=quote.provider,
        path=quote.path,
        body=quote.body,
        seed=quote.seed,
        reserved_usd_micros=quote.amount_usd_micros,
        status=JobStatus.QUEUED,
        created_at=now,
    )
