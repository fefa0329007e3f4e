"""Bodies of responses, read up to a size: a length header may be missing, or be that of a gzip bomb."""

from __future__ import annotations

import aiohttp


async def read_capped(response: aiohttp.ClientResponse, *, max_bytes: int) -> bytes | None:
    """Return the decoded body, or None when it is larger. Raises what aiohttp raises when it is cut short."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > max_bytes:
            response.close()
            return None
    return bytes(data)
