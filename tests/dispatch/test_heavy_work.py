"""Heavy work: one piece per member at a time, few per hour, and few exports at a time for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta

import pytest

from bot.dispatch import heavy_work
from bot.dispatch.heavy_work import HeavyWork
from bot.dispatch.rate_limit import HOUR, MINUTE
from bot.domain.errors import AskedTooOften, ManyAsking, StillBusyForYou
from bot.domain.requester import Requester

pytestmark = pytest.mark.hostile("G-07")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ADA, BEN = Requester(1, 7), Requester(1, 8)


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def work(clock: Clock) -> HeavyWork:
    return HeavyWork(clock=clock)


Turn = Callable[[HeavyWork, Requester], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("turn", "limit", "window"),
    [
        (HeavyWork.export, heavy_work.EXPORTS_PER_HOUR, HOUR),
        (HeavyWork.report, heavy_work.REPORTS_PER_HOUR, HOUR),
        (HeavyWork.erasure, heavy_work.ERASURES_PER_HOUR, HOUR),
        (HeavyWork.page, heavy_work.PAGES_PER_MINUTE, MINUTE),
    ],
)
def test_each_kind_has_a_pace_of_its_own_per_member(
    work: HeavyWork, clock: Clock, turn: Turn, limit: int, window: timedelta
) -> None:
    for _ in range(limit):
        with turn(work, ADA):
            pass
    with pytest.raises(AskedTooOften) as refused, turn(work, ADA):
        pass
    assert refused.value.free_at == NOON + window
    with turn(work, BEN):
        pass
    clock.now += window
    with turn(work, ADA):
        pass


def test_a_member_has_one_piece_of_work_at_a_time_whatever_it_is(work: HeavyWork) -> None:
    with work.export(ADA):
        for turn in (work.export, work.report, work.erasure, work.page):
            with pytest.raises(StillBusyForYou), turn(ADA):
                pass
        with work.export(BEN):
            pass
    with work.report(ADA):
        pass


def test_what_is_refused_does_not_count(work: HeavyWork) -> None:
    with work.page(ADA):
        for _ in range(heavy_work.EXPORTS_PER_HOUR):
            with pytest.raises(StillBusyForYou), work.export(ADA):
                pass
    with work.export(ADA):
        pass


def test_work_that_fails_ends_the_members_turn(work: HeavyWork) -> None:
    with pytest.raises(ZeroDivisionError), work.report(ADA):
        raise ZeroDivisionError
    with work.report(ADA):
        pass


def test_plain_pages_share_the_pace_of_those_with_images(work: HeavyWork) -> None:
    for _ in range(heavy_work.PAGES_PER_MINUTE):
        work.count_page(ADA)
    with pytest.raises(AskedTooOften), work.page(ADA):
        pass


def test_suggestions_stop_without_a_sentence(work: HeavyWork, clock: Clock) -> None:
    assert all(work.takes_suggestion(ADA) for _ in range(heavy_work.SUGGESTIONS_PER_MINUTE))
    assert not work.takes_suggestion(ADA)
    assert work.takes_suggestion(BEN)
    clock.now += MINUTE
    assert work.takes_suggestion(ADA)


async def test_exports_are_made_two_at_a_time_and_the_others_wait(work: HeavyWork) -> None:
    at_work, most = 0, 0
    goes_on = asyncio.Event()

    async def export(requester: Requester) -> None:
        nonlocal at_work, most
        with work.export(requester):
            async with work.export_slot(requester):
                at_work += 1
                most = max(most, at_work)
                await goes_on.wait()
                at_work -= 1

    async with asyncio.TaskGroup() as tasks:
        for user_id in range(8):
            tasks.create_task(export(Requester(user_id % 4, user_id)))
        while at_work < heavy_work.EXPORTS_AT_A_TIME:
            await asyncio.sleep(0)
        goes_on.set()
    assert most == heavy_work.EXPORTS_AT_A_TIME


@pytest.mark.parametrize("limit", ["EXPORT_WAIT_SECONDS", "EXPORT_TIMEOUT_SECONDS"])
async def test_neither_the_wait_nor_the_work_is_without_an_end(
    work: HeavyWork, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(heavy_work, limit, 0.0)
    with work.export(ADA):
        if limit == "EXPORT_WAIT_SECONDS":
            for server_id in range(heavy_work.EXPORTS_AT_A_TIME):
                await work._export_slots.acquire(Requester(server_id, 9))
        with pytest.raises(ManyAsking) as refused:
            async with work.export_slot(ADA):
                await asyncio.Event().wait()
    assert refused.value.free_at == NOON + heavy_work.TRY_AGAIN_AFTER
    with work.export(ADA):  # the turn is free again
        pass


@pytest.mark.parametrize(
    ("turn", "limit"), [(HeavyWork.export, heavy_work.EXPORTS_PER_HOUR), (HeavyWork.page, heavy_work.PAGES_PER_MINUTE)]
)
def test_the_members_of_a_server_have_a_pace_together_and_use_up_nothing_of_other_servers(
    work: HeavyWork, turn: Turn, limit: int
) -> None:
    for number in range(heavy_work.MEMBERS_PER_SERVER * limit):
        with turn(work, Requester(1, 100 + number)):
            pass
    with pytest.raises(ManyAsking), turn(work, ADA):
        pass
    with turn(work, Requester(2, ADA.user_id)):
        pass


def test_suggestions_for_a_server_stop_together(work: HeavyWork) -> None:
    for number in range(heavy_work.MEMBERS_PER_SERVER * heavy_work.SUGGESTIONS_PER_MINUTE):
        assert work.takes_suggestion(Requester(1, 100 + number))
    assert not work.takes_suggestion(ADA)
    assert work.takes_suggestion(Requester(2, ADA.user_id))


async def test_exports_of_one_server_leave_a_slot_to_other_servers(work: HeavyWork) -> None:
    goes_on = asyncio.Event()
    at_work: list[int] = []

    async def export(requester: Requester) -> None:
        async with work.export_slot(requester):
            at_work.append(requester.user_id)
            await goes_on.wait()

    async with asyncio.TaskGroup() as tasks:
        for user_id in range(8):
            tasks.create_task(export(Requester(1, user_id)))
        await asyncio.sleep(0)
        tasks.create_task(export(Requester(2, 100)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert at_work == [0, 100]
        goes_on.set()


async def test_a_flood_of_suggestions_for_one_server_leaves_room_for_others_and_is_given_up(
    work: HeavyWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = asyncio.Event()
    looked: list[Requester] = []

    async def suggest(requester: Requester) -> bool:
        if not await work.takes_suggestion_slot(requester):
            return False
        looked.append(requester)
        await goes_on.wait()
        return True

    flood = [asyncio.create_task(suggest(Requester(1, number))) for number in range(200)]
    await asyncio.sleep(0)
    other = asyncio.create_task(suggest(Requester(2, 7)))
    while len(looked) <= heavy_work.SUGGESTIONS_OF_A_SERVER_AT_A_TIME:
        await asyncio.sleep(0)
    assert looked[-1] == Requester(2, 7)
    goes_on.set()
    assert await other
    assert all(await asyncio.gather(*flood))
    monkeypatch.setattr(heavy_work, "SUGGESTION_WAIT_SECONDS", 0.0)
    goes_on.clear()
    flood = [asyncio.create_task(suggest(Requester(1, number))) for number in range(200)]
    while sum(task.done() for task in flood) < 200 - heavy_work.SUGGESTIONS_OF_A_SERVER_AT_A_TIME:
        await asyncio.sleep(0)
    goes_on.set()
    assert sum(await asyncio.gather(*flood)) == heavy_work.SUGGESTIONS_OF_A_SERVER_AT_A_TIME
