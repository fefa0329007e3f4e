"""Retention: erases what has reached its age, at the start and once an hour, and only while all clocks agree.

What is erased does not come back, so one wrong clock must not be enough: the machine's has to agree with Discord's and
the providers'. And where all were wrong, a sweep erases what became old within one day of the sweep before.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from bot.media.blob_store import BlobStore
from bot.runtime.trusted_clock import TrustedClock
from bot.store.store import Store

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 3600.0
DISAGREEMENT_PAUSE_SECONDS = 30.0
MAX_STEP = timedelta(days=1)
"""Most time that one sweep may catch up."""

_SWEPT_UNTIL = "swept until"


class Retention:
    """Sweeps the database and the stored images."""

    def __init__(self, *, store: Store, blob_store: BlobStore, clock: TrustedClock) -> None:
        self._store = store
        self._blob_store = blob_store
        self._clock = clock
        self._list_is_whole = True

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await self.repeat_erasures()
            agreed = self._clock.agreed_time()
            if agreed is not None:
                await self.sweep(agreed)
            await asyncio.sleep(DISAGREEMENT_PAUSE_SECONDS if agreed is None else SWEEP_SECONDS)

    async def repeat_erasures(self) -> None:
        """Erase again what members had erased after a backup was taken that is in use now."""
        try:
            done, waiting = await self._store.repeat_erasures(now=self._clock.now())
            lacks = await self._store.lacks_listed_erasures(now=self._clock.now())
        except OSError:
            _log.exception("the list of erasures cannot be read")
            return
        if done or waiting:
            _log.warning(
                "the database is an older backup: %d erasures were done again, %d wait for jobs of the member to end",
                done,
                waiting,
            )

        if lacks and self._list_is_whole:
            _log.error(
                "the list of erasures lacks some that were done, so a restored backup would bring back what was "
                "erased: the data folder has to be a lasting one, and one for all processes"
            )
        self._list_is_whole = not lacks

    async def sweep(self, agreed: datetime) -> None:
        """Erase what is old at the agreed time, or a day after the last sweep if that is earlier."""
        now = await self._step(agreed)
        forgotten = await self._store.forget_old(now=now)
        if names := await self._store.forget_names_on_record(now=now):
            _log.info("forgot the names in %d entries of the record of changes", names)
        deleted = await self._blob_store.sweep(await self._store.sha256_in_use(now=now))
        if forgotten or deleted:
            _log.info("forgot %d old prompts, deleted %d images that are no longer needed", forgotten, deleted)
        await self._store.set_value(_SWEPT_UNTIL, now.isoformat())

    async def _step(self, agreed: datetime) -> datetime:
        swept_until = await self._store.get_value(_SWEPT_UNTIL)
        if swept_until is None:
            return agreed
        return min(agreed, datetime.fromisoformat(swept_until).astimezone(UTC) + MAX_STEP)
