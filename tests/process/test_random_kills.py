"""Killed at random moments: nothing is lost, bought twice, shown twice or left open."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.torture import torture
from tests.support.crashes import Nursery

SURE = {
    "overspends": 0,
    "sent_twice": 0,
    "shown_twice": 0,
    "lost": 0,
    "stuck_reservations": 0,
    "broken_rules": 0,
}


@pytest.mark.parametrize(("seed", "webhooks"), [(11, False), (12, True)])
async def test_f33_nothing_is_lost_in_twenty_random_kills(
    nursery: Nursery, tmp_path: Path, seed: int, webhooks: bool
) -> None:
    results = await torture(nursery, tmp_path, kills=10, seed=seed, webhooks=webhooks)
    assert results.problems == []
    assert {name: getattr(results, name) for name in SURE} == SURE
    assert results.outcomes["succeeded"] > 0
    assert results.recover_seconds_p99 < 60
