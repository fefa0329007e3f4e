"""Aspect ratios: written as `16:9`, compared by shape, turned into a width and a height where a model wants those."""

from __future__ import annotations

import math
from collections.abc import Iterable

COMMON = ("1:1", "5:4", "4:3", "3:2", "16:9", "2:1", "21:9", "4:5", "3:4", "2:3", "9:16", "1:2", "9:21")
"""What is offered where a model takes width and height and therefore any shape."""

_STEP_PIXELS = 16
# Wide enough to find the exact 1280x720 for 16:9, narrow enough that every shape costs the model about the same work.
_AREA_TOLERANCE = 0.15


def value(text: str) -> float:
    """Width over height of `16:9` or `2.35:1`. Raises ValueError for anything else."""
    width, colon, height = text.partition(":")
    if not colon:
        raise ValueError(f"not an aspect ratio: {text[:20]!r}")
    ratio = float(width) / float(height) if float(height) > 0 else 0.0
    if not (0 < ratio < math.inf):
        raise ValueError(f"not an aspect ratio: {text[:20]!r}")
    return ratio


def nearest(choices: Iterable[str], *, width: int, height: int) -> str:
    """The choice that resembles a picture of that size most. The first of equals; `choices` may not be empty."""
    shape = math.log(width / height)
    return min((choice for choice in choices if ":" in choice), key=lambda text: abs(math.log(value(text)) - shape))


def size(text: str, *, area: int, shortest: int, longest: int) -> tuple[int, int] | None:
    """Width and height in multiples of 16 with that shape and about that area, or None where the bounds forbid it."""
    ratio = value(text)
    if ratio < 1:
        turned = _landscape(1 / ratio, area=area, shortest=shortest, longest=longest)
        return (turned[1], turned[0]) if turned else None
    return _landscape(ratio, area=area, shortest=shortest, longest=longest)


def _landscape(ratio: float, *, area: int, shortest: int, longest: int) -> tuple[int, int] | None:
    usual = round(math.sqrt(area * ratio) / _STEP_PIXELS)
    best: tuple[float, float, int, int] | None = None
    for steps in range(max(1, int(usual * (1 - _AREA_TOLERANCE))), math.ceil(usual * (1 + _AREA_TOLERANCE)) + 1):
        width = steps * _STEP_PIXELS
        height = max(1, round(width / ratio / _STEP_PIXELS)) * _STEP_PIXELS
        off_area = abs(width * height / area - 1)
        if off_area > _AREA_TOLERANCE or not shortest <= height <= width <= longest:
            continue
        candidate = (abs(math.log(width / height / ratio)), off_area, width, height)
        best = min(best, candidate) if best else candidate
    return (best[2], best[3]) if best else None
