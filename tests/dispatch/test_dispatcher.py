"""A dispatcher: limited slots in fair order, a pause when the provider asks for one; and its circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bot.dispatch.circuit_breaker import (
    FAILURES_BEFORE_OPENING,
    FIRST_PROBE_SECONDS,
    FIRST_TRIAL_SECONDS,
    MAX_FORBIDDEN_TRIAL_SECONDS,
    MAX_OUTAGE_SECONDS,
    MAX_PROBE_SECONDS,
    MEMBERS_BEFORE_OPENING,
    BreakerState,
    CircuitBreaker,
)
from bot.dispatch.coordinator import Coordinator, LocalCoordinator
from bot.dispatch.dispatcher import MAX_PAUSE_SECONDS, OTHERS_ORDER_SECONDS, NextJob, ProviderDispatcher
from bot.domain.deployment.process_role import Role
from bot.domain.errors import OutcomeUncertain, ProviderDenied, ProviderUnavailable
from bot.domain.money.quota import Member
from bot.domain.requester import Requester
from bot.providers.poller import Poller
from bot.runtime.supervisor import Supervisor
from tests.providers.test_poller import ScriptedProvider
from tests.support.fakes import FakePresenter
from tests.support.store_samples import ADA, a_command
from tests.support.virtual_time import run_in_virtual_time

LOST = OutcomeUncertain("no answer")
REFUSED = ProviderDenied("krea: 401", status=401)
EMPTY = ProviderDenied("krea: 402", status=402)


class ProbedProvider(ScriptedProvider):
    """Answers probes from a script; the last answer is repeated."""

    def __init__(self, *answers: Exception | None) -> None:
        super().__init__()
        self.answers = list(answers) or [None]
        self.probed_at: list[float] = []

    async def has_model(self, path: str) -> bool:
        return True

    async def probe(self) -> None:
        self.probed_at.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer


class Scene:
    """A dispatcher whose jobs run until the test ends them."""

    def __init__(
        self,
        provider: ProbedProvider,
        supervisor: Supervisor,
        *,
        slots: int = 2,
        coordinator: Coordinator | None = None,
    ) -> None:
        self.provider = provider
        self.supervisor = supervisor
        self.started: list[str] = []
        self.started_at: dict[str, float] = {}
        self.was_given: dict[str, bool] = {}
        self.peak = 0
        self.defect: Exception | None = None
        self.presenter = FakePresenter()
        self._ends: dict[str, asyncio.Event] = {}
        coordinator = coordinator or LocalCoordinator()
        self.breaker = CircuitBreaker(
            provider, coordinator=coordinator, presenter=self.presenter, supervisor=supervisor
        )
        self.dispatcher = ProviderDispatcher(
            provider,
            Poller(provider, poll_seconds=2.0),
            breaker=self.breaker,
            coordinator=coordinator,
            max_concurrency=slots,
        )
        supervisor.start_forever("dispatcher", self._run_queued)
        supervisor.start_forever("probe", self.breaker.run_probes)

    @property
    def openings(self) -> list[tuple[str, str]]:
        """The alerts to the operator: (provider, reason)."""
        found: list[tuple[str, str]] = []
        for matter, text in self.presenter.notices:
            name = matter.partition(" closed: ")[0]
            [reason] = [state for state in BreakerState if text.startswith(f"{name} takes no jobs ({state}): ")]
            found.append((name, reason))
        return found

    def push(self, job_id: str, user_id: int, *, at_front: bool = False, guild_id: int = ADA.guild_id) -> None:
        member = Member(guild_id=guild_id, user_id=user_id)
        [job] = a_command(member=member).jobs
        self.dispatcher.push(replace(job, id=job_id), at_front=at_front)

    def adopt(self, job_id: str) -> None:
        self.dispatcher.adopt(job_id, Requester(1, 1))
        self._start(NextJob(job_id, None))

    async def _run_queued(self) -> None:
        while (next_job := await self.dispatcher.next_job()) is not None:
            self._start(next_job)

    def _start(self, next_job: NextJob) -> None:
        self.supervisor.start(f"job {next_job.id}", self._run(next_job))

    async def _run(self, next_job: NextJob) -> None:
        with self.dispatcher.slot_held(next_job.id):
            if self.defect is not None:
                raise self.defect
            self.started.append(next_job.id)
            self.was_given[next_job.id] = next_job.job is not None
            self.started_at[next_job.id] = asyncio.get_running_loop().time()
            self.peak = max(self.peak, self.dispatcher.slots_in_use)
            await self._end_of(next_job.id).wait()

    def _end_of(self, job_id: str) -> asyncio.Event:
        return self._ends.setdefault(job_id, asyncio.Event())

    async def end(self, *job_ids: str) -> None:
        for job_id in job_ids:
            self._end_of(job_id).set()
        await settled()


async def settled() -> None:
    """Run the event loop until no task can continue."""
    await asyncio.sleep(0.001)


@asynccontextmanager
async def a_scene(*answers: Exception | None, slots: int = 2) -> AsyncIterator[Scene]:
    async with Supervisor() as supervisor:
        yield Scene(ProbedProvider(*answers), supervisor, slots=slots)


def test_only_a_job_that_starts_at_once_is_handed_on_whole_and_one_that_waited_is_read_again():
    async def main() -> None:
        async with a_scene(slots=1) as scene:
            scene.push("a", 1)
            scene.push("b", 1)
            await settled()
            await scene.end("a")
            scene.push("c", 1)
            await scene.end("b")
            assert scene.was_given == {"a": True, "b": False, "c": False}

    run_in_virtual_time(main())


@pytest.mark.f30
def test_there_are_never_more_jobs_than_slots_and_members_take_turns():
    async def main() -> None:
        async with a_scene() as scene:
            for job_id, member in (("a1", 1), ("a2", 1), ("a3", 1), ("b1", 2), ("c1", 3)):
                scene.push(job_id, member)
            await settled()
            assert scene.started == ["a1", "b1"]
            await scene.end("a1")
            assert scene.started == ["a1", "b1", "c1"]
            await scene.end("b1", "c1")
            assert scene.started == ["a1", "b1", "c1", "a2", "a3"]
            assert scene.peak == 2

    run_in_virtual_time(main())


def test_a_job_that_is_already_at_the_provider_takes_a_slot_without_waiting():
    async def main() -> None:
        async with a_scene() as scene:
            for number in range(3):
                scene.adopt(f"adopted {number}")
            scene.push("new", 1)
            await settled()
            assert scene.started == ["adopted 0", "adopted 1", "adopted 2"]
            assert scene.dispatcher.slots_in_use == 3
            await scene.end("adopted 0")
            assert "new" not in scene.started, "still two jobs for two slots"
            await scene.end("adopted 1")
            assert "new" in scene.started

    run_in_virtual_time(main())


def test_a_slot_is_free_again_when_its_job_fails(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        async with a_scene(slots=1) as scene:
            scene.defect = ValueError("a defect")
            scene.push("a", 1)
            await settled()
            assert scene.dispatcher.slots_in_use == 0
            assert "job a failed" in caplog.text

    run_in_virtual_time(main())


def test_the_position_for_a_new_job_is_none_while_it_would_start_at_once():
    async def main() -> None:
        async with a_scene(slots=1) as scene:
            assert await scene.dispatcher.position_for(Requester(1, 1), now=datetime.now(UTC)) is None
            scene.push("a", 1)
            await settled()
            assert await scene.dispatcher.position_for(Requester(1, 1), now=datetime.now(UTC)) == 1
            scene.push("b", 1)
            await settled()
            assert await scene.dispatcher.position_for(Requester(1, 1), now=datetime.now(UTC)) == 2
            assert await scene.dispatcher.position_for(Requester(1, 2), now=datetime.now(UTC)) == 2, (
                "behind the first job of the other member, whose turn is next"
            )

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
def test_a_server_leaves_slots_to_others_while_they_order_and_uses_all_when_they_do_not():
    async def main() -> None:
        async with a_scene(slots=4) as scene:
            for number in range(6):
                scene.push(f"alone {number}", number)
            await settled()
            assert scene.started == [f"alone {number}" for number in range(4)]

            scene.push("other", 9, guild_id=2)
            await scene.end("alone 0")
            assert scene.started[4:] == ["other"], "the others have their turn"
            await scene.end("other", "alone 1")
            assert scene.dispatcher.slots_in_use == 3 - 1 + 1, "three at most, and the fourth stays free"
            started = len(scene.started)
            scene.push("other again", 9, guild_id=2)
            await settled()
            assert scene.started[started:] == ["other again"], "it did not wait for the end of any job"

            await scene.end("other again")
            await asyncio.sleep(OTHERS_ORDER_SECONDS + 1)
            scene.push("alone 6", 1)
            await settled()
            assert scene.dispatcher.slots_in_use == 4

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
def test_a_job_that_leaves_a_slot_to_others_starts_once_no_other_server_orders_any_more():
    async def main() -> None:
        async with a_scene(slots=4) as scene:
            scene.push("other", 9, guild_id=2)
            for number in range(4):
                scene.push(f"alone {number}", number)
            await settled()
            await scene.end("other")
            assert scene.dispatcher.slots_in_use == 3
            await asyncio.sleep(OTHERS_ORDER_SECONDS - 1)
            assert scene.dispatcher.slots_in_use == 3
            await asyncio.sleep(2)
            assert scene.dispatcher.slots_in_use == 4

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
def test_a_job_whose_order_is_looked_for_does_not_count_against_its_server():
    async def main() -> None:
        async with a_scene(slots=2) as scene:
            scene.push("other", 9, guild_id=2)
            scene.push("a", 1)
            scene.push("b", 1)
            await settled()
            await scene.end("other")
            assert "b" not in scene.started
            with scene.dispatcher.slot_released("a"):
                await settled()
                assert "b" in scene.started

    run_in_virtual_time(main())


def test_no_job_starts_during_a_pause_and_all_start_afterwards():
    async def main() -> None:
        async with a_scene() as scene:
            scene.dispatcher.pause(7)
            scene.dispatcher.pause(3)
            scene.push("a", 1)
            await asyncio.sleep(6.9)
            assert scene.started == []
            await asyncio.sleep(0.2)
            assert scene.started_at == {"a": pytest.approx(7.0, abs=0.01)}

    run_in_virtual_time(main())


@pytest.mark.f19
def test_a_pause_is_honoured_only_up_to_a_minute():
    async def main() -> None:
        async with a_scene() as scene:
            scene.dispatcher.pause(10**9)
            scene.push("a", 1)
            await asyncio.sleep(MAX_PAUSE_SECONDS + 0.1)
            assert scene.started == ["a"]

    run_in_virtual_time(main())


def test_a_stopped_dispatcher_starts_no_more_jobs_and_keeps_its_queue():
    async def main() -> None:
        async with a_scene(slots=1) as scene:
            scene.push("a", 1)
            scene.push("b", 1)
            await settled()
            scene.dispatcher.stop()
            await scene.end("a")
            scene.push("c", 1)
            await settled()
            assert scene.started == ["a"]
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


# -- circuit breaker ----------------------------------------------------------------------------------------------


def lose(breaker: CircuitBreaker, orders: int, *, members: int = MEMBERS_BEFORE_OPENING) -> None:
    """Record that this number of orders in a row, of members in turn, got no usable answer."""
    for number in range(orders):
        breaker.record_failure(LOST, user_id=number % members)


def test_failures_in_a_row_open_the_breaker_and_the_operator_is_told_once():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING - 1)
            assert scene.breaker.state is BreakerState.CLOSED
            lose(scene.breaker, 10)
            assert scene.breaker.state is BreakerState.DOWN
            await settled()
            assert scene.openings == [("scripted", BreakerState.DOWN)]
            scene.push("a", 1)
            await asyncio.sleep(60)
            assert scene.started == []
            assert await scene.dispatcher.position_for(Requester(1, 2), now=datetime.now(UTC)) == 2

    run_in_virtual_time(main())


def test_a_success_in_between_starts_the_count_again():
    async def main() -> None:
        async with a_scene() as scene:
            for _ in range(3):
                lose(scene.breaker, FAILURES_BEFORE_OPENING - 1)
                scene.breaker.record_success()
            assert scene.breaker.state is BreakerState.CLOSED

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
@pytest.mark.parametrize("members", range(1, MEMBERS_BEFORE_OPENING))
def test_failures_of_a_few_members_close_nothing_for_others_while_the_provider_answers(members: int):
    async def main() -> None:
        async with a_scene(None) as scene:
            for _ in range(4):
                lose(scene.breaker, 3 * FAILURES_BEFORE_OPENING, members=members)
                await settled()
                assert scene.breaker.state is BreakerState.CLOSED
            assert len(scene.provider.probed_at) == 4, "one probe at a time"
            scene.push("a", 100)
            await settled()
            assert scene.started == ["a"]
            assert scene.openings == []

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
def test_a_bot_with_one_member_notices_that_its_provider_is_down():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING, members=1)
            await settled()
            assert scene.breaker.state is BreakerState.DOWN
            assert scene.openings == [("scripted", BreakerState.DOWN)]

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
def test_the_probe_for_a_few_members_may_find_that_our_key_is_refused():
    async def main() -> None:
        async with a_scene(REFUSED) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING, members=1)
            await settled()
            assert scene.breaker.state is BreakerState.DENIED

    run_in_virtual_time(main())


@pytest.mark.hostile("G-08")
def test_an_order_that_is_answered_while_the_probe_fails_keeps_the_provider_open():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("a hiccup")) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING, members=1)
            scene.breaker.record_success()
            await settled()
            assert len(scene.provider.probed_at) == 1
            assert scene.breaker.state is BreakerState.CLOSED

    run_in_virtual_time(main())


@pytest.mark.f29
def test_a_probe_closes_the_breaker_and_queued_jobs_start_again():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down"), ProviderUnavailable("down"), None) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING)
            scene.push("a", 1)
            await asyncio.sleep(1000)
            first = FIRST_PROBE_SECONDS
            assert scene.provider.probed_at == pytest.approx([first, first * 3, first * 7], abs=0.1)
            assert scene.breaker.state is BreakerState.CLOSED
            assert scene.started == ["a"]
            lose(scene.breaker, FAILURES_BEFORE_OPENING - 1)
            assert scene.breaker.state is BreakerState.CLOSED, "old failures are forgotten"

    run_in_virtual_time(main())


def test_probes_become_rare_but_never_stop():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING)
            await asyncio.sleep(3600)
            times = scene.provider.probed_at
            assert times[-1] - times[-2] == pytest.approx(MAX_PROBE_SECONDS, abs=0.1)
            assert 10 < len(times) < 20

    run_in_virtual_time(main())


def test_a_breaker_that_closed_and_opened_again_is_probed_as_soon_as_after_its_first_opening():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("still down")) as scene:
            scene.breaker.set_state(BreakerState.DOWN)
            await asyncio.sleep(3600)
            await asyncio.sleep(
                scene.provider.probed_at[-1] + MAX_PROBE_SECONDS + 1 - asyncio.get_running_loop().time()
            )
            scene.breaker.set_state(BreakerState.CLOSED)
            scene.breaker.set_state(BreakerState.DOWN)
            probes = len(scene.provider.probed_at)
            await asyncio.sleep(FIRST_PROBE_SECONDS + 1)
            assert len(scene.provider.probed_at) == probes + 1

    run_in_virtual_time(main())


class SlowlyProbedProvider(ProbedProvider):
    """Answers a probe after a minute."""

    async def probe(self) -> None:
        await asyncio.sleep(60)
        await super().probe()


def test_a_probe_of_a_breaker_that_closed_meanwhile_changes_nothing(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        async with Supervisor() as supervisor:
            scene = Scene(SlowlyProbedProvider(), supervisor)
            scene.breaker.set_state(BreakerState.DOWN)
            await asyncio.sleep(FIRST_PROBE_SECONDS + 30)
            scene.breaker.set_state(BreakerState.CLOSED)
            scene.breaker.set_state(BreakerState.DOWN)
            await asyncio.sleep(35)
            assert scene.breaker.state is BreakerState.DOWN
            assert "answers again" not in caplog.text

    run_in_virtual_time(main())


def test_a_refused_key_opens_the_breaker_at_once_until_a_probe_succeeds():
    async def main() -> None:
        async with a_scene(REFUSED, None) as scene:
            scene.breaker.record_denial(REFUSED)
            scene.breaker.record_denial(REFUSED)
            assert scene.breaker.state is BreakerState.DENIED
            await asyncio.sleep(1000)
            assert scene.breaker.state is BreakerState.CLOSED
            assert scene.openings == [("scripted", BreakerState.DENIED)]

    run_in_virtual_time(main())


@pytest.mark.hostile("G-38")
def test_an_empty_account_stays_closed_while_reading_works_until_an_order_is_accepted():
    async def main() -> None:
        async with a_scene(None) as scene:
            scene.breaker.record_denial(EMPTY)
            await asyncio.sleep(FIRST_TRIAL_SECONDS - 1)
            assert scene.breaker.state is BreakerState.ORDERS_REFUSED
            assert scene.breaker.refuses_orders
            await asyncio.sleep(2)
            assert not scene.breaker.refuses_orders
            assert [scene.breaker.begin_trial(), scene.breaker.begin_trial()] == [True, False]
            scene.breaker.record_denial(EMPTY)  # still empty: nobody is told again
            assert scene.breaker.refuses_orders
            await asyncio.sleep(2 * FIRST_TRIAL_SECONDS)
            assert scene.breaker.begin_trial()
            scene.breaker.record_success()  # an order that is refused for itself proves nothing
            assert scene.breaker.state is BreakerState.ORDERS_REFUSED
            scene.breaker.record_acceptance()
            assert scene.breaker.state is BreakerState.CLOSED
            assert scene.openings == [("scripted", BreakerState.ORDERS_REFUSED)]

    run_in_virtual_time(main())


class WorkerCoordinator(LocalCoordinator):
    """Coordination of a process that gets its orders from gateways."""

    role = Role.WORKER

    def __init__(self) -> None:
        self.opened: list[str] = []

    async def open_breaker(self, provider: str, reason: str) -> bool:
        self.opened.append(reason)
        return True


def test_a_worker_that_hears_of_a_refused_key_starts_queued_jobs_when_its_own_is_taken():
    async def main() -> None:
        async with Supervisor() as supervisor:
            scene = Scene(ProbedProvider(None), supervisor, coordinator=WorkerCoordinator())
            scene.breaker.heard(BreakerState.DENIED)
            scene.push("a", 1)
            assert not scene.breaker.gave_up, "the job would find that no order is sent, and fail"
            await settled()
            assert scene.breaker.state is BreakerState.CLOSED
            assert scene.started == ["a"]

    run_in_virtual_time(main())


def test_a_worker_gives_queued_jobs_up_once_its_own_key_is_refused_as_well():
    async def main() -> None:
        async with Supervisor() as supervisor:
            scene = Scene(ProbedProvider(REFUSED), supervisor, coordinator=WorkerCoordinator())
            scene.push("a", 1)
            scene.breaker.heard(BreakerState.DENIED)
            await settled()
            assert scene.breaker.gave_up
            assert scene.started == ["a"]

    run_in_virtual_time(main())


@pytest.mark.parametrize(("answer", "opened"), [(REFUSED, BreakerState.DENIED), (LOST, BreakerState.DOWN)])
def test_a_worker_that_alone_is_not_answered_leaves_jobs_to_others_until_it_is(answer: Exception, opened: BreakerState):
    async def main() -> None:
        async with Supervisor() as supervisor:
            scene = Scene(ProbedProvider(answer, answer, None), supervisor, coordinator=WorkerCoordinator())
            if answer is REFUSED:
                scene.breaker.record_denial(REFUSED)
            else:
                lose(scene.breaker, FAILURES_BEFORE_OPENING)
            scene.push("a", 1)
            await settled()
            assert not scene.breaker.gave_up, "other workers may be answered"
            for _ in range(3):
                scene.breaker.heard(BreakerState.CLOSED)
                await settled()
            assert (scene.breaker.state, scene.breaker.is_left_to_others) == (opened, True)
            assert [matter for matter, _ in scene.presenter.notices] == [
                f"scripted closed: {opened}",
                "scripted is left to other workers",
            ]
            await asyncio.sleep(MAX_OUTAGE_SECONDS)
            assert (scene.breaker.state, scene.breaker.is_left_to_others) == (BreakerState.CLOSED, False)
            assert scene.started == ["a"]

    run_in_virtual_time(main())


def test_a_worker_that_is_answered_again_as_well_closes_its_breaker_with_the_others():
    async def main() -> None:
        async with Supervisor() as supervisor:
            scene = Scene(ProbedProvider(None), supervisor, coordinator=WorkerCoordinator())
            lose(scene.breaker, FAILURES_BEFORE_OPENING)
            scene.breaker.heard(BreakerState.CLOSED)
            await settled()
            assert (scene.breaker.state, scene.breaker.is_left_to_others) == (BreakerState.CLOSED, False)

    run_in_virtual_time(main())


def test_what_a_worker_finds_out_that_is_left_to_others_closes_the_provider_for_no_other():
    async def main() -> None:
        async with Supervisor() as supervisor:
            coordinator = WorkerCoordinator()
            scene = Scene(ProbedProvider(LOST, REFUSED), supervisor, coordinator=coordinator)
            lose(scene.breaker, FAILURES_BEFORE_OPENING)
            scene.breaker.heard(BreakerState.CLOSED)
            await asyncio.sleep(MAX_OUTAGE_SECONDS)
            assert scene.breaker.state is BreakerState.DENIED
            assert coordinator.opened == [BreakerState.DOWN]

    run_in_virtual_time(main())


@pytest.mark.hostile("G-38")
def test_a_worker_tries_every_order_that_a_gateway_let_through_after_its_pause():
    async def main() -> None:
        async with Supervisor() as supervisor:
            presenter, provider = FakePresenter(), ProbedProvider()
            gateway, worker = (
                CircuitBreaker(provider, coordinator=coordinator, presenter=presenter, supervisor=supervisor)
                for coordinator in (LocalCoordinator(), WorkerCoordinator())
            )
            for breaker in (worker, gateway):
                breaker.set_state(BreakerState.ORDERS_REFUSED)
            taken: list[bool] = []
            delay_seconds = 128.0
            for _ in range(8 * 3600):
                await asyncio.sleep(1)
                if gateway.begin_trial():
                    delay_seconds /= 2  # each order is at the worker sooner than the one before
                    await asyncio.sleep(delay_seconds)
                    taken.append(worker.begin_trial())
                    assert not worker.begin_trial()
            assert len(taken) > 5
            assert all(taken)

    run_in_virtual_time(main())


@pytest.mark.hostile("G-38")
def test_orders_that_are_forbidden_while_reading_works_are_tried_one_at_a_time_until_one_is_accepted():
    async def main() -> None:
        async with a_scene(None) as scene:
            forbidden = ProviderDenied("krea: 403", status=403)
            scene.breaker.record_denial(forbidden, of_order=True)
            assert scene.breaker.refuses_orders
            tried = 0
            for _ in range(3600):
                await asyncio.sleep(1)
                if scene.breaker.begin_trial():
                    tried += 1
                    scene.breaker.record_denial(forbidden, of_order=True)
                assert scene.breaker.state is BreakerState.ORDERS_REFUSED
            assert 10 < tried < 20
            await asyncio.sleep(MAX_FORBIDDEN_TRIAL_SECONDS)
            assert scene.breaker.begin_trial()
            scene.breaker.record_acceptance()
            assert scene.breaker.state is BreakerState.CLOSED
            assert scene.openings == [("scripted", BreakerState.ORDERS_REFUSED)]

    run_in_virtual_time(main())


def test_a_provider_that_is_down_is_announced_again_when_it_refuses_our_key():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down"), REFUSED, REFUSED, None) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING)
            await asyncio.sleep(1000)
            assert scene.openings == [("scripted", BreakerState.DOWN), ("scripted", BreakerState.DENIED)]
            assert scene.breaker.state is BreakerState.CLOSED

    run_in_virtual_time(main())


def test_a_breaker_closes_also_after_a_probe_failed_unexpectedly(caplog: pytest.LogCaptureFixture):
    async def main() -> None:
        async with a_scene(ValueError("a defect"), None) as scene:
            scene.breaker.record_denial(REFUSED)
            await asyncio.sleep(1000)
            assert scene.breaker.state is BreakerState.CLOSED
            assert "probe failed and is started again" in caplog.text

    run_in_virtual_time(main())


@pytest.mark.f21
def test_no_job_waits_for_a_provider_that_refuses_our_key():
    async def main() -> None:
        async with a_scene(REFUSED, slots=1) as scene:
            for job_id in ("a", "b", "c"):
                scene.push(job_id, 1)
            await settled()
            assert not scene.breaker.gave_up
            scene.breaker.record_denial(REFUSED)
            assert scene.breaker.gave_up
            await scene.end("a", "b", "c")
            assert scene.started == ["a", "b", "c"], "each finds that the provider cannot be used, and gives up"

    run_in_virtual_time(main())


def test_queued_jobs_wait_through_an_outage_up_to_a_limit():
    async def main() -> None:
        async with a_scene(ProviderUnavailable("down")) as scene:
            lose(scene.breaker, FAILURES_BEFORE_OPENING)
            scene.push("a", 1)
            await asyncio.sleep(MAX_OUTAGE_SECONDS - 1)
            assert scene.started == []
            await asyncio.sleep(MAX_PROBE_SECONDS + 1)
            assert scene.started == ["a"]
            assert scene.breaker.gave_up

    run_in_virtual_time(main())


def test_a_breaker_can_open_again_after_it_was_closed():
    async def main() -> None:
        async with a_scene() as scene:
            for _ in range(2):
                scene.breaker.record_denial(REFUSED)
                await asyncio.sleep(FIRST_PROBE_SECONDS + 0.1)
                assert scene.breaker.state is BreakerState.CLOSED
            assert scene.openings == [("scripted", BreakerState.DENIED)] * 2

    run_in_virtual_time(main())
