"""Sharing: an image in the showcase channel of a server. Values only, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SharedImage:
    """What became of sharing an image; `message_id` is None as long as it is not known to be posted."""

    channel_id: int
    message_id: int | None
    is_removed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareClaim:
    """The right to post an image for a while. `is_first` is False if an earlier attempt may have posted it."""

    channel_id: int
    is_first: bool
    first_claimed_at: datetime
