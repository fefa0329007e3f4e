"""The deployment files ask for metrics that exist and set the allocator alike."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bot.runtime.metrics import Metrics

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"


def known() -> set[str]:
    metrics = Metrics()
    for gauge in ("line_length", "places_taken", "provider_closed"):
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
    assert set(re.findall(r'metrics\.watch\(\s*"(\w+)"', source)) == {"line_length", "places_taken", "provider_closed"}


def test_every_panel_has_a_query_and_a_position_of_its_own() -> None:
    panels = json.loads((DEPLOY / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    positions = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(positions) == len(panels)
    assert all(target["expr"] for panel in panels for target in panel["targets"])


# -- memory -----------------------------------------------------------------------------------------------

IMAGE_BYTES = 20_000_000
MEASURE_MEMORY_KEPT = f"""
from pathlib import Path

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

small_blocks = []
before = resident_bytes()
for _ in range(4):
    images = [b"x" * {IMAGE_BYTES} for _ in range(2)]
    small_blocks.append(b"y" * 100_000)  # allocated behind the images, and kept
    del images
print(resident_bytes() - before)
"""


def allocator_settings(file: Path) -> dict[str, str]:
    return dict(re.findall(r"(MALLOC_\w+?)=(\d+)", file.read_text(encoding="utf-8")))


def test_every_deployment_sets_the_allocator_alike() -> None:
    settings = allocator_settings(PROJECT / "Dockerfile")
    assert settings == {"MALLOC_MMAP_THRESHOLD_": "2097152", "MALLOC_TRIM_THRESHOLD_": "4194304"}
    assert allocator_settings(DEPLOY / "image-bot.service") == settings
    # These run the image of the Dockerfile, and therefore have its environment.
    for file in (PROJECT / "compose.yaml", PROJECT / "compose.cluster.yaml", DEPLOY / "kubernetes.yaml"):
        text = file.read_text(encoding="utf-8")
        assert re.search(r"image: image-bot\n", text)
        assert "MALLOC_" not in text


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_the_memory_of_large_images_returns_to_the_system() -> None:
    assert bytes_kept(allocator_settings(PROJECT / "Dockerfile")) < IMAGE_BYTES / 10
    assert bytes_kept({}) > IMAGE_BYTES, "otherwise the settings are not needed"


def bytes_kept(settings: dict[str, str]) -> int:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | settings
    command = (sys.executable, "-c", MEASURE_MEMORY_KEPT)
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
