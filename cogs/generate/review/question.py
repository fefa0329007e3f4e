"""The question in the review channel: the card of an order with its images, and the decision. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import discord
from discord import ui

from bot.domain.jobs import JobStatus, ReviewState
from bot.service.views import ReplyView
from cogs.text import formatting, job_card
from cogs.ui import card, components
from cogs.ui.components import Component, Layout

APPROVE, REFUSE = "approve", "refuse"

CUSTOM_ID = re.compile(r"review:(?P<choice>approve|refuse):(?P<reply_id>[0-9a-f]{24})")


def custom_id(choice: str, reply_id: str) -> str:
    """Return `review:<approve or refuse>:<reply>`."""
    return f"review:{choice}:{reply_id}"


def is_open(message: discord.Message | None) -> bool:
    """Whether a message still has the buttons of a question."""
    view = ui.LayoutView.from_message(message) if message is not None else None
    return view is not None and any(
        isinstance(each, ui.Button) and CUSTOM_ID.fullmatch(each.custom_id or "") for each in view.walk_children()
    )


def layout(
    view: ReplyView,
    images: Sequence[card.ShownImage],
    *,
    lost_images: int = 0,
    hide_prompt: bool = False,
    decided_by: int | None = None,
) -> Layout:
    """Lay out the question in the current language, or the decision once there is one."""
    reply, address = view.reply, view.reply.address
    heading = [card.person(reply.user_id), formatting.channel(address.channel_id)]
    if address.message_id is not None:
        heading.append(formatting.link_to_message(address.guild_id, address.channel_id, address.message_id))
    status = JobStatus.SUCCEEDED
    parts = [components.text_display(" · ".join(heading))]
    parts.extend(card.body(view, status, images=images, lost_images=lost_images, hide_prompt=hide_prompt))
    if reply.review is ReviewState.WAITING:
        parts.append(components.action_row(*_buttons(reply.id)))
    elif decided_by is not None:
        parts.append(components.text_display(_decision(view, decided_by)))
    return components.container(parts, accent=card.accent(reply, status))


def _buttons(reply_id: str) -> list[Component]:
    return [
        components.button(job_card.APPROVE(), custom_id(APPROVE, reply_id), style=components.GREEN),
        components.button(job_card.REFUSE(), custom_id(REFUSE, reply_id), style=components.RED),
    ]


def _decision(view: ReplyView, decided_by: int) -> str:
    who, reason = card.person(decided_by), view.reply.review_reason
    if view.reply.review is ReviewState.APPROVED:
        return job_card.APPROVED_BY(who=who)
    if reason is None:
        return job_card.REFUSED_BY(who=who)
    return job_card.REFUSED_BY_BECAUSE(who=who, reason=formatting.inline(reason, 200))
