"""Checks: what the model predicts of a crowd beside what a simulation showed, and whether they are close enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.model import (
    Bytes,
    Community,
    Kinds,
    Outside,
    book_bytes,
    discord_calls,
    hold_seconds,
    hold_spread,
    looks_per_job,
    rows,
    rush,
    transactions_per_order,
    wait_seconds,
)
from benchmarks.queueing import LogNormal, offered_load, wait_at_random, waits_of
from benchmarks.simulation import Crowd, Observed

COUNTS, TIMES, STEPS, PROCESSOR, MEMORY = 1.1, 1.3, 1.05, 1.5, 2.0
"""So far off, either way, may be: a count, a time by formula, a time by the very same arrivals, processor time, memory.

Processor time because other work on the machine makes the same work dearer. Memory because the one is that of a whole
bot, with its side of Discord and the gaps between objects, and the other what Python holds.
"""

LINES = 20
"""Hours of the size of the simulated one, to see past the chance of a single one."""

ENOUGH_SECONDS = 0.1
"""Two waits that differ by less are the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One thing that was predicted, and what came of it."""

    crowd: str
    what: str
    unit: str
    predicted: float
    simulated: float
    within: float
    """The factor that the ratio may be off, either way."""
    enough: float = 0.0
    """A difference that does not matter, whatever the ratio."""

    @property
    def ratio(self) -> float:
        """The simulated one over the predicted one."""
        if self.predicted == self.simulated:
            return 1.0
        return self.simulated / self.predicted if self.predicted else float("inf")

    @property
    def holds(self) -> bool:
        """Whether they are close enough."""
        return abs(self.simulated - self.predicted) <= self.enough or 1 / self.within <= self.ratio <= self.within


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One of them before it is compared."""

    what: str
    predicted: float
    simulated: float
    within: float = COUNTS
    unit: str = ""
    enough: float = 0.0


def steady(
    name: str, community: Community, observed: Observed, *, kinds: Kinds, outside: Outside, processor_ms: float | None
) -> list[Check]:
    """A busy hour with enough places. `processor_ms` is what an order cost a smaller crowd of the same run."""
    held, waited = hold_seconds(kinds, outside), wait_seconds(community, kinds=kinds, outside=outside)
    per_second = community.peak_pictures_per_second
    busy = offered_load(per_second=per_second, hold_seconds=held)
    found = [
        Prediction(what="a place is held", unit="s", predicted=held, simulated=observed.hold_seconds),
        Prediction(what="places busy", predicted=busy, simulated=observed.mean_places_busy),
        Prediction(
            what="wait, by the formula",
            unit="s",
            predicted=waited,
            simulated=observed.wait_seconds,
            within=TIMES,
            enough=ENOUGH_SECONDS,
        ),
        _same_arrivals(observed, outside),
        Prediction(
            what="length of the line",
            predicted=per_second * waited,
            simulated=observed.mean_line_length,
            within=TIMES,
            enough=ENOUGH_SECONDS * per_second,
        ),
        *_counts(observed, kinds=kinds, outside=outside),
    ]
    if processor_ms is not None:
        found.append(
            Prediction(
                what="processor per order, as in the first",
                unit="ms",
                predicted=processor_ms,
                simulated=observed.processor_ms,
                within=PROCESSOR,
            )
        )
    return [_check(name, each) for each in found]


def formula(name: str, community: Community, *, kinds: Kinds, outside: Outside, pictures: int) -> Check:
    """The formula beside plain lines over many such hours, since one hour tells little about a nearly full line."""
    waits = [
        wait_at_random(
            orders_per_second=community.peak_orders_per_second,
            sizes=community.sizes,
            hold=LogNormal(mean_seconds=hold_seconds(kinds, outside), spread=hold_spread(kinds, outside)),
            places=outside.places,
            jobs=pictures,
            seed=seed,
        )
        for seed in range(LINES)
    ]
    prediction = Prediction(
        what=f"wait, the formula and {LINES} plain lines",
        unit="s",
        predicted=wait_seconds(community, kinds=kinds, outside=outside),
        simulated=_mean(waits),
        within=TIMES,
    )
    return _check(name, prediction)


def rushed(name: str, crowd: Crowd, observed: Observed, *, kinds: Kinds, outside: Outside) -> list[Check]:
    """Far more than the places can take: the line grows for as long as it lasts, then it is worked off."""
    expected = rush(
        per_second=observed.jobs / crowd.lasts_seconds,
        lasts_seconds=crowd.lasts_seconds,
        hold_seconds=hold_seconds(kinds, outside),
        places=outside.places,
    )
    found = [
        Prediction(what="places busy", predicted=outside.places, simulated=observed.mean_places_busy),
        Prediction(what="longest line", predicted=expected.longest_line, simulated=observed.longest_line),
        Prediction(what="wait, mean", unit="s", predicted=expected.wait_seconds, simulated=observed.wait_seconds),
        _same_arrivals(observed, outside),
    ]
    return [_check(name, each) for each in found]


def _check(name: str, prediction: Prediction) -> Check:
    return Check(crowd=name, **asdict(prediction))


def _same_arrivals(observed: Observed, outside: Outside) -> Prediction:
    """What a line does to exactly those who came, step by step: what is left is the service's own doing."""
    waits = waits_of(observed.arrivals, places=outside.places)
    counting = [
        wait for (came_at, _), wait in zip(observed.arrivals, waits, strict=True) if came_at >= observed.warm_up_seconds
    ]
    return Prediction(
        what="wait, the same arrivals",
        unit="s",
        predicted=_mean(counting),
        simulated=observed.wait_seconds,
        within=STEPS,
        enough=ENOUGH_SECONDS,
    )


def _counts(observed: Observed, *, kinds: Kinds, outside: Outside) -> list[Prediction]:
    orders, jobs = observed.commands, observed.jobs
    predicted_rows = asdict(rows(orders, jobs, failing_share=kinds.failing_share))
    simulated_rows = sum(observed.kept.rows[table] for table in predicted_rows)
    found = [
        Prediction(
            what="questions per picture",
            predicted=looks_per_job(kinds, outside).count,
            simulated=observed.looks_per_job,
        ),
        Prediction(
            what="Discord calls per order",
            predicted=discord_calls(jobs / orders),
            simulated=observed.discord_calls_per_order,
        ),
        Prediction(
            what="transactions per order",
            predicted=transactions_per_order(jobs / orders),
            simulated=sum(observed.written.values()) / orders,
        ),
        Prediction(
            what="rows per order", predicted=sum(predicted_rows.values()) / orders, simulated=simulated_rows / orders
        ),
    ]
    if observed.on_file:
        sums, accounts = observed.kept.rows["totals"], observed.kept.rows["accounts"]
        expected_bytes = book_bytes(orders=orders, pictures=jobs, sums=sums, accounts=accounts, each=Bytes())
        found.append(
            Prediction(
                what="bytes on disk per order",
                unit="B",
                predicted=expected_bytes / orders,
                simulated=observed.kept.size_bytes / orders,
            )
        )
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
