"""Containers: finds and removes the metadata of PNG, JPEG and WebP files without decoding a pixel."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

CONTENT_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
MAX_RESULT_PIXELS = 100_000_000

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_PNG_HEADER = struct.Struct(">IIBBBBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values per pixel by colour type: grey, colour, palette, and the first two with transparency."""
_DEFLATE_MAX_RATIO = 1032
"""The ratio for zeros, which is the maximum (zlib: technical details)."""
_CHECKED_BYTES = 64 * 1024
_PNG_METADATA = _PNG_TEXT | {b"eXIf", b"tIME"}

# In the compressed part of a JPEG, 0xFF is followed by 0 (a plain 0xFF), a restart marker or filler; else it ends.
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_COMMENT, _JPEG_END, _JPEG_SCAN = 0xFE, 0xD9, 0xDA
_JPEG_EXIF, _JPEG_XMP, _JPEG_PHOTOSHOP = b"Exif\0", b"http://ns.adobe.com/xa", b"Photoshop 3.0\0"
_JPEG_XMP_EXTENSION = b"http://ns.adobe.com/xmp/"
_JPEG_MORE_IMAGES = b"MPF\0"

_WEBP_EXIF_FLAG, _WEBP_XMP_FLAG = 0x08, 0x04
_JPEG_SCAN_NAME = b"FFDA"
_JPEG_FRAMES = frozenset(f"FF{0xC0 + number:02X}".encode() for number in range(16) if number not in (4, 8, 12))
"""Segments that hold the size: C0 to CF except the tables."""
_MAX_CHUNKS = 50_000
_MAX_SCANS = 64
"""A progressive JPEG has about ten scans; each one costs the decoder a pass over all pixels, however small it is."""
_TEXT_LIMIT_BYTES = 4 << 20
"""Compressed text is read up to this size, so that a bomb takes no more memory."""


class BrokenContainer(ValueError):
    """The file does not have the structure of its format."""


class Kind(Enum):
    """The kind of a chunk, for all three formats."""

    IMAGE = "image"
    """Pixels, and what is needed to show them correctly (palette, transparency, colour profile)."""
    EXIF = "exif"
    TEXT = "text"
    """XMP, comments, captions, dates."""
    TRAILER = "trailer"
    """Bytes after the end of the image, or between its parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A part of the file, `start <= i < end`, with its name in the format; its content begins at `payload`."""

    kind: Kind
    name: bytes
    start: int
    payload: int
    end: int


def format_of(data: bytes) -> str | None:
    """Return 'PNG', 'JPEG' or 'WEBP' by content; None for anything else."""
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def chunks(data: bytes) -> list[Chunk]:
    """Return everything after the signature of the file, in order. Raises BrokenContainer."""
    readers = {"PNG": _png_chunks, "JPEG": _jpeg_chunks, "WEBP": _webp_chunks}
    reader = readers.get(format_of(data) or "")
    if reader is None:
        raise BrokenContainer("neither PNG nor JPEG nor WebP")
    found: list[Chunk] = []
    scans = 0
    for chunk in reader(data):
        found.append(chunk)
        scans += chunk.name == _JPEG_SCAN_NAME
        if len(found) > _MAX_CHUNKS or scans > _MAX_SCANS:
            raise BrokenContainer("more parts than a usual file has")
    return found


def without_metadata(data: bytes) -> bytes:
    """Remove EXIF, XMP, texts and trailing data from an image; returns `data` itself when it has none.

    All other bytes stay as they are. The orientation tag is removed with the EXIF chunk: apply it first.
    """
    all_chunks = chunks(data)
    kept = [chunk for chunk in all_chunks if chunk.kind is Kind.IMAGE]
    if len(kept) == len(all_chunks):
        return data
    if format_of(data) != "WEBP":
        return b"".join([data[: all_chunks[0].start], *(data[chunk.start : chunk.end] for chunk in kept)])
    body = bytearray(b"WEBP")
    for chunk in kept:
        content = bytearray(data[chunk.start : chunk.end])
        if chunk.name == b"VP8X":
            content[8] &= ~(_WEBP_XMP_FLAG | _WEBP_EXIF_FLAG)
        body += content + b"\0" * (len(content) & 1)
    return b"RIFF" + len(body).to_bytes(4, "little") + bytes(body)


def size_if_whole(data: bytes, *, max_pixels: int) -> tuple[int, int] | None:
    """Return width and height of an image that is clearly whole and has at most `max_pixels`; otherwise None.

    Clearly whole is a PNG with correct checksums from header to end whose rows begin correctly, a JPEG with a scan and
    an end marker, a WebP of the length that it states. Bytes lost in transit show there, without decompressing
    everything. None means that the image must be decoded to tell.
    """
    try:
        all_chunks = chunks(data)
    except BrokenContainer:
        return None
    readers = {"PNG": _whole_png, "JPEG": _whole_jpeg, "WEBP": _webp_size}
    size = readers[format_of(data) or ""](data, all_chunks)
    return size if size is not None and 0 < size[0] * size[1] <= max_pixels else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a WebP states. Raises BrokenContainer."""
    return _webp_size(data, chunks(data))


def exif_payloads(data: bytes) -> list[bytes]:
    """Return the EXIF data without its 'Exif' prefix, including that in PNG texts of some programs."""
    found: list[bytes] = []
    for chunk in chunks(data):
        if chunk.kind is Kind.EXIF:
            found.append(data[chunk.payload : chunk.end])
        elif chunk.name in _PNG_TEXT:
            keyword, text = _png_text(chunk.name, data[chunk.payload : chunk.end])
            if keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
                found.append(_from_hex_dump(text))
    return [payload.removeprefix(b"Exif\0\0") for payload in found]


def texts(data: bytes) -> Iterator[bytes]:
    """Yield every text, XMP packets included, decompressed where necessary."""
    for chunk in chunks(data):
        if chunk.name in _PNG_TEXT:
            keyword, text = _png_text(chunk.name, data[chunk.payload : chunk.end])
            yield _from_hex_dump(text) if keyword.startswith(b"Raw profile type") else text
        elif chunk.kind is Kind.TEXT:
            yield data[chunk.payload : chunk.end]


def _png_chunks(data: bytes) -> Iterator[Chunk]:
    position = len(_PNG_SIGNATURE)
    while True:
        length, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if len(name) < 4 or end > len(data):
            raise BrokenContainer("the PNG ends inside a chunk")
        kind = Kind.EXIF if name == b"eXIf" else Kind.TEXT if name in _PNG_METADATA else Kind.IMAGE
        # The checksum is not part of the payload, but of the chunk.
        yield Chunk(kind=kind, name=name, start=position, payload=position + 8, end=end)
        position = end
        if name == b"IEND":
            break
    if position < len(data):
        yield Chunk(kind=Kind.TRAILER, name=b"", start=position, payload=position, end=len(data))


def _jpeg_chunks(data: bytes) -> Iterator[Chunk]:
    position = 2
    while position < len(data):
        start = position
        if data[position] != 0xFF:
            # Decoders skip such bytes, so they are not part of the image, but they may hold text.
            position = max(data.find(b"\xff", position), 0) or len(data)
            yield Chunk(kind=Kind.TRAILER, name=b"", start=start, payload=start, end=position)
            continue
        while position < len(data) and data[position] == 0xFF:
            position += 1
        if position >= len(data):
            raise BrokenContainer("the JPEG ends inside a marker")
        marker = data[position]
        position += 1
        if marker == _JPEG_END:
            yield Chunk(kind=Kind.IMAGE, name=b"EOI", start=start, payload=position, end=position)
            break
        if marker in _JPEG_STANDALONE:
            yield Chunk(kind=Kind.IMAGE, name=b"RST", start=start, payload=position, end=position)
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        payload, position = position + 2, position + length
        if length < 2 or position > len(data):
            raise BrokenContainer("the JPEG ends inside a segment")
        if marker == _JPEG_SCAN:
            following = _JPEG_MARKER.search(data, position)
            position = following.start() if following else len(data)
        kind = _jpeg_kind(marker, data[payload : min(payload + 32, position)])
        yield Chunk(kind=kind, name=f"FF{marker:02X}".encode(), start=start, payload=payload, end=position)
    if position < len(data):
        yield Chunk(kind=Kind.TRAILER, name=b"", start=position, payload=position, end=len(data))


def _jpeg_kind(marker: int, beginning: bytes) -> Kind:
    match marker:
        case 0xE1 if beginning.startswith(_JPEG_EXIF):
            return Kind.EXIF
        case 0xE1 if beginning.startswith((_JPEG_XMP, _JPEG_XMP_EXTENSION)):
            return Kind.TEXT
        case 0xED if beginning.startswith(_JPEG_PHOTOSHOP):
            return Kind.TEXT
        # It refers to further images after the end of this one, which are removed with the trailing data.
        case 0xE2 if beginning.startswith(_JPEG_MORE_IMAGES):
            return Kind.TEXT
        case _:
            return Kind.TEXT if marker == _JPEG_COMMENT else Kind.IMAGE


def _webp_chunks(data: bytes) -> Iterator[Chunk]:
    end_of_file = 8 + int.from_bytes(data[4:8], "little")
    if end_of_file > len(data) + 1:  # some programs omit the last padding byte
        raise BrokenContainer("the WebP is shorter than it states")
    position = 12
    while position + 8 <= min(end_of_file, len(data)):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + length
        if end > len(data):
            raise BrokenContainer("the WebP ends inside a chunk")
        kind = Kind.EXIF if name == b"EXIF" else Kind.TEXT if name == b"XMP " else Kind.IMAGE
        padded = min(end + (length & 1), len(data))
        yield Chunk(kind=kind, name=name, start=position, payload=position + 8, end=padded)
        position = padded
    if position < len(data):
        yield Chunk(kind=Kind.TRAILER, name=b"", start=position, payload=position, end=len(data))


def _whole_png(data: bytes, all_chunks: list[Chunk]) -> tuple[int, int] | None:
    view = memoryview(data)
    for chunk in all_chunks:
        if chunk.kind is Kind.IMAGE:
            checksum = int.from_bytes(view[chunk.end - 4 : chunk.end], "big")
            if zlib.crc32(view[chunk.payload - 4 : chunk.end - 4]) != checksum:
                return None
    first = all_chunks[0]
    if first.name != b"IHDR" or first.end - first.payload != 17 or all_chunks[-1].name not in (b"IEND", b""):
        return None
    width, height, depth, colour, _, _, _ = _PNG_HEADER.unpack_from(data, first.payload)
    rows_bytes = height * (1 + (width * depth * _PNG_CHANNELS.get(colour, 0) + 7) // 8)
    packed = [view[chunk.payload : chunk.end - 4] for chunk in all_chunks if chunk.name == b"IDAT"]
    if colour not in _PNG_CHANNELS or rows_bytes > sum(map(len, packed)) * _DEFLATE_MAX_RATIO:
        return None
    return (width, height) if _begins_to_decompress(packed, rows_bytes) else None


def _begins_to_decompress(pieces: list[memoryview], size_bytes: int) -> bool:
    """Tell whether the first bytes of a zlib stream decompress to `size_bytes` or 64 KiB. All bytes would take long."""
    stream, missing_bytes = zlib.decompressobj(), min(size_bytes, _CHECKED_BYTES)
    try:
        for piece in pieces:
            packed: bytes | memoryview = piece
            while packed and missing_bytes and not stream.eof:
                missing_bytes -= len(stream.decompress(packed, missing_bytes))
                packed = stream.unconsumed_tail
    except zlib.error:
        return False
    return not missing_bytes


def _whole_jpeg(data: bytes, all_chunks: list[Chunk]) -> tuple[int, int] | None:
    names = {chunk.name for chunk in all_chunks}
    frame = next((chunk for chunk in all_chunks if chunk.name in _JPEG_FRAMES), None)
    if frame is None or not {_JPEG_SCAN_NAME, b"EOI"} <= names or frame.end - frame.payload < 5:
        return None
    height = int.from_bytes(data[frame.payload + 1 : frame.payload + 3], "big")
    return int.from_bytes(data[frame.payload + 3 : frame.payload + 5], "big"), height


def _webp_size(data: bytes, all_chunks: list[Chunk]) -> tuple[int, int] | None:
    for chunk in all_chunks:
        content = data[chunk.payload : chunk.payload + 10]
        if len(content) < 5:
            continue
        if chunk.name == b"VP8X":
            return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
        if chunk.name == b"VP8L":
            bits = int.from_bytes(content[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if chunk.name == b"VP8 ":
            return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    return None


def _png_text(name: bytes, chunk: bytes) -> tuple[bytes, bytes]:
    """Return keyword and content of a text chunk; unreadable content is empty."""
    keyword, _, rest = chunk[:-4].partition(b"\0")
    if name == b"tEXt":
        return keyword, rest
    compressed = True
    if name == b"iTXt":
        compressed, rest = rest[:1] == b"\1", rest[2:]
        for _ in range(2):  # language and translated keyword
            rest = rest.partition(b"\0")[2]
    else:
        rest = rest[1:]
    if not compressed:
        return keyword, rest
    try:
        return keyword, zlib.decompressobj().decompress(rest, _TEXT_LIMIT_BYTES)
    except zlib.error:
        return keyword, b""


def _from_hex_dump(text: bytes) -> bytes:
    """Decode a 'Raw profile' text of ImageMagick: a name, a length, then hexadecimal lines."""
    lines = text.strip().split(b"\n", 2)
    try:
        return bytes.fromhex(lines[-1].decode("ascii")) if len(lines) == 3 else b""
    except ValueError:
        return b""
