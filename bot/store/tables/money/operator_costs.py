"""Operator costs: what jobs cost that no member paid, and every order as a bill has it.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from datetime import datetime

from bot.domain.jobs import FailureReason, JobStatus
from bot.domain.money.bill import LedgerJob
from bot.domain.money.quota import CostLimit, Limits, OperatorCostLine
from bot.store.core.columns import to_micros, to_moment
from bot.store.core.connection import Connection
from bot.store.tables.money.spendable import AT_RISK, NO_REPLY, risk_question
from bot.store.tables.shared import notes

_LEDGER_JOBS = """
SELECT jobs.id, provider, model_id, remote_id, status, submitted_at, settled_usd_micros + house_usd_micros AS paid
FROM jobs JOIN reservations ON job_id = jobs.id WHERE submitted_at >= ? ORDER BY submitted_at, jobs.id
"""
_OPERATOR_COST_LINES = """
SELECT ledger.created_at AS created_at, reservations.reserved_at, jobs.guild_id, accounts.user_id, jobs.id,
    jobs.provider, jobs.model_id, ledger.amount_usd_micros, jobs.failure_reason, jobs.late_at, ledger.id AS entry
FROM ledger JOIN jobs ON jobs.id = ledger.job_id JOIN reservations ON reservations.job_id = jobs.id
    JOIN accounts ON accounts.id = reservations.member_account_id
WHERE ledger.kind = 'house'
UNION ALL
SELECT refunded_at, reservations.reserved_at, jobs.guild_id, accounts.user_id, jobs.id, jobs.provider,
    jobs.model_id, usd_micros, jobs.failure_reason, jobs.late_at, refunds.through_ledger_id
FROM refunds JOIN jobs ON jobs.id = refunds.job_id JOIN reservations ON reservations.job_id = jobs.id
    JOIN accounts ON accounts.id = reservations.member_account_id
ORDER BY entry, created_at
"""


def cost_limits_reached(connection: Connection, user_id: int, *, limits: Limits, now: datetime) -> list[CostLimit]:
    """Return the limits on uncharged costs that are reached today and that the operator was not told of yet.

    What is returned counts as told, for the rest of the UTC day and in every process.
    """
    risk = connection.execute(AT_RISK, risk_question(user_id, NO_REPLY, now)).fetchone()
    reached: list[CostLimit] = []
    if risk["cost"] and risk["cost"] >= limits.operator_cost_per_member_usd_micros:
        reached.append(CostLimit.MEMBER)
    if risk["cost_of_all"] and risk["cost_of_all"] >= limits.operator_cost_daily_cap_usd_micros:
        reached.append(CostLimit.ALL_MEMBERS)
    return [limit for limit in reached if notes.claim_notice(connection, limit, now=now)]


def ledger_jobs(connection: Connection, *, since: datetime) -> list[LedgerJob]:
    """Return every order that was sent at or after `since`, with what was paid for it, oldest first."""
    return [
        LedgerJob(
            job_id=row["id"],
            provider=row["provider"],
            model_id=row["model_id"],
            remote_id=row["remote_id"],
            status=JobStatus(row["status"]),
            submitted_at=to_moment(row["submitted_at"]),
            paid_usd_micros=row["paid"],
        )
        for row in connection.execute(_LEDGER_JOBS, (to_micros(since),))
    ]


def operator_cost_lines(connection: Connection) -> list[OperatorCostLine]:
    """Every job that cost the operator something, oldest first."""
    return [
        OperatorCostLine(
            at=to_moment(row["created_at"]),
            ordered_at=to_moment(row["reserved_at"]),
            guild_id=row["guild_id"],
            user_id=row["user_id"],
            job_id=row["id"],
            provider=row["provider"],
            model_id=row["model_id"],
            amount_usd_micros=row["amount_usd_micros"],
            failure=None if row["failure_reason"] is None else FailureReason(row["failure_reason"]),
            came_late=row["late_at"] is not None,
        )
        for row in connection.execute(_OPERATOR_COST_LINES)
    ]
