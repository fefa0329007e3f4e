"""Spendable: what one member may spend now, the least of all limits, and which limit that is. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from bot.domain.quota import Balance, Cap


class BindingLimit(StrEnum):
    """The limit that leaves a member the least."""

    BLOCK = "block"
    """A moderator has blocked the member."""
    MEMBER_COST = "member_cost"
    """The member's uncharged jobs have cost the operator as much as they may today."""
    QUOTA = "quota"
    CHANNEL_CAP = "channel_cap"
    """The cap that moderators set for the channel."""
    CATEGORY_CAP = "category_cap"
    """The cap that moderators set for the channel's category."""
    SERVER_CAP = "server_cap"
    """The cap that moderators set for the whole server."""
    OPERATOR_SERVER_CAP = "operator_server_cap"
    OPERATOR_CAP = "operator_cap"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spendable:
    """All limits of one member at one moment."""

    balance: Balance
    caps: Mapping[BindingLimit, Cap]
    """Caps shared with other members, in the order in which they are named where several leave the same."""
    blocked: bool
    paused_until: datetime | None
    """Until when uncharged jobs keep the member from ordering; None if they do not."""

    @property
    def binding(self) -> BindingLimit:
        """The limit that leaves the least; the member's own quota if a cap leaves as much."""
        if self.blocked:
            return BindingLimit.BLOCK
        if self.paused_until is not None:
            return BindingLimit.MEMBER_COST
        least, left = BindingLimit.QUOTA, self.balance.available_usd_micros
        for limit, cap in self.caps.items():
            available = cap.available_usd_micros
            if available is not None and (left is None or available < left):
                least, left = limit, available
        return least

    @property
    def left_usd_micros(self) -> int | None:
        """What the member may still spend; None for no limit."""
        match self.binding:
            case BindingLimit.BLOCK | BindingLimit.MEMBER_COST:
                return 0
            case BindingLimit.QUOTA:
                return self.balance.available_usd_micros
            case limit:
                return self.caps[limit].available_usd_micros

    @property
    def resets_at(self) -> datetime | None:
        """When the binding limit starts over; None for a block, which only a moderator ends."""
        match self.binding:
            case BindingLimit.BLOCK:
                return None
            case BindingLimit.MEMBER_COST:
                return self.paused_until
            case BindingLimit.QUOTA:
                return self.balance.window.end
            case limit:
                return self.caps[limit].window.end
