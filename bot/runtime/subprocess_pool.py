"""Subprocess pool: child processes that handle requests over pipes, within limits of time and memory.

Image work and charts run in such processes: they decode bytes from strangers or need a large library. A process has a
memory limit, can be killed when it takes too long, returns all memory when it ends, holds no secret, and runs at a
lower priority than the bot. The module that a child runs handles the requests, through subprocess_child.py.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_PIECE_BYTES = 1 << 20
"""Bodies are written and read in pieces of this size, so that the event loop never copies more at a time."""


class PoolClosed(Exception):
    """The pool was closed before the request was finished."""


class ChildTooSlow(Exception):
    """The request took longer than the time limit; its process was killed."""


class ChildFailed(Exception):
    """The child process died or could not handle the request. The text says why."""


class SubprocessPool:
    """Runs `python -m module` in at most `max_processes` processes, one request at a time in each.

    A process is started by the first request that needs one. It ends after `idle_seconds` without a request, or when it
    says that its response was the last one. It is killed when it fails, when a request takes more than `limit_seconds`,
    and when the caller is cancelled; the next request starts another one.
    """

    def __init__(
        self,
        module: str,
        *,
        max_processes: int,
        limit_seconds: float,
        idle_seconds: int,
        memory_limit_bytes: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        # The child's own timer ends it should this process be killed in the middle of a request.
        limits = (idle_seconds, math.ceil(limit_seconds) + 1, memory_limit_bytes)
        self._command = (sys.executable, "-W", "ignore", "-m", module, *map(str, limits))
        # Nothing of our own environment: it holds the keys.
        self._environment = {
            "PYTHONPATH": str(_ROOT),
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C.UTF-8",
            **(environment or {}),
        }
        self._limit_seconds = limit_seconds
        self._max_processes = max_processes
        self._slots = asyncio.Semaphore(max_processes)
        self._children: set[Process] = set()
        self._idle: list[Process] = []
        self._closed = False

    async def request(
        self, head: Mapping[str, Any], body: bytes = b"", *, new_process: bool = False
    ) -> tuple[dict[str, Any], bytes]:
        """Send a request and return the head and the body of the response.

        `new_process`: do not reuse an idle process. Raises PoolClosed, ChildTooSlow, ChildFailed, and OSError when no
        process can be started.
        """
        async with self._slots:
            if self._closed:
                raise PoolClosed
            process = (None if new_process else self._idle_process()) or await self._start()
            reusable = False
            try:
                if self._closed:  # while the process was started
                    raise PoolClosed
                async with asyncio.timeout(self._limit_seconds):
                    response = await _exchange(process, head, body)
                reusable = not response[0]["last"]
            except TimeoutError:
                raise ChildTooSlow(f"no response within {self._limit_seconds:g} s") from None
            except (OSError, ValueError, EOFError) as error:
                await self._end(process)
                if self._closed:
                    raise PoolClosed from error
                raise ChildFailed(f"exit code {process.returncode}") from error
            finally:
                if reusable and not self._closed:
                    self._idle.append(process)
                else:
                    await self._end(process)
        if "error" in response[0]:
            raise ChildFailed(response[0]["error"])
        return response

    async def close(self) -> None:
        """Kill all processes and wait for their end. Requests that are not finished raise PoolClosed."""
        self._closed = True
        for process in self._children:
            _kill(process)
        # Each request ends its own process, also one that it is starting.
        for _ in range(self._max_processes):
            await self._slots.acquire()
        for _ in range(self._max_processes):
            self._slots.release()
        await asyncio.gather(*map(self._end, self._idle))

    def _idle_process(self) -> Process | None:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
            self._children.discard(process)
        return None

    async def _start(self) -> Process:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=PIPE,
            stdout=PIPE,
            env=self._environment,
            limit=_PIECE_BYTES,
            start_new_session=True,  # Ctrl-C is for the bot, which then ends its children itself
        )
        self._children.add(process)
        return process

    async def _end(self, process: Process) -> None:
        self._children.discard(process)
        _kill(process)
        await process.wait()
        if process.stdout is not None:
            await process.stdout.read()  # until its end, so that asyncio closes the pipes


def _kill(process: Process) -> None:
    # Not process.kill(): that collects the exit code of a dead process, which asyncio then reports as 255.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _exchange(process: Process, head: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Send one request and read its response. Raises OSError, ValueError or EOFError when the process has died."""
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None, "a pipe"
    assert stdout is not None, "a pipe"
    stdin.write(json.dumps({**head, "size": len(body)}).encode() + b"\n")
    view = memoryview(body)
    for start in range(0, len(body), _PIECE_BYTES):
        stdin.write(view[start : start + _PIECE_BYTES])
        await stdin.drain()
    response: dict[str, Any] = json.loads(await stdout.readline())
    pieces, missing_bytes = list[bytes](), int(response["size"])
    while missing_bytes > 0:
        piece = await stdout.read(min(missing_bytes, _PIECE_BYTES))
        if not piece:
            raise EOFError
        pieces.append(piece)
        missing_bytes -= len(piece)
    return response, b"".join(pieces) if len(pieces) < 2 else await asyncio.to_thread(b"".join, pieces)
