"""Observed clock: the time as a server says it in its Date headers, for what must not trust this machine's clock."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace

import aiohttp


class ObservedClock:
    """Takes the newest Date header and carries it on by the monotonic clock, which nobody sets."""

    def __init__(self) -> None:
        self._observed: tuple[datetime, float] | None = None
        self._is_set = asyncio.Event()

    def observe(self, date_header: str | None) -> None:
        """Take the time from a Date header. One that is missing or unreadable changes nothing."""
        try:
            moment = parsedate_to_datetime(date_header or "").astimezone(UTC)
        except (ValueError, OverflowError):
            return
        self._observed = (moment, time.monotonic())
        self._is_set.set()

    def attach(self, trace: aiohttp.TraceConfig) -> None:
        """Observe every response of the sessions that have this trace."""
        trace.on_request_end.append(self._read)

    async def _read(
        self, session: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestEndParams
    ) -> None:
        self.observe(done.response.headers.get("Date"))

    async def now(self) -> datetime:
        """Return the time as the server says it; waits for its first response."""
        await self._is_set.wait()
        assert self._observed is not None, "set before the event"
        moment, observed_at = self._observed
        return moment + timedelta(seconds=time.monotonic() - observed_at)
