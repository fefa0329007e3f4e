"""Kept orders: refused commands, in memory for some minutes, for the buttons below the refusal.

They are not stored in the database: nothing was ordered, and the refusal itself shows the whole command.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from cogs.generate.ordering.order import Order
from cogs.ui.typed_command import TypedCommand

KEPT_SECONDS = 15 * 60
"""As long as Discord lets the refusal itself be changed."""

MAX_PER_MEMBER = 5
MAX_KEPT = 1_000
"""A prompt has at most 6,000 characters, so these take some megabytes at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One refused command of a member, and the orders that its buttons offer."""

    user_id: int
    typed: TypedCommand | None
    orders: tuple[Order, ...]
    kept_at: float


class KeptOrders:
    """The refused commands of all members, the oldest first."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()

    def keep(self, *, user_id: int, typed: TypedCommand | None, orders: tuple[Order, ...]) -> str:
        """Keep a refused command and return its key; the oldest ones make room."""
        self._drop_old()
        own = [key for key, kept in self._kept.items() if kept.user_id == user_id]
        for key in own[: max(0, len(own) - MAX_PER_MEMBER + 1)]:
            del self._kept[key]
        while len(self._kept) >= MAX_KEPT:
            self._kept.popitem(last=False)
        key = secrets.token_hex(8)
        self._kept[key] = Kept(user_id=user_id, typed=typed, orders=orders, kept_at=self._clock())
        return key

    def find(self, key: str, *, user_id: int) -> Kept | None:
        """Return a kept command of this member."""
        self._drop_old()
        kept = self._kept.get(key)
        return kept if kept is not None and kept.user_id == user_id else None

    def forget(self, user_id: int) -> None:
        """Drop everything kept of a member."""
        for key in [key for key, kept in self._kept.items() if kept.user_id == user_id]:
            del self._kept[key]

    def _drop_old(self) -> None:
        oldest = self._clock() - KEPT_SECONDS
        while self._kept and next(iter(self._kept.values())).kept_at < oldest:
            self._kept.popitem(last=False)
