"""Metadata is found and removed without touching a pixel."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.media import containers
from bot.media.containers import BrokenContainer
from bot.media.image_ops import has_location
from tests.support import image_samples as samples

FORMATS = ["PNG", "JPEG", "WEBP"]


def size_if_whole(data: bytes) -> tuple[int, int] | None:
    return containers.size_if_whole(data, max_pixels=4_000_000)


@pytest.mark.f56
@pytest.mark.parametrize("image_format", FORMATS)
def test_an_image_with_metadata_loses_its_metadata_and_keeps_every_pixel(image_format: str) -> None:
    laden = samples.laden(image_format)
    plain = containers.without_metadata(laden)
    assert samples.SECRET in laden
    assert samples.SECRET not in plain
    image = samples.open_image(plain)
    assert image.tobytes() == samples.open_image(laden).tobytes()
    assert not image.getexif()
    assert not has_location(plain)
    assert not set(image.info) & {"exif", "xmp", "comment", "Comment", "Packed", "photoshop", "XML:com.adobe.xmp"}


@pytest.mark.parametrize("image_format", FORMATS)
def test_an_image_without_metadata_stays_the_same_object(image_format: str) -> None:
    plain = samples.image(image_format)
    assert containers.without_metadata(plain) is plain
    cleaned = containers.without_metadata(samples.laden(image_format))
    assert containers.without_metadata(cleaned) is cleaned


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_colour_profile_stays(image_format: str) -> None:
    profile = samples.profile_with_red_and_green_swapped()
    data = samples.image(image_format, icc_profile=profile, exif=samples.exif_with_location())
    assert samples.open_image(containers.without_metadata(data)).info["icc_profile"] == profile


def test_a_progressive_jpeg_and_bytes_between_its_parts_are_understood() -> None:
    data = samples.image("JPEG", progressive=True)
    dirty = data[:20] + b"between" + data[20:]  # behind the first segment
    assert containers.without_metadata(dirty) == data


def test_the_second_image_in_a_phone_photo_is_removed() -> None:
    photo = samples.photo()
    data = samples.encode(photo, "MPO", save_all=True, append_images=[photo.rotate(90)])
    plain = containers.without_metadata(data)
    assert len(plain) < len(data) * 0.7
    assert samples.open_image(plain).format == "JPEG"


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("kind", ["exif", "xmp"])
def test_a_location_is_found_in_exif_and_in_xmp(image_format: str, kind: str) -> None:
    if kind == "exif":
        data = samples.image(image_format, exif=samples.exif_with_location())
    elif image_format == "PNG":
        text = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(samples.XMP_WITH_LOCATION)
        data = samples.with_png_chunks(samples.image("PNG"), samples.png_chunk(b"iTXt", text))
    else:
        data = samples.image(image_format, xmp=samples.XMP_WITH_LOCATION)
    assert has_location(data)


@pytest.mark.parametrize("name", [b"tEXt", b"zTXt"])
def test_a_location_is_found_in_the_texts_that_other_programs_write(name: bytes) -> None:
    profile = samples.raw_profile(samples.exif_with_location())
    content = b"Raw profile type exif\0" + (profile if name == b"tEXt" else b"\0" + zlib.compress(profile))
    assert has_location(samples.with_png_chunks(samples.image("PNG"), samples.png_chunk(name, content)))


@pytest.mark.parametrize("image_format", FORMATS)
def test_other_metadata_is_no_location(image_format: str) -> None:
    assert not has_location(samples.image(image_format, exif=samples.exif_without_location(orientation=6)))
    assert not has_location(samples.image(image_format))


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", b"<html>", samples.PNG_SIGNATURE, b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBP"]
)
def test_unreadable_data_has_no_location(data: bytes) -> None:
    assert not has_location(data)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's opinion of damaged EXIF
@given(st.sampled_from(FORMATS), st.data())
def test_damaged_files_are_read_or_raise_broken_container_and_nothing_else(
    image_format: str, data: st.DataObject
) -> None:
    whole = bytearray(samples.laden(image_format))
    for _ in range(data.draw(st.integers(0, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    has_location(damaged)
    try:
        plain = containers.without_metadata(damaged)
    except BrokenContainer:
        return
    assert len(plain) <= len(damaged) + 1
    if containers.format_of(plain) is not None:  # of a file that was cut right away, nothing may be left
        assert containers.without_metadata(plain) == plain


@pytest.mark.parametrize("width", [60, 3000])
def test_bytes_behind_the_last_row_do_no_harm(width: int) -> None:
    packed = zlib.compress(bytes((width + 1) * 1000))
    assert size_if_whole(samples.png_of_rows(width, 1000, packed + b"more")) == (width, 1000)
    assert size_if_whole(samples.png_of_rows(width, 1000, packed, b"more", b"")) == (width, 1000)


@pytest.mark.parametrize("image_format", FORMATS)
def test_an_image_of_too_many_pixels_is_not_called_whole(image_format: str) -> None:
    data = samples.encode(samples.noise(300, 200), image_format)
    assert containers.size_if_whole(data, max_pixels=60_000) == (300, 200)
    assert containers.size_if_whole(data, max_pixels=59_999) is None


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
