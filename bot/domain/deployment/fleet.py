"""The processes that share a database: what each says about itself, and where they disagree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bot.domain.deployment.process_role import Role, Shards

ALIVE_SECONDS = 30.0
"""A process that was not seen for this time counts as gone. Each writes every SIGN_OF_LIFE_PERIOD_SECONDS."""

SIGN_OF_LIFE_PERIOD_SECONDS = 8.0
NO_WORKER = "no worker is alive: images wait"


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessInfo:
    """One process. `shards` is as --shards has it, '' for all of them; `settings` are those that have to be equal."""

    id: str
    role: Role
    version: str
    shards: str
    provider_keys: tuple[str, ...]
    settings: Mapping[str, str]
    age_seconds: float = 0.0
    """Time since it was last seen, by the clock of the database's server."""

    @property
    def is_alive(self) -> bool:
        """Whether it was seen lately."""
        return self.age_seconds < ALIVE_SECONDS

    @property
    def name(self) -> str:
        """How messages to the operator call it."""
        return f"{self.role} {self.id}"


def disagreements(processes: Sequence[ProcessInfo]) -> list[str]:
    """Say what is wrong with these processes together, a sentence each. Those that are gone are left out."""
    alive = [process for process in processes if process.is_alive]
    return [*_about_workers(alive), *_about_shards(alive), *_about_settings(alive)] if alive else []


def _about_workers(alive: Sequence[ProcessInfo]) -> Iterator[str]:
    workers = [process for process in alive if process.role is Role.WORKER]
    if not workers:
        yield NO_WORKER
        return
    wanted = {name for process in alive for name in process.provider_keys}
    for name in sorted(wanted - {name for worker in workers for name in worker.provider_keys}):
        yield f"no worker has a key for {name}"


def _about_shards(alive: Sequence[ProcessInfo]) -> Iterator[str]:
    gateways = [process for process in alive if process.role is Role.GATEWAY]
    served = [Shards.parse(gateway.shards) for gateway in gateways if gateway.shards]
    if served and len(served) < len(gateways):
        yield "a gateway without --shards serves all of them beside others"
    counts = sorted({shards.count for shards in served})
    if len(counts) > 1:
        yield f"gateways disagree on the number of shards: {', '.join(map(str, counts))}"
    elif served and len(served) == len(gateways):
        times = Counter(number for shards in served for number in shards.ids)
        missing = [str(number) for number in range(counts[0]) if not times[number]]
        if missing:
            yield f"no gateway serves shard {', '.join(missing)} of {counts[0]}"
        twice = [str(number) for number, count in sorted(times.items()) if count > 1]
        if twice:
            yield f"several gateways serve shard {', '.join(twice)} of {counts[0]}"


def _about_settings(alive: Sequence[ProcessInfo]) -> Iterator[str]:
    for name in sorted({name for process in alive for name in process.settings}):
        found: defaultdict[str, list[str]] = defaultdict(list)
        for process in alive:
            if name in process.settings:
                found[process.settings[name]].append(process.name)
        if len(found) > 1:
            values = ", ".join(f"{value} in {' and '.join(who)}" for value, who in sorted(found.items()))
            yield f"{name} differs: {values}"
