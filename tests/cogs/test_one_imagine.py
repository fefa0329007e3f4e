"""The number of our files that run for one `/imagine`, as in docs/architecture.md; an increase fails the test."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.support.discord_stage import Stage

ROOT = Path(__file__).resolve().parents[2]
MAX_FILES = 85


class Recorder:
    """Records the files of bot/ and cogs/ in which a function runs, in every thread that starts afterwards."""

    def __init__(self) -> None:
        self.is_on = False
        self._names: set[str] = set()

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if self.is_on and event == "call":
            self._names.add(frame.f_code.co_filename)

    @property
    def files(self) -> list[str]:
        ours = (str(ROOT / folder) + os.sep for folder in ("bot", "cogs"))
        prefixes = tuple(ours)
        return sorted(str(Path(name).relative_to(ROOT)) for name in self._names if name.startswith(prefixes))


@pytest.fixture(autouse=True)
def recorder() -> Iterator[Recorder]:
    """Start a recorder before every other fixture, so that it records the database's threads too."""
    recorder = Recorder()
    threading.setprofile(recorder)
    sys.setprofile(recorder)
    yield recorder
    sys.setprofile(None)
    threading.setprofile(None)


async def test_one_imagine_runs_through_a_bounded_number_of_files(stage: Stage, recorder: Recorder) -> None:
    await stage.quiet()  # the first bot of a process records that its commands are registered
    recorder.is_on = True
    await stage.until_says(await stage.imagine(), "Completed")
    recorder.is_on = False
    files = recorder.files
    if (report := os.environ.get("ONE_IMAGINE_FILES")) is not None:
        Path(report).write_text(json.dumps(files), encoding="utf-8")
    assert "bot/store/tables/money/ledger.py" in files
    assert len(files) <= MAX_FILES
