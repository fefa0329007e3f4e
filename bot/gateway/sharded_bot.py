"""The Discord client of a gateway: it serves some shards, and takes and gives up others at run time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import timedelta
from typing import Any

from discord.ext import commands
from discord.gateway import DiscordWebSocket
from discord.http import Route

from bot.domain.deployment.process_role import Shards
from bot.gateway.discord_client import Bot, BotParts

IDENTIFY_PAUSE = timedelta(seconds=5)
"""Pause between groups of shards that begin a session; Discord says in `max_concurrency` how large a group may be."""


class ShardedBot(Bot, commands.AutoShardedBot):
    """The client of a gateway: for some of the shards, or for as many as Discord recommends."""

    def __init__(self, parts: BotParts, *, shards: Shards | None) -> None:
        if shards is None:
            super().__init__(parts)
        else:
            super().__init__(parts, shard_ids=list(shards.ids), shard_count=shards.count)
        self._shards_served = shards
        self._cluster = parts.store.cluster
        self.starts_at_a_time = 1
        self._connected_shards: dict[int, asyncio.Event] = defaultdict(asyncio.Event)
        """Shards that this gateway serves, each set while its session has begun."""

    async def setup_hook(self) -> None:
        """Set up as every bot does, and ask Discord how many shards may begin a session at a time."""
        gateway: dict[str, Any] = await self.http.request(Route("GET", "/gateway/bot"))
        self.starts_at_a_time = max(1, int(gateway["session_start_limit"]["max_concurrency"]))
        await super().setup_hook()

    @property
    def _has_first_shard(self) -> bool:
        """Whether this process does what one of them must: register the commands, read the list of purchases."""
        return self._shards_served is None or 0 in self._shards_served.ids

    def _sockets(self) -> Iterable[DiscordWebSocket]:
        infos = [info for shard_id, info in self.shards.items() if shard_id in self._connected_shards]
        return [info._parent.ws for info in infos]  # pyright: ignore[reportPrivateUsage]

    def problem(self) -> str | None:
        """Return None while the gateway works for all of its own shards."""
        elsewhere = sorted(set(self.own_ids) - self._connected_shards.keys()) if self.is_ready() else []
        if elsewhere:
            return f"another gateway serves shard {', '.join(map(str, elsewhere))}"
        return super().problem()

    @property
    def own_ids(self) -> Collection[int]:
        """Implement `ShardClient.own_ids`."""
        return range(self.shard_count or 0) if self._shards_served is None else self._shards_served.ids

    def own_shards(self) -> Collection[int]:
        """Implement `ShardClient.own_shards`."""
        return self.own_ids if self.is_ready() else ()

    def held_shards(self) -> Collection[int]:
        """Implement `ShardClient.held_shards`."""
        return [shard_id for shard_id, event in self._connected_shards.items() if event.is_set()]

    async def take_shard(self, shard_id: int) -> None:
        """Implement `ShardClient.take_shard`."""
        connected = self._connected_shards[shard_id]
        await self.launch_shard(DiscordWebSocket.DEFAULT_GATEWAY, shard_id)
        await connected.wait()

    async def drop_shard(self, shard_id: int) -> None:
        """Implement `ShardClient.drop_shard`."""
        if self._connected_shards.pop(shard_id, None) is None:
            return
        if (info := self.get_shard(shard_id)) is not None:
            await info.disconnect()
        for guild in self.guilds:
            if guild.shard_id == shard_id:  # its events do not arrive any more
                self._connection._remove_guild(guild)  # pyright: ignore[reportPrivateUsage]

    async def on_shard_connect(self, shard_id: int) -> None:
        """Note that the events of a shard arrive."""
        self._connected_shards[shard_id].set()
        if self.handover is not None:
            self.handover.began(shard_id)

    async def before_identify_hook(self, shard_id: int | None, *, initial: bool = False) -> None:
        """Wait for the turn of this shard among all processes."""
        bucket = (shard_id or 0) % self.starts_at_a_time
        wait = await self._cluster.acquire_turn(f"identify {bucket}", pause=IDENTIFY_PAUSE)
        await asyncio.sleep(wait.total_seconds())
        if self.handover is not None and shard_id is not None:
            await self.handover.begin(shard_id)
