"""The chart worker: a process that draws one chart. JSON on standard input, a PNG on standard output.

Run as `python -m bot.charts.worker SECONDS MEMORY_BYTES`, which are what it may take.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from contextlib import suppress

from bot.charts.chart import Chart


def main() -> None:
    """Draw what standard input describes."""
    limit_seconds, memory_bytes = (int(argument) for argument in sys.argv[1:])
    signal.alarm(limit_seconds)  # should whoever asked be gone, so that nobody else ends us
    with suppress(OSError, ValueError):  # not every system has this limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    with suppress(OSError):
        os.nice(10)  # an answer to a command matters more than a picture a moment earlier
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    # Whatever a library may print must not end up in the picture.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)  # it has a word to say about every font
    chart = Chart.from_json(sys.stdin.buffer.read())
    from bot.charts import plot  # imports matplotlib, whose size and warnings the lines above have provided for

    with answer:
        answer.write(plot.draw(chart))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        # Whoever asked was killed: there is nobody left to answer or to complain to.
        os._exit(0)
