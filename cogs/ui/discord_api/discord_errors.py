"""Discord's errors: the answers that are final, as a closed list, and one type for those that cannot be read.

Whatever is not listed here may pass (a page of the edge, a status without a code, an exception of the library), so it
is tried again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import aiohttp
import discord

_P = ParamSpec("_P")
_T = TypeVar("_T")

ALREADY_ACKNOWLEDGED = 40060
AUTOMOD_BLOCKED = 200000
_FILE_TOO_LARGE = 40005
_PASSING_CODES = frozenset(
    {
        0,  # no code: a page of the edge, which never saw the contents
        30046,  # too many edits of an old message, for now
        ALREADY_ACKNOWLEDGED,
    }
)
"""Codes of a 400 that say nothing about the contents of a message."""

FINAL_CODES = frozenset(
    {
        10003,  # unknown channel
        10004,  # unknown server
        10008,  # unknown message
        10013,  # unknown user
        10015,  # unknown webhook: the interaction token is dead
        10062,  # unknown interaction
        50001,  # missing access
        50005,  # another author's message
        50007,  # this user takes no direct messages
        50013,  # missing permissions
        50027,  # invalid webhook token
        50083,  # archived thread
        50278,  # no server in common with this user
        160005,  # locked thread
    }
)
"""Codes after which the same message can never be shown in the same place (Discord: opcodes and status codes)."""


class UnreadableAnswer(aiohttp.ClientError):
    """Discord's answer was none that the library or we can read: a page instead of JSON, a 429 without its numbers."""


def is_final(error: BaseException) -> bool:
    """Return whether Discord can never do what it refused with this error."""
    return isinstance(error, discord.HTTPException) and error.code in FINAL_CODES


def is_malformed(error: BaseException) -> bool:
    """Return whether Discord refused the contents of a message; other contents may be taken."""
    if not isinstance(error, discord.HTTPException) or is_final(error):
        return False
    return error.status == 413 or (error.status == 400 and error.code not in _PASSING_CODES)


def may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later."""
    is_of_discord = isinstance(error, discord.HTTPException | aiohttp.ClientError | OSError)
    return is_of_discord and not is_final(error) and not is_malformed(error)


def is_too_large(error: discord.HTTPException) -> bool:
    """Return whether Discord refused the size of the files."""
    return error.code == _FILE_TOO_LARGE or error.status == 413


def is_ordinary(error: Exception) -> bool:
    """Return whether the error is one of those that every service has: busy, failing or not reachable."""
    if isinstance(error, discord.HTTPException):
        return error.status >= 500 or error.status == 429
    return isinstance(error, aiohttp.ClientError | OSError) and not isinstance(error, UnreadableAnswer)


def with_readable_errors(
    call: Callable[_P, Coroutine[Any, Any, _T]],
) -> Callable[_P, Coroutine[Any, Any, _T]]:
    """Decorate a request to Discord: whatever it raises is a discord.HTTPException, aiohttp.ClientError or OSError."""

    @wraps(call)
    async def translated(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return await call(*args, **kwargs)
        except (discord.HTTPException, aiohttp.ClientError, OSError):
            raise
        except Exception as error:
            raise UnreadableAnswer(f"{type(error).__name__}: {error}") from error

    return translated
