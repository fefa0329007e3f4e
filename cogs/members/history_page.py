"""The page of /history: the layout of a page of a member's own images. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.domain.jobs import GalleryPage
from bot.domain.quota import format_usd
from cogs.generate.recipe import recipe_line
from cogs.text import formatting, job_card, member_pages
from cogs.ui import card, card_buttons, components, delete_question
from cogs.ui.components import Component, Layout


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryImage:
    """An image of a page: its URL, or a sentence that says why there is none."""

    url: str | None
    alt_text: str
    missing: str = ""


def page_of(
    page: GalleryPage,
    model_label: str,
    images: Sequence[GalleryImage],
    *,
    one_model: bool,
    upscale_usd_micros: int | None = None,
) -> Layout:
    """Lay out a page of a member's own images."""
    jobs = page.reply.jobs
    first = jobs[0]
    parts = [components.text_display(f"### {_title(page)}")]
    shown = [components.media_item(image.url, image.alt_text) for image in images if image.url]
    if shown:
        parts.append(components.media_gallery(*shown))
    if missing := list(dict.fromkeys(image.missing for image in images if image.missing)):
        parts.append(components.text_display("\n".join(missing)))
    if first.erased_at is None:
        recipe = recipe_line(first, card.PROMPT_SHOWN_CHARACTERS)
        parts.append(components.text_display(formatting.block(recipe, card.PROMPT_SHOWN_CHARACTERS)))
    parts.append(components.text_display("\n".join(f"-# {line}" for line in _facts(page, model_label))))
    if shown and first.erased_at is None:
        parts.extend(card_buttons.image_select(jobs))
    actions = [
        button
        for button in card_buttons.result_buttons(jobs, upscale_usd_micros=upscale_usd_micros if shown else None)
        if (shown if button["label"] == job_card.EDIT() else first.erased_at is None)
    ]
    actions.append(delete_question.ask_button(first.id, one_model=one_model))
    parts.extend(components.action_rows(actions))
    if turns := _turns(page, one_model=one_model):
        parts.append(components.action_row(*turns))
    return components.container(parts, accent=card.NOTE_ACCENT)


def _title(page: GalleryPage) -> str:
    if page.number is None:
        return member_pages.HISTORY_TITLE_FAR_BACK()
    if page.total is None:
        return member_pages.HISTORY_TITLE_OF_MANY(number=page.number)
    return member_pages.HISTORY_TITLE(number=page.number, total=page.total)


def _facts(page: GalleryPage, model_label: str) -> list[str]:
    jobs, address = page.reply.jobs, page.reply.address
    cost = format_usd(sum(job.charged_usd_micros or 0 for job in jobs))
    facts = [f"**{model_label}**", *card.option_facts(jobs[0]), job_card.COST(amount=cost)]
    if len(jobs) > 1 and jobs[0].seed is not None:  # for a single image the recipe shows it
        facts.insert(-1, card.seeds(jobs))
    where = [formatting.day(page.reply.created_at)]
    if address.message_id is not None and not address.private:
        where.append(formatting.link_to_message(address.guild_id, address.channel_id, address.message_id))
    return [" · ".join(facts), " · ".join(where)]


def _turns(page: GalleryPage, *, one_model: bool) -> list[Component]:
    """Build both buttons, so that each keeps its position while paging; the one without a page is disabled."""
    if page.newer_id is None and page.older_id is None:
        return []
    return [
        components.button(label, custom_id(reply_id, page.reply.user_id, one_model=one_model))
        if reply_id is not None
        else components.button(label, f"history:end:{label}", disabled=True)
        for label, reply_id in ((job_card.NEWER(), page.newer_id), (job_card.OLDER(), page.older_id))
    ]


def custom_id(reply_id: str, user_id: int, *, one_model: bool) -> str:
    """Return `history:<the page's reply>:<user id>:<1 if only its model is shown>`."""
    return f"history:{reply_id}:{user_id}:{int(one_model)}"


CUSTOM_ID = re.compile(r"history:(?P<reply_id>[0-9a-f]{24}):(?P<user_id>\d{1,20}):(?P<one_model>[01])")
