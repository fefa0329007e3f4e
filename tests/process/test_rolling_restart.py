"""Gateways restarted one after the other while members use commands: each command is handled, and by one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from sandbox.discord import Interaction
from tests.support.cluster import Cluster, a_cluster
from tests.support.crashes import IMPATIENT
from tests.support.fakes import until

pytestmark = pytest.mark.slow

EVERY_SECONDS = 0.2

two_gateways = partial(a_cluster, **IMPATIENT)


@asynccontextmanager
async def commands(here: Cluster) -> AsyncGenerator[list[Interaction]]:
    """Use commands in both servers, one every 200 ms: a grant, which would count twice, and sometimes an order."""
    used: list[Interaction] = []

    async def use_forever() -> None:
        while True:
            server = len(used) % 2
            if len(used) % 10 < 2:
                used.append(await here.send(f"a pier {len(used)}", server=server))
            else:
                who, where = here.moderators[server], here.channels[server]
                used.append(
                    await here.discord.slash(who, where, "quota grant", member=here.members[server], amount="0.01")
                )
            await asyncio.sleep(EVERY_SECONDS)

    using = asyncio.create_task(use_forever())
    try:
        yield used
        await asyncio.sleep(EVERY_SECONDS * 10)
    finally:
        using.cancel()
        await asyncio.wait({using})


async def all_answered(here: Cluster, used: list[Interaction]) -> None:
    await until(lambda: all(one.answer is not None or one.failed for one in used), seconds=60, what=here.last_words)
    unanswered = [number for number, one in enumerate(used) if one.failed]
    assert unanswered == [], f"of {len(used)}\n{here.last_words()}"
    grants = sum(one.data["name"] == "quota" for one in used)
    assert here.count("SELECT count(*) FROM audit WHERE action = 'grant'") == grants
    await here.settled()
    here.audit()


async def test_a_rolling_restart_of_gateways_leaves_no_command_unanswered(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, "gateway-0", "gateway-1", "worker-1") as here:
        async with commands(here) as used:
            for name in ("gateway-0", "gateway-1"):
                status, _ = await here.processes[name].stop()
                assert status == 0
                await here.start(name)
        await all_answered(here, used)
        assert sorted(here.discord.gateway.shards) == [(0, 2), (1, 2)], "each once"


async def test_a_gateway_started_beside_the_one_that_it_replaces_takes_its_shard(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, "gateway-0", "gateway-1", "worker-1") as here:
        before = here.processes["gateway-0"]
        async with commands(here) as used:
            await here.start("gateway-0")
            await until(lambda: len(here.discord.gateway.shards) == 2, what=here.last_words)
            assert (await before.stop())[0] == 0
        await all_answered(here, used)
        assert sorted(here.discord.gateway.shards) == [(0, 2), (1, 2)]


async def test_the_shard_of_a_killed_gateway_is_served_by_another_until_it_is_back(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, "gateway-0", "gateway-1", "worker-1") as here:
        here.processes["gateway-0"].kill()
        await here.processes["gateway-0"].dead()
        await until(lambda: (0, 2) in here.discord.gateway.shards, seconds=120, what=here.last_words)
        async with commands(here) as used:
            await here.start("gateway-0")
            await until(
                lambda: here.processes["gateway-1"].said("serving shard 0, which gateway"), what=here.last_words
            )
            await until(lambda: len(here.discord.gateway.shards) == 2, what=here.last_words)
        await all_answered(here, used)
