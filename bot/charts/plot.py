"""The plot: a chart as a PNG picture of its own dark card, which looks right on a dark and on a light page.

Only for the process that draws charts (chart_worker.py): matplotlib takes a second to import and keeps 100 MB.
"""

# matplotlib's own types leave much open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import io
import math

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from bot.charts.chart import Chart, Label, Stack
from bot.charts.lettering import families, written
from bot.domain.quota import MICROS_PER_USD, format_usd

WIDTH, HEIGHT = 1400, 900
"""Pixels. Discord shows it half as wide or less, so everything is twice as large as it should look."""

BACKGROUND, TEXT, QUIET, LINES = "#2B2D31", "#F2F3F5", "#B5BAC1", "#3F4248"
RANKED, UNRANKED = "#949CF7", "#383A40"
COLOURS = ("#4C96FF", "#FFB84D", "#5EE6B4", "#D9604F", "#CFE4FF", "#868C96")
"""Told apart also by those who see few colours; the last is for everything else."""

_MARGIN = 48
_GAP = 40
_DPI = 100
_TITLE, _SIZE, _SMALL = 44, 29, 25
_PANELS_TOP, _BARS_TOP = 180, 240
_TIME_RIGHT, _RANKING_LEFT = 892, 944
_LEGEND_ROW, _RANKING_ROW = 44, 77
_TICKS_HEIGHT = 46


def draw(chart: Chart) -> bytes:
    """The PNG. Something was spent, or there is nothing to draw."""
    return _laid_out(chart).png()


def _laid_out(chart: Chart) -> _Sheet:
    # Text is written as it is: a `$` in a name is no formula.
    with rc_context({"text.parse_math": False, "font.family": families()}):
        sheet = _Sheet()
        _header(sheet, chart)
        _over_time(sheet, chart)
        _ranking(sheet, chart)
    return sheet


class _Sheet:
    """The page, measured in pixels from its upper left corner."""

    def __init__(self) -> None:
        self._figure = Figure(figsize=(WIDTH / _DPI, HEIGHT / _DPI), dpi=_DPI, facecolor=BACKGROUND)
        self._canvas = FigureCanvasAgg(self._figure)

    def png(self) -> bytes:
        """What was drawn so far."""
        data = io.BytesIO()
        self._figure.savefig(data, format="png", facecolor=BACKGROUND, metadata={"Software": None})
        return data.getvalue()

    def axes(self, left: float, top: float, right: float, bottom: float) -> Axes:
        """A place for bars, without a frame."""
        axes = self._figure.add_axes(
            (left / WIDTH, 1 - bottom / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT), facecolor="none"
        )
        axes.set_frame_on(False)
        return axes

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: int = _SIZE,
        colour: str = TEXT,
        bold: bool = False,
        side: str = "left",
    ) -> None:
        """A line that sits on `y` and begins, ends or is centred at `x`."""
        self._figure.text(
            x / WIDTH,
            1 - y / HEIGHT,
            text,
            fontsize=_points(size),
            color=colour,
            fontweight="bold" if bold else "normal",
            horizontalalignment=side,
            verticalalignment="baseline",
        )

    def box(self, x: float, y: float, width: float, height: float, colour: str, *, radius: float = 0) -> None:
        """A filled box, its upper left corner at `x` and `y`."""
        radius = min(radius, width / 2, height / 2)
        self._figure.patches.append(
            FancyBboxPatch(
                (x + radius, HEIGHT - y - height + radius),
                width - 2 * radius,
                height - 2 * radius,
                boxstyle=f"round,pad={radius}" if radius else "square,pad=0",
                linewidth=0,
                facecolor=colour,
                transform=None,
                figure=self._figure,
            )
        )

    def width(self, text: str, *, size: int = _SIZE, bold: bool = False) -> float:
        """How many pixels a line takes."""
        font = FontProperties(family=families(), size=_points(size), weight="bold" if bold else "normal")
        return self._canvas.get_renderer().get_text_width_height_descent(text, font, False)[0]

    def fitted(self, text: str, room: float, *, size: int = _SIZE, bold: bool = False) -> str:
        """The text, shortened until it fits."""
        if self.width(text, size=size, bold=bold) <= room:
            return text
        shortened = text
        while shortened and self.width(f"{shortened}…", size=size, bold=bold) > room:
            shortened = shortened[:-1].rstrip()
        return f"{shortened}…"


def _sum(amount_usd_micros: int) -> str:
    """From a dollar on in whole cents: the table beside the picture has the rest."""
    exact = amount_usd_micros < MICROS_PER_USD
    return format_usd(amount_usd_micros if exact else round(amount_usd_micros, -4))


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI


def _header(sheet: _Sheet, chart: Chart) -> None:
    right = WIDTH - _MARGIN
    total = _sum(chart.total_usd_micros)
    room = right - _MARGIN - _GAP
    title = sheet.fitted(
        written(chart.title), room - sheet.width(total, size=_TITLE, bold=True), size=_TITLE, bold=True
    )
    count = written(chart.count)
    sheet.text(_MARGIN, 80, title, size=_TITLE, bold=True)
    sheet.text(right, 80, total, size=_TITLE, bold=True, side="right")
    sheet.text(_MARGIN, 126, sheet.fitted(written(chart.subtitle), room - sheet.width(count)), colour=QUIET)
    sheet.text(right, 126, count, colour=QUIET, side="right")


# -- over time --------------------------------------------------------------------------------------------


def _over_time(sheet: _Sheet, chart: Chart) -> None:
    heights = [sum(amounts) for amounts in zip(*(stack.amounts_usd_micros for stack in chart.stacks), strict=True)]
    steps = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(0, max(heights) / MICROS_PER_USD)
    dollars = [step for step in steps if step >= 0]
    names = _axis_labels(dollars)
    left = _MARGIN + max(sheet.width(name, size=_SMALL) for name in names) + 14
    legend_top = HEIGHT - _MARGIN - _LEGEND_ROW * ((len(chart.stacks) + 1) // 2)
    bottom = legend_top - _TICKS_HEIGHT - 20
    sheet.text(
        _MARGIN, _PANELS_TOP + 20, sheet.fitted(written(chart.over_time), _TIME_RIGHT - _MARGIN, bold=True), bold=True
    )
    for dollar, name in zip(dollars, names, strict=True):
        y = bottom - (bottom - _BARS_TOP) * dollar / dollars[-1]
        sheet.text(left - 14, y + 9, name, size=_SMALL, colour=QUIET, side="right")
    _bars(sheet.axes(left, _BARS_TOP, _TIME_RIGHT, bottom), chart.stacks, dollars)
    _ticks(sheet, chart.ticks, left, bottom)
    _legend(sheet, chart.stacks, legend_top)


def _axis_labels(dollars: list[float]) -> list[str]:
    """Whole dollars, or cents and more where the steps are finer; all alike but for the zero."""
    micros = [round(dollar * MICROS_PER_USD) for dollar in dollars]
    labels = [format_usd(amount) for amount in micros]
    decimals = max(len(label.partition(".")[2]) for label in labels)
    if all(amount % MICROS_PER_USD == 0 for amount in micros):
        return [label.removesuffix(".00") for label in labels]
    return ["$0" if label == "$0.00" else label.ljust(label.index(".") + 1 + decimals, "0") for label in labels]


def _bars(axes: Axes, stacks: tuple[Stack, ...], dollars: list[float]) -> None:
    places = range(len(stacks[0].amounts_usd_micros))
    axes.hlines(dollars, -0.5, len(places) - 0.5, colors=LINES, linewidth=1.4, zorder=0, clip_on=False)
    floor = [0.0 for _ in places]
    for stack, colour in zip(stacks, COLOURS, strict=False):
        heights = [amount / MICROS_PER_USD for amount in stack.amounts_usd_micros]
        axes.bar(places, heights, 0.72, bottom=floor, color=colour, edgecolor=BACKGROUND, linewidth=0.7)
        floor = [below + height for below, height in zip(floor, heights, strict=True)]
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.set_ylim(0, dollars[-1])
    axes.set_xticks([])
    axes.set_yticks([])


def _ticks(sheet: _Sheet, ticks: tuple[Label, ...], left: float, bottom: float) -> None:
    """As many names as have room under the bars: every one, every second one, …"""
    names = [written(tick) for tick in ticks]
    apart = (_TIME_RIGHT - left) / len(names)
    widest = max(sheet.width(name, size=_SMALL) for name in names) + 10
    for place in range(0, len(names), max(1, math.ceil(widest / apart))):
        middle = left + (place + 0.5) * apart
        sheet.text(middle, bottom + 37, names[place], size=_SMALL, colour=QUIET, side="center")


def _legend(sheet: _Sheet, stacks: tuple[Stack, ...], top: float) -> None:
    """Two columns: colour, name, amount."""
    column = (_TIME_RIGHT - _MARGIN - _GAP) / 2
    for number, (stack, colour) in enumerate(zip(stacks, COLOURS, strict=False)):
        x = _MARGIN + (number % 2) * (column + _GAP)
        y = top + _LEGEND_ROW * (number // 2)
        amount = _sum(stack.total_usd_micros)
        room = column - 36 - sheet.width(amount, size=_SMALL) - 16
        sheet.box(x, y + 11, 22, 22, colour, radius=5)
        sheet.text(x + 36, y + 31, sheet.fitted(written(stack.label), room, size=_SMALL), size=_SMALL)
        sheet.text(x + column, y + 31, amount, size=_SMALL, colour=QUIET, side="right")


# -- the ranking ------------------------------------------------------------------------------------------


def _ranking(sheet: _Sheet, chart: Chart) -> None:
    right = WIDTH - _MARGIN
    room = right - _RANKING_LEFT
    sheet.text(_RANKING_LEFT, _PANELS_TOP + 20, sheet.fitted(written(chart.ranking), room, bold=True), bold=True)
    most = max((row.amount_usd_micros for row in chart.rows), default=0)
    for number, row in enumerate(chart.rows):
        top = _BARS_TOP + _RANKING_ROW * number
        amount = _sum(row.amount_usd_micros)
        name = sheet.fitted(written(row.label), room - sheet.width(amount, size=_SMALL) - 20, size=_SMALL)
        sheet.text(_RANKING_LEFT, top + 27, name, size=_SMALL)
        sheet.text(right, top + 27, amount, size=_SMALL, colour=QUIET, side="right")
        sheet.box(_RANKING_LEFT, top + 41, room, 14, UNRANKED, radius=7)
        sheet.box(_RANKING_LEFT, top + 41, max(14, room * row.amount_usd_micros / most), 14, RANKED, radius=7)
