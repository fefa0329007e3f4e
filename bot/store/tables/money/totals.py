"""Totals: SQL for what an account or a channel spent and reserved in a window, by whole days and then by quarters."""

from __future__ import annotations

from bot.domain.money.quota import Window
from bot.store.core.columns import QUARTERS_PER_DAY, to_quarter


def totals_of_accounts(accounts: str, window: str) -> str:
    """Return SQL for the totals of accounts, such as `= :account_id`, in the window of `bounds(window, …)`."""
    columns = (
        "held_usd_micros, settled_usd_micros, forgiven_usd_micros, wallet_held_usd_micros, wallet_settled_usd_micros"
    )
    return _totals(columns, "totals", "daily_totals", f"account_id {accounts}", window)


QUOTA_HELD = "held_usd_micros - wallet_held_usd_micros"
QUOTA_SPENT = "settled_usd_micros - wallet_settled_usd_micros - forgiven_usd_micros"
"""SQL for what counts against a member's quota: not what their wallet pays."""


def totals_of_channel(channel: str, window: str) -> str:
    """Return SQL for the totals of a channel or category, given as a parameter such as `:channel_id`."""
    columns = "held_usd_micros, settled_usd_micros"
    return _totals(columns, "channel_totals", "channel_daily_totals", f"channel_id = {channel}", window)


def _totals(columns: str, quarters: str, days: str, owner: str, window: str) -> str:
    return f"""(
        SELECT {columns} FROM {quarters}
        WHERE {owner} AND quarter >= :{window}_from AND quarter < :{window}_head_until
        UNION ALL SELECT {columns} FROM {days}
        WHERE {owner} AND day >= :{window}_first_day AND day < :{window}_end_day
        UNION ALL SELECT {columns} FROM {quarters}
        WHERE {owner} AND quarter >= :{window}_tail_from AND quarter < :{window}_until
    ) AS counted"""  # noqa: S608 - our own words


def bounds(name: str, window: Window) -> dict[str, int]:
    """Return the quarters and days of a window as parameters of the SQL above. Days are in UTC, in any time zone."""
    start, end = to_quarter(window.start), to_quarter(window.end)
    first_day, end_day = -(-start // QUARTERS_PER_DAY), end // QUARTERS_PER_DAY
    if first_day >= end_day:  # no whole day in it
        first_day = end_day = 0
        head_until = tail_from = end
    else:
        head_until, tail_from = first_day * QUARTERS_PER_DAY, end_day * QUARTERS_PER_DAY
    return {
        f"{name}_from": start,
        f"{name}_head_until": head_until,
        f"{name}_first_day": first_day,
        f"{name}_end_day": end_day,
        f"{name}_tail_from": tail_from,
        f"{name}_until": end,
    }
