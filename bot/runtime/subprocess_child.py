"""Child process of a SubprocessPool: handles requests from standard input until it ends. Standard library only.

A request and a response are each one line of JSON that holds `size`, then that many bytes.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def serve(handle: Callable[[dict[str, Any], bytes], tuple[dict[str, Any], bytes]], *, max_resident_bytes: int) -> None:
    """Answer each request with the result of `handle`, or with its error.

    Ends with its input, after an error, and when the process takes more memory than `max_resident_bytes`: the allocator
    keeps what it once had, and only the end of the process returns it. The arguments of the command line are the
    seconds to wait for a request, the seconds for one request, and the limit of memory in bytes.
    """
    idle_seconds, limit_seconds, memory_limit_bytes = (int(argument) for argument in sys.argv[1:])
    with suppress(OSError, ValueError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit_bytes, memory_limit_bytes))
    with suppress(OSError):
        os.nice(10)  # the answer to a command matters more
    requests, responses = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # What a library prints must not end up among the responses.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    last = False
    while not last:
        signal.alarm(idle_seconds)
        line = requests.readline()
        signal.alarm(limit_seconds)
        if not line:
            return
        request: dict[str, Any] = json.loads(line)
        body = requests.read(request["size"])
        try:
            response, body = handle(request, body)
        except Exception as error:  # the parent decides what it means
            response, body = {"error": f"{type(error).__name__}: {error}"[:500]}, b""
        last = "error" in response or _resident_bytes() > max_resident_bytes
        try:
            responses.write(json.dumps({**response, "last": last, "size": len(body)}).encode() + b"\n")
            responses.write(body)
            responses.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and leaving in the usual way would try to flush again


def _resident_bytes() -> int:
    try:
        # Not ru_maxrss: on Linux that begins with the size of the parent.
        resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return resident_pages * resource.getpagesize()
