"""Spend reports: what a server's members were charged in a period, by member, by channel and over time.

Synchronous functions inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from bot.domain.money.quota import SpendLine, SpendPart, SpendReport, Window
from bot.store.core.columns import to_json, to_micros
from bot.store.core.connection import Connection, DialectSql
from bot.store.tables.money.balances import SERVER_ACCOUNT

# One walk along the index for each part of the window: in SQLite, CROSS JOIN keeps the parts outside.
_SPEND_BY_PART = DialectSql(
    sqlite="""
SELECT parts.key AS part, jobs.user_id, reservations.channel_id, jobs.model_id, count(*) AS jobs,
    sum(reservations.settled_usd_micros) AS spent, sum(reservations.wallet_settled_usd_micros) AS from_wallet
FROM json_each(:parts) AS parts CROSS JOIN reservations JOIN jobs ON jobs.id = reservations.job_id
WHERE reservations.state = 'settled' AND reservations.server_account_id = :account_id
    AND NOT EXISTS (SELECT 1 FROM refunds WHERE refunds.job_id = reservations.job_id)
    AND reservations.reserved_at >= json_extract(parts.value, '$[0]')
    AND reservations.reserved_at < json_extract(parts.value, '$[1]')
GROUP BY parts.key, jobs.user_id, reservations.channel_id, jobs.model_id
""",
    postgresql="""
SELECT parts.number - 1 AS part, jobs.user_id, reservations.channel_id, jobs.model_id, count(*) AS jobs,
    CAST(sum(reservations.settled_usd_micros) AS BIGINT) AS spent,
    CAST(sum(reservations.wallet_settled_usd_micros) AS BIGINT) AS from_wallet
FROM json_array_elements(CAST(:parts AS JSON)) WITH ORDINALITY AS parts (span, number)
    JOIN reservations ON reservations.reserved_at >= CAST(parts.span ->> 0 AS BIGINT)
        AND reservations.reserved_at < CAST(parts.span ->> 1 AS BIGINT)
    JOIN jobs ON jobs.id = reservations.job_id
WHERE reservations.state = 'settled' AND reservations.server_account_id = CAST(:account_id AS BIGINT)
    AND NOT EXISTS (SELECT 1 FROM refunds WHERE refunds.job_id = reservations.job_id)
GROUP BY parts.number, jobs.user_id, reservations.channel_id, jobs.model_id
""",
)


def spend_report(connection: Connection, guild_id: int, parts: Sequence[Window]) -> SpendReport:
    """Return the settled spending of a server, by member, channel and model, and by part and model.

    The parts do not overlap.
    """
    account = connection.execute(SERVER_ACCOUNT, {"guild_id": guild_id}).fetchone()
    spans = to_json([(to_micros(part.start), to_micros(part.end)) for part in parts])
    by_line: dict[tuple[int | None, int | None, str], tuple[int, int, int]] = {}
    by_part: dict[tuple[int, str], tuple[int, int]] = {}
    query = {"account_id": account["id"] if account else None, "parts": spans}  # who never ordered has none
    for row in connection.execute(_SPEND_BY_PART.on(connection), query):
        part, user_id, channel_id, model_id, jobs, spent, from_wallet = row
        jobs_before, spent_before, wallet_before = by_line.get((user_id, channel_id, model_id), (0, 0, 0))
        line = (jobs_before + jobs, spent_before + spent, wallet_before + from_wallet)
        by_line[user_id, channel_id, model_id] = line
        jobs_before, spent_before = by_part.get((part, model_id), (0, 0))
        by_part[part, model_id] = jobs_before + jobs, spent_before + spent
    lines = (
        SpendLine(
            user_id=user_id,
            channel_id=channel_id,
            model_id=model_id,
            jobs=jobs,
            spent_usd_micros=spent,
            wallet_usd_micros=from_wallet,
        )
        for (user_id, channel_id, model_id), (jobs, spent, from_wallet) in by_line.items()
    )
    return SpendReport(
        lines=tuple(sorted(lines, key=_highest_first)),
        parts=tuple(
            SpendPart(part=part, model_id=model_id, jobs=jobs, spent_usd_micros=spent)
            for (part, model_id), (jobs, spent) in sorted(by_part.items())
        ),
    )


def _highest_first(line: SpendLine) -> tuple[int, int, int, str]:
    return -line.spent_usd_micros, line.user_id or 0, line.channel_id or 0, line.model_id
