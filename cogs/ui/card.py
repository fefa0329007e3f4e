"""The card of a command, and the short note in its look: pure functions, a value in, a Components V2 layout out.

Its words are in cogs/text/job_card.py. What commands look up has pages of its own (`*_page.py`).

Limits kept here: 40 components and 4,000 characters of text in a message, 80 characters on a button (Discord:
components/reference).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bot.domain.jobs import FailureReason, Job, JobKind, JobStatus, Progress, Reply
from bot.domain.quota import format_usd
from bot.service.views import ReplyView
from cogs.text import facts, formatting, job_card
from cogs.text.locale import Phrase, option_name, use_locale
from cogs.text.spending import FORMER_MEMBER
from cogs.ui import components
from cogs.ui.components import Component, Layout

PROMPT_SHOWN_CHARACTERS = 1_000
ALT_TEXT_CHARACTERS = 1_000
NOTE_ACCENT = 0x5865F2
REFUSAL_ACCENT = 0xE67E22


@dataclass(frozen=True, kw_only=True, slots=True)
class _Look:
    word: Phrase
    emoji: str
    accent: int


_LOOKS = {
    JobStatus.QUEUED: _Look(word=job_card.QUEUED, emoji="⏳", accent=0x99AAB5),
    JobStatus.SUBMITTING: _Look(word=job_card.QUEUED, emoji="⏳", accent=0x99AAB5),
    JobStatus.RUNNING: _Look(word=job_card.PROCESSING, emoji="🎨", accent=0x5865F2),
    JobStatus.UNCERTAIN: _Look(word=job_card.CHECKING, emoji="🔎", accent=0xF1C40F),
    JobStatus.SUCCEEDED: _Look(word=job_card.COMPLETED, emoji="✅", accent=0x2ECC71),
    JobStatus.FAILED: _Look(word=job_card.FAILED, emoji="⚠️", accent=0xE74C3C),
    JobStatus.CANCELLED: _Look(word=job_card.CANCELLED, emoji="🚫", accent=0x99AAB5),
}

# Which state stands for a card with several jobs, most telling first.
_UNFINISHED_FIRST = (JobStatus.RUNNING, JobStatus.UNCERTAIN, JobStatus.SUBMITTING, JobStatus.QUEUED)
_FINAL_FIRST = (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownImage:
    """A picture as attached: `original_url` is set when a smaller copy had to stand in for it."""

    filename: str
    alt_text: str
    original_url: str | None = None


def note(*paragraphs: str, accent: int = NOTE_ACCENT) -> Layout:
    """A short private message in the look of the card."""
    return components.container([components.text_display(text) for text in paragraphs], accent=accent)


def refused(text: str) -> Layout:
    """A refusal: private, and says what would work."""
    return note(text, accent=REFUSAL_ACCENT)


def person(user_id: int | None) -> str:
    """Who it was, without a ping; or that they are no member any more."""
    return f"<@{user_id}>" if user_id else FORMER_MEMBER()


# -- the card -----------------------------------------------------------------------------------------------


def card(
    view: ReplyView, *, images: Sequence[ShownImage] = (), mention: str | None = None, hide_prompt: bool = False
) -> Layout:
    """The one message of a command, for any of its states, in the language of its address.

    `pictures` are already attached under these names.
    """
    with use_locale(view.reply.address.language):
        status = status_of(view.reply)
        parts = body(view, status, images=images, hide_prompt=hide_prompt)
        if mention:
            parts.insert(0, components.text_display(job_card.READY_FOR(mention=mention)))
        parts.extend(rows(_buttons(view, status)))
    return components.container(parts, accent=accent(status))


def accent(status: JobStatus) -> int:
    """The colour that goes with a state."""
    return _LOOKS[status].accent


def body(
    view: ReplyView, status: JobStatus, *, images: Sequence[ShownImage] = (), hide_prompt: bool = False
) -> list[Component]:
    """What a card in this state says and shows, without its buttons, in whatever language is spoken."""
    look = _LOOKS[status]
    title = f"### {look.emoji} {' · '.join([look.word(), *_headline_details(view, status)])}"
    parts = [components.text_display(title)]
    if hide_prompt or _moderated(view):
        parts.append(components.text_display(f"-# {job_card.PROMPT_HIDDEN()}"))
    else:
        parts.append(
            components.text_display(formatting.block(view.jobs[0].job.request.prompt, PROMPT_SHOWN_CHARACTERS))
        )
    parts.extend(_explanations(view, status))
    if images:
        parts.append(_gallery(images))
        parts.extend(_smaller_copies(images))
    elif not view.reply.is_final and (preview := next((job.preview_url for job in view.jobs if job.preview_url), None)):
        parts.append(components.media_gallery(components.media_item(preview, job_card.PREVIEW())))
    parts.append(components.text_display("\n".join(f"-# {line}" for line in _facts(view, status))))
    return parts


def status_of(reply: Reply) -> JobStatus:
    """The one state that stands for all jobs of a command."""
    present = {job.status for job in reply.jobs}
    order = _FINAL_FIRST if reply.is_final else _UNFINISHED_FIRST
    return next(status for status in order if status in present)


def state(status: JobStatus) -> str:
    """'🎨 Processing'."""
    return f"{_LOOKS[status].emoji} {_LOOKS[status].word()}"


def _headline_details(view: ReplyView, status: JobStatus) -> list[str]:
    details: list[str] = []
    if status is JobStatus.RUNNING:
        seen = {job.progress for job in view.jobs}
        if Progress.SAMPLING in seen:
            details.append(job_card.SAMPLING())
        elif Progress.PREVIEW in seen:
            details.append(job_card.PREVIEW())
    if status is JobStatus.QUEUED:
        places = [job.queue_position for job in view.jobs if job.queue_position is not None]
        if places:
            details.append(job_card.PLACE_IN_LINE(place=min(places)))
    if len(view.jobs) > 1:
        done = sum(job.job.status is JobStatus.SUCCEEDED for job in view.jobs)
        details.append(job_card.SOME_DONE(done=done, total=len(view.jobs)))
    return details


def _explanations(view: ReplyView, status: JobStatus) -> list[Component]:
    """Why something failed or what is being checked."""
    lines: list[str] = []
    failed = [job.job for job in view.jobs if job.job.status is JobStatus.FAILED and job.job.failure is not None]
    if status is JobStatus.UNCERTAIN:
        lines.append(job_card.CHECKING_EXPLAINED())
    reasons = dict.fromkeys(job.failure.reason for job in failed if job.failure)
    if failed and status is JobStatus.SUCCEEDED:
        lines.append(f"**{job_card.SOME_FAILED(failed=len(failed), total=len(view.jobs))}**")
    cancelled = sum(job.job.status is JobStatus.CANCELLED for job in view.jobs)
    if cancelled and status is JobStatus.SUCCEEDED:
        lines.append(f"**{job_card.SOME_CANCELLED(cancelled=cancelled, total=len(view.jobs))}**")
    lines.extend(job_card.FAILURES[reason]() for reason in reasons)
    if view.reply.cancel_reason and not view.reply.is_final:  # the provider may still refuse, or be too late
        lines.append(job_card.CANCEL_WANTED_BECAUSE(reason=formatting.inline(view.reply.cancel_reason, 200)))
    elif view.reply.cancel_reason and any(job.job.status is JobStatus.CANCELLED for job in view.jobs):
        lines.append(job_card.CANCELLED_BECAUSE(reason=formatting.inline(view.reply.cancel_reason, 200)))
    hints = dict.fromkeys(job.failure for job in failed if job.failure and job.failure.hint)
    lines.extend(facts.hint(failure) for failure in hints)
    return [components.text_display("\n".join(lines))] if lines else []


def _facts(view: ReplyView, status: JobStatus) -> list[str]:
    """What was ordered, how long it takes, what it costs and what is left."""
    first = view.jobs[0].job
    made_of = [f"**{view.jobs[0].model_label}**", *option_facts(first)]
    if first.seed is not None:
        made_of.append(seeds([job.job for job in view.jobs]))
    lines = [" · ".join(made_of)]
    if status is JobStatus.RUNNING:
        started = min((job.job.submitted_at for job in view.jobs if job.job.submitted_at), default=None)
        timing = [job_card.STARTED(when=formatting.moment(started))] if started else []
        expected = max((job.expected_at for job in view.jobs if job.expected_at), default=None)
        if expected is not None:
            timing.append(job_card.EXPECTED(when=formatting.moment(expected)))
        if timing:
            lines.append(" · ".join(timing))
    lines.append(f"{_price(view, status)} · {formatting.amount_left(view.balance.available_usd_micros)}")
    return lines


def option_facts(job: Job) -> list[str]:
    """What was chosen or sent for want of a choice, and how many pictures were given."""
    body, details = job.body, list[str]()
    for option in ("resolution", "aspect_ratio", "quality", "creativity"):
        value = job.request.options.get(option, body.get(option))
        if isinstance(value, str) and (option != "creativity" or option in job.request.options):
            details.append(formatting.inline(value))
    if job.request.kind is JobKind.UPSCALE:
        details += [f"{image.width} × {image.height}" for image in job.images]
    elif job.request.images:
        details.append(job_card.PICTURES_GIVEN(len(job.request.images)))
    return [fact for fact in details if fact]


def seeds(jobs: Sequence[Job]) -> str:
    """'seed 7, 8, 9'."""
    return job_card.SEED(seed=", ".join(str(job.seed) for job in jobs if job.seed is not None))


def _price(view: ReplyView, status: JobStatus) -> str:
    charged = sum(job.job.charged_usd_micros or 0 for job in view.jobs)
    if status is JobStatus.SUCCEEDED:
        return job_card.COST(amount=f"**{format_usd(charged)}**")
    reserved = sum(job.job.reserved_usd_micros for job in view.jobs)
    if status in (JobStatus.FAILED, JobStatus.CANCELLED):
        return f"**{job_card.NOT_CHARGED()}** ({format_usd(reserved)})"
    return job_card.COSTS(amount=f"**{format_usd(reserved)}**")


def _gallery(images: Sequence[ShownImage]) -> Component:
    return components.media_gallery(
        *[components.media_item(components.attached(image.filename), image.alt_text) for image in images]
    )


def _smaller_copies(images: Sequence[ShownImage]) -> list[Component]:
    links = [f"[{job_card.ORIGINAL()}]({image.original_url})" for image in images if image.original_url]
    return [components.text_display(f"-# {job_card.SMALLER_COPY(link=' '.join(links))}")] if links else []


def _moderated(view: ReplyView) -> bool:
    return any(job.job.failure and job.job.failure.reason is FailureReason.MODERATED for job in view.jobs)


# -- buttons ---------------------------------------------------------------------------------------------------


def custom_id(action: str, job_id: str, amount_usd_micros: int | None = None) -> str:
    """`job:<action>:<job id>`, and `:<the price on the button>`; state is in the database, so it works for ever."""
    return f"job:{action}:{job_id}" if amount_usd_micros is None else f"job:{action}:{job_id}:{amount_usd_micros}"


CUSTOM_ID = re.compile(r"job:(?P<action>[a-z]+):(?P<job_id>[0-9a-f]{24})(?::(?P<amount>\d{1,15}))?")

AGAIN, VARY = "again", "vary"
_PRICED = {AGAIN: job_card.AGAIN_PRICE, VARY: job_card.VARY_PRICE}

ANY_PICTURE = 0
"""In the custom id of an upscale: whichever picture there is, or the question which one."""


def upscale_id(job_id: str, number: int, amount_usd_micros: int) -> str:
    """`upscale:<first job of the card>:<number of the picture, from 1>:<the price on the button>`."""
    return f"upscale:{job_id}:{number}:{amount_usd_micros}"


UPSCALE_ID = re.compile(r"upscale:(?P<job_id>[0-9a-f]{24}):(?P<number>\d{1,2}):(?P<amount>\d{1,15})")


def rows(buttons: Sequence[Component]) -> list[Component]:
    """As Discord takes them: five beside each other, and three where that makes better lines."""
    across = 5 if len(buttons) <= 5 else 3
    return [components.action_row(*buttons[start : start + across]) for start in range(0, len(buttons), across)]


def _buttons(view: ReplyView, status: JobStatus) -> list[Component]:
    first = view.jobs[0].job
    if not view.reply.is_final:
        if status is JobStatus.UNCERTAIN:
            return []
        return [_button("cancel", job_card.CANCEL(), first)]
    if status is not JobStatus.SUCCEEDED:
        return [order_button(AGAIN, first.id, _price_of([job.job for job in view.jobs]))]
    buttons = result_buttons([job.job for job in view.jobs], upscale_usd_micros=view.upscale_usd_micros)
    buttons.append(_button("delete", job_card.DELETE(), first, style=components.RED))
    return buttons


def result_buttons(jobs: Sequence[Job], *, upscale_usd_micros: int | None) -> list[Component]:
    """What can be made of a result: first what costs money and says how much."""
    first, price = jobs[0], _price_of(jobs)
    best = next(job for job in jobs if job.status is JobStatus.SUCCEEDED)
    # A model that takes no seed draws a new one each time, so there both are the same.
    buttons = [order_button(action, first.id, price) for action in (AGAIN, VARY)]
    if upscale_usd_micros is not None:
        label = job_card.UPSCALE_PRICE(amount=format_usd(upscale_usd_micros))
        buttons.append(components.button(label, upscale_id(first.id, ANY_PICTURE, upscale_usd_micros)))
    buttons.append(_button("edit", job_card.EDIT(), best))
    buttons.append(_button("recipe", job_card.RECIPE(), first))
    return buttons


def order_button(action: str, job_id: str, amount_usd_micros: int) -> Component:
    """Orders what was ordered before, AGAIN as it was or to VARY it, at the price it says."""
    label = _PRICED[action](amount=format_usd(amount_usd_micros))
    return components.button(label, custom_id(action, job_id, amount_usd_micros))


def question(text: str, *buttons: Component) -> Layout:
    """Private; each button is an answer."""
    parts = [components.text_display(text), *rows(buttons)]
    return components.container(parts, accent=NOTE_ACCENT)


def _price_of(jobs: Sequence[Job]) -> int:
    return sum(job.reserved_usd_micros for job in jobs)


def _button(action: str, label: str, job: Job, *, style: int = components.GREY) -> Component:
    return components.button(label, custom_id(action, job.id), style=style)


# -- names and descriptions of attached pictures ------------------------------------------------------------------


def filename(job: Job, index: int, extension: str) -> str:
    """A plain ASCII name that tells what is in the picture: `a-red-fox-2f9c41.png`."""
    words_of_prompt = re.findall(r"[a-z0-9]+", job.request.prompt.lower())
    slug = "-".join(words_of_prompt)[:40].strip("-") or "picture"
    return f"{slug}-{job.id[-6:]}{f'-{index + 1}' if index else ''}.{extension}"


def alt_text(job: Job) -> str:
    """The prompt, for people who cannot see the picture."""
    return formatting.shorten(job.request.prompt.strip(), ALT_TEXT_CHARACTERS) or job_card.ALT_TEXT_EMPTY()


# -- the recipe -----------------------------------------------------------------------------------------------

RECIPE_CHARACTERS = 3_500


def recipe(jobs: Sequence[Job], model_label: str) -> Layout:
    """Everything needed to make the pictures of a card again, to copy: a line for each that differs."""
    made = [job for job in jobs if job.status is JobStatus.SUCCEEDED] or jobs
    limit = RECIPE_CHARACTERS // len(made)
    lines = dict.fromkeys(recipe_line(job, limit) for job in made)
    return note(f"### {job_card.RECIPE_OF(model=model_label)}", *(formatting.block(line, limit) for line in lines))


def recipe_line(job: Job, limit: int) -> str:
    """The command that orders the same again. What is too long for `limit` is cut from the prompt, not the options."""
    options: dict[str, object] = {"model": job.request.model_id, **dict(job.request.options)}
    if job.seed is not None:
        options["seed"] = job.seed
    named = "".join(f" {option_name(name)}: {value}" for name, value in options.items())
    start = f"{_command(job.request.kind)} {option_name('prompt')}: "
    return start + formatting.shorten(job.request.prompt, max(1, limit - len(start) - len(named))) + named


def _command(kind: JobKind) -> str:
    match kind:
        case JobKind.IMAGINE:
            return "/imagine"
        case JobKind.EDIT:
            return "/edit"
        case JobKind.UPSCALE:
            return job_card.RECIPE_OF_UPSCALE()
