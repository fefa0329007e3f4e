"""The page of /usage: a balance as people read it, and a member's last jobs. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.domain.jobs import FailureReason, Job
from bot.domain.quota import Balance, format_usd
from cogs.text import formatting, spending
from cogs.text.locale import Phrase
from cogs.ui import card, components
from cogs.ui.components import Layout

BAR_CELLS = 20


def bar(balance: Balance) -> str:
    """Spent, set aside and left as twenty cells of text."""
    limit = balance.limit_usd_micros
    if not limit:
        return "░" * BAR_CELLS
    spent = min(BAR_CELLS, round(BAR_CELLS * balance.spent_usd_micros / limit))
    held = min(BAR_CELLS - spent, round(BAR_CELLS * balance.set_aside_usd_micros / limit))
    return "█" * spent + "▒" * held + "░" * (BAR_CELLS - spent - held)


def page(balance: Balance, jobs: Sequence[tuple[Job, str]], *, previous: bool) -> Layout:
    """A member's own balance and the last jobs of the period."""
    title = spending.PREVIOUS_TITLE() if previous else spending.TITLE()
    parts = [components.text_display(f"### {title}\n{balance_lines(balance, spending.SOURCES)}")]
    ends = spending.ENDED if previous else spending.RESETS
    parts.append(
        components.text_display(
            f"-# {ends(when=formatting.moment(balance.window.end))} ({formatting.day(balance.window.end)})"
        )
    )
    parts.append(components.separator())
    lines = (
        [f"**{spending.JOBS()}**", *(_job_line(job, label) for job, label in jobs)] if jobs else [spending.NO_JOBS()]
    )
    parts.append(components.text_display("\n".join(lines)))
    return components.container(parts, accent=card.NOTE_ACCENT)


def balance_lines(balance: Balance, sources: Mapping[str, Phrase]) -> str:
    """The bar, the amounts and the quota; `sources` are the words for where that comes from."""
    role = f"<@&{balance.quota.role_id}>" if balance.quota.role_id else ""
    source = sources[balance.quota.source.value](role=role)
    lines = [
        f"`{bar(balance)}`",
        formatting.left(
            balance.available_usd_micros,
            spending.BALANCE,
            spending.BALANCE_UNLIMITED,
            spent=format_usd(balance.spent_usd_micros),
            set_aside=format_usd(balance.set_aside_usd_micros),
        ),
        spending.QUOTA(quota=spending.quota(balance.quota), source=source),
    ]
    if balance.granted_usd_micros:
        lines.append(spending.GRANTED_NOW(amount=format_usd(balance.granted_usd_micros)))
    return "\n".join(lines)


def _job_line(job: Job, model_label: str) -> str:
    price = format_usd(job.charged_usd_micros or 0) if job.status.is_final else format_usd(job.reserved_usd_micros)
    moderated = job.failure is not None and job.failure.reason is FailureReason.MODERATED
    prompt = (
        "" if moderated or job.erased_at else f"\n-# `{formatting.inline(formatting.shorten(job.request.prompt, 60))}`"
    )
    return f"{card.state(job.status)} · {model_label} · {price} · {formatting.moment(job.created_at)}{prompt}"
