"""Patterns: what moderators type when they mean one model or many."""

from __future__ import annotations

import re
from collections.abc import Collection

from bot.catalogue.catalogue import Catalogue
from bot.domain.policy import is_pattern, matches

_PATTERN = re.compile(r"[a-z0-9._/*?-]{1,100}")


def read(text: str, catalogue: Catalogue, known: Collection[str]) -> str | None:
    """The id of the model, or the pattern when it fits any model or is `known`; None when it fits nothing.

    Raises UnknownModel.
    """
    typed = text.strip().casefold()
    if typed in known:
        return typed
    if not is_pattern(typed):
        return catalogue.get(text).id
    if not _PATTERN.fullmatch(typed):
        return None
    return typed if any(matches(typed, model.id) for model in catalogue.models) else None
