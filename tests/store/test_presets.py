"""Presets, defaults, votes and favourites in the database, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import ListFull
from bot.domain.jobs import Delivery, GalleryFilter, Reply, new_id
from bot.domain.money.quota import Member
from bot.domain.presets import MAX_PER_MEMBER, MemberDefaults, Preset
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from bot.store.tables.members import marks
from tests.support.databases import everything_in
from tests.support.store_samples import ADA, NOON, a_command, an_image, limits, running

BOB = Member(guild_id=1, user_id=8)
MODERATOR_ID = 99
NOIR = Preset(
    id=new_id(),
    guild_id=1,
    user_id=None,
    name="Film Noir",
    model_id="krea/bfl/flux-1-dev",
    more="aspect_ratio=16:9, steps=28",
    words_after="black and white",
)
OWN = replace(NOIR, id=new_id(), guild_id=None, user_id=ADA.user_id, name="Mine zebra")


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def compared(store: Store) -> Reply:
    """Finish a command with two images of Ada."""
    reply = a_command(80_000, 7_000, member=ADA)
    await store.admit(member=ADA, reply=replace(reply, preset_name="Mine zebra"), limits=limits(), now=NOON)
    await store.accept(reply.id, message_id=1)
    for job in reply.jobs:
        await running(store, job.id)
        await store.succeed(job.id, charged_usd_micros=7_000, images=[an_image("ab" * 32)], now=NOON)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    return reply


async def exported(store: Store) -> dict[str, list[dict[str, Any]]]:
    """Return everything kept about Ada."""
    kept: dict[str, list[dict[str, Any]]] = {}
    async for name, items in store.kept_about(ADA.user_id):
        kept.setdefault(name, []).extend(items)
    return kept


async def test_members_see_their_own_presets_first_then_those_of_the_server(store: Store) -> None:
    for preset in (NOIR, OWN, replace(OWN, id=new_id(), user_id=8), replace(NOIR, id=new_id(), guild_id=2)):
        assert not await store.set_preset(preset, actor_id=MODERATOR_ID, now=NOON)
    assert await store.presets_of(guild_id=1, user_id=ADA.user_id) == [OWN, NOIR]


async def test_a_preset_of_the_same_name_is_replaced_and_recorded(store: Store) -> None:
    assert not await store.set_preset(NOIR, actor_id=MODERATOR_ID, now=NOON)
    other = replace(NOIR, id=new_id(), name=" film  noir".strip(), words_after="grainy")
    assert await store.set_preset(other, actor_id=MODERATOR_ID, now=NOON)
    assert await store.presets_of(guild_id=1, user_id=8) == [other]
    who = {"guild_id": 1, "user_id": None, "actor_id": MODERATOR_ID, "now": NOON}
    assert await store.remove_preset("FILM NOIR", **who)
    assert not await store.remove_preset("FILM NOIR", **who)
    actions = [(entry.action, entry.old_value, entry.new_value) for entry in await store.audit(1)]
    assert actions == [
        ("presets", "listed", "not_listed"),
        ("presets", "listed", "listed"),
        ("presets", "not_listed", "listed"),
    ]


async def test_a_member_keeps_a_bounded_number(store: Store) -> None:
    for number in range(MAX_PER_MEMBER):
        await store.set_preset(replace(OWN, id=new_id(), name=f"n{number}"), actor_id=ADA.user_id, now=NOON)
    with pytest.raises(ListFull):
        await store.set_preset(OWN, actor_id=ADA.user_id, now=NOON)
    await store.set_preset(replace(OWN, id=new_id(), name="N1"), actor_id=ADA.user_id, now=NOON)


async def test_defaults_are_of_one_member_in_one_server(store: Store) -> None:
    mine = MemberDefaults(model_id="krea/bfl/flux-1-dev", resolution="2K", private=True, preset_name="Mine zebra")
    await store.set_member_defaults(mine, guild_id=1, user_id=ADA.user_id)
    assert await store.member_defaults(guild_id=1, user_id=ADA.user_id) == mine
    assert await store.member_defaults(guild_id=2, user_id=ADA.user_id) == MemberDefaults()
    await store.set_member_defaults(MemberDefaults(), guild_id=1, user_id=ADA.user_id)
    assert await store.member_defaults(guild_id=1, user_id=ADA.user_id) == MemberDefaults()


async def test_each_member_has_one_vote_in_a_comparison(store: Store) -> None:
    reply = await compared(store)
    first, second = (job.id for job in reply.jobs)
    assert await store.vote(first, user_id=8)
    assert await store.vote(second, user_id=9)
    assert await store.vote(second, user_id=8)
    assert await store.votes(reply.id) == {second: 2}
    assert not await store.vote(second, user_id=9)
    assert await store.votes(reply.id) == {second: 1}
    await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    assert not await store.vote(first, user_id=8)
    assert await store.votes(reply.id) == {}


async def test_only_its_member_marks_an_order_as_a_favourite(store: Store) -> None:
    reply = await compared(store)
    await store.set_favourite(reply.id, user_id=8, is_favourite=True)
    assert not await is_favourite(store, reply.id)
    for _ in range(2):
        await store.set_favourite(reply.id, user_id=ADA.user_id, is_favourite=True)
    assert await is_favourite(store, reply.id)
    await store.set_favourite(reply.id, user_id=ADA.user_id, is_favourite=False)
    assert not await is_favourite(store, reply.id)


async def test_presets_defaults_votes_and_favourites_are_exported_and_erased(store: Store, location: Location) -> None:
    reply = await compared(store)
    await store.set_preset(OWN, actor_id=ADA.user_id, now=NOON)
    await store.set_member_defaults(MemberDefaults(preset_name="Mine zebra"), guild_id=1, user_id=ADA.user_id)
    await store.vote(reply.jobs[0].id, user_id=ADA.user_id)
    await store.set_favourite(reply.id, user_id=ADA.user_id, is_favourite=True)
    kept = await exported(store)
    assert [preset["name"] for preset in kept["own_presets"]] == ["Mine zebra"]
    assert [defaults["preset"] for defaults in kept["own_defaults"]] == ["Mine zebra"]
    assert [vote["job_id"] for vote in kept["votes"]] == [reply.jobs[0].id]
    assert kept["favourite_commands"] == [{"id": reply.id}]
    assert [command["preset"] for command in kept["commands"]] == ["Mine zebra"]
    await store.forget_member(ADA.user_id, now=NOON)
    assert "zebra" not in everything_in(location)
    kept = await exported(store)
    assert [kept[part] for part in ("own_presets", "own_defaults", "votes", "favourite_commands")] == [[], [], [], []]


async def test_the_history_is_filtered_by_words_and_favourites(store: Store) -> None:
    reply = await compared(store)
    for words, found in (
        ("lighthouse", True),
        ("LIGHT bei", True),
        ("nacht“", True),
        ("light fox", False),
        ("%", False),
    ):
        page = await store.gallery_page(1, ADA.user_id, chosen=GalleryFilter(words=words))
        assert (page is not None) is found, words
    assert await store.gallery_page(1, ADA.user_id, chosen=GalleryFilter(favourites=True)) is None
    await store.set_favourite(reply.id, user_id=ADA.user_id, is_favourite=True)
    page = await store.gallery_page(1, ADA.user_id, chosen=GalleryFilter(favourites=True, words="lighthouse"))
    assert page is not None
    assert page.is_favourite


async def is_favourite(store: Store, reply_id: str) -> bool:
    return await store.database.read(lambda connection: marks.is_favourite(connection, reply_id))
