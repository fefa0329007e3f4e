"""Supervisor: background work is named, its failures are logged, and it ends when its owner closes."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging

import pytest

from bot.runtime.supervisor import Supervisor
from tests.support.virtual_time import in_virtual_time


def quick() -> Supervisor:
    return Supervisor(first_pause_seconds=0.001, max_pause_seconds=0.004, steady_after_seconds=0.05)


async def test_a_task_gives_its_result_to_its_awaiter():
    async with quick() as supervisor:

        async def answer() -> int:
            return 42

        assert await supervisor.start("answer", answer()) == 42


@pytest.mark.f41
@in_virtual_time
async def test_a_failure_is_logged_once_with_the_name_and_still_reaches_the_awaiter(caplog: pytest.LogCaptureFixture):
    async def fail() -> None:
        raise ValueError("boom")

    async with quick() as supervisor:
        with pytest.raises(ValueError, match="boom"):
            await supervisor.start("job 7", fail())
        await supervisor.drain(timeout_seconds=1)
    assert [record.getMessage() for record in caplog.records] == ["job 7 failed"]
    assert "ValueError: boom" in caplog.text


@in_virtual_time
async def test_a_failure_that_is_not_awaited_is_logged_and_not_lost(caplog: pytest.LogCaptureFixture):
    async def fail() -> None:
        raise ValueError("boom")

    async with quick() as supervisor:
        supervisor.start("job 8", fail())
        await supervisor.drain(timeout_seconds=1)
    gc.collect()
    assert [record.getMessage() for record in caplog.records] == ["job 8 failed"]


@in_virtual_time
async def test_a_cancelled_task_is_no_failure(caplog: pytest.LogCaptureFixture):
    async with quick() as supervisor:
        task = supervisor.start("wait", asyncio.Event().wait())
        task.cancel()
        await supervisor.drain(timeout_seconds=1)
    assert not caplog.records


@in_virtual_time
async def test_a_task_without_a_reference_survives_garbage_collection():
    done = asyncio.Event()

    async def work() -> None:
        await asyncio.sleep(0)
        gc.collect()
        await asyncio.sleep(0)
        done.set()

    async with quick() as supervisor:
        supervisor.start("work", work())
        await asyncio.wait_for(done.wait(), 1)


@pytest.mark.f41
@in_virtual_time
async def test_a_task_that_fails_is_started_again_and_each_failure_is_logged(caplog: pytest.LogCaptureFixture):
    runs = 0
    third = asyncio.Event()

    async def worker() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError(f"run {runs}")
        third.set()
        await asyncio.Event().wait()

    async with quick() as supervisor:
        supervisor.start_forever("poller", worker)
        await asyncio.wait_for(third.wait(), 1)
        assert supervisor.down() == {"poller": "RuntimeError"}, "only just restarted"
        while supervisor.down():
            await asyncio.sleep(0.005)
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(messages) == 2
    assert all(message.startswith("poller failed and is started again") for message in messages)


@pytest.mark.f41
@pytest.mark.f43
@in_virtual_time
async def test_a_task_that_keeps_failing_is_reported_down_and_its_pauses_grow():
    times: list[float] = []

    async def worker() -> None:
        times.append(asyncio.get_running_loop().time())
        raise OSError

    supervisor = Supervisor(first_pause_seconds=0.01, max_pause_seconds=0.04, steady_after_seconds=5)
    async with supervisor:
        supervisor.start_forever("poller", worker)
        while len(times) < 6:
            await asyncio.sleep(0.005)
            assert len(times) == 0 or supervisor.down() == {"poller": "OSError"}
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[0] < pauses[2]
    assert all(pause >= 0.8 * 0.04 for pause in pauses[2:])


@in_virtual_time
async def test_a_task_that_ran_well_for_a_while_starts_again_soon_after_its_next_failure():
    supervisor = Supervisor(first_pause_seconds=0.001, max_pause_seconds=60, steady_after_seconds=0.02)
    runs = 0
    reached = asyncio.Event()

    async def worker() -> None:
        nonlocal runs
        runs += 1
        if runs == 12:
            reached.set()
        await asyncio.sleep(0.025)
        raise OSError

    async with supervisor:
        supervisor.start_forever("poller", worker)
        # With a pause that kept doubling, the twelfth run would begin after four seconds.
        await asyncio.wait_for(reached.wait(), 2)


async def test_a_task_that_returns_is_left_alone():
    runs = 0

    async def worker() -> None:
        nonlocal runs
        runs += 1

    async with quick() as supervisor:
        await supervisor.start_forever("once", worker)
        assert runs == 1
        assert supervisor.down() == {}


@in_virtual_time
async def test_drain_waits_for_work_and_for_the_work_that_work_starts():
    finished: list[str] = []

    async with quick() as supervisor:

        async def second() -> None:
            await asyncio.sleep(0.01)
            finished.append("second")

        async def first() -> None:
            await asyncio.sleep(0.01)
            supervisor.start("second", second())
            finished.append("first")

        supervisor.start("first", first())
        supervisor.start_forever("worker", lambda: asyncio.sleep(60))
        assert await supervisor.drain(timeout_seconds=2) == ()
    assert finished == ["first", "second"]


@in_virtual_time
async def test_drain_names_what_did_not_end_in_time():
    async with quick() as supervisor:
        supervisor.start("job b", asyncio.sleep(60))
        supervisor.start("job a", asyncio.sleep(60))
        assert await supervisor.drain(timeout_seconds=0.01) == ("job a", "job b")


@in_virtual_time
async def test_drain_called_by_a_task_of_its_own_does_not_wait_for_itself():
    async with quick() as supervisor:
        task = supervisor.start("closing", supervisor.drain(timeout_seconds=5))
        assert await asyncio.wait_for(task, 1) == ()


@in_virtual_time
async def test_close_cancels_everything_and_lets_it_clean_up():
    cleaned: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(name)

    supervisor = quick()
    supervisor.start("once", work("once"))
    supervisor.start_forever("forever", lambda: work("forever"))
    await asyncio.sleep(0)
    await supervisor.close()
    assert sorted(cleaned) == ["forever", "once"]
    await supervisor.close()


@in_virtual_time
async def test_close_does_not_wait_without_a_limit_for_a_task_that_will_not_end(caplog: pytest.LogCaptureFixture):
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    supervisor = quick()
    task = supervisor.start("stubborn", stubborn())
    await asyncio.sleep(0)
    await supervisor.close(timeout_seconds=0.01)
    assert [record.getMessage() for record in caplog.records] == ["stubborn did not end within 0 s"]
    release.set()
    await task


async def test_nothing_starts_after_close():
    supervisor = quick()
    await supervisor.close()
    with pytest.raises(RuntimeError, match="late was not started"):
        supervisor.start("late", asyncio.sleep(0))
