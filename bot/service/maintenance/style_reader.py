"""StyleReader: keeps the list of styles up to date with what a provider lists, in the background.

The last list is kept in the database, so that it is there at once after a restart. Then the list is read page by page
every few hours; while that fails, the old list stays and the pause between attempts grows.
"""

from __future__ import annotations

import asyncio
import logging
import random

from bot.catalogue.styles import Style, Styles
from bot.dispatch.circuit_breaker import CircuitBreaker
from bot.domain.errors import ProviderDenied, ProviderError, ProviderUnavailable, StoreError
from bot.providers.base import Provider
from bot.runtime.retry import backoff_seconds
from bot.store.store import Store

_log = logging.getLogger(__name__)

MAX_STYLES = 2_000
MAX_PAGES = 20
"""The first limit that is reached ends the reading: the list is as long as the provider's users make it."""

PAGE_PAUSE_SECONDS = 1.0
READ_INTERVAL_SECONDS = 6 * 3600.0
FIRST_PAUSE_SECONDS = 60.0
MAX_PAUSE_SECONDS = 3600.0
JITTER = 0.1
"""Bots that started together read at different times."""


class StyleReader:
    """Reads the list of one provider that `has_styles`, as long as the provider's circuit breaker is closed."""

    def __init__(
        self,
        styles: Styles,
        source: Provider,
        store: Store,
        *,
        breaker: CircuitBreaker,
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        page_pause_seconds: float = PAGE_PAUSE_SECONDS,
    ) -> None:
        self._styles = styles
        self._source = source
        self._store = store
        self._breaker = breaker
        self._first_pause_seconds = first_pause_seconds
        self._page_pause_seconds = page_pause_seconds
        self._key = f"styles of {source.name}"

    async def run(self) -> None:
        """Keep the list up to date until cancelled."""
        await self.recall()
        failures = 0
        while True:
            failures += 1
            pause_seconds = backoff_seconds(
                failures, first_seconds=self._first_pause_seconds, max_seconds=MAX_PAUSE_SECONDS
            )
            # While the provider is down or refuses our key it is not asked: its breaker probes it.
            if not self._breaker.is_open:
                try:
                    await self.read()
                except ProviderDenied as error:
                    # A key may be allowed to order and yet not to list styles, so the breaker stays closed.
                    _log.warning("%s refuses the list of styles: %s", self._source.name, error)
                    pause_seconds = MAX_PAUSE_SECONDS
                except ProviderError as error:
                    _log.info("%s: the list of styles could not be read: %s", self._source.name, error)
                else:
                    failures, pause_seconds = 0, READ_INTERVAL_SECONDS
            await asyncio.sleep(pause_seconds * random.uniform(1 - JITTER, 1))  # noqa: S311 - no secret depends on it

    async def recall(self) -> None:
        """Load the list that was read before the last stop."""
        try:
            kept = await self._store.get_value(self._key)
        except StoreError as error:
            _log.info("the kept styles of %s could not be read: %s", self._source.name, error)
            return
        if kept is not None:
            self._styles.load(kept)

    async def read(self) -> None:
        """Read the list from the provider and keep it. Raises ProviderError; then the former list stays."""
        found = await self._pages()
        if not found:
            raise ProviderUnavailable(f"{self._source.name}: an empty list of styles")
        before = self._styles.dump()
        self._styles.replace(found)
        after = self._styles.dump()
        _log.info("read %d styles of %s", len(found), self._source.name)
        if after == before:
            return
        try:
            await self._store.set_value(self._key, after)
        except StoreError as error:
            _log.info("the styles of %s could not be kept: %s", self._source.name, error)

    async def _pages(self) -> list[Style]:
        found: dict[str, Style] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._source.styles(cursor)
            found.update((style.id, style) for style in page.styles)
            if page.next_cursor is None or page.next_cursor == cursor or len(found) >= MAX_STYLES:
                break
            cursor = page.next_cursor
            await asyncio.sleep(self._page_pause_seconds)
        return list(found.values())[:MAX_STYLES]
