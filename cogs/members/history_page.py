"""The page of /history: the layout of a page of a member's own images. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.catalogue.order_text import Options
from bot.domain.jobs import GalleryFilter, GalleryPage, Reply
from bot.domain.money.quota import format_usd
from bot.domain.visibility import why_withheld
from cogs.generate.recipe import comparison_line, recipe_line
from cogs.text import formatting, job_card, member_pages
from cogs.ui import card, card_buttons, components, delete_question
from cogs.ui.components import Component, Layout

WORDS_CHARACTERS = 40
"""Length of the words to look for: custom ids, which hold them from page to page, have 100 characters."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GalleryImage:
    """An image of a page: its URL, or a sentence that says why there is none."""

    url: str | None
    alt_text: str
    missing: str = ""


def page_of(
    page: GalleryPage,
    model_labels: Sequence[str],
    sent: Sequence[Options],
    images: Sequence[GalleryImage],
    *,
    chosen: GalleryFilter,
    upscale_usd_micros: int | None = None,
) -> Layout:
    """Lay out a page of a member's own images. `model_labels` and `sent` have one for each job."""
    jobs = page.reply.jobs
    first = jobs[0]
    parts = [components.text_display(f"### {_title(page)}")]
    shown = [components.media_item(image.url, image.alt_text) for image in images if image.url]
    if shown:
        parts.append(components.media_gallery(*shown))
    if missing := list(dict.fromkeys(image.missing for image in images if image.missing)):
        parts.append(components.text_display("\n".join(missing)))
    if first.erased_at is None:
        recipe = (
            comparison_line(jobs, model_labels, card.PROMPT_SHOWN_CHARACTERS)
            if page.reply.is_comparison
            else recipe_line(first, sent[0], model_labels[0], card.PROMPT_SHOWN_CHARACTERS)
        )
        parts.append(components.text_display(formatting.block(recipe, card.PROMPT_SHOWN_CHARACTERS)))
    parts.append(components.text_display("\n".join(f"-# {line}" for line in _facts(page, model_labels, sent))))
    is_withheld = why_withheld(page.reply) is not None
    if is_withheld:
        parts.append(components.text_display("\n".join(_review(page.reply))))
    elif shown and first.erased_at is None:
        parts.extend(card_buttons.image_select(jobs, model_labels))
    actions = [
        button
        for button in card_buttons.result_buttons(jobs, upscale_usd_micros=upscale_usd_micros if shown else None)
        if not is_withheld
        and (shown if button["label"] in (job_card.EDIT(), job_card.SHARE()) else first.erased_at is None)
    ]
    actions.append(delete_question.ask_button(first.id, one_model=chosen.model_id is not None))
    parts.extend(components.action_rows(actions))
    parts.append(components.action_row(_favourite(page, chosen), *_turns(page, chosen)))
    return components.container(parts, accent=card.NOTE_ACCENT)


def _review(reply: Reply) -> list[str]:
    """Say who sees the images of an order that is held back, and why moderators refused it."""
    lines = [f"**{card.state_of(reply)}** · {job_card.REVIEW_OWN()}"]
    if reply.review_reason is not None:
        lines.append(f"`{formatting.inline(reply.review_reason, 200)}`")
    return lines


def _title(page: GalleryPage) -> str:
    if page.number is None:
        return member_pages.HISTORY_TITLE_FAR_BACK()
    if page.total is None:
        return member_pages.HISTORY_TITLE_OF_MANY(number=page.number)
    return member_pages.HISTORY_TITLE(number=page.number, total=page.total)


def _facts(page: GalleryPage, model_labels: Sequence[str], sent: Sequence[Options]) -> list[str]:
    jobs, address = page.reply.jobs, page.reply.address
    cost = format_usd(sum(job.charged_usd_micros or 0 for job in jobs))
    models = [f"**{label}**" for label in dict.fromkeys(model_labels)]
    facts = [*models, *card.shared_facts(jobs, sent), job_card.COST(amount=cost)]
    # For a single image the recipe shows it.
    if len(jobs) > 1 and jobs[0].seed is not None and not page.reply.is_comparison:
        facts.insert(-1, card.seeds(jobs))
    where = [formatting.day(page.reply.created_at)]
    if address.message_id is not None and not address.is_token_only:
        where.append(formatting.link_to_message(address.guild_id, address.channel_id, address.message_id))
    return [" · ".join(facts), " · ".join(where)]


def _favourite(page: GalleryPage, chosen: GalleryFilter) -> Component:
    """Build the button that marks the order as a favourite, or removes the mark."""
    label = job_card.NO_FAVOURITE() if page.is_favourite else job_card.FAVOURITE()
    return components.button(label, custom_id(_target(page, page.reply.id, chosen, marks=not page.is_favourite)))


def _turns(page: GalleryPage, chosen: GalleryFilter) -> list[Component]:
    """Build both buttons, so that each keeps its position while paging; the one without a page is disabled."""
    if page.newer_id is None and page.older_id is None:
        return []
    return [
        components.button(label, custom_id(_target(page, reply_id, chosen)))
        if reply_id is not None
        else components.button(label, f"history:end:{label}", disabled=True)
        for label, reply_id in ((job_card.NEWER(), page.newer_id), (job_card.OLDER(), page.older_id))
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The page that a button shows; `marks` makes it a favourite first, or not one any more."""

    reply_id: str
    user_id: int
    one_model: bool = False
    favourites: bool = False
    words: str = ""
    marks: bool | None = None


def _target(page: GalleryPage, reply_id: str, chosen: GalleryFilter, *, marks: bool | None = None) -> Target:
    return Target(
        reply_id=reply_id,
        user_id=page.reply.user_id,
        one_model=chosen.model_id is not None,
        favourites=chosen.favourites,
        words=chosen.words[:WORDS_CHARACTERS],
        marks=marks,
    )


def custom_id(target: Target) -> str:
    """Return `history:<the page's reply>:<user id>:<flags>[:<words>]`.

    The flags are 1 if only the model of the page is shown, 2 for favourites only, 4 to mark the page, 8 to unmark it.
    """
    marks = {None: 0, True: _MARK, False: _UNMARK}[target.marks]
    flags = target.one_model * _ONE_MODEL + target.favourites * _FAVOURITES + marks
    words = f":{target.words}" if target.words else ""
    return f"history:{target.reply_id}:{target.user_id}:{flags}{words}"


def target_of(match: re.Match[str]) -> Target:
    """Read a custom id."""
    flags = int(match["flags"])
    marks = True if flags & _MARK else False if flags & _UNMARK else None
    return Target(
        reply_id=match["reply_id"],
        user_id=int(match["user_id"]),
        one_model=bool(flags & _ONE_MODEL),
        favourites=bool(flags & _FAVOURITES),
        words=match["words"] or "",
        marks=marks,
    )


_ONE_MODEL, _FAVOURITES, _MARK, _UNMARK = 1, 2, 4, 8
CUSTOM_ID = re.compile(
    r"history:(?P<reply_id>[0-9a-f]{24}):(?P<user_id>\d{1,20}):(?P<flags>\d{1,2})(?::(?P<words>.{1,40}))?"
)
