"""The page of /usage: a balance as people read it, and a member's last jobs. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bot.domain.jobs import FailureReason, Job
from bot.domain.quota import Balance, format_usd
from cogs.text import spending as say
from cogs.text import words
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
    title = say.PREVIOUS_TITLE() if previous else say.TITLE()
    parts = [components.text_display(f"### {title}\n{balance_lines(balance, say.SOURCES)}")]
    ends = say.ENDED if previous else say.RESETS
    parts.append(
        components.text_display(f"-# {ends(when=words.moment(balance.window.end))} ({words.day(balance.window.end)})")
    )
    parts.append(components.separator())
    lines = [f"**{say.JOBS()}**", *(_job_line(job, label) for job, label in jobs)] if jobs else [say.NO_JOBS()]
    parts.append(components.text_display("\n".join(lines)))
    return components.container(parts, accent=card.NOTE_ACCENT)


def balance_lines(balance: Balance, sources: Mapping[str, Phrase]) -> str:
    """The bar, the amounts and the quota; `sources` are the words for where that comes from."""
    role = f"<@&{balance.quota.role_id}>" if balance.quota.role_id else ""
    source = sources[balance.quota.source.value](role=role)
    lines = [
        f"`{bar(balance)}`",
        words.left(
            balance.available_usd_micros,
            say.BALANCE,
            say.BALANCE_UNLIMITED,
            spent=format_usd(balance.spent_usd_micros),
            set_aside=format_usd(balance.set_aside_usd_micros),
        ),
        say.QUOTA(quota=say.quota(balance.quota), source=source),
    ]
    if balance.granted_usd_micros:
        lines.append(say.GRANTED_NOW(amount=format_usd(balance.granted_usd_micros)))
    return "\n".join(lines)


def _job_line(job: Job, model_label: str) -> str:
    price = format_usd(job.charged_usd_micros or 0) if job.status.is_final else format_usd(job.reserved_usd_micros)
    moderated = job.failure is not None and job.failure.reason is FailureReason.MODERATED
    prompt = "" if moderated or job.erased_at else f"\n-# `{words.inline(words.shorten(job.request.prompt, 60))}`"
    return f"{card.state(job.status)} · {model_label} · {price} · {words.moment(job.created_at)}{prompt}"
