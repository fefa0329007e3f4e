"""The pages of /quota except the report: a member's limit and the record of changes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bot.domain.audit import AuditEntry
from bot.domain.money.quota import Cap, format_usd
from bot.domain.money.spendable import BindingLimit, Spendable
from cogs.members.usage_page import balance_lines
from cogs.text import audit_entries, formatting, job_card, limits_left, spending
from cogs.text.audit_entries import change
from cogs.ui import card, components
from cogs.ui.components import Layout
from cogs.ui.error_handler import REASON_CHARACTERS

MAX_CHANNEL_CAPS = 10
MAX_AUDIT_CHARACTERS = 3_800
MIN_REASON_CHARACTERS = 40


def quota_of(mention: str, spendable: Spendable, channel_caps: Sequence[Cap]) -> Layout:
    """Lay out a member's limit for a moderator, which of all limits leaves the least, and the caps of all channels."""
    balance, cap = spendable.balance, spendable.caps.get(BindingLimit.SERVER_CAP)
    amounts = balance_lines(balance, spending.SOURCES_FOR_MODERATORS, spendable=spendable)
    lines = [f"### {spending.QUOTA_OF(subject=mention)}", amounts]
    if spendable.blocked:
        lines.append(spending.BLOCKED(subject=mention))
    elif spendable.binding is not BindingLimit.QUOTA or (
        balance.limit_usd_micros == 0 and not spendable.wallet.available_usd_micros
    ):
        lines.append(spending.BINDS(why=limits_left.binding_for_moderators(spendable)))
    lines.append(f"-# {spending.RESETS(when=formatting.moment(balance.window.end))}")
    if cap is not None:
        lines.append(f"-# {spending.SERVER_CAP(used=format_usd(cap.used_usd_micros), cap=spending.quota(cap.quota))}")
    lines.extend(f"-# {_channel_cap(cap)}" for cap in channel_caps[:MAX_CHANNEL_CAPS])
    if len(channel_caps) > MAX_CHANNEL_CAPS:
        lines.append(f"-# {spending.MORE_CHANNEL_CAPS(len(channel_caps) - MAX_CHANNEL_CAPS)}")
    return card.note("\n".join(lines))


def _channel_cap(cap: Cap) -> str:
    return spending.CHANNEL_CAP(
        channel=formatting.channel(cap.channel_id or 0),
        used=format_usd(cap.used_usd_micros),
        cap=spending.quota(cap.quota),
    )


def audit(entries: Sequence[AuditEntry], *, user_id: int | None, more: bool) -> Layout:
    """Lay out a page of the record of changes, with a button for older ones."""
    lines = [f"### {audit_entries.AUDIT_TITLE()}"]
    changes = [_audit_line(entry) for entry in entries]
    # Whole, unless the page is longer than what Discord takes.
    spare = MAX_AUDIT_CHARACTERS - sum(len(change) + 1 for change in changes)
    limit = min(REASON_CHARACTERS, max(MIN_REASON_CHARACTERS, spare // max(len(changes), 1)))
    lines.extend(change + _reason(entry, limit) for change, entry in zip(changes, entries, strict=True))
    if not entries:
        lines.append(audit_entries.AUDIT_EMPTY())
    parts = [components.text_display("\n".join(lines))]
    if more:
        older = components.button(job_card.OLDER(), audit_custom_id(entries[-1].id, user_id))
        parts.append(components.action_row(older))
    return components.container(parts, accent=card.NOTE_ACCENT)


def audit_custom_id(before_id: int, user_id: int | None) -> str:
    """Return `audit:<entries before this id>:<about this user, or 0>`."""
    return f"audit:{before_id}:{user_id or 0}"


AUDIT_CUSTOM_ID = re.compile(r"audit:(?P<before_id>\d{1,18}):(?P<user_id>\d{1,20})")


def _audit_line(entry: AuditEntry) -> str:
    subject = {
        "member": card.person(entry.subject_id),
        "role": f"<@&{entry.subject_id}>",
        "channel": f"<#{entry.subject_id}>",
    }.get(entry.subject, entry.subject)
    who = card.person(entry.actor_id)
    known = audit_entries.AUDIT_ACTIONS.get(f"{entry.action} {entry.subject}") or audit_entries.AUDIT_ACTIONS.get(
        entry.action
    )
    what = known(who=who, subject=subject) if known else f"{who} {entry.action} {subject}"
    return f"{formatting.moment(entry.created_at)} {what}: {change(entry)}"


def _reason(entry: AuditEntry, limit: int) -> str:
    return f" · `{formatting.inline(entry.reason, limit)}`" if entry.reason else ""
