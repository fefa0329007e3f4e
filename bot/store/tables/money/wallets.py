"""Wallets: purchases of Discord consumables, each credited once, and what a refund takes back.

Synchronous functions inside the caller's transaction. Triggers write the entries of `wallet_ledger` and the balance of
the wallet; what jobs take from it is in the ledger (see ledger.py).
"""

from __future__ import annotations

from datetime import datetime

from bot.domain.money.quota import Purchase
from bot.store.core.columns import to_micros, to_moment, to_moment_or_none
from bot.store.core.connection import Connection, Row
from bot.store.tables.shared import notes

_OPEN_WALLET = "INSERT INTO wallets (user_id) VALUES (?) ON CONFLICT (user_id) DO NOTHING"
_CREDIT = """
INSERT INTO entitlements (id, wallet_id, sku_id, amount_usd_micros, credited_at)
SELECT CAST(:entitlement_id AS BIGINT), id, CAST(:sku_id AS BIGINT), CAST(:amount AS BIGINT), CAST(:now AS BIGINT)
FROM wallets WHERE user_id = :user_id
ON CONFLICT (id) DO NOTHING
"""
_TAKE_BACK = """
UPDATE entitlements SET ended_at = :now, taken_back_usd_micros = (
    SELECT CASE WHEN available_usd_micros < amount_usd_micros THEN available_usd_micros ELSE amount_usd_micros END
    FROM wallets WHERE wallets.id = wallet_id
)
WHERE id = :entitlement_id AND ended_at IS NULL
"""
_CONSUMED = "UPDATE entitlements SET consumed_at = :now WHERE id = :entitlement_id AND consumed_at IS NULL"
_PURCHASE = "SELECT * FROM entitlements WHERE id = ?"
_TO_CONSUME = "SELECT id FROM entitlements WHERE consumed_at IS NULL AND ended_at IS NULL ORDER BY id"
_SOLD = "SELECT DISTINCT sku_id FROM entitlements WHERE ended_at IS NULL ORDER BY sku_id"
_FORGET_EMPTY = """
UPDATE wallets SET user_id = NULL WHERE user_id = ? AND available_usd_micros = 0 AND held_usd_micros = 0
"""
_PURCHASES_OF_MEMBER = """
SELECT entitlements.* FROM entitlements JOIN wallets ON wallets.id = wallet_id
WHERE user_id = ? ORDER BY credited_at, entitlements.id
"""

_UNTOLD = "refund to tell "
_UNTOLD_REFUNDS = """
SELECT entitlements.*, user_id FROM notes JOIN entitlements ON notes.key = ? || entitlements.id
JOIN wallets ON wallets.id = wallet_id ORDER BY ended_at, entitlements.id
"""


def credit(
    connection: Connection, entitlement_id: int, *, user_id: int, sku_id: int, amount_usd_micros: int, now: datetime
) -> Purchase | None:
    """Pay a purchase into its buyer's wallet; None when this entitlement was credited, or had ended, before."""
    if not _insert(connection, entitlement_id, user_id, sku_id, amount_usd_micros, now):
        return None
    return purchase(connection, entitlement_id)


def take_back(
    connection: Connection, entitlement_id: int, *, user_id: int, sku_id: int, now: datetime
) -> Purchase | None:
    """End a purchase that Discord refunded or deleted, and take out of the wallet at most what is left there.

    One that was never credited is recorded as ended, so that it never will be; of another, the operator is to be told.
    None when it had ended before.
    """
    _insert(connection, entitlement_id, user_id, sku_id, 0, now)
    row = {"entitlement_id": entitlement_id, "now": to_micros(now)}
    if connection.execute(_TAKE_BACK, row).rowcount != 1:
        return None
    ended = purchase(connection, entitlement_id)
    if ended is not None and ended.amount_usd_micros:
        notes.set_(connection, f"{_UNTOLD}{entitlement_id}", "")
    return ended


def untold_refunds(connection: Connection) -> list[tuple[Purchase, int | None]]:
    """Return the refunds that the operator was not told of, each with its buyer, None for one who was forgotten."""
    return [(_purchase(row), row["user_id"]) for row in connection.execute(_UNTOLD_REFUNDS, (_UNTOLD,))]


def refund_told(connection: Connection, entitlement_id: int) -> None:
    """Record that the operator was told of a refund."""
    notes.remove(connection, f"{_UNTOLD}{entitlement_id}")


def _insert(
    connection: Connection, entitlement_id: int, user_id: int, sku_id: int, amount_usd_micros: int, now: datetime
) -> bool:
    if purchase(connection, entitlement_id) is not None:
        return False  # and no wallet is opened for a buyer who asked to be forgotten
    connection.execute(_OPEN_WALLET, (user_id,))
    row = {
        "entitlement_id": entitlement_id,
        "user_id": user_id,
        "sku_id": sku_id,
        "amount": amount_usd_micros,
        "now": to_micros(now),
    }
    return connection.execute(_CREDIT, row).rowcount == 1


def mark_consumed(connection: Connection, entitlement_id: int, *, now: datetime) -> None:
    """Record that Discord knows the entitlement as consumed, so that its buyer may buy again."""
    connection.execute(_CONSUMED, {"entitlement_id": entitlement_id, "now": to_micros(now)})


def purchase(connection: Connection, entitlement_id: int) -> Purchase | None:
    """Return a purchase; None for an entitlement that is not in the ledger."""
    row = connection.execute(_PURCHASE, (entitlement_id,)).fetchone()
    return None if row is None else _purchase(row)


def to_consume(connection: Connection) -> list[int]:
    """Return the entitlements that are credited and not known to be consumed at Discord."""
    return [row["id"] for row in connection.execute(_TO_CONSUME)]


def sold_skus(connection: Connection) -> list[int]:
    """Return the SKUs of purchases that can still be refunded, whether or not they are sold now."""
    return [row["sku_id"] for row in connection.execute(_SOLD)]


def purchases_of(connection: Connection, user_id: int) -> list[Purchase]:
    """Return what a person bought, oldest first."""
    return [_purchase(row) for row in connection.execute(_PURCHASES_OF_MEMBER, (user_id,))]


def forget_empty(connection: Connection, user_id: int) -> None:
    """Forget whose wallet it was, if nothing is left in it. Money that is left keeps its owner."""
    connection.execute(_FORGET_EMPTY, (user_id,))


def _purchase(row: Row) -> Purchase:
    return Purchase(
        entitlement_id=row["id"],
        sku_id=row["sku_id"],
        amount_usd_micros=row["amount_usd_micros"],
        taken_back_usd_micros=row["taken_back_usd_micros"],
        credited_at=to_moment(row["credited_at"]),
        consumed_at=to_moment_or_none(row["consumed_at"]),
        ended_at=to_moment_or_none(row["ended_at"]),
    )
