"""Comparison: the part of a card that shows one image per model, with votes. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bot.domain.jobs import JobStatus
from bot.domain.money.quota import format_usd
from bot.service.views import JobView, ReplyView
from cogs.text import job_card
from cogs.ui import components
from cogs.ui.components import Component

VOTE_ID = re.compile(r"vote:(?P<job_id>[0-9a-f]{24})")
"""`vote:<job of the image>`."""


def vote_id(job_id: str) -> str:
    """Return the custom id of the button that votes for the image of this job."""
    return f"vote:{job_id}"


def winner(votes: Mapping[str, int]) -> str | None:
    """Return the job with the most votes; None without any, or if several have as many."""
    most = max(votes.values(), default=0)
    leaders = [job_id for job_id, count in votes.items() if count == most and count]
    return leaders[0] if len(leaders) == 1 else None


def parts(view: ReplyView, media: Mapping[str, Component], *, with_votes: bool) -> list[Component]:
    """Lay out each model's name and price with its image, from `media` by job, and the button that votes for it."""
    best = winner(view.votes)
    found: list[Component] = []
    for job in view.jobs:
        item = media.get(job.job.id)
        found.append(components.text_display(_heading(job, is_best=item is not None and job.job.id == best)))
        if item is None:
            continue
        found.append(components.media_gallery(item))
        if with_votes:
            label = job_card.VOTE(votes=view.votes.get(job.job.id, 0))
            found.append(components.action_row(components.button(label, vote_id(job.job.id))))
    return found


def models(view: ReplyView) -> str:
    """Name every model with its price: 'Nano Banana 2 $0.08 · Flux 1 Dev $0.007'."""
    return " · ".join(f"**{job.model_label}** {format_usd(job.job.reserved_usd_micros)}" for job in view.jobs)


def _heading(view: JobView, *, is_best: bool) -> str:
    job = view.job
    match job.status:
        case JobStatus.SUCCEEDED:
            fact = format_usd(job.charged_usd_micros or 0)
        case JobStatus.FAILED:
            fact = f"{job_card.FAILED()}, {job_card.NOT_CHARGED()}"
        case JobStatus.CANCELLED:
            fact = f"{job_card.CANCELLED()}, {job_card.NOT_CHARGED()}"
        case _:
            fact = format_usd(job.reserved_usd_micros)
    mark = f" · 🏆 {job_card.WINNER()}" if is_best else ""
    return f"**{view.model_label}** · {fact}{mark}"
