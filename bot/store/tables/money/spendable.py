"""Spendable: what every limit leaves a member, read in two statements, before an admission and for a card.

Synchronous functions inside the caller's transaction. Each statement takes a turn on a busy interpreter, so the sums
of all limits are one.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bot.domain.errors import MemberCostReached, OperatorCostCapReached
from bot.domain.jobs import CHECKING_PERIOD, DIRECT_GUILD_ID
from bot.domain.money.quota import Cap, Limits, Member, Period, Quota, Wallet, Window
from bot.domain.money.spendable import BindingLimit, Spendable
from bot.store.core.columns import to_micros
from bot.store.core.connection import Connection, Row
from bot.store.tables.money.balances import (
    ALL_OF_MEMBER,
    BALANCE_COLUMNS,
    MAY_COST,
    OPEN_MEMBER_ACCOUNT,
    OPERATOR_ACCOUNT_ID,
    OPERATOR_HELD,
    OPERATOR_SETTLED,
    SERVER_ACCOUNT,
    balance_of_row,
    balance_parameters,
    bounds,
    totals_of_accounts,
    totals_of_channel,
    utc_day,
    window_of,
)
from bot.store.tables.money.limits import UTC_ZONE, Terms, terms_for

MAX_RUNNING_IN_DOUBT = CHECKING_PERIOD
"""How long after it left an order whose answer was lost counts as running. Its search may take hours and cannot be
cancelled; from then on it only counts with its price, as a cost that the operator may have to bear."""
NO_REPLY = ""
"""The reply id of a command whose jobs are not inserted."""
# Of a followed job whose image is made, the cost is booked already.
IS_IN_DOUBT = "follow_until_at IS NOT NULL AND failure_reason <> 'no_usable_result'"
# What a member's jobs cost the operator today, over all servers: booked, and what would come to it if all that are not
# done or are followed cost something as well. An account that was closed by `/privacy delete` counts until the day is
# over.
AT_RISK = f"""
SELECT (
        SELECT CAST(coalesce(sum(operator_cost_usd_micros), 0) AS BIGINT) FROM daily_totals
        WHERE day = :today AND account_id IN (SELECT id FROM accounts WHERE kind = 'member' AND user_id = :user_id)
    ) AS cost,
    (
        SELECT CAST(coalesce(sum(reserved_usd_micros), 0) AS BIGINT) FROM jobs
        WHERE user_id = :user_id AND finished_at IS NULL AND reply_id <> :reply_id
    ) + (
        SELECT CAST(coalesce(sum(reserved_usd_micros), 0) AS BIGINT) FROM jobs
        WHERE user_id = :user_id AND {IS_IN_DOUBT}
    ) AS unfinished,
    (
        SELECT count(*) FROM jobs
        WHERE user_id = :user_id AND finished_at IS NULL AND reply_id <> :reply_id
            AND (status = 'uncertain' OR unfetched_since_at IS NOT NULL)
    ) + (SELECT count(*) FROM jobs WHERE user_id = :user_id AND {IS_IN_DOUBT}) AS in_doubt,
    coalesce((
        SELECT operator_cost_usd_micros FROM daily_totals WHERE account_id = {OPERATOR_ACCOUNT_ID} AND day = :today
    ), 0) AS cost_of_all
"""  # noqa: S608 - our own words


def _sums(totals: str) -> str:
    return f"""(
        SELECT CAST(coalesce(sum(held_usd_micros), 0) AS BIGINT) AS held,
            CAST(coalesce(sum(settled_usd_micros), 0) AS BIGINT) AS spent
        FROM {totals}
    )"""  # noqa: S608 - our own words


def _day_of(account: str) -> str:
    return f"""(
        SELECT CAST(coalesce(sum({OPERATOR_HELD}), 0) AS BIGINT) AS held,
            CAST(coalesce(sum({OPERATOR_SETTLED}), 0) AS BIGINT) AS spent,
            CAST(coalesce(sum(operator_cost_usd_micros), 0) AS BIGINT) AS cost
        FROM daily_totals WHERE account_id = {account} AND day = :today
    )"""  # noqa: S608 - our own words


_USAGE_COLUMNS = f"""
    of_member.*,
    of_channel.held AS channel_held, of_channel.spent AS channel_spent,
    of_category.held AS category_held, of_category.spent AS category_spent,
    of_server.held AS server_held, of_server.spent AS server_spent,
    server_today.held AS server_held_today, server_today.spent AS server_spent_today,
    server_today.cost + ({MAY_COST} AND server_account_id = ({SERVER_ACCOUNT})) AS server_cost_today,
    today.held AS held_today, today.spent AS spent_today, today.cost AS cost_of_all,
    today.cost + ({MAY_COST}) AS cost_today,
    wallets.available_usd_micros AS wallet_available, wallets.held_usd_micros AS wallet_held,
    (
        SELECT CAST(coalesce(sum(operator_cost_usd_micros), 0) AS BIGINT) FROM daily_totals
        WHERE day = :today AND account_id IN (SELECT id FROM accounts WHERE kind = 'member' AND user_id = :user_id)
    ) AS cost
"""  # noqa: S608 - our own words
# One row. The id of a channel, category or server is NULL where it has no cap, and then nothing is summed.
_USAGE = f"""
    (SELECT {BALANCE_COLUMNS} FROM {totals_of_accounts(ALL_OF_MEMBER, "window")}) AS of_member
    CROSS JOIN {_sums(totals_of_channel(":capped_channel_id", "channel"))} AS of_channel
    CROSS JOIN {_sums(totals_of_channel(":capped_category_id", "category"))} AS of_category
    CROSS JOIN {
    _sums(
        totals_of_accounts(
            "= (SELECT id FROM accounts WHERE kind = 'server' AND guild_id = :capped_guild_id)", "server"
        )
    )
} AS of_server
    CROSS JOIN {_day_of(f"({SERVER_ACCOUNT})")} AS server_today
    CROSS JOIN {_day_of(str(OPERATOR_ACCOUNT_ID))} AS today
    LEFT JOIN wallets ON wallets.user_id = :user_id
"""  # noqa: S608
_LIMIT_USAGE = f"SELECT {_USAGE_COLUMNS} FROM {_USAGE}"  # noqa: S608
# The jobs are counted in the index alone. There may be a thousand, so cards do not count them.
_BEFORE_ADMISSION = f"""
SELECT {_USAGE_COLUMNS}, ({OPEN_MEMBER_ACCOUNT}) AS member_account_id, ({SERVER_ACCOUNT}) AS server_account_id,
    (SELECT count(*) FROM jobs WHERE guild_id = :guild_id AND finished_at IS NULL) AS running_in_server
FROM {_USAGE}
"""  # noqa: S608


def spendable(connection: Connection, member: Member, *, limits: Limits, now: datetime) -> Spendable:
    """Return what the member may spend now in the server, and what every limit leaves."""
    terms = terms_for(connection, member, default=limits.default_quota_of(member.guild_id))
    row = connection.execute(_LIMIT_USAGE, limit_usage_parameters(member, terms, now)).fetchone()
    return spendable_of_row(row, member=member, terms=terms, limits=limits, now=now)


def limit_usage_parameters(member: Member, terms: Terms, now: datetime) -> dict[str, Any]:
    """Return the windows and owners of all limits of a member, as parameters of the statements about them."""
    place = member.place
    return {
        **balance_parameters(member, window_of(terms, terms.quota, now)),
        **bounds("channel", window_of(terms, terms.channel_cap, now)),
        **bounds("category", window_of(terms, terms.category_cap, now)),
        **bounds("server", window_of(terms, terms.server_cap, now)),
        "capped_channel_id": place.channel_id if place and terms.channel_cap else None,
        "capped_category_id": place.category_id if place and terms.category_cap else None,
        "capped_guild_id": member.guild_id if terms.server_cap else None,
        "today": utc_day(now),
    }


def before_admission(connection: Connection, parameters: Mapping[str, Any]) -> Row:
    """Return what is spent and reserved within every limit, the accounts, and the jobs that run in the server."""
    return connection.execute(_BEFORE_ADMISSION, parameters).fetchone()


def spendable_of_row(row: Row, *, member: Member, terms: Terms, limits: Limits, now: datetime) -> Spendable:
    """Return what a member may spend by a row with the use of every limit."""
    today = Window.containing(now, Period.DAY, UTC_ZONE)
    reached = cost_reached(row, limits, today)
    wallet = Wallet()
    if row["wallet_available"] is not None:
        wallet = Wallet(available_usd_micros=row["wallet_available"], set_aside_usd_micros=row["wallet_held"])
    return Spendable(
        balance=balance_of_row(row, terms.quota, window_of(terms, terms.quota, now)),
        caps=_caps(row, member=member, terms=terms, limits=limits, today=today, now=now),
        blocked=terms.blocked,
        wallet=wallet,
        paused_until=None if reached is None else reached.resets_at,
    )


def risk_question(user_id: int, reply_id: str, now: datetime) -> dict[str, int | str]:
    """Return the parameters of `AT_RISK`, without the jobs of one reply."""
    return {
        "user_id": user_id,
        "reply_id": reply_id,
        "today": utc_day(now),
        "in_doubt_since": to_micros(now - MAX_RUNNING_IN_DOUBT),
    }


def cost_reached(risk: Row, limits: Limits, today: Window) -> MemberCostReached | OperatorCostCapReached | None:
    """Return why a member whose uncharged jobs cost something today gets no new ones until the day is over."""
    if risk["cost"] and risk["cost"] >= limits.operator_cost_per_member_usd_micros:
        return MemberCostReached(resets_at=today.end)
    if risk["cost"] and risk["cost_of_all"] >= limits.operator_cost_daily_cap_usd_micros:
        return OperatorCostCapReached(resets_at=today.end)
    return None


def _caps(
    row: Row, *, member: Member, terms: Terms, limits: Limits, today: Window, now: datetime
) -> dict[BindingLimit, Cap]:
    place = member.place
    of_moderators = (
        (BindingLimit.CHANNEL_CAP, terms.channel_cap, "channel", place.channel_id if place else None),
        (BindingLimit.CATEGORY_CAP, terms.category_cap, "category", place.category_id if place else None),
        (BindingLimit.SERVER_CAP, terms.server_cap, "server", None),
    )
    caps = {
        binding: Cap(
            quota=quota,
            window=window_of(terms, quota, now),
            spent_usd_micros=row[f"{name}_spent"],
            set_aside_usd_micros=row[f"{name}_held"],
            channel_id=channel_id,
        )
        for binding, quota, name, channel_id in of_moderators
        if quota is not None
    }
    is_direct = member.guild_id == DIRECT_GUILD_ID
    caps[BindingLimit.OPERATOR_DIRECT_CAP if is_direct else BindingLimit.OPERATOR_SERVER_CAP] = Cap(
        quota=Quota(amount_usd_micros=limits.operator_cap_of(member.guild_id), period=Period.DAY),
        window=today,
        spent_usd_micros=row["server_spent_today"] + row["server_cost_today"],
        set_aside_usd_micros=row["server_held_today"],
    )
    # Uncharged costs have a cap of their own; only what exceeds that one counts here.
    excess = max(0, row["cost_today"] - limits.operator_cost_daily_cap_usd_micros)
    caps[BindingLimit.OPERATOR_CAP] = Cap(
        quota=Quota(amount_usd_micros=limits.operator_daily_cap_usd_micros, period=Period.DAY),
        window=today,
        spent_usd_micros=row["spent_today"] + excess,
        set_aside_usd_micros=row["held_today"],
    )
    return caps
