"""The capacity model: its formulas, the clock that jumps, and a small community that behaves as was predicted."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks import virtual_time
from benchmarks.capacity import crowd_of
from benchmarks.checks import Check, rushed, steady
from benchmarks.model import (
    Community,
    Costs,
    Kinds,
    Outside,
    hold_spread,
    peak,
    pictures_gb,
    places_wanted,
    rush,
    shards,
    transactions_per_order,
    walls,
)
from benchmarks.queueing import (
    SINGLE,
    LogNormal,
    looks,
    places_for,
    wait_at_random,
    waiting_seconds,
    waiting_share,
    waits_of,
)
from benchmarks.simulation import line_memory_kib, simulate
from benchmarks.standins import Delays
from benchmarks.virtual_time import Stuck, this_loop

KINDS, OUTSIDE, COSTS = Kinds(), Outside(), Costs()


# -- the clock --------------------------------------------------------------------------------------------------------


def test_an_hour_without_work_takes_no_time() -> None:
    async def wait() -> float:
        await asyncio.sleep(3600)
        return this_loop().time()

    begun_at = time.monotonic()
    assert virtual_time.run(wait()) == pytest.approx(3600)
    assert time.monotonic() - begun_at < 1


def test_the_clock_stands_still_while_a_thread_works() -> None:
    async def work_beside_a_timer() -> float:
        timer = asyncio.create_task(asyncio.sleep(1))
        await asyncio.to_thread(time.sleep, 0.05)
        worked_until = this_loop().time()
        await timer
        return worked_until

    assert virtual_time.run(work_beside_a_timer()) < 1e-6


def test_the_time_of_day_goes_with_the_clock() -> None:
    async def a_day_later() -> float:
        before = this_loop().now()
        await asyncio.sleep(86_400)
        return (this_loop().now() - before).total_seconds()

    assert virtual_time.run(a_day_later()) == pytest.approx(86_400)


def test_a_timer_for_this_very_instant_fires() -> None:
    async def wait_twice() -> None:
        loop = this_loop()
        fired = [loop.create_future() for _ in range(2)]
        for future in fired:
            loop.call_at(loop.time() + 1, future.set_result, None)
        await asyncio.gather(*fired)
        late = loop.create_future()
        loop.call_at(loop.time(), late.set_result, None)
        await late

    virtual_time.run(wait_twice())


def test_waiting_for_nothing_is_an_error_and_no_standstill() -> None:
    async def wait_for_ever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        virtual_time.run(wait_for_ever())


# -- lines ------------------------------------------------------------------------------------------------------------


def test_erlangs_formula_is_that_of_the_tables() -> None:
    assert waiting_share(load=0.5, places=1) == pytest.approx(0.5)  # one place: as often as it is busy
    assert waiting_share(load=1, places=2) == pytest.approx(1 / 3)
    assert waiting_share(load=8, places=10) == pytest.approx(0.4092, abs=1e-4)
    assert waiting_share(load=10, places=10) == 1


def _wait(*, per_second: float, places: int, spread: float, sizes: Mapping[int, float] = SINGLE) -> float:
    return waiting_seconds(orders_per_second=per_second, sizes=sizes, hold_seconds=10, places=places, spread=spread)


def test_single_pictures_wait_as_erlang_says() -> None:
    assert _wait(per_second=0.8, places=10, spread=1) == pytest.approx(waiting_share(load=8, places=10) * 10 / 2)


def test_one_place_that_is_nearly_full_waits_as_pollaczek_and_khinchin_say() -> None:
    load = 0.98
    assert _wait(per_second=load / 10, places=1, spread=0) == pytest.approx(load / (2 * (1 - load)) * 10, rel=0.02)


def test_siblings_wait_for_each_other_where_there_are_few_places() -> None:
    alone = _wait(per_second=0.08, places=3, spread=0.5)
    together = _wait(per_second=0.02, places=3, spread=0.5, sizes={4: 1.0})
    assert together > 5 * alone


def test_a_line_without_enough_places_only_grows() -> None:
    assert _wait(per_second=1, places=10, spread=0.5) == math.inf


@pytest.mark.parametrize(("per_second", "places"), [(0.045, 2), (0.3, 8), (0.42, 8)])
def test_the_formula_says_what_a_line_does_step_by_step(per_second: float, places: int) -> None:
    sizes, hold = {1: 0.7, 2: 0.15, 4: 0.15}, LogNormal(mean_seconds=10, spread=0.5)
    stepwise = wait_at_random(orders_per_second=per_second, sizes=sizes, hold=hold, places=places, jobs=40_000, seed=4)
    predicted = _wait(per_second=per_second, places=places, spread=0.5, sizes=sizes)
    assert 1 / 1.3 < stepwise / predicted < 1.3


def test_a_line_step_by_step_is_worked_off_in_its_order() -> None:
    assert waits_of([(0, 10), (1, 10), (2, 1), (3, 1)], places=2) == [0, 0, 8, 8]


def test_places_are_the_fewest_that_keep_the_wait_short() -> None:
    def wait(places: int) -> float:
        return waiting_seconds(orders_per_second=0.5, sizes=SINGLE, hold_seconds=17, places=places, spread=0.5)

    places = places_for(orders_per_second=0.5, sizes=SINGLE, hold_seconds=17, spread=0.5, within_seconds=2)
    assert wait(places) <= 2 < wait(places - 1)


def test_durations_have_the_mean_they_were_given() -> None:
    seconds = LogNormal(mean_seconds=15, spread=0.5)
    steps = 20_000
    assert sum(seconds.quantile((n + 0.5) / steps) for n in range(steps)) / steps == pytest.approx(15, rel=0.01)
    assert seconds.share_longer(seconds.quantile(0.3)) == pytest.approx(0.7)


def test_a_job_that_always_takes_as_long_is_asked_after_about_once() -> None:
    found = looks(LogNormal(mean_seconds=30, spread=0.001), poll_seconds=2, sent_seconds=0, answer_seconds=0)
    assert found.count < 4  # once after fifteen seconds at most, for it may have failed
    assert found.late_seconds < 2


# -- what is needed ---------------------------------------------------------------------------------------------------


def test_ten_times_the_members_need_ten_times_everything_but_places_in_reserve() -> None:
    small, large = Community(), Community().times(10)
    a, b = (peak(each, kinds=KINDS, outside=Outside(places=400), costs=COSTS) for each in (small, large))
    assert b.places_busy == pytest.approx(10 * a.places_busy)
    assert b.writes_per_second == pytest.approx(10 * a.writes_per_second)
    few, many = (places_wanted(each, kinds=KINDS, outside=OUTSIDE, within_seconds=2) for each in (small, large))
    assert few < many < 10 * few


def test_a_picture_ordered_alone_is_six_transactions() -> None:
    assert transactions_per_order(1) == 6
    assert transactions_per_order(4) == 15


def test_the_nearest_wall_comes_first() -> None:
    found = walls(Community(), kinds=KINDS, outside=OUTSIDE, costs=COSTS, cap_usd=25, disk_gb=20)
    assert [wall.pictures_per_second for wall in found] == sorted(wall.pictures_per_second for wall in found)
    assert "cap" in found[0].what
    assert "places" in found[1].what


def test_a_rush_is_over_when_everything_got_through() -> None:
    found = rush(per_second=3, lasts_seconds=100, hold_seconds=10, places=10)
    assert (found.longest_line, found.wait_seconds, found.over_after_seconds) == (200, 100, 300)


@pytest.mark.parametrize(("simulated", "holds"), [(100, True), (109, True), (92, True), (112, False), (90, False)])
def test_a_check_holds_within_its_factor(simulated: float, holds: bool) -> None:
    check = Check(crowd="", what="", unit="", predicted=100, simulated=simulated, within=1.1)
    assert check.holds is holds


def test_pictures_lie_on_the_disk_for_two_hours_at_most() -> None:
    community = Community(members=36_000, sizes={1: 1.0}, ordering_share=1, orders_each=1, peak_share=0.1)
    assert community.peak_pictures_per_second == pytest.approx(1)
    assert pictures_gb(community, kinds=Kinds(picture_mb=2)) == pytest.approx(14.4)


def test_discord_wants_a_shard_for_every_2500_servers() -> None:
    assert [shards(servers) for servers in (0, 1, 2_500, 2_501)] == [1, 1, 1, 2]


# -- the simulation ---------------------------------------------------------------------------------------------------


def test_a_small_community_behaves_as_predicted(tmp_path: Path) -> None:
    community, outside = Community(), Outside(places=3)
    crowd = crowd_of(community, kinds=KINDS, outside=outside, seconds=1_200)
    observed = simulate(crowd, tmp_path / "bot.sqlite3")
    assert observed.problems == []
    assert observed.commands > 20
    checks = {
        check.what: check
        for check in steady("1×", community, observed, kinds=KINDS, outside=outside, processor_ms=None)
    }
    assert checks["transactions per order"].ratio == pytest.approx(1)
    assert checks["rows per order"].ratio == pytest.approx(1, abs=0.02)
    assert checks["a place is held"].ratio == pytest.approx(1, abs=0.15)
    assert hold_spread(KINDS, outside) < KINDS.seconds.spread


def test_a_rush_fills_the_line_as_water_does_a_basin(tmp_path: Path) -> None:
    community, outside = Community().times(100), Outside(places=10)
    crowd = crowd_of(community, kinds=KINDS, outside=outside, seconds=15, warm_up_share=0)
    observed = simulate(crowd, tmp_path / "bot.sqlite3")
    assert observed.problems == []
    checks = {check.what: check for check in rushed("a rush", crowd, observed, kinds=KINDS, outside=outside)}
    assert checks["longest line"].holds, checks
    assert checks["wait, the same arrivals"].ratio == pytest.approx(1, abs=0.1)


def test_who_waits_in_line_takes_little_memory(tmp_path: Path) -> None:
    assert line_memory_kib(tmp_path / "bot.sqlite3", jobs=100) < 10


def test_the_same_crowd_does_the_same_again(tmp_path: Path) -> None:
    crowd = crowd_of(Community(), kinds=KINDS, outside=Outside(delays=Delays(card=0.2)), seconds=360)
    first, second = (simulate(crowd, tmp_path / name / "bot.sqlite3") for name in "ab")
    assert [came_at for came_at, _ in first.arrivals] == pytest.approx([came_at for came_at, _ in second.arrivals])
    assert first.waits == pytest.approx(second.waits, abs=1e-3)
