"""`python -m bot ledger`: what the operator can read from the ledger."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from bot import cli
from bot.domain.jobs import Failure, FailureReason
from bot.domain.money.quota import Member
from bot.store.core.connection import APPLICATION_ID
from bot.store.sqlite.connection import connect
from bot.store.store import Store
from tests.support.store_samples import ADA, NOON, admitted, an_image, finished, running


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/bot.sqlite3")
    return tmp_path / "bot.sqlite3"


async def sample_ledger(path: Path) -> tuple[str, str]:
    """Store one job charged to a member and two with operator costs; return these two."""
    async with await Store.open(path) as store:
        await finished(store, (await admitted(store)).jobs[0].id)
        lost, dear = (await admitted(store, 80_000, 65_000)).jobs
        failure = Failure(reason=FailureReason.OUTCOME_UNKNOWN)
        await store.fail(lost.id, failure, now=NOON + timedelta(hours=2), operator_cost_usd_micros=80_000)
        await running(store, dear.id)
        await store.succeed(
            dear.id,
            charged_usd_micros=65_000,
            operator_cost_usd_micros=5_000,
            images=[an_image("cd" * 32)],
            now=NOON,
        )
    return lost.id, dear.id


async def test_house_lists_operator_costs_and_their_sum(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lost, dear = await sample_ledger(path)
    assert cli.main(["ledger", "house"]) == 0
    first, second, *sums, last = capsys.readouterr().out.splitlines()
    who = ("krea", "krea/google/nano-banana-2", "member", "7", "in", "server", "1")
    assert first.split() == [*("2026-11-21", "14:00", lost), *who, *("$0.08", "outcome", "unknown")]
    assert second.split()[2:] == [dear, *who, *("$0.005", "charged", "above", "the", "price")]
    assert [line.split() for line in sums] == [
        ["2026-11-21", "all", "members", "$0.085"],
        ["2026-11-21", "member", "7", "$0.085"],
    ]
    assert last == "the operator bore $0.085 for 2 jobs"


@pytest.mark.hostile("G-02")
async def test_house_sums_up_who_cost_what_on_the_day_of_the_order(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bob = Member(guild_id=2, user_id=8)
    async with await Store.open(path) as store:
        for member, now, amount in [(ADA, NOON, 10_000), (bob, NOON, 30_000), (bob, NOON + timedelta(days=1), 5_000)]:
            [job] = (await admitted(store, amount, member=member, now=now)).jobs
            await store.fail(
                job.id,
                Failure(reason=FailureReason.TIMED_OUT),
                now=now + timedelta(hours=13),
                operator_cost_usd_micros=amount,
            )
    assert cli.main(["ledger", "house"]) == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[3:]] == [
        "2026-11-21 all members $0.04",
        "2026-11-21 member 8 $0.03",
        "2026-11-21 member 7 $0.01",
        "2026-11-22 all members $0.005",
        "2026-11-22 member 8 $0.005",
        "the operator bore $0.045 for 3 jobs",
    ]


async def test_house_without_operator_costs_is_one_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with await Store.open(path):
        assert cli.main(["ledger", "house"]) == 0  # also while the bot runs
    assert capsys.readouterr().out == "the operator bore $0.00 for 0 jobs\n"


async def test_verify_reports_a_valid_ledger(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await sample_ledger(path)
    assert cli.main(["ledger", "verify"]) == 0
    assert capsys.readouterr().out == "the ledger balances\n"


@pytest.mark.parametrize("question", ["house", "verify"])
def test_a_missing_database_is_an_error(path: Path, capsys: pytest.CaptureFixture[str], question: str) -> None:
    assert cli.main(["ledger", question]) == 1
    assert "There is no database" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["ledger", "house"],
        ["ledger", "verify"],
        ["migrate-to", "postgresql://ada@127.0.0.1:9/none"],
        ["backup", "copy"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_a_database_that_cannot_be_read_is_one_sentence(
    path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    path.symlink_to("/proc/self/mem")  # a file whose beginning cannot be read, also by root
    assert cli.main(command) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_house_says_what_a_database_is_that_it_cannot_read(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path.write_bytes(b"")
    assert cli.main(["ledger", "house"]) == 1
    assert "is damaged: it does not begin like an SQLite file" in capsys.readouterr().err
    path.unlink()
    with closing(connect(path)) as connection:
        connection.execute("CREATE TABLE notes (text TEXT)")
        assert cli.main(["ledger", "house"]) == 1
        assert "is a database of another program" in capsys.readouterr().err
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        assert cli.main(["ledger", "house"]) == 1
    assert "is of an older version. Start the bot on it once" in capsys.readouterr().err
