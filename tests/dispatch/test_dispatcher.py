"""A lane: limited places in fair order, a pause when the provider asks for one, closed while it cannot be used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from bot.dispatch.dispatcher import (
    FAILURES_BEFORE_OPENING,
    FIRST_PROBE_SECONDS,
    MAX_OUTAGE_SECONDS,
    MAX_PAUSE_SECONDS,
    MAX_PROBE_SECONDS,
    BreakerState,
    ProviderDispatcher,
)
from bot.domain.errors import OutcomeUncertain, ProviderDenied, ProviderError, ProviderUnavailable
from bot.domain.jobs import Job
from bot.domain.quota import Member
from bot.providers.poller import Poller
from bot.runtime.interactive_priority import InteractivePriority
from bot.runtime.supervisor import Supervisor
from tests.providers.test_poller import ScriptedProvider
from tests.support.store_samples import ADA, a_command
from tests.support.virtual_time import run_in_virtual_time

LOST = OutcomeUncertain("no answer")
REFUSED = ProviderDenied("krea: 402", status=402)


class ProbedProvider(ScriptedProvider):
    """Answers probes from a script, the last answer for ever."""

    def __init__(self, *answers: Exception | None) -> None:
        super().__init__()
        self.answers = list(answers) or [None]
        self.probed_at: list[float] = []

    async def probe(self) -> None:
        self.probed_at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer


class Scene:
    """A lane whose jobs last until they are told to end."""

    def __init__(self, provider: ProbedProvider, supervisor: Supervisor, *, places: int = 2) -> None:
        self.provider = provider
        self.supervisor = supervisor
        self.begun: list[str] = []
        self.begun_at: dict[str, float] = {}
        self.told_of: dict[str, bool] = {}
        self.peak = 0
        self.closings: list[tuple[str, BreakerState]] = []
        self._ends: dict[str, asyncio.Event] = {}
        self.priority = InteractivePriority()
        self.dispatcher = ProviderDispatcher(
            provider,
            Poller(provider, poll_seconds=2.0),
            max_concurrency=places,
            follow=self._follow,
            start=supervisor.start,
            on_closed=self._closed,
            priority=self.priority,
        )
        supervisor.start_forever("line", self.dispatcher.run)
        supervisor.start_forever("probe", self.dispatcher.run_probes)

    def enter(self, job_id: str, user_id: int, *, at_front: bool = False) -> None:
        member = Member(guild_id=ADA.guild_id, user_id=user_id)
        [job] = a_command(member=member).jobs
        self.dispatcher.push(replace(job, id=job_id), at_front=at_front)

    async def _follow(self, dispatcher: ProviderDispatcher, job_id: str, job: Job | None) -> None:
        self.begun.append(job_id)
        self.told_of[job_id] = job is not None
        self.begun_at[job_id] = asyncio.get_running_loop().time()
        self.peak = max(self.peak, dispatcher.slots_in_use)
        await self._end_of(job_id).wait()

    def _closed(self, provider: str, reason: BreakerState, error: ProviderError) -> None:
        self.closings.append((provider, reason))

    def _end_of(self, job_id: str) -> asyncio.Event:
        return self._ends.setdefault(job_id, asyncio.Event())

    async def end(self, *job_ids: str) -> None:
        for job_id in job_ids:
            self._end_of(job_id).set()
        await settled()


async def settled() -> None:
    """Let everything that can go on go on."""
    await asyncio.sleep(0.001)


@asynccontextmanager
async def a_scene(*answers: Exception | None, places: int = 2) -> AsyncIterator[Scene]:
    async with Supervisor() as supervisor:
        yield Scene(ProbedProvider(*answers), supervisor, places=places)


def test_only_a_job_that_starts_at_once_is_handed_on_whole_and_who_waited_is_read_anew():
    async def main() -> None:
        async with a_scene(places=1) as scene:
            scene.enter("a", 1)
            scene.enter("b", 1)
            await settled()
            await scene.end("a")
            scene.enter("c", 1)
            await scene.end("b")
            assert scene.told_of == {"a": True, "b": False, "c": False}

    run_in_virtual_time(main())


@pytest.mark.f30
def test_there_are_never_more_jobs_than_places_and_members_take_turns():
    async def main() -> None:
        async with a_scene() as scene:
            for job_id, member in (("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("c1", 3)):
                scene.enter(job_id, member)
            await settled()
            assert scene.begun == ["a1", "b1"]
            await scene.end("a1")
            assert scene.begun == ["a1", "b1", "c1"]
            await scene.end("b1", "c1")
            assert scene.begun == ["a1", "b1", "c1", "a2", "a3"]
            assert scene.peak == 2

    run_in_virtual_time(main())


def test_a_job_that_is_already_at_the_provider_takes_a_place_without_waiting():
    async def main() -> None:
        async with a_scene() as scene:
            for number in range(3):
                scene.dispatcher.adopt(f"adopted {number}")
            scene.enter("new", 1)
            await settled()
            assert scene.begun == ["adopted 0", "adopted 1", "adopted 2"]
            assert scene.dispatcher.slots_in_use == 3
            await scene.end("adopted 0")
            assert "new" not in scene.begun, "still two for two places"
            await scene.end("adopted 1")
            assert "new" in scene.begun

    run_in_virtual_time(main())


def test_a_place_is_free_again_when_following_fails(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        async with a_scene(places=1) as scene:
            scene.dispatcher._follow = broken
            scene.enter("a", 1)
            await settled()
            assert scene.dispatcher.slots_in_use == 0
            assert "job a failed" in caplog.text

    async def broken(dispatcher: ProviderDispatcher, job_id: str, job: Job | None) -> None:
        raise ValueError("a defect")

    run_in_virtual_time(main())


def test_the_place_told_beforehand_is_none_while_a_job_would_start_at_once():
    async def main() -> None:
        async with a_scene(places=1) as scene:
            assert scene.dispatcher.position_for(1) is None
            scene.enter("a", 1)
            await settled()
            assert scene.dispatcher.position_for(1) == 1
            scene.enter("b", 1)
            await settled()
            assert scene.dispatcher.position_for(1) == 2
            assert scene.dispatcher.position_for(2) == 2, "behind the first of the other member, who is asked next"

    run_in_virtual_time(main())


def test_nobody_starts_while_the_provider_has_enough_and_everybody_goes_on_afterwards():
    async def main() -> None:
        async with a_scene() as scene:
            scene.dispatcher.pause(7)
            scene.dispatcher.pause(3)
            scene.enter("a", 1)
            await asyncio.sleep(6.9)
            assert scene.begun == []
            await asyncio.sleep(0.2)
            assert scene.begun_at == {"a": pytest.approx(7.0, abs=0.01)}

    run_in_virtual_time(main())


@pytest.mark.f19
def test_a_silly_pause_is_honoured_only_up_to_a_minute():
    async def main() -> None:
        async with a_scene() as scene:
            scene.dispatcher.pause(10**9)
            scene.enter("a", 1)
            await asyncio.sleep(MAX_PAUSE_SECONDS + 0.1)
            assert scene.begun == ["a"]

    run_in_virtual_time(main())


def test_a_stopped_lane_starts_nothing_more_and_keeps_its_line():
    async def main() -> None:
        async with a_scene(places=1) as scene:
            scene.enter("a", 1)
            scene.enter("b", 1)
            await settled()
            scene.dispatcher.stop()
            await scene.end("a")
            scene.enter("c", 1)
            await settled()
            assert scene.begun == ["a"]
            assert len(scene.dispatcher.queue) == 2

    run_in_virtual_time(main())


def test_submissions_under_way_can_be_waited_for():
    async def main() -> None:
        async with a_scene() as scene:
            await scene.dispatcher.submissions_settled()  # nothing under way: at once
            with scene.dispatcher.submission():
                waiting = asyncio.create_task(scene.dispatcher.submissions_settled())
                await settled()
                assert not waiting.done()
            await waiting

    run_in_virtual_time(main())


def test_a_submission_that_fails_is_settled_too():
    async def main() -> None:
        async with a_scene() as scene:
            with pytest.raises(ValueError, match="defect"), scene.dispatcher.submission():
                raise ValueError("defect")
            await scene.dispatcher.submissions_settled()

    run_in_virtual_time(main())


# -- weather ----------------------------------------------------------------------------------------------


def test_faults_in_a_row_close_the_lane_and_the_operator_hears_it_once():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            for _ in range(FAILURES_BEFORE_OPENING - 1):
                scene.dispatcher.record_failure(LOST)
            assert scene.dispatcher.closed is None
            for _ in range(10):
                scene.dispatcher.record_failure(LOST)
            assert scene.dispatcher.closed is BreakerState.DOWN
            assert scene.closings == [("scripted", BreakerState.DOWN)]
            scene.enter("a", 1)
            await asyncio.sleep(60)
            assert scene.begun == []
            assert scene.dispatcher.position_for(2) == 2

    run_in_virtual_time(main())


def test_a_success_in_between_starts_the_count_again():
    async def main() -> None:
        async with a_scene() as scene:
            for _ in range(3):
                for _ in range(FAILURES_BEFORE_OPENING - 1):
                    scene.dispatcher.record_failure(LOST)
                scene.dispatcher.record_success()
            assert scene.dispatcher.closed is None

    run_in_virtual_time(main())


@pytest.mark.f29
def test_a_probe_reopens_the_lane_and_the_line_moves_again():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down"), ProviderUnavailable("down"), None) as scene:
            for _ in range(FAILURES_BEFORE_OPENING):
                scene.dispatcher.record_failure(LOST)
            scene.enter("a", 1)
            await asyncio.sleep(1000)
            first = FIRST_PROBE_SECONDS
            assert scene.provider.probed_at == pytest.approx([first, first * 3, first * 7], abs=0.1)
            assert scene.dispatcher.closed is None
            assert scene.begun == ["a"]
            for _ in range(FAILURES_BEFORE_OPENING - 1):
                scene.dispatcher.record_failure(LOST)
            assert scene.dispatcher.closed is None, "old faults are forgotten"

    run_in_virtual_time(main())


def test_probes_become_rare_but_never_stop():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            for _ in range(FAILURES_BEFORE_OPENING):
                scene.dispatcher.record_failure(LOST)
            await asyncio.sleep(3600)
            times = scene.provider.probed_at
            assert times[-1] - times[-2] == pytest.approx(MAX_PROBE_SECONDS, abs=0.1)
            assert 10 < len(times) < 20

    run_in_virtual_time(main())


def test_a_refused_key_closes_the_lane_at_once_until_a_probe_is_let_in():
    async def main() -> None:
        async with a_scene(REFUSED, None) as scene:
            scene.dispatcher.record_failure(REFUSED)
            scene.dispatcher.record_failure(REFUSED)
            assert scene.dispatcher.closed is BreakerState.DENIED
            await asyncio.sleep(1000)
            assert scene.dispatcher.closed is None
            assert scene.closings == [("scripted", BreakerState.DENIED)]

    run_in_virtual_time(main())


def test_a_lane_that_is_down_says_so_again_when_the_reason_is_our_key():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down"), REFUSED, REFUSED, None) as scene:
            for _ in range(FAILURES_BEFORE_OPENING):
                scene.dispatcher.record_failure(LOST)
            await asyncio.sleep(1000)
            assert scene.closings == [("scripted", BreakerState.DOWN), ("scripted", BreakerState.DENIED)]
            assert scene.dispatcher.closed is None

    run_in_virtual_time(main())


def test_a_lane_is_reopened_also_when_a_probe_failed_unexpectedly(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        async with a_scene(ValueError("a defect"), None) as scene:
            scene.dispatcher.record_failure(REFUSED)
            await asyncio.sleep(1000)
            assert scene.dispatcher.closed is None
            assert "probe failed and is started again" in caplog.text

    run_in_virtual_time(main())


@pytest.mark.f21
def test_nobody_waits_for_a_provider_that_refuses_our_key():
    async def main() -> None:
        async with a_scene(REFUSED, places=1) as scene:
            for job_id in ("a", "b", "c"):
                scene.enter(job_id, 1)
            await settled()
            assert not scene.dispatcher.gave_up
            scene.dispatcher.record_failure(REFUSED)
            assert scene.dispatcher.gave_up
            await scene.end("a", "b", "c")
            assert scene.begun == ["a", "b", "c"], "each finds that it is hopeless here, and gives up"

    run_in_virtual_time(main())


def test_those_in_line_wait_through_an_outage_but_not_for_ever():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            for _ in range(FAILURES_BEFORE_OPENING):
                scene.dispatcher.record_failure(LOST)
            scene.enter("a", 1)
            await asyncio.sleep(MAX_OUTAGE_SECONDS - 1)
            assert scene.begun == []
            await asyncio.sleep(MAX_PROBE_SECONDS + 1)
            assert scene.begun == ["a"]
            assert scene.dispatcher.gave_up

    run_in_virtual_time(main())


def test_a_lane_can_close_again_after_it_was_reopened():
    async def main() -> None:
        async with a_scene() as scene:
            for _ in range(2):
                scene.dispatcher.record_failure(REFUSED)
                await asyncio.sleep(FIRST_PROBE_SECONDS + 0.1)
                assert scene.dispatcher.closed is None
            assert scene.closings == [("scripted", BreakerState.DENIED)] * 2

    run_in_virtual_time(main())
