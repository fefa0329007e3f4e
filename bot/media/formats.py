"""Formats: the kinds of picture files we deal in, what they are called, and how large a result may be."""

from __future__ import annotations

CONTENT_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
MAX_RESULT_PIXELS = 100_000_000
