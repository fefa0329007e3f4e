"""Migrations: a released one never changes again, and a failed upgrade leaves everything as it was."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import bot.store
from bot.domain.deployment.database_url import Location, PostgresAddress
from bot.domain.errors import DatabaseUnusable, LedgerTampered, StoreError
from bot.store.admin.verify import verify_location
from bot.store.postgres import schema as postgres_schema
from bot.store.sqlite import schema
from bot.store.store import Store
from tests.support.databases import rows, tamper
from tests.support.store_samples import admitted

RELEASED = {
    "postgresql/0001_initial.sql": "c5a0e647c7ebbe9493481e9b2850baed021252d3da1466e6950a996909522656",
    "postgresql/0002_processes.sql": "99d6650cf8233fc23e1cb8ec0d4b4a766d07eee0db11f58097f1c750b453e344",
    "postgresql/0003_history.sql": "a2272cdea8b56749c96f03c26324230ac34ca954c31ff9e63974bc693aa7522a",
    "postgresql/0004_operator_costs.sql": "6f17747b8cc5b94e4006e1d3c23d4daf285d582c4a587e2886b4668140a00725",
    "postgresql/0005_deletion.sql": "97f83145ce3dfa27b3588444d48bce445b07ea9642f48cad4d65679bdab53522",
    "postgresql/0006_bounds.sql": "4bd39078a8cb41a388ef1caf4aed0d109dc4521bb3002c30db06c13af2809911",
    "postgresql/0007_channels.sql": "deb472e315243cfa41811185a466a3b3608a8901cc5a093c4502473c2a90225d",
    "postgresql/0008_late_images.sql": "aa76a6fabe56993a63fb1456949836818515ee0a629e15991a81decc32b8e15c",
    "postgresql/0009_catalogue.sql": "6a21ad0f5fe58beca485dd260fee91d767d33550854389c10996b3f7a3dfeb1e",
    "postgresql/0010_presets.sql": "49eb0387546d2899676872f7991d45a303c9addd045fbc734058932236ff249d",
    "postgresql/0011_fleet.sql": "7852c7ca50755ba2db89ef46579addf44cdceb25653f9bab9c49646b7cf47887",
    "postgresql/0012_weekly_reports.sql": "5493e53e70a032afa6bde4e2547c352ab37ae176ddcf4cfec0da76a05954a7d2",
    "postgresql/0013_shared_images.sql": "03d78306f600a4be4ffecdcb6becee147572041b4acd153e2aee39018fc2fbe5",
    "postgresql/0014_wallets.sql": "868f17dcbdf944f987780f4597696f3c506a9bdd1b08ef622bc608c86b075714",
    "postgresql/0016_review.sql": "bb316a25415a0ad62d9e1ae4eccf42d5f04b0bf758288767644bcbf950eec62d",
    "postgresql/0017_preset_references.sql": "91d1e5bdb8da485b2509893d6d6ef5c90da7caf25768b0c74f197b64abebe7a3",
    "postgresql/0018_unfetched_results.sql": "61316c7495a796984423a3343d18bc7f78a6f4b1c3c820e58206cc23856d06cb",
    "postgresql/0020_adjustments_once.sql": "ed58a2864d8439faabc94b9e6131bf8013ea008b8de03dc49eb1e50da3e291a3",
    "postgresql/0021_refunds.sql": "8d1a0d66a545f94128ddf1640a2d3b4f40a4ba67e278936cc897496e85f3a9cc",
    "postgresql/0022_reply_queue.sql": "5558707cff4f8878a990b795dd39a28b1d4bc1962f0c17d62b96ae62cba058f8",
    "sqlite/0001_initial.sql": "0e8a336daaaa44fbeac68bfaef60304cab0ddd3eed0254f3aae694dc5a3c9f38",
    "sqlite/0002_places.sql": "39b6f75f23d9f634990bc3194f02ef7d65907cdee7921799dcebb3b0ac420224",
    "sqlite/0003_history.sql": "a2272cdea8b56749c96f03c26324230ac34ca954c31ff9e63974bc693aa7522a",
    "sqlite/0004_operator_costs.sql": "2df6fd78d882e58c5b21fc9cd351e0f9846fd39f6e2524f041f2b683d55ac104",
    "sqlite/0005_deletion.sql": "2ba0d21dd2e838d133290dcb405d35ea6e6e4f3a28c2830b66653f7389d6d381",
    "sqlite/0006_bounds.sql": "5c6439c0b45dc7ec759952525c3efa150923ebb2d7fcd4a1dc3e94c03e401d82",
    "sqlite/0007_channels.sql": "3e3dab1a251ac65e0d075e0b2ff7676a7601853d5892885152abe05a134ab5ee",
    "sqlite/0008_late_images.sql": "3fb3bc7e92a86a5294de56d5f883cae606d7d943b860c24cfbf629951b8665a1",
    "sqlite/0009_catalogue.sql": "22acb817bf6688adfc71f99bd25cdeb402496edff5e33767dd6e9bcefd5a03c1",
    "sqlite/0010_presets.sql": "ffaed0f739396c27bfa4e804613ab652ef6e962beccf88850232e68fb85a34a4",
    "sqlite/0011_fleet.sql": "148bf3cc25bd9dbac10e9ab5707ee261d8a020cbd7bed81381d55ba0e0d7a61e",
    "sqlite/0012_weekly_reports.sql": "2e9059928e4c17ec0a8166349411407f37f3d5b23716fc2e739570cb46663b68",
    "sqlite/0013_shared_images.sql": "8dfbe7cd519e3ac7737c3a3d1dd4a4f6f029dd0ab92e4d8e77061458b6d084be",
    "sqlite/0014_wallets.sql": "3003bf3bdacd95910a9bd9ea426f7e636bfe7e5aae5c0aadcc5b6c5905dd1606",
    "sqlite/0016_review.sql": "3c7d47c159656e996a7126188a8e0a770d8bcc0ed3017309bfe5e196f1c203c3",
    "sqlite/0017_preset_references.sql": "ffb7cdddff25ba37357ac90ce708a246a48b73d89f1f24f84a0da8ca84561e7f",
    "sqlite/0018_unfetched_results.sql": "e6c7292c271909e960481591a5eb1f469e5b249f4cd0e46a34a2d28f55b683ff",
    "sqlite/0020_adjustments_once.sql": "63139a3298ae109504a73965126c3a91622771bcd6a6a00e264e99321a8b5439",
    "sqlite/0021_refunds.sql": "531ba6ffb04853697c28a2efc050f406fc1a03a71f49e29f7e0990252fad5a1f",
    "sqlite/0022_reply_queue.sql": "148bf3cc25bd9dbac10e9ab5707ee261d8a020cbd7bed81381d55ba0e0d7a61e",
}
"""Databases exist that these files made. A change of the schema is a new file, with a new line here."""


def test_a_released_migration_never_changes() -> None:
    folder = Path(bot.store.__file__).parent / "migrations"
    found = {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*/*.sql")
    }
    assert found == RELEASED


def _version(location: Location) -> int:
    if isinstance(location, PostgresAddress):
        return rows(location, "SELECT max(version) FROM schema_version")[0][0]
    return rows(location, "PRAGMA user_version")[0][0]


@pytest.mark.parametrize(
    ("last", "error"),
    [
        ("ALTER TABLE nothing ADD COLUMN x TEXT;\n", StoreError),
        ("UPDATE daily_totals SET held_usd_micros = held_usd_micros + 1;\n", LedgerTampered),
    ],
)
async def test_of_several_migrations_all_are_applied_or_none(
    location: Location, monkeypatch: pytest.MonkeyPatch, last: str, error: type[StoreError]
) -> None:
    """Also when every statement was taken, but the ledger does not balance afterwards."""
    async with await Store.open(location) as store:
        await admitted(store)
    version = _version(location)
    for module in (schema, postgres_schema):
        known = module.migrations()
        newest = max(known)
        more = {newest + 1: "ALTER TABLE blocks ADD COLUMN why TEXT;\n", newest + 2: last}
        monkeypatch.setattr(module, "migrations", lambda known=known, more=more: {**known, **more})
    for _ in range(2):
        with pytest.raises(error):
            await Store.open(location)
    monkeypatch.undo()
    assert _version(location) == version
    assert verify_location(location) == []


async def test_a_row_without_its_parent_stops_an_upgrade_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bot.sqlite3"
    async with await Store.open(path) as store:
        await admitted(store)
    tamper(
        path, "UPDATE inputs SET job_id = 'gone'", "INSERT INTO pictures VALUES ('gone', 0, 'x', 'x', 1, 1, 1, '', 1)"
    )
    known = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: {**known, max(known) + 1: "DROP INDEX jobs_by_server;\n"})
    with pytest.raises(DatabaseUnusable, match="cannot be upgraded: a row of pictures refers to a missing row of jobs"):
        await Store.open(path)
    assert rows(path, "PRAGMA user_version") == [(max(known),)]
