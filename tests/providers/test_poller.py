"""The poll scheduler, on a loop whose time we move: pace, jitter, back-off, hints, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import selectors
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain.errors import ProviderDenied, ProviderError, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import JobStatus, Progress
from bot.providers.base import ProviderRequest, RemoteJob, Update
from bot.providers.poller import DeadlineReached, Poller

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: when nothing is ready, time moves to the next timer."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_no_time(main: Coroutine[Any, Any, None]) -> None:
    """Run on a loop that skips all waiting."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        runner.run(main)


def now() -> datetime:
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def running(progress: Progress = Progress.PROCESSING, preview: str | None = None) -> Update:
    return Update(remote_id="r", status=JobStatus.RUNNING, provider_status="w", progress=progress, preview_url=preview)


DONE = Update(remote_id="r", status=JobStatus.SUCCEEDED, provider_status="completed", result_urls=("https://x/1.png",))
Answer = Update | ProviderError


class ScriptedProvider:
    """Answers from a script, the last answer for ever; notes when it was asked."""

    name = "scripted"
    deadline_seconds = 60.0
    takes_uploads = can_cancel = can_list = False

    def __init__(self, *script: Answer, seconds: float = 0.0) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.common = list(script)
        self.asked_at: dict[str, list[float]] = {}
        self.seconds = seconds
        self.in_flight = self.peak_in_flight = 0

    async def fetch(self, remote_id: str) -> Update:
        self.asked_at.setdefault(remote_id, []).append(asyncio.get_running_loop().time())
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        script = self.script.setdefault(remote_id, list(self.common))
        answer = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(answer, Update):
            return answer
        raise answer

    async def submit(self, request: ProviderRequest) -> RemoteJob:
        raise NotImplementedError

    async def cancel(self, remote_id: str) -> bool:
        raise NotImplementedError

    async def upload(self, data: bytes, content_type: str) -> str:
        raise NotImplementedError

    async def recent(self, *, since: datetime) -> Sequence[RemoteJob]:
        raise NotImplementedError

    async def probe(self) -> None:
        raise NotImplementedError

    def gaps(self, remote_id: str = "r") -> list[float]:
        times = self.asked_at[remote_id]
        return [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)]


@contextlib.asynccontextmanager
async def at_work(provider: ScriptedProvider, **options: Any):
    poller = Poller(provider, **{"poll_seconds": 2.0, "clock": now} | options)
    task = asyncio.create_task(poller.run())
    try:
        yield poller
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def collect(poller: Poller, remote_id: str = "r", *, seconds: float = 7800, age: float = 0) -> list[Update]:
    started = now() - timedelta(seconds=age)
    watching = poller.watch(remote_id, submitted_at=started, deadline_at=now() + timedelta(seconds=seconds))
    return [update async for update in watching]


def test_each_change_is_told_once_and_the_final_one_ends_it() -> None:
    async def main() -> None:
        script = (
            [running(Progress.WAITING)] * 3 + [running()] * 2 + [running(Progress.PREVIEW, "https://x/p.png"), DONE]
        )
        provider = ScriptedProvider(*script)
        async with at_work(provider) as poller:
            updates = await collect(poller)
            assert [update.progress for update in updates] == [
                Progress.WAITING,
                Progress.PROCESSING,
                Progress.PREVIEW,
                None,
            ]
            assert updates[-1] == DONE
            assert len(poller) == 0
            await asyncio.sleep(600)
        assert len(provider.asked_at["r"]) == len(script), "a finished job is never looked at again"

    in_no_time(main())


@pytest.mark.parametrize("luck", [0.0, 0.5, 1.0])
def test_it_never_asks_faster_than_the_setting_and_jitter_only_slows(luck: float) -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 20, DONE)
        async with at_work(provider, random_source=lambda: luck) as poller:
            await collect(poller)
        assert provider.asked_at["r"][0] == pytest.approx(2 * (1 + 0.2 * luck))
        assert all(gap >= 2.0 for gap in provider.gaps())
        assert all(gap <= 2.4001 for gap in provider.gaps())

    in_no_time(main())


def test_two_jobs_started_together_drift_apart() -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 5, DONE)
        async with at_work(provider) as poller:
            await asyncio.gather(*(collect(poller, f"job {n}") for n in range(50)))
        firsts = {round(times[3], 3) for times in provider.asked_at.values()}
        assert len(firsts) > 40

    in_no_time(main())


def test_an_old_job_is_asked_about_more_slowly_but_at_most_five_times() -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 400, DONE)
        async with at_work(provider, random_source=lambda: 0.0) as poller:
            await collect(poller)
        gaps = provider.gaps()
        assert gaps[0] == pytest.approx(2.0)
        assert gaps == sorted(gaps)
        assert max(gaps) == pytest.approx(10.0)

    in_no_time(main())


@pytest.mark.f20
def test_ten_faults_in_a_row_then_success() -> None:
    async def main() -> None:
        faults = [ProviderUnavailable("500", status=500)] * 10
        provider = ScriptedProvider(running(), *faults, running(Progress.SAMPLING), DONE)
        async with at_work(provider) as poller:
            updates = await collect(poller)
        assert [update.status for update in updates][-1] is JobStatus.SUCCEEDED
        gaps = provider.gaps()[1:11]
        assert gaps[0] >= 4
        assert gaps[1] >= 8
        assert all(gap <= 60.001 for gap in gaps)
        assert gaps[-1] == pytest.approx(60)

    in_no_time(main())


def test_retry_after_is_honoured_for_every_job_up_to_a_minute() -> None:
    async def main() -> None:
        provider = ScriptedProvider(DONE)
        provider.script["greedy"] = [ProviderUnavailable("429", status=429, retry_after_seconds=30), DONE]
        provider.script["patient"] = [running(), DONE]
        provider.script["silly"] = [ProviderUnavailable("503", status=503, retry_after_seconds=86_400), DONE]
        async with at_work(provider, random_source=lambda: 0.0) as poller:
            await asyncio.gather(collect(poller, "greedy"), collect(poller, "patient"))
            assert provider.gaps("greedy")[0] >= 30
            assert provider.gaps("patient")[0] >= 30, "429 speaks to the whole bot"
            await collect(poller, "silly")
            assert provider.gaps("silly")[0] <= 61

    in_no_time(main())


@pytest.mark.f28
def test_the_deadline_ends_the_watching_after_one_last_look() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        async with at_work(provider) as poller:
            with pytest.raises(DeadlineReached):
                await collect(poller, seconds=100)
            assert 99.999 <= asyncio.get_running_loop().time() < 102.1, "the pace holds for the last look, too"
            looks = len(provider.asked_at["r"])
            await asyncio.sleep(600)
            assert len(provider.asked_at["r"]) == looks

    in_no_time(main())


def test_a_job_that_finished_while_we_were_away_is_found_after_its_deadline() -> None:
    async def main() -> None:
        provider = ScriptedProvider(ProviderUnavailable("still starting"), DONE)
        async with at_work(provider) as poller:
            updates = await collect(poller, seconds=-3 * 3600, age=5 * 3600)
        assert updates == [DONE]

    in_no_time(main())


@pytest.mark.parametrize("told", [None, 7.5])
@pytest.mark.parametrize("hinted", [False, True])
def test_how_long_a_job_took_that_ended_while_we_were_away_only_the_provider_knows(
    told: float | None, hinted: bool
) -> None:
    async def main() -> None:
        provider = ScriptedProvider(replace(DONE, took_seconds=told))
        async with at_work(provider) as poller:
            if hinted:
                asyncio.get_running_loop().call_later(1, poller.poll_soon, "r")
            [update] = await collect(poller, age=3600)
        assert update.took_seconds == told

    in_no_time(main())


def test_a_provider_that_is_down_at_the_deadline_does_not_keep_us_for_ever() -> None:
    async def main() -> None:
        provider = ScriptedProvider(ProviderUnavailable("down"))
        async with at_work(provider) as poller:
            with pytest.raises(DeadlineReached):
                await collect(poller, seconds=-1)
        assert len(provider.asked_at["r"]) == 3

    in_no_time(main())


def test_a_hint_is_followed_at_once_and_a_flood_costs_one_look_per_interval() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        async with at_work(provider, poll_seconds=10.0, random_source=lambda: 0.0) as poller:
            task = asyncio.create_task(collect(poller))
            await asyncio.sleep(3)
            poller.poll_soon("r")
            await asyncio.sleep(0.01)
            assert provider.asked_at["r"] == [pytest.approx(3.0)]
            for _ in range(500):
                poller.poll_soon("r")
                await asyncio.sleep(0.1)
            looks = [at for at in provider.asked_at["r"] if at <= 53]
            assert len(looks) <= 11, "five intervals: one regular and one hinted look each, and the first"
            poller.poll_soon("nobody knows this job")
            task.cancel()

    in_no_time(main())


def test_a_hint_that_comes_during_a_look_leads_to_another_one() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), DONE, seconds=1.0)
        async with at_work(provider, poll_seconds=10.0, random_source=lambda: 0.0) as poller:
            task = asyncio.create_task(collect(poller))
            await asyncio.sleep(10.5)
            poller.poll_soon("r")
            await task
            assert asyncio.get_running_loop().time() < 13

    in_no_time(main())


def test_a_few_404s_are_tolerated_then_the_job_counts_as_failed() -> None:
    async def main() -> None:
        lost = ProviderRejected("no such job", status=404)
        forgiving = ScriptedProvider(lost, lost, running(), DONE)
        async with at_work(forgiving) as poller:
            assert (await collect(poller))[-1] == DONE
        hopeless = ScriptedProvider(lost)
        async with at_work(hopeless) as poller:
            updates = await collect(poller)
        assert [update.status for update in updates] == [JobStatus.FAILED]
        assert updates[0].may_be_charged
        assert len(hopeless.asked_at["r"]) == 5

    in_no_time(main())


def test_a_denied_key_is_reported_and_the_job_still_followed_slowly() -> None:
    async def main() -> None:
        told: list[ProviderDenied] = []
        provider = ScriptedProvider(ProviderDenied("401", status=401), ProviderDenied("401", status=401), DONE)
        async with at_work(provider, on_denied=told.append) as poller:
            assert await collect(poller) == [DONE]
        assert len(told) == 2
        assert all(gap >= 60 for gap in provider.gaps())

    in_no_time(main())


@pytest.mark.f41
def test_an_unexpected_error_in_one_job_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        provider = ScriptedProvider(DONE)
        provider.script["odd"] = [ValueError("a defect"), DONE]  # type: ignore[list-item]
        async with at_work(provider) as poller:
            results = await asyncio.gather(collect(poller, "odd"), collect(poller, "fine"))
        assert results == [[DONE], [DONE]]

    in_no_time(main())
    assert "odd" in caplog.text


def test_a_cancelled_consumer_takes_its_job_along() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        async with at_work(provider) as poller:
            tasks = [asyncio.create_task(collect(poller, f"job {n}")) for n in range(200)]
            await asyncio.sleep(0.5)
            assert len(poller) == 200
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert len(poller) == 0
            assert len(poller._heap) < 65
            await asyncio.sleep(60)
        assert provider.asked_at == {}

    in_no_time(main())


def test_a_scheduler_that_was_stopped_goes_on_where_it_stood() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), DONE, seconds=1.0)
        poller = Poller(provider, poll_seconds=2.0, clock=now)
        first = asyncio.create_task(poller.run())
        task = asyncio.create_task(collect(poller))
        await asyncio.sleep(3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        second = asyncio.create_task(poller.run())
        assert (await task)[-1] == DONE
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)

    in_no_time(main())


def test_stopping_in_the_middle_of_the_last_look_is_no_verdict() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), seconds=5.0)
        poller = Poller(provider, poll_seconds=2.0, clock=now)
        run = asyncio.create_task(poller.run())
        task = asyncio.create_task(collect(poller, seconds=-1))
        await asyncio.sleep(4)
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await asyncio.sleep(10)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    in_no_time(main())


def test_a_job_watched_twice_goes_to_the_newcomer() -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 5, DONE)
        async with at_work(provider) as poller:
            old = asyncio.create_task(collect(poller))
            await asyncio.sleep(0)
            new = asyncio.create_task(collect(poller))
            with pytest.raises(RuntimeError, match="somebody else"):
                await old
            assert (await new)[-1] == DONE
        assert all(gap >= 2 for gap in provider.gaps())

    in_no_time(main())


def test_nothing_is_kept_of_a_job_whose_consumer_stops_at_the_final_update() -> None:
    async def main() -> None:
        async with at_work(ScriptedProvider(DONE)) as poller:
            watching = poller.watch("r", submitted_at=now(), deadline_at=now() + timedelta(hours=2))
            assert await anext(watching) == DONE
            assert len(poller) == 0
            await watching.aclose()

    in_no_time(main())


def test_looks_in_flight_are_bounded() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), DONE, seconds=0.5)
        async with at_work(provider, max_in_flight=4) as poller:
            await asyncio.gather(*(collect(poller, f"job {n}") for n in range(100)))
        assert provider.peak_in_flight == 4

    in_no_time(main())


def test_ten_thousand_jobs_need_no_task_each() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        async with at_work(provider, poll_seconds=60.0) as poller:
            generators = [
                poller.watch(f"job {n}", submitted_at=now(), deadline_at=now() + timedelta(hours=2))
                for n in range(10_000)
            ]
            waiting = [asyncio.ensure_future(anext(generator)) for generator in generators]
            await asyncio.sleep(1)
            assert len(poller) == 10_000
            assert sum(task.get_name().startswith("look at") for task in asyncio.all_tasks()) == 0
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    in_no_time(main())
