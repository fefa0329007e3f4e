"""JobService: the only place that knows the whole story of a job, from the request to the settled charge.

One accepted command in a straight line:

    admit      quote, then reserve and insert in one transaction          nothing leaves the process
    accept     Discord has shown the card                                 (or `abandon`: everything is released)
    follow     submit → watch → collect → settle                          one restartable coroutine per job in flight

What an error does to the money is decided by its class, in `_submit` and `_watch` and nowhere else:

    ProviderRejected, ProviderDenied   release
    ProviderUnavailable                back in line, or release when it keeps failing
    OutcomeUncertain                   keep the reservation, look again, never send again
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from statistics import median
from typing import Protocol, TypeVar

import stamina

from bot.catalogue import Catalogue
from bot.errors import (
    LedgerError,
    MediaError,
    ModelUnavailable,
    OutcomeUncertain,
    ProviderDenied,
    ProviderError,
    ProviderPaused,
    ProviderRejected,
    ProviderUnavailable,
    StoreError,
    UnknownModel,
)
from bot.fetch import Fetcher
from bot.images import ImageWorkshop
from bot.jobs import (
    Delivery,
    Failure,
    FailureReason,
    Job,
    JobRequest,
    JobStatus,
    Picture,
    Progress,
    Reply,
    ReplyAddress,
    new_id,
)
from bot.lane import Closed, Lane
from bot.orders import Quote, fill_pictures
from bot.pictures import PictureStore
from bot.providers.base import Provider, ProviderRequest, RemoteJob, Update
from bot.providers.watcher import DeadlineReached, Watcher
from bot.quota import Balance, Limits, Member
from bot.store.store import Store
from bot.supervisor import Supervisor

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

SUBMIT_ATTEMPTS = 4
"""Only for orders that never left: connection refused, name not found."""

LOOK_UP_SECONDS = 300.0
"""So long a lost answer is looked for in a provider's list. Not there by then: it was never accepted."""

SUBMISSION_SPAN = timedelta(seconds=90)
"""A lost order was created at the provider within this after it left: longer than any submission may take."""

CLOCK_SKEW = timedelta(seconds=5)
RESULT_MAX_BYTES = 100 * 2**20
RESULT_ATTEMPTS = 6
DURATIONS_KEPT = 25
"""So many past jobs of a model tell how long its next one will take (their median)."""


class CancelOutcome(StrEnum):
    """What became of a wish to cancel."""

    CANCELLED = "cancelled"
    ASKED = "asked"
    """The provider agreed; the card follows when it says so itself."""
    TOO_LATE = "too_late"
    NOT_POSSIBLE = "not_possible"
    """This provider cannot cancel."""


@dataclass(slots=True)
class Live:
    """What is only worth knowing while a job is in flight. Not on disk: after a restart the next poll tells it again."""

    progress: Progress | None = None
    preview_url: str | None = None
    started_at: datetime | None = None
    cancel_wanted: bool = False
    claims: list[str] = field(default_factory=list[str])
    """Remote ids that a webhook on this job's own path named."""
    claimed: asyncio.Event = field(default_factory=asyncio.Event)
    hook: bytes | None = None
    """Digest of the secret webhook path of this job's order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """A job as its card shows it."""

    job: Job
    model_label: str
    progress: Progress | None = None
    preview_url: str | None = None
    place_in_line: int | None = None
    expected_at: datetime | None = None
    """When it will probably be done, from how long this model took lately."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplyView:
    """A reply as it should look now."""

    reply: Reply
    jobs: tuple[JobView, ...]
    balance: Balance


class ReplyObserver(Protocol):
    """Who shows replies. Calls return at once; showing happens elsewhere and never delays a job."""

    def reply_changed(self, reply_id: str, address: ReplyAddress) -> None:
        """Something about the reply is new; ask `view` for how it looks when you show it."""
        ...

    async def find_message(self, reply: Reply) -> int | None:
        """The id of the message of a reply whose acceptance was not recorded, or None when Discord never showed it.

        Raises nothing: when Discord cannot be asked, this waits and asks again."""
        ...

    def operator_notice(self, matter: str, text: str) -> None:
        """Tell the operator, once for a while about the same matter."""
        ...


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
        pictures: PictureStore,
        fetcher: Fetcher,
        workshop: ImageWorkshop,
        supervisor: Supervisor,
        limits: Limits,
        public_url: str | None = None,
        job_log: Callable[[str], AbstractContextManager[object]],
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._pictures = pictures
        self._fetcher = fetcher
        self._workshop = workshop
        self._supervisor = supervisor
        self._limits = limits
        self._public_url = public_url
        self._job_log = job_log
        self._clock = clock
        self._lanes: dict[str, Lane] = {}
        self._live: dict[str, Live] = {}
        self._hooks: dict[bytes, str] = {}
        self._durations: dict[str, deque[float]] = {}
        self._observer: ReplyObserver | None = None

    # -- set up ---------------------------------------------------------------------------------------

    def add_provider(self, provider: Provider, watcher: Watcher, *, max_concurrency: int) -> None:
        """Open a lane to a provider and keep it served."""
        lane = Lane(
            provider,
            watcher,
            max_concurrency=max_concurrency,
            follow=self.follow,
            start=self._supervisor.start,
            on_closed=self._lane_closed,
        )
        self._lanes[provider.name] = lane
        self._supervisor.start_forever(f"{provider.name} line", lane.run)
        self._supervisor.start_forever(f"{provider.name} probe", lane.keep_open)
        self._supervisor.start_forever(f"{provider.name} watcher", watcher.run)

    def observe(self, observer: ReplyObserver) -> None:
        """Set who shows replies. Before the first job."""
        self._observer = observer

    @property
    def providers(self) -> frozenset[str]:
        """Names of the providers we have a key for."""
        return frozenset(self._lanes)

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue

    @property
    def store(self) -> Store:
        return self._store

    @property
    def limits(self) -> Limits:
        return self._limits

    @property
    def pictures(self) -> PictureStore:
        return self._pictures

    @property
    def workshop(self) -> ImageWorkshop:
        return self._workshop

    @property
    def fetcher(self) -> Fetcher:
        return self._fetcher

    def takes_uploads(self, model_id: str) -> bool:
        """Whether input pictures are given to the model's provider as bytes. Raises UnknownModel, ModelUnavailable."""
        model = self._catalogue.get(model_id)
        lane = self._lanes.get(model.provider)
        if lane is None:
            raise ModelUnavailable(model.id, "no_key")
        return lane.provider.takes_uploads

    def waiting(self) -> dict[str, int]:
        """Jobs in line by provider."""
        return {name: len(lane.line) for name, lane in self._lanes.items()}

    # -- asking -----------------------------------------------------------------------------------------

    def quote(self, request: JobRequest) -> Quote:
        """What exactly would be ordered, and the most it may cost.

        Raises UnknownModel, ModelUnavailable, BadOption, ProviderPaused.
        """
        quote = self._catalogue.quote(request)
        lane = self._lanes.get(quote.provider)
        if lane is None:
            raise ModelUnavailable(quote.model.id, "no_key")
        if lane.closed is not None:
            raise ProviderPaused(quote.provider)
        return quote

    async def admit(self, requests: Sequence[JobRequest], *, member: Member, address: ReplyAddress) -> ReplyView:
        """Reserve the price of every request and write the jobs down, all or nothing. Nothing leaves the process.

        Raises RequestRefused (nothing was reserved) or StoreError (the books could not be written: nothing was reserved).
        """
        quotes = [self.quote(request) for request in requests]
        now = self._clock()
        reply_id = new_id()
        jobs = tuple(
            Job(
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
            for ordinal, (request, quote) in enumerate(zip(requests, quotes, strict=True))
        )
        reply = Reply(
            id=reply_id,
            user_id=member.user_id,
            role_ids=member.role_ids,
            address=address,
            created_at=now,
            accepted=False,
            delivery=Delivery.PENDING,
            jobs=jobs,
        )
        balance = await self._store.admit(member=member, reply=reply, limits=self._limits, now=now)
        ahead = len(self._lanes[jobs[0].provider].line)
        views = tuple(
            JobView(
                job=job,
                model_label=quote.model.label,
                place_in_line=ahead + job.ordinal + 1 if ahead else None,
            )
            for job, quote in zip(jobs, quotes, strict=True)
        )
        return ReplyView(reply=reply, jobs=views, balance=balance)

    async def accept(self, reply: Reply, *, message_id: int | None) -> None:
        """Discord has shown the card: the jobs may go to the provider now."""
        await self._write(lambda: self._store.accept(reply.id, message_id=message_id))
        for job in reply.jobs:
            self._lanes[job.provider].enter(job.id, reply.user_id)

    async def abandon(self, reply: Reply, *, surely_unseen: bool = True) -> None:
        """Discord did not take the card: release everything, buy nothing. If it may be visible after all, correct it."""
        for job in reply.jobs:
            job_id = job.id
            await self._write(
                lambda: self._store.fail(job_id, Failure(reason=FailureReason.NOT_SHOWN), now=self._clock())
            )
        if surely_unseen:
            await self._write(lambda: self._store.set_delivery(reply.id, Delivery.IMPOSSIBLE))
        else:
            self._notify(reply)

    async def view(self, reply_id: str) -> ReplyView | None:
        """How the reply should look now; None when it is not known (any more)."""
        reply = await self._store.reply(reply_id)
        if reply is None:
            return None
        member = Member(guild_id=reply.address.guild_id, user_id=reply.user_id, role_ids=reply.role_ids)
        balance = await self._store.balance(member, default=self._limits.default_quota, now=self._clock())
        return ReplyView(reply=reply, jobs=tuple(self._job_view(job) for job in reply.jobs), balance=balance)

    def _job_view(self, job: Job) -> JobView:
        live = self._live.get(job.id)
        lane = self._lanes.get(job.provider)
        return JobView(
            job=job,
            model_label=self.model_label(job.request.model_id),
            progress=live.progress if live else None,
            preview_url=live.preview_url if live else None,
            place_in_line=lane.line.place(job.id) if lane else None,
            expected_at=self._expected_at(job),
        )

    def _expected_at(self, job: Job) -> datetime | None:
        lately = self._durations.get(job.request.model_id)
        if not lately or job.submitted_at is None:
            return None
        return job.submitted_at + timedelta(seconds=median(lately))

    def model_label(self, model_id: str) -> str:
        """The name of a model, or its id when it has left the catalogue."""
        try:
            return self._catalogue.get(model_id).label
        except UnknownModel:
            return model_id

    async def cancel(self, job: Job) -> CancelOutcome:
        """Try to stop a job. Money follows what really happened, not what was asked."""
        lane = self._lanes.get(job.provider)
        if job.status is JobStatus.QUEUED:
            cancelled = await self._store.cancel(job.id, expected=JobStatus.QUEUED, now=self._clock())
            if cancelled is not None:
                if lane is not None:
                    lane.line.leave(job.id)
                await self._changed(job)
                return CancelOutcome.CANCELLED
            job = await self._job(job.id) or job
        if job.status.is_final or lane is None:
            return CancelOutcome.TOO_LATE
        if not lane.provider.can_cancel:
            return CancelOutcome.NOT_POSSIBLE
        if job.remote_id is None:
            self._live_of(job.id).cancel_wanted = True
            return CancelOutcome.ASKED
        return await self._cancel_at_provider(lane, job.remote_id)

    async def _cancel_at_provider(self, lane: Lane, remote_id: str) -> CancelOutcome:
        try:
            agreed = await lane.provider.cancel(remote_id)
        except ProviderError as error:
            _log.info("cancelling failed: %s", error)
            agreed = False
        lane.watcher.hint(remote_id)
        return CancelOutcome.ASKED if agreed else CancelOutcome.TOO_LATE

    # -- webhooks -----------------------------------------------------------------------------------------

    def hook(self, token: str, remote_id: str | None) -> None:
        """A provider called. Unsigned, so only a hint to look: nothing changes before we asked the provider ourselves."""
        job_id = self._hooks.get(_digest(token))
        live = self._live.get(job_id) if job_id is not None else None
        if job_id is None or live is None:
            return
        if remote_id is not None and remote_id not in live.claims and len(live.claims) < 4:
            live.claims.append(remote_id)
        live.claimed.set()
        for lane in self._lanes.values():
            for claim in live.claims:
                lane.watcher.hint(claim)

    # -- starting and stopping ------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take every unfinished job down the line from where it stood, and show every final state not yet shown."""
        for model_id, seconds in await self._store.recent_durations(DURATIONS_KEPT):
            self._durations.setdefault(model_id, deque(maxlen=DURATIONS_KEPT)).append(seconds)
        for reply in await self._store.unfinished():
            if not reply.accepted:
                self._supervisor.start(f"reply {reply.id}", self._resume_unaccepted(reply))
                continue
            for job in reply.jobs:
                self._resume_job(reply, job)
            if reply.is_final:
                self._notify(reply)

    def _resume_job(self, reply: Reply, job: Job) -> None:
        lane = self._lanes.get(job.provider)
        if job.status.is_final:
            return
        if lane is None:
            _log.error("job %s waits for %s, which has no key any more", job.id, job.provider)
        elif job.status is JobStatus.QUEUED:
            lane.enter(job.id, reply.user_id)
        else:
            lane.adopt(job.id)

    async def _resume_unaccepted(self, reply: Reply) -> None:
        message_id = await self._observer.find_message(reply) if self._observer else None
        if message_id is None:
            await self.abandon(reply)
        else:
            await self.accept(reply, message_id=message_id)

    def stop(self) -> None:
        """Start nothing new. What is under way stays on disk and goes on at the next start."""
        for lane in self._lanes.values():
            lane.stop()

    async def settle_submissions(self) -> None:
        """Wait until no order is half sent, so that the next start has nothing uncertain to look up."""
        for lane in self._lanes.values():
            await lane.submissions_settled()

    def _lane_closed(self, provider: str, reason: Closed, error: ProviderError) -> None:
        _log.error("%s closed (%s): %s", provider, reason, error)
        if self._observer is not None:
            self._observer.operator_notice(f"{provider} closed", f"{provider} takes no jobs ({reason}): {error}")
        if reason is Closed.DENIED:
            self._supervisor.start(f"{provider} line cleared", self._clear_line(self._lanes[provider]))

    async def _clear_line(self, lane: Lane) -> None:
        for job_id in lane.line.drain():
            job = await self._job(job_id)
            if job is not None:
                await self._fail(job, Failure(reason=FailureReason.PROVIDER_UNAVAILABLE))

    # -- one job in flight ------------------------------------------------------------------------------------

    async def follow(self, job_id: str) -> None:
        """See one job through from where it stands. May be started again at any point; every step checks where it is."""
        with self._job_log(job_id):
            job = await self._job(job_id)
            if job is None or job.status.is_final:
                return
            live = self._live_of(job.id)
            live.started_at = live.started_at or job.submitted_at or self._clock()
            lane = self._lanes[job.provider]
            try:
                await self._follow(job, lane)
            finally:
                if job.id not in lane.line:
                    self._forget(job.id)

    async def _follow(self, job: Job, lane: Lane) -> None:
        current: Job | None = job
        if job.status is JobStatus.QUEUED:
            current = await self._submit(job, lane)
        elif job.status is JobStatus.SUBMITTING:
            # We died, or were stopped, with the order half sent. It is never sent again.
            current = await self._write(lambda: self._store.mark_uncertain(job.id))
            await self._changed(current)
        if current is not None and current.webhook_token is not None:
            self._expect_hook(current.id, current.webhook_token)
        if current is not None and current.status is JobStatus.UNCERTAIN:
            current = await self._look_up(current, lane)
        if current is not None and current.status is JobStatus.RUNNING:
            await self._watch(current, lane)

    async def _submit(self, job: Job, lane: Lane) -> Job | None:
        """queued → running | uncertain | failed, or back in line. The order is sent at most once."""
        try:
            urls = await self._input_urls(job, lane.provider)
        except ProviderError as error:
            if isinstance(error, ProviderDenied):
                lane.note_fault(error)
            return await self._fail(job, _failure(error))
        token = secrets.token_urlsafe(32) if self._public_url else None
        now = self._clock()
        deadline_at = now + timedelta(seconds=lane.provider.deadline_seconds)
        begun = await self._write(
            lambda: self._store.begin_submission(job.id, now=now, deadline_at=deadline_at, webhook_token=token)
        )
        if begun is None:
            return None  # cancelled while we were uploading
        if token is not None:
            self._expect_hook(job.id, token)
        order = ProviderRequest(
            path=job.path,
            body=fill_pictures(job.body, urls),
            webhook_url=f"{self._public_url}/hooks/{token}" if token else None,
        )
        return await asyncio.shield(self._supervisor.start(f"submission {job.id}", self._send(begun, lane, order)))

    async def _send(self, job: Job, lane: Lane, order: ProviderRequest) -> Job | None:
        """Send the order and write down what came of it. A task of its own: stopping the job must not cut it in two."""
        under_way = lane.submission_begins()
        try:
            remote = await self._submit_once(lane.provider, order)
        except ProviderRejected as error:
            _log.warning("refused: %s", error)
            if isinstance(error, ProviderDenied):
                lane.note_fault(error)
            return await self._fail(job, _failure(error))
        except ProviderUnavailable as error:
            _log.warning("not accepted: %s", error)
            if error.status == 429:
                lane.hold(error.retry_after_seconds or 5.0)
                waiting = await self._write(lambda: self._store.back_to_line(job.id))
                lane.enter(job.id, job.request.user_id, at_front=True)
                return waiting
            lane.note_fault(error)
            return await self._fail(job, _failure(error))
        except OutcomeUncertain as error:
            _log.warning("no usable answer: %s", error)
            lane.note_fault(error)
            uncertain = await self._write(lambda: self._store.mark_uncertain(job.id))
            await self._changed(uncertain)
            return uncertain
        else:
            lane.note_success()
            self._live_of(job.id).progress = remote.progress
            running = await self._write(lambda: self._store.mark_running(job.id, remote_id=remote.remote_id))
            await self._changed(running)
            _log.info("submitted as %s", remote.remote_id)
            return running
        finally:
            under_way.set_result(None)

    async def _submit_once(self, provider: Provider, order: ProviderRequest) -> RemoteJob:
        """At most one order leaves. Only a connection that could not be made is tried again."""

        def never_left(error: Exception) -> bool:
            return isinstance(error, ProviderUnavailable) and error.status is None

        async for attempt in stamina.retry_context(
            on=never_left, attempts=SUBMIT_ATTEMPTS, timeout=30, wait_initial=0.5, wait_max=8, wait_jitter=1
        ):
            with attempt:
                return await provider.submit(order)
        raise AssertionError("unreachable: the last attempt returns or raises")

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
                data = await self._pictures.get(image.sha256)
                if data is None:
                    raise ProviderRejected("an input picture is no longer kept")
                url = await provider.upload(data, image.content_type)
                await self._store.remember_upload(provider.name, image.sha256, url, now=self._clock())
            urls.append(url)
        return urls

    # -- lost answers ----------------------------------------------------------------------------------------------

    async def _look_up(self, job: Job, lane: Lane) -> Job | None:
        """uncertain → running when the order is found beyond doubt, → failed when it cannot be known any more."""
        assert job.submitted_at is not None and job.deadline_at is not None
        live = self._live_of(job.id)
        give_up_at = job.deadline_at
        if lane.provider.can_list:
            give_up_at = min(give_up_at, job.submitted_at + timedelta(seconds=LOOK_UP_SECONDS))
        pause, in_doubt = 1.0, not lane.provider.can_list
        while True:
            found = await self._claimed(job, lane, live)
            if found is None and lane.provider.can_list:
                try:
                    candidates = await self._candidates(job, lane)
                except ProviderError as error:
                    _log.info("cannot look for the order: %s", error)
                    in_doubt = True
                else:
                    in_doubt = bool(candidates)
                    rivals = await self._rivals(job)
                    found = candidates[0] if len(candidates) == 1 and not rivals else None
            if found is not None:
                _log.info("found again as %s", found)
                remote_id = found
                running = await self._write(lambda: self._store.mark_running(job.id, remote_id=remote_id))
                await self._changed(running)
                return running
            if self._clock() >= give_up_at:
                return await self._fail(job, Failure(reason=FailureReason.OUTCOME_UNKNOWN), at_house_cost=in_doubt)
            live.claimed.clear()
            try:
                await asyncio.wait_for(live.claimed.wait(), min(pause, _seconds(give_up_at - self._clock())))
            except TimeoutError:
                pause = min(pause * 2, 30.0)

    async def _candidates(self, job: Job, lane: Lane) -> list[str]:
        """Jobs at the provider that nobody of ours owns and that were created when this order left."""
        assert job.submitted_at is not None
        earliest, latest = job.submitted_at - CLOCK_SKEW, job.submitted_at + SUBMISSION_SPAN
        listed = await lane.provider.recent(since=earliest)
        # Orders under way now may own some of these; their answers are on disk once they settled.
        await lane.submissions_settled()
        ids = [
            remote.remote_id
            for remote in listed
            if remote.created_at is not None and earliest <= remote.created_at <= latest
        ]
        known = await self._store.known_remote_ids(lane.provider.name, ids)
        return [remote_id for remote_id in ids if remote_id not in known]

    async def _rivals(self, job: Job) -> bool:
        """True when another lost order of the same provider left at about the same time."""
        assert job.submitted_at is not None
        for reply in await self._store.unfinished():
            for other in reply.jobs:
                if (
                    other.id != job.id
                    and other.provider == job.provider
                    and other.status is JobStatus.UNCERTAIN
                    and other.submitted_at is not None
                    and abs(other.submitted_at - job.submitted_at) <= SUBMISSION_SPAN + CLOCK_SKEW
                ):
                    return True
        return False

    async def _claimed(self, job: Job, lane: Lane, live: Live) -> str | None:
        """A remote id that a call on this job's own secret path named, once the provider confirms there is such a job."""
        assert job.submitted_at is not None
        for remote_id in tuple(live.claims):
            try:
                update = await lane.provider.fetch(remote_id)
            except ProviderRejected:
                live.claims.remove(remote_id)
                continue
            except ProviderError:
                continue
            in_time = update.created_at is None or update.created_at >= job.submitted_at - CLOCK_SKEW
            if in_time and not await self._store.known_remote_ids(lane.provider.name, [remote_id]):
                return remote_id
            live.claims.remove(remote_id)
        return None

    # -- running jobs -----------------------------------------------------------------------------------------------

    async def _watch(self, job: Job, lane: Lane) -> None:
        """running → succeeded | failed | cancelled."""
        assert job.remote_id is not None and job.submitted_at is not None and job.deadline_at is not None
        live = self._live_of(job.id)
        if live.cancel_wanted:
            await self._cancel_at_provider(lane, job.remote_id)
        try:
            async for update in lane.watcher.watch(
                job.remote_id, submitted_at=job.submitted_at, deadline_at=job.deadline_at
            ):
                if await self._advance(job, update, live):
                    return
        except DeadlineReached:
            _log.error("no end by the deadline; the house pays if the provider charges")
            await self._fail(job, Failure(reason=FailureReason.TIMED_OUT), at_house_cost=True)

    async def _advance(self, job: Job, update: Update, live: Live) -> bool:
        """Act on one reading; True when the job has ended."""
        match update.status:
            case JobStatus.SUCCEEDED:
                await self._collect(job, update)
            case JobStatus.FAILED:
                _log.warning("the provider failed it (%s): %s", update.provider_word, update.failure)
                failure = update.failure or Failure(reason=FailureReason.PROVIDER_FAILED)
                await self._fail(job, failure, at_house_cost=update.may_be_charged)
            case JobStatus.CANCELLED:
                await self._end(lambda: self._store.cancel(job.id, expected=JobStatus.RUNNING, now=self._clock()))
            case _:
                shown = (live.progress, live.preview_url)
                live.progress, live.preview_url = update.progress or live.progress, update.preview_url
                if shown != (live.progress, live.preview_url):
                    await self._changed(job)
                return False
        return True

    async def _collect(self, job: Job, update: Update) -> None:
        """Fetch the pictures of a completed job, then charge for them. A picture that cannot be had costs the member nothing."""
        try:
            if not update.result_urls:
                raise MediaError("completed without a result", transient=False)
            pictures = [await self._fetch_picture(url) for url in update.result_urls]
        except MediaError as error:
            _log.error("completed, but no usable picture: %s", error)
            if self._observer is not None:
                self._observer.operator_notice(
                    "no usable picture", f"Job {job.id} was completed without a usable picture: {error}"
                )
            await self._fail(job, Failure(reason=FailureReason.NO_USABLE_RESULT), at_house_cost=True)
            return
        cost = job.reserved_usd_micros if update.cost_usd_micros is None else update.cost_usd_micros
        charged = min(cost, job.reserved_usd_micros)
        if cost > charged:
            _log.error("the provider charged %d micro-dollars, %d were reserved", cost, charged)
        await self._end(
            lambda: self._store.succeed(job.id, charged_usd_micros=charged, pictures=pictures, now=self._clock())
        )
        self._note_duration(job)
        _log.info("completed for %d micro-dollars", charged)

    def _note_duration(self, job: Job) -> None:
        if job.submitted_at is not None:
            lately = self._durations.setdefault(job.request.model_id, deque(maxlen=DURATIONS_KEPT))
            lately.append(_seconds(self._clock() - job.submitted_at))

    async def _fetch_picture(self, url: str) -> Picture:
        async for attempt in stamina.retry_context(
            on=_worth_another_try, attempts=RESULT_ATTEMPTS, timeout=300, wait_initial=0.5, wait_max=30, wait_jitter=1
        ):
            with attempt:
                data = await self._fetcher.download(url, max_bytes=RESULT_MAX_BYTES)
                checked = await self._workshop.check_result(data)
                sha256 = await self._write(partial(self._pictures.put, data))
                return Picture(
                    sha256=sha256,
                    content_type=checked.content_type,
                    width=checked.width,
                    height=checked.height,
                    size_bytes=len(data),
                    source_url=url,
                )
        raise AssertionError("unreachable: the last attempt returns or raises")

    # -- small things ------------------------------------------------------------------------------------------------

    async def _write(self, move: Callable[[], Awaitable[_T]]) -> _T:
        """Write something down that has already happened, however long the disk takes to recover."""
        async for attempt in stamina.retry_context(
            on=_disk_may_recover, attempts=None, timeout=None, wait_initial=0.2, wait_max=10, wait_jitter=0.5
        ):
            with attempt:
                return await move()
        raise AssertionError("unreachable: attempts are unlimited")

    async def _end(self, move: Callable[[], Awaitable[Job | None]]) -> Job | None:
        """Carry out the last move of a job and show it."""
        job = await self._write(move)
        await self._changed(job)
        return job

    async def _fail(self, job: Job, failure: Failure, *, at_house_cost: bool = False) -> Job | None:
        """Release the reservation; what the provider may charge all the same is the house's."""
        house_usd_micros = job.reserved_usd_micros if at_house_cost else 0
        return await self._end(
            lambda: self._store.fail(job.id, failure, now=self._clock(), house_usd_micros=house_usd_micros)
        )

    async def _job(self, job_id: str) -> Job | None:
        reply = await self._store.reply_of_job(job_id)
        return next((job for job in reply.jobs if job.id == job_id), None) if reply else None

    async def _changed(self, job: Job | None) -> None:
        if job is None or self._observer is None:
            return
        address = await self._store.address_of(job.id)
        if address is not None:
            self._observer.reply_changed(job.reply_id, address)

    def _notify(self, reply: Reply) -> None:
        if self._observer is not None:
            self._observer.reply_changed(reply.id, reply.address)

    def _live_of(self, job_id: str) -> Live:
        return self._live.setdefault(job_id, Live())

    def _expect_hook(self, job_id: str, token: str) -> None:
        digest = _digest(token)
        self._live_of(job_id).hook = digest
        self._hooks[digest] = job_id

    def _forget(self, job_id: str) -> None:
        live = self._live.pop(job_id, None)
        if live is not None and live.hook is not None:
            self._hooks.pop(live.hook, None)


def _digest(token: str) -> bytes:
    """Tokens are looked up by digest, so that timing tells nothing about the token itself."""
    return hashlib.sha256(token.encode()).digest()


def _disk_may_recover(error: Exception) -> bool:
    return isinstance(error, StoreError) and not isinstance(error, LedgerError)


def _seconds(span: timedelta) -> float:
    return max(0.0, span.total_seconds())


def _worth_another_try(error: Exception) -> bool:
    return isinstance(error, MediaError) and error.transient


def _failure(error: ProviderError) -> Failure:
    """What the member is told about an order that was not accepted."""
    if isinstance(error, ProviderDenied):
        return Failure(reason=FailureReason.PROVIDER_UNAVAILABLE)
    if isinstance(error, ProviderRejected):
        return Failure(reason=FailureReason(error.reason), hint=error.hint)
    return Failure(reason=FailureReason.PROVIDER_UNAVAILABLE)
