"""Attachments: the files that the bot sends, and the files of a posted message.

Discord leaves a file that a component shows out of the message's attachments (discord-api-docs, issue 8277); the
component then contains the id and URL of the file.
"""

from __future__ import annotations

import asyncio
import io
import mimetypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import unquote, urlsplit

import discord
from aiohttp import Payload, payload_type
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Order

EMBED_HOSTS = ("images-ext-1.discordapp.net", "images-ext-2.discordapp.net")
"""Discord's own servers that hold copies of the images in link previews."""

_IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff"}
)

CHUNK_BYTES = 256 * 1024
"""Bytes written before other tasks may run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedFile:
    """A file at Discord, under a URL that is valid for a day. `size` in bytes, 0 if Discord does not say.

    `alt_text` is what describes it to those who do not see it; '' if nothing does.
    """

    id: int
    filename: str
    url: str
    size: int
    is_image: bool
    alt_text: str = ""


class _Stream(io.BytesIO):
    """A stream that ignores `close` and keeps the bytes it was made of.

    discord.File replaces the `close` of its stream and later restores it, which leaves a plain BytesIO in a reference
    cycle: megabytes of an image would stay in memory until the garbage collector runs.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data

    @property
    def close(self) -> Callable[[], None]:
        return _do_nothing

    @close.setter
    def close(self, _: Callable[[], None]) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


def _do_nothing() -> None:
    pass


@payload_type(_Stream, order=Order.try_first)
class _Upload(Payload):
    """Sends a `_Stream` without copying it.

    aiohttp's own payload copies the whole stream to learn its length, and again in chunks of 64 KiB to send it.
    """

    _value: _Stream
    _autoclose = True  # there is nothing to close

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self._value.data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Decode the data as text; only here because aiohttp's base class requires it."""
        return self._value.data.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write all data; a second call starts at the beginning again."""
        data = memoryview(self._value.data)
        for start in range(0, len(data), CHUNK_BYTES):
            if start:
                await asyncio.sleep(0)
            await writer.write(data[start : start + CHUNK_BYTES])


def upload(data: bytes, filename: str, description: str | None = None) -> discord.File:
    """Return a file to send."""
    return discord.File(_Stream(data), filename=filename, description=description)


def files_of(message: discord.Message | discord.MessageSnapshot) -> list[PostedFile]:
    """List the files of a message: attached ones first, then those that only components show, each once."""
    found = {
        attachment.id: PostedFile(
            id=attachment.id,
            filename=attachment.filename,
            url=attachment.url,
            size=attachment.size,
            is_image=_is_image(attachment.filename, attachment.content_type, has_size=attachment.width is not None),
            alt_text=attachment.description or "",
        )
        for attachment in message.attachments
    }
    for component in message.components:
        for media, alt_text in _media_in(component):
            if media.attachment_id is not None:
                filename = _filename(media.url)
                found.setdefault(
                    media.attachment_id,
                    PostedFile(
                        id=media.attachment_id,
                        filename=filename,
                        url=media.url,
                        size=0,
                        is_image=_is_image(filename, media.content_type, has_size=True),
                        alt_text=alt_text or "",
                    ),
                )
    return list(found.values())


def images_of(message: discord.Message) -> list[PostedFile]:
    """List the images that people see in a message: its files, those of a forwarded message, those of link previews."""
    found: dict[int, PostedFile] = {}
    for part in (message, *message.message_snapshots):
        found |= {file.id: file for file in files_of(part) if file.is_image}
    embeds = [embed for part in (message, *message.message_snapshots) for embed in part.embeds]
    for number, embed in enumerate(embeds, start=1):
        if (image := _image_of(embed, number=-number)) is not None:
            found[image.id] = image
    return list(found.values())


def _image_of(embed: discord.Embed, *, number: int) -> PostedFile | None:
    """Return the image of an embed; None for a video and for text alone. It has no id at Discord but `number`."""
    media = embed.image if embed.image.url else embed.thumbnail
    url = media.proxy_url or media.url
    if url is None or embed.video.url or embed.type in ("video", "gifv"):
        return None
    filename = _filename(media.url or url) or "image"
    return PostedFile(id=number, filename=filename, url=url, size=0, is_image=True)


def _is_image(filename: str, content_type: str | None, *, has_size: bool) -> bool:
    """Return whether a file is an image. Discord may leave out the type, and gives videos a width and a height too."""
    suffix = PurePosixPath(filename.lower()).suffix
    if content_type and not content_type.startswith("application/octet-stream"):
        return content_type.startswith("image/")
    if suffix in _IMAGE_SUFFIXES:
        return True
    return has_size and not (mimetypes.guess_type(filename)[0] or "").startswith("video/")


def ids_of(message: dict[str, Any]) -> dict[str, int]:
    """Map filenames to attachment ids, from a message's JSON."""
    ids = {str(file["filename"]): int(file["id"]) for file in message.get("attachments", ())}
    for media in _media_of(message.get("components", ())):
        ids[_filename(str(media["url"]))] = int(media["attachment_id"])
    return ids


def urls_of(message: dict[str, Any]) -> dict[str, str]:
    """Map filenames to the addresses at which Discord serves the files, from a message's JSON."""
    urls = {str(file["filename"]): str(file["url"]) for file in message.get("attachments", ())}
    for media in _media_of(message.get("components", ())):
        urls[_filename(str(media["url"]))] = str(media["url"])
    return urls


def _media_in(component: discord.components.Component) -> Iterator[tuple[discord.UnfurledMediaItem, str | None]]:
    """Yield every file that a component shows, with its alt text."""
    match component:
        case discord.Container():
            for child in component.children:
                yield from _media_in(child)
        case discord.SectionComponent():
            yield from _media_in(component.accessory)
        case discord.MediaGalleryComponent():
            yield from ((item.media, item.description) for item in component.items)
        case discord.ThumbnailComponent():
            yield component.media, component.description
        case _:
            return


def _media_of(part: object) -> Iterator[dict[str, Any]]:
    """Yield every uploaded file that this part of a message's JSON shows."""
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
