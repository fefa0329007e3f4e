"""The readiness check of the disk: it writes, so it sees what a count of free bytes would not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.runtime import disk
from bot.runtime.disk import DiskCheck


async def test_a_disk_that_takes_no_more_bytes_is_named_until_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_VALID_SECONDS", 0.0)
    check = DiskCheck(tmp_path)
    assert await check.problem() is None
    (tmp_path / ".readiness").symlink_to("/dev/full")
    assert await check.problem() == "the disk takes no more: No space left on device"
    assert await check.problem() is None
    assert list(tmp_path.iterdir()) == []
    assert await DiskCheck(tmp_path / "gone").problem() == "the disk takes no more: No such file or directory"


async def test_who_asks_often_does_not_keep_the_disk_busy(tmp_path: Path) -> None:
    check = DiskCheck(tmp_path)
    assert await check.problem() is None
    (tmp_path / ".readiness").symlink_to("/dev/full")
    assert await check.problem() is None
