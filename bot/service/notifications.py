"""NotificationHandler: acts on webhook calls of providers and on notifications from other processes.

They only make things faster. Nothing relies on them: jobs are polled, and replies are read again, without them too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Protocol

from bot.dispatch.circuit_breaker import BreakerState
from bot.dispatch.coordinator import MAX_PENDING_WEBHOOKS
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.domain.deployment.process_role import Role
from bot.domain.errors import StoreError
from bot.providers.parsing import read_id
from bot.runtime.retry import retry_storage_errors
from bot.service.context import ServiceContext
from bot.service.execution.reply_runner import ReplyRunner
from bot.service.maintenance.catalogue_keeper import CatalogueKeeper
from bot.store.cluster_store import ClusterStore
from bot.store.tables.shared.notifications import Notification, Topic
from bot.store.tables.shared.shared_state import OpenBreaker

_log = logging.getLogger(__name__)


class WebhookHandler:
    """Polls a job soon after its provider called the job's webhook path.

    Calls are not signed, so they are only hints: nothing changes before the provider itself was asked. One that comes
    before the answer to its order is kept in the database, because it may be the only thing that names the job.
    """

    def __init__(self, context: ServiceContext, *, dispatchers: Mapping[str, ProviderDispatcher]) -> None:
        self._store = context.store
        self._clock = context.clock
        self._coordinator = context.coordinator
        self._in_flight = context.in_flight
        self._sealer = context.sealer
        self._dispatchers = dispatchers
        self._keeping = 0

    async def handle(self, path: str, named: str | None) -> None:
        """Act on a call on a webhook path that arrived in this process; return when it is kept."""
        token = self._sealer.digest(path)
        remote_id = read_id(named)
        claims = self._in_flight.webhook_claims(token, remote_id)
        self._poll_soon(claims)
        if not claims and self._coordinator.role is not Role.ALL:
            await self._coordinator.forward_webhook(token, remote_id)
        elif remote_id is not None and not self._is_watched(remote_id):
            await self._keep(token, remote_id)

    async def _keep(self, token: str, remote_id: str) -> None:
        if self._keeping >= MAX_PENDING_WEBHOOKS:
            return
        self._keeping += 1
        try:
            await self._store.keep_callback(token, remote_id, now=self._clock())
        except StoreError as error:
            _log.warning("a provider's webhook call could not be kept: %s", error)
        finally:
            self._keeping -= 1

    def _is_watched(self, remote_id: str) -> bool:
        return any(dispatcher.poller.watches(remote_id) for dispatcher in self._dispatchers.values())

    def handle_forwarded(self, job_id: str, remote_id: str | None) -> None:
        """Act on a call that arrived in another process; does nothing unless the job runs here."""
        self._poll_soon(self._in_flight.webhook_claims_for(job_id, remote_id))

    def _poll_soon(self, remote_ids: Iterable[str]) -> None:
        for remote_id in remote_ids:
            for dispatcher in self._dispatchers.values():
                dispatcher.poller.poll_soon(remote_id)


class ShardListener(Protocol):
    """What acts on what gateways say about shards: `bot.gateway.shard_handover.ShardHandover`."""

    def heard(self, shards_text: str, said: str) -> None:
        """Act on what another gateway (or this one) said."""
        ...


class WorkerQueue(Protocol):
    """The queue from which a worker claims replies: `bot.store.postgres.reply_queue.ReplyQueue`."""

    def wake(self) -> None:
        """Claim now: there may be something in the queue."""
        ...


class NotificationHandler:
    """Acts on what other processes (and this one) notify through the database."""

    def __init__(
        self,
        context: ServiceContext,
        *,
        cluster: ClusterStore,
        dispatchers: Mapping[str, ProviderDispatcher],
        reply_runner: ReplyRunner,
        webhooks: WebhookHandler,
        catalogue_keeper: CatalogueKeeper,
        queue: WorkerQueue | None,
        shards: ShardListener | None,
    ) -> None:
        self._queue = queue
        self._shards = shards
        self._catalogue_keeper = catalogue_keeper
        self._supervisor = context.supervisor
        self._clock = context.clock
        self._cluster = cluster
        self._dispatchers = dispatchers
        self._reply_runner = reply_runner
        self._webhooks = webhooks
        self._reading_breakers = asyncio.Lock()

    def handle(self, notification: Notification) -> None:
        """Act on one notification, unless the program ends: nothing is started any more then."""
        if self._supervisor.closed:
            return
        match notification.topic:
            case Topic.REPLY:
                self._reply_runner.wake(notification.subject)
            case Topic.QUEUE:
                if self._queue is not None:
                    self._queue.wake()
            case Topic.SLOT:
                if (dispatcher := self._dispatchers.get(notification.subject)) is not None:
                    dispatcher.wake()
            case Topic.BREAKERS:
                self._supervisor.start("read open breakers", self.read_open_breakers())
            case Topic.WEBHOOK:
                self._webhooks.handle_forwarded(notification.subject, notification.detail)
            case Topic.CATALOGUE:
                self._catalogue_keeper.load_soon()
            case Topic.SHARDS:
                if self._shards is not None:
                    self._shards.heard(notification.subject, notification.detail or "")
            case Topic.POLICY:
                pass  # the store acts on it

    def catch_up(self) -> None:
        """Check everything that a notification could have been about: some may have been missed."""
        if self._supervisor.closed:
            return
        self._supervisor.start("read open breakers", self.read_open_breakers())
        self._catalogue_keeper.load_soon()
        for dispatcher in self._dispatchers.values():
            dispatcher.wake()
        self._reply_runner.wake(None)
        if self._queue is not None:
            self._queue.wake()

    async def read_open_breakers(self) -> None:
        """Open and close the breakers of this process as the database says."""
        async with self._reading_breakers:  # or what was read first might be applied last
            open_breakers = await self._announced_breakers()
            for name, dispatcher in self._dispatchers.items():
                found = open_breakers.get(name)
                if found is None:
                    dispatcher.breaker.heard(BreakerState.CLOSED)
                else:
                    seconds_ago = max(0.0, (self._clock() - found.opened_at).total_seconds())
                    dispatcher.breaker.heard(BreakerState(found.reason), seconds_ago=seconds_ago)

    async def _announced_breakers(self) -> dict[str, OpenBreaker]:
        """Read the open breakers, by provider, once the database knows what this process found out."""
        breakers = [dispatcher.breaker for dispatcher in self._dispatchers.values()]
        while True:
            announcements = [await breaker.announced() for breaker in breakers]
            found = await self._open_breakers()
            if announcements == [breaker.announcement for breaker in breakers]:
                return {open_breaker.provider: open_breaker for open_breaker in found}

    @retry_storage_errors
    async def _open_breakers(self) -> list[OpenBreaker]:
        return await self._cluster.open_breakers()
