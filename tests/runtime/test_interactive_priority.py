"""Members who wait for an answer go first, and everything else still gets on."""

from __future__ import annotations

import asyncio

import pytest

from bot.domain.requester import Requester
from bot.runtime import interactive_priority
from bot.runtime.interactive_priority import InteractivePriority


async def gave_way_at_once(priority: InteractivePriority) -> bool:
    waiting = asyncio.ensure_future(priority.yield_if_busy())
    await asyncio.sleep(0)
    at_once = waiting.done()
    await waiting
    return at_once


async def test_without_waiting_commands_background_work_is_not_held_up() -> None:
    quiet = InteractivePriority()
    assert await gave_way_at_once(quiet)
    quiet.begin("a")
    quiet.end("a")
    quiet.end("a")
    assert await gave_way_at_once(quiet)


async def test_background_work_goes_on_when_the_last_command_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive_priority, "MAX_PENDING_SECONDS", 60.0)
    busy = InteractivePriority()
    busy.begin("a")
    busy.begin("b")
    waiting = asyncio.ensure_future(busy.yield_if_busy())
    busy.end("a")
    await asyncio.sleep(0)
    assert not waiting.done()
    busy.end("b")
    async with asyncio.timeout(5):
        await waiting


async def test_background_work_gets_on_however_many_commands_wait() -> None:
    busy = InteractivePriority()
    busy.begin("a")
    async with asyncio.timeout(5):
        await busy.yield_if_busy()


async def test_a_command_that_was_never_answered_stops_counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive_priority, "ANSWERED_WITHIN_SECONDS", 0.0)
    forgotten = InteractivePriority()
    forgotten.begin("a")
    await asyncio.sleep(0.001)
    assert await gave_way_at_once(forgotten)


async def test_a_command_of_another_server_is_prepared_before_the_rest_of_a_crowd() -> None:
    priority, prepared = InteractivePriority(), list[str]()
    may_go_on = asyncio.Event()

    async def prepare(key: str, requester: Requester) -> None:
        async with priority.turn(key, requester):
            await may_go_on.wait()
            prepared.append(key)

    crowd = [asyncio.create_task(prepare(f"crowd {number}", Requester(1, number))) for number in range(200)]
    await asyncio.sleep(0)
    neighbour = asyncio.create_task(prepare("neighbour", Requester(2, 1_000)))
    await asyncio.sleep(0)
    may_go_on.set()
    await asyncio.wait([*crowd, neighbour])
    # Those whose turn had come, and one more of the crowd, whose turn is before that of the other server.
    assert prepared.index("neighbour") <= interactive_priority.PREPARED_AT_A_TIME + 1
    assert len(prepared) == 201


async def test_background_work_gives_way_to_commands_that_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interactive_priority, "MAX_PENDING_SECONDS", 60.0)
    priority, may_end = InteractivePriority(), asyncio.Event()

    async def prepare(key: str) -> None:
        async with priority.turn(key, Requester(1, 1)):
            await may_end.wait()

    commands = [asyncio.create_task(prepare(str(number))) for number in range(20)]
    await asyncio.sleep(0)
    background = asyncio.create_task(priority.yield_if_busy())
    await asyncio.sleep(0)
    assert not background.done()
    may_end.set()
    async with asyncio.timeout(5):
        await asyncio.gather(*commands, background)
