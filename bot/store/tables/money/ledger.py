"""The ledger: every reservation, settlement and release, and the sums that admissions are held against.

What neither the quota nor the operator's caps have room for is paid from the member's wallet. The caps that moderators
set for a channel, its category or the server count both parts.

Synchronous functions inside the caller's transaction. The ledger rows and the totals are written by triggers on
`reservations` (see the migrations), so money moves only by the statements below and never without its entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import accumulate

from bot.domain.errors import (
    ChannelCapReached,
    DirectBusy,
    LedgerError,
    MemberCostReached,
    OperatorCapReached,
    OperatorCostCapReached,
    OperatorDirectCapReached,
    OperatorServerCapReached,
    QuotaExceeded,
    RequestRefused,
    ServerBusy,
    ServerCapReached,
    TooManyRunning,
    TooMuchAtRisk,
)
from bot.domain.jobs import CHECKING_PERIOD, DIRECT_GUILD_ID
from bot.domain.money.quota import (
    Balance,
    CostLimit,
    Limits,
    Member,
    Period,
    Window,
    format_usd,
)
from bot.store.core.columns import to_micros, to_quarter
from bot.store.core.connection import Connection, Row
from bot.store.tables.money.balances import (
    ALL_OF_MEMBER,
    BALANCE_COLUMNS,
    MAY_COST,
    OPERATOR_ACCOUNT_ID,
    OPERATOR_HELD,
    OPERATOR_SETTLED,
    QUOTA_HELD,
    QUOTA_SPENT,
    UTC_ZONE,
    balance_in,
    balance_of_row,
    balance_parameters,
    bounds,
    caps_of_channel,
    open_account,
    operator_cap,
    operator_server_cap,
    server_sums,
    totals_of_accounts,
    totals_of_channel,
    utc_day,
    wallet_of,
    window_of,
)
from bot.store.tables.money.limits import Terms
from bot.store.tables.shared import notes

MAX_RUNNING_IN_DOUBT = CHECKING_PERIOD
"""How long after it left an order whose answer was lost counts as running. Its search may take hours and cannot be
cancelled; from then on it only counts with its price, as a cost that the operator may have to bear."""
_RUNNING = """
SELECT count(*) FROM jobs
WHERE user_id = :user_id AND finished_at IS NULL AND reply_id <> :reply_id
    AND (status <> 'uncertain' OR submitted_at >= :in_doubt_since)
"""
# Of a followed job whose image is made, the cost is booked already.
_IS_IN_DOUBT = "follow_until_at IS NOT NULL AND failure_reason <> 'no_usable_result'"
# What a member's jobs cost the operator today, over all servers: booked, and what would come to it if all that are not
# done or are followed cost something as well. An account that was closed by `/privacy delete` counts until the day is
# over.
_AT_RISK = f"""
SELECT (
        SELECT CAST(coalesce(sum(operator_cost_usd_micros), 0) AS BIGINT) FROM daily_totals
        WHERE day = :today AND account_id IN (SELECT id FROM accounts WHERE kind = 'member' AND user_id = :user_id)
    ) AS cost,
    (
        SELECT CAST(coalesce(sum(reserved_usd_micros), 0) AS BIGINT) FROM jobs
        WHERE user_id = :user_id AND finished_at IS NULL AND reply_id <> :reply_id
    ) + (
        SELECT CAST(coalesce(sum(reserved_usd_micros), 0) AS BIGINT) FROM jobs
        WHERE user_id = :user_id AND {_IS_IN_DOUBT}
    ) AS unfinished,
    (
        SELECT count(*) FROM jobs
        WHERE user_id = :user_id AND finished_at IS NULL AND reply_id <> :reply_id
            AND (status = 'uncertain' OR unfetched_since_at IS NOT NULL)
    ) + (SELECT count(*) FROM jobs WHERE user_id = :user_id AND {_IS_IN_DOUBT}) AS in_doubt,
    coalesce((
        SELECT operator_cost_usd_micros FROM daily_totals WHERE account_id = {OPERATOR_ACCOUNT_ID} AND day = :today
    ), 0) AS cost_of_all
"""  # noqa: S608 - our own words
_RUNNING_IN_SERVER = "SELECT count(*) FROM jobs WHERE guild_id = ? AND finished_at IS NULL"
_NO_REPLY = ""
"""The reply id of a command whose jobs are not inserted."""
# Every admission asks this. The jobs are counted in the index alone, and so with those of this very command.
_BEFORE_ADMISSION = f"""
SELECT {BALANCE_COLUMNS}, (
        SELECT id FROM accounts
        WHERE kind = 'member' AND user_id = :user_id AND guild_id = :guild_id AND closed_at IS NULL
    ) AS member_account_id,
    (SELECT id FROM accounts WHERE kind = 'server' AND guild_id = :guild_id) AS server_account_id,
    (SELECT count(*) FROM jobs WHERE guild_id = :guild_id AND finished_at IS NULL) AS running_in_server
FROM {totals_of_accounts(ALL_OF_MEMBER, "window")}
"""  # noqa: S608
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
        FROM {totals_of_accounts(ALL_OF_MEMBER, "member")}
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
        SELECT 1 FROM ({_AT_RISK}) AS at_risk
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
) -> Balance:
    """Reserve every order of one command within all limits, or raise the error for the limit that is exceeded.

    The jobs are already inserted. A refusal must undo the whole transaction.
    """
    window = window_of(terms, terms.quota, now)
    found = connection.execute(_BEFORE_ADMISSION, balance_parameters(member, window)).fetchone()
    _check_server_is_free(member.guild_id, found["running_in_server"] - len(orders), limits)
    before = balance_of_row(found, terms.quota, window)
    place = member.place
    prices = [order.amount_usd_micros for order in orders]
    parameters = {
        **_risk_question(member.user_id, reply_id, now),
        "guild_id": member.guild_id,
        "member": found["member_account_id"] or open_account(connection, member.guild_id, member.user_id),
        "server": found["server_account_id"] or open_account(connection, member.guild_id),
        "quarter": to_quarter(now),
        "now": to_micros(now),
        "max_running": limits.max_running_jobs,
        "member_limit": before.limit_usd_micros,
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
        "window_start_at": to_micros(window.start),
        "window_end_at": to_micros(window.end),
        **bounds("member", window),
        **bounds("channel", window_of(terms, terms.channel_cap, now)),
        **bounds("category", window_of(terms, terms.category_cap, now)),
        **bounds("server", window_of(terms, terms.server_cap, now)),
    }
    still_to_come, from_quota = list(accumulate(reversed(prices))), 0
    for order, asked in zip(orders, reversed(still_to_come), strict=True):
        row = {**parameters, "job_id": order.job_id, "amount": order.amount_usd_micros, "asked": asked}
        reserved = connection.execute(_RESERVE, row).fetchone()
        if reserved is None:
            refusal = _refusal(
                connection, prices, reply_id=reply_id, member=member, terms=terms, limits=limits, now=now
            )
            raise refusal or LedgerError(f"job {order.job_id} was refused, but no limit is exceeded")
        from_quota += order.amount_usd_micros - reserved["wallet_usd_micros"]
    # There is one writer, so the balance has not changed since, and the reserved amounts lie in this window.
    return replace(before, set_aside_usd_micros=before.set_aside_usd_micros + from_quota)


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
    running = connection.execute(_RUNNING_IN_SERVER, (member.guild_id,)).fetchone()[0]
    _check_server_is_free(member.guild_id, running, limits)
    refusal = _refusal(
        connection, amounts_usd_micros, reply_id=_NO_REPLY, member=member, terms=terms, limits=limits, now=now
    )
    if refusal is not None:
        raise refusal


def _check_server_is_free(guild_id: int, running: int, limits: Limits) -> None:
    if running >= limits.max_running_jobs_per_server:
        refusal = DirectBusy if guild_id == DIRECT_GUILD_ID else ServerBusy
        raise refusal(running=running, limit=limits.max_running_jobs_per_server)


def _refusal(
    connection: Connection,
    amounts_usd_micros: Sequence[int],
    *,
    reply_id: str,
    member: Member,
    terms: Terms,
    limits: Limits,
    now: datetime,
) -> RequestRefused | None:
    """Return the error for the limit of `_RESERVE` that a command exceeds, None when it exceeds none.

    If any order of a command exceeds one, the first order does. Where several are exceeded, what the member's jobs cost
    is named first: until the day is over, nothing that the member can change helps. Of the limits on amounts, the one
    that leaves least is named, so that an order within what is said to be left is not refused by another one.
    """
    question, asked = _risk_question(member.user_id, reply_id, now), sum(amounts_usd_micros)
    today = Window.containing(now, Period.DAY, UTC_ZONE)
    risk = connection.execute(_AT_RISK, question).fetchone()
    if (reached := _cost_reached(risk, limits, today)) is not None:
        return reached
    running = connection.execute(_RUNNING, question).fetchone()[0]
    if running >= limits.max_running_jobs:
        return TooManyRunning(running=running, limit=limits.max_running_jobs)
    at_risk = risk["cost"] + risk["unfinished"] + asked - amounts_usd_micros[-1]
    if (risk["cost"] or risk["in_doubt"]) and at_risk >= limits.operator_cost_per_member_usd_micros:
        return TooMuchAtRisk(resets_at=today.end)
    return _amount_exceeded(connection, asked, member=member, terms=terms, limits=limits, now=now)


def _amount_exceeded(
    connection: Connection, asked: int, *, member: Member, terms: Terms, limits: Limits, now: datetime
) -> RequestRefused | None:
    """Return the error for the limit on amounts that leaves least, if `asked` exceeds it; None if all have room.

    The member's wallet adds to what the quota and the operator's caps leave.
    """
    least: tuple[int, RequestRefused] | None = None
    wallet = wallet_of(connection, member.user_id).available_usd_micros
    window = window_of(terms, terms.quota, now)
    available = balance_in(connection, member, terms.quota, window).available_usd_micros
    if available is not None:
        available += wallet
        quota = QuotaExceeded(
            asked_usd_micros=asked,
            available_usd_micros=available,
            resets_at=window.end,
            wallet_usd_micros=wallet,
        )
        least = (available, quota)
    for cap in caps_of_channel(connection, member, terms, now).values():
        available = cap.available_usd_micros
        if available is not None and (least is None or available < least[0]):
            of_channel = ChannelCapReached(
                asked_usd_micros=asked,
                available_usd_micros=available,
                resets_at=cap.window.end,
                channel_id=cap.channel_id or 0,
            )
            least = (available, of_channel)
    if terms.server_cap is not None and terms.server_cap.amount_usd_micros is not None:
        window = window_of(terms, terms.server_cap, now)
        spent, held = server_sums(connection, member.guild_id, window)
        available = max(0, terms.server_cap.amount_usd_micros - spent - held)
        if least is None or available < least[0]:
            cap = ServerCapReached(asked_usd_micros=asked, available_usd_micros=available, resets_at=window.end)
            least = (available, cap)
    today = Window.containing(now, Period.DAY, UTC_ZONE)
    available = (operator_server_cap(connection, member.guild_id, limits, now=now).available_usd_micros or 0) + wallet
    if least is None or available < least[0]:
        reached = OperatorDirectCapReached if member.guild_id == DIRECT_GUILD_ID else OperatorServerCapReached
        of_server = reached(
            asked_usd_micros=asked,
            available_usd_micros=available,
            resets_at=today.end,
            wallet_usd_micros=wallet,
        )
        least = (available, of_server)
    available = (operator_cap(connection, limits, now=now).available_usd_micros or 0) + wallet
    if available < least[0]:
        least = (available, OperatorCapReached(resets_at=today.end))
    return least[1] if asked > least[0] else None


def _risk_question(user_id: int, reply_id: str, now: datetime) -> dict[str, int | str]:
    return {
        "user_id": user_id,
        "reply_id": reply_id,
        "today": utc_day(now),
        "in_doubt_since": to_micros(now - MAX_RUNNING_IN_DOUBT),
    }


def _cost_reached(risk: Row, limits: Limits, today: Window) -> MemberCostReached | OperatorCostCapReached | None:
    """Return why a member whose uncharged jobs cost something today gets no new ones until the day is over."""
    if risk["cost"] and risk["cost"] >= limits.operator_cost_per_member_usd_micros:
        return MemberCostReached(resets_at=today.end)
    if risk["cost"] and risk["cost_of_all"] >= limits.operator_cost_daily_cap_usd_micros:
        return OperatorCostCapReached(resets_at=today.end)
    return None


def cost_limit_ends_at(connection: Connection, user_id: int, *, limits: Limits, now: datetime) -> datetime | None:
    """Return until when a member gets no new jobs because of what theirs cost the operator today; None if they do."""
    risk = connection.execute(_AT_RISK, _risk_question(user_id, _NO_REPLY, now)).fetchone()
    reached = _cost_reached(risk, limits, Window.containing(now, Period.DAY, UTC_ZONE))
    return None if reached is None else reached.resets_at


def cost_limits_reached(connection: Connection, user_id: int, *, limits: Limits, now: datetime) -> list[CostLimit]:
    """Return the limits on uncharged costs that are reached today and that the operator was not told of yet.

    What is returned counts as told, for the rest of the UTC day and in every process.
    """
    risk = connection.execute(_AT_RISK, _risk_question(user_id, _NO_REPLY, now)).fetchone()
    reached: list[CostLimit] = []
    if risk["cost"] and risk["cost"] >= limits.operator_cost_per_member_usd_micros:
        reached.append(CostLimit.MEMBER)
    if risk["cost_of_all"] and risk["cost_of_all"] >= limits.operator_cost_daily_cap_usd_micros:
        reached.append(CostLimit.ALL_MEMBERS)
    return [limit for limit in reached if notes.claim_notice(connection, limit, now=now)]


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
