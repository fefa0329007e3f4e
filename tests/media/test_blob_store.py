"""The blob store: images are stored whole and once, or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.domain.errors import StoreError
from bot.media.blob_store import MAX_CACHED_BYTES, FileBlobStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[FileBlobStore]:
    store = FileBlobStore(tmp_path / "images")
    yield store
    await store.close()


def files_in(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def make_old(path: Path, *, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


async def test_what_was_put_can_be_got_under_the_hash_of_its_bytes(store: FileBlobStore) -> None:
    sha256 = await store.put(b"an image")
    assert sha256 == hashlib.sha256(b"an image").hexdigest()
    assert await store.get(sha256) == b"an image"
    assert store.path(sha256).read_bytes() == b"an image"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(st.binary(max_size=2_000), max_size=8))
def test_any_contents_come_back_as_they_were(tmp_path: Path, contents: list[bytes]) -> None:
    async def put_and_get() -> None:
        store = FileBlobStore(tmp_path / "any")
        names = await asyncio.gather(*(store.put(data) for data in contents))
        assert [await store.get(name) for name in names] == contents
        await store.close()

    asyncio.run(put_and_get())


async def test_the_same_image_put_by_many_at_once_is_stored_once(store: FileBlobStore, tmp_path: Path) -> None:
    names = await asyncio.gather(*(store.put(b"the same" * 1000) for _ in range(20)))
    assert len(set(names)) == 1
    assert len(files_in(tmp_path)) == 1


async def test_an_image_that_was_never_put_is_missing_and_removing_it_is_no_error(store: FileBlobStore) -> None:
    unknown = "0" * 64
    assert await store.get(unknown) is None
    await store.remove(unknown)
    assert await store.sweep(set(), older_than_seconds=0) == 0


async def test_a_removed_image_is_gone(store: FileBlobStore) -> None:
    sha256 = await store.put(b"an image")
    await store.remove(sha256)
    assert await store.get(sha256) is None


@pytest.mark.parametrize("damage", [b"", b"an imag", b"bn image", b"an image and more"])
async def test_a_damaged_file_reads_as_missing_and_putting_the_image_again_repairs_it(
    store: FileBlobStore, tmp_path: Path, damage: bytes
) -> None:
    sha256 = await store.put(b"an image")
    store.path(sha256).write_bytes(damage)
    after_a_restart = FileBlobStore(tmp_path / "images")
    assert await after_a_restart.get(sha256) is None
    await store.put(b"an image")
    assert await after_a_restart.get(sha256) == b"an image"
    await after_a_restart.close()


async def test_a_new_image_is_read_from_the_cache_once_and_from_disk_afterwards(store: FileBlobStore) -> None:
    sha256 = await store.put(b"an image")
    store.path(sha256).write_bytes(b"overwritten")
    assert await store.get(sha256) == b"an image"
    assert await store.get(sha256) is None


async def test_the_cache_has_a_limit(store: FileBlobStore) -> None:
    hashes = [await store.put(bytes([number]) * (MAX_CACHED_BYTES // 3)) for number in range(4)]
    store.path(hashes[0]).unlink()
    store.path(hashes[3]).unlink()
    assert await store.get(hashes[0]) is None
    assert await store.get(hashes[3]) is not None


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n"])
async def test_a_name_that_is_no_hash_never_becomes_a_path(store: FileBlobStore, name: str) -> None:
    with pytest.raises(ValueError):
        store.path(name)
    with pytest.raises(ValueError):
        await store.get(name)
    with pytest.raises(ValueError):
        await store.remove(name)


async def test_sweeping_removes_only_what_is_old_and_not_kept(store: FileBlobStore) -> None:
    wanted, unwanted, young = [await store.put(data) for data in (b"wanted", b"unwanted", b"young")]
    for sha256 in (wanted, unwanted):
        make_old(store.path(sha256), seconds=7200)
    assert await store.sweep({wanted}) == 1
    assert await store.get(wanted) == b"wanted"
    assert await store.get(unwanted) is None
    assert await store.get(young) == b"young"


async def test_putting_an_old_image_again_protects_it_from_the_next_sweep(store: FileBlobStore) -> None:
    sha256 = await store.put(b"an image")
    make_old(store.path(sha256), seconds=7200)
    await store.put(b"an image")
    assert await store.sweep(set()) == 0


async def test_sweeping_removes_what_a_crash_left_and_no_foreign_files(store: FileBlobStore, tmp_path: Path) -> None:
    folder = store.path(await store.put(b"an image")).parent
    left, young_left, foreign = folder / ".unfinished-0011", folder / ".unfinished-2233", folder / "notes.txt"
    for path in (left, young_left, foreign):
        path.write_bytes(b"half a pict")
    make_old(left, seconds=7200)
    make_old(foreign, seconds=7200)
    assert await store.sweep(set()) == 1
    assert not left.exists()
    assert young_left.exists()
    assert foreign.exists()


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """Limit the size of files: a larger write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_is_a_store_error_and_leaves_no_partial_image(store: FileBlobStore, tmp_path: Path) -> None:
    with files_of_at_most(10_000), pytest.raises(StoreError):
        await store.put(b"x" * 50_000)
    assert files_in(tmp_path) == []
    sha256 = await store.put(b"x" * 50_000)
    assert await store.get(sha256) == b"x" * 50_000


async def test_a_directory_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file where the directory should be")
    store = FileBlobStore(tmp_path / "images")
    with pytest.raises(StoreError):
        await store.put(b"an image")
    with pytest.raises(StoreError):
        await store.get("0" * 64)
    await store.close()


async def test_a_cancelled_caller_leaves_the_image_whole_or_absent(store: FileBlobStore, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    for _ in range(20):
        task = asyncio.create_task(store.put(data))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.close()
    assert [path.name for path in files_in(tmp_path)] in ([], [hashlib.sha256(data).hexdigest()])
