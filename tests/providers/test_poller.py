"""The poller in virtual time: intervals, jitter, back-off, early polls, deadlines."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.domain.errors import ProviderDenied, ProviderError, ProviderRejected, ProviderUnavailable
from bot.domain.jobs import JobStatus, Progress
from bot.domain.money.bill import JobList
from bot.providers.base import ProviderRequest, RemoteJob, StylePage, Update
from bot.providers.poller import DeadlineReached, JobUnknown, Poller
from tests.support.virtual_time import run_in_virtual_time

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def now() -> datetime:
    return START + timedelta(seconds=asyncio.get_running_loop().time())


def running(progress: Progress = Progress.PROCESSING, preview: str | None = None) -> Update:
    return Update(remote_id="r", status=JobStatus.RUNNING, provider_status="w", progress=progress, preview_url=preview)


DONE = Update(remote_id="r", status=JobStatus.SUCCEEDED, provider_status="completed", result_urls=("https://x/1.png",))
Answer = Update | ProviderError


class ScriptedProvider:
    """Answers from a script, repeating the last answer, and records when it was polled."""

    name = "scripted"
    deadline_seconds = 60.0
    late_seconds = 60.0
    takes_uploads = can_cancel = can_list = lists_costs = has_styles = False

    def __init__(self, *script: Answer, seconds: float = 0.0) -> None:
        self.script: dict[str, list[Answer]] = {}
        self.common = list(script)
        self.polled_at: dict[str, list[float]] = {}
        self.seconds = seconds
        self.in_flight = self.peak_in_flight = 0

    async def fetch(self, remote_id: str) -> Update:
        self.polled_at.setdefault(remote_id, []).append(asyncio.get_running_loop().time())
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

    async def recent(self, *, since: datetime, until: datetime | None = None) -> Sequence[RemoteJob]:
        raise NotImplementedError

    async def listed_costs(self, *, since: datetime, now: datetime) -> JobList:
        raise NotImplementedError

    async def styles(self, cursor: str | None) -> StylePage:
        raise NotImplementedError

    async def has_model(self, path: str) -> bool:
        return True

    async def probe(self) -> None:
        raise NotImplementedError

    def gaps(self, remote_id: str = "r") -> list[float]:
        times = self.polled_at[remote_id]
        return [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)]


def a_poller(provider: ScriptedProvider, **options: Any) -> Poller:
    return Poller(provider, **{"poll_seconds": 2.0, "clock": now} | options)


async def collect(
    poller: Poller, remote_id: str = "r", *, seconds: float = 7800, age: float = 0, until_deadline: bool = False
) -> list[Update]:
    watching = poller.watch(
        remote_id,
        submitted_at=now() - timedelta(seconds=age),
        deadline_at=now() + timedelta(seconds=seconds),
        until_deadline=until_deadline,
    )
    return [update async for update in watching]


def test_each_change_is_yielded_once_and_the_final_one_ends_the_watch() -> None:
    async def main() -> None:
        script = (
            [running(Progress.WAITING)] * 3 + [running()] * 2 + [running(Progress.PREVIEW, "https://x/p.png"), DONE]
        )
        provider = ScriptedProvider(*script)
        poller = a_poller(provider)
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
        assert len(provider.polled_at["r"]) == len(script), "a finished job is never polled again"

    run_in_virtual_time(main())


@pytest.mark.parametrize("random_value", [0.0, 0.5, 1.0])
def test_a_job_of_an_unknown_model_is_polled_at_the_pace_of_the_setting_and_a_little_jitter(
    random_value: float,
) -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 20, DONE)
        poller = a_poller(provider, random_source=lambda: random_value)
        await collect(poller)
        assert provider.gaps() == [pytest.approx(2 * (0.9 + 0.2 * random_value))] * 20

    run_in_virtual_time(main())


def test_two_jobs_started_together_drift_apart() -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 5, DONE)
        poller = a_poller(provider)
        await asyncio.gather(*(collect(poller, f"job {n}") for n in range(50)))
        firsts = {round(times[3], 3) for times in provider.polled_at.values()}
        assert len(firsts) > 40

    run_in_virtual_time(main())


def test_an_old_job_is_polled_more_slowly_but_at_most_five_times_as_slowly() -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 400, DONE)
        poller = a_poller(provider, random_source=lambda: 0.5)
        await collect(poller)
        gaps = provider.gaps()
        assert gaps[0] == pytest.approx(2.0)
        assert gaps == sorted(gaps)
        assert max(gaps) == pytest.approx(10.0)

    run_in_virtual_time(main())


@pytest.mark.f20
def test_ten_faults_in_a_row_then_success() -> None:
    async def main() -> None:
        faults = [ProviderUnavailable("500", status=500)] * 10
        provider = ScriptedProvider(running(), *faults, running(Progress.SAMPLING), DONE)
        poller = a_poller(provider)
        updates = await collect(poller)
        assert [update.status for update in updates][-1] is JobStatus.SUCCEEDED
        gaps = provider.gaps()[1:11]
        assert gaps[0] >= 4
        assert gaps[1] >= 8
        assert all(gap <= 60.001 for gap in gaps)
        assert gaps[-1] == pytest.approx(60)

    run_in_virtual_time(main())


def test_the_first_answer_after_an_outage_ends_the_pauses_of_every_job() -> None:
    class Out(ScriptedProvider):
        async def fetch(self, remote_id: str) -> Update:
            update = await super().fetch(remote_id)
            if asyncio.get_running_loop().time() < 300:
                raise ProviderUnavailable("503", status=503)
            return update

    async def main() -> None:
        provider = Out(DONE)
        poller = a_poller(provider)
        names = [f"r{number}" for number in range(200)]
        ends: list[float] = []

        async def watched(name: str) -> None:
            await collect(poller, name)
            ends.append(asyncio.get_running_loop().time())

        await asyncio.gather(*(watched(name) for name in names))
        assert min(ends) >= 300
        assert max(ends) - min(ends) <= 2.0, "not when the pause of each is over, up to a minute later"
        seconds = [int((end - min(ends)) * 10) for end in ends]
        assert max(seconds.count(tenth) for tenth in range(20)) < 60, "and not all at once"

    run_in_virtual_time(main())


def test_retry_after_is_honoured_for_every_job_up_to_a_minute() -> None:
    async def main() -> None:
        provider = ScriptedProvider(DONE)
        provider.script["greedy"] = [ProviderUnavailable("429", status=429, retry_after_seconds=30), DONE]
        provider.script["patient"] = [running(), DONE]
        provider.script["silly"] = [ProviderUnavailable("503", status=503, retry_after_seconds=86_400), DONE]
        poller = a_poller(provider, random_source=lambda: 0.0)
        await asyncio.gather(collect(poller, "greedy"), collect(poller, "patient"))
        assert provider.gaps("greedy")[0] >= 30
        assert provider.gaps("patient")[0] >= 30, "429 delays all polls"
        await collect(poller, "silly")
        assert provider.gaps("silly")[0] <= 61

    run_in_virtual_time(main())


def test_too_many_requests_without_a_hint_delay_the_polls_of_every_job() -> None:
    async def main() -> None:
        provider = ScriptedProvider(DONE)
        provider.script["greedy"] = [ProviderUnavailable("429", status=429), DONE]
        provider.script["patient"] = [running(), DONE]
        poller = a_poller(provider, random_source=lambda: 0.0)
        await asyncio.gather(collect(poller, "greedy"), collect(poller, "patient"))
        assert provider.gaps("patient")[0] == pytest.approx(provider.gaps("greedy")[0])

    run_in_virtual_time(main())


@pytest.mark.f28
def test_the_deadline_ends_the_watch_after_one_last_poll() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        poller = a_poller(provider)
        with pytest.raises(DeadlineReached):
            await collect(poller, seconds=100)
        assert 99.999 <= asyncio.get_running_loop().time() < 102.1, "the interval holds for the last poll, too"
        polls = len(provider.polled_at["r"])
        await asyncio.sleep(600)
        assert len(provider.polled_at["r"]) == polls

    run_in_virtual_time(main())


def test_a_job_that_finished_while_it_was_not_watched_is_found_after_its_deadline() -> None:
    async def main() -> None:
        provider = ScriptedProvider(ProviderUnavailable("still starting"), DONE)
        poller = a_poller(provider)
        updates = await collect(poller, seconds=-3 * 3600, age=5 * 3600)
        assert updates == [DONE]

    run_in_virtual_time(main())


@pytest.mark.parametrize("stated_seconds", [None, 7.5])
@pytest.mark.parametrize("requested", [False, True])
def test_only_the_provider_knows_how_long_a_job_took_that_ended_while_it_was_not_watched(
    stated_seconds: float | None, requested: bool
) -> None:
    async def main() -> None:
        provider = ScriptedProvider(replace(DONE, took_seconds=stated_seconds))
        poller = a_poller(provider)
        if requested:
            asyncio.get_running_loop().call_later(1, poller.poll_soon, "r")
        [update] = await collect(poller, age=3600)
        assert update.took_seconds == stated_seconds

    run_in_virtual_time(main())


def test_a_provider_that_is_down_at_the_deadline_is_polled_three_times() -> None:
    async def main() -> None:
        provider = ScriptedProvider(ProviderUnavailable("down"))
        poller = a_poller(provider)
        with pytest.raises(DeadlineReached):
            await collect(poller, seconds=-1)
        assert len(provider.polled_at["r"]) == 3

    run_in_virtual_time(main())


def test_poll_soon_polls_at_once_and_a_flood_of_calls_costs_one_poll_per_interval() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        poller = a_poller(provider, poll_seconds=10.0, random_source=lambda: 0.0)
        task = asyncio.create_task(collect(poller))
        await asyncio.sleep(3)
        poller.poll_soon("r")
        await asyncio.sleep(0.01)
        assert provider.polled_at["r"] == [pytest.approx(3.0)]
        for _ in range(500):
            poller.poll_soon("r")
            await asyncio.sleep(0.1)
        polls = [at for at in provider.polled_at["r"] if at <= 53]
        assert len(polls) <= 11, "five intervals: one regular and one early poll each, and the first"
        poller.poll_soon("unknown job")
        task.cancel()

    run_in_virtual_time(main())


@pytest.mark.hostile("G-37")
def test_a_callback_before_the_watch_is_kept_and_leads_to_a_poll_at_its_start() -> None:
    async def main() -> None:
        provider = ScriptedProvider(DONE)
        poller = a_poller(provider, poll_seconds=10.0, random_source=lambda: 0.0)
        for number in range(100):
            poller.poll_soon(f"other {number}")
        poller.poll_soon("r")
        await collect(poller)
        assert provider.polled_at["r"] == [pytest.approx(0.0)]

    run_in_virtual_time(main())


def test_poll_soon_during_a_poll_leads_to_another_one() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), DONE, seconds=1.0)
        poller = a_poller(provider, poll_seconds=10.0, random_source=lambda: 0.0)
        task = asyncio.create_task(collect(poller))
        await asyncio.sleep(10.5)
        poller.poll_soon("r")
        await task
        assert asyncio.get_running_loop().time() < 13

    run_in_virtual_time(main())


def test_a_few_404s_are_tolerated_then_the_job_counts_as_unknown() -> None:
    async def main() -> None:
        lost = ProviderRejected("no such job", status=404)
        forgiving = ScriptedProvider(lost, lost, running(), DONE)
        poller = a_poller(forgiving)
        assert (await collect(poller))[-1] == DONE
        failing = ScriptedProvider(lost)
        poller = a_poller(failing)
        with pytest.raises(JobUnknown):
            await collect(poller)
        assert len(failing.polled_at["r"]) == 5
        assert len(poller) == 0

    run_in_virtual_time(main())


def test_a_job_that_is_unknown_for_an_hour_is_still_polled_where_late_images_are_wanted() -> None:
    async def main() -> None:
        lost = ProviderRejected("no such job", status=404)
        provider = ScriptedProvider(*[lost] * 60, DONE)
        poller = a_poller(provider)
        assert await collect(poller, until_deadline=True) == [DONE]
        assert max(provider.gaps()) <= 75, "slowly, but not so slowly that an image waits for long"

    run_in_virtual_time(main())


def test_a_denied_key_is_reported_and_the_job_is_still_polled_slowly() -> None:
    async def main() -> None:
        denials: list[ProviderDenied] = []
        provider = ScriptedProvider(ProviderDenied("401", status=401), ProviderDenied("401", status=401), DONE)
        poller = a_poller(provider, on_denied=denials.append)
        assert await collect(poller) == [DONE]
        assert len(denials) == 2
        assert all(gap >= 60 for gap in provider.gaps())

    run_in_virtual_time(main())


@pytest.mark.f41
def test_an_unexpected_error_in_one_job_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        provider = ScriptedProvider(DONE)
        provider.script["odd"] = [ValueError("a defect"), DONE]  # type: ignore[list-item]
        poller = a_poller(provider)
        results = await asyncio.gather(collect(poller, "odd"), collect(poller, "fine"))
        assert results == [[DONE], [DONE]]

    run_in_virtual_time(main())
    assert "odd" in caplog.text


def test_cancelling_the_consumer_ends_the_watch() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        poller = a_poller(provider)
        tasks = [asyncio.create_task(collect(poller, f"job {n}")) for n in range(200)]
        await asyncio.sleep(0.5)
        assert len(poller) == 200
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(poller) == 0
        await asyncio.sleep(60)
        assert provider.polled_at == {}

    run_in_virtual_time(main())


def test_a_job_whose_watch_was_stopped_during_a_poll_can_be_watched_again() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), DONE, seconds=1.0)
        poller = a_poller(provider)
        first = asyncio.create_task(collect(poller))
        await asyncio.sleep(3)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert len(poller) == 0
        assert (await collect(poller))[-1] == DONE

    run_in_virtual_time(main())


def test_stopping_during_the_last_poll_is_no_verdict() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), seconds=5.0)
        poller = a_poller(provider)
        task = asyncio.create_task(collect(poller, seconds=-1))
        await asyncio.sleep(4)
        assert provider.in_flight == 1
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run_in_virtual_time(main())


def test_the_second_watch_of_a_job_replaces_the_first() -> None:
    async def main() -> None:
        provider = ScriptedProvider(*[running()] * 5, DONE)
        poller = a_poller(provider)
        old = asyncio.create_task(collect(poller))
        await asyncio.sleep(0)
        new = asyncio.create_task(collect(poller))
        with pytest.raises(RuntimeError, match="a second time"):
            await old
        assert (await new)[-1] == DONE
        assert all(gap >= 1.8 for gap in provider.gaps())

    run_in_virtual_time(main())


def test_nothing_is_kept_of_a_job_whose_consumer_stops_at_the_final_update() -> None:
    async def main() -> None:
        poller = a_poller(ScriptedProvider(DONE))
        watching = poller.watch("r", submitted_at=now(), deadline_at=now() + timedelta(hours=2))
        assert await anext(watching) == DONE
        assert len(poller) == 0
        await watching.aclose()

    run_in_virtual_time(main())


def test_polls_in_flight_are_limited() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running(), DONE, seconds=0.5)
        poller = a_poller(provider, max_in_flight=4)
        await asyncio.gather(*(collect(poller, f"job {n}") for n in range(100)))
        assert provider.peak_in_flight == 4

    run_in_virtual_time(main())


def test_ten_thousand_jobs_need_no_tasks_besides_their_own() -> None:
    async def main() -> None:
        provider = ScriptedProvider(running())
        poller = a_poller(provider, poll_seconds=60.0)
        generators = [
            poller.watch(f"job {n}", submitted_at=now(), deadline_at=now() + timedelta(hours=2)) for n in range(10_000)
        ]
        waiting = [asyncio.ensure_future(anext(generator)) for generator in generators]
        await asyncio.sleep(1)
        assert len(poller) == 10_000
        assert asyncio.all_tasks() == {asyncio.current_task(), *waiting}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    run_in_virtual_time(main())
