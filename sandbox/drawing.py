"""Drawing: paints an image from a prompt with Pillow. The same prompt, seed and size always give the same image.

The words of the prompt choose the colours, the land and the figure. An edit keeps its input recognisable and changes
it visibly; a style reference lends its colours.
"""

from __future__ import annotations

import io
import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Colour = tuple[int, int, int]
Point = tuple[float, float]

_LONG_SIDE_PX = 1600  # of the canvas: smooth edges for small images, a bounded cost for large ones
_DARK = 240  # a sky whose red, green and blue add up to less has stars
_INK: Colour = (38, 34, 48)
_WHITE: Colour = (250, 246, 238)

# Words: sky from the top to the horizon, sun or moon, land from far to near, accent.
_MOODS = """
day sunny summer: 4a90d6 8ec6ec ecf0e4 fff6ce 8eb0be 5c9478 386e54 e86054
dawn sunrise morning: 5c5496 e88e96 ffd6a0 fff0c8 a87c98 70547c 42365c f6965c
sunset dusk evening: 3a306e e25c60 ffbc68 ffe296 964c6a 60345c 302242 ffb050
green mint: 60b0b0 b0dece faf0d6 fffae6 84b8a8 4e8e86 285e62 f0806e
spring pink pastel blossom: 966eaa eca6ba ffe2d6 fff6f0 c48eaa 8e628e 583e6c fcca70
autumn fall: 7896b0 dec4a0 fce2b4 ffeebe c48e60 a65c3a 643a30 de5434
night midnight moon stars space galaxy astronaut rocket: 0c102c 1c2858 465088 f4f0d8 2e3868 1e264c 10142e fac460
winter snow snowy snowing ice: 7498be bad2e4 f0f4f8 fffcf0 cedce8 b0c4d8 e8f0f6 d64a4e
aurora northern: 0a1630 164a60 56a08c e2fae6 285468 18364a 0c1c2c 96f0b4
neon cyberpunk synthwave: 160a34 60186e f65696 ffbed6 541e70 321254 180a32 46e8e8
"""
_PLACES = """
city street skyline tokyo york neon town cyberpunk: city
sea ocean beach harbour harbor lake island boat ship sailing whale dolphin coast lighthouse water: sea
forest woods tree jungle: forest
mountain alps peak castle snow: mountains
desert dune sahara synthwave: dunes
space galaxy planet astronaut rocket: space
moon meadow field hill garden: hills
"""
# Words: possible coats. Then the shapes of a figure about 1 high that stands on (0, 0), with y upwards:
#   oval or box: colour, x, y, width, height; poly or soft (rounded): colour, points; line: colour, width, points;
#   bloom: colour, x, y, size. `|` also draws the shape mirrored.
_BODY = "oval coat 0 .26 .52 .56; oval belly 0 .22 .28 .4; |oval shade .12 .05 .17 .11"
_FACE = "oval belly 0 .575 .22 .15; |oval ink .12 .685 .08 .1; |oval white .1 .7 .03 .03; oval ink 0 .6 .06 .04"
_FIGURES = """
cat kitten kitty tiger lion: 484254 e29452 968e96 ecdecc
line shade .09 .18 .08 .62 .02 .5 .42; $body; |poly coat .06 .84 .2 1.02 .25 .66; |poly blush .1 .82 .19 .97 .21 .7;
oval coat 0 .66 .54 .42; $face; |line shade .008 .1 .585 .34 .63; |line shade .008 .1 .585 .34 .55
fox: de6830
line shade .22 .18 .08 .62 .02 .5 .42; oval belly .5 .44 .23 .23; $body; |poly coat .06 .84 .24 1.06 .25 .66; |poly
blush .1 .82 .23 1.01 .21 .7; oval coat 0 .66 .54 .42; |soft belly 0 .5 0 .5 .02 .66 .25 .75 .25 .75 .21 .48; $face
dog puppy wolf corgi: ba8454 78563e e4cca8
line shade .08 .18 .08 .62 .02 .5 .42; $body; oval coat 0 .66 .54 .42; $face; |soft deep .2 .84 .38 .72 .36 .44 .14 .58
bird owl parrot sparrow duck dragon:
poly dim -.3 .48 -.78 .6 -.72 .42; oval coat 0 .5 .78 .52; oval coat .32 .72 .38 .38; oval belly .08 .4 .5 .3; soft dim
.1 .6 -.1 .3 -.5 .36 -.5 .36 -.2 .64; poly f4b042 .49 .78 .7 .7 .49 .66; oval ink .38 .78 .07 .07; |line d68c3c .03 .07
.26 .07 .02
whale fish dolphin shark: 3e6896 4a7a8a
soft coat .5 .28 .95 .2 1 .76 .82 .56 .82 .56 1.22 .68 .86 .2 .7 .16; soft coat -.86 .28 -.84 .66 -.3 .84 .5 .36 .9 .3
.8 .1 .1 -.02 -.8 .02; soft belly -.84 .2 -.2 .2 .5 .12 .1 0 -.7 .02; oval ink -.55 .36 .055 .055; soft deep -.18 .2
-.02 .14 .1 -.12 -.1 -.02; line white .035 -.38 .68 -.42 .98 -.62 .92; line white .035 -.38 .68 -.32 .98 -.12 .92
robot android machine mech: b0bcc6
|box deep .14 .12 .12 .24; |box coat .15 .035 .2 .07; |line deep .075 .27 .5 .44 .4 .37 .24; |oval coat .37 .22 .12 .12;
box coat 0 .39 .54 .42; box deep 0 .38 .32 .2; oval f06e60 -.09 .38 .06 .06; oval f6ca5c 0 .38 .06 .06; oval 76d89c .09
.38 .06 .06; box deep 0 .615 .12 .07; box coat 0 .78 .5 .32; box ink 0 .775 .4 .17; |oval pale .09 .775 .1 .1; |oval
white .09 .775 .045 .045; line deep .02 0 .94 0 1.04; oval accent 0 1.06 .07 .07
flower rose tulip garden blossom: f6787e fac85a aa82dc faf6ee
line 4e8a54 .03 -.1 0 -.1 .3 -.34 .52; line 4e8a54 .03 .1 0 .1 .3 .36 .6; line 4e8a54 .03 0 0 0 .8; |soft 4e8a54 .05 .1
.1 .36 .34 .34 .34 .34 .2 .1; bloom accent -.34 .52 .62; bloom pale .36 .6 .72; bloom coat 0 .76 1; oval f6c454 0 .76
.15 .15
tree oak: 4a865c 5c8a4a 7a8a44
poly 60463c -.07 0 .07 0 .04 .55 -.04 .55; line 60463c .03 0 .35 .16 .52; |oval shade .22 .56 .42 .42; oval shade 0 .6
.52 .52; oval coat -.12 .74 .44 .44; oval coat .15 .75 .38 .38; oval coat .02 .86 .3 .3
house cottage cabin hut village: eee0cc
box deep .215 .79 .11 .34; box coat 0 .26 .76 .52; poly dim -.48 .5 .48 .5 0 .92; box 6e4a3c .01 .15 .18 .3; oval f6d278
.06 .14 .025 .025; |box ffde8c .255 .285 .15 .17; |line coat .014 .255 .2 .255 .37; |line coat .014 .18 .28 .33 .28
castle fortress palace tower: a8a2ac
|box shade .34 .33 .2 .66; |poly accent .21 .66 .47 .66 .34 .9; |box ffdc8c .34 .52 .06 .12; |line ink .012 .34 .9 .34
1; |poly pale .34 1 .44 .965 .34 .93; box shade 0 .4 .26 .8; poly accent -.16 .8 .16 .8 0 1.04; box ffdc8c 0 .66 .06
.12; line ink .012 0 1.04 0 1.14; poly pale 0 1.14 .1 1.105 0 1.07; box coat 0 .2 .8 .4; |box coat .36 .42 .08 .08; |box
coat .072 .42 .08 .08; box 4a3638 0 .11 .18 .22; oval 4a3638 0 .21 .18 .16
lighthouse: d04a42
oval 5c5660 0 0 .9 .16; poly coat -.16 0 .16 0 .09 .76 -.09 .76; poly white -.15 .15 .15 .15 .13 .3 -.13 .3; poly white
-.12 .46 .12 .46 .1 .6 -.1 .6; box ink 0 .767 .26 .035; box ffe896 0 .845 .15 .12; poly aa3a38 -.11 .9 .11 .9 0 1.02
boat ship sailboat sailing yacht: 884a3c
line 6e503e .022 0 .1 0 .98; poly white -.03 .95 -.03 .22 -.46 .22; poly pale .03 .88 .03 .22 .38 .22; soft coat -.54
.18 -.54 .18 -.46 0 -.3 -.02 .32 -.02 .5 0 .58 .18 .58 .18; line e2c4a0 .03 -.5 .16 .54 .16
balloon airship:
oval coat 0 .66 .68 .68; oval pale 0 .66 .5 .68; oval coat 0 .66 .3 .68; oval pale 0 .66 .1 .68; poly dim -.28 .48 .28
.48 .08 .24 -.08 .24; |line ink .012 .07 .24 .06 .13; box 966846 0 .065 .16 .13
rocket spaceship spacecraft:
soft fa963c -.1 .2 0 -.16 0 -.16 .1 .2; soft ffde78 -.06 .2 0 -.04 0 -.04 .06 .2; |poly coat .1 .46 .3 .14 .1 .22; soft
white 0 1.14 0 1.14 -.22 .9 -.2 .34 -.1 .14 .1 .14 .2 .34 .22 .9; oval dim 0 .66 .19 .19; soft coat 0 1.14 0 1.14 -.1
1.04 -.15 .9 .15 .9 .1 1.04; oval 96d2ec 0 .66 .13 .13; oval white -.02 .69 .04 .04
astronaut cosmonaut: ecebf0
box deep 0 .47 .48 .38; |line shade .15 .1 .32 .12 .06; line coat .12 .17 .56 .33 .52; line coat .12 -.17 .56 -.33 .32;
box coat 0 .45 .4 .38; box accent 0 .45 .18 .1; oval coat 0 .78 .44 .44; oval 28325a .02 .78 .33 .28
person woman man girl boy portrait knight wizard queen king: f4ceb0 c6906a 865c44
oval 5a4034 0 .7 .44 .52; soft accent -.44 0 -.44 0 -.42 .4 0 .46 .42 .4 .44 0 .44 0; box shade 0 .44 .14 .16; oval coat
0 .68 .32 .4; soft 5a4034 -.2 .7 -.2 .7 -.14 1 .16 .98 .21 .74 .21 .74 0 .82; |oval ink .07 .68 .04 .05; line a04646 .02
-.05 .57 0 .54 .05 .57
"""
_IN_THE_AIR = frozenset({"balloon", "rocket"})
_IN_THE_WATER = frozenset({"boat", "whale"})


def _table(text: str) -> dict[str, tuple[str, str, str]]:
    """Map each word of `words: value` to (the first of those words, the value, the lines that follow)."""
    found: list[tuple[str, str, str]] = re.findall(r"^([a-z ]+): ?(.*)\n((?:[^:\n]+\n)*)", text, re.MULTILINE)
    return {word: (words.split()[0], value, lines) for words, value, lines in found for word in words.split()}


def _colour(code: str) -> Colour:
    red, green, blue = bytes.fromhex(code)
    return red, green, blue


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour `share` of the way from `first` to `second`."""
    red, green, blue = (round(one + (other - one) * share) for one, other in zip(first, second, strict=True))
    return red, green, blue


MOODS = {word: [_colour(code) for code in codes.split()] for word, (_, codes, _) in _table(_MOODS).items()}
PLACES = _table(_PLACES)
FIGURES = _table(_FIGURES.replace("$body", _BODY).replace("$face", _FACE))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """What to draw: `sources` are images to change, `references` lend colours, `keep` only enlarges a source."""

    prompt: str
    seed: int
    width: int
    height: int
    sources: tuple[bytes, ...] = ()
    references: tuple[bytes, ...] = ()
    keep: bool = False


def draw(sketch: Sketch) -> Image.Image:
    """Return the finished image, exactly `width` x `height`."""
    size, sources = (sketch.width, sketch.height), [_opened(data) for data in sketch.sources]
    if sketch.keep:
        return sources[0].resize(size, Image.Resampling.LANCZOS).filter(ImageFilter.UnsharpMask(3, 60, 2))
    rng = random.Random(f"{sketch.prompt}\0{sketch.seed}")
    words = [form for word in re.findall("[a-z]+", sketch.prompt.lower()) for form in (word, word.removesuffix("s"))]
    # The light comes before the season: a snowy forest at night is dark, and green under northern lights.
    moods = [MOODS[word] for word in words if word in MOODS] or [rng.choice(list(MOODS.values()))]
    palette = max(moods, key=lambda mood: (sum(mood[1]) < _DARK, mood is not MOODS["night"]))
    if sketch.references:
        palette = _borrowed(_opened(sketch.references[0]))
    width, height = (max(16, round(side * _LONG_SIDE_PX / max(size))) for side in size)
    image = ImageOps.fit(sources[0], (width, height)) if sources else Image.new("RGB", (width, height))
    painting = _Painting(image, palette, rng, words)
    painting.edit(sources[1:]) if sources else painting.scene()
    image = image.resize(size, Image.Resampling.LANCZOS)
    _caption(image, sketch.prompt)
    return image


def encode(image: Image.Image, image_format: str = "png") -> bytes:
    """Return the image as a file: 'png', 'jpg' or 'webp'."""
    buffer = io.BytesIO()
    names = {"jpg": "JPEG", "jpeg": "JPEG", "webp": "WEBP"}
    image.save(buffer, names.get(image_format, "PNG"), quality=91, compress_level=3, method=2)
    return buffer.getvalue()


def preview(sketch: Sketch) -> bytes:
    """Return an unfinished state of the image as a PNG file: small and soft."""
    small = draw(sketch).resize((max(1, sketch.width // 4), max(1, sketch.height // 4)), Image.Resampling.LANCZOS)
    return encode(small.filter(ImageFilter.GaussianBlur(max(2, small.width // 48))))


def size_of(data: bytes) -> tuple[int, int]:
    """Return the width and height of an encoded image."""
    return _opened(data).size


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def _borrowed(image: Image.Image) -> list[Colour]:
    """Return a palette of the colours of an image, from its darkest to its lightest part."""
    small = image.resize((1, 8), Image.Resampling.BOX).tobytes()
    colours = sorted(zip(small[::3], small[1::3], small[2::3], strict=True), key=sum)
    shares = ((1, -0.3), (3, 0.1), (6, 0.5), (7, 0.8), (4, 0.15), (2, -0.2), (0, -0.55), (5, 0.35))
    return [_mix(colours[index], _WHITE if share > 0 else _INK, abs(share)) for index, share in shares]


def _caption(image: Image.Image, prompt: str) -> None:
    """Write the first words of the prompt at the foot: they show which prompt made which image."""
    size = max(8, round(min(image.size) * 0.022))
    text = " ".join(re.sub(r"[^\u0020-\u024f‘’“”–—…]", " ", prompt).split())[: round(image.width * 1.7 / size)]
    place, font = (image.width / 2, image.height - size * 1.7), ImageFont.load_default(size)
    ImageDraw.Draw(image).text(place, text, _WHITE, font, anchor="mm", stroke_width=size / 16, stroke_fill=_INK)


def _smooth(points: list[Point], *, closed: bool) -> list[Point]:
    """Round the corners by cutting them four times (Chaikin's algorithm)."""
    for _ in range(4 if points[2:] else 0):
        pairs = zip(points, [*points[1:], points[0]], strict=True) if closed else pairwise(points)
        cut = [(a + (c - a) * share, b + (d - b) * share) for (a, b), (c, d) in pairs for share in (0.25, 0.75)]
        points = cut if closed else [points[0], *cut, points[-1]]
    return points


class _Painting:
    """One image while it is painted. Heights of land and sky are shares of the image; x, y and sizes are pixels."""

    def __init__(self, image: Image.Image, palette: list[Colour], rng: random.Random, words: Sequence[str]) -> None:
        self._image, self._rng, self._words, self._dark = image, rng, words, sum(palette[1]) < _DARK
        self._top, self._middle, self._bottom, self._light, self._far, self._between, self._near, self._accent = palette
        self._canvas = ImageDraw.Draw(image)
        self._width, self._height = image.size
        self._name = next((FIGURES[word][0] for word in words if word in FIGURES), None)
        places = ["sea"] if self._name in _IN_THE_WATER else ["hills", "mountains", "sea", "forest", "hills", "dunes"]
        self._place = next((PLACES[word][1] for word in words if word in PLACES), rng.choice(places))

    def scene(self) -> None:
        """Paint sky, land and figure."""
        self._gradient(0, 0.36, self._top, self._middle)
        self._gradient(0.36, 1, self._middle, self._bottom)
        self._specks(190 if self._dark else 0, 0.62, 1.8)
        x, y = self._width * self._rng.uniform(0.18, 0.82), self._height * self._rng.uniform(0.14, 0.37)
        self._sun(x, y, min(self._image.size) * self._rng.uniform(0.13, 0.22))
        for _ in range(0 if self._dark else 3):
            self._cloud(self._width * self._rng.random(), self._height * self._rng.uniform(0.08, 0.4))
        self._sea(x) if self._place == "sea" else self._land()
        usual = ("boat", "lighthouse") if self._place == "sea" else ("balloon", "tree")
        self._stand(self._name or self._rng.choice(usual))
        if {"snow", "snowy", "winter", "snowing"} & set(self._words):
            self._specks(240, 1, 3.5)
        edge = Image.radial_gradient("L").point([round(max(0, level - 120) * 0.55) for level in range(256)])
        self._image.paste((16, 12, 30), (0, 0), edge.resize(self._image.size))

    def edit(self, others: Sequence[Image.Image]) -> None:
        """Recolour the image and add a figure, a frame, and the other inputs like prints on a table."""
        image, short = self._image, min(self._image.size)
        grey = ImageOps.grayscale(image)
        toned = Image.blend(image, ImageOps.colorize(grey, self._near, self._light, mid=self._middle), 0.45)
        colourless = {"black", "white", "monochrome", "sketch"} & set(self._words)
        image.paste(grey if colourless else toned.point([level * (4 - self._dark) // 4 for level in range(256)] * 3))
        name, x = self._name or self._rng.choice(("balloon", "flower")), self._width * self._rng.choice((0.24, 0.76))
        self._figure(name, x, self._height * (0.5 if name in _IN_THE_AIR else 0.93), short * 0.34)
        side, border = round(short * 0.2), round(short * 0.022)
        for index, other in enumerate(others):
            framed = ImageOps.expand(ImageOps.fit(other, (side, side)), 8, _WHITE)
            image.paste(framed, (border * 2 + index * round(side * 1.15), border * 2))
        self._canvas.rectangle((0, 0, self._width - 1, self._height - 1), outline=_WHITE, width=border)

    def _gradient(self, top: float, bottom: float, first: Colour, second: Colour) -> None:
        box = (0, round(top * self._height), self._width, round(bottom * self._height))
        self._image.paste(first, box)
        self._image.paste(second, box, Image.linear_gradient("L").resize((self._width, box[3] - box[1])))

    def _oval(self, x: float, y: float, width: float, height: float, fill: Colour) -> None:
        self._canvas.ellipse((x - width / 2, y - height / 2, x + width / 2, y + height / 2), fill=fill)

    def _specks(self, count: int, bottom: float, size: float) -> None:
        """Scatter stars or snowflakes over the image down to the height `bottom`."""
        for _ in range(count):
            x, y = self._width * self._rng.random(), self._height * bottom * self._rng.random()
            side, tone = size * self._rng.uniform(1, 3), _mix(self._middle, _WHITE, self._rng.uniform(0.4, 1))
            self._oval(x, y, side, side, tone)

    def _sun(self, x: float, y: float, side: float) -> None:
        """Paint the sun, at night the moon, in space a planet with a ring, each in its glow."""
        # radial_gradient grows from 0 in the middle to 181 at the edges and 255 in the corners.
        levels = [round(max(0.0, 1 - level / 180) ** 2 * 190) for level in range(256)]
        glow = Image.radial_gradient("L").point(levels).resize((round(side * 6), round(side * 6)))
        tone = _mix(self._light, self._bottom, 0.5 if self._dark else 0)
        self._image.paste(tone, (round(x - side * 3), round(y - side * 3)), glow)
        self._oval(x, y, side, side, self._accent if self._place == "space" else self._light)
        if self._place == "space":
            self._oval(x, y, side * 1.8, side * 0.09, self._light)
        elif self._dark:
            for right, down, size in ((-0.18, -0.14, 0.22), (0.16, 0.1, 0.3), (-0.1, 0.26, 0.14)):
                spot = _mix(self._light, self._middle, 0.14)
                self._oval(x + right * side, y + down * side, size * side, size * side, spot)

    def _cloud(self, x: float, y: float) -> None:
        unit, tone = self._width * self._rng.uniform(0.025, 0.05), _mix(self._light, self._middle, 0.15)
        for index in range(-3, 4):
            size, middle = unit * (1.6 - abs(index) * 0.3), x + index * unit
            self._canvas.chord((middle - size, y - size * 0.7, middle + size, y + size * 0.7), 180, 360, fill=tone)

    def _layer(self, base: float, swing: float, colour: Colour) -> list[Point]:
        """Fill everything below a wavy line at the height `base` and return the line."""
        waves = [(self._rng.uniform(0.6, 1.4) * 2**n, self._rng.uniform(0, math.tau), 0.4**n) for n in range(6)]
        line: list[Point] = []
        for x in range(0, self._width + 8, 8):
            level = sum(math.sin(x / self._width * math.tau * pitch + phase) * part for pitch, phase, part in waves)
            line.append((x, self._height * (base + swing * 0.6 * level)))
        self._canvas.polygon([(0, self._height), *line, (self._width, self._height)], fill=colour)
        return line

    def _land(self) -> None:
        """Paint three rows of land, with what stands on them, and the near ground."""
        kinds = {"mountains": (self._peak, 4, 2), "forest": (self._fir, 26, 3), "city": (self._tower, 17, 3)}
        paint, count, rows = kinds.get(self._place, (self._fir, 1, 0))
        ground = {"space": (150, 146, 160), "dunes": (232, 176, 112)}.get(self._place, self._far)
        for row in range(3):
            tone = _mix(_mix(self._bottom, ground, 0.7), self._between, row * (0.5 if rows else 0.3))
            line = self._layer(0.58 + row * 0.09, 0.05 - row * 0.01, tone)
            for x, y in line[:: max(1, len(line) // count)] if row < rows else ():
                x += self._width / count * self._rng.uniform(-0.3, 0.3)
                paint(x, y, self._height * self._rng.uniform(0.6, 1) * (1 - row * 0.15), tone)
        self._layer(0.89, 0 if self._place == "city" else 0.02, self._near)

    def _peak(self, x: float, foot: float, tall: float, tone: Colour) -> None:
        foot, tall = foot + self._height * 0.1, tall * 0.42
        half, top = tall * self._rng.uniform(0.9, 1.2), foot - tall
        edge = [(x + half * 0.1 * (3 - step), top + tall * (0.3 - 0.1 * (step % 2))) for step in range(7)]
        self._canvas.polygon([(x, top), (x + half, foot), (x - half, foot)], fill=tone)
        self._canvas.polygon([(x, top), (x + half, foot), (x + half * 0.1, foot)], fill=_mix(tone, self._near, 0.3))
        self._canvas.polygon([(x, top), *edge], fill=_mix(_WHITE, tone, 0.25))

    def _fir(self, x: float, foot: float, tall: float, tone: Colour) -> None:
        foot, tall = foot + self._height * 0.04, tall * 0.22
        for tier in range(4):
            top, half = foot - tall * (1 - tier * 0.2), tall * (0.1 + tier * 0.045)
            branches = [(x, top), (x + half, top + tall * 0.4), (x - half, top + tall * 0.4)]
            self._canvas.polygon(branches, fill=_mix(tone, self._near, tier * 0.05))

    def _tower(self, x: float, foot: float, tall: float, tone: Colour) -> None:
        wide, top = self._width * self._rng.uniform(0.045, 0.065), foot - tall * self._rng.uniform(0.1, 0.4)
        self._canvas.rectangle((x, top, x + wide, self._height), fill=tone)
        glow, step = _mix(tone, self._accent, 0.6), wide / 4
        for index in range(int((foot - top) / step) * 3):
            left, upper = x + step * (0.7 + index % 3), top + step * (0.7 + index // 3)
            if self._rng.random() < (0.5 if self._dark else 0.25):
                self._canvas.rectangle((left, upper, left + step * 0.5, upper + step * 0.5), fill=glow)

    def _sea(self, sun_x: float) -> None:
        self._layer(0.6, 0.03, _mix(self._far, self._bottom, 0.3))
        water = _mix((46, 110, 150), self._middle, 0.75 if self._dark else 0.5)
        self._gradient(0.62, 1, _mix(water, self._bottom, 0.35), _mix(water, self._near, 0.6))
        for index in range(200):
            depth, lit = self._rng.random() ** 1.6, index >= 150  # the last ones are the path of light below the sun
            y, half = self._height * (0.62 + 0.38 * depth), self._width * (0.005 + 0.025 * depth)
            x = sun_x + self._rng.uniform(-1.6, 1.6) * half if lit else self._rng.uniform(0, self._width)
            share = 0.8 - 0.4 * depth if lit else self._rng.uniform(0.08, 0.32)
            self._oval(x, y, half * 2, 3 + 3 * depth, _mix(water, self._light, share))

    def _stand(self, name: str) -> None:
        """Paint the figure where it belongs: in the air, on the water, on an island, on the ground."""
        scale, x = min(self._height * 0.44, self._width * 0.4), self._width * self._rng.uniform(0.36, 0.64)
        afloat = name in _IN_THE_WATER or (self._place == "sea" and name == "lighthouse")
        if not afloat and name not in _IN_THE_AIR:
            if self._place == "sea":
                self._oval(x, self._height * 1.02, scale * 1.8, self._height * 0.22, self._near)
            self._oval(x, self._height * 0.945, scale * 0.72, scale * 0.07, _mix(self._near, _INK, 0.5))
        self._figure(name, x, self._height * (0.62 if name in _IN_THE_AIR else 0.75 if afloat else 0.945), scale)

    def _figure(self, name: str, x: float, y: float, scale: float) -> None:
        (_, coats, shapes), accent = FIGURES[name], self._accent
        coat = _colour(self._rng.choice(coats.split())) if coats else accent
        colours = {"coat": coat, "shade": _mix(coat, _INK, 0.25), "deep": _mix(coat, _INK, 0.45), "ink": _INK}
        colours |= {"belly": _mix(coat, _WHITE, 0.72), "blush": _mix(coat, _WHITE, 0.4), "white": _WHITE}
        colours |= {"accent": accent, "dim": _mix(accent, _INK, 0.3), "pale": _mix(accent, _WHITE, 0.6)}
        for shape in shapes.split(";"):
            kind, word, *texts = shape.split()
            fill, numbers = colours.get(word) or _colour(word), [float(text) for text in texts]
            thick = numbers.pop(0) * scale if kind.endswith("line") else 0
            for side in (-1, 1) if kind.startswith("|") else (1,):
                pairs = zip(numbers[::2], numbers[1::2], strict=False)
                points = [(x + right * side * scale, y - up * scale) for right, up in pairs]
                left, top = points[0]
                match kind.removeprefix("|"), numbers:
                    case ("oval" | "box") as form, [_, _, width, height]:
                        half, tall = width * scale / 2, height * scale / 2
                        paint = self._canvas.ellipse if form == "oval" else self._canvas.rectangle
                        paint((left - half, top - tall, left + half, top + tall), fill)
                    case "bloom", [_, _, size]:
                        for turn in range(9):
                            reach, angle = size * scale * 0.15, turn * math.tau / 9
                            petal = left + math.cos(angle) * reach, top + math.sin(angle) * reach
                            self._oval(*petal, reach * 1.1, reach * 1.1, fill)
                    case "line", _:
                        self._canvas.line(_smooth(points, closed=False), fill, max(1, round(thick)), "curve")
                        for end in (points[0], points[-1]):
                            self._oval(*end, thick, thick, fill)
                    case "soft", _:
                        self._canvas.polygon(_smooth(points, closed=True), fill)
                    case _:
                        self._canvas.polygon(points, fill)
