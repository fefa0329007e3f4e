"""What is wrong with the processes of a cluster together: each thing is named, with who says what."""

from __future__ import annotations

from bot.domain.deployment.fleet import NO_WORKER, ProcessInfo, disagreements
from bot.domain.deployment.process_role import Role


def process(name: str, *, shards: str = "", keys: str = "krea", cap: str = "$25.00", age: float = 1) -> ProcessInfo:
    role, _, number = name.partition(" ")
    return ProcessInfo(
        id=number,
        role=Role(role),
        version="1234abcd",
        shards=shards,
        provider_keys=tuple(keys.split()),
        settings={"OPERATOR_DAILY_CAP_USD": cap},
        age_seconds=age,
    )


def test_processes_that_agree_have_nothing_to_say() -> None:
    assert disagreements([]) == []
    assert disagreements([process("gateway 1"), process("worker 1")]) == []
    halves = [process("gateway 1", shards="0-1/4"), process("gateway 2", shards="2-3/4")]
    assert disagreements([*halves, process("worker 1"), process("worker 2", cap="$1.00", age=300)]) == []


def test_a_missing_worker_or_key_is_named() -> None:
    assert disagreements([process("gateway 1"), process("worker 1", age=31)]) == [NO_WORKER]
    both = process("gateway 1", keys="krea pixazo")
    assert disagreements([both, process("worker 1")]) == ["no worker has a key for pixazo"]


def test_shards_that_do_not_add_up_are_named() -> None:
    def said(*shards: str) -> list[str]:
        gateways = [process(f"gateway {number}", shards=each) for number, each in enumerate(shards)]
        return disagreements([*gateways, process("worker 1")])

    assert said("0-1/4", "2-3/8") == ["gateways disagree on the number of shards: 4, 8"]
    assert said("0-1/4", "3/4") == ["no gateway serves shard 2 of 4"]
    assert said("0-1/3", "1-2/3") == ["several gateways serve shard 1 of 3"]
    assert said("", "0-1/2") == ["a gateway without --shards serves all of them beside others"]


def test_a_setting_that_differs_is_named_with_who_has_which() -> None:
    different = [process("gateway 1"), process("worker 1"), process("worker 2", cap="$30.00")]
    assert disagreements(different) == [
        "OPERATOR_DAILY_CAP_USD differs: $25.00 in gateway 1 and worker 1, $30.00 in worker 2"
    ]
