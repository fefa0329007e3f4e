"""Multipart forms received over HTTP: every field and file of one, read into memory.

aiohttp's `request.post()` keeps files in temporary ones, which stay open when the client dies in the middle of an
upload; tests with the sandbox kill clients at any moment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiohttp import BodyPartReader, web


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One part of a form; a file when it has a file name."""

    name: str
    filename: str | None
    content_type: str
    data: bytes

    @property
    def text(self) -> str:
        return self.data.decode()


async def fields_of(request: web.Request) -> AsyncIterator[Field]:
    """Yield the parts of a multipart form, in order. Refuses other bodies, and any over the application's limit."""
    if not request.content_type.startswith("multipart/"):
        raise web.HTTPUnsupportedMediaType
    left_bytes = request.client_max_size
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            raise web.HTTPBadRequest(text="a form has fields with names, and no forms in it")
        data = bytearray()
        while chunk := await part.read_chunk():
            data += chunk
            if len(data) > left_bytes:
                raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(data))
        left_bytes -= len(data)
        content_type = part.headers.get("Content-Type", "application/octet-stream" if part.filename else "text/plain")
        yield Field(name=part.name, filename=part.filename, content_type=content_type, data=bytes(data))
