"""Drawing: a real picture from a prompt. Same prompt, seed and size: same picture; the words decide what it shows.

An edit keeps the input picture recognisable and changes it visibly; a style reference lends its colours.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from sandbox.figures import FIGURES, IN_THE_AIR, IN_THE_WATER, SYNONYMS, Colour, Pen, mix
from sandbox.lands import LANDS, gradient, shimmer
from sandbox.moods import MOODS, PALETTES, PLACES, Palette

# Drawn at this size and scaled: smooth edges for small pictures, a bounded price for big ones.
_LONG_SIDE_PX = 1600
_WORD = re.compile(r"[a-z]+")
_NOT_DRAWABLE = re.compile(r"[^\u0020-\u024f‘’“”–—…]")
_WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sketch:
    """What is to be drawn. `sources` are pictures to change, `references` lend their colours; all as file bytes."""

    prompt: str
    seed: int
    width: int
    height: int
    sources: tuple[bytes, ...] = ()
    references: tuple[bytes, ...] = ()
    keep: bool = False
    """Only enlarge the first source, as an upscaler does."""


def draw(sketch: Sketch) -> Image.Image:
    """The finished picture, exactly `width` × `height`."""
    rng = random.Random(_number(sketch.prompt, sketch.seed))
    found = _WORD.findall(sketch.prompt.lower())
    words = [form for word in found for form in dict.fromkeys([word, word.removesuffix("s")])]
    if sketch.sources:
        image = _edit(sketch, words, rng)
    else:
        palette = _palette(sketch, words, rng)
        image = _scene(_canvas_size(sketch.width, sketch.height), words, palette, rng)
        image = _finish(image, rng)
    image = _sized(image, (sketch.width, sketch.height))
    if not sketch.keep:
        _caption(image, sketch.prompt)
    return image


def encode(image: Image.Image, image_format: str = "png") -> bytes:
    """The picture as a file: 'png', 'jpg' or 'webp'."""
    buffer = io.BytesIO()
    match image_format:
        case "jpg" | "jpeg":
            image.save(buffer, "JPEG", quality=92)
        case "webp":
            image.save(buffer, "WEBP", quality=90, method=2)
        case _:
            image.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def preview(sketch: Sketch) -> bytes:
    """An unfinished state of the picture: small and soft."""
    small = _sized(draw(sketch), (max(1, sketch.width // 4), max(1, sketch.height // 4)))
    return encode(small.filter(ImageFilter.GaussianBlur(max(2, small.width // 48))))


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture."""
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def _canvas_size(width: int, height: int) -> tuple[int, int]:
    factor = _LONG_SIDE_PX / max(width, height)
    return max(16, round(width * factor)), max(16, round(height * factor))


def _sized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image.resize(size, Image.Resampling.LANCZOS)


def _mapped(image: Image.Image, value: Callable[[int], float]) -> Image.Image:
    return image.point([round(value(level)) for level in range(256)])


# -- what the words mean ------------------------------------------------------------------------------


def _palette(sketch: Sketch, words: list[str], rng: random.Random) -> Palette:
    # The light beats the season: a snowy forest at night is dark, and green under northern lights.
    moods = [MOODS[word] for word in words if word in MOODS]
    chosen = max(moods, key=lambda mood: (mood.dark, mood is not MOODS["night"]), default=None) or rng.choice(PALETTES)
    if not sketch.references:
        return chosen
    colours = sorted(_colours_of(sketch.references[0]), key=sum)
    darkest, dark, middle, light, lightest = colours
    vivid = max(colours, key=lambda colour: max(colour) - min(colour))
    return Palette(
        sky=(dark, middle, lightest),
        light=mix(lightest, _WHITE, 0.4),
        land=(mix(middle, light, 0.4), mix(dark, middle, 0.4), darkest),
        accent=mix(vivid, _WHITE, 0.15),
        dark=sum(middle) < 240,
    )


def _colours_of(data: bytes) -> list[Colour]:
    with Image.open(io.BytesIO(data)) as opened:
        small = _sized(opened.convert("RGB"), (64, 64))
    table = small.quantize(5).getpalette() or []
    flat = (table + [0] * 15)[:15]
    return [(flat[index], flat[index + 1], flat[index + 2]) for index in range(0, 15, 3)]


def _subject(words: list[str]) -> str | None:
    return next((SYNONYMS.get(word, word) for word in words if word in FIGURES or word in SYNONYMS), None)


# -- a scene ------------------------------------------------------------------------------------------


def _scene(size: tuple[int, int], words: list[str], palette: Palette, rng: random.Random) -> Image.Image:
    width, height = size
    subject = _subject(words)
    place = next((PLACES[word] for word in words if word in PLACES), None)
    if place is None:
        place = (
            "sea" if subject in IN_THE_WATER else rng.choice(["hills", "mountains", "sea", "forest", "hills", "dunes"])
        )
    image = _sky(size, palette)
    horizon = round(height * (0.62 if place != "space" else 0.86))
    sun = (width * rng.uniform(0.18, 0.82), horizon * rng.uniform(0.22, 0.60))
    if palette.dark or place == "space":
        _stars(image, horizon, rng)
    image = _sun(image, sun, palette, place, rng)
    if not palette.dark and place != "space":
        image = _clouds(image, horizon, palette, rng)
    LANDS[place](image, horizon, palette, rng)
    if place == "sea":
        shimmer(image, sun[0], horizon, palette, rng)
    if subject is None:
        subject = rng.choice(
            ["balloon", "tree", "house", "bird"] if place != "sea" else ["boat", "balloon", "lighthouse"]
        )
    _stand(image, subject, place, horizon, palette, rng)
    if any(word in ("snow", "snowy", "winter", "snowing") for word in words):
        _flakes(image, rng)
    return image


def _sky(size: tuple[int, int], palette: Palette) -> Image.Image:
    width, height = size
    image = Image.new("RGB", size, palette.sky[2])
    split = round(height * 0.36)
    image.paste(gradient((width, split), palette.sky[0], palette.sky[1]), (0, 0))
    image.paste(gradient((width, round(height * 0.70) - split), palette.sky[1], palette.sky[2]), (0, split))
    return image


def _glow(
    image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour, strength: float
) -> Image.Image:
    side = max(2, round(radius * 2))
    mask = Image.new("L", image.size, 0)
    # radial_gradient grows from 0 in the middle to 181 at the edges and 255 in the corners.
    disc = _mapped(Image.radial_gradient("L"), lambda level: max(0.0, 1 - level / 180) ** 2 * 255 * strength)
    disc = _sized(disc, (side, side))
    mask.paste(disc, (round(centre[0] - radius), round(centre[1] - radius)))
    return Image.composite(Image.new("RGB", image.size, colour), image, mask)


def _sun(
    image: Image.Image, centre: tuple[float, float], palette: Palette, place: str, rng: random.Random
) -> Image.Image:
    short = min(image.size)
    radius = short * rng.uniform(0.065, 0.11)
    glow = mix(palette.light, palette.sky[2], 0.5) if palette.dark else palette.light
    image = _glow(image, centre, radius * 6, glow, 0.75)
    pen = Pen(draw=ImageDraw.Draw(image), x=centre[0], y=centre[1], scale=radius * 2)
    if place == "space":
        tone = mix(palette.accent, palette.sky[1], 0.25)
        pen.disc((0, 0), 1.6, tone)
        for index in range(5):
            pen.oval(
                (0, 0.5 - index * 0.25),
                math.sqrt(max(0.05, 1.6**2 - (1.0 - index * 0.5) ** 2)) * 0.96,
                0.10,
                mix(tone, palette.light, 0.25),
            )
        pen.line([(-1.35, -0.30), (1.35, 0.30)], 0.07, palette.light)
        return image
    pen.disc((0, 0), 1.0, palette.light)
    if palette.dark:
        for x, y, size in ((-0.18, 0.14, 0.22), (0.16, -0.10, 0.30), (-0.10, -0.26, 0.14)):
            pen.disc((x, y), size, mix(palette.light, palette.sky[1], 0.14))
    return image


def _stars(image: Image.Image, horizon: int, rng: random.Random) -> None:
    canvas = ImageDraw.Draw(image)
    for _ in range(190):
        x, y = rng.uniform(0, image.width), rng.uniform(0, horizon)
        size = rng.choice([1.2, 1.2, 1.8, 2.6])
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=mix((120, 130, 170), _WHITE, rng.random()))


def _clouds(image: Image.Image, horizon: int, palette: Palette, rng: random.Random) -> Image.Image:
    mask = Image.new("L", image.size, 0)
    canvas = ImageDraw.Draw(mask)
    for _ in range(rng.randint(2, 4)):
        x, y = rng.uniform(0, image.width), rng.uniform(0.08, 0.62) * horizon
        unit = image.width * rng.uniform(0.025, 0.05)
        for index in range(6):
            size = unit * (1.4 - abs(index - 2.5) * 0.32)
            left = x + (index - 2.5) * unit * 1.05
            canvas.ellipse((left - size, y - size * 0.62, left + size, y + size * 0.5), fill=210)
        canvas.rectangle((x - unit * 3.4, y + unit * 0.35, x + unit * 3.4, y + unit), fill=0)
    mask = mask.filter(ImageFilter.GaussianBlur(image.width / 320))
    return Image.composite(Image.new("RGB", image.size, mix(palette.light, _WHITE, 0.4)), image, mask)


def _stand(image: Image.Image, subject: str, place: str, horizon: int, palette: Palette, rng: random.Random) -> None:
    width, height = image.size
    canvas = ImageDraw.Draw(image)
    scale = min(height * 0.44, width * 0.40)
    x, y = width * rng.uniform(0.36, 0.64), height * 0.945
    if subject in IN_THE_AIR:
        y = height * rng.uniform(0.58, 0.66)
    elif subject in IN_THE_WATER or (place == "sea" and subject in ("lighthouse", "castle", "house")):
        y = horizon + (height - horizon) * 0.34
        scale *= 0.9
    elif place == "sea":
        # Somebody has to stand on something.
        island = (x - scale * 0.9, height * 0.905, x + scale * 0.9, height * 1.12)
        canvas.ellipse(island, fill=mix(palette.land[2], palette.land[1], 0.5))
    elif subject in ("bird", "owl"):
        scale *= 0.8
    if subject not in IN_THE_AIR and subject not in IN_THE_WATER:
        shadow = (x - scale * 0.36, y - scale * 0.035, x + scale * 0.36, y + scale * 0.035)
        canvas.ellipse(shadow, fill=mix(palette.land[2], (0, 0, 0), 0.35))
    FIGURES[subject](Pen(draw=canvas, x=x, y=y, scale=scale), palette.sky[1], palette.accent, rng)


def _flakes(image: Image.Image, rng: random.Random) -> None:
    canvas = ImageDraw.Draw(image)
    for _ in range(240):
        x, y, size = rng.uniform(0, image.width), rng.uniform(0, image.height), rng.uniform(1.5, 5)
        canvas.ellipse((x - size, y - size, x + size, y + size), fill=(246, 248, 252))


def _finish(image: Image.Image, rng: random.Random) -> Image.Image:
    """A trace of light fall-off and paper, so that large areas do not look flat."""
    edge = _sized(_mapped(Image.radial_gradient("L"), lambda level: max(0, level - 120) * 0.55), image.size)
    image = Image.composite(Image.new("RGB", image.size, (16, 12, 30)), image, edge)
    grain = random.Random(rng.random()).randbytes(256 * 256)
    tile = _mapped(Image.frombytes("L", (256, 256), grain), lambda level: 124 + level // 32)
    paper = Image.new("L", image.size)
    for left in range(0, image.width, 256):
        for top in range(0, image.height, 256):
            paper.paste(tile, (left, top))
    return ImageChops.overlay(image, Image.merge("RGB", (paper, paper, paper)))


# -- an edit ------------------------------------------------------------------------------------------


def _edit(sketch: Sketch, words: list[str], rng: random.Random) -> Image.Image:
    size = _canvas_size(sketch.width, sketch.height)
    inputs = [_opened(data) for data in sketch.sources]
    if sketch.keep:
        return _sized(inputs[0], size).filter(ImageFilter.UnsharpMask(3, 60, 2))
    palette = _palette(sketch, words, rng)
    image = _recoloured(ImageOps.fit(inputs[0], size, Image.Resampling.LANCZOS), words, palette)
    width, height = size
    subject = _subject(words) or rng.choice(["balloon", "flower", "bird"])
    scale = min(size) * 0.34
    x, y = width * rng.choice([0.24, 0.76]), height * (0.93 if subject not in IN_THE_AIR else 0.5)
    image = _glow(image, (x, y - scale * 0.5), scale * 1.1, palette.light, 0.55)
    FIGURES[subject](Pen(draw=ImageDraw.Draw(image), x=x, y=y, scale=scale), palette.sky[1], palette.accent, rng)
    canvas = ImageDraw.Draw(image)
    side = round(min(size) * 0.20)
    for index, other in enumerate(inputs[1:]):
        # Further inputs lie on the picture like prints on a table.
        left, top = round(width * 0.05 + index * side * 1.15), round(height * 0.05)
        canvas.rectangle((left - 8, top - 8, left + side + 8, top + side + 8), fill=(250, 248, 242))
        image.paste(ImageOps.fit(other, (side, side), Image.Resampling.LANCZOS), (left, top))
    frame = round(min(size) * 0.022)
    canvas.rectangle((0, 0, width - 1, height - 1), outline=(250, 246, 236), width=frame)
    canvas.rectangle(
        (frame, frame, width - 1 - frame, height - 1 - frame), outline=palette.accent, width=max(2, frame // 4)
    )
    return image


def _recoloured(image: Image.Image, words: list[str], palette: Palette) -> Image.Image:
    grey = ImageOps.grayscale(image)
    if {"black", "white", "monochrome", "sketch"} & set(words):
        return ImageEnhance.Contrast(grey.convert("RGB")).enhance(1.2)
    toned = ImageOps.colorize(grey, black=palette.land[2], mid=palette.sky[1], white=palette.light)
    mixed = Image.blend(image, toned, 0.45)
    if palette.dark:
        mixed = ImageEnhance.Brightness(mixed).enhance(0.78)
    return mixed


def _opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")


def _caption(image: Image.Image, prompt: str) -> None:
    """The first words, small, at the foot: it shows which prompt made which picture."""
    text = " ".join(_NOT_DRAWABLE.sub(" ", prompt).split())
    if not text:
        return
    size = max(8, round(min(image.size) * 0.022))
    font = ImageFont.load_default(size)
    canvas = ImageDraw.Draw(image)
    room = image.width * 0.9
    if canvas.textlength(text, font=font) > room:
        while text and canvas.textlength(f"{text}…", font=font) > room:
            text = text[: -max(1, len(text) // 12)]
        text = f"{text.rstrip()}…"
    place = (image.width / 2, image.height - size * 1.7)
    canvas.text((place[0] + 1, place[1] + 1), text, font=font, fill=(20, 16, 30), anchor="mm")
    canvas.text(place, text, font=font, fill=(250, 246, 236), anchor="mm")
