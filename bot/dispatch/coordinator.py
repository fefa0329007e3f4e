"""Coordination between the processes that share a database: slots, queues, breakers, webhooks, replies.

A process that runs alone uses `LocalCoordinator`. Gateways and workers use `ClusterCoordinator`, which asks and
notifies the others through PostgreSQL. Nothing relies on a notification alone: what a process
misses it reads from the database later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from bot.dispatch.fair_queue import FairQueue
from bot.domain.deployment.process_role import Role
from bot.domain.errors import StoreError
from bot.runtime.supervisor import Supervisor
from bot.store.cluster_store import ClusterStore

_log = logging.getLogger(__name__)

MIN_QUEUE_AGE_SECONDS = 1.0
"""A queue that was read from the database within this time is not read again."""

MAX_READING_SHARE = 0.05
"""The largest share of its time that a process spends on reading queues: a long one is read less often."""

MAX_PENDING_WEBHOOKS = 64
"""Webhook calls that are passed on at a time. What comes on top of that is found by polling."""


class Coordinator(Protocol):
    """What a process asks and tells the other processes. Methods that are not awaited return at once."""

    @property
    def role(self) -> Role:
        """What this process does. With `Role.ALL` there is no other process."""
        ...

    def serves(self, provider: str) -> bool:
        """Return whether a process that is alive, as far as is known, sends orders to the provider."""
        ...

    async def slots_in_use(self, provider: str, *, own: int, unrecorded: int) -> int:
        """Count the slots in use at a provider by all processes. Raises StoreError.

        `own` are in use by this process; `unrecorded` of them may not be in the database yet.
        """
        ...

    def queue_of(self, provider: str, own: FairQueue) -> FairQueue:
        """Return the queue of a provider over all processes, as of the last refresh; `own` is that of this process."""
        ...

    async def refresh_queue(self, provider: str) -> None:
        """Read the queue of a provider again unless that was done just now. Raises StoreError."""
        ...

    def enqueue(self, reply_id: str) -> bool:
        """Have the process that runs the reply look at it; False when there is no other process."""
        ...

    async def forward_webhook(self, token: str, remote_id: str | None) -> None:
        """Keep a provider's call on a webhook path that is not known here, and pass it on."""
        ...

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """Have the process that runs the job poll the provider now."""
        ...

    async def open_breaker(self, provider: str, reason: str) -> bool:
        """Have no process send new jobs to the provider. True for the first process that says so."""
        ...

    async def close_breaker(self, provider: str) -> None:
        """Have every process send jobs to the provider again."""
        ...


class LocalCoordinator:
    """Coordination for a process that runs alone: there is no other process to ask or to notify."""

    role = Role.ALL

    def serves(self, provider: str) -> bool:
        """Return True: this process does."""
        return True

    async def slots_in_use(self, provider: str, *, own: int, unrecorded: int) -> int:
        """Return the slots in use by this process."""
        return own

    def queue_of(self, provider: str, own: FairQueue) -> FairQueue:
        """Return the queue of this process."""
        return own

    async def refresh_queue(self, provider: str) -> None:
        """Do nothing: the queue of this process is never out of date."""

    def enqueue(self, reply_id: str) -> bool:
        """Return False: every reply runs in this process."""
        return False

    async def forward_webhook(self, token: str, remote_id: str | None) -> None:
        """Do nothing: every webhook path that is valid is known here."""

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """Do nothing: the poller of this process polls soon enough."""

    async def open_breaker(self, provider: str, reason: str) -> bool:
        """Return True: no other process could have opened it before."""
        return True

    async def close_breaker(self, provider: str) -> None:
        """Do nothing: the breaker of this process is closed already."""


class ClusterCoordinator:
    """Coordination through the database, for gateways and workers."""

    def __init__(
        self, cluster: ClusterStore, *, role: Role, supervisor: Supervisor, clock: Callable[[], datetime]
    ) -> None:
        self.role = role
        self._cluster = cluster
        self._supervisor = supervisor
        self._clock = clock
        self._queues: dict[str, FairQueue] = {}
        self._fresh_until: dict[str, float] = {}
        self._pending_webhooks = 0
        self.served: frozenset[str] | None = None
        """Providers to which some worker that is alive sends orders; None until that is known."""

    def serves(self, provider: str) -> bool:
        """Return whether a worker that is alive, as far as is known, sends orders to the provider."""
        return self.served is None or provider in self.served

    async def slots_in_use(self, provider: str, *, own: int, unrecorded: int) -> int:
        """Count the slots in use at a provider by all processes. Raises StoreError."""
        return await self._cluster.slots_in_use(provider) + unrecorded

    def queue_of(self, provider: str, own: FairQueue) -> FairQueue:
        """Return the queue of a provider over all processes, as of the last refresh."""
        return self._queues.get(provider) or FairQueue()

    async def refresh_queue(self, provider: str) -> None:
        """Read the queue of a provider again unless that was done just now. Raises StoreError."""
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        if started_at < self._fresh_until.get(provider, 0.0):
            return
        # Set before reading, so that calls during the reading use the former queue and do not read it too.
        self._fresh_until[provider] = started_at + MIN_QUEUE_AGE_SECONDS
        queue = FairQueue()
        for job_id, requester in await self._cluster.queued_jobs(provider):
            queue.push(job_id, requester)
        self._queues[provider] = queue
        took_seconds = loop.time() - started_at
        self._fresh_until[provider] = loop.time() + max(MIN_QUEUE_AGE_SECONDS, took_seconds / MAX_READING_SHARE)

    def enqueue(self, reply_id: str) -> bool:
        """Wake the process that runs the reply, or enqueue the reply if none does."""
        self._supervisor.start(f"enqueue reply {reply_id}", self._cluster.enqueue(reply_id))
        return True

    async def forward_webhook(self, token: str, remote_id: str | None) -> None:
        """Keep a provider's call on a webhook path that is not known here, and pass it on."""
        if self._pending_webhooks >= MAX_PENDING_WEBHOOKS:
            return
        self._pending_webhooks += 1
        try:
            await self._cluster.forward_webhook(token, remote_id, now=self._clock())
        except StoreError as error:
            _log.info("a provider's webhook call was not passed on, polling will find it: %s", error)
        finally:
            self._pending_webhooks -= 1

    async def notify_poll(self, job_id: str, remote_id: str) -> None:
        """Have the process that runs the job poll the provider now."""
        try:
            await self._cluster.notify_poll(job_id, remote_id)
        except StoreError as error:
            _log.info("the process that runs job %s was not notified and will poll later: %s", job_id, error)

    async def open_breaker(self, provider: str, reason: str) -> bool:
        """Have no process send new jobs to the provider. True for the first process that says so."""
        return await self._cluster.open_breaker(provider, reason, now=self._clock())

    async def close_breaker(self, provider: str) -> None:
        """Have every process send jobs to the provider again."""
        await self._cluster.close_breaker(provider)
