"""One image: the select below a card with several images, and the buttons for the image that was chosen."""

from __future__ import annotations

from typing import Any

from discord import ui

from bot.domain.jobs import Job, Reply
from bot.domain.money.quota import format_usd
from cogs.generate import upscale
from cogs.generate.job_buttons import clicked_reply
from cogs.generate.ordering.permissions import permissions_of
from cogs.text import job_card
from cogs.ui import card, card_buttons, components
from cogs.ui.checks import is_moderator
from cogs.ui.client import Interaction
from cogs.ui.components import Component
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import respond_privately


class ImageSelect(DynamicComponent[ui.Select[Any]], template=card_buttons.IMAGE_ID):
    """Shows privately what can be done with the chosen image."""

    async def handle(self, interaction: Interaction) -> None:
        """Show the buttons; each checks again who clicks."""
        job_id = self.item.values[0]
        reply = await clicked_reply(interaction, job_id, action=card_buttons.RECIPE)
        if reply is None:
            return
        made = [job for job in reply.jobs if job.images]
        job = next((job for job in made if job.id == job_id), None)
        if job is None:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        number = made.index(job) + 1
        label = interaction.client.service.model_label(job.request.model_id) if reply.is_comparison else None
        is_own = interaction.user.id == reply.user_id
        is_for_owner = is_own or (is_moderator(interaction) and not reply.address.is_direct)
        larger = await _upscale_button(interaction, reply, job) if is_for_owner else None
        buttons = card_buttons.one_image_buttons(job, is_for_owner=is_for_owner, upscale=larger)
        await respond_privately(interaction, card.question(f"### {card_buttons.one_image(number, label)}", *buttons))


async def _upscale_button(interaction: Interaction, reply: Reply, job: Job) -> Component | None:
    permissions = await permissions_of(interaction.client.service, interaction)
    found = upscale.offers(interaction.client.service, reply, permissions.permits)
    offer = next((offer for offer in found if offer.job.id == job.id), None)
    if offer is None:
        return None
    amount = offer.quote.amount_usd_micros
    label = job_card.UPSCALE_PRICE(amount=format_usd(amount))
    return components.button(label, card_buttons.upscale_id(reply.jobs[0].id, offer.number, amount))
