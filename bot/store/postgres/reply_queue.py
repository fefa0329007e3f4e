"""The worker's end of the queue: claims replies, says that it still follows them, hands them back when it stops.

Claims, heartbeats and finding dead workers are the library's; here is only the way to the database, which comes back by
itself when the connection breaks, and what a stop means.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any, Self, cast

import psycopg
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.core.qm import QueueManager
from pgqueuer.core.tm import TaskManager
from pgqueuer.domain.errors import RetryRequested
from pgqueuer.domain.models import Job
from pgqueuer.ports.driver import NotifyCallback
from psycopg.rows import dict_row

from bot.domain.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.postgres.pool import ThreadSession
from bot.store.tables.reply_queue_rows import ENTRYPOINT

_log = logging.getLogger(__name__)

HEARTBEAT_TIMEOUT = timedelta(seconds=15)
"""A worker that has said nothing for so long is taken for dead, and others take up what it followed."""

CLAIM_EVERY = timedelta(seconds=2)
"""So often the queue is looked at when nobody has said that there is anything: for what dead workers left."""

CLAIMS_AT_A_TIME = 50
AGAIN_AFTER = timedelta(seconds=5)
"""After a defect, or while the books cannot be read."""

OUTAGE_SECONDS = 6.0
AFTER_OUTAGE_SECONDS = 8.0
"""So long nothing is claimed after the database gave no answer for so long."""

HAND_BACK_SECONDS = 2.5
_PAUSE_SECONDS = 0.5


class _Lost(Exception):
    """The connection broke: the statement may have been done, and every one of the queue's may be done twice."""


class _Driver:
    """The library's way to the database: one connection on one thread. Waits for a server that has gone away."""

    def __init__(self, address: PostgresAddress) -> None:
        self._session = ThreadSession(address, "queue")
        self._callbacks: defaultdict[str, list[NotifyCallback]] = defaultdict(list)
        self._shutdown = asyncio.Event()
        self._tasks = TaskManager()
        self.is_leaving = False
        self.claim_at = 0.0
        self._answered_at = math.inf

    @property
    def shutdown(self) -> asyncio.Event:
        return self._shutdown

    @property
    def tm(self) -> TaskManager:
        return self._tasks

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        while True:
            try:
                found = await self._session.run(partial(self._fetch, query, args))
                now = asyncio.get_running_loop().time()
                if now - self._answered_at > OUTAGE_SECONDS:
                    self.claim_at = now + AFTER_OUTAGE_SECONDS
                self._answered_at = now
                return found
            except (_Lost, StoreError):
                if self.is_leaving:
                    raise
                await asyncio.sleep(_PAUSE_SECONDS)

    async def execute(self, query: str, *args: object) -> str:
        await self.fetch(query, *args)
        return ""

    async def notify(self, channel: str, payload: str) -> None:
        await self.execute("SELECT pg_notify($1, $2)", channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        self._callbacks[channel].append(callback)

    def heard(self, channel: str, payload: str) -> None:
        """A notice came in, by the process's one listener."""
        for callback in self._callbacks[channel]:
            callback(payload)

    async def close(self) -> None:
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.gather_tasks()

    def _fetch(self, query: str, args: tuple[object, ...]) -> list[dict[str, object]]:
        connection = self._session.connection()
        try:
            cursor = psycopg.RawCursor(cast("psycopg.Connection[Any]", connection.raw), row_factory=dict_row)
            cursor.execute(query.encode(), args or None)
            return cursor.fetchall() if cursor.description else []
        except psycopg.Error as error:
            if connection.is_broken_by(error):
                self._session.drop()
                raise _Lost from error
            raise


class _Queries(Queries):
    """The library's statements, with patience after an outage: then every worker looks dead to every other."""

    async def dequeue(self, *arguments: Any, **named: Any) -> list[Job]:
        driver = cast("_Driver", self.driver)
        await driver.fetch("SELECT 1")
        seconds = driver.claim_at - asyncio.get_running_loop().time()
        if seconds > 0 and not driver.is_leaving:
            _log.info(
                "claiming nothing for %.0f s: whoever else was cut off shall say first that they are alive", seconds
            )
            await asyncio.sleep(seconds)
        return await super().dequeue(*arguments, **named)


class ReplyQueue:
    """Awaits `follow` for every reply that falls to this process: True when it is at its end, False to hand it back."""

    def __init__(self, address: PostgresAddress, follow: Callable[[str], Awaitable[bool]]) -> None:
        self._follow = follow
        self._driver = _Driver(address)
        self._manager = QueueManager(_Queries(self._driver))
        self._manager.entrypoint(ENTRYPOINT, accepts_context=False)(self._handle)
        self._is_claiming = False
        self.heard = self._driver.heard

    @property
    def name(self) -> str:
        """By which the queue knows this worker."""
        return str(self._manager.queue_manager_id)

    def problem(self) -> str | None:
        """None while replies are claimed."""
        return None if self._is_claiming else "nothing is claimed"

    async def run(self) -> None:
        """Claim and follow until `leave`; returns when everything was handed back."""
        while not self._manager.shutdown.is_set():
            self._is_claiming = True
            try:
                await self._manager.run(
                    dequeue_timeout=CLAIM_EVERY,
                    batch_size=CLAIMS_AT_A_TIME,
                    heartbeat_timeout=HEARTBEAT_TIMEOUT,
                )
            except Exception:
                self._is_claiming = False
                _log.exception("nothing is claimed for the moment")
                await asyncio.sleep(_PAUSE_SECONDS)

    def claim_no_more(self) -> None:
        """What is being followed goes on."""
        self._manager.shutdown.set()

    async def leave(self, running: asyncio.Task[None]) -> None:
        """Wait, not for long, until what `follow` has let go of is back in the queue; the rest others find in time."""
        self.claim_no_more()
        self._driver.is_leaving = True
        await asyncio.wait({running}, timeout=HAND_BACK_SECONDS)
        if not running.done():
            _log.warning("not everything could be handed back: others find it when they miss this worker")
            running.cancel()
            await asyncio.wait({running}, timeout=1)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._driver.close()

    async def _handle(self, job: Job) -> None:
        reply_id = (job.payload or b"").decode()
        try:
            is_over = await self._follow(reply_id)
        except Exception as error:
            _log.exception("reply %s could not be followed and is taken up again", reply_id)
            raise RetryRequested(AGAIN_AFTER, reason=type(error).__name__) from None
        if not is_over:
            raise RetryRequested(reason="the worker stops")
