"""The deployment files ask for metrics that exist and set the allocator alike."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
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
    sources = [path.read_text(encoding="utf-8") for path in (PROJECT / "bot").rglob("*.py")]
    assert {name for source in sources for name in re.findall(r'metrics\.watch\(\s*"(\w+)"', source)} == {
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


# -- the command of the container ----------------------------------------------------------------------------------


@pytest.fixture
def in_compose(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Return a function that runs the container's command, with a shell script in the place of Python."""
    found = re.search(r'- "(trap .*)"', (PROJECT / "compose.yaml").read_text(encoding="utf-8"))
    assert found is not None
    command = found[1].replace("$$", "$")
    running: list[subprocess.Popen[str]] = []

    def run(script: str) -> subprocess.Popen[str]:
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        # Signals go to the whole group, as the container's first process sends them (TINI_KILL_PROCESS_GROUP).
        process = subprocess.Popen(
            ["sh", "-c", command], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        running.append(process)
        return process

    yield run
    for process in running:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_container_ends_as_the_bot_does(in_compose: Callable[[str], subprocess.Popen[str]], status: int) -> None:
    assert in_compose(f"exit {status}").wait(timeout=60) == status


def test_a_container_whose_bot_needs_its_operator_waits_and_can_be_stopped(
    in_compose: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = in_compose("echo DISCORD_TOKEN is not accepted; exit 2")
    assert process.stdout is not None
    assert process.stdout.readline() == "DISCORD_TOKEN is not accepted\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(timeout=60) == 2


def test_a_bot_in_a_container_is_told_to_stop_and_finishes(
    in_compose: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = in_compose("trap 'echo finished; exit 0' TERM; echo started; while :; do sleep 0.1; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.killpg(process.pid, signal.SIGTERM)
    assert process.stdout.readline() == "finished\n"
    assert process.wait(timeout=60) == 0


def test_the_service_exposes_little() -> None:
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("there is no systemd-analyze here")
    command = [program, "security", "--offline=true", "--threshold=30", "--no-pager", DEPLOY / "image-bot.service"]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    if "offline" in checked.stderr:
        pytest.skip("this systemd cannot analyze a file")
    assert checked.returncode == 0, checked.stdout


def test_systemd_knows_every_line_of_the_service(tmp_path: Path) -> None:
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("there is no systemd-analyze here")
    unit = tmp_path / "image-bot.service"
    text = (DEPLOY / "image-bot.service").read_text(encoding="utf-8")
    # The folder of an installed bot is not here.
    unit.write_text(text.replace("/opt/image-bot/.venv/bin/python", "/bin/true").replace("/opt/image-bot", "/tmp"))
    command = [program, "verify", "--man=no", unit]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    said = [line for line in checked.stderr.splitlines() if "image-bot.service" in line]
    assert (checked.returncode, said) == (0, [])


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (1, 1), (2, 99)])
def test_a_process_of_the_cluster_that_needs_its_operator_is_not_started_again(status: int, ends_with: int) -> None:
    text = (PROJECT / "compose.cluster.yaml").read_text(encoding="utf-8")
    found = re.search(r"^  entrypoint: \[sh, -c, '(.+)', sh\]$", text, re.MULTILINE)
    assert found is not None
    script = found[1].replace("$$", "$").replace("sleep infinity", "exit 99")
    ended = subprocess.run(["sh", "-c", script, "sh", "sh", "-c", f"exit {status}"], check=False)
    assert ended.returncode == ends_with
