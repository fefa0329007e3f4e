"""Comparisons in the ledger, on both engines: many at once are admitted exactly, each whole or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import QuotaExceeded
from bot.domain.jobs import Reply
from bot.domain.money.quota import Member
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from tests.support.store_samples import A_DOLLAR_A_DAY, NOON, a_command, limits

AMOUNTS = (80_000, 7_000, 13_001)
"""One image of each of three models: $0.100001."""

FITTING = 9
"""As many such comparisons fit into the quota of $1.00."""


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def test_200_comparisons_at_once_use_a_quota_to_the_last_one_that_fits(store: Store) -> None:
    member = Member(guild_id=1, user_id=7)
    replies = [a_command(*AMOUNTS, member=member) for _ in range(200)]

    async def is_admitted(reply: Reply) -> bool:
        try:
            await store.admit(member=member, reply=reply, limits=limits(), now=NOON)
        except QuotaExceeded:
            return False
        return True

    admitted = await asyncio.gather(*map(is_admitted, replies))
    assert sum(admitted) == FITTING
    balance = await store.balance(member, default=A_DOLLAR_A_DAY, now=NOON)
    assert balance.set_aside_usd_micros == FITTING * sum(AMOUNTS)
    for reply, was_admitted in zip(replies, admitted, strict=True):
        found = await store.reply(reply.id)
        assert (found is not None and len(found.jobs) == len(AMOUNTS)) is was_admitted
