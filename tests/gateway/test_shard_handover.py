"""A gateway that hands its shards over when it stops."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from bot.domain.deployment.fleet import ProcessInfo
from bot.gateway.shard_handover import CLAIM_SECONDS, ShardHandover
from bot.runtime.supervisor import Supervisor
from tests.support.virtual_time import run_in_virtual_time


class SilentDatabase:
    """Gives no answer and refuses nothing, as behind a network that drops what is sent."""

    async def processes(self) -> list[ProcessInfo]:
        await asyncio.Event().wait()
        return []


def test_a_gateway_whose_database_is_silent_stops_without_handing_over():
    async def main() -> None:
        async with Supervisor() as supervisor:
            handover = ShardHandover(
                cast("Any", None), cluster=cast("Any", SilentDatabase()), supervisor=supervisor, process_id="own"
            )
            async with asyncio.timeout(10 * CLAIM_SECONDS):
                await handover.hand_over()
            assert asyncio.get_running_loop().time() <= CLAIM_SECONDS + 1

    run_in_virtual_time(main())
