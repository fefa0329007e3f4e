"""The plot: for all amounts and names, an image in which everything can be read."""

from __future__ import annotations

import io
import itertools
import warnings
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from bot.charts import plot
from bot.charts.chart import Chart, Label, Row
from bot.charts.lettering import drawable
from tests.support.chart_samples import DAYS_OF_A_WEEK, MODELS, PEOPLE, a_chart, a_label

HOURS = tuple(f"{hour:02}:00" for hour in range(24))
AWKWARD = (
    Label(text="狐の絵描き", plain="kitsune"),
    Label(text="🦊🦊", plain="fox_fan"),
    Label(text="مرحبا بالعالم", plain="salam"),
    Label(text="שלום עולם", plain="shalom"),
    Label(text="$$ \\frac{1}{$2} ^_{", plain="money"),
    Label(text="W" * 32, plain="w"),
    Label(text="Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍Ą̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘", plain="zalgo"),
    Label(text="\u202egnp.exe\x00\x07\n\u200b", plain="reversed"),
)

CHARTS = {
    "one member, one model": a_chart(models=1, people=PEOPLE[:1]),
    "eight members, six colours": a_chart(models=6, people=PEOPLE),
    "a week": a_chart(ticks=DAYS_OF_A_WEEK, models=5),
    "a day": a_chart(ticks=HOURS, models=2),
    "a day of 25 hours": a_chart(ticks=("00:00", *HOURS)),
    "one bar": a_chart(ticks=("1",)),
    "hardly anything": a_chart(most_usd_micros=7),
    "$0.007": a_chart(models=1, most_usd_micros=7_000, people=PEOPLE[:1]),
    "$12,345": a_chart(models=6, most_usd_micros=12_345_000_000, people=PEOPLE),
    "ten million dollars": a_chart(models=6, most_usd_micros=10**13, people=AWKWARD),
    "awkward names": a_chart(
        models=6, people=AWKWARD, title="A title that goes on for longer than the page is wide, and more"
    ),
    "no members": a_chart(people=()),
}


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_every_chart_is_a_small_png_of_one_size_in_which_no_texts_overlap(chart: Chart) -> None:
    assert Chart.from_json(chart.to_json()) == chart
    png = plot.draw(chart)
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert (image.format, image.size) == ("PNG", (plot.WIDTH, plot.HEIGHT))
    assert len(png) <= 200_000
    assert_legible(chart)


def assert_legible(chart: Chart) -> None:
    """Assert that no line of text leaves the page or touches another."""
    (axes,) = plot.lay_out(chart).axes
    boxes = [(text.get_text(), box_of(text)) for text in axes.texts if text.get_text()]
    assert len(boxes) > 5
    for text, box in boxes:
        assert 0 <= box.x0 < box.x1 <= plot.WIDTH, text
        assert 0 <= box.y0 < box.y1 <= plot.HEIGHT, text
    for (one, its_box), (other, other_box) in itertools.combinations(boxes, 2):
        assert Bbox.intersection(its_box, other_box) is None, (one, other)


def box_of(text: Text) -> Bbox:
    box = text.get_window_extent()
    return Bbox.from_extents(box.x0, box.y0 + 2, box.x1, box.y1 - 2)  # its lines may touch; its letters may not


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.text(max_size=40), max_size=8),
    shares=st.lists(st.integers(min_value=1, max_value=10**13), min_size=8, max_size=8),
    most=st.integers(min_value=1, max_value=10**12),
    bars=st.integers(min_value=1, max_value=31),
    models=st.integers(min_value=1, max_value=6),
)
def test_charts_with_all_names_and_amounts_are_drawn_without_a_warning(
    names: list[str], shares: list[int], most: int, bars: int, models: int
) -> None:
    rows = tuple(Row(label=a_label(name), amount_usd_micros=share) for name, share in zip(names, shares, strict=False))
    chart = a_chart(ticks=[str(bar + 1) for bar in range(bars)], models=models, most_usd_micros=most)
    assume(chart.total_usd_micros)
    with warnings.catch_warnings(action="error"):
        assert plot.draw(replace(chart, rows=rows))


def test_the_height_of_each_colour_is_proportional_to_its_amount() -> None:
    chart = a_chart(ticks=("1",), models=2, people=())
    colours = [tuple(bytes.fromhex(colour.removeprefix("#"))) for colour in plot.COLOURS[:2]]
    with Image.open(io.BytesIO(plot.draw(chart))) as image:
        column = [image.convert("RGB").getpixel((500, y)) for y in range(plot.HEIGHT)]
    heights = [column.count(colour) for colour in colours]
    for stack, height in zip(chart.stacks, heights, strict=True):
        assert height / sum(heights) == pytest.approx(stack.total_usd_micros / chart.total_usd_micros, abs=0.02)


@pytest.mark.parametrize(
    ("dollars", "labels"),
    [
        ([0, 1, 2], ["$0", "$1", "$2"]),
        ([0, 5_000, 10_000], ["$0", "$5,000", "$10,000"]),
        ([0, 0.5, 1], ["$0", "$0.50", "$1.00"]),
        ([0, 0.0025, 0.005], ["$0", "$0.0025", "$0.0050"]),
    ],
)
def test_the_labels_of_the_axis_have_equal_decimals(dollars: list[float], labels: list[str]) -> None:
    assert plot._axis_labels(dollars) == labels


def test_amounts_from_a_dollar_on_are_rounded_to_cents() -> None:
    assert [plot._amount(amount) for amount in (7_000, 999_999, 1_000_000, 25_868_839)] == [
        "$0.007",
        "$0.999999",
        "$1.00",
        "$25.87",
    ]


# -- lettering ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada", "Ada"),
        ("  Ada \n\t Lovelace\u3000", "Ada Lovelace"),
        ("Ada 🦊", "Ada"),
        ("🦊🦊", "plain"),
        ("狐", "plain"),
        ("狐 and fox", "plain"),
        ("𝓐𝓭𝓪", "Ada"),
        ("a\u202eb\u200bc\x00d", "abcd"),
        ("e\u0301\u0301\u0301\u0301", "é\u0301\u0301"),
        ("", "plain"),
        ("\u2800\u3164", "plain"),
    ],
)
def test_a_name_is_drawn_as_it_is_or_by_its_plain_form(text: str, expected: str) -> None:
    latin = {*map(chr, range(0x21, 0x250)), "\u0301"}
    assert drawable(Label(text=text, plain="plain"), has_glyph=latin.__contains__) == expected


def test_a_name_without_any_drawable_character_is_a_question_mark() -> None:
    assert drawable(Label(text="狐", plain="狐x狐 狐"), has_glyph="x".__contains__) == "x"
    assert drawable(Label(text="狐", plain="狐 狐"), has_glyph="x".__contains__) == "?"


def test_the_font_of_the_library_is_always_available() -> None:
    assert drawable(a_label("Ünïcödé Ελλάδα Україна")) == "Ünïcödé Ελλάδα Україна"
    assert all(drawable(a_label(model)) == model for model in MODELS)
