"""Places: who is next in line sees how it moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from bot.dispatch.coordinator import Coordinator
from bot.dispatch.dispatcher import ProviderDispatcher
from bot.store.store import Store

LOOK_SECONDS = 5.0
POSITIONS_SHOWN = 5
"""So often the first few in each line are shown their place anew, where it changed."""


class QueuePositions:
    """The place last shown on the card of each job that waits."""

    def __init__(
        self,
        *,
        dispatchers: Mapping[str, ProviderDispatcher],
        coordinator: Coordinator,
        store: Store,
        notify: Callable[[str], None],
    ) -> None:
        self._dispatchers = dispatchers
        self._company = coordinator
        self._store = store
        self._notify = notify
        self._shown: dict[str, int] = {}

    def record_shown(self, job_id: str, place: int | None) -> None:
        """Its card says so now."""
        if place is not None:
            self._shown[job_id] = place

    async def run(self) -> None:
        """Show those who are next how the line moves, for ever. Who is far back learns of it when it matters."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for dispatcher in self._dispatchers.values():
                if len(dispatcher.queue) > 0:
                    await self._company.refresh_queue(dispatcher)
                    await self._show_moves(dispatcher)
            waiting = [self._company.queue_of(dispatcher) for dispatcher in self._dispatchers.values()]
            self._shown = {
                job_id: place for job_id, place in self._shown.items() if any(job_id in line for line in waiting)
            }

    async def _show_moves(self, dispatcher: ProviderDispatcher) -> None:
        line = self._company.queue_of(dispatcher)
        for job_id in line.upcoming(POSITIONS_SHOWN):
            place = line.position(job_id)
            if place is None or self._shown.get(job_id) == place or job_id not in dispatcher.queue:
                continue
            self._shown[job_id] = place
            reply = await self._store.reply_of_job(job_id)
            if reply is not None:
                self._notify(reply.id)
