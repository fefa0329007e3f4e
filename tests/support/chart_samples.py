"""Charts of every kind for the tests: many bars and few, high and low amounts, and real people's names."""

from __future__ import annotations

import random
from collections.abc import Sequence

from bot.charts.chart import Chart, Label, Row, Stack

MODELS = (
    "Nano Banana 2",
    "Flux 1.1 Pro Ultra",
    "Krea 2 Large",
    "Seedream 4",
    "A name that never ends at all",
    "Others",
)
PEOPLE = tuple(Label(text=name, plain=name) for name in ("Ada", "Bob", "Cy", "Dee", "Eve", "Fay", "Gus", "Hal"))
DAYS_OF_A_WEEK = ("Mon 5", "Tue 6", "Wed 7", "Thu 8", "Fri 9", "Sat 10", "Sun 11")


def a_label(text: str) -> Label:
    return Label(text=text, plain=text)


def a_chart(
    *,
    ticks: Sequence[str] = tuple(str(day + 1) for day in range(31)),
    models: int = 3,
    people: Sequence[Label] = PEOPLE[:3],
    most_usd_micros: int = 1_500_000,
    title: str = "Spending this month",
) -> Chart:
    """Return a chart with bars of at most `most_usd_micros` for each model, and people who share the sum."""
    chance = random.Random(len(ticks) + models)
    stacks = tuple(
        Stack(label=a_label(model), amounts_usd_micros=tuple(chance.randint(0, most_usd_micros) for _ in ticks))
        for model in MODELS[:models]
    )
    total = sum(stack.total_usd_micros for stack in stacks)
    return Chart(
        title=a_label(title),
        subtitle=a_label("2026-10-01 – 2026-10-31 · Europe/Berlin"),
        count=a_label("1,234 pictures"),
        over_time=a_label("By day"),
        ticks=tuple(a_label(tick) for tick in ticks),
        stacks=stacks,
        ranking=a_label("Top members"),
        rows=tuple(Row(label=who, amount_usd_micros=total >> number) for number, who in enumerate(people, 1)),
    )
