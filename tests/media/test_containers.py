"""Structure: what a file states about itself, read in linear time and without decoding a pixel."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bot.media import containers
from bot.media.containers import BrokenContainer
from bot.media.file_types import format_of
from bot.media.image_ops import UnusableImageError, check, clean
from tests.support import image_samples as samples
from tests.support.processor_time import assert_linear

FORMATS = ["PNG", "JPEG", "WEBP"]
MEMORY_BYTES = 128 << 20
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
"""How many damaged files are tried; the nightly run sets thousands."""


def size_if_whole(data: bytes) -> tuple[int, int] | None:
    try:
        structure = containers.structure_of(format_of(data) or "", data)
    except BrokenContainer:
        return None
    return (structure.width, structure.height) if structure.whole else None


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("loaded", [False, True])
def test_a_whole_file_states_its_size(image_format: str, *, loaded: bool) -> None:
    assert size_if_whole(samples.laden(image_format) if loaded else samples.image(image_format)) == (96, 64)


def test_bytes_between_the_parts_of_a_progressive_jpeg_are_understood() -> None:
    data = samples.image("JPEG", progressive=True)
    assert size_if_whole(data[:20] + b"between" + data[20:]) == (96, 64)


def damaged_file(data: st.DataObject) -> bytes:
    """Draw a file with some bytes replaced and its end cut off."""
    image_format = data.draw(st.sampled_from([*FORMATS, "GIF", "BMP", "TIFF", "AVIF", "HEIF"]))
    laden = samples.laden(image_format) if image_format in FORMATS else samples.image(image_format)
    whole = bytearray(laden)
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    return bytes(whole[: data.draw(st.integers(0, len(whole)))])


@pytest.mark.hostile("G-04")
@pytest.mark.filterwarnings("ignore")  # Pillow's opinion of damaged files
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_with_a_reason(data: st.DataObject) -> None:
    damaged = damaged_file(data)
    for operation in (check, clean):
        with suppress(UnusableImageError):  # and nothing else
            content_type, width, height = operation(damaged, MEMORY_BYTES)[-3:]
            assert content_type.startswith("image/")
            assert width * height > 0


@pytest.mark.hostile("G-04")
@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(st.sampled_from([samples.PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP"]), st.binary(max_size=400))
@example(b"\xff\xd8\xff", b"")
@example(b"RIFF\xff\0\0\0WEBP", b"VP8X\x0a\0\0\0" + bytes(10))
def test_any_bytes_have_a_structure_or_none(signature: bytes, rest: bytes) -> None:
    try:
        structure = containers.structure_of(format_of(signature) or "", signature + rest)
    except BrokenContainer:
        return
    assert structure.width >= 0
    assert structure.height >= 0


SLOW_TO_SCAN = {
    "filler in a scan": lambda size: samples.image("JPEG")[:-2] + b"\xff" * size + b"\0",
    "filler and zeros in a scan": lambda size: samples.image("JPEG")[:-2] + b"\xff\0" * (size // 2),
    "filler between segments": lambda size: b"\xff\xd8" + b"\xff" * size,
    "restart markers": lambda size: b"\xff\xd8" + b"\xff\xd0" * (size // 2),
    "bytes between segments": lambda size: b"\xff\xd8\xff\xd0" + bytes(size),
    "empty segments": lambda size: b"\xff\xd8" + b"\xff\xe1\0\2" * (size // 4),
    "empty chunks": lambda size: samples.png_header(9, 9) + samples.png_chunk(b"tEXt", b"") * (size // 12),
    "empty rows": lambda size: samples.png_header(9, 9) + samples.png_chunk(b"IDAT", b"") * (size // 12),
    "empty webp chunks": lambda size: b"RIFF\0\0\0\1WEBP" + b"ABCD\0\0\0\0" * (size // 8),
}


@pytest.mark.hostile("G-04")
@pytest.mark.parametrize("name", SLOW_TO_SCAN)
def test_a_structure_is_read_in_linear_time(name: str) -> None:
    def reading(size: int) -> Callable[[], object]:
        data = SLOW_TO_SCAN[name](size)
        return lambda: size_if_whole(data)

    # The first has fewer parts than are read of any file; a quadratic scan of the second takes minutes.
    for size in (40_000, 500_000):
        assert_linear(reading, size=size)


@pytest.mark.parametrize("width", [60, 3000])
def test_bytes_behind_the_last_row_do_no_harm(width: int) -> None:
    packed = zlib.compress(bytes((width + 1) * 1000))
    assert size_if_whole(samples.png_of_rows(width, 1000, packed + b"more")) == (width, 1000)
    assert size_if_whole(samples.png_of_rows(width, 1000, packed, b"more", b"")) == (width, 1000)


def test_a_png_that_promises_more_than_its_rows_can_hold_is_not_called_whole() -> None:
    packed = zlib.compress(bytes(201 * 100), 9)
    assert size_if_whole(samples.png_of_rows(200, 100, packed)) == (200, 100)
    assert size_if_whole(samples.png_of_rows(2000, 1000, packed)) is None


@pytest.mark.parametrize("lost", ["nothing", "a byte", "a chunk", "the end"])
def test_a_png_with_missing_bytes_is_not_called_whole(lost: str) -> None:
    data = samples.encode(samples.noise(300, 200), "PNG")
    middle, last_chunk = len(data) // 2, data.rindex(b"IDAT") - 4
    arrived = {
        "nothing": data,
        "a byte": data[:middle] + data[middle + 1 :],
        "a chunk": data[:last_chunk],
        "the end": data[:-12],
    }[lost]
    assert (size_if_whole(arrived) is None) is (lost != "nothing")
