"""Warnings about limits that are nearly used up, and the notice to the operator."""

from __future__ import annotations

from collections.abc import Sequence

from bot.domain.money.quota import Balance, Cap, format_usd
from cogs.text import formatting, spending
from cogs.text.locale import Phrase

MEMBER_WARNING = Phrase("You have used {percent}% of your quota: {left} of {limit} left. It resets {when}.")
SERVER_WARNING = Phrase(
    "This server has used {percent}% of its cap: {left} of {cap} left. It resets {when}. "
    "Change it with `/quota server`."
)
CHANNEL_WARNING = Phrase(
    "{channel} has used {percent}% of its cap: {left} of {cap} left. It resets {when}. Change it with `/quota channel`."
)
_OPERATOR_WARNING = (
    "All servers together have used {percent}% of today's cap of {limit} (OPERATOR_DAILY_CAP_USD). "
    "At the cap no new orders are taken until midnight UTC."
)

ACCEPT = Phrase("Accept")
KEEP = Phrase("Keep")
OPERATOR_ONLY = Phrase("Only the operator of this bot may decide that.")

OPERATOR_NOTICE = "### Your image bot needs you\n{text}"
"""To the operator, whose notices are English like the log."""


def member_warning(balance: Balance) -> str:
    """Return the warning for a member, sent once in a window."""
    limit = balance.limit_usd_micros or 0
    return MEMBER_WARNING(
        percent=_percent(balance.used_usd_micros, limit),
        left=format_usd(balance.available_usd_micros or 0),
        limit=format_usd(limit),
        when=formatting.moment(balance.window.end),
    )


def server_warning(cap: Cap) -> str:
    """Return the warning for the moderators' log channel, sent once in a window."""
    return SERVER_WARNING(
        percent=_percent(cap.used_usd_micros, cap.quota.amount_usd_micros or 0),
        left=format_usd(cap.available_usd_micros or 0),
        cap=spending.quota(cap.quota),
        when=formatting.moment(cap.window.end),
    )


def channel_warning(cap: Cap) -> str:
    """Return the warning about a channel or category for the moderators' log channel, sent once in a window."""
    return CHANNEL_WARNING(
        channel=formatting.channel(cap.channel_id or 0),
        percent=_percent(cap.used_usd_micros, cap.quota.amount_usd_micros or 0),
        left=format_usd(cap.available_usd_micros or 0),
        cap=spending.quota(cap.quota),
        when=formatting.moment(cap.window.end),
    )


def operator_warning(cap: Cap) -> str:
    """Return the warning for the operator, sent once a day: plain text, in English like the log."""
    limit = cap.quota.amount_usd_micros or 0
    return _OPERATOR_WARNING.format(percent=_percent(cap.used_usd_micros, limit), limit=format_usd(limit))


def decided(model_ids: Sequence[str], *, accepted: bool, user_id: int) -> str:
    """Return what became of the changes of a message to the operator: plain text, in English like the log."""
    if not model_ids:
        return "Nothing of this waits for a decision any more."
    names = ", ".join(f"`{model_id}`" for model_id in model_ids[:_MAX_MODELS])
    more = f" and {len(model_ids) - _MAX_MODELS} more" if len(model_ids) > _MAX_MODELS else ""
    what = "accepted: the changes are in force now" if accepted else "kept as they were; they take orders again"
    return f"{names}{more}: {what} (<@{user_id}>)."


_MAX_MODELS = 20


def _percent(used: int, limit: int) -> int:
    return used * 100 // limit if limit else 100
