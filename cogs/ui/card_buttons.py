"""Card buttons: the buttons under a card and their custom ids. cogs/generate answers them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from bot.domain.jobs import DIRECT_GUILD_ID, Job, JobStatus
from bot.domain.money.quota import format_usd
from bot.domain.visibility import why_withheld
from bot.service.views import ReplyView
from cogs.text import formatting, job_card
from cogs.ui import components
from cogs.ui.components import Component


def custom_id(action: str, job_id: str, amount_usd_micros: int | None = None) -> str:
    """Return `job:<action>:<job id>[:<price on the button>]`. State is in the database, so the button never expires."""
    return f"job:{action}:{job_id}" if amount_usd_micros is None else f"job:{action}:{job_id}:{amount_usd_micros}"


CUSTOM_ID = re.compile(r"job:(?P<action>[a-z]+):(?P<job_id>[0-9a-f]{24})(?::(?P<amount>\d{1,15}))?")

AGAIN, VARY, CANCEL, DELETE = "again", "vary", "cancel", "delete"
EDIT, RECIPE, REMIX = "edit", "recipe", "remix"
VARY_ONE, EDIT_ONE, RECIPE_ONE = "varyone", "editone", "recipeone"
"""The same for the image of one job of the card."""

SHARE = "share"

FOR_EVERYBODY = frozenset({RECIPE, RECIPE_ONE, REMIX, SHARE})
"""What any member may do with a public image."""

_PRICED = {AGAIN: job_card.AGAIN_PRICE, VARY: job_card.VARY_PRICE, VARY_ONE: job_card.VARY_PRICE}

IMAGE_ID = re.compile(r"image:(?P<job_id>[0-9a-f]{24})")
"""`image:<first job of the card>`: the select of one image."""

SHARE_ID = re.compile(r"share:(?P<job_id>[0-9a-f]{24})")
UNSHARE_ID = re.compile(r"unshare:(?P<job_id>[0-9a-f]{24})")
"""`share:<job>` on a card, `unshare:<job>` on the copy in the showcase channel."""

LABEL_CHARACTERS = 80
"""Limit of Discord for the label of a button; that of a select's option is 100."""

ANY_IMAGE = 0
"""Image number of the upscale button on a card: the only image, or the question which of several."""


def upscale_id(job_id: str, number: int, amount_usd_micros: int) -> str:
    """Return `upscale:<first job of the card>:<number of the image, from 1>:<price on the button>`."""
    return f"upscale:{job_id}:{number}:{amount_usd_micros}"


UPSCALE_ID = re.compile(r"upscale:(?P<job_id>[0-9a-f]{24}):(?P<number>\d{1,2}):(?P<amount>\d{1,15})")


def buttons_of(view: ReplyView, status: JobStatus) -> list[Component]:
    """Return the buttons of a card in this state."""
    first = view.jobs[0].job
    if not view.reply.is_final:
        if status is JobStatus.UNCERTAIN:
            return []
        return [_button(CANCEL, job_card.CANCEL(), first)]
    if status is not JobStatus.SUCCEEDED:
        if view.no_orders_until is not None:
            return []
        return [order_button(AGAIN, first.id, _price_of([job.job for job in view.jobs]))]
    if why_withheld(view.reply) is not None:
        return last_buttons(view, status)
    buttons = result_buttons([job.job for job in view.jobs], upscale_usd_micros=view.upscale_usd_micros)
    buttons.append(_button(DELETE, job_card.DELETE(), first, style=components.RED))
    return buttons


def last_buttons(view: ReplyView, status: JobStatus) -> list[Component]:
    """Return the button of a card of which Discord refused more, or that is held back: Delete, if there is an image."""
    first = view.jobs[0].job
    return [_button(DELETE, job_card.DELETE(), first, style=components.RED)] if status is JobStatus.SUCCEEDED else []


def result_buttons(jobs: Sequence[Job], *, upscale_usd_micros: int | None) -> list[Component]:
    """Return the buttons of a result; those that cost money come first and say how much."""
    first, price = jobs[0], _price_of(jobs)
    succeeded = next(job for job in jobs if job.status is JobStatus.SUCCEEDED)
    # Both do the same for a model that takes no seed.
    buttons = [order_button(action, first.id, price) for action in (AGAIN, VARY)]
    if upscale_usd_micros is not None:
        label = job_card.UPSCALE_PRICE(amount=format_usd(upscale_usd_micros))
        buttons.append(components.button(label, upscale_id(first.id, ANY_IMAGE, upscale_usd_micros)))
    buttons.append(_button(EDIT, job_card.EDIT(), succeeded))
    buttons.append(_button(REMIX, job_card.REMIX(), succeeded))
    buttons.append(_button(RECIPE, job_card.RECIPE(), first))
    made = images_made(jobs)
    # image_select offers it for each of several images; outside servers there is no channel for it.
    if len(made) == 1 and first.request.guild_id != DIRECT_GUILD_ID:
        buttons.append(share_button(made[0]))
    return buttons


def image_select(jobs: Sequence[Job], model_labels: Sequence[str]) -> list[Component]:
    """Return the row with the select of one image, if there are several. `model_labels` has one for each job.

    The images of a comparison are named by their models.
    """
    made = [(job, label) for job, label in zip(jobs, model_labels, strict=True) if images_made([job])]
    if len(made) < 2:
        return []
    named = len(set(model_labels)) > 1
    names = [one_image(number, label if named else None) for number, (_, label) in enumerate(made, start=1)]
    options = [(name, job.id) for name, (job, _) in zip(names, made, strict=True)]
    select = components.string_select(f"image:{jobs[0].id}", placeholder=job_card.IMAGE_CHOICE(), options=options)
    return [components.action_row(select)]


def one_image(number: int, model_label: str | None) -> str:
    """Name an image of several: 'Image 2', in a comparison 'Image 2 · Flux 1 Dev'."""
    name = job_card.ONE_IMAGE(number=number)
    return name if model_label is None else formatting.shorten(f"{name} · {model_label}", LABEL_CHARACTERS)


def images_made(jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs that have an image."""
    return [job for job in jobs if job.status is JobStatus.SUCCEEDED and job.images]


def share_button(job: Job) -> Component:
    """Return the button that posts the image of a job in the showcase channel."""
    return components.button(job_card.SHARE(), f"share:{job.id}")


def unshare_button(job_id: str) -> Component:
    """Return the button that takes a shared image back."""
    return components.button(job_card.UNSHARE(), f"unshare:{job_id}", style=components.RED)


def one_image_buttons(job: Job, *, is_for_owner: bool, upscale: Component | None) -> list[Component]:
    """Return the buttons for the image of one job; others than its member, or a moderator, get those for everybody."""
    for_all = [_button(REMIX, job_card.REMIX(), job), _button(RECIPE_ONE, job_card.RECIPE(), job)]
    if job.request.guild_id != DIRECT_GUILD_ID:
        for_all.append(share_button(job))
    if not is_for_owner:
        return for_all
    buttons = [order_button(VARY_ONE, job.id, job.reserved_usd_micros), *([upscale] if upscale else [])]
    return [*buttons, _button(EDIT_ONE, job_card.EDIT(), job), *for_all]


def order_button(action: str, job_id: str, amount_usd_micros: int) -> Component:
    """Return a button that repeats an order at this price: AGAIN with the same seed, VARY with a new one."""
    label = _PRICED[action](amount=format_usd(amount_usd_micros))
    return components.button(label, custom_id(action, job_id, amount_usd_micros))


def _price_of(jobs: Sequence[Job]) -> int:
    return sum(job.reserved_usd_micros for job in jobs)


def _button(action: str, label: str, job: Job, *, style: int = components.GREY) -> Component:
    return components.button(label, custom_id(action, job.id), style=style)
