"""`python -m bot ledger`: what the operator can read from the ledger."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bot import cli
from bot.domain.jobs import Failure, FailureReason
from bot.store.store import Store
from tests.support.store_samples import NOON, admitted, an_image, finished, running


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
    first, second, last = capsys.readouterr().out.splitlines()
    assert first.split() == [
        *("2026-11-21", "14:00", lost, "krea", "krea/google/nano-banana-2", "$0.08", "outcome", "unknown")
    ]
    assert second.split()[2:] == [
        *(dear, "krea", "krea/google/nano-banana-2", "$0.005", "charged", "above", "the", "price")
    ]
    assert last == "the house bore $0.085 for 2 jobs"


async def test_house_without_operator_costs_is_one_line(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with await Store.open(path):
        assert cli.main(["ledger", "house"]) == 0  # also while the bot runs
    assert capsys.readouterr().out == "the house bore $0.00 for 0 jobs\n"


async def test_verify_reports_a_valid_ledger(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await sample_ledger(path)
    assert cli.main(["ledger", "verify"]) == 0
    assert capsys.readouterr().out == "the books balance\n"


@pytest.mark.parametrize("question", ["house", "verify"])
def test_a_missing_database_is_an_error(path: Path, capsys: pytest.CaptureFixture[str], question: str) -> None:
    assert cli.main(["ledger", question]) == 1
    assert "There is no database" in capsys.readouterr().err
