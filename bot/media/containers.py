"""Metadata: what a PNG, JPEG or WebP file says besides its pixels, found and removed without decoding a pixel."""

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
"""Rows of nothing but zeros pack so well, and nothing packs better (zlib: technical details)."""
_UNPACKED_BYTES = 64 * 1024
_PNG_METADATA = _PNG_TEXT | {b"eXIf", b"tIME"}

# In the compressed part of a JPEG, 0xFF is followed by 0 (a plain 0xFF), a restart marker or filler; else it ends.
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)
_JPEG_STANDALONE = frozenset({0x01, *range(0xD0, 0xD8)})
_JPEG_COMMENT, _JPEG_END, _JPEG_SCAN = 0xFE, 0xD9, 0xDA
_JPEG_EXIF, _JPEG_XMP, _JPEG_PHOTOSHOP = b"Exif\0", b"http://ns.adobe.com/xa", b"Photoshop 3.0\0"
_JPEG_XMP_MORE = b"http://ns.adobe.com/xmp/"
_JPEG_MORE_PICTURES = b"MPF\0"

_WEBP_EXIF_FLAG, _WEBP_XMP_FLAG = 0x08, 0x04
_JPEG_SCAN_NAME = b"FFDA"
_JPEG_FRAMES = frozenset(f"FF{0xC0 + number:02X}".encode() for number in range(16) if number not in (4, 8, 12))
"""What states the size: all of C0 to CF but the tables among them."""
_MAX_CHUNKS = 50_000
_MAX_SCANS = 64
"""A progressive JPEG has about ten scans; each one costs the decoder a pass over all pixels, however small it is."""
_TEXT_LIMIT_BYTES = 4 << 20
"""Compressed text is looked into up to this size; a bomb is not worth more memory."""


class BrokenContainer(ValueError):
    """The file is not put together the way its format says."""


class Kind(Enum):
    """What a block of a file is, in one vocabulary for all three formats."""

    PICTURE = "picture"
    """Pixels, and what is needed to show them rightly (palette, transparency, colour profile)."""
    EXIF = "exif"
    TEXT = "text"
    """XMP, comments, captions, dates."""
    TRAILER = "trailer"
    """What follows the end of the picture, or lies between its parts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """A stretch of the file, `start <= i < end`, with its format's name for it; from `payload` on there is content."""

    kind: Kind
    name: bytes
    start: int
    payload: int
    end: int


def format_of(data: bytes) -> str | None:
    """'PNG', 'JPEG' or 'WEBP' by content; None for anything else."""
    if data.startswith(_PNG_SIGNATURE):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    return None


def chunks(data: bytes) -> list[Chunk]:
    """Everything after the file's signature, in order. Raises BrokenContainer."""
    readers = {"PNG": _png_blocks, "JPEG": _jpeg_blocks, "WEBP": _webp_blocks}
    reader = readers.get(format_of(data) or "")
    if reader is None:
        raise BrokenContainer("neither PNG nor JPEG nor WebP")
    found: list[Chunk] = []
    scans = 0
    for block in reader(data):
        found.append(block)
        scans += block.name == _JPEG_SCAN_NAME
        if len(found) > _MAX_CHUNKS or scans > _MAX_SCANS:
            raise BrokenContainer("more parts than an honest file has")
    return found


def without_metadata(data: bytes) -> bytes:
    """The same picture, bit for bit, without EXIF, XMP, texts and trailing data; `data` itself when it has none.

    Whatever is not known to be metadata stays. The orientation tag goes with the EXIF block: mind it first.
    """
    every = chunks(data)
    kept = [block for block in every if block.kind is Kind.PICTURE]
    if len(kept) == len(every):
        return data
    if format_of(data) != "WEBP":
        return b"".join([data[: every[0].start], *(data[block.start : block.end] for block in kept)])
    body = bytearray(b"WEBP")
    for block in kept:
        content = bytearray(data[block.start : block.end])
        if block.name == b"VP8X":
            content[8] &= ~(_WEBP_XMP_FLAG | _WEBP_EXIF_FLAG)
        body += content + b"\0" * (len(content) & 1)
    return b"RIFF" + len(body).to_bytes(4, "little") + bytes(body)


def size_if_whole(data: bytes, *, max_pixels: int) -> tuple[int, int] | None:
    """Width and height of a picture that plainly arrived whole; None where only decoding it could tell, and for more
    pixels than that.

    Plainly: a PNG with sound checksums from its header to its end and rows that begin well, a JPEG with a scan and its
    end, a WebP as long as it says. Whatever is lost on the way shows there, without unpacking everything.
    """
    try:
        every = chunks(data)
    except BrokenContainer:
        return None
    readers = {"PNG": _whole_png, "JPEG": _whole_jpeg, "WEBP": _webp_size}
    size = readers[format_of(data) or ""](data, every)
    return size if size is not None and 0 < size[0] * size[1] <= max_pixels else None


def webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height a WebP says it has. Raises BrokenContainer."""
    return _webp_size(data, chunks(data))


def exif_payloads(data: bytes) -> list[bytes]:
    """Every EXIF block, without its 'Exif' heading, including those that programs hide in PNG texts."""
    found: list[bytes] = []
    for block in chunks(data):
        if block.kind is Kind.EXIF:
            found.append(data[block.payload : block.end])
        elif block.name in _PNG_TEXT:
            keyword, text = _png_text(block.name, data[block.payload : block.end])
            if keyword in (b"Raw profile type exif", b"Raw profile type APP1"):
                found.append(_from_hex_dump(text))
    return [payload.removeprefix(b"Exif\0\0") for payload in found]


def texts(data: bytes) -> Iterator[bytes]:
    """Every text, XMP packets included, unpacked where it was compressed."""
    for block in chunks(data):
        if block.name in _PNG_TEXT:
            keyword, text = _png_text(block.name, data[block.payload : block.end])
            yield _from_hex_dump(text) if keyword.startswith(b"Raw profile type") else text
        elif block.kind is Kind.TEXT:
            yield data[block.payload : block.end]


def _png_blocks(data: bytes) -> Iterator[Chunk]:
    position = len(_PNG_SIGNATURE)
    while True:
        length, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        end = position + 12 + length
        if len(name) < 4 or end > len(data):
            raise BrokenContainer("the PNG ends inside a chunk")
        kind = Kind.EXIF if name == b"eXIf" else Kind.TEXT if name in _PNG_METADATA else Kind.PICTURE
        # The checksum is not part of the payload, but of the block.
        yield Chunk(kind=kind, name=name, start=position, payload=position + 8, end=end)
        position = end
        if name == b"IEND":
            break
    if position < len(data):
        yield Chunk(kind=Kind.TRAILER, name=b"", start=position, payload=position, end=len(data))


def _jpeg_blocks(data: bytes) -> Iterator[Chunk]:
    position = 2
    while position < len(data):
        start = position
        if data[position] != 0xFF:
            # Decoders skip such bytes, so they hide no picture, but they may say something.
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
            yield Chunk(kind=Kind.PICTURE, name=b"EOI", start=start, payload=position, end=position)
            break
        if marker in _JPEG_STANDALONE:
            yield Chunk(kind=Kind.PICTURE, name=b"RST", start=start, payload=position, end=position)
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
        case 0xE1 if beginning.startswith((_JPEG_XMP, _JPEG_XMP_MORE)):
            return Kind.TEXT
        case 0xED if beginning.startswith(_JPEG_PHOTOSHOP):
            return Kind.TEXT
        # It points at further pictures behind the end of this one, which go away with the trailing data.
        case 0xE2 if beginning.startswith(_JPEG_MORE_PICTURES):
            return Kind.TEXT
        case _:
            return Kind.TEXT if marker == _JPEG_COMMENT else Kind.PICTURE


def _webp_blocks(data: bytes) -> Iterator[Chunk]:
    end_of_file = 8 + int.from_bytes(data[4:8], "little")
    if end_of_file > len(data) + 1:  # some programs forget the last padding byte
        raise BrokenContainer("the WebP is shorter than it says")
    position = 12
    while position + 8 <= min(end_of_file, len(data)):
        name = data[position : position + 4]
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        end = position + 8 + length
        if end > len(data):
            raise BrokenContainer("the WebP ends inside a chunk")
        kind = Kind.EXIF if name == b"EXIF" else Kind.TEXT if name == b"XMP " else Kind.PICTURE
        padded = min(end + (length & 1), len(data))
        yield Chunk(kind=kind, name=name, start=position, payload=position + 8, end=padded)
        position = padded
    if position < len(data):
        yield Chunk(kind=Kind.TRAILER, name=b"", start=position, payload=position, end=len(data))


def _whole_png(data: bytes, every: list[Chunk]) -> tuple[int, int] | None:
    view = memoryview(data)
    for block in every:
        if block.kind is Kind.PICTURE:
            checksum = int.from_bytes(view[block.end - 4 : block.end], "big")
            if zlib.crc32(view[block.payload - 4 : block.end - 4]) != checksum:
                return None
    first = every[0]
    if first.name != b"IHDR" or first.end - first.payload != 17 or every[-1].name not in (b"IEND", b""):
        return None
    width, height, depth, colour, _, _, _ = _PNG_HEADER.unpack_from(data, first.payload)
    rows_bytes = height * (1 + (width * depth * _PNG_CHANNELS.get(colour, 0) + 7) // 8)
    packed = [view[block.payload : block.end - 4] for block in every if block.name == b"IDAT"]
    if colour not in _PNG_CHANNELS or rows_bytes > sum(map(len, packed)) * _DEFLATE_MAX_RATIO:
        return None
    return (width, height) if _begin_to_unpack(packed, rows_bytes) else None


def _begin_to_unpack(pieces: list[memoryview], size_bytes: int) -> bool:
    """Whether the pieces of a zlib stream hold so much, as far as its first bytes tell. All of them would take long."""
    stream, missing_bytes = zlib.decompressobj(), min(size_bytes, _UNPACKED_BYTES)
    try:
        for piece in pieces:
            packed: bytes | memoryview = piece
            while packed and missing_bytes and not stream.eof:
                missing_bytes -= len(stream.decompress(packed, missing_bytes))
                packed = stream.unconsumed_tail
    except zlib.error:
        return False
    return not missing_bytes


def _whole_jpeg(data: bytes, every: list[Chunk]) -> tuple[int, int] | None:
    names = {block.name for block in every}
    frame = next((block for block in every if block.name in _JPEG_FRAMES), None)
    if frame is None or not {_JPEG_SCAN_NAME, b"EOI"} <= names or frame.end - frame.payload < 5:
        return None
    height = int.from_bytes(data[frame.payload + 1 : frame.payload + 3], "big")
    return int.from_bytes(data[frame.payload + 3 : frame.payload + 5], "big"), height


def _webp_size(data: bytes, every: list[Chunk]) -> tuple[int, int] | None:
    for block in every:
        content = data[block.payload : block.payload + 10]
        if len(content) < 5:
            continue
        if block.name == b"VP8X":
            return int.from_bytes(content[4:7], "little") + 1, int.from_bytes(content[7:10], "little") + 1
        if block.name == b"VP8L":
            bits = int.from_bytes(content[1:5], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        if block.name == b"VP8 ":
            return int.from_bytes(content[6:8], "little") & 0x3FFF, int.from_bytes(content[8:10], "little") & 0x3FFF
    return None


def _png_text(name: bytes, chunk: bytes) -> tuple[bytes, bytes]:
    """Keyword and content of a text chunk; an unreadable content is ''."""
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
    """The content of ImageMagick's 'Raw profile' texts: a name, a length, then hexadecimal lines."""
    lines = text.strip().split(b"\n", 2)
    try:
        return bytes.fromhex(lines[-1].decode("ascii")) if len(lines) == 3 else b""
    except ValueError:
        return b""
