"""ShardHandover: another gateway answers for the shards of one that stops or died, until they have a gateway again.

Discord lets a shard have several sessions and sends its events to each. So the other gateway begins its session first,
and only then does the one that stops end its own: no command is without a gateway in between. For as long as both may
receive a command, each claims it in the database first, so that one of them handles it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Collection
from contextlib import suppress
from enum import StrEnum
from typing import Protocol

from bot.domain.deployment.fleet import ProcessInfo
from bot.domain.deployment.process_role import Role, Shards
from bot.domain.errors import StoreError
from bot.runtime.supervisor import Supervisor
from bot.store.cluster_store import ClusterStore

_log = logging.getLogger(__name__)

ANNOUNCE_SECONDS = 10.0
"""Interval at which a gateway says which shards it serves, and searches for shards whose gateway died."""

TURN_SECONDS = 3.0
"""How long each gateway waits for the one before it in the list to take a shard."""

CLAIM_SECONDS = 8.0
"""How long a gateway that stops waits for the first answer."""

SESSION_SECONDS = 6.0
"""The time that one group of sessions may take to begin: Discord allows a group every five seconds."""

MAX_HANDOVER_SECONDS = 50.0
CLAIMING_SECONDS = 15.0
"""For how long commands are claimed once a session begins: until it has, and every other gateway has ended its own."""

CLAIM_TIMEOUT_SECONDS = 0.4


class Step(StrEnum):
    """What a gateway says about shards."""

    BEGINNING = "beginning"
    """It begins a session for them, so their commands may reach two gateways soon."""
    LEAVING = "leaving"
    """It stops, and asks another to serve them."""
    TAKING = "taking"
    """It begins to serve them in place of their own gateway."""
    TAKEN = "taken"
    """It serves them in place of their own gateway."""
    SERVED = "served"
    """It serves them as its own."""


class ShardClient(Protocol):
    """The connections to Discord of this gateway."""

    @property
    def shard_count(self) -> int | None:
        """The number of all shards; None before the first connection."""
        ...

    @property
    def starts_at_a_time(self) -> int:
        """How many sessions Discord allows to begin within five seconds."""
        ...

    @property
    def own_ids(self) -> Collection[int]:
        """The shards that this gateway is for."""
        ...

    def own_shards(self) -> Collection[int]:
        """Return `own_ids` once all of them were connected, and none before."""
        ...

    def held_shards(self) -> Collection[int]:
        """Return the shards whose commands this gateway answers."""
        ...

    async def take_shard(self, shard_id: int) -> None:
        """Begin a session for a shard; return when its events arrive."""
        ...

    async def drop_shard(self, shard_id: int) -> None:
        """End the session of a shard."""
        ...


class ShardHandover:
    """Run `run` as long as the process lives, pass `heard` what others say, and await `hand_over` before it stops."""

    def __init__(self, client: ShardClient, *, cluster: ClusterStore, supervisor: Supervisor, process_id: str) -> None:
        self._client = client
        self._cluster = cluster
        self._supervisor = supervisor
        self._process_id = process_id
        self._is_leaving = False
        self._taken_by_others: dict[int, float] = {}
        """Shards that another gateway takes or took, each with the time at which it said so."""
        self._was_heard = asyncio.Event()
        self._claiming_until = -math.inf

    async def run(self) -> None:
        """Repeat which shards are served here, and take those of gateways that died, until cancelled.

        Raises StoreError.
        """
        while not self._is_leaving:
            if own := self._client.own_shards():
                if held := self._held_of(own):
                    await self._say(Step.SERVED, held)
                processes = await self._cluster.processes()
                others = [process for process in processes if process.id != self._process_id]
                for process_id, shards in _without_gateway(others, own):
                    await self._take(shards, process_id)
            await asyncio.sleep(ANNOUNCE_SECONDS)

    async def begin(self, shard_id: int) -> None:
        """Tell the others that this gateway is about to begin a session for a shard."""
        self._claim_for_a_while()
        with suppress(StoreError):
            await self._say(Step.BEGINNING, [shard_id])

    def began(self, shard_id: int) -> None:
        """Tell the others that the events of a shard arrive here."""
        step = Step.SERVED if shard_id in self._client.own_ids else Step.TAKEN
        if not self._supervisor.closed:
            self._supervisor.start(f"serve shard {shard_id}", self._say(step, [shard_id]))

    @property
    def is_claiming(self) -> bool:
        """Whether commands may reach two gateways, so that each has to be claimed."""
        return self._is_leaving or asyncio.get_running_loop().time() < self._claiming_until

    async def may_handle(self, interaction_id: int) -> bool:
        """Claim a command; False when another gateway handles it."""
        try:
            async with asyncio.timeout(CLAIM_TIMEOUT_SECONDS):
                return await self._cluster.claim_command(interaction_id)
        except (StoreError, TimeoutError):
            return True  # a command that reached two gateways is better answered twice than not at all

    def heard(self, shards_text: str, said: str) -> None:
        """Act on what another gateway (or this one) said."""
        step_text, _, process_id = said.partition(" ")
        ids_text, _, count = shards_text.partition("/")
        if process_id == self._process_id or count != str(self._client.shard_count) or self._supervisor.closed:
            return
        shard_ids = [int(text) for text in ids_text.split(",")]
        match Step(step_text):
            case Step.BEGINNING:
                self._claim_for_a_while()
            case Step.LEAVING if not self._is_leaving:
                self._supervisor.start("take shards", self._take(shard_ids, process_id))
            case Step.TAKING:
                self._note_taken(shard_ids)
            case Step.TAKEN if self._is_leaving:
                self._note_taken(shard_ids)
                self._drop(shard_ids)
            case Step.SERVED:
                # The newest gateway of a shard keeps it: this one took its place, or is about to be replaced.
                self._drop(shard_ids)
            case _:
                pass

    async def hand_over(self) -> None:
        """Have other gateways serve the shards of this one, and return when they do or none can."""
        self._is_leaving = True
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(CLAIM_SECONDS):  # a database that gives no answer must not keep it from stopping
                others = [each for each in _gateways(await self._cluster.processes()) if each.id != self._process_id]
                if not others or not (held := sorted(self._client.held_shards())):
                    return
                _log.info("handing over shards %s", _listed(held))
                self._taken_by_others.clear()
                await self._say(Step.LEAVING, held)
            loop = asyncio.get_running_loop()
            groups = math.ceil(len(held) / self._client.starts_at_a_time)
            ends_at = loop.time() + min(MAX_HANDOVER_SECONDS, CLAIM_SECONDS + SESSION_SECONDS * groups)
            claimed_until = loop.time() + CLAIM_SECONDS
            while left := self._client.held_shards():
                self._was_heard.clear()
                now = loop.time()
                if now >= ends_at or (now >= claimed_until and not self._taken_by_others):
                    _log.warning("no other gateway took shards %s", _listed(sorted(left)))
                    return
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        await self._was_heard.wait()

    async def _take(self, shard_ids: Collection[int], process_id: str) -> None:
        """Serve the shards of another gateway, unless one that comes before this one in the list does."""
        gateways = [each.id for each in _gateways(await self._cluster.processes()) if each.id != process_id]
        if self._process_id not in gateways:
            return
        await asyncio.sleep(gateways.index(self._process_id) * TURN_SECONDS)
        now = asyncio.get_running_loop().time()
        free = [
            shard_id
            for shard_id in shard_ids
            if shard_id not in self._client.held_shards()
            and now - self._taken_by_others.get(shard_id, -math.inf) > MAX_HANDOVER_SECONDS
        ]
        if not free or self._is_leaving:
            return
        await self._say(Step.TAKING, free)
        for shard_id in free:
            await self._client.take_shard(shard_id)
            _log.info("serving shard %d, which gateway %s served", shard_id, process_id)

    def _claim_for_a_while(self) -> None:
        self._claiming_until = asyncio.get_running_loop().time() + CLAIMING_SECONDS

    def _drop(self, shard_ids: Collection[int]) -> None:
        for shard_id in self._held_of(shard_ids):
            self._supervisor.start(f"drop shard {shard_id}", self._client.drop_shard(shard_id))
        self._was_heard.set()

    def _held_of(self, shard_ids: Collection[int]) -> list[int]:
        return sorted(set(shard_ids).intersection(self._client.held_shards()))

    def _note_taken(self, shard_ids: Collection[int]) -> None:
        self._taken_by_others |= dict.fromkeys(shard_ids, asyncio.get_running_loop().time())
        self._was_heard.set()

    async def _say(self, step: Step, shard_ids: Collection[int]) -> None:
        shards_text = f"{_listed(shard_ids)}/{self._client.shard_count}"
        await self._cluster.notify_shards(shards_text, f"{step} {self._process_id}")


def _listed(shard_ids: Collection[int]) -> str:
    return ",".join(map(str, shard_ids))


def _gateways(processes: Collection[ProcessInfo]) -> list[ProcessInfo]:
    """Return the gateways that are alive, in the same order in every process."""
    alive = [process for process in processes if process.role is Role.GATEWAY and process.is_alive]
    return sorted(alive, key=lambda process: process.id)


def _without_gateway(others: Collection[ProcessInfo], own: Collection[int]) -> list[tuple[str, list[int]]]:
    """Return the shards that no gateway serves: those of gateways that died, with the id of each, and `own` ones."""
    served = {shard for each in _gateways(others) if each.shards for shard in Shards.parse(each.shards).ids}
    died = [
        (process.id, sorted(set(Shards.parse(process.shards).ids) - served - set(own)))
        for process in others
        if process.role is Role.GATEWAY and not process.is_alive and process.shards
    ]
    return [*died, ("", sorted(set(own) - served))]
