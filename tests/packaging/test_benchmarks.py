"""`make bench` as the operator runs it: says how long it takes, keeps what is finished, and judges by its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from benchmarks import __main__ as bench
from benchmarks.__main__ import Scenario
from benchmarks.results import Result

ROOT = Path(__file__).resolve().parents[2]


def measuring(*results: Result) -> Callable[[], Awaitable[list[Result]]]:
    async def measure() -> list[Result]:
        return list(results)

    return measure


def chosen(monkeypatch: pytest.MonkeyPatch, *results: Result) -> None:
    monkeypatch.setattr(bench, "SCENARIOS", {"one": Scenario(measuring(*results), 90, by_default=True)})


def test_a_figure_stands_beside_its_baseline_and_the_ratio_is_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen(monkeypatch, Result(name="lag", value=300, unit="ms", baseline=1000, at_most=0.4))
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 0
    output = capsys.readouterr()
    assert "| lag | 300 ms | 1,000 ms | 0.3 × |  | ≤ 0.4 × | yes |" in output.out
    assert "About 2 minutes" in output.err
    assert "[1 of 1] one, about 90 s" in output.err


def test_an_aim_that_is_not_reached_is_named_and_fails_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chosen(
        monkeypatch,
        Result(name="lag", value=500, unit="ms", baseline=1000, at_most=0.4),
        Result(name="rate", value=3000, unit="/s", at_least=2000),
    )
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 1
    output = capsys.readouterr()
    assert "| lag | 500 ms | 1,000 ms | 0.5 × |  | ≤ 0.4 × | **no** |" in output.out
    assert "Not reached: lag." in output.err
    figures = json.loads((tmp_path / "bench.json").read_text())["figures"]
    assert [(figure["name"], figure["reached"]) for figure in figures] == [("lag", False), ("rate", True)]


def test_a_scenario_that_fails_loses_no_figure_of_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    async def broken() -> list[Result]:
        raise TimeoutError("the bot did not start")

    works = Scenario(measuring(Result(name="lag", value=300, unit="ms")), 1, by_default=True)
    monkeypatch.setattr(bench, "SCENARIOS", {"broken": Scenario(broken, 1, by_default=True), "works": works})
    assert bench.main(["--json", str(tmp_path / "bench.json")]) == 1
    output = capsys.readouterr()
    assert "| lag | 300 ms |" in output.out
    assert "the bot did not start" in output.err
    assert "Could not be measured: broken." in output.err


def test_the_default_takes_less_than_five_minutes() -> None:
    assert sum(scenario.seconds for scenario in bench.SCENARIOS.values() if scenario.by_default) < 300


def test_interrupted_it_prints_and_keeps_what_is_finished(tmp_path: Path) -> None:
    json_file = tmp_path / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--runs", "1", "--json", str(json_file), "word_lists", "answering"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        said = ""
        while "[2 of 2]" not in said:
            said += (line := process.stderr.readline())
            assert line, said
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert output.startswith("| figure |")
    assert "Interrupted after 1 of 2 runs." in errors
    assert json.loads(json_file.read_text())["figures"]
