"""Figures: small flat drawings of the things people ask pictures of. Each stands on (0, 0) and is about 1 high."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

_INK: Colour = (38, 34, 48)
_WHITE: Colour = (250, 246, 238)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """The colour `share` of the way from `first` to `second`."""
    return (
        round(first[0] + (second[0] - first[0]) * share),
        round(first[1] + (second[1] - first[1]) * share),
        round(first[2] + (second[2] - first[2]) * share),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pen:
    """Draws in a figure's own units: x to the right, y upwards, 1 being the figure's height."""

    draw: ImageDraw.ImageDraw
    x: float
    y: float
    scale: float

    def at(self, point: Point) -> Point:
        return self.x + point[0] * self.scale, self.y - point[1] * self.scale

    def oval(self, centre: Point, width: float, height: float, fill: Colour) -> None:
        x, y = self.at(centre)
        half_width, half_height = width * self.scale / 2, height * self.scale / 2
        self.draw.ellipse((x - half_width, y - half_height, x + half_width, y + half_height), fill=fill)

    def disc(self, centre: Point, diameter: float, fill: Colour) -> None:
        self.oval(centre, diameter, diameter, fill)

    def shape(self, points: Sequence[Point], fill: Colour) -> None:
        self.draw.polygon([self.at(point) for point in points], fill=fill)

    def box(self, left: float, bottom: float, width: float, height: float, fill: Colour, round_by: float = 0.0) -> None:
        x, y = self.at((left, bottom + height))
        area = (x, y, x + width * self.scale, y + height * self.scale)
        self.draw.rounded_rectangle(area, radius=round_by * self.scale, fill=fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        thick = max(1, round(width * self.scale))
        self.draw.line([self.at(point) for point in points], fill=fill, width=thick, joint="curve")
        for point in (points[0], points[-1]):
            self.disc(point, width, fill)

    def petal(self, centre: Point, angle: float, length: float, width: float, fill: Colour) -> None:
        """A pointed oval from `centre` outwards."""
        points: list[Point] = []
        for step in range(25):
            along = step / 24 * math.tau
            reach = length * (1 - math.cos(along)) / 2
            side = width / 2 * math.sin(along)
            points.append(
                (
                    centre[0] + reach * math.cos(angle) - side * math.sin(angle),
                    centre[1] + reach * math.sin(angle) + side * math.cos(angle),
                )
            )
        self.shape(points, fill)


def curve(start: Point, bend: Point, end: Point, steps: int = 24) -> list[Point]:
    """Points along a quadratic curve."""
    points: list[Point] = []
    for step in range(steps + 1):
        t = step / steps
        points.append(
            (
                (1 - t) ** 2 * start[0] + 2 * t * (1 - t) * bend[0] + t**2 * end[0],
                (1 - t) ** 2 * start[1] + 2 * t * (1 - t) * bend[1] + t**2 * end[1],
            )
        )
    return points


Figure = Callable[[Pen, Colour, Colour, random.Random], None]
"""Draws itself with a main colour and an accent."""


def _sitting_animal(
    pen: Pen, coat: Colour, belly: Colour, *, ear: float, ear_width: float, tail: float, muzzle: bool
) -> None:
    shade = mix(coat, _INK, 0.25)
    if tail:
        pen.line(curve((0.18, 0.08), (0.62, 0.02), (0.50, 0.42)), tail, shade)
    if muzzle:
        pen.disc((0.50, 0.44), tail * 1.05, belly)
    pen.oval((0, 0.26), 0.52, 0.56, coat)
    pen.oval((0, 0.22), 0.28, 0.40, belly)
    for side in (-1, 1):
        pen.oval((side * 0.12, 0.05), 0.17, 0.11, shade)
        pen.shape(
            [
                (side * 0.06, 0.84),
                (side * (0.10 + ear_width), 0.74 + ear),
                (side * 0.25, 0.66),
            ],
            coat,
        )
        pen.shape(
            [(side * 0.10, 0.82), (side * (0.10 + ear_width), 0.70 + ear), (side * 0.21, 0.70)], mix(coat, belly, 0.6)
        )
    pen.oval((0, 0.66), 0.54, 0.42, coat)
    if muzzle:
        for side in (-1, 1):
            pen.petal((side * 0.02, 0.49), math.pi / 2 - side * 0.85, 0.30, 0.16, belly)
    else:
        pen.oval((0, 0.575), 0.22, 0.15, belly)
    for side in (-1, 1):
        pen.oval((side * 0.115, 0.685), 0.075, 0.095, _INK)
        pen.disc((side * 0.10, 0.705), 0.026, _WHITE)
    pen.shape([(-0.032, 0.61), (0.032, 0.61), (0, 0.575)], _INK)


def cat(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    coat = rng.choice([(72, 66, 84), (226, 148, 82), (150, 142, 150), (236, 222, 204)])
    _sitting_animal(pen, coat, mix(coat, _WHITE, 0.75), ear=0.28, ear_width=0.10, tail=0.09, muzzle=False)
    for side in (-1, 1):
        for lift in (-0.02, 0.02):
            pen.line([(side * 0.10, 0.585), (side * 0.34, 0.59 + lift * 2)], 0.008, mix(_INK, coat, 0.3))


def fox(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    _sitting_animal(pen, (222, 104, 48), _WHITE, ear=0.32, ear_width=0.14, tail=0.22, muzzle=True)


def dog(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    coat = rng.choice([(186, 132, 84), (120, 86, 62), (228, 204, 168)])
    _sitting_animal(pen, coat, mix(coat, _WHITE, 0.7), ear=0.02, ear_width=0.10, tail=0.08, muzzle=False)
    for side in (-1, 1):
        pen.petal((side * 0.20, 0.82), -math.pi / 2 - side * -0.35, 0.36, 0.17, mix(coat, _INK, 0.35))
    pen.oval((0, 0.535), 0.07, 0.09, (214, 100, 110))


def rabbit(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    coat = rng.choice([(236, 228, 222), (176, 158, 146)])
    pen.disc((0.27, 0.14), 0.16, (250, 246, 238))
    for side in (-1, 1):
        pen.petal((side * 0.09, 0.74), math.pi / 2 - side * 0.22, 0.52, 0.16, coat)
        pen.petal((side * 0.095, 0.80), math.pi / 2 - side * 0.22, 0.38, 0.08, (236, 170, 176))
    _sitting_animal(pen, coat, _WHITE, ear=0.02, ear_width=0.02, tail=0.0, muzzle=False)


def owl(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    coat = mix((120, 88, 66), main, 0.2)
    pen.oval((0, 0.45), 0.66, 0.90, coat)
    for side in (-1, 1):
        pen.shape([(side * 0.04, 0.84), (side * 0.30, 1.0), (side * 0.28, 0.70)], coat)
        pen.petal((side * 0.24, 0.62), -math.pi / 2 + side * 0.12, 0.52, 0.24, mix(coat, _INK, 0.3))
    for row in range(4):
        for column in range(-row, row + 1, 2):
            pen.oval((column * 0.06, 0.44 - row * 0.09), 0.09, 0.08, mix(coat, _WHITE, 0.55))
    for side in (-1, 1):
        pen.disc((side * 0.14, 0.70), 0.27, _WHITE)
        pen.disc((side * 0.13, 0.70), 0.17, (246, 190, 60))
        pen.disc((side * 0.12, 0.70), 0.10, _INK)
    pen.shape([(-0.05, 0.62), (0.05, 0.62), (0, 0.52)], (238, 160, 62))


def bird(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    pen.shape([(-0.30, 0.48), (-0.78, 0.60), (-0.72, 0.42)], mix(accent, _INK, 0.3))
    pen.oval((0, 0.50), 0.78, 0.52, accent)
    pen.disc((0.32, 0.72), 0.38, accent)
    pen.oval((0.08, 0.40), 0.50, 0.30, mix(accent, _WHITE, 0.7))
    pen.petal((0.10, 0.58), math.pi + 0.35, 0.58, 0.30, mix(accent, _INK, 0.25))
    pen.shape([(0.49, 0.78), (0.70, 0.70), (0.49, 0.66)], (244, 176, 66))
    pen.disc((0.38, 0.78), 0.07, _INK)
    for x in (-0.04, 0.10):
        pen.line([(x, 0.26), (x, 0.02)], 0.03, (214, 140, 60))


def whale(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    skin = mix((62, 104, 150), main, 0.25)
    pen.shape([*curve((0.55, 0.30), (0.95, 0.25), (0.98, 0.72)), (0.80, 0.56), (1.20, 0.66), (0.80, 0.20)], skin)
    pen.shape(
        [*curve((-0.85, 0.28), (-0.80, 0.95), (0.72, 0.36)), *curve((0.85, 0.26), (0.1, -0.22), (-0.85, 0.28))], skin
    )
    pen.shape(curve((-0.83, 0.24), (-0.2, -0.16), (0.45, 0.12)), mix(skin, _WHITE, 0.7))
    pen.disc((-0.55, 0.36), 0.055, _INK)
    pen.petal((-0.15, 0.18), -0.9, 0.34, 0.14, mix(skin, _INK, 0.3))
    for bend in (-0.25, 0.25):
        pen.line(curve((-0.38, 0.66), (-0.38 + bend * 0.3, 0.98), (-0.38 + bend, 0.92)), 0.035, mix(_WHITE, skin, 0.15))


def robot(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    metal = mix((176, 188, 198), main, 0.18)
    dark = mix(metal, _INK, 0.45)
    for side in (-1, 1):
        pen.box(side * 0.14 - 0.06, 0.0, 0.12, 0.24, dark, 0.03)
        pen.box(side * 0.15 - 0.10, 0.0, 0.20, 0.07, metal, 0.03)
        pen.line([(side * 0.27, 0.50), (side * 0.40, 0.38), (side * 0.37, 0.24)], 0.075, dark)
        pen.disc((side * 0.37, 0.22), 0.12, metal)
    pen.box(-0.27, 0.18, 0.54, 0.42, metal, 0.08)
    pen.box(-0.16, 0.28, 0.32, 0.20, dark, 0.03)
    for index, glow in enumerate(((240, 110, 96), (246, 202, 92), (118, 216, 156))):
        pen.disc((-0.09 + index * 0.09, 0.38), 0.06, glow)
    pen.box(-0.06, 0.58, 0.12, 0.07, dark)
    pen.box(-0.25, 0.62, 0.50, 0.32, metal, 0.09)
    pen.box(-0.20, 0.69, 0.40, 0.17, _INK, 0.06)
    for side in (-1, 1):
        pen.disc((side * 0.09, 0.775), 0.10, mix(accent, _WHITE, 0.35))
        pen.disc((side * 0.09, 0.775), 0.045, _WHITE)
    pen.line([(0, 0.94), (0, 1.04)], 0.02, dark)
    pen.disc((0, 1.06), 0.07, accent)


def flower(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    stem: Colour = (78, 138, 84)
    for x, height, size in ((-0.34, 0.52, 0.62), (0.36, 0.60, 0.72), (0.0, 0.76, 1.0)):
        pen.line(curve((x * 0.4, 0), (x * 0.4, height * 0.6), (x, height)), 0.03, stem)
        pen.petal((x * 0.45, height * 0.25), 0.7, 0.26, 0.10, mix(stem, _INK, 0.15))
        pen.petal((x * 0.42, height * 0.18), math.pi - 0.7, 0.24, 0.10, stem)
        bloom = mix(accent, rng.choice([(246, 120, 130), (250, 200, 90), (170, 130, 220), (250, 246, 238)]), 0.7)
        for ring, (reach, tone) in enumerate(((0.26, 0.0), (0.18, 0.3))):
            for petal in range(9):
                angle = petal / 9 * math.tau + ring * 0.35
                pen.petal((x, height), angle, reach * size, 0.13 * size, mix(bloom, _WHITE, tone))
        pen.disc((x, height), 0.13 * size, (246, 196, 84))
        pen.disc((x, height), 0.07 * size, (206, 140, 58))


def tree(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    bark: Colour = (96, 70, 60)
    pen.shape([(-0.07, 0), (0.07, 0), (0.04, 0.55), (-0.04, 0.55)], bark)
    pen.line([(0, 0.35), (0.16, 0.52)], 0.03, bark)
    crown = mix((74, 134, 92), accent, 0.25)
    for x, y, size, tone in (
        (-0.22, 0.56, 0.42, 0.15), (0.22, 0.56, 0.42, 0.15), (0, 0.62, 0.52, 0.08), (-0.12, 0.76, 0.42, 0.0),
        (0.14, 0.76, 0.38, 0.0), (0.02, 0.86, 0.30, -0.0),
    ):  # fmt: skip
        pen.disc((x, y), size, mix(crown, _INK, tone))
    for _ in range(14):
        pen.disc((rng.uniform(-0.28, 0.24), rng.uniform(0.5, 0.92)), 0.05, mix(crown, _WHITE, 0.28))


def house(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    wall = mix((238, 224, 204), main, 0.12)
    pen.box(0.16, 0.62, 0.11, 0.34, mix(accent, _INK, 0.35))
    pen.box(-0.38, 0, 0.76, 0.52, wall)
    pen.shape([(-0.48, 0.50), (0.48, 0.50), (0, 0.92)], mix(accent, (150, 60, 52), 0.5))
    pen.box(-0.08, 0, 0.18, 0.30, (110, 74, 60), 0.02)
    pen.disc((0.06, 0.14), 0.025, (246, 210, 120))
    for x in (-0.30, 0.18):
        pen.box(x, 0.20, 0.15, 0.17, (255, 222, 140))
        pen.line([(x + 0.075, 0.20), (x + 0.075, 0.37)], 0.014, wall)
        pen.line([(x, 0.285), (x + 0.15, 0.285)], 0.014, wall)


def castle(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    stone = mix((168, 162, 172), main, 0.2)
    for x, width, height in ((-0.44, 0.20, 0.66), (0.24, 0.20, 0.66), (-0.13, 0.26, 0.80)):
        pen.box(x, 0, width, height, mix(stone, _INK, 0.12))
        pen.shape([(x - 0.03, height), (x + width + 0.03, height), (x + width / 2, height + 0.24)], accent)
        pen.box(x + width / 2 - 0.03, height - 0.20, 0.06, 0.12, (255, 220, 140), 0.03)
        pen.line([(x + width / 2, height + 0.24), (x + width / 2, height + 0.34)], 0.012, _INK)
        pen.shape(
            [(x + width / 2, height + 0.34), (x + width / 2 + 0.10, height + 0.305), (x + width / 2, height + 0.27)],
            mix(accent, _WHITE, 0.4),
        )
    pen.box(-0.40, 0, 0.80, 0.40, stone)
    for index in range(6):
        pen.box(-0.40 + index * 0.144, 0.38, 0.08, 0.08, stone)
    pen.box(-0.09, 0, 0.18, 0.24, (74, 54, 56), 0.08)
    pen.box(-0.09, 0, 0.18, 0.10, (74, 54, 56))


def lighthouse(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    pen.oval((0, 0.0), 0.9, 0.16, (92, 86, 96))
    for index in range(5):
        low, high = index / 5, (index + 1) / 5
        left, right = 0.16 - 0.07 * low, 0.16 - 0.07 * high
        pen.shape(
            [(-left, low * 0.76), (left, low * 0.76), (right, high * 0.76), (-right, high * 0.76)],
            (208, 74, 66) if index % 2 == 0 else _WHITE,
        )
    pen.box(-0.13, 0.75, 0.26, 0.035, _INK)
    pen.box(-0.075, 0.785, 0.15, 0.12, (255, 232, 150))
    pen.shape([(-0.11, 0.90), (0.11, 0.90), (0, 1.02)], (170, 58, 56))


def boat(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    pen.line([(0, 0.1), (0, 0.98)], 0.022, (110, 80, 62))
    pen.shape([(-0.03, 0.95), (-0.03, 0.22), (-0.46, 0.22)], _WHITE)
    pen.shape([(0.03, 0.88), (0.03, 0.22), (0.38, 0.22)], mix(accent, _WHITE, 0.25))
    pen.shape(
        [*curve((-0.52, 0.17), (-0.42, -0.02), (-0.28, 0.0)), *curve((0.30, 0.0), (0.46, 0.0), (0.56, 0.17))],
        (136, 74, 60),
    )
    pen.line([(-0.50, 0.16), (0.54, 0.16)], 0.03, (226, 196, 160))


def balloon(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    second = mix(accent, _WHITE, 0.75)
    pen.oval((0, 0.66), 0.68, 0.68, accent)
    for width, tone in ((0.50, second), (0.30, accent), (0.10, second)):
        pen.oval((0, 0.66), width, 0.68, tone)
    pen.shape([(-0.28, 0.48), (0.28, 0.48), (0.08, 0.24), (-0.08, 0.24)], mix(accent, _INK, 0.2))
    for side in (-1, 1):
        pen.line([(side * 0.07, 0.24), (side * 0.06, 0.13)], 0.012, _INK)
    pen.box(-0.08, 0.0, 0.16, 0.13, (150, 104, 70), 0.02)


def rocket(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    for length, tone in ((0.30, (250, 150, 60)), (0.20, (255, 222, 120))):
        pen.petal((0, 0.22), -math.pi / 2, length, 0.18, tone)
    for side in (-1, 1):
        pen.shape([(side * 0.10, 0.46), (side * 0.30, 0.14), (side * 0.10, 0.22)], accent)
    pen.petal((0, 0.14), math.pi / 2, 0.98, 0.38, _WHITE)
    pen.shape(
        [
            (-0.13, 0.86),
            (0.13, 0.86),
            *curve((0.11, 0.90), (0.05, 1.08), (0, 1.12)),
            *curve((0, 1.12), (-0.05, 1.08), (-0.11, 0.90)),
        ],
        accent,
    )
    pen.disc((0, 0.66), 0.19, mix(accent, _INK, 0.4))
    pen.disc((0, 0.66), 0.13, (150, 210, 236))
    pen.disc((-0.02, 0.69), 0.04, _WHITE)


def astronaut(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    suit: Colour = (236, 236, 240)
    shade = mix(suit, _INK, 0.2)
    pen.box(-0.24, 0.28, 0.48, 0.38, mix(suit, _INK, 0.4), 0.06)
    for side in (-1, 1):
        pen.line([(side * 0.10, 0.32), (side * 0.12, 0.06)], 0.15, shade)
        pen.line([(side * 0.17, 0.56), (side * 0.33, 0.42 + side * 0.10)], 0.12, suit)
    pen.box(-0.20, 0.26, 0.40, 0.38, suit, 0.10)
    pen.box(-0.09, 0.40, 0.18, 0.10, accent, 0.02)
    pen.disc((0, 0.78), 0.44, suit)
    pen.oval((0.02, 0.78), 0.33, 0.28, mix((40, 50, 90), main, 0.2))
    pen.petal((-0.06, 0.80), 0.7, 0.16, 0.05, (170, 200, 236))


def cup(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    pen.oval((0, 0.03), 1.0, 0.12, mix(accent, _WHITE, 0.6))
    pen.line(curve((0.28, 0.42), (0.62, 0.36), (0.24, 0.14)), 0.06, accent)
    pen.shape(
        [
            (-0.34, 0.50),
            (0.34, 0.50),
            *curve((0.33, 0.4), (0.28, 0.06), (0.10, 0.05)),
            *curve((-0.10, 0.05), (-0.28, 0.06), (-0.33, 0.4)),
        ],
        accent,
    )
    pen.oval((0, 0.50), 0.68, 0.14, mix(accent, _WHITE, 0.4))
    pen.oval((0, 0.50), 0.60, 0.10, (92, 58, 42))
    for x in (-0.14, 0.02, 0.18):
        pen.line(
            [*curve((x, 0.60), (x + 0.08, 0.70), (x, 0.78)), *curve((x, 0.78), (x - 0.08, 0.86), (x, 0.96))],
            0.022,
            mix(_WHITE, main, 0.2),
        )


def person(pen: Pen, main: Colour, accent: Colour, rng: random.Random) -> None:
    skin = rng.choice([(244, 206, 176), (198, 144, 106), (134, 92, 68)])
    hair = rng.choice([(58, 42, 40), (140, 84, 46), (226, 190, 120), (90, 90, 100)])
    pen.oval((0, 0.70), 0.44, 0.52, hair)
    pen.shape([*curve((-0.42, 0), (-0.40, 0.44), (0, 0.44)), *curve((0, 0.44), (0.40, 0.44), (0.42, 0))], accent)
    pen.box(-0.07, 0.36, 0.14, 0.16, mix(skin, _INK, 0.12), 0.05)
    pen.oval((0, 0.68), 0.32, 0.40, skin)
    pen.shape(curve((-0.19, 0.72), (-0.08, 1.06), (0.20, 0.76)), hair)
    for side in (-1, 1):
        pen.oval((side * 0.07, 0.68), 0.035, 0.045, _INK)
        pen.oval((side * 0.095, 0.60), 0.06, 0.035, mix(skin, (230, 100, 100), 0.35))
    pen.line(curve((-0.05, 0.575), (0, 0.545), (0.05, 0.575)), 0.014, (160, 70, 70))


FIGURES: dict[str, Figure] = {
    "cat": cat, "fox": fox, "dog": dog, "rabbit": rabbit, "owl": owl, "bird": bird, "whale": whale, "robot": robot,
    "flower": flower, "tree": tree, "house": house, "castle": castle, "lighthouse": lighthouse, "boat": boat,
    "balloon": balloon, "rocket": rocket, "astronaut": astronaut, "cup": cup, "person": person,
}  # fmt: skip

SYNONYMS: dict[str, str] = {
    "kitten": "cat", "kitty": "cat", "tiger": "cat", "lion": "cat", "puppy": "dog", "wolf": "dog", "corgi": "dog",
    "bunny": "rabbit", "hare": "rabbit", "parrot": "bird", "sparrow": "bird", "duck": "bird", "dragon": "bird",
    "fish": "whale", "dolphin": "whale", "shark": "whale", "android": "robot", "machine": "robot", "mech": "robot",
    "flowers": "flower", "rose": "flower", "tulip": "flower", "garden": "flower", "oak": "tree", "trees": "tree",
    "cottage": "house", "cabin": "house", "hut": "house", "village": "house", "fortress": "castle", "palace": "castle",
    "tower": "castle", "ship": "boat", "sailboat": "boat", "sailing": "boat", "yacht": "boat", "spaceship": "rocket",
    "spacecraft": "rocket", "cosmonaut": "astronaut", "coffee": "cup", "tea": "cup", "mug": "cup", "cocoa": "cup",
    "woman": "person", "man": "person", "girl": "person", "boy": "person", "portrait": "person", "knight": "person",
    "wizard": "person", "queen": "person", "king": "person", "airship": "balloon", "cats": "cat", "dogs": "dog",
    "foxes": "fox", "birds": "bird", "robots": "robot", "boats": "boat", "houses": "house", "owls": "owl",
}  # fmt: skip

IN_THE_AIR = frozenset({"balloon", "rocket"})
IN_THE_WATER = frozenset({"boat", "whale"})
