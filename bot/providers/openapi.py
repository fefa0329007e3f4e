"""The provider's public description of its models: `GET /openapi.json`, which needs no key and gets none."""

from __future__ import annotations

import json
from typing import Any, cast

import aiohttp

from bot.domain.errors import ProviderUnavailable

_MAX_BYTES = 20 * 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=30)


async def fetch_openapi(session: aiohttp.ClientSession, base_url: str) -> dict[str, Any]:
    """The description as it is served now. Raises ProviderUnavailable for anything but a JSON object of sane size."""
    url = f"{base_url.rstrip('/')}/openapi.json"
    try:
        async with session.get(url, allow_redirects=False, timeout=_TIMEOUT) as response:
            if response.status != 200:
                raise ProviderUnavailable(f"{url} answered {response.status}", status=response.status)
            data = await _read(response)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ProviderUnavailable(f"{url} could not be read: {type(error).__name__}") from error
    try:
        document: object = json.loads(data)
    except ValueError as error:
        raise ProviderUnavailable(f"{url} is not JSON", status=200) from error
    if not isinstance(document, dict):
        raise ProviderUnavailable(f"{url} is not a JSON object", status=200)
    return cast("dict[str, Any]", document)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body with a cap on what it unpacks to: the length in the header may be missing, or that of a gzip bomb."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(64 * 1024):
        data += chunk
        if len(data) > _MAX_BYTES:
            raise ProviderUnavailable(f"{response.url} is larger than {_MAX_BYTES} bytes", status=200)
    return bytes(data)
