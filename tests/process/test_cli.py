"""The command line: one call each, one line when something is wrong, and exit codes that scripts can rely on."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
import tomllib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from bot import cli
from bot.catalogue import catalogue
from bot.domain.jobs import Failure, FailureReason
from bot.store.store import Store
from sandbox.contracts import as_openapi
from sandbox.discord import LocalDiscord
from sandbox.plans import Trouble
from sandbox.provider import SandboxProvider
from tests.support.store_samples import NOON, admitted, finished, running

PROJECT = Path(__file__).resolve().parents[2]

T = TypeVar("T")

TOKEN = "a-token-that-looks-right"


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory where the calls run, without an `.env` and with its own database."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", "sqlite:///data/bot.sqlite3")
    return tmp_path


class Outside:
    """A local Discord and a provider, served from a thread of their own while a call runs in this one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="outside")
        self._stack = AsyncExitStack()

    def __enter__(self) -> Outside:
        self._thread.start()
        self.discord, self.provider = self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _open(self) -> tuple[LocalDiscord, SandboxProvider]:
        discord = await self._stack.enter_async_context(LocalDiscord())
        return discord, await self._stack.enter_async_context(SandboxProvider())

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)


@pytest.fixture
def outside(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outside]:
    with Outside() as outside:
        for name, value in {
            "DISCORD_TOKEN": outside.discord.token,
            "DISCORD_API_BASE": outside.discord.api_base,
            "KREA_API_KEY": outside.provider.krea_key,
            "KREA_API_BASE": outside.provider.krea_base,
            "PIXAZO_API_KEY": outside.provider.pixazo_key,
            "PIXAZO_API_BASE": outside.provider.pixazo_base,
        }.items():
            monkeypatch.setenv(name, value)
        yield outside


@pytest.fixture
def ledger_file(directory: Path) -> Path:
    """Create a database with one finished job."""

    async def fill() -> None:
        async with await Store.open(directory / "data" / "bot.sqlite3") as store:
            await finished(store, (await admitted(store)).jobs[0].id)

    asyncio.run(fill())
    return directory / "data" / "bot.sqlite3"


def rows_of(output: str) -> dict[str, tuple[bool, str]]:
    """Return the table of `check`: name → (works, message)."""
    rows = [line.split(maxsplit=2) for line in output.splitlines()]
    return {name: (word == "ok", what) for word, name, what in rows}


def one_line(text: str) -> str:
    (line,) = text.strip().splitlines()
    return line


# -- settings and arguments ----------------------------------------------------------------------------


def test_a_missing_setting_is_one_line_and_exit_code_2(directory: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main([]) == 2
    assert one_line(capsys.readouterr().err).startswith("DISCORD_TOKEN is missing")


def test_a_wrong_setting_is_named_with_what_it_accepts_and_without_its_value(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HTTP_PORT", "my-secret")
    assert cli.main(["catalogue"]) == 2
    line = one_line(capsys.readouterr().err)
    assert line == "HTTP_PORT must be a whole number from 0 to 65535"


@pytest.mark.parametrize("arguments", [["nonsense"], ["ledger"], ["ledger", "burn"], ["backup"], ["--no-such-flag"]])
def test_a_wrong_argument_is_exit_code_2(directory: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert "usage: python -m bot" in capsys.readouterr().err


def test_help_lists_every_call(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    out = capsys.readouterr().out
    assert all(call in out for call in ("check", "backup", "restore", "ledger", "catalogue"))


def test_the_version_is_one_line_that_the_changelog_dates_and_needs_no_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.delenv("DISCORD_TOKEN", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    name, version = one_line(capsys.readouterr().out).split()
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (name, version) == (project["name"], project["version"])
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version)} · \d{{4}}-\d{{2}}-\d{{2}}$", changelog, re.MULTILINE)


def test_an_interrupt_from_the_keyboard_is_no_failure(directory: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_settings", interrupted)
    assert cli.main([]) == 0


def test_an_unknown_default_model_stops_the_start(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)
    monkeypatch.setenv("KREA_API_KEY", TOKEN)
    monkeypatch.setenv("DEFAULT_MODEL", "krea/no/such-model")
    assert cli.main([]) == 2
    assert one_line(capsys.readouterr().err).startswith("DEFAULT_MODEL must be the id of a model")


@pytest.mark.parametrize("content", ["Dear diary" * 1000, ""])
def test_a_database_that_no_further_start_can_use_is_exit_code_2(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: str
):
    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)
    monkeypatch.setenv("KREA_API_KEY", TOKEN)
    (directory / "data").mkdir()
    (directory / "data" / "bot.sqlite3").write_text(content)
    assert cli.main([]) == 2
    assert "bot.sqlite3" in one_line(capsys.readouterr().err)


# -- check -----------------------------------------------------------------------------------------------


def test_check_reports_each_part_as_working(outside: Outside, ledger_file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["check"]) == 0
    printed = capsys.readouterr()
    rows = rows_of(printed.out)
    assert list(rows) == ["settings", "catalogue", "database", "processes", "discord", "http", "krea", "pixazo"]
    assert all(works for works, _ in rows.values())
    assert rows["settings"][1] == (
        "complete; a day costs you at most $30.00, one server $5.00; a member may spend $1.00 a day unless a server's "
        "moderators set another quota"
    )
    assert "invite: https://discord.com/" in rows["discord"][1]
    for secret in (outside.discord.token, outside.provider.krea_key, outside.provider.pixazo_key):
        assert secret not in printed.out + printed.err
    assert outside.provider.orders == [], "nothing is bought by checking"


def test_check_says_that_one_server_costs_no_more_than_a_day_of_all_servers(
    outside: Outside, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("OPERATOR_SERVER_CAP_USD", "100")
    cli.main(["check"])
    assert "a day costs you at most $30.00, one server $25.00" in rows_of(capsys.readouterr().out)["settings"][1]


@pytest.mark.hostile("G-03")
@pytest.mark.parametrize(
    ("is_public", "allowed", "is_warned"), [(True, "", True), (True, "81384788765712384", False), (False, "", False)]
)
def test_check_warns_of_a_bot_that_anybody_can_add(
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_public: bool,
    allowed: str,
    is_warned: bool,
):
    monkeypatch.setattr(outside.discord.world, "bot_is_public", is_public)
    monkeypatch.setenv("ALLOWED_SERVERS", allowed)
    assert cli.main(["check"]) == 0
    works, what = rows_of(capsys.readouterr().out)["discord"]
    assert works
    assert ("Public Bot is on and ALLOWED_SERVERS is empty" in what) is is_warned


@pytest.mark.parametrize(
    ("quota", "takes_people", "is_warned"), [("0.50", False, True), ("0.50", True, False), ("", False, False)]
)
def test_check_warns_if_people_cannot_add_a_bot_that_takes_their_orders(
    outside: Outside,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    quota: str,
    takes_people: bool,
    is_warned: bool,
):
    monkeypatch.setattr(outside.discord.world, "takes_people", takes_people)
    monkeypatch.setenv("DIRECT_QUOTA_USD", quota)
    assert cli.main(["check"]) == 0
    assert ("switch on User Install" in rows_of(capsys.readouterr().out)["discord"][1]) is is_warned


@pytest.mark.parametrize("webhook_port", ["", "8081"])
@pytest.mark.parametrize(
    ("address", "is_warned"), [("http://bot.example.com", True), ("https://bot.example.com", False)]
)
def test_check_warns_of_webhooks_without_tls(
    outside: Outside,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    webhook_port: str,
    address: str,
    is_warned: bool,
):
    monkeypatch.setenv("WEBHOOK_PORT", webhook_port)
    monkeypatch.setenv("PUBLIC_URL", address)
    assert cli.main(["check"]) == 0
    what = rows_of(capsys.readouterr().out)["http"][1]
    assert ("PUBLIC_URL does not begin with https://" in what) is is_warned
    assert ("WARNING: /metrics and /readyz can be reached" in what) is (not webhook_port)


def test_check_names_a_provider_whose_key_is_gone_while_orders_wait_for_it(
    outside: Outside, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    async def order() -> None:
        async with await Store.open(ledger_file) as store:
            await running(store, (await admitted(store)).jobs[0].id)

    asyncio.run(order())
    assert cli.main(["check"]) == 0
    capsys.readouterr()
    monkeypatch.delenv("KREA_API_KEY")
    monkeypatch.setenv("DEFAULT_MODEL", "pixazo/krea-2-large")
    assert cli.main(["check"]) == 1
    works, what = rows_of(capsys.readouterr().out)["krea"]
    assert not works
    assert "unfinished orders (1)" in what


def test_check_names_each_thing_that_does_not_work(
    outside: Outside, ledger_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DISCORD_TOKEN", "not.the.token")
    monkeypatch.setenv("KREA_API_KEY", "not-the-key")
    outside.provider.next_answers("read", *[Trouble(status=503)] * 3)
    ledger_file.write_bytes(ledger_file.read_bytes()[:5000])
    assert cli.main(["check"]) == 1
    rows = rows_of(capsys.readouterr().out)
    assert {name for name, (works, _) in rows.items() if not works} == {"database", "discord", "krea", "pixazo"}
    assert rows["discord"][1] == "the token is not accepted"
    assert "401" in rows["krea"][1]


def test_check_creates_no_database(outside: Outside, directory: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["check"]) == 0
    assert "is created at the first start" in rows_of(capsys.readouterr().out)["database"][1]
    assert not (directory / "data").exists()


def test_check_reports_that_discord_cannot_be_reached(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DISCORD_API_BASE", "http://127.0.0.1:9/api/v10")
    assert cli.main(["check"]) == 1
    assert rows_of(capsys.readouterr().out)["discord"][1].startswith("cannot be reached")


# -- the ledger --------------------------------------------------------------------------------------------


def test_a_valid_ledger_is_verified(ledger_file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ledger", "verify"]) == 0
    assert one_line(capsys.readouterr().out) == "the ledger balances"


def test_verify_finds_a_manipulated_ledger(ledger_file: Path, capsys: pytest.CaptureFixture[str]):
    with closing(sqlite3.connect(ledger_file, isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("UPDATE ledger SET amount_usd_micros = amount_usd_micros - 1 WHERE kind = 'settle'")
    assert cli.main(["ledger", "verify"]) == 1
    *findings, last = capsys.readouterr().out.strip().splitlines()
    assert any(finding.startswith("reservations equal their ledger entries: ") for finding in findings)
    assert last == f"{len(findings)} findings"


@pytest.mark.parametrize("damage", ["missing", "not a database", "cut short"])
def test_an_unreadable_database_is_one_line_and_exit_code_1(
    ledger_file: Path, damage: str, capsys: pytest.CaptureFixture[str]
):
    match damage:
        case "missing":
            ledger_file.unlink()
        case "not a database":
            ledger_file.write_text("Dear diary" * 1000)
        case _:
            ledger_file.write_bytes(ledger_file.read_bytes()[:5000])
    assert cli.main(["ledger", "verify"]) == 1
    assert str(ledger_file.name) in one_line(capsys.readouterr().err)


def test_operator_costs_are_listed_with_their_reasons(directory: Path, capsys: pytest.CaptureFixture[str]):
    path = directory / "data" / "bot.sqlite3"

    async def fill() -> None:
        async with await Store.open(path) as store:
            jobs = (await admitted(store, 80_000, 80_000)).jobs
            for job, reason in zip(jobs, (FailureReason.TIMED_OUT, FailureReason.OUTCOME_UNKNOWN), strict=True):
                await running(store, job.id)
                await store.fail(job.id, Failure(reason=reason), now=NOON, operator_cost_usd_micros=80_000)

    asyncio.run(fill())
    assert cli.main(["ledger", "house"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines[:2]] == ["timed out", "outcome unknown"]
    assert lines[-1] == "the operator bore $0.16 for 2 jobs"
    path.write_bytes(b"")
    assert cli.main(["ledger", "house"]) == 1
    one_line(capsys.readouterr().err)


def test_a_backup_can_be_restored(ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    backup = tmp_path / "backup.sqlite3"
    assert cli.main(["backup", str(backup)]) == 0
    assert one_line(capsys.readouterr().out) == f"written: {backup}"
    ledger_file.write_text("overwritten by accident")
    assert cli.main(["restore", str(backup)]) == 0
    capsys.readouterr()
    assert cli.main(["ledger", "verify"]) == 0


def test_what_cannot_be_backed_up_or_restored_is_one_line_and_exit_code_1(
    ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["restore", str(tmp_path / "no-such-backup")]) == 1
    assert "no-such-backup" in one_line(capsys.readouterr().err)
    ledger_file.unlink()
    assert cli.main(["backup", str(tmp_path / "backup")]) == 1
    one_line(capsys.readouterr().err)
    assert not (tmp_path / "backup").exists()


def test_a_file_that_is_no_backup_is_named_with_what_to_try_instead(
    ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    text = tmp_path / "notes.txt"
    text.write_text("no database")
    assert cli.main(["restore", str(text)]) == 1
    line = one_line(capsys.readouterr().err)
    assert line == f"The backup {text} is damaged (it does not begin like an SQLite file). Try an older one."


def test_a_backup_into_a_folder_that_is_not_there_names_the_folder(
    ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["backup", str(tmp_path / "none" / "backup.sqlite3")]) == 1
    assert one_line(capsys.readouterr().err) == f"There is no folder {tmp_path / 'none'} for the copy."


def test_nothing_is_restored_while_the_bot_runs(ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    backup = tmp_path / "backup.sqlite3"
    cli.main(["backup", str(backup)])
    capsys.readouterr()

    async def meanwhile() -> int:
        async with await Store.open(ledger_file):
            return await asyncio.to_thread(cli.main, ["restore", str(backup)])

    assert asyncio.run(meanwhile()) == 1
    assert one_line(capsys.readouterr().err).endswith("Stop it first.")


def test_a_database_that_cannot_be_compared_with_the_backup_is_not_replaced(
    ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    backup = tmp_path / "backup.sqlite3"
    cli.main(["backup", str(backup)])
    capsys.readouterr()
    before = ledger_file.read_bytes()
    Path(f"{ledger_file}-wal").mkdir()
    assert cli.main(["restore", str(backup)]) == 1
    assert one_line(capsys.readouterr().err).startswith("data/bot.sqlite3 could not be compared with the backup: ")
    assert ledger_file.read_bytes() == before


# -- the catalogue --------------------------------------------------------------------------------------------


def test_the_catalogue_lists_every_model_with_its_price(directory: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["catalogue"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(catalogue.Catalogue.load().models)
    flux = next(line for line in lines if line.startswith("krea/bfl/flux-1-dev "))
    assert flux.endswith("$0.007")
    assert next(line for line in lines if "nano-banana-2 " in line).endswith("$0.08 to $0.16")
    assert any(line.endswith("not orderable: no price") for line in lines)


def test_the_operators_own_price_is_listed(directory: Path, capsys: pytest.CaptureFixture[str]):
    (directory / "data").mkdir()
    override = directory / "data" / catalogue.OVERRIDE_FILE
    override.write_text(json.dumps({"prices": {"krea/bfl/flux-1-dev": "0.01"}}))
    assert cli.main(["catalogue"]) == 0
    assert "$0.01" in next(line for line in capsys.readouterr().out.splitlines() if "flux-1-dev " in line)
    override.write_text("{")
    assert cli.main(["catalogue"]) == 2
    assert catalogue.OVERRIDE_FILE in one_line(capsys.readouterr().err)


@pytest.fixture
def described(outside: Outside) -> Callable[[Callable[[dict[str, Any]], object]], None]:
    """Have the provider's description changed before each of the next readings of it."""

    def describe(adjust: Callable[[dict[str, Any]], object]) -> None:
        document = as_openapi()
        adjust(document)
        outside.provider.next_answers("openapi", Trouble(status=200, body=document))

    return describe


def flux_costs(amount: float) -> Callable[[dict[str, Any]], object]:
    def adjust(document: dict[str, Any]) -> None:
        operation = document["paths"]["/generate/image/bfl/flux-1-dev"]["post"]
        operation["x-krea-pricing"]["price_points"] = [{"amount": amount, "dimensions": {}}]

    return adjust


def test_a_refresh_shows_what_each_change_does_to_orders_and_changes_nothing(
    directory: Path, described: Any, capsys: pytest.CaptureFixture[str]
):
    described(flux_costs(7.0))
    assert cli.main(["catalogue", "--refresh"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "~ krea/bfl/flux-1-dev: price $0.007 → $7.00",
        "! krea/bfl/flux-1-dev: $7.00 is more than twice what it was",
        (
            "    → held, no orders until you decide: a price moves to more than twice or less than half; "
            "--accept krea/bfl/flux-1-dev or --keep krea/bfl/flux-1-dev"
        ),
    ]
    assert not (directory / "data").exists()
    described(lambda document: None)
    assert cli.main(["catalogue", "--refresh"]) == 0
    assert one_line(capsys.readouterr().out) == "the catalogue is up to date"


@pytest.mark.parametrize("named", ["krea/bfl/flux-1-dev", "all"])
def test_what_is_accepted_lies_in_the_data_folder_and_is_in_force_with_the_shipped_file_unchanged(
    directory: Path, described: Any, named: str, capsys: pytest.CaptureFixture[str]
):
    shipped = catalogue.data_text()
    described(flux_costs(0.02))
    assert cli.main(["catalogue", "--accept", named]) == 0
    said = capsys.readouterr().out
    assert "accepted, change 1: ~ krea/bfl/flux-1-dev: price $0.007 → $0.02" in said
    assert "a running bot takes this over within seconds" in said
    assert catalogue.data_text() == shipped
    assert cli.main(["catalogue"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "flux-1-dev " in line).endswith("$0.02")
    assert lines[-1].startswith("change 1: krea/bfl/flux-1-dev price accepted by command line on ")
    described(flux_costs(0.02))
    assert cli.main(["catalogue", "--refresh"]) == 0
    assert one_line(capsys.readouterr().out) == "the catalogue is up to date"


def test_what_is_accepted_while_a_bot_has_the_file_open_is_seen_by_it(
    ledger_file: Path, described: Any, capsys: pytest.CaptureFixture[str]
):
    async def meanwhile() -> None:
        async with await Store.open(ledger_file) as store:
            before = await store.catalogue_token()
            assert await asyncio.to_thread(cli.main, ["catalogue", "--accept", "all"]) == 0
            assert await store.catalogue_token() != before
            assert [change.model_id for change in await store.catalogue_changes()] == ["krea/bfl/flux-1-dev"]
            await store.set_value("goes", "on")

    described(flux_costs(0.02))
    asyncio.run(meanwhile())
    assert "accepted, change 1" in capsys.readouterr().out


def test_what_is_kept_is_not_asked_again(directory: Path, described: Any, capsys: pytest.CaptureFixture[str]):
    described(flux_costs(7.0))
    assert cli.main(["catalogue", "--keep", "krea/bfl/flux-1-dev"]) == 0
    described(flux_costs(7.0))
    assert cli.main(["catalogue", "--refresh"]) == 0
    assert "not taken over: kept by command line on" in capsys.readouterr().out
    assert cli.main(["catalogue"]) == 0
    assert next(line for line in capsys.readouterr().out.splitlines() if "flux-1-dev " in line).endswith("$0.007")


def test_an_upgrade_keeps_what_was_accepted_and_says_what_it_overrides(
    directory: Path, described: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    described(flux_costs(0.02))
    assert cli.main(["catalogue", "--accept", "all"]) == 0
    newer = json.loads(catalogue.data_text())
    flux = next(model for model in newer["models"] if model["id"] == "krea/bfl/flux-1-dev")
    flux["price"]["points"][0]["usd_micros"], flux["label"] = 9_000, "Flux.1 [dev]"
    monkeypatch.setattr(catalogue, "data_text", lambda: json.dumps(newer))
    capsys.readouterr()
    assert cli.main(["catalogue"]) == 0
    out = capsys.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("krea/bfl/flux-1-dev "))
    assert "Flux.1 [dev]" in line
    assert line.endswith("$0.02")
    assert "accepted changes override the program: krea/bfl/flux-1-dev: price stays as accepted (change 1)" in out


def test_a_name_without_a_change_is_an_error(directory: Path, described: Any, capsys: pytest.CaptureFixture[str]):
    described(flux_costs(0.02))
    assert cli.main(["catalogue", "--accept", "krea/bfl/flux-1-kontext-dev"]) == 1
    assert one_line(capsys.readouterr().err).startswith("nothing to decide about krea/bfl/flux-1-kontext-dev")


@pytest.mark.parametrize("trouble", [Trouble(status=500), Trouble(status=200, body={"openapi": "3.1.0", "paths": {}})])
def test_a_description_that_cannot_be_used_changes_nothing(
    outside: Outside, trouble: Trouble, capsys: pytest.CaptureFixture[str]
):
    outside.provider.next_answers("openapi", *[trouble] * 5)
    assert cli.main(["catalogue", "--refresh"]) == 1
    one_line(capsys.readouterr().err)


def test_nothing_is_called_up_to_date_while_the_description_cannot_be_read(
    outside: Outside, capsys: pytest.CaptureFixture[str]
):
    outside.provider.next_answers("openapi", *[Trouble(status=500)] * 5)
    assert cli.main(["catalogue", "--refresh", "--accept", "all"]) == 1
    could_not, nothing = capsys.readouterr().out.splitlines()
    assert could_not.startswith("the description could not be read, so only what is held already is decided")
    assert nothing == "nothing is held, so nothing was decided"


@pytest.mark.parametrize(
    ("override", "why"),
    [
        ({"hidden": ["krea/google/nano-banana-2"]}, "it is hidden in catalogue.override.json"),
        ({"models": {"krea/google/nano-banana-2": {"price": {"points": []}}}}, "its price is not known"),
        ({"models": {"krea/google/nano-banana-2": {"modes": ["edit"]}}}, "makes no image from a prompt alone"),
    ],
)
def test_a_default_model_that_cannot_be_ordered_stops_the_start_and_fails_check_with_those_that_can(
    outside: Outside, directory: Path, override: dict[str, Any], why: str, capsys: pytest.CaptureFixture[str]
):
    (directory / "data").mkdir()
    (directory / "data" / catalogue.OVERRIDE_FILE).write_text(json.dumps(override))
    assert cli.main([]) == 2
    said = one_line(capsys.readouterr().err)
    assert said.startswith("DEFAULT_MODEL: krea/google/nano-banana-2 ")
    assert why in said
    assert "These can be ordered: krea/bfl/flux-1-dev, " in said
    assert cli.main(["check"]) == 1
    works, what = rows_of(capsys.readouterr().out)["catalogue"]
    assert not works
    assert why in what


def test_check_lists_assumed_prices_until_the_operator_sets_their_own(
    outside: Outside, directory: Path, capsys: pytest.CaptureFixture[str]
):
    cli.main(["check"])
    works, what = rows_of(capsys.readouterr().out)["catalogue"]
    assert works
    assert "assumed prices, which the provider does not publish: pixazo/krea-2-large with moodboards $0.065" in what
    (directory / "data").mkdir(exist_ok=True)
    own = [{"amount_usd": "0.06"}, {"amount_usd": "0.08", "when": {"moodboards": "present"}}]
    (directory / "data" / catalogue.OVERRIDE_FILE).write_text(json.dumps({"prices": {"pixazo/krea-2-large": own}}))
    cli.main(["check"])
    assert "assumed" not in rows_of(capsys.readouterr().out)["catalogue"][1]


# -- reconciliation ------------------------------------------------------------------------------------------


def test_an_order_that_the_provider_does_not_list_is_open(
    outside: Outside, ledger_file: Path, capsys: pytest.CaptureFixture[str]
):
    before = ledger_file.read_bytes()
    assert cli.main(["ledger", "reconcile", "--since", "2020-01-01", "--json"]) == 1
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    (found,) = document["open"]
    assert found["kind"] == "only in the ledger"
    assert found["ledger_usd_micros"] > 0
    assert ledger_file.read_bytes() == before


def test_a_bill_with_the_same_amount_leaves_only_what_the_list_lacks(
    outside: Outside, ledger_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["ledger", "reconcile", "--since", "2020-01-01", "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["open"]
    bill = tmp_path / "bill.csv"
    bill.write_text(f"id,amount\n{found['remote_id']},{found['ledger_usd_micros'] / 1e6}\nother,0.5\n")
    assert cli.main(["ledger", "reconcile", "--since", "2020-01-01", "--invoice", str(bill)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:-1]] == ["only in the ledger", "only on the invoice"]
    assert lines[-1].startswith("2 open (1 only in the ledger, 1 only on the invoice)")


def test_without_orders_nothing_is_open(outside: Outside, ledger_file: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ledger", "reconcile", "--since", "2030-01-01"]) == 0
    assert capsys.readouterr().out == "nothing is open: 0 orders since 2030-01-01 compared\n"


def test_a_missing_bill_is_one_line(directory: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["ledger", "reconcile", "--invoice", "nowhere.csv"]) == 2
    assert capsys.readouterr().err == "nowhere.csv cannot be read: No such file or directory\n"


@pytest.mark.parametrize("is_sold", [True, False])
def test_check_says_whether_discord_sells_what_fills_wallets(
    outside: Outside, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], is_sold: bool
):
    sku = outside.discord.sku("Credit of $5", price="$7.99")
    monkeypatch.setenv("TOPUP_SKUS", f"{sku.id if is_sold else sku.id + 1}=5.00")
    assert cli.main(["check"]) == (0 if is_sold else 1)
    works, what = rows_of(capsys.readouterr().out)["top-ups"]
    assert works is is_sold
    assert what == (
        "Credit of $5 pays in $5.00"
        if is_sold
        else f"TOPUP_SKUS names {sku.id + 1}, which is no SKU of this application"
    )
