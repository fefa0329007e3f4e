"""The process under test: a bot or a baseline as a child process, with its processor time and its memory."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.load_generator import LoadGenerator

PROJECT = Path(__file__).resolve().parents[1]
BOT, NAIVE, CAREFUL = "bot", "benchmarks.naive_baseline", "benchmarks.careful_baseline"
READY_SECONDS, STOP_SECONDS = 60.0, 60.0


class BotProcess:
    """`async with BotProcess(BOT, load, folder) as bot:` starts it and waits until it is connected."""

    def __init__(
        self, module: str, load: LoadGenerator, folder: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.ready_seconds = 0.0
        self._module = module
        self._load = load
        self._folder = folder
        port = _free_port()
        load.hooks_at = f"http://127.0.0.1:{port}"
        self._environment = dict(load.environment(str(folder / "bot.sqlite3"))) | {"HTTP_PORT": str(port)}
        self._environment |= settings or {}
        self._process: psutil.Popen | None = None

    async def __aenter__(self) -> Self:
        self._load.ready.clear()
        begun_at = time.monotonic()
        with (self._folder / "bot.log").open("ab") as log:
            self._process = psutil.Popen(
                [sys.executable, "-m", self._module],
                cwd=PROJECT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        async with asyncio.timeout(READY_SECONDS):
            await self._load.ready.wait()
        self.ready_seconds = time.monotonic() - begun_at
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM if self._module == BOT else signal.SIGKILL)
        try:
            await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        finally:
            if self._process.is_running():
                self._process.kill()

    @property
    def cpu_seconds(self) -> float:
        """Return the seconds of processor time of the process and its children since the start."""
        assert self._process is not None
        times = [self._process.cpu_times()]
        times += [child.cpu_times() for child in self._process.children(recursive=True)]
        return sum(each.user + each.system for each in times) + times[0].children_user + times[0].children_system

    @property
    def main_cpu_seconds(self) -> float:
        """Return the seconds of processor time of the process alone: what delays its event loop."""
        assert self._process is not None
        times = self._process.cpu_times()
        return times.user + times.system

    @property
    def memory_mb(self) -> float:
        """Return the resident memory in MiB, without the image workers, which are started on demand."""
        assert self._process is not None
        return self._process.memory_info().rss / 2**20

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
