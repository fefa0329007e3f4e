"""Subprocess pool: child processes that handle requests over a socket, within limits of time and memory.

Image work and charts run in such processes: they decode bytes from strangers or need a large library. A process has
limits of memory and processor time, is killed when it takes too long, ends with the bot, returns all memory when it
ends, holds no secret, and runs at a lower priority than the bot. The module that a child runs handles the requests,
through subprocess_child.py, which also says what such a process can reach.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from bot.runtime.processes.subprocess_child import LENGTHS

_ROOT = Path(__file__).resolve().parents[3]
_PIECE_BYTES = 1 << 20
"""Bodies are written and read in pieces of this size, so that the event loop never copies more at a time."""
_MAX_HEAD_BYTES = 1 << 16
_MAX_BODY_BYTES = 128 << 20
"""What a process may answer; one that was taken over could send any length."""


class PoolClosed(Exception):
    """The pool was closed before the request was finished."""


class ChildTooSlow(Exception):
    """The request took longer than the time limit; its process was killed."""


class ChildFailed(Exception):
    """The child process died or could not handle the request. The text says why."""


class _Child(NamedTuple):
    """A process and our end of its only connection."""

    process: Process
    connection: socket.socket


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
        # The child's own timer and limit of processor time end it should this process be stopped.
        limits = (idle_seconds, math.ceil(limit_seconds) + 1, memory_limit_bytes, os.getpid())
        self._command = (sys.executable, "-W", "ignore", "-m", module, *map(str, limits))
        # Nothing of our own environment: it holds the keys.
        self._environment = {
            "PYTHONPATH": str(_ROOT),
            "PATH": os.environ.get("PATH", ""),
            "LC_ALL": "C.UTF-8",
            # One arena, and large blocks of their own: the limit counts what is used and not what is reserved.
            "MALLOC_ARENA_MAX": "1",
            "MALLOC_MMAP_THRESHOLD_": "2097152",
            "MALLOC_TRIM_THRESHOLD_": "4194304",
            **(environment or {}),
        }
        self._limit_seconds = limit_seconds
        self.max_processes = max_processes
        self.memory_limit_bytes = memory_limit_bytes
        self._slots = asyncio.Semaphore(max_processes)
        self._children: set[_Child] = set()
        self._idle: list[_Child] = []
        self._closed = False

    @property
    def running(self) -> int:
        """Count the processes that handle a request now."""
        return len(self._children) - len(self._idle)

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
            child = (None if new_process else self._idle_child()) or await self._start()
            reusable = False
            try:
                if self._closed:  # while the process was started
                    raise PoolClosed
                async with asyncio.timeout(self._limit_seconds):
                    response = await _exchange(child.connection, head, body)
                reusable = not response[0]["last"]
            except TimeoutError:
                raise ChildTooSlow(f"no response within {self._limit_seconds:g} s") from None
            except (OSError, ValueError, EOFError) as error:
                await self._end(child)
                if self._closed:
                    raise PoolClosed from error
                if child.process.returncode == -signal.SIGXCPU:
                    raise ChildTooSlow(f"more than {self._limit_seconds:g} s of processor time") from None
                raise ChildFailed(f"exit code {child.process.returncode}") from error
            finally:
                if reusable and not self._closed:
                    self._idle.append(child)
                else:
                    await self._end(child)
        if "error" in response[0]:
            raise ChildFailed(response[0]["error"])
        return response

    async def close(self) -> None:
        """Kill all processes and wait for their end. Requests that are not finished raise PoolClosed."""
        self._closed = True
        for child in self._children:
            _kill(child.process)
        # Each request ends its own process, also one that it is starting.
        for _ in range(self.max_processes):
            await self._slots.acquire()
        for _ in range(self.max_processes):
            self._slots.release()
        await asyncio.gather(*map(self._end, self._idle))

    def _idle_child(self) -> _Child | None:
        while self._idle:
            child = self._idle.pop()
            if child.process.returncode is None:
                return child
            self._children.discard(child)
            child.connection.close()
        return None

    async def _start(self) -> _Child:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=theirs.fileno(),
                stdout=DEVNULL,  # what a library prints
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the bot, which then ends its children itself
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        child = _Child(process, ours)
        self._children.add(child)
        return child

    async def _end(self, child: _Child) -> None:
        self._children.discard(child)
        child.connection.close()
        _kill(child.process)
        await child.process.wait()


def _kill(process: Process) -> None:
    # Not process.kill(): that collects the exit code of a dead process, which asyncio then reports as 255.
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


async def _exchange(connection: socket.socket, head: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Send one request and read its response. Raises OSError, ValueError or EOFError when the process has died."""
    loop = asyncio.get_running_loop()
    encoded = json.dumps(head).encode()
    lengths = LENGTHS.pack(len(encoded), len(body))
    view = memoryview(body)
    await loop.sock_sendall(connection, b"".join((lengths, encoded, view[:_PIECE_BYTES])))
    for start in range(_PIECE_BYTES, len(body), _PIECE_BYTES):
        await loop.sock_sendall(connection, view[start : start + _PIECE_BYTES])
    head_bytes, body_bytes = LENGTHS.unpack(await _receive(connection, LENGTHS.size))
    if head_bytes > _MAX_HEAD_BYTES or body_bytes > _MAX_BODY_BYTES:
        raise ValueError("a response of more bytes than expected")
    response: dict[str, Any] = json.loads(await _receive(connection, head_bytes))
    return response, await _receive(connection, body_bytes)


async def _receive(connection: socket.socket, size_bytes: int) -> bytes:
    """Read exactly that many bytes. Raises EOFError when the process ends before."""
    loop = asyncio.get_running_loop()
    pieces, missing_bytes = list[bytes](), size_bytes
    while missing_bytes > 0:
        piece = await loop.sock_recv(connection, min(missing_bytes, _PIECE_BYTES))
        if not piece:
            raise EOFError
        pieces.append(piece)
        missing_bytes -= len(piece)
    if len(pieces) < 2:
        return b"".join(pieces)
    return await asyncio.to_thread(b"".join, pieces)
