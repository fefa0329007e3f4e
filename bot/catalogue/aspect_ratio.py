"""Aspect ratios: parsing `16:9`, finding the nearest one, and converting one to a width and a height."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

COMMON = ("1:1", "5:4", "4:3", "3:2", "16:9", "2:1", "21:9", "4:5", "3:4", "2:3", "9:16", "1:2", "9:21")
"""The choices for models that take a width and a height, and so any ratio."""

_STEP_PIXELS = 16
# Wide enough to find exactly 1280x720 for 16:9; narrow enough that all ratios have about the same number of pixels.
_AREA_TOLERANCE = 0.15


def value(text: str) -> float:
    """Parse `16:9` or `2.35:1` to width over height. Raises ValueError for anything else."""
    width, colon, height = text.partition(":")
    if not colon:
        raise ValueError(f"not an aspect ratio: {text[:20]!r}")
    ratio = float(width) / float(height) if float(height) > 0 else 0.0
    if not (0 < ratio < math.inf):
        raise ValueError(f"not an aspect ratio: {text[:20]!r}")
    return ratio


def nearest(choices: Iterable[str], *, width: int, height: int) -> str:
    """Return the choice nearest to the shape of that size; the first of equals. `choices` must not be empty."""
    shape = math.log(width / height)
    return min((choice for choice in choices if ":" in choice), key=lambda text: abs(math.log(value(text)) - shape))


@lru_cache(maxsize=1_024)
def size(text: str, *, area_pixels: int, min_side_pixels: int, max_side_pixels: int) -> tuple[int, int] | None:
    """Return width and height, multiples of 16, of about that ratio and area; None where the bounds forbid it.

    Remembered, because every card asks for all sizes of its model: a twelfth of the processor time of a job.
    """
    ratio = value(text)
    if ratio < 1:
        landscape = _landscape(
            1 / ratio, area_pixels=area_pixels, min_side_pixels=min_side_pixels, max_side_pixels=max_side_pixels
        )
        return (landscape[1], landscape[0]) if landscape else None
    return _landscape(ratio, area_pixels=area_pixels, min_side_pixels=min_side_pixels, max_side_pixels=max_side_pixels)


def _landscape(ratio: float, *, area_pixels: int, min_side_pixels: int, max_side_pixels: int) -> tuple[int, int] | None:
    usual = round(math.sqrt(area_pixels * ratio) / _STEP_PIXELS)
    best: tuple[float, float, int, int] | None = None
    for steps in range(max(1, int(usual * (1 - _AREA_TOLERANCE))), math.ceil(usual * (1 + _AREA_TOLERANCE)) + 1):
        width = steps * _STEP_PIXELS
        height = max(1, round(width / ratio / _STEP_PIXELS)) * _STEP_PIXELS
        area_difference = abs(width * height / area_pixels - 1)
        if area_difference > _AREA_TOLERANCE or not min_side_pixels <= height <= width <= max_side_pixels:
            continue
        candidate = (abs(math.log(width / height / ratio)), area_difference, width, height)
        best = min(best, candidate) if best else candidate
    return (best[2], best[3]) if best else None
