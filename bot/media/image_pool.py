"""Image pool: images are checked and re-encoded in child processes, because their bytes come from strangers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from bot.domain.errors import MediaError, UnusableImage
from bot.media import containers
from bot.media.containers import CONTENT_TYPES, EXTENSIONS, MAX_RESULT_PIXELS
from bot.runtime.subprocess_pool import ChildFailed, ChildTooSlow, PoolClosed, SubprocessPool

T = TypeVar("T")

_MEMORY_LIMIT_BYTES = 3 << 30
"""Address space of one process. 100 megapixels need 400 MB decoded, and encoding them takes a few times that."""


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
    """Checks and re-encodes images off the event loop, in at most `max_processes` processes.

    Each operation may take `limit_seconds`. A process is started when it is first needed (0.2 s; `warm()` does it ahead
    of time) and ends after `idle_seconds` without work, or after a very large image. When a process dies, its image is
    tried once more in a new one.
    """

    def __init__(self, *, max_processes: int = 2, limit_seconds: float = 30, idle_seconds: int = 300) -> None:
        self.max_processes = max_processes
        self._pool = SubprocessPool(
            "bot.media.image_worker",
            max_processes=max_processes,
            limit_seconds=limit_seconds,
            idle_seconds=idle_seconds,
            memory_limit_bytes=_MEMORY_LIMIT_BYTES,
        )
        # Not the loop's default threads, which slow name look-ups may occupy.
        self._inspector = ThreadPoolExecutor(max_workers=1, thread_name_prefix="image inspection")
        self._closed = False

    async def check_result(self, data: bytes) -> CheckedImage:
        """Check that a result is a whole PNG, JPEG or WebP image. Raises MediaError and nothing else.

        Most files show that without being decoded; only the others are decoded.
        """
        checked = await self._inspect(_check_without_decoding, data)
        if checked is not None:
            return checked
        facts, _ = await self._request("check", data)
        if "reason" in facts:
            # A file that ends too early may be complete the next time; any other error is permanent.
            raise MediaError(
                f"not a usable image: {facts['reason']}",
                transient=facts["reason"] == "broken",
                reason=facts["reason"],
            )
        return CheckedImage(facts["content_type"], facts["width"], facts["height"])

    async def shrink_to(self, data: bytes, limit_bytes: int) -> ShrunkImage:
        """Remove the metadata of a checked result and bring it below `limit_bytes`; pixels that fit stay unchanged.

        An image that is too large becomes WebP, then JPEG, then smaller and smaller, which ends within every limit of 1
        kB or more. Raises MediaError when the data is no image.
        """
        if limit_bytes < 1000:
            raise ValueError("no image fits into less than 1 kB")
        stripped = await self._inspect(_strip_without_decoding, data)
        if stripped is not None and len(stripped.data) <= limit_bytes:
            return stripped
        facts, encoded = await self._request("shrink_to", data, limit_bytes=limit_bytes)
        if "reason" in facts:
            raise MediaError(f"cannot be made to fit: {facts['reason']}", transient=False, reason=facts["reason"])
        return ShrunkImage(
            data=encoded, content_type=facts["content_type"], extension=facts["extension"], changed=facts["changed"]
        )

    async def clean_input(self, data: bytes, filename: str) -> CleanImage:
        """Check an attached image and re-encode it without metadata.

        Raises UnusableImage, or MediaError when no process can be started.
        """
        facts, encoded = await self._request("clean", data)
        if "reason" in facts:
            raise UnusableImage(filename=filename, reason=facts["reason"], **facts["limits"])
        return CleanImage(
            data=encoded,
            content_type=facts["content_type"],
            width=facts["width"],
            height=facts["height"],
            sha256=hashlib.sha256(encoded).hexdigest(),
        )

    async def has_location(self, data: bytes) -> bool:
        """Tell whether EXIF or XMP say where the image was taken. False for data that is no readable image."""
        facts, _ = await self._request("has_location", data)
        return bool(facts.get("has_location", False))

    async def warm(self) -> None:
        """Start a process for the image that is about to come."""
        await self.has_location(b"")

    async def close(self) -> None:
        """Kill all processes. Operations that are not finished raise a transient MediaError."""
        self._closed = True
        await self._pool.close()
        await asyncio.to_thread(self._inspector.shutdown)

    async def _inspect(self, function: Callable[[bytes], T], data: bytes) -> T:
        """Run what needs no decoding in a thread, at a small part of the cost of a process."""
        if self._closed:
            raise _closed_error()
        return await asyncio.get_running_loop().run_in_executor(self._inspector, function, data)

    async def _request(self, operation: str, data: bytes, **options: int) -> tuple[dict[str, Any], bytes]:
        head = {"operation": operation, **options}
        try:
            try:
                return await self._pool.request(head, data)
            except ChildFailed:
                return await self._pool.request(head, data, new_process=True)
        except (ChildFailed, ChildTooSlow):
            return {"reason": "broken", "limits": {}}, b""
        except PoolClosed as error:
            raise _closed_error() from error
        except OSError as error:
            raise MediaError(f"no image process: {error}", transient=True, reason="broken") from error


def _closed_error() -> MediaError:
    return MediaError("the image pool is closed", transient=True, reason="broken")


def _check_without_decoding(data: bytes) -> CheckedImage | None:
    """Return the facts of a result that is clearly whole and not too large; None when it must be decoded to tell."""
    size = containers.size_if_whole(data, max_pixels=MAX_RESULT_PIXELS)
    if size is None:
        return None
    return CheckedImage(CONTENT_TYPES[containers.format_of(data) or ""], *size)


def _strip_without_decoding(data: bytes) -> ShrunkImage | None:
    """Return the file without metadata; None when a process must turn it upright or judge it."""
    image_format = containers.format_of(data)
    try:
        if image_format is None or containers.exif_payloads(data):
            return None
        stripped = containers.without_metadata(data)
    except containers.BrokenContainer:
        return None
    return ShrunkImage(
        data=stripped,
        content_type=CONTENT_TYPES[image_format],
        extension=EXTENSIONS[image_format],
        changed=False,
    )
