"""Words: a provider's status words read as ours. One never seen before reads as 'still running' and is logged once."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from bot.domain.jobs import JobStatus, Progress

_log = logging.getLogger(__name__)

StatusMeaning = tuple[JobStatus, Progress | None]

# A provider that sends a new word each time must not fill our memory or our log.
_REMEMBERED_MAX = 100


class StatusMap:
    """The status vocabulary of one provider."""

    def __init__(self, provider: str, known: Mapping[str, StatusMeaning]) -> None:
        self._provider = provider
        self._known = known
        self._logged: set[str] = set()

    def read(self, word: Any) -> StatusMeaning:
        """The meaning of `word`, whatever its case."""
        text = word.strip().lower() if isinstance(word, str) else str(word)
        meaning = self._known.get(text)
        if meaning is not None:
            return meaning
        name = text[:60]
        if name not in self._logged and len(self._logged) < _REMEMBERED_MAX:
            self._logged.add(name)
            _log.warning("%s sent a status never seen before: %r. Read as running.", self._provider, name)
        return JobStatus.RUNNING, None
