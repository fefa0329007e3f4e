"""Alerts fire at the first event: Prometheus' own tool runs their tests, and the bot serves what they read."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bot.runtime.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMTOOL = shutil.which("promtool")


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_each_alert_fires_when_it_should_and_not_on_a_quiet_day() -> None:
    assert PROMTOOL is not None
    command = [PROMTOOL, "test", "rules", str(DEPLOY / "alerts_test.yml")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    alerts = set(re.findall(r"alert: (\w+)", (DEPLOY / "alerts.yml").read_text(encoding="utf-8")))
    tests = (DEPLOY / "alerts_test.yml").read_text(encoding="utf-8")
    fired = set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n", tests))
    assert fired == alerts


def test_the_counters_that_alerts_read_exist_before_the_first_event() -> None:
    metrics = Metrics()
    metrics.offer([("krea", "krea/x/y")])
    read = set(re.findall(r"image_bot_\w+_total\{([^}]*)\}", (DEPLOY / "alerts.yml").read_text(encoding="utf-8")))
    assert len(read) == 3
    value = metrics.registry.get_sample_value
    assert value("image_bot_house_usd_micros_total", {"provider": "krea", "model": "krea/x/y"}) == 0
    assert value("image_bot_deliveries_total", {"outcome": "impossible"}) == 0
    for outcome in ("StoreError", "LedgerError", "DatabaseBusy", "DatabaseUnusable", "accepted", "QuotaExceeded"):
        assert value("image_bot_orders_total", {"outcome": outcome}) == 0
    for status in ("401", "403", "429"):
        assert value("image_bot_requests_total", {"to": "discord", "method": "PATCH", "status": status}) == 0
