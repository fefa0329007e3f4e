"""Two bots and a stranger's client on one account of a provider, and most answers to orders are lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bot.domain.jobs import Job, JobStatus
from bot.providers.base import ProviderRequest
from bot.providers.krea import KreaProvider
from bot.service.execution import reconciliation
from bot.store.admin.verify import verify_file
from sandbox.plans import LOST_ANSWER, How, Plan, Trouble
from tests.support import store_samples
from tests.support.core import ADA, FLUX, PRICE, Core, a_core, a_png
from tests.support.fakes import until
from tests.support.store_samples import operator_cost

LOST = Plan(trouble=LOST_ANSWER)
NEVER_TAKEN = Plan(trouble=Trouble(how=How.RESET))


@pytest.fixture
async def bots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Core, Core]]:
    """Start two bots with a database each and one account."""
    limits = store_samples.limits()
    async with a_core(tmp_path / "one", limits=limits, poll_seconds=0.2) as one:
        monkeypatch.setattr(reconciliation, "FIRST_PAUSE_SECONDS", 0.5)
        monkeypatch.setattr(reconciliation, "MAX_PAUSE_SECONDS", 2.0)
        other = Core(
            directory=tmp_path / "other", sandbox=one.sandbox, limits=limits, poll_seconds=0.2, clock=one.clock
        )
        await other.start()
        try:
            yield one, other
        finally:
            await other.kill()
            assert verify_file(other.path) == []


async def a_stranger_orders(core: Core, *like: Job) -> int:
    """Order exactly the same with the same key; return what that costs."""
    async with aiohttp.ClientSession() as session:
        krea = KreaProvider(session, base_url=core.sandbox.krea_base, api_key=core.sandbox.krea_key)
        for job in like:
            await krea.submit(ProviderRequest(path=job.path, body=job.body))
    return PRICE * len(like)


async def all_over(bots: tuple[Core, Core], jobs: list[tuple[Core, Job]]) -> None:
    bots[0].clock.move(minutes=16)
    for core, job in jobs:
        await core.ended(job, seconds=60)
    bots[0].clock.move(hours=2)
    for core, job in jobs:
        await core.unfollowed(job, seconds=60)
    await until(lambda: all(remote.is_final for remote in bots[0].sandbox.jobs.values()))


async def assert_right(bots: tuple[Core, Core], jobs: list[tuple[Core, Job]], *, stranger_usd_micros: int) -> None:
    """Check that every image is the one that was ordered for it, and that both ledgers hold the whole bill."""
    sandbox = bots[0].sandbox
    for core, job in jobs:
        now = await core.now(job)
        if now.status is not JobStatus.SUCCEEDED:
            continue
        remote = sandbox.jobs[now.remote_id or ""]
        assert remote.body == job.body
        assert await core.images.get(now.images[0].sha256) == a_png(f"{remote.id} False")
    # Not the balance of a day: the clock of this test may go past midnight.
    charged = [(await core.now(job)).charged_usd_micros or 0 for core, job in jobs]
    borne = [await operator_cost(core.store) for core in bots]
    assert sum(charged) + sum(borne) == sandbox.bill_usd_micros - stranger_usd_micros


@pytest.mark.hostile("G-11")
@pytest.mark.hostile("G-12")
@pytest.mark.parametrize("rounds", [12, pytest.param(80, marks=pytest.mark.torture)])
async def test_each_member_gets_their_own_image_and_every_bill_is_booked(bots: tuple[Core, Core], rounds: int) -> None:
    sandbox = bots[0].sandbox
    jobs: list[tuple[Core, Job]] = []
    provable: list[tuple[Core, Job]] = []
    stranger_usd_micros = 0
    for number in range(rounds):
        is_never_taken, is_the_same = number % 4 == 3, number % 8 == 0
        for core in bots:
            sandbox.default_plan = NEVER_TAKEN if is_never_taken else LOST
            # With one seed for both, nothing can tell their orders apart.
            options = {"seed": number} if is_the_same else None
            job = await core.order(f"a fox {number}", model_id=FLUX, options=options)
            jobs.append((core, job))
            await core.reached(job, JobStatus.UNCERTAIN, JobStatus.RUNNING, JobStatus.SUCCEEDED)
            if not is_never_taken and not is_the_same:
                provable.append((core, job))
        sandbox.default_plan = Plan()
        if is_the_same and number % 3 == 0:
            stranger_usd_micros += await a_stranger_orders(bots[0], jobs[-1][1])
    for core, job in provable:
        await core.reached(job, JobStatus.SUCCEEDED, seconds=60)
    await all_over(bots, jobs)
    await assert_right(bots, jobs, stranger_usd_micros=stranger_usd_micros)


@pytest.mark.hostile("G-11")
@pytest.mark.hostile("G-12")
@pytest.mark.parametrize("rounds", [5, pytest.param(20, marks=pytest.mark.torture)])
async def test_where_nothing_proves_an_order_none_is_shown_or_charged_and_every_bill_is_booked(
    bots: tuple[Core, Core], rounds: int
) -> None:
    sandbox = bots[0].sandbox
    sandbox.lists_orders = False
    sandbox.default_plan = LOST
    jobs = [(core, await core.order(f"an owl {number}", model_id=FLUX)) for number in range(rounds) for core in bots]
    for core, job in jobs:
        await core.reached(job, JobStatus.UNCERTAIN)
    sandbox.default_plan = Plan()
    stranger_usd_micros = await a_stranger_orders(bots[0], *[job for _, job in jobs[:20]])
    await all_over(bots, jobs)
    assert not any([(await core.now(job)).images for core, job in jobs])
    assert [await core.spent(ADA) for core in bots] == [0, 0]
    await assert_right(bots, jobs, stranger_usd_micros=stranger_usd_micros)
