"""Sample images of every good and bad kind, built here so that no binary files are stored."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import pillow_heif
from PIL import Image, ImageCms, PngImagePlugin

pillow_heif.register_heif_opener()

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SECRET = b"secret-51.5007"
"""Part of every piece of metadata of the samples; no image made from them may contain it."""


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def open_image(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def photo(width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """Return smooth colours with a red patch in the top left corner that shows whether the image was rotated."""
    image = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    image.paste((220, 10, 10), (0, 0, width // 3, height // 3))
    return image.convert(mode)


def noise(width: int, height: int, *, seed: int = 1) -> Image.Image:
    """Return an image that cannot be compressed."""
    return Image.frombytes("RGB", (width, height), random.Random(seed).randbytes(width * height * 3))


def image(image_format: str, **options: Any) -> bytes:
    return encode(photo(), image_format, **options)


def exif_with_location(*, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = SECRET.decode()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[2] = "N", (51.0, 30.0, 2.5)
    gps[3], gps[4] = "W", (0.0, 7.0, 28.0)
    return exif.tobytes()


def exif_without_location(*, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


XMP_WITH_LOCATION = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description exif:GPSLatitude="51,30.04N" about="' + SECRET + b'"/>'
    b"</x:xmpmeta>"
)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def with_png_chunks(data: bytes, *chunks: bytes) -> bytes:
    """Return the file with these chunks inserted directly behind the header."""
    after_header = len(PNG_SIGNATURE) + 25
    return data[:after_header] + b"".join(chunks) + data[after_header:]


def with_jpeg_segment(data: bytes, marker: int, content: bytes) -> bytes:
    return data[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content + data[2:]


def raw_profile(content: bytes) -> bytes:
    """Return EXIF data as ImageMagick writes it into a PNG text chunk."""
    return b"\nexif\n%8d\n" % len(content) + content.hex().encode() + b"\n"


def laden(image_format: str) -> bytes:
    """Return an image with a location and a secret in every place of its format, and more behind its end."""
    exif = exif_with_location()
    match image_format:
        case "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_text("Comment", SECRET.decode())
            text.add_text("Packed", SECRET.decode() * 50, zip=True)
            text.add_itxt("XML:com.adobe.xmp", XMP_WITH_LOCATION.decode())
            data = image("PNG", exif=exif, pnginfo=text)
            return with_png_chunks(data, png_chunk(b"tIME", b"\x07\xe6\1\1\1\1\1")) + b"PK\3\4<html>" + SECRET
        case "JPEG":
            data = image("JPEG", exif=exif, xmp=XMP_WITH_LOCATION, comment=SECRET)
            data = with_jpeg_segment(data, 0xED, b"Photoshop 3.0\x008BIM" + SECRET)
            return data + b"PK\3\4<html>" + SECRET
        case _:
            return image("WEBP", exif=exif, xmp=XMP_WITH_LOCATION) + b"PK\3\4<html>" + SECRET


def animated(image_format: str, frames: int = 3) -> bytes:
    images = [noise(32, 32, seed=index) for index in range(frames)]
    return encode(images[0], image_format, save_all=True, append_images=images[1:], duration=40)


def png_header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> bytes:
    return PNG_SIGNATURE + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png_of_zeros(width: int, height: int, *, extra_bytes: int = 0) -> bytes:
    """Return a real black image of any size in a file of a few kilobytes."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(row) for _ in range(height))
    for _ in range(0, extra_bytes, 1 << 20):
        packed += packer.compress(bytes(1 << 20))
    packed += packer.flush()
    header = png_header(width, height, depth=1, colour=0)
    return header + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def png_of_rows(width: int, height: int, *pieces: bytes) -> bytes:
    """Return a grey PNG, a byte for each pixel; its compressed rows are the given pieces."""
    rows = [png_chunk(b"IDAT", piece) for piece in pieces]
    return b"".join([png_header(width, height, colour=0), *rows, png_chunk(b"IEND", b"")])


def apng_of_many_frames(frames: int) -> bytes:
    """Return a small image with that number of frames."""
    data = png_of_zeros(64, 64)
    parts = [data[: len(PNG_SIGNATURE) + 25], png_chunk(b"acTL", struct.pack(">II", frames, 0))]
    body = data[len(PNG_SIGNATURE) + 25 :]
    packed = body[8 : 8 + int.from_bytes(body[:4], "big")]
    for index in range(frames):
        parts.append(png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", index * 2, 64, 64, 0, 0, 1, 10, 0, 0)))
        parts.append(
            png_chunk(b"fdAT", struct.pack(">I", index * 2 + 1) + packed) if index else body[: 12 + len(packed)]
        )
    return b"".join(parts) + png_chunk(b"IEND", b"")


def png_with_packed_texts(count: int, *, megabytes: int) -> bytes:
    packed = zlib.compress(bytes(megabytes << 20), 9)
    return with_png_chunks(image("PNG"), *[png_chunk(b"zTXt", b"Comment\0\0" + packed) for _ in range(count)])


def png_with_packed_profile(*, megabytes: int) -> bytes:
    return with_png_chunks(image("PNG"), png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(megabytes << 20), 9)))


def webp_that_claims(width: int, height: int) -> bytes:
    """Return a small WebP that states a huge canvas."""
    inner = image("WEBP")[12:]
    canvas = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_that_claims(width: int, height: int) -> bytes:
    data = image("JPEG")
    at = data.index(b"\xff\xc0")
    return data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]


def jpeg_of_many_scans(scans: int) -> bytes:
    """Return a progressive image whose last scan is repeated: each costs a pass over all pixels."""
    data = encode(photo(2048, 2048), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * scans + b"\xff\xd9"


def profile_with_red_and_green_swapped() -> bytes:
    """Return a profile that is not sRGB and easy to detect: applying it shows red as green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))
    # The first occurrences are those in the table of tags.
    for old, new in ((b"rXYZ", b"????"), (b"gXYZ", b"rXYZ"), (b"????", b"gXYZ")):
        profile = profile.replace(old, new, 1)
    return profile


BOMBS = {
    "144 megapixels in 20 kB": lambda: png_of_zeros(12_000, 12_000),
    "a row of 2 billion pixels": lambda: (
        png_header(2_000_000_000, 1) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    ),
    "the largest PNG": lambda: png_header(2**31 - 1, 2**31 - 1) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""),
    "a webp of 268 megapixels": lambda: webp_that_claims(16_384, 16_384),
    "a webp of 281 million megapixels": lambda: webp_that_claims(1 << 24, 1 << 24),
    "a jpeg of 4294 megapixels": lambda: jpeg_that_claims(65_535, 65_535),
    "many frames": lambda: apng_of_many_frames(20_000),
    "many scans": lambda: jpeg_of_many_scans(2_000),
    "a packed profile": lambda: png_with_packed_profile(megabytes=200),
}
"""Files that are refused, whatever type they claim."""

HARMLESS_BOMBS = {
    "packed texts": lambda: png_with_packed_texts(60, megabytes=50),
    "pixels after the last": lambda: png_of_zeros(64, 64, extra_bytes=200 << 20),
}
"""Files that are refused or cleaned, both at a low cost."""
