"""Deletion of one order, on both engines: what goes, what stays, and the list of messages still to be deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from bot.domain.deletion import MessageDeletion, MessageKind, OrderMessage
from bot.domain.deployment.database_url import Location
from bot.domain.jobs import Delivery, ImageInput, ImageRole, Reply
from bot.domain.money.quota import Member
from bot.domain.visibility import ShareClaim
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from bot.store.tables.members.shared_images import CLAIM
from tests.support.databases import everything_in, tamper
from tests.support.store_samples import A_DOLLAR_A_DAY, ADA, NOON, a_command, admitted, an_image, limits, running

pytestmark = pytest.mark.hostile("G-51")

BOB = Member(guild_id=1, user_id=8)
MODERATOR_ID = 99
SOURCE = ImageInput(sha256="cd" * 32, role=ImageRole.SOURCE, content_type="image/png", width=8, height=8)
RESULT = "ab" * 32


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def delivered(store: Store, *, member: Member = ADA) -> Reply:
    """Run a command with an input until its image was made and shown, in message 4711 of its channel."""
    reply = a_command(80_000, member=member, images=(SOURCE,))
    await store.admit(member=member, reply=reply, limits=limits(), now=NOON)
    await store.accept(reply.id, message_id=471147114711)
    await running(store, reply.jobs[0].id)
    await store.succeed(reply.jobs[0].id, charged_usd_micros=80_000, images=[an_image(RESULT)], now=NOON)
    await store.set_delivery(reply.id, Delivery.DELIVERED, attachment_ids={RESULT: 815815815815})
    return reply


async def test_deleting_leaves_amount_model_times_and_payer_and_nothing_else(store: Store, location: Location) -> None:
    reply = await delivered(store)
    await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
    await store.record_copy(reply.id, kind=MessageKind.LOG, channel_id=8, message_id=9001, now=NOON)
    words = ("lighthouse", "a-token", "471147114711", "815815815815", "provider.invalid", "pt-BR", SOURCE.sha256)
    before = everything_in(location)
    assert [word for word in words if word not in before] == []
    balance = await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON)

    deleted = await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)

    assert deleted is not None
    assert deleted.unneeded_sha256 == {RESULT, SOURCE.sha256}
    assert deleted.messages == (
        OrderMessage(channel_id=6, message_id=471147114711, kind=MessageKind.CARD),
        OrderMessage(channel_id=8, message_id=9001, kind=MessageKind.LOG),
    )
    for message in deleted.messages:
        await store.finish_deletion(message.channel_id, message.message_id)
    left = everything_in(location)
    assert [word for word in words if word in left] == []
    found = await store.reply(reply.id)
    assert found is not None
    assert (found.deleted_at, found.user_id, found.address.channel_id) == (NOON, ADA.user_id, 0)
    (job,) = found.jobs
    assert (job.request.prompt, job.request.options, job.body, job.seed) == ("", {}, {}, None)
    assert (job.charged_usd_micros, job.request.model_id) == (80_000, reply.jobs[0].request.model_id)
    assert await store.balance(ADA, default=A_DOLLAR_A_DAY, now=NOON) == balance
    assert await store.gallery_page(1, ADA.user_id) is None
    assert await store.audit(1) == []


async def test_an_order_is_deleted_once(store: Store) -> None:
    reply = await delivered(store)
    assert await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON) is not None
    assert await store.delete_reply(reply.id, actor_id=MODERATOR_ID, now=NOON) is None
    assert await store.audit(1) == []
    assert await store.delete_reply("0" * 24, actor_id=MODERATOR_ID, now=NOON) is None


async def test_what_runs_or_is_not_shown_yet_is_not_deleted(store: Store) -> None:
    reply = await admitted(store)
    assert await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON) is None
    await running(store, reply.jobs[0].id)
    await store.succeed(reply.jobs[0].id, charged_usd_micros=1, images=[an_image(RESULT)], now=NOON)
    assert await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON) is None
    await store.set_delivery(reply.id, Delivery.IMPOSSIBLE)
    assert await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON) is not None


async def test_what_another_order_needs_stays(store: Store) -> None:
    hers, his = await delivered(store), await delivered(store, member=BOB)
    await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
    deleted = await store.delete_reply(hers.id, actor_id=ADA.user_id, now=NOON)
    assert deleted is not None
    assert deleted.unneeded_sha256 == frozenset()
    assert await store.uploaded_url("krea", SOURCE.sha256) is not None
    assert await store.reply(his.id) is not None
    deleted = await store.delete_reply(his.id, actor_id=BOB.user_id, now=NOON)
    assert deleted is not None
    assert deleted.unneeded_sha256 == {RESULT, SOURCE.sha256}
    assert await store.uploaded_url("krea", SOURCE.sha256) is None


async def test_a_delivery_that_another_process_records_late_changes_nothing(store: Store) -> None:
    reply = await delivered(store)
    await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    assert not await store.set_delivery(reply.id, Delivery.DELIVERED, message_id=5, channel_id=6)
    found = await store.reply(reply.id)
    assert found is not None
    assert found.address.message_id is None


async def test_a_public_card_that_was_replaced_elsewhere_is_deleted_too(store: Store) -> None:
    reply = await admitted(store)
    await running(store, reply.jobs[0].id)
    await store.succeed(reply.jobs[0].id, charged_usd_micros=1, images=[an_image(RESULT)], now=NOON)
    await store.set_delivery(reply.id, Delivery.DELIVERED, message_id=500, channel_id=50)
    deleted = await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    assert deleted is not None
    assert {message.place for message in deleted.messages} == {(50, 500), (6, 99)}


async def test_the_list_of_messages_survives_and_is_worked_off(store: Store) -> None:
    reply = await delivered(store)
    await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    assert await store.due_deletions(now=NOON, limit=9) == []  # the click tries first
    soon = NOON + timedelta(minutes=1)
    (deletion,) = await store.due_deletions(now=soon, limit=9)
    assert deletion == MessageDeletion(channel_id=6, message_id=471147114711)
    for _ in range(2):  # by two processes
        await store.postpone_deletion(deletion, until=soon + timedelta(hours=1))
    assert await store.due_deletions(now=soon, limit=9) == []
    (again,) = await store.due_deletions(now=soon + timedelta(hours=1), limit=9)
    assert again.attempts == 1
    await store.finish_deletion(again.channel_id, again.message_id)
    assert await store.due_deletions(now=soon + timedelta(days=9), limit=9) == []


async def test_a_copy_recorded_after_the_deletion_is_put_on_the_list(store: Store) -> None:
    reply, other = await delivered(store), await delivered(store, member=BOB)
    await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    await store.forget_member(BOB.user_id, now=NOON)
    for number, reply_id in enumerate((reply.id, other.id)):
        await store.record_copy(reply_id, kind=MessageKind.LOG, channel_id=8, message_id=number, now=NOON)
    assert [due.message_id for due in await store.due_deletions(now=NOON, limit=9)] == [0, 1]


async def test_forgetting_a_member_puts_the_log_copies_on_the_list(store: Store) -> None:
    hers, his = await delivered(store), await delivered(store, member=BOB)
    await store.record_copy(hers.id, kind=MessageKind.LOG, channel_id=8, message_id=1, now=NOON)
    await store.record_copy(hers.id, kind=MessageKind.CARD, channel_id=8, message_id=2, now=NOON)
    await store.record_copy(his.id, kind=MessageKind.LOG, channel_id=8, message_id=3, now=NOON)
    await store.forget_member(ADA.user_id, now=NOON)
    assert [due.message_id for due in await store.due_deletions(now=NOON, limit=9)] == [1]


async def test_a_shared_image_has_one_claim_and_is_exported_and_goes_with_its_order(store: Store) -> None:
    hers, his = await delivered(store), await delivered(store, member=BOB)
    job_id = hers.jobs[0].id
    claims = await asyncio.gather(*(store.claim_share(job_id, channel_id=5, now=NOON) for _ in range(4)))
    assert [claim.is_first for claim in claims if claim is not None] == [True]
    assert await store.claim_share(job_id, channel_id=5, now=NOON + CLAIM - timedelta(seconds=1)) is None
    later = await store.claim_share(job_id, channel_id=6, now=NOON + CLAIM)
    assert later == ShareClaim(channel_id=5, is_first=False, first_claimed_at=NOON)
    for _ in range(2):  # its answer was lost
        await store.record_share(job_id, channel_id=5, message_id=50, now=NOON)
    assert await store.claim_share(job_id, channel_id=5, now=NOON + timedelta(days=1)) is None
    (kept,) = [items async for name, items in store.kept_about(ADA.user_id) if name == "shared_images"]
    assert [(item["job_id"], item["message_id"]) for item in kept] == [(job_id, "50")]
    deleted = await store.delete_reply(hers.id, actor_id=ADA.user_id, now=NOON)
    assert deleted is not None
    assert OrderMessage(channel_id=5, message_id=50, kind=MessageKind.SHARED) in deleted.messages
    assert await store.claim_share(job_id, channel_id=5, now=NOON) is None
    await store.claim_share(his.jobs[0].id, channel_id=5, now=NOON)
    await store.forget_member(BOB.user_id, now=NOON)
    await store.record_share(his.jobs[0].id, channel_id=5, message_id=51, now=NOON)  # it was under way meanwhile
    assert [due.message_id for due in await store.due_deletions(now=NOON, limit=9)] == [51]


async def test_a_moderators_deletion_is_recorded_without_a_word_of_the_order(store: Store) -> None:
    reply = await delivered(store)
    await store.delete_reply(reply.id, actor_id=MODERATOR_ID, now=NOON)
    (entry,) = await store.audit(1)
    assert (entry.action, entry.actor_id, entry.subject_id) == ("delete", MODERATOR_ID, ADA.user_id)
    assert (entry.reason, entry.old_value) == (None, None)


async def test_the_names_by_which_discord_and_the_provider_know_it_go_after_a_day(store: Store) -> None:
    reply = await delivered(store)
    await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    await store.forget_old(now=NOON + timedelta(hours=23))
    remote = f"remote of {reply.jobs[0].id}"
    assert await store.known_remote_ids("krea", [remote]) == {remote}
    await store.forget_old(now=NOON + timedelta(hours=25))
    assert await store.known_remote_ids("krea", [remote]) == set()
    found = await store.reply(reply.id)
    assert found is not None
    assert found.address.interaction_id < 0


async def test_verify_finds_what_a_deletion_left(location: Location) -> None:
    async with await Store.open(location) as store:
        reply = await delivered(store)
        await store.delete_reply(reply.id, actor_id=ADA.user_id, now=NOON)
    tamper(location, f"INSERT INTO reply_copies VALUES (1, 2, '{reply.id}', 'log')")
    assert [finding.rule for finding in verify_location(location)] == ["what was erased is gone"]
