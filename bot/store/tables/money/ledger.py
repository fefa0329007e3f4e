"""The ledger: every reservation, settlement and release, and the sums that admissions are held against.

What neither the quota nor the operator's caps have room for is paid from the member's wallet. The caps that moderators
set for a channel, its category or the server count both parts.

Synchronous functions inside the caller's transaction. The ledger rows and the totals are written by triggers on
`reservations` (see the migrations), so money moves only by the statements below and never without its entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from bot.domain.errors import (
    ChannelCapReached,
    DirectBusy,
    LedgerError,
    OperatorCapReached,
    OperatorDirectCapReached,
    OperatorServerCapReached,
    QuotaExceeded,
    RequestRefused,
    ServerBusy,
    ServerCapReached,
    TooManyRunning,
    TooMuchAtRisk,
)
from bot.domain.jobs import DIRECT_GUILD_ID
from bot.domain.money.quota import (
    Limits,
    Member,
    Period,
    Window,
    format_usd,
)
from bot.domain.money.spendable import BindingLimit, Spendable
from bot.store.core.columns import to_micros, to_quarter
from bot.store.core.connection import Connection
from bot.store.tables.money.balances import (
    ALL_OF_MEMBER,
    MAY_COST,
    OPERATOR_ACCOUNT_ID,
    OPERATOR_HELD,
    OPERATOR_SETTLED,
    QUOTA_HELD,
    QUOTA_SPENT,
    open_account,
    totals_of_accounts,
    totals_of_channel,
)
from bot.store.tables.money.limits import UTC_ZONE, Terms
from bot.store.tables.money.spendable import (
    AT_RISK,
    NO_REPLY,
    before_admission,
    cost_reached,
    limit_usage_parameters,
    risk_question,
    spendable_of_row,
)

_RUNNING = """
SELECT count(*) FROM jobs
WHERE user_id = :user_id AND finished_at IS NULL AND reply_id <> :reply_id
    AND (status <> 'uncertain' OR submitted_at >= :in_doubt_since)
"""
_USED_BY_SERVER = f"""
SELECT {OPERATOR_HELD} + {OPERATOR_SETTLED} + operator_cost_usd_micros
    + ({MAY_COST} AND server_account_id = :server)
FROM daily_totals WHERE account_id = :server AND day = :today
"""  # noqa: S608
# Uncharged costs count here only beyond their own cap, so that they use up nothing of what paying members may spend,
# and yet the bill of a day is at most both caps together (and what wallets had set aside for jobs that failed).
_USED_BY_ALL = f"""
SELECT used + CASE WHEN cost > :cost_cap THEN cost - :cost_cap ELSE 0 END
FROM (
    SELECT {OPERATOR_HELD} + {OPERATOR_SETTLED} AS used, operator_cost_usd_micros + ({MAY_COST}) AS cost
    FROM daily_totals WHERE account_id = {OPERATOR_ACCOUNT_ID} AND day = :today
) AS today
"""  # noqa: S608

# What the quota and the operator's caps leave; with no quota, what the caps leave. What it lacks, a wallet pays.
_ROOM = f"""
SELECT CASE WHEN min(room) < 0 THEN 0 ELSE min(room) END AS usd_micros
FROM (
    SELECT CAST(:member_limit AS BIGINT) - (
        SELECT CAST(coalesce(sum({QUOTA_HELD} + {QUOTA_SPENT}), 0) AS BIGINT)
        FROM {totals_of_accounts(ALL_OF_MEMBER, "window")}
    ) AS room
    UNION ALL SELECT :operator_server_limit - coalesce(({_USED_BY_SERVER}), 0)
    UNION ALL SELECT :operator_limit - coalesce(({_USED_BY_ALL}), 0)
) AS rooms
"""  # noqa: S608 - the least of those that are not NULL

# All limits of money and the writing in one statement. `asked` is this job and those of the same command still to come,
# so that the first one is refused where a later one would be; `others` are all of the command but one. A limit that is
# NULL does not bind.
_RESERVE = f"""
INSERT INTO reservations (job_id, member_account_id, server_account_id, quarter, limit_usd_micros, window_start_at,
    window_end_at, reserved_usd_micros, held_usd_micros, reserved_at, channel_id, category_id, wallet_id,
    wallet_usd_micros)
SELECT :job_id, :member, :server, :quarter, CAST(:member_limit AS BIGINT), :window_start_at, :window_end_at, :amount,
    :amount, :now, CAST(:channel_id AS BIGINT), CAST(:category_id AS BIGINT),
    CASE WHEN :amount > room.usd_micros THEN wallets.id END,
    CASE WHEN :amount > room.usd_micros THEN :amount - room.usd_micros ELSE 0 END
FROM ({_ROOM}) AS room LEFT JOIN wallets ON wallets.user_id = :user_id
WHERE :max_running > ({_RUNNING})
    AND NOT EXISTS (
        SELECT 1 FROM ({AT_RISK}) AS at_risk
        WHERE (cost > 0 AND cost_of_all >= :cost_cap)
            OR ((cost > 0 OR in_doubt > 0) AND cost + unfinished + :others >= :cost_per_member)
    )
    AND (:asked <= 0 OR :asked <= room.usd_micros + coalesce(wallets.available_usd_micros, 0))
    AND (CAST(:channel_limit AS BIGINT) IS NULL OR :asked <= 0 OR :asked <= :channel_limit - (
        SELECT coalesce(sum(held_usd_micros + settled_usd_micros), 0) FROM {totals_of_channel(":channel_id", "channel")}
    ))
    AND (CAST(:category_limit AS BIGINT) IS NULL OR :asked <= 0 OR :asked <= :category_limit - (
        SELECT coalesce(sum(held_usd_micros + settled_usd_micros), 0)
        FROM {totals_of_channel(":category_id", "category")}
    ))
    AND (CAST(:server_limit AS BIGINT) IS NULL OR :asked <= 0 OR :asked <= :server_limit - (
        SELECT coalesce(sum(held_usd_micros + settled_usd_micros), 0) FROM {totals_of_accounts("= :server", "server")}
    ))
RETURNING wallet_usd_micros
"""  # noqa: S608
_SETTLE = """
UPDATE reservations SET state = 'settled', held_usd_micros = 0, settled_usd_micros = :charged,
    wallet_settled_usd_micros = CASE WHEN :charged > reserved_usd_micros - wallet_usd_micros
        THEN :charged - (reserved_usd_micros - wallet_usd_micros) ELSE 0 END,
    house_usd_micros = :house, resolved_at = :now
WHERE job_id = :job_id AND state = 'open' AND :charged BETWEEN 1 AND reserved_usd_micros
"""
_RELEASE = """
UPDATE reservations SET state = 'released', held_usd_micros = 0, house_usd_micros = :house, resolved_at = :now
WHERE job_id = :job_id AND state = 'open'
"""
_COST_LATE = """
UPDATE reservations SET house_usd_micros = :house, late_cost_at = :now
WHERE job_id = :job_id AND state = 'released' AND house_usd_micros = 0
"""
# SQLite needs a WHERE between SELECT and ON CONFLICT, which it would take for the condition of a join.
# The ids are those of the newest entries, so that a replay of the ledger knows when it was.
_REFUND = """
INSERT INTO refunds (job_id, usd_micros, wallet_usd_micros, forgiven_usd_micros, through_ledger_id,
    through_wallet_ledger_id, refunded_at)
SELECT job_id, settled_usd_micros, wallet_settled_usd_micros,
    CASE WHEN EXISTS (
        SELECT 1 FROM adjustments
        WHERE adjustments.account_id = member_account_id AND adjustments.kind = 'reset'
            AND quarter >= adjustments.window_start_at / 900000000
            AND quarter < adjustments.window_end_at / 900000000
            AND adjustments.through_ledger_id >= (
                SELECT ledger.id FROM ledger
                WHERE ledger.job_id = reservations.job_id AND ledger.kind IN ('settle', 'release')
            )
    ) THEN settled_usd_micros - wallet_settled_usd_micros ELSE 0 END,
    (SELECT coalesce(max(id), 0) FROM ledger), (SELECT coalesce(max(id), 0) FROM wallet_ledger), CAST(:now AS BIGINT)
FROM reservations WHERE job_id = :job_id AND state = 'settled'
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hold:
    """One job of a command, as far as money is concerned."""

    job_id: str
    amount_usd_micros: int


def reserve(
    connection: Connection,
    orders: Sequence[Hold],
    *,
    reply_id: str,
    member: Member,
    terms: Terms,
    limits: Limits,
    now: datetime,
) -> Spendable:
    """Reserve every order of one command within all limits, or raise the error for the limit that is exceeded.

    The jobs are already inserted. A refusal must undo the whole transaction. Returns what the member may spend then.
    """
    amounts = limit_usage_parameters(member, terms, now)
    found = before_admission(connection, amounts)
    _check_server_is_free(member.guild_id, found["running_in_server"] - len(orders), limits)
    before = spendable_of_row(found, member=member, terms=terms, limits=limits, now=now)
    place = member.place
    prices = [order.amount_usd_micros for order in orders]
    parameters = {
        **risk_question(member.user_id, reply_id, now),
        **amounts,
        "member": found["member_account_id"] or open_account(connection, member.guild_id, member.user_id),
        "server": found["server_account_id"] or open_account(connection, member.guild_id),
        "quarter": to_quarter(now),
        "now": to_micros(now),
        "max_running": limits.max_running_jobs,
        "member_limit": before.balance.limit_usd_micros,
        "channel_id": place.channel_id if place else None,
        "category_id": place.category_id if place else None,
        "channel_limit": terms.channel_cap.amount_usd_micros if terms.channel_cap else None,
        "category_limit": terms.category_cap.amount_usd_micros if terms.category_cap else None,
        "server_limit": terms.server_cap.amount_usd_micros if terms.server_cap else None,
        "others": sum(prices) - prices[-1],
        "cost_per_member": limits.operator_cost_per_member_usd_micros,
        "cost_cap": limits.operator_cost_daily_cap_usd_micros,
        "operator_server_limit": limits.operator_cap_of(member.guild_id),
        "operator_limit": limits.operator_daily_cap_usd_micros,
        "window_start_at": to_micros(before.balance.window.start),
        "window_end_at": to_micros(before.balance.window.end),
    }
    still_to_come, from_wallet = list(accumulate(reversed(prices))), 0
    for order, asked in zip(orders, reversed(still_to_come), strict=True):
        row = {**parameters, "job_id": order.job_id, "amount": order.amount_usd_micros, "asked": asked}
        reserved = connection.execute(_RESERVE, row).fetchone()
        if reserved is None:
            refusal = _refusal(connection, prices, before, reply_id=reply_id, member=member, limits=limits, now=now)
            raise refusal or LedgerError(f"job {order.job_id} was refused, but no limit is exceeded")
        from_wallet += reserved["wallet_usd_micros"]
    # There is one writer, so nothing of it has changed since, and the reserved amounts lie in these windows.
    return before.after_reserving(sum(prices), from_wallet_usd_micros=from_wallet)


def check_reservation(
    connection: Connection,
    amounts_usd_micros: Sequence[int],
    *,
    member: Member,
    terms: Terms,
    limits: Limits,
    now: datetime,
) -> None:
    """Raise what `reserve` would raise now for a command with jobs at these amounts. Writes nothing."""
    found = before_admission(connection, limit_usage_parameters(member, terms, now))
    _check_server_is_free(member.guild_id, found["running_in_server"], limits)
    before = spendable_of_row(found, member=member, terms=terms, limits=limits, now=now)
    refusal = _refusal(connection, amounts_usd_micros, before, reply_id=NO_REPLY, member=member, limits=limits, now=now)
    if refusal is not None:
        raise refusal


def _check_server_is_free(guild_id: int, running: int, limits: Limits) -> None:
    if running >= limits.max_running_jobs_per_server:
        refusal = DirectBusy if guild_id == DIRECT_GUILD_ID else ServerBusy
        raise refusal(running=running, limit=limits.max_running_jobs_per_server)


def _refusal(
    connection: Connection,
    amounts_usd_micros: Sequence[int],
    before: Spendable,
    *,
    reply_id: str,
    member: Member,
    limits: Limits,
    now: datetime,
) -> RequestRefused | None:
    """Return the error for the limit of `_RESERVE` that a command exceeds, None when it exceeds none.

    If any order of a command exceeds one, the first order does. Where several are exceeded, what the member's jobs cost
    is named first: until the day is over, nothing that the member can change helps. Of the limits on amounts, the one
    that leaves least is named, so that an order within what is said to be left is not refused by another one.
    """
    question, asked = risk_question(member.user_id, reply_id, now), sum(amounts_usd_micros)
    today = Window.containing(now, Period.DAY, UTC_ZONE)
    risk = connection.execute(AT_RISK, question).fetchone()
    if (reached := cost_reached(risk, limits, today)) is not None:
        return reached
    running = connection.execute(_RUNNING, question).fetchone()[0]
    if running >= limits.max_running_jobs:
        return TooManyRunning(running=running, limit=limits.max_running_jobs)
    at_risk = risk["cost"] + risk["unfinished"] + asked - amounts_usd_micros[-1]
    if (risk["cost"] or risk["in_doubt"]) and at_risk >= limits.operator_cost_per_member_usd_micros:
        return TooMuchAtRisk(resets_at=today.end)
    return _amount_exceeded(asked, before)


def _amount_exceeded(asked: int, before: Spendable) -> RequestRefused | None:
    """Return the error for the limit on amounts that leaves least, if `asked` exceeds it; None if all have room."""
    left, limit = before.left_usd_micros, before.binding
    if left is None or asked <= left:
        return None
    wallet = before.wallet.available_usd_micros
    if limit is BindingLimit.QUOTA:
        return QuotaExceeded(
            asked_usd_micros=asked,
            available_usd_micros=left,
            limit_usd_micros=before.balance.quota.amount_usd_micros or 0,
            resets_at=before.balance.window.end,
            wallet_usd_micros=wallet,
        )
    cap = before.caps[limit]
    resets_at, cap_usd_micros = cap.window.end, cap.quota.amount_usd_micros or 0
    match limit:
        case BindingLimit.CHANNEL_CAP | BindingLimit.CATEGORY_CAP:
            return ChannelCapReached(
                asked_usd_micros=asked,
                available_usd_micros=left,
                limit_usd_micros=cap_usd_micros,
                resets_at=resets_at,
                channel_id=cap.channel_id or 0,
            )
        case BindingLimit.SERVER_CAP:
            return ServerCapReached(
                asked_usd_micros=asked,
                available_usd_micros=left,
                limit_usd_micros=cap_usd_micros,
                resets_at=resets_at,
            )
        case BindingLimit.OPERATOR_SERVER_CAP | BindingLimit.OPERATOR_DIRECT_CAP:
            is_direct = limit is BindingLimit.OPERATOR_DIRECT_CAP
            reached = OperatorDirectCapReached if is_direct else OperatorServerCapReached
            return reached(
                asked_usd_micros=asked,
                available_usd_micros=left,
                resets_at=resets_at,
                wallet_usd_micros=wallet,
            )
        case _:
            return OperatorCapReached(resets_at=resets_at)


def settle(
    connection: Connection, job_id: str, *, charged_usd_micros: int, operator_cost_usd_micros: int, now: datetime
) -> None:
    """Turn a reservation into a charge of at most what was reserved; the rest becomes available again.

    A charge of nothing is a release. Raises LedgerError when there is no open reservation or the charge exceeds it.
    """
    if charged_usd_micros == 0:
        release(connection, job_id, operator_cost_usd_micros=operator_cost_usd_micros, now=now)
        return
    row = {"job_id": job_id, "charged": charged_usd_micros, "house": operator_cost_usd_micros, "now": to_micros(now)}
    if connection.execute(_SETTLE, row).rowcount != 1:
        raise LedgerError(f"job {job_id} cannot be settled at {format_usd(charged_usd_micros)}")


def release(connection: Connection, job_id: str, *, operator_cost_usd_micros: int, now: datetime) -> None:
    """Give a reservation back unspent; the operator bears what the provider charges all the same.

    Raises LedgerError when there is no open reservation.
    """
    row = {"job_id": job_id, "house": operator_cost_usd_micros, "now": to_micros(now)}
    if connection.execute(_RELEASE, row).rowcount != 1:
        raise LedgerError(f"job {job_id} has no open reservation to release")


def book_late_cost(connection: Connection, job_id: str, amount_usd_micros: int, *, now: datetime) -> None:
    """Book what the provider charged for a job whose reservation was released while its outcome was not known.

    Raises LedgerError when the reservation is not released, or a cost was booked before.
    """
    if amount_usd_micros == 0:
        return
    row = {"job_id": job_id, "house": amount_usd_micros, "now": to_micros(now)}
    if connection.execute(_COST_LATE, row).rowcount != 1:
        raise LedgerError(f"job {job_id} cannot cost the operator {format_usd(amount_usd_micros)} late")


def refund(connection: Connection, job_id: str, *, now: datetime) -> None:
    """Give the whole charge of a job back, to the quota and to the wallet that paid it; the operator bears it.

    Raises LedgerError when nothing is charged, and StoreError when it was given back before.
    """
    if connection.execute(_REFUND, {"job_id": job_id, "now": to_micros(now)}).rowcount != 1:
        raise LedgerError(f"job {job_id} has no charge to give back")
