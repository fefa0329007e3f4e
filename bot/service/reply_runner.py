"""Following: which replies this process sees through to their end, from wherever they stand.

Restartable at any point: what is taken up is read from the books first, and what is taken up already stays as it is.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.jobs import Job, JobStatus, Reply
from bot.runtime.retry import retry_storage_errors
from bot.runtime.supervisor import Supervisor
from bot.service.in_flight import InFlightJobs
from bot.service.views import ReplyPresenter
from bot.store.store import Store

_log = logging.getLogger(__name__)

REREAD_SECONDS = 60.0
"""So often a reply that is awaited is looked at although nobody said that there is news."""


class Abandon(Protocol):
    """Gives up a reply that Discord did not show, or (`surely_unseen` is False) perhaps did."""

    def __call__(self, reply: Reply, *, surely_unseen: bool) -> Awaitable[None]: ...


class ReplyRunner:
    """`resume` and `take_up` where this process is alone; `follow` where a queue says what is whose."""

    def __init__(
        self,
        *,
        store: Store,
        dispatchers: Mapping[str, ProviderDispatcher],
        in_flight: InFlightJobs,
        supervisor: Supervisor,
        clock: Callable[[], datetime],
        notify: Callable[[str], None],
        cancel: Callable[[Job], Coroutine[Any, Any, object]],
        abandon: Abandon,
    ) -> None:
        self._store = store
        self._dispatchers = dispatchers
        self._in_flight = in_flight
        self._supervisor = supervisor
        self._clock = clock
        self._notify = notify
        self._cancel = cancel
        self._abandon = abandon
        self._presenter: ReplyPresenter | None = None
        self._releasing = False
        self._running: dict[str, asyncio.Event] = {}
        """Replies that `follow` is awaited for, each with what makes it look again."""
        self._asked_after: set[str] = set()
        """Replies of which Discord is being asked whether it showed them."""

    def set_presenter(self, presenter: ReplyPresenter) -> None:
        """Set who knows what Discord shows. Before the first reply."""
        self._presenter = presenter

    def is_running(self, reply_id: str) -> bool:
        """Whether `follow` is awaited for the reply here."""
        return reply_id in self._running

    async def resume_all(self) -> None:
        """Take up every reply that is not at its end, and show every final state not yet shown."""
        replies = await self._store.unfinished()
        # First of all, since lost orders are told apart by who else is lost.
        for reply in replies:
            await self._mark_half_sent_uncertain(reply)
        for reply in replies:
            self.resume(reply)

    async def run(self, reply_id: str) -> bool:
        """See a reply through until its final state was shown; may be begun anew at any time.

        False when `let_go` came first: it is somebody else's to follow then.
        """
        self._running[reply_id] = news = asyncio.Event()
        try:
            while not self._releasing:
                had_news = news.is_set()
                news.clear()  # before the books are read: what comes after that makes it read them again
                reply = await self._read(reply_id)
                if reply is None or reply.is_over:
                    return True
                await self._mark_half_sent_uncertain(reply)
                self.resume(reply)
                if had_news:
                    self._notify(reply_id)
                with suppress(TimeoutError):
                    # Those that were taken up together need not be looked at together.
                    async with asyncio.timeout(REREAD_SECONDS * random.uniform(0.7, 1.3)):  # noqa: S311
                        await news.wait()
            return False
        finally:
            if self._running.get(reply_id) is news:
                del self._running[reply_id]

    @retry_storage_errors
    async def _read(self, reply_id: str) -> Reply | None:
        return await self._store.reply(reply_id)

    def wake(self, reply_id: str | None) -> None:
        """Something about a followed reply may have changed; None for every one of them."""
        for found in self._running if reply_id is None else (reply_id,):
            if (news := self._running.get(found)) is not None:
                news.set()

    def release_all(self) -> None:
        """Whoever awaits `follow` hears now that somebody else is to go on."""
        self._releasing = True
        self.wake(None)

    def resume(self, reply: Reply) -> None:
        """Do whatever there is to do about a reply, unless it is being done here already."""
        if not reply.accepted:
            if reply.id not in self._asked_after:
                self._asked_after.add(reply.id)
                self._supervisor.start(f"reply {reply.id}", self._resume_unaccepted(reply))
            return
        for job in reply.jobs:
            self._resume_job(reply, job)
        if reply.is_final or any(job.status is JobStatus.SUBMITTING for job in reply.jobs):
            self._notify(reply.id)

    def _resume_job(self, reply: Reply, job: Job) -> None:
        dispatcher = self._dispatchers.get(job.provider)
        if job.status.is_final:
            if dispatcher is not None and dispatcher.queue.remove(
                job.id
            ):  # ended by another process while it waited here
                self._in_flight.remove(job.id)
                self._notify(reply.id)
            return
        if dispatcher is not None and dispatcher.has(job.id):
            return
        if dispatcher is None:
            _log.error("job %s waits for %s, which has no key any more", job.id, job.provider)
        elif job.status is JobStatus.QUEUED:
            dispatcher.push(job)
        else:
            dispatcher.adopt(job.id)
        if reply.cancel_reason is not None:  # a moderator wanted that, and perhaps we died before we asked anybody
            self._supervisor.start(f"cancel {job.id}", self._cancel(job))

    async def _resume_unaccepted(self, reply: Reply) -> None:
        """Somebody died between writing the jobs down and hearing that Discord showed them."""
        try:
            message_id = await self._presenter.find_message(reply) if self._presenter else None
            if message_id is None:
                # A private card cannot be looked for once its token is dead, so it may be there all the same.
                could_look = not reply.address.private or reply.address.token_is_usable(self._clock())
                await self._abandon(reply, surely_unseen=could_look)
                return
            await self._store.accept(reply.id, message_id=message_id)
            # It may be final: we died while giving it up, and it is visible after all.
            self.resume(replace(reply, accepted=True))
        finally:
            self._asked_after.discard(reply.id)
            self.wake(reply.id)

    async def _mark_half_sent_uncertain(self, reply: Reply) -> None:
        """An order that was being sent when its process died is looked for; it is never sent again."""
        for job in reply.jobs:
            dispatcher = self._dispatchers.get(job.provider)
            if job.status is JobStatus.SUBMITTING and not (dispatcher is not None and dispatcher.has(job.id)):
                await self._store.mark_uncertain(job.id)
