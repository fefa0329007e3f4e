"""FleetWatch: tells the other processes that this one is alive, and knows whether any worker is."""

from __future__ import annotations

import asyncio
import contextlib

from bot.domain.errors import StoreError
from bot.domain.fleet import HEARTBEAT_SECONDS, NO_WORKER, ProcessInfo
from bot.domain.process_role import Role
from bot.store.cluster_store import ClusterStore


class FleetWatch:
    """Run `run` as long as the process lives, then await `leave`."""

    def __init__(self, cluster: ClusterStore, own: ProcessInfo) -> None:
        self._cluster = cluster
        self._own = own
        self._has_worker = True
        self._is_leaving = False

    def problem(self) -> str | None:
        """Return None while a worker is alive, as far as this process knows."""
        return None if self._has_worker else NO_WORKER

    async def run(self) -> None:
        """Write and read every few seconds, until `leave` or cancelled. Raises StoreError."""
        while not self._is_leaving:
            await self._cluster.record_process(self._own)
            found = await self._cluster.processes()
            self._has_worker = any(process.role is Role.WORKER and process.is_alive for process in found)
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def leave(self) -> None:
        """Take this process off the list; without the database it is left off when it is not seen any more."""
        self._is_leaving = True
        with contextlib.suppress(StoreError):
            await self._cluster.forget_process(self._own.id)
