"""StyleReader: keeps the styles at what a provider lists, in the background and in nobody's way.

What was read last is kept as a note, so that a restart has it at once. Then the list is read page by page, and again a
few times a day; while that fails, the old list stays and the next try comes later and later.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable

from bot.catalogue.styles import Style, Styles
from bot.domain.errors import ProviderDenied, ProviderError, ProviderUnavailable, StoreError
from bot.providers.krea import KreaProvider
from bot.store.store import Store

_log = logging.getLogger(__name__)

MAX_STYLES = 2_000
MAX_PAGES = 20
"""Whichever comes first ends the reading: the list is as long as the provider's public likes to be."""

BETWEEN_PAGES_SECONDS = 1.0
BETWEEN_READINGS_SECONDS = 6 * 3600.0
FIRST_PAUSE_SECONDS = 60.0
MAX_PAUSE_SECONDS = 3600.0


class StyleReader:
    """Reads one provider's list. `is_open` tells whether the provider is to be asked anything at the moment."""

    def __init__(
        self,
        styles: Styles,
        source: KreaProvider,
        store: Store,
        *,
        is_open: Callable[[], bool],
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
        between_pages_seconds: float = BETWEEN_PAGES_SECONDS,
    ) -> None:
        self._styles = styles
        self._source = source
        self._store = store
        self._is_open = is_open
        self._first_pause_seconds = first_pause_seconds
        self._between_pages_seconds = between_pages_seconds
        self._note = f"styles of {source.name}"

    async def run(self) -> None:
        """Keep the list fresh, for ever."""
        await self.recall()
        pause_seconds = self._first_pause_seconds
        while True:
            wait_seconds = pause_seconds
            pause_seconds = min(pause_seconds * 2, MAX_PAUSE_SECONDS)
            # While the provider is down or refuses our key it is left alone: its lane finds out when that changes.
            if self._is_open():
                try:
                    await self.read()
                except ProviderDenied as error:
                    # A key may order and yet not look at styles, so the lane stays open.
                    _log.warning("the list of styles is refused: %s", error)
                    wait_seconds = MAX_PAUSE_SECONDS
                except ProviderError as error:
                    _log.info("the list of styles could not be read: %s", error)
                else:
                    wait_seconds, pause_seconds = BETWEEN_READINGS_SECONDS, self._first_pause_seconds
            # Bots that started together should not ask together for ever.
            await asyncio.sleep(wait_seconds * random.uniform(0.9, 1.0))  # noqa: S311 - no secret depends on it

    async def recall(self) -> None:
        """Take up what was read before the last stop."""
        try:
            kept = await self._store.get_value(self._note)
        except StoreError as error:
            _log.info("the noted styles could not be read: %s", error)
            return
        if kept is not None:
            self._styles.load(kept)

    async def read(self) -> None:
        """Read the list anew and note it. Raises ProviderError; then what was known stays."""
        found = await self._pages()
        if not found:
            raise ProviderUnavailable(f"{self._source.name}: an empty list of styles")
        before = self._styles.dump()
        self._styles.replace(found)
        after = self._styles.dump()
        _log.info("%d styles of %s are known", len(found), self._source.name)
        if after == before:
            return
        try:
            await self._store.set_value(self._note, after)
        except StoreError as error:
            _log.info("the styles could not be noted: %s", error)

    async def _pages(self) -> list[Style]:
        found: dict[str, Style] = {}
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            page = await self._source.styles(cursor)
            found.update((style.id, style) for style in page.styles)
            if page.next_cursor is None or page.next_cursor == cursor or len(found) >= MAX_STYLES:
                break
            cursor = page.next_cursor
            await asyncio.sleep(self._between_pages_seconds)
        return list(found.values())[:MAX_STYLES]
