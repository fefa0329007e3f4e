"""Channel caps: what may be spent in a channel or category binds beside every other limit, to the micro-dollar."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import ChannelCapReached, QuotaExceeded
from bot.domain.money.quota import LimitSubject, Member, Period, Place, Quota
from bot.domain.money.spendable import BindingLimit
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from tests.support.store_samples import ADA, NOON, a_command, admitted, finished, limits

CATEGORY, ART, MEMES = 10, 11, 12
IN_ART = Place(channel_id=ART, category_id=CATEGORY)
IN_MEMES = Place(channel_id=MEMES, category_id=CATEGORY)


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


def at(place: Place | None, member: Member = ADA) -> Member:
    return replace(member, place=place)


async def set_cap(store: Store, channel_id: int, amount_usd_micros: int | None) -> None:
    cap = Quota(amount_usd_micros=amount_usd_micros, period=Period.DAY)
    await store.set_limit(1, LimitSubject.CHANNEL, channel_id, cap, actor_id=99, reason=None, now=NOON)


async def order(store: Store, place: Place | None, *amounts: int) -> None:
    member = at(place)
    await store.check_admission(member=member, amounts_usd_micros=amounts, limits=limits(), now=NOON)
    await store.admit(member=member, reply=a_command(*amounts, member=member), limits=limits(), now=NOON)


@pytest.mark.f03
async def test_of_200_simultaneous_commands_exactly_what_the_channels_allow_is_bought(store: Store) -> None:
    await set_cap(store, ART, 250_001)
    await set_cap(store, CATEGORY, 500_000)
    dice = random.Random(7)
    members = [Member(guild_id=1, user_id=number, place=dice.choice([IN_ART, IN_MEMES])) for number in range(1, 201)]

    async def one(member: Member) -> Place | None:
        try:
            await store.admit(member=member, reply=a_command(member=member), limits=limits(), now=NOON)
        except ChannelCapReached as refusal:
            return None if refusal.available_usd_micros < 80_000 else member.place
        return member.place

    bought = await asyncio.gather(*map(one, members))
    assert (bought.count(IN_ART), bought.count(IN_ART) + bought.count(IN_MEMES)) == (3, 6)
    left = {cap.channel_id: cap.available_usd_micros for cap in await store.caps_of_channels(1, now=NOON)}
    assert left == {ART: 10_001, CATEGORY: 20_000}


async def test_a_cap_counts_what_was_ordered_in_its_channel_before_it_was_set(store: Store) -> None:
    spent = await admitted(store, 80_000, member=at(IN_ART))
    await finished(store, spent.jobs[0].id, charged_usd_micros=60_000)
    await admitted(store, 40_000, member=at(IN_MEMES))
    await set_cap(store, CATEGORY, 150_000)
    with pytest.raises(ChannelCapReached) as refusal:
        await order(store, IN_ART, 30_000, 20_001)
    assert (refusal.value.channel_id, refusal.value.available_usd_micros) == (CATEGORY, 50_000)
    await order(store, IN_ART, 30_000, 20_000)


async def test_the_least_of_the_limits_is_named(store: Store) -> None:
    await set_cap(store, ART, 90_000)
    await set_cap(store, CATEGORY, 70_000)
    for place, channel_id in ((IN_ART, CATEGORY), (Place(channel_id=ART), ART)):
        with pytest.raises(ChannelCapReached) as refusal:
            await order(store, place, 100_000)
        assert refusal.value.channel_id == channel_id
    spendable = await store.spendable(at(IN_ART), limits=limits(), now=NOON)
    assert (spendable.binding, spendable.left_usd_micros) == (BindingLimit.CATEGORY_CAP, 70_000)
    with pytest.raises(QuotaExceeded):
        await order(store, Place(channel_id=13), 1_000_001)


async def test_zero_stops_a_channel_and_unlimited_frees_it(store: Store) -> None:
    await set_cap(store, ART, 0)
    with pytest.raises(ChannelCapReached):
        await order(store, IN_ART, 1)
    await order(store, IN_MEMES, 1)
    await set_cap(store, ART, None)
    await order(store, IN_ART, 80_000)


async def test_a_card_says_what_is_left_of_the_channel_that_its_order_was_made_in(store: Store) -> None:
    await set_cap(store, ART, 200_000)
    reply = await admitted(store, 80_000, member=at(IN_ART))
    found = await store.reply_and_spendable(reply.id, limits=limits(), now=NOON)
    assert found is not None
    assert (found[1].binding, found[1].left_usd_micros) == (BindingLimit.CHANNEL_CAP, 120_000)


async def test_moderators_are_told_once_in_a_window(store: Store) -> None:
    await set_cap(store, ART, 100_000)
    cap = await store.channel_cap(1, ART, now=NOON)
    assert cap is not None
    assert not await store.channel_was_warned(1, ART, window=cap.window)
    told = [await store.first_warning_of_channel(1, ART, window=cap.window) for _ in range(2)]
    assert told == [True, False]
    assert await store.channel_was_warned(1, ART, window=cap.window)


async def test_a_channel_without_a_cap_has_none(store: Store) -> None:
    await set_cap(store, ART, 100_000)
    assert await store.channel_cap(1, MEMES, now=NOON) is None
