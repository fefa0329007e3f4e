"""The provider's OpenAPI document: fetching it, and parsing it within bounds that we set."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn, cast

import aiohttp

from bot.domain.errors import ProviderUnavailable
from bot.domain.json_values import Json
from bot.runtime.web.capped_body import read_capped

_MAX_BYTES = 20 * 1024 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=10, sock_read=30)


async def fetch_openapi(session: aiohttp.ClientSession, base_url: str) -> Json:
    """Fetch `GET /openapi.json`, the provider's description of its models. It needs no key and gets none.

    Raises ProviderUnavailable for anything but a JSON object of at most 20 MiB.
    """
    url = f"{base_url.rstrip('/')}/openapi.json"
    try:
        async with session.get(url, allow_redirects=False, timeout=_TIMEOUT) as response:
            if response.status != 200:
                raise ProviderUnavailable(f"{url} answered {response.status}", status=response.status)
            data = await read_capped(response, max_bytes=_MAX_BYTES)
            if data is None:
                raise ProviderUnavailable(f"{response.url} is larger than {_MAX_BYTES} bytes", status=200)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise ProviderUnavailable(f"{url} could not be read: {type(error).__name__}") from error
    try:
        # In a thread: a large document takes long.
        return await asyncio.to_thread(parse, data)
    except ValueError as error:
        raise ProviderUnavailable(f"{url} {error}", status=200) from error


def parse(data: bytes) -> Json:
    """Parse the document. Raises ValueError, whose text goes on where the address ends."""
    try:
        document: object = json.loads(data, parse_constant=_refuse_constant, object_pairs_hook=_without_repeated_keys)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(str(error) if isinstance(error, _OddJson) else "is not JSON") from None
    if not isinstance(document, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004 - not a wrong argument, but a wrong document
    return cast("Json", document)


class _OddJson(ValueError):
    """Text that parsers accept and that says nothing reliable."""


def _refuse_constant(name: str) -> NoReturn:
    raise _OddJson(f"has {name} in it, which is not a number")


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _OddJson("says one thing twice: a key is repeated in one object")
    return found
