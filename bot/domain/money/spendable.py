"""Spendable: what one member may spend now, the least of all limits, and which limit that is. Values only, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from bot.domain.money.quota import Balance, Cap, Wallet


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
    OPERATOR_DIRECT_CAP = "operator_direct_cap"
    """The operator's cap for all people together who order outside the servers that have the bot."""
    OPERATOR_CAP = "operator_cap"


CAPS_OF_MODERATORS = (BindingLimit.CHANNEL_CAP, BindingLimit.CATEGORY_CAP, BindingLimit.SERVER_CAP)
"""They bound what happens in a place, with all money that is spent there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Spendable:
    """All limits of one member at one moment."""

    balance: Balance
    caps: Mapping[BindingLimit, Cap]
    """Caps shared with other members, in the order in which they are named where several leave the same."""
    blocked: bool
    paused_until: datetime | None
    """Until when uncharged jobs keep the member from ordering; None if they do not."""
    wallet: Wallet = field(default_factory=Wallet)
    """It pays what the quota and the operator's caps leave no room for. Caps set by moderators bind it as well."""

    def after_reserving(self, amount_usd_micros: int, *, from_wallet_usd_micros: int) -> Spendable:
        """Return what is left once an amount is reserved, of which the wallet pays a part.

        That part counts against the caps of moderators, but not against the quota and the caps of the operator.
        """
        others = amount_usd_micros - from_wallet_usd_micros
        balance = replace(self.balance, set_aside_usd_micros=self.balance.set_aside_usd_micros + others)
        caps = {
            limit: replace(
                cap,
                set_aside_usd_micros=cap.set_aside_usd_micros
                + (amount_usd_micros if limit in CAPS_OF_MODERATORS else others),
            )
            for limit, cap in self.caps.items()
        }
        wallet = Wallet(
            available_usd_micros=self.wallet.available_usd_micros - from_wallet_usd_micros,
            set_aside_usd_micros=self.wallet.set_aside_usd_micros + from_wallet_usd_micros,
        )
        return replace(self, balance=balance, caps=caps, wallet=wallet)

    @property
    def binding(self) -> BindingLimit:
        """The limit that leaves the least; the member's own quota if a cap leaves as much."""
        if self.blocked:
            return BindingLimit.BLOCK
        if self.paused_until is not None:
            return BindingLimit.MEMBER_COST
        least, left = BindingLimit.QUOTA, self._with_wallet(BindingLimit.QUOTA)
        for limit in self.caps:
            available = self._with_wallet(limit)
            if available is not None and (left is None or available < left):
                least, left = limit, available
        return least

    @property
    def left_usd_micros(self) -> int | None:
        """What the member may still spend; None for no limit."""
        match self.binding:
            case BindingLimit.BLOCK | BindingLimit.MEMBER_COST:
                return 0
            case limit:
                return self._with_wallet(limit)

    @property
    def left_of_binding_usd_micros(self) -> int | None:
        """What the binding limit alone leaves, without the wallet; None for no limit."""
        match self.binding:
            case BindingLimit.BLOCK | BindingLimit.MEMBER_COST:
                return 0
            case limit:
                return (self.balance if limit is BindingLimit.QUOTA else self.caps[limit]).available_usd_micros

    @property
    def is_helped_by_wallet(self) -> bool:
        """Whether the member may order with what is in the wallet."""
        if self.binding in (BindingLimit.BLOCK, BindingLimit.MEMBER_COST):
            return False
        return all(self.caps[limit].available_usd_micros != 0 for limit in CAPS_OF_MODERATORS if limit in self.caps)

    def _with_wallet(self, limit: BindingLimit) -> int | None:
        """Return what a limit leaves, with what the wallet adds where it may pay beyond that limit."""
        left = (self.balance if limit is BindingLimit.QUOTA else self.caps[limit]).available_usd_micros
        if left is None or limit in CAPS_OF_MODERATORS:
            return left
        return left + self.wallet.available_usd_micros

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
