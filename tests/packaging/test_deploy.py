"""What is deployed beside the bot speaks of metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bot.runtime.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"


def known() -> set[str]:
    metrics = Metrics()
    for gauge in ("line_length", "places_taken", "provider_closed"):
        metrics.watch(gauge, "x", "provider", dict)
    names: set[str] = set()
    for family in metrics.registry.collect():
        names |= {family.name, f"{family.name}_total", f"{family.name}_bucket"}
    return names


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml"])
def test_every_metric_that_is_asked_for_is_served(file: str) -> None:
    text = (DEPLOY / file).read_text(encoding="utf-8")
    asked = set(re.findall(r"\b(?:image_bot|process)_[a-z_]+\b", text))
    assert asked
    assert asked <= known()


def test_the_gauges_named_here_are_those_the_bot_watches() -> None:
    source = (DEPLOY.parent / "bot" / "app.py").read_text(encoding="utf-8")
    assert set(re.findall(r'metrics\.watch\(\s*"(\w+)"', source)) == {"line_length", "places_taken", "provider_closed"}


def test_every_panel_has_a_question_and_a_place_of_its_own() -> None:
    panels = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])
