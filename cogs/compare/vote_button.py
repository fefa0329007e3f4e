"""Vote button: one vote a member in each comparison; the card shows the votes and marks the winner."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Self

import discord
from discord import ui

from bot.service.views import ReplyView
from cogs.generate import upscale
from cogs.generate.ordering.permissions import permissions_of
from cogs.text import job_card
from cogs.ui import card, comparison
from cogs.ui.attachments import images_of
from cogs.ui.checks import server_or_direct
from cogs.ui.client import Interaction
from cogs.ui.error_handler import DynamicComponent
from cogs.ui.initial_response import edit_in_place, respond_privately


class VoteButton(DynamicComponent, ui.DynamicItem[ui.Button[Any]], template=comparison.VOTE_ID):
    """The button below each image of a comparison. A second click on the same one takes the vote back."""

    def __init__(self, job_id: str) -> None:
        super().__init__(ui.Button(custom_id=comparison.vote_id(job_id)))
        self._job_id = job_id

    @classmethod
    async def from_custom_id(
        cls, interaction: discord.Interaction[Any], item: ui.Item[Any], match: re.Match[str], /
    ) -> Self:
        return cls(match["job_id"])

    async def handle(self, interaction: Interaction) -> None:
        """Count the vote and show the card with the new numbers."""
        guild_id = server_or_direct(interaction)
        client = interaction.client
        reply = await client.service.store.reply_of_job(self._job_id)
        if (
            reply is None
            or reply.deleted_at is not None
            or reply.address.guild_id != guild_id
            or reply.address.message_id != (interaction.message and interaction.message.id)
            or not reply.is_comparison
            or reply.is_held_back
        ):
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        if client.click_debouncer.is_double(interaction):
            await interaction.response.defer()
            return
        await client.service.store.vote(self._job_id, user_id=interaction.user.id)
        view = await client.service.view(reply.id)
        if view is None:
            await respond_privately(interaction, card.refused(job_card.JOB_GONE()))
            return
        permissions = await permissions_of(client.service, interaction)
        offers = upscale.offers(client.service, reply, permissions.permits)
        view = replace(view, upscale_usd_micros=upscale.least_usd_micros(offers))
        layout = card.card(view, images=_shown_images(view, interaction))
        await edit_in_place(interaction, layout)


def _shown_images(view: ReplyView, interaction: Interaction) -> list[card.ShownImage]:
    """Return the images of the card under the names that they were attached with."""
    posted = images_of(interaction.message) if interaction.message else []
    return [
        card.ShownImage(filename=file.filename, alt_text=card.alt_text(job.job))
        for job in view.jobs
        for file in posted
        if card.shows_image_of(file.filename, job.job)
    ]
