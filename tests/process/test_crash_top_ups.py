"""Killed while a purchase is credited, consumed or refunded: it counts once, and Discord knows that it is used up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sandbox.discord.world import Entitlement
from tests.support.crash_scenarios import KILLED
from tests.support.crashes import IMPATIENT, SIX_MINUTES, Nursery, World, seen, world

FIFTY_CENTS = 500_000


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@pytest.fixture
async def here(nursery: Nursery, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nursery, tmp_path) as here:
        here.settings |= IMPATIENT
        yield here


def buy(here: World) -> Entitlement:
    return here.discord.buy(here.moderator, next(iter(here.discord.world.skus.values())))


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


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_refund_is_taken_back_once(here: World, when: str) -> None:
    sell(here)
    await here.start(CRASH_AT="store.take_back", CRASH_WHEN=when)
    bought = buy(here)
    assert await seen(here, lambda: is_recorded(here, bought)), here.last_words()
    again = buy(here)
    assert await seen(here, lambda: balances(here) == [2 * FIFTY_CENTS] and is_recorded(here, again))
    here.discord.refund(bought)
    assert await here.dead() == KILLED, here.last_words()
    here.pass_time(SIX_MINUTES)
    await here.start()
    assert await seen(here, lambda: balances(here) == [FIFTY_CENTS]), here.last_words()
    assert await here.stop(politely=True) == 0
    assert here.findings() == []
