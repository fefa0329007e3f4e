"""Lands: the ground a scene stands on, from the horizon down."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from sandbox.figures import Colour, mix
from sandbox.moods import Palette

_WHITE: Colour = (255, 255, 255)

Land = Callable[[Image.Image, int, Palette, random.Random], None]
"""Draws itself below the horizon (in pixels from the top)."""


def gradient(size: tuple[int, int], top: Colour, bottom: Colour) -> Image.Image:
    """A smooth change of colour from top to bottom."""
    column = Image.linear_gradient("L")
    mask = column.resize(size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask)


def _layer(
    image: Image.Image, base: float, swing: float, colour: Colour, rng: random.Random, rough: float = 0.4
) -> list[tuple[float, float]]:
    """Fill everything below a wavy line; returns the line."""
    waves = [(rng.uniform(0.6, 1.4) * 2**octave, rng.uniform(0, math.tau), rough**octave) for octave in range(6)]
    total = sum(amount for _, _, amount in waves)

    def level(x: float) -> float:
        return sum(math.sin(x / image.width * math.tau * pitch + phase) * amount for pitch, phase, amount in waves)

    points = [(float(x), base + swing * level(x) / total) for x in range(0, image.width + 8, 8)]
    ImageDraw.Draw(image).polygon([(0, image.height), *points, (image.width, image.height)], fill=colour)
    return points


def _hills(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    height = image.height
    _layer(image, horizon * 0.92, height * 0.06, palette.land[0], rng)
    _layer(image, horizon * 1.06, height * 0.05, mix(palette.land[0], palette.land[1], 0.6), rng)
    _layer(image, horizon * 1.20, height * 0.04, palette.land[1], rng, 0.3)
    _layer(image, height * 0.90, height * 0.02, palette.land[2], rng, 0.3)


def _mountains(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    width, height = image.size
    canvas = ImageDraw.Draw(image)
    snow = mix(_WHITE, palette.sky[2], 0.35)
    tones = (mix(palette.sky[2], palette.land[0], 0.7), mix(palette.land[0], palette.land[1], 0.5))
    for row, tone in enumerate(tones):
        count = 3 + row
        foot = horizon + height * 0.1
        for index in range(count + 1):
            peak = (index + rng.uniform(-0.3, 0.3)) * width / count
            top = horizon - height * rng.uniform(0.20, 0.36) * (1 - row * 0.42)
            half = width / count * rng.uniform(0.7, 0.95)
            canvas.polygon([(peak, top), (peak + half, foot), (peak - half, foot)], fill=tone)
            shade = mix(tone, palette.land[2], 0.30)
            canvas.polygon([(peak, top), (peak + half, foot), (peak + half * 0.12, foot)], fill=shade)
            drop, steps = (foot - top) * 0.30, 6
            edge = [
                (peak + half * 0.30 * (1 - 2 * step / steps), top + drop * (1.0 if step % 2 == 0 else 0.66))
                for step in range(steps + 1)
            ]
            canvas.polygon([(peak, top), *edge], fill=mix(snow, tone, 0.1 + 0.12 * row))
    _layer(image, horizon * 1.05, height * 0.025, palette.land[1], rng)
    _layer(image, height * 0.88, height * 0.025, palette.land[2], rng)


def _forest(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    height = image.height
    canvas = ImageDraw.Draw(image)
    rows = (
        (0.86, 0.16, mix(palette.sky[2], palette.land[0], 0.75)),
        (1.00, 0.20, mix(palette.land[0], palette.land[1], 0.6)),
        (1.16, 0.25, palette.land[1]),
    )
    for base, size, tone in rows:
        points = _layer(image, horizon * base + height * 0.06, height * 0.02, tone, rng)
        for x, y in points[:: max(1, len(points) // 26)]:
            tall = height * size * rng.uniform(0.65, 1.1)
            x += rng.uniform(-14, 14)
            for tier in range(4):
                top, low = y - tall * (1 - tier * 0.20), y - tall * (0.62 - tier * 0.20) + 6
                half = tall * (0.10 + tier * 0.045)
                fill = mix(tone, palette.land[2], tier * 0.05)
                canvas.polygon([(x, top), (x + half, low), (x - half, low)], fill=fill)
    _layer(image, height * 0.88, height * 0.02, palette.land[2], rng)


def _dunes(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    height = image.height
    sand: Colour = (232, 176, 112)
    for index in range(4):
        tone = mix(mix(sand, palette.land[0], 0.45), palette.land[2], index * 0.22)
        _layer(image, horizon + height * (0.02 + index * 0.085), height * 0.045, tone, rng, 0.2)


def _sea(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    width, height = image.size
    _layer(image, horizon * 0.97, height * 0.03, mix(palette.land[0], palette.sky[2], 0.3), rng)
    water = mix((46, 110, 150), palette.sky[1], 0.75 if palette.dark else 0.5)
    far, near = mix(water, palette.sky[2], 0.35), mix(water, palette.land[2], 0.6)
    image.paste(gradient((width, height - horizon), far, near), (0, horizon))
    canvas = ImageDraw.Draw(image)
    for _ in range(150):
        depth = rng.random() ** 1.6
        x, y = rng.uniform(0, width), horizon + (height - horizon) * depth
        length = width * (0.01 + 0.05 * depth)
        tone = mix(water, palette.light, rng.uniform(0.08, 0.32))
        canvas.rounded_rectangle((x, y, x + length, y + 1.5 + 3 * depth), radius=2, fill=tone)


def shimmer(image: Image.Image, sun_x: float, horizon: int, palette: Palette, rng: random.Random) -> None:
    """The path of light on the water below the sun."""
    canvas = ImageDraw.Draw(image)
    for index in range(46):
        depth = index / 46
        y = horizon + (image.height - horizon) * depth**1.3
        half = image.width * (0.012 + 0.06 * depth) * rng.uniform(0.35, 1.0)
        x = sun_x + rng.uniform(-1, 1) * image.width * 0.035 * depth
        under = image.getpixel((min(image.width - 1, max(0, round(x))), min(image.height - 1, round(y))))
        base: Colour = (under[0], under[1], under[2]) if isinstance(under, tuple) else palette.light
        area = (x - half, y, x + half, y + 2 + 3.5 * depth)
        canvas.rounded_rectangle(area, radius=2, fill=mix(base, palette.light, 0.7 - 0.4 * depth))


def _city(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    width, height = image.size
    canvas = ImageDraw.Draw(image)
    rows = ((mix(palette.sky[2], palette.land[0], 0.6), 0.44), (palette.land[1], 0.36), (palette.land[2], 0.24))
    for row, (tone, tallest) in enumerate(rows):
        x = -width * rng.uniform(0, 0.05)
        base = horizon * (1.0 + row * 0.12) + height * 0.05
        while x < width:
            broad = width * rng.uniform(0.045, 0.085)
            top = base - height * tallest * rng.uniform(0.35, 1.0)
            canvas.rectangle((x, top, x + broad, height), fill=tone)
            if rng.random() < 0.3:
                tip = top - height * 0.05
                canvas.polygon([(x + broad * 0.25, top), (x + broad * 0.75, top), (x + broad / 2, tip)], fill=tone)
                canvas.line((x + broad / 2, tip, x + broad / 2, tip - height * 0.035), fill=tone, width=3)
            _windows(canvas, (x, top, broad, base + height * 0.1), row, tone, palette, rng)
            x += broad * rng.uniform(1.0, 1.12)
    canvas.rectangle((0, height * 0.90, width, height), fill=mix(palette.land[2], (0, 0, 0), 0.3))
    for index in range(9):
        left = width * (index / 9 + 0.02)
        stripe = (left, height * 0.945, left + width * 0.06, height * 0.952)
        canvas.rectangle(stripe, fill=mix(palette.land[2], palette.light, 0.45))


def _windows(
    canvas: ImageDraw.ImageDraw,
    wall: tuple[float, float, float, float],
    row: int,
    tone: Colour,
    palette: Palette,
    rng: random.Random,
) -> None:
    x, top, broad, foot = wall
    pane = broad / 9
    glow = mix(tone, mix(palette.accent, (255, 226, 150), 0.45), 0.35 + 0.3 * row)
    for column in range(3):
        for level in range(int((foot - top) / (pane * 2.2))):
            if rng.random() < (0.5 if palette.dark else 0.22):
                left, upper = x + pane * (1.3 + column * 2.5), top + pane * (1.4 + level * 2.2)
                canvas.rectangle((left, upper, left + pane * 1.2, upper + pane * 1.1), fill=glow)


def _space(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> None:
    ground = mix((150, 146, 160), palette.land[0], 0.5)
    _layer(image, horizon, image.height * 0.02, ground, rng, 0.3)
    canvas = ImageDraw.Draw(image)
    for _ in range(12):
        depth = rng.uniform(0.25, 0.9)
        x, y = rng.uniform(0, image.width), horizon + (image.height - horizon) * depth
        wide = image.width * rng.uniform(0.015, 0.05) * (0.5 + depth)
        area = (x - wide, y - wide * 0.28, x + wide, y + wide * 0.28)
        canvas.ellipse(area, fill=mix(ground, (40, 40, 60), 0.35))


LANDS: dict[str, Land] = {
    "hills": _hills,
    "mountains": _mountains,
    "forest": _forest,
    "dunes": _dunes,
    "sea": _sea,
    "city": _city,
    "space": _space,
}
