"""Image processes that outlive a test, for tests that are not about them: starting one takes longer than most tests."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

from bot.media.image_pool import ImagePool
from bot.runtime.processes.subprocess_pool import SubprocessPool, _Child

_kept: defaultdict[Sequence[str], list[_Child]] = defaultdict(list)
"""Processes that wait for the next test, by the command that started them."""


class _Process:
    """What a pool asks of a process, without the event loop of the test that started it."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], connection: socket.socket) -> None:
        self._process = subprocess.Popen(
            command, stdin=connection.fileno(), stdout=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.poll()

    async def wait(self) -> int:
        return await asyncio.to_thread(self._process.wait)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


class _KeepingPool(SubprocessPool):
    """A pool that begins with the idle processes of the one before, and leaves its own to the next."""

    async def _start(self) -> _Child:
        child = self._kept_child() or self._new_child()
        self._children.add(child)
        return child

    async def close(self) -> None:
        while (child := self._idle_child()) is not None:
            self._children.discard(child)
            _kept[self._command].append(child)
        await super().close()

    def _kept_child(self) -> _Child | None:
        while _kept[self._command]:
            child = _kept[self._command].pop()
            if child.process.returncode is None:
                return child
            child.connection.close()
        return None

    def _new_child(self) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            process = _Process(self._command, self._environment, theirs)
        return _Child(cast("asyncio.subprocess.Process", process), ours)


class KeepingImagePool(ImagePool):
    """The image pool of a bot whose processes are kept for the next test."""

    def __init__(self, *, limit_seconds: float = 30) -> None:
        super().__init__(limit_seconds=limit_seconds)
        for lane in (self._checks, self._small, self._large):
            lane.pool = _KeepingPool(
                "bot.media.image_worker",
                max_processes=lane.pool.max_processes,
                limit_seconds=lane.pool._limit_seconds,
                idle_seconds=300,
                memory_limit_bytes=lane.pool.memory_limit_bytes,
            )


def kept_pids() -> frozenset[int]:
    """Return the ids of the processes that wait for the next test."""
    return frozenset(child.process.pid for children in _kept.values() for child in children)


@contextmanager
def processes_kept() -> Iterator[None]:
    """End what was kept when the last test is over."""
    try:
        yield
    finally:
        for child in [child for children in _kept.values() for child in children]:
            child.connection.close()
            cast("_Process", child.process).end()
        _kept.clear()
