"""Containers: whether a PNG, JPEG or WebP file is whole, and its size, without decoding a pixel.

Only the image worker calls this. Each function takes time linear in the file, and memory for nothing but numbers.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

_PNG_SIGNATURE_BYTES = 8
_PNG_HEADER = struct.Struct(">IIBBBBB")
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Values per pixel by colour type: grey, colour, palette, and the first two with transparency."""
_DEFLATE_MAX_RATIO = 1032
"""The ratio for zeros, which is the maximum (zlib: technical details)."""
_CHECKED_BYTES = 64 * 1024

# In the compressed part of a JPEG, 0xFF is followed by 0 (a plain 0xFF), a restart marker or filler; else it ends. Two
# bytes and no repetition: the search never reads a byte more than twice.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA
_JPEG_FRAMES = frozenset(0xC0 + number for number in range(16) if number not in (4, 8, 12))
"""Segments that hold the size: C0 to CF except the tables."""

_MAX_PARTS = 50_000
_MAX_SCANS = 64
"""A progressive JPEG has about ten scans; each one costs the decoder a pass over all pixels, however small it is."""


class BrokenContainer(ValueError):
    """The file does not have the structure of its format."""


class Structure(NamedTuple):
    """What the structure of a file states. `whole`: nothing is missing at its end, as far as the structure tells."""

    width: int
    height: int
    whole: bool
    lossless: bool


def structure_of(image_format: str, data: bytes) -> Structure:
    """Return what the structure of a 'PNG', 'JPEG' or 'WEBP' states. Raises BrokenContainer."""
    match image_format:
        case "PNG":
            return _png(data)
        case "JPEG":
            return _jpeg(data)
        case "WEBP":
            return _webp(data)
        case _:
            raise AssertionError(image_format)


def _png(data: bytes) -> Structure:
    """Whole is a PNG with correct checksums from header to end whose rows begin to decompress."""
    view, position = memoryview(data), _PNG_SIGNATURE_BYTES
    header, packed, sound = b"", list[memoryview](), True
    for _ in range(_MAX_PARTS):
        length, name = int.from_bytes(view[position : position + 4], "big"), bytes(view[position + 4 : position + 8])
        payload, end = position + 8, position + 12 + length
        if len(name) < 4 or end > len(data):
            raise BrokenContainer("the PNG ends inside a chunk")
        if zlib.crc32(view[payload - 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            sound = False
        if position == _PNG_SIGNATURE_BYTES:
            header = bytes(view[payload : end - 4]) if name == b"IHDR" else b""
        elif name == b"IDAT":
            packed.append(view[payload : end - 4])
        position = end
        if name == b"IEND":
            break
    else:
        raise BrokenContainer("more parts than a usual file has")
    if len(header) != _PNG_HEADER.size:
        raise BrokenContainer("no header at the beginning")
    width, height, depth, colour, _, _, _ = _PNG_HEADER.unpack(header)
    rows_bytes = height * (1 + (width * depth * _PNG_CHANNELS.get(colour, 0) + 7) // 8)
    possible = colour in _PNG_CHANNELS and rows_bytes <= sum(map(len, packed)) * _DEFLATE_MAX_RATIO
    return Structure(width, height, sound and possible and _begins_to_decompress(packed, rows_bytes), lossless=True)


def _begins_to_decompress(pieces: list[memoryview], size_bytes: int) -> bool:
    """Tell whether the first bytes of a zlib stream decompress to `size_bytes` or 64 KiB. All bytes would take long."""
    stream, missing_bytes = zlib.decompressobj(), min(size_bytes, _CHECKED_BYTES)
    try:
        for piece in pieces:
            # Slices, because what was not used yet is copied after each step.
            for start in range(0, len(piece), _CHECKED_BYTES):
                packed: bytes | memoryview = piece[start : start + _CHECKED_BYTES]
                while packed and missing_bytes and not stream.eof:
                    missing_bytes -= len(stream.decompress(packed, missing_bytes))
                    packed = stream.unconsumed_tail
                if not missing_bytes:
                    return True
    except zlib.error:
        return False
    return not missing_bytes


def _jpeg(data: bytes) -> Structure:
    """Whole is a JPEG with a size, a scan and an end marker."""
    position, scans, size = 2, 0, None
    for _ in range(_MAX_PARTS):
        # Decoders skip bytes that belong to no segment.
        position = data.find(b"\xff", position)
        while 0 <= position < len(data) and data[position] == 0xFF:
            position += 1
        if position < 0 or position >= len(data):
            break
        marker = data[position]
        position += 1
        if marker == _JPEG_END:
            if size is None or not scans:
                raise BrokenContainer("a JPEG without an image")
            return Structure(*size, whole=True, lossless=False)
        if marker in _JPEG_STANDALONE or marker == 0:
            continue
        length = int.from_bytes(data[position : position + 2], "big")
        if marker in _JPEG_FRAMES and length >= 7:
            size = (
                int.from_bytes(data[position + 5 : position + 7], "big"),
                int.from_bytes(data[position + 3 : position + 5], "big"),
            )
        position += length
        if length < 2 or position > len(data):
            raise BrokenContainer("the JPEG ends inside a segment")
        if marker == _JPEG_SCAN:
            scans += 1
            if scans > _MAX_SCANS:
                raise BrokenContainer("more scans than a usual file has")
            following = _JPEG_MARKER.search(data, position)
            position = following.start() if following else len(data)
    else:
        raise BrokenContainer("more parts than a usual file has")
    if size is None or not scans:
        raise BrokenContainer("the JPEG ends before its image")
    return Structure(*size, whole=False, lossless=False)


def _webp(data: bytes) -> Structure:
    """Whole is a WebP of the length that it states. Its size is that of the canvas, if it has one."""
    end_of_file = 8 + int.from_bytes(data[4:8], "little")
    if end_of_file > len(data) + 1:  # some programs omit the last padding byte
        raise BrokenContainer("the WebP is shorter than it states")
    position, size, lossless = 12, None, False
    for _ in range(_MAX_PARTS):
        if position + 8 > min(end_of_file, len(data)):
            break
        name, content = data[position : position + 4], data[position + 8 : position + 18]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + length
        if position > len(data):
            raise BrokenContainer("the WebP ends inside a chunk")
        position += length & 1
        lossless = lossless or name == b"VP8L"
        size = size or _webp_size(name, content)
    else:
        raise BrokenContainer("more parts than a usual file has")
    if size is None:
        raise BrokenContainer("a WebP without an image")
    return Structure(*size, whole=True, lossless=lossless)


def _webp_size(name: bytes, content: bytes) -> tuple[int, int] | None:
    if len(content) < 5:
        return None
    if name == b"VP8X":
        return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
    if name == b"VP8L":
        bits = int.from_bytes(content[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if name == b"VP8 ":
        return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    return None
