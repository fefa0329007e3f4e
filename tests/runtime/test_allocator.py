"""The allocator: how much of the system's memory a process keeps, read where the system says so."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

IMAGE_BYTES = 20_000_000
MEASURE_BYTES_KEPT = f"""
import sys
from pathlib import Path
from bot.runtime.processes.allocator import map_large_blocks_separately

def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

if sys.argv[1] == "set":
    map_large_blocks_separately()
small_blocks = []
before = resident_bytes()
for _ in range(4):
    images = [b"x" * {IMAGE_BYTES} for _ in range(2)]
    small_blocks.append(b"y" * 100_000)  # allocated behind the images, and kept
    del images
print(resident_bytes() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the thresholds are glibc's")
def test_the_memory_of_large_images_returns_to_the_system() -> None:
    assert bytes_kept("set") < IMAGE_BYTES / 10
    assert bytes_kept("not set") > IMAGE_BYTES, "otherwise setting the thresholds is not needed"


def bytes_kept(thresholds: str) -> int:
    command = (sys.executable, "-c", MEASURE_BYTES_KEPT, thresholds)
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
