"""The ledger against a small pure model: after any steps in any order both agree on every amount and refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from bot.domain.errors import (
    ChannelCapReached,
    MemberCostReached,
    OperatorCapReached,
    OperatorCostCapReached,
    OperatorServerCapReached,
    QuotaExceeded,
    RequestRefused,
    ServerCapReached,
    StillUnderWay,
    TooManyRunning,
    TooMuchAtRisk,
)
from bot.domain.jobs import Failure, FailureReason, JobStatus
from bot.domain.money.quota import Limits, LimitSubject, Member, Period, Place, Quota, Wallet, Window
from bot.domain.money.spendable import BindingLimit, Spendable
from bot.store.core.connection import Connection
from bot.store.tables import jobs
from bot.store.tables.members import privacy
from bot.store.tables.money import adjustments, balances, operator_costs, spendable, transactions, wallets
from bot.store.tables.money import limits as limits_table
from tests.support.databases import new_database
from tests.support.store_samples import a_command, an_image

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]
CHANNEL, OTHER_CHANNEL, CATEGORY = 11, 12, 10
PLACES = [
    None,
    Place(channel_id=CHANNEL, category_id=CATEGORY),
    Place(channel_id=OTHER_CHANNEL, category_id=CATEGORY),
    Place(channel_id=13),
]
"""Where an order is made; of server 1 and, to keep it simple, of server 2 as well, whose ids are 100 higher."""
MEMBERS = [Member(guild_id=1, user_id=1, role_ids=(5,)), Member(guild_id=1, user_id=2), Member(guild_id=2, user_id=1)]
STARTS = [
    datetime(2026, 3, 8, 4, 30, tzinfo=UTC),  # New York springs forward
    datetime(2026, 3, 28, 22, 40, tzinfo=UTC),  # Berlin springs forward
    datetime(2026, 10, 3, 13, 0, tzinfo=UTC),  # Lord Howe, by half an hour
    datetime(2026, 11, 1, 3, 50, tzinfo=UTC),  # New York falls back
    datetime(2026, 12, 31, 22, 0, tzinfo=UTC),
]
OPERATOR_LIMITS = Limits(
    default_quota=Quota(amount_usd_micros=500, period=Period.DAY),
    operator_daily_cap_usd_micros=1_200,
    operator_server_cap_usd_micros=900,
    operator_cost_per_member_usd_micros=250,
    operator_cost_daily_cap_usd_micros=160,
    max_running_jobs=7,
)
SURCHARGE = 7
"""What a provider charges above the price now and then."""
AMOUNTS = st.sampled_from([0, 1, 80, 99, 100, 250, 499, 500, 501])
PRICES = st.sampled_from([80, 100, 120, 0, 1, 250, 499, 500, 501])

SHOW_WHAT_IS_DONE = """
UPDATE replies SET delivery = 'delivered'
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE reply_id = replies.id AND finished_at IS NULL)
"""


WAS_SHOWN = """
SELECT count(*) FROM jobs JOIN replies ON replies.id = reply_id WHERE jobs.id = ? AND delivery <> 'pending'
"""


@dataclass
class Entry:
    """A job as the model sees it."""

    member: Member
    reserved_at: datetime
    held: int
    wallet: int = 0
    """The part of it that the wallet pays, after the other part."""
    place: Place | None = None
    spent: int = 0
    spent_of_wallet: int = 0
    house: int = 0
    forgiven: bool = False
    open: bool = True
    lost_at: datetime | None = None
    surcharge: int = 0
    nameless: bool = False
    followed: bool = False
    may_cost: int = 0
    """What it may cost the operator while it is followed."""

    @property
    def held_of_wallet(self) -> int:
        return self.wallet if self.open else 0

    @property
    def used_of_wallet(self) -> int:
        return self.held_of_wallet + self.spent_of_wallet


@dataclass
class Bought:
    """A purchase as the model sees it."""

    user_id: int
    amount: int
    taken_back: int = 0
    ended: bool = False
    nameless: bool = False
    """The wallet was empty when its owner asked to be forgotten: nobody can tell any more whose it was."""


@dataclass
class Grant:
    """A one-off extra as the model sees it."""

    member: Member
    granted_at: datetime
    amount: int
    nameless: bool = False


@dataclass
class Farewell:
    """A member who asked to be forgotten: what counts for them only until the windows of that moment have ended."""

    guild_id: int
    at: datetime
    rows: list[Entry | Grant]


@dataclass
class Model:
    """A model of the ledger made of lists and calendar dates."""

    entries: dict[str, Entry] = field(default_factory=dict[str, Entry])
    grants: list[Grant] = field(default_factory=list[Grant])
    purchases: dict[int, Bought] = field(default_factory=dict[int, Bought])
    farewells: list[Farewell] = field(default_factory=list[Farewell])
    limits: dict[tuple[int, LimitSubject, int | None], Quota] = field(default_factory=dict)
    zones: dict[int, str] = field(default_factory=dict[int, str])

    def quota_of(self, member: Member) -> Quota:
        def limit(subject: LimitSubject, subject_id: int | None) -> Quota | None:
            return self.limits.get((member.guild_id, subject, subject_id))

        by_role = [quota for role_id in member.role_ids if (quota := limit(LimitSubject.ROLE, role_id))]
        own, default = limit(LimitSubject.MEMBER, member.user_id), limit(LimitSubject.DEFAULT, None)
        return own or (by_role[0] if by_role else None) or default or OPERATOR_LIMITS.default_quota

    def same_period(self, guild_id: int, period: Period, one: datetime, other: datetime) -> bool:
        zone = ZoneInfo(self.zones.get(guild_id, "UTC"))
        here, there = one.astimezone(zone).date(), other.astimezone(zone).date()
        match period:
            case Period.DAY:
                return here == there
            case Period.WEEK:
                return here.isocalendar()[:2] == there.isocalendar()[:2]
            case Period.MONTH:
                return (here.year, here.month) == (there.year, there.month)

    def of_member(self, member: Member, now: datetime) -> list[Entry]:
        period = self.quota_of(member).period
        return [
            entry
            for entry in self.entries.values()
            if entry.member == member
            and not entry.nameless
            and self.same_period(member.guild_id, period, entry.reserved_at, now)
        ]

    def figures(self, member: Member, now: datetime) -> tuple[int, int, int]:
        """Return the amounts granted, spent and reserved."""
        period, mine = self.quota_of(member).period, self.of_member(member, now)
        granted = sum(
            grant.amount
            for grant in self.grants
            if grant.member == member
            and not grant.nameless
            and self.same_period(member.guild_id, period, grant.granted_at, now)
        )
        spent = sum(e.spent - e.spent_of_wallet for e in mine if not e.forgiven)
        return granted, spent, sum(e.held - e.held_of_wallet for e in mine)

    def in_wallet(self, user_id: int) -> Wallet:
        mine = [e for e in self.entries.values() if e.member.user_id == user_id]
        paid_in = sum(b.amount - b.taken_back for b in self.purchases.values() if b.user_id == user_id)
        held, used = sum(e.held_of_wallet for e in mine), sum(e.used_of_wallet for e in mine)
        return Wallet(available_usd_micros=paid_in - used, set_aside_usd_micros=held)

    def room(self, member: Member, now: datetime) -> int:
        """Return what an order may cost before the wallet has to pay."""
        left = self.left(member, now)
        caps = [self.left_for_server(member.guild_id, now), self.left_for_operator(now)]
        return min(caps if left is None else [left, *caps])

    def forget(self, user_id: int, now: datetime) -> None:
        if not self.in_wallet(user_id).total_usd_micros:
            for bought in self.purchases.values():
                bought.nameless = bought.nameless or bought.user_id == user_id
        for member in (member for member in MEMBERS if member.user_id == user_id):
            rows = [row for row in (*self.entries.values(), *self.grants) if row.member == member]
            self.farewells.append(Farewell(guild_id=member.guild_id, at=now, rows=rows))

    def sweep(self, now: datetime) -> None:
        for farewell in self.farewells:
            if not any(self.same_period(farewell.guild_id, period, farewell.at, now) for period in Period):
                for row in farewell.rows:
                    row.nameless = True

    def left(self, member: Member, now: datetime) -> int | None:
        amount = self.quota_of(member).amount_usd_micros
        granted, spent, held = self.figures(member, now)
        return None if amount is None else max(0, amount + granted - spent - held)

    def left_in_server(self, guild_id: int, now: datetime) -> int | None:
        cap = self.limits.get((guild_id, LimitSubject.SERVER, None))
        if cap is None or cap.amount_usd_micros is None:
            return None
        used = sum(
            entry.held + entry.spent
            for entry in self.entries.values()
            if entry.member.guild_id == guild_id and self.same_period(guild_id, cap.period, entry.reserved_at, now)
        )
        return max(0, cap.amount_usd_micros - used)

    def left_in_channel(self, guild_id: int, channel_id: int | None, now: datetime) -> int | None:
        cap = self.limits.get((guild_id, LimitSubject.CHANNEL, channel_id)) if channel_id else None
        if cap is None or cap.amount_usd_micros is None:
            return None
        used = sum(
            entry.held + entry.spent
            for entry in self.entries.values()
            if entry.place is not None
            and channel_id in (entry.place.channel_id, entry.place.category_id)
            and self.same_period(guild_id, cap.period, entry.reserved_at, now)
        )
        return max(0, cap.amount_usd_micros - used)

    def of_today(self, now: datetime) -> list[Entry]:
        return [e for e in self.entries.values() if e.reserved_at.date() == now.date()]

    def left_for_operator(self, now: datetime) -> int:
        today = self.of_today(now)
        excess = sum(e.house + e.may_cost for e in today) - OPERATOR_LIMITS.operator_cost_daily_cap_usd_micros
        used = sum(e.held + e.spent - e.used_of_wallet for e in today) + max(0, excess)
        return max(0, OPERATOR_LIMITS.operator_daily_cap_usd_micros - used)

    def left_for_server(self, guild_id: int, now: datetime) -> int:
        today = [e for e in self.of_today(now) if e.member.guild_id == guild_id]
        used = sum(e.held + e.spent - e.used_of_wallet + e.house + e.may_cost for e in today)
        return max(0, OPERATOR_LIMITS.operator_server_cap_usd_micros - used)

    def cost_of(self, user_id: int, now: datetime) -> int:
        return sum(e.house for e in self.of_today(now) if e.member.user_id == user_id)

    def cost_refusal(self, user_id: int, now: datetime) -> type[Exception] | None:
        """Return why a member gets nothing more today, however little of theirs is running."""
        cost = self.cost_of(user_id, now)
        if cost and cost >= OPERATOR_LIMITS.operator_cost_per_member_usd_micros:
            return MemberCostReached
        cost_of_all = sum(e.house for e in self.of_today(now))
        if cost and cost_of_all >= OPERATOR_LIMITS.operator_cost_daily_cap_usd_micros:
            return OperatorCostCapReached
        return None

    def refusal(self, member: Member, place: Place | None, amounts: list[int], now: datetime) -> type[Exception] | None:
        asked, cost = sum(amounts), self.cost_of(member.user_id, now)
        at_work = [e for e in self.entries.values() if e.open and e.member.user_id == member.user_id]
        running = sum(e.lost_at is None or now - e.lost_at <= timedelta(minutes=15) for e in at_work)
        left, left_in_server = self.left(member, now), self.left_in_server(member.guild_id, now)
        if reached := self.cost_refusal(member.user_id, now):
            return reached
        if running >= OPERATOR_LIMITS.max_running_jobs:
            return TooManyRunning
        followed = [e for e in self.entries.values() if e.followed and e.member.user_id == member.user_id]
        if cost or followed or any(e.lost_at for e in at_work):
            at_risk = cost + sum(e.held for e in at_work) + sum(e.may_cost for e in followed) + sum(amounts[:-1])
            if at_risk >= OPERATOR_LIMITS.operator_cost_per_member_usd_micros:
                return TooMuchAtRisk
        wallet = self.in_wallet(member.user_id).available_usd_micros
        limits: list[tuple[int | None, type[Exception]]] = [
            (None if left is None else left + wallet, QuotaExceeded),
            (self.left_in_channel(member.guild_id, place.channel_id if place else None, now), ChannelCapReached),
            (self.left_in_channel(member.guild_id, place.category_id if place else None, now), ChannelCapReached),
            (left_in_server, ServerCapReached),
            (self.left_for_server(member.guild_id, now) + wallet, OperatorServerCapReached),
            (self.left_for_operator(now) + wallet, OperatorCapReached),
        ]
        finite = [(amount, refusal) for amount, refusal in limits if amount is not None]
        least, refusal = min(finite, key=lambda limit: limit[0])  # the first of those that leave the same
        return refusal if asked > least else None


def ids_of(guild_id: int) -> int:
    """Return what is added to the ids of channels in a server: ids are unique over all servers."""
    return 100 * (guild_id - 1)


def in_server(guild_id: int, place: Place | None) -> Place | None:
    if place is None:
        return None
    category_id = None if place.category_id is None else place.category_id + ids_of(guild_id)
    return Place(channel_id=place.channel_id + ids_of(guild_id), category_id=category_id)


class LedgerMachine(RuleBasedStateMachine):
    engine = "sqlite"
    open_jobs = Bundle("open_jobs")
    lost_jobs = Bundle("lost_jobs")
    followed_jobs = Bundle("followed_jobs")
    charged_jobs = Bundle("charged_jobs")

    def __init__(self) -> None:
        super().__init__()
        self.database = new_database(self.engine)
        self.connection = self.database.connection
        self.model = Model()
        self.now = STARTS[0]

    def write(self, work: Callable[[Connection], Any]) -> Any:
        return self.database.write_now(work)

    @property
    def change(self) -> dict[str, Any]:
        return {"actor_id": 99, "reason": None, "now": self.now}

    def terms(self, member: Member) -> limits_table.Terms:
        return limits_table.terms_for(self.connection, member, default=OPERATOR_LIMITS.default_quota)

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: datetime) -> None:
        self.now = start

    @rule(step=st.sampled_from([timedelta(minutes=1), timedelta(minutes=20), timedelta(hours=7), timedelta(days=9)]))
    def wait(self, step: timedelta) -> None:
        self.now += step

    @rule(guild_id=st.sampled_from([1, 2]), period=st.sampled_from(Period), early=st.booleans())
    def wait_for_the_end_of_a_period(self, guild_id: int, period: Period, early: bool) -> None:
        end = Window.containing(self.now, period, ZoneInfo(self.model.zones.get(guild_id, "UTC"))).end
        self.now = max(self.now, end - timedelta(microseconds=early))

    @rule(guild_id=st.sampled_from([1, 2]), zone=st.sampled_from(ZONES))
    def set_time_zone(self, guild_id: int, zone: str) -> None:
        self.write(lambda connection: limits_table.set_time_zone(connection, guild_id, ZoneInfo(zone), **self.change))
        self.model.zones[guild_id] = zone

    @rule(
        guild_id=st.sampled_from([1, 2]),
        subject=st.sampled_from(
            [
                (LimitSubject.MEMBER, 1),
                (LimitSubject.ROLE, 5),
                (LimitSubject.DEFAULT, None),
                (LimitSubject.SERVER, None),
                (LimitSubject.CHANNEL, CHANNEL),
                (LimitSubject.CHANNEL, CATEGORY),
            ]
        ),
        amount=st.none() | AMOUNTS,
        period=st.sampled_from(Period),
        remove=st.booleans(),
    )
    def set_limit(
        self, guild_id: int, subject: tuple[LimitSubject, int | None], amount: int | None, period: Period, remove: bool
    ) -> None:
        quota = None if remove else Quota(amount_usd_micros=amount, period=period)
        what, subject_id = subject
        if what is LimitSubject.CHANNEL and subject_id is not None:
            subject_id += ids_of(guild_id)
        self.write(
            lambda connection: limits_table.set_limit(connection, guild_id, what, subject_id, quota, **self.change)
        )
        if quota is None:
            self.model.limits.pop((guild_id, what, subject_id), None)
        else:
            self.model.limits[(guild_id, what, subject_id)] = quota

    @rule(
        target=open_jobs,
        member=st.sampled_from(MEMBERS),
        place=st.sampled_from(PLACES),
        amounts=st.lists(PRICES, min_size=1, max_size=3),
    )
    def admit(self, member: Member, place: Place | None, amounts: list[int]) -> Any:
        return self.order(member, amounts, place)

    @rule(target=open_jobs, member=st.sampled_from(MEMBERS), too_much=st.booleans())
    def admit_what_is_left(self, member: Member, too_much: bool) -> Any:
        left = self.model.left(member, self.now)
        return self.order(member, [500 if left is None else left + too_much])

    @rule(target=open_jobs, member=st.sampled_from(MEMBERS), too_much=st.booleans())
    def admit_what_is_left_with_the_wallet(self, member: Member, too_much: bool) -> Any:
        left = self.model.room(member, self.now) + self.model.in_wallet(member.user_id).available_usd_micros
        return self.order(member, [left + too_much])

    @rule(target=open_jobs, member=st.sampled_from(MEMBERS), too_much=st.booleans())
    def admit_what_the_server_has_left(self, member: Member, too_much: bool) -> Any:
        left = self.model.left_in_server(member.guild_id, self.now)
        return self.order(member, [500 if left is None else left + too_much])

    @rule(
        target=open_jobs,
        place=st.sampled_from(PLACES[1:3]),
        by_category=st.booleans(),
        too_much=st.booleans(),
    )
    def admit_what_the_channel_has_left(self, place: Place, by_category: bool, too_much: bool) -> Any:
        channel_id = place.category_id if by_category else place.channel_id
        left = self.model.left_in_channel(1, channel_id, self.now)
        return self.order(MEMBERS[1], [500 if left is None else left + too_much], place)

    def order(self, member: Member, amounts: list[int], place: Place | None = None) -> Any:
        reply = a_command(*amounts, member=member, now=self.now)
        place = in_server(member.guild_id, place)
        expected = self.model.refusal(member, place, amounts, self.now)
        orders_there = replace(member, place=place)
        wallet = self.model.in_wallet(member.user_id).available_usd_micros
        available = {
            QuotaExceeded: (self.model.left(member, self.now) or 0) + wallet,
            ServerCapReached: self.model.left_in_server(member.guild_id, self.now),
            OperatorServerCapReached: self.model.left_for_server(member.guild_id, self.now) + wallet,
        }
        foreseen = self.foreseen(orders_there, amounts)
        try:
            self.write(
                lambda connection: transactions.admit(
                    connection, member=orders_there, reply=reply, limits=OPERATOR_LIMITS, now=self.now
                )
            )
        except RequestRefused as refusal:
            facts = vars(refusal)
            assert type(refusal) is expected  # noqa: PT017 - both outcomes are right, each at its time
            assert (type(refusal), facts) == foreseen  # noqa: PT017
            if isinstance(refusal, ChannelCapReached):
                left = self.model.left_in_channel(member.guild_id, refusal.channel_id, self.now)
                assert (refusal.asked_usd_micros, refusal.available_usd_micros) == (sum(amounts), left)  # noqa: PT017
            if type(refusal) in available:
                assert facts["asked_usd_micros"] == sum(amounts)
                assert facts["available_usd_micros"] == available[type(refusal)]  # noqa: PT017
            assert facts.get("resets_at", datetime.max.replace(tzinfo=UTC)) > self.now
            return multiple()
        assert expected is foreseen is None
        for job in reply.jobs:
            price, room = job.reserved_usd_micros, self.model.room(member, self.now)
            self.model.entries[job.id] = Entry(
                member=member, reserved_at=self.now, held=price, wallet=max(0, price - room), place=place
            )
        self.write(lambda connection: jobs.accept(connection, reply.id, message_id=None))
        return multiple(*(job.id for job in reply.jobs))

    def foreseen(self, member: Member, amounts: list[int]) -> tuple[type[Exception], dict[str, Any]] | None:
        """Return the refusal that a command would meet, asked without ordering."""
        try:
            transactions.check_admission(
                self.connection, member=member, amounts_usd_micros=amounts, limits=OPERATOR_LIMITS, now=self.now
            )
        except RequestRefused as refusal:
            return type(refusal), vars(refusal)
        return None

    @rule(
        target=charged_jobs,
        job_id=consumes(open_jobs),
        part=st.sampled_from([0, 0.3, 1]),
        house=st.sampled_from([0, SURCHARGE]),
    )
    def succeed(self, job_id: str, part: float, house: int) -> str:
        self.run(job_id)
        entry = self.model.entries[job_id]
        charged = int(entry.held * part)
        work = lambda connection: transactions.succeed(  # noqa: E731
            connection,
            job_id,
            charged_usd_micros=charged,
            operator_cost_usd_micros=house,
            images=[an_image()],
            took_seconds=None,
            now=self.now,
        )
        assert self.write(work) is not None
        assert self.write(work) is None  # the same update again
        entry.spent_of_wallet = max(0, charged - (entry.held - entry.wallet))
        entry.spent, entry.house, entry.held, entry.open = charged, house, 0, False
        entry.surcharge = house
        return job_id

    @rule(job_id=consumes(charged_jobs))
    def lose_images(self, job_id: str) -> None:
        """Lose the images of a job, and give its charge back unless they were shown before."""
        entry = self.model.entries[job_id]
        is_shown = self.connection.execute(WAS_SHOWN, (job_id,)).fetchone()[0] > 0
        work = partial(transactions.lose_images, job_id=job_id, now=self.now)
        assert (self.write(work) is None) == is_shown
        assert self.write(work) is None
        if not is_shown:
            entry.house += entry.spent
            entry.spent = entry.spent_of_wallet = 0

    @rule(target=lost_jobs, job_id=consumes(open_jobs))
    def lose(self, job_id: str) -> str:
        """Lose the answer to an order: it is in doubt from now on."""
        self.submit(job_id)
        assert self.write(lambda connection: jobs.mark_uncertain(connection, job_id))
        self.model.entries[job_id].lost_at = self.now
        return job_id

    @rule(job_id=consumes(open_jobs) | consumes(lost_jobs), is_costly=st.booleans())
    def fail(self, job_id: str, is_costly: bool) -> None:
        house = self.model.entries[job_id].held if is_costly else 0
        failure = Failure(reason=FailureReason.TIMED_OUT)
        work = lambda connection: transactions.fail(  # noqa: E731
            connection, job_id, failure, operator_cost_usd_micros=house, now=self.now
        )
        assert self.write(work) is not None
        assert self.write(work) is None
        entry = self.model.entries[job_id]
        entry.house, entry.held, entry.open = house, 0, False

    @rule(target=followed_jobs, job_id=consumes(lost_jobs))
    def give_up(self, job_id: str) -> str:
        """Release the reservation of an order in doubt, which is followed from then on."""
        failure, until = Failure(reason=FailureReason.OUTCOME_UNKNOWN), self.now + timedelta(hours=2)
        work = partial(transactions.fail, job_id=job_id, failure=failure, now=self.now, follow_until=until)
        assert self.write(work) is not None
        assert self.write(work) is None
        entry = self.model.entries[job_id]
        entry.may_cost, entry.held, entry.open, entry.followed = entry.held, 0, False, True
        return job_id

    @rule(job_id=consumes(followed_jobs), comes=st.booleans(), is_costly=st.booleans())
    def end_follow(self, job_id: str, comes: bool, is_costly: bool) -> None:
        """Bring the image of a job that is followed, or find out that there is none."""
        entry = self.model.entries[job_id]
        cost = entry.may_cost if is_costly else 0
        if comes:
            found = partial(jobs.mark_found, job_id=job_id, remote_id=job_id, follow_until=self.now)
            assert self.write(found) is not None
            images = [an_image()]
            work = partial(
                transactions.deliver_late, job_id=job_id, operator_cost_usd_micros=cost, images=images, now=self.now
            )
        else:
            work = partial(transactions.end_follow, job_id=job_id, operator_cost_usd_micros=cost, now=self.now)
        assert self.write(work) is not None
        assert self.write(work) is None
        entry.house, entry.may_cost, entry.followed = cost, 0, False

    @rule(job_id=consumes(open_jobs), is_running=st.booleans())
    def cancel(self, job_id: str, is_running: bool) -> None:
        if is_running:
            self.run(job_id)
        expected = JobStatus.RUNNING if is_running else JobStatus.QUEUED
        work = lambda connection: transactions.cancel(connection, job_id, expected=expected, now=self.now)  # noqa: E731
        assert self.write(work) is not None
        assert self.write(work) is None
        entry = self.model.entries[job_id]
        entry.held, entry.open = 0, False

    def run(self, job_id: str) -> None:
        self.submit(job_id)
        assert self.write(lambda connection: jobs.mark_running(connection, job_id, remote_id=job_id))

    def submit(self, job_id: str) -> None:
        begin = partial(jobs.begin_submission, now=self.now, deadline_at=self.now, webhook_token=None)
        assert self.write(lambda connection: begin(connection, job_id))

    @rule(member=st.sampled_from(MEMBERS), amount=AMOUNTS)
    def grant(self, member: Member, amount: int) -> None:
        default = OPERATOR_LIMITS.default_quota
        self.write(lambda connection: adjustments.grant(connection, member, amount, default=default, **self.change))
        self.model.grants.append(Grant(member=member, granted_at=self.now, amount=amount))

    @rule(member=st.sampled_from(MEMBERS))
    def reset(self, member: Member) -> None:
        default = OPERATOR_LIMITS.default_quota
        after = self.write(lambda connection: adjustments.reset(connection, member, default=default, **self.change))
        assert after.spent_usd_micros == 0
        for entry in self.model.of_member(member, self.now):
            entry.forgiven = entry.forgiven or not entry.open

    @rule(user_id=st.sampled_from([1, 2]), entitlement_id=st.integers(1, 6), amount=PRICES)
    def buy(self, user_id: int, entitlement_id: int, amount: int) -> None:
        """Credit a purchase, or one that was credited before, or that was refunded before it was seen."""
        work = partial(
            wallets.credit,
            entitlement_id=entitlement_id,
            user_id=user_id,
            sku_id=3,
            amount_usd_micros=amount,
            now=self.now,
        )
        assert (self.write(work) is not None) == (entitlement_id not in self.model.purchases)
        assert self.write(work) is None
        self.model.purchases.setdefault(entitlement_id, Bought(user_id=user_id, amount=amount))

    @rule(user_id=st.sampled_from([1, 2]), entitlement_id=st.integers(1, 6))
    def refund(self, user_id: int, entitlement_id: int) -> None:
        bought = self.model.purchases.setdefault(entitlement_id, Bought(user_id=user_id, amount=0))
        work = partial(wallets.take_back, entitlement_id=entitlement_id, user_id=user_id, sku_id=3, now=self.now)
        left = 0 if bought.nameless else self.model.in_wallet(bought.user_id).available_usd_micros
        taken_back = self.write(work)
        assert (taken_back is None) == bought.ended
        assert self.write(work) is None
        if taken_back is not None:
            bought.ended, bought.taken_back = True, min(left, bought.amount)
            assert taken_back.taken_back_usd_micros == bought.taken_back

    @rule(user_id=st.sampled_from([1, 2]))
    def forget(self, user_id: int) -> None:
        self.connection.execute(SHOW_WHAT_IS_DONE)
        work = partial(privacy.forget_member, user_id=user_id, now=self.now)
        under_way = [entry for entry in self.model.entries.values() if entry.open or entry.followed]
        if any(entry.member.user_id == user_id for entry in under_way):
            with pytest.raises(StillUnderWay):
                self.write(work)
            return
        self.write(work)
        self.model.forget(user_id, self.now)

    @rule()
    def sweep(self) -> None:
        self.connection.execute(SHOW_WHAT_IS_DONE)
        self.write(partial(privacy.forget_old, now=self.now))
        self.model.sweep(self.now)

    @invariant()
    def every_balance_is_the_models(self) -> None:
        for member in MEMBERS:
            terms = self.terms(member)
            window = balances.window_of(terms, terms.quota, self.now)
            place = in_server(member.guild_id, PLACES[len(self.model.entries) % len(PLACES)])
            now = self.spendable_at(member, place)
            balance = balances.balance_in(self.connection, member, terms.quota, window)
            assert now.balance == balance
            figures = (balance.granted_usd_micros, balance.spent_usd_micros, balance.set_aside_usd_micros)
            assert figures == self.model.figures(member, self.now)
            assert balances.wallet_of(self.connection, member.user_id) == self.model.in_wallet(member.user_id)
            assert now.wallet == self.model.in_wallet(member.user_id)
            assert balance.available_usd_micros == self.model.left(member, self.now)
            assert (now.paused_until is None) == (self.model.cost_refusal(member.user_id, self.now) is None)
            cap = now.caps[BindingLimit.OPERATOR_SERVER_CAP]
            assert cap.available_usd_micros == self.model.left_for_server(member.guild_id, self.now)
            assert now.caps[BindingLimit.OPERATOR_CAP] == balances.operator_cap(
                self.connection, OPERATOR_LIMITS, now=self.now
            )
            assert now.caps.get(BindingLimit.SERVER_CAP) == balances.server_cap(
                self.connection, member.guild_id, now=self.now
            )
        for guild_id in (1, 2):
            for cap in balances.caps_of_channels(self.connection, guild_id, now=self.now):
                left = self.model.left_in_channel(guild_id, cap.channel_id, self.now)
                assert cap.available_usd_micros == left
        cap = balances.operator_cap(self.connection, OPERATOR_LIMITS, now=self.now)
        assert cap.available_usd_micros == self.model.left_for_operator(self.now)
        house = sum(entry.house for entry in self.model.entries.values())
        assert sum(line.amount_usd_micros for line in operator_costs.operator_cost_lines(self.connection)) == house
        assert not self.connection.in_transaction

    def spendable_at(self, member: Member, place: Place | None) -> Spendable:
        """Return what the member may spend there, and see that the caps of the place are what moderators see."""
        found = spendable.spendable(self.connection, replace(member, place=place), limits=OPERATOR_LIMITS, now=self.now)
        for limit, channel_id in (
            (BindingLimit.CHANNEL_CAP, place.channel_id if place else None),
            (BindingLimit.CATEGORY_CAP, place.category_id if place else None),
        ):
            cap = None
            if channel_id is not None:
                cap = balances.channel_cap(self.connection, member.guild_id, channel_id, now=self.now)
            assert found.caps.get(limit) == cap
        return found

    @invariant()
    def the_bill_of_a_day_is_at_most_both_caps(self) -> None:
        today = self.model.of_today(self.now)
        both = OPERATOR_LIMITS.operator_daily_cap_usd_micros + OPERATOR_LIMITS.operator_cost_daily_cap_usd_micros
        # A wallet pays nothing for a job that fails, and what it had set aside was not held against the caps.
        of_wallets = sum(e.wallet for e in today if e.house > e.surcharge)
        assert sum(e.spent - e.spent_of_wallet + e.house - e.surcharge for e in today) <= both + of_wallets

    def teardown(self) -> None:
        try:
            assert self.database.findings() == []
        finally:
            self.database.close()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)


class LedgerMachineOnPostgres(LedgerMachine):
    engine = "postgresql"


TestLedgerOnPostgres = LedgerMachineOnPostgres.TestCase
TestLedgerOnPostgres.settings = settings(max_examples=10, stateful_step_count=40, deadline=None)


@pytest.mark.torture
class TestLedgerForLong(LedgerMachine.TestCase):
    settings = settings(max_examples=2_000, stateful_step_count=50, deadline=None)
