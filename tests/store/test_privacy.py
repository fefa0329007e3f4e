"""Privacy: the export is complete and about one person; erased data is gone, and the ledger still balances."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.errors import MemberBlocked, QuotaExceeded, StillUnderWay
from bot.domain.jobs import Delivery, Failure, FailureReason, GalleryFilter, ImageInput, ImageRole, Reply
from bot.domain.money.quota import LimitSubject, Member, Period, Quota, QuotaSource
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from bot.store.tables.members import gallery, privacy, privacy_export
from bot.store.tables.members.privacy import RETENTION
from tests.support.databases import everything_in, rows
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    a_command,
    admitted,
    an_image,
    everything_kept,
    finished,
    limits,
    operator_cost,
    running,
)

BOB = Member(guild_id=1, user_id=8)
ADA_ELSEWHERE = Member(guild_id=2, user_id=ADA.user_id)
MODERATOR_ID = 99
SOURCE = ImageInput(sha256="cd" * 32, role=ImageRole.SOURCE, content_type="image/png", width=8, height=8)
PROMPT = "a lighthouse, „bei Nacht“ 🌊"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.sqlite3"


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    """Yield an open store, and verify its ledger after the test."""
    async with await Store.open(location) as store:
        yield store
    assert verify_location(location) == []


async def delivered(
    store: Store,
    *amounts: int,
    member: Member = ADA,
    now: datetime = NOON,
    images: tuple[ImageInput, ...] = (),
    sha256: str = "ab" * 32,
    private: bool = False,
    monthly_usd_micros: int = 10**9,
) -> Reply:
    """Run a command until its images were made and shown."""
    reply = a_command(*amounts, member=member, now=now, images=images)
    reply = replace(reply, address=replace(reply.address, private=private))
    monthly = Quota(amount_usd_micros=monthly_usd_micros, period=Period.MONTH, source=QuotaSource.SETTINGS)
    await store.admit(member=member, reply=reply, limits=limits(default=monthly), now=now)
    await store.accept(reply.id, message_id=471147114711)
    for job in reply.jobs:
        await running(store, job.id, now=now)
        image = an_image(sha256)
        await store.succeed(
            job.id, charged_usd_micros=job.reserved_usd_micros, images=[image], now=now + timedelta(seconds=9)
        )
    await store.set_delivery(reply.id, Delivery.DELIVERED, attachment_ids={sha256: 815815815815})
    found = await store.reply(reply.id)
    assert found is not None
    return found


# -- the export -----------------------------------------------------------------------------------------


async def test_f59_the_export_has_everything_about_one_member_from_all_servers(store: Store) -> None:
    here = await delivered(store, 80_000, 65_000, images=(SOURCE,))
    there = await delivered(store, 50_000, member=ADA_ELSEWHERE)
    await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
    five = Quota(amount_usd_micros=5_000_000, period=Period.WEEK)
    for member in (ADA, BOB):
        await store.set_limit(
            1, LimitSubject.MEMBER, member.user_id, five, actor_id=MODERATOR_ID, reason="a fan", now=NOON
        )
    await store.set_blocked(2, ADA.user_id, True, actor_id=MODERATOR_ID, reason=None, now=NOON)
    await store.set_blocked(1, BOB.user_id, True, actor_id=ADA.user_id, reason="my reason", now=NOON)
    await store.grant(ADA, 500_000, default=A_DOLLAR_A_DAY, actor_id=MODERATOR_ID, reason=None, now=NOON)

    kept = await everything_kept(store, ADA.user_id)

    assert [command["id"] for command in kept["commands"]] == [here.id, there.id]
    assert [command["server_id"] for command in kept["commands"]] == ["1", "2"]
    command, job = kept["commands"][0], kept["commands"][0]["jobs"][0]
    assert (command["message_id"], command["channel_id"], command["your_language"]) == ("471147114711", "6", "pt-BR")
    assert command["language_of_the_reply"] == "pt"
    assert [one["prompt"] for one in command["jobs"]] == [PROMPT, PROMPT]
    assert job["options"] == {"resolution": "1K", "creativity": 0.5, "seed": 3}
    assert (job["price_usd"], job["charged_usd_micros"], job["charged_usd"]) == ("$0.08", 80_000, "$0.08")
    assert (job["ordered_at"], job["finished_at"]) == (NOON.isoformat(), (NOON + timedelta(seconds=9)).isoformat())
    assert job["pictures"][0]["attachment_id"] == "815815815815"
    assert job["input_pictures"][0]["uploaded_to"] == ["krea https://provider.invalid/input"]
    assert kept["own_limits"] == [
        {"server_id": "1", "period": "week", "limit_usd_micros": 5_000_000, "limit_usd": "$5.00"}
    ]
    assert kept["blocks"] == [{"server_id": "2", "since": NOON.isoformat()}]
    assert [(one["what"], one["amount_usd"]) for one in kept["grants_and_resets"]] == [("grant", "$0.50")]
    assert sum(entry["amount_usd_micros"] for entry in kept["ledger"] if entry["what"] == "settle") == 195_000
    assert [(entry["by"], entry["what"], entry["about"]) for entry in kept["changes_by_or_about_you"]] == [
        ("a moderator", "set", "you"),
        ("a moderator", "block", "you"),
        ("you", "block", "another member"),
        ("a moderator", "grant", "you"),
    ]
    change = kept["changes_by_or_about_you"][0]
    assert (change["old_value"], change["new_value"]) == (
        {"is": "not_set"},
        {"limit_usd_micros": 5_000_000, "period": "week"},
    )
    assert json.loads(json.dumps(kept)) == kept


async def test_f59_the_export_contains_no_other_member_and_no_credential(store: Store) -> None:
    reply = a_command(member=ADA)
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    await store.accept(reply.id, message_id=1)
    await store.begin_submission(
        reply.jobs[0].id, now=NOON, deadline_at=NOON + timedelta(hours=1), webhook_token="a-webhook-secret"
    )
    await delivered(store, member=replace(BOB, user_id=987_654_321))
    await store.set_blocked(1, ADA.user_id, True, actor_id=123_456_789, reason=None, now=NOON)
    text = json.dumps(await everything_kept(store, ADA.user_id))
    assert reply.jobs[0].id in text
    for foreign in ("987654321", "123456789", "a-token", "a-webhook-secret"):
        assert foreign not in text


COLUMNS_LEFT_OUT = {
    "credentials": {"token", "token_expires_at", "webhook_token"},
    "said by its place in the export": {"user_id", "reply_id", "job_id", "account_id", "wallet_id", "ordinal"},
    "follows from what is said": {
        *("accepted", "from_bucket", "to_bucket", "through_ledger_id", "through_wallet_ledger_id", "name_key"),
        *("available_usd_micros", "held_usd_micros", "refunded_at", "forgiven_usd_micros", "unfetched_since_at"),
    },
    "said as sums with the job": {"usd_micros", "wallet_usd_micros"},
    "the bot's own": {"application_id", "command_id", "claimed_until_at", "url"},
}
"""Why a column of a table that the export reads is not in it."""

TABLES_LEFT_OUT = {
    "sums of entries that are in the export": {"daily_totals", "totals", "reservations"},
    "exported by functions of their own": {"catalogue_changes", "entitlements"},
    "about servers, models and the bot itself": {
        *("channel_daily_totals", "channel_totals", "model_notices", "notes", "server_settings", "weekly_reports"),
    },
    "what is still to be done in Discord, without a member": {"message_deletions", "reply_copies"},
}
"""Why a table is not read row by row by the export."""


async def test_every_table_and_column_is_in_the_export_or_left_out_for_a_reason(path: Path) -> None:
    async with await Store.open(path):
        pass
    source = inspect.getsource(privacy_export)
    exported = set(re.findall(r'row\["(\w+)"\]', source)) | set().union(*COLUMNS_LEFT_OUT.values())
    missing: set[str] = set()
    with closing(sqlite3.connect(path)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in tables - {"sqlite_sequence"} - set().union(*TABLES_LEFT_OUT.values()):
            if not re.search(rf"\b(FROM|JOIN) {table}\b", source):
                missing.add(table)
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
            missing |= {f"{table}.{column}" for column in columns - exported}
    assert missing == set()


async def test_the_export_of_a_stranger_is_empty(store: Store) -> None:
    await delivered(store)
    kept = await everything_kept(store, 12_345)
    assert set(map(str, kept.values())) == {"[]"}


# -- forgetting on request -------------------------------------------------------------------------------


async def test_f59_forgetting_leaves_no_word_and_no_name_in_the_database(store: Store, location: Location) -> None:
    member = Member(guild_id=1, user_id=777_000_777, role_ids=(555_000_555,))
    await delivered(store, member=member, images=(SOURCE,))
    await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
    failed = a_command(member=member)
    await store.admit(member=member, reply=failed, limits=limits(), now=NOON)
    failure = Failure(reason=FailureReason.REJECTED, hint="not that lighthouse")
    await store.fail(failed.jobs[0].id, failure, now=NOON, operator_cost_usd_micros=80_000)
    await store.set_delivery(failed.id, Delivery.IMPOSSIBLE)
    await store.set_blocked(1, 8, True, actor_id=member.user_id, reason="as a moderator", now=NOON)
    await store.reset(member, default=A_DOLLAR_A_DAY, actor_id=99, reason="for the lighthouse", now=NOON)
    before = everything_in(location)
    later = NOON + timedelta(days=40)
    personal = (
        "lighthouse",
        "777000777",
        "555000555",
        "471147114711",
        "815815815815",
        "a-token",
        "as a moderator",
        "provider.invalid",
    )
    assert [word for word in personal if word not in before] == []

    assert await store.forget_member(member.user_id, now=NOON) == {"ab" * 32, SOURCE.sha256}

    left = everything_in(location)
    # The holder of the account, for this month; and reasons of moderators' acts by and about them, for 90 days.
    assert [word for word in personal if word in left] == ["lighthouse", "777000777", "as a moderator"]
    assert PROMPT not in left
    await store.forget_old(now=later)
    assert "777000777" in everything_in(location)
    await store.forget_names_on_record(now=NOON + privacy.ACTS_KEPT + timedelta(seconds=1))
    left = everything_in(location)
    assert [word for word in personal if word in left] == []
    assert await store.forget_names_on_record(now=NOON + privacy.ACTS_KEPT * 2) == 0
    assert (await store.footprint(member.user_id)).commands == 0
    assert await operator_cost(store) == 80_000


async def test_f59_what_was_forgotten_is_overwritten_in_the_file_itself(path: Path) -> None:
    async with await Store.open(path) as store:
        for _ in range(40):
            await delivered(store, 1_000)
    assert b"lighthouse" in path.read_bytes()
    async with await Store.open(path) as store:
        await store.forget_member(ADA.user_id, now=NOON)
        assert b"lighthouse" not in path.read_bytes()
        assert path.with_name(f"{path.name}-wal").stat().st_size == 0
        assert verify_location(path) == []


async def test_a_long_read_does_not_delay_forgetting(path: Path) -> None:
    async with await Store.open(path) as store:
        await delivered(store)
        with closing(sqlite3.connect(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM jobs").fetchall()
            async with asyncio.timeout(2):
                await store.forget_member(ADA.user_id, now=NOON)
                await delivered(store)


async def test_forgetting_one_member_leaves_the_others_alone(store: Store) -> None:
    hers = await delivered(store, images=(SOURCE,))
    his = await delivered(store, member=BOB, images=(SOURCE,))
    await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
    assert await store.forget_member(ADA.user_id, now=NOON) == set()  # the same images are his, too
    assert await store.reply(his.id) == his
    assert await store.uploaded_url("krea", SOURCE.sha256) is not None
    forgotten = await store.reply(hers.id)
    assert forgotten is not None
    assert forgotten.is_forgotten
    assert forgotten.jobs[0].erased_at == NOON
    assert (forgotten.jobs[0].request.prompt, forgotten.jobs[0].images) == ("", ())


async def test_nothing_is_forgotten_while_a_command_is_under_way(store: Store) -> None:
    reply = a_command()
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    await store.accept(reply.id, message_id=4)
    with pytest.raises(StillUnderWay) as refusal:
        await store.forget_member(ADA.user_id, now=NOON)
    assert (refusal.value.commands, refusal.value.checked_until) == (1, None)
    under_way = (await store.footprint(ADA.user_id)).under_way
    assert under_way is not None
    assert under_way.commands == 1
    await finished(store, reply.jobs[0].id)
    with pytest.raises(StillUnderWay):  # its image is not shown yet
        await store.forget_member(ADA.user_id, now=NOON)
    await store.set_delivery(reply.id, Delivery.DELIVERED)
    await store.forget_member(ADA.user_id, now=NOON)


async def test_the_refusal_to_forget_states_until_when_a_lost_order_is_searched_for(store: Store) -> None:
    deadlines = [NOON + timedelta(minutes=minutes) for minutes in (10, 30, 20)]
    for deadline_at in deadlines:
        reply = await admitted(store, 20_000)
        await store.begin_submission(reply.jobs[0].id, now=NOON, deadline_at=deadline_at, webhook_token=None)
        await store.mark_uncertain(reply.jobs[0].id)
    await running(store, (await admitted(store, 20_000)).jobs[0].id, now=NOON + timedelta(hours=1))
    with pytest.raises(StillUnderWay) as refusal:
        await store.forget_member(ADA.user_id, now=NOON)
    assert (refusal.value.commands, refusal.value.checked_until) == (4, max(deadlines))


async def test_forgetting_twice_is_the_same_as_once(store: Store) -> None:
    await delivered(store)
    await store.forget_member(ADA.user_id, now=NOON)
    assert await store.forget_member(ADA.user_id, now=NOON) == set()


async def test_f59_forgetting_does_not_reset_a_quota(store: Store) -> None:
    monthly = Quota(amount_usd_micros=100_000, period=Period.MONTH, source=QuotaSource.SETTINGS)
    await delivered(store, 80_000, monthly_usd_micros=100_000)
    await store.grant(ADA, 10_000, default=monthly, actor_id=MODERATOR_ID, reason=None, now=NOON)
    await store.forget_member(ADA.user_id, now=NOON)
    await store.forget_old(now=NOON + timedelta(hours=1))

    balance = await store.balance(ADA, default=monthly, now=NOON)
    assert (balance.spent_usd_micros, balance.available_usd_micros) == (80_000, 30_000)
    with pytest.raises(QuotaExceeded):
        await store.admit(member=ADA, reply=a_command(30_001), limits=limits(default=monthly), now=NOON)
    await delivered(store, 30_000, monthly_usd_micros=100_000)
    assert (await store.balance(ADA, default=monthly, now=NOON)).available_usd_micros == 0


async def test_a_reset_after_forgetting_forgives_what_was_spent_before_and_after(store: Store) -> None:
    await delivered(store, 80_000)
    await store.forget_member(ADA.user_id, now=NOON)
    await delivered(store, 50_000)
    after = await store.reset(ADA, default=A_DOLLAR_A_DAY, actor_id=MODERATOR_ID, reason=None, now=NOON)
    assert (after.spent_usd_micros, after.available_usd_micros) == (0, 1_000_000)


async def test_forgetting_lifts_neither_a_block_nor_an_own_limit(store: Store) -> None:
    cent = Quota(amount_usd_micros=10_000, period=Period.DAY)
    await delivered(store)
    await store.set_limit(1, LimitSubject.MEMBER, 7, cent, actor_id=MODERATOR_ID, reason=None, now=NOON)
    await store.set_blocked(1, 7, True, actor_id=MODERATOR_ID, reason=None, now=NOON)
    await store.forget_member(ADA.user_id, now=NOON)
    await store.forget_old(now=NOON + timedelta(days=400))
    with pytest.raises(MemberBlocked):
        await store.admit(member=ADA, reply=a_command(), limits=limits(), now=NOON + timedelta(days=400))
    limit = await store.limit(1, LimitSubject.MEMBER, 7)
    assert limit is not None
    assert limit.amount_usd_micros == 10_000


@pytest.mark.parametrize(
    ("zone", "asked_at", "last_kept", "first_gone"),
    [
        # Saturday, 31 January: the week ends on Sunday, after the month.
        ("UTC", (2026, 1, 31, 12), (2026, 2, 1, 23), (2026, 2, 2, 0)),
        ("UTC", (2026, 2, 10, 12), (2026, 2, 28, 23), (2026, 3, 1, 0)),
        ("Asia/Kathmandu", (2026, 11, 21, 12), (2026, 11, 30, 18), (2026, 11, 30, 19)),
    ],
)
async def test_the_name_on_an_account_goes_when_the_last_window_that_counts_it_has_ended(
    store: Store, location: Location, zone: str, asked_at: tuple[int, ...], last_kept: tuple[int, ...], first_gone: Any
) -> None:
    def at(parts: tuple[int, ...]) -> datetime:
        return datetime(parts[0], parts[1], parts[2], parts[3], tzinfo=UTC)

    def holders() -> list[tuple[int | None, bool]]:
        query = "SELECT user_id, closed_at IS NULL FROM accounts WHERE kind = 'member' ORDER BY id"
        return [(user_id, bool(is_open)) for user_id, is_open in rows(location, query)]

    await store.set_time_zone(1, ZoneInfo(zone), actor_id=MODERATOR_ID, reason=None, now=at(asked_at))
    await delivered(store, now=at(asked_at))
    await store.forget_member(ADA.user_id, now=at(asked_at))
    await delivered(store, now=at(last_kept))  # a member who stays: the new account is open
    await store.forget_old(now=at(last_kept))
    assert holders() == [(7, False), (7, True)]
    await store.forget_old(now=at(first_gone))
    assert holders() == [(None, False), (7, True)]


@pytest.mark.hostile("G-52")
async def test_a_moderator_cannot_erase_their_own_traces(store: Store) -> None:
    await store.set_blocked(1, ADA.user_id, True, actor_id=MODERATOR_ID, reason="a grudge", now=NOON)
    await store.forget_member(MODERATOR_ID, now=NOON)
    await store.forget_member(ADA.user_id, now=NOON)
    await store.forget_old(now=NOON + timedelta(days=60))
    assert await store.forget_names_on_record(now=NOON + privacy.ACTS_KEPT) == 0
    (entry,) = await store.audit(1)
    assert (entry.actor_id, entry.subject_id, entry.reason) == (MODERATOR_ID, ADA.user_id, "a grudge")
    for user_id in (MODERATOR_ID, ADA.user_id):
        (change,) = (await everything_kept(store, user_id))["changes_by_or_about_you"]
        assert change["reason"] == "a grudge"

    assert await store.forget_names_on_record(now=NOON + privacy.ACTS_KEPT + timedelta(seconds=1)) == 1
    (entry,) = await store.audit(1)
    assert (entry.actor_id, entry.subject_id, entry.reason) == (None, None, None)
    assert (entry.action, entry.created_at) == ("block", NOON)
    assert (await everything_kept(store, MODERATOR_ID))["changes_by_or_about_you"] == []


@pytest.mark.hostile("G-52")
async def test_the_role_of_an_old_change_stays_and_many_are_forgotten_in_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(privacy, "BATCH_JOBS", 2)
    for role_id in range(5):
        change = {"actor_id": MODERATOR_ID, "reason": None, "now": NOON}
        await store.set_limit(1, LimitSubject.ROLE, 10 + role_id, A_DOLLAR_A_DAY, **change)
    assert await store.forget_names_on_record(now=NOON + timedelta(days=91)) == 5
    assert sorted(entry.subject_id or 0 for entry in await store.audit(1)) == [10, 11, 12, 13, 14]
    assert {entry.actor_id for entry in await store.audit(1)} == {None}


# -- forgetting by age -----------------------------------------------------------------------------------


async def test_after_thirty_days_prompts_options_and_inputs_are_gone_and_the_rest_stays(store: Store) -> None:
    old = await delivered(store, images=(SOURCE,))
    await store.remember_upload("krea", SOURCE.sha256, "https://provider.invalid/input", now=NOON)
    young = await delivered(store, now=NOON + timedelta(days=1))
    assert await store.forget_old(now=NOON + RETENTION) == 0
    assert await store.forget_old(now=NOON + RETENTION + timedelta(seconds=1)) == 1

    reply = await store.reply(old.id)
    assert reply is not None
    job, before = reply.jobs[0], old.jobs[0]
    assert (job.request.prompt, job.request.options, job.request.images, job.body, job.seed) == ("", {}, (), {}, None)
    assert job.erased_at == NOON + RETENTION + timedelta(seconds=1)
    assert job.images == (replace(before.images[0], source_url=""),)  # where Discord has it
    assert (job.charged_usd_micros, job.request.model_id, reply.user_id) == (80_000, before.request.model_id, 7)
    assert await store.uploaded_url("krea", SOURCE.sha256) is None
    assert (await store.reply(young.id)) == replace(young, address=replace(young.address, token=None))


async def test_a_backlog_is_forgotten_a_batch_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy, "BATCH_JOBS", 2)
    for _ in range(5):
        await delivered(store, 1_000)
    assert await store.forget_old(now=NOON + timedelta(days=31)) == 5
    assert await store.forget_old(now=NOON + timedelta(days=31)) == 0


async def test_a_command_that_is_not_shown_yet_keeps_its_prompt_however_old(store: Store) -> None:
    reply = a_command()
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    assert await store.forget_old(now=NOON + timedelta(days=31)) == 0
    await store.fail(reply.jobs[0].id, Failure(reason=FailureReason.TIMED_OUT), now=NOON + timedelta(days=31))
    assert await store.forget_old(now=NOON + timedelta(days=31)) == 0
    await store.set_delivery(reply.id, Delivery.IMPOSSIBLE)
    assert await store.forget_old(now=NOON + timedelta(days=31)) == 1


async def test_an_interaction_token_is_erased_once_it_is_dead(store: Store) -> None:
    reply = await delivered(store)
    dead_at = reply.address.token_expires_at + privacy.TOKEN_DEAD_AFTER
    await store.forget_old(now=dead_at)
    assert (await store.reply(reply.id)) == reply
    await store.forget_old(now=dead_at + timedelta(seconds=1))
    assert (await store.reply(reply.id)) == replace(reply, address=replace(reply.address, token=None))


async def test_the_same_command_event_is_still_known_for_as_long_as_it_may_come_again(
    store: Store, location: Location
) -> None:
    reply = await delivered(store)
    await store.forget_member(ADA.user_id, now=NOON)
    forgotten = await store.reply(reply.id)
    assert forgotten is not None
    assert forgotten.address.interaction_id == reply.address.interaction_id
    assert await store.known_remote_ids("krea", [f"remote of {reply.jobs[0].id}"]) != set()
    await store.forget_old(now=NOON + timedelta(days=2))
    forgotten = await store.reply(reply.id)
    assert forgotten is not None
    assert forgotten.address.interaction_id < 0
    assert await store.known_remote_ids("krea", [f"remote of {reply.jobs[0].id}"]) == set()


async def test_private_results_are_kept_thirty_days_because_discord_drops_them(store: Store) -> None:
    await delivered(store, sha256="11" * 32)
    await delivered(store, sha256="22" * 32, private=True)
    assert await store.sha256_in_use(now=NOON) == {"22" * 32}
    assert await store.sha256_in_use(now=NOON + RETENTION + timedelta(seconds=1)) == set()


@pytest.mark.hostile("G-42")
async def test_a_reason_in_which_nothing_can_be_seen_is_recorded_as_none(store: Store) -> None:
    for user_id, reason in ((1, "\u3164\u2800 \u0301"), (2, " spam "), (3, None)):
        await store.set_blocked(1, user_id, True, actor_id=MODERATOR_ID, reason=reason, now=NOON)
    assert [entry.reason for entry in await store.audit(1)] == [None, "spam", None]


# -- the gallery -----------------------------------------------------------------------------------------


async def test_the_gallery_shows_own_images_of_this_server_newest_first(store: Store) -> None:
    first, second, third = [await delivered(store, now=NOON + timedelta(minutes=n)) for n in range(3)]
    await delivered(store, member=BOB)
    await delivered(store, member=ADA_ELSEWHERE)
    failed = a_command()
    await store.admit(member=ADA, reply=failed, limits=limits(), now=NOON)
    page = await store.gallery_page(1, ADA.user_id)
    assert page is not None
    assert (page.reply.id, page.number, page.total) == (third.id, 1, 3)
    assert (page.newer_id, page.older_id) == (None, second.id)
    page = await store.gallery_page(1, ADA.user_id, reply_id=second.id)
    assert page is not None
    assert (page.number, page.newer_id, page.older_id) == (2, third.id, first.id)
    page = await store.gallery_page(1, ADA.user_id, reply_id=first.id)
    assert page is not None
    assert page.older_id is None


async def test_a_page_counts_no_more_than_some_of_those_around_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MAX_COUNTED", 2)
    # Two at each moment: the id decides between them.
    replies = [await delivered(store, now=NOON + timedelta(minutes=n // 2)) for n in range(6)]
    ids = sorted((reply.id for reply in replies), reverse=True)
    assert [reply.id for reply in reversed(replies)] == ids
    seen: list[tuple[str, int | None, int | None, str | None]] = []
    page = await store.gallery_page(1, ADA.user_id)
    while page is not None:
        seen.append((page.reply.id, page.number, page.total, page.newer_id))
        older_id = page.older_id
        page = await store.gallery_page(1, ADA.user_id, reply_id=older_id) if older_id else None
    assert seen == [
        (ids[0], 1, None, None),
        (ids[1], 2, None, ids[0]),
        *((ids[n], None, None, ids[n - 1]) for n in range(2, 6)),
    ]


@pytest.mark.hostile("G-07")
@pytest.mark.parametrize("favourites", [False, True])
@pytest.mark.parametrize("side", ["newer", "older"])
async def test_a_page_of_the_gallery_reads_the_history_in_its_order_from_where_it_is(
    tmp_path: Path, side: str, favourites: bool
) -> None:
    statement = getattr(gallery._queries(1, favourites), side)
    where = {"user_id": 7, "guild_id": 1, "model_id": None, "created_at": 1, "reply_id": "", "limit": 1}
    where |= {"lower_a": "%fox%", "capital_a": "%Fox%"}
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        plan = await store.database.read(
            lambda connection: [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", where)]
        )
    assert any("replies_by_member (user_id=? AND guild_id=? AND created_at" in step for step in plan), plan
    assert "SCAN replies" not in plan


async def test_the_gallery_can_show_one_model_only(store: Store) -> None:
    reply = await delivered(store)
    model_id = reply.jobs[0].request.model_id
    page = await store.gallery_page(1, ADA.user_id, chosen=GalleryFilter(model_id=model_id))
    assert page is not None
    assert page.reply == reply
    assert await store.gallery_page(1, ADA.user_id, chosen=GalleryFilter(model_id="krea/other")) is None


async def test_no_member_sees_a_page_of_another_member_or_of_what_was_forgotten(store: Store) -> None:
    reply = await delivered(store)
    assert await store.gallery_page(1, BOB.user_id, reply_id=reply.id) is None
    assert await store.gallery_page(2, ADA.user_id, reply_id=reply.id) is None
    await store.forget_member(ADA.user_id, now=NOON)
    assert await store.gallery_page(1, ADA.user_id) is None


@pytest.mark.parametrize(
    "statement",
    [
        privacy._UNDER_WAY,
        privacy._COUNTS,
        privacy._CONTENTS_OF_MEMBER,
        privacy._FORGET_JOBS,
        privacy._FORGET_REPLIES,
        privacy._FORGET_EVENTS.sqlite,
        privacy_export._ORDER_IDS,
    ],
)
async def test_one_members_commands_are_found_without_reading_those_of_all_members(
    tmp_path: Path, statement: str
) -> None:
    who = {"user_id": ADA.user_id, "now": 1, "dead_before": 1}
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        plan = await store.database.read(
            lambda connection: [row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", who)]
        )
    assert any("USING INDEX replies_by_member (user_id=?" in step for step in plan)
    assert not [step for step in plan if step.startswith("SCAN")]
