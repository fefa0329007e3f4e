"""Remix: order a new image from the recipe of a finished one, with another prompt, model or other options.

Any member may remix a public image, at their own cost. Images that its member attached stay theirs: another member gets
the finished image, which everybody sees, in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import discord

from bot.catalogue import order_text
from bot.domain.errors import RequestRefused
from bot.domain.jobs import ImageRole, Job, JobKind, Reply
from cogs.generate.ordering.order import Additions, Order
from cogs.generate.ordering.order_form import ModelChoice, OrderForm, model_choices, too_long
from cogs.generate.ordering.permissions import permissions_of
from cogs.generate.recipe import recipe_of_jobs
from cogs.text import job_card
from cogs.text.locale import get_locale, option_name
from cogs.ui import card, components
from cogs.ui.attachments import PostedFile, images_of
from cogs.ui.checks import account_of, require_account_of
from cogs.ui.client import Interaction
from cogs.ui.initial_response import respond_privately

FETCH_TIMEOUT_SECONDS = 1.5
"""Discord wants a modal within 3 seconds of the click."""


async def open_remix(interaction: Interaction, reply: Reply, job: Job) -> None:
    """Open the form for a finished image, or say privately why that is not possible."""
    require_account_of(interaction, reply)
    order = await _order(interaction, reply, job)
    if order is None:
        await respond_privately(interaction, card.refused(job_card.NO_PICTURE_IN_MESSAGE()))
        return
    client = interaction.client
    prompt, more = order.request.prompt, order_text.more_text(order.request.options)
    if refusal := too_long(job_card.REMIX(), prompt=prompt, more=more):
        recipe = recipe_of_jobs(client.service, (job,))
        parts = [components.text_display(refusal), *recipe.parts()]
        layout = components.container(parts, accent=card.REFUSAL_ACCENT)
        await respond_privately(interaction, layout, files=recipe.files())
        return
    permissions = await permissions_of(client.service, interaction)
    choices = model_choices(client.service, permissions, order)
    if not choices:
        await respond_privately(interaction, card.refused(job_card.NO_MODEL_HERE()))
        return
    await interaction.response.send_modal(RemixForm(order, choices))


async def _order(interaction: Interaction, reply: Reply, job: Job) -> Order | None:
    """Return the order to start from; None if its image cannot be found."""
    is_own = interaction.user.id == reply.user_id
    request = replace(job.request, user_id=interaction.user.id)
    private = reply.address.private
    if request.kind is JobKind.IMAGINE:
        return Order(request=request if is_own else replace(request, images=()), private=private)
    if request.kind is JobKind.EDIT and is_own:
        return Order(request=request, private=private)
    # An upscale has no prompt to speak of: what is changed is the image itself.
    result = await result_of(interaction, reply, job)
    if result is None:
        return None
    edit = replace(request, kind=JobKind.EDIT, images=())
    if request.kind is JobKind.UPSCALE:
        edit = replace(edit, options={})
    return Order(request=edit, attachments=((result, ImageRole.SOURCE),), private=private)


async def result_of(interaction: Interaction, reply: Reply, job: Job) -> PostedFile | None:
    """Return the posted image of a job, from the clicked message, else from the message of its reply."""
    posted = images_of(interaction.message) if interaction.message else []
    if not any(card.shows_image_of(file.filename, job) for file in posted):
        posted = await interaction.client.messages.files_of_reply(reply, timeout_seconds=FETCH_TIMEOUT_SECONDS) or []
    return next((file for file in posted if card.shows_image_of(file.filename, job)), None)


class RemixForm(OrderForm):
    """The form: prompt, model with its price, and the options as `more`, all filled in with what was ordered."""

    def __init__(self, order: Order, choices: Sequence[ModelChoice]) -> None:
        super().__init__(
            title=job_card.REMIX_TITLE(),
            prompt_label=job_card.REMIX_PROMPT(),
            prompt=order.request.prompt,
            choices=choices,
        )
        self._order = order
        self.add_model_select()
        self.add_more(order_text.more_text(order.request.options))

    async def on_submit(self, interaction: discord.Interaction[Any], /) -> None:
        """Order the remix."""
        request = replace(
            self._order.request,
            model_id=self.chosen.request.model_id,
            prompt=self._prompt.value,
            options={},
            guild_id=account_of(interaction),
        )
        order = replace(self._order, request=request, additions=Additions(more=self._kept_options(interaction)))
        await self.order(interaction, order)

    def _kept_options(self, interaction: Interaction) -> str:
        """Return `more` without what came with the image and the chosen model does not take."""
        model = interaction.client.service.catalogue.find(self.chosen.request.model_id)
        carried = self._order.request.options.keys() - self.chosen.request.options.keys()
        if model is None or not carried:
            return self._more.value
        names = interaction.client.service.catalogue.translated_names(get_locale(), option_name)
        try:
            typed = order_text.parse_more(model, names.more(self._more.value))
        except RequestRefused:
            return self._more.value  # the order flow says what is wrong
        return order_text.more_text({name: value for name, value in typed.items() if name not in carried})
