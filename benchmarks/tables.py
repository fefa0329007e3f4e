"""Tables: the capacity model and what became of its predictions, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmarks.checks import Check
from benchmarks.model import (
    Bytes,
    Community,
    Costs,
    Kinds,
    Outside,
    disk_mb_per_month,
    memory_mb,
    peak,
    pictures_gb,
    shards,
    wait_seconds,
    walls,
)

SHORTEST_SECONDS = 0.1
"""Below that a wait is none, and the formula no good: where most places are idle it says too little."""


def need_table(communities: Sequence[Community], *, kinds: Kinds, costs: Costs, places: Sequence[int]) -> str:
    """What each size asks for in its busiest hour, with as many places as it needs."""
    outsides = [Outside(places=count) for count in places]
    peaks = [
        peak(each, kinds=kinds, outside=found, costs=costs) for each, found in zip(communities, outsides, strict=True)
    ]
    with_eight = [wait_seconds(each, kinds=kinds, outside=Outside()) for each in communities]
    rows: list[tuple[str, list[str]]] = [
        ("members", [f"{each.members:,}" for each in communities]),
        ("servers, shards at least", [f"{each.servers:,}, {shards(each.servers)}" for each in communities]),
        ("orders a day", [f"{each.orders_per_day:,.0f}" for each in communities]),
        ("pictures a day", [f"{each.pictures_per_day:,.0f}" for each in communities]),
        (f"dollars a day, at ${kinds.usd:.2f}", [_number(each.pictures_per_day * kinds.usd) for each in communities]),
        ("pictures a second, busiest hour", [_number(each.pictures_per_second) for each in peaks]),
        ("places busy", [_number(each.places_busy) for each in peaks]),
        ("places wanted, wait of a picture", [
            f"{count}, {_number(each.wait_seconds)} s" for count, each in zip(places, peaks, strict=True)
        ]),
        ("wait with 8 places", [_wait(seconds) for seconds in with_eight]),
        ("questions to the provider", [f"{_number(each.looks_per_second)} /s" for each in peaks]),
        ("transactions", [f"{_number(each.writes_per_second)} /s" for each in peaks]),
        ("calls to Discord", [f"{_number(each.discord_calls_per_second)} /s" for each in peaks]),
        ("processors busy", [_number(each.processors_busy) for each in peaks]),
        ("pictures in and out", [f"{_number(each.bandwidth_mbit)} Mbit/s" for each in peaks]),
        ("pictures on disk at most", [f"{_number(pictures_gb(each, kinds=kinds))} GB" for each in communities]),
        ("memory, all in one process", [
            f"{_number(_memory(one, found.places_busy, found.line_length, costs))} MB"
            for one, found in zip(communities, peaks, strict=True)
        ]),
        ("the books grow", [f"{_number(disk_mb_per_month(each, each=Bytes()))} MB a month" for each in communities]),
    ]  # fmt: skip
    return _table(["", "1×", "10×", "100×"][: len(communities) + 1], [[what, *cells] for what, cells in rows])


def wall_table(
    community: Community, *, kinds: Kinds, outside: Outside, costs: Costs, cap_usd: float, disk_gb: float
) -> str:
    """Every wall, nearest first, as multiples of the community."""
    found = walls(community, kinds=kinds, outside=outside, costs=costs, cap_usd=cap_usd, disk_gb=disk_gb)
    cells = [
        [wall.what, f"{_number(wall.pictures_per_second)} /s", f"{_number(wall.times(community))}×", wall.moved_by]
        for wall in found
    ]
    return _table(["wall", "pictures", "of the community", "what moves it"], cells)


def check_table(checks: Sequence[Check]) -> str:
    """Predicted beside simulated."""
    cells = [
        [
            check.crowd,
            check.what,
            f"{_number(check.predicted)} {check.unit}".strip(),
            f"{_number(check.simulated)} {check.unit}".strip(),
            f"{check.ratio:.2f}",
            f"{check.within:g}",
            "yes" if check.holds else "**no**",
        ]
        for check in checks
    ]
    return _table(["crowd", "figure", "predicted", "simulated", "ratio", "within", "holds"], cells)


def _memory(community: Community, followed: float, waiting: float, costs: Costs) -> float:
    return memory_mb(servers=community.servers, followed=followed, waiting=waiting, costs=costs)


def _wait(seconds: float) -> str:
    if seconds < SHORTEST_SECONDS:
        return f"< {SHORTEST_SECONDS} s"
    return "grows for ever" if math.isinf(seconds) else f"{_number(seconds)} s"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else "0"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
