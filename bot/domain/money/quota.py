"""Quotas, windows and balances in integer micro-dollars. Pure arithmetic, no I/O.

One US dollar is 1,000,000 micro-dollars, so every published price ($0.0175, $0.065) is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import assert_never
from zoneinfo import ZoneInfo

from bot.domain.jobs import DIRECT_GUILD_ID, FailureReason
from bot.domain.requester import Requester

MICROS_PER_USD = 1_000_000
SERVER_RUNS = 1_000
"""Limit of running jobs per server, as a multiple of the limit per member: one setting instead of two."""

_AMOUNT = re.compile(r"\$?([0-9]{1,7})(?:\.([0-9]{1,6}))?")


class Period(StrEnum):
    """A calendar period in the server's time zone. Weeks begin on Monday (ISO 8601)."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A half-open span of time, `start <= t < end`, both aware UTC."""

    start: datetime
    end: datetime

    @classmethod
    def containing(cls, moment: datetime, period: Period, time_zone: ZoneInfo) -> Window:
        """Return the calendar period around `moment`, in local time: a day may have 23 or 25 hours."""
        return _calendar_window(moment.astimezone(UTC), period, time_zone)

    def before(self, period: Period, time_zone: ZoneInfo) -> Window:
        """Return the calendar period that ends where this one starts."""
        return Window.containing(self.start - timedelta(microseconds=1), period, time_zone)

    def days(self, time_zone: ZoneInfo) -> tuple[Window, ...]:
        """Return the calendar days that begin in this window."""
        days: list[Window] = []
        start = self.start
        while start < self.end:
            days.append(Window.containing(start, Period.DAY, time_zone))
            start = days[-1].end
        return tuple(days)

    def hours(self) -> tuple[Window, ...]:
        """Split the window into hours; the last is shorter where the clocks change by half an hour."""
        hours: list[Window] = []
        start = self.start
        while start < self.end:
            hours.append(Window(start=start, end=min(start + timedelta(hours=1), self.end)))
            start = hours[-1].end
        return tuple(hours)


@lru_cache(maxsize=64)
def _calendar_window(moment: datetime, period: Period, time_zone: ZoneInfo) -> Window:
    """Return the calendar period around a moment in UTC; cached, because the limits of an order share most windows."""
    local = moment.astimezone(time_zone)
    # When the clock is set back over midnight, the day begins at the first of its two midnights (fold=0).
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None, fold=0)
    match period:
        case Period.DAY:
            first, following = midnight, midnight + timedelta(days=1)
        case Period.WEEK:
            first = midnight - timedelta(days=midnight.weekday())
            following = first + timedelta(days=7)
        case Period.MONTH:
            first = midnight.replace(day=1)
            following = (first + timedelta(days=32)).replace(day=1)
        case _:
            assert_never(period)
    return Window(start=_local_to_utc(first, time_zone), end=_local_to_utc(following, time_zone))


def _local_to_utc(naive: datetime, time_zone: ZoneInfo) -> datetime:
    """Convert local time to UTC. A midnight skipped by a clock change becomes the first instant after the gap."""
    return naive.replace(tzinfo=time_zone).astimezone(UTC)


class QuotaSource(StrEnum):
    """Where a member's limit comes from."""

    MEMBER = "member"
    ROLE = "role"
    DEFAULT = "default"
    SETTINGS = "settings"


@dataclass(frozen=True, kw_only=True, slots=True)
class Quota:
    """A spending limit over a period. `amount_usd_micros` None means unlimited; 0 means no spending."""

    amount_usd_micros: int | None
    period: Period
    source: QuotaSource = QuotaSource.DEFAULT
    role_id: int | None = None

    def allows_the_same_as(self, other: Quota) -> bool:
        """Whether the amount and the period are equal, wherever the quotas come from."""
        return (self.amount_usd_micros, self.period) == (other.amount_usd_micros, other.period)

    def generosity(self) -> Decimal:
        """Return the amount for 30 days, to compare quotas of different periods."""
        if self.amount_usd_micros is None:
            return Decimal("Infinity")
        times = {Period.DAY: Decimal(30), Period.WEEK: Decimal(30) / Decimal(7), Period.MONTH: Decimal(1)}
        return self.amount_usd_micros * times[self.period]


def effective_quota(*, own: Quota | None, roles: Iterable[Quota], default: Quota) -> Quota:
    """Return the quota that applies: the member's own, else the most generous of the roles, else the default."""
    if own is not None:
        return own
    return max(roles, key=Quota.generosity, default=default)


WARNING_PERCENT = 80
"""Share of a limit at which a spending alert is sent once."""


def nearly_used(used_usd_micros: int, limit_usd_micros: int | None) -> bool:
    """Return whether a spending alert is due. Never for no limit or a limit of 0."""
    return bool(limit_usd_micros) and used_usd_micros * 100 >= limit_usd_micros * WARNING_PERCENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """What a member may still spend in a window, according to the ledger. All amounts in micro-dollars.

    spent: settled in the window, less what a moderator's reset deducted; set_aside: reserved by unfinished jobs;
    granted: additional amounts for this window.
    """

    quota: Quota
    window: Window
    granted_usd_micros: int
    spent_usd_micros: int
    set_aside_usd_micros: int

    @property
    def limit_usd_micros(self) -> int | None:
        """Quota plus grants; None when unlimited."""
        if self.quota.amount_usd_micros is None:
            return None
        return self.quota.amount_usd_micros + self.granted_usd_micros

    @property
    def used_usd_micros(self) -> int:
        """What counts against the limit."""
        return self.spent_usd_micros + self.set_aside_usd_micros

    @property
    def available_usd_micros(self) -> int | None:
        """What is left, never negative; None when unlimited."""
        return None if self.limit_usd_micros is None else max(0, self.limit_usd_micros - self.used_usd_micros)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wallet:
    """What a person paid in at Discord and has not spent, over all servers. It has no period and never expires."""

    available_usd_micros: int = 0
    set_aside_usd_micros: int = 0
    """Reserved by unfinished jobs."""

    @property
    def total_usd_micros(self) -> int:
        """What belongs to the person: available or set aside."""
        return self.available_usd_micros + self.set_aside_usd_micros


@dataclass(frozen=True, kw_only=True, slots=True)
class Purchase:
    """One purchase of a Discord consumable, as the wallet keeps it."""

    entitlement_id: int
    sku_id: int
    amount_usd_micros: int
    taken_back_usd_micros: int
    """What a refund took out of the wallet again: at most what was left."""
    credited_at: datetime
    consumed_at: datetime | None
    ended_at: datetime | None
    """When Discord refunded or deleted it."""


def parse_usd(text: str) -> int:
    """Parse `12`, `12.5` or `$0.065` to micro-dollars. Raises ValueError for anything else.

    At most seven digits from 0 to 9 before and six after the point, and before them a dollar sign or not. Blanks around
    the amount are no part of it; blanks inside it are refused.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an amount in dollars: {text[:40]!r}")
    whole, fraction = match.groups(default="")
    return int(whole) * MICROS_PER_USD + int(fraction.ljust(6, "0") or "0")


def format_usd(amount_usd_micros: int) -> str:
    """Format as `$0.08`, `$0.065` or `$1.00`: at least two decimals, more only where they are not 0."""
    sign = "-" if amount_usd_micros < 0 else ""
    whole, fraction = divmod(abs(amount_usd_micros), MICROS_PER_USD)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The operator's limits for an admission. Those of the server's moderators are in the store."""

    default_quota: Quota
    operator_daily_cap_usd_micros: int
    """What all members together may reserve in a UTC day."""
    operator_server_cap_usd_micros: int
    """What one server may reserve and cost in a UTC day, whatever its moderators allow."""
    operator_cost_per_member_usd_micros: int
    """What one member may cost the operator without being charged, over all servers, in a UTC day."""
    operator_cost_daily_cap_usd_micros: int
    """The same over all members."""
    max_running_jobs: int
    """Of one member, over all servers."""
    direct_quota: Quota | None = None
    """What a person may spend outside the servers that have the bot; None where nothing can be ordered there."""
    operator_direct_cap_usd_micros: int = 0
    """What all people together may reserve and cost in a UTC day outside the servers that have the bot."""

    def default_quota_of(self, guild_id: int) -> Quota:
        """Return the quota that applies where no moderator has set one."""
        if guild_id != DIRECT_GUILD_ID:
            return self.default_quota
        return self.direct_quota or Quota(amount_usd_micros=0, period=Period.DAY, source=QuotaSource.SETTINGS)

    def operator_cap_of(self, guild_id: int) -> int:
        """Return what the operator lets one server, or all people outside servers, reserve and cost in a UTC day."""
        if guild_id == DIRECT_GUILD_ID:
            return self.operator_direct_cap_usd_micros
        return self.operator_server_cap_usd_micros

    @property
    def max_running_jobs_per_server(self) -> int:
        """Of all members of a server together: far above normal use, far below what one machine can run."""
        return SERVER_RUNS * self.max_running_jobs


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an order is made: the channel, which for a thread is the one it is in, and that channel's category."""

    channel_id: int
    category_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """The member who makes a request; the role ids decide which role quotas apply, the place which channel caps do."""

    guild_id: int
    user_id: int
    role_ids: tuple[int, ...] = ()
    place: Place | None = None
    """None where no channel is meant: then no channel's cap applies."""

    @property
    def requester(self) -> Requester:
        """The member as one who takes turns with others."""
        return Requester.of(self.guild_id, self.user_id)


class LimitSubject(StrEnum):
    """What a limit set by a moderator applies to."""

    MEMBER = "member"
    ROLE = "role"
    CHANNEL = "channel"
    """A channel or a category of channels."""
    DEFAULT = "default"
    SERVER = "server"


@dataclass(frozen=True, kw_only=True, slots=True)
class SpendLine:
    """One row of a report: what one member spent on one model in one channel in a window."""

    user_id: int | None
    channel_id: int | None
    """None for what was ordered before channels were recorded."""
    model_id: str
    jobs: int
    spent_usd_micros: int
    wallet_usd_micros: int = 0
    """What of it the member's wallet paid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SpendPart:
    """One row of a report by time: what all members spent on one model in part number `part` (from 0) of the window."""

    part: int
    model_id: str
    jobs: int
    spent_usd_micros: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SpendReport:
    """What a server spent, by member and channel, and by time; both have the same total."""

    lines: tuple[SpendLine, ...]
    """By member, channel and model, highest amount first."""
    parts: tuple[SpendPart, ...]
    """By part of the window and model, in order of time; only where something was spent."""


class CostLimit(StrEnum):
    """A limit that the operator is told about when it is reached."""

    MEMBER = "member"
    """What one member may cost the operator without being charged."""
    ALL_MEMBERS = "all members"
    """The same over all members."""
    SERVER = "server"
    """What one server may reserve and cost."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatorCostLine:
    """What one job cost the operator: charged by the provider, but not to the member.

    `ordered_at` decides the day whose limits it counts for. `user_id` is None once the member asked to be forgotten.
    `failure` is None for a job that succeeded: at a price above the published one, or after it had failed
    (`came_late`).
    """

    at: datetime
    ordered_at: datetime
    guild_id: int
    user_id: int | None
    job_id: str
    provider: str
    model_id: str
    amount_usd_micros: int
    failure: FailureReason | None
    came_late: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Cap:
    """The limit of a channel, a server, or all servers together, in a window, and what counts against it."""

    quota: Quota
    window: Window
    spent_usd_micros: int
    set_aside_usd_micros: int
    channel_id: int | None = None
    """The channel or category that it is the limit of."""

    @property
    def used_usd_micros(self) -> int:
        """What counts against the cap."""
        return self.spent_usd_micros + self.set_aside_usd_micros

    @property
    def available_usd_micros(self) -> int | None:
        """What is left, never negative; None when unlimited."""
        cap_usd_micros = self.quota.amount_usd_micros
        return None if cap_usd_micros is None else max(0, cap_usd_micros - self.used_usd_micros)
