"""The worker's side of the reply queue: claims replies, renews leases while they run, returns them when it stops."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Protocol
from uuid import uuid4

from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.errors import StoreError
from bot.store.postgres.pool import ConnectionPool
from bot.store.tables.shared import reply_queue_rows

_log = logging.getLogger(__name__)

LEASE = timedelta(seconds=15)
"""A worker that did not renew its leases for this time counts as dead, and other workers claim its replies."""

CLAIM_INTERVAL_SECONDS = 2.0
"""Interval of claims when no notification arrives: for the replies of dead workers."""

CLAIM_BATCH_SIZE = 50
OUTAGE = timedelta(seconds=6)
"""The database counts as having been away when no lease could be renewed for this time."""

TAKEOVER_DELAY_AFTER_OUTAGE_SECONDS = 8.0
"""Time for every worker to renew its leases after an outage, before any worker claims from those that seem dead."""

DATABASE_CHECK_SECONDS = 5.0
UNFIT_SECONDS = 10.0
"""A worker that could not write or read for this time leaves its replies to others: it renews no lease."""

RETURN_TIMEOUT_SECONDS = 2.5
_FAILURE_PAUSE_SECONDS = 0.5


class RunsReplies(Protocol):
    """What runs the replies that are claimed: `bot.service.execution.reply_runner.ReplyRunner`."""

    async def run(self, reply_id: str) -> bool:
        """Run a reply; True if it is finished, False to return it."""
        ...

    def release(self, reply_id: str) -> None:
        """Have `run` end for a reply that other workers may claim already."""
        ...

    def left_to_others(self) -> Collection[str]:
        """Return the providers that answer other workers, and not this one."""
        ...


class ReplyQueue:
    """Runs every reply that this process claims.

    `providers` are those whose jobs this process can bring to their end. `database_problem` says what keeps the process
    from writing or reading what its replies need, if anything does.
    """

    def __init__(
        self,
        address: PostgresAddress,
        reply_runner: RunsReplies,
        *,
        providers: Collection[str],
        database_problem: Callable[[], Awaitable[str | None]],
    ) -> None:
        self.name = str(uuid4())
        """The id of this worker in the queue."""
        self._reply_runner = reply_runner
        self._providers = providers
        self._database_problem = database_problem
        self._pool = ConnectionPool(address, "queue", 1)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._finished: set[str] = set()
        self._unfinished: set[str] = set()
        """Replies that the reply runner has released, because the worker stops."""
        self._something_to_do = asyncio.Event()
        self._is_claiming = True
        self._is_returning = False
        self._is_paused = False
        self._is_connected = False
        self._renewed_at: float | None = None
        self._takes_over_from = 0.0
        self._takes_over_until: datetime | None = None
        """By the server's clock."""

    def problem(self) -> str | None:
        """Return None while replies are claimed, or else what is wrong."""
        if self._is_paused:
            return "replies are left to other workers while the database cannot be used"
        return None if self._is_connected else "nothing is claimed"

    def wake(self) -> None:
        """Claim now: there may be something in the queue."""
        self._something_to_do.set()

    async def open(self) -> None:
        """Connect. Raises StoreError when the server gives no connection."""
        await self._pool.open()

    async def run(self) -> None:
        """Claim and run replies until `return_unfinished`; return when every reply is finished or back in the queue."""
        watching = asyncio.create_task(self._watch_database(), name="queue's database check")
        try:
            while not self._is_returning:
                await self._work()
            while self._running:
                await asyncio.wait(self._running.values())
            await self._give_back()
        finally:
            tasks = {watching, *self._running.values()}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def stop_claiming(self) -> None:
        """Claim no more replies. Those that run go on."""
        self._is_claiming = False

    async def return_unfinished(self, running: asyncio.Task[None]) -> None:
        """Wait up to RETURN_TIMEOUT_SECONDS until the replies that were released are back in the queue.

        `running` is the task of `run`. Other workers claim what is not back by then, when the leases have expired.
        """
        self._is_returning = True
        self.wake()
        await asyncio.wait({running}, timeout=RETURN_TIMEOUT_SECONDS)
        if not running.done():
            _log.warning(
                "not every reply could be returned to the queue; other workers claim the rest after %.0f s",
                LEASE.total_seconds(),
            )
            running.cancel()
            await asyncio.wait({running}, timeout=1)

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.close()

    async def _work(self) -> None:
        """Renew leases when it is time, record what has ended, claim; then wait for something to do."""
        self._something_to_do.clear()
        if not self._is_paused:
            try:
                await self._renew()
                await self._leave_to_others()
                await self._remove_finished()
                is_more_left = self._is_claiming and await self._claim()
            except StoreError as error:
                if self._is_connected:
                    _log.warning("replies cannot be claimed: %s", error)
                self._is_connected = False
                await asyncio.sleep(_FAILURE_PAUSE_SECONDS)
                return
            self._is_connected = True
            if is_more_left:
                return
        with suppress(TimeoutError):
            async with asyncio.timeout(CLAIM_INTERVAL_SECONDS):
                await self._something_to_do.wait()

    async def _renew(self) -> None:
        loop = asyncio.get_running_loop()
        renewed_at, running = self._renewed_at, list(self._running)
        if renewed_at is not None and loop.time() - renewed_at < LEASE.total_seconds() / 5:
            return
        server_time = await self._pool.run(
            lambda connection: reply_queue_rows.renew(connection, self.name, running, lease=LEASE)
        )
        self._renewed_at = loop.time()
        self._takes_over_until = server_time + OUTAGE
        if renewed_at is not None and self._renewed_at - renewed_at > OUTAGE.total_seconds():
            self._takes_over_from = self._renewed_at + TAKEOVER_DELAY_AFTER_OUTAGE_SECONDS
            _log.info(
                "other workers have %.0f s to renew their leases after an outage", TAKEOVER_DELAY_AFTER_OUTAGE_SECONDS
            )

    async def _remove_finished(self) -> None:
        if finished := set(self._finished):
            await self._pool.run(lambda connection: reply_queue_rows.remove(connection, self.name, finished))
            self._finished -= finished

    async def _leave_to_others(self) -> None:
        """Return the replies whose jobs this process cannot bring to their end any more."""
        providers, running = self._reply_runner.left_to_others(), list(self._running)
        if not providers or not running:
            return
        left = await self._pool.run(
            lambda connection: reply_queue_rows.leave(connection, self.name, running, providers=providers)
        )
        for reply_id in left:
            self._reply_runner.release(reply_id)

    async def _give_back(self) -> None:
        try:
            await self._remove_finished()
            await self._pool.run(lambda connection: reply_queue_rows.give_back(connection, self.name, self._unfinished))
        except StoreError as error:
            _log.warning("replies could not be returned to the queue: %s", error)

    async def _claim(self) -> bool:
        """Run the replies that can be claimed. Return whether there may be more than one batch of them."""
        left_to_others = self._reply_runner.left_to_others()
        providers = [name for name in self._providers if name not in left_to_others]
        may_take_over = asyncio.get_running_loop().time() >= self._takes_over_from
        claimed = await self._pool.run(
            lambda connection: reply_queue_rows.claim(
                connection,
                self.name,
                lease=LEASE,
                limit=CLAIM_BATCH_SIZE,
                providers=providers,
                takes_over_until=self._takes_over_until if may_take_over else None,
            )
        )
        for reply_id in claimed:
            if reply_id not in self._running:  # its own lease may have expired during an outage
                self._running[reply_id] = asyncio.create_task(self._run(reply_id), name=f"reply {reply_id}")
        return len(claimed) == CLAIM_BATCH_SIZE

    async def _run(self, reply_id: str) -> None:
        try:
            is_finished = await self._reply_runner.run(reply_id)
        except Exception:
            # Nothing renews its lease.
            _log.exception("reply %s failed to run and is claimed again within %.0f s", reply_id, LEASE.total_seconds())
        else:
            (self._finished if is_finished else self._unfinished).add(reply_id)
        finally:
            del self._running[reply_id]
            self.wake()

    async def _watch_database(self) -> None:
        """Leave the replies to others while this process cannot write or read what they need."""
        loop = asyncio.get_running_loop()
        worked_at = loop.time()
        while True:
            await asyncio.sleep(DATABASE_CHECK_SECONDS)
            if (problem := await self._database_problem()) is None:
                worked_at = loop.time()
                if self._is_paused:
                    _log.info("the database can be used again: replies are claimed")
                    self._is_paused = False
            elif loop.time() - worked_at >= UNFIT_SECONDS and not self._is_paused:
                _log.error("replies are left to other workers while the database cannot be used: %s", problem)
                self._is_paused = True
