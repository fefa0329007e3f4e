"""Image operations: check an image, make it postable, or re-encode it without metadata. Pillow and pillow-heif only.

All functions take bytes from strangers, block, and need memory: they run in the processes of ImagePool. Everything is
imported here and now, because these processes cannot open a file later.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pillow_heif
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageCms,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from bot.media import containers
from bot.media.file_types import CONTENT_TYPES, EXTENSIONS, format_of

MAX_RESULT_PIXELS = 100_000_000
MAX_INPUT_BYTES = 25_000_000
MAX_INPUT_PIXELS = 50_000_000
MIN_INPUT_SIDE = 16
_LARGE_RESULT_PIXELS, _LARGE_INPUT_PIXELS = 40_000_000, 25_000_000
"""Above that an image that is re-encoded loses half of its width and height at once, to save memory."""
MAX_INPUT_SIDE = 4096

_UNREAD_SIGNATURES = (b"8BPS", b"\xff\x0a", b"\0\0\0\x0cJXL ", b"\0\0\0\x0cjP  ", b"\0\0\1\0")
"""Images of kinds that are not read: Photoshop, JPEG XL, JPEG 2000, icons."""
_BYTES_PER_PIXEL = {"PNG": 5, "JPEG": 5, "WEBP": 16, "GIF": 6, "AVIF": 12, "HEIF": 12, "TIFF": 8, "BMP": 5}
"""Memory that decoding takes: the decoders of the newer formats keep several copies."""
_WORKING_BYTES_PER_PIXEL, _WORKING_PIXELS = 8, 4096 * 4096
"""Memory that converting takes. Larger images are made smaller strip by strip as soon as they are decoded."""
_STRIP_ROWS = 256
_FAST_OPTIONS: dict[str, dict[str, int]] = {"WEBP": {"method": 2}, "PNG": {"compress_level": 3}}
"""Twice as fast as Pillow's defaults, for a few per cent more bytes."""
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How an image with each orientation tag is made upright."""
_ORIENTATION_TAG = 0x0112
_WEBP_QUALITIES, _JPEG_QUALITIES = (92, 85, 75, 60), (80, 65)
_JPEG_END = b"\xff\xd9"
_FILLER_BYTES = 1 << 16

_SOURCE_TYPES = b"http://cv.iptc.org/newscodes/digitalsourcetype/"
_SOURCE_TYPE = re.compile(re.escape(_SOURCE_TYPES) + rb"([A-Za-z]{1,60})")
_CBOR_TEXT = b"\x78"
"""Before the length of a text of 24 to 255 bytes."""
_MAX_XMP_BYTES = 1 << 20
_XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    b"<Iptc4xmpExt:DigitalSourceType>%s</Iptc4xmpExt:DigitalSourceType>"
    b'</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)
"""The marking of IPTC for images that a machine made; Discord, search engines and image programs read it."""

Image.preinit()
Image.init()
# Our own limit is checked before any pixel is decoded; Pillow only warns below twice its own.
Image.MAX_IMAGE_PIXELS = None
pillow_heif.options.DECODE_THREADS = 1
pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False

# Not Image.open, which would try others, and read a phone's photo as several images.
_READERS: dict[str, Any] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
    "HEIF": pillow_heif.HeifImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}


class UnusableImageError(Exception):
    """The image cannot be used. `reason` and `limits` (by name) are those of UnusableImage."""

    def __init__(self, reason: str, **limits: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.limits = limits


class NeedsMoreMemory(Exception):
    """The image is fine as far as its header tells, but too large for this process, which can take `limit_pixels`."""

    def __init__(self, limit_pixels: int) -> None:
        super().__init__(limit_pixels)
        self.limit_pixels = limit_pixels


def check(data: bytes, memory_bytes: int) -> tuple[str, int, int]:
    """Return content type, width and height of a result.

    The structure of a PNG, JPEG or WebP says whether it is whole; anything else, and a PNG whose structure is in doubt,
    is decoded. Raises UnusableImageError, and NeedsMoreMemory when decoding it may take more than `memory_bytes`.
    """
    image_format = _format(data)
    if image_format in ("PNG", "JPEG", "WEBP"):
        structure = _structure(image_format, data)
        _check_pixels((structure.width, structure.height), MAX_RESULT_PIXELS)
        if image_format == "JPEG" and not structure.whole:
            raise UnusableImageError("broken")
        if structure.whole and structure.width and structure.height:
            return CONTENT_TYPES[image_format], structure.width, structure.height
    image = _open(data, image_format, max_pixels=MAX_RESULT_PIXELS, memory_bytes=memory_bytes)
    _load(image)
    return CONTENT_TYPES[image_format], image.width, image.height


def fit(data: bytes, limit_bytes: int, memory_bytes: int, *, is_result: bool) -> tuple[bytes, str, str]:
    """Re-encode an image in at most `limit_bytes`. Returns bytes, type and extension.

    A result is marked as made by a machine, which a member's image may not be. A lossless image of a format that
    Discord does not show becomes a PNG if that fits. Raises UnusableImageError, and NeedsMoreMemory when it may take
    more than `memory_bytes`.
    """
    image_format = _format(data)
    image = _open(data, image_format, max_pixels=MAX_RESULT_PIXELS, memory_bytes=memory_bytes)
    if image.width * image.height > _LARGE_RESULT_PIXELS:
        image.draft(image.mode, (MAX_INPUT_SIDE, MAX_INPUT_SIDE))
    _load(image)
    marking = _marking(image, data) if is_result else b""
    image = _upright_srgb(image, factor=2 if image.width * image.height > _LARGE_RESULT_PIXELS else 1)
    attempts = _encode_smaller_and_smaller(image, lossless=image_format in ("BMP", "TIFF"), xmp=marking)
    encoded, image_format = next(attempt for attempt in attempts if len(attempt[0]) <= limit_bytes)
    return encoded, CONTENT_TYPES[image_format], EXTENSIONS[image_format]


def clean(data: bytes, memory_bytes: int) -> tuple[bytes, str, int, int]:
    """Re-encode an input image from its pixels alone: upright, sRGB, at most 4096 on its longer side.

    The result is a PNG, JPEG or WebP: JPEG stays JPEG; what has transparency or was lossless stays lossless. Returns
    bytes, type, width and height. Raises UnusableImageError, and NeedsMoreMemory when it may take more than
    `memory_bytes`.
    """
    if len(data) > MAX_INPUT_BYTES:
        raise UnusableImageError("too_many_bytes", limit_bytes=MAX_INPUT_BYTES)
    image_format, lossless = _format(data), True
    if image_format in ("JPEG", "WEBP"):
        structure = _structure(image_format, data)
        lossless = structure.lossless
        if image_format == "JPEG" and not structure.whole:
            data = _with_end_marker(data, (structure.width, structure.height), memory_bytes)
    image = _open(data, image_format, max_pixels=MAX_INPUT_PIXELS, memory_bytes=memory_bytes)
    # A HEIC of a phone may hold several images, and a TIFF several pages: the first is meant.
    if image_format not in ("HEIF", "TIFF") and getattr(image, "is_animated", False):
        raise UnusableImageError("animated")
    if min(image.size) < MIN_INPUT_SIDE:
        raise UnusableImageError("too_small", side_pixels=MIN_INPUT_SIDE)
    # Lets a JPEG be decoded at a half, quarter or eighth of its size, if that is not below the final size.
    image.draft(image.mode, (MAX_INPUT_SIDE, MAX_INPUT_SIDE))
    _load(image)
    factor = max(max(image.size) // MAX_INPUT_SIDE, 2 if image.width * image.height > _LARGE_INPUT_PIXELS else 1)
    image = _upright_srgb(image, factor=factor, longest_side=MAX_INPUT_SIDE)
    match image_format:
        case "JPEG":
            image_format, options = "JPEG", {"quality": 95, "subsampling": 0}
        case "HEIF" | "AVIF" if image.mode == "RGB":
            image_format, options = "JPEG", {"quality": 95, "subsampling": 0}
        case "WEBP" if image.mode == "RGB" and not lossless:
            options = {"quality": 95}
        case "WEBP":
            options = {"lossless": True, "quality": 20, "method": 1}
        case _:
            image_format, options = "PNG", {}
    encoded = _encode(image, image_format, **options)
    return encoded, CONTENT_TYPES[image_format], image.width, image.height


# -- reading ------------------------------------------------------------------------------------------


def _format(data: bytes) -> str:
    """Return the format by content. Raises UnusableImageError with the most specific reason."""
    image_format = format_of(data)
    if image_format is not None:
        return image_format
    beginning = data[:512].lstrip().lower()
    if (
        data.startswith(_UNREAD_SIGNATURES)
        or data[4:8] == b"ftyp"
        or beginning.startswith(b"<svg")
        or b"<svg " in beginning
    ):
        raise UnusableImageError("unsupported_type")
    raise UnusableImageError("not_an_image")


def _structure(image_format: str, data: bytes) -> containers.Structure:
    try:
        return containers.structure_of(image_format, data)
    except containers.BrokenContainer as error:
        raise UnusableImageError("broken") from error


def _open(data: bytes, image_format: str, *, max_pixels: int, memory_bytes: int) -> Image.Image:
    """Read the header of the image and decode nothing. Its size is compared to the limits first."""
    if image_format in ("PNG", "JPEG", "WEBP"):
        # Pillow allocates the whole canvas of a WebP while it opens the file, and has no limit of a JPEG's scans.
        structure = _structure(image_format, data)
        _check_size((structure.width, structure.height), image_format, max_pixels, memory_bytes, len(data))
    try:
        image = _READERS[image_format](io.BytesIO(data))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many classes for a damaged file
        raise UnusableImageError("broken") from error
    _check_size(image.size, image_format, max_pixels, memory_bytes, len(data))
    return image


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise UnusableImageError("broken") from error


def _check_pixels(size: tuple[int, int], max_pixels: int) -> None:
    if size[0] * size[1] > max_pixels:
        raise UnusableImageError("too_many_pixels", limit_pixels=max_pixels)


def _check_size(size: tuple[int, int], image_format: str, max_pixels: int, memory_bytes: int, file_bytes: int) -> None:
    _check_pixels(size, max_pixels)
    pixels, bytes_per_pixel = size[0] * size[1], _BYTES_PER_PIXEL[image_format]
    working_bytes = min(pixels, _WORKING_PIXELS) * _WORKING_BYTES_PER_PIXEL + file_bytes
    if pixels * bytes_per_pixel + working_bytes > memory_bytes:
        raise NeedsMoreMemory(max(memory_bytes - working_bytes, 0) // bytes_per_pixel)


def _with_end_marker(data: bytes, size: tuple[int, int], memory_bytes: int) -> bytes:
    """Add the missing end marker to a JPEG. Raises UnusableImageError when a part of its pixels is missing as well.

    That shows when the pixels depend on what follows the last byte.
    """
    _check_size(size, "JPEG", MAX_INPUT_PIXELS, memory_bytes, len(data))
    data = data.rstrip(b"\xff")
    checksums = list[int]()
    for filler in (b"", b"\x55" * _FILLER_BYTES):
        image = _READERS["JPEG"](io.BytesIO(data + filler + _JPEG_END))
        image.draft("L", size)
        _load(image)
        checksums.append(zlib.crc32(image.tobytes()))
    if checksums[0] != checksums[1]:
        raise UnusableImageError("broken")
    return data + _JPEG_END


def _orientation(image: Image.Image) -> int:
    """Return the orientation tag; 1 (upright) when there is none or it is invalid."""
    try:
        value: object = image.getexif().get(_ORIENTATION_TAG)
    except MemoryError:
        raise
    except Exception:  # as in _open
        return 1
    return value if isinstance(value, int) and value in _TRANSPOSITIONS else 1


def _marking(image: Image.Image, data: bytes) -> bytes:
    """Return an XMP packet with the source type that the image states, or else that of images made by a model."""
    stated: object = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    text = stated.encode() if isinstance(stated, str) else stated if isinstance(stated, bytes) else b""
    found = _SOURCE_TYPE.search(text[:_MAX_XMP_BYTES]) or _SOURCE_TYPE.fullmatch(_type_in_manifest(data))
    return _XMP % (_SOURCE_TYPES + (found[1] if found else b"trainedAlgorithmicMedia"))


def _type_in_manifest(data: bytes) -> bytes:
    """Return the source type in the C2PA manifest of a file, the last one of several; b"" if there is none.

    A manifest holds it as a text in CBOR, whose length stands before it. The manifests of what an image was made from
    come before its own.
    """
    start = data.rfind(_SOURCE_TYPES)
    if start < len(_CBOR_TEXT) + 1 or data[start - 2 : start - 1] != _CBOR_TEXT:
        return b""
    return data[start : start + data[start - 1]]


# -- re-encoding --------------------------------------------------------------------------------------


def _upright_srgb(image: Image.Image, *, factor: int, longest_side: int | None = None) -> Image.Image:
    """Convert to RGB, or RGBA where a pixel is transparent: upright, in sRGB, without metadata."""
    profile, orientation = image.info.get("icc_profile"), _orientation(image)
    image = _converted(image, factor)
    if longest_side is not None and max(image.size) > longest_side:
        image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS, reducing_gap=3)
    image = _in_srgb(image, profile)
    if orientation in _TRANSPOSITIONS:
        image = image.transpose(_TRANSPOSITIONS[orientation])
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    image.info.clear()
    return image


def _converted(image: Image.Image, factor: int) -> Image.Image:
    """Convert to RGB, RGBA or CMYK, dividing width and height by `factor`, without a second copy of a large image."""
    mode = "RGBA" if image.has_transparency_data else "CMYK" if image.mode == "CMYK" else "RGB"
    if factor == 1:
        return _in_mode(image, mode)
    small = Image.new(mode, (-(-image.width // factor), -(-image.height // factor)))
    for top in range(0, image.height, _STRIP_ROWS * factor):
        strip = image.crop((0, top, image.width, min(top + _STRIP_ROWS * factor, image.height)))
        small.paste(_in_mode(strip, mode).reduce(factor), (0, top // factor))
    return small


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == mode:
        return image
    if image.mode.startswith("I"):
        # 16 bits of grey: Pillow's own conversion would turn everything above 255 into white.
        image = (image.convert("I") if image.mode == "I;16B" else image).point(_high_byte).convert("L")
    return image.convert(mode)


def _srgb_profile() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(cast("Any", ImageCms).createProfile("sRGB"))


def _high_byte(value: Any) -> Any:
    return value * (1 / 256)  # Pillow supports no other operation on 16-bit pixels than a product with a constant


def _in_srgb(image: Image.Image, profile: object) -> Image.Image:
    """Convert the colours from the profile to sRGB. A profile that is damaged or of another kind is ignored."""
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    if isinstance(profile, bytes) and profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if "srgb" not in ImageCms.getProfileDescription(source).lower():
                image = ImageCms.profileToProfile(image, source, _srgb_profile(), outputMode=target) or image
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass
    return image if image.mode == target else image.convert(target)


def _encode_smaller_and_smaller(image: Image.Image, *, lossless: bool, xmp: bytes) -> Iterator[tuple[bytes, str]]:
    """Encode the image smaller and smaller, down to a single pixel: WebP first, then JPEG, then fewer pixels.

    What was `lossless` is tried as a PNG before.
    """
    if lossless:
        marking = PngImagePlugin.PngInfo()
        if xmp:
            marking.add_itxt("XML:com.adobe.xmp", xmp.decode())
        with suppress(OSError, ValueError, MemoryError):
            yield _encode(image, "PNG", pnginfo=marking), "PNG"
    opaque = image
    if image.mode == "RGBA":
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
    yield from _attempts(image, "WEBP", _WEBP_QUALITIES, xmp)
    yield from _attempts(opaque, "JPEG", _JPEG_QUALITIES, xmp)
    while max(image.size) > 1:
        size = max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)
        image, opaque = _resized(image, size), _resized(opaque, size)
        yield from _attempts(image, "WEBP", _WEBP_QUALITIES[-2:], xmp)
        yield from _attempts(opaque, "JPEG", _JPEG_QUALITIES[-1:], xmp)


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


def _attempts(
    image: Image.Image, image_format: str, qualities: tuple[int, ...], xmp: bytes
) -> Iterator[tuple[bytes, str]]:
    for quality in qualities:
        # WebP has a maximum side, and its encoder fails for some very noisy images; other attempts follow.
        with suppress(ValueError, OSError, MemoryError):
            yield _encode(image, image_format, quality=quality, xmp=xmp), image_format


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **(_FAST_OPTIONS.get(image_format, {}) | options))
    return buffer.getvalue()
