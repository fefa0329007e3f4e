"""Members who wait for an answer go first, and everything else still gets on."""

from __future__ import annotations

import asyncio

import pytest

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
