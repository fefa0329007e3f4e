"""The export in parts: each is small, and together they say what was so at one moment."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.jobs import Delivery
from bot.store.store import Store
from bot.store.tables.members import privacy_export
from cogs.members.export_file import ExportFile
from tests.support.store_samples import (
    A_DOLLAR_A_DAY,
    ADA,
    NOON,
    admitted,
    an_image,
    everything_kept,
    finished,
    running,
)

pytestmark = pytest.mark.hostile("G-07")

ORDERS = 3_000
MEGABYTE = 1_000_000


@pytest.fixture
async def store(location: Location) -> AsyncIterator[Store]:
    async with await Store.open(location) as store:
        yield store


async def test_many_parts_make_the_same_export_as_few(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        await finished(store, (await admitted(store)).jobs[0].id)
        await store.grant(ADA, 1, default=A_DOLLAR_A_DAY, actor_id=ADA.user_id, reason=None, now=NOON)
    whole = await everything_kept(store, ADA.user_id)
    monkeypatch.setattr(privacy_export, "EXPORT_ORDERS", 2)
    monkeypatch.setattr(privacy_export, "EXPORT_SPAN", 3)
    sizes = [len(items) async for _, items in store.kept_about(ADA.user_id)]
    assert max(sizes) <= 5  # the grants are read at once
    assert await everything_kept(store, ADA.user_id) == whole
    assert len(whole["commands"]) == 5
    assert len(whole["ledger"]) == 10
    assert len(whole["changes_by_or_about_you"]) == 5


async def test_an_order_that_ends_meanwhile_is_shown_as_it_was(store: Store) -> None:
    reply = await admitted(store)
    parts = store.kept_about(ADA.user_id)
    kept: dict[str, list[dict[str, Any]]] = {}
    async for name, items in parts:
        if not kept:  # the export has begun
            await running(store, reply.jobs[0].id)
            await store.succeed(reply.jobs[0].id, charged_usd_micros=80_000, images=[an_image()], now=NOON)
            await finished(store, (await admitted(store)).jobs[0].id)
        kept.setdefault(name, []).extend(items)
    (order,) = kept["commands"]
    assert [(job["state"], job["charged_usd"], job["pictures"]) for job in order["jobs"]] == [("queued", "$0.00", [])]
    assert [entry["what"] for entry in kept["ledger"]] == ["reserve"]


async def test_what_is_erased_meanwhile_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privacy_export, "EXPORT_ORDERS", 1)
    for _ in range(3):
        reply = await admitted(store)
        await finished(store, reply.jobs[0].id)
        await store.set_delivery(reply.id, Delivery.DELIVERED)
    orders: list[dict[str, Any]] = []
    async for name, items in store.kept_about(ADA.user_id):
        if name == "commands" and items:
            orders += items
            if len(orders) == 1:
                await store.forget_member(ADA.user_id, now=NOON + timedelta(hours=1))
    assert len(orders) == 1


def fill(path: Path, orders: int) -> None:
    """Add finished orders of Ada's, each with one image, past the ledger."""
    number = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {orders}) INSERT INTO"
    with closing(sqlite3.connect(path)) as connection:
        triggers = connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'jobs'"
        ).fetchall()
        for name, _ in triggers:  # a job begins queued
            connection.execute(f"DROP TRIGGER {name}")
        connection.executescript(f"""
            {number} replies (id, user_id, role_ids, application_id, interaction_id, token_expires_at, guild_id,
                channel_id, message_id, private, file_limit_bytes, locale, language, accepted, delivery, created_at)
            SELECT printf('%024x', i), {ADA.user_id}, '[]', 1, i, 0, 1, 6, i, 0, 1, 'de', 'de', 1, 'delivered', i
            FROM n;
            {number} jobs (id, reply_id, ordinal, guild_id, user_id, kind, model_id, prompt, options, provider, path,
                body, reserved_usd_micros, status, submitted_at, remote_id, deadline_at, finished_at,
                charged_usd_micros, created_at)
            SELECT printf('%024x', i), printf('%024x', i), 0, 1, {ADA.user_id}, 'imagine', 'krea/some/model',
                hex(randomblob(500)), '{{}}', 'krea', '/model', '{{}}', 80000, 'succeeded', i, 'remote' || i, i, i,
                80000, i FROM n;
            {number} pictures (job_id, ordinal, sha256, content_type, width, height, size_bytes, source_url)
            SELECT printf('%024x', i), 0, hex(randomblob(32)), 'image/png', 8, 8, 8, '' FROM n;
        """)
        for _, create in triggers:
            connection.execute(create)


async def test_a_long_export_takes_a_few_megabytes_of_memory_whatever_its_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bot.sqlite3"
    async with await Store.open(path) as store:
        fill(path, ORDERS)  # now, because the start checks that jobs and reservations add up
        read = store.database.read
        reads = 0

        async def counted(work: Callable[[Any], Any]) -> Any:
            nonlocal reads
            reads += 1
            return await read(work)

        monkeypatch.setattr(store.database, "read", counted)
        orders = 0
        tracemalloc.start()
        try:
            with ExportFile(
                about="about", user_id=ADA.user_id, exported_at=datetime.now(UTC), limit_bytes=5 * MEGABYTE
            ) as file:
                async for name, items in store.kept_about(ADA.user_id):
                    assert len(items) <= privacy_export.EXPORT_ORDERS
                    orders += len(items)
                    file.add(name, items)
                finished_file = file.finish()
                assert finished_file is not None
                assert finished_file[0] == "privacy-export.json.gz"
                assert file._packed.seek(0, 2) > MEGABYTE
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert orders == ORDERS
    assert reads == 1 + ORDERS // privacy_export.EXPORT_ORDERS
    assert peak < 6 * MEGABYTE


PAGED = [
    (privacy_export._REPLIES, {"ids": "[]", "user_id": 7}),
    (privacy_export._JOBS, {"ids": "[]"}),
    (privacy_export._INPUTS, {"ids": "[]"}),
    (privacy_export._PICTURES, {"ids": "[]"}),
]


@pytest.mark.parametrize(("statement", "values"), PAGED)
async def test_a_part_reads_its_own_rows_alone(tmp_path: Path, statement: Any, values: dict[str, Any]) -> None:
    async with await Store.open(tmp_path / "bot.sqlite3") as store:
        plan = await store.database.read(
            lambda connection: [
                row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement.sqlite}", values)
            ]
        )
    assert [step for step in plan if step.startswith("SCAN") and "json_each" not in step] == []
