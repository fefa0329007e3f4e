"""Memory: a job that ended leaves nothing behind. One small object kept per job would matter over months."""

from __future__ import annotations

import gc
import logging
from collections.abc import Generator
from pathlib import Path

import pytest

from bot.domain.jobs import Job, Reply
from bot.providers.base import Update
from bot.providers.poller import _Watched
from bot.service.execution.in_flight import InFlight
from bot.service.views import JobView
from sandbox.plans import Ending, How, Plan, Trouble
from tests.support.core import a_core

KEPT_WHILE_UNDER_WAY = (Job, Reply, InFlight, JobView, Update, _Watched)
EVERY_OUTCOME = (
    Plan(),
    Plan(ending=Ending.FAILED),
    Plan(trouble=Trouble(status=429, headers={"Retry-After": "0.01"})),
    Plan(trouble=Trouble(status=400, body={"error": "a bad request"})),
    Plan(trouble=Trouble(how=How.RESET, accepted=True)),
)
JOBS_OF_EACH = 3


@pytest.fixture(autouse=True)
def _no_log() -> Generator[None]:
    """Switch logging off: a captured log keeps every error, and an error keeps the objects it was raised over."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


async def test_jobs_that_ended_leave_nothing_behind_whatever_their_outcome(tmp_path: Path):
    async with a_core(tmp_path, quota_usd_micros=10**9, with_webhooks=True) as core:

        async def still_kept_after_a_day() -> int:
            plans = EVERY_OUTCOME * JOBS_OF_EACH
            core.sandbox.next_order(*plans)
            await core.ended(*[await core.order() for _ in plans], seconds=120)
            await core.supervisor.drain(timeout_seconds=60)
            gc.collect()
            return sum(isinstance(found, KEPT_WHILE_UNDER_WAY) for found in gc.get_objects())

        first, second, third = [await still_kept_after_a_day() for _ in range(3)]
        # The job that ended last may still be referenced by the event loop; two days' worth of one outcome may not.
        assert max(second, third) - first < JOBS_OF_EACH
        assert not core.service._in_flight._jobs
        assert not core.service._in_flight._webhooks
        assert all(
            not dispatcher.poller._watched and not dispatcher.queue for dispatcher in core.service._dispatchers.values()
        )
