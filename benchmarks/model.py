"""The capacity model: from what one of everything costs, what a community of any size needs, and where it meets a wall.

Pure functions. The costs were measured by the commands named beside them, on a machine with two processors; they are
good for comparisons and for orders of magnitude, and a machine of one's own is measured in a few minutes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from benchmarks.queueing import LogNormal, Looks, looks, offered_load, places_for, waiting_seconds
from benchmarks.standins import Delays

HOUR_SECONDS, DAYS_PER_MONTH = 3600.0, 30


# -- who orders ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Community:
    """Everybody whom one bot serves."""

    members: int = 2_000
    servers: int = 1
    ordering_share: float = 0.1
    """Of the members, on one day."""
    orders_each: float = 5.0
    """Of a member who orders, on one day."""
    sizes: Mapping[int, float] = field(default_factory=lambda: {1: 0.7, 2: 0.15, 4: 0.15})
    """Pictures of an order, and the share of orders that want so many."""
    peak_share: float = 0.12
    """Of a day's orders, in its busiest hour."""

    def times(self, factor: int) -> Community:
        """As many such communities."""
        return replace(self, members=self.members * factor, servers=self.servers * factor)

    @property
    def pictures_each(self) -> float:
        """Per order."""
        return sum(size * share for size, share in self.sizes.items())

    @property
    def orders_per_day(self) -> float:
        return self.members * self.ordering_share * self.orders_each

    @property
    def pictures_per_day(self) -> float:
        return self.orders_per_day * self.pictures_each

    @property
    def peak_orders_per_second(self) -> float:
        return self.orders_per_day * self.peak_share / HOUR_SECONDS

    @property
    def peak_pictures_per_second(self) -> float:
        return self.peak_orders_per_second * self.pictures_each


# -- what one of everything costs ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Measured. The scenario of `python -m benchmarks` that says so stands beside each."""

    job_ms: float = 20.7
    """Processor: an order for one picture of 1 MB, from the command to the last edit. `cost_per_job`"""
    job_on_server_ms: float = 24.9
    """The same with the books on PostgreSQL, without the server's own. `cost_on_server`"""
    looks_in_it: float = 2.0
    """So many questions are part of that: its jobs take three seconds."""
    answer_ms: float = 5.0
    """Processor: of that, the command with its answer: 200 a second keep one processor busy. `answering`"""
    look_ms: float = 0.92
    """Processor: one question after a job. `looks`"""
    megabyte_ms: float = 2.66
    """Processor: each further megabyte of a picture. `large_pictures`"""
    rest_mb: float = 82.9
    """Memory of a process that does nothing. `at_rest`"""
    followed_kib: float = 9.1
    """Memory of a job at its provider. `in_flight`"""
    waiting_kib: float = 2.24
    """Memory of a job in line. `waiting`"""
    server_kib: float = 32.9
    """Memory of a server with 50 channels and 30 roles. `servers`"""
    sqlite_per_second: float = 6_770.0
    """Transactions on a file, many callers. `transactions`"""
    postgresql_per_second: float = 686.0
    """The same on a server. `transactions`"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kinds:
    """What is to be made: how long it takes, how large it is, what it costs."""

    seconds: LogNormal = field(default_factory=lambda: LogNormal(mean_seconds=15.0, spread=0.5))
    picture_mb: float = 1.5
    usd: float = 0.08
    failing_share: float = 0.02


@dataclass(frozen=True, kw_only=True, slots=True)
class Outside:
    """What operators have of others: places at the provider, and how quickly everybody answers."""

    places: int = 8
    poll_seconds: float = 2.0
    delays: Delays = field(default_factory=Delays)


# -- per order -------------------------------------------------------------------------------------------------------


def transactions_per_order(pictures: float) -> float:
    """Writes: admitted, accepted, delivered once for the order; begun, running, ended once for each picture."""
    return 3 + 3 * pictures


def looks_per_job(kinds: Kinds, outside: Outside) -> Looks:
    """How often a job is asked after, and how late its end is known."""
    return looks(
        kinds.seconds,
        poll_seconds=outside.poll_seconds,
        sent_seconds=outside.delays.order,
        answer_seconds=outside.delays.look,
    )


def hold_seconds(kinds: Kinds, outside: Outside) -> float:
    """How long a job has its place: sent, made, found out, and (unless it failed) fetched."""
    delays = outside.delays
    late_seconds = looks_per_job(kinds, outside).late_seconds
    fetched_seconds = delays.download * (1 - kinds.failing_share)
    return delays.order + kinds.seconds.mean_seconds + late_seconds + delays.look + fetched_seconds


def hold_spread(kinds: Kinds, outside: Outside) -> float:
    """Its standard deviation over its mean: what comes on top of the making hardly differs."""
    return kinds.seconds.spread * kinds.seconds.mean_seconds / hold_seconds(kinds, outside)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """What the books keep, by table."""

    replies: float
    jobs: float
    pictures: float
    reservations: float
    ledger: float


def picture_ms(kinds: Kinds, outside: Outside, costs: Costs, *, on_server: bool = False) -> float:
    """Processor time of a picture. One that is ordered with others costs somewhat less: they share a card."""
    looked_ms = costs.look_ms * (looks_per_job(kinds, outside).count - costs.looks_in_it)
    job_ms = costs.job_on_server_ms if on_server else costs.job_ms
    return job_ms + looked_ms + costs.megabyte_ms * (kinds.picture_mb - 1)


def rows(orders: float, pictures: float, *, failing_share: float) -> Rows:
    """Rows for so many orders with so many pictures altogether: each is reserved and charged, or given back."""
    return Rows(
        replies=orders,
        jobs=pictures,
        pictures=pictures * (1 - failing_share),
        reservations=pictures,
        ledger=2 * pictures,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Bytes:
    """Of the books in a file, with their indexes; build/capacity.json of a simulation says so by table."""

    order: float = 414.0
    picture: float = 1_312.0
    """Everything that belongs to one picture: job, result, reservation, two rows of the ledger."""
    sum_: float = 39.0
    """One account's sums of a quarter of an hour in which something was ordered, and its share in those of the day."""
    account: float = 72.0
    """Of a member or a server, once."""


PICTURES_STAY_SECONDS = 7_200.0
"""At most: what is older than an hour and not needed goes at the next hourly sweep (see app.py)."""


def pictures_gb(community: Community, *, kinds: Kinds) -> float:
    """What lies in the picture store at the end of a busy time: nearly all of it is in Discord already."""
    return community.peak_pictures_per_second * PICTURES_STAY_SECONDS * kinds.picture_mb / 1000


def book_bytes(*, orders: float, pictures: float, sums: float, accounts: float, each: Bytes) -> float:
    """The size of books with so much in them. What was asked for is forgotten after 30 days, the rows stay."""
    return orders * each.order + pictures * each.picture + sums * each.sum_ + accounts * each.account


# -- at the peak -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Peak:
    """The busiest hour, in steady state."""

    orders_per_second: float
    pictures_per_second: float
    places_busy: float
    line_length: float
    wait_seconds: float
    writes_per_second: float
    looks_per_second: float
    discord_calls_per_second: float
    processors_busy: float
    bandwidth_mbit: float


def peak(community: Community, *, kinds: Kinds, outside: Outside, costs: Costs) -> Peak:
    """What the busiest hour asks for."""
    per_second = community.peak_pictures_per_second
    held = hold_seconds(kinds, outside)
    waited = wait_seconds(community, kinds=kinds, outside=outside)
    return Peak(
        orders_per_second=community.peak_orders_per_second,
        pictures_per_second=per_second,
        places_busy=min(outside.places, offered_load(per_second=per_second, hold_seconds=held)),
        line_length=per_second * waited,
        wait_seconds=waited,
        writes_per_second=community.peak_orders_per_second * transactions_per_order(community.pictures_each),
        looks_per_second=per_second * looks_per_job(kinds, outside).count,
        discord_calls_per_second=community.peak_orders_per_second * discord_calls(community.pictures_each),
        processors_busy=per_second * picture_ms(kinds, outside, costs) / 1000,
        bandwidth_mbit=2 * 8 * per_second * kinds.picture_mb,
    )


def wait_seconds(community: Community, *, kinds: Kinds, outside: Outside) -> float:
    """How long a picture waits for its place in the busiest hour."""
    return waiting_seconds(
        orders_per_second=community.peak_orders_per_second,
        sizes=community.sizes,
        hold_seconds=hold_seconds(kinds, outside),
        places=outside.places,
        spread=hold_spread(kinds, outside),
    )


def discord_calls(pictures: float) -> float:
    """Of one order: the card, two states of each picture (it waits at the provider, it is being made), the end."""
    return 2 + 2 * pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Rush:
    """More than the places can take."""

    longest_line: float
    wait_seconds: float
    """On average, of everybody who came."""
    over_after_seconds: float
    """Until the last of them has a place, from the beginning."""


def rush(*, per_second: float, lasts_seconds: float, hold_seconds: float, places: int) -> Rush:
    """As water in a basin: what comes in above what the places let through waits, and all of it gets through."""
    through = places / hold_seconds
    line = max(0.0, (per_second - through) * lasts_seconds)
    return Rush(
        longest_line=line, wait_seconds=line / through / 2, over_after_seconds=per_second * lasts_seconds / through
    )


def places_wanted(community: Community, *, kinds: Kinds, outside: Outside, within_seconds: float) -> int:
    """The fewest places with which pictures wait no longer than that on average in the busiest hour."""
    return places_for(
        orders_per_second=community.peak_orders_per_second,
        sizes=community.sizes,
        hold_seconds=hold_seconds(kinds, outside),
        spread=hold_spread(kinds, outside),
        within_seconds=within_seconds,
    )


# -- walls -----------------------------------------------------------------------------------------------------------

USABLE_SHARE = 0.6
"""Of a processor or a writer: beyond that answers begin to wait for each other."""

DISCORD_CALLS_PER_SECOND = 50.0
"""Of a bot, over all processes, for everything but answers to commands and edits through their tokens."""

QUESTIONS_AT_ONCE = 32
"""Of one process, at one provider (see watcher.py)."""

SERVERS_PER_SHARD = 2_500
SHARDS_PER_FIVE_SECONDS = 1
IDENTIFIES_PER_DAY = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Wall:
    """Where it ends: so many pictures a second, or dollars a day as pictures a second of the busiest hour."""

    what: str
    pictures_per_second: float
    moved_by: str

    def times(self, community: Community) -> float:
        """How often the community fits in."""
        return self.pictures_per_second / community.peak_pictures_per_second


def walls(
    community: Community, *, kinds: Kinds, outside: Outside, costs: Costs, cap_usd: float, disk_gb: float
) -> list[Wall]:
    """Every wall, nearest first."""
    per_order = community.pictures_each
    alone_ms = picture_ms(kinds, outside, costs)
    at_worker_ms = picture_ms(kinds, outside, costs, on_server=True) - costs.answer_ms
    per_transaction = per_order / transactions_per_order(per_order)
    found = [
        Wall(
            what=f"the operator's cap of ${cap_usd:,.0f} a day",
            pictures_per_second=cap_usd / kinds.usd * community.peak_share / HOUR_SECONDS,
            moved_by="`OPERATOR_DAILY_CAP_USD`",
        ),
        Wall(
            what=f"{outside.places} places at the provider",
            pictures_per_second=outside.places / hold_seconds(kinds, outside),
            moved_by="`KREA_MAX_CONCURRENCY`, once the provider's plan allows it; quicker models; webhooks",
        ),
        Wall(
            what=f"{disk_gb:g} GB for pictures",
            pictures_per_second=disk_gb * 1000 / PICTURES_STAY_SECONDS / kinds.picture_mb,
            moved_by="a larger disk; a sweep that comes sooner",
        ),
        Wall(
            what="one process that does everything",
            pictures_per_second=USABLE_SHARE * 1000 / alone_ms,
            moved_by="PostgreSQL, with workers and gateways",
        ),
        Wall(
            what="one worker of several, on PostgreSQL",
            pictures_per_second=USABLE_SHARE * 1000 / at_worker_ms,
            moved_by="more workers, up to what PostgreSQL takes",
        ),
        Wall(
            what="commands answered by one gateway",
            pictures_per_second=USABLE_SHARE * 1000 / costs.answer_ms * per_order,
            moved_by="more gateways, each with shards of its own",
        ),
        Wall(
            what=f"{QUESTIONS_AT_ONCE} questions to a provider at a time, without webhooks",
            pictures_per_second=QUESTIONS_AT_ONCE / outside.delays.look / looks_per_job(kinds, outside).count,
            moved_by="webhooks and then a larger `KREA_POLL_SECONDS`; more workers",
        ),
        Wall(
            what="posts to log channels, if every server has one",
            pictures_per_second=DISCORD_CALLS_PER_SECOND * per_order,
            moved_by="Discord alone; fewer servers with a log",
        ),
        Wall(
            what="transactions on a file",
            pictures_per_second=USABLE_SHARE * costs.sqlite_per_second * per_transaction,
            moved_by="a quicker disk",
        ),
        Wall(
            what="transactions on one PostgreSQL",
            pictures_per_second=USABLE_SHARE * costs.postgresql_per_second * per_transaction,
            moved_by="a quicker disk and way to it; to give up that one process writes at a time",
        ),
    ]
    return sorted(found, key=lambda wall: wall.pictures_per_second)


def shards(servers: int) -> int:
    """The least that Discord allows."""
    return max(1, math.ceil(servers / SERVERS_PER_SHARD))


def start_seconds(servers: int) -> float:
    """Until the last shard may say who it is."""
    return 5.0 * (math.ceil(shards(servers) / SHARDS_PER_FIVE_SECONDS) - 1)


def memory_mb(*, servers: int, followed: float, waiting: float, costs: Costs) -> float:
    """Of one process with so many servers, jobs at the provider and jobs in line."""
    kib = servers * costs.server_kib + followed * costs.followed_kib + waiting * costs.waiting_kib
    return costs.rest_mb + kib / 1024


def disk_mb_per_month(community: Community, *, each: Bytes) -> float:
    """How much larger the books are a month later, if everybody who ever orders does so in the first one.

    Pictures do not add to that: they stay for two hours at most.
    """
    orders = community.orders_per_day * DAYS_PER_MONTH
    pictures = orders * community.pictures_each
    return book_bytes(orders=orders, pictures=pictures, sums=orders, accounts=community.members, each=each) / 1e6
