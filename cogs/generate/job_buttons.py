"""Job buttons: what can be done with the job of a card. The custom id names the job, so they survive any restart.

A button that costs money says how much. A click agrees to that price; if the price has risen, the bot asks first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import discord
from discord import ui

from bot.domain.errors import RequestRefused
from bot.domain.jobs import Job, JobRequest, Reply
from bot.domain.visibility import Action, Person, Refusal, why_refused
from bot.service.job_service import CancelOutcome, JobService
from cogs.generate.edit import open_edit_form
from cogs.generate.ordering.order import DEFAULT_MODEL, Order
from cogs.generate.recipe import recipe_of_jobs
from cogs.generate.remix import open_remix
from cogs.text import job_card
from cogs.text.locale import Phrase
from cogs.ui import card, card_buttons, components, delete_question
from cogs.ui.attachments import PostedFile, images_of
from cogs.ui.checks import is_moderator, require_account_of, server_of
from cogs.ui.client import Interaction
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

FETCH_TIMEOUT_SECONDS = 1.5
"""Discord wants a modal within 3 seconds of the click."""

_REFUSALS: Mapping[Refusal, Phrase] = {
    Refusal.NOT_REVIEWED: job_card.REVIEW_NOT_YET,
    Refusal.REFUSED_BY_REVIEW: job_card.REVIEW_NOT_PASSED,
    Refusal.NOT_YOURS: job_card.NOT_YOURS,
    Refusal.PRIVATE: job_card.PRIVATE_ORDER,
}

_ACTIONS_WITH_PROMPT = frozenset(
    {card_buttons.AGAIN, card_buttons.VARY, card_buttons.VARY_ONE, *card_buttons.FOR_EVERYBODY}
)


class JobButton(DynamicComponent[ui.Button[Any]], template=card_buttons.CUSTOM_ID):
    """Any button of a card."""

    @property
    def _action(self) -> str:
        return self._match["action"]

    @property
    def _job_id(self) -> str:
        return self._match["job_id"]

    async def handle(self, interaction: Interaction) -> None:
        """Check who clicks, then act."""
        reply = await clicked_reply(interaction, self._job_id, action=self._action)
        if reply is None:
            return
        if reply.deleted_at is not None:
            await self._of_deleted(interaction)
            return
        if self._action in _ACTIONS_WITH_PROMPT and self._job(reply).erased_at is not None:
            await respond_privately(interaction, card.refused(job_card.PROMPT_ERASED()))
            return
        match self._action:
            case card_buttons.CANCEL:
                await self._cancel(interaction, reply)
            case card_buttons.AGAIN | card_buttons.VARY:
                await self._order(interaction, reply, count=len(reply.jobs))
            case card_buttons.VARY_ONE:
                await self._order(interaction, reply, count=1)
            case card_buttons.EDIT | card_buttons.EDIT_ONE:
                await self._edit(interaction, reply)
            case card_buttons.REMIX:
                await open_remix(interaction, reply, self._job(reply))
            case card_buttons.RECIPE | card_buttons.RECIPE_ONE:
                jobs = reply.jobs if self._action == card_buttons.RECIPE else (self._job(reply),)
                recipe = recipe_of_jobs(interaction.client.service, jobs)
                layout = components.container(recipe.parts(), accent=card.NOTE_ACCENT)
                await respond_privately(interaction, layout, files=recipe.files())
            case card_buttons.DELETE:
                await self._delete(interaction, reply)
            case _:
                await respond_privately(interaction, card.refused(job_card.JOB_GONE()))

    def _job(self, reply: Reply) -> Job:
        return next(job for job in reply.jobs if job.id == self._job_id)

    async def _cancel(self, interaction: Interaction, reply: Reply) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        outcome = await cancel_all(interaction.client.service, reply)
        await respond_privately(interaction, card.note(CANCEL_WORDS[outcome]()))

    async def _order(self, interaction: Interaction, reply: Reply, *, count: int) -> None:
        """Order the same for the member who clicked, at their own cost."""
        if interaction.client.click_debouncer.is_double(interaction):
            await interaction.response.defer()
            return
        require_account_of(interaction, reply)
        order = self._repeated(interaction, reply, count)
        price = _price_now(interaction.client.service, order)
        if price > int(self._match["amount"] or 0):
            button = card_buttons.order_button(self._action, self._job_id, price)
            await respond_privately(interaction, card.question(job_card.DEARER(), button))
        else:
            await interaction.client.order_flow.submit_order(interaction, order)

    def _repeated(self, interaction: Interaction, reply: Reply, count: int) -> Order:
        """Return the order for the member who clicked: the same, or without its seeds."""
        left_out = set[str]() if self._action == card_buttons.AGAIN else {"seed"}

        def repeated(request: JobRequest) -> JobRequest:
            options = {name: value for name, value in request.options.items() if name not in left_out}
            return replace(request, user_id=interaction.user.id, options=options)

        request = repeated(self._job(reply).request)
        is_comparison = reply.is_comparison and count > 1
        return Order(
            request=request,
            count=1 if is_comparison else count,
            variants=tuple(repeated(job.request) for job in reply.jobs) if is_comparison else (),
            private=reply.address.private,
            preset_name=reply.preset_name,
        )

    async def _edit(self, interaction: Interaction, reply: Reply) -> None:
        require_account_of(interaction, reply)
        images = images_of(interaction.message) if interaction.message else []
        if not images:  # a page of /history only links to them
            images = await interaction.client.messages.files_of_reply(reply, timeout_seconds=FETCH_TIMEOUT_SECONDS)
        if not images:
            await respond_privately(interaction, card.refused(job_card.NO_PICTURE_IN_MESSAGE()))
            return
        model = interaction.client.service.catalogue.find(self._job(reply).request.model_id)
        labelled = _labelled(interaction.client.service, reply, images)
        own = self._job(reply)
        await open_edit_form(
            interaction,
            labelled,
            model_id=model.id if model else DEFAULT_MODEL,
            private=reply.address.private,
            chosen_id=next((file.id for file in images if card.shows_image_of(file.filename, own)), None),
        )

    async def _delete(self, interaction: Interaction, reply: Reply) -> None:
        """Ask once; cogs/members/deletion.py has the answer."""
        if not reply.is_final:
            await respond_privately(interaction, card.refused(job_card.DELETE_NOT_YET()))
            return
        # For some minutes the token of this click can delete the card, also a private one or one in a channel that the
        # bot cannot see, but only if the question is not the response to the click.
        await interaction.response.defer()
        interaction.client.message_deletions.remember_click(self._job_id, interaction)
        await respond_privately(interaction, delete_question.question(self._job_id, is_direct=reply.address.is_direct))

    async def _of_deleted(self, interaction: Interaction) -> None:
        """Answer a button of a card that outlived its order: Delete removes the card, by the token of the click."""
        if self._action != card_buttons.DELETE:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        await interaction.response.defer()
        try:
            await interaction.delete_original_response()
        except discord.NotFound:
            return  # clicked twice


def _labelled(service: JobService, reply: Reply, images: Sequence[PostedFile]) -> dict[str, PostedFile]:
    """Name the images of a card in the order of its jobs: 'Image 2', in a comparison 'Image 2 · Flux 1 Dev'."""
    made_by = {image.id: job for job in reply.jobs for image in images if card.shows_image_of(image.filename, job)}
    by_id = {image.id: image for image in images}
    labelled: dict[str, PostedFile] = {}
    for number, image_id in enumerate(dict.fromkeys((*made_by, *by_id)), start=1):
        label = job_card.EDIT_MODAL_PICTURE(number=number)
        if reply.is_comparison and (job := made_by.get(image_id)) is not None:
            label += f" · {service.model_label(job.request.model_id)}"
        labelled[label] = by_id[image_id]
    return labelled


def _price_now(service: JobService, order: Order) -> int:
    """Return the price of an order; 0 if it cannot be ordered, which the order flow then explains."""
    try:
        return sum(service.quote(request).amount_usd_micros for request in order.requests())
    except RequestRefused:
        return 0


async def clicked_reply(interaction: Interaction, job_id: str, *, action: str) -> Reply | None:
    """Return the reply whose button was clicked; or say why this member may not use it and return None.

    An order that was deleted is returned to those who might delete it, and unknown to all others.
    """
    reply = await interaction.client.service.store.reply_of_job(job_id)
    if reply is None or reply.is_forgotten or not _is_here(reply, interaction):
        await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
        return None
    if (refusal := why_refused(reply, _who_clicked(interaction, reply), _kind_of(action))) is not None:
        await respond_privately(interaction, card.refused(_REFUSALS[refusal]()))
        return None
    return reply


def _who_clicked(interaction: Interaction, reply: Reply) -> Person:
    if interaction.user.id == reply.user_id:
        return Person.MEMBER
    # What was ordered outside servers is nobody's to moderate.
    if not reply.address.is_direct and is_moderator(interaction):
        return Person.MODERATOR
    is_there = interaction.channel_id == reply.address.channel_id or _is_its_message(reply, interaction)
    return Person.ONLOOKER if is_there else Person.STRANGER


def _kind_of(action: str) -> Action:
    if action in (card_buttons.CANCEL, card_buttons.DELETE):
        return Action.END
    return Action.USE if action in card_buttons.FOR_EVERYBODY else Action.ORDER


def _is_here(reply: Reply, interaction: Interaction) -> bool:
    """Whether the click came from the server of the reply, from its own message, or from its requester.

    A private reply goes to direct messages if its interaction token has expired. What was ordered outside servers
    belongs to its requester wherever they are.
    """
    guild_id = server_of(interaction)
    if guild_id is not None and guild_id == reply.address.guild_id:
        return True
    if reply.address.is_direct:
        return interaction.user.id == reply.user_id or _is_its_message(reply, interaction)
    return guild_id is None and interaction.guild_id is None and interaction.user.id == reply.user_id


def _is_its_message(reply: Reply, interaction: Interaction) -> bool:
    return interaction.message is not None and interaction.message.id == reply.address.message_id


async def cancel_all(service: JobService, reply: Reply) -> CancelOutcome:
    """Try to cancel every job of a command and return the best outcome."""
    outcomes = {await service.cancel(job) for job in reply.jobs if not job.status.is_final}
    return next((outcome for outcome in CANCEL_WORDS if outcome in outcomes), CancelOutcome.TOO_LATE)


CANCEL_WORDS = {
    CancelOutcome.CANCELLED: job_card.CANCEL_DONE,
    CancelOutcome.ASKED: job_card.CANCEL_ASKED,
    CancelOutcome.UNANSWERED: job_card.CANCEL_UNANSWERED,
    CancelOutcome.NOT_POSSIBLE: job_card.CANCEL_NOT_POSSIBLE,
    CancelOutcome.TOO_LATE: job_card.CANCEL_TOO_LATE,
}
