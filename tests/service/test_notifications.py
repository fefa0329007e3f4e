"""What a process does with notifications of others."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.dispatch.circuit_breaker import BreakerState, CircuitBreaker
from bot.dispatch.coordinator import ClusterCoordinator
from bot.domain.deployment.process_role import Role
from bot.domain.errors import ProviderDenied
from bot.providers.base import Provider
from bot.runtime.supervisor import Supervisor
from bot.service.notifications import NotificationHandler
from bot.store.cluster_store import ClusterStore
from bot.store.tables.shared.notifications import Notification, Topic
from bot.store.tables.shared.shared_state import OpenBreaker
from tests.support.fakes import FakePresenter
from tests.support.store_samples import NOON


class Wakes:
    """Stands for all that a notification wakes, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def wake(self, reply_id: str | None = None) -> None:
        self.count += 1

    def load_soon(self) -> None:
        self.count += 1

    def heard(self, what: object, said: str = "") -> None:
        self.count += 1

    async def announced(self) -> None:
        """Return: nothing was found out here."""

    announcement = None

    async def open_breakers(self) -> list[Any]:
        return []

    def handle_forwarded(self, job_id: str, remote_id: str | None) -> None:
        self.count += 1


def handler(supervisor: Supervisor, wakes: Any) -> NotificationHandler:
    return NotificationHandler(
        cast("Any", SimpleNamespace(supervisor=supervisor, clock=None)),
        cluster=wakes,
        dispatchers={"krea": cast("Any", SimpleNamespace(wake=wakes.wake, breaker=wakes))},
        reply_runner=wakes,
        webhooks=wakes,
        catalogue_keeper=wakes,
        queue=wakes,
        shards=wakes,
    )


async def test_a_worker_claims_when_it_hears_of_the_queue_and_after_it_could_not_hear() -> None:
    async with Supervisor() as supervisor:
        queue, others = Wakes(), Wakes()
        worker = handler(supervisor, others)
        worker._queue = queue
        worker.handle(Notification(topic=Topic.QUEUE, subject=""))
        assert (queue.count, others.count) == (1, 0)
        worker.catch_up()
        assert queue.count == 2


@pytest.mark.parametrize("topic", [topic for topic in Topic if topic is not Topic.POLICY])
async def test_a_notification_starts_nothing_in_a_process_that_stops(topic: Topic) -> None:
    """Nothing could be started: it would be an error in the log of every rolling restart."""
    wakes = Wakes()
    supervisor = Supervisor()
    await supervisor.close()
    stopping = handler(supervisor, wakes)
    stopping.handle(Notification(topic=topic, subject="krea"))
    stopping.catch_up()
    assert wakes.count == 0


class Breakers:
    """The breakers in the database. What is done while its door is closed takes effect once it is open."""

    def __init__(self) -> None:
        self.open: dict[str, str] = {}
        self.done: list[str] = []
        self.door = asyncio.Event()

    async def open_breaker(self, provider: str, reason: str, *, now: datetime) -> bool:
        await self.door.wait()
        self.open[provider] = reason
        self.done.append("open")
        return True

    async def close_breaker(self, provider: str) -> None:
        self.open.pop(provider, None)
        self.done.append("close")

    async def open_breakers(self) -> list[OpenBreaker]:
        found = [OpenBreaker(provider=name, reason=reason, opened_at=NOON) for name, reason in self.open.items()]
        await self.door.wait()
        return found


def a_breaker(supervisor: Supervisor, database: Breakers) -> CircuitBreaker:
    """Return the breaker of a worker in a cluster."""
    cluster = cast("ClusterStore", database)
    coordinator = ClusterCoordinator(cluster, role=Role.WORKER, supervisor=supervisor, clock=lambda: NOON)
    provider = cast("Provider", SimpleNamespace(name="krea"))
    return CircuitBreaker(provider, coordinator=coordinator, presenter=FakePresenter(), supervisor=supervisor)


def reader(supervisor: Supervisor, database: Breakers, breaker: CircuitBreaker) -> NotificationHandler:
    reading = handler(supervisor, Wakes())
    reading._cluster = cast("ClusterStore", database)
    reading._dispatchers = {"krea": cast("Any", SimpleNamespace(breaker=breaker))}
    reading._clock = lambda: NOON
    return reading


EMPTY = ProviderDenied("krea: 402", status=402)


async def test_a_provider_that_takes_orders_again_at_once_is_open_in_the_database() -> None:
    async with Supervisor() as supervisor:
        database = Breakers()
        breaker = a_breaker(supervisor, database)
        breaker.record_denial(EMPTY)
        await asyncio.sleep(0)
        breaker.record_acceptance()
        await asyncio.sleep(0)
        database.door.set()
        await supervisor.drain(timeout_seconds=30)
        assert database.done == ["open", "close"]
        assert database.open == {}


async def test_a_process_keeps_what_it_found_out_until_the_database_knows_it() -> None:
    async with Supervisor() as supervisor:
        database = Breakers()
        breaker = a_breaker(supervisor, database)
        read_at_the_wrong_time = reader(supervisor, database, breaker)
        supervisor.start("read", read_at_the_wrong_time.read_open_breakers())
        await asyncio.sleep(0)
        breaker.record_denial(EMPTY)
        supervisor.start("read again", read_at_the_wrong_time.read_open_breakers())
        states: set[BreakerState] = set()
        database.door.set()
        while await supervisor.drain(timeout_seconds=0):
            states.add(breaker.state)
            await asyncio.sleep(0)
        assert states == {BreakerState.ORDERS_REFUSED}
        assert breaker.state is BreakerState.ORDERS_REFUSED


async def test_of_two_readings_the_later_one_counts() -> None:
    async with Supervisor() as supervisor:
        database = Breakers()
        database.open["krea"] = "down"
        breaker = a_breaker(supervisor, database)
        both = reader(supervisor, database, breaker)
        supervisor.start("read", both.read_open_breakers())
        await asyncio.sleep(0)
        database.open.clear()
        later = supervisor.start("read again", both.read_open_breakers())
        database.door.set()
        await later
        await supervisor.drain(timeout_seconds=30)
        assert breaker.state is BreakerState.CLOSED
