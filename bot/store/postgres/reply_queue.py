"""The worker's side of the reply queue: claims replies, sends heartbeats while they run, returns them when it stops.

The library pgqueuer claims, sends heartbeats and finds dead workers. This file adds a driver that reconnects when the
connection breaks, and the return of unfinished replies on a stop.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, Self, cast

import psycopg
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.ports.driver import NotifyCallback
from psycopg.rows import dict_row

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import ProviderKeyMissing, StoreError
from bot.store.postgres.pool import ConnectionThread
from bot.store.tables.shared.reply_queue_rows import ENTRYPOINT

_log = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT = timedelta(seconds=15)
"""A worker without a heartbeat for this time counts as dead, and other workers claim its replies."""

CLAIM_INTERVAL = timedelta(seconds=2)
"""Interval of claims when no notification arrives: for the replies of dead workers."""

CLAIM_BATCH_SIZE = 50
RETRY_DELAY = timedelta(seconds=5)
"""After a defect, or while the database cannot be read."""

KEY_DELAY = timedelta(seconds=2)
"""After a worker without the key for a provider claimed a reply: time for another worker to claim it."""

OUTAGE_SECONDS = 6.0
"""The database counts as having been away when it gave no response for this time."""

CLAIM_DELAY_AFTER_OUTAGE_SECONDS = 8.0
"""Time for every worker to send a heartbeat after an outage, before any worker claims from those that seem dead."""

DATABASE_CHECK_SECONDS = 5.0
UNFIT_SECONDS = 10.0
"""A worker that could not write or read for this time leaves its replies to others, though it may send heartbeats."""

RETURN_TIMEOUT_SECONDS = 2.5
_RETRY_PAUSE_SECONDS = 0.5


class _ConnectionLost(Exception):
    """The connection broke. The statement may have been executed; every statement of the queue may be repeated."""


class _Driver:
    """The library's driver: one connection on one thread, which waits for a server that has gone away."""

    def __init__(self, address: PostgresAddress) -> None:
        self._thread = ConnectionThread(address, "queue")
        self._callbacks: defaultdict[str, list[NotifyCallback]] = defaultdict(list)
        self._shutdown = asyncio.Event()
        self._tasks = TaskManager()
        self.is_closing = False
        self.is_paused = False
        """Whether nothing is sent to the server, so that this worker counts as dead."""
        self.claims_from = 0.0
        self._responded_at = math.inf

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return self._tasks

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        while True:
            try:
                if self.is_paused:
                    raise _ConnectionLost
                rows = await self._thread.run(partial(self._fetch, query, args))
            except (_ConnectionLost, StoreError):
                if self.is_closing:
                    raise
                await asyncio.sleep(_RETRY_PAUSE_SECONDS)
            else:
                now = asyncio.get_running_loop().time()
                if now - self._responded_at > OUTAGE_SECONDS:
                    self.claims_from = now + CLAIM_DELAY_AFTER_OUTAGE_SECONDS
                self._responded_at = now
                return rows

    async def execute(self, query: str, *args: object) -> str:
        await self.fetch(query, *args)
        return ""

    async def notify(self, channel: str, payload: str) -> None:
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._callbacks[channel].append(callback)

    def handle_notification(self, channel: str, payload: str) -> None:
        """Pass on a notification that the process's listener received."""
        for callback in self._callbacks[channel]:
            callback(payload)

    async def open(self) -> None:
        await self._thread.open()

    async def pause(self) -> None:
        """Send nothing until `is_paused` is False again, and leave the connection to other processes."""
        self.is_paused = True
        await self._thread.run(self._thread.drop)

    async def close(self) -> None:
        await self._thread.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.gather_tasks()

    def _fetch(self, query: str, args: tuple[object, ...]) -> list[dict[str, object]]:
        connection = self._thread.connection()
        try:
            cursor = psycopg.RawCursor(cast("psycopg.Connection[Any]", connection.raw), row_factory=dict_row)
            cursor.execute(query.encode(), args or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                self._thread.drop()
                raise _ConnectionLost from error
            raise


class _Queries(Queries):
    """The library's statements, with a delay of claims after an outage, when every worker looks dead to every other."""

    async def dequeue(self, *arguments: Any, **named: Any) -> list[Job]:
        driver = cast("_Driver", self.driver)
        await driver.fetch("SELECT 1")
        seconds = driver.claims_from - asyncio.get_running_loop().time()
        if seconds > 0 and not driver.is_closing:
            _log.info("claiming no replies for %.0f s, until other workers have sent heartbeats again", seconds)
            await asyncio.sleep(seconds)
        return await super().dequeue(*arguments, **named)


class RunsReplies(Protocol):
    """What runs the replies that are claimed: `bot.service.execution.reply_runner.ReplyRunner`."""

    async def run(self, reply_id: str) -> bool:
        """Run a reply; True if it is finished, False to return it. Raises ProviderKeyMissing to leave it to others."""
        ...


class ReplyQueue:
    """Runs every reply that this process claims.

    `database_problem` says what keeps the process from writing or reading what its replies need, if anything does.
    """

    def __init__(
        self,
        address: PostgresAddress,
        reply_runner: RunsReplies,
        *,
        database_problem: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._reply_runner = reply_runner
        self._database_problem = database_problem
        self._driver = _Driver(address)
        self._manager = QueueManager(_Queries(self._driver))
        self._manager.entrypoint(ENTRYPOINT, accepts_context=False)(self._handle)
        self._is_claiming = False

    @property
    def name(self) -> str:
        """The id of this worker in the queue."""
        return str(self._manager.queue_manager_id)

    def problem(self) -> str | None:
        """Return None while replies are claimed, or else what is wrong."""
        if self._driver.is_paused:
            return "replies are left to other workers while the database cannot be used"
        return None if self._is_claiming else "nothing is claimed"

    def handle_notification(self, channel: str, payload: str) -> None:
        """Act on a notification that the process's listener received."""
        self._driver.handle_notification(channel, payload)

    async def open(self) -> None:
        """Connect. Raises StoreError when the server gives no connection."""
        await self._driver.open()

    async def run(self) -> None:
        """Claim and run replies until `return_unfinished`; return when every reply is finished or back in the queue."""
        watching = asyncio.create_task(self._watch_database(), name="queue's database check")
        try:
            await self._claim()
        finally:
            watching.cancel()
            await asyncio.wait({watching})

    async def _claim(self) -> None:
        while not self._manager.shutdown.is_set():
            self._is_claiming = True
            try:
                await self._manager.run(
                    dequeue_timeout=CLAIM_INTERVAL,
                    batch_size=CLAIM_BATCH_SIZE,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                )
            except Exception:
                self._is_claiming = False
                _log.exception("claiming replies failed and is started again in %.1f s", _RETRY_PAUSE_SECONDS)
                await asyncio.sleep(_RETRY_PAUSE_SECONDS)

    async def _watch_database(self) -> None:
        """Leave the replies to others while this process cannot write or read what they need."""
        loop = asyncio.get_running_loop()
        worked_at = loop.time()
        while True:
            await asyncio.sleep(DATABASE_CHECK_SECONDS)
            if (problem := await self._database_problem()) is None:
                worked_at = loop.time()
                if self._driver.is_paused:
                    _log.info("the database can be used again: replies are claimed")
                    self._driver.is_paused = False
            elif loop.time() - worked_at >= UNFIT_SECONDS and not self._driver.is_paused:
                _log.error("replies are left to other workers while the database cannot be used: %s", problem)
                await self._driver.pause()

    def stop_claiming(self) -> None:
        """Claim no more replies. Those that run go on."""
        self._manager.shutdown.set()

    async def return_unfinished(self, running: asyncio.Task[None]) -> None:
        """Wait up to RETURN_TIMEOUT_SECONDS until the replies that were released are back in the queue.

        `running` is the task of `run`. Other workers claim what is not back by then, when the heartbeats are missing.
        """
        self.stop_claiming()
        self._driver.is_closing = True
        await asyncio.wait({running}, timeout=RETURN_TIMEOUT_SECONDS)
        if not running.done():
            _log.warning(
                "not every reply could be returned to the queue; other workers claim the rest after %.0f s",
                HEARTBEAT_TIMEOUT.total_seconds(),
            )
            running.cancel()
            await asyncio.wait({running}, timeout=1)

    async def close(self) -> None:
        """Close the connection."""
        await self._driver.close()

    async def _handle(self, job: Job) -> None:
        reply_id = (job.payload or b"").decode()
        try:
            is_finished = await self._reply_runner.run(reply_id)
        except ProviderKeyMissing as error:
            _log.debug("reply %s is left to other workers: %s", reply_id, error)
            raise RetryRequested(KEY_DELAY, reason=type(error).__name__) from None
        except Exception as error:
            _log.exception(
                "reply %s failed to run and is claimed again in %.0f s", reply_id, RETRY_DELAY.total_seconds()
            )
            raise RetryRequested(RETRY_DELAY, reason=type(error).__name__) from None
        if not is_finished:
            raise RetryRequested(reason="the worker stops")
