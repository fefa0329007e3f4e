"""File types: what the first bytes of a file say, which is all that the bot's own process reads of it."""

from __future__ import annotations

LEADING_BYTES = 64
"""How much of a file is read."""

CONTENT_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
}
"""Every format that is read, by Pillow's name for it."""

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}
"""The formats that Discord shows: what is posted is one of these."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"BM", "BMP"),
)
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def format_of(data: bytes) -> str | None:
    """Return the format by content, as a key of CONTENT_TYPES; None for anything else."""
    beginning = data[:LEADING_BYTES]
    if beginning[:4] == b"RIFF" and beginning[8:12] == b"WEBP":
        return "WEBP"
    if beginning[4:8] == b"ftyp":
        end = min(int.from_bytes(beginning[:4], "big"), LEADING_BYTES)
        brands = {beginning[8:12], *(beginning[start : start + 4] for start in range(16, end, 4))}
        return "AVIF" if brands & _AVIF_BRANDS else "HEIF" if brands & _HEIF_BRANDS else None
    return next((name for signature, name in _SIGNATURES if beginning.startswith(signature)), None)
