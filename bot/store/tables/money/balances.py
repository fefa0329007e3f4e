"""Balances: the accounts of members, servers and the operator and the caps of channels, what was spent, what is left.

Synchronous functions inside the caller's transaction. What was spent in a window is read from totals, by whole days and
then by quarters. An order counts for its channel and for that channel's category, as they were when it was made.
"""

from __future__ import annotations

from datetime import datetime

from bot.domain.money.quota import (
    Balance,
    Cap,
    Limits,
    LimitSubject,
    Member,
    Period,
    Place,
    Quota,
    Wallet,
    Window,
)
from bot.store.core.columns import QUARTERS_PER_DAY, to_micros, to_quarter
from bot.store.core.connection import Connection, Row
from bot.store.tables.money.limits import UTC_ZONE, Terms, limit, limits_of, terms_for, time_zone


def totals_of_accounts(accounts: str, window: str) -> str:
    """Return SQL for the totals of accounts, such as `= :account_id`, in the window of `bounds(window, …)`."""
    columns = (
        "held_usd_micros, settled_usd_micros, forgiven_usd_micros, wallet_held_usd_micros, wallet_settled_usd_micros"
    )
    return _totals(columns, "totals", "daily_totals", f"account_id {accounts}", window)


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


OPERATOR_ACCOUNT_ID = 1

QUOTA_HELD = "held_usd_micros - wallet_held_usd_micros"
QUOTA_SPENT = "settled_usd_micros - wallet_settled_usd_micros - forgiven_usd_micros"
"""SQL for what counts against a member's quota: not what their wallet pays."""

OPEN_MEMBER_ACCOUNT = """
SELECT id FROM accounts WHERE kind = 'member' AND user_id = :user_id AND guild_id = :guild_id AND closed_at IS NULL
"""
# One, unless the member asked to be forgotten in the windows that still count: then what they spent before counts too.
MEMBER_ACCOUNTS = "SELECT id FROM accounts WHERE kind = 'member' AND user_id = ? AND guild_id = ? ORDER BY id"
SERVER_ACCOUNT = "SELECT id FROM accounts WHERE kind = 'server' AND guild_id = :guild_id"
_OPEN_ACCOUNT = "INSERT INTO accounts (kind, guild_id, user_id) VALUES (?, ?, ?) RETURNING id"
_SUMS = f"""
SELECT CAST(coalesce(sum(held_usd_micros), 0) AS BIGINT) AS held,
    CAST(coalesce(sum(settled_usd_micros), 0) AS BIGINT) AS spent,
    CAST(coalesce(sum({QUOTA_SPENT}), 0) AS BIGINT) AS spent_of_quota
FROM {totals_of_accounts("= :account_id", "window")}
"""  # noqa: S608

# What jobs that are followed may still cost the operator: it counts like a cost until it is known.
MAY_COST = """
    SELECT CAST(coalesce(sum(reserved_usd_micros), 0) AS BIGINT) FROM reservations
    WHERE job_id IN (SELECT id FROM jobs WHERE follow_until_at IS NOT NULL) AND house_usd_micros = 0
        AND quarter / 96 = :today
"""
ALL_OF_MEMBER = "IN (SELECT id FROM accounts WHERE kind = 'member' AND user_id = :user_id AND guild_id = :guild_id)"
BALANCE_COLUMNS = f"""
    CAST(coalesce(sum({QUOTA_HELD}), 0) AS BIGINT) AS held,
    CAST(coalesce(sum({QUOTA_SPENT}), 0) AS BIGINT) AS spent,
    (
        SELECT CAST(coalesce(sum(amount_usd_micros), 0) AS BIGINT) FROM adjustments
        WHERE account_id {ALL_OF_MEMBER} AND kind = 'grant' AND created_at >= :start_at AND created_at < :end_at
    ) AS granted
"""  # noqa: S608
_BALANCE = f"SELECT {BALANCE_COLUMNS} FROM {totals_of_accounts(ALL_OF_MEMBER, 'window')}"  # noqa: S608

OPERATOR_HELD = "held_usd_micros - wallet_held_usd_micros"
OPERATOR_SETTLED = "settled_usd_micros - wallet_settled_usd_micros"
"""What the operator pays of it: not what members' wallets pay."""
_WALLET = "SELECT available_usd_micros, held_usd_micros FROM wallets WHERE user_id = ?"
_PLACE_OF_JOB = "SELECT channel_id, category_id FROM reservations WHERE job_id = ?"
_OPERATOR_TODAY = f"""
SELECT {OPERATOR_SETTLED}, {OPERATOR_HELD}, operator_cost_usd_micros + ({MAY_COST})
FROM daily_totals WHERE account_id = {OPERATOR_ACCOUNT_ID} AND day = :today
"""  # noqa: S608
_CHANNEL_SUMS = f"""
SELECT CAST(coalesce(sum(held_usd_micros), 0) AS BIGINT) AS held,
    CAST(coalesce(sum(settled_usd_micros), 0) AS BIGINT) AS spent
FROM {totals_of_channel(":channel_id", "window")}
"""  # noqa: S608 - our own words
_WARN_ONCE = """
UPDATE limits SET warned_until_at = :until
WHERE guild_id = :guild_id AND subject = 'channel' AND subject_id = :channel_id
    AND (warned_until_at IS NULL OR warned_until_at <> :until)
"""
_WAS_WARNED = """
SELECT EXISTS (
    SELECT 1 FROM limits
    WHERE guild_id = ? AND subject = 'channel' AND subject_id = ? AND warned_until_at = ?
)
"""


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


def sums(connection: Connection, account_id: int, window: Window) -> Row:
    """Return the amounts of an account that are reserved and spent, and what of the latter counts against a quota."""
    return connection.execute(_SUMS, {"account_id": account_id, **bounds("window", window)}).fetchone()


def account(connection: Connection, guild_id: int, user_id: int | None = None) -> int:
    """Return the account of a member, or of the server without `user_id`; open it at the first use."""
    if user_id is None:
        found = connection.execute(SERVER_ACCOUNT, {"guild_id": guild_id}).fetchone()
    else:
        found = connection.execute(OPEN_MEMBER_ACCOUNT, {"user_id": user_id, "guild_id": guild_id}).fetchone()
    return open_account(connection, guild_id, user_id) if found is None else int(found["id"])


def open_account(connection: Connection, guild_id: int, user_id: int | None = None) -> int:
    """Open the account of a member, or of the server without `user_id`, and return it."""
    kind = "server" if user_id is None else "member"
    return int(connection.execute(_OPEN_ACCOUNT, (kind, guild_id, user_id)).fetchone()["id"])


def window_of(terms: Terms, quota: Quota | None, now: datetime) -> Window:
    """Return the window that a quota counts in; without a quota, today's."""
    return Window.containing(now, Period.DAY if quota is None else quota.period, terms.time_zone)


def balance(
    connection: Connection, member: Member, *, default: Quota, now: datetime, previous: bool = False
) -> Balance:
    """Return the member's balance in the current window of their effective quota, or in the one before."""
    terms = terms_for(connection, member, default=default)
    window = window_of(terms, terms.quota, now)
    if previous:
        window = window.before(terms.quota.period, terms.time_zone)
    return balance_in(connection, member, terms.quota, window)


def balance_in(connection: Connection, member: Member, quota: Quota, window: Window) -> Balance:
    """Return what the member has spent, reserved and been granted in `window`."""
    return balance_of_row(connection.execute(_BALANCE, balance_parameters(member, window)).fetchone(), quota, window)


def balance_parameters(member: Member, window: Window) -> dict[str, int]:
    """Return the parameters of a statement with `BALANCE_COLUMNS`."""
    return {
        "user_id": member.user_id,
        "guild_id": member.guild_id,
        "start_at": to_micros(window.start),
        "end_at": to_micros(window.end),
        **bounds("window", window),
    }


def balance_of_row(row: Row, quota: Quota, window: Window) -> Balance:
    """Return the balance in a row with `BALANCE_COLUMNS`."""
    return Balance(
        quota=quota,
        window=window,
        granted_usd_micros=row["granted"],
        spent_usd_micros=row["spent"],
        set_aside_usd_micros=row["held"],
    )


def wallet_of(connection: Connection, user_id: int) -> Wallet:
    """Return what a member's wallet has left and set aside: nothing for one who never paid in."""
    row = connection.execute(_WALLET, (user_id,)).fetchone()
    if row is None:
        return Wallet()
    return Wallet(available_usd_micros=row["available_usd_micros"], set_aside_usd_micros=row["held_usd_micros"])


def place_of_job(connection: Connection, job_id: str) -> Place | None:
    """Return where a job was ordered; None if that is not known."""
    row = connection.execute(_PLACE_OF_JOB, (job_id,)).fetchone()
    if row is None or row["channel_id"] is None:
        return None
    return Place(channel_id=row["channel_id"], category_id=row["category_id"])


def channel_cap(connection: Connection, guild_id: int, channel_id: int, *, now: datetime) -> Cap | None:
    """Return the cap of a channel or category and what was used of it; None where no cap is set."""
    quota = limit(connection, guild_id, LimitSubject.CHANNEL, channel_id)
    if quota is None:
        return None
    window = Window.containing(now, quota.period, time_zone(connection, guild_id))
    return cap_in(connection, channel_id, quota, window)


def caps_of_channels(connection: Connection, guild_id: int, *, now: datetime) -> list[Cap]:
    """Return every cap of a channel or category of the server, and what was used of each."""
    zone = time_zone(connection, guild_id)
    return [
        cap_in(connection, channel_id, quota, Window.containing(now, quota.period, zone))
        for subject, channel_id, quota in limits_of(connection, guild_id)
        if subject is LimitSubject.CHANNEL and channel_id is not None
    ]


def cap_in(connection: Connection, channel_id: int, quota: Quota, window: Window) -> Cap:
    """Return a cap of a channel or category with what was spent and reserved there in the window."""
    row = connection.execute(_CHANNEL_SUMS, {"channel_id": channel_id, **bounds("window", window)}).fetchone()
    return Cap(
        quota=quota,
        window=window,
        spent_usd_micros=row["spent"],
        set_aside_usd_micros=row["held"],
        channel_id=channel_id,
    )


def first_warning_of_channel(connection: Connection, guild_id: int, channel_id: int, *, window: Window) -> bool:
    """Record that moderators were told that little is left for a channel in `window`; False if they were before."""
    row = {"guild_id": guild_id, "channel_id": channel_id, "until": to_micros(window.end)}
    return connection.execute(_WARN_ONCE, row).rowcount == 1


def channel_was_warned(connection: Connection, guild_id: int, channel_id: int, *, window: Window) -> bool:
    """Return whether it is recorded that moderators were told that little is left for a channel in `window`."""
    return bool(connection.execute(_WAS_WARNED, (guild_id, channel_id, to_micros(window.end))).fetchone()[0])


def server_sums(connection: Connection, guild_id: int, window: Window) -> tuple[int, int]:
    """Return what all members of the server together have spent and reserved."""
    account = connection.execute(SERVER_ACCOUNT, {"guild_id": guild_id}).fetchone()
    if account is None:
        return 0, 0
    row = sums(connection, account["id"], window)
    return row["spent"], row["held"]


def server_cap(connection: Connection, guild_id: int, *, now: datetime) -> Cap | None:
    """Return the server's cap and what its members have used of it; None where no cap is set."""
    cap = limit(connection, guild_id, LimitSubject.SERVER, None)
    if cap is None:
        return None
    window = Window.containing(now, cap.period, time_zone(connection, guild_id))
    spent, held = server_sums(connection, guild_id, window)
    return Cap(quota=cap, window=window, spent_usd_micros=spent, set_aside_usd_micros=held)


def operator_cap(connection: Connection, limits: Limits, *, now: datetime) -> Cap:
    """Return the operator's cap of today (UTC), and what all servers together have used of it.

    Uncharged costs have a cap of their own; only what exceeds that one counts here.
    """
    row = connection.execute(_OPERATOR_TODAY, {"today": utc_day(now)}).fetchone()
    settled, held, cost = (0, 0, 0) if row is None else row
    return Cap(
        quota=Quota(amount_usd_micros=limits.operator_daily_cap_usd_micros, period=Period.DAY),
        window=Window.containing(now, Period.DAY, UTC_ZONE),
        spent_usd_micros=settled + max(0, cost - limits.operator_cost_daily_cap_usd_micros),
        set_aside_usd_micros=held,
    )


def utc_day(moment: datetime) -> int:
    """Return the number of the UTC day, counted from 1970."""
    return to_quarter(moment) // QUARTERS_PER_DAY
