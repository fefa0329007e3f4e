"""The disk of the PostgreSQL server is full: it is said, nothing is half done, and work goes on when there is room."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bot.domain.errors import StoreError
from bot.store.admin.verify import verify_location
from bot.store.store import Store
from tests.support.fakes import until
from tests.support.postgres_server import PostgresServer
from tests.support.store_samples import admitted, finished

pytestmark = pytest.mark.slow

BLOCK = b"\0" * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder that is a disk of its own. Skip the test where this user cannot mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=140m,mode=755", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.owner() == "root" or os.geteuid() == 0:
            parent.chmod(parent.stat().st_mode | 0o011)
        if parent.name.startswith("pytest-of"):
            break
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (len(BLOCK), 4096, 1):
            try:
                while file.write(BLOCK[:size]):
                    pass
            except OSError:
                continue
    return filler


async def test_a_full_disk_of_the_server_is_said_and_work_goes_on_when_there_is_room(small_disk: Path) -> None:
    server = PostgresServer(in_folder=small_disk)
    try:
        address = server.fresh()
        async with await Store.open(address) as store:
            before = await admitted(store)
            await finished(store, before.jobs[0].id)
            filler = fill(small_disk)
            refused = 0

            async def is_said() -> bool:
                nonlocal refused
                try:
                    await store.set_value(secrets.token_hex(8), secrets.token_hex(200_000))
                except StoreError:
                    refused += 1
                return refused >= 3

            await until(is_said, seconds=90)
            filler.unlink()

            async def works() -> bool:
                if server.has_ended:
                    server.start()  # as the system's service manager does
                return await store.problem() is None

            await until(works, seconds=90)
            after = await admitted(store)
            await finished(store, after.jobs[0].id)
        assert verify_location(address) == []
    finally:
        server.close()
