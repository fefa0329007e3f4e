"""QueuePositions: updates the queue position on the cards of the next few jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bot.dispatch.dispatcher import ProviderDispatcher
from bot.service.context import ServiceContext
from bot.service.execution.reply_runner import ReplyRunner

UPDATE_SECONDS = 5.0
"""Interval at which positions are compared with what the cards show."""

POSITIONS_SHOWN = 5
"""Jobs at the front of each queue whose cards are updated. The others show the position they had when admitted."""


class QueuePositions:
    """The queue position last shown on the card of each queued job."""

    def __init__(
        self, context: ServiceContext, *, dispatchers: Mapping[str, ProviderDispatcher], reply_runner: ReplyRunner
    ) -> None:
        self._store = context.store
        self._clock = context.clock
        self._dispatchers = dispatchers
        self._reply_runner = reply_runner
        self._shown: dict[str, int] = {}

    def record_shown(self, job_id: str, position: int | None) -> None:
        """Note which position the card of a job shows."""
        if position is not None:
            self._shown[job_id] = position

    async def run(self) -> None:
        """Have cards shown again when their queue position changed, until cancelled."""
        while True:
            await asyncio.sleep(UPDATE_SECONDS)
            for dispatcher in self._dispatchers.values():
                if len(dispatcher.queue) > 0:
                    await dispatcher.refresh_queue()
                    await self._show_moves(dispatcher)
            queues = [dispatcher.queue_of_all for dispatcher in self._dispatchers.values()]
            self._shown = {
                job_id: position for job_id, position in self._shown.items() if any(job_id in queue for queue in queues)
            }

    async def _show_moves(self, dispatcher: ProviderDispatcher) -> None:
        if dispatcher.is_stalled(self._clock()):
            # The shown ones are taken off the cards, once.
            for job_id in [job_id for job_id in self._shown if job_id in dispatcher.queue]:
                del self._shown[job_id]
                await self._show(job_id)
            return
        queue = dispatcher.queue_of_all
        for job_id in queue.upcoming(POSITIONS_SHOWN):
            position = queue.position(job_id)
            if position is None or self._shown.get(job_id) == position or job_id not in dispatcher.queue:
                continue
            self._shown[job_id] = position
            await self._show(job_id)

    async def _show(self, job_id: str) -> None:
        reply = await self._store.reply_of_job(job_id)
        if reply is not None:
            self._reply_runner.show(reply.id)
