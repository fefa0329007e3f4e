"""TrustedClock: the time of day of one process, which a wrong clock of the machine does not move.

The time is read from the machine once and carried on by the monotonic clock, which cannot be set, so a jump changes no
deadline of running work. It is set again only to what Discord says in its Date headers. What cannot be undone asks
`agreed_time`, which has an answer only while the machine, Discord and the providers agree.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from types import SimpleNamespace

import aiohttp

_log = logging.getLogger(__name__)

DISCORD = "discord"
PROVIDERS = "providers"

MAX_SKEW = timedelta(seconds=60)
"""Clocks that differ by more than this do not agree."""

_SAME_HEADER_SECONDS = 1.0
"""For this long, the same Date header of the same source says nothing new: headers count seconds."""


def utc_now() -> datetime:
    """Return what the machine takes for the time of day."""
    return datetime.now(UTC)


class TrustedClock:
    """Call `now` for the time. `observe` takes the Date header of each response of Discord and the providers."""

    def __init__(
        self,
        *,
        wall_clock: Callable[[], datetime] = utc_now,
        monotonic_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wall_clock = wall_clock
        self._monotonic_clock = monotonic_clock
        self._anchor = (wall_clock(), monotonic_clock())
        self._observed: dict[str, tuple[datetime, float]] = {}
        self._headers: dict[str, str] = {}
        self._skewed = frozenset[str]()

    def now(self) -> datetime:
        """Return the time in UTC."""
        return self._carried_on(self._anchor)

    @property
    def is_set(self) -> bool:
        """Whether Discord said what time it is."""
        return DISCORD in self._observed

    def agreed_time(self) -> datetime | None:
        """Return the time if this machine's clock, Discord and the providers agree on it, else None."""
        wall_time = self._wall_clock()
        if DISCORD not in self._observed or self._skewed_sources(wall_time) or not _are_close(wall_time, self.now()):
            return None
        return min(wall_time, self.now())

    def skew_seconds(self) -> Mapping[str, float]:
        """Return by how many seconds this machine's clock is ahead of each source; 0 for one that was not heard yet."""
        wall_time = self._wall_clock()
        return {
            source: (wall_time - self._carried_on(self._observed[source])).total_seconds()
            if source in self._observed
            else 0.0
            for source in (DISCORD, PROVIDERS)
        }

    def observe(self, source: str, date_header: str | None) -> None:
        """Take the time from a Date header. One that is missing or unreadable changes nothing."""
        if not date_header:
            return
        known_at = self._monotonic_clock()
        if self._headers.get(source) == date_header and known_at - self._observed[source][1] < _SAME_HEADER_SECONDS:
            return
        try:
            moment = parsedate_to_datetime(date_header).astimezone(UTC)
        except (ValueError, OverflowError):
            return
        self._headers[source] = date_header
        self._observed[source] = (moment, known_at)
        if source == DISCORD and not _are_close(moment, self.now()):
            self._set(moment)
        self._tell_of_skew()

    def attach(self, trace: aiohttp.TraceConfig, source: str) -> None:
        """Observe every response of the sessions that have this trace."""

        async def read(_: aiohttp.ClientSession, context: SimpleNamespace, done: aiohttp.TraceRequestEndParams) -> None:
            self.observe(source, done.response.headers.get("Date"))

        trace.on_request_end.append(read)

    def _set(self, discord_time: datetime) -> None:
        """Set the time to what Discord says, unless the providers contradict it: then nobody knows, and it stays."""
        by_providers = self._observed.get(PROVIDERS)
        if by_providers is not None and not _are_close(discord_time, self._carried_on(by_providers)):
            return
        wall_time = self._wall_clock()
        # A machine that slept stops the monotonic clock; its own clock is right then, and more precise than a header.
        corrected = wall_time if _are_close(wall_time, discord_time) else discord_time
        _log.warning("the time is set from %s to %s, as Discord says", self.now().isoformat(), corrected.isoformat())
        self._anchor = (corrected, self._monotonic_clock())

    def _tell_of_skew(self) -> None:
        skewed = self._skewed_sources(self._wall_clock())
        if skewed - self._skewed:
            _log.error(
                "the clock of this machine is wrong: it is ahead by %s. Nothing is erased until it is right",
                ", ".join(f"{self.skew_seconds()[source]:.0f} s of {source}" for source in sorted(skewed)),
            )
        elif self._skewed and not skewed:
            _log.info("the clock of this machine is right again")
        self._skewed = skewed

    def _skewed_sources(self, wall_time: datetime) -> frozenset[str]:
        return frozenset(
            source
            for source, observed in self._observed.items()
            if not _are_close(wall_time, self._carried_on(observed))
        )

    def _carried_on(self, known: tuple[datetime, float]) -> datetime:
        moment, known_at = known
        return moment + timedelta(seconds=self._monotonic_clock() - known_at)


def _are_close(first: datetime, second: datetime) -> bool:
    return abs(first - second) <= MAX_SKEW
