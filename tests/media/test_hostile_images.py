"""Files made to do harm: each is refused or read within limits, in a process that can reach nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from bot.domain.errors import MediaError, UnusableImage
from bot.domain.requester import Requester
from bot.media.image_pool import ImageGivenUp, ImagePool
from tests.support import image_samples as samples
from tests.support.child_processes import child_processes
from tests.support.fakes import until

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's ways to confine a process")
CONTAINER_BYTES = 1 << 30
"""The limit of memory in deploy/kubernetes.yaml."""


def gif_of_a_huge_screen() -> bytes:
    data = bytearray(samples.image("GIF"))
    data[6:10] = b"\xff\xff\xff\xff"
    return bytes(data)


def bitmap_that_claims(width: int, height: int) -> bytes:
    data = bytearray(samples.image("BMP"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def heif_that_claims(image_format: str, width: int, height: int) -> bytes:
    data = bytearray(samples.image(image_format))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    return bytes(data)


def webp_of_46_bytes() -> bytes:
    """Return nothing but a lossless header that states 16383 × 16383 pixels."""
    content = b"\x2f" + struct.pack("<I", 0x3FFF_FFFF | 0) + bytes(21)
    body = b"WEBPVP8L" + struct.pack("<I", len(content)) + content
    return b"RIFF" + struct.pack("<I", len(body)) + body


def progressive_of_megapixels() -> bytes:
    """Return the worst legal progressive JPEG: as many scans as are read, over 50 megapixels."""
    data = samples.encode(Image.new("RGB", (8192, 6100), "grey"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 50 + b"\xff\xd9"


def webp_of_many_frames(frames: int) -> bytes:
    frame = Image.new("RGB", (16, 16))
    others = [Image.new("RGB", (16, 16), (index % 256, index // 256, 0)) for index in range(1, frames)]
    return samples.encode(frame, "WEBP", save_all=True, append_images=others, duration=1, method=0)


def gif_of_many_frames(frames: int) -> bytes:
    data = samples.image("GIF")
    start = data.index(b"\x2c", 13 + 3 * 2 ** ((data[10] & 7) + 1))
    return data[:start] + data[start:-1] * frames + b";"


HOSTILE: dict[str, Callable[[], bytes]] = {
    **samples.BOMBS,
    **samples.HARMLESS_BOMBS,
    "a jpeg of 12 kB of markers": lambda: samples.image("JPEG")[:2] + b"\xff\xd0" * 6000 + samples.image("JPEG")[2:],
    "a jpeg of 200 kB of filler": lambda: samples.image("JPEG")[:-2] + b"\xff" * 200_000 + b"\0\xff\xd9",
    "a png of 600 MB in 1 MB": lambda: samples.png_of_zeros(12_000, 50_000),
    "a png of 60 megapixels": lambda: samples.png_of_zeros(10_000, 6000),
    "a webp of 46 bytes": webp_of_46_bytes,
    "a gif of a huge screen": gif_of_a_huge_screen,
    "a gif of 20,000 frames": lambda: gif_of_many_frames(20_000),
    "a webp of 2000 frames": lambda: webp_of_many_frames(2000),
    "a bitmap of a billion pixels": lambda: bitmap_that_claims(32_000, 32_000),
    "a heic of a billion pixels": lambda: heif_that_claims("HEIF", 32_000, 32_000),
    "an avif of a billion pixels": lambda: heif_that_claims("AVIF", 32_000, 32_000),
    "a heic of a wrong size": lambda: heif_that_claims("HEIF", 6000, 6000),
    "half a heic": lambda: samples.image("HEIF")[:300],
    "half an avif": lambda: samples.image("AVIF")[:300],
    "packed texts of 1 GB": lambda: samples.png_with_packed_texts(20, megabytes=50),
    "50 megapixels in 50 scans": progressive_of_megapixels,
    "a rows bomb": lambda: samples.png_of_rows(4000, 4000, zlib.compress(bytes(4001 * 4000), 9)),
}


@pytest.fixture
async def image_pool() -> AsyncIterator[ImagePool]:
    image_pool = ImagePool(limit_seconds=120)  # however busy the machine is
    yield image_pool
    await image_pool.close()


def workers() -> list[psutil.Process]:
    return child_processes("bot.media.image_worker")


def peak_bytes(worker: psutil.Process) -> int:
    status = Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) << 10


@LINUX
@pytest.mark.hostile("G-04")
@pytest.mark.hostile("G-05")
@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_file_is_answered_within_the_memory_of_a_container(image_pool: ImagePool, name: str) -> None:
    data = HOSTILE[name]()
    with suppress(UnusableImage):
        await image_pool.clean_input(data, "a.png", requester=Requester(1, 1))
    with suppress(MediaError):
        await image_pool.check_result(data)
    assert sum(map(peak_bytes, workers())) < CONTAINER_BYTES // 2
    assert (await image_pool.clean_input(samples.image("PNG"), "a", requester=Requester(2, 2))).width == 96


@pytest.mark.hostile("G-05")
async def test_all_processes_together_fit_the_container() -> None:
    image_pool = ImagePool()
    lanes = (image_pool._checks, image_pool._small, image_pool._large)
    limits_bytes = sum(lane.pool.max_processes * lane.pool.memory_limit_bytes for lane in lanes)
    # The libraries of a process, shared or never read, are two thirds of what it has mapped before its first image.
    never_resident_bytes = sum(lane.pool.max_processes for lane in lanes) * (50 << 20)
    assert limits_bytes - never_resident_bytes + (100 << 20) <= CONTAINER_BYTES
    await image_pool.close()


@pytest.mark.hostile("G-04")
@pytest.mark.hostile("G-05")
async def test_a_small_image_of_another_member_waits_for_no_hostile_one(image_pool: ImagePool) -> None:
    slow = progressive_of_megapixels()
    await image_pool.clean_input(samples.image("PNG"), "a", requester=Requester(2, 2))
    hostile = [asyncio.create_task(image_pool.clean_input(slow, "a", requester=Requester(1, 1))) for _ in range(6)]
    await until(lambda: image_pool._large.pool.running > 0)
    for _ in range(5):
        assert (await image_pool.clean_input(samples.image("PNG"), "a", requester=Requester(2, 2))).width == 96
        assert (await image_pool.check_result(samples.image("PNG"))).width == 96
    assert not hostile[-1].done()
    for task in hostile:
        task.cancel()
    await asyncio.gather(*hostile, return_exceptions=True)


@pytest.mark.hostile("G-05")
@pytest.mark.parametrize(
    ("make", "before"),
    [(lambda: samples.encode(samples.noise(1500, 1500), "PNG"), 1), (progressive_of_megapixels, 2)],
    ids=["small", "large"],
)
async def test_an_image_from_another_server_does_not_wait_for_a_crowd(
    image_pool: ImagePool, make: Callable[[], bytes], before: int
) -> None:
    """One of the crowd may end first, and another one may begin before the image needs the process for large ones."""
    data, done = make(), list[int]()

    async def clean(requester: Requester) -> None:
        await image_pool.clean_input(data, "a", requester=requester)
        done.append(requester.server_id)

    crowd = [asyncio.create_task(clean(Requester(1, user_id))) for user_id in range(1, 6)]
    await until(lambda: image_pool._large.pool.running + image_pool._small.pool.running > 0)
    await clean(Requester(2, 100))
    assert done.index(2) <= before
    for task in crowd:  # the others take seconds each
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


@pytest.mark.hostile("G-05")
async def test_a_member_has_one_image_in_work_at_a_time(image_pool: ImagePool) -> None:
    data = samples.encode(samples.noise(1500, 1500), "PNG")
    await image_pool.clean_input(data, "a", requester=Requester(1, 1))
    mine = [asyncio.create_task(image_pool.clean_input(data, "a", requester=Requester(1, 1))) for _ in range(4)]
    most = 0
    while not all(task.done() for task in mine):
        most = max(most, image_pool._small.pool.running)
        await asyncio.sleep(0.005)
    await asyncio.gather(*mine)
    assert most == 1
    assert not image_pool._turns


@pytest.mark.hostile("G-04")
async def test_a_file_whose_process_dies_twice_is_given_up(image_pool: ImagePool) -> None:
    data = samples.encode(samples.noise(2500, 2500), "PNG")
    work = asyncio.create_task(image_pool.shrink_to(data, 10_000))
    killed = set[int]()
    while not work.done():
        for worker in workers():
            with suppress(psutil.NoSuchProcess):
                if worker.cpu_times().user > 0.2:
                    killed.add(worker.pid)
                    os.kill(worker.pid, signal.SIGKILL)
        await asyncio.sleep(0.01)
    with pytest.raises(ImageGivenUp) as caught:
        await work
    assert not caught.value.transient
    assert len(killed) == 2


@LINUX
@pytest.mark.hostile("G-04")
async def test_a_process_that_computes_too_long_is_ended_by_the_kernel() -> None:
    image_pool = ImagePool(max_processes=1, limit_seconds=120)
    try:
        await image_pool.warm()
        (worker,) = workers()
        soft, _ = worker.rlimit(psutil.RLIMIT_CPU)
        assert 0 < soft < 120
        assert worker.rlimit(psutil.RLIMIT_AS)[0] < CONTAINER_BYTES // 2
        assert worker.rlimit(psutil.RLIMIT_FSIZE) == (0, 0)
        assert worker.rlimit(psutil.RLIMIT_CORE) == (0, 0)
        assert worker.rlimit(psutil.RLIMIT_NOFILE)[0] <= 8
    finally:
        await image_pool.close()


PARENT = """
import asyncio, sys
from bot.media.image_pool import ImagePool
from tests.support import image_samples as samples
async def main():
    image_pool = ImagePool(limit_seconds=300)
    await image_pool.warm()
    large = samples.encode(samples.noise(4000, 4000), "PNG")
    print("ready", flush=True)
    await image_pool.shrink_to(large, 1000)
asyncio.run(main())
"""


@LINUX
@pytest.mark.hostile("G-04")
async def test_a_process_in_the_middle_of_computing_ends_when_the_bot_is_killed() -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, cwd=ROOT, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}
    )
    try:
        assert parent.stdout is not None
        assert await parent.stdout.readline() == b"ready\n"
        children = psutil.Process(parent.pid).children
        # Image processes give way to everything else, so on a busy machine this takes long. It computes for 15 s.
        await until(lambda: any(child.cpu_times().user > 1 for child in children()), seconds=200)
        at_work = children()
    finally:
        parent.kill()
        await parent.wait()
    await until(lambda: not any(child.is_running() and child.status() != "zombie" for child in at_work))


CONFINED = """
import ctypes, json, os, socket, subprocess, sys
from bot.runtime.processes import subprocess_child
def attempt(function):
    try:
        function()
    except Exception as error:
        return type(error).__name__
    return "done"
def handle(request, data):
    libc = ctypes.CDLL(None, use_errno=True)
    return {
        "read": attempt(lambda: open("/etc/hostname").read()),
        "list": attempt(lambda: os.listdir("/")),
        "write": attempt(lambda: open("/tmp/confined", "w")),
        "environ of the bot": attempt(lambda: open(f"/proc/{os.getppid()}/environ").read()),
        "internet": attempt(lambda: socket.socket()),
        "udp": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
        "unix": attempt(lambda: socket.socket(socket.AF_UNIX)),
        "fork": attempt(os.fork),
        "exec": attempt(lambda: os.execv("/bin/true", ["true"])),
        "kill": attempt(lambda: os.kill(os.getppid(), 0)),
        "environ": sorted(os.environ),
        "dumpable": libc.prctl(3, 0, 0, 0, 0),
    }, b""
subprocess_child.serve(handle, max_resident_bytes=1 << 30)
"""


@LINUX
@pytest.mark.hostile("G-09")
async def test_a_process_that_was_taken_over_reaches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bot.runtime.processes.subprocess_pool import SubprocessPool

    (tmp_path / "confined_for_test.py").write_text(CONFINED, encoding="ascii")
    monkeypatch.setenv("KREA_API_KEY", "canary")
    pool = SubprocessPool(
        "confined_for_test", max_processes=1, limit_seconds=60, idle_seconds=60, memory_limit_bytes=1 << 30,
        environment={"PYTHONPATH": f"{ROOT}:{tmp_path}"},
    )  # fmt: skip
    try:
        facts, _ = await pool.request({})
    finally:
        await pool.close()
    if facts["unconfined"]:
        pytest.skip(f"this system cannot forbid: {facts['unconfined']}")
    assert {key: value for key, value in facts.items() if value == "done"} == {}
    assert facts["dumpable"] == 0
    assert "KREA_API_KEY" not in facts["environ"]


HIDDEN = """
import ctypes
from bot.runtime.processes.confinement import hide_memory
print(hide_memory(), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@LINUX
@pytest.mark.hostile("G-09")
def test_the_bot_hides_its_own_memory() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            HIDDEN,
        ],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "0"]
