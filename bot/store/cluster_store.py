"""ClusterStore: state and notifications shared by the processes on one PostgreSQL database."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.store.core.transaction_queue import Priority
from bot.store.database import Database, DatabaseUser, reads, writes, writes_with_retry
from bot.store.tables.guild_settings import PolicyMemory
from bot.store.tables.money import transactions
from bot.store.tables.shared import notifications, processes, reply_queue_rows, shared_state
from bot.store.tables.shared.notifications import Notification, Topic

if TYPE_CHECKING:
    from bot.store.postgres.listener import Listener


class NotificationReceiver(Protocol):
    """What acts on notifications: `bot.service.notifications.NotificationHandler`."""

    def handle(self, notification: Notification) -> None:
        """Act on one notification."""
        ...

    def catch_up(self) -> None:
        """Act on whatever a notification could have been about: some may have been missed."""
        ...


class ClusterStore(DatabaseUser):
    """Every call is one transaction, as the store's are. Notifications arrive from `listen` on."""

    def __init__(self, database: Database, policies: PolicyMemory, location: Location | None) -> None:
        super().__init__(database)
        self._policies = policies
        self._location = location
        self._listener: Listener | None = None

    def listen(self, receiver: NotificationReceiver) -> None:
        """Receive notifications from now on."""
        from bot.store.postgres.listener import Listener

        assert isinstance(self._location, PostgresAddress), "a file has one process"

        def heard(payload: str) -> None:
            if (notification := notifications.read(payload)) is not None:
                if notification.topic is Topic.POLICY:
                    self._policies.forget()
                receiver.handle(notification)

        def changed(is_connected: bool) -> None:
            self._policies.forget()
            self._policies.remembers = is_connected
            if is_connected:
                receiver.catch_up()

        self._listener = Listener(self._location, notifications.CHANNEL, on_notification=heard, on_listening=changed)

    async def close(self) -> None:
        """Stop receiving notifications. Safe to call twice."""
        if self._listener is not None:
            await self._listener.close()

    # -- replies and the processes that run them ----------------------------------------------------------

    enqueue = writes_with_retry(transactions.enqueue)
    _orphaned = reads(reply_queue_rows.orphaned)
    _enqueue_all = writes(reply_queue_rows.enqueue)
    forward_webhook = writes(shared_state.forward_webhook)
    notify_shards = writes(notifications.notify_shards)
    notify_poll = writes(notifications.notify_poll)

    record_process = writes(processes.record)
    forget_process = writes(processes.forget)
    processes = reads(processes.every)

    async def enqueue_orphaned(self, *, now: datetime) -> int:
        """Enqueue the unfinished replies that no process runs: for example those whose gateway died after admission.

        Returns how many there were.
        """
        orphaned = await self._orphaned(now=now)
        if orphaned:
            await self._enqueue_all(orphaned)
        return len(orphaned)

    # -- providers ----------------------------------------------------------------------------------------

    slots_in_use = reads(shared_state.slots_in_use)
    queued_jobs = reads(shared_state.queued_jobs)
    open_breaker = writes_with_retry(shared_state.open_breaker)
    close_breaker = writes_with_retry(shared_state.close_breaker)
    open_breakers = reads(shared_state.open_breakers)

    claim_command = writes(shared_state.claim_command, Priority.INTERACTIVE)

    # -- what only one process may do at a time -----------------------------------------------------------

    acquire_turn = writes_with_retry(shared_state.acquire_turn)
