"""Draws a chart as a PNG: a dark card, which looks right on a dark and on a light page.

Only for the process that draws charts (worker.py): matplotlib takes a second to import and keeps 100 MB.
"""

# matplotlib's own types leave much open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import io
import math
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from bot.charts.chart import Chart
from bot.charts.lettering import drawable, installed_fonts
from bot.domain.money.quota import MICROS_PER_USD, format_usd

WIDTH, HEIGHT = 1400, 900
"""Pixels. Discord shows it half as wide or less, so everything is twice as large as it should look."""

BACKGROUND, TEXT, QUIET, LINES = "#2B2D31", "#F2F3F5", "#B5BAC1", "#3F4248"
RANKED, UNRANKED = "#949CF7", "#383A40"
COLOURS = ("#4C96FF", "#FFB84D", "#5EE6B4", "#D9604F", "#CFE4FF", "#868C96")
"""Distinct also for people with colour blindness; the last is for all other models."""

_LEFT, _RIGHT, _BOTTOM = 48, WIDTH - 48, HEIGHT - 48
_GAP = 40
_TITLE, _SIZE, _SMALL = 44, 29, 25
_PANELS_TOP, _BARS_TOP = 180, 240
_TIME_RIGHT, _RANKING_LEFT = 892, 944
_LEGEND_ROW, _RANKING_ROW = 44, 77
_TICKS_HEIGHT = 66


def draw(chart: Chart) -> bytes:
    """Draw the chart. Its total must not be zero."""
    image = io.BytesIO()
    lay_out(chart).savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def lay_out(chart: Chart) -> Figure:
    """Arrange everything that the chart shows on axes that are measured in pixels from the upper left corner."""
    figure = Figure((WIDTH / 72, HEIGHT / 72), dpi=72, facecolor=BACKGROUND)  # a point of type is a pixel
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.set_axis_off()
    # Text is drawn literally: a `$` in a name does not begin a formula.
    with rc_context(
        {"text.parse_math": False, "text.color": TEXT, "font.family": installed_fonts(), "font.size": _SMALL}
    ):
        total = _amount(chart.total_usd_micros)
        _write_pair(axes, _LEFT, _RIGHT, 80, drawable(chart.title), total, color=TEXT, size=_TITLE, weight="bold")
        _write_pair(axes, _LEFT, _RIGHT, 126, drawable(chart.subtitle), drawable(chart.count), color=QUIET, size=_SIZE)
        for left, right, label in ((_LEFT, _TIME_RIGHT, chart.over_time), (_RANKING_LEFT, _RIGHT, chart.ranking)):
            _write_pair(axes, left, right, _PANELS_TOP + 20, drawable(label), size=_SIZE, weight="bold")
        _draw_over_time(axes, chart)
        _draw_ranking(axes, chart)
    return figure


def _write_pair(axes: Axes, left: float, right: float, y: float, name: str, value: str = "", **style: Any) -> None:
    """Draw a name, shortened until it fits, and a value at the right end of the line. `style` is matplotlib's."""
    value_style: dict[str, Any] = {"color": QUIET, **style}
    axes.text(right, y, value, ha="right", **value_style)
    max_width = right - left - (_width(axes, value, **style) + 20 if value else 0)
    shown = name
    while name and _width(axes, shown, **style) > max_width:
        name = name[:-1].rstrip()
        shown = f"{name}…"
    axes.text(left, y, shown, **style)


def _width(axes: Axes, text: str, **style: Any) -> float:
    line = axes.text(0, 0, text, **style)
    width = line.get_window_extent().width
    line.remove()
    return width


def _draw_box(axes: Axes, x: float, y: float, width: float, height: float, colour: str, *, radius: float) -> None:
    """Draw a filled box with round corners whose upper left corner is at `x` and `y`."""
    style = f"round,pad=0,rounding_size={radius}"
    axes.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, linewidth=0, facecolor=colour))


def _amount(amount_usd_micros: int) -> str:
    """Format an amount, from a dollar on in whole cents: the table beside the image has the rest."""
    exact = amount_usd_micros < MICROS_PER_USD
    return format_usd(amount_usd_micros if exact else round(amount_usd_micros, -4))


def _draw_over_time(axes: Axes, chart: Chart) -> None:
    """Draw the axis, the stacked bars with the names below them, and a legend in two columns."""
    totals = [sum(amounts) for amounts in zip(*(stack.amounts_usd_micros for stack in chart.stacks), strict=True)]
    locator = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10])
    dollars = [step for step in locator.tick_values(0, max(totals) / MICROS_PER_USD) if step >= 0]
    labels = _axis_labels(dollars)
    legend_top = _BOTTOM - _LEGEND_ROW * ((len(chart.stacks) + 1) // 2)
    left, bottom = _LEFT + max(_width(axes, label) for label in labels) + 14, legend_top - _TICKS_HEIGHT
    pixels_per_dollar = (bottom - _BARS_TOP) / dollars[-1]
    for dollar, label in zip(dollars, labels, strict=True):
        axes.text(left - 14, bottom - dollar * pixels_per_dollar + 9, label, color=QUIET, ha="right")
    levels = [bottom - dollar * pixels_per_dollar for dollar in dollars]
    axes.hlines(levels, left, _TIME_RIGHT, colors=LINES, linewidth=2, zorder=0)

    bar_width = (_TIME_RIGHT - left) / len(chart.ticks)
    centers = [left + (number + 0.5) * bar_width for number in range(len(chart.ticks))]
    tops = [float(bottom)] * len(chart.ticks)
    for stack, colour in zip(chart.stacks, COLOURS, strict=False):
        heights = [-amount / MICROS_PER_USD * pixels_per_dollar for amount in stack.amounts_usd_micros]
        # The edge of a bar without height would cross the line below it.
        bars = [bar for bar in zip(centers, heights, tops, strict=True) if bar[1]]
        for center, height, top in bars:
            axes.bar(center, height, 0.72 * bar_width, top, color=colour, edgecolor=BACKGROUND, linewidth=1)
        tops = [top + height for top, height in zip(tops, heights, strict=True)]
    names = [drawable(tick) for tick in chart.ticks]
    every = math.ceil(
        (max(_width(axes, name) for name in names) + 10) / bar_width
    )  # as many names as fit beside each other
    for center, name in list(zip(centers, names, strict=True))[:: max(1, every)]:
        axes.text(center, bottom + 37, name, color=QUIET, ha="center")

    column = (_TIME_RIGHT - _LEFT - _GAP) / 2
    for number, (stack, colour) in enumerate(zip(chart.stacks, COLOURS, strict=False)):
        x, y = _LEFT + (number % 2) * (column + _GAP), legend_top + _LEGEND_ROW * (number // 2)
        _draw_box(axes, x, y + 11, 22, 22, colour, radius=5)
        amount = _amount(stack.total_usd_micros)
        _write_pair(axes, x + 36, x + column, y + 31, drawable(stack.label), amount)


def _axis_labels(dollars: list[float]) -> list[str]:
    """Format whole dollars, or cents and more where the steps are finer; all alike except for zero."""
    micros = [round(dollar * MICROS_PER_USD) for dollar in dollars]
    labels = [format_usd(amount) for amount in micros]
    decimals = max(len(label.partition(".")[2]) for label in labels)
    if all(amount % MICROS_PER_USD == 0 for amount in micros):
        return [label.removesuffix(".00") for label in labels]
    return ["$0" if label == "$0.00" else label.ljust(label.index(".") + 1 + decimals, "0") for label in labels]


def _draw_ranking(axes: Axes, chart: Chart) -> None:
    """Draw a line for each member: name, amount, and a bar relative to the largest amount."""
    max_usd_micros = max((row.amount_usd_micros for row in chart.rows), default=0)
    width = _RIGHT - _RANKING_LEFT
    for number, row in enumerate(chart.rows):
        y, amount = _BARS_TOP + _RANKING_ROW * number, _amount(row.amount_usd_micros)
        _write_pair(axes, _RANKING_LEFT, _RIGHT, y + 27, drawable(row.label), amount)
        _draw_box(axes, _RANKING_LEFT, y + 41, width, 14, UNRANKED, radius=7)
        _draw_box(
            axes, _RANKING_LEFT, y + 41, max(14, width * row.amount_usd_micros / max_usd_micros), 14, RANKED, radius=7
        )
