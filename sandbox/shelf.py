"""Shelf: the simulated provider's images: what was uploaded, what orders refer to, what was drawn."""

from __future__ import annotations

import asyncio
import io
import uuid
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from PIL import Image

from sandbox.drawing import draw, encode, preview
from sandbox.remote_job import RemoteJob

_DRAWN_KEPT = 64
_FETCH_MAX_BYTES = 30_000_000
_EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


class UnusableResult(Exception):
    """The provider cannot use this image; `str()` is its message."""


class Shelf:
    """Keeps uploads, fetches inputs, draws results when they are requested."""

    def __init__(self) -> None:
        self._uploads: dict[str, tuple[bytes, str]] = {}
        self._drawn: OrderedDict[str, bytes] = OrderedDict()
        self._drawing = asyncio.Semaphore(2)
        self._base = ""
        self._session: aiohttp.ClientSession | None = None

    def open(self, base: str, session: aiohttp.ClientSession) -> None:
        """Set the address at which the shelf is served and the session that reaches other hosts."""
        self._base = base
        self._session = session

    async def keep(self, data: bytes, content_type: str) -> dict[str, Any]:
        """Store an upload; return the asset as the provider describes it."""
        width, height = await asyncio.to_thread(_check, data, "Unsupported or broken file")
        name = f"{uuid.uuid4()}.{_EXTENSIONS.get(content_type, 'bin')}"
        self._uploads[name] = (data, content_type)
        return {
            "id": name.partition(".")[0],
            "image_url": f"{self._base}/uploads/{name}",
            "uploaded_at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "width": width,
            "height": height,
            "size_bytes": len(data),
            "mime_type": content_type,
            "description": None,
            "metadata": {},
        }

    def uploaded(self, name: str) -> tuple[bytes, str] | None:
        return self._uploads.get(name)

    async def fetch(self, url: str) -> bytes:
        """Return the image that an order refers to: an upload, or a file on another host."""
        found = self._uploads.get(urlsplit(url).path.rpartition("/")[2]) if url.startswith(self._base) else None
        data = found[0] if found else await self._from_elsewhere(url)
        await asyncio.to_thread(_check, data, "Input file rejected")
        return data

    async def _from_elsewhere(self, url: str) -> bytes:
        if self._session is None:
            raise UnusableResult("Invalid asset URL")
        try:
            async with self._session.get(url) as response:
                if response.status != 200:
                    raise UnusableResult(f"Input file rejected: upstream {response.status}")
                data = await response.content.read(_FETCH_MAX_BYTES)
                while len(data) < _FETCH_MAX_BYTES and (piece := await response.content.read(_FETCH_MAX_BYTES)):
                    data += piece
                return data
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise UnusableResult("Invalid asset URL") from error

    async def picture_of(self, job: RemoteJob, *, preview: bool) -> bytes:
        """Return the drawn image, or its unfinished state. Drawn off the event loop, two at a time."""
        name = f"{'preview-' if preview else ''}{job.id}"
        async with self._drawing:
            if name not in self._drawn:
                self._drawn[name] = await asyncio.to_thread(_drawn, job, preview)
                if len(self._drawn) > _DRAWN_KEPT:
                    self._drawn.popitem(last=False)
            self._drawn.move_to_end(name)
            return self._drawn[name]


def _drawn(job: RemoteJob, unfinished: bool) -> bytes:
    sketch = job.sketch()
    return preview(sketch) if unfinished else encode(draw(sketch), job.image_format)


def _check(data: bytes, error_body: str) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as opened:
            opened.load()
            return opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnusableResult(error_body) from error
