"""Words for what a member has left: the least of all limits, and which limit that is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from bot.domain.money.quota import format_usd
from bot.domain.money.spendable import BindingLimit, Spendable
from cogs.text.formatting import amount_left, channel, day, moment
from cogs.text.locale import Phrase

LEFT_FOR_SERVER = Phrase("{left} left for this server")
LEFT_FOR_CHANNEL = Phrase("{left} left for {channel}")
LEFT_AT_BOT = Phrase("{left} left of the bot's cap")

BLOCKED = Phrase("🚫 A moderator has paused your orders here: nothing can be ordered until they lift that.")
NO_QUOTA = Phrase("🚫 Your quota here is zero: nothing can be ordered.")
NO_QUOTA_BUT_CREDIT = Phrase("🚫 Your quota here is zero: only credit in your wallet pays for orders.")
PAUSED = Phrase("🚫 Your failed orders have cost the bot's operator too much today: you can order again {when}.")
CHANNEL_CAP = Phrase("⚠️ The cap of {channel} applies: it has **{left}** left for everybody. It resets {when}.")
SERVER_CAP = Phrase("⚠️ The cap of this server applies: it has **{left}** left for everybody. It resets {when}.")
OPERATOR_SERVER_CAP = Phrase(
    "⚠️ The bot's own cap for this server applies: it has **{left}** left today. It resets {when}."
)
OPERATOR_DIRECT_CAP = Phrase(
    "⚠️ The bot's own cap for everybody who orders outside servers applies: it has **{left}** left today. "
    "It resets {when}."
)
OPERATOR_CAP = Phrase("⚠️ The bot's own daily cap applies: it has **{left}** left for all servers. It resets {when}.")

BLOCKED_FOR_MODERATORS = Phrase("blocked by a moderator")
NO_QUOTA_FOR_MODERATORS = Phrase("the quota is zero")
QUOTA_FOR_MODERATORS = Phrase("**{left}** of the quota is left until {when}")
PAUSED_FOR_MODERATORS = Phrase("failed orders cost the bot's operator too much today; this ends {when}")
CHANNEL_CAP_FOR_MODERATORS = Phrase("the cap of {channel} has **{left}** left until {when}")
SERVER_CAP_FOR_MODERATORS = Phrase("the cap of the server has **{left}** left until {when}")
OPERATOR_SERVER_CAP_FOR_MODERATORS = Phrase("the bot's own cap for this server has **{left}** left until {when}")
OPERATOR_CAP_FOR_MODERATORS = Phrase("the bot's own daily cap has **{left}** left until {when}")

_TO_MEMBER = {
    BindingLimit.BLOCK: BLOCKED,
    BindingLimit.MEMBER_COST: PAUSED,
    BindingLimit.CHANNEL_CAP: CHANNEL_CAP,
    BindingLimit.CATEGORY_CAP: CHANNEL_CAP,
    BindingLimit.SERVER_CAP: SERVER_CAP,
    BindingLimit.OPERATOR_SERVER_CAP: OPERATOR_SERVER_CAP,
    BindingLimit.OPERATOR_DIRECT_CAP: OPERATOR_DIRECT_CAP,
    BindingLimit.OPERATOR_CAP: OPERATOR_CAP,
}
_TO_MODERATORS = {
    BindingLimit.BLOCK: BLOCKED_FOR_MODERATORS,
    BindingLimit.MEMBER_COST: PAUSED_FOR_MODERATORS,
    BindingLimit.QUOTA: QUOTA_FOR_MODERATORS,
    BindingLimit.CHANNEL_CAP: CHANNEL_CAP_FOR_MODERATORS,
    BindingLimit.CATEGORY_CAP: CHANNEL_CAP_FOR_MODERATORS,
    BindingLimit.SERVER_CAP: SERVER_CAP_FOR_MODERATORS,
    BindingLimit.OPERATOR_SERVER_CAP: OPERATOR_SERVER_CAP_FOR_MODERATORS,
    BindingLimit.OPERATOR_CAP: OPERATOR_CAP_FOR_MODERATORS,
}


def _has_no_quota(spendable: Spendable) -> bool:
    has_none = spendable.binding is BindingLimit.QUOTA and spendable.balance.limit_usd_micros == 0
    return has_none and spendable.wallet.available_usd_micros == 0


def binding(spendable: Spendable, *, sells_credit: bool = False) -> str:
    """Tell a member which limit leaves less than their own quota; '' if none does."""
    if _has_no_quota(spendable):
        return NO_QUOTA_BUT_CREDIT() if sells_credit else NO_QUOTA()
    if spendable.binding is BindingLimit.QUOTA:
        return ""
    return _said(_TO_MEMBER[spendable.binding], spendable)


def binding_for_moderators(spendable: Spendable) -> str:
    """Return the limit that leaves a member the least, as part of a sentence."""
    if _has_no_quota(spendable):
        return NO_QUOTA_FOR_MODERATORS()
    # Behind "until" goes a time, not "in an hour".
    says = moment if spendable.binding is BindingLimit.MEMBER_COST else day
    return _said(_TO_MODERATORS[spendable.binding], spendable, says=says)


def _said(phrase: Phrase, spendable: Spendable, *, says: Callable[[datetime], str] = moment) -> str:
    left, resets_at = spendable.left_of_binding_usd_micros, spendable.resets_at
    return phrase(
        left="" if left is None else format_usd(left),
        when="" if resets_at is None else says(resets_at),
        channel=_channel(spendable),
    )


def _channel(spendable: Spendable) -> str:
    cap = spendable.caps.get(spendable.binding)
    return channel(cap.channel_id) if cap is not None and cap.channel_id is not None else ""


def on_card(spendable: Spendable) -> str:
    """Return '$0.92 left', or whose limit it is if not the member's. A card is public, so it names no block."""
    left = spendable.left_usd_micros
    match spendable.binding:
        case BindingLimit.CHANNEL_CAP | BindingLimit.CATEGORY_CAP if left is not None:
            return LEFT_FOR_CHANNEL(left=format_usd(left), channel=_channel(spendable))
        case BindingLimit.SERVER_CAP if left is not None:
            return LEFT_FOR_SERVER(left=format_usd(left))
        case BindingLimit.OPERATOR_SERVER_CAP | BindingLimit.OPERATOR_DIRECT_CAP | BindingLimit.OPERATOR_CAP if (
            left is not None and not spendable.wallet.available_usd_micros
        ):
            return LEFT_AT_BOT(left=format_usd(left))
        case _:
            return amount_left(left)
