"""Process roles: what a process of the bot does, and which shards a gateway serves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

_SHARDS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?/(\d{1,5})")


class Role(StrEnum):
    """Role of a process: one process does everything, or any number of gateways and workers share a PostgreSQL."""

    ALL = "all"
    GATEWAY = "gateway"
    """Answers commands, admits orders and receives webhooks."""
    WORKER = "worker"
    """Runs jobs and shows their replies; logs in without a gateway connection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shards:
    """The shards that one gateway serves, and the number of all shards."""

    ids: tuple[int, ...]
    count: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `0-3/16` or `5/16`. Raises ValueError."""
        match = _SHARDS.fullmatch(text.strip())
        if match is None:
            raise ValueError("not shards")
        first, count = int(match[1]), int(match[3])
        last = first if match[2] is None else int(match[2])
        if not first <= last < count:
            raise ValueError("no such shards")
        return cls(ids=tuple(range(first, last + 1)), count=count)
