"""Matching: whether a job in a provider's list is a certain order of ours, as far as the list tells."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from bot.providers.base import RemoteJob

_OTHER_TYPE = re.compile(r"video|audio|sound|music|3d|mesh|train|lora", re.IGNORECASE)


class Match(StrEnum):
    """What a listed job and an order have to do with each other."""

    FITS = "fits"
    """Model and request body are listed, and equal to those of the order."""
    POSSIBLE = "possible"
    """Nothing speaks against it, but the list does not tell enough."""
    EXCLUDED = "excluded"
    """Type, model or request body are those of another order."""


def match(remote: RemoteJob, *, path: str, body: Mapping[str, Any] | None) -> Match:
    """Compare a listed job with an order that was sent to `path`; `body` is None where it is not known any more."""
    if remote.type is not None and _OTHER_TYPE.search(remote.type):
        return Match.EXCLUDED
    if remote.model is not None and not _is_model_of(path, remote.model):
        return Match.EXCLUDED
    if remote.input is None or body is None:
        return Match.POSSIBLE
    listed = {name: value for name, value in remote.input.items() if value is not None}
    sent = {name: value for name, value in body.items() if value is not None}
    if any(listed[name] != value for name, value in sent.items() if name in listed):
        return Match.EXCLUDED
    # Fields that only one of both has may be defaults of the provider, or another order.
    return Match.FITS if remote.model is not None and listed == sent else Match.POSSIBLE


def _is_model_of(path: str, model: str) -> bool:
    return f"/{path.strip('/')}".endswith(f"/{model.strip('/')}")
