"""What a process does with notifications of others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.runtime.supervisor import Supervisor
from bot.service.notifications import NotificationHandler
from bot.store.tables.shared.notifications import Notification, Topic


class Wakes:
    """Stands for all that a notification wakes, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def wake(self, reply_id: str | None = None) -> None:
        self.count += 1

    def load_soon(self) -> None:
        self.count += 1

    def heard(self, shards_text: str, said: str) -> None:
        self.count += 1

    def set_state(self, state: object) -> None:
        self.count += 1

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
