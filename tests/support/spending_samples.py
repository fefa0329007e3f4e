"""Invented spending of a server in a period, for the tests of reports."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from bot.domain.money.quota import Period, SpendLine, SpendPart, SpendReport, Window
from cogs.moderation.report_page import Spending
from tests.support.catalogue_samples import CATALOGUE

NOON = datetime(2026, 11, 18, 12, tzinfo=UTC)


def a_spending(
    *,
    period: Period = Period.MONTH,
    now: datetime = NOON,
    zone: str = "Europe/Berlin",
    lines: Sequence[SpendLine] = (),
    parts: Sequence[SpendPart] | None = None,
) -> Spending:
    """Return the spending in the period around `now`; by default everything was spent in its first part."""
    time_zone = ZoneInfo(zone)
    window = Window.containing(now, period, time_zone)
    if parts is None:
        parts = [
            SpendPart(part=0, model_id=line.model_id, jobs=line.jobs, spent_usd_micros=line.spent_usd_micros)
            for line in lines
        ]
    model_ids = {row.model_id for row in (*lines, *parts)}
    return Spending(
        period=period,
        zone=time_zone,
        window=window,
        parts=window.hours() if period is Period.DAY else window.days(time_zone),
        report=SpendReport(lines=tuple(lines), parts=tuple(parts)),
        model_labels={
            model_id: model.label if (model := CATALOGUE.find(model_id)) else model_id for model_id in model_ids
        },
    )
