"""Killed at random moments: nothing is lost, bought twice, shown twice or left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.torture import TortureResults, torture
from tests.support.crashes import Nursery

SURE = {
    "overspends": 0,
    "sent_twice": 0,
    "shown_twice": 0,
    "lost": 0,
    "stuck_reservations": 0,
    "broken_rules": 0,
}


async def torn(folder: Path, *, kills: int, seed: int, webhooks: bool = False) -> TortureResults:
    with Nursery() as nursery:
        return await torture(nursery, folder, kills=kills, seed=seed, webhooks=webhooks)


@pytest.mark.parametrize(("seed", "webhooks"), [(11, False), (12, True)])
async def test_f33_nothing_is_lost_in_twenty_random_kills(tmp_path: Path, seed: int, webhooks: bool) -> None:
    results = await torn(tmp_path, kills=10, seed=seed, webhooks=webhooks)
    assert results.problems == []
    assert {name: getattr(results, name) for name in SURE} == SURE
    assert results.outcomes["succeeded"] > 0
    assert results.recover_seconds_p99 < 60
