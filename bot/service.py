"""JobService: what a command can ask for. One accepted command in a straight line:

    admit      quote, then reserve and insert in one transaction     nothing leaves the process
    accept     Discord has shown the card; the jobs wait for places  (or `abandon`: everything is released)
    follow     see worker.py                                         submit → watch → collect → settle

On start `resume` takes every unfinished reply down the same line from where it stood. Stopping releases nothing.

A process that does everything takes up itself what it has accepted. Where there are several, a gateway admits and
accepts, the reply goes into the queue in the same transaction, and some worker awaits `follow` for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

from bot import durations
from bot.catalogue import Catalogue
from bot.cluster import Cluster
from bot.errors import ModelUnavailable, ProviderDenied, ProviderError, ProviderPaused, StoreError, TooFast
from bot.fetch import Fetcher
from bot.images import ImageWorkshop
from bot.jobs import Delivery, Failure, FailureReason, Job, JobRequest, JobStatus, Reply, ReplyAddress, new_id
from bot.lane import Closed, Lane
from bot.line import FairLine
from bot.live import LiveJobs
from bot.metrics import Metrics
from bot.models import Model
from bot.observer import JobView, Observer, ReplyView
from bot.orders import Quote
from bot.pace import Pace
from bot.patience import written
from bot.pictures import Pictures
from bot.providers.base import Provider
from bot.providers.watcher import Watcher
from bot.quota import Limits, Member
from bot.role import Role
from bot.rush import Rush
from bot.store.store import Store
from bot.styles import Styles
from bot.supervisor import Supervisor
from bot.worker import Worker, cancel_at_provider

_log = logging.getLogger(__name__)

PLACES_SECONDS = 5.0
PLACES_SHOWN = 5
"""So often the first few in each line are shown their place anew, where it changed."""

MEMBER_TURNOVERS_PER_MINUTE = 20
SERVER_TURNOVERS_PER_MINUTE = 1_000
"""Orders per minute, as multiples of the jobs one member may have running: one setting for the operator, not three."""

LOOK_AGAIN_SECONDS = 60.0
"""So often a reply that is awaited is looked at although nobody said that there is news."""

SENDING_LOOK_SECONDS = 0.5
"""So often a gateway looks whether an order that is to be cancelled has reached its provider."""

TOKEN_AGONY = timedelta(minutes=3)
"""So long before a command's token dies nobody relies on it any more."""


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
        pictures: Pictures,
        fetcher: Fetcher,
        workshop: ImageWorkshop,
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
        self.pictures = pictures
        self.fetcher = fetcher
        self.workshop = workshop
        self.limits = limits
        self.metrics = metrics or Metrics()
        self.styles = Styles()
        self._supervisor = supervisor
        self._clock = clock
        self._live = LiveJobs()
        self._lanes: dict[str, Lane] = {}
        self._member_pace = Pace(orders_per_minute=MEMBER_TURNOVERS_PER_MINUTE * limits.max_running_jobs, clock=clock)
        self._server_pace = Pace(orders_per_minute=SERVER_TURNOVERS_PER_MINUTE * limits.max_running_jobs, clock=clock)
        self._rush = Rush()
        self._stopping = False
        self._followed: dict[str, asyncio.Event] = {}
        """Replies that `follow` is awaited for, each with what makes it look again."""
        self._asked_after: set[str] = set()
        """Replies of which Discord is being asked whether it showed them."""
        self.role = role
        self.cluster = None
        if role is not Role.ALL:
            self.cluster = Cluster(
                store.neighbours,
                lanes=self._lanes,
                live=self._live,
                supervisor=supervisor,
                look_again=self._look_again,
                clock=clock,
            )
        self._places: dict[str, int | None] = {}
        """The place last shown on the card of each job that waits."""
        self._observer: Observer | None = None
        self._worker = Worker(
            store=store,
            live=self._live,
            pictures=pictures,
            fetcher=fetcher,
            rush=self._rush,
            workshop=workshop,
            supervisor=supervisor,
            job_log=job_log,
            public_url=public_url,
            metrics=self.metrics,
            clock=clock,
        )

    # -- set up -------------------------------------------------------------------------------------------

    def add_provider(self, provider: Provider, watcher: Watcher, *, max_concurrency: int) -> None:
        """Open a lane to a provider and keep it served."""
        lane = Lane(
            provider,
            watcher,
            max_concurrency=max_concurrency,
            follow=self._worker.follow,
            start=self._supervisor.start,
            on_closed=self._lane_closed,
            rush=self._rush,
            on_opened=self._lane_opened,
            taken=self.cluster.taken if self.cluster is not None else None,
        )
        self._lanes[provider.name] = lane
        if self.role is Role.GATEWAY:
            return  # nothing is sent from here
        self._supervisor.start_forever(f"{provider.name} line", lane.run)
        self._supervisor.start_forever(f"{provider.name} probe", lane.keep_open)
        self._supervisor.start_forever(f"{provider.name} watcher", watcher.run)

    def observe(self, observer: Observer) -> None:
        """Set who shows replies. Before the first job."""
        self._observer = observer
        self._worker.observe(observer)

    @property
    def providers(self) -> frozenset[str]:
        """Names of the providers we have a key for."""
        return frozenset(self._lanes)

    def line_lengths(self) -> dict[str, float]:
        """Jobs that wait for a place, by provider."""
        return {name: len(lane.line) for name, lane in self._lanes.items()}

    def places_taken(self) -> dict[str, float]:
        """Jobs at each provider."""
        return {name: lane.in_flight for name, lane in self._lanes.items()}

    def closed(self) -> dict[str, float]:
        """1 for each provider that takes no new jobs now, else 0."""
        return {name: float(lane.closed is not None) for name, lane in self._lanes.items()}

    def is_open(self, provider: str) -> bool:
        """Whether a provider we have a key for takes new jobs now."""
        return self._lanes[provider].closed is None

    def takes_uploads(self, model_id: str) -> bool:
        """Whether input pictures are given to the model's provider as bytes. Raises UnknownModel, ModelUnavailable."""
        model = self.catalogue.get(model_id)
        return self._lane_for(model.provider, model.id).provider.takes_uploads

    def offered(self) -> list[Model]:
        """The models that can be ordered: with a price, of a provider we have a key for."""
        return [model for model in self.catalogue.models if model.orderable and model.provider in self._lanes]

    def model_label(self, model_id: str) -> str:
        """The name of a model, or its id when it has left the catalogue."""
        model = self.catalogue.find(model_id)
        return model.label if model else model_id

    def _lane_for(self, provider: str, model_id: str) -> Lane:
        lane = self._lanes.get(provider)
        if lane is None:
            raise ModelUnavailable(model_id, "no_key")
        return lane

    # -- asking -------------------------------------------------------------------------------------------

    def quote(self, request: JobRequest) -> Quote:
        """What exactly would be ordered, and the most it may cost.

        Raises UnknownModel, ModelUnavailable, BadOption, ProviderPaused.
        """
        quote = self.catalogue.quote(request)
        if self._lane_for(quote.provider, quote.model.id).closed is not None:
            raise ProviderPaused(quote.provider)
        return quote

    def cheapest(self, request: JobRequest, *, permits: Callable[[Model], bool]) -> Quote | None:
        """The least expensive order for `request` by any permitted model that can be had here; None for none."""
        return self.catalogue.cheapest(request, permits=lambda model: model.provider in self._lanes and permits(model))

    async def admit(self, requests: Sequence[JobRequest], *, member: Member, address: ReplyAddress) -> ReplyView:
        """Reserve the price of every request and write the jobs down, all or nothing. Nothing leaves the process.

        Raises RequestRefused, or StoreError when the books cannot be written; either way nothing was reserved.
        """
        quotes = [self._quote_or_tell(request) for request in requests]
        orders = len(requests)
        for pace, key in self._paces(member):
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
        self._rush.begin(reply_id)
        try:
            balance = await self.store.admit(member=member, reply=reply, limits=self.limits, now=now)
        except BaseException:
            self._rush.end(reply_id)
            raise
        for pace, key in self._paces(member):
            pace.note(key, orders)
        places = {job.id: await self._place_for(job) for job in reply.jobs}
        views = tuple(
            JobView(job=job, model_label=quote.model.label, place_in_line=places[job.id])
            for job, quote in zip(reply.jobs, quotes, strict=True)
        )
        if self.role is Role.ALL:
            self._places.update((job_id, place) for job_id, place in places.items() if place is not None)
        return ReplyView(reply=reply, jobs=views, balance=balance)

    def _quote_or_tell(self, request: JobRequest) -> Quote:
        try:
            return self.quote(request)
        except ModelUnavailable as error:
            if error.reason == "no_price" and self._observer is not None:
                wanted = ", ".join(f"{name}={value}" for name, value in request.options.items()) or "no options"
                notice = f"Somebody wanted {error.model_id} ({wanted}), whose price is not known: refused."
                self._observer.operator_notice("no price", notice)
            raise

    def _paces(self, member: Member) -> tuple[tuple[Pace, int], ...]:
        return (self._member_pace, member.user_id), (self._server_pace, member.guild_id)

    async def accept(self, reply: Reply, *, message_id: int | None) -> None:
        """Discord has shown the card: the jobs may go to the provider now."""
        self._rush.end(reply.id)
        for_others = self.cluster is not None
        await written(partial(self.store.accept, reply.id, message_id=message_id, for_others=for_others))
        if not for_others:
            self._take_up(replace(reply, accepted=True))

    async def abandon(self, reply: Reply, *, surely_unseen: bool = True) -> None:
        """Discord did not take the card: release everything. If it may be visible after all, correct it."""
        self._rush.end(reply.id)
        for job in reply.jobs:
            failure = Failure(reason=FailureReason.NOT_SHOWN)
            await written(partial(self.store.fail, job.id, failure, now=self._clock()))
        if surely_unseen:
            await written(partial(self.store.set_delivery, reply.id, Delivery.IMPOSSIBLE))
        else:
            self._notify(reply.id)

    async def view(self, reply_id: str) -> ReplyView | None:
        """How the reply should look now; None when it is not known (any more)."""
        found = await self.store.reply_and_balance(reply_id, default=self.limits.default_quota, now=self._clock())
        if found is None:
            return None
        reply, balance = found
        if self.cluster is not None:
            for provider in {job.provider for job in reply.jobs if job.status is JobStatus.QUEUED}:
                await self.cluster.renewed_line(provider)
        return ReplyView(reply=reply, jobs=tuple(self._job_view(job) for job in reply.jobs), balance=balance)

    def _job_view(self, job: Job) -> JobView:
        live = self._live.find(job.id)
        lane = self._lanes.get(job.provider)
        return JobView(
            job=job,
            model_label=self.model_label(job.request.model_id),
            progress=live.progress if live else None,
            preview_url=live.preview_url if live else None,
            place_in_line=self._line(lane).place(job.id) if lane else None,
            expected_at=self._live.expected_at(job),
        )

    # -- cancelling ---------------------------------------------------------------------------------------

    async def cancel(self, job: Job) -> CancelOutcome:
        """Try to stop a job. Money follows what really happened, not what was asked."""
        lane = self._lanes.get(job.provider)
        if job.status is JobStatus.QUEUED:
            cancelled = await self.store.cancel(job.id, expected=JobStatus.QUEUED, now=self._clock())
            if cancelled is not None:
                if lane is not None:
                    lane.line.leave(job.id)
                self._live.forget(job.id)  # known from a first try, when the provider had enough
                self.metrics.job_ended(cancelled)
                if self.cluster is None:  # the books have told whoever follows it
                    self._notify(cancelled.reply_id)
                return CancelOutcome.CANCELLED
            job = await self.store.job(job.id) or job
        if job.status.is_final or lane is None:
            return CancelOutcome.TOO_LATE
        if not lane.provider.can_cancel:
            return CancelOutcome.NOT_POSSIBLE
        if job.remote_id is None and self.role is Role.GATEWAY and not job.status.is_final:
            self._supervisor.start(f"cancel {job.id}", self._cancel_when_sent(job))
            return CancelOutcome.ASKED
        if job.remote_id is None:
            self._live.of(job.id).cancel_wanted = True
            # The provider may have answered just now, and the worker looked at our wish before it was there.
            job = await self.store.job(job.id) or job
        if job.status.is_final:
            self._live.forget(job.id)
            return CancelOutcome.TOO_LATE
        if job.remote_id is None:
            return CancelOutcome.ASKED
        agreed = await cancel_at_provider(lane, job.remote_id)
        if self.role is Role.GATEWAY and self.cluster is not None:
            await self.cluster.say_look(job.id, job.remote_id)
        return CancelOutcome.ASKED if agreed else CancelOutcome.TOO_LATE

    async def _cancel_when_sent(self, job: Job) -> None:
        """A worker is sending the order: ask the provider as soon as it is known there."""
        current: Job | None = job
        while current is not None and not current.status.is_final:
            if current.status is JobStatus.QUEUED or current.remote_id is not None:
                await self.cancel(current)
                return
            await asyncio.sleep(SENDING_LOOK_SECONDS)
            with suppress(StoreError):
                current = await self.store.job(job.id)

    # -- webhooks -----------------------------------------------------------------------------------------

    def hook(self, token: str, remote_id: str | None) -> None:
        """A provider called. Unsigned, so only a hint: nothing changes before we asked the provider ourselves."""
        claims = self._live.claim(token, remote_id)
        if not claims and self.cluster is not None:
            self.cluster.pass_on(token, remote_id)
        for claim in claims:
            for lane in self._lanes.values():
                lane.watcher.hint(claim)

    # -- starting and stopping ----------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take every unfinished job down the line from where it stood, and show every final state not yet shown.

        In a process that is not alone that comes about by the queue, a reply at a time.
        """
        self._live.learn_durations(await self.store.recent_durations(durations.KEPT))
        if self.role is not Role.ALL:
            return
        replies = await self.store.unfinished()
        # First of all, since lost orders are told apart by who else is lost.
        for reply in replies:
            await self._give_up_half_sent(reply)
        for reply in replies:
            self._take_up(reply)

    async def follow(self, reply_id: str) -> bool:
        """See a reply through, wherever it stands, until its final state was shown; may be begun anew at any time.

        False when `let_go` came first: it is somebody else's to follow then.
        """
        self._followed[reply_id] = news = asyncio.Event()
        try:
            while not self._stopping:
                reply = await written(partial(self.store.reply, reply_id))
                if reply is None or reply.is_over:
                    return True
                await self._give_up_half_sent(reply)
                self._take_up(reply)
                if news.is_set():
                    news.clear()
                    self._notify(reply_id)
                with suppress(TimeoutError):
                    # Those that were taken up together need not be looked at together.
                    async with asyncio.timeout(LOOK_AGAIN_SECONDS * random.uniform(0.7, 1.3)):  # noqa: S311
                        await news.wait()
            return False
        finally:
            if self._followed.get(reply_id) is news:
                del self._followed[reply_id]

    def _look_again(self, reply_id: str | None) -> None:
        """Something about a followed reply may have changed; None for every one of them."""
        for found in self._followed if reply_id is None else (reply_id,):
            if (news := self._followed.get(found)) is not None:
                news.set()

    def has_shown(self, reply_id: str) -> None:
        """Whoever shows replies is done with this one."""
        self._look_again(reply_id)

    def let_go(self) -> None:
        """Whoever awaits `follow` hears now that somebody else is to go on. After `stop`, when nothing is at work."""
        self._stopping = True
        self._look_again(None)

    async def _give_up_half_sent(self, reply: Reply) -> None:
        """An order that was being sent when its process died is looked for; it is never sent again."""
        for job in reply.jobs:
            lane = self._lanes.get(job.provider)
            if job.status is JobStatus.SUBMITTING and not (lane is not None and lane.has(job.id)):
                await written(partial(self.store.mark_uncertain, job.id))

    def _take_up(self, reply: Reply) -> None:
        """Do whatever there is to do about a reply, unless it is being done here already."""
        if not reply.accepted:
            if reply.id not in self._asked_after:
                self._asked_after.add(reply.id)
                self._supervisor.start(f"reply {reply.id}", self._resume_unaccepted(reply))
            return
        for job in reply.jobs:
            self._take_up_job(reply, job)
        if reply.is_final or any(job.status is JobStatus.SUBMITTING for job in reply.jobs):
            self._notify(reply.id)

    def _take_up_job(self, reply: Reply, job: Job) -> None:
        lane = self._lanes.get(job.provider)
        if job.status.is_final:
            if lane is not None and lane.line.leave(job.id):  # ended by another process while it waited here
                self._live.forget(job.id)
                self._notify(reply.id)
            return
        if lane is not None and lane.has(job.id):
            return
        if lane is None:
            _log.error("job %s waits for %s, which has no key any more", job.id, job.provider)
        elif job.status is JobStatus.QUEUED:
            lane.enter(job.id, reply.user_id)
        else:
            lane.adopt(job.id)
        if reply.cancel_reason is not None:  # a moderator wanted that, and perhaps we died before we asked anybody
            self._supervisor.start(f"cancel {job.id}", self.cancel(job))

    async def _resume_unaccepted(self, reply: Reply) -> None:
        """We died between writing the jobs down and hearing that Discord showed them."""
        try:
            message_id = await self._observer.find_message(reply) if self._observer else None
            if message_id is None:
                # A private card cannot be looked for once its token is dead, so it may be there all the same.
                could_look = not reply.address.private or reply.address.token_expires_at - self._clock() > TOKEN_AGONY
                await self.abandon(reply, surely_unseen=could_look)
                return
            await written(partial(self.store.accept, reply.id, message_id=message_id))
            # It may be final: we died while giving it up, and it is visible after all.
            self._take_up(replace(reply, accepted=True))
        finally:
            self._asked_after.discard(reply.id)
            self._look_again(reply.id)

    async def keep_places_true(self) -> None:
        """Show those who are next how the line moves, for ever. Who is far back learns of it when it matters."""
        while True:
            await asyncio.sleep(PLACES_SECONDS)
            for lane in self._lanes.values():
                if self.cluster is not None and len(lane.line) > 0:
                    await self.cluster.renewed_line(lane.provider.name)
                line = self._line(lane)
                for job_id in line.upcoming(PLACES_SHOWN):
                    place = line.place(job_id)
                    if self._places.get(job_id) == place or job_id not in lane.line:
                        continue
                    self._places[job_id] = place
                    reply = await self.store.reply_of_job(job_id)
                    if reply is not None:
                        self._notify(reply.id)
            waiting = [self._line(lane) for lane in self._lanes.values()]
            self._places = {
                job_id: place for job_id, place in self._places.items() if any(job_id in line for line in waiting)
            }

    def stop(self) -> None:
        """Start nothing new. What is under way stays on disk and goes on at the next start."""
        for lane in self._lanes.values():
            lane.stop()

    async def settle_submissions(self) -> None:
        """Wait until no order is half sent, so that the next start has nothing uncertain to look up."""
        for lane in self._lanes.values():
            await lane.submissions_settled()

    # -- weather ------------------------------------------------------------------------------------------

    def provider_denied(self, provider: str, error: ProviderDenied) -> None:
        """A provider refused our key while we asked after a running job: no new jobs go there."""
        self._lanes[provider].note_fault(error)

    def _lane_closed(self, provider: str, reason: Closed, error: ProviderError) -> None:
        _log.error("%s closed (%s): %s", provider, reason, error)
        notice = f"{provider} takes no jobs ({reason}): {error}"
        if self.cluster is not None:
            self._supervisor.start(f"{provider} closed", self._close_for_all(provider, reason, notice))
        elif self._observer is not None:
            self._observer.operator_notice(f"{provider} closed", notice)

    async def _close_for_all(self, provider: str, reason: Closed, notice: str) -> None:
        assert self.cluster is not None, "there are others"
        is_first = await self.cluster.close(provider, reason)
        if is_first and self._observer is not None:  # the others have nothing new to tell the operator
            self._observer.operator_notice(f"{provider} closed", notice)

    def _lane_opened(self, provider: str) -> None:
        if self.cluster is not None:
            self.cluster.opened(provider)

    # -- showing ------------------------------------------------------------------------------------------

    def _notify(self, reply_id: str) -> None:
        """Have the reply shown as it is now: by this process if it follows it, else by whichever does."""
        if self.cluster is not None and reply_id not in self._followed:
            self.cluster.call_for(reply_id)
        elif self._observer is not None:
            self._observer.reply_changed(reply_id)

    # -- places -------------------------------------------------------------------------------------------

    def _line(self, lane: Lane) -> FairLine:
        """Everybody who waits for a provider, in whichever process."""
        return lane.line if self.cluster is None else self.cluster.line(lane.provider.name)

    async def _place_for(self, job: Job) -> int | None:
        lane, user_id = self._lanes[job.provider], job.request.user_id
        return lane.place_for(user_id) if self.cluster is None else await self.cluster.place_for(lane, user_id)


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
