"""The image workshop: pictures are judged and re-encoded in processes of their own, a few at a time.

Why processes and not threads: what a stranger sent is decoded here. A process has a memory limit, can be ended when it
takes too long, gives every byte back when it goes, takes no secret into a broken decoder, and runs at a lower priority
than the commands it must not hold up.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bot.domain.errors import MediaError, UnusableImage
from bot.media import containers
from bot.media.formats import CONTENT_TYPES, EXTENSIONS, MAX_RESULT_PIXELS

T = TypeVar("T")

_HOME = Path(__file__).resolve().parents[2]
_MEMORY_LIMIT_BYTES = 3 << 30
"""Address space of one worker. 100 megapixels need 400 MB decoded, and to encode them anew takes a few times that."""


class CheckedImage(NamedTuple):
    """What a result turned out to be, by its content."""

    content_type: str
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShrunkImage:
    """A result ready to be posted: without metadata, within the limit. `changed`: its pixels are not the original."""

    data: bytes
    content_type: str
    extension: str
    changed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class CleanImage:
    """An input picture made anew from its pixels: upright, sRGB, nothing else in it."""

    data: bytes
    content_type: str
    width: int
    height: int
    sha256: str


class ImagePool:
    """Looks into pictures off the event loop: at most `workers` at a time, each for at most `limit_seconds`.

    A worker process is started when it is first needed (0.2 s; `warm()` does it ahead of time) and ends after
    `idle_seconds` without work, or after a very large picture. One that dies is replaced, and its picture tried once
    more.
    """

    def __init__(self, *, workers: int = 2, limit_seconds: float = 30, idle_seconds: int = 300) -> None:
        self.workers = workers
        self._limit_seconds = limit_seconds
        self._idle_seconds = idle_seconds
        # The threads only wait for their process: decoding never takes the interpreter from the event loop.
        self._threads = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="images")
        # Of its own, so that a glance never waits behind a picture that is made anew.
        self._glances = ThreadPoolExecutor(max_workers=1, thread_name_prefix="glances")
        self._free: deque[_Worker] = deque()
        self._alive: set[_Worker] = set()
        self._lock = threading.Lock()
        self._closed = False

    async def check_result(self, data: bytes) -> CheckedImage:
        """Prove that a result is a whole PNG, JPEG or WebP picture. Raises MediaError and nothing else.

        Most files show that themselves; only what is in doubt is decoded.
        """
        plain = await self._inspect(_checked, data)
        if plain is not None:
            return plain
        facts, _ = await self._ask("check", data)
        if "reason" in facts:
            # A file that ends too early may be complete the next time; anything else will be what it is.
            raise MediaError(
                f"not a usable picture: {facts['reason']}",
                transient=facts["reason"] == "broken",
                reason=facts["reason"],
            )
        return CheckedImage(facts["content_type"], facts["width"], facts["height"])

    async def shrink_to(self, data: bytes, limit_bytes: int) -> ShrunkImage:
        """A checked result without metadata in at most `limit_bytes`; its pixels are untouched when they fit.

        Else WebP, then JPEG, then ever fewer pixels: there is a picture for every limit from 1 kB on. Raises MediaError
        for what is no picture after all.
        """
        if limit_bytes < 1000:
            raise ValueError("no picture fits into less than 1 kB")
        plain = await self._inspect(_fitted, data)
        if plain is not None and len(plain.data) <= limit_bytes:
            return plain
        facts, made = await self._ask("fit", data, limit_bytes=limit_bytes)
        if "reason" in facts:
            raise MediaError(f"cannot be made to fit: {facts['reason']}", transient=False, reason=facts["reason"])
        return ShrunkImage(
            data=made, content_type=facts["content_type"], extension=facts["extension"], changed=facts["changed"]
        )

    async def clean_input(self, data: bytes, filename: str) -> CleanImage:
        """An attached picture, checked and made anew without metadata. Raises UnusableImage, or MediaError when no
        worker can be had."""
        facts, made = await self._ask("clean", data)
        if "reason" in facts:
            raise UnusableImage(filename=filename, reason=facts["reason"], **facts["limits"])
        return CleanImage(
            data=made,
            content_type=facts["content_type"],
            width=facts["width"],
            height=facts["height"],
            sha256=hashlib.sha256(made).hexdigest(),
        )

    async def has_location(self, data: bytes) -> bool:
        """True when the picture says where it was taken (EXIF or XMP). False for what is no readable picture."""
        facts, _ = await self._ask("has_location", data)
        return bool(facts.get("has_location", False))

    async def warm(self) -> None:
        """Have a worker ready for the picture that is about to come."""
        await self.has_location(b"")

    async def close(self) -> None:
        """End all workers at once. Whoever still waits for one is told with a MediaError that another try may help."""
        self._closed = True
        with self._lock:
            for worker in self._alive:
                worker.kill()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._glances.shutdown)
        while self._free:
            self._retire(self._free.pop())

    async def _inspect(self, look: Callable[[bytes], T], data: bytes) -> T:
        """What can be told, or done, without decoding a pixel: next to nothing beside what a worker costs."""
        if self._closed:
            raise MediaError("the image workshop is closed", transient=True, reason="broken")
        return await asyncio.get_running_loop().run_in_executor(self._glances, look, data)

    async def _ask(self, work: str, data: bytes, **more: int) -> tuple[dict[str, Any], bytes]:
        if self._closed:
            raise MediaError("the image workshop is closed", transient=True, reason="broken")
        order = json.dumps({"work": work, **more, "size": len(data)}).encode() + b"\n"
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: self._serve(order, data))

    # -- in the threads -----------------------------------------------------------------------------------

    def _serve(self, order: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
        tries = 0
        while True:
            tries += 1
            worker = self._worker(fresh=tries > 1)
            try:
                answer = worker.do(order, data, limit_seconds=self._limit_seconds)
            except _TooSlow:
                self._retire(worker)
                return {"reason": "broken", "limits": {}}, b""
            except (OSError, ValueError, EOFError) as error:
                self._retire(worker)
                if self._closed:
                    raise MediaError("the image workshop is closed", transient=True, reason="broken") from error
                if tries == 2:
                    return {"reason": "broken", "limits": {}}, b""
            else:
                if answer[0]["last"]:
                    self._retire(worker)
                else:
                    self._free.append(worker)
                return answer

    def _worker(self, *, fresh: bool) -> _Worker:
        while self._free and not fresh:
            with suppress(IndexError):
                worker = self._free.pop()
                if worker.is_alive():
                    return worker
                self._retire(worker)
        with self._lock:
            if self._closed:
                raise MediaError("the image workshop is closed", transient=True, reason="broken")
            try:
                worker = _Worker(idle_seconds=self._idle_seconds)
            except OSError as error:
                raise MediaError(f"no image worker: {error}", transient=True, reason="broken") from error
            self._alive.add(worker)
            return worker

    def _retire(self, worker: _Worker) -> None:
        with self._lock:
            self._alive.discard(worker)
        worker.close()


def _checked(data: bytes) -> CheckedImage | None:
    """A result that is plainly whole and not too large; None where a worker has to judge."""
    size = containers.whole_size(data, most_pixels=MAX_RESULT_PIXELS)
    if size is None:
        return None
    return CheckedImage(CONTENT_TYPES[containers.format_of(data) or ""], *size)


def _fitted(data: bytes) -> ShrunkImage | None:
    """The same file without metadata, not judged again; None where a worker has to turn it upright."""
    image_format = containers.format_of(data)
    try:
        if image_format is None or containers.exif_payloads(data):
            return None
        plain = containers.without_metadata(data)
    except containers.BrokenContainer:
        return None
    return ShrunkImage(
        data=plain,
        content_type=CONTENT_TYPES[image_format],
        extension=EXTENSIONS[image_format],
        changed=False,
    )


class _TooSlow(Exception):
    """The time limit passed."""


class _Worker:
    """One worker process, and the words spoken with it (see image_worker.py). Used by one thread at a time."""

    def __init__(self, *, idle_seconds: int) -> None:
        words = ("-W", "ignore", "-m", "bot.media.image_worker", str(idle_seconds), str(_MEMORY_LIMIT_BYTES))
        self._process = subprocess.Popen(  # noqa: S603 -- our own program
            (sys.executable, *words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Nothing of our own environment: it holds the keys.
            env={"PYTHONPATH": str(_HOME), "PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"},
            start_new_session=True,  # Ctrl-C is for the bot, which then ends its workers itself
        )

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def do(self, order: bytes, data: bytes, *, limit_seconds: float) -> tuple[dict[str, Any], bytes]:
        """Facts and picture. Raises _TooSlow after the time limit, OSError, ValueError or EOFError when it has died."""
        overtime = threading.Event()

        def give_up() -> None:
            overtime.set()
            self.kill()

        timer = threading.Timer(limit_seconds, give_up)
        timer.start()
        try:
            return self._exchange(order, data)
        except (OSError, ValueError, EOFError):
            if overtime.is_set():
                raise _TooSlow from None
            raise
        finally:
            timer.cancel()

    def _exchange(self, order: bytes, data: bytes) -> tuple[dict[str, Any], bytes]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise EOFError
        stdin.write(order)
        stdin.write(data)
        stdin.flush()
        facts: dict[str, Any] = json.loads(stdout.readline())
        made = stdout.read(facts["size"])
        if len(made) < facts["size"]:
            raise EOFError
        return facts, made

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what was not yet written goes nowhere
                if pipe is not None:
                    pipe.close()
        self._process.wait()
