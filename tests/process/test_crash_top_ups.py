"""Killed while a purchase is credited, consumed or refunded: it counts once, and Discord knows that it is used up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sandbox.discord.world import Entitlement, Member
from tests.support.crash_scenarios import KILLED
from tests.support.crashes import IMPATIENT, SIX_MINUTES, Nursery, World, seen, world

FIFTY_CENTS = 500_000


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nursery, tmp_path) as here:
        here.settings |= IMPATIENT
        yield here


def buy(here: World, who: Member | None = None) -> Entitlement:
    return here.discord.buy(who or here.moderator, next(iter(here.discord.world.skus.values())))


def sell(here: World) -> None:
    sku = here.discord.sku("Fifty cents", price="$0.99")
    here.settings["TOPUP_SKUS"] = f"{sku.id}=0.50"


def balances(here: World) -> list[int]:
    return [row[0] for row in here.query("SELECT available_usd_micros FROM wallets")]


def is_recorded(here: World, bought: Entitlement) -> bool:
    return bool(here.query("SELECT 1 FROM entitlements WHERE id = ? AND consumed_at IS NOT NULL", bought.id))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["store.credit", "store.mark_consumed"])
async def test_a_purchase_counts_once_and_is_consumed(here: World, point: str, when: str) -> None:
    sell(here)
    await here.start(CRASH_AT=point, CRASH_WHEN=when)
    bought = buy(here)
    assert await here.dead() == KILLED, here.last_words()
    here.pass_time(SIX_MINUTES)
    for _ in range(2):
        await here.start()
        assert await seen(here, lambda: bought.consumed and is_recorded(here, bought)), here.last_words()
        assert balances(here) == [FIFTY_CENTS]
        assert await here.stop(politely=True) == 0
        here.pass_time(SIX_MINUTES)
    assert bought.times_consumed >= 1
    assert here.findings() == []


def messages_of_operator(here: World) -> list[str]:
    """Return what was said of refunds to the owner of the application, who moderates the server here."""
    return [
        text
        for message in here.discord.direct(here.moderator).messages.values()
        if "refunded" in (text := str(message.components))
    ]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("point", ["store.take_back", "store.refund_told"])
async def test_a_refund_is_taken_back_once_and_told(here: World, point: str, when: str) -> None:
    sell(here)
    await here.start(CRASH_AT=point, CRASH_WHEN=when)
    bought = buy(here)
    assert await seen(here, lambda: is_recorded(here, bought)), here.last_words()
    again = buy(here)
    assert await seen(here, lambda: balances(here) == [2 * FIFTY_CENTS] and is_recorded(here, again))
    here.discord.refund(bought)
    assert await here.dead() == KILLED, here.last_words()
    here.pass_time(SIX_MINUTES)
    await here.start()
    assert await seen(here, lambda: balances(here) == [FIFTY_CENTS] and messages_of_operator(here) != []), (
        here.last_words()
    )
    assert await seen(here, lambda: not here.query("SELECT 1 FROM notes WHERE key LIKE 'refund to tell %'"))
    # At least once: a process that ends before it is recorded tells it again.
    assert len(messages_of_operator(here)) <= 2
    assert await here.stop(politely=True) == 0
    assert here.findings() == []


# -- orders that quota and wallet pay together --------------------------------------------------------------------

AN_IMAGE = 80_000
AFFORDABLE = 18
"""Images at $0.08 for $1.00 of quota and $0.50 in the wallet; six cents of the wallet are left."""


def start_at_noon(here: World) -> None:
    """Move the time to the next noon, so that no new day begins during the test."""
    now = datetime.now(UTC)
    here.pass_time((now.replace(hour=12, minute=0) + timedelta(days=1) - now).total_seconds())


async def test_200_commands_buy_exactly_what_quota_and_wallet_allow_whatever_is_killed(here: World) -> None:
    start_at_noon(here)
    here.settings |= {"DEFAULT_QUOTA_USD": "1.00"}
    sell(here)
    await here.start()
    buy(here, here.member)
    assert await seen(here, lambda: balances(here) == [FIFTY_CENTS]), here.last_words()
    # Died before, while and after jobs are admitted, sent and charged.
    for number, (point, nth) in enumerate([("store.admit", 3), ("krea.submit", 4), ("store.succeed", 2), ("", 0)]):
        await here.stop(politely=True)
        await here.start(**({"CRASH_AT": point, "CRASH_NTH": str(nth), "CRASH_WHEN": "after"} if point else {}))
        for order in range(50):
            await here.discord.slash(here.member, here.channel, "imagine", prompt=f"a fox {number} {order}")
        if point:
            assert await here.dead() == KILLED, here.last_words()
            here.pass_time(SIX_MINUTES)
            await here.start()
    await here.settled()
    while True:  # what was given back, because it was never sent, is there to be spent
        command = await here.discord.slash(here.member, here.channel, "imagine", prompt="one more fox")
        await command.wait()
        await here.settled()
        if "Completed" not in command.text:
            break
    assert await here.stop(politely=True) == 0
    assert here.findings() == []
    charged = here.query("SELECT charged_usd_micros FROM jobs WHERE charged_usd_micros IS NOT NULL")
    assert [tuple(row) for row in charged] == [(AN_IMAGE,)] * AFFORDABLE
    assert balances(here) == [FIFTY_CENTS + 1_000_000 - AFFORDABLE * AN_IMAGE]
    assert here.query("SELECT sum(held_usd_micros) FROM wallets")[0][0] == 0
    paid = here.query("SELECT sum(amount_usd_micros) FROM ledger WHERE kind = 'settle'")[0][0]
    assert paid == 1_000_000
    borne = here.query("SELECT coalesce(sum(house_usd_micros), 0) FROM reservations")[0][0]
    assert here.provider.bill_usd_micros == AFFORDABLE * AN_IMAGE + borne
