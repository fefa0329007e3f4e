"""Reviews, on both engines: one question an order, decided once, and asked again when an image comes late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bot.domain.deletion import MessageKind, OrderMessage
from bot.domain.deployment.database_url import Location
from bot.domain.jobs import Delivery, Failure, FailureReason, Reply, ReviewState, Visibility
from bot.domain.money.quota import Member
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from bot.store.tables.members.reviews import CLAIM
from tests.support.databases import everything_in
from tests.support.store_samples import ADA, NOON, a_command, an_image, everything_kept, finished, limits, running

MODERATOR_ID = 99
QUESTION = {"guild_id": ADA.guild_id, "message_id": 50, "actor_id": MODERATOR_ID, "now": NOON}


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def admitted(store: Store, *amounts_usd_micros: int, member: Member = ADA) -> Reply:
    """Admit a command whose images are reviewed in channel 5."""
    visibility = Visibility(review_channel_id=5, spoiler=True)
    command = a_command(*amounts_usd_micros, member=member)
    command = replace(command, visibility=visibility, review=ReviewState.WAITING)
    await store.admit(member=member, reply=command, limits=limits(), now=NOON)
    await store.accept(command.id, message_id=4711)
    return command


async def waiting(store: Store) -> Reply:
    reply = await admitted(store)
    await finished(store, reply.jobs[0].id)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    return reply


async def asked(store: Store) -> Reply:
    reply = await waiting(store)
    assert await store.claim_review(reply.id, channel_id=5, now=NOON) is not None
    await store.record_review(reply.id, channel_id=5, message_id=50, now=NOON)
    return reply


async def as_it_is(store: Store, reply: Reply) -> Reply:
    found = await store.reply(reply.id)
    assert found is not None
    return found


async def test_a_question_is_claimed_by_one_and_again_when_that_one_is_gone(store: Store) -> None:
    reply = await waiting(store)
    later, until = NOON + CLAIM, NOON + timedelta(minutes=9)
    assert await store.reviews_to_ask(now=NOON, limit=9) == [reply.id]
    assert await store.waiting_reviews(ADA.guild_id) == 1
    claims = await asyncio.gather(*(store.claim_review(reply.id, channel_id=5, now=NOON) for _ in range(4)))
    assert [claim.is_first for claim in claims if claim is not None] == [True]
    assert await store.reviews_to_ask(now=NOON, limit=9) == []
    assert await store.reviews_to_ask(now=later, limit=9) == [reply.id]
    again = await store.claim_review(reply.id, channel_id=6, now=later)
    assert again is not None
    assert (again.is_first, again.first_claimed_at) == (False, NOON)
    await store.postpone_review(reply.id, until=until)
    assert await store.reviews_to_ask(now=until - timedelta(seconds=1), limit=9) == []
    assert await store.claim_review(reply.id, channel_id=6, now=until) is not None
    await store.record_review(reply.id, channel_id=6, message_id=60, now=until)
    assert await store.reviews_to_ask(now=until + timedelta(days=99), limit=9) == []


async def test_an_order_without_an_image_that_is_shown_is_not_asked_about(store: Store) -> None:
    shown = await admitted(store)
    assert (await as_it_is(store, shown)).visibility == Visibility(review_channel_id=5, spoiler=True)
    await running(store, shown.jobs[0].id)
    assert await store.reviews_to_ask(now=NOON, limit=9) == []
    await store.fail(shown.jobs[0].id, Failure(reason=FailureReason.MODERATED), now=NOON)
    await store.set_delivery(shown.id, Delivery.DELIVERED)
    assert await store.reviews_to_ask(now=NOON, limit=9) == []
    assert await store.claim_review(shown.id, channel_id=5, now=NOON) is None


async def test_what_waits_is_asked_about_again_only_in_another_review_channel(store: Store) -> None:
    async def choose(guild_id: int, channel_id: int | None) -> list[str]:
        await store.change_policy(
            guild_id, lambda policy: replace(policy, review_channel_id=channel_id), actor_id=3, reason=None, now=NOON
        )
        return await store.reviews_to_ask(now=NOON, limit=9)

    decided, reply = await asked(store), await asked(store)
    assert await store.decide_review(decided.id, approves=True, reason=None, **QUESTION) is not None
    for guild_id, channel_id in ((ADA.guild_id, 5), (ADA.guild_id, None), (2, 6)):
        assert await choose(guild_id, channel_id) == []
    assert await choose(ADA.guild_id, 6) == [reply.id]
    assert [(due.channel_id, due.message_id) for due in await store.due_deletions(now=NOON, limit=9)] == [(5, 50)]
    assert await store.decide_review(reply.id, approves=True, reason=None, **QUESTION) is None


@pytest.mark.parametrize("approves", [True, False])
async def test_one_decision_counts_and_is_recorded_and_has_the_card_shown_again(store: Store, approves: bool) -> None:
    reply = await asked(store)
    wrong: list[dict[str, Any]] = [{"guild_id": 2}, {"message_id": 51}]
    for other in wrong:
        assert await store.decide_review(reply.id, approves=True, reason=None, **{**QUESTION, **other}) is None
    decisions = await asyncio.gather(
        *(store.decide_review(reply.id, approves=approves, reason="so", **QUESTION) for _ in range(3))
    )
    [decided] = [decision for decision in decisions if decision is not None]
    assert decided.review is (ReviewState.APPROVED if approves else ReviewState.REFUSED)
    assert (decided.delivery, decided.review_reason, decided.is_held_back) == (Delivery.PENDING, "so", not approves)
    assert await store.decide_review(reply.id, approves=not approves, reason=None, **QUESTION) is None
    [entry] = await store.audit(ADA.guild_id)
    assert (entry.action, entry.actor_id) == ("approve" if approves else "refuse", MODERATOR_ID)
    assert (entry.subject_id, entry.reason) == (ADA.user_id, "so")


@pytest.mark.parametrize("state", ["waiting", "refused"])
async def test_what_is_held_back_cannot_be_shared_and_is_kept(store: Store, state: str) -> None:
    reply = await asked(store)
    if state == "refused":
        await store.decide_review(reply.id, approves=False, reason=None, **QUESTION)
        await store.set_delivery(reply.id, Delivery.DELIVERED)
    assert await store.claim_share(reply.jobs[0].id, channel_id=7, now=NOON) is None
    kept = an_image().sha256
    assert kept in await store.sha256_in_use(now=NOON + timedelta(days=29))
    much_later = NOON + timedelta(days=400)
    assert (kept in await store.sha256_in_use(now=much_later)) == (state == "waiting")
    await store.forget_old(now=much_later)
    is_forgotten = (await as_it_is(store, reply)).jobs[0].erased_at is not None
    assert is_forgotten == (state == "refused")


@pytest.mark.parametrize("approves", [True, False, None])
async def test_an_image_that_comes_late_is_reviewed_unless_the_order_was_refused(
    store: Store, approves: bool | None
) -> None:
    reply = await admitted(store, 80_000, 80_000)
    first, second = (job.id for job in reply.jobs)
    await finished(store, first)
    await running(store, second)
    await store.fail(second, Failure(reason=FailureReason.TIMED_OUT), now=NOON, follow_until=NOON + timedelta(hours=1))
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    await store.claim_review(reply.id, channel_id=5, now=NOON)
    await store.record_review(reply.id, channel_id=5, message_id=50, now=NOON)
    if approves is not None:
        await store.decide_review(reply.id, approves=approves, reason=None, **QUESTION)
        await store.set_delivery(reply.id, Delivery.DELIVERED)
    late = await store.deliver_late(second, operator_cost_usd_micros=0, images=[an_image("cd" * 32)], now=NOON)
    assert late is not None
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    found = await as_it_is(store, reply)
    assert found.review is (ReviewState.REFUSED if approves is False else ReviewState.WAITING)
    is_asked_again = await store.reviews_to_ask(now=NOON, limit=9) == [reply.id]
    assert is_asked_again == (approves is not False)
    gone = [(due.channel_id, due.message_id) for due in await store.due_deletions(now=NOON, limit=9)]
    assert gone == ([] if approves is False else [(5, 50)])
    assert await store.decide_review(reply.id, approves=True, reason=None, **QUESTION) is None, "the old question"


async def test_deleting_and_forgetting_take_the_question_and_every_word_of_it(store: Store, location: Location) -> None:
    reply = await asked(store)
    kept = await everything_kept(store, ADA.user_id)
    assert [question["message_id"] for question in kept["questions_to_moderators"]] == ["50"]
    assert [command["review"] for command in kept["commands"]] == ["waiting"]
    await store.decide_review(reply.id, approves=False, reason="unspeakable", **QUESTION)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    deleted = await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    assert deleted is not None
    assert OrderMessage(channel_id=5, message_id=50, kind=MessageKind.REVIEW) in deleted.messages
    again = await waiting(store)
    await store.claim_review(again.id, channel_id=5, now=NOON)
    await store.forget_member(ADA.user_id, now=NOON)
    await store.record_review(again.id, channel_id=5, message_id=51, now=NOON)  # it was under way meanwhile
    assert 51 in [due.message_id for due in await store.due_deletions(now=NOON, limit=9)]
    assert everything_in(location).count("unspeakable") == 1, "on the record of changes"
