"""The child processes of this process, as the system lists them."""

from __future__ import annotations

from contextlib import suppress

import psutil

from tests.support.kept_processes import kept_pids

STOP_TIMEOUT_SECONDS = 60.0
"""For a bot that is told to stop, on a busy machine: it takes seconds, and would wait longer for a job in work."""


def child_processes(module: str) -> list[psutil.Process]:
    """Return the running children that were started with `python -m module`, but none that is kept for other tests."""
    found: list[psutil.Process] = []
    kept = kept_pids()
    for child in psutil.Process().children():
        if child.pid in kept:
            continue
        with suppress(psutil.NoSuchProcess):  # it has ended since it was listed
            if child.status() != psutil.STATUS_ZOMBIE and module in child.cmdline():
                found.append(child)
    return found
