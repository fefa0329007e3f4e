"""Quotas: amounts, calendar windows, and which limit counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.domain.jobs import DIRECT_GUILD_ID
from bot.domain.money.quota import (
    Balance,
    Cap,
    Member,
    Period,
    Quota,
    QuotaSource,
    Window,
    effective_quota,
    format_usd,
    nearly_used,
    parse_usd,
)
from bot.domain.requester import Requester

NOON = datetime(2026, 3, 18, 12, tzinfo=UTC)  # a Wednesday
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana"]


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("0", 0),
        ("12", 12_000_000),
        ("12.5", 12_500_000),
        ("$0.065", 65_000),
        (" 1.00 ", 1_000_000),
        ("0.000001", 1),
        ("9999999.999999", 9_999_999_999_999),
    ],
)
def test_amounts_are_read_exactly(text: str, micros: int) -> None:
    assert parse_usd(text) == micros


@pytest.mark.f12
@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "+1", "1.", ".5", "1e3", "1,00", "12345678", "0.0000001", "$$1", "1 000", "NaN", "٣", "1.٣", "0x1"],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        parse_usd(text)


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "$0.00"),
        (80_000, "$0.08"),
        (65_000, "$0.065"),
        (1, "$0.000001"),
        (1_000_000, "$1.00"),
        (-250_000, "-$0.25"),
        (1_234_567_500_000, "$1,234,567.50"),
    ],
)
def test_amounts_are_shown_with_the_decimals_they_need(micros: int, text: str) -> None:
    assert format_usd(micros) == text


@given(st.integers(min_value=0, max_value=9_999_999_999_999))
def test_what_is_shown_can_be_typed_again(micros: int) -> None:
    assert parse_usd(format_usd(micros).replace(",", "")) == micros


@pytest.mark.f10
@pytest.mark.parametrize(
    ("zone", "moment", "period", "start", "end"),
    [
        ("UTC", NOON, Period.DAY, utc(2026, 3, 18), utc(2026, 3, 19)),
        ("UTC", NOON, Period.WEEK, utc(2026, 3, 16), utc(2026, 3, 23)),
        ("UTC", NOON, Period.MONTH, utc(2026, 3, 1), utc(2026, 4, 1)),
        ("UTC", utc(2026, 12, 31, 23, 59), Period.MONTH, utc(2026, 12, 1), utc(2027, 1, 1)),
        ("UTC", utc(2028, 2, 29), Period.MONTH, utc(2028, 2, 1), utc(2028, 3, 1)),
        # spring forward: 23 hours; autumn: 25 hours
        ("Europe/Berlin", utc(2026, 3, 29, 12), Period.DAY, utc(2026, 3, 28, 23), utc(2026, 3, 29, 22)),
        ("Europe/Berlin", utc(2026, 10, 25, 12), Period.DAY, utc(2026, 10, 24, 22), utc(2026, 10, 25, 23)),
        ("America/New_York", utc(2026, 3, 8, 18), Period.DAY, utc(2026, 3, 8, 5), utc(2026, 3, 9, 4)),
        ("America/New_York", utc(2026, 11, 1, 18), Period.DAY, utc(2026, 11, 1, 4), utc(2026, 11, 2, 5)),
        # half an hour
        ("Australia/Lord_Howe", utc(2026, 10, 3, 20), Period.DAY, utc(2026, 10, 3, 13, 30), utc(2026, 10, 4, 13)),
        ("Asia/Kathmandu", NOON, Period.DAY, utc(2026, 3, 17, 18, 15), utc(2026, 3, 18, 18, 15)),
        # midnight happens twice, and not at all
        ("America/Havana", utc(2026, 11, 1, 12), Period.DAY, utc(2026, 11, 1, 4), utc(2026, 11, 2, 5)),
        ("America/Havana", utc(2026, 3, 8, 12), Period.DAY, utc(2026, 3, 8, 5), utc(2026, 3, 9, 4)),
        ("Europe/Berlin", utc(2026, 3, 29, 12), Period.WEEK, utc(2026, 3, 22, 23), utc(2026, 3, 29, 22)),
        ("Europe/Berlin", utc(2026, 3, 29, 12), Period.MONTH, utc(2026, 2, 28, 23), utc(2026, 3, 31, 22)),
    ],
)
def test_windows_are_local_calendar_periods(
    zone: str, moment: datetime, period: Period, start: datetime, end: datetime
) -> None:
    assert Window.containing(moment, period, ZoneInfo(zone)) == Window(start=start, end=end)


@pytest.mark.f10
@given(
    moment=st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2037, 1, 1)),  # noqa: DTZ001
    period=st.sampled_from(Period),
    zone=st.sampled_from(ZONES),
)
def test_windows_contain_their_moment_and_follow_each_other_without_a_gap(
    moment: datetime, period: Period, zone: str
) -> None:
    moment, time_zone = moment.replace(tzinfo=UTC), ZoneInfo(zone)
    window = Window.containing(moment, period, time_zone)
    assert window.start <= moment < window.end
    assert Window.containing(window.end, period, time_zone).start == window.end
    assert Window.containing(window.end - timedelta(microseconds=1), period, time_zone) == window
    assert window.before(period, time_zone).end == window.start


@pytest.mark.f10
@given(
    moment=st.datetimes(min_value=datetime(2020, 1, 1), max_value=datetime(2037, 1, 1)),  # noqa: DTZ001
    period=st.sampled_from(Period),
    zone=st.sampled_from(ZONES),
)
def test_days_and_hours_fill_a_window_exactly(moment: datetime, period: Period, zone: str) -> None:
    time_zone = ZoneInfo(zone)
    window = Window.containing(moment.replace(tzinfo=UTC), period, time_zone)
    for parts in (window.days(time_zone), window.hours()):
        assert (parts[0].start, parts[-1].end) == (window.start, window.end)
        assert all(one.end == following.start for one, following in pairwise(parts))
        assert all(one.start < one.end for one in parts)


@pytest.mark.f10
@pytest.mark.parametrize(
    ("zone", "moment", "hours", "last_minutes"),
    [
        ("Europe/Berlin", utc(2026, 3, 29, 12), 23, 60),
        ("Europe/Berlin", utc(2026, 10, 25, 12), 25, 60),
        ("Europe/Berlin", NOON, 24, 60),
        ("Australia/Lord_Howe", utc(2026, 10, 3, 20), 24, 30),
    ],
)
def test_a_day_has_the_hours_that_its_clocks_show(zone: str, moment: datetime, hours: int, last_minutes: int) -> None:
    found = Window.containing(moment, Period.DAY, ZoneInfo(zone)).hours()
    assert len(found) == hours
    assert found[-1].end - found[-1].start == timedelta(minutes=last_minutes)


def test_in_every_zone_one_day_follows_the_other_on_whole_quarters_of_an_hour() -> None:
    for zone in sorted(available_timezones()):
        window = Window.containing(utc(2026, 1, 1), Period.DAY, ZoneInfo(zone))
        while window.start < utc(2027, 1, 1):
            following = Window.containing(window.end, Period.DAY, ZoneInfo(zone))
            assert (window.start.timestamp() % 900, following.start) == (0, window.end), zone
            window = following


def quota(amount: int | None, period: Period = Period.DAY, source: QuotaSource = QuotaSource.ROLE) -> Quota:
    return Quota(amount_usd_micros=amount, period=period, source=source)


def test_a_members_own_limit_beats_every_role() -> None:
    own = quota(0, source=QuotaSource.MEMBER)
    assert effective_quota(own=own, roles=[quota(None), quota(5)], default=quota(3)) is own


def test_the_most_generous_role_wins_whatever_its_period() -> None:
    a_week, a_day, a_month = quota(6_900_000, Period.WEEK), quota(1_000_000), quota(29_000_000, Period.MONTH)
    assert effective_quota(own=None, roles=[a_week, a_day, a_month], default=quota(10**9)) is a_day
    assert (
        effective_quota(own=None, roles=[a_day, quota(None, Period.MONTH)], default=quota(0)).amount_usd_micros is None
    )


def test_a_day_counts_thirty_times_and_a_week_as_thirty_sevenths_of_what_a_month_does() -> None:
    a_day, a_week, a_month = quota(1_000_000), quota(7_000_000, Period.WEEK), quota(30_000_000, Period.MONTH)
    assert a_day.generosity() == a_week.generosity() == a_month.generosity() == 30_000_000


def test_without_own_limit_and_roles_the_default_counts() -> None:
    default = quota(3, source=QuotaSource.DEFAULT)
    assert effective_quota(own=None, roles=[], default=default) is default


@pytest.mark.parametrize(
    ("used", "limit", "is_nearly_used"),
    [
        (799_999, 1_000_000, False),
        (800_000, 1_000_000, True),
        (2_000_000, 1_000_000, True),
        (5, None, False),
        (0, 0, False),
    ],
)
def test_four_fifths_of_a_limit_is_nearly_all_of_it(used: int, limit: int | None, is_nearly_used: bool) -> None:
    assert nearly_used(used, limit) is is_nearly_used


def balance(amount: int | None, *, granted: int = 0, spent: int = 0, held: int = 0) -> Balance:
    window = Window.containing(NOON, Period.DAY, ZoneInfo("UTC"))
    return Balance(
        quota=quota(amount),
        window=window,
        granted_usd_micros=granted,
        spent_usd_micros=spent,
        set_aside_usd_micros=held,
    )


def test_what_is_left_is_quota_and_grants_less_spent_and_set_aside() -> None:
    assert balance(100, granted=20, spent=30, held=40).available_usd_micros == 50
    assert balance(100, granted=20).limit_usd_micros == 120


def test_what_is_left_is_never_negative_and_unlimited_stays_unlimited() -> None:
    assert balance(10, spent=30).available_usd_micros == 0
    assert balance(None, spent=30).available_usd_micros is None
    assert balance(None, granted=5).limit_usd_micros is None


@pytest.mark.parametrize(("amount", "left"), [(100, 30), (50, 0), (None, None)])
def test_the_servers_cap_knows_what_is_left(amount: int | None, left: int | None) -> None:
    window = Window.containing(NOON, Period.DAY, ZoneInfo("UTC"))
    cap = Cap(quota=quota(amount), window=window, spent_usd_micros=50, set_aside_usd_micros=20)
    assert cap.available_usd_micros == left


def test_members_take_turns_with_their_server_and_outside_servers_each_person_does() -> None:
    assert Member(guild_id=1, user_id=7).requester == Requester(server_id=1, user_id=7)
    assert Member(guild_id=DIRECT_GUILD_ID, user_id=7).requester == Requester(server_id=7, user_id=7)
