"""The chart maker: charts are drawn in a process of their own, one at a time, which ends when it is done.

Drawing needs a library that takes a second to import and 100 MB to keep, and nobody needs a chart often: so it is never
imported here, and whatever goes wrong in there costs a report its picture and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from bot.charts.chart import Chart

_log = logging.getLogger(__name__)

_HOME = Path(__file__).resolve().parents[2]
_MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of the process; it needs a third of that."""

_PNG = b"\x89PNG\r\n\x1a\n"


class ChartRenderer:
    """Draws charts, each within `limit_seconds`, which includes the wait for those before it."""

    def __init__(self, *, limit_seconds: int = 20) -> None:
        self._limit_seconds = limit_seconds
        self._one_at_a_time = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._folder: str | None = None
        self._closed = False

    async def draw(self, chart: Chart) -> bytes | None:
        """The chart as a PNG; None, and a line in the log, when there is none to be had."""
        try:
            async with asyncio.timeout(self._limit_seconds), self._one_at_a_time:
                return await self._drawn(chart)
        except TimeoutError:
            _log.warning("a chart took more than %d seconds", self._limit_seconds)
        except (OSError, _NotDrawn) as error:
            _log.warning("a chart could not be drawn: %s", error)
        return None

    async def close(self) -> None:
        """End the process that draws, if there is one; whoever waits for it gets no chart."""
        self._closed = True
        if self._process is not None:
            _kill(self._process)
        async with self._one_at_a_time:
            if self._folder is not None:
                await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _drawn(self, chart: Chart) -> bytes:
        """Raises OSError, _NotDrawn."""
        if self._closed:
            raise _NotDrawn("the bot is stopping")
        self._process = process = await self._started()
        try:
            if self._closed:  # meanwhile
                raise _NotDrawn("the bot is stopping")
            image, error_body = await process.communicate(chart.to_json())
        finally:
            _kill(process)
            await asyncio.shield(process.wait())
            self._process = None
        if process.returncode != 0 or not image.startswith(_PNG):
            last_words = error_body.decode(errors="replace").strip().rpartition("\n")[2]
            raise _NotDrawn(f"exit code {process.returncode}: {last_words[:500]}")
        return image

    async def _started(self) -> asyncio.subprocess.Process:
        if self._folder is None:
            # Where the library keeps what it found out about the fonts here, so that only the first chart waits for it.
            self._folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="image-bot-charts-")
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "ignore", "-m", "bot.charts.worker"),
            *(str(self._limit_seconds), str(_MEMORY_LIMIT_BYTES)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # Nothing of our own environment: it holds the keys.
            env={
                "PYTHONPATH": str(_HOME),
                "PATH": os.environ.get("PATH", ""),
                "LC_ALL": "C.UTF-8",
                "MPLCONFIGDIR": self._folder,
                "OPENBLAS_NUM_THREADS": "1",  # else it sets memory aside for every core
            },
            start_new_session=True,  # Ctrl-C is for the bot, which then ends the process itself
        )


class _NotDrawn(Exception):
    """The text says why."""


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
