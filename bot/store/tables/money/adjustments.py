"""Adjustments: what moderators grant or forgive, and that members and moderators were warned.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime

from bot.domain.audit import Amount
from bot.domain.money.quota import (
    Balance,
    LimitSubject,
    Member,
    Quota,
    Window,
)
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection
from bot.store.tables.audit_log import Change, record
from bot.store.tables.money.balances import MEMBER_ACCOUNTS, OPERATOR_ACCOUNT_ID, account, balance_in, sums, window_of
from bot.store.tables.money.limits import terms_for

_ADJUST = """
INSERT INTO adjustments (account_id, kind, amount_usd_micros, window_start_at, window_end_at, through_ledger_id,
    created_at, command_id)
SELECT :account_id, :kind, :amount, :window_start_at, :window_end_at, coalesce(max(id), 0), :now, :command_id
FROM ledger WHERE true
ON CONFLICT (command_id) WHERE command_id IS NOT NULL DO NOTHING
"""
# Once per matter and day over all processes. Days are dates, which are in the order of their text.
_SERVER_WAS_WARNED = """
SELECT EXISTS (SELECT 1 FROM accounts WHERE kind = 'server' AND guild_id = ? AND warned_until_at = ?)
"""
_WARN_ONCE = """
UPDATE accounts SET warned_until_at = :until
WHERE id = :account_id AND (warned_until_at IS NULL OR warned_until_at <> :until)
"""


def first_warning(connection: Connection, *, guild_id: int | None, user_id: int | None, window: Window) -> bool:
    """Record that a member, a server (no user) or the operator (neither) was told that little is left in `window`.

    Returns True the first time, False when that was recorded before.
    """
    account_id = OPERATOR_ACCOUNT_ID if guild_id is None else account(connection, guild_id, user_id)
    row = {"account_id": account_id, "until": to_micros(window.end)}
    return connection.execute(_WARN_ONCE, row).rowcount == 1


def server_was_warned(connection: Connection, guild_id: int, window: Window) -> bool:
    """Return whether it is recorded that the server's moderators were told that little is left in `window`."""
    return bool(connection.execute(_SERVER_WAS_WARNED, (guild_id, to_micros(window.end))).fetchone()[0])


def grant(
    connection: Connection,
    member: Member,
    amount_usd_micros: int,
    *,
    default: Quota,
    actor_id: int,
    reason: str | None,
    now: datetime,
    command_id: int | None = None,
) -> Balance:
    """Grant a one-off extra in the current window, and record it. The same command counts once."""
    terms, change = terms_for(connection, member, default=default), Change(actor_id=actor_id, reason=reason, now=now)
    window = window_of(terms, terms.quota, now)
    account_id = account(connection, member.guild_id, member.user_id)
    if _adjust(connection, account_id, "grant", amount_usd_micros, window, now, command_id=command_id):
        new = Amount(amount_usd_micros=amount_usd_micros)
        record(
            connection, member.guild_id, "grant", LimitSubject.MEMBER, member.user_id, old=None, new=new, change=change
        )
    return balance_in(connection, member, terms.quota, window)


def reset(
    connection: Connection, member: Member, *, default: Quota, actor_id: int, reason: str | None, now: datetime
) -> Balance:
    """Stop counting what was settled so far in the current window, and record that; open reservations still count.

    The ledger itself does not change.
    """
    terms, change = terms_for(connection, member, default=default), Change(actor_id=actor_id, reason=reason, now=now)
    window = window_of(terms, terms.quota, now)
    spent = balance_in(connection, member, terms.quota, window).spent_usd_micros
    for (account_id,) in connection.execute(MEMBER_ACCOUNTS, (member.user_id, member.guild_id)).fetchall():
        spent_here = sums(connection, account_id, window)["spent_of_quota"]
        _adjust(connection, account_id, "reset", spent_here, window, now)
    old, new = Amount(amount_usd_micros=spent), Amount(amount_usd_micros=0)
    record(connection, member.guild_id, "reset", LimitSubject.MEMBER, member.user_id, old=old, new=new, change=change)
    return balance_in(connection, member, terms.quota, window)


def _adjust(
    connection: Connection,
    account_id: int,
    kind: str,
    amount_usd_micros: int,
    window: Window,
    now: datetime,
    *,
    command_id: int | None = None,
) -> bool:
    """Append an adjustment; False if one of the same command is there."""
    row = {
        "account_id": account_id,
        "kind": kind,
        "amount": amount_usd_micros,
        "window_start_at": to_micros(window.start),
        "window_end_at": to_micros(window.end),
        "now": to_micros(now),
        "command_id": command_id,
    }
    return connection.execute(_ADJUST, row).rowcount == 1
