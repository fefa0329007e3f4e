"""Image operations: check an image, shrink it, or re-encode it without metadata. Pillow only.

All functions take bytes from strangers, block, and need memory: they run in the processes of ImagePool.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

from PIL import Image, ImageCms

from bot.media import containers
from bot.media.containers import CONTENT_TYPES, EXTENSIONS, MAX_RESULT_PIXELS

MAX_INPUT_BYTES = 25_000_000
MAX_INPUT_PIXELS = 50_000_000
MIN_INPUT_SIDE = 16
MAX_INPUT_SIDE = 4096

_OTHER_IMAGE_SIGNATURES = (
    b"GIF8",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"8BPS",
    b"\xff\x0a",
    b"\0\0\0\x0cJXL ",
    b"\0\0\0\x0cjP  ",
    b"\0\0\1\0",
)
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
_ORIENTATION_TAG, _GPS_DIRECTORY = 0x0112, 0x8825
_WEBP_QUALITIES, _JPEG_QUALITIES = (92, 85, 75, 60), (80, 65)


class UnusableImageError(Exception):
    """The image cannot be used. `reason` and `limits` (by name) are those of UnusableImage."""

    def __init__(self, reason: str, **limits: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.limits = limits


def check(data: bytes) -> tuple[str, int, int]:
    """Return content type, width and height of a result.

    Raises UnusableImageError when it is no whole PNG, JPEG or WebP image.
    """
    image = _open(data, max_pixels=MAX_RESULT_PIXELS)
    _load(image)
    return CONTENT_TYPES[_format(data)], image.width, image.height


def shrink_to(data: bytes, limit_bytes: int) -> tuple[bytes, str, str, bool]:
    """Return the image in at most `limit_bytes` and without metadata; its type, extension, and whether it was changed.

    An image that fits keeps every bit of its pixels.
    """
    encoded, image_format = _without_metadata(data), _format(data)
    orientation = _orientation(data)
    if len(encoded) <= limit_bytes and orientation == 1:
        return encoded, CONTENT_TYPES[image_format], EXTENSIONS[image_format], False
    image = _open(data, max_pixels=MAX_RESULT_PIXELS)
    _load(image)
    attempts = _encode_smaller_and_smaller(_upright_srgb(image, orientation))
    encoded, image_format = next(attempt for attempt in attempts if len(attempt[0]) <= limit_bytes)
    return encoded, CONTENT_TYPES[image_format], EXTENSIONS[image_format], True


def clean(data: bytes) -> tuple[bytes, str, int, int]:
    """Re-encode an input image from its pixels alone: upright, sRGB, at most 4096 on its longer side.

    JPEG stays JPEG; what has transparency or was lossless stays lossless. Returns bytes, type, width and height.
    """
    if len(data) > MAX_INPUT_BYTES:
        raise UnusableImageError("too_many_bytes", limit_bytes=MAX_INPUT_BYTES)
    image_format, orientation = _format(data), _orientation(data)
    image = _open(data, max_pixels=MAX_INPUT_PIXELS)
    # APNG and animated WebP. A JPEG with several images is a phone photo with its preview or depth map.
    if image_format != "JPEG" and getattr(image, "is_animated", False):
        raise UnusableImageError("animated")
    if min(image.size) < MIN_INPUT_SIDE:
        raise UnusableImageError("too_small", side_pixels=MIN_INPUT_SIDE)
    # Lets a JPEG be decoded at a half, quarter or eighth of its size, if that is not below the final size.
    image.draft(image.mode, (MAX_INPUT_SIDE, MAX_INPUT_SIDE))
    _load(image)
    image = _upright_srgb(image, orientation, longest_side=MAX_INPUT_SIDE)
    match image_format:
        case "JPEG":
            encoded = _encode(image, "JPEG", quality=95, subsampling=0)
        case "WEBP" if image.mode == "RGB" and not _is_lossless_webp(data):
            encoded = _encode(image, "WEBP", quality=95)
        case "WEBP":
            encoded = _encode(image, "WEBP", lossless=True, quality=20, method=1)
        case _:
            encoded = _encode(image, "PNG")
    return encoded, CONTENT_TYPES[image_format], image.width, image.height


def has_location(data: bytes) -> bool:
    """Tell whether EXIF or XMP say where the image was taken. False for unreadable data."""
    if containers.format_of(data) is None:
        return False
    try:
        return any(_read_exif(payload)[1] for payload in containers.exif_payloads(data)) or any(
            b"GPSLatitude" in text or b"GPSLongitude" in text for text in containers.texts(data)
        )
    except containers.BrokenContainer:
        return False


# -- reading ------------------------------------------------------------------------------------------


def _format(data: bytes) -> str:
    """Return the format by content. Raises UnusableImageError with the most specific reason."""
    image_format = containers.format_of(data)
    if image_format is not None:
        return image_format
    beginning = data[:512].lstrip().lower()
    if (
        data.startswith(_OTHER_IMAGE_SIGNATURES)
        or data[4:8] == b"ftyp"
        or beginning.startswith(b"<svg")
        or b"<svg " in beginning
    ):
        raise UnusableImageError("unsupported_type")
    raise UnusableImageError("not_an_image")


def _open(data: bytes, *, max_pixels: int) -> Image.Image:
    """Read the header of the image and decode nothing. Its size is compared to `max_pixels` first."""
    image_format = _format(data)
    # Our limit is checked before any pixel is decoded; Pillow only warns below twice its own limit.
    Image.MAX_IMAGE_PIXELS = None
    if image_format == "WEBP":
        # Pillow allocates memory for the whole canvas while it opens the file.
        _check_pixels(_webp_size(data), max_pixels)
    stripped = _without_metadata(data)  # compressed texts can be bombs too
    try:
        image = Image.open(io.BytesIO(stripped), formats=(image_format,))
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises many classes for a damaged file
        raise UnusableImageError("broken") from error
    _check_pixels(image.size, max_pixels)
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


def _webp_size(data: bytes) -> tuple[int, int]:
    try:
        size = containers.webp_size(data)
    except containers.BrokenContainer as error:
        raise UnusableImageError("broken") from error
    if size is None:
        raise UnusableImageError("broken")
    return size


def _is_lossless_webp(data: bytes) -> bool:
    return any(chunk.name == b"VP8L" for chunk in _chunks(data))


def _chunks(data: bytes) -> list[containers.Chunk]:
    try:
        return containers.chunks(data)
    except containers.BrokenContainer as error:
        raise UnusableImageError("broken") from error


def _without_metadata(data: bytes) -> bytes:
    try:
        return containers.without_metadata(data)
    except containers.BrokenContainer as error:
        raise UnusableImageError("broken") from error


def _orientation(data: bytes) -> int:
    """Return the orientation tag; 1 (upright) when there is none or it is invalid."""
    try:
        values = [_read_exif(payload)[0] for payload in containers.exif_payloads(data)]
    except containers.BrokenContainer as error:
        raise UnusableImageError("broken") from error
    return next((value for value in values if isinstance(value, int) and value in _TRANSPOSITIONS), 1)


def _read_exif(payload: bytes) -> tuple[object, bool]:
    """Return the orientation tag, if any, and whether there is a location, as far as the EXIF data can be read."""
    orientation: object = None
    try:
        exif = Image.Exif()
        exif.load(b"Exif\0\0" + payload)
        orientation = exif.get(_ORIENTATION_TAG)
        return orientation, bool(exif.get_ifd(_GPS_DIRECTORY))
    except MemoryError:
        raise
    except Exception:  # as in _open
        return orientation, False


# -- re-encoding --------------------------------------------------------------------------------------


def _upright_srgb(image: Image.Image, orientation: int, *, longest_side: int | None = None) -> Image.Image:
    """Convert to RGB, or RGBA where a pixel is transparent: upright, in sRGB, without metadata."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        # 16 bits of grey: Pillow's own conversion would turn everything above 255 into white.
        image = image.point(_high_byte).convert("L")
    image = image.convert("RGBA" if image.has_transparency_data else "CMYK" if image.mode == "CMYK" else "RGB")
    if longest_side is not None and max(image.size) > longest_side:
        image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS, reducing_gap=3)
    image = _in_srgb(image, profile)
    if orientation in _TRANSPOSITIONS:
        image = image.transpose(_TRANSPOSITIONS[orientation])
    if image.mode == "RGBA" and image.getchannel("A").getextrema() == (255, 255):
        image = image.convert("RGB")
    image.info.clear()
    return image


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
    return image.convert(target)


def _encode_smaller_and_smaller(image: Image.Image) -> Iterator[tuple[bytes, str]]:
    """Encode the image smaller and smaller, down to a single pixel: WebP first, then JPEG, then fewer pixels."""
    opaque = image
    if image.mode == "RGBA":
        opaque = Image.new("RGB", image.size, "white")
        opaque.paste(image, mask=image.getchannel("A"))
    yield from _attempts(image, "WEBP", _WEBP_QUALITIES)
    yield from _attempts(opaque, "JPEG", _JPEG_QUALITIES)
    while max(image.size) > 1:
        size = max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)
        image, opaque = _resized(image, size), _resized(opaque, size)
        yield from _attempts(image, "WEBP", _WEBP_QUALITIES[-2:])
        yield from _attempts(opaque, "JPEG", _JPEG_QUALITIES[-1:])


def _resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


def _attempts(image: Image.Image, image_format: str, qualities: tuple[int, ...]) -> Iterator[tuple[bytes, str]]:
    for quality in qualities:
        # WebP has a maximum side, and its encoder fails for some very noisy images; other attempts follow.
        with suppress(ValueError, OSError):
            yield _encode(image, image_format, quality=quality), image_format


def _encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, image_format, **(_FAST_OPTIONS.get(image_format, {}) | options))
    return buffer.getvalue()
