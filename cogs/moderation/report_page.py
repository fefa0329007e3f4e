"""The page of /quota report: its text, its chart and its tables. Pure functions."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from bot.charts.chart import Chart, Label, Row, Stack
from bot.domain.money.quota import MICROS_PER_USD, Period, SpendReport, Window, format_usd
from cogs.text import formatting, spending_report
from cogs.text.locale import ENGLISH, use_locale
from cogs.text.spending import FORMER_MEMBER
from cogs.ui import card, components
from cogs.ui.components import Component, Layout

CHART_FILE = "spending.png"
TABLE_FILE = "spending.csv"
_FORMULA_START = re.compile(r"(^|[;\t])(?= *[-=+@\t\r\n＝＋－＠])")
"""Where a value starts like a formula. In many countries, spreadsheets also begin a cell at each semicolon."""
_ID_FORMULA = re.compile(r'="[0-9]+"')
"""What `_id` writes. It is harmless from anybody, because its value is the text between the quotes."""
ROWS = 10
CHART_ROWS = 8
CHART_MODELS = 5
"""Models with their own colour in the chart. The others share one colour, unless there is only one other model."""

POST_CUSTOM_ID = re.compile(r"report:(?P<period>day|week|month):(?P<start>\d{1,12})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Spending:
    """What a server spent in a calendar period of its own time zone."""

    period: Period
    zone: ZoneInfo
    window: Window
    parts: tuple[Window, ...]
    """The days of the period, or the hours if the period is a day."""
    report: SpendReport
    model_labels: Mapping[str, str]
    member_names: Mapping[int, Label] = field(default_factory=dict[int, Label])
    """What Discord tells in time; it may lack some."""
    channel_names: Mapping[int, str] = field(default_factory=dict[int, str])

    @property
    def total_usd_micros(self) -> int:
        """Return what all members spent together."""
        return sum(line.spent_usd_micros for line in self.report.lines)

    @property
    def wallet_usd_micros(self) -> int:
        """Return what of it the members' wallets paid."""
        return sum(line.wallet_usd_micros for line in self.report.lines)

    @property
    def jobs(self) -> int:
        """Return the number of images."""
        return sum(line.jobs for line in self.report.lines)

    def by_member(self) -> list[tuple[int | None, int]]:
        """Return each member and the amount spent, highest first."""
        spent = Counter[int | None]()
        for line in self.report.lines:
            spent[line.user_id] += line.spent_usd_micros
        return spent.most_common()


# -- the message ------------------------------------------------------------------------------------------


def page(spending: Spending, files: Iterable[str], *, title: str = "") -> Layout:
    """Lay out totals by member, model and channel, with the chart and the tables that are among `files`."""
    title = f"### {title or spending_report.REPORT_TITLES[spending.period]()}"
    if not spending.report.lines:
        return card.note(f"{title}\n{spending_report.REPORT_EMPTY()}")
    total = spending_report.REPORT_TOTAL(
        spending.jobs,
        amount=format_usd(spending.total_usd_micros),
        start=formatting.day(spending.window.start),
        end=formatting.day(spending.window.end),
    )
    if spending.wallet_usd_micros:
        total += f"\n{spending_report.REPORT_FROM_WALLETS(amount=format_usd(spending.wallet_usd_micros))}"
    members: dict[str, tuple[int, int]] = {}
    models: dict[str, tuple[int, int]] = {}
    channels: dict[str, tuple[int, int]] = {}
    for line in spending.report.lines:
        for table, key in (
            (members, card.person(line.user_id)),
            (models, spending.model_labels[line.model_id]),
            (channels, _channel(line.channel_id)),
        ):
            spent, jobs = table.get(key, (0, 0))
            table[key] = (spent + line.spent_usd_micros, jobs + line.jobs)
    parts = [
        components.text_display(f"{title}\n{total}"),
        _picture(spending)
        if CHART_FILE in files
        else components.text_display(f"-# {spending_report.REPORT_NO_CHART()}"),
        components.text_display(f"**{spending_report.REPORT_MEMBERS()}**\n{_ranking(members)}"),
        components.text_display(f"**{spending_report.REPORT_MODELS()}**\n{_ranking(models)}"),
        components.text_display(f"**{spending_report.REPORT_CHANNELS()}**\n{_ranking(channels)}"),
    ]
    parts.extend(components.file(name) for name in files if name != CHART_FILE)
    return components.container(parts, accent=card.NOTE_ACCENT)


def _channel(channel_id: int | None) -> str:
    return spending_report.REPORT_NO_CHANNEL() if channel_id is None else formatting.channel(channel_id)


def post_row(spending: Spending) -> Component:
    """Build the button that posts the report in the channel."""
    custom_id = post_custom_id(spending.period, spending.window.start)
    return components.action_row(components.button(spending_report.REPORT_POST(), custom_id))


def post_custom_id(period: Period, start: datetime) -> str:
    """Return `report:<period>:<its beginning in seconds since 1970>`."""
    return f"report:{period}:{int(start.timestamp())}"


def _picture(spending: Spending) -> Component:
    alt_text = spending_report.REPORT_CHART(amount=format_usd(spending.total_usd_micros))
    return components.media_gallery(components.media_item(components.attached(CHART_FILE), alt_text))


def _ranking(table: dict[str, tuple[int, int]]) -> str:
    ranked = sorted(table.items(), key=lambda item: -item[1][0])
    rows = [f"{format_usd(spent)} · {jobs} × {name}" for name, (spent, jobs) in ranked[:ROWS]]
    if len(ranked) > ROWS:
        rows.append(spending_report.REPORT_MORE(len(ranked) - ROWS))
    return "\n".join(rows)


# -- the tables -------------------------------------------------------------------------------------------


def tables(spending: Spending) -> dict[str, bytes]:
    """Return the CSV files by name: one by member, channel and model, one by time and model."""
    by_time = "spending-by-hour.csv" if spending.period is Period.DAY else "spending-by-day.csv"
    first = spending_report.REPORT_HOUR if spending.period is Period.DAY else spending_report.REPORT_DAY
    who_and_where = [title() for title in spending_report.REPORT_WHO_AND_WHERE]
    columns = [title() for title in spending_report.REPORT_COLUMNS]
    starts = [part.start.astimezone(spending.zone) for part in spending.parts]
    times = [f"{start:%Y-%m-%d}" if spending.period is not Period.DAY else start.isoformat() for start in starts]
    report = spending.report
    return {
        TABLE_FILE: _csv(
            [*who_and_where, *columns, spending_report.REPORT_WALLET_COLUMN()],
            (
                (
                    _id(line.user_id),
                    _member_name(spending, line.user_id),
                    _id(line.channel_id),
                    spending.channel_names.get(line.channel_id or 0, ""),
                    line.model_id,
                    line.jobs,
                    _usd(line.spent_usd_micros),
                    _usd(line.wallet_usd_micros),
                )
                for line in report.lines
            ),
        ),
        by_time: _csv(
            [first(), *columns],
            ((times[part.part], part.model_id, part.jobs, _usd(part.spent_usd_micros)) for part in report.parts),
        ),
    }


def _member_name(spending: Spending, user_id: int | None) -> str:
    if user_id is None:
        return FORMER_MEMBER()
    name = spending.member_names.get(user_id)
    return "" if name is None else name.text


def _id(discord_id: int | None) -> str:
    """Return an id as a formula for its text: as a number, a spreadsheet would round its last digits to zero."""
    return "" if discord_id is None else f'="{discord_id}"'


def _csv(titles: list[str], rows: Iterable[tuple[object, ...]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(map(_cell, titles))
    table.writerows(map(_cell, row) for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula, save that of an id: others get an apostrophe in front."""
    if not isinstance(value, str) or _ID_FORMULA.fullmatch(value):
        return value
    return _FORMULA_START.sub(r"\1'", value)


def _usd(amount_usd_micros: int) -> str:
    return f"{amount_usd_micros / MICROS_PER_USD:.6f}"


# -- the chart --------------------------------------------------------------------------------------------


def chart(spending: Spending) -> Chart:
    """Describe the chart: a bar for each part of the period, and a ranking of members."""
    return Chart(
        title=_label(spending_report.REPORT_TITLES[spending.period]),
        subtitle=_as_it_is(_dates(spending)),
        count=_label(lambda: formatting.PICTURES(spending.jobs)),
        over_time=_label(spending_report.CHART_HOURS if spending.period is Period.DAY else spending_report.CHART_DAYS),
        ticks=tuple(_tick(spending, part) for part in spending.parts),
        stacks=_stacks(spending),
        ranking=_label(spending_report.CHART_MEMBERS),
        rows=tuple(
            Row(label=_name(user_id, spending.member_names), amount_usd_micros=spent)
            for user_id, spent in spending.by_member()[:CHART_ROWS]
        ),
    )


def _label(said: Callable[[], str]) -> Label:
    """Return a label in the current language, and in English in case its letters cannot be drawn."""
    with use_locale(ENGLISH):
        plain = said()
    return Label(text=said(), plain=plain)


def _as_it_is(text: str) -> Label:
    return Label(text=text, plain=text)


def _dates(spending: Spending) -> str:
    """Return the dates as plain text, because Discord's timestamps do not work in an image."""
    first, last = (part.start.astimezone(spending.zone) for part in (spending.parts[0], spending.parts[-1]))
    days = dict.fromkeys(f"{day:%Y-%m-%d}" for day in (first, last))
    return f"{' – '.join(days)} · {spending.zone.key}"


def _tick(spending: Spending, part: Window) -> Label:
    start = part.start.astimezone(spending.zone)
    match spending.period:
        case Period.DAY:
            return _as_it_is(f"{start:%H:%M}")
        case Period.WEEK:
            return _label(lambda: spending_report.CHART_WEEKDAYS[start.weekday()](day=start.day))
        case Period.MONTH:
            return _as_it_is(str(start.day))


def _stacks(spending: Spending) -> tuple[Stack, ...]:
    """Return the models that cost most, each with its own colour, then all others together."""
    spent = Counter[str]()
    for part in spending.report.parts:
        spent[part.model_id] += part.spent_usd_micros
    ranked = [model_id for model_id, _ in spent.most_common()]
    named = ranked if len(ranked) <= CHART_MODELS + 1 else ranked[:CHART_MODELS]
    amounts = {model_id: [0] * len(spending.parts) for model_id in named}
    others = [0] * len(spending.parts)
    for part in spending.report.parts:
        amounts.get(part.model_id, others)[part.part] += part.spent_usd_micros
    stacks = [
        Stack(label=_as_it_is(spending.model_labels[model_id]), amounts_usd_micros=tuple(amounts[model_id]))
        for model_id in named
    ]
    if len(named) < len(ranked):
        stacks.append(Stack(label=_label(spending_report.CHART_OTHER_MODELS), amounts_usd_micros=tuple(others)))
    return tuple(stacks)


def _name(user_id: int | None, names: Mapping[int, Label]) -> Label:
    if user_id is None:
        return _label(FORMER_MEMBER)
    return names.get(user_id) or _label(lambda: spending_report.CHART_SOMEBODY(digits=str(user_id)[-4:]))
