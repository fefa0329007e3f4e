"""FleetWatch: tells the other processes that this one is alive, and knows whether any worker is."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from bot.dispatch.coordinator import ClusterCoordinator
from bot.domain.deployment.fleet import NO_WORKER, SIGN_OF_LIFE_PERIOD_SECONDS, ProcessInfo, disagreements
from bot.domain.deployment.process_role import Role
from bot.domain.errors import StoreError
from bot.domain.jobs import JobStatus
from bot.domain.presenter import ReplyPresenter
from bot.service.execution.reply_runner import ReplyRunner
from bot.store.store import Store

MAX_CARDS = 200
"""Cards that one gateway edits when the last worker goes or the first one comes; Discord limits edits."""


class FleetWatch:
    """Run `run` as long as the process lives, then await `leave`."""

    def __init__(
        self,
        store: Store,
        own: ProcessInfo,
        *,
        coordinator: ClusterCoordinator,
        reply_runner: ReplyRunner,
        presenter: ReplyPresenter,
    ) -> None:
        self._store = store
        self._cluster = store.cluster
        self._own = own
        self._coordinator = coordinator
        self._reply_runner = reply_runner
        self._presenter = presenter
        self._has_worker = True
        self._alive = {role: 0.0 for role in Role if role is not Role.ALL}
        self._disagreements = 0.0
        self._is_leaving = False

    def problem(self) -> str | None:
        """Return None while a worker is alive, as far as this process knows."""
        return None if self._has_worker else NO_WORKER

    def alive(self) -> Mapping[str, float]:
        """Return how many processes of each role are alive, as far as this process knows."""
        return {str(role): count for role, count in self._alive.items()}

    def disagreements(self) -> Mapping[str, float]:
        """Return in how many things the processes do not fit together, under the name that `check` has for it."""
        return {"fleet": self._disagreements}

    async def run(self) -> None:
        """Write and read every few seconds, until `leave` or cancelled. Raises StoreError."""
        while not self._is_leaving:
            await self._cluster.record_process(self._described())
            found = await self._cluster.processes()
            workers = [process for process in found if process.role is Role.WORKER and process.is_alive]
            self._has_worker = bool(workers)
            count = Counter(process.role for process in found if process.is_alive)
            self._alive = {role: float(count[role]) for role in self._alive}
            self._disagreements = float(len(disagreements(found)))
            await self._note_served(frozenset(name for worker in workers for name in worker.provider_keys))
            await asyncio.sleep(SIGN_OF_LIFE_PERIOD_SECONDS)

    def _described(self) -> ProcessInfo:
        """Return this process, without the providers that it leaves to others."""
        left = self._reply_runner.left_to_others()
        return replace(self._own, provider_keys=tuple(name for name in self._own.provider_keys if name not in left))

    async def _note_served(self, served: frozenset[str]) -> None:
        """Have the cards of queued jobs say that they wait for the operator, or say so no longer."""
        before, self._coordinator.served = self._coordinator.served, served
        if self._own.role is not Role.GATEWAY or served == before:
            return
        shown = 0
        for reply in await self._store.unfinished():
            queued = {job.provider for job in reply.jobs if job.status is JobStatus.QUEUED}
            if not reply.accepted or not queued:
                continue
            if not queued <= served:
                # No worker shows it. It cannot become older than what a worker shows: the job has to be sent first.
                self._presenter.reply_changed(reply.id)
            elif before is not None:
                self._reply_runner.show(reply.id)
            else:
                continue
            shown += 1
            if shown >= MAX_CARDS:
                return

    async def leave(self) -> None:
        """Take this process off the list; without the database it is left off when it is not seen any more."""
        self._is_leaving = True
        with contextlib.suppress(StoreError):
            await self._cluster.forget_process(self._own.id)
