"""Chart renderer: draws charts in a child process, one at a time, which ends when it is done.

Drawing needs a library that takes a second to import and keeps 100 MB, and charts are rare: so the bot never imports
it, and an error in it costs a report its image and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile

from bot.charts.chart import Chart
from bot.domain.requester import NOBODY, Requester
from bot.runtime.fair_slots import FairSlots
from bot.runtime.processes.subprocess_pool import ChildFailed, ChildTooSlow, PoolClosed, SubprocessPool

_log = logging.getLogger(__name__)

_MEMORY_LIMIT_BYTES = 1 << 30
"""Address space of the process; it needs a third of that."""


class ChartRenderer:
    """Draws charts; servers take turns. Each has `limit_seconds`, which include the wait for those before it."""

    def __init__(self, *, limit_seconds: int = 20) -> None:
        self._limit_seconds = limit_seconds
        self._pool: SubprocessPool | None = None
        self._folder: str | None = None
        self._closed = False
        self._turns = FairSlots(1)

    async def draw(self, chart: Chart, *, requester: Requester = NOBODY) -> bytes | None:
        """Draw the chart as a PNG. None, and a line in the log, when it could not be drawn."""
        try:
            async with asyncio.timeout(self._limit_seconds), self._turns.slot(requester):
                return (await self._started_pool().request({}, chart.to_json()))[1]
        except (TimeoutError, ChildTooSlow):
            _log.warning("a chart took more than %d seconds", self._limit_seconds)
        except PoolClosed:
            _log.warning("a chart could not be drawn: the bot is stopping")
        except (OSError, ChildFailed) as error:
            _log.warning("a chart could not be drawn: %s", error)
        return None

    async def close(self) -> None:
        """End the process that draws, if there is one; its caller gets no chart."""
        self._closed = True
        if self._pool is not None:
            await self._pool.close()
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    def _started_pool(self) -> SubprocessPool:
        if self._closed:
            raise PoolClosed
        if self._pool is None:
            # Where the library caches what it finds out about the fonts, so that only the first chart waits for it.
            self._folder = tempfile.mkdtemp(prefix="image-bot-charts-")
            self._pool = SubprocessPool(
                "bot.charts.worker",
                max_processes=1,
                limit_seconds=self._limit_seconds,
                idle_seconds=self._limit_seconds,
                memory_limit_bytes=_MEMORY_LIMIT_BYTES,
                environment={
                    "MPLCONFIGDIR": self._folder,
                    "OPENBLAS_NUM_THREADS": "1",  # otherwise it reserves memory for every core
                },
            )
        return self._pool
