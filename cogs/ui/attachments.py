"""Files: those we send, and the files of a posted message, wherever Discord lists them.

A file that a component shows is left out of the message's attachments on purpose (discord-api-docs, issue 8277); the
component itself then names the file and its address.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import discord
from aiohttp import Payload, payload_type
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Order

SENT_AT_A_TIME_BYTES = 256 * 1024
"""Then others have their turn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedFile:
    """A file as Discord keeps it, under an address that is good for a day. `size` is 0 where Discord does not say."""

    id: int
    filename: str
    url: str
    size: int
    is_image: bool


class _Stream(io.BytesIO):
    """A stream that nobody closes, and that still knows the bytes it was made of.

    discord.File swaps the `close` of its stream for a stub and back, which leaves a plain BytesIO tied to itself: a
    picture of megabytes would stay in memory until the garbage collector happens to come by.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data

    @property
    def close(self) -> Callable[[], None]:
        return _nothing

    @close.setter
    def close(self, _: Callable[[], None]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


def _nothing() -> None:
    pass


@payload_type(_Stream, order=Order.try_first)
class _Upload(Payload):
    """How such a stream is sent: as it lies in memory.

    aiohttp's own way copies all of it to learn its length, and then again piece by piece, 64 KiB to a turn of the loop.
    """

    _value: _Stream
    _autoclose = True  # there is nothing to close

    @property
    def size(self) -> int:
        """In bytes."""
        return len(self._value.data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text; asked for by nobody who sends pictures."""
        return self._value.data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """From the start, as often as it is asked for."""
        data = memoryview(self._value.data)
        for start in range(0, len(data), SENT_AT_A_TIME_BYTES):
            if start:
                await asyncio.sleep(0)
            await writer.write(data[start : start + SENT_AT_A_TIME_BYTES])


def upload(data: bytes, filename: str, description: str | None = None) -> discord.File:
    """A file to send."""
    return discord.File(_Stream(data), filename=filename, description=description)


def files_of(message: discord.Message) -> list[PostedFile]:
    """Attached files first, then those that only components show; each once."""
    found = {
        attachment.id: PostedFile(
            id=attachment.id,
            filename=attachment.filename,
            url=attachment.url,
            size=attachment.size,
            is_image=(attachment.content_type or "").startswith("image/") or attachment.width is not None,
        )
        for attachment in message.attachments
    }
    for component in message.components:
        for media in _media_in(component):
            if media.attachment_id is not None:
                found.setdefault(
                    media.attachment_id,
                    PostedFile(
                        id=media.attachment_id,
                        filename=_filename(media.url),
                        url=media.url,
                        size=0,
                        is_image=(media.content_type or "image/").startswith("image/"),
                    ),
                )
    return list(found.values())


def images_of(message: discord.Message) -> list[PostedFile]:
    """Files of a message that look like pictures."""
    return [file for file in files_of(message) if file.is_image]


def ids_of(message: dict[str, Any]) -> dict[str, int]:
    """Ids of the files of a message by file name, from the message's JSON."""
    ids = {str(file["filename"]): int(file["id"]) for file in message.get("attachments", ())}
    for media in _media_of(message.get("components", ())):
        ids[_filename(str(media["url"]))] = int(media["attachment_id"])
    return ids


def _media_in(component: discord.components.Component) -> Iterator[discord.UnfurledMediaItem]:
    match component:
        case discord.Container():
            for child in component.children:
                yield from _media_in(child)
        case discord.SectionComponent():
            yield from _media_in(component.accessory)
        case discord.MediaGalleryComponent():
            yield from (item.media for item in component.items)
        case discord.ThumbnailComponent():
            yield component.media
        case _:
            return


def _media_of(part: object) -> Iterator[dict[str, Any]]:
    """Every uploaded file that this part of a message's JSON shows."""
    if isinstance(part, list | tuple):
        for item in cast("list[object]", part):
            yield from _media_of(item)
    elif isinstance(part, dict):
        fields = cast("dict[str, object]", part)
        if fields.get("attachment_id") and fields.get("url"):
            yield fields
        for value in fields.values():
            yield from _media_of(value)


def _filename(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name
