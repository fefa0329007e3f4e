"""Ledger guard: the check of every start that the ledger was not changed behind the program's back.

It reads each money table once, row by row for bounds and as sums that must equal each other, and compares the newest
reservations with their entries one by one. A change, a deleted row or an amount out of range shows in one of them;
`python -m bot ledger verify` proves every row.
"""

from __future__ import annotations

from collections.abc import Iterator

from bot.domain.errors import LedgerTampered
from bot.store.core.connection import Connection

MAX_AMOUNT_USD_MICROS = 9_999_999_999_999
"""No amount of ours is near ten million dollars; the schema refuses more."""

GUARD_TIMEOUT_SECONDS = 10
"""A start does not wait longer for the sums, which take some seconds for a million jobs."""

UNFINISHED = (
    "the ledger is too large to be checked as a whole within %d s at the start; `python -m bot ledger verify` checks it"
)
"""Logged when the time was up."""

_NEWEST_ROWS = 2_000


def _out_of_bounds(*names: str, least: int = 0) -> str:
    return " OR ".join(f"{name}_usd_micros NOT BETWEEN {least} AND {MAX_AMOUNT_USD_MICROS}" for name in names)


_OUT_OF_BOUNDS = {
    "ledger": _out_of_bounds("amount", least=1),
    "reservations": _out_of_bounds("reserved", "held", "settled", "house", "wallet", "wallet_settled"),
    "totals": _out_of_bounds("held", "settled", "forgiven", "operator_cost", "wallet_held", "wallet_settled"),
    "daily_totals": _out_of_bounds("held", "settled", "forgiven", "operator_cost", "wallet_held", "wallet_settled"),
    "adjustments": _out_of_bounds("amount"),
    "wallets": _out_of_bounds("available", "held"),
    "entitlements": _out_of_bounds("amount"),
    "wallet_ledger": _out_of_bounds("amount", least=1),
    "refunds": f"usd_micros NOT BETWEEN 1 AND {MAX_AMOUNT_USD_MICROS} "
    "OR wallet_usd_micros NOT BETWEEN 0 AND usd_micros",
}

_SUMS_OF_LEDGER = """
SELECT count(*), sum(account_id),
    sum(CASE kind WHEN 'reserve' THEN amount_usd_micros END), sum(CASE kind WHEN 'settle' THEN amount_usd_micros END),
    sum(CASE kind WHEN 'remainder' THEN amount_usd_micros END),
    sum(CASE kind WHEN 'release' THEN amount_usd_micros END), sum(CASE kind WHEN 'house' THEN amount_usd_micros END)
FROM ledger
"""
# What of a reservation the quota pays; a wallet has entries of its own.
_RESERVED = "(reserved_usd_micros - wallet_usd_micros)"
_SETTLED = "(settled_usd_micros - wallet_settled_usd_micros)"
# An entry for what was reserved, one or two for the end, and one of account 2 for what the operator bears.
_ENTRIES_OF_MEMBER = f"""(
    CASE WHEN {_RESERVED} > 0 THEN 1 ELSE 0 END
    + CASE WHEN state = 'released' AND {_RESERVED} > 0 THEN 1 ELSE 0 END
    + CASE WHEN state = 'settled' AND {_SETTLED} > 0 THEN 1 ELSE 0 END
    + CASE WHEN state = 'settled' AND {_SETTLED} < {_RESERVED} THEN 1 ELSE 0 END
)"""
_ENTRIES_OF_OPERATOR = "(CASE WHEN house_usd_micros > 0 THEN 1 ELSE 0 END)"
_THE_SAME_OF_RESERVATIONS = f"""
SELECT sum({_ENTRIES_OF_MEMBER} + {_ENTRIES_OF_OPERATOR}),
    sum({_ENTRIES_OF_MEMBER} * member_account_id + {_ENTRIES_OF_OPERATOR} * 2),
    sum({_RESERVED}), sum({_SETTLED}),
    sum(CASE state WHEN 'settled' THEN {_RESERVED} - {_SETTLED} END),
    sum(CASE state WHEN 'released' THEN {_RESERVED} END), sum(house_usd_micros)
FROM reservations
"""  # noqa: S608 - our own words
_SUMS_OF_WALLET_LEDGER = """
SELECT sum(CASE kind WHEN 'reserve' THEN amount_usd_micros END),
    sum(CASE kind WHEN 'settle' THEN amount_usd_micros END),
    sum(CASE WHEN kind IN ('remainder', 'release') THEN amount_usd_micros END)
FROM wallet_ledger WHERE job_id IS NOT NULL
"""
_THE_SAME_OF_WALLET_PARTS = """
SELECT sum(wallet_usd_micros), sum(wallet_settled_usd_micros),
    sum(CASE WHEN state <> 'open' THEN wallet_usd_micros - wallet_settled_usd_micros END)
FROM reservations WHERE wallet_id IS NOT NULL
"""
_SUMS_OF_PURCHASES = """
SELECT sum(amount_usd_micros), sum(taken_back_usd_micros),
    sum(amount_usd_micros) - sum(taken_back_usd_micros) - coalesce((
        SELECT sum(amount_usd_micros) FROM wallet_ledger WHERE kind = 'settle'
    ), 0) + coalesce((SELECT sum(wallet_usd_micros) FROM refunds), 0)
FROM entitlements
"""
_THE_SAME_OF_WALLETS = """
SELECT sum(CASE kind WHEN 'credit' THEN amount_usd_micros END),
    sum(CASE kind WHEN 'take_back' THEN amount_usd_micros END),
    (SELECT sum(available_usd_micros + held_usd_micros) FROM wallets)
FROM wallet_ledger WHERE entitlement_id IS NOT NULL
"""
_REFUNDED = "(SELECT coalesce(sum(usd_micros), 0) FROM refunds)"
# Each reservation counts for its member, its server and the operator (account 1).
_SUMS_OF_RESERVATIONS = f"""
SELECT 3 * sum(held_usd_micros), 3 * (sum(settled_usd_micros) - {_REFUNDED}),
    3 * (sum(house_usd_micros) + {_REFUNDED}), sum(held_usd_micros), sum(settled_usd_micros) - {_REFUNDED},
    sum(house_usd_micros) + {_REFUNDED},
    coalesce(sum(CASE state WHEN 'open' THEN wallet_usd_micros END), 0),
    sum(wallet_settled_usd_micros) - (SELECT coalesce(sum(wallet_usd_micros), 0) FROM refunds)
FROM reservations
"""  # noqa: S608 - our own words
_THE_SAME_OF_TOTALS = """
SELECT sum(held_usd_micros), sum(settled_usd_micros), sum(operator_cost_usd_micros),
    sum(CASE account_id WHEN 1 THEN held_usd_micros ELSE 0 END),
    sum(CASE account_id WHEN 1 THEN settled_usd_micros ELSE 0 END),
    sum(CASE account_id WHEN 1 THEN operator_cost_usd_micros ELSE 0 END),
    sum(CASE account_id WHEN 1 THEN wallet_held_usd_micros ELSE 0 END),
    sum(CASE account_id WHEN 1 THEN wallet_settled_usd_micros ELSE 0 END)
FROM totals
"""
_SUMS_OF_TOTALS = """
SELECT sum(held_usd_micros), sum(settled_usd_micros), sum(operator_cost_usd_micros),
    sum(forgiven_usd_micros), sum(wallet_held_usd_micros), sum(wallet_settled_usd_micros)
FROM totals
"""
_THE_SAME_OF_DAYS = _SUMS_OF_TOTALS.replace("totals", "daily_totals")
_NUMBER_OF_JOBS = "SELECT count(*) FROM jobs"
_NUMBER_OF_RESERVATIONS = "SELECT count(*) FROM reservations"

# The cheapest first, because the time is limited.
_EQUAL_SUMS = {
    "the jobs and their reservations": (_NUMBER_OF_JOBS, _NUMBER_OF_RESERVATIONS),
    "the sums of the days": (_SUMS_OF_TOTALS, _THE_SAME_OF_DAYS),
    "the sums of the accounts": (_SUMS_OF_RESERVATIONS, _THE_SAME_OF_TOTALS),
    "the purchases and the wallets": (_SUMS_OF_PURCHASES, _THE_SAME_OF_WALLETS),
    "what wallets pay": (_SUMS_OF_WALLET_LEDGER, _THE_SAME_OF_WALLET_PARTS),
    "the entries of the ledger": (_SUMS_OF_LEDGER, _THE_SAME_OF_RESERVATIONS),
}

# Ids of jobs grow with time. The kinds in brackets are those of the index ledger_resolves_once, word for word.
_NEWEST_UNLIKE_THEIR_ENTRIES = f"""
SELECT job_id FROM (SELECT * FROM reservations ORDER BY job_id DESC LIMIT {_NEWEST_ROWS}) AS newest
WHERE {_RESERVED} <> coalesce(
        (SELECT sum(amount_usd_micros) FROM ledger WHERE ledger.job_id = newest.job_id AND kind = 'reserve'), 0)
    OR {_SETTLED} <> coalesce(
        (SELECT sum(amount_usd_micros) FROM ledger WHERE ledger.job_id = newest.job_id
            AND kind IN ('settle', 'release') AND kind = 'settle'), 0)
    OR house_usd_micros <> coalesce(
        (SELECT sum(amount_usd_micros) FROM ledger WHERE ledger.job_id = newest.job_id AND kind = 'house'), 0)
    OR reserved_usd_micros <> (SELECT reserved_usd_micros FROM jobs WHERE jobs.id = newest.job_id)
    OR settled_usd_micros <> (SELECT coalesce(charged_usd_micros, 0) FROM jobs WHERE jobs.id = newest.job_id)
        + coalesce((SELECT usd_micros FROM refunds WHERE refunds.job_id = newest.job_id), 0)
LIMIT 1
"""  # noqa: S608 - our own words


def check_ledger(connection: Connection, name: str) -> None:
    """Raise LedgerTampered when the ledger of the database `name` does not balance."""
    problem = next(_problems(connection), None)
    if problem is not None:
        raise tampered(name, problem)


def tampered(name: str, problem: str) -> LedgerTampered:
    """Return the error for a ledger that something else than this program changed, with the steps to take."""
    return LedgerTampered(
        f"The ledger in {name} was changed by something else than this program: {problem}. The start changed nothing, "
        f"and nothing is ordered. See what differs with `python -m bot ledger verify`, then restore the newest backup "
        f"that balances."
    )


def _problems(connection: Connection) -> Iterator[str]:
    for (job_id,) in connection.execute(_NEWEST_UNLIKE_THEIR_ENTRIES).fetchall():
        yield f"job {job_id} does not equal its entries"
    # Before the sums, which an amount out of bounds could make too large to add up.
    for table, condition in _OUT_OF_BOUNDS.items():
        if connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table} WHERE {condition})").fetchone()[0]:  # noqa: S608
            yield f"{table} has an amount out of bounds"
    for what, queries in _EQUAL_SUMS.items():
        # Over no rows, a sum is NULL.
        first, second = ([value or 0 for value in connection.execute(query).fetchone()] for query in queries)
        if first != second:
            yield f"{what} do not add up"
