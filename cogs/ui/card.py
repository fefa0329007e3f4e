"""Card: the message of a command as a Components V2 layout, and short notes in the same style. Pure functions.

Its words are in cogs/text/job_card.py. Answers to commands that look something up are in files named `*_page.py`.

Discord's limits (components/reference): 40 components and 4,000 characters of text in a message, 80 characters on a
button.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from bot.catalogue.order_text import Options, OptionValue
from bot.domain.jobs import FailureReason, Job, JobKind, JobStatus, Progress, Reply, ReviewState
from bot.domain.money.quota import format_usd
from bot.domain.visibility import why_withheld
from bot.service.views import JobView, ReplyView
from cogs.text import facts, formatting, job_card, limits_left, presets
from cogs.text.locale import Phrase, option_name, use_locale
from cogs.text.spending import FORMER_MEMBER, TOP_UP
from cogs.ui import card_buttons, comparison, components
from cogs.ui.components import Component, Layout

PROMPT_SHOWN_CHARACTERS = 1_000
ALT_TEXT_CHARACTERS = 1_000
MAX_TEXT_CHARACTERS = 4_000
TEXT_RESERVE_CHARACTERS = 400
"""Kept free for a line above the card: a mention, or the heading of a log entry."""
FACT_CHARACTERS = 400
"""Ten styles with their strengths fit; a long negative prompt is cut."""

_SELF_EXPLAINING = ("resolution", "aspect_ratio")
"""Options whose values need no name beside them."""

NOTE_ACCENT = 0x5865F2
REFUSAL_ACCENT = 0xE67E22


@dataclass(frozen=True, kw_only=True, slots=True)
class _StatusStyle:
    word: Phrase
    emoji: str
    accent: int


class Form(IntEnum):
    """How much a card says. Discord may refuse a message as malformed; the next form is tried then."""

    FULL = 0
    SMALLER = 1
    """Without the prompt, explanations and links."""
    BARE = 2
    """The state, the images and the price."""
    WITHOUT_IMAGES = 3
    """The state, the price and where the images are."""


_STYLES = {
    JobStatus.QUEUED: _StatusStyle(word=job_card.QUEUED, emoji="⏳", accent=0x99AAB5),
    JobStatus.SUBMITTING: _StatusStyle(word=job_card.QUEUED, emoji="⏳", accent=0x99AAB5),
    JobStatus.RUNNING: _StatusStyle(word=job_card.PROCESSING, emoji="🎨", accent=0x5865F2),
    JobStatus.UNCERTAIN: _StatusStyle(word=job_card.CHECKING, emoji="🔎", accent=0xF1C40F),
    JobStatus.SUCCEEDED: _StatusStyle(word=job_card.COMPLETED, emoji="✅", accent=0x2ECC71),
    JobStatus.FAILED: _StatusStyle(word=job_card.FAILED, emoji="⚠️", accent=0xE74C3C),
    JobStatus.CANCELLED: _StatusStyle(word=job_card.CANCELLED, emoji="🚫", accent=0x99AAB5),
}

_REVIEW_STYLES = {
    ReviewState.WAITING: _StatusStyle(word=job_card.WAITING_FOR_REVIEW, emoji="🔎", accent=0xF1C40F),
    ReviewState.REFUSED: _StatusStyle(word=job_card.REFUSED, emoji="🚫", accent=0xE74C3C),
}
"""Instead of that of a finished order whose images are held back."""

# The state of a card with several jobs is the first of these that one of its jobs has.
_UNFINISHED_FIRST = (JobStatus.RUNNING, JobStatus.UNCERTAIN, JobStatus.SUBMITTING, JobStatus.QUEUED)
_FINAL_FIRST = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownImage:
    """An attached image; `original_url` is set if the attachment is a smaller copy.

    Without a `filename` it is not attached, because it is too large to be made smaller: there is only `original_url`.
    """

    filename: str
    alt_text: str
    original_url: str | None = None


def note(*paragraphs: str, accent: int = NOTE_ACCENT) -> Layout:
    """Lay out a short private message in the style of the card."""
    return components.container([components.text_display(text) for text in paragraphs], accent=accent)


def refused(text: str) -> Layout:
    """Lay out a refusal: private, and says what would work."""
    return note(text, accent=REFUSAL_ACCENT)


def top_ups(sku_ids: Sequence[int]) -> list[Component]:
    """Return what offers purchases for the wallet; nothing where none are for sale."""
    if not sku_ids:
        return []
    text = components.text_display(f"-# {TOP_UP()}")
    return [text, components.action_row(*map(components.premium_button, sku_ids))]


def question(text: str, *buttons: Component) -> Layout:
    """Lay out a private question; each button is an answer."""
    parts = [components.text_display(text), *components.action_rows(buttons)]
    return components.container(parts, accent=NOTE_ACCENT)


def person(user_id: int | None) -> str:
    """Name a member without a ping; without an id, say that it is a former member."""
    return f"<@{user_id}>" if user_id else FORMER_MEMBER()


def card(
    view: ReplyView,
    *,
    images: Sequence[ShownImage] = (),
    lost_images: int = 0,
    mention: str | None = None,
    hide_prompt: bool = False,
    form: Form = Form.FULL,
) -> Layout:
    """Lay out the one message of a command in its current state, in the language of its address.

    `images` are attached under these filenames; `lost_images` more were made and are no longer kept.
    """
    if view.reply.is_held_back:
        images, lost_images = (), 0
    with use_locale(view.reply.address.language):
        status = status_of(view.reply)
        if form is Form.FULL:
            parts = body(view, status, images=images, lost_images=lost_images, hide_prompt=hide_prompt, with_votes=True)
        else:
            parts = _reduced_body(view, status, images=images, form=form)
        if mention:
            ready = job_card.READY_FOR if status is JobStatus.SUCCEEDED else job_card.ENDED_FOR
            parts.insert(0, components.text_display(ready(mention=mention)))
        if form >= Form.BARE:
            # Without the id of the job, the message could not be found again (MessageApi.posted).
            parts.extend(components.action_rows(card_buttons.last_buttons(view, status)))
        else:
            if view.reply.is_final and why_withheld(view.reply) is None:
                parts.extend(card_buttons.image_select(view.reply.jobs, [job.model_label for job in view.jobs]))
            parts.extend(components.action_rows(card_buttons.buttons_of(view, status)))
    return components.container(parts, accent=accent(view.reply, status))


def accent(reply: Reply, status: JobStatus) -> int:
    """Return the accent colour of a state."""
    return _style(reply, status).accent


def _style(reply: Reply, status: JobStatus) -> _StatusStyle:
    if status is JobStatus.SUCCEEDED and reply.review is not None:
        return _REVIEW_STYLES.get(reply.review, _STYLES[status])
    return _STYLES[status]


def body(
    view: ReplyView,
    status: JobStatus,
    *,
    images: Sequence[ShownImage] = (),
    lost_images: int = 0,
    hide_prompt: bool = False,
    with_votes: bool = False,
) -> list[Component]:
    """Lay out a card in this state without its buttons, in the current language.

    `with_votes` adds the button below each image of a comparison.
    """
    parts = [_title(view, status)]
    if hide_prompt or _moderated(view) or (view.reply.review is ReviewState.REFUSED and not images):
        parts.append(components.text_display(f"-# {job_card.PROMPT_HIDDEN()}"))
    else:
        parts.append(
            components.text_display(formatting.block(view.jobs[0].job.request.prompt, PROMPT_SHOWN_CHARACTERS))
        )
    parts.extend(_explanations(view, status, hide_prompt=hide_prompt))
    if lost_images:
        parts.append(components.text_display(job_card.IMAGES_LOST(lost_images)))
    elif view.reply.is_held_back and not images:
        parts.extend(_review(view, status))
    facts_shown = components.text_display("\n".join(f"-# {line}" for line in _facts(view, status)))
    if images:
        spare = MAX_TEXT_CHARACTERS - TEXT_RESERVE_CHARACTERS - components.text_length([*parts, facts_shown])
        if view.reply.is_comparison:
            parts.extend(comparison.parts(view, _media_by_job(view, images), with_votes=with_votes))
        else:
            parts.extend(_gallery(view, images))
        parts.extend(_links_to_originals(images, max_characters=spare))
    elif (
        not view.reply.is_final
        and not view.reply.is_held_back
        and (preview := next((job.preview_url for job in view.jobs if job.preview_url), None))
    ):
        spoiler = view.reply.visibility.spoiler
        parts.append(components.media_gallery(components.media_item(preview, job_card.PREVIEW(), spoiler=spoiler)))
    parts.append(facts_shown)
    return parts


def _reduced_body(view: ReplyView, status: JobStatus, *, images: Sequence[ShownImage], form: Form) -> list[Component]:
    """Lay out a card of which Discord refused more; in the current language."""
    parts = [_title(view, status)]
    if form is Form.WITHOUT_IMAGES and images:
        parts.append(components.text_display(job_card.IN_HISTORY(len(images))))
    elif images:
        parts.extend(_gallery(view, images))
    if form is Form.SMALLER:
        parts.append(components.text_display("\n".join(f"-# {line}" for line in _facts(view, status))))
    else:
        parts.append(components.text_display(f"-# {_price(view, status)}"))
    return parts


def body_without_contents(view: ReplyView, status: JobStatus) -> list[Component]:
    """Lay out what moderators may see of a private order: its state, model and price; no prompt, option or hint."""
    facts = [f"**{view.jobs[0].model_label}**", _price(view, status)]
    return [
        _title(view, status),
        components.text_display(f"-# {job_card.PROMPT_HIDDEN()}"),
        components.text_display(f"-# {' · '.join(facts)}"),
    ]


def status_of(reply: Reply) -> JobStatus:
    """Return the one state that a card shows for all its jobs."""
    present = {job.status for job in reply.jobs}
    order = _FINAL_FIRST if reply.is_final else _UNFINISHED_FIRST
    return next(status for status in order if status in present)


def state(status: JobStatus) -> str:
    """Name a state with its emoji: '🎨 Processing'."""
    return f"{_STYLES[status].emoji} {_STYLES[status].word()}"


def state_of(reply: Reply) -> str:
    """Name the state of a card with its emoji: '🎨 Processing'."""
    style = _style(reply, status_of(reply))
    return f"{style.emoji} {style.word()}"


def _title(view: ReplyView, status: JobStatus) -> Component:
    style = _style(view.reply, status)
    return components.text_display(f"### {style.emoji} {' · '.join([style.word(), *_title_details(view, status)])}")


def _title_details(view: ReplyView, status: JobStatus) -> list[str]:
    details: list[str] = []
    if status is JobStatus.RUNNING:
        seen = {job.progress for job in view.jobs}
        if Progress.SAMPLING in seen:
            details.append(job_card.SAMPLING())
        elif Progress.PREVIEW in seen:
            details.append(job_card.PREVIEW())
    if status is JobStatus.QUEUED:
        positions = [job.queue_position for job in view.jobs if job.queue_position is not None]
        if positions:
            details.append(job_card.PLACE_IN_LINE(place=min(positions)))
    if len(view.jobs) > 1:
        done = sum(job.job.status is JobStatus.SUCCEEDED for job in view.jobs)
        details.append(job_card.SOME_DONE(done=done, total=len(view.jobs)))
    return details


def _explanations(view: ReplyView, status: JobStatus, *, hide_prompt: bool) -> list[Component]:
    """Say why a job failed or what is being checked. A provider's hint may repeat words of the prompt."""
    lines: list[str] = []
    failed = [job.job for job in view.jobs if job.job.status is JobStatus.FAILED and job.job.failure is not None]
    if status is JobStatus.UNCERTAIN:
        until = max(job.job.checked_until for job in view.jobs if job.job.status is JobStatus.UNCERTAIN)
        lines.append(job_card.CHECKING_EXPLAINED(when=formatting.clock_time(until)))
    if until := max((job.job.fetched_until for job in view.jobs if job.job.fetched_until), default=None):
        lines.append(job_card.NOT_FETCHED_YET(when=formatting.clock_time(until)))
    if view.waits_for_operator:
        lines.append(job_card.WAITS_FOR_OPERATOR())
    reasons = dict.fromkeys(job.failure.reason for job in failed if job.failure)
    if failed and status is JobStatus.SUCCEEDED:
        lines.append(f"**{job_card.SOME_FAILED(failed=len(failed), total=len(view.jobs))}**")
    cancelled = sum(job.job.status is JobStatus.CANCELLED for job in view.jobs)
    if cancelled and status is JobStatus.SUCCEEDED:
        lines.append(f"**{job_card.SOME_CANCELLED(cancelled=cancelled, total=len(view.jobs))}**")
    if late := sum(len(job.job.images) for job in view.jobs if job.job.late_at is not None):
        lines.append(job_card.CAME_LATE(late))
    if lost := sum(job.job.lost_images for job in view.jobs):
        lines.append(job_card.NOT_FETCHED(lost))
    words = job_card.FAILURES if view.no_orders_until is None else job_card.CAUSES
    lines.extend(words[reason]() for reason in reasons)
    if view.reply.is_final and (until := view.reply.followed_until) is not None:
        lines.append(job_card.STILL_LOOKING(when=formatting.clock_time(until)))
    if view.reply.cancel_reason and not view.reply.is_final:  # the provider may still refuse, or be too late
        lines.append(job_card.CANCEL_WANTED_BECAUSE(reason=formatting.inline(view.reply.cancel_reason, 200)))
    elif view.reply.cancel_reason and any(job.job.status is JobStatus.CANCELLED for job in view.jobs):
        lines.append(job_card.CANCELLED_BECAUSE(reason=formatting.inline(view.reply.cancel_reason, 200)))
    hints = dict.fromkeys(job.failure for job in failed if job.failure and job.failure.hint and not hide_prompt)
    if view.no_orders_until is None:
        lines.extend(facts.hint(failure) for failure in hints)
    elif failed:
        lines.append(job_card.NO_ORDERS_UNTIL(when=formatting.moment(view.no_orders_until)))
    return [components.text_display("\n".join(lines))] if lines else []


def _review(view: ReplyView, status: JobStatus) -> list[Component]:
    """Say what comes, or came, of the review by moderators."""
    if not view.reply.is_final:
        return [components.text_display(f"-# {job_card.REVIEW_COMES()}")]
    if status is not JobStatus.SUCCEEDED:
        return []
    return [components.text_display(review_of(view.reply))]


def review_of(reply: Reply) -> str:
    """Say what finished images wait for, or why they are not shown."""
    if reply.review is ReviewState.WAITING:
        return job_card.REVIEW_WAITING()
    if reply.review_reason is None:
        return job_card.REVIEW_REFUSED()
    return job_card.REVIEW_REFUSED_BECAUSE(reason=formatting.inline(reply.review_reason, 200))


def _facts(view: ReplyView, status: JobStatus) -> list[str]:
    """List what was ordered, how long it takes, what it costs and what is left."""
    first = view.jobs[0].job
    is_comparison = view.reply.is_comparison
    model = comparison.models(view) if is_comparison else f"**{view.jobs[0].model_label}**"
    order = [model, *shared_facts([job.job for job in view.jobs], [job.sent for job in view.jobs])]
    if view.reply.preset_name:
        order.append(presets.ON_CARD(name=f"`{formatting.inline(view.reply.preset_name)}`"))
    if first.seed is not None and not is_comparison:
        order.append(seeds([job.job for job in view.jobs]))
    lines = [" · ".join(order)]
    if status is JobStatus.RUNNING:
        started = min((job.job.submitted_at for job in view.jobs if job.job.submitted_at), default=None)
        timing = [job_card.STARTED(when=formatting.moment(started))] if started else []
        expected = max((job.expected_at for job in view.jobs if job.expected_at), default=None)
        if expected is not None:
            timing.append(job_card.EXPECTED(when=formatting.moment(expected)))
        if timing:
            lines.append(" · ".join(timing))
    if view.reply.address.is_direct and not view.reply.is_final:
        lines.append(job_card.DIRECT_LATE())
    price = _price(view, status)
    if view.no_orders_until is not None:  # what is left is no use to a member who can order nothing today
        lines.append(price)
    else:
        lines.append(f"{price} · {limits_left.on_card(view.spendable)}")
    return lines


def shared_facts(jobs: Sequence[Job], sent: Sequence[Options]) -> list[str]:
    """List the facts that hold for every job: the models of a comparison differ in size and options."""
    first, *others = [option_facts(job, options) for job, options in zip(jobs, sent, strict=True)]
    return [fact for fact in first if all(fact in facts for facts in others)]


def option_facts(job: Job, sent: Options) -> list[str]:
    """List everything that was sent with the prompt, and the number of input images."""
    details = [formatting.quoted(str(sent[name])) for name in _SELF_EXPLAINING if name in sent]
    width, height = job.body.get("width"), job.body.get("height")
    if job.request.kind is JobKind.UPSCALE:
        details += [f"{image.width} × {image.height}" for image in job.images]
    elif width and height:
        details.append(f"{width} × {height}")
    hidden = {*_SELF_EXPLAINING, "width", "height"} if width and height else {*_SELF_EXPLAINING}
    details += [_fact(name, value) for name, value in sent.items() if name not in hidden]
    if job.request.kind is not JobKind.UPSCALE and job.request.images:
        details.append(job_card.PICTURES_GIVEN(len(job.request.images)))
    return [fact for fact in details if fact]


def _fact(name: str, value: OptionValue) -> str:
    """Name a value: 'steps 28'."""
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"{option_name(name).replace('_', ' ')} {formatting.quoted(text, FACT_CHARACTERS)}"


def seeds(jobs: Sequence[Job]) -> str:
    """List the seeds of jobs: 'seed 7, 8, 9'."""
    return job_card.SEED(seed=", ".join(str(job.seed) for job in jobs if job.seed is not None))


def _price(view: ReplyView, status: JobStatus) -> str:
    charged = sum(job.job.charged_usd_micros or 0 for job in view.jobs)
    if status is JobStatus.SUCCEEDED:
        return job_card.COST(amount=f"**{format_usd(charged)}**")
    reserved = sum(job.job.reserved_usd_micros for job in view.jobs)
    if status in (JobStatus.FAILED, JobStatus.CANCELLED):
        return f"**{job_card.NOT_CHARGED()}** ({format_usd(reserved)})"
    return job_card.COSTS(amount=f"**{format_usd(reserved)}**")


def _media_by_job(view: ReplyView, images: Sequence[ShownImage]) -> dict[str, Component]:
    """Return each attached image by the job that made it."""
    return {
        job.job.id: _media_item(view, image)
        for job in view.jobs
        for image in images
        if shows_image_of(image.filename, job.job)
    }


def _gallery(view: ReplyView, images: Sequence[ShownImage]) -> list[Component]:
    items = [_media_item(view, image) for image in images if image.filename]
    return [components.media_gallery(*items)] if items else []


def _media_item(view: ReplyView, image: ShownImage) -> Component:
    spoiler = view.reply.visibility.spoiler
    return components.media_item(components.attached(image.filename), image.alt_text, spoiler=spoiler)


def original_link(url: str | None) -> str:
    """Link to an image as it was made."""
    return f"[{job_card.ORIGINAL()}]({url})"


def _links_to_originals(images: Sequence[ShownImage], *, max_characters: int) -> list[Component]:
    """Say which images are smaller copies or only linked, with links to as many originals as fit."""
    parts: list[Component] = []
    for text, linked in (
        (job_card.SMALLER_COPY, [image for image in images if image.filename and image.original_url]),
        (job_card.TOO_LARGE_TO_SHOW, [image for image in images if not image.filename]),
    ):
        if not linked:
            continue
        links = ""
        for image in linked:
            link = f" {original_link(image.original_url)}"
            if len(text(link=links + link)) < max_characters:
                links += link
        line = text(link=links.strip()).strip()
        max_characters -= len(line)
        parts.append(components.text_display(f"-# {line}"))
    return parts


def _moderated(view: ReplyView) -> bool:
    return any(job.job.failure and job.job.failure.reason is FailureReason.MODERATED for job in view.jobs)


def filename(job: Job, index: int, extension: str, *, hide_prompt: bool = False) -> str:
    """Return an ASCII filename made from the prompt unless it is hidden: `a-red-fox-2f9c41.png`."""
    words_of_prompt = [] if hide_prompt else re.findall(r"[a-z0-9]+", job.request.prompt.lower())
    slug = "-".join(words_of_prompt)[:40].strip("-") or "image"
    return f"{slug}{filename_ending(job, index)}.{extension}"


def filename_ending(job: Job, index: int) -> str:
    """Return what the name of an image's file ends with before its extension: `-2f9c41`, then `-2f9c41-2`."""
    return f"-{job.id[-6:]}{f'-{index + 1}' if index else ''}"


def shows_image_of(filename: str, job: Job) -> bool:
    """Whether a file of this name is an image of the job."""
    return filename_ending(job, 0) in filename


def label_in_comparison(view: ReplyView, job: JobView) -> str | None:
    """Return the name of a job's model if it tells the images of a reply apart; None if it does not."""
    return job.model_label if view.reply.is_comparison else None


def alt_text(job: Job, *, model_label: str | None = None, hide_prompt: bool = False) -> str:
    """Describe the image by its prompt, unless that is hidden, for people who cannot see it.

    `model_label` is given for an image of a comparison: its images have the same prompt.
    """
    prompt = "" if hide_prompt else job.request.prompt.strip()
    described = " · ".join(filter(None, (model_label, prompt)))
    return formatting.shorten(described, ALT_TEXT_CHARACTERS) or job_card.ALT_TEXT_EMPTY()
