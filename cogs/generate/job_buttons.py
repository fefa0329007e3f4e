"""Buttons under a card. The custom id names the job, the database knows the rest, so they work after any restart.

What costs money says how much. A press is a yes to that price; where it is more by now, it asks first.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any, Self

import discord
from discord import ui

from bot.domain.errors import RequestRefused
from bot.domain.jobs import Job, JobKind, JobRequest, Reply
from bot.service.job_service import CancelOutcome, JobService
from cogs.generate.edit import EditModal
from cogs.generate.order_flow import OrderFlow
from cogs.text import words
from cogs.ui import card
from cogs.ui.attachments import images_of
from cogs.ui.checks import is_moderator, require_server
from cogs.ui.client import Interaction
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately

FETCH_SECONDS = 1.5
"""A form must open within 3 seconds of the press."""

_NEED_THE_PROMPT = frozenset({card.AGAIN, card.VARY, "recipe"})


class JobButton(DynamicComponent, ui.DynamicItem[ui.Button[Any]], template=card.CUSTOM_ID):
    """Any button of a card."""

    order_flow: OrderFlow

    def __init__(self, action: str, job_id: str, amount_usd_micros: int | None) -> None:
        super().__init__(ui.Button(custom_id=card.custom_id(action, job_id, amount_usd_micros)))
        self._action = action
        self._job_id = job_id
        self._amount_usd_micros = amount_usd_micros or 0

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["action"], match["job_id"], int(match["amount"]) if match["amount"] else None)

    async def handle(self, interaction: Interaction) -> None:
        """Check who presses, then act."""
        reply = await pressed_reply(self.order_flow, interaction, self._job_id)
        if reply is None:
            return
        if self._action in _NEED_THE_PROMPT and self._job(reply).erased_at is not None:
            await respond_privately(interaction, card.refused(words.PROMPT_ERASED()))
            return
        match self._action:
            case "cancel":
                await self._cancel(interaction, reply)
            case card.AGAIN | card.VARY:
                await self._order(interaction, reply)
            case "edit":
                await self._edit(interaction, reply)
            case "recipe":
                label = self.order_flow.service.model_label(self._job(reply).request.model_id)
                await respond_privately(interaction, card.recipe(reply.jobs, label))
            case "delete":
                await self._delete(interaction, reply)
            case _:
                await respond_privately(interaction, card.refused(words.JOB_GONE()))

    def _job(self, reply: Reply) -> Job:
        return next(job for job in reply.jobs if job.id == self._job_id)

    async def _cancel(self, interaction: discord.Interaction[Any], reply: Reply) -> None:
        await interaction.response.defer(ephemeral=True, thinking=True)
        outcome = await cancel_all(self.order_flow.service, reply)
        await respond_privately(interaction, card.note(CANCEL_WORDS[outcome]()))

    async def _order(self, interaction: discord.Interaction[Any], reply: Reply) -> None:
        """The same order for whoever pressed, at their own cost."""
        if self.order_flow.presses.is_double(interaction):
            await interaction.response.defer()
            return
        ordered, count = self._job(reply).request, len(reply.jobs)
        left_out = {"seed"} if self._action == card.VARY else set[str]()
        options = {name: value for name, value in ordered.options.items() if name not in left_out}
        request = replace(ordered, user_id=interaction.user.id, options=options)
        price = self._price_now(request) * count
        if price > self._amount_usd_micros:
            button = card.order_button(self._action, self._job_id, price)
            await respond_privately(interaction, card.question(words.DEARER(), button))
        else:
            await self.order_flow.order(interaction, request, count=count, private=reply.address.private)

    def _price_now(self, request: JobRequest) -> int:
        """Of one picture; 0 where it cannot be ordered, which is for the desk to say."""
        try:
            return self.order_flow.service.quote(request).amount_usd_micros
        except RequestRefused:
            return 0

    async def _edit(self, interaction: discord.Interaction[Any], reply: Reply) -> None:
        require_server(interaction)
        images = images_of(interaction.message) if interaction.message else []
        if not images:  # a page of the gallery links to them
            images = await self.order_flow.files_of(reply, within_seconds=FETCH_SECONDS)
        if not images:
            await respond_privately(interaction, card.refused(words.NO_PICTURE_IN_MESSAGE()))
            return
        model = self.order_flow.service.catalogue.find(self._job(reply).request.model_id)
        if model is not None and not (model.orderable and model.fits(JobKind.EDIT)):
            model = None
        private = reply.address.private
        labelled = {words.EDIT_MODAL_PICTURE(number=number): file for number, file in enumerate(images, start=1)}
        await interaction.response.send_modal(EditModal(self.order_flow, labelled, model=model, private=private))

    async def _delete(self, interaction: discord.Interaction[Any], reply: Reply) -> None:
        if not reply.is_final:
            await respond_privately(interaction, card.refused(words.DELETE_NOT_YET()))
            return
        await interaction.response.defer()
        with suppress(discord.NotFound):  # pressed twice
            await interaction.delete_original_response()


async def pressed_reply(order_flow: OrderFlow, interaction: discord.Interaction[Any], job_id: str) -> Reply | None:
    """The reply whose button was pressed; None for somebody who may not, or when it is not known, who has been told."""
    reply = await order_flow.service.store.reply_of_job(job_id)
    if reply is None or reply.is_forgotten or not _is_here(reply, interaction):
        await respond_privately(interaction, card.refused(words.JOB_GONE()))
        return None
    if interaction.user.id != reply.user_id and not is_moderator(interaction):
        await respond_privately(interaction, card.refused(words.NOT_YOURS()))
        return None
    return reply


def _is_here(reply: Reply, interaction: discord.Interaction[Any]) -> bool:
    """Whether the button was pressed in the server of the reply, or in the direct messages of whoever ordered: what was
    private and came late lies there."""
    if interaction.guild_id is None:
        return interaction.user.id == reply.user_id
    return interaction.guild_id == reply.address.guild_id


async def cancel_all(service: JobService, reply: Reply) -> CancelOutcome:
    """Try to stop every job of a command; says the best of what came of it."""
    outcomes = {await service.cancel(job) for job in reply.jobs if not job.status.is_final}
    return next((outcome for outcome in CANCEL_WORDS if outcome in outcomes), CancelOutcome.TOO_LATE)


CANCEL_WORDS = {
    CancelOutcome.CANCELLED: words.CANCEL_DONE,
    CancelOutcome.ASKED: words.CANCEL_ASKED,
    CancelOutcome.NOT_POSSIBLE: words.CANCEL_NOT_POSSIBLE,
    CancelOutcome.TOO_LATE: words.CANCEL_TOO_LATE,
}


def install(client: discord.Client, order_flow: OrderFlow) -> None:
    """Answer these buttons from now on, whatever message they sit under."""
    JobButton.order_flow = order_flow
    client.add_dynamic_items(JobButton)
