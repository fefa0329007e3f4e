"""TrustedClock: a wrong clock of the machine moves no deadline, and nothing is erased until all clocks agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from bot.runtime.trusted_clock import DISCORD, PROVIDERS, TrustedClock

pytestmark = pytest.mark.hostile("G-15")

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


class Machine:
    """A machine whose clock is `ahead` of the true time, and whose monotonic clock stops while it sleeps."""

    def __init__(self, ahead: timedelta = timedelta()) -> None:
        self.ahead = ahead
        self.passed = timedelta()
        self.slept = timedelta()
        self.clock = TrustedClock(
            wall_clock=lambda: self.true_time + self.ahead,
            monotonic_clock=lambda: 1_000 + (self.passed - self.slept).total_seconds(),
        )

    @property
    def true_time(self) -> datetime:
        return NOON + self.passed

    def hears(self, *sources: str, ahead: timedelta = timedelta()) -> None:
        for source in sources:
            self.clock.observe(source, format_datetime(self.true_time + ahead, usegmt=True))


@pytest.mark.parametrize("jump", [timedelta(seconds=3), timedelta(days=40), timedelta(days=-40)])
def test_a_jump_of_the_machines_clock_moves_nothing(jump: timedelta) -> None:
    machine = Machine()
    machine.hears(DISCORD, PROVIDERS)
    machine.ahead = jump
    machine.passed += timedelta(seconds=20)
    machine.hears(DISCORD, PROVIDERS)
    assert machine.clock.now() == machine.true_time
    assert (machine.clock.agreed_time() is None) == (abs(jump) > timedelta(seconds=60))
    machine.ahead = timedelta()
    assert machine.clock.agreed_time() == machine.true_time


def test_a_start_with_a_wrong_clock_is_set_right_by_the_first_answer_of_discord() -> None:
    machine = Machine(ahead=timedelta(days=40))
    machine.hears(PROVIDERS)
    assert (machine.clock.agreed_time(), machine.clock.is_set) == (None, False)
    machine = Machine(ahead=timedelta(days=40))
    machine.hears(DISCORD)
    assert machine.clock.is_set
    assert machine.clock.now() == machine.true_time
    assert machine.clock.agreed_time() is None
    assert machine.clock.skew_seconds() == {DISCORD: 40 * 86_400, PROVIDERS: 0}


@pytest.mark.parametrize("header", [None, "", "soon", "Sun, 99 Nov 2026 12:00:00 GMT"])
def test_what_is_no_date_changes_nothing(header: str | None) -> None:
    machine = Machine()
    machine.clock.observe(DISCORD, header)
    assert machine.clock.now() == machine.true_time
    assert machine.clock.agreed_time() is None


def test_a_provider_alone_neither_sets_the_time_nor_lets_anything_be_erased() -> None:
    machine = Machine()
    machine.hears(DISCORD)
    assert machine.clock.agreed_time() == machine.true_time
    machine.hears(PROVIDERS, ahead=timedelta(days=1))
    assert machine.clock.now() == machine.true_time
    assert machine.clock.agreed_time() is None


def test_one_wrong_header_of_discord_sets_nothing_while_a_provider_contradicts() -> None:
    machine = Machine()
    machine.hears(DISCORD, PROVIDERS)
    machine.hears(DISCORD, ahead=timedelta(days=40))
    assert machine.clock.now() == machine.true_time
    assert machine.clock.agreed_time() is None


def test_after_sleep_the_machines_own_clock_counts_again() -> None:
    machine = Machine()
    machine.hears(DISCORD)
    machine.passed = machine.slept = timedelta(hours=8)
    assert machine.clock.agreed_time() is None  # it has heard nothing since
    machine.hears(DISCORD)
    assert machine.clock.now() == machine.true_time
    assert machine.clock.agreed_time() == machine.true_time


def test_skew_is_logged_once_and_its_end_as_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    machine = Machine()
    for ahead in (0, 120, 120, 0, 0):
        machine.passed += timedelta(seconds=1)
        machine.ahead = timedelta(seconds=ahead)
        machine.hears(DISCORD)
    assert [record.message for record in caplog.records] == [
        "the clock of this machine is wrong: it is ahead by 120 s of discord. Nothing is erased until it is right",
        "the clock of this machine is right again",
    ]


def test_a_header_that_stands_still_is_compared_with_the_clock_again() -> None:
    machine = Machine()
    machine.hears(DISCORD)
    stale = format_datetime(machine.true_time, usegmt=True)
    machine.passed += timedelta(seconds=90)
    machine.clock.observe(DISCORD, stale)
    assert machine.clock.skew_seconds()[DISCORD] == 90
    assert machine.clock.agreed_time() is None
