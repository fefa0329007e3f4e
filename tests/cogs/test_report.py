"""/quota report: a chart, tables and CSV files for a moderator, who may post them; on time even without a chart."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import replace
from datetime import UTC, datetime
from gettext import NullTranslations
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from bot.charts.chart import Chart, Label
from bot.domain.money.quota import Period, SpendLine, SpendPart
from cogs.moderation import report, report_page
from cogs.text import locale, refusals, spending_report
from tests.support.catalogue_samples import CATALOGUE, FLUX, NANO_BANANA_2
from tests.support.discord_stage import Card, Stage
from tests.support.spending_samples import a_spending


def file_named(card: Card, name: str) -> bytes:
    return card.file([file["filename"] for file in card.files].index(name))


def table_named(card: Card, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file_named(card, name).decode())))


@pytest.fixture
def drawn(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[Chart]:
    """Return every chart requested so far; none is drawn."""
    charts: list[Chart] = []

    async def remember(chart: Chart, **_: object) -> None:
        charts.append(chart)

    monkeypatch.setattr(stage.core.bot.reports._charts, "draw", remember)
    return charts


# -- the answer -----------------------------------------------------------------------------------------


async def test_a_report_of_nothing_says_so_and_there_is_nothing_to_post(stage: Stage) -> None:
    card = await stage.quota("report", period="day")
    assert card.text == f"### Spending today\n{spending_report.REPORT_EMPTY()}"
    assert card.private
    assert (card.files, card.buttons) == ([], {})


async def test_a_report_adds_up_by_member_and_by_model_and_comes_with_a_chart_and_tables(stage: Stage) -> None:
    for who, options in [(stage.ada, {"count": 2}), (stage.ada, {"model": FLUX}), (stage.bob, {"resolution": "4K"})]:
        await stage.until_says(await stage.imagine(who, **options), "Completed")
    card = await stage.quota("report")
    assert card.private
    assert "### Spending this month\n**$0.327** for 4 images, from <t:" in card.text
    assert f"$0.167 · 3 × {stage.ada.mention}\n$0.16 · 1 × {stage.bob.mention}" in card.text
    assert "$0.32 · 3 × Nano Banana 2\n$0.007 · 1 × Flux 1 Dev" in card.text
    assert f"**By channel**\n$0.327 · 4 × <#{stage.channel.id}>" in card.text
    (image,) = card.gallery
    assert image["description"] == spending_report.REPORT_CHART(amount="$0.327")
    with Image.open(io.BytesIO(file_named(card, "spending.png"))) as image:
        assert (image.format, image.size) == ("PNG", (1400, 900))
    rows = table_named(card, "spending.csv")
    assert sum(float(row["spent_usd"]) for row in rows) == pytest.approx(0.327)
    assert {(row["member_id"], row["member"], row["model"], row["images"]) for row in rows} == {
        (f'="{stage.ada.id}"', "ada", NANO_BANANA_2, "2"),
        (f'="{stage.ada.id}"', "ada", FLUX, "1"),
        (f'="{stage.bob.id}"', "bob", NANO_BANANA_2, "1"),
    }
    assert {(row["channel_id"], row["channel"]) for row in rows} == {(f'="{stage.channel.id}"', "pictures")}
    by_day = table_named(card, "spending-by-day.csv")
    assert [(row["model"], row["images"], row["spent_usd"]) for row in by_day] == [
        (FLUX, "1", "0.007000"),
        (NANO_BANANA_2, "3", "0.320000"),
    ]
    assert {row["day"] for row in by_day} == {f"{datetime.now(UTC):%Y-%m-%d}"}


async def test_the_response_is_deferred_before_anything_is_gathered(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    await stage.quota("report")
    paths = [request.path for request in stage.env.http_requests]
    deferred = max(number for number, path in enumerate(paths) if path.endswith("/callback"))
    assert stage.env.http_requests[deferred].json == {"type": 5, "data": {"flags": 64}}
    assert all("/callback" not in path for path in paths[deferred + 1 :])


async def test_without_a_chart_the_report_comes_all_the_same_and_says_so(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    monkeypatch.setattr("bot.charts.renderer._MEMORY_LIMIT_BYTES", 32 << 20)
    card = await stage.quota("report", period="day")
    assert "**$0.08** for 1 image" in card.text
    assert spending_report.REPORT_NO_CHART() in card.text
    assert card.gallery == []
    assert [file["filename"] for file in card.files] == ["spending.csv", "spending-by-hour.csv"]


# -- names ----------------------------------------------------------------------------------------------


async def test_the_chart_calls_members_by_their_names_and_who_left_by_the_end_of_their_id(
    stage: Stage, drawn: list[Chart]
) -> None:
    for who, resolution in ((stage.ada, "4K"), (stage.bob, "2K"), (stage.mo, "1K")):
        await stage.until_says(await stage.imagine(who, resolution=resolution), "Completed")
    members = stage.env.backend.get_guild(stage.guild.id).members
    members[stage.ada.id].nick = "Ada ✨ 狐"
    del members[stage.bob.id]
    await stage.quota("report")
    assert [(row.label.text, row.label.plain) for row in drawn[0].rows] == [
        ("Ada ✨ 狐", "ada"),
        (f"Member …{str(stage.bob.id)[-4:]}",) * 2,
        ("mo", "mo"),
    ]


class SlowGuild:
    """A server that tells the names of the first hundred members; it never answers about others."""

    id = 1

    async def query_members(self, *, user_ids: list[int], limit: int, cache: bool) -> list[Any]:
        assert len(user_ids) <= limit == 100
        if max(user_ids) > 100:
            await asyncio.Event().wait()
        return [
            SimpleNamespace(id=number, display_name=f"Member {number}", name=f"member_{number}") for number in (1, 2)
        ]


async def test_a_discord_that_does_not_tell_all_names_in_time_holds_up_no_report(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "NAMES_TIMEOUT_SECONDS", 0.05)
    guild: Any = SlowGuild()
    async with asyncio.timeout(2):
        names = await report.names_of(guild, list(range(1, 150)))
    assert names == {number: Label(text=f"Member {number}", plain=f"member_{number}") for number in (1, 2)}


def test_ids_and_names_in_a_table_stay_what_they_are_in_a_spreadsheet() -> None:
    spending = replace(
        a_spending(lines=[line(1234567890123456789), line(5), line(None)]),
        member_names={1234567890123456789: Label(text='=HYPERLINK("x")', plain="eve")},
        channel_names={6: "art"},
    )
    rows = list(csv.DictReader(io.StringIO(report_page.tables(spending)["spending.csv"].decode())))
    assert [(row["member_id"], row["member"], row["channel_id"], row["channel"]) for row in rows] == [
        ('="1234567890123456789"', """'=HYPERLINK("x")""", '="6"', "art"),
        ('="5"', "", '="6"', "art"),
        ("", "a former member", '="6"', "art"),
    ]


# -- posting --------------------------------------------------------------------------------------------


async def test_a_moderator_posts_a_report_for_everybody(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    card = await stage.quota("report", period="week")
    await stage.restart()
    posted = stage.said(await stage.press(stage.mo, card, "Post here"))
    assert not posted.private
    assert posted.text == card.text
    assert [file["filename"] for file in posted.files] == [file["filename"] for file in card.files]
    assert posted.buttons == {}


async def test_who_is_no_moderator_any_more_posts_nothing(stage: Stage) -> None:
    await stage.until_says(await stage.imagine(), "Completed")
    card = await stage.quota("report")
    stage.env.backend.get_guild(stage.guild.id).members[stage.mo.id].role_ids.clear()
    refusal = stage.said(await stage.press(stage.mo, card, "Post here"))
    assert refusal.private
    assert refusal.text == refusals.MODERATORS_ONLY()


# -- what is in the chart ---------------------------------------------------------------------------------


def line(user_id: int | None, model_id: str = FLUX, spent: int = 1_000) -> SpendLine:
    return SpendLine(user_id=user_id, channel_id=6, model_id=model_id, jobs=1, spent_usd_micros=spent)


def labels(chart: Chart) -> list[str]:
    return [tick.text for tick in chart.ticks]


def test_a_month_has_its_days_a_week_their_names_and_a_day_its_hours() -> None:
    month = report_page.chart(a_spending(lines=[line(1)]))
    assert labels(month) == [str(day) for day in range(1, 31)]
    assert month.subtitle.text == "2026-11-01 – 2026-11-30 · Europe/Berlin"
    week = report_page.chart(a_spending(period=Period.WEEK, lines=[line(1)]))
    assert labels(week) == ["Mon 16", "Tue 17", "Wed 18", "Thu 19", "Fri 20", "Sat 21", "Sun 22"]
    day = report_page.chart(a_spending(period=Period.DAY, lines=[line(1)]))
    assert labels(day) == [f"{hour:02}:00" for hour in range(24)]
    assert (day.subtitle.text, day.over_time.text) == ("2026-11-18 · Europe/Berlin", "By hour")


@pytest.mark.f10
def test_a_day_of_25_hours_shows_the_same_hour_twice() -> None:
    autumn = datetime(2026, 10, 25, 12, tzinfo=UTC)
    spending = a_spending(period=Period.DAY, now=autumn, lines=[line(1)])
    assert labels(report_page.chart(spending))[:5] == ["00:00", "01:00", "02:00", "02:00", "03:00"]
    parts = [SpendPart(part=hour, model_id=FLUX, jobs=1, spent_usd_micros=1_000) for hour in (2, 3)]
    spending = a_spending(period=Period.DAY, now=autumn, lines=[line(1)], parts=parts)
    rows = list(csv.DictReader(io.StringIO(report_page.tables(spending)["spending-by-hour.csv"].decode())))
    assert [row["hour"] for row in rows] == ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"]


@pytest.mark.hostile("G-18")
@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", " =", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_no_cell_of_a_table_is_a_formula(start: str) -> None:
    name = f"{start}HYPERLINK(0)"
    spending = replace(
        a_spending(lines=[line(1, name)]), member_names={1: Label(text=name, plain="eve")}, channel_names={6: name}
    )
    for content in report_page.tables(spending).values():
        (row,) = csv.DictReader(io.StringIO(content.decode(), newline=""))
        assert {row[column] for column in ("member", "channel", "model") if column in row} == {f"'{name}"}


@pytest.mark.hostile("G-18")
@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("x;=cmd|' /C calc'!A0", "x;'=cmd|' /C calc'!A0"),
        ("x; +1", "x;' +1"),
        ("x\t@SUM(1)", "x\t'@SUM(1)"),
        ("=1;=2", "'=1;'=2"),
        ("a;b", "a;b"),
    ],
)
def test_no_cell_is_a_formula_where_a_semicolon_or_a_tab_begins_one(name: str, cell: str) -> None:
    spending = replace(a_spending(lines=[line(1, "flux")]), member_names={1: Label(text=name, plain="eve")})
    (row,) = csv.DictReader(io.StringIO(report_page.tables(spending)["spending.csv"].decode(), newline=""))
    assert row["member"] == cell


@pytest.mark.hostile("G-18")
async def test_a_model_in_another_spelling_is_stored_reported_and_found_under_its_id(stage: Stage) -> None:
    spellings = (FLUX, FLUX.upper(), f"  {FLUX.replace('/', ' / ')} ", "flux 1 DEV")
    for spelling in spellings:
        await stage.until_says(await stage.imagine(stage.ada, model=spelling), "Completed")
    card = await stage.quota("report")
    assert [(row["model"], row["images"]) for row in table_named(card, "spending.csv")] == [(FLUX, "4")]
    assert "4 × Flux 1 Dev" in card.text


@pytest.mark.parametrize(("models", "named", "rest"), [(1, 1, []), (6, 6, []), (7, 5, [6 + 7]), (12, 5, [57 + 6])])
def test_five_models_have_a_colour_and_the_others_share_one(models: int, named: int, rest: list[int]) -> None:
    found = CATALOGUE.models[:models]
    parts = [
        SpendPart(part=number % 30, model_id=model.id, jobs=1, spent_usd_micros=amount)
        for number, (model, amount) in enumerate(zip(found, range(models, 0, -1), strict=True))
    ]
    chart = report_page.chart(a_spending(parts=parts))
    assert [stack.label.text for stack in chart.stacks[:named]] == [model.label for model in found[:named]]
    assert [stack.label.text for stack in chart.stacks[named:]] == ["Other models"] * len(rest)
    assert chart.total_usd_micros == sum(part.spent_usd_micros for part in parts)


def test_the_eight_who_spent_most_are_shown_and_who_was_forgotten_counts_once() -> None:
    spending = a_spending(lines=[line(None, spent=50_000), line(None, NANO_BANANA_2, 50_000), *map(line, range(1, 30))])
    chart = report_page.chart(spending)
    assert len(chart.rows) == 8
    assert (chart.rows[0].label.text, chart.rows[0].amount_usd_micros) == ("a former member", 100_000)


class Japanese(NullTranslations):
    """A language in which every phrase has the same translation."""

    def gettext(self, message: str) -> str:
        return "支出"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return "{count}枚"


def test_a_chart_in_another_language_knows_its_words_in_english_too(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken: dict[str, NullTranslations] = {"ja": Japanese(), "en": NullTranslations()}
    monkeypatch.setattr(locale, "translations_of", spoken.__getitem__)
    with locale.use_locale("ja"):
        chart = report_page.chart(a_spending(period=Period.WEEK, lines=[line(1234)]))
    written = (chart.title, chart.count, chart.over_time, chart.ranking, chart.ticks[0], chart.rows[0].label)
    assert [label.plain for label in written] == [
        *("Spending this week", "1 image", "By day"),
        *("Top members", "Mon 16", "Member …1234"),
    ]
    assert [label.text for label in written] == ["支出", "1枚", "支出", "支出", "支出", "支出"]
