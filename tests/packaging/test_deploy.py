"""The deployment files ask for metrics that exist and set the allocator alike."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bot.runtime.metrics import Metrics

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"


def known() -> set[str]:
    metrics = Metrics()
    for gauge in ("line_length", "places_taken", "provider_closed", "fleet_processes", "fleet_disagreements"):
        metrics.watch(gauge, "x", "provider", dict)
    names: set[str] = set()
    for family in metrics.registry.collect():
        names |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    return names


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml"])
def test_every_metric_in_the_file_is_served(file: str) -> None:
    text = (DEPLOY / file).read_text(encoding="utf-8")
    queried = set(re.findall(r"\b(?:image_bot|process)_[a-z_]+\b", text))
    assert queried
    assert queried <= known()


def test_the_gauges_of_this_test_are_those_of_the_bot() -> None:
    source = (PROJECT / "bot" / "app.py").read_text(encoding="utf-8")
    assert set(re.findall(r'metrics\.watch\(\s*"(\w+)"', source)) == {
        "line_length",
        "places_taken",
        "provider_closed",
        "clock_ahead_seconds",
        "fleet_processes",
        "fleet_disagreements",
    }


def test_every_panel_has_a_query_and_a_position_of_its_own() -> None:
    panels = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    positions = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(positions) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
