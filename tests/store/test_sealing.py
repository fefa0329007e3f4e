"""Sealing: no readable credential is left in the database, also of orders that an older version stored."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.domain.deployment.database_url import Location
from bot.domain.jobs import Reply
from bot.runtime.sealing import Sealer
from bot.store.store import Store
from bot.store.tables.shared import sealing
from tests.support.databases import everything_in, rows
from tests.support.store_samples import ADA, NOON, a_command, limits

pytestmark = pytest.mark.hostile("G-19")


async def stored_by_an_older_version(store: Store, number: int) -> Reply:
    """Store an order that is being sent, with its credentials readable."""
    reply = a_command(1_000, interaction_id=number)
    reply = replace(reply, address=replace(reply.address, token=f"readable-token-{number}"))
    await store.admit(member=ADA, reply=reply, limits=limits(), now=NOON)
    await store.accept(reply.id, message_id=number)
    deadline_at, path = NOON + timedelta(hours=1), f"readable-path-{number}"
    await store.begin_submission(reply.jobs[0].id, now=NOON, deadline_at=deadline_at, webhook_token=path)
    return reply


async def test_old_rows_are_sealed_at_the_start_and_stay_usable(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH_ROWS", 1)
    sealer = Sealer("a bot token")
    async with await Store.open(location) as store:
        running, over = [await stored_by_an_older_version(store, number) for number in (1, 2)]
        await store.mark_running(over.jobs[0].id, remote_id="remote")
        await store.succeed(over.jobs[0].id, charged_usd_micros=0, images=[], now=NOON)
        for _ in range(2):
            await store.seal_tokens(sealer=sealer)
            found = await store.reply(running.id)
            assert found is not None
            assert found.jobs[0].webhook_token == sealer.digest("readable-path-1")
            assert sealer.open(found.address.token or "") == "readable-token-1"
        await store.hash_old_paths(sealer)
        assert "readable" not in everything_in(location)
        hashes = rows(location, "SELECT webhook_token FROM jobs ORDER BY id")
        assert hashes == [(sealer.digest(f"readable-path-{number}"),) for number in (1, 2)]


async def test_another_bot_token_forgets_what_it_cannot_read(location: Location) -> None:
    async with await Store.open(location) as store:
        reply = await stored_by_an_older_version(store, 1)
        await store.seal_tokens(sealer=Sealer("a bot token"))
        await store.seal_tokens(sealer=Sealer("another bot token"))
        found = await store.reply(reply.id)
        assert found is not None
        assert found.address.token is None
        assert not found.address.token_is_usable(NOON)
