"""The pages of /quota: a member's limit, the report and the record of changes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from discord import ui

from bot.quota import AuditEntry, Balance, Cap, Period, SpendLine, Window, format_usd
from cogs import render, words
from cogs import usage_words as say
from cogs.record_words import recorded
from cogs.usage_page import balance_lines

REPORT_FILE = "spending.csv"
REPORT_ROWS = 10


def quota_of(mention: str, balance: Balance, *, cap: Cap | None, blocked: bool) -> render.Layout:
    """A member's limit as a moderator sees it."""
    lines = [f"### {say.QUOTA_OF(subject=mention)}", balance_lines(balance, say.SOURCES_FOR_MODERATORS)]
    if blocked:
        lines.append(say.BLOCKED(subject=mention))
    lines.append(f"-# {say.RESETS(when=words.moment(balance.window.end))}")
    if cap is not None:
        lines.append(f"-# {say.SERVER_CAP(used=format_usd(cap.used_usd_micros), cap=say.quota(cap.quota))}")
    return render.note("\n".join(lines))


def report(lines: Sequence[tuple[SpendLine, str]], window: Window, period: Period) -> render.Layout:
    """Spending of a server in a window: totals by member and by model."""
    title = f"### {say.REPORT_TITLES[period]()}"
    if not lines:
        return render.note(f"{title}\n{say.REPORT_EMPTY()}")
    total = say.REPORT_TOTAL(
        sum(line.jobs for line, _ in lines),
        amount=format_usd(sum(line.spent_usd_micros for line, _ in lines)),
        start=words.day(window.start),
        end=words.day(window.end),
    )
    members: dict[str, tuple[int, int]] = {}
    by_model: dict[str, tuple[int, int]] = {}
    for line, label in lines:
        who = render.person(line.user_id)
        for table, key in ((members, who), (by_model, label)):
            spent, jobs = table.get(key, (0, 0))
            table[key] = (spent + line.spent_usd_micros, jobs + line.jobs)
    parts: list[ui.Item[ui.LayoutView]] = [
        ui.TextDisplay(f"{title}\n{total}"),
        ui.TextDisplay(f"**{say.REPORT_MEMBERS()}**\n{_ranking(members)}"),
        ui.TextDisplay(f"**{say.REPORT_MODELS()}**\n{_ranking(by_model)}"),
        ui.File(f"attachment://{REPORT_FILE}"),
    ]
    return render.Layout(ui.Container(*parts, accent_colour=render.NOTE_ACCENT))


def _ranking(table: dict[str, tuple[int, int]]) -> str:
    ranked = sorted(table.items(), key=lambda item: -item[1][0])
    rows = [f"{format_usd(spent)} · {jobs} × {name}" for name, (spent, jobs) in ranked[:REPORT_ROWS]]
    if len(ranked) > REPORT_ROWS:
        rows.append(say.REPORT_MORE(len(ranked) - REPORT_ROWS))
    return "\n".join(rows)


def audit(entries: Sequence[AuditEntry], *, user_id: int | None, more: bool) -> render.Layout:
    """A page of the record of changes; the button leads to older ones."""
    lines = [f"### {say.AUDIT_TITLE()}"]
    lines.extend(_audit_line(entry) for entry in entries)
    if not entries:
        lines.append(say.AUDIT_EMPTY())
    parts: list[ui.Item[ui.LayoutView]] = [ui.TextDisplay("\n".join(lines))]
    if more:
        older = ui.Button[ui.LayoutView](label=words.OLDER(), custom_id=audit_custom_id(entries[-1].id, user_id))
        parts.append(ui.ActionRow(older))
    return render.Layout(ui.Container(*parts, accent_colour=render.NOTE_ACCENT))


def audit_custom_id(before_id: int, user_id: int | None) -> str:
    """`audit:<entries before this id>:<about this user, or 0>`."""
    return f"audit:{before_id}:{user_id or 0}"


AUDIT_CUSTOM_ID = re.compile(r"audit:(?P<before_id>\d{1,18}):(?P<user_id>\d{1,20})")


def _audit_line(entry: AuditEntry) -> str:
    subject = {
        "member": render.person(entry.subject_id),
        "role": f"<@&{entry.subject_id}>",
        "default": say.THE_DEFAULT(),
        "server": say.THE_SERVER(),
    }.get(entry.subject, entry.subject)
    who = render.person(entry.actor_id)
    known = say.AUDIT_ACTIONS.get(entry.action)
    what = known(who=who, subject=subject) if known else f"{who} {entry.action} {subject}"
    change = " → ".join(recorded(value) for value in (entry.old_value, entry.new_value) if value)
    reason = f" · `{words.inline(entry.reason)}`" if entry.reason else ""
    return f"{words.moment(entry.created_at)} {what}{': ' + change if change else ''}{reason}"
