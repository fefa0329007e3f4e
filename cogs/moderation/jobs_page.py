"""The pages of /jobs: unfinished and finished jobs of a server. Pure functions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.domain.jobs import Reply
from bot.domain.money.quota import format_usd
from cogs.text import formatting, job_card, moderation
from cogs.ui import card, components
from cogs.ui.components import Component, Layout

PAGE = 8
"""Commands in each part of a page."""

RUNNING, RECENT = "running", "recent"

Label = Callable[[str], str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Up to `PAGE` commands, newest first, and whether there are older ones."""

    replies: Sequence[Reply]
    more: bool

    @classmethod
    def of(cls, found: Sequence[Reply]) -> Part:
        """Make a part of up to `PAGE + 1` commands; the last of these only shows that there are more."""
        return cls(replies=found[:PAGE], more=len(found) > PAGE)


def page(*, running: Part | None, recent: Part | None, first: bool, label: Label) -> Layout:
    """Lay out a page: unfinished commands, with a menu to cancel one, and finished commands."""
    parts = [components.text_display(f"### {moderation.JOBS_TITLE()}")]
    buttons: list[Component] = []
    if not first:
        buttons.append(components.button(job_card.NEWEST(), custom_id(RECENT, None)))
    if running is not None:
        lines = [f"{number}. {_line(reply, label)}" for number, reply in enumerate(running.replies, start=1)]
        parts.append(
            components.text_display(
                "\n".join([moderation.JOBS_RUNNING(), *(lines or [moderation.JOBS_NONE_RUNNING()])])
            )
        )
        if running.replies:
            parts.append(components.action_row(_choice(running.replies, label)))
        if running.more:
            oldest = running.replies[-1].created_at
            buttons.append(components.button(moderation.JOBS_MORE_RUNNING(), custom_id(RUNNING, oldest)))
    if recent is not None:
        lines = [f"{number}. {_line(reply, label)}" for number, reply in enumerate(recent.replies, start=1)]
        parts.append(
            components.text_display("\n".join([moderation.JOBS_RECENT(), *(lines or [moderation.JOBS_NONE()])]))
        )
        if deletable := _deletable(recent.replies, label):
            select = components.string_select("jobs:delete", placeholder=moderation.DELETE_CHOICE(), options=deletable)
            parts.append(components.action_row(select))
        if recent.more:
            buttons.append(components.button(job_card.OLDER(), custom_id(RECENT, recent.replies[-1].created_at)))
    if buttons:
        parts.append(components.action_row(*buttons))
    return components.container(parts, accent=card.NOTE_ACCENT)


CUSTOM_ID = re.compile(r"jobs:(?P<part>running|recent):(?P<before>\d{1,16})")
CANCEL_CUSTOM_ID = re.compile(r"jobs:cancel")
DELETE_CUSTOM_ID = re.compile(r"jobs:delete")


def custom_id(part: str, before: datetime | None) -> str:
    """Return `jobs:<part>:<commands before this microsecond since 1970, or 0 for the first page>`."""
    return f"jobs:{part}:{0 if before is None else round(before.timestamp() * 1_000_000)}"


def _line(reply: Reply, label: Label) -> str:
    address = reply.address
    state = card.state_of(reply)
    if not address.private and address.message_id is not None:
        link = formatting.message_link(address.guild_id, address.channel_id, address.message_id)
        state = f"[{state}]({link})"
    facts = [state, card.person(reply.user_id), _what(reply, label), _price(reply), formatting.moment(reply.created_at)]
    if address.private:
        facts.append(moderation.JOBS_PRIVATE())
    if reply.deleted_at is not None:
        facts.append(moderation.JOBS_DELETED())
    return " · ".join(facts)


def _what(reply: Reply, label: Label) -> str:
    counts = Counter(label(job.request.model_id) for job in reply.jobs)
    return ", ".join(f"{count} × {name}" if count > 1 else name for name, count in counts.items())


def _price(reply: Reply) -> str:
    if not reply.is_final:
        return format_usd(sum(job.reserved_usd_micros for job in reply.jobs))
    charged = sum(job.charged_usd_micros or 0 for job in reply.jobs)
    return format_usd(charged) if charged else job_card.NOT_CHARGED()


def _choice(replies: Sequence[Reply], label: Label) -> Component:
    options = [
        (formatting.shorten(f"{number}. {_what(reply, label)} · {_price(reply)}", 100), reply.id)
        for number, reply in enumerate(replies, start=1)
    ]
    return components.string_select("jobs:cancel", placeholder=moderation.CANCEL_CHOICE(), options=options)


def _deletable(replies: Sequence[Reply], label: Label) -> list[tuple[str, str]]:
    """Return a choice for each order that can be deleted, with the number of its line."""
    return [
        (formatting.shorten(f"{number}. {_what(reply, label)} · {_price(reply)}", 100), reply.jobs[0].id)
        for number, reply in enumerate(replies, start=1)
        if reply.is_over and reply.deleted_at is None and not reply.is_forgotten
    ]
