"""Process roles: which settings each accepts, and the message for those it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bot import cli
from bot.domain.deployment.database_url import PostgresAddress
from bot.domain.deployment.process_role import Shards
from bot.store.admin.readiness import readiness
from bot.store.postgres.connection import CONNECTIONS_PER_PROCESS
from bot.store.store import Store
from tests.support.postgres_server import PostgresServer

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "ids", "count"), [("0-3/16", (0, 1, 2, 3), 16), ("5/16", (5,), 16), (" 0/1 ", (0,), 1)]
)
def test_shards_are_parsed_from_a_range_and_a_count(text: str, ids: tuple[int, ...], count: int) -> None:
    shards = Shards.parse(text)
    assert (shards.ids, shards.count) == (ids, count)


@pytest.mark.parametrize("text", ["", "3", "3-1/4", "4/4", "0-4/4", "-1/4", "a/b", "0-3/0", "0/1/2"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Shards.parse(text)


@pytest.fixture
def _keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISCORD_TOKEN", "a-token")
    monkeypatch.setenv("KREA_API_KEY", "a-key")


@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize("role", ["gateway", "worker"])
def test_several_processes_cannot_share_a_file(role: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["--role", role]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"DATABASE_URL must be postgresql://… for --role {role}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("_keys")
@pytest.mark.parametrize("role", ["worker", "all"])
def test_only_gateways_have_shards(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--role", role, "--shards", "0/2"]) == 2
    assert "--shards goes with --role gateway" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--role", "gateway", "--shards", "2/2"], "must be of the form 0-3/16"),
        (["--role", "boss"], "must be all, gateway or worker"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    assert end.value.code == 2
    assert said in capsys.readouterr().err


async def test_readiness_counts_how_many_more_processes_a_server_supports(postgres: PostgresServer) -> None:
    address: PostgresAddress = postgres.fresh()
    try:
        async with await Store.open(address) as store:
            await store.set_value("a", "b")
            found = readiness(address)
            assert found.processes == 1
            assert 0 < found.used < found.allowed
            assert found.room == (found.allowed - found.used) // CONNECTIONS_PER_PROCESS
    finally:
        postgres.drop(address)


@pytest.mark.parametrize("file", ["compose.cluster.yaml", "deploy/kubernetes.yaml"])
def test_the_examples_start_gateways_and_workers(file: str) -> None:
    text = re.sub(r"[\[\],\"\\]", " ", (PROJECT / file).read_text(encoding="utf-8"))
    assert set(re.findall(r"python -m bot --role (\w+)", " ".join(text.split()))) == {"gateway", "worker"}
    for shards in re.findall(r"--shards (\d\S*)", text):
        Shards.parse(shards)
