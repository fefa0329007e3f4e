"""The heap: how much of the system's memory this process keeps, read where the system says so."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_TWENTY_MB = 20_000_000
_STORY = f"""
import sys
from pathlib import Path
from bot.runtime import heap

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "told":
    heap.give_large_blocks_back()
kept = []
before = resident_bytes()
for _ in range(4):
    pictures = [b"x" * {_TWENTY_MB} for _ in range(2)]
    kept.append(b"y" * 100_000)  # something small that comes to lie behind them, and stays
    del pictures
print(resident_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library gives them back by itself")
def test_nothing_of_large_pictures_stays_behind() -> None:
    assert kept_bytes("told") < _TWENTY_MB / 10
    assert kept_bytes("untold") > _TWENTY_MB, "or there is no need to tell"


def kept_bytes(how: str) -> int:
    words = (sys.executable, "-c", _STORY, how)
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
