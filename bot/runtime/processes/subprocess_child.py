"""Child process of a SubprocessPool: handles requests from its one socket (standard input) until it ends.

A request and a response are each: the length of the head (4 bytes), the length of the body (8 bytes), the head as JSON,
the body.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bot.runtime.processes import confinement

LENGTHS = struct.Struct("!IQ")


def serve(
    handle: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]],
    *,
    max_resident_bytes: int,
    needs_files: bool = False,
) -> None:
    """Answer each request with the result of `handle`, or with its error.

    Everything that `handle` needs must be imported before, unless `needs_files`: no file can be opened afterwards.
    Ends with its input, after an error, and when the process takes more memory than `max_resident_bytes`: the allocator
    keeps what it once had, and only the end of the process returns it. The arguments of the command line are the
    seconds to wait for a request, the seconds for one request, the limit of memory in bytes, and the id of the parent.
    """
    idle_seconds, limit_seconds, memory_limit_bytes, parent_pid = (int(argument) for argument in sys.argv[1:])
    signal.alarm(idle_seconds)
    with suppress(OSError):
        os.nice(10)  # the answer to a command matters more
    requests, responses = sys.stdin.buffer, os.fdopen(0, "wb", closefd=False)
    statm = _open_statm()
    missing = _confine(memory_limit_bytes, parent_pid, needs_files=needs_files)
    last = False
    while not last:
        signal.alarm(idle_seconds)
        lengths = requests.read(LENGTHS.size)
        if len(lengths) < LENGTHS.size:
            return
        signal.alarm(limit_seconds)
        _limit_processor_time(limit_seconds)
        head_bytes, body_bytes = LENGTHS.unpack(lengths)
        try:
            head, body = requests.read(head_bytes), requests.read(body_bytes)
            if len(body) < body_bytes:
                return
            response, body = handle(json.loads(head), body)
        except Exception as error:  # the parent decides what it means
            response, body = {"error": f"{type(error).__name__}: {error}"[:500]}, b""
        last = "error" in response or _resident_bytes(statm) > max_resident_bytes
        encoded = json.dumps({**response, "last": last, "unconfined": missing}).encode()
        try:
            responses.write(LENGTHS.pack(len(encoded), len(body)) + encoded)
            responses.write(body)
            responses.flush()
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the parent is gone


def _confine(memory_limit_bytes: int, parent_pid: int, *, needs_files: bool) -> list[str]:
    """Give up what the requests do not need. Returns what the system could not forbid."""
    missing: list[str] = []
    if not confinement.die_with_parent(parent_pid):
        missing.append("ending with the bot")
    if not confinement.hide_memory():
        missing.append("hidden memory")
    if not confinement.forbid_new_rights():
        missing.append("no new rights")
    if not confinement.forbid_calls(other_programs=needs_files):
        missing.append("no network (seccomp)")
    # After the function that imports a library which looks for another one.
    confinement.limit_resources(
        memory_bytes=memory_limit_bytes, file_bytes=16 << 20 if needs_files else 0, open_files=256 if needs_files else 8
    )
    # Last, because nothing can be imported afterwards.
    if not needs_files and not confinement.forbid_files():
        missing.append("no files (Landlock)")
    return missing


def _limit_processor_time(seconds: int) -> None:
    """Have the kernel end this process when it takes so much more processor time than it has taken yet."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    with suppress(OSError, ValueError):
        limit_seconds = math.ceil(used.ru_utime + used.ru_stime) + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (limit_seconds, resource.RLIM_INFINITY))


def _open_statm() -> int | None:
    try:
        return os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return None


def _resident_bytes(statm: int | None) -> int:
    if statm is None:
        return 0
    # Not ru_maxrss: on Linux that begins with the size of the parent.
    return int(os.pread(statm, 200, 0).split()[1]) * resource.getpagesize()
