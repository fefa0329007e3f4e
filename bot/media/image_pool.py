"""Image pool: images are checked and re-encoded in child processes, because their bytes come from strangers."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from bot.domain.errors import MediaError, UnusableImage
from bot.domain.requester import NOBODY, Requester
from bot.media.file_types import CONTENT_TYPES, EXTENSIONS, format_of
from bot.runtime.fair_slots import FairSlots
from bot.runtime.processes.subprocess_pool import ChildFailed, ChildTooSlow, PoolClosed, SubprocessPool

_BASE_MEMORY_BYTES = 80 << 20
"""Address space of a process before its first image: the interpreter and the decoders. A third of it is in memory."""
_CHECK_MEMORY_BYTES, _SMALL_MEMORY_BYTES, _LARGE_MEMORY_BYTES = 64 << 20, 144 << 20, 432 << 20
"""What a process may take for an image. One for checks, two for small images and one for large ones take 0.8 GiB
together with their libraries, which leaves the bot 0.2 GiB of the 1 GiB in the deployment files."""
_DECODED_SHARE = 0.9
"""The share of its memory that the worker fills by plan; the rest is for what cannot be foreseen."""
_MAX_CHECKED_BYTES = 30 << 20
"""Larger files are checked by the process for large images."""
_MAX_SMALL_BYTES = 16 << 20
"""Larger files are sent to the process for large images at once."""


class CheckedImage(NamedTuple):
    """Type and size of a result, read from its content."""

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
    """An input image re-encoded from its pixels: upright, sRGB, without metadata."""

    data: bytes
    content_type: str
    width: int
    height: int
    sha256: str


class ImagePool:
    """Checks and re-encodes images in child processes: one for checks, `max_processes` for small images, one for large.

    So the check of a finished image waits for no attachment, and a small image for no large one. Servers take turns,
    and in each of them its members; where there are several processes, one server leaves one to the others. A member
    has one attached image in work at a time, whatever number they send. Each operation may take `limit_seconds`
    (`small_limit_seconds` for a small image). A process is started when it is first needed (0.2 s; `warm()` does it
    ahead of time) and ends after `idle_seconds` without work, or after a very large image. When a process dies, its
    image is tried once more in a new one; a second death, or too long a time, is the end of that image.
    """

    def __init__(
        self,
        *,
        max_processes: int = 2,
        limit_seconds: float = 30,
        small_limit_seconds: float | None = None,
        idle_seconds: int = 300,
    ) -> None:
        self.max_processes = max_processes
        small_limit_seconds = min(limit_seconds, 10.0) if small_limit_seconds is None else small_limit_seconds
        self._checks = _Lane(1, small_limit_seconds, idle_seconds, _CHECK_MEMORY_BYTES)
        self._small = _Lane(max_processes, small_limit_seconds, idle_seconds, _SMALL_MEMORY_BYTES)
        self._large = _Lane(1, limit_seconds, idle_seconds, _LARGE_MEMORY_BYTES)
        self._turns: dict[int, asyncio.Lock] = {}
        self._waiting: Counter[int] = Counter()

    async def check_result(self, data: bytes, *, requester: Requester = NOBODY) -> CheckedImage:
        """Check that a result is a whole image of a known format. Raises MediaError and nothing else.

        A PNG, JPEG or WebP shows that without being decoded; the others are decoded. An image that killed or outlasted
        its process raises ImageGivenUp.
        """
        lane = self._checks if len(data) <= _MAX_CHECKED_BYTES else self._large
        facts, _ = await self._request("check", data, lane, requester)
        if "reason" in facts:
            # A file that ends too early may be complete the next time; any other error is permanent.
            raise MediaError(
                f"not a usable image: {facts['reason']}",
                transient=facts["reason"] == "broken",
                reason=facts["reason"],
            )
        return CheckedImage(facts["content_type"], facts["width"], facts["height"])

    async def shrink_to(
        self, data: bytes, limit_bytes: int, *, is_result: bool = True, requester: Requester = NOBODY
    ) -> ShrunkImage:
        """Return a checked image that Discord shows and that has at most `limit_bytes`: itself, if it is one.

        Any other is re-encoded: WebP, then JPEG, then smaller and smaller, which ends within every limit of 1 kB or
        more. Unless it is a member's own image and no result, it then carries the mark of IPTC for images that a
        machine made. Raises MediaError when the data is no image.
        """
        if limit_bytes < 1000:
            raise ValueError("no image fits into less than 1 kB")
        image_format = format_of(data)
        if image_format in EXTENSIONS and len(data) <= limit_bytes:
            return ShrunkImage(
                data=data,
                content_type=CONTENT_TYPES[image_format],
                extension=EXTENSIONS[image_format],
                changed=False,
            )
        facts, encoded = await self._request(
            "fit", data, self._small, requester, limit_bytes=limit_bytes, is_result=is_result
        )
        if "reason" in facts:
            raise MediaError(f"cannot be made to fit: {facts['reason']}", transient=False, reason=facts["reason"])
        return ShrunkImage(data=encoded, content_type=facts["content_type"], extension=facts["extension"], changed=True)

    async def clean_input(self, data: bytes, filename: str, *, requester: Requester = NOBODY) -> CleanImage:
        """Check an image that a member attached and re-encode it without metadata, as PNG, JPEG or WebP.

        Raises UnusableImage, or MediaError when no process can be started.
        """
        async with self._turn_of(requester.user_id):
            try:
                facts, encoded = await self._request("clean", data, self._small, requester)
            except ImageGivenUp as error:
                raise UnusableImage(filename=filename, reason="broken") from error
        if "reason" in facts:
            raise UnusableImage(filename=filename, reason=facts["reason"], **facts["limits"])
        return CleanImage(
            data=encoded,
            content_type=facts["content_type"],
            width=facts["width"],
            height=facts["height"],
            sha256=await asyncio.to_thread(lambda: hashlib.sha256(encoded).hexdigest()),
        )

    async def warm(self) -> None:
        """Start a process for the image that is about to come."""
        await self._request("nothing", b"", self._small, NOBODY)

    async def unconfined(self) -> list[str]:
        """Start the process for checks, and return what the system could not forbid to it."""
        facts, _ = await self._request("nothing", b"", self._checks, NOBODY)
        return facts["unconfined"]

    async def close(self) -> None:
        """Kill all processes. Operations that are not finished raise a transient MediaError."""
        await asyncio.gather(*(lane.pool.close() for lane in (self._checks, self._small, self._large)))

    @asynccontextmanager
    async def _turn_of(self, member_id: int) -> AsyncGenerator[None]:
        """Wait until no other image of the member is in work; member 0 is nobody in particular."""
        if not member_id:
            yield
            return
        turn = self._turns.setdefault(member_id, asyncio.Lock())
        self._waiting[member_id] += 1
        try:
            async with turn:
                yield
        finally:
            self._waiting[member_id] -= 1
            if not self._waiting[member_id]:
                del self._waiting[member_id], self._turns[member_id]

    async def _request(
        self, operation: str, data: bytes, lane: _Lane, requester: Requester, **options: int
    ) -> tuple[dict[str, Any], bytes]:
        """Send a request to a lane, and to the one for large images when it is too large for that lane."""
        if lane is self._small and len(data) > _MAX_SMALL_BYTES:
            lane = self._large
        head = {"operation": operation, **options}
        try:
            facts, body = await lane.request(head, data, requester)
            if "needs_more_memory" in facts and lane is not self._large:
                facts, body = await self._large.request(head, data, requester)
        except ChildTooSlow as error:
            raise ImageGivenUp(f"given up: {error}") from error
        except ChildFailed as error:
            raise ImageGivenUp(f"given up: its process died twice ({error})") from error
        except PoolClosed as error:
            raise MediaError("the image pool is closed", transient=True, reason="broken") from error
        except OSError as error:
            raise MediaError(f"no image process: {error}", transient=True, reason="broken") from error
        if "needs_more_memory" in facts:
            facts = {"reason": "too_many_pixels", "limits": {"limit_pixels": facts["limit_pixels"]}}
        return facts, body


class ImageGivenUp(MediaError):
    """The image killed its process twice, or took too long: it is not tried again."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, transient=False, reason="broken")


class _Lane:
    """Processes of one size, for which servers take turns."""

    def __init__(self, processes: int, limit_seconds: float, idle_seconds: int, memory_bytes: int) -> None:
        self._memory_bytes = memory_bytes
        self._slots = FairSlots(processes, per_server=max(1, processes - 1))
        self.pool = SubprocessPool(
            "bot.media.image_worker",
            max_processes=processes,
            limit_seconds=limit_seconds,
            idle_seconds=idle_seconds,
            memory_limit_bytes=_BASE_MEMORY_BYTES + memory_bytes,
        )

    async def request(self, head: dict[str, Any], data: bytes, requester: Requester) -> tuple[dict[str, Any], bytes]:
        head = {**head, "memory_bytes": int(self._memory_bytes * _DECODED_SHARE)}
        async with self._slots.slot(requester):
            try:
                return await self.pool.request(head, data)
            except ChildFailed:
                return await self.pool.request(head, data, new_process=True)
