"""Moods: which colours and which places a prompt's words ask for."""

from __future__ import annotations

from dataclasses import dataclass

from sandbox.figures import Colour


@dataclass(frozen=True, kw_only=True, slots=True)
class Palette:
    """The colours of one picture."""

    sky: tuple[Colour, Colour, Colour]
    """Top, middle, horizon."""
    light: Colour
    """Sun or moon, and what they shine on."""
    land: tuple[Colour, Colour, Colour]
    """Far, middle, near."""
    accent: Colour
    dark: bool = False


def _colours(codes: str) -> tuple[Colour, ...]:
    return tuple((int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in codes.split())


def _palette(sky: str, light: str, land: str, accent: str, *, dark: bool = False) -> Palette:
    top, middle, horizon = _colours(sky)
    far, between, near = _colours(land)
    return Palette(
        sky=(top, middle, horizon),
        light=_colours(light)[0],
        land=(far, between, near),
        accent=_colours(accent)[0],
        dark=dark,
    )


_DAY = _palette("4a90d6 8ec6ec ecf0e4", "fff6ce", "8eb0be 5c9478 386e54", "e86054")
_DAWN = _palette("5c5496 e88e96 ffd6a0", "fff0c8", "a87c98 70547c 42365c", "f6965c")
_SUNSET = _palette("3a306e e25c60 ffbc68", "ffe296", "964c6a 60345c 302242", "ffb050")
_NIGHT = _palette("0c102c 1c2858 465088", "f4f0d8", "2e3868 1e264c 10142e", "fac460", dark=True)
_AURORA = _palette("0a1630 164a60 56a08c", "e2fae6", "285468 18364a 0c1c2c", "96f0b4", dark=True)
_MINT = _palette("60b0b0 b0dece faf0d6", "fffae6", "84b8a8 4e8e86 285e62", "f0806e")
_ROSE = _palette("966eaa eca6ba ffe2d6", "fff6f0", "c48eaa 8e628e 583e6c", "fcca70")
_AUTUMN = _palette("7896b0 dec4a0 fce2b4", "ffeebe", "c48e60 a65c3a 643a30", "de5434")
_WINTER = _palette("7498be bad2e4 f0f4f8", "fffcf0", "cedce8 b0c4d8 e8f0f6", "d64a4e")
_NEON = _palette("160a34 60186e f65696", "ffbed6", "541e70 321254 180a32", "46e8e8", dark=True)

PALETTES = (_DAY, _DAWN, _SUNSET, _MINT, _ROSE, _AUTUMN, _NIGHT)

MOODS: dict[str, Palette] = {
    "night": _NIGHT, "midnight": _NIGHT, "moon": _NIGHT, "stars": _NIGHT, "space": _NIGHT, "galaxy": _NIGHT,
    "aurora": _AURORA, "northern": _AURORA, "sunset": _SUNSET, "dusk": _SUNSET, "evening": _SUNSET, "dawn": _DAWN,
    "sunrise": _DAWN, "morning": _DAWN, "day": _DAY, "sunny": _DAY, "summer": _DAY, "autumn": _AUTUMN, "fall": _AUTUMN,
    "winter": _WINTER, "snow": _WINTER, "snowy": _WINTER, "ice": _WINTER, "neon": _NEON, "cyberpunk": _NEON,
    "synthwave": _NEON, "spring": _ROSE, "pink": _ROSE, "pastel": _ROSE, "blossom": _ROSE, "green": _MINT,
    "astronaut": _NIGHT, "rocket": _NIGHT,
}  # fmt: skip

PLACES: dict[str, str] = {
    "city": "city", "street": "city", "skyline": "city", "tokyo": "city", "york": "city", "neon": "city",
    "town": "city", "cyberpunk": "city", "sea": "sea", "ocean": "sea", "beach": "sea",
    "harbour": "sea", "harbor": "sea", "lake": "sea",
    "island": "sea", "boat": "sea", "ship": "sea", "sailing": "sea", "whale": "sea", "dolphin": "sea", "coast": "sea",
    "lighthouse": "sea", "water": "sea", "forest": "forest", "woods": "forest", "trees": "forest", "jungle": "forest",
    "mountain": "mountains", "mountains": "mountains", "alps": "mountains", "peak": "mountains", "castle": "mountains",
    "snow": "mountains", "desert": "dunes", "dunes": "dunes", "sahara": "dunes", "space": "space", "galaxy": "space",
    "planet": "space", "astronaut": "space", "rocket": "space", "moon": "hills", "meadow": "hills", "field": "hills",
    "hills": "hills", "garden": "hills", "synthwave": "dunes",
}  # fmt: skip
