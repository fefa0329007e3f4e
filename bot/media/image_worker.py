"""The image worker: a process that does what the workshop asks, one picture after the other, until its input ends.

Both ways: one line of JSON that ends with the size of what follows, then that many bytes. Run as
`python -m bot.media.image_worker IDLE_SECONDS MEMORY_BYTES`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bot.media import image_ops

_GROWN_BYTES = 128 << 20


def main() -> None:
    """Serve standard input until it ends, nothing was asked for a while, or a picture has taken much memory."""
    idle_seconds, memory_bytes = (int(argument) for argument in sys.argv[1:])
    with suppress(OSError, ValueError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with suppress(OSError):
        os.nice(10)  # an answer to a command matters more than a picture a moment earlier
    orders, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library may print must not end up among the answers.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    while True:
        signal.alarm(idle_seconds)
        line = orders.readline()
        signal.alarm(0)
        if not line:
            return
        order: dict[str, Any] = json.loads(line)
        data = orders.read(order["size"])
        facts, made = _serve(order, data)
        facts |= {"last": _has_grown(), "size": len(made)}
        answers.write(json.dumps(facts).encode() + b"\n")
        answers.write(made)
        answers.flush()
        if facts["last"]:
            return


def _has_grown() -> bool:
    """True after a large picture: the allocator keeps what it once had, and only the end of the process returns it."""
    try:
        # Not ru_maxrss: on Linux that begins with the size of whoever started us.
        resident_pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return False
    return resident_pages * resource.getpagesize() > _GROWN_BYTES


def _serve(order: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    try:
        match order["work"]:
            case "check":
                content_type, width, height = image_ops.check(data)
                return {"content_type": content_type, "width": width, "height": height}, b""
            case "fit":
                made, content_type, extension, changed = image_ops.shrink_to(data, order["limit_bytes"])
                return {"content_type": content_type, "extension": extension, "changed": changed}, made
            case "clean":
                made, content_type, width, height = image_ops.clean(data)
                return {"content_type": content_type, "width": width, "height": height}, made
            case "has_location":
                return {"has_location": image_ops.has_location(data)}, b""
            case work:
                raise AssertionError(f"no such work: {work}")
    except image_ops.UnusableImageError as error:
        return {"reason": error.reason, "limits": error.limits}, b""
    except MemoryError:
        return {"reason": "too_many_pixels", "limits": {}}, b""


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # Whoever asked was killed: there is nobody left to answer or to complain to.
        os._exit(0)
